//! What this process has to tell the others on the same database, gathered until it is said.
//!
//! It only wakes: whoever misses it finds out by looking. So much may happen between two times that
//! something is said, and nothing is kept where nobody listens.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::id::AccountId;

/// The most accounts that are named at once: what Postgres carries ends at 8,000 bytes.
const MOST_NAMED: usize = 100;

/// Something that the others may want to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// This process is there and can be heard.
    Hello,
    /// Deliveries are or will be due that nobody has in hand.
    Deliveries,
    /// Timers were set that this process does not look after.
    Timers,
    /// Somebody here waits for something to be committed.
    Waiting,
    /// Something may have been committed before this process knew that somebody waits.
    StirredAll,
    /// Something of this account was committed. Told only while somebody in another process waits.
    Stirred(AccountId),
    /// The account was deleted, reset or restored: leases from before do not hold.
    Voided(AccountId),
}

/// What is said at once.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct News {
    /// The number of the process that says it.
    pub from: i64,
    #[serde(skip_serializing_if = "is_false")]
    pub deliveries: bool,
    #[serde(skip_serializing_if = "is_false")]
    pub timers: bool,
    #[serde(skip_serializing_if = "is_false")]
    pub waiting: bool,
    #[serde(skip_serializing_if = "is_false")]
    pub stirred_all: bool,
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub stirred: BTreeSet<AccountId>,
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub voided: BTreeSet<AccountId>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_false(is: &bool) -> bool {
    !*is
}

/// Gathers what the others are told.
#[derive(Debug, Default)]
pub struct Others {
    /// Something carries it to them.
    are_reached: AtomicBool,
    /// Somebody in another process waits for commits.
    wait: AtomicBool,
    gathered: Mutex<Option<News>>,
    /// Something was gathered.
    more: Notify,
}

impl Others {
    /// Gathers from now on: somebody will [`take`](Self::take) it.
    pub fn reach(&self) {
        self.are_reached.store(true, Ordering::Relaxed);
    }

    /// Says that somebody in another process waits for commits.
    pub fn begin_to_wait(&self) {
        if !self.wait.swap(true, Ordering::Relaxed) {
            self.tell(Told::StirredAll);
        }
    }

    /// Says that nobody in another process waits for commits any more.
    pub fn end_waiting(&self) {
        self.wait.store(false, Ordering::Relaxed);
    }

    /// Gathers something to tell. Costs next to nothing where nobody wants to know.
    pub fn tell(&self, what: Told) {
        let is_wanted = match what {
            Told::Stirred(_) => &self.wait,
            _ => &self.are_reached,
        };
        if !is_wanted.load(Ordering::Relaxed) {
            return;
        }
        let mut gathered = self.lock();
        let news = gathered.get_or_insert_default();
        match what {
            Told::Hello => (),
            Told::Deliveries => news.deliveries = true,
            Told::Timers => news.timers = true,
            Told::Waiting => news.waiting = true,
            Told::StirredAll => news.stirred_all = true,
            Told::Stirred(account_id) => {
                news.stirred.insert(account_id);
            }
            Told::Voided(account_id) => {
                news.voided.insert(account_id);
            }
        }
        drop(gathered);
        self.more.notify_one();
    }

    /// Waits until there is something to say.
    pub async fn told(&self) {
        self.more.notified().await;
    }

    /// Takes what is said at once; none if there is nothing. More may be left.
    pub fn take(&self) -> Option<News> {
        let mut gathered = self.lock();
        let mut news = gathered.take()?;
        let left = News {
            stirred: beyond_the_most(&mut news.stirred),
            voided: beyond_the_most(&mut news.voided),
            ..News::default()
        };
        if left != News::default() {
            *gathered = Some(left);
        }
        Some(news)
    }

    fn lock(&self) -> MutexGuard<'_, Option<News>> {
        // What is gathered is whole after every statement, so a panic elsewhere cannot spoil it.
        self.gathered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes away what is more than can be named at once.
fn beyond_the_most(accounts: &mut BTreeSet<AccountId>) -> BTreeSet<AccountId> {
    let first_left = accounts.iter().nth(MOST_NAMED).copied();
    first_left.map(|first| accounts.split_off(&first)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;
    use crate::random::Chance;

    fn account(n: u64) -> AccountId {
        AccountId::generate(DateTime::UNIX_EPOCH, n, &mut Chance::from_seed(n).stream("account", n))
    }

    #[test]
    fn nothing_is_gathered_where_nobody_is_reached_or_waits() {
        let others = Others::default();
        others.tell(Told::Deliveries);
        others.tell(Told::Stirred(account(1)));
        assert_eq!(others.take(), None);
        others.reach();
        others.tell(Told::Stirred(account(1)));
        assert_eq!(others.take(), None);
        others.begin_to_wait();
        assert_eq!(others.take(), Some(News { stirred_all: true, ..News::default() }));
        others.begin_to_wait();
        others.tell(Told::Stirred(account(1)));
        assert_eq!(others.take(), Some(News { stirred: [account(1)].into(), ..News::default() }));
        others.end_waiting();
        others.tell(Told::Stirred(account(1)));
        assert_eq!(others.take(), None);
    }

    #[test]
    fn what_is_told_often_is_said_once() {
        let others = Others::default();
        others.reach();
        (0..1_000).for_each(|_| others.tell(Told::Deliveries));
        others.tell(Told::Timers);
        assert_eq!(others.take(), Some(News { deliveries: true, timers: true, ..News::default() }));
        assert_eq!(others.take(), None);
        others.tell(Told::Hello);
        assert_eq!(others.take(), Some(News::default()));
    }

    #[test]
    fn what_is_said_at_once_fits_into_a_notification() {
        let others = Others::default();
        others.reach();
        others.begin_to_wait();
        let accounts: BTreeSet<AccountId> = (1..=250).map(account).collect();
        for account_id in &accounts {
            others.tell(Told::Voided(*account_id));
            others.tell(Told::Stirred(*account_id));
        }
        let (mut voided, mut stirred, mut count) = (BTreeSet::new(), BTreeSet::new(), 0);
        while let Some(news) = others.take() {
            let news =
                News { from: i64::MAX, deliveries: true, timers: true, waiting: true, stirred_all: true, ..news };
            let said = serde_json::to_string(&news).expect("JSON");
            assert!(said.len() < 8_000, "{} bytes", said.len());
            assert_eq!(serde_json::from_str::<News>(&said).expect("as it was said"), news);
            voided.extend(news.voided);
            stirred.extend(news.stirred);
            count += 1;
        }
        assert_eq!((&voided, &stirred, count), (&accounts, &accounts, 3));
    }
}
