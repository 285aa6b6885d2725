//! `event/…`: the events that webhooks have told of, and their types.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use super::super::{Api, Params, all_objects};
use super::call::{Answer, Page, is_number_wanted, is_text_wanted, number_filter, required, text_filter, world};
use super::{Caller, Failure};
use crate::event::{Event, Vendor};
use crate::id::AccountId;
use crate::store::{VendorEvents, Window};
use crate::vendors::dialect;
use crate::vendors::halo::objects;
use crate::world::{Kind, Target};

/// How many events are read from the store at once.
const AT_ONCE: u32 = 1_000;
/// The fields of an event that name what Halo calls a target, a domain or a network.
const TARGET_IDS: [&str; 3] = ["target_id", "domain_id", "network_id"];

/// `event/list.json`: the filters `key`, `subject`, `detail` and `target_id`. (Documented.) `sort` 0
/// is by name, which is taken for the subject, and then by time. (Assumed.)
pub(super) async fn list(State(api): State<Api>, Caller(account_id): Caller, params: Params) -> Answer {
    let page = Page::read(&params, 0)?;
    let [key, subject, detail] = ["key", "subject", "detail"].map(|name| text_filter(&params, name));
    let (key, subject, detail) = (key?, subject?, detail?);
    let target_id = number_filter(&params, "target_id")?;
    let stored = VendorEvents {
        vendor: Vendor::Halo,
        // Only narrows what is read; and a text that a client makes up may be one that Postgres refuses.
        event_type: key.as_ref().and_then(|key| key.only()).map(str::to_owned).filter(|key| is_known(key)),
        object_types: Vec::new(),
        containing: target_id.as_ref().and_then(|id| id.only()).map(|id| id.to_string()),
    };
    let mut events = read_all(&api, account_id, &stored).await?;
    events.retain(|(event, content)| {
        is_text_wanted(key.as_ref(), &event.event_type)
            && is_text_wanted(subject.as_ref(), objects::subject(&event.event_type))
            && is_text_wanted(detail.as_ref(), content["detail"].as_str().unwrap_or_default())
            && (target_id.is_none() || named_target(content).is_some_and(|id| is_number_wanted(target_id.as_ref(), id)))
    });
    events.sort_by_key(|(event, _)| (objects::subject(&event.event_type), event.occurred_at, event.id));
    let targets = Targets::read(&api, account_id).await?;
    let target_count = world(&api, account_id).await?.targets().count();
    let show = |(event, content): &(Event, Value)| json!({"event": objects::event(event, targets.of(content))});
    Ok(page.answer(target_count, events, show))
}

fn is_known(key: &str) -> bool {
    dialect(Vendor::Halo).catalogue().is_some_and(|catalogue| catalogue.get(key).is_some())
}

/// `event/get.json`. (Documented.)
pub(super) async fn get(State(api): State<Api>, Caller(account_id): Caller, params: Params) -> Answer {
    let event = find(&api, account_id, &params).await?;
    let content = serde_json::from_str(&event.content).unwrap_or_default();
    let target = Targets::read(&api, account_id).await?.of(&content);
    Ok(Json(json!({"success": 1, "event": objects::event(&event, target)})))
}

/// `event/delete.json`: a GET that deletes. (Documented.) Deliveries that are owed are still made.
pub(super) async fn delete(State(api): State<Api>, Caller(account_id): Caller, params: Params) -> Answer {
    let event = find(&api, account_id, &params).await?;
    api.store.hide_event(account_id, event.id).await?;
    Ok(Json(json!({"success": 1})))
}

/// `event/types.json`: every type, in the vendor's order. (The names are documented.)
pub(super) async fn types(State(api): State<Api>, Caller(account_id): Caller, params: Params) -> Answer {
    let page = Page::read(&params, 0)?;
    let types = dialect(Vendor::Halo).catalogue().map(|catalogue| catalogue.event_types.iter().collect());
    let target_count = world(&api, account_id).await?.targets().count();
    Ok(page.answer(target_count, types.unwrap_or_default(), |one| json!({"subject": one.subject, "key": one.name})))
}

async fn find(api: &Api, account_id: AccountId, params: &Params) -> Result<Event, Failure> {
    let event_id = required(params, "event_id")?;
    Ok(api.store.vendor_event(account_id, Vendor::Halo, event_id).await?.event)
}

/// Every stored event that fits, with its content. Each comes once, whatever is published meanwhile.
async fn read_all(api: &Api, account_id: AccountId, filter: &VendorEvents) -> Result<Vec<(Event, Value)>, Failure> {
    let mut events = BTreeMap::new();
    let mut offset = 0;
    loop {
        let window = Window { offset, limit: AT_ONCE };
        let (_, read) = api.store.vendor_events(account_id, filter, window).await?;
        let is_last = read.len() < AT_ONCE as usize;
        events.extend(read.into_iter().map(|read| (read.event.id, read.event)));
        if is_last {
            break;
        }
        offset = offset.saturating_add(AT_ONCE);
    }
    let with_content = |event: Event| {
        let content = serde_json::from_str(&event.content).unwrap_or_default();
        (event, content)
    };
    Ok(events.into_values().map(with_content).collect())
}

/// The number of the target that an event names.
fn named_target(content: &Value) -> Option<u64> {
    TARGET_IDS.iter().find_map(|name| content.get(name)?.as_u64())
}

/// The account's targets by number, also those that were removed.
struct Targets(HashMap<u64, Arc<Target>>);

impl Targets {
    async fn read(api: &Api, account_id: AccountId) -> Result<Self, Failure> {
        let targets: Vec<Arc<Target>> = all_objects(api, account_id, Kind::Target, None).await?;
        Ok(Self(targets.into_iter().map(|target| (objects::target_id(&target), target)).collect()))
    }

    /// The target that an event is about; of one that the world does not have, what the event says.
    fn of(&self, content: &Value) -> Option<Value> {
        let id = named_target(content)?;
        let told = |name: &str| content.get(name).and_then(Value::as_str).unwrap_or_default();
        Some(self.0.get(&id).map_or_else(
            || json!({"target_name": told("target_name"), "target_id": id, "target": told("target")}),
            |target| objects::target_reference(target),
        ))
    }
}
