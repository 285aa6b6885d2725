//! The fake scanner: runs scans over the worlds of accounts, and has what happens told as events.
//!
//! Invariant: a world changes only through [`Scanner::change`], which stores the change and the
//! events that tell of it in one transaction, and only if nobody else has changed that world
//! meanwhile. So a crash leaves nothing half told, and no timer is acted on twice.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::future::join_all;
use rand::Rng;
use serde_json::value::to_raw_value;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

pub mod change;
pub mod hand;
pub mod hold;
pub mod items;
pub mod life;
pub mod scenario;
pub mod schedules;
pub mod targets;
pub mod weaknesses;

use crate::clock::Clock;
use crate::config::{ScannerSettings, Validation};
use crate::event::Vendor;
use crate::id::{AccountId, ObjectId};
use crate::others::Told;
use crate::problem::FieldProblem;
use crate::publish::{NewEvent, Publisher, Refused};
use crate::random::Chance;
use crate::store::{self, Store, WorldChange};
use crate::vendors::dialect;
use crate::world::{Emitted, Fact, Kind, Object, Timer, World};

/// How often a change is tried that others keep getting ahead of.
const MOST_TRIES: usize = 50;
/// How many worlds are kept in memory.
const MOST_WORLDS: usize = 256;
/// How many timers are looked at in one go.
const TIMERS_AT_ONCE: u32 = 64;
/// The longest wait after the database has failed.
const TRIES_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Why something in a world was not done. The texts are for the user.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// There is no such thing.
    #[error("{0}")]
    NotFound(String),
    /// Fields of what was asked for are unusable.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Invalid(Vec<FieldProblem>),
    /// It does not fit the present state.
    #[error("{0}")]
    Conflict(String),
}

impl Refusal {
    /// One unusable field.
    pub fn field(pointer: &str, reason: impl Into<String>) -> Self {
        Self::Invalid(vec![FieldProblem::new(pointer, reason)])
    }
}

/// Why a change of a world was not made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// An event that tells of it cannot be published.
    #[error(transparent)]
    Event(#[from] Refused),
    #[error(transparent)]
    Store(#[from] store::Error),
}

/// Runs the worlds of all accounts.
#[derive(Debug)]
pub struct Scanner {
    store: Store,
    publisher: Publisher,
    clock: Clock,
    chance: Chance,
    settings: ScannerSettings,
    /// Worlds as they were last stored, each under a lock that a change holds.
    worlds: Mutex<HashMap<AccountId, Arc<tokio::sync::Mutex<World>>>>,
    /// A timer may have been set.
    wake: Notify,
    /// This process goes on with timers; otherwise another must be told of them.
    runs: AtomicBool,
}

/// What the rules of a world are given beside it.
#[derive(Debug, Clone, Copy)]
pub struct Rules<'s> {
    pub settings: &'s ScannerSettings,
    pub now: DateTime<Utc>,
}

impl Scanner {
    /// Makes the scanner. Nothing goes on by itself before [`run`](Self::run).
    pub fn new(store: Store, publisher: Publisher, clock: Clock, chance: Chance, settings: ScannerSettings) -> Self {
        let (worlds, wake, runs) = (Mutex::default(), Notify::new(), AtomicBool::new(false));
        Self { store, publisher, clock, chance, settings, worlds, wake, runs }
    }

    /// Changes an account's world. `act` may be called again if another process changes the world
    /// first, so it must do nothing but change what it is given.
    pub async fn change<T>(
        &self,
        account_id: AccountId,
        mut act: impl FnMut(&mut World, Rules<'_>) -> Result<T, Refusal> + Send,
    ) -> Result<T, Error> {
        let kept = self.kept_world(account_id);
        let mut kept = kept.lock().await;
        for _ in 0..MOST_TRIES {
            let now = self.refresh(account_id, &mut kept).await?;
            let mut world = kept.clone();
            let value = act(&mut world, self.rules(now))?;
            let Some((change, events)) = self.take_change(account_id, &mut world) else { return Ok(value) };
            let sets_timer = change.changes.timers.iter().any(|(_, timer)| timer.is_some());
            match self.publisher.publish_along(change.into(), events).await {
                Ok(()) => {
                    world.version += 1;
                    world.forget_finished();
                    *kept = world;
                    if sets_timer {
                        self.wake();
                    }
                    return Ok(value);
                }
                Err(Refused::WorldChanged) => (),
                Err(refused) => return Err(refused.into()),
            }
        }
        Err(store::Error::WorldChanged.into())
    }

    /// What has changed in a world, to be stored, and the events that tell of it; none if nothing has.
    pub fn take_change(
        &self,
        account_id: AccountId,
        world: &mut World,
    ) -> Option<(WorldChange, Vec<(AccountId, NewEvent)>)> {
        let changes = world.take_changes();
        let is_silent = changes.facts.is_empty() && changes.emitted.is_empty();
        if changes.objects.is_empty() && changes.timers.is_empty() && is_silent {
            return None;
        }
        let told = changes.facts.iter().flat_map(|fact| self.tell(fact, world));
        let events = told.chain(changes.emitted.iter().map(emitted)).map(|event| (account_id, event)).collect();
        Some((WorldChange { account_id, version: world.version, head: world.head.clone(), changes }, events))
    }

    /// What the rules of a world are given at the account's time `now`.
    pub fn rules(&self, now: DateTime<Utc>) -> Rules<'_> {
        Rules { settings: &self.settings, now }
    }

    /// An account's world as it is now.
    pub async fn world(&self, account_id: AccountId) -> Result<World, Error> {
        let kept = self.kept_world(account_id);
        let mut kept = kept.lock().await;
        self.refresh(account_id, &mut kept).await?;
        Ok(kept.clone())
    }

    fn kept_world(&self, account_id: AccountId) -> Arc<tokio::sync::Mutex<World>> {
        let mut worlds = self.worlds.lock().unwrap_or_else(PoisonError::into_inner);
        if worlds.len() >= MOST_WORLDS && !worlds.contains_key(&account_id) {
            // Those that nobody is at can be read again.
            worlds.retain(|_, world| Arc::strong_count(world) > 1);
        }
        Arc::clone(worlds.entry(account_id).or_default())
    }

    /// Reads a world again if it is not as it was kept: the account's time.
    async fn refresh(&self, account_id: AccountId, kept: &mut World) -> Result<DateTime<Utc>, Error> {
        let (version, own_clock) = self.store.world_version(account_id).await?;
        if version == 0 && kept.version == 0 {
            *kept = World::new(self.chance.stream("world", account_id).next_u64());
        } else if version != kept.version {
            *kept = self.store.world(account_id).await?.unwrap_or_default();
        }
        Ok(own_clock.unwrap_or_else(|| self.clock.now()))
    }

    /// A fact as events, in every dialect that tells of it.
    fn tell(&self, fact: &Fact, world: &World) -> Vec<NewEvent> {
        let vendors = fact.what.scan().map_or(&*self.settings.vendors, |scan| &scan.vendors);
        let of_vendor = |vendor: &Vendor| {
            let vendor = *vendor;
            dialect(vendor).tell(fact, world).into_iter().map(move |told| NewEvent {
                vendor,
                event_type: told.event_type.to_owned(),
                content: to_raw_value(&told.content).expect("a JSON value serialises"),
                occurred_at: Some(fact.at),
                object_type: None,
                deliver_at: None,
                idempotency_key: None,
                // What dialects tell fits its schema: tests hold it for every event type.
                validation: Some(Validation::Off),
            })
        };
        vendors.iter().flat_map(of_vendor).map(|event| late(fact, event)).collect()
    }

    /// Makes the schedules of the settings be there, in the default account.
    pub async fn sync_schedules(&self) -> Result<(), Error> {
        let wanted = &self.settings.schedule;
        self.change(AccountId::DEFAULT, |world, rules| schedules::sync(world, wanted, rules.now)).await
    }

    /// Goes on with everything that is due: how many timers that were.
    pub async fn run_once(&self) -> Result<usize, Error> {
        let mut count = 0;
        // One at a time: what goes on may set a timer that is due before the next.
        while let Some((account_id, timer)) = self.store.due_timers(self.clock.now(), 1).await?.pop() {
            self.go_on(account_id, &timer).await?;
            count += 1;
        }
        Ok(count)
    }

    /// Has [`run`](Self::run) look at once for what is due, in whatever process it runs.
    pub fn wake(&self) {
        self.wake_here();
        if !self.runs.load(Ordering::Relaxed) {
            self.store.others().tell(Told::Timers);
        }
    }

    /// As [`wake`](Self::wake), when another process has said it.
    pub fn wake_here(&self) {
        self.wake.notify_one();
    }

    /// When something is due next.
    pub async fn next_due(&self) -> Result<Option<DateTime<Utc>>, Error> {
        Ok(self.store.next_timer().await?)
    }

    /// Goes on with whatever falls due, until `stop`.
    pub async fn run(&self, stop: &CancellationToken) {
        self.runs.store(true, Ordering::Relaxed);
        while !stop.is_cancelled() {
            let at = match self.go_on_with_all().await {
                Ok(next) => next,
                Err(failure) => {
                    error!("the scanner cannot go on: {failure}");
                    Some(self.clock.now() + TRIES_AGAIN_AFTER)
                }
            };
            let poll = self.clock.now() + self.settings.poll_every;
            let at = at.map_or(poll, |at| at.min(poll));
            tokio::select! {
                () = stop.cancelled() => (),
                () = self.wake.notified() => (),
                () = self.clock.sleep_until(at) => (),
            }
        }
    }

    /// Goes on with what is due, accounts side by side: when to look again.
    async fn go_on_with_all(&self) -> Result<Option<DateTime<Utc>>, Error> {
        let due = self.store.due_timers(self.clock.now(), TIMERS_AT_ONCE).await?;
        if due.is_empty() {
            return self.next_due().await;
        }
        let going = due.iter().map(|(account_id, timer)| async move {
            if let Err(failure) = self.go_on(*account_id, timer).await {
                error!("the scanner cannot go on with {}: {failure}", timer.subject);
                return false;
            }
            true
        });
        let went_on = join_all(going).await;
        // If nothing could go on there is no use in trying again at once.
        Ok(went_on.contains(&true).then(|| self.clock.now()))
    }

    /// Goes on with one timer, unless somebody else has.
    pub async fn go_on(&self, account_id: AccountId, timer: &Timer) -> Result<(), Error> {
        let went_on = self
            .change(account_id, |world, rules| {
                if world.timer(timer.subject) != Some(timer) {
                    return Ok(());
                }
                match timer.kind {
                    Kind::Scan => life::step(world, timer.subject, timer.due_at),
                    Kind::Schedule => schedules::tick(world, rules, timer.subject, timer.due_at),
                    Kind::Run => scenario::run::step(world, rules, timer.subject, timer.due_at),
                    _ => world.set_timer(timer.subject, timer.kind, None),
                }
                Ok(())
            })
            .await;
        match went_on {
            // The event that a step emits was refused; the story cannot go on.
            Err(Error::Event(refused)) if is_final(&refused) && timer.kind == Kind::Run => {
                warn!("run {} failed: {refused}", timer.subject);
                let reason = refused.to_string();
                let fail = |world: &mut World, _: Rules<'_>| {
                    scenario::run::fail(world, timer.subject, timer.due_at, &reason);
                    Ok(())
                };
                self.change(account_id, fail).await
            }
            // Its timers went with it.
            Err(Error::Event(Refused::AccountGone)) => Ok(()),
            went_on => went_on,
        }
    }
}

/// Whether an event would be refused again.
fn is_final(refused: &Refused) -> bool {
    matches!(refused, Refused::UnknownEventType { .. } | Refused::Invalid(_) | Refused::Violation { .. })
}

/// An event that a story emits as it is.
fn emitted(event: &Emitted) -> NewEvent {
    NewEvent {
        vendor: event.vendor,
        event_type: event.event_type.clone(),
        content: to_raw_value(&event.content).expect("a JSON value serialises"),
        occurred_at: Some(event.occurred_at),
        object_type: None,
        deliver_at: event.deliver_at,
        idempotency_key: None,
        validation: (!event.is_checked).then_some(Validation::Off),
    }
}

/// Holds back an event whose scan says that events of its type come late.
fn late(fact: &Fact, mut event: NewEvent) -> NewEvent {
    let delay = fact.what.scan().and_then(|scan| scan.plan.late.get(&event.event_type));
    event.deliver_at = delay.map(|delay| fact.at + delay.0);
    event
}

/// An object that has been removed or has ended, so that only the store still has it.
pub fn missing(what: &str, id: ObjectId) -> Refusal {
    Refusal::NotFound(format!("there is no {what} {id} in this account"))
}

/// An object of a world by its id and kind.
pub fn find<'w>(world: &'w World, what: &str, kind: Kind, id: ObjectId) -> Result<&'w Object, Refusal> {
    world.object(id).filter(|object| object.kind() == kind).ok_or_else(|| missing(what, id))
}
