//! What whoever waits looks at: what is owed, and what there is to match.

use chrono::{DateTime, Utc};
use sqlx::QueryBuilder;

use super::events::Row as EventRow;
use super::world::TimerRow;
use super::{Error, Pools, Store, event_columns, in_list, json, micros, read, time, undecodable, word};
use crate::delivery::{Status, attempts_made};
use crate::event::Event;
use crate::expectation::{Got, SeenDelivery, SeenEvent};
use crate::id::{AccountId, DeliveryId, EventId, SubscriberId};
use crate::subscriber::Options;
use crate::world::Timer;

/// The columns that say when a delivery is due, by the machine's clock and by its account's own.
const BY_MACHINE: &str = "due_at";
const BY_OWN_CLOCK: &str = "manual_due_at";

/// What time it is in an account, by the clock that it goes by.
#[derive(Debug, Clone, Copy)]
pub enum Present {
    /// By the machine's clock. Every lease that is held now lapses or is renewed by `leased_until`.
    Machine { now: DateTime<Utc>, leased_until: DateTime<Utc> },
    /// By one of its own.
    Own(DateTime<Utc>),
}

impl Present {
    fn now(self) -> DateTime<Utc> {
        match self {
            Self::Machine { now, .. } | Self::Own(now) => now,
        }
    }

    fn column(self) -> &'static str {
        match self {
            Self::Machine { .. } => BY_MACHINE,
            Self::Own(_) => BY_OWN_CLOCK,
        }
    }
}

/// A delivery that an attempt is owed of.
#[derive(Debug, Clone)]
pub struct OwedDelivery {
    pub id: DeliveryId,
    pub event_type: String,
    pub subscriber_id: SubscriberId,
    pub subscriber_url: String,
    /// When it may be claimed: its next try or, in flight, the time its lease lapses.
    pub due_at: DateTime<Utc>,
    /// Whether it is leased.
    pub in_flight: bool,
}

/// What of an account is in flight or due: the first few of each.
#[derive(Debug, Default)]
pub struct Owed {
    pub deliveries: Vec<OwedDelivery>,
    pub timers: Vec<Timer>,
}

impl Owed {
    /// Whether nothing is in flight or due.
    pub fn is_nothing(&self) -> bool {
        self.deliveries.is_empty() && self.timers.is_empty()
    }
}

/// What of an account is due later: how many of each, and the earliest.
#[derive(Debug)]
pub struct Scheduled {
    pub deliveries: u64,
    pub next_delivery: Option<OwedDelivery>,
    pub timers: u64,
    pub next_timer: Option<Timer>,
}

#[derive(sqlx::FromRow)]
struct OwedRow {
    id: DeliveryId,
    event_type: String,
    subscriber_id: SubscriberId,
    url: String,
    due_at: i64,
    in_flight: bool,
}

impl TryFrom<OwedRow> for OwedDelivery {
    type Error = sqlx::Error;
    fn try_from(row: OwedRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            id: row.id,
            event_type: row.event_type,
            subscriber_id: row.subscriber_id,
            subscriber_url: row.url,
            due_at: time(row.due_at)?,
            in_flight: row.in_flight,
        })
    }
}

#[derive(sqlx::FromRow)]
struct HeadRow {
    id: EventId,
    vendor: String,
    event_type: String,
    created_at: i64,
}

impl TryFrom<HeadRow> for SeenEvent {
    type Error = sqlx::Error;
    fn try_from(row: HeadRow) -> Result<Self, sqlx::Error> {
        let (vendor, created_at) = (word(&row.vendor)?, time(row.created_at)?);
        Ok(Self { id: row.id, vendor, event_type: row.event_type, created_at, misses: Vec::new() })
    }
}

#[derive(sqlx::FromRow)]
struct StandingRow {
    id: DeliveryId,
    event_id: EventId,
    event_type: String,
    subscriber_id: SubscriberId,
    status: String,
    retries: i64,
    options: String,
    response_status: Option<i64>,
    outcome: Option<String>,
    error: Option<String>,
}

impl TryFrom<StandingRow> for (SeenDelivery, Options) {
    type Error = sqlx::Error;
    fn try_from(row: StandingRow) -> Result<Self, sqlx::Error> {
        let status: Status = word(&row.status)?;
        let last = match (row.outcome.as_deref(), row.response_status, row.error) {
            (None, ..) => None,
            (Some("unreachable"), _, Some(error)) => Some(Got::Nothing(word(&error)?)),
            (Some(_), Some(status), _) => Some(Got::Answer(u16::try_from(status).map_err(undecodable)?)),
            (Some(outcome), ..) => return Err(undecodable(format!("the outcome {outcome}"))),
        };
        let delivery = SeenDelivery {
            id: row.id,
            event_id: row.event_id,
            event_type: row.event_type,
            subscriber_id: row.subscriber_id,
            status,
            attempts: attempts_made(status, u32::try_from(row.retries).map_err(undecodable)?),
            last,
            misses: Vec::new(),
        };
        Ok((delivery, json(&row.options)?))
    }
}

impl Store {
    /// What of an account is in flight or due, the first `limit` of each.
    pub async fn owed(&self, account_id: AccountId, present: Present, limit: u32) -> Result<Owed, Error> {
        let now = present.now();
        self.in_time(async {
            // The timers are first: one that fires leaves deliveries behind, but no delivery a timer.
            let timers = read!(self, |db| {
                let select = "select account_id, subject_id, kind, due_at from timer
                    where account_id = $1 and due_at <= $2 order by due_at, subject_id limit $3";
                sqlx::query_as::<Db, TimerRow>(select)
                    .bind(account_id)
                    .bind(micros(now))
                    .bind(i64::from(limit))
                    .fetch_all(db)
                    .await?
            });
            let deliveries = read!(self, |db| {
                let due_at = present.column();
                let mut select = QueryBuilder::<Db>::new(self.owed_by(due_at));
                select.push(format!(" where {due_at} is not null and ({due_at} <= ")).push_bind(micros(now));
                select.push(" or lease_holder is not null)");
                if let Present::Machine { leased_until, .. } = present {
                    select.push(" and due_at <= ").push_bind(micros(leased_until));
                }
                select.push(" and delivery.account_id = ").push_bind(account_id);
                select.push(format!(" order by {due_at} limit ")).push_bind(i64::from(limit));
                select.build_query_as::<OwedRow>().fetch_all(db).await?
            });
            Ok(Owed { deliveries: read_all(deliveries)?, timers: read_timers(timers)? })
        })
        .await
    }

    /// What of an account is due later, and not in flight.
    pub async fn scheduled(&self, account_id: AccountId, present: Present) -> Result<Scheduled, Error> {
        let (now, due_at) = (present.now(), present.column());
        self.in_time(async {
            let (deliveries, next_delivery) = read!(self, |db| {
                let mut count = QueryBuilder::<Db>::new("select count(*) from delivery");
                count.push(self.by(due_at)).push(format!(" where {due_at} > ")).push_bind(micros(now));
                count.push(" and lease_holder is null and account_id = ").push_bind(account_id);
                let count: i64 = count.build_query_scalar().fetch_one(db).await?;
                let mut select = QueryBuilder::<Db>::new(self.owed_by(due_at));
                select.push(format!(" where {due_at} > ")).push_bind(micros(now));
                select.push(" and lease_holder is null and delivery.account_id = ").push_bind(account_id);
                select.push(format!(" order by {due_at} limit 1"));
                (count, select.build_query_as::<OwedRow>().fetch_all(db).await?)
            });
            let (timers, next_timer) = read!(self, |db| {
                let count = "select count(*) from timer where account_id = $1 and due_at > $2";
                let count = sqlx::query_scalar::<Db, i64>(count).bind(account_id).bind(micros(now));
                let next = "select account_id, subject_id, kind, due_at from timer
                    where account_id = $1 and due_at > $2 order by due_at, subject_id limit 1";
                let next = sqlx::query_as::<Db, TimerRow>(next).bind(account_id).bind(micros(now));
                (count.fetch_one(db).await?, next.fetch_all(db).await?)
            });
            Ok(Scheduled {
                deliveries: deliveries.unsigned_abs(),
                next_delivery: read_all(next_delivery)?.pop(),
                timers: timers.unsigned_abs(),
                next_timer: read_timers(next_timer)?.pop(),
            })
        })
        .await
    }

    /// The index that holds only what can fall due. Left to itself, SQLite would rather go through all
    /// deliveries that the account ever had.
    fn by(&self, due_at: &str) -> &'static str {
        match self.pools {
            Pools::Sqlite { .. } if due_at == BY_OWN_CLOCK => " indexed by delivery_manual_due",
            Pools::Sqlite { .. } => " indexed by delivery_due",
            Pools::Postgres(_) => "",
        }
    }

    /// The beginning of a `select` of owed deliveries.
    fn owed_by(&self, due_at: &str) -> String {
        format!(
            "select delivery.id, event_type, subscriber_id, url, {due_at} as due_at,
                lease_holder is not null as in_flight
             from delivery{} join event on event.id = event_id join subscriber on subscriber.id = subscriber_id",
            self.by(due_at)
        )
    }

    /// The account's newest events without their content, newest first; or one of them.
    pub async fn newest_events(
        &self,
        account_id: AccountId,
        id: Option<EventId>,
        limit: u32,
    ) -> Result<Vec<SeenEvent>, Error> {
        self.in_time(async {
            let rows = read!(self, |db| {
                let mut select =
                    QueryBuilder::<Db>::new("select id, vendor, event_type, created_at from event where account_id = ");
                select.push_bind(account_id);
                if let Some(id) = id {
                    select.push(" and id = ").push_bind(id);
                }
                select.push(" order by id desc limit ").push_bind(i64::from(limit));
                select.build_query_as::<HeadRow>().fetch_all(db).await?
            });
            read_all(rows)
        })
        .await
    }

    /// Events of an account by their ids.
    pub async fn events_by_id(&self, account_id: AccountId, ids: &[EventId]) -> Result<Vec<Event>, Error> {
        self.in_time(async {
            let rows = read!(self, |db| {
                let mut select =
                    QueryBuilder::<Db>::new(concat!("select ", event_columns!(), " from event where account_id = "));
                select.push_bind(account_id).push(" and id in (");
                let mut list = select.separated(", ");
                in_list(ids.iter().copied()).into_iter().for_each(|id| {
                    list.push_bind(id);
                });
                select.push(")");
                select.build_query_as::<EventRow>().fetch_all(db).await?
            });
            read_all(rows)
        })
        .await
    }

    /// Where the deliveries of these events stand, each with what its body depends on, newest first.
    /// The events are the account's; to name it as well would lead SQLite through all its deliveries.
    pub async fn standings(&self, event_ids: &[EventId]) -> Result<Vec<(SeenDelivery, Options)>, Error> {
        self.in_time(async {
            let rows = read!(self, |db| {
                let mut select = QueryBuilder::<Db>::new(
                    "select delivery.id, event_id, event_type, subscriber_id, status, retries, options,
                        response_status, outcome, error
                     from delivery join event on event.id = event_id
                     left join attempt on delivery_id = delivery.id and number = retries + 1
                     where event_id in (",
                );
                let mut list = select.separated(", ");
                in_list(event_ids.iter().copied()).into_iter().for_each(|id| {
                    list.push_bind(id);
                });
                select.push(") order by delivery.id desc");
                select.build_query_as::<StandingRow>().fetch_all(db).await?
            });
            read_all(rows)
        })
        .await
    }
}

fn read_all<R, T: TryFrom<R, Error = sqlx::Error>>(rows: Vec<R>) -> Result<Vec<T>, Error> {
    Ok(rows.into_iter().map(T::try_from).collect::<Result<_, _>>()?)
}

fn read_timers(rows: Vec<TimerRow>) -> Result<Vec<Timer>, Error> {
    let timers: Vec<(AccountId, Timer)> = read_all(rows)?;
    Ok(timers.into_iter().map(|(_, timer)| timer).collect())
}
