//! Claims: leasing what is due, and recording attempts under a lease.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use sqlx::QueryBuilder;

use super::bind::{ATTEMPT_COLUMNS, MADE_COLUMNS, MOVE_ON, bind_attempt, bind_made};
use super::events::Row as EventRow;
use super::{
    Error, Pools, ROWS_AT_ONCE, Store, Tx, event_columns, in_list, json, micros, padded, read, runs, time, undecodable,
    within, word, write_deliveries,
};
use crate::delivery::{Attempt, Claimed, Next, Status, attempts_made};
use crate::event::Event;
use crate::id::{AccountId, DeliveryId, EventId, SubscriberId};

/// An attempt that was made, and what follows it.
#[derive(Debug)]
pub struct Record {
    pub account_id: AccountId,
    pub delivery_id: DeliveryId,
    pub subscriber_id: SubscriberId,
    /// The claim that the attempt was made under.
    pub lease: i64,
    pub attempt: Attempt,
    pub next: Next,
    /// What the attempt changes of its subscriber, if anything.
    pub effect: Option<Effect>,
}

/// What an attempt changes of its subscriber.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// It is disabled, for this reason.
    Disable(String),
    /// It has been failing since this time, or does not fail any more.
    FailingSince(Option<DateTime<Utc>>),
}

#[derive(sqlx::FromRow)]
pub(super) struct ClaimedRow {
    pub(super) id: DeliveryId,
    event_id: EventId,
    subscriber_id: SubscriberId,
    status: String,
    retries: i64,
    schedule_start: i64,
    next_try: i64,
    options: String,
}

/// The columns that a recorded attempt sets: status, next try (if it changes) and when due.
pub(super) fn after(next: Next) -> (Status, Option<i64>) {
    match next {
        Next::Succeeded => (Status::Succeeded, None),
        Next::Rescheduled { at } => (Status::Rescheduled, Some(micros(at))),
        Next::Failed => (Status::Failed, None),
    }
}

/// What an update sets, joined with their subscribers, on deliveries that lose their lease without
/// an attempt: each is due again at its next try, waits for its subscriber to be enabled, or fails
/// because the subscriber was deleted.
pub(super) const UNLEASED: &str = "lease_holder = null,
    status = case when subscriber.deleted_at is null then status else 'failed' end,
    due_at = case when subscriber.enabled and manual_due_at is null then next_try end,
    manual_due_at = case when subscriber.enabled then manual_due_at end";

impl Store {
    /// Claims up to `limit` deliveries that are due at `now`, and those whose lease has lapsed.
    ///
    /// They are leased to `lease` until `lease_until`. Subscribers in `except` are passed over.
    pub async fn claim_due(
        &self,
        now: DateTime<Utc>,
        lease: i64,
        lease_until: DateTime<Utc>,
        limit: usize,
        except: &[SubscriberId],
    ) -> Result<Vec<Claimed>, Error> {
        self.in_time(async {
            // Other processes claim at the same time.
            let lock = self.pools.and_hold(" for update skip locked");
            let rows = write_deliveries!(self, |tx| {
                let mut claim = QueryBuilder::<Db>::new("update delivery set lease_holder = ");
                claim.push_bind(lease).push(", due_at = ").push_bind(micros(lease_until));
                claim.push(" where id in (select id from delivery where due_at <= ").push_bind(micros(now));
                claim.push(" and manual_due_at is null");
                if !except.is_empty() {
                    claim.push(" and subscriber_id not in (");
                    let mut ids = claim.separated(", ");
                    for id in except {
                        ids.push_bind(*id);
                    }
                    claim.push(")");
                }
                claim.push(" order by due_at limit ").push_bind(limit as i64).push(lock);
                claim.push(
                    ") returning id, event_id, subscriber_id, status, retries, schedule_start, next_try, options",
                );
                claim.build_query_as::<ClaimedRow>().fetch_all(&mut *tx).await?
            });
            self.complete(rows, lease, lease_until).await
        })
        .await
    }

    /// Adds their events to claimed rows.
    pub(super) async fn complete(
        &self,
        rows: Vec<ClaimedRow>,
        lease: i64,
        lease_until: DateTime<Utc>,
    ) -> Result<Vec<Claimed>, Error> {
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let event_ids = in_list(rows.iter().map(|row| row.event_id));
        let events = read!(self, |db| {
            let mut select = QueryBuilder::<Db>::new(concat!("select ", event_columns!(), " from event where id in ("));
            let mut ids = select.separated(", ");
            event_ids.iter().for_each(|id| {
                ids.push_bind(*id);
            });
            select.push(")");
            select.build_query_as::<EventRow>().fetch_all(db).await?
        });
        let mut found_events: HashMap<EventId, Arc<Event>> = HashMap::new();
        for row in events {
            let event = Event::try_from(row)?;
            found_events.insert(event.id, Arc::new(event));
        }
        let claimed = |row: ClaimedRow| {
            let retries = u32::try_from(row.retries).map_err(undecodable)?;
            let event = found_events.get(&row.event_id).ok_or(sqlx::Error::RowNotFound)?;
            Ok(Claimed {
                due_at: time(row.next_try)?,
                id: row.id,
                lease,
                lease_until,
                at: None,
                attempt: attempts_made(word(&row.status)?, retries) + 1,
                schedule_start: u32::try_from(row.schedule_start).map_err(undecodable)?,
                event: Arc::clone(event),
                subscriber_id: row.subscriber_id,
                options: json(&row.options)?,
            })
        };
        // What has no event any more was deleted or reset since the claim, with its account.
        let rows = rows.into_iter().filter(|row| found_events.contains_key(&row.event_id));
        rows.map(claimed).collect::<Result<_, sqlx::Error>>().map_err(Error::from)
    }

    /// When the earliest delivery can be claimed that cannot be now.
    pub async fn next_due(&self, now: DateTime<Utc>) -> Result<Option<DateTime<Utc>>, Error> {
        self.in_time(async {
            let earliest: Option<i64> = read!(self, |db| {
                sqlx::query_scalar::<Db, Option<i64>>("select min(due_at) from delivery where due_at > $1")
                    .bind(micros(now))
                    .fetch_one(db)
                    .await?
            });
            Ok(earliest.map(time).transpose()?)
        })
        .await
    }

    /// Records attempts and moves their deliveries on, in one transaction.
    ///
    /// Only what is still leased to the attempt's claim is recorded; the answer says for each
    /// whether it was. What would be attempted again waits if its subscriber has been disabled
    /// meanwhile, and fails if it has been deleted.
    pub async fn record_attempts(&self, records: &[Record]) -> Result<Vec<bool>, Error> {
        let mut deliveries = HashSet::with_capacity(records.len());
        if records.iter().all(|record| deliveries.insert(record.delivery_id)) {
            return self.record_deliveries(records).await;
        }
        // After an outage one delivery may be there under two leases. Each must be told by its own.
        let mut ours = Vec::with_capacity(records.len());
        for record in records {
            ours.extend(self.record_deliveries(std::slice::from_ref(record)).await?);
        }
        Ok(ours)
    }

    /// Records attempts of as many deliveries.
    async fn record_deliveries(&self, records: &[Record]) -> Result<Vec<bool>, Error> {
        self.in_time(async {
            if records.iter().all(|record| record.effect.is_none()) {
                return match &self.pools {
                    Pools::Sqlite { write, .. } => self.record_in_one_go(write, records).await,
                    Pools::Postgres(pool) => self.record_in_one_statement(pool, records).await,
                };
            }
            let mut tx = self.begin().await?;
            hold_subscribers(&mut tx, records).await?;
            let ours = move_on(&mut tx, records).await?;
            let recorded: Vec<&Record> = records.iter().filter(|record| ours.contains(&record.delivery_id)).collect();
            insert_attempts(&mut tx, &recorded).await?;
            for record in recorded {
                match &record.effect {
                    Some(Effect::Disable(reason)) => disable(&mut tx, record, reason).await?,
                    Some(Effect::FailingSince(since)) => note_failing(&mut tx, record, *since).await?,
                    None => (),
                }
            }
            tx.commit().await?;
            self.stir(records.iter().map(|record| record.account_id));
            Ok(records.iter().map(|record| ours.contains(&record.delivery_id)).collect())
        })
        .await
    }

    /// Lengthens leases that are still held. The answer names those that were.
    pub async fn renew_leases(
        &self,
        held: &[(DeliveryId, i64)],
        until: DateTime<Utc>,
    ) -> Result<HashSet<DeliveryId>, Error> {
        self.in_time(async {
            Ok(write_deliveries!(self, |tx| {
                let mut renewed = HashSet::new();
                for run in runs(held) {
                    let mut update = QueryBuilder::<Db>::new("with held (id, lease) as (");
                    update.push_values(run, |mut row, (id, lease)| {
                        row.push_bind(*id).push_bind(*lease);
                    });
                    update.push(") update delivery set due_at = ").push_bind(micros(until)).push(
                        " from held where delivery.id = held.id and delivery.lease_holder = held.lease
                     returning delivery.id",
                    );
                    renewed.extend(update.build_query_scalar::<DeliveryId>().fetch_all(&mut *tx).await?);
                }
                renewed
            }))
        })
        .await
    }

    /// Gives leases back without an attempt.
    pub async fn release(&self, claimed: &[Claimed]) -> Result<(), Error> {
        self.in_time(async {
            if claimed.is_empty() {
                return Ok(());
            }
            write_deliveries!(self, |tx| {
                for run in runs(claimed) {
                    let mut update = QueryBuilder::<Db>::new("with held (id, lease) as (");
                    update.push_values(run, |mut row, claimed| {
                        row.push_bind(claimed.id).push_bind(claimed.lease);
                    });
                    update.push(") update delivery set ").push(UNLEASED).push(
                        " from held, subscriber
                     where delivery.id = held.id and delivery.lease_holder = held.lease
                         and subscriber.id = delivery.subscriber_id",
                    );
                    update.build().execute(&mut *tx).await?;
                }
            });
            self.stir(claimed.iter().map(|claimed| claimed.event.account_id));
            Ok(())
        })
        .await
    }
}

/// Keeps the subscribers of these records as they are until the transaction ends. On SQLite nobody else
/// writes meanwhile.
async fn hold_subscribers(tx: &mut Tx, records: &[Record]) -> Result<(), sqlx::Error> {
    if let Tx::Postgres(tx, _) = tx {
        let ids = in_list(records.iter().map(|record| record.subscriber_id));
        let hold = sqlx::query("select id from subscriber where id = any($1) order by id for update");
        hold.bind(ids).execute(&mut **tx).await?;
    }
    Ok(())
}

/// Moves on those deliveries that are still leased to their record's claim: which those are.
async fn move_on(tx: &mut Tx, records: &[Record]) -> Result<HashSet<DeliveryId>, sqlx::Error> {
    let mut ours = HashSet::with_capacity(records.len());
    for run in records.chunks(ROWS_AT_ONCE) {
        within!(tx, |db| {
            let mut update = QueryBuilder::<Db>::new(format!("with {MADE_COLUMNS} as ("));
            update.push_values(padded(run), |mut row, record| bind_made!(row, record));
            update.push(") ").push(MOVE_ON).push(" returning delivery.id");
            ours.extend(update.build_query_scalar::<DeliveryId>().fetch_all(db).await?);
        });
    }
    Ok(ours)
}

async fn insert_attempts(tx: &mut Tx, records: &[&Record]) -> Result<(), sqlx::Error> {
    for run in records.chunks(ROWS_AT_ONCE) {
        within!(tx, |db| {
            let mut insert = QueryBuilder::<Db>::new(format!("insert into attempt ({ATTEMPT_COLUMNS}) "));
            insert.push_values(padded(run), |mut row, record| {
                bind_attempt!(row, record);
            });
            // The lease says that this number is not there yet; a repeated row of the run is.
            insert.push(" on conflict do nothing");
            insert.build().execute(db).await?;
        });
    }
    Ok(())
}

/// Disables the subscriber of a record, unless it has moved on from the URL that was sent to.
async fn disable(tx: &mut Tx, record: &Record, reason: &str) -> Result<(), sqlx::Error> {
    within!(tx, |db| {
        let disabled = sqlx::query::<Db>(
            "update subscriber set enabled = false, disabled_reason = $2 where id = $1 and enabled and url = $3",
        );
        let disabled = disabled.bind(record.subscriber_id).bind(reason).bind(&record.attempt.url);
        if disabled.execute(&mut *db).await?.rows_affected() > 0 {
            let park = "update delivery set due_at = null, manual_due_at = null
                where subscriber_id = $1 and (due_at is not null or manual_due_at is not null) and lease_holder is null";
            sqlx::query::<Db>(park).bind(record.subscriber_id).execute(db).await?;
        }
    });
    Ok(())
}

/// Notes since when a subscriber has been failing, unless it has moved on from the URL that was sent to.
async fn note_failing(tx: &mut Tx, record: &Record, since: Option<DateTime<Utc>>) -> Result<(), sqlx::Error> {
    within!(tx, |db| {
        // The first failing attempt counts, whichever was recorded first.
        let note = if since.is_some() {
            "update subscriber set failing_since = $2 where id = $1 and url = $3 and failing_since is null"
        } else {
            "update subscriber set failing_since = $2 where id = $1 and url = $3"
        };
        let note = sqlx::query::<Db>(note).bind(record.subscriber_id).bind(since.map(micros));
        note.bind(&record.attempt.url).execute(db).await?;
    });
    Ok(())
}
