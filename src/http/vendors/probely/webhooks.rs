//! Webhooks: a subscriber that Probely's API makes, of the account or of one target.

use axum::Json;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use http::StatusCode;
use serde_json::{Map, Value, json};
use url::Url;

use super::call::{At, Call, Failure, Fields, View, now};
use super::fields::{Rule, check, take_text};
use super::list::Page;
use crate::clock::format_time;
use crate::delivery::API_VERSION;
use crate::event::Vendor;
use crate::http::subscribers::new_subscriber;
use crate::http::vendors::{Api, Params};
use crate::subscriber::{Subscriber, parse_url};
use crate::vendors::probely::objects::simple_user;

/// The fields that a caller sets. (Documented; only the URL is needed.)
const RULES: [(&str, Rule); 4] =
    [("name", Rule::Text(255)), ("url", Rule::Url), ("api_version", Rule::Choice(&["v1"])), ("check_cert", Rule::Flag)];

pub(super) fn one() -> MethodRouter<Api> {
    get(async |call: Call, At(id): At<String>| show(call, None, id).await)
        .put(async |call: Call, At(id): At<String>, Fields(fields): Fields| change(call, None, id, fields, true).await)
        .patch(async |call: Call, At(id): At<String>, Fields(fields): Fields| {
            change(call, None, id, fields, false).await
        })
        .delete(async |call: Call, At(id): At<String>| remove(call, None, id).await)
}

pub(super) fn one_of_target() -> MethodRouter<Api> {
    get(async |call: Call, At((target, id)): At<(String, String)>| show(call, Some(target), id).await)
        .put(async |call: Call, At((target, id)): At<(String, String)>, Fields(fields): Fields| {
            change(call, Some(target), id, fields, true).await
        })
        .patch(async |call: Call, At((target, id)): At<(String, String)>, Fields(fields): Fields| {
            change(call, Some(target), id, fields, false).await
        })
        .delete(async |call: Call, At((target, id)): At<(String, String)>| remove(call, Some(target), id).await)
}

pub(super) async fn list(call: Call, params: Params) -> Result<Response, Failure> {
    page_of(&call, None, &params).await
}

pub(super) async fn list_of_target(call: Call, At(target): At<String>, params: Params) -> Result<Response, Failure> {
    call.view().await?.target(&target)?;
    page_of(&call, Some(&target), &params).await
}

async fn page_of(call: &Call, target: Option<&str>, params: &Params) -> Result<Response, Failure> {
    let page = Page::read(params)?;
    let view = call.view().await?;
    let all = webhooks(call, target).await?;
    page.of(all, |webhook| Some(shown(webhook, &view)))
}

/// The account's webhooks, or a target's, newest first.
async fn webhooks(call: &Call, target: Option<&str>) -> Result<Vec<Subscriber>, Failure> {
    let all = call.api.store.vendor_subscribers(call.account_id, Vendor::Probely).await?;
    let own = |one: &Subscriber| one.options.target_id.as_deref() == target;
    Ok(all.into_iter().rev().filter(own).collect())
}

async fn webhook(call: &Call, target: Option<&str>, id: &str) -> Result<Subscriber, Failure> {
    let found = webhooks(call, target).await?.into_iter().find(|one| one.vendor_id.as_deref() == Some(id));
    found.ok_or_else(Failure::not_found)
}

/// A webhook as it is registered. (Documented by the older specification.)
fn shown(webhook: &Subscriber, view: &View) -> Value {
    let by = || simple_user(&view.by);
    json!({
        "id": webhook.vendor_id, "name": webhook.options.name, "url": webhook.url,
        "api_version": API_VERSION, "check_cert": webhook.options.check_cert.unwrap_or(true),
        "created": format_time(webhook.created_at), "created_by": by(),
        "changed": format_time(webhook.changed_at), "changed_by": by(),
    })
}

pub(super) async fn create(call: Call, Fields(fields): Fields) -> Result<Response, Failure> {
    create_for(call, None, fields).await
}

pub(super) async fn create_of_target(
    call: Call,
    At(target): At<String>,
    Fields(fields): Fields,
) -> Result<Response, Failure> {
    call.view().await?.target(&target)?;
    create_for(call, Some(target), fields).await
}

async fn create_for(call: Call, target: Option<String>, mut fields: Map<String, Value>) -> Result<Response, Failure> {
    check(&fields, &RULES, &["url"])?;
    let url = url_in(&call.api, &mut fields)?.ok_or_else(|| Failure::field("url", "This field is required."))?;
    let mut webhook = new_subscriber(&call.api, call.account_id, Vendor::Probely, url).await?;
    webhook.options.target_id = target;
    apply(&mut webhook, fields);
    call.api.store.insert_subscriber(&webhook).await?;
    let view = call.view().await?;
    Ok((StatusCode::CREATED, Json(shown(&webhook, &view))).into_response())
}

/// The URL that a caller gives, which must be https. (Documented; the setting
/// `vendors.probely.https_only` takes the rule back, for receivers on loopback.)
fn url_in(api: &Api, fields: &mut Map<String, Value>) -> Result<Option<Url>, Failure> {
    let Some(text) = take_text(fields, "url") else { return Ok(None) };
    let url =
        parse_url("/url", &text).map_err(|problem| Failure::field("url", format!("The URL {}.", problem.reason)))?;
    if api.vendors.probely.https_only && url.scheme() != "https" {
        let way_out = "to take http as well, set vendors.probely.https_only = false";
        return Err(Failure::field("url", format!("The URL must be https; {way_out}.")));
    }
    Ok(Some(url))
}

/// Sets what was given, which has been checked.
fn apply(webhook: &mut Subscriber, mut fields: Map<String, Value>) {
    if let Some(name) = take_text(&mut fields, "name") {
        webhook.options.name = name;
    }
    if let Some(check_cert) = fields.get("check_cert").and_then(super::fields::as_flag) {
        webhook.options.check_cert = (!check_cert).then_some(false);
    }
}

async fn show(call: Call, target: Option<String>, id: String) -> Result<Response, Failure> {
    let view = call.view().await?;
    Ok(Json(shown(&webhook(&call, target.as_deref(), &id).await?, &view)).into_response())
}

async fn change(
    call: Call,
    target: Option<String>,
    id: String,
    mut fields: Map<String, Value>,
    is_whole: bool,
) -> Result<Response, Failure> {
    let known = webhook(&call, target.as_deref(), &id).await?;
    check(&fields, &RULES, if is_whole { &["url"] } else { &[] })?;
    let url = url_in(&call.api, &mut fields)?;
    let now = now(&call).await?;
    let change = |webhook: &mut Subscriber| {
        if is_whole {
            webhook.options.name.clear();
            webhook.options.check_cert = None;
        }
        webhook.url = url.unwrap_or_else(|| webhook.url.clone());
        webhook.changed_at = now;
        apply(webhook, fields);
        Ok::<_, Failure>(())
    };
    let changed = call.api.store.change_subscriber(call.account_id, known.id, change).await??;
    call.api.handover.wake();
    let view = call.view().await?;
    Ok(Json(shown(&changed, &view)).into_response())
}

async fn remove(call: Call, target: Option<String>, id: String) -> Result<Response, Failure> {
    let known = webhook(&call, target.as_deref(), &id).await?;
    call.api.store.delete_subscriber(call.account_id, known.id, now(&call).await?).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
