//! Standard Webhooks: a plain dispatcher's webhooks, after the specification of that name.
//!
//! Documented (specification): the three `webhook-*` headers, the signature, secrets `whsec_…`,
//! the payload of `type`, `timestamp` and `data`, and the suggested retry schedule.
//! Assumed: ids start with `msg_` and sort by time, as those of its authors do; the object type is what stands before the last full stop.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use chrono::{DateTime, Utc};
use rand::Rng;
use rand_chacha::ChaCha12Rng;

use super::Dialect;
use super::catalogue::Catalogue;
use super::signature::{Encoding, Scheme, Unit};
use crate::clock::format_time;
use crate::event::Event;
use crate::problem::FieldProblem;
use crate::subscriber::{Options, Secret};

const PREFIX: &str = "whsec_";

/// Documented; Halo Security's subscribers may ask for it too.
pub(super) static SCHEME: Scheme = Scheme {
    id: Some("webhook-id"),
    timestamp: "webhook-timestamp",
    signature: "webhook-signature",
    unit: Unit::Seconds,
    encoding: Encoding::VersionedBase64,
    key,
};

pub(super) struct Standard;

/// The key's bytes: base64 behind `whsec_`, 24 to 64 bytes (documented).
pub(super) fn key(secret: &str) -> Result<Vec<u8>, String> {
    let encoded = secret.strip_prefix(PREFIX).ok_or_else(|| format!("must start with `{PREFIX}`"))?;
    let key = BASE64.decode(encoded).map_err(|_| format!("must be base64 after `{PREFIX}`"))?;
    if !(24..=64).contains(&key.len()) {
        return Err(format!("must hold 24 to 64 bytes, not {}", key.len()));
    }
    Ok(key)
}

impl Dialect for Standard {
    fn catalogue(&self) -> Option<&'static Catalogue> {
        None
    }

    fn header_names(&self) -> &'static [&'static str] {
        &["content-type", "user-agent", "webhook-id", "webhook-timestamp", "webhook-signature"]
    }

    fn check_name(&self, event_type: &str) -> Result<(), FieldProblem> {
        let word = |word: &str| {
            !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
        };
        if event_type.len() <= 128 && event_type.split('.').all(word) {
            return Ok(());
        }
        let reason = "must be words of letters, digits, `_` and `-`, joined by full stops, such as invoice.paid";
        Err(FieldProblem::new("/event_type", reason))
    }

    fn event_id(&self, occurred_at: DateTime<Utc>, rng: &mut ChaCha12Rng) -> String {
        let mut bytes = [0; 20];
        rng.fill_bytes(&mut bytes);
        // 56 bits of microseconds: what sorts by time is stored side by side.
        bytes[..7].copy_from_slice(&occurred_at.timestamp_micros().to_be_bytes()[1..]);
        format!("msg_{}", bs58::encode(bytes).into_string())
    }

    fn generate_secret(&self, rng: &mut ChaCha12Rng) -> Option<Secret> {
        let mut key = [0; 24];
        rng.fill_bytes(&mut key);
        Some(Secret::new(format!("{PREFIX}{}", BASE64.encode(key))))
    }

    fn check_secret(&self, secret: &str) -> Result<(), String> {
        key(secret).map(drop)
    }

    fn body(&self, event: &Event, _options: &Options) -> String {
        let Event { event_type, occurred_at, content, .. } = event;
        let timestamp = format_time(*occurred_at);
        format!(r#"{{"type":"{event_type}","timestamp":"{timestamp}","data":{content}}}"#)
    }

    fn fixed_headers(&self) -> &'static [(&'static str, &'static str)] {
        &[("content-type", "application/json"), ("user-agent", concat!("scanhook/", env!("CARGO_PKG_VERSION")))]
    }

    fn scheme(&self) -> Option<&'static Scheme> {
        Some(&SCHEME)
    }
}
