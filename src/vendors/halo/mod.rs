//! Halo Security: all 67 event keys, each a flat object.
//!
//! Documented: the keys and their subjects, the four standard fields, the form of `url`, the fields
//! of six events. Inferred: the fields of the other 61; standard and specific fields side by side
//! in one object; an `event_id` of 17 digits of time and 32 hex digits.
//! Assumed: POST of `application/json`; no signature unless a subscriber asks for one by giving a
//! secret, and then as Standard Webhooks has it; any 2xx as success; the retry schedule.

pub(crate) mod tell;

use std::sync::LazyLock;

use chrono::{DateTime, Utc};
use rand::Rng;
use rand_chacha::ChaCha12Rng;
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
        Some(json!({"scan_id": tell::scan_id(scan), "target_id": tell::target_id(target)}))
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

    fn body(&self, event: &Event, _options: &Options) -> String {
        let id = &event.vendor_event_id;
        let key = &event.event_type;
        let subject = CATALOGUE.get(key).map_or("", |event_type| &event_type.subject);
        let subject = serde_json::to_string(subject).expect("a text serialises");
        let standard = format!(
            r#"{{"event_id":"{id}","subject":{subject},"key":"{key}","url":"https://www.halosecurity.com/link?q=user-event&id={id}""#
        );
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
