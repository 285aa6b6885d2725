//! How each vendor's requests look. Pure: no clock, no chance of its own, no I/O.
//!
//! A dialect is one folder and one arm of the match in [`dialect`].

use chrono::{DateTime, Utc};
use hmac::{Hmac, KeyInit, Mac};
use http::HeaderMap;
use rand_chacha::ChaCha12Rng;
use sha2::Sha256;

use crate::event::{Event, Vendor};
use crate::problem::FieldProblem;
use crate::subscriber::Secret;

mod hostedscan;
mod standard;

/// How one vendor's webhooks look, and what may be published in its name.
pub trait Dialect: Sync {
    /// Every event type the vendor sends; empty where any name goes.
    fn event_types(&self) -> &'static [&'static str];

    /// The headers that the dialect sets, which a subscriber's own must not replace.
    fn header_names(&self) -> &'static [&'static str];

    /// Checks what is to be published and says what its content describes (the `object_type`).
    fn check(&self, event_type: &str, object_type: Option<&str>, content: &str) -> Result<String, Vec<FieldProblem>>;

    /// Makes an event id in the vendor's own shape.
    fn event_id(&self, occurred_at: DateTime<Utc>, rng: &mut ChaCha12Rng) -> String;

    /// Makes a secret in the vendor's own shape.
    fn generate_secret(&self, rng: &mut ChaCha12Rng) -> Secret;

    /// Checks a secret that a user gives. The error is a text for the user.
    fn check_secret(&self, secret: &str) -> Result<(), String>;

    /// The request's body: the same bytes for every attempt.
    fn body(&self, event: &Event) -> String;

    /// The request's headers for one attempt, in the order and the spelling they are sent in.
    fn headers(
        &self,
        event: &Event,
        body: &[u8],
        secret: &Secret,
        sent_at: DateTime<Utc>,
    ) -> Vec<(&'static str, String)>;

    /// Checks a request as the vendor's receivers are told to. The error says what is wrong.
    fn verify(&self, secret: &Secret, headers: &HeaderMap, body: &[u8]) -> Result<(), String>;
}

/// The dialect of a vendor.
pub fn dialect(vendor: Vendor) -> &'static dyn Dialect {
    match vendor {
        Vendor::Standard => &standard::Standard,
        Vendor::Hostedscan => &hostedscan::Hostedscan,
    }
}

/// HMAC with SHA-256 over the parts, joined by full stops.
fn hmac_sha256(key: &[u8], parts: [&[u8]; 2], first: Option<&[u8]>) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    if let Some(first) = first {
        mac.update(first);
        mac.update(b".");
    }
    mac.update(parts[0]);
    mac.update(b".");
    mac.update(parts[1]);
    mac
}

/// One header's text, or an error that names it.
fn header<'h>(headers: &'h HeaderMap, name: &str) -> Result<&'h str, String> {
    let value = headers.get(name).ok_or_else(|| format!("the header {name} is missing"))?;
    value.to_str().map_err(|_| format!("the header {name} is not text"))
}
