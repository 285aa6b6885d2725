//! The clocks of accounts: giving an account one of its own, and moving that by hand.
//!
//! A moved clock stops at every due time on the way: a timer's step is taken, a delivery is
//! attempted and its answer awaited, and what follows from that may be due next. While an answer is
//! awaited the account's time stands still, so that each time is exact. Deliveries that are due at
//! the same time go to their subscribers side by side, to each in the order they were made.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::future::join_all;
use tokio::sync::OwnedMutexGuard;

use crate::clock::{Clock, LAST};
use crate::delivery::Claimed;
use crate::handover::{AttemptMade, Handover};
use crate::id::{AccountId, SubscriberId};
use crate::scanner::{self, Scanner};
use crate::store::{self, Ahead, Store};
use crate::world::Timer;

/// The most that one move of a clock fires.
const MOST_FIRED: usize = 10_000;
/// How long one move may take by the machine's clock; an attempt that is under way then is awaited.
const LONGEST_MOVE: Duration = Duration::from_secs(60);
/// How soon to look again for what somebody else holds a lease on.
const HELD_ELSEWHERE: Duration = Duration::from_millis(20);

/// Why a clock was not moved.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the account goes by the machine's clock")]
    NoClock,
    #[error("{to} is before the account's time, {now}")]
    Back { now: DateTime<Utc>, to: DateTime<Utc> },
    #[error("shutting down")]
    Stopped,
    #[error(transparent)]
    Scanner(#[from] scanner::Error),
    #[error(transparent)]
    Store(#[from] store::Error),
}

/// How far a clock is moved.
#[derive(Debug, Clone, Copy)]
pub enum Until {
    At(DateTime<Utc>),
    For(Duration),
    /// Until nothing is ahead any more, but no further than this.
    Idle(Duration),
}

/// Why a moved clock has stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum StoppedAt {
    /// It is where it was to go.
    Reached,
    /// Nothing is ahead any more.
    Idle,
    /// It took too long; move it again to go on.
    TimeLimit,
    /// Too much has fired; move it again to go on.
    FiredLimit,
}

/// Something that fired on the way.
#[derive(Debug)]
pub struct Fired {
    /// The account's time.
    pub at: DateTime<Utc>,
    pub what: What,
}

/// What fired.
#[derive(Debug)]
pub enum What {
    Timer(Timer),
    Attempt(Box<Claimed>, AttemptMade),
}

/// What came of moving a clock.
#[derive(Debug)]
pub struct Moved {
    pub from: DateTime<Utc>,
    pub now: DateTime<Utc>,
    /// In the order in which it fired.
    pub fired: Vec<Fired>,
    pub stopped: StoppedAt,
    pub ahead: Ahead,
}

/// Sets and moves the clocks of accounts.
#[derive(Debug)]
pub struct Clocks {
    store: Store,
    handover: Arc<Handover>,
    scanner: Arc<Scanner>,
    /// The machine's.
    clock: Clock,
    /// Held while an account's clock is moved: one move at a time.
    moving: Mutex<HashMap<AccountId, Arc<tokio::sync::Mutex<()>>>>,
}

impl Clocks {
    /// Makes it; `clock` is the machine's.
    pub fn new(store: Store, handover: Arc<Handover>, scanner: Arc<Scanner>, clock: Clock) -> Self {
        Self { store, handover, scanner, clock, moving: Mutex::default() }
    }

    /// What time it is in an account.
    pub async fn now(&self, account_id: AccountId) -> Result<DateTime<Utc>, store::Error> {
        Ok(self.store.account_clock(account_id).await?.unwrap_or_else(|| self.clock.now()))
    }

    /// Gives an account a clock of its own that stands at `now`, or with none the machine's.
    /// Nothing fires; what is owed keeps its times.
    pub async fn set(&self, account_id: AccountId, now: Option<DateTime<Utc>>) -> Result<(), store::Error> {
        let _held = self.hold(account_id).await;
        self.store.set_account_clock(account_id, now).await?;
        // By the machine's clock much may be due.
        self.handover.wake();
        self.scanner.wake();
        Ok(())
    }

    /// Moves an account's own clock forward, and fires what is due on the way. What fails midway
    /// leaves the clock where it has got to.
    pub async fn advance(&self, account_id: AccountId, until: Until) -> Result<Moved, Error> {
        let _held = self.hold(account_id).await;
        let from = self.store.account_clock(account_id).await?.ok_or(Error::NoClock)?;
        let to = match until {
            Until::At(to) if to < from => return Err(Error::Back { now: from, to }),
            Until::At(to) => to,
            Until::For(by) | Until::Idle(by) => from.checked_add_signed(signed(by)).map_or(LAST, |to| to.min(LAST)),
        };
        let stopwatch = self.clock.stopwatch();
        let (mut now, mut fired) = (from, Vec::new());
        let stopped = loop {
            let ahead = self.store.ahead(account_id).await?;
            let Some(first) = ahead.first().filter(|first| *first <= to) else {
                break if ahead.first().is_none() { StoppedAt::Idle } else { StoppedAt::Reached };
            };
            if fired.len() >= MOST_FIRED {
                break StoppedAt::FiredLimit;
            }
            if stopwatch.elapsed() >= LONGEST_MOVE {
                break StoppedAt::TimeLimit;
            }
            if first > now {
                now = first;
                self.store.move_account_clock(account_id, now).await?;
            }
            // What a timer makes due goes before what is due later.
            if ahead.timer.is_some_and(|timer| timer <= now) {
                fired.extend(self.fire_timer(account_id, now).await?);
            } else {
                fired.extend(self.fire_deliveries(account_id, now).await?);
            }
        };
        let goes_on = match (stopped, until) {
            (StoppedAt::Reached, _) => true,
            (StoppedAt::Idle, Until::At(_) | Until::For(_)) => true,
            (StoppedAt::Idle | StoppedAt::TimeLimit | StoppedAt::FiredLimit, _) => false,
        };
        if goes_on && to > now {
            now = to;
            self.store.move_account_clock(account_id, now).await?;
        }
        let stopped = if goes_on { StoppedAt::Reached } else { stopped };
        Ok(Moved { from, now, fired, stopped, ahead: self.store.ahead(account_id).await? })
    }

    /// Takes one step of the account's world.
    async fn fire_timer(&self, account_id: AccountId, now: DateTime<Utc>) -> Result<Option<Fired>, Error> {
        let Some(timer) = self.store.due_timer_of(account_id, now).await? else { return Ok(None) };
        self.scanner.go_on(account_id, &timer).await?;
        Ok(Some(Fired { at: now, what: What::Timer(timer) }))
    }

    /// Attempts what is due, and awaits the answers.
    async fn fire_deliveries(&self, account_id: AccountId, now: DateTime<Utc>) -> Result<Vec<Fired>, Error> {
        let machine_now = self.clock.now();
        let lease = self.handover.new_lease(machine_now);
        let claimed = self.store.claim_by_own_clock(account_id, now, machine_now, lease).await?;
        let mut by_subscriber: BTreeMap<SubscriberId, Vec<Claimed>> = BTreeMap::new();
        for claimed in claimed {
            by_subscriber.entry(claimed.subscriber_id).or_default().push(claimed);
        }
        let mut fired: Vec<(Claimed, AttemptMade)> =
            join_all(by_subscriber.into_values().map(|owed| self.fire_in_turn(owed))).await.concat();
        if fired.is_empty() {
            if self.handover.is_closed() {
                return Err(Error::Stopped);
            }
            self.clock.sleep_until(machine_now + HELD_ELSEWHERE).await;
        }
        fired.sort_by_key(|(claimed, _)| (claimed.due_at, claimed.event.id, claimed.id));
        let fired =
            fired.into_iter().map(|(claimed, made)| Fired { at: now, what: What::Attempt(Box::new(claimed), made) });
        Ok(fired.collect())
    }

    /// Attempts what is owed to one subscriber, one after another.
    async fn fire_in_turn(&self, owed: Vec<Claimed>) -> Vec<(Claimed, AttemptMade)> {
        let mut made = Vec::with_capacity(owed.len());
        for claimed in owed {
            // Nothing is told where no attempt was made: its subscriber is disabled by now.
            if let Ok(attempt) = self.handover.put_one(claimed.clone()).await {
                made.push((claimed, attempt));
            }
        }
        made
    }

    async fn hold(&self, account_id: AccountId) -> OwnedMutexGuard<()> {
        let account = {
            let mut moving = self.moving.lock().unwrap_or_else(PoisonError::into_inner);
            moving.retain(|_, account| Arc::strong_count(account) > 1);
            Arc::clone(moving.entry(account_id).or_default())
        };
        account.lock_owned().await
    }
}

fn signed(by: Duration) -> chrono::TimeDelta {
    chrono::TimeDelta::from_std(by).unwrap_or(chrono::TimeDelta::MAX)
}
