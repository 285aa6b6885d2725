//! Deliveries as people see them: one with its attempts, and the wish to send it again.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::QueryBuilder;

use super::lists::ListedRow;
use super::{Error, ListedDelivery, Store, json, micros, read, time, undecodable, word, write_deliveries};
use crate::delivery::{Attempt, Outcome, Response};
use crate::event::Event;
use crate::id::{AccountId, DeliveryId};
use crate::subscriber::Options;

/// A delivery with its attempts, its event and its subscriber.
#[derive(Debug)]
pub struct DeliveryDetail {
    pub listed: ListedDelivery,
    pub event: Event,
    /// The subscriber's at publish, which the body may depend on.
    pub options: Options,
    pub attempts: Vec<Attempt>,
}

/// What became of a wish to redeliver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Redelivered {
    /// The delivery is due now.
    Due,
    /// An attempt is being made at this moment.
    InFlight,
    /// The subscriber is disabled or deleted.
    NoSubscriber,
}

#[derive(sqlx::FromRow)]
struct AttemptRow {
    number: i64,
    url: String,
    started_at: i64,
    finished_at: i64,
    duration_ms: i64,
    request_headers: String,
    response_status: Option<i64>,
    response_headers: Option<String>,
    response_body: Option<Vec<u8>>,
    outcome: String,
    error: Option<String>,
    error_detail: Option<String>,
    reason: Option<String>,
}

impl TryFrom<AttemptRow> for Attempt {
    type Error = sqlx::Error;
    fn try_from(row: AttemptRow) -> Result<Self, sqlx::Error> {
        let status = row.response_status.map(u16::try_from).transpose().map_err(undecodable)?;
        let response = match (status, row.response_headers, row.response_body) {
            (Some(status), Some(headers), Some(body)) => Some(Response { status, headers: json(&headers)?, body }),
            _ => None,
        };
        let outcome = match (row.outcome.as_str(), status, row.error) {
            ("accepted", Some(status), _) => Outcome::Accepted { status },
            // What the receiver asked for stands in its headers.
            ("rejected", Some(status), _) => Outcome::Rejected { status, retry_after: None },
            (_, _, Some(error)) => {
                Outcome::Unreachable { error: word(&error)?, detail: row.error_detail.unwrap_or_default() }
            }
            (outcome, ..) => return Err(undecodable(format!("the outcome {outcome}"))),
        };
        Ok(Self {
            number: u32::try_from(row.number).map_err(undecodable)?,
            url: row.url,
            started_at: time(row.started_at)?,
            finished_at: time(row.finished_at)?,
            duration: Duration::from_millis(row.duration_ms.unsigned_abs()),
            request_headers: json(&row.request_headers)?,
            outcome,
            response,
            reason: row.reason.as_deref().map(json).transpose()?,
        })
    }
}

impl Store {
    /// Makes a delivery due at `now`. A finished one starts its retry schedule anew.
    pub async fn redeliver(
        &self,
        account_id: AccountId,
        id: DeliveryId,
        now: DateTime<Utc>,
    ) -> Result<Redelivered, Error> {
        let lock = self.pools.and_hold(" for share of subscriber");
        let found = write_deliveries!(self, |tx| {
            let mut select = QueryBuilder::<Db>::new(
                "select lease_holder is not null, enabled
                 from delivery join subscriber on subscriber.id = subscriber_id
                 where delivery.account_id = ",
            );
            select.push_bind(account_id).push(" and delivery.id = ").push_bind(id).push(lock);
            let found = select.build_query_as::<(bool, bool)>().fetch_optional(&mut *tx).await?;
            if found == Some((false, true)) {
                // A delivery that failed before its first attempt is scheduled again.
                sqlx::query::<Db>(
                    "update delivery set next_try = $2,
                        due_at = case when clock_now is null then $2 end,
                        manual_due_at = case when clock_now is not null then $2 end,
                        schedule_start = case when status in ('succeeded', 'failed') then retries + 1
                            else schedule_start end,
                        status = case when status = 'scheduled' then 'scheduled' else 'rescheduled' end
                     from account
                     where delivery.id = $1 and lease_holder is null and account.id = delivery.account_id",
                )
                .bind(id)
                .bind(micros(now))
                .execute(&mut *tx)
                .await?;
            }
            found
        });
        self.stir([account_id]);
        match found.ok_or(Error::NotFound("delivery"))? {
            (_, false) => Ok(Redelivered::NoSubscriber),
            (true, true) => Ok(Redelivered::InFlight),
            (false, true) => Ok(Redelivered::Due),
        }
    }

    /// One delivery with its event and its attempts.
    pub async fn delivery(&self, account_id: AccountId, id: DeliveryId) -> Result<DeliveryDetail, Error> {
        let (row, attempts, options) = read!(self, |db| {
            let row = sqlx::query_as::<Db, ListedRow>(
                "select delivery.id, delivery.account_id, event_id, subscriber_id, status, next_try, retries,
                    delivery.created_at, event_type
                 from delivery join event on event.id = event_id
                 where delivery.account_id = $1 and delivery.id = $2",
            )
            .bind(account_id)
            .bind(id)
            .fetch_optional(db)
            .await?;
            let attempts = sqlx::query_as::<Db, AttemptRow>(
                "select number, url, started_at, finished_at, duration_ms, request_headers, response_status,
                    response_headers, response_body, outcome, error, error_detail, reason
                 from attempt where account_id = $1 and delivery_id = $2 order by number",
            )
            .bind(account_id)
            .bind(id)
            .fetch_all(db)
            .await?;
            let options =
                sqlx::query_scalar::<Db, String>("select options from delivery where account_id = $1 and id = $2")
                    .bind(account_id)
                    .bind(id)
                    .fetch_optional(db)
                    .await?;
            (row, attempts, options)
        });
        let listed: ListedDelivery = row.ok_or(Error::NotFound("delivery"))?.try_into()?;
        let event = self.event(account_id, listed.delivery.event_id).await?.event;
        let attempts = attempts.into_iter().map(Attempt::try_from).collect::<Result<_, _>>()?;
        let options = options.as_deref().map(json).transpose()?.unwrap_or_default();
        Ok(DeliveryDetail { listed, event, options, attempts })
    }
}
