//! Waiting for an account: until it has settled, or until an expectation holds.
//!
//! Whoever waits is woken by what is committed, and looks again every second all the same, since
//! what another process on the same database commits may wake nobody here. `within` is by the
//! service's clock.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};

mod assertion;
mod settle;

pub use assertion::{Assertion, Matches};
pub use settle::Unsettled;

use crate::activity::{LOOK_AGAIN_AFTER, Watching};
use crate::clock::Clock;
use crate::id::AccountId;
use crate::sender::Sender;
use crate::store::Store;

/// The shortest time between two looks, however much is committed.
const SHORTEST_PAUSE: Duration = Duration::from_millis(20);

/// Waits for what happens in accounts.
#[derive(Debug, Clone)]
pub struct Watcher {
    store: Store,
    clock: Clock,
    sender: Arc<Sender>,
    lease: Duration,
}

/// When to look again, and when for the last time.
struct Pace {
    watching: Watching,
    clock: Clock,
    deadline: DateTime<Utc>,
    /// The look that comes is the last.
    is_last: bool,
}

impl Watcher {
    /// `lease` is the setting `dispatch.lease`; what a consumer says is asked through `sender`.
    pub fn new(store: &Store, clock: &Clock, sender: &Arc<Sender>, lease: Duration) -> Self {
        Self { store: store.clone(), clock: clock.clone(), sender: Arc::clone(sender), lease }
    }

    /// From now on, for this long. A first look comes at once.
    fn pace(&self, account_id: AccountId, within: Duration) -> Pace {
        let watching = self.store.watch(account_id);
        let deadline = self.clock.now() + within;
        Pace { watching, clock: self.clock.clone(), deadline, is_last: within.is_zero() }
    }
}

impl Pace {
    /// Waits until there is a reason to look again: something was committed, this much time has
    /// passed, or the time is over, for one last look. Answers false if that one has been taken.
    async fn look_again(&mut self, after: Duration) -> bool {
        if self.is_last {
            return false;
        }
        let Self { watching, clock, deadline, is_last } = self;
        let reason = async {
            tokio::time::sleep(SHORTEST_PAUSE).await;
            tokio::select! {
                () = watching.stirred() => (),
                () = tokio::time::sleep(after) => (),
            }
        };
        tokio::select! {
            () = clock.sleep_until(*deadline) => *is_last = true,
            () = reason => (),
        }
        true
    }

    /// As [`look_again`](Self::look_again), for who waits for nothing but commits.
    async fn look_again_when_stirred(&mut self) -> bool {
        self.look_again(LOOK_AGAIN_AFTER).await
    }

    /// How much time is left.
    fn left(&self) -> Duration {
        (self.deadline - self.clock.now()).to_std().unwrap_or_default()
    }
}
