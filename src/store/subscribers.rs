//! Subscribers.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::QueryBuilder;

use super::{
    Error, Store, Tx, in_list, json, micros, read, subscriber_columns, time, to_json, undecodable, within, word, write,
};
use crate::id::{AccountId, SubscriberId};
use crate::subscriber::{Secret, Subscriber};

/// A subscriber's row.
#[derive(sqlx::FromRow)]
pub(super) struct Row {
    id: SubscriberId,
    account_id: AccountId,
    vendor: String,
    url: String,
    event_types: String,
    secret: String,
    retry_schedule: Option<String>,
    timeout_ms: Option<i64>,
    headers: String,
    enabled: bool,
    disabled_reason: Option<String>,
    options: String,
    vendor_id: Option<String>,
    signature_time: Option<String>,
    previous_secret: Option<String>,
    previous_secret_until: Option<i64>,
    failing_since: Option<i64>,
    created_at: i64,
    changed_at: Option<i64>,
    deleted_at: Option<i64>,
}

impl TryFrom<Row> for Subscriber {
    type Error = sqlx::Error;
    fn try_from(row: Row) -> Result<Self, sqlx::Error> {
        Ok(Self {
            id: row.id,
            account_id: row.account_id,
            vendor: word(&row.vendor)?,
            url: row.url.parse().map_err(undecodable)?,
            event_types: json(&row.event_types)?,
            secret: (!row.secret.is_empty()).then(|| Secret::new(row.secret)),
            previous_secret: match (row.previous_secret, row.previous_secret_until) {
                (Some(secret), Some(until)) => Some((Secret::new(secret), time(until)?)),
                _ => None,
            },
            failing_since: row.failing_since.map(time).transpose()?,
            retry_schedule: row.retry_schedule.as_deref().map(json).transpose()?,
            timeout: row.timeout_ms.map(|ms| Duration::from_millis(ms.unsigned_abs())),
            headers: json(&row.headers)?,
            enabled: row.enabled,
            disabled_reason: row.disabled_reason,
            options: json(&row.options)?,
            vendor_id: row.vendor_id,
            signature_time: row.signature_time.as_deref().map(word).transpose()?.unwrap_or_default(),
            created_at: time(row.created_at)?,
            changed_at: time(row.changed_at.unwrap_or(row.created_at))?,
            deleted_at: row.deleted_at.map(time).transpose()?,
        })
    }
}

fn timeout_ms(subscriber: &Subscriber) -> Option<i64> {
    subscriber.timeout.map(|timeout| i64::try_from(timeout.as_millis()).unwrap_or(i64::MAX))
}

pub(super) fn all(rows: Vec<Row>) -> Result<Vec<Subscriber>, Error> {
    Ok(rows.into_iter().map(Subscriber::try_from).collect::<Result<_, _>>()?)
}

impl Store {
    /// Stores a new subscriber. Fails with [`Error::AccountGone`] if its account was deleted.
    pub async fn insert_subscriber(&self, subscriber: &Subscriber) -> Result<(), Error> {
        self.in_time(async {
            let mut tx = self.begin().await?;
            match insert_row(&mut tx, subscriber).await {
                Err(sqlx::Error::Database(error)) if error.is_foreign_key_violation() => Err(Error::AccountGone),
                inserted => Ok(inserted?),
            }?;
            tx.commit().await?;
            self.stir([subscriber.account_id]);
            Ok(())
        })
        .await
    }

    /// One subscriber that has not been deleted.
    pub async fn subscriber(&self, account_id: AccountId, id: SubscriberId) -> Result<Subscriber, Error> {
        let row = read!(self, |db| {
            sqlx::query_as::<Db, Row>(concat!(
                "select ",
                subscriber_columns!(),
                " from subscriber where account_id = $1 and id = $2 and deleted_at is null"
            ))
            .bind(account_id)
            .bind(id)
            .fetch_optional(db)
            .await?
        });
        Ok(row.ok_or(Error::NotFound("subscriber"))?.try_into()?)
    }

    /// The account's subscribers after a position, oldest first.
    pub async fn subscribers(
        &self,
        account_id: AccountId,
        after: Option<SubscriberId>,
        limit: u32,
    ) -> Result<Vec<Subscriber>, Error> {
        all(read!(self, |db| {
            sqlx::query_as::<Db, Row>(concat!(
                "select ",
                subscriber_columns!(),
                " from subscriber where account_id = $1 and id > $2 and deleted_at is null order by id limit $3"
            ))
            .bind(account_id)
            .bind(after.map(|id| id.to_string()).unwrap_or_default())
            .bind(i64::from(limit))
            .fetch_all(db)
            .await?
        }))
    }

    /// Subscribers as they are now, also deleted ones, each if its row can be read.
    pub async fn subscribers_by_id(
        &self,
        ids: &[SubscriberId],
    ) -> Result<HashMap<SubscriberId, Result<Option<Arc<Subscriber>>, Arc<Error>>>, Error> {
        self.in_time(async {
            let ids = in_list(ids.iter().copied());
            let rows = read!(self, |db| {
                let mut select = QueryBuilder::<Db>::new(concat!(
                    "select ",
                    subscriber_columns!(),
                    " from subscriber where id in ("
                ));
                let mut list = select.separated(", ");
                ids.iter().for_each(|id| {
                    list.push_bind(*id);
                });
                select.push(")");
                select.build_query_as::<Row>().fetch_all(db).await?
            });
            let read = |row: Row| {
                let id = row.id;
                let subscriber = Subscriber::try_from(row).map(|subscriber| Some(Arc::new(subscriber)));
                (id, subscriber.map_err(|error| Arc::new(Error::from(error))))
            };
            Ok(rows.into_iter().map(read).collect())
        })
        .await
    }

    /// Changes a subscriber: `change` is given it as it is, and nobody else changes it meanwhile.
    /// If `change` refuses, its error is the inner one and nothing is stored.
    ///
    /// Owed deliveries wait while their subscriber is disabled, and are due at their next try once
    /// it is enabled again.
    pub async fn change_subscriber<E: Send>(
        &self,
        account_id: AccountId,
        id: SubscriberId,
        change: impl FnOnce(&mut Subscriber) -> Result<(), E> + Send,
    ) -> Result<Result<Subscriber, E>, Error> {
        let lock = self.pools.and_hold(" for update");
        let changed = write!(self, |tx| {
            let mut select =
                QueryBuilder::<Db>::new(concat!("select ", subscriber_columns!(), " from subscriber where id = "));
            select
                .push_bind(id)
                .push(" and account_id = ")
                .push_bind(account_id)
                .push(" and deleted_at is null")
                .push(lock);
            let row = select.build_query_as::<Row>().fetch_optional(&mut *tx).await?;
            let mut subscriber = Subscriber::try_from(row.ok_or(Error::NotFound("subscriber"))?)?;
            if let Err(refused) = change(&mut subscriber) {
                return Ok(Err(refused));
            }
            sqlx::query::<Db>(
                "update subscriber set url = $2, event_types = $3, secret = $4, retry_schedule = $5, timeout_ms = $6,
                    headers = $7, enabled = $8, disabled_reason = $9, options = $10, changed_at = $11,
                    signature_time = $12, previous_secret = $13, previous_secret_until = $14, failing_since = $15
                 where id = $1",
            )
            .bind(subscriber.id)
            .bind(subscriber.url.as_str())
            .bind(to_json(&subscriber.event_types))
            .bind(subscriber.secret.as_ref().map(Secret::reveal).unwrap_or_default())
            .bind(subscriber.retry_schedule.as_ref().map(to_json))
            .bind(timeout_ms(&subscriber))
            .bind(to_json(&subscriber.headers))
            .bind(subscriber.enabled)
            .bind(subscriber.disabled_reason.as_deref())
            .bind(to_json(&subscriber.options))
            .bind(micros(subscriber.changed_at))
            .bind(subscriber.signature_time.as_str())
            .bind(subscriber.previous_secret.as_ref().map(|(secret, _)| secret.reveal()))
            .bind(subscriber.previous_secret.as_ref().map(|(_, until)| micros(*until)))
            .bind(subscriber.failing_since.map(micros))
            .execute(&mut *tx)
            .await?;
            let wake_or_park = if subscriber.enabled {
                "update delivery set due_at = case when clock_now is null then next_try end,
                    manual_due_at = case when clock_now is not null then next_try end
                 from account
                 where subscriber_id = $1 and due_at is null and status in ('scheduled', 'rescheduled')
                    and account.id = delivery.account_id"
            } else {
                "update delivery set due_at = null, manual_due_at = null
                 where subscriber_id = $1 and (due_at is not null or manual_due_at is not null)
                    and lease_holder is null"
            };
            sqlx::query::<Db>(wake_or_park).bind(subscriber.id).execute(&mut *tx).await?;
            subscriber
        });
        self.stir([account_id]);
        Ok(Ok(changed))
    }

    /// Deletes a subscriber: what is still owed to it fails, and its secret is forgotten.
    pub async fn delete_subscriber(
        &self,
        account_id: AccountId,
        id: SubscriberId,
        now: DateTime<Utc>,
    ) -> Result<(), Error> {
        let deleted = write!(self, |tx| {
            let deleted = sqlx::query::<Db>(
                "update subscriber set deleted_at = $3, enabled = false, secret = '', previous_secret = null
                 where account_id = $1 and id = $2 and deleted_at is null",
            )
            .bind(account_id)
            .bind(id)
            .bind(micros(now))
            .execute(&mut *tx)
            .await?
            .rows_affected();
            if deleted > 0 {
                // A delivery in flight is left to its lease's holder.
                sqlx::query::<Db>(
                    "update delivery set status = 'failed', due_at = null, manual_due_at = null
                     where subscriber_id = $1 and status in ('scheduled', 'rescheduled') and lease_holder is null",
                )
                .bind(id)
                .execute(&mut *tx)
                .await?;
            }
            deleted
        });
        self.stir([account_id]);
        if deleted == 0 { Err(Error::NotFound("subscriber")) } else { Ok(()) }
    }
}

pub(super) async fn insert_row(tx: &mut Tx, subscriber: &Subscriber) -> Result<(), sqlx::Error> {
    within!(tx, |db| {
        sqlx::query::<Db>(
            "insert into subscriber (id, account_id, vendor, url, event_types, secret, retry_schedule,
                timeout_ms, headers, enabled, disabled_reason, created_at, options, vendor_id, signature_time)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)",
        )
        .bind(subscriber.id)
        .bind(subscriber.account_id)
        .bind(subscriber.vendor.as_str())
        .bind(subscriber.url.as_str())
        .bind(to_json(&subscriber.event_types))
        .bind(subscriber.secret.as_ref().map(Secret::reveal).unwrap_or_default())
        .bind(subscriber.retry_schedule.as_ref().map(to_json))
        .bind(timeout_ms(subscriber))
        .bind(to_json(&subscriber.headers))
        .bind(subscriber.enabled)
        .bind(subscriber.disabled_reason.as_deref())
        .bind(micros(subscriber.created_at))
        .bind(to_json(&subscriber.options))
        .bind(subscriber.vendor_id.as_deref())
        .bind(subscriber.signature_time.as_str())
        .execute(db)
        .await?;
    });
    Ok(())
}
