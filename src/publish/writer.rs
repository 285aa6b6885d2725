//! The task behind the publisher: fans out, stores, and hands over what is due.

use std::collections::HashMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::{Group, Published, Ready, Refused};
use crate::clock::Clock;
use crate::delivery::{Claimed, Delivery, Status};
use crate::event::Event;
use crate::handover::{AsOf, Handover, InHand};
use crate::id::{AccountId, DeliveryId};
use crate::problem::FieldProblem;
use crate::random::Chance;
use crate::store::{self, Along, EventWithDeliveries, Inserted, NewDelivery, Publication, Store, Tenants};
use crate::subscriber::Subscriber;
use crate::vendors::dialect;

/// Makes the deliveries an event owes: one for each subscriber that wants it.
fn fan_out<'s>(event: &Event, subscribers: &[&'s Arc<Subscriber>]) -> impl Iterator<Item = &'s Arc<Subscriber>> {
    let options_allow = |subscriber: &Subscriber| dialect(event.vendor).wants(event, &subscriber.options);
    subscribers.iter().copied().filter(move |subscriber| subscriber.wants(event) && options_allow(subscriber))
}

/// What goes with an event once it is stored: its deliveries that are handed over, and warnings.
type Rest = (Vec<InHand>, Vec<FieldProblem>);

/// What the task works with.
pub(super) struct Writer {
    pub(super) store: Store,
    pub(super) handover: Arc<Handover>,
    pub(super) clock: Clock,
    pub(super) chance: Chance,
}

impl Writer {
    /// Stores groups, together but for those with something along: these stand or fall alone.
    pub(super) async fn write_groups(&self, groups: Vec<Group>) -> Vec<Vec<Result<Published, Refused>>> {
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
        let plan = |tenants: Tenants| self.plan(&batch, &tenants);
        let (stored, rest) = self.store.insert_events(accounts, along, plan).await?;
        let mut answers = Vec::with_capacity(stored.len());
        for ((publication, inserted), (in_hand, warnings)) in stored.into_iter().zip(rest) {
            let answer = match inserted {
                Inserted::Stored => {
                    // What found no place, or is due later, is for the claims to find.
                    if publication.deliveries.iter().any(|new| new.lease.is_none() && !new.is_manual) {
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
    fn plan(&self, batch: &[Ready], tenants: &Tenants) -> (Vec<Publication>, Vec<Rest>) {
        let mut by_account: HashMap<AccountId, Vec<&Arc<Subscriber>>> = HashMap::new();
        for subscriber in &tenants.subscribers {
            by_account.entry(subscriber.account_id).or_default().push(subscriber);
        }
        let as_of = AsOf { at: self.clock.now(), changes: tenants.changes };
        let plan_one = |ready: &Ready| {
            let mut ready = ready.clone();
            let own_clock = tenants.clocks.get(&ready.event.account_id);
            if let Some(own_now) = own_clock {
                ready.stamp(*own_now, &self.chance);
            }
            let deliver_at = ready.due_at();
            let Ready { event, warnings, .. } = ready;
            let of_account = by_account.get(&event.account_id).map(Vec::as_slice).unwrap_or_default();
            // By a clock of its own nothing is due before that is moved.
            let as_of = own_clock.is_none().then_some(as_of);
            let (publication, in_hand) = self.publication(event, deliver_at, of_account, as_of);
            (publication, (in_hand, warnings))
        };
        batch.iter().map(plan_one).unzip()
    }

    /// One event with its deliveries, leased where they are due and there is a place in hand; without
    /// `as_of`, which says when the subscribers were so, none is.
    fn publication(
        &self,
        mut event: Event,
        deliver_at: DateTime<Utc>,
        subscribers: &[&Arc<Subscriber>],
        as_of: Option<AsOf>,
    ) -> (Publication, Vec<InHand>) {
        let wanting: Vec<&Arc<Subscriber>> = fan_out(&event, subscribers).collect();
        event.at_publish = dialect(event.vendor).at_publish(&wanting, deliver_at);
        let event = Arc::new(event);
        let mut deliveries = Vec::new();
        let mut handed_over = Vec::new();
        for (index, subscriber) in wanting.into_iter().enumerate() {
            let key = format!("{}/{}", event.id, subscriber.id);
            let id = DeliveryId::generate(event.created_at, index as u64, &mut self.chance.stream("delivery", key));
            let due_now = as_of.filter(|as_of| deliver_at <= as_of.at);
            let leased = due_now.and_then(|as_of| {
                Some((self.handover.try_place(subscriber.id)?, self.handover.new_lease(as_of.at), as_of))
            });
            let lease = leased.as_ref().map(|(_, lease, _)| *lease);
            if let Some((place, (lease, lease_until), as_of)) = leased {
                let claimed = Claimed {
                    due_at: deliver_at,
                    id,
                    lease,
                    lease_until,
                    at: None,
                    attempt: 1,
                    schedule_start: 0,
                    event: Arc::clone(&event),
                    subscriber_id: subscriber.id,
                    options: subscriber.options.clone(),
                };
                handed_over.push(InHand { claimed, place, known: Some((Arc::clone(subscriber), as_of)), made: None });
            }
            let (subscriber_id, options, is_manual) = (subscriber.id, subscriber.options.clone(), as_of.is_none());
            deliveries.push(NewDelivery { id, subscriber_id, next_try: deliver_at, options, lease, is_manual });
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
