//! Waking whoever waits for something to happen in an account.
//!
//! The store stirs an account after each commit of its, and processes on one Postgres tell each other
//! (`others.rs`). That may fail, and on SQLite nobody tells, so whoever waits also looks again by
//! itself; see [`LOOK_AGAIN_AFTER`].

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::id::AccountId;

/// How long whoever waits goes without a look when nothing stirs.
pub const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Who waits for something to happen, by account.
#[derive(Debug, Default)]
pub struct Activity {
    /// How many wait in all, so that a commit costs next to nothing when nobody does.
    waiting: AtomicUsize,
    accounts: Mutex<HashMap<AccountId, watch::Sender<()>>>,
}

/// Waits for something to happen in one account; dropping it ends that.
#[derive(Debug)]
pub struct Watching {
    activity: Arc<Activity>,
    account_id: AccountId,
    stirred: watch::Receiver<()>,
}

impl Activity {
    /// Says that something of the account was committed.
    pub fn stir(&self, account_id: AccountId) {
        // With the fence in `watch`: either this sees who waits, or their first look comes after the
        // commit and sees what it brought.
        fence(Ordering::SeqCst);
        if self.waiting.load(Ordering::Relaxed) == 0 {
            return;
        }
        if let Some(stirred) = self.lock().get(&account_id) {
            stirred.send_replace(());
        }
    }

    /// Says that something may have been committed of any account.
    pub fn stir_all(&self) {
        self.lock().values().for_each(|stirred| stirred.send_replace(()));
    }

    /// Whether anybody waits.
    pub fn is_watched(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// Waits for whatever is committed from now on.
    pub fn watch(self: &Arc<Self>, account_id: AccountId) -> Watching {
        let mut accounts = self.lock();
        let stirred = accounts.entry(account_id).or_insert_with(|| watch::Sender::new(())).subscribe();
        drop(accounts);
        self.waiting.fetch_add(1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        Watching { activity: Arc::clone(self), account_id, stirred }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<AccountId, watch::Sender<()>>> {
        // The map is whole after every statement, so a panic elsewhere cannot spoil it.
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watching {
    /// Waits until something was committed since this was last asked, or since the start.
    pub async fn stirred(&mut self) {
        // The sender lives as long as somebody watches the account.
        let _ = self.stirred.changed().await;
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.activity.waiting.fetch_sub(1, Ordering::Relaxed);
        let mut accounts = self.activity.lock();
        // The last to watch the account is this one.
        if accounts.get(&self.account_id).is_some_and(|stirred| stirred.receiver_count() <= 1) {
            accounts.remove(&self.account_id);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::random::Chance;

    #[tokio::test]
    async fn who_waits_is_woken_for_their_own_account_once_for_all_that_came_before() {
        let activity = Arc::new(Activity::default());
        let other =
            AccountId::generate(chrono::DateTime::UNIX_EPOCH, 1, &mut Chance::from_seed(1).stream("account", 1));
        activity.stir(AccountId::DEFAULT);
        let mut watching = activity.watch(AccountId::DEFAULT);
        assert!(watching.stirred().now_or_never().is_none(), "what was committed before does not count");
        activity.stir(other);
        assert!(watching.stirred().now_or_never().is_none(), "another account's do not count");
        activity.stir(AccountId::DEFAULT);
        activity.stir(AccountId::DEFAULT);
        assert!(watching.stirred().now_or_never().is_some());
        assert!(watching.stirred().now_or_never().is_none());
    }

    #[test]
    fn nothing_is_kept_of_an_account_that_nobody_watches_any_more() {
        let activity = Arc::new(Activity::default());
        let (first, second) = (activity.watch(AccountId::DEFAULT), activity.watch(AccountId::DEFAULT));
        drop(first);
        assert_eq!((activity.lock().len(), activity.waiting.load(Ordering::Relaxed)), (1, 1));
        drop(second);
        assert_eq!((activity.lock().len(), activity.waiting.load(Ordering::Relaxed)), (0, 0));
    }
}
