//! Events, with their deliveries as they stand.

use std::collections::HashMap;

use axum::Json;
use axum::response::{IntoResponse, Response};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::call::{At, Call, Failure};
use super::list::Page;
use crate::clock::format_time;
use crate::delivery::API_VERSION;
use crate::event::Vendor;
use crate::http::vendors::Params;
use crate::id::SubscriberId;
use crate::store::{EventWithDeliveries, VendorEvents, Window};
use crate::subscriber::Options;
use crate::vendors::dialect;

pub(super) async fn list(call: Call, params: Params) -> Result<Response, Failure> {
    page_of(&call, &params, Vec::new(), None).await
}

/// The events of a target, by the newer documentation: those of its scans and its findings.
pub(super) async fn list_of_target(call: Call, At(target): At<String>, params: Params) -> Result<Response, Failure> {
    call.view().await?.target(&target)?;
    page_of(&call, &params, OF_TARGET.to_vec(), Some(id_member(&target))).await
}

const OF_TARGET: [&str; 2] = ["scan", "finding"];

/// How a content names a target that it is about. No text in a content has unescaped quotes, so that
/// a mere mention of the id is not taken for it.
fn id_member(target: &str) -> String {
    format!("\"id\":\"{target}\"")
}

async fn page_of(
    call: &Call,
    params: &Params,
    object_types: Vec<&'static str>,
    containing: Option<String>,
) -> Result<Response, Failure> {
    let page = Page::read(params)?;
    // An extension: the real service is not known to filter.
    let event_type = params.get("event_type").map(str::to_owned).filter(|text| !text.contains('\0'));
    let filter = VendorEvents { vendor: Vendor::Probely, event_type, object_types, containing };
    let window = Window { offset: page.offset(), limit: page.length };
    let (count, events) = call.api.store.vendor_events(call.account_id, &filter, window).await?;
    page.show(count, shown(call, events).await?)
}

pub(super) async fn show(call: Call, At(id): At<String>) -> Result<Response, Failure> {
    let event = call.api.store.vendor_event(call.account_id, Vendor::Probely, &id).await?;
    one(&call, event).await
}

pub(super) async fn show_of_target(call: Call, At((target, id)): At<(String, String)>) -> Result<Response, Failure> {
    call.view().await?.target(&target)?;
    let event = call.api.store.vendor_event(call.account_id, Vendor::Probely, &id).await?;
    let is_own = OF_TARGET.contains(&event.event.object_type.as_str()) && is_member(&event.event.content, &target);
    if is_own { one(&call, event).await } else { Err(Failure::not_found()) }
}

/// Whether a content is about a target, however it is spaced.
fn is_member(content: &str, target: &str) -> bool {
    content.replace("\": \"", "\":\"").contains(&id_member(target))
}

async fn one(call: &Call, event: EventWithDeliveries) -> Result<Response, Failure> {
    let mut shown = shown(call, vec![event]).await?;
    shown.pop().map(|event| Json(event).into_response()).ok_or_else(Failure::not_found)
}

/// Events as their webhooks showed them, but with `webhooks` as it is now.
async fn shown(call: &Call, events: Vec<EventWithDeliveries>) -> Result<Vec<Box<RawValue>>, Failure> {
    let to: Vec<SubscriberId> =
        events.iter().flat_map(|one| &one.deliveries).map(|delivery| delivery.subscriber_id).collect();
    let subscribers = match to.is_empty() {
        true => HashMap::new(),
        false => call.api.store.subscribers_by_id(&to).await?,
    };
    let vendor_id = |id: &SubscriberId| {
        let subscriber = subscribers.get(id)?.as_ref().ok()?.as_ref()?;
        subscriber.vendor_id.clone()
    };
    let show = |EventWithDeliveries { mut event, deliveries }| {
        let webhook = |delivery: &crate::delivery::Delivery| {
            json!({
                "id": vendor_id(&delivery.subscriber_id), "api_version": API_VERSION, "status": delivery.status,
                "next_try": format_time(delivery.next_try), "retries": delivery.retries,
            })
        };
        event.at_publish = Some(Value::from_iter(deliveries.iter().map(webhook)).to_string());
        RawValue::from_string(dialect(Vendor::Probely).body(&event, &Options::default())).ok()
    };
    Ok(events.into_iter().filter_map(show).collect())
}
