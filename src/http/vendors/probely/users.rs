//! Users, the caller's own profile, the account and its roles.

use std::sync::Arc;

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::{Map, Value, json};

use super::call::{At, Call, Failure, Fields, View, user_of};
use super::fields::{Rule, check, kept};
use super::labels::items_in;
use super::list::{Key, Page, check_ids, flag, is_among, is_found, order};
use crate::event::Vendor;
use crate::http::vendors::Params;
use crate::id::ObjectId;
use crate::scanner::Refusal;
use crate::scanner::hand::{add_user, remove_user};
use crate::vendors::probely::ids::vendor_id;
use crate::vendors::probely::objects;
use crate::world::{Object, User, World};

/// What a caller may set of a user. (Documented.)
const RULES: [(&str, Rule); 7] = [
    ("name", Rule::Name(60)),
    ("email", Rule::Email),
    ("title", Rule::Choice(&["ceo", "cto", "cso", "seceng", "dev", "devop", "manager", "other", ""])),
    ("is_billing_admin", Rule::Flag),
    ("is_apiuser", Rule::Flag),
    ("labels", Rule::List),
    ("user_roles", Rule::List),
];

fn shown(user: &User, view: &View) -> Value {
    objects::user(user, view.scene())
}

/// Every user, also those who were removed: they are only marked as inactive. (Documented.)
fn all(world: &World) -> impl Iterator<Item = &Arc<User>> {
    world.objects().filter_map(|object| match object {
        Object::User(user) => Some(user),
        _ => None,
    })
}

fn find<'w>(world: &'w World, id: &str) -> Result<&'w Arc<User>, Failure> {
    all(world).find(|user| vendor_id("user", user.id) == id).ok_or_else(Failure::not_found)
}

pub(super) async fn list(call: Call, params: Params) -> Result<Response, Failure> {
    let page = Page::read(&params)?;
    let view = call.view().await?;
    check_ids(&params, |id| find(&view.world, id).is_ok())?;
    let active = flag(&params, "is_active").or(flag(&params, "active"));
    let is_wanted = |user: &&Arc<User>| {
        is_among(&params, "id", &vendor_id("user", user.id))
            && active.is_none_or(|wanted| wanted == user.is_active)
            && is_found(&params, &[&user.email, &user.first_name, &user.last_name])
    };
    let mut users: Vec<Arc<User>> = all(&view.world).filter(is_wanted).cloned().collect();
    order(&mut users, &params, "-changed", |user, field| {
        Some(match field {
            "changed" => user.changed_at.into(),
            "created" => user.created_at.into(),
            "email" => Key::Text(user.email.to_lowercase()),
            "name" => Key::Text(format!("{} {}", user.first_name, user.last_name).to_lowercase()),
            _ => return None,
        })
    });
    page.of(users, |user| Some(shown(user, &view)))
}

pub(super) async fn show(call: Call, At(id): At<String>) -> Result<Response, Failure> {
    let view = call.view().await?;
    Ok(Json(shown(find(&view.world, &id)?, &view)).into_response())
}

async fn show_now(call: &Call, status: StatusCode, id: ObjectId) -> Result<Response, Failure> {
    let view = call.view().await?;
    let user = user_of(&view.world, id).ok_or_else(Failure::not_found)?;
    Ok((status, Json(shown(user, &view))).into_response())
}

pub(super) async fn create(call: Call, Fields(fields): Fields) -> Result<Response, Failure> {
    check(&fields, &RULES, &["name", "email"])?;
    let mut given = kept(&fields, &RULES);
    let mut text = |name| given.remove(name).and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default();
    let (name, email) = (text("name"), text("email"));
    let known = call.view().await?.world.users().any(|user| user.email == email);
    if known {
        return Err(Failure::field("email", "A user with this email already exists."));
    }
    let add = |world: &mut World, rules: crate::scanner::Rules<'_>| {
        // The event that tells of the user shows what was set.
        let settings = checked(world, &given)?;
        Ok(add_user(world, &email, &name, [(Vendor::Probely, settings)].into(), rules.now)?.id)
    };
    let id = call.change(add).await?;
    show_now(&call, StatusCode::CREATED, id).await
}

/// What was given of a user, with its labels looked up.
fn checked(world: &World, given: &Map<String, Value>) -> Result<Map<String, Value>, Refusal> {
    let mut given = given.clone();
    given.remove("user_roles");
    if let Some(labels) = given.remove("labels") {
        given.insert("labels".to_owned(), items_in(world, "user_label", &labels)?);
    }
    Ok(given)
}

async fn change_one(call: Call, id: ObjectId, fields: Map<String, Value>) -> Result<Response, Failure> {
    check(&fields, &RULES, &[])?;
    let given = kept(&fields, &RULES);
    call.change(|world, rules| {
        let mut set = checked(world, &given)?;
        let gone = || Refusal::NotFound("there is no such user".to_owned());
        let mut user = User::clone(user_of(world, id).ok_or_else(gone)?);
        if let Some(name) = set.remove("name").as_ref().and_then(Value::as_str) {
            let (first_name, last_name) = name.split_once(' ').unwrap_or((name, ""));
            (user.first_name, user.last_name) = (first_name.to_owned(), last_name.to_owned());
        }
        if let Some(email) = set.remove("email").as_ref().and_then(Value::as_str) {
            if world.users().any(|other| other.email == email && other.id != id) {
                return Err(Refusal::field("/email", "A user with this email already exists."));
            }
            email.clone_into(&mut user.email);
        }
        user.changed_at = rules.now;
        user.settings.entry(Vendor::Probely).or_default().extend(set);
        world.put(user);
        Ok(())
    })
    .await?;
    show_now(&call, StatusCode::OK, id).await
}

pub(super) async fn change(call: Call, At(id): At<String>, Fields(fields): Fields) -> Result<Response, Failure> {
    let id = find(&call.view().await?.world, &id)?.id;
    change_one(call, id, fields).await
}

/// Removes a user, who is inactive from then on. The caller cannot remove themselves. (Assumed.)
pub(super) async fn remove(call: Call, At(id): At<String>) -> Result<Response, Failure> {
    let view = call.view().await?;
    let user = find(&view.world, &id)?;
    if user.id == view.by.id {
        return Err(Failure::Action("You cannot delete your own user.".to_owned()));
    }
    if user.is_active {
        call.change(|world, rules| remove_user(world, &user.email, rules.now)).await?;
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}

pub(super) async fn profile(call: Call) -> Result<Response, Failure> {
    let view = call.view().await?;
    Ok(Json(objects::profile_of(&view.by, view.scene())).into_response())
}

pub(super) async fn change_profile(call: Call, Fields(fields): Fields) -> Result<Response, Failure> {
    let id = call.view().await?.by.id;
    change_one(call, id, fields).await
}

/// The account. (Documented fields; the plan and its numbers are made up.)
pub(super) async fn account(call: Call) -> Result<Response, Failure> {
    let view = call.view().await?;
    let count = view.targets().count();
    let since = view.by.created_at;
    Ok(Json(json!({
        "status": "active",
        "plan": {
            "id": "default", "name": "Enterprise", "description": "", "is_trial": false, "charge_model": "flat_fee",
            "price": 0, "currency_code": "USD", "period": 1, "period_unit": "month",
            "allowed_scan_profiles": objects::profiles().iter().map(|one| one["id"].clone()).collect::<Vec<_>>(),
        },
        "free_target_quantity": 0, "plan_target_quantity": 1000, "pool_size": 1000, "auto_collection": true,
        "next_billing_at": crate::clock::format_time(since + chrono::TimeDelta::days(30)), "trial_end": null,
        "balance": 0, "balance_currency_code": "USD", "has_used_trial": false, "heroku": false, "plan_amount": 0,
        "available_slots": 1000_usize.saturating_sub(count),
    }))
    .into_response())
}

/// The roles that users have here.
pub(super) async fn roles(_: Call, params: Params) -> Result<Response, Failure> {
    let page = Page::read(&params)?;
    let role = |name: &str| json!({"id": crate::vendors::probely::ids::role_id(name), "name": name});
    page.of(vec!["Administrator", "Security engineer"], |name| Some(role(name)))
}
