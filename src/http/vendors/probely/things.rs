//! What only Probely has: teams, login and navigation sequences, extra hosts, scan profiles. And
//! what this mock has none of.

use std::sync::Arc;

use axum::Json;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use http::StatusCode;
use serde_json::{Map, Value, json};

use super::call::{At, Call, Failure, Fields, View};
use super::fields::{Rule, check, entries, kept};
use super::list::{Key, Page, check_ids, flag, is_among, is_found, order};
use super::targets::check_size;
use crate::event::Vendor;
use crate::http::vendors::{Api, Params};
use crate::scanner::items::{self, NewItem};
use crate::scanner::{Refusal, Rules, missing};
use crate::vendors::probely::ids::vendor_id;
use crate::vendors::probely::objects;
use crate::world::{Item, World};

/// The most items of one collection that a target has. (Assumed; a target shows its extra hosts.)
const MOST_OF_A_TARGET: usize = 100;

/// A collection of items: how its fields are checked, and how an item is shown.
#[derive(Clone, Copy)]
struct Collection {
    name: &'static str,
    rules: &'static [(&'static str, Rule)],
    needed: &'static [&'static str],
    show: fn(&Item, &View) -> Value,
    search: &'static [&'static str],
}

const TEAMS: Collection = Collection {
    name: "team",
    rules: &[("name", Rule::Name(255))],
    needed: &["name"],
    show: |item, _| objects::team(item),
    search: &["name"],
};

/// Documented by the official client.
const SEQUENCES: Collection = Collection {
    name: "sequence",
    rules: &[
        ("name", Rule::Name(255)),
        ("type", Rule::Choice(&["login", "navigation"])),
        ("content", Rule::Text(1_000_000)),
        ("requires_authentication", Rule::Flag),
        ("enabled", Rule::Flag),
        ("index", Rule::MaybeNumber),
    ],
    needed: &["name", "content"],
    show: |item, view| objects::sequence(item, view.scene()),
    search: &["name"],
};

/// Documented by the official client.
const ASSETS: Collection = Collection {
    name: "asset",
    rules: &[
        ("host", Rule::Name(255)),
        ("name", Rule::Text(255)),
        ("desc", Rule::Text(10_000)),
        ("include", Rule::Flag),
        ("headers", Rule::Headers),
        ("cookies", Rule::Headers),
    ],
    needed: &["host"],
    show: |item, view| objects::asset(item, view.scene()),
    search: &["host", "name", "desc"],
};

impl Collection {
    fn all<'v>(&self, view: &'v View, target: Option<&str>) -> Result<Vec<&'v Arc<Item>>, Failure> {
        let target = target.map(|target| view.target(target)).transpose()?.map(|target| target.id);
        let items = view.world.items(Vendor::Probely, self.name);
        Ok(items.filter(|item| target.is_none_or(|target| item.target_id == Some(target))).collect())
    }

    fn find(&self, view: &View, target: Option<&str>, id: &str) -> Result<Arc<Item>, Failure> {
        let found = self.all(view, target)?.into_iter().find(|item| vendor_id(self.name, item.id) == id);
        found.cloned().ok_or_else(Failure::not_found)
    }

    /// An item with what the caller asks to include: its target, its content.
    fn shown(&self, item: &Item, params: &Params, view: &View) -> Value {
        let mut shown = (self.show)(item, view);
        let includes = |name: &str| params.all("include").any(|include| include == name);
        if includes("content") && self.name == SEQUENCES.name {
            shown["content"] = item.fields.get("content").cloned().unwrap_or_default();
        }
        if includes("target")
            && let Some(target) = item.target_id.and_then(|id| view.target_of(id))
        {
            shown["target"] = objects::simple_scope(target, view.scene()).unwrap_or_default();
        }
        shown
    }

    /// Checks that an item is not too large for what shows it; what is shown only if asked for does
    /// not count.
    fn check_size(&self, fields: &Map<String, Value>) -> Result<(), Refusal> {
        let mut shown = fields.clone();
        shown.remove("content");
        check_size(&shown)
    }

    async fn list(&self, call: Call, target: Option<&str>, params: Params) -> Result<Response, Failure> {
        let page = Page::read(&params)?;
        let view = call.view().await?;
        check_ids(&params, |id| self.find(&view, None, id).is_ok())?;
        let text =
            |item: &Item, name: &str| item.fields.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let mut items = self.all(&view, target)?;
        items.retain(|item| {
            let texts: Vec<String> = self.search.iter().map(|name| text(item, name)).collect();
            let target = item.target_id.map(|id| vendor_id("target", id)).unwrap_or_default();
            is_among(&params, "id", &vendor_id(self.name, item.id))
                && is_among(&params, "target", &target)
                && is_among(&params, "type", &text(item, "type"))
                && is_found(&params, &texts.iter().map(String::as_str).collect::<Vec<_>>())
        });
        order(&mut items, &params, "-changed", |item, field| match field {
            "changed" => Some(item.changed_at.into()),
            "name" => Some(Key::Text(text(item, "name").to_lowercase())),
            "index" => Some(Key::Number(item.number.cast_signed())),
            _ => None,
        });
        page.of(items, |item| Some(self.shown(item, &params, &view)))
    }

    async fn create(
        &self,
        call: Call,
        target: Option<&str>,
        params: Params,
        fields: Map<String, Value>,
    ) -> Result<Response, Failure> {
        let target_id = match target {
            Some(target) => Some(call.view().await?.target(target)?.id),
            None => None,
        };
        check(&fields, self.rules, self.needed)?;
        let (vendor, collection, fields, is_fixed) = (Vendor::Probely, self.name, kept(&fields, self.rules), false);
        let new = NewItem { vendor, collection, target_id, fields, is_fixed };
        let add = |world: &mut World, rules: Rules<'_>| {
            if let Some(id) = target_id {
                world.target(id).ok_or_else(|| missing("target", id))?;
                let own = world.items(vendor, collection).filter(|item| item.target_id == Some(id));
                if own.count() >= MOST_OF_A_TARGET {
                    return Err(Refusal::Conflict(format!("A target has no more than {MOST_OF_A_TARGET} of these.")));
                }
            }
            self.check_size(&new.fields)?;
            items::add(world, new.clone(), rules.now)
        };
        let added = call.change(add).await?;
        let view = call.view().await?;
        Ok((StatusCode::CREATED, Json(self.shown(&added, &params, &view))).into_response())
    }

    async fn show_one(&self, call: Call, target: Option<&str>, id: &str, params: Params) -> Result<Response, Failure> {
        let view = call.view().await?;
        Ok(Json(self.shown(&*self.find(&view, target, id)?, &params, &view)).into_response())
    }

    async fn change(
        &self,
        call: Call,
        target: Option<&str>,
        id: &str,
        params: Params,
        fields: Map<String, Value>,
    ) -> Result<Response, Failure> {
        let known = self.find(&call.view().await?, target, id)?;
        check(&fields, self.rules, &[])?;
        let set = kept(&fields, self.rules);
        let change = |world: &mut World, rules: Rules<'_>| {
            let changed = items::change(world, known.id, set.clone(), rules.now)?;
            self.check_size(&changed.fields)?;
            Ok(changed)
        };
        let changed = call.change(change).await?;
        let view = call.view().await?;
        Ok(Json(self.shown(&changed, &params, &view)).into_response())
    }

    async fn remove(&self, call: Call, target: Option<&str>, id: &str) -> Result<Response, Failure> {
        let known = self.find(&call.view().await?, target, id)?;
        call.change(|world, rules| items::remove(world, known.id, rules.now)).await?;
        Ok(StatusCode::NO_CONTENT.into_response())
    }
}

/// The routes of one item of a target's.
fn one_of(collection: &'static Collection) -> MethodRouter<Api> {
    let change =
        async move |call: Call, At((target, id)): At<(String, String)>, params: Params, Fields(fields): Fields| {
            collection.change(call, Some(&target), &id, params, fields).await
        };
    get(async move |call: Call, At((target, id)): At<(String, String)>, params: Params| {
        collection.show_one(call, Some(&target), &id, params).await
    })
    .patch(change)
    .put(change)
    .delete(async move |call: Call, At((target, id)): At<(String, String)>| {
        collection.remove(call, Some(&target), &id).await
    })
}

pub(super) fn one_sequence() -> MethodRouter<Api> {
    one_of(&SEQUENCES)
}

pub(super) fn one_asset() -> MethodRouter<Api> {
    one_of(&ASSETS)
}

pub(super) fn one_team() -> MethodRouter<Api> {
    async fn change(
        call: Call,
        At(id): At<String>,
        params: Params,
        Fields(fields): Fields,
    ) -> Result<Response, Failure> {
        TEAMS.change(call, None, &id, params, fields).await
    }
    get(async |call: Call, At(id): At<String>, params: Params| TEAMS.show_one(call, None, &id, params).await)
        .patch(change)
        .put(change)
        .delete(async |call: Call, At(id): At<String>| TEAMS.remove(call, None, &id).await)
}

pub(super) async fn teams(call: Call, params: Params) -> Result<Response, Failure> {
    TEAMS.list(call, None, params).await
}

pub(super) async fn create_team(call: Call, params: Params, Fields(fields): Fields) -> Result<Response, Failure> {
    TEAMS.create(call, None, params, fields).await
}

pub(super) async fn all_sequences(call: Call, params: Params) -> Result<Response, Failure> {
    SEQUENCES.list(call, None, params).await
}

pub(super) async fn sequences(call: Call, At(target): At<String>, params: Params) -> Result<Response, Failure> {
    SEQUENCES.list(call, Some(&target), params).await
}

pub(super) async fn create_sequence(
    call: Call,
    At(target): At<String>,
    params: Params,
    Fields(fields): Fields,
) -> Result<Response, Failure> {
    SEQUENCES.create(call, Some(&target), params, fields).await
}

pub(super) async fn all_assets(call: Call, params: Params) -> Result<Response, Failure> {
    ASSETS.list(call, None, params).await
}

pub(super) async fn assets(call: Call, At(target): At<String>, params: Params) -> Result<Response, Failure> {
    ASSETS.list(call, Some(&target), params).await
}

pub(super) async fn create_asset(
    call: Call,
    At(target): At<String>,
    params: Params,
    Fields(fields): Fields,
) -> Result<Response, Failure> {
    ASSETS.create(call, Some(&target), params, fields).await
}

/// The ids of the teams that a list of teams means: objects with an `id`, or ids as they are.
pub(super) fn teams_in(world: &World, teams: &Value) -> Result<Value, Refusal> {
    let team = |given: &Value| {
        let id = given.get("id").unwrap_or(given).as_str()?;
        let mut known = world.items(Vendor::Probely, TEAMS.name);
        known.find(|item| vendor_id("team", item.id) == id).map(|item| item.id.to_string())
    };
    let mut found: Vec<String> = Vec::new();
    for given in entries(teams).unwrap_or_default() {
        let id = team(given).ok_or_else(|| Refusal::field("/teams", "Object does not exist."))?;
        if !found.contains(&id) {
            found.push(id);
        }
    }
    Ok(found.into())
}

pub(super) async fn profiles(_: Call, params: Params) -> Result<Response, Failure> {
    let page = Page::read(&params)?;
    let mut profiles = objects::profiles();
    profiles.retain(|profile| {
        let text = |name: &str| profile[name].as_str().unwrap_or_default();
        let is = |param: &str, value: bool| flag(&params, param).is_none_or(|wanted| wanted == value);
        // As the official client has it: `verified=false` asks for those that scan unverified targets.
        let verified =
            flag(&params, "verified").is_none_or(|verified| verified || profile["can_scan_unverified"] == true);
        is_among(&params, "id", text("id"))
            && is_among(&params, "type", text("type"))
            && is("builtin", true)
            && is("archived", false)
            && verified
            && is_found(&params, &[text("id"), text("name"), text("description")])
    });
    page.of(profiles, |profile| Some(profile.clone()))
}

pub(super) async fn profile(_: Call, At(id): At<String>) -> Result<Response, Failure> {
    let found = objects::profiles().into_iter().find(|profile| profile["id"] == id.as_str());
    found.map(|profile| Json(profile).into_response()).ok_or_else(Failure::not_found)
}

/// A list that is empty here: scanning agents, integrations.
pub(super) async fn nothing(_: Call, params: Params) -> Result<Response, Failure> {
    Page::read(&params)?.of(Vec::<Value>::new(), |nothing| Some(nothing.clone()))
}

/// Takes what the official client tells of its use, and keeps nothing of it.
pub(super) async fn accepted(_: Call, Fields(_): Fields) -> Result<Response, Failure> {
    Ok(Json(json!({})).into_response())
}
