//! Lists of events and deliveries: filtered, newest first, a page at a time.

use chrono::{DateTime, Utc};
use sqlx::QueryBuilder;

use super::events::{DeliveryRow, EventWithDeliveries, Row as EventRow};
use super::{Error, Store, event_columns, micros, read};
use crate::delivery::{Delivery, Status};
use crate::event::{Event, Vendor};
use crate::id::{AccountId, EventId, SubscriberId};

/// Which part of a list is wanted. Ids are given as text: a position between two rows.
#[derive(Debug, Clone)]
pub struct Page {
    /// Only rows whose id sorts before this one.
    pub before: Option<String>,
    pub limit: u32,
}

/// Which events are wanted. Each part that is given must hold.
#[derive(Debug, Clone, Default)]
pub struct EventFilter {
    pub vendor: Option<Vendor>,
    pub event_type: Option<String>,
    /// Occurred at this time or later.
    pub from: Option<DateTime<Utc>>,
    /// Occurred before this time.
    pub until: Option<DateTime<Utc>>,
}

/// Which deliveries are wanted. Each part that is given must hold.
#[derive(Debug, Clone, Default)]
pub struct DeliveryFilter {
    pub status: Option<Status>,
    pub subscriber_id: Option<SubscriberId>,
    pub event_id: Option<EventId>,
    pub event_type: Option<String>,
    /// Made at this time or later.
    pub from: Option<DateTime<Utc>>,
    /// Made before this time.
    pub until: Option<DateTime<Utc>>,
}

/// A delivery in a list, with the event's type.
#[derive(Debug, Clone)]
pub struct ListedDelivery {
    pub delivery: Delivery,
    pub event_type: String,
}

#[derive(sqlx::FromRow)]
pub(super) struct ListedRow {
    #[sqlx(flatten)]
    delivery: DeliveryRow,
    event_type: String,
}

impl TryFrom<ListedRow> for ListedDelivery {
    type Error = sqlx::Error;
    fn try_from(row: ListedRow) -> Result<Self, sqlx::Error> {
        Ok(Self { delivery: row.delivery.try_into()?, event_type: row.event_type })
    }
}

impl Store {
    /// A page of the account's events, newest first.
    pub async fn events(
        &self,
        account_id: AccountId,
        filter: &EventFilter,
        page: &Page,
    ) -> Result<Vec<EventWithDeliveries>, Error> {
        let rows = read!(self, |db| {
            let mut select =
                QueryBuilder::<Db>::new(concat!("select ", event_columns!(), " from event where account_id = "));
            select.push_bind(account_id);
            if let Some(before) = page.before.clone() {
                select.push(" and id < ").push_bind(before);
            }
            if let Some(vendor) = filter.vendor {
                select.push(" and vendor = ").push_bind(vendor.as_str());
            }
            if let Some(event_type) = filter.event_type.clone() {
                select.push(" and event_type = ").push_bind(event_type);
            }
            if let Some(from) = filter.from {
                select.push(" and occurred_at >= ").push_bind(micros(from));
            }
            if let Some(until) = filter.until {
                select.push(" and occurred_at < ").push_bind(micros(until));
            }
            select.push(" order by id desc limit ").push_bind(i64::from(page.limit));
            select.build_query_as::<EventRow>().fetch_all(db).await?
        });
        let events = rows.into_iter().map(Event::try_from).collect::<Result<_, _>>()?;
        self.with_deliveries(events).await
    }

    /// A page of the account's deliveries, newest first.
    pub async fn deliveries(
        &self,
        account_id: AccountId,
        filter: &DeliveryFilter,
        page: &Page,
    ) -> Result<Vec<ListedDelivery>, Error> {
        let rows = read!(self, |db| {
            let mut select = QueryBuilder::<Db>::new(
                "select delivery.id, delivery.account_id, event_id, subscriber_id, status, next_try, retries,
                    delivery.created_at, event_type
                 from delivery join event on event.id = event_id where delivery.account_id = ",
            );
            select.push_bind(account_id);
            if let Some(before) = page.before.clone() {
                select.push(" and delivery.id < ").push_bind(before);
            }
            if let Some(status) = filter.status {
                select.push(" and status = ").push_bind(status.as_str());
            }
            if let Some(subscriber_id) = filter.subscriber_id {
                select.push(" and subscriber_id = ").push_bind(subscriber_id);
            }
            if let Some(event_id) = filter.event_id {
                select.push(" and event_id = ").push_bind(event_id);
            }
            if let Some(event_type) = filter.event_type.clone() {
                select.push(" and event_type = ").push_bind(event_type);
            }
            if let Some(from) = filter.from {
                select.push(" and delivery.created_at >= ").push_bind(micros(from));
            }
            if let Some(until) = filter.until {
                select.push(" and delivery.created_at < ").push_bind(micros(until));
            }
            select.push(" order by delivery.id desc limit ").push_bind(i64::from(page.limit));
            select.build_query_as::<ListedRow>().fetch_all(db).await?
        });
        Ok(rows.into_iter().map(ListedDelivery::try_from).collect::<Result<_, _>>()?)
    }
}
