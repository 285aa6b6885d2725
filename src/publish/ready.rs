//! An event that is ready to be stored: checked, with its times and ids.

use chrono::{DateTime, Utc};

use super::{NewEvent, Publisher, Refused};
use crate::config::Validation;
use crate::event::{Event, Vendor};
use crate::id::{AccountId, EventId};
use crate::problem::{FieldProblem, check_text};
use crate::random::Chance;
use crate::vendors::{Dialect, dialect};

/// The longest idempotency key, in bytes.
const LONGEST_KEY: usize = 255;

/// A checked event, with its times and ids by the machine's clock.
#[derive(Debug, Clone)]
pub(super) struct Ready {
    pub(super) event: Event,
    /// Makes its ids, together with the time.
    sequence: u64,
    /// As it was given; none means when it is stored.
    occurred_at: Option<DateTime<Utc>>,
    deliver_at: Option<DateTime<Utc>>,
    pub(super) warnings: Vec<FieldProblem>,
}

impl Ready {
    /// Checks one event and gives it its times and ids by the machine's clock.
    pub(super) fn new(account_id: AccountId, new: NewEvent, publisher: &Publisher) -> Result<Self, Refused> {
        let Publisher { clock, chance, validation, .. } = publisher;
        let dialect = dialect(new.vendor);
        let content: Box<str> = new.content.into();
        let object_type = object_type(dialect, new.vendor, &new.event_type, new.object_type, &content)?;
        let warnings = match new.validation.unwrap_or(*validation) {
            Validation::Off => Vec::new(),
            mode => {
                let problems = violations(dialect, &new.event_type, &content);
                if mode == Validation::Enforce && !problems.is_empty() {
                    let NewEvent { vendor, event_type, .. } = new;
                    return Err(Refused::Violation { vendor, event_type, problems });
                }
                problems
            }
        };
        if let Some(key) = &new.idempotency_key {
            check_text("/idempotency_key", key, LONGEST_KEY).map_err(|problem| Refused::Invalid(vec![problem]))?;
        }
        let now = clock.now();
        // Both databases keep microseconds and no leap seconds; every attempt must send what is stored.
        let whole = |time: DateTime<Utc>| DateTime::from_timestamp_micros(time.timestamp_micros()).unwrap_or(time);
        let (given_occurred_at, deliver_at) = (new.occurred_at.map(whole), new.deliver_at.map(whole));
        let occurred_at = given_occurred_at.unwrap_or(now);
        let sequence = chance.next_in_sequence("event", account_id);
        let (id, vendor_event_id) = ids(account_id, new.vendor, sequence, (now, occurred_at), chance);
        let event = Event {
            id,
            account_id,
            vendor: new.vendor,
            vendor_event_id,
            occurred_at,
            event_type: new.event_type,
            object_type,
            content: content.into(),
            idempotency_key: new.idempotency_key,
            created_at: now,
            at_publish: None,
        };
        Ok(Self { event, sequence, occurred_at: given_occurred_at, deliver_at, warnings })
    }

    /// Gives the event its times and ids anew, by another clock.
    pub(super) fn stamp(&mut self, now: DateTime<Utc>, chance: &Chance) {
        let event = &mut self.event;
        event.occurred_at = self.occurred_at.unwrap_or(now);
        event.created_at = now;
        (event.id, event.vendor_event_id) =
            ids(event.account_id, event.vendor, self.sequence, (now, event.occurred_at), chance);
    }

    /// When its deliveries are due.
    pub(super) fn due_at(&self) -> DateTime<Utc> {
        self.deliver_at.map_or(self.event.created_at, |at| at.max(self.event.created_at))
    }
}

/// An event's ids, ours and the vendor's, from its times and the chance of its place in the account.
fn ids(
    account_id: AccountId,
    vendor: Vendor,
    sequence: u64,
    (created_at, occurred_at): (DateTime<Utc>, DateTime<Utc>),
    chance: &Chance,
) -> (EventId, String) {
    let mut stream = chance.stream("event", format!("{account_id}/{sequence}"));
    let id = EventId::generate(created_at, sequence, &mut stream);
    (id, dialect(vendor).event_id(occurred_at, &mut chance.stream("vendor-event", id)))
}

/// Checks the event type and says what the content describes.
fn object_type(
    dialect: &dyn Dialect,
    vendor: Vendor,
    event_type: &str,
    given: Option<String>,
    content: &str,
) -> Result<String, Refused> {
    let invalid = |problem| Refused::Invalid(vec![problem]);
    let Some(catalogue) = dialect.catalogue() else {
        dialect.check_name(event_type).map_err(invalid)?;
        let before_verb = event_type.rsplit_once('.').map_or(event_type, |(object, _)| object);
        let object_type = given.unwrap_or_else(|| before_verb.to_owned());
        check_text("/object_type", &object_type, 128).map_err(invalid)?;
        return Ok(object_type);
    };
    let Some(known) = catalogue.get(event_type) else {
        let known = catalogue.event_types.iter().map(|event_type| event_type.name.as_str()).collect();
        return Err(Refused::UnknownEventType { vendor, event_type: event_type.to_owned(), known });
    };
    let own = &known.object_type;
    let mut problems = Vec::new();
    if let Some(given) = given.filter(|given| given != own) {
        let reason = format!("is `{given}`; the object type of {event_type} is `{own}`");
        problems.push(FieldProblem::new("/object_type", reason));
    }
    if !content.starts_with('{') {
        problems.push(FieldProblem::new("/content", format!("must be an object: the {own} as {vendor} shows it")));
    }
    if problems.is_empty() { Ok(own.clone()) } else { Err(Refused::Invalid(problems)) }
}

/// What is wrong with a content by its schema.
fn violations(dialect: &dyn Dialect, event_type: &str, content: &str) -> Vec<FieldProblem> {
    let Some(known) = dialect.catalogue().and_then(|catalogue| catalogue.get(event_type)) else { return Vec::new() };
    match serde_json::from_str(content) {
        Ok(content) => known.violations(&content),
        Err(error) => vec![FieldProblem::new("/content", error.to_string())],
    }
}
