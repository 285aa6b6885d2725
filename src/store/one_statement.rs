//! Postgres's short way for what happens with every event: one statement that is its own transaction.
//!
//! In steps, publishing and recording are about six round trips, with texts of several sizes and up to
//! a thousand parameters. Here there is one text of each, and each column is one array.
//!
//! A statement sees the rows that were committed when it began. What it locks it sees as it is once it
//! has the lock, so the versions that it compares are those of the rows that nobody changes any more.

use std::collections::HashSet;
use std::sync::LazyLock;

use sqlx::{PgPool, Postgres};

use super::bind::{ATTEMPT_COLUMNS, MADE_COLUMNS, MOVE_ON, NEW_DELIVERY_COLUMNS, NEW_EVENT_COLUMNS};
use super::claims::{Record, after};
use super::events::{NewDelivery, Publication, Tenants, Written, with_events};
use super::known::Accounts;
use super::{Error, Store, micros, to_json};
use crate::delivery::{API_VERSION, AttemptError, Status};
use crate::event::Event;
use crate::id::{AccountId, DeliveryId, EventId};

/// Stores events and deliveries if the accounts `$1` and their enabled subscribers have the versions
/// `$2` and `$3`: whether they have, and the events that were stored. Accounts are locked before
/// subscribers, which wait for the count.
static INSERT: LazyLock<String> = LazyLock::new(|| {
    format!(
        "with held_account as materialized (
            select id, xmin from account where id = any($1) order by id for key share
        ), held_subscriber as materialized (
            select id, account_id, xmin from subscriber
            where (select count(*) from held_account) > 0 and deleted_at is null and enabled and account_id = any($1)
            order by id for share
        ), guard as materialized (
            select coalesce((select string_agg(id || ' ' || xmin::text, ',' order by id) from held_account), '') = $2
                and coalesce((select string_agg(id || ' ' || xmin::text, ',' order by account_id, id)
                    from held_subscriber), '') = $3 as holds
        ), stored as (
            insert into event ({NEW_EVENT_COLUMNS})
            select * from unnest($4::text[], $5::text[], $6::text[], $7::text[], $8::bigint[], $9::text[], $10::text[],
                $11::text[], $12::text[], $13::bigint[], $14::text[])
            where (select holds from guard) on conflict do nothing returning id
        ), owed as (
            insert into delivery ({NEW_DELIVERY_COLUMNS})
            select new.id, account_id, event_id, subscriber_id, $15, $16, next_try, 0, 0, due_at, manual_due_at,
                lease_holder, created_at, options
            from unnest($17::text[], $18::text[], $19::text[], $20::text[], $21::bigint[], $22::bigint[],
                $23::bigint[], $24::bigint[], $25::bigint[], $26::text[])
                as new (id, account_id, event_id, subscriber_id, next_try, due_at, manual_due_at, lease_holder,
                    created_at, options)
            join stored on stored.id = event_id
        )
        select (select holds from guard), coalesce((select array_agg(id) from stored), '{{}}')"
    )
});

/// Moves on the deliveries that are still leased to their record's claim and notes their attempts: which
/// those are. Subscribers are locked before any delivery, which wait for the count.
static RECORD: LazyLock<String> = LazyLock::new(|| {
    format!(
        "with subscriber as materialized (
            select id, enabled, deleted_at from subscriber where id = any($1) order by id for share
        ), {MADE_COLUMNS} as (
            select * from unnest($2::text[], $3::bigint[], $4::text[], $5::bigint[], $6::bigint[], $6::bigint[])
            where (select count(*) from subscriber) > 0
        ), moved as ({MOVE_ON} returning delivery.id, made.retries + 1 as made_number
        ), noted as (
            insert into attempt ({ATTEMPT_COLUMNS}) select {ATTEMPT_COLUMNS}
            from unnest($2::text[], $7::bigint[], $8::text[], $9::text[], $10::bigint[], $11::bigint[], $12::bigint[],
                $13::text[], $14::bigint[], $15::text[], $16::bytea[], $17::text[], $18::text[], $19::text[],
                $20::text[]) as new ({ATTEMPT_COLUMNS})
            join moved on moved.id = delivery_id and made_number = number on conflict do nothing
        )
        select id from moved"
    )
});

/// One column of some rows.
fn column<'r, R, T>(rows: &'r [R], of: impl Fn(&'r R) -> T) -> Vec<T> {
    rows.iter().map(of).collect()
}

impl Store {
    /// Stores events and their deliveries; none if there are none, or if somebody else keeps changing
    /// what `plan` is told.
    pub(super) async fn insert_in_one_statement<T: Send>(
        &self,
        pool: &PgPool,
        accounts: &[AccountId],
        plan: &mut (impl FnMut(Tenants) -> (Vec<Publication>, T) + Send),
    ) -> Result<Option<Written<T>>, Error> {
        let mut accounts = accounts.to_vec();
        accounts.dedup();
        let mut connection = pool.acquire().await?;
        // What is remembered may be old; what was just read hardly ever is.
        for remembered in [self.memory.get(&accounts), None] {
            // What is remembered from before this count does not pass the guard, if it has changed.
            let changes = self.changes();
            let known = match remembered {
                Some(known) => known,
                None => {
                    let known = Accounts::read(&mut connection, &accounts).await?;
                    self.memory.put(&known);
                    known
                }
            };
            let held: HashSet<AccountId> = known.ids().into_iter().collect();
            let (publications, rest) = plan(known.tenants(changes));
            let storable: Vec<&Event> =
                publications.iter().map(|new| &*new.event).filter(|new| held.contains(&new.account_id)).collect();
            if storable.is_empty() {
                return Ok(None);
            }
            let storing = publications.iter().filter(|new| held.contains(&new.event.account_id));
            let (holds, stored) = insert(&mut connection, &known, &storable, &with_events(storing)).await?;
            if holds {
                return Ok(Some(Written { publications, rest, held, stored: stored.into_iter().collect() }));
            }
            self.memory.forget(&accounts);
        }
        Ok(None)
    }

    /// Records attempts that change nothing of their subscribers: whether each was.
    pub(super) async fn record_in_one_statement(&self, pool: &PgPool, records: &[Record]) -> Result<Vec<bool>, Error> {
        let attempts = column(records, |record| &record.attempt);
        let after = column(records, |record| after(record.next));
        let mut subscribers = column(records, |record| record.subscriber_id);
        subscribers.sort_unstable();
        subscribers.dedup();
        let query = sqlx::query_scalar::<Postgres, DeliveryId>(sqlx::AssertSqlSafe(RECORD.as_str()))
            .bind(subscribers)
            .bind(column(records, |record| record.delivery_id))
            .bind(column(records, |record| record.lease))
            .bind(column(&after, |(status, _)| status.as_str()))
            .bind(column(&attempts, |attempt| i64::from(attempt.number) - 1))
            .bind(column(&after, |(_, at)| *at))
            .bind(column(&attempts, |attempt| i64::from(attempt.number)))
            .bind(column(records, |record| record.account_id))
            .bind(column(&attempts, |attempt| attempt.url.as_str()))
            .bind(column(&attempts, |attempt| micros(attempt.started_at)))
            .bind(column(&attempts, |attempt| micros(attempt.finished_at)))
            .bind(column(&attempts, |attempt| i64::try_from(attempt.duration.as_millis()).unwrap_or(i64::MAX)))
            .bind(column(&attempts, |attempt| to_json(&attempt.request_headers)))
            .bind(column(&attempts, |attempt| attempt.response.as_ref().map(|response| i64::from(response.status))))
            .bind(column(&attempts, |attempt| attempt.response.as_ref().map(|response| to_json(&response.headers))))
            .bind(column(&attempts, |attempt| attempt.response.as_ref().map(|response| response.body.as_slice())))
            .bind(column(&attempts, |attempt| attempt.outcome.as_str()))
            .bind(column(&attempts, |attempt| attempt.outcome.error().map(|(error, _)| AttemptError::as_str(error))))
            .bind(column(&attempts, |attempt| attempt.outcome.error().map(|(_, detail)| detail)))
            .bind(column(&attempts, |attempt| attempt.reason.as_ref().map(to_json)));
        let ours: HashSet<DeliveryId> = query.fetch_all(pool).await?.into_iter().collect();
        self.stir(records.iter().map(|record| record.account_id));
        Ok(column(records, |record| ours.contains(&record.delivery_id)))
    }
}

/// Runs [`INSERT`].
async fn insert(
    db: &mut sqlx::PgConnection,
    known: &Accounts,
    events: &[&Event],
    deliveries: &[(&Event, &NewDelivery)],
) -> Result<(bool, Vec<EventId>), sqlx::Error> {
    let due_at = |new: &NewDelivery| micros(new.lease.map_or(new.next_try, |(_, until)| until));
    sqlx::query_as::<Postgres, (bool, Vec<EventId>)>(sqlx::AssertSqlSafe(INSERT.as_str()))
        .bind(known.ids())
        .bind(known.versions())
        .bind(known.subscriber_versions())
        .bind(column(events, |event| event.id))
        .bind(column(events, |event| event.account_id))
        .bind(column(events, |event| event.vendor.as_str()))
        .bind(column(events, |event| event.vendor_event_id.as_str()))
        .bind(column(events, |event| micros(event.occurred_at)))
        .bind(column(events, |event| event.event_type.as_str()))
        .bind(column(events, |event| event.object_type.as_str()))
        .bind(column(events, |event| event.content.as_str()))
        .bind(column(events, |event| event.idempotency_key.as_deref()))
        .bind(column(events, |event| micros(event.created_at)))
        .bind(column(events, |event| event.at_publish.as_deref()))
        .bind(API_VERSION)
        .bind(Status::Scheduled.as_str())
        .bind(column(deliveries, |(_, new)| new.id))
        .bind(column(deliveries, |(event, _)| event.account_id))
        .bind(column(deliveries, |(event, _)| event.id))
        .bind(column(deliveries, |(_, new)| new.subscriber_id))
        .bind(column(deliveries, |(_, new)| micros(new.next_try)))
        .bind(column(deliveries, |(_, new)| (!new.is_manual).then(|| due_at(new))))
        .bind(column(deliveries, |(_, new)| new.is_manual.then(|| micros(new.next_try))))
        .bind(column(deliveries, |(_, new)| new.lease.map(|(holder, _)| holder)))
        .bind(column(deliveries, |(event, _)| micros(event.created_at)))
        .bind(column(deliveries, |(_, new)| to_json(&new.options)))
        .fetch_one(db)
        .await
}
