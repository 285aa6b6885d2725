//! Worlds: read whole, changed together with the events that tell of the change.

use chrono::{DateTime, Utc};
use sqlx::QueryBuilder;

use super::{Error, Store, Tx, json, micros, read, runs, time, to_json, undecodable, within, word};
use crate::id::{AccountId, ObjectId};
use crate::world::{Changes, Head, Kind, Object, Timer, World};

/// A change of a world, to be stored together with the events that tell of it.
#[derive(Debug)]
pub struct WorldChange {
    pub account_id: AccountId,
    /// The version that was changed. If another change was stored meanwhile, this one is not.
    pub version: i64,
    pub head: Head,
    pub changes: Changes,
}

#[derive(sqlx::FromRow)]
pub(super) struct TimerRow {
    account_id: AccountId,
    subject_id: ObjectId,
    kind: String,
    due_at: i64,
}

impl TryFrom<TimerRow> for (AccountId, Timer) {
    type Error = sqlx::Error;
    fn try_from(row: TimerRow) -> Result<Self, sqlx::Error> {
        Ok((row.account_id, Timer { due_at: time(row.due_at)?, subject: row.subject_id, kind: word(&row.kind)? }))
    }
}

fn object(kind: &str, document: &str) -> Result<Object, Error> {
    Ok(Object::from_json(word(kind)?, document).map_err(undecodable)?)
}

impl Store {
    /// How often an account's world has changed, 0 if there is none; and where the account's own
    /// clock stands, if it has one.
    pub async fn world_version(&self, account_id: AccountId) -> Result<(i64, Option<DateTime<Utc>>), Error> {
        self.in_time(async {
            let (version, now) = read!(self, |db| {
                let select = "select (select version from world where account_id = $1),
                    (select clock_now from account where id = $1)";
                sqlx::query_as::<Db, (Option<i64>, Option<i64>)>(select).bind(account_id).fetch_one(db).await?
            });
            Ok((version.unwrap_or_default(), now.map(time).transpose()?))
        })
        .await
    }

    /// An account's world without what is finished; none if nothing has happened in it.
    pub async fn world(&self, account_id: AccountId) -> Result<Option<World>, Error> {
        self.in_time(async {
            // The version is read first: whatever is stored meanwhile makes it too old to be changed.
            let (head, objects, timers) = read!(self, |db| {
                let head = sqlx::query_as::<Db, (i64, String)>("select version, head from world where account_id = $1");
                let objects = "select kind, document from world_object where account_id = $1 and not is_finished";
                let timers = "select account_id, subject_id, kind, due_at from timer where account_id = $1";
                (
                    head.bind(account_id).fetch_optional(db).await?,
                    sqlx::query_as::<Db, (String, String)>(objects).bind(account_id).fetch_all(db).await?,
                    sqlx::query_as::<Db, TimerRow>(timers).bind(account_id).fetch_all(db).await?,
                )
            });
            let Some((version, head)) = head else { return Ok(None) };
            let objects = objects.iter().map(|(kind, document)| object(kind, document)).collect::<Result<_, _>>()?;
            let timers: Vec<(AccountId, Timer)> =
                timers.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?;
            let timers = timers.into_iter().map(|(_, timer)| timer).collect();
            Ok(Some(World::restore(version, json::<Head>(&head)?, objects, timers)))
        })
        .await
    }

    /// Objects of one kind before a position, newest first; of one target's, if one is named.
    pub async fn world_objects(
        &self,
        account_id: AccountId,
        kind: Kind,
        target_id: Option<ObjectId>,
        before: Option<ObjectId>,
        limit: u32,
    ) -> Result<Vec<Object>, Error> {
        self.in_time(async {
            let documents = read!(self, |db| {
                let mut select = QueryBuilder::<Db>::new("select document from world_object where account_id = ");
                select.push_bind(account_id).push(" and kind = ").push_bind(kind.as_str());
                if let Some(target_id) = target_id {
                    select.push(" and target_id = ").push_bind(target_id);
                }
                if let Some(before) = before {
                    select.push(" and id < ").push_bind(before);
                }
                select.push(" order by id desc limit ").push_bind(i64::from(limit));
                select.build_query_scalar::<String>().fetch_all(db).await?
            });
            documents.iter().map(|document| object(kind.as_str(), document)).collect()
        })
        .await
    }

    /// The ids of all objects of one kind, oldest first.
    pub async fn world_ids(&self, account_id: AccountId, kind: Kind) -> Result<Vec<ObjectId>, Error> {
        self.in_time(async {
            Ok(read!(self, |db| {
                let select = "select id from world_object where account_id = $1 and kind = $2 order by id";
                sqlx::query_scalar::<Db, ObjectId>(select).bind(account_id).bind(kind.as_str()).fetch_all(db).await?
            }))
        })
        .await
    }

    /// One object of a kind.
    pub async fn world_object(&self, account_id: AccountId, kind: Kind, id: ObjectId) -> Result<Object, Error> {
        self.in_time(async {
            let document = read!(self, |db| {
                let select = "select document from world_object where account_id = $1 and kind = $2 and id = $3";
                sqlx::query_scalar::<Db, String>(select)
                    .bind(account_id)
                    .bind(kind.as_str())
                    .bind(id)
                    .fetch_optional(db)
                    .await?
            });
            object(kind.as_str(), &document.ok_or(Error::NotFound(kind.as_str()))?)
        })
        .await
    }

    /// The earliest timer of each account that goes by the machine's clock, if it is due at `now`, the
    /// earliest first. (Those after it may depend on it; and an account with many must not stand
    /// before the others.)
    pub async fn due_timers(&self, now: DateTime<Utc>, limit: u32) -> Result<Vec<(AccountId, Timer)>, Error> {
        self.in_time(async {
            let rows = read!(self, |db| {
                let select = "select account_id, subject_id, kind, due_at from (
                    select account_id, subject_id, kind, due_at,
                        row_number() over (partition by account_id order by due_at, subject_id) as place
                    from timer where due_at <= $1
                        and account_id not in (select id from account where clock_now is not null)
                ) as due where place = 1 order by due_at, subject_id limit $2";
                sqlx::query_as::<Db, TimerRow>(select).bind(micros(now)).bind(i64::from(limit)).fetch_all(db).await?
            });
            Ok(rows.into_iter().map(TryInto::try_into).collect::<Result<_, sqlx::Error>>()?)
        })
        .await
    }

    /// When the next timer is due by the machine's clock.
    pub async fn next_timer(&self) -> Result<Option<DateTime<Utc>>, Error> {
        self.in_time(async {
            let earliest: Option<i64> = read!(self, |db| {
                let select = "select min(due_at) from timer
                    where account_id not in (select id from account where clock_now is not null)";
                sqlx::query_scalar::<Db, Option<i64>>(select).fetch_one(db).await?
            });
            Ok(earliest.map(time).transpose()?)
        })
        .await
    }
}

/// Stores a change of a world, unless another was stored meanwhile.
pub(super) async fn store_change(tx: &mut Tx, change: &WorldChange) -> Result<(), Error> {
    let WorldChange { account_id, version, head, changes } = change;
    let stored = within!(tx, |db| {
        let sql = if *version == 0 {
            "insert into world (account_id, version, head) values ($1, $2 + 1, $3) on conflict do nothing"
        } else {
            "update world set version = version + 1, head = $3 where account_id = $1 and version = $2"
        };
        sqlx::query::<Db>(sql).bind(*account_id).bind(*version).bind(to_json(head)).execute(db).await?.rows_affected()
    });
    if stored == 0 {
        return Err(Error::WorldChanged);
    }
    store_objects(tx, *account_id, &changes.objects).await?;
    store_timers(tx, *account_id, &changes.timers).await?;
    Ok(())
}

async fn store_objects(tx: &mut Tx, account_id: AccountId, objects: &[Object]) -> Result<(), sqlx::Error> {
    for run in runs(objects) {
        within!(tx, |db| {
            let mut upsert = QueryBuilder::<Db>::new(
                "insert into world_object (id, account_id, kind, number, target_id, is_finished, document) ",
            );
            upsert.push_values(run, |mut row, object| {
                row.push_bind(object.id())
                    .push_bind(account_id)
                    .push_bind(object.kind().as_str())
                    .push_bind(i64::try_from(object.number()).unwrap_or(i64::MAX))
                    .push_bind(object.target_id())
                    .push_bind(object.is_finished())
                    .push_bind(object.to_json());
            });
            upsert.push(
                " on conflict (id) do update set is_finished = excluded.is_finished, document = excluded.document",
            );
            upsert.build().execute(db).await?;
        });
    }
    Ok(())
}

async fn store_timers(
    tx: &mut Tx,
    account_id: AccountId,
    timers: &[(ObjectId, Option<Timer>)],
) -> Result<(), sqlx::Error> {
    for (subject, timer) in timers {
        within!(tx, |db| {
            let statement = match timer {
                Some(timer) => sqlx::query::<Db>(
                    "insert into timer (subject_id, account_id, kind, due_at) values ($1, $2, $3, $4)
                     on conflict (subject_id) do update set due_at = excluded.due_at",
                )
                .bind(*subject)
                .bind(account_id)
                .bind(timer.kind.as_str())
                .bind(micros(timer.due_at)),
                None => sqlx::query::<Db>("delete from timer where subject_id = $1").bind(*subject),
            };
            statement.execute(db).await?;
        });
    }
    Ok(())
}
