//! All SQL, for both databases. No vendor, no HTTP, no clock: time comes in as an argument.
//!
//! One SQL text serves both databases where it can. `read!`, `write!` and `write_deliveries!` compile a
//! body once against each driver; inside it `Db` is the driver. Where a statement must differ, a `match`
//! on the pools shows it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{PgPool, SqlitePool};

use crate::activity::{Activity, Watching};
use crate::id::AccountId;
use crate::others::{Others, Told};
use known::Change;
use rows::{ROWS_AT_ONCE, in_list, padded, runs};

mod accounts;
mod bench;
mod bind;
mod claims;
mod clocks;
mod deliveries;
mod events;
mod init;
mod known;
mod lists;
mod notify;
mod one_go;
mod one_statement;
mod open;
mod reset;
mod rows;
mod snapshots;
mod subscribers;
mod tidy;
mod vendor_events;
mod waiting;
mod world;

pub use bench::{Backlog, BacklogEvents, create_schema, drop_schema};
pub use claims::{Effect, Record};
pub use clocks::Ahead;
pub use deliveries::{DeliveryDetail, Redelivered};
pub use events::{EventWithDeliveries, Inserted, NewDelivery, Publication, Tenants};
pub use init::{Along, AppliedFile, Made, MadeKind};
pub use lists::{DeliveryFilter, EventFilter, ListedDelivery, Page};
pub use notify::Ear;
pub use open::OpenError;
pub use vendor_events::{VendorEvents, Window};
pub use waiting::{Owed, OwedDelivery, Present, Scheduled};
pub use world::WorldChange;

/// Why the store could not do what was asked, as far as callers branch on it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such row in this account.
    #[error("no such {0}")]
    NotFound(&'static str),
    /// Another change of the same world was stored first.
    #[error("the world has changed meanwhile")]
    WorldChanged,
    /// The account was deleted meanwhile.
    #[error("the account was deleted meanwhile")]
    AccountGone,
    /// The account holds more than a snapshot can: how much, and how much one can.
    #[error("{0}")]
    TooMuch(String),
    /// Another account has this API key.
    #[error("another account has this API key")]
    KeyTaken,
    /// The database does not answer at the moment.
    #[error("the database does not answer")]
    Away(#[source] sqlx::Error),
    /// The database refused, or holds what scanhook cannot have written.
    #[error("the database failed")]
    Database(#[source] sqlx::Error),
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        use sqlx::Error::{Io, PoolClosed, PoolTimedOut, Tls, WorkerCrashed};
        match error {
            Io(_) | Tls(_) | PoolClosed | PoolTimedOut | WorkerCrashed => Self::Away(error),
            other => Self::Database(other),
        }
    }
}

/// The database: SQLite, in a file or in memory, or Postgres.
#[derive(Debug, Clone)]
pub struct Store {
    pools: Pools,
    /// How long one piece of work may wait for the database.
    answer_timeout: Duration,
    /// Told of every commit that whoever waits may be waiting for.
    activity: Arc<Activity>,
    /// What other processes on the same database are told.
    others: Arc<Others>,
    /// What publish remembers of accounts.
    memory: Arc<known::Memory>,
    /// Whether SQLite's log has taken anything since it was last copied.
    has_written: Arc<AtomicBool>,
}

#[derive(Debug, Clone)]
enum Pools {
    /// SQLite has one writer at a time, so that one connection writes and never waits for a lock.
    /// In memory the two pools are one connection.
    Sqlite {
        write: SqlitePool,
        read: SqlitePool,
        /// One connection for checkpoints; none in memory.
        tidy: Option<SqlitePool>,
    },
    Postgres(PgPool),
}

impl Pools {
    /// The end of a `select` in a transaction whose rows must stay as they are until it ends.
    /// SQLite needs none: nobody else writes meanwhile.
    fn and_hold(&self, lock: &'static str) -> &'static str {
        match self {
            Self::Postgres(_) => lock,
            Self::Sqlite { .. } => "",
        }
    }
}

/// What a process learns when it opens the store.
#[derive(Debug, Clone)]
pub struct Installation {
    /// How many processes have opened this database, this one included.
    pub process_number: i64,
    /// Signs the cursors of lists.
    pub cursor_key: String,
}

/// Runs a body that reads, on a pool of either database.
macro_rules! read {
    ($store:expr, |$db:ident| $body:expr) => {
        match &$store.pools {
            $crate::store::Pools::Sqlite { read: $db, .. } => {
                type Db = sqlx::Sqlite;
                $body
            }
            $crate::store::Pools::Postgres($db) => {
                type Db = sqlx::Postgres;
                $body
            }
        }
    };
}

/// Runs a body in a transaction of either database, and commits. `?` inside rolls back.
macro_rules! write {
    ($store:expr, |$tx:ident| $body:block) => {{
        // Counts when this block is left.
        let _change = $crate::store::known::Change::begin(&$store.memory);
        $crate::store::write_deliveries!($store, $store.memory.forget_all(), |$tx| $body)
    }};
}

/// As [`write!`], for what changes no account and no subscriber: what is known of those still holds.
macro_rules! write_deliveries {
    ($store:expr, |$tx:ident| $body:block) => {
        $crate::store::write_deliveries!($store, (), |$tx| $body)
    };
    ($store:expr, $once_begun:expr, |$tx:ident| $body:block) => {
        match &$store.pools {
            $crate::store::Pools::Sqlite { write, .. } => {
                type Db = sqlx::Sqlite;
                // Taking the write lock at once avoids a deadlock with another process's writer.
                let mut $tx: sqlx::Transaction<'_, Db> = write.begin_with("begin immediate").await?;
                // Nobody has written meanwhile, nor will before this ends.
                $once_begun;
                let value = $body;
                $tx.commit().await?;
                value
            }
            $crate::store::Pools::Postgres(pool) => {
                type Db = sqlx::Postgres;
                let mut $tx: sqlx::Transaction<'_, Db> = pool.begin().await?;
                let value = $body;
                $tx.commit().await?;
                value
            }
        }
    };
}

/// A transaction of either database, for work in several steps; see [`within!`]. Dropped, it
/// rolls back.
enum Tx {
    Sqlite(sqlx::Transaction<'static, sqlx::Sqlite>, Change),
    Postgres(sqlx::Transaction<'static, sqlx::Postgres>, Change),
}

/// Runs one step of a [`Tx`].
macro_rules! within {
    ($tx:expr, |$db:ident| $body:expr) => {
        match $tx {
            $crate::store::Tx::Sqlite(tx, _) => {
                type Db = sqlx::Sqlite;
                let $db = &mut **tx;
                $body
            }
            $crate::store::Tx::Postgres(tx, _) => {
                type Db = sqlx::Postgres;
                let $db = &mut **tx;
                $body
            }
        }
    };
}

impl Tx {
    async fn commit(self) -> Result<(), sqlx::Error> {
        match self {
            Self::Sqlite(tx, _change) => tx.commit().await,
            Self::Postgres(tx, _change) => tx.commit().await,
        }
    }
}

/// The columns of an event's row, in one place for every statement that reads one.
macro_rules! event_columns {
    () => {
        "id, account_id, vendor, vendor_event_id, occurred_at, event_type, object_type, content, \
         idempotency_key, created_at, at_publish"
    };
}

/// The columns of a subscriber's row, in one place for every statement that reads one.
macro_rules! subscriber_columns {
    () => {
        "id, account_id, vendor, url, event_types, secret, retry_schedule, timeout_ms, headers, enabled, \
         disabled_reason, options, vendor_id, signature_time, previous_secret, previous_secret_until, failing_since, \
         created_at, changed_at, deleted_at"
    };
}

use {event_columns, read, subscriber_columns, within, write, write_deliveries};

impl Store {
    /// Gives work up that the database does not answer in time: a connection may fall silent without
    /// ever being closed, and whoever waits for it would wait for ever.
    async fn in_time<T>(&self, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let silent = || sqlx::Error::Io(std::io::ErrorKind::TimedOut.into());
        tokio::time::timeout(self.answer_timeout, work).await.unwrap_or_else(|_| Err(Error::Away(silent())))
    }

    async fn begin(&self) -> Result<Tx, sqlx::Error> {
        let change = Change::begin(&self.memory);
        Ok(match &self.pools {
            Pools::Sqlite { write, .. } => {
                let tx = write.begin_with("begin immediate").await?;
                self.memory.forget_all();
                Tx::Sqlite(tx, change)
            }
            Pools::Postgres(pool) => Tx::Postgres(pool.begin().await?, change),
        })
    }

    /// Who waits for something to be committed.
    pub fn activity(&self) -> &Arc<Activity> {
        &self.activity
    }

    /// What other processes on the same database are told.
    pub fn others(&self) -> &Arc<Others> {
        &self.others
    }

    /// Waits for whatever is committed in an account from now on.
    pub fn watch(&self, account_id: AccountId) -> Watching {
        let watching = self.activity.watch(account_id);
        self.others.tell(Told::Waiting);
        watching
    }

    /// Says that something was committed in these accounts: whoever waits for that is woken, and SQLite's
    /// log is worth copying.
    fn stir(&self, accounts: impl IntoIterator<Item = AccountId>) {
        self.has_written.store(true, Ordering::Relaxed);
        for account_id in accounts {
            self.activity.stir(account_id);
            self.others.tell(Told::Stirred(account_id));
        }
    }

    /// How many commits are worth being under way at once: Postgres makes one write to its disk of
    /// several, SQLite has one writer.
    pub fn commits_at_once(&self) -> usize {
        match self.pools {
            Pools::Postgres(_) => 3,
            Pools::Sqlite { .. } => 1,
        }
    }

    /// Closes every connection; SQLite folds its log into the file.
    pub async fn close(&self) {
        match &self.pools {
            Pools::Sqlite { write, read, tidy, .. } => {
                if let Some(tidy) = tidy {
                    tidy.close().await;
                }
                read.close().await;
                write.close().await;
            }
            Pools::Postgres(pool) => pool.close().await,
        }
    }
}

/// A time as both databases keep it.
fn micros(time: DateTime<Utc>) -> i64 {
    time.timestamp_micros()
}

/// A time as both databases keep it, read back.
fn time(micros: i64) -> Result<DateTime<Utc>, sqlx::Error> {
    DateTime::from_timestamp_micros(micros).ok_or_else(|| undecodable(format!("{micros} is not a time")))
}

/// A value in the database that scanhook cannot have written.
fn undecodable(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> sqlx::Error {
    sqlx::Error::Decode(error.into())
}

/// Reads one of scanhook's words, such as a status, from its column.
fn word<T: std::str::FromStr>(text: &str) -> Result<T, sqlx::Error>
where
    T::Err: std::fmt::Display,
{
    text.parse().map_err(|error: T::Err| undecodable(error.to_string()))
}

/// Reads a JSON column.
fn json<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, sqlx::Error> {
    serde_json::from_str(text).map_err(undecodable)
}

/// Writes a JSON column.
fn to_json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("lists and maps of text serialise")
}
