//! Standard Webhooks: a plain dispatcher's webhooks, after the specification of that name.
//!
//! Documented (specification): the three `webhook-*` headers, the signature, secrets `whsec_…`,
//! the payload of `type`, `timestamp` and `data`, and the suggested retry schedule.
//! Assumed: ids start with `msg_`; the object type is what stands before the last full stop.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use chrono::{DateTime, Utc};
use hmac::Mac;
use http::HeaderMap;
use rand::Rng;
use rand_chacha::ChaCha12Rng;

use super::{Dialect, header, hmac_sha256};
use crate::clock::format_time;
use crate::event::Event;
use crate::problem::{FieldProblem, check_text};
use crate::subscriber::Secret;

const PREFIX: &str = "whsec_";

pub(super) struct Standard;

/// The key's bytes: base64 behind `whsec_`, 24 to 64 bytes (documented).
fn key(secret: &str) -> Result<Vec<u8>, String> {
    let encoded = secret.strip_prefix(PREFIX).ok_or_else(|| format!("must start with `{PREFIX}`"))?;
    let key = BASE64.decode(encoded).map_err(|_| format!("must be base64 after `{PREFIX}`"))?;
    if !(24..=64).contains(&key.len()) {
        return Err(format!("must hold 24 to 64 bytes, not {}", key.len()));
    }
    Ok(key)
}

impl Dialect for Standard {
    fn event_types(&self) -> &'static [&'static str] {
        &[]
    }

    fn header_names(&self) -> &'static [&'static str] {
        &["content-type", "user-agent", "webhook-id", "webhook-timestamp", "webhook-signature"]
    }

    fn check(&self, event_type: &str, object_type: Option<&str>, _content: &str) -> Result<String, Vec<FieldProblem>> {
        let word = |word: &str| {
            !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
        };
        if event_type.len() > 128 || !event_type.split('.').all(word) {
            let reason = "must be words of letters, digits, `_` and `-`, joined by full stops, such as invoice.paid";
            return Err(vec![FieldProblem::new("/event_type", reason)]);
        }
        let before_verb = event_type.rsplit_once('.').map_or(event_type, |(object, _)| object);
        let object_type = object_type.unwrap_or(before_verb);
        check_text("/object_type", object_type, 128).map_err(|problem| vec![problem])?;
        Ok(object_type.to_owned())
    }

    fn event_id(&self, _occurred_at: DateTime<Utc>, rng: &mut ChaCha12Rng) -> String {
        let mut bytes = [0; 20];
        rng.fill_bytes(&mut bytes);
        format!("msg_{}", bs58::encode(bytes).into_string())
    }

    fn generate_secret(&self, rng: &mut ChaCha12Rng) -> Secret {
        let mut key = [0; 24];
        rng.fill_bytes(&mut key);
        Secret::new(format!("{PREFIX}{}", BASE64.encode(key)))
    }

    fn check_secret(&self, secret: &str) -> Result<(), String> {
        key(secret).map(drop)
    }

    fn body(&self, event: &Event) -> String {
        let Event { event_type, occurred_at, content, .. } = event;
        let timestamp = format_time(*occurred_at);
        format!(r#"{{"type":"{event_type}","timestamp":"{timestamp}","data":{content}}}"#)
    }

    fn headers(
        &self,
        event: &Event,
        body: &[u8],
        secret: &Secret,
        sent_at: DateTime<Utc>,
    ) -> Vec<(&'static str, String)> {
        let timestamp = sent_at.timestamp().to_string();
        let id = &event.vendor_event_id;
        // A secret that no longer parses signs with its text, and so fails at the receiver.
        let key = key(secret.reveal()).unwrap_or_else(|_| secret.reveal().as_bytes().to_vec());
        let mac = hmac_sha256(&key, [timestamp.as_bytes(), body], Some(id.as_bytes()));
        let signature = format!("v1,{}", BASE64.encode(mac.finalize().into_bytes()));
        vec![
            ("content-type", "application/json".to_owned()),
            ("user-agent", concat!("scanhook/", env!("CARGO_PKG_VERSION")).to_owned()),
            ("webhook-id", id.clone()),
            ("webhook-timestamp", timestamp),
            ("webhook-signature", signature),
        ]
    }

    fn verify(&self, secret: &Secret, headers: &HeaderMap, body: &[u8]) -> Result<(), String> {
        let key = key(secret.reveal())?;
        let id = header(headers, "webhook-id")?;
        let timestamp = header(headers, "webhook-timestamp")?;
        let signatures = header(headers, "webhook-signature")?;
        let fits = |signature: &str| {
            let Some(Ok(received)) = signature.strip_prefix("v1,").map(|encoded| BASE64.decode(encoded)) else {
                return false;
            };
            let mac = hmac_sha256(&key, [timestamp.as_bytes(), body], Some(id.as_bytes()));
            mac.verify_slice(&received).is_ok()
        };
        if signatures.split(' ').any(fits) {
            Ok(())
        } else {
            Err("webhook-signature does not match the body, the id, the timestamp and this secret".to_owned())
        }
    }
}
