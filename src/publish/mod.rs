//! Publish: the one door for events. Checks them, fans out, stores, and hands over what is due.
//!
//! Invariant: the answer comes only after the event and its deliveries are committed together.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde_json::value::RawValue;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

mod ready;
mod writer;

use crate::batch::{Batcher, Stopped};
use crate::clock::Clock;
use crate::config::Validation;
use crate::event::Vendor;
use crate::handover::Handover;
use crate::id::AccountId;
use crate::problem::{FieldProblem, quote};
use crate::random::Chance;
use crate::store::{self, Along, EventWithDeliveries, Store};

use ready::Ready;
use writer::Writer;

/// An event to publish.
#[derive(Debug, Clone)]
pub struct NewEvent {
    pub vendor: Vendor,
    pub event_type: String,
    /// JSON; its text is kept byte for byte.
    pub content: Box<RawValue>,
    /// None means now.
    pub occurred_at: Option<DateTime<Utc>>,
    /// None means what the vendor's dialect says.
    pub object_type: Option<String>,
    /// When its deliveries are first due; none means now.
    pub deliver_at: Option<DateTime<Utc>>,
    /// A repeat with the same key returns the first event and stores nothing.
    pub idempotency_key: Option<String>,
    /// How the content is checked against its schema; none means the setting.
    pub validation: Option<Validation>,
}

/// What publishing gave.
#[derive(Debug)]
pub struct Published {
    pub event: EventWithDeliveries,
    /// The idempotency key was known: this is the first event.
    pub is_repeat: bool,
    /// What is wrong with the content by its schema, where that is no hindrance.
    pub warnings: Vec<FieldProblem>,
}

/// Why an event was not published.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Refused {
    #[error("{vendor} has no event type {}; known are {}", quote(event_type), known.join(", "))]
    UnknownEventType { vendor: Vendor, event_type: String, known: Vec<&'static str> },
    #[error("the event has {} problem(s)", .0.len())]
    Invalid(Vec<FieldProblem>),
    #[error("the content is not as {vendor} sends it for {event_type}")]
    Violation { vendor: Vendor, event_type: String, problems: Vec<FieldProblem> },
    #[error("the idempotency key `{0}` was used for another event: vendor, event_type and content must be the same")]
    KeyReused(String),
    #[error("the database could not take the event")]
    Database(Arc<store::Error>),
    #[error("the world has changed meanwhile")]
    WorldChanged,
    #[error("the id made for the event is taken")]
    Clash,
    #[error("the account was deleted meanwhile; nothing was stored")]
    AccountGone,
    #[error("shutting down")]
    Stopped,
}

/// Publishes events in batches that form by themselves.
#[derive(Debug, Clone)]
pub struct Publisher {
    batcher: Batcher<Group, Vec<Result<Published, Refused>>>,
    clock: Clock,
    chance: Chance,
    validation: Validation,
}

/// Events that were handed in together, and what is stored before them.
#[derive(Debug)]
struct Group {
    events: Vec<Ready>,
    along: Option<Along>,
}

impl Publisher {
    /// Starts the task that stores what is published.
    pub fn start(
        store: Store,
        handover: Arc<Handover>,
        clock: Clock,
        chance: Chance,
        validation: Validation,
        tracker: &TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        let at_once = store.commits_at_once();
        let writer = Arc::new(Writer { store, handover, clock: clock.clone(), chance: chance.clone() });
        let batcher = Batcher::start(tracker, stop, at_once, move |groups| {
            let writer = Arc::clone(&writer);
            async move { writer.write_groups(groups).await }
        });
        Self { batcher, clock, chance, validation }
    }

    /// Publishes events of one account together. The answers are in the same order; an event that
    /// is refused does not hold up the others.
    pub async fn publish(&self, account_id: AccountId, events: Vec<NewEvent>) -> Vec<Result<Published, Refused>> {
        let checked: Vec<Result<Ready, Refused>> =
            events.into_iter().map(|event| Ready::new(account_id, event, self)).collect();
        let mut refused: Vec<Option<Refused>> = Vec::with_capacity(checked.len());
        let mut ready = Vec::with_capacity(checked.len());
        for result in checked {
            match result {
                Ok(event) => {
                    refused.push(None);
                    ready.push(event);
                }
                Err(reason) => refused.push(Some(reason)),
            }
        }
        let group = Group { events: ready, along: None };
        let answers = if group.events.is_empty() { Ok(Vec::new()) } else { self.batcher.submit(group).await };
        let mut answers = answers.map(Vec::into_iter);
        let mut next_answer = || match &mut answers {
            Ok(answers) => answers.next().unwrap_or(Err(Refused::Stopped)),
            Err(Stopped) => Err(Refused::Stopped),
        };
        refused.into_iter().map(|reason| reason.map_or_else(&mut next_answer, Err)).collect()
    }

    /// Stores changes together with the events that tell of them: all of it or nothing.
    pub async fn publish_along(&self, along: Along, events: Vec<(AccountId, NewEvent)>) -> Result<(), Refused> {
        let check = |(account_id, event)| Ready::new(account_id, event, self);
        let events = events.into_iter().map(check).collect::<Result<Vec<Ready>, Refused>>()?;
        let group = Group { events, along: Some(along) };
        let answers = self.batcher.submit(group).await.map_err(|Stopped| Refused::Stopped)?;
        answers.into_iter().try_for_each(|answer| answer.map(drop))
    }
}
