//! Publish: the one door for events. Checks them, fans out, stores, and hands over what is due.
//!
//! Invariant: the answer comes only after the event and its deliveries are committed together.

use std::collections::HashMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde_json::value::RawValue;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::batch::{Batcher, Stopped};
use crate::clock::Clock;
use crate::config::Validation;
use crate::delivery::{Claimed, Delivery, Status};
use crate::event::{Event, Vendor};
use crate::handover::{Handover, InHand};
use crate::id::{AccountId, DeliveryId, EventId};
use crate::problem::{FieldProblem, check_text, quote};
use crate::random::Chance;
use crate::store::{self, Along, EventWithDeliveries, Inserted, NewDelivery, Publication, Store};
use crate::subscriber::Subscriber;
use crate::vendors::{Dialect, dialect};

/// The longest idempotency key, in bytes.
const LONGEST_KEY: usize = 255;

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

/// A checked event, and when its deliveries are due.
#[derive(Debug)]
struct Ready {
    event: Event,
    deliver_at: DateTime<Utc>,
    warnings: Vec<FieldProblem>,
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
        let writer = Arc::new(Writer { store, handover, clock: clock.clone(), chance: chance.clone() });
        let batcher = Batcher::start(tracker, stop, move |groups| {
            let writer = Arc::clone(&writer);
            async move { writer.write_groups(groups).await }
        });
        Self { batcher, clock, chance, validation }
    }

    /// Publishes events of one account together. The answers are in the same order; an event that
    /// is refused does not hold up the others.
    pub async fn publish(&self, account_id: AccountId, events: Vec<NewEvent>) -> Vec<Result<Published, Refused>> {
        let checked: Vec<Result<Ready, Refused>> =
            events.into_iter().map(|event| self.check(account_id, event)).collect();
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
        let check = |(account_id, event)| self.check(account_id, event);
        let events = events.into_iter().map(check).collect::<Result<Vec<Ready>, Refused>>()?;
        let group = Group { events, along: Some(along) };
        let answers = self.batcher.submit(group).await.map_err(|Stopped| Refused::Stopped)?;
        answers.into_iter().try_for_each(|answer| answer.map(drop))
    }

    /// Checks one event and gives it its ids.
    fn check(&self, account_id: AccountId, new: NewEvent) -> Result<Ready, Refused> {
        let dialect = dialect(new.vendor);
        let content: Box<str> = new.content.into();
        let object_type = object_type(dialect, new.vendor, &new.event_type, new.object_type, &content)?;
        let warnings = match new.validation.unwrap_or(self.validation) {
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
        let now = self.clock.now();
        // Both databases keep microseconds and no leap seconds; every attempt must send what is stored.
        let whole = |time: DateTime<Utc>| DateTime::from_timestamp_micros(time.timestamp_micros()).unwrap_or(time);
        let occurred_at = new.occurred_at.map_or(now, whole);
        let sequence = self.chance.next_in_sequence("event", account_id);
        let id = EventId::generate(now, sequence, &mut self.chance.stream("event", format!("{account_id}/{sequence}")));
        let event = Event {
            id,
            account_id,
            vendor: new.vendor,
            vendor_event_id: dialect.event_id(occurred_at, &mut self.chance.stream("vendor-event", id)),
            occurred_at,
            event_type: new.event_type,
            object_type,
            content: content.into(),
            idempotency_key: new.idempotency_key,
            created_at: now,
            at_publish: None,
        };
        Ok(Ready { event, deliver_at: new.deliver_at.map_or(now, whole).max(now), warnings })
    }
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

/// Makes the deliveries an event owes: one for each subscriber that wants it.
fn fan_out<'s>(event: &Event, subscribers: &[&'s Subscriber]) -> impl Iterator<Item = &'s Subscriber> {
    let options_allow = |subscriber: &Subscriber| dialect(event.vendor).wants(event, &subscriber.options);
    subscribers.iter().copied().filter(move |subscriber| subscriber.wants(event) && options_allow(subscriber))
}

/// What goes with an event once it is stored: its deliveries that are handed over, and warnings.
type Rest = (Vec<InHand>, Vec<FieldProblem>);

/// The task behind the publisher.
struct Writer {
    store: Store,
    handover: Arc<Handover>,
    clock: Clock,
    chance: Chance,
}

impl Writer {
    /// Stores groups, together but for those with something along: these stand or fall alone.
    async fn write_groups(&self, groups: Vec<Group>) -> Vec<Vec<Result<Published, Refused>>> {
        let mut together: Vec<Ready> = Vec::new();
        let mut answered: Vec<Result<Vec<Result<Published, Refused>>, usize>> = Vec::with_capacity(groups.len());
        for Group { events, along } in groups {
            match along {
                None => {
                    answered.push(Err(events.len()));
                    together.extend(events);
                }
                Some(along) => answered.push(Ok(self.write_along(events, &along).await)),
            }
        }
        let count = together.len();
        let answers = if count == 0 { Ok(Vec::new()) } else { self.write(together, None).await };
        let mut answers = answers.unwrap_or_else(|error| refuse_all(error, count)).into_iter();
        let answer = |group: Result<Vec<_>, usize>| group.unwrap_or_else(|size| answers.by_ref().take(size).collect());
        answered.into_iter().map(answer).collect()
    }

    async fn write_along(&self, events: Vec<Ready>, along: &Along) -> Vec<Result<Published, Refused>> {
        let count = events.len();
        // One answer at least: a change may have no events.
        self.write(events, Some(along)).await.unwrap_or_else(|error| refuse_all(error, count.max(1)))
    }

    /// Stores a batch in one transaction and hands over what is due.
    async fn write(
        &self,
        batch: Vec<Ready>,
        along: Option<&Along>,
    ) -> Result<Vec<Result<Published, Refused>>, store::Error> {
        let accounts: Vec<AccountId> = batch.iter().map(|ready| ready.event.account_id).collect();
        let plan = |subscribers: Vec<Subscriber>| self.plan(batch, &subscribers);
        let (stored, rest) = self.store.insert_events(accounts, along, plan).await?;
        let mut answers = Vec::with_capacity(stored.len());
        for ((publication, inserted), (in_hand, warnings)) in stored.into_iter().zip(rest) {
            let answer = match inserted {
                Inserted::Stored => {
                    // What found no place, or is due later, is for the claims to find.
                    if in_hand.len() < publication.deliveries.len() {
                        self.handover.wake();
                    }
                    in_hand.into_iter().for_each(|in_hand| self.handover.put(in_hand));
                    Ok(Published { event: as_stored(&publication), is_repeat: false, warnings })
                }
                Inserted::Repeat(first) => repeat(&publication.event, *first),
                Inserted::Clash => Err(Refused::Clash),
                Inserted::AccountGone => Err(Refused::AccountGone),
            };
            answers.push(answer);
        }
        Ok(answers)
    }

    /// What a batch stores, and what goes with each event once it is stored: the deliveries to
    /// hand over, and the warnings.
    fn plan(&self, batch: Vec<Ready>, subscribers: &[Subscriber]) -> (Vec<Publication>, Vec<Rest>) {
        let mut by_account: HashMap<AccountId, Vec<&Subscriber>> = HashMap::new();
        for subscriber in subscribers {
            by_account.entry(subscriber.account_id).or_default().push(subscriber);
        }
        let now = self.clock.now();
        let plan_one = |Ready { event, deliver_at, warnings }| {
            let of_account = by_account.get(&event.account_id).map(Vec::as_slice).unwrap_or_default();
            let (publication, in_hand) = self.publication(event, deliver_at, of_account, now);
            (publication, (in_hand, warnings))
        };
        batch.into_iter().map(plan_one).unzip()
    }

    /// One event with its deliveries, leased where they are due and there is a place in hand.
    fn publication(
        &self,
        mut event: Event,
        deliver_at: DateTime<Utc>,
        subscribers: &[&Subscriber],
        now: DateTime<Utc>,
    ) -> (Publication, Vec<InHand>) {
        let wanting: Vec<&Subscriber> = fan_out(&event, subscribers).collect();
        event.at_publish = dialect(event.vendor).at_publish(&wanting, deliver_at);
        let event = Arc::new(event);
        let mut deliveries = Vec::new();
        let mut handed_over = Vec::new();
        for (index, subscriber) in wanting.into_iter().enumerate() {
            let key = format!("{}/{}", event.id, subscriber.id);
            let id = DeliveryId::generate(event.created_at, index as u64, &mut self.chance.stream("delivery", key));
            let place = if deliver_at <= now { self.handover.try_place(subscriber.id) } else { None };
            let lease = place.is_some().then(|| self.handover.new_lease(now));
            if let (Some(place), Some((lease, lease_until))) = (place, lease) {
                let (event, subscriber_id, options) = (Arc::clone(&event), subscriber.id, subscriber.options.clone());
                let (due_at, attempt, schedule_start) = (deliver_at, 1, 0);
                let claimed =
                    Claimed { due_at, id, lease, lease_until, attempt, schedule_start, event, subscriber_id, options };
                handed_over.push(InHand { claimed, place });
            }
            let options = subscriber.options.clone();
            deliveries.push(NewDelivery { id, subscriber_id: subscriber.id, next_try: deliver_at, options, lease });
        }
        (Publication { event, deliveries }, handed_over)
    }
}

/// The same refusal for every event of a batch that was not stored.
fn refuse_all(error: store::Error, count: usize) -> Vec<Result<Published, Refused>> {
    let refused = match error {
        store::Error::WorldChanged => Refused::WorldChanged,
        store::Error::AccountGone => Refused::AccountGone,
        error => Refused::Database(Arc::new(error)),
    };
    (0..count).map(|_| Err(refused.clone())).collect()
}

/// The event as the API shows it, without reading it back.
fn as_stored(publication: &Publication) -> EventWithDeliveries {
    let event = Event::clone(&publication.event);
    let delivery = |new: &NewDelivery| Delivery {
        id: new.id,
        account_id: event.account_id,
        event_id: event.id,
        subscriber_id: new.subscriber_id,
        status: Status::Scheduled,
        next_try: new.next_try,
        retries: 0,
        created_at: event.created_at,
    };
    let deliveries = publication.deliveries.iter().map(delivery).collect();
    EventWithDeliveries { event, deliveries }
}

/// A known idempotency key: the first event, unless this one says something else.
fn repeat(again: &Event, first: EventWithDeliveries) -> Result<Published, Refused> {
    let is_same = first.event.vendor == again.vendor
        && first.event.event_type == again.event_type
        && first.event.content == again.content;
    if is_same {
        Ok(Published { event: first, is_repeat: true, warnings: Vec::new() })
    } else {
        Err(Refused::KeyReused(again.idempotency_key.clone().unwrap_or_default()))
    }
}
