//! How each vendor's requests look. Pure: no clock, no chance of its own, no I/O.
//!
//! A dialect is one folder and one arm of the match in [`dialect`].

use std::sync::Arc;

use chrono::{DateTime, Utc};
use rand_chacha::ChaCha12Rng;
use serde_json::Value;

use crate::event::{Event, Vendor};
use crate::problem::FieldProblem;
use crate::subscriber::{Options, Secret, Subscriber};
use crate::world::{Fact, Object, World};

mod catalogue;
pub(crate) mod halo;
pub(crate) mod hostedscan;
mod overrides;
pub(crate) mod probely;
mod signature;
mod standard;

pub use catalogue::{Catalogue, EventType, Provenance};
pub use overrides::{remove, set};
pub use signature::{Explanation, Scheme};

/// An event in a vendor's words.
#[derive(Debug, Clone, PartialEq)]
pub struct Told {
    pub event_type: &'static str,
    pub content: Value,
}

/// How one vendor's webhooks look, and what may be published in its name.
pub trait Dialect: Sync {
    /// Every event type the vendor sends; none where any name goes.
    fn catalogue(&self) -> Option<&'static Catalogue>;

    /// The headers that the dialect sets, which a subscriber's own must not replace.
    fn header_names(&self) -> &'static [&'static str];

    /// The options that a subscriber of this vendor may have.
    fn options(&self) -> &'static [&'static str] {
        &[]
    }

    /// Whether a subscriber with these options gets the event, beside its event-type patterns.
    fn wants(&self, _event: &Event, _options: &Options) -> bool {
        true
    }

    /// What the vendor says of a fact: its own events, or none. The world is as it is after all that
    /// has happened with it.
    fn tell(&self, _fact: &Fact, _world: &World) -> Vec<Told> {
        Vec::new()
    }

    /// An object of a world as the vendor shows it; none if the vendor has no such thing.
    fn show(&self, _object: &Object, _world: &World) -> Option<Value> {
        None
    }

    /// Checks the name of an event type, where there is no catalogue to look it up in.
    fn check_name(&self, _event_type: &str) -> Result<(), FieldProblem> {
        Ok(())
    }

    /// Makes an event id in the vendor's own shape.
    fn event_id(&self, occurred_at: DateTime<Utc>, rng: &mut ChaCha12Rng) -> String;

    /// Makes a subscriber's id in the vendor's own shape, where receivers see one.
    fn subscriber_id(&self, _rng: &mut ChaCha12Rng) -> Option<String> {
        None
    }

    /// What the body needs of the subscribers that the event goes to; JSON text.
    fn at_publish(&self, _subscribers: &[&Arc<Subscriber>], _next_try: DateTime<Utc>) -> Option<String> {
        None
    }

    /// Makes a secret in the vendor's own shape, where the vendor signs.
    fn generate_secret(&self, _rng: &mut ChaCha12Rng) -> Option<Secret> {
        None
    }

    /// Checks a secret that a user gives. The error is a text for the user.
    fn check_secret(&self, secret: &str) -> Result<(), String>;

    /// The request's body: the same bytes for every attempt.
    fn body(&self, event: &Event, options: &Options) -> String;

    /// The headers that are the same on every request.
    fn fixed_headers(&self) -> &'static [(&'static str, &'static str)];

    /// The request's headers for one attempt, in the order and the spelling they are sent in.
    /// Signed afresh each time by each secret, the newest first, where the vendor signs.
    fn headers(
        &self,
        event: &Event,
        body: &[u8],
        secrets: &[&Secret],
        sent_at: DateTime<Utc>,
    ) -> Vec<(&'static str, String)> {
        let fixed = self.fixed_headers().iter().map(|(name, value)| (*name, (*value).to_owned()));
        let scheme = self.scheme().filter(|_| !secrets.is_empty());
        let signed =
            scheme.map(|scheme| scheme.sign(&event.vendor_event_id, scheme.write_time(sent_at), body, secrets));
        fixed.chain(signed.into_iter().flatten()).collect()
    }

    /// How the vendor signs; none if it does not.
    fn scheme(&self) -> Option<&'static Scheme>;
}

/// The dialect of a vendor.
pub fn dialect(vendor: Vendor) -> &'static dyn Dialect {
    match vendor {
        Vendor::Standard => &standard::Standard,
        Vendor::Hostedscan => &hostedscan::Hostedscan,
        Vendor::Halo => &halo::Halo,
        Vendor::Probely => &probely::Probely,
    }
}

/// The event types that a subscriber with these options can get; empty where any name goes.
pub fn event_types(vendor: Vendor, options: &Options) -> Vec<&'static str> {
    let Some(catalogue) = dialect(vendor).catalogue() else { return Vec::new() };
    let vocabulary = options.vocabulary.unwrap_or_default();
    let speaks = |event_type: &&EventType| event_type.vocabulary.is_none_or(|own| own == vocabulary);
    catalogue.event_types.iter().filter(speaks).map(|event_type| event_type.name.as_str()).collect()
}
