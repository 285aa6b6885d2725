//! What a benchmark needs of the database and nobody else: a schema of its own, rows in bulk, sizes.

use chrono::{DateTime, Utc};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

use super::{Error, Pools, Store, micros, read, to_json, write};
use crate::delivery::{API_VERSION, Status};
use crate::event::Vendor;
use crate::id::{AccountId, DeliveryId, SubscriberId};

/// How many rows one statement inserts.
const ROWS: usize = 5_000;

/// Deliveries to one subscriber that all stand alike.
#[derive(Debug)]
pub struct Backlog<'a> {
    pub subscriber_id: SubscriberId,
    pub status: Status,
    /// Null where nothing is owed.
    pub due_at: Option<DateTime<Utc>>,
    pub event_type: &'a str,
    /// The content of every event.
    pub content: &'a str,
    pub events: BacklogEvents,
}

/// Which events the deliveries of a backlog are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BacklogEvents {
    /// Each of its own; the event's id is the same text as the delivery's.
    OneEach,
    /// Thousands of one, where events are in nobody's way.
    Shared,
}

/// Makes a schema on a Postgres server.
pub async fn create_schema(server: &str, name: &str) -> Result<(), Error> {
    execute(server, format!("create schema {name}")).await
}

/// Drops a schema with all that is in it, if it is there.
pub async fn drop_schema(server: &str, name: &str) -> Result<(), Error> {
    execute(server, format!("drop schema if exists {name} cascade")).await
}

/// Runs a statement that is made of names of our own.
async fn execute(server: &str, statement: String) -> Result<(), Error> {
    let mut connection = PgConnection::connect(server).await?;
    connection.execute(AssertSqlSafe(statement)).await?;
    Ok(connection.close().await?)
}

impl Store {
    /// Inserts deliveries with these ids, and their events, into the default account.
    pub async fn insert_backlog(
        &self,
        backlog: &Backlog<'_>,
        now: DateTime<Utc>,
        ids: &[DeliveryId],
    ) -> Result<(), Error> {
        // Both unfold a list that is bound as one value.
        let unfold = match &self.pools {
            Pools::Sqlite { .. } => " from json_each($1)",
            Pools::Postgres(_) => " from json_array_elements_text($1::json) as list (value)",
        };
        let insert_events = format!(
            "insert into event (id, account_id, vendor, vendor_event_id, occurred_at, event_type, object_type, content,
                created_at)
             select value, $2, $3, 'msg_' || value, $4, $5, 'bench', $6, $4{unfold}"
        );
        let insert_deliveries = format!(
            "insert into delivery (id, account_id, event_id, subscriber_id, api_version, status, next_try, retries,
                schedule_start, due_at, created_at, options)
             select value, $2, coalesce($3, value), $4, $5, $6, $7, 0, 0, $8, $9, '{{}}'{unfold}"
        );
        for ids in ids.chunks(ROWS) {
            let (events, shared) = match backlog.events {
                BacklogEvents::OneEach => (ids, None),
                BacklogEvents::Shared => (&ids[..1], Some(ids[0].to_string())),
            };
            write!(self, |tx| {
                sqlx::query::<Db>(AssertSqlSafe(insert_events.as_str()))
                    .bind(to_json(&events))
                    .bind(AccountId::DEFAULT)
                    .bind(Vendor::Standard.as_str())
                    .bind(micros(now))
                    .bind(backlog.event_type)
                    .bind(backlog.content)
                    .execute(&mut *tx)
                    .await?;
                sqlx::query::<Db>(AssertSqlSafe(insert_deliveries.as_str()))
                    .bind(to_json(&ids))
                    .bind(AccountId::DEFAULT)
                    .bind(shared)
                    .bind(backlog.subscriber_id)
                    .bind(API_VERSION)
                    .bind(backlog.status.as_str())
                    .bind(micros(backlog.due_at.unwrap_or(now)))
                    .bind(backlog.due_at.map(micros))
                    .bind(micros(now))
                    .execute(&mut *tx)
                    .await?;
            });
        }
        Ok(())
    }

    /// Brings a database that was filled in bulk to where one is that filled over time: Postgres
    /// knows how its rows are spread, and has written them out. (SQLite does at close.)
    pub async fn settle(&self) -> Result<(), Error> {
        if let Pools::Postgres(pool) = &self.pools {
            pool.execute("analyze event, delivery").await?;
            // Only some roles may; without, the next checkpoint comes when it comes.
            let _ = pool.execute("checkpoint").await;
        }
        Ok(())
    }

    /// How many bytes the database takes, indexes included.
    pub async fn size_bytes(&self) -> Result<i64, Error> {
        let size = match &self.pools {
            Pools::Sqlite { .. } => "select page_count * page_size from pragma_page_count(), pragma_page_size()",
            Pools::Postgres(_) => {
                "select cast(sum(pg_total_relation_size(oid)) as bigint) from pg_class
                 where relkind = 'r' and relnamespace = current_schema()::regnamespace"
            }
        };
        Ok(read!(self, |db| sqlx::query_scalar::<Db, i64>(size).fetch_one(db).await?))
    }

    /// What the server's settings say against a claim of durability: `fsync = off`, …
    pub async fn careless_settings(&self) -> Result<Vec<String>, Error> {
        let Pools::Postgres(pool) = &self.pools else { return Ok(Vec::new()) };
        let settings = "select name || ' = ' || setting from pg_settings
            where name in ('fsync', 'synchronous_commit', 'full_page_writes') and setting = 'off' order by name";
        Ok(sqlx::query_scalar(settings).fetch_all(pool).await?)
    }
}
