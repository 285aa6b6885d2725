//! `user/…`: who uses the account.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde_json::json;

use super::super::{Api, Params};
use super::call::{Answer, Page, is_text_wanted, required_number, text_filter, world};
use super::{Caller, Failure};
use crate::id::AccountId;
use crate::vendors::halo::objects;
use crate::world::{User, World};

/// The account's world with its first user, who may not be stored yet.
pub(super) async fn with_owner(api: &Api, account_id: AccountId) -> Result<(World, Arc<User>), Failure> {
    let mut world = world(api, account_id).await?;
    let owner = world.owner(api.clocks.now(account_id).await?);
    Ok((world, owner))
}

/// `user/me.json`: the account's first user. (The form is documented.)
pub(super) async fn me(State(api): State<Api>, Caller(account_id): Caller) -> Answer {
    let (_, owner) = with_owner(&api, account_id).await?;
    Ok(Json(json!({"user": objects::user(&owner)})))
}

/// `user/list.json`: rows are users and not wrapped; `sort` 0 is by e-mail address; the filters `email`
/// and `name`. (Documented. That a name is both, with a space between, is assumed.)
pub(super) async fn list(State(api): State<Api>, Caller(account_id): Caller, params: Params) -> Answer {
    let page = Page::read(&params, 0)?;
    let (email, name) = (text_filter(&params, "email")?, text_filter(&params, "name")?);
    let (world, _) = with_owner(&api, account_id).await?;
    let is_wanted = |user: &&Arc<User>| {
        is_text_wanted(email.as_ref(), &user.email) && is_text_wanted(name.as_ref(), &objects::full_name(user))
    };
    let mut users: Vec<&Arc<User>> = world.users().filter(is_wanted).collect();
    users.sort_by_key(|user| (user.email.as_str(), user.number));
    Ok(page.answer(world.targets().count(), users, |user| objects::user(user)))
}

/// `user/get.json`. (Documented; the text of the 404 is assumed.)
pub(super) async fn get(State(api): State<Api>, Caller(account_id): Caller, params: Params) -> Answer {
    let id = required_number(&params, "user_id")?;
    let (world, _) = with_owner(&api, account_id).await?;
    let user = world.users().find(|user| objects::user_id(user) == id);
    let user = user.ok_or_else(|| Failure::new(404, "user not found"))?;
    Ok(Json(json!({"user": objects::user(user)})))
}
