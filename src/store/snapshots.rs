//! Snapshots of accounts: taken and put back inside the database, row by row as they are.
//!
//! The names of columns come from the database's catalogue, so that a later migration's are kept
//! too. A snapshot from before that migration is put back with the new columns' defaults.

use chrono::{DateTime, Utc};

use super::accounts::{holdings, holdings_columns};
use super::claims::UNLEASED;
use super::reset::{HELD, Table, insert_new_world, remove, unless_deadlocked};
use super::{Error, Pools, Store, Tx, micros, read, time, within, write};
use crate::account::Snapshot;
use crate::id::{AccountId, SnapshotId};

/// The most rows that a snapshot takes.
const MOST_ROWS: i64 = 100_000;

/// The most bytes of contents, objects and answers that a snapshot takes: databases bound the length of a text.
const MOST_BYTES: i64 = 128 << 20;

/// The account's own row. What an account is known by is not part of what it holds.
const ACCOUNT: Table = Table { name: "account", is_of: "id = $1" };
const KNOWN_BY: [&str; 4] = ["id", "name", "key_hash", "created_at"];

/// A column's name, and whether it holds bytes.
type Column = (String, bool);

type Row = (SnapshotId, Option<String>, i64, i64, i64, i64);

fn snapshot((id, name, created_at, subscribers, events, deliveries): Row) -> Result<Snapshot, sqlx::Error> {
    let holdings = holdings((subscribers, events, deliveries));
    Ok(Snapshot { id, name, created_at: time(created_at)?, holdings })
}

impl Store {
    /// Takes a snapshot of an account. Fails with [`Error::TooMuch`] if it holds too much.
    pub async fn insert_snapshot(
        &self,
        account_id: AccountId,
        id: SnapshotId,
        name: Option<&str>,
        created_at: DateTime<Utc>,
    ) -> Result<Snapshot, Error> {
        let mut tx = self.begin().await?;
        check_size(&mut tx, account_id).await?;
        let mut tables = Vec::with_capacity(HELD.len() + 1);
        for table in [ACCOUNT].into_iter().chain(HELD) {
            let columns = columns(&mut tx, table).await?;
            tables.push(self.rows_as_json(table, &columns));
        }
        // One statement sees one state of the database.
        let insert = format!(
            "insert into snapshot
                (account_id, id, name, created_at, subscribers, events, deliveries, document)
             values ($1, $2, $3, $4, {}, {})
             returning id, name, created_at, subscribers, events, deliveries",
            holdings_columns!(),
            match self.pools {
                Pools::Sqlite { .. } => format!("json_object({})", tables.join(", ")),
                Pools::Postgres(_) => format!("json_build_object({})::text", tables.join(", ")),
            }
        );
        let row = within!(&mut tx, |db| {
            sqlx::query_as::<Db, Row>(sqlx::AssertSqlSafe(insert))
                .bind(account_id)
                .bind(id)
                .bind(name)
                .bind(micros(created_at))
                .fetch_one(db)
                .await
        });
        let row = match row {
            Err(sqlx::Error::Database(error)) if error.is_foreign_key_violation() => return Err(Error::AccountGone),
            row => row?,
        };
        tx.commit().await?;
        Ok(snapshot(row)?)
    }

    /// The account's snapshots after a position, oldest first.
    pub async fn snapshots(
        &self,
        account_id: AccountId,
        after: Option<SnapshotId>,
        limit: u32,
    ) -> Result<Vec<Snapshot>, Error> {
        self.in_time(async {
            let rows = read!(self, |db| {
                let select = "select id, name, created_at, subscribers, events, deliveries from snapshot
                    where account_id = $1 and id > $2 order by id limit $3";
                sqlx::query_as::<Db, Row>(select)
                    .bind(account_id)
                    .bind(after.map(|id| id.to_string()).unwrap_or_default())
                    .bind(i64::from(limit))
                    .fetch_all(db)
                    .await?
            });
            Ok(rows.into_iter().map(snapshot).collect::<Result<_, _>>()?)
        })
        .await
    }

    /// Deletes a snapshot.
    pub async fn delete_snapshot(&self, account_id: AccountId, id: SnapshotId) -> Result<(), Error> {
        let deleted = write!(self, |tx| {
            let delete = sqlx::query::<Db>("delete from snapshot where account_id = $1 and id = $2");
            delete.bind(account_id).bind(id).execute(&mut *tx).await?.rows_affected()
        });
        if deleted == 0 { Err(Error::NotFound("snapshot")) } else { Ok(()) }
    }

    /// Puts an account back as it was when the snapshot was taken. What was leased then is due at its
    /// next try.
    pub async fn restore_snapshot(&self, account_id: AccountId, id: SnapshotId) -> Result<(), Error> {
        unless_deadlocked(|| async {
            let mut tx = self.begin_alone(account_id).await?;
            let found = within!(&mut tx, |db| {
                let select = "select id from snapshot where account_id = $1 and id = $2";
                let select = sqlx::query_scalar::<Db, SnapshotId>(select);
                select.bind(account_id).bind(id).fetch_optional(db).await?
            });
            found.ok_or(Error::NotFound("snapshot"))?;
            let former = remove(&mut tx, account_id, &[]).await?;
            self.restore_account(&mut tx, account_id, id).await?;
            for table in HELD {
                self.restore_table(&mut tx, table, id).await?;
            }
            let unlease = format!(
                "update delivery set {UNLEASED} from subscriber
                 where delivery.account_id = $1 and lease_holder is not null and subscriber.id = delivery.subscriber_id"
            );
            within!(&mut tx, |db| {
                sqlx::query::<Db>(sqlx::AssertSqlSafe(unlease)).bind(account_id).execute(db).await.map(drop)
            })?;
            if let Some(former) = former {
                // Whoever keeps the former world in memory must not take this one for it.
                let is_back = within!(&mut tx, |db| {
                    let update = "update world set version = case when version > $2 then version else $2 end + 1
                        where account_id = $1";
                    let update = sqlx::query::<Db>(update).bind(account_id).bind(former.version);
                    update.execute(db).await?.rows_affected() > 0
                });
                if !is_back {
                    insert_new_world(&mut tx, account_id, former).await?;
                }
            }
            tx.commit().await?;
            self.stir([account_id]);
            Ok(())
        })
        .await
    }

    /// Two arguments for a function that makes a JSON object: a table's name, and its rows that are
    /// of the account `$1`.
    fn rows_as_json(&self, Table { name, is_of }: Table, columns: &[Column]) -> String {
        match self.pools {
            Pools::Sqlite { .. } => {
                let field = |(column, is_bytes): &Column| match is_bytes {
                    true => format!("'{column}', case when \"{column}\" is not null then hex(\"{column}\") end"),
                    false => format!("'{column}', \"{column}\""),
                };
                let fields: Vec<String> = columns.iter().map(field).collect();
                let fields = fields.join(", ");
                format!("'{name}', json((select json_group_array(json_object({fields})) from {name} where {is_of}))")
            }
            Pools::Postgres(_) => {
                let fields = quoted(columns);
                let rows = format!("(select {fields} from {name} where {is_of}) as held");
                format!("'{name}', (select coalesce(json_agg(held), '[]') from {rows})")
            }
        }
    }

    /// Puts back the rows of a table.
    async fn restore_table(&self, tx: &mut Tx, table: Table, id: SnapshotId) -> Result<(), sqlx::Error> {
        let Table { name, .. } = table;
        let columns = self.stored_columns(tx, table, id).await?;
        if columns.is_empty() {
            return Ok(());
        }
        let names = quoted(&columns);
        let rows = match self.pools {
            Pools::Sqlite { .. } => {
                let value = |(column, is_bytes): &Column| match is_bytes {
                    true => format!("unhex(held.value ->> '{column}')"),
                    false => format!("held.value ->> '{column}'"),
                };
                let values: Vec<String> = columns.iter().map(value).collect();
                let values = values.join(", ");
                format!("select {values} from snapshot, json_each(document, '$.{name}') as held where snapshot.id = $1")
            }
            Pools::Postgres(_) => format!("select {names} from {}", stored_rows(table)),
        };
        within!(tx, |db| {
            let insert = format!("insert into {name} ({names}) {rows}");
            sqlx::query::<Db>(sqlx::AssertSqlSafe(insert)).bind(id).execute(db).await?;
        });
        Ok(())
    }

    /// Puts back what an account's own row says beside what it is known by.
    async fn restore_account(&self, tx: &mut Tx, account_id: AccountId, id: SnapshotId) -> Result<(), sqlx::Error> {
        for (column, _) in self.stored_columns(tx, ACCOUNT, id).await? {
            let value = match self.pools {
                Pools::Sqlite { .. } => {
                    format!("select document ->> '$.account[0].{column}' from snapshot where id = $1")
                }
                Pools::Postgres(_) => format!("select \"{column}\" from {}", stored_rows(ACCOUNT)),
            };
            within!(&mut *tx, |db| {
                let update = format!("update account set \"{column}\" = ({value}) where id = $2");
                sqlx::query::<Db>(sqlx::AssertSqlSafe(update)).bind(id).bind(account_id).execute(db).await?;
            });
        }
        Ok(())
    }

    /// The columns of a table that a snapshot has values for.
    async fn stored_columns(&self, tx: &mut Tx, table: Table, id: SnapshotId) -> Result<Vec<Column>, sqlx::Error> {
        let Table { name, .. } = table;
        let select = match self.pools {
            Pools::Sqlite { .. } => {
                format!("select key from snapshot, json_each(document, '$.{name}[0]') where snapshot.id = $1")
            }
            Pools::Postgres(_) => {
                format!("select json_object_keys(document::json -> '{name}' -> 0) from snapshot where id = $1")
            }
        };
        let stored = within!(&mut *tx, |db| {
            sqlx::query_scalar::<Db, String>(sqlx::AssertSqlSafe(select)).bind(id).fetch_all(db).await?
        });
        let mut columns = columns(tx, table).await?;
        columns.retain(|(column, _)| stored.contains(column));
        Ok(columns)
    }
}

/// The rows of a table in the snapshot `$1`, on Postgres.
fn stored_rows(Table { name, .. }: Table) -> String {
    format!("json_populate_recordset(null::{name}, (select document::json -> '{name}' from snapshot where id = $1))")
}

fn quoted(columns: &[Column]) -> String {
    columns.iter().map(|(column, _)| format!("\"{column}\"")).collect::<Vec<_>>().join(", ")
}

/// The columns of a table that a snapshot keeps.
async fn columns(tx: &mut Tx, Table { name, .. }: Table) -> Result<Vec<Column>, sqlx::Error> {
    let select = match tx {
        Tx::Sqlite(..) => "select name, lower(type) = 'blob' from pragma_table_info($1)",
        Tx::Postgres(..) => {
            "select attname::text, atttypid = 'bytea'::regtype from pg_attribute
             where attrelid = to_regclass($1) and attnum > 0 and not attisdropped order by attnum"
        }
    };
    let mut columns = within!(tx, |db| sqlx::query_as::<Db, Column>(select).bind(name).fetch_all(db).await?);
    columns.retain(|(column, _)| name != ACCOUNT.name || !KNOWN_BY.contains(&column.as_str()));
    Ok(columns)
}

/// Refuses an account that holds too much.
async fn check_size(tx: &mut Tx, account_id: AccountId) -> Result<(), Error> {
    let mut count = 0;
    for Table { name, is_of } in HELD {
        count += within!(&mut *tx, |db| {
            let select = format!("select count(*) from {name} where {is_of}");
            sqlx::query_scalar::<Db, i64>(sqlx::AssertSqlSafe(select)).bind(account_id).fetch_one(db).await?
        });
    }
    if count > MOST_ROWS {
        return Err(Error::TooMuch(format!(
            "the account has {count} rows (events, deliveries, attempts, …); a snapshot takes up to {MOST_ROWS}, so take it earlier, or reset the account first"
        )));
    }
    let bytes = within!(tx, |db| {
        let select = "select cast(
            coalesce((select sum(octet_length(content)) from event where account_id = $1), 0)
            + coalesce((select sum(octet_length(document)) from world_object where account_id = $1), 0)
            + coalesce((select sum(octet_length(response_body)) from attempt
                where delivery_id in (select id from delivery where account_id = $1)), 0) as bigint)";
        sqlx::query_scalar::<Db, i64>(select).bind(account_id).fetch_one(db).await?
    });
    if bytes > MOST_BYTES {
        return Err(Error::TooMuch(format!(
            "the account's contents, objects and answers have {bytes} bytes; a snapshot takes up to {MOST_BYTES}, so take it earlier, or reset the account first"
        )));
    }
    Ok(())
}
