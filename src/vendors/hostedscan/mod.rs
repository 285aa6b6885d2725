//! HostedScan: the classic event types, as the vendor's documentation listed them until 2023.
//!
//! Documented: the event types, the envelope's fields, the two headers, what is signed, any 2xx
//! as success, exponential retries for up to 12 hours.
//! Inferred from the vendor's own receiver: lower-case hex, the secret's text as the key,
//! milliseconds in the timestamp header, seconds in `created_at`, 24-hex ids, POST.
//! Assumed: a first wait of a minute that doubles; a fresh timestamp and signature for each
//! attempt; no other headers; a made secret is 40 hex digits.

use super::{Dialect, header, hmac_sha256};
use crate::event::Event;
use crate::problem::{FieldProblem, check_text};
use crate::subscriber::Secret;
use chrono::{DateTime, Utc};
use hmac::Mac;
use http::HeaderMap;
use rand::Rng;
use rand_chacha::ChaCha12Rng;

const SIGNATURE: &str = "X-HOSTEDSCAN-SIGNATURE";
const TIMESTAMP: &str = "X-HOSTEDSCAN-TIMESTAMP";

pub(super) struct Hostedscan;

impl Dialect for Hostedscan {
    fn event_types(&self) -> &'static [&'static str] {
        &["scan.succeeded", "risk.opened", "risk.closed"]
    }

    fn header_names(&self) -> &'static [&'static str] {
        &["Content-Type", SIGNATURE, TIMESTAMP]
    }

    fn check(&self, event_type: &str, object_type: Option<&str>, content: &str) -> Result<String, Vec<FieldProblem>> {
        let mut problems = Vec::new();
        let own = event_type.split_once('.').map_or(event_type, |(object, _)| object);
        if let Some(given) = object_type.filter(|given| *given != own) {
            let reason = format!("is `{given}`; the object type of {event_type} is `{own}`");
            problems.push(FieldProblem::new("/object_type", reason));
        }
        if !content.trim_start().starts_with('{') {
            problems
                .push(FieldProblem::new("/content", format!("must be an object: the {own} as HostedScan shows it")));
        }
        if problems.is_empty() { Ok(own.to_owned()) } else { Err(problems) }
    }

    fn event_id(&self, occurred_at: DateTime<Utc>, rng: &mut ChaCha12Rng) -> String {
        // An ObjectId: four bytes of seconds, then eight that tell ids apart.
        let mut bytes = [0; 12];
        rng.fill_bytes(&mut bytes);
        bytes[..4].copy_from_slice(&(occurred_at.timestamp() as u32).to_be_bytes());
        hex::encode(bytes)
    }

    fn generate_secret(&self, rng: &mut ChaCha12Rng) -> Secret {
        let mut bytes = [0; 20];
        rng.fill_bytes(&mut bytes);
        Secret::new(hex::encode(bytes))
    }

    fn check_secret(&self, secret: &str) -> Result<(), String> {
        check_text("", secret, 512).map_err(|problem| problem.reason)
    }

    fn body(&self, event: &Event) -> String {
        let Event { vendor_event_id, event_type, content, .. } = event;
        let created_at = event.occurred_at.timestamp();
        format!(r#"{{"id":"{vendor_event_id}","created_at":{created_at},"type":"{event_type}","data":{content}}}"#)
    }

    fn headers(
        &self,
        _event: &Event,
        body: &[u8],
        secret: &Secret,
        sent_at: DateTime<Utc>,
    ) -> Vec<(&'static str, String)> {
        let timestamp = sent_at.timestamp_millis().to_string();
        let mac = hmac_sha256(secret.reveal().as_bytes(), [timestamp.as_bytes(), body], None);
        let signature = hex::encode(mac.finalize().into_bytes());
        vec![("Content-Type", "application/json".to_owned()), (SIGNATURE, signature), (TIMESTAMP, timestamp)]
    }

    fn verify(&self, secret: &Secret, headers: &HeaderMap, body: &[u8]) -> Result<(), String> {
        let timestamp = header(headers, TIMESTAMP)?;
        let received = hex::decode(header(headers, SIGNATURE)?).map_err(|_| format!("{SIGNATURE} is not hex"))?;
        hmac_sha256(secret.reveal().as_bytes(), [timestamp.as_bytes(), body], None)
            .verify_slice(&received)
            .map_err(|_| format!("{SIGNATURE} does not match the body, the timestamp and this secret"))
    }
}

#[cfg(test)]
mod tests {
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
        }
    }

    #[test]
    fn the_worked_examples_are_reproduced_byte_for_byte() {
        let secret = Secret::new("mock-signing-secret-1");
        for (timestamp, signature, expected) in EXAMPLES {
            let event = event(expected);
            let body = Hostedscan.body(&event);
            assert_eq!(body, expected);
            let sent_at = DateTime::from_timestamp_millis(timestamp).expect("a time");
            let headers = Hostedscan.headers(&event, body.as_bytes(), &secret, sent_at);
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
            Hostedscan.verify(secret, &headers, body.as_bytes())
        };
        assert_eq!(verify(&secret, timestamp, body), Ok(()));
        assert!(verify(&secret, timestamp, &format!("{body}\n")).is_err());
        assert!(verify(&secret, timestamp / 1000, body).is_err());
        assert!(verify(&Secret::new("other"), timestamp, body).is_err());
        assert!(Hostedscan.verify(&secret, &HeaderMap::new(), b"").is_err_and(|error| error.contains(TIMESTAMP)));
    }
}
