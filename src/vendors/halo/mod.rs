//! Halo Security: all 67 event keys, each a flat object.
//!
//! Documented: the keys and their subjects, the four standard fields, the form of `url`, the fields
//! of six events. Inferred: the fields of the other 61; standard and specific fields side by side
//! in one object; an `event_id` of 17 digits of time and 32 hex digits.
//! Assumed: POST of `application/json`; no signature unless a subscriber asks for one by giving a
//! secret, and then as Standard Webhooks has it; any 2xx as success; the retry schedule.

pub(crate) mod objects;
mod tell;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use chrono::{DateTime, Utc};
use rand::Rng;
use rand_chacha::ChaCha12Rng;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::catalogue::Catalogue;
use super::signature::Scheme;
use super::{Dialect, Told, standard};
use crate::event::Event;
use crate::subscriber::Options;
use crate::world::{Fact, Object, World};

static CATALOGUE: LazyLock<Catalogue> = LazyLock::new(|| Catalogue::read(include_str!("catalogue.json")));

pub(super) struct Halo;

impl Dialect for Halo {
    fn catalogue(&self) -> Option<&'static Catalogue> {
        Some(&CATALOGUE)
    }

    fn header_names(&self) -> &'static [&'static str] {
        &["Content-Type", "webhook-id", "webhook-timestamp", "webhook-signature"]
    }

    fn tell(&self, fact: &Fact, _world: &World) -> Vec<Told> {
        tell::tell(fact)
    }

    fn show(&self, object: &Object, world: &World) -> Option<Value> {
        let Object::Scan(scan) = object else { return None };
        let Some(Object::Target(target)) = world.object(scan.target_id) else { return None };
        Some(json!({"scan_id": objects::scan_id(scan.id), "target_id": objects::target_id(target)}))
    }

    fn options(&self) -> &'static [&'static str] {
        &["report_id"]
    }

    fn event_id(&self, occurred_at: DateTime<Utc>, rng: &mut ChaCha12Rng) -> String {
        let mut bytes = [0; 16];
        rng.fill_bytes(&mut bytes);
        // The version digit of a UUID of chance, as in the vendor's one sample.
        bytes[6] = bytes[6] & 0x0f | 0x40;
        format!("{}{}", occurred_at.format("%Y%m%d%H%M%S%3f"), hex::encode(bytes))
    }

    fn check_secret(&self, secret: &str) -> Result<(), String> {
        standard::key(secret).map(drop)
    }

    fn body(&self, event: &Event, options: &Options) -> String {
        let id = &event.vendor_event_id;
        let key = &event.event_type;
        let subject = serde_json::to_string(objects::subject(key)).expect("a text serialises");
        let url = objects::event_url(id);
        let more = if options.report_id { report_id(event) } else { String::new() };
        let standard = format!(r#"{{"event_id":"{id}","subject":{subject},"key":"{key}","url":"{url}"{more}"#);
        // The event's own fields follow, byte for byte, in the same object.
        let own = event.content.trim_start().strip_prefix('{').unwrap_or_default();
        let comma = if own.trim_start().starts_with('}') { "" } else { "," };
        format!("{standard}{comma}{own}")
    }

    fn fixed_headers(&self) -> &'static [(&'static str, &'static str)] {
        &[("Content-Type", "application/json")]
    }

    fn scheme(&self) -> Option<&'static Scheme> {
        Some(&standard::SCHEME)
    }
}

/// The further field of the documentation's sample of `pci-report-expire-today`, if the event is one:
/// it has the value of `pci_report_id`, which the documentation's table names.
fn report_id(event: &Event) -> String {
    if event.event_type != "pci-report-expire-today" {
        return String::new();
    }
    let own: BTreeMap<String, &RawValue> = serde_json::from_str(&event.content).unwrap_or_default();
    match own.get("pci_report_id") {
        Some(id) if !own.contains_key("report_id") => format!(r#","report_id":{}"#, id.get()),
        _ => String::new(),
    }
}
