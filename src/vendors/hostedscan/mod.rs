//! HostedScan: two vocabularies of event types, the classic one (documented until 2023) and the
//! current one, chosen by each subscriber.
//!
//! Documented: the names of the event types, the envelope's fields, the two headers, what is signed, any 2xx
//! as success, exponential retries for up to 12 hours.
//! Inferred from the vendor's own receiver: lower-case hex, the secret's text as the key,
//! milliseconds in the timestamp header, seconds in `created_at`, 24-hex ids, POST.
//! Assumed: a first wait of a minute that doubles; a fresh timestamp and signature for each
//! attempt; no other headers; a made secret is 40 hex digits.

pub(crate) mod objects;
mod tell;

use super::catalogue::Catalogue;
use super::signature::{Encoding, Scheme, Unit};
use super::{Dialect, Told};
use crate::event::Event;
use crate::problem::check_text;
use crate::subscriber::{Options, Secret};
use crate::world::{Fact, Object, World};
use std::sync::LazyLock;

use chrono::{DateTime, Utc};
use rand::Rng;
use rand_chacha::ChaCha12Rng;
use serde_json::Value;

const SIGNATURE: &str = "X-HOSTEDSCAN-SIGNATURE";
const TIMESTAMP: &str = "X-HOSTEDSCAN-TIMESTAMP";

static CATALOGUE: LazyLock<Catalogue> = LazyLock::new(|| Catalogue::read(include_str!("catalogue.json")));

static SCHEME: Scheme = Scheme {
    id: None,
    timestamp: TIMESTAMP,
    signature: SIGNATURE,
    unit: Unit::Milliseconds,
    encoding: Encoding::Hex,
    key: |secret| Ok(secret.as_bytes().to_vec()),
};

pub(super) struct Hostedscan;

impl Dialect for Hostedscan {
    fn catalogue(&self) -> Option<&'static Catalogue> {
        Some(&CATALOGUE)
    }

    fn header_names(&self) -> &'static [&'static str] {
        &["Content-Type", SIGNATURE, TIMESTAMP]
    }

    fn options(&self) -> &'static [&'static str] {
        &["vocabulary"]
    }

    fn wants(&self, event: &Event, options: &Options) -> bool {
        let own = CATALOGUE.get(&event.event_type).and_then(|event_type| event_type.vocabulary);
        own == Some(options.vocabulary.unwrap_or_default())
    }

    fn tell(&self, fact: &Fact, _world: &World) -> Vec<Told> {
        tell::tell(fact)
    }

    fn show(&self, object: &Object, world: &World) -> Option<Value> {
        let Object::Scan(scan) = object else { return None };
        let Some(Object::Target(target)) = world.object(scan.target_id) else { return None };
        Some(objects::scan(scan, target))
    }

    fn event_id(&self, occurred_at: DateTime<Utc>, rng: &mut ChaCha12Rng) -> String {
        // An ObjectId: four bytes of seconds, then eight that tell ids apart.
        let mut bytes = [0; 12];
        rng.fill_bytes(&mut bytes);
        bytes[..4].copy_from_slice(&(occurred_at.timestamp() as u32).to_be_bytes());
        hex::encode(bytes)
    }

    fn generate_secret(&self, rng: &mut ChaCha12Rng) -> Option<Secret> {
        let mut bytes = [0; 20];
        rng.fill_bytes(&mut bytes);
        Some(Secret::new(hex::encode(bytes)))
    }

    fn check_secret(&self, secret: &str) -> Result<(), String> {
        check_text("", secret, 512).map_err(|problem| problem.reason)
    }

    fn body(&self, event: &Event, _options: &Options) -> String {
        let Event { vendor_event_id, event_type, content, .. } = event;
        let created_at = event.occurred_at.timestamp();
        format!(r#"{{"id":"{vendor_event_id}","created_at":{created_at},"type":"{event_type}","data":{content}}}"#)
    }

    fn fixed_headers(&self) -> &'static [(&'static str, &'static str)] {
        &[("Content-Type", "application/json")]
    }

    fn scheme(&self) -> Option<&'static Scheme> {
        Some(&SCHEME)
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;

    /// The vendor dossier's worked examples: timestamp, signature, body.
    const EXAMPLES: [(i64, &str, &str); 3] = [
        (
            1_697_451_151_250,
            "e2ffd82c6f86981d8725ed25ae4b7b00fb154e28f72e72504432fcda6ff2309a",
            r#"{"id":"652d0c8e0b6f4a0012ab0001","created_at":1697451150,"type":"scan.succeeded","data":{"id":"652d0c000b6f4a0012aa0001","type":"NMAP","state":"SUCCEEDED","progress":100,"results":[{"result_id":"652d0c8d0b6f4a0012cc0001","content_type":"application/json"}],"requested_targets":[{"target_id":"652d0b000b6f4a0012dd0001","target":"shop.example.test"}],"resolved_targets":[{"target_id":"652d0b000b6f4a0012dd0001","resolved_target":"192.0.2.10"}],"skipped_targets":[]}}"#,
        ),
        (
            1_697_451_151_251,
            "665992d9d29107602df2ebbd84c532ee4f9a06822f90e5429f9e8e798dd4f4a2",
            r#"{"id":"652d0c8e0b6f4a0012ab0002","created_at":1697451150,"type":"risk.created","data":{"id":"652d0c8d0b6f4a0012ee0001","target_id":"652d0b000b6f4a0012dd0001","target":"shop.example.test","tags":["prod"],"status":"OPEN","risk_definition":{"scan_type":"NMAP","title":"Open TCP Port: 8080","threat_level":"MEDIUM","additional_info":{"port":"8080"}}}}"#,
        ),
        (
            1_697_451_151_252,
            "2205b2c032b3961cfe347cdc63353908992aa3b5f612d7d3f8fed99d5acc54b6",
            r#"{"id":"652d0c8e0b6f4a0012ab0003","created_at":1697451150,"type":"risk.closed","data":{"id":"652d0c8d0b6f4a0012ee0002","target_id":"652d0b000b6f4a0012dd0001","target":"shop.example.test","tags":[],"status":"CLOSED","risk_definition":{"scan_type":"OWASP_ZAP","title":"Überlange Kopfzeile – é","threat_level":"LOW","additional_info":{}}}}"#,
        ),
    ];

    fn event(body: &str) -> Event {
        let envelope: serde_json::Value = serde_json::from_str(body).expect("an envelope");
        let data = body.split_once(r#""data":"#).expect("data").1;
        let text = |name: &str| envelope[name].as_str().expect("a text").to_owned();
        Event {
            id: "1".repeat(22).parse().expect("an id"),
            account_id: crate::id::AccountId::DEFAULT,
            vendor: crate::event::Vendor::Hostedscan,
            vendor_event_id: text("id"),
            occurred_at: DateTime::from_timestamp(envelope["created_at"].as_i64().expect("seconds"), 0)
                .expect("a time"),
            event_type: text("type"),
            object_type: String::new(),
            content: data[..data.len() - 1].to_owned(),
            idempotency_key: None,
            created_at: DateTime::UNIX_EPOCH,
            at_publish: None,
        }
    }

    #[test]
    fn the_worked_examples_are_reproduced_byte_for_byte() {
        let secret = Secret::new("mock-signing-secret-1");
        for (timestamp, signature, expected) in EXAMPLES {
            let event = event(expected);
            let body = Hostedscan.body(&event, &Options::default());
            assert_eq!(body, expected);
            let sent_at = DateTime::from_timestamp_millis(timestamp).expect("a time");
            let headers = Hostedscan.headers(&event, body.as_bytes(), &[&secret], sent_at);
            assert_eq!(headers[1], (SIGNATURE, signature.to_owned()));
            assert_eq!(headers[2], (TIMESTAMP, timestamp.to_string()));
        }
    }

    #[test]
    fn a_changed_body_a_changed_timestamp_and_a_wrong_secret_do_not_verify() {
        let secret = Secret::new("mock-signing-secret-1");
        let (timestamp, signature, body) = EXAMPLES[0];
        let verify = |secret: &Secret, timestamp: i64, body: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("x-hostedscan-signature", signature.parse().expect("a header"));
            headers.insert("x-hostedscan-timestamp", timestamp.into());
            SCHEME.verify(secret, &headers, body.as_bytes())
        };
        assert_eq!(verify(&secret, timestamp, body), Ok(()));
        assert!(verify(&secret, timestamp, &format!("{body}\n")).is_err());
        assert!(verify(&secret, timestamp / 1000, body).is_err());
        assert!(verify(&Secret::new("other"), timestamp, body).is_err());
        assert!(SCHEME.verify(&secret, &HeaderMap::new(), b"").is_err_and(|error| error.contains(TIMESTAMP)));
    }
}
