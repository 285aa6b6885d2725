//! The objects of a world as Probely's API shows them, and as its events carry them. An object of
//! a network has no such form: Probely scans websites only.
//!
//! Documented: the fields and their words. Inferred: a finding's two URLs are the same.
//! Assumed: the roles; the pages and checks of a scan; whatever a world does not know, which is as
//! on an object that nobody has touched.

use serde_json::{Map, Value, json};

use super::ids::vendor_id;
use crate::event::Vendor;
use crate::id::ObjectId;
use crate::world::{Settings, User, World};

mod finding;
mod scan;
mod target;
mod things;
mod user;

pub(crate) use finding::{finding, is_new, is_retesting, severity, state};
pub(crate) use scan::{scan, status};
pub(crate) use target::{label_id, simple_scope, target, url_of};
use things::labels_of;
pub(crate) use things::{asset, label, label_of_tag, profiles, scheduled_scan, sequence, tag_id, team};
pub(crate) use user::{profile_of, user};

/// What an object is shown with: the world that it is part of, and who has changed it last.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scene<'w> {
    pub(crate) world: &'w World,
    pub(crate) by: &'w User,
}

/// What Probely's API has set on an object.
pub(crate) fn own(settings: &Settings) -> Option<&Map<String, Value>> {
    settings.get(&Vendor::Probely)
}

/// A text that Probely's API has set on an object.
fn own_text<'s>(settings: &'s Settings, name: &str) -> Option<&'s str> {
    own(settings)?.get(name)?.as_str()
}

/// A switch that Probely's API has set on an object.
fn is_set(settings: &Settings, name: &str) -> bool {
    own(settings).and_then(|own| own.get(name)).and_then(Value::as_bool).unwrap_or_default()
}

/// Replaces the fields of a representation that were set, those of objects in it one by one.
fn overlay(shown: &mut Value, set: &Map<String, Value>) {
    for (name, value) in set {
        match (shown.get_mut(name), value) {
            (Some(inner @ Value::Object(_)), Value::Object(set)) => overlay(inner, set),
            (Some(inner), value) => *inner = value.clone(),
            // What is not shown was set for another purpose.
            (None, _) => (),
        }
    }
}

pub(crate) fn simple_user(user: &User) -> Value {
    json!({"id": vendor_id("user", user.id), "email": user.email, "name": full_name(user)})
}

fn full_name(user: &User) -> String {
    cut(format!("{} {}", user.first_name, user.last_name).trim(), 60)
}

/// The user of an id, or else the one who has changed the object.
fn user_or<'w>(scene: Scene<'w>, id: Option<ObjectId>) -> &'w User {
    match id.and_then(|id| scene.world.object(id)) {
        Some(crate::world::Object::User(user)) => user,
        _ => scene.by,
    }
}

/// The first characters of a text that must not be longer.
fn cut(text: &str, characters: usize) -> String {
    text.chars().take(characters).collect()
}
