//! What publish remembers of accounts, with the versions that it was read at, so that what stores events
//! can tell whether they are still the same.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Utc};
use sqlx::postgres::PgRow;
use sqlx::{FromRow, PgConnection, Row};

use super::events::Tenants;
use super::subscribers::Row as SubscriberRow;
use super::{Error, Store, subscriber_columns, time};
use crate::id::AccountId;
use crate::subscriber::Subscriber;

/// How many accounts and subscribers are remembered; beyond that all is forgotten and read again.
const MOST: usize = 4_096;

/// An account with its enabled subscribers, as they were read.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) clock_now: Option<DateTime<Utc>>,
    /// On Postgres the account's id and the version of its row; on SQLite the whole database's.
    pub(super) version: String,
    /// Oldest first.
    pub(super) subscribers: Vec<Arc<Subscriber>>,
    /// On Postgres the subscribers' ids and the versions of their rows, in that order.
    pub(super) subscriber_versions: Vec<String>,
}

/// Accounts that were read, those of a batch or all that are remembered.
#[derive(Debug, Default, Clone)]
pub(super) struct Accounts(BTreeMap<AccountId, Arc<Known>>);

impl Accounts {
    pub(super) fn ids(&self) -> Vec<AccountId> {
        self.0.keys().copied().collect()
    }

    /// The versions of the accounts' rows, by id.
    pub(super) fn versions(&self) -> String {
        self.0.values().map(|known| known.version.as_str()).collect::<Vec<_>>().join(",")
    }

    /// The versions of their subscribers' rows, by account and id.
    pub(super) fn subscriber_versions(&self) -> String {
        let versions = self.0.values().flat_map(|known| &known.subscriber_versions);
        versions.map(String::as_str).collect::<Vec<_>>().join(",")
    }

    /// The one version that all have, if it is one.
    pub(super) fn version(&self) -> Option<&str> {
        let mut versions = self.0.values().map(|known| known.version.as_str());
        let first = versions.next()?;
        versions.all(|version| version == first).then_some(first)
    }

    /// What a plan is made from, as long as the count of `changes` is this.
    pub(super) fn tenants(&self, changes: u64) -> Tenants {
        let mut subscribers: Vec<Arc<Subscriber>> =
            self.0.values().flat_map(|known| &known.subscribers).cloned().collect();
        subscribers.sort_by_key(|subscriber| subscriber.id);
        let clocks = self.0.iter().filter_map(|(id, known)| Some((*id, known.clock_now?))).collect();
        Tenants { subscribers, clocks, changes }
    }

    fn size(&self) -> usize {
        self.0.values().map(|known| 1 + known.subscribers.len()).sum()
    }

    /// Reads those of these accounts that are there. The two statements may see two states: whoever
    /// goes by what was read compares the versions.
    pub(super) async fn read(db: &mut PgConnection, ids: &[AccountId]) -> Result<Self, Error> {
        let select = "select id, clock_now, id || ' ' || xmin::text from account where id = any($1)";
        let select = sqlx::query_as::<_, (AccountId, Option<i64>, String)>(select).bind(ids);
        let mut accounts = HashMap::new();
        for (id, now, version) in select.fetch_all(&mut *db).await? {
            let clock_now = now.map(time).transpose()?;
            let known = Known { clock_now, version, subscribers: Vec::new(), subscriber_versions: Vec::new() };
            accounts.insert(id, known);
        }
        let select = concat!(
            "select ",
            subscriber_columns!(),
            ", id || ' ' || xmin::text as version from subscriber
             where deleted_at is null and enabled and account_id = any($1) order by id"
        );
        let rows: Vec<PgRow> = sqlx::query(select).bind(ids).fetch_all(db).await?;
        for row in rows {
            let subscriber = Subscriber::try_from(SubscriberRow::from_row(&row)?)?;
            if let Some(known) = accounts.get_mut(&subscriber.account_id) {
                known.subscriber_versions.push(row.try_get("version")?);
                known.subscribers.push(Arc::new(subscriber));
            }
        }
        Ok(accounts.into_iter().collect())
    }
}

impl FromIterator<(AccountId, Known)> for Accounts {
    fn from_iter<I: IntoIterator<Item = (AccountId, Known)>>(accounts: I) -> Self {
        Self(accounts.into_iter().map(|(id, known)| (id, Arc::new(known))).collect())
    }
}

/// What is remembered from one publish to the next.
#[derive(Debug, Default)]
pub(super) struct Memory {
    accounts: Mutex<Accounts>,
    /// See [`Store::changes`].
    changes: AtomicU64,
}

impl Store {
    /// How many transactions of this process have ended that may have changed an account or a subscriber.
    pub fn changes(&self) -> u64 {
        self.memory.changes.load(Ordering::Acquire)
    }
}

/// A transaction that may change an account or a subscriber. It counts when this is dropped: after the
/// commit or, given up in its midst, before that takes effect. Then publish waits behind it all the same,
/// for the row's lock or for SQLite's writer, and learns what it changed.
pub(super) struct Change(Arc<Memory>);

impl Change {
    pub(super) fn begin(memory: &Arc<Memory>) -> Self {
        Self(Arc::clone(memory))
    }
}

impl Drop for Change {
    fn drop(&mut self) {
        self.0.changes.fetch_add(1, Ordering::AcqRel);
    }
}

impl Memory {
    /// These accounts, if all of them are remembered.
    pub(super) fn get(&self, ids: &[AccountId]) -> Option<Accounts> {
        let remembered = self.lock();
        let one = |id: &AccountId| Some((*id, Arc::clone(remembered.0.get(id)?)));
        ids.iter().map(one).collect::<Option<_>>().map(Accounts)
    }

    /// Remembers accounts as they were just read.
    pub(super) fn put(&self, accounts: &Accounts) {
        let size = accounts.size();
        if size > MOST {
            return;
        }
        let mut remembered = self.lock();
        if remembered.size() + size > MOST {
            remembered.0.clear();
        }
        remembered.0.extend(accounts.0.iter().map(|(id, known)| (*id, Arc::clone(known))));
    }

    pub(super) fn forget_all(&self) {
        self.lock().0.clear();
    }

    pub(super) fn forget(&self, ids: &[AccountId]) {
        let mut remembered = self.lock();
        ids.iter().for_each(|id| drop(remembered.0.remove(id)));
    }

    fn lock(&self) -> MutexGuard<'_, Accounts> {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
