//! Databases to measure on: each fresh, and gone afterwards.

use std::fmt;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Context;
use tempfile::TempDir;

use super::Lab;
use super::daemon::Daemon;
use super::load::{EVENT_TYPE, content};
use crate::clock::Clock;
use crate::config::{self, Config};
use crate::delivery::Status;
use crate::id::{DeliveryId, SubscriberId};
use crate::store::{Backlog, BacklogEvents, Store, create_schema, drop_schema};

/// A kind of database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A file, with a write-ahead log.
    Sqlite,
    Postgres,
}

impl Kind {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Sqlite => "SQLite",
            Self::Postgres => "Postgres",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// An empty database of one measurement's own.
#[derive(Debug)]
pub(super) struct Database {
    url: String,
    schema: Option<String>,
    _directory: Option<TempDir>,
}

/// How the deliveries of a backlog stand.
#[derive(Debug, Clone, Copy)]
pub(super) enum Standing {
    /// Due now.
    Due,
    /// One attempt has been made; the next is due after this time.
    RetryAfter(Duration),
    Finished,
    FarFuture,
}

impl Lab {
    /// Makes a database. It is removed by [`remove`](Self::remove) or [`clean_up`](Self::clean_up).
    pub(super) async fn database(&self, kind: Kind) -> anyhow::Result<Database> {
        match kind {
            Kind::Sqlite => {
                let directory = tempfile::tempdir().context("cannot make a temporary directory")?;
                let url = format!("sqlite:{}/bench.db", directory.path().display());
                Ok(Database { url, schema: None, _directory: Some(directory) })
            }
            Kind::Postgres => {
                let server = self.postgres.as_deref().context("no Postgres was given")?;
                let number = self.schema_count.fetch_add(1, Ordering::Relaxed);
                let schema = format!("scanhook_bench_{}_{number}", std::process::id());
                self.schemas.lock().unwrap_or_else(PoisonError::into_inner).push(schema.clone());
                if let Err(error) = create_schema(server, &schema).await {
                    self.forget(&schema);
                    return Err(error).context("cannot make a schema on the Postgres server");
                }
                let separator = if server.contains('?') { '&' } else { '?' };
                let url = format!("{server}{separator}options=-csearch_path%3D{schema}");
                Ok(Database { url, schema: Some(schema), _directory: None })
            }
        }
    }

    /// Removes a database.
    pub(super) async fn remove(&self, database: Database) -> anyhow::Result<()> {
        if let (Some(server), Some(schema)) = (&self.postgres, &database.schema) {
            drop_schema(server, schema).await.context("cannot drop a schema")?;
            self.forget(schema);
        }
        Ok(())
    }

    fn forget(&self, schema: &str) {
        self.schemas.lock().unwrap_or_else(PoisonError::into_inner).retain(|made| made != schema);
    }

    /// Removes what an interrupted measure has left on the Postgres server.
    pub async fn clean_up(&self) -> anyhow::Result<()> {
        let left = std::mem::take(&mut *self.schemas.lock().unwrap_or_else(PoisonError::into_inner));
        for schema in left {
            drop_schema(self.postgres.as_deref().unwrap_or_default(), &schema).await.context("cannot drop a schema")?;
        }
        Ok(())
    }

    /// Starts a daemon on a database.
    pub(super) async fn daemon(&self, database: &Database) -> anyhow::Result<Daemon> {
        Daemon::start(&self.program, &database.url, &[]).await
    }

    /// Starts a daemon with other settings than the defaults.
    pub(super) async fn daemon_with(
        &self,
        database: &Database,
        settings: &[(&'static str, String)],
    ) -> anyhow::Result<Daemon> {
        Daemon::start(&self.program, &database.url, settings).await
    }

    /// Registers a subscriber on a database that no daemon runs on afterwards.
    pub(super) async fn subscriber(
        &self,
        database: &Database,
        url: &str,
        event_type: &str,
    ) -> anyhow::Result<SubscriberId> {
        let daemon = self.daemon(database).await?;
        let id = daemon.subscribe_to(url, event_type).await?;
        daemon.kill().await?;
        Ok(id)
    }
}

impl Database {
    /// Opens the database beside the daemon.
    pub(super) async fn store(&self) -> anyhow::Result<Store> {
        let options = config::Database { url: self.url.clone(), ..Config::defaults().database };
        Store::open(&options).await.context("cannot open the database of a measure")
    }

    /// Puts deliveries into the table as if time had brought them there.
    pub(super) async fn fill(
        &self,
        lab: &Lab,
        subscriber_id: SubscriberId,
        standing: Standing,
        count: usize,
    ) -> anyhow::Result<()> {
        let now = Clock::Real.now();
        let (status, due_at, events) = match standing {
            Standing::Due => (Status::Scheduled, Some(now), BacklogEvents::OneEach),
            Standing::RetryAfter(wait) => (Status::Rescheduled, Some(now + wait), BacklogEvents::OneEach),
            Standing::Finished => (Status::Succeeded, None, BacklogEvents::Shared),
            Standing::FarFuture => {
                (Status::Scheduled, Some(now + Duration::from_secs(31_536_000)), BacklogEvents::Shared)
            }
        };
        let (content, event_type) = (content(0), EVENT_TYPE);
        let backlog = Backlog { subscriber_id, status, due_at, event_type, content: &content, events };
        let mut rng = lab.chance.stream("bench", subscriber_id);
        let id = |number| DeliveryId::generate(now + Duration::from_micros(number), 0, &mut rng);
        let ids: Vec<DeliveryId> = (0..count as u64).map(id).collect();
        let store = self.store().await?;
        let inserted = store.insert_backlog(&backlog, now, &ids).await;
        store.settle().await?;
        store.close().await;
        inserted.context("cannot fill the table")
    }
}
