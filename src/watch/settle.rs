//! Waiting until an account has settled: nothing of it is in flight or due, and its consumer is idle.

use std::time::Duration;

use chrono::{DateTime, Utc};
use url::Url;

use super::Watcher;
use crate::id::AccountId;
use crate::store::{Error, Owed, Present, Scheduled};

/// The most deliveries, and the most timers, that are named as being in the way.
const MOST_NAMED: u32 = 100;
/// How long to wait before a consumer that was not idle is asked again.
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(50);
/// How long a consumer may take to say whether it is idle: at least and at most.
const ANSWERS_WITHIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(5));

/// What is in the way of having settled.
#[derive(Debug, Default)]
pub struct Unsettled {
    /// In flight or due, up to a hundred of each.
    pub owed: Owed,
    /// What the consumer said instead of being idle, once nothing was owed.
    pub consumer: Option<String>,
}

impl Watcher {
    /// Waits until an account has settled: what it has scheduled for later, or what is in the way.
    ///
    /// With an `idle_url` that is a consumer's: once nothing is owed it is asked by GET until it
    /// answers 2xx and still nothing is owed. `fire` comes before each look: it fires what is due by
    /// the account's own clock, if it has one, and says where that stands.
    pub async fn settle<E, Firing>(
        &self,
        account_id: AccountId,
        within: Duration,
        idle_url: Option<&Url>,
        fire: impl Fn() -> Firing + Send + Sync,
    ) -> Result<Result<Scheduled, Unsettled>, E>
    where
        E: From<Error> + Send,
        Firing: Future<Output = Result<Option<DateTime<Utc>>, E>> + Send,
    {
        let mut pace = self.pace(account_id, within);
        loop {
            let own_clock = fire().await?;
            let owed = self.owed(account_id, self.present(own_clock)).await?;
            let mut unsettled = Unsettled { owed, consumer: None };
            if unsettled.owed.is_nothing() {
                unsettled.consumer = match idle_url {
                    Some(url) => self.busy(url, pace.left()).await,
                    None => None,
                };
                // What the consumer did before it was idle may have led to more.
                if unsettled.consumer.is_none() && idle_url.is_some() {
                    unsettled.owed = self.owed(account_id, self.present(own_clock)).await?;
                }
            }
            if unsettled.owed.is_nothing() && unsettled.consumer.is_none() {
                return Ok(Ok(self.store.scheduled(account_id, self.present(own_clock)).await?));
            }
            let goes_on = match unsettled.consumer {
                Some(_) => pace.look_again(ASK_AGAIN_AFTER).await,
                None => pace.look_again_when_stirred().await,
            };
            if !goes_on {
                return Ok(Err(unsettled));
            }
        }
    }

    /// What of an account is in flight or due: if nothing is, it has settled.
    async fn owed(&self, account_id: AccountId, present: Present) -> Result<Owed, Error> {
        self.store.owed(account_id, present, MOST_NAMED).await
    }

    fn present(&self, own_clock: Option<DateTime<Utc>>) -> Present {
        let now = self.clock.now();
        // Twice the lease: it may be renewed between the look at the clock and that at the table.
        own_clock.map_or(Present::Machine { now, leased_until: now + self.lease * 2 }, Present::Own)
    }

    /// What a consumer says instead of being idle; none if it is.
    async fn busy(&self, url: &Url, left: Duration) -> Option<String> {
        match self.sender.get(url, left.clamp(ANSWERS_WITHIN.0, ANSWERS_WITHIN.1)).await {
            Ok(response) if (200..300).contains(&response.status) => None,
            Ok(response) => Some(format!("{url} answered {}", response.status)),
            Err(failure) => Some(format!("{url} did not answer ({}: {})", failure.error, failure.detail)),
        }
    }
}
