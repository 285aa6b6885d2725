//! Probely (Snyk API & Web): the 12 event types with full User, Target, Scan and Finding content.
//!
//! Documented: the event types, the event's fields, the four statuses, 12-character Base58 ids,
//! account and target scope, back-off capped at 4 hours for 2 days, no signature.
//! Inferred: `content` is an object; six digits and `Z` in times; what a target-scoped webhook gets.
//! Assumed: `webhooks` is in the body, and shows the deliveries as they were at publish; its ids are
//! the registrations'; POST of `application/json`; a first wait of a minute that doubles.

use std::sync::{Arc, LazyLock};

use chrono::{DateTime, Utc};
use rand_chacha::ChaCha12Rng;
use serde::Deserialize;
use serde_json::{Value, json};

use super::catalogue::Catalogue;
use super::signature::Scheme;
use super::{Dialect, Told};
use crate::clock::format_time;
use crate::delivery::{API_VERSION, Status};
use crate::event::Event;
use crate::subscriber::{Options, Subscriber};
use crate::world::{Fact, Object, World};

pub(crate) mod ids;
pub(crate) mod objects;
mod requests;
mod tell;
#[cfg(test)]
mod tell_tests;

static CATALOGUE: LazyLock<Catalogue> = LazyLock::new(|| Catalogue::read(include_str!("catalogue.json")));

pub(super) struct Probely;

/// The parts of a content that say which target it is about.
#[derive(Deserialize)]
struct About {
    id: Option<serde_json::Value>,
    target: Option<TargetOf>,
}

#[derive(Deserialize)]
struct TargetOf {
    id: Option<String>,
}

/// Whether a webhook of this target's gets the event. The newer documentation counts every
/// `target_*` event as the account's; the older one only `target_created`.
fn is_about(event: &Event, target_id: &str, options: &Options) -> bool {
    let Ok(about) = serde_json::from_str::<About>(&event.content) else { return false };
    match event.object_type.as_str() {
        "scan" | "finding" => about.target.and_then(|target| target.id).as_deref() == Some(target_id),
        "target" => {
            let is_own = about.id.as_ref().and_then(serde_json::Value::as_str) == Some(target_id);
            options.older_target_scope && event.event_type != "target_created" && is_own
        }
        _ => false,
    }
}

impl Dialect for Probely {
    fn catalogue(&self) -> Option<&'static Catalogue> {
        Some(&CATALOGUE)
    }

    fn header_names(&self) -> &'static [&'static str] {
        &["Content-Type"]
    }

    fn options(&self) -> &'static [&'static str] {
        &[
            "name",
            "target_id",
            "older_target_scope",
            "check_cert",
            "zoneless_times",
            "misspelt_occurred_at",
            "without_webhooks",
        ]
    }

    fn wants(&self, event: &Event, options: &Options) -> bool {
        options.target_id.as_ref().is_none_or(|target_id| is_about(event, target_id, options))
    }

    fn show(&self, object: &Object, world: &World) -> Option<Value> {
        let Object::Scan(scan) = object else { return None };
        match (world.object(scan.target_id), world.object(scan.by)) {
            (Some(Object::Target(target)), Some(Object::User(by))) => {
                objects::scan(scan, target, objects::Scene { world, by })
            }
            _ => None,
        }
    }

    fn tell(&self, fact: &Fact, world: &World) -> Vec<Told> {
        tell::tell(fact, world)
    }

    fn event_id(&self, _occurred_at: DateTime<Utc>, rng: &mut ChaCha12Rng) -> String {
        ids::random_id(rng)
    }

    fn subscriber_id(&self, rng: &mut ChaCha12Rng) -> Option<String> {
        Some(ids::random_id(rng))
    }

    fn at_publish(&self, subscribers: &[&Arc<Subscriber>], next_try: DateTime<Utc>) -> Option<String> {
        let webhook = |subscriber: &&Arc<Subscriber>| {
            json!({
                "id": subscriber.vendor_id, "api_version": API_VERSION, "status": Status::Scheduled,
                "next_try": format_time(next_try), "retries": 0,
            })
        };
        Some(serde_json::Value::from_iter(subscribers.iter().map(webhook)).to_string())
    }

    fn check_secret(&self, _secret: &str) -> Result<(), String> {
        Err("Probely signs nothing; a receiver is protected by a URL that is hard to guess".to_owned())
    }

    fn body(&self, event: &Event, options: &Options) -> String {
        let Event { vendor_event_id, event_type, object_type, content, .. } = event;
        let occurred_at = if options.zoneless_times {
            // As the documentation's example has it: seven digits and no zone.
            event.occurred_at.format("%Y-%m-%dT%H:%M:%S%.6f0").to_string()
        } else {
            format_time(event.occurred_at)
        };
        let key = if options.misspelt_occurred_at { "ocurred_at" } else { "occurred_at" };
        let webhooks = match (&event.at_publish, options.without_webhooks) {
            (Some(webhooks), false) => format!(r#","webhooks":{webhooks}"#),
            _ => String::new(),
        };
        format!(
            r#"{{"id":"{vendor_event_id}","event_type":"{event_type}","{key}":"{occurred_at}","object_type":"{object_type}","content":{content}{webhooks}}}"#
        )
    }

    fn fixed_headers(&self) -> &'static [(&'static str, &'static str)] {
        &[("Content-Type", "application/json")]
    }

    fn scheme(&self) -> Option<&'static Scheme> {
        None
    }
}
