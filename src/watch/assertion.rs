//! Waiting until an expectation holds, or until it is certain that it does not.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::Watcher;
use crate::event::Event;
use crate::expectation::{
    Condition, Criteria, Expected, NearMisses, Of, Ruling, Seen, SeenDelivery, SeenEvent, Wanting,
};
use crate::id::{AccountId, DeliveryId, EventId};
use crate::store::{Error, Store};
use crate::subscriber::Options;
use crate::vendors::dialect;

/// The most events that are looked at: the newest.
const MOST_EVENTS: u32 = 10_000;
/// How many events are read at once with their contents, which may be large.
const CONTENTS_AT_ONCE: usize = 64;
/// How many events' deliveries are read at once.
const STANDINGS_AT_ONCE: usize = 512;
/// The most subscribers that are looked at for why they got nothing.
const MOST_SUBSCRIBERS: u32 = 250;

/// What is expected, and for how long that is waited for.
#[derive(Debug)]
pub struct Assertion {
    pub criteria: Criteria,
    pub expected: Expected,
    pub within: Duration,
}

/// What matched and is as expected, newest first.
#[derive(Debug)]
pub enum Matches {
    Events(Vec<SeenEvent>),
    Deliveries(Vec<SeenDelivery>),
}

impl Watcher {
    /// Waits until an expectation holds, or until the time is over or it cannot hold any more.
    pub async fn assert(
        &self,
        account_id: AccountId,
        assertion: &Assertion,
    ) -> Result<Result<Matches, NearMisses>, Error> {
        let Assertion { criteria, expected, within } = assertion;
        let mut pace = self.pace(account_id, *within);
        let mut looker = Looker::new(&self.store, account_id, criteria);
        loop {
            let seen = looker.look().await?;
            let holds = match expected.rule(seen.count(criteria, expected)) {
                Ruling::Holds => true,
                Ruling::Fails => false,
                Ruling::Open { .. } if pace.look_again_when_stirred().await => continue,
                Ruling::Open { holds_at_the_end } => holds_at_the_end,
            };
            if holds {
                return Ok(Ok(matches(seen, criteria, expected)));
            }
            let subscribers = self.store.subscribers(account_id, None, MOST_SUBSCRIBERS).await?;
            let subscribers: Vec<Wanting> = subscribers.into_iter().map(Wanting::from).collect();
            return Ok(Err(NearMisses::new(criteria, expected, &seen, &subscribers)));
        }
    }
}

fn matches(seen: Seen, criteria: &Criteria, expected: &Expected) -> Matches {
    match criteria.of {
        Of::Events => Matches::Events(seen.events.into_iter().filter(|event| criteria.fits_event(event)).collect()),
        Of::Deliveries => {
            let fits = |delivery: &SeenDelivery| criteria.fits_delivery(delivery) && expected.is_met_by(delivery);
            Matches::Deliveries(seen.deliveries.into_iter().filter(fits).collect())
        }
    }
}

/// Looks at an account again and again. Contents and bodies never change, so each is read once.
struct Looker<'l> {
    store: &'l Store,
    account_id: AccountId,
    criteria: &'l Criteria,
    content: Arc<[Condition]>,
    body: Arc<[Condition]>,
    /// What each content and each body lacks, of those that have been read.
    contents: HashMap<EventId, Vec<String>>,
    bodies: HashMap<DeliveryId, Vec<String>>,
}

impl<'l> Looker<'l> {
    fn new(store: &'l Store, account_id: AccountId, criteria: &'l Criteria) -> Self {
        let (content, body) = (criteria.content.clone().into(), criteria.body.clone().into());
        Self { store, account_id, criteria, content, body, contents: HashMap::new(), bodies: HashMap::new() }
    }

    async fn look(&mut self) -> Result<Seen, Error> {
        let criteria = self.criteria;
        let mut events = self.store.newest_events(self.account_id, criteria.event_id, MOST_EVENTS + 1).await?;
        let is_cut = events.len() > MOST_EVENTS as usize;
        events.truncate(MOST_EVENTS as usize);
        // What is older than `since` is not there, as far as anybody is told.
        events.retain(|event| criteria.since.is_none_or(|since| event.created_at >= since));
        let is_cut = is_cut && events.len() == MOST_EVENTS as usize;
        self.read_contents(&mut events).await?;
        let deliveries = match criteria.of {
            Of::Events => Vec::new(),
            Of::Deliveries => self.deliveries(&events).await?,
        };
        Ok(Seen { events, deliveries, is_cut })
    }

    /// Notes what the contents of these events lack.
    async fn read_contents(&mut self, events: &mut [SeenEvent]) -> Result<(), Error> {
        if self.content.is_empty() {
            return Ok(());
        }
        let fitting = events.iter().filter(|event| self.criteria.fits_head(event)).map(|event| event.id);
        let unread: Vec<EventId> = fitting.filter(|id| !self.contents.contains_key(id)).collect();
        for ids in unread.chunks(CONTENTS_AT_ONCE) {
            let events = self.store.events_by_id(self.account_id, ids).await?;
            let texts = events.into_iter().map(|event| (event.id, event.content)).collect();
            self.contents.extend(misses(&self.content, texts).await);
        }
        for event in events {
            event.misses = self.contents.get(&event.id).cloned().unwrap_or_default();
        }
        Ok(())
    }

    /// The deliveries of those of these events that match.
    async fn deliveries(&mut self, events: &[SeenEvent]) -> Result<Vec<SeenDelivery>, Error> {
        let matching: Vec<EventId> =
            events.iter().filter(|event| self.criteria.fits_event(event)).map(|event| event.id).collect();
        let mut deliveries = Vec::new();
        for ids in matching.chunks(STANDINGS_AT_ONCE) {
            let standings = self.store.standings(ids).await?;
            if !self.body.is_empty() {
                self.read_bodies(&standings).await?;
            }
            deliveries.extend(standings.into_iter().map(|(mut delivery, _)| {
                delivery.misses = self.bodies.get(&delivery.id).cloned().unwrap_or_default();
                delivery
            }));
        }
        Ok(deliveries)
    }

    /// Notes what the bodies of these deliveries lack.
    async fn read_bodies(&mut self, standings: &[(SeenDelivery, Options)]) -> Result<(), Error> {
        let is_unread = |delivery: &SeenDelivery| {
            self.criteria.fits_subscriber(delivery) && !self.bodies.contains_key(&delivery.id)
        };
        let unread: Vec<&(SeenDelivery, Options)> =
            standings.iter().filter(|(delivery, _)| is_unread(delivery)).collect();
        for some in unread.chunks(CONTENTS_AT_ONCE) {
            let ids: Vec<EventId> = some.iter().map(|(delivery, _)| delivery.event_id).collect();
            let events = self.store.events_by_id(self.account_id, &ids).await?;
            let events: HashMap<EventId, Event> = events.into_iter().map(|event| (event.id, event)).collect();
            let body = |(delivery, options): &&(SeenDelivery, Options)| {
                let event = events.get(&delivery.event_id)?;
                Some((delivery.id, dialect(event.vendor).body(event, options)))
            };
            let texts = some.iter().filter_map(body).collect();
            self.bodies.extend(misses(&self.body, texts).await);
        }
        Ok(())
    }
}

/// What each of these JSON texts lacks. A costly path must not hold up the other requests.
async fn misses<K: Send + 'static>(conditions: &Arc<[Condition]>, texts: Vec<(K, String)>) -> Vec<(K, Vec<String>)> {
    let conditions = Arc::clone(conditions);
    let look = move |(key, text): (K, String)| {
        let value = serde_json::from_str::<Value>(&text).ok();
        (key, conditions.iter().filter_map(|condition| condition.miss(value.as_ref())).collect())
    };
    let looked = tokio::task::spawn_blocking(move || texts.into_iter().map(look).collect()).await;
    looked.expect("looking does not panic, and is not cancelled while somebody waits for it")
}
