//! Events and subscribers as the vendors' own APIs look for them: by the vendor's ids.

use sqlx::QueryBuilder;

use super::events::{EventWithDeliveries, Row as EventRow};
use super::subscribers::{Row as SubscriberRow, all};
use super::{Error, Pools, Store, event_columns, read, subscriber_columns, write};
use crate::event::{Event, Vendor};
use crate::id::{AccountId, EventId};
use crate::subscriber::Subscriber;

/// Which of a vendor's events are wanted, of those that were not deleted through its API.
#[derive(Debug, Clone)]
pub struct VendorEvents {
    pub vendor: Vendor,
    pub event_type: Option<String>,
    /// Only those about these types of object; all if empty.
    pub object_types: Vec<&'static str>,
    /// Only those whose content has this text in it, or has it with a space after its colons.
    pub containing: Option<String>,
}

/// Which rows of a list, counted from its beginning.
#[derive(Debug, Clone, Copy)]
pub struct Window {
    pub offset: u32,
    pub limit: u32,
}

impl Store {
    /// How many of a vendor's events there are, and some of them, newest first.
    pub async fn vendor_events(
        &self,
        account_id: AccountId,
        filter: &VendorEvents,
        window: Window,
    ) -> Result<(u64, Vec<EventWithDeliveries>), Error> {
        let contains = match self.pools {
            Pools::Sqlite { .. } => r#" and instr(replace(content, '": "', '":"'), "#,
            Pools::Postgres(_) => r#" and strpos(replace(content, '": "', '":"'), "#,
        };
        let (count, rows) = read!(self, |db| {
            let select = |columns: &'static str| {
                let mut select = QueryBuilder::<Db>::new("select ");
                select.push(columns).push(" from event where not is_hidden and account_id = ").push_bind(account_id);
                select.push(" and vendor = ").push_bind(filter.vendor.as_str());
                if let Some(event_type) = filter.event_type.clone() {
                    select.push(" and event_type = ").push_bind(event_type);
                }
                if !filter.object_types.is_empty() {
                    select.push(" and object_type in (");
                    let mut types = select.separated(", ");
                    filter.object_types.iter().for_each(|object_type| {
                        types.push_bind(*object_type);
                    });
                    select.push(")");
                }
                if let Some(text) = filter.containing.clone() {
                    select.push(contains).push_bind(text).push(") > 0");
                }
                select
            };
            let count: i64 = select("count(*)").build_query_scalar().fetch_one(db).await?;
            let mut page = select(event_columns!());
            page.push(" order by id desc limit ").push_bind(i64::from(window.limit));
            page.push(" offset ").push_bind(i64::from(window.offset));
            (count, page.build_query_as::<EventRow>().fetch_all(db).await?)
        });
        let events = rows.into_iter().map(Event::try_from).collect::<Result<_, _>>()?;
        Ok((count.unsigned_abs(), self.with_deliveries(events).await?))
    }

    /// One of a vendor's events, by the vendor's id, unless it was deleted through the vendor's API.
    pub async fn vendor_event(
        &self,
        account_id: AccountId,
        vendor: Vendor,
        vendor_event_id: &str,
    ) -> Result<EventWithDeliveries, Error> {
        // Postgres takes no such text, and no id has it.
        if vendor_event_id.contains('\0') {
            return Err(Error::NotFound("event"));
        }
        let id = read!(self, |db| {
            let select = "select id from event
                where account_id = $1 and vendor_event_id = $2 and vendor = $3 and not is_hidden";
            sqlx::query_scalar::<Db, EventId>(select)
                .bind(account_id)
                .bind(vendor_event_id)
                .bind(vendor.as_str())
                .fetch_optional(db)
                .await?
        });
        self.event(account_id, id.ok_or(Error::NotFound("event"))?).await
    }

    /// Deletes an event, as far as the vendor's API shows it.
    pub async fn hide_event(&self, account_id: AccountId, id: EventId) -> Result<(), Error> {
        write!(self, |tx| {
            sqlx::query::<Db>("update event set is_hidden = true where account_id = $1 and id = $2")
                .bind(account_id)
                .bind(id)
                .execute(&mut *tx)
                .await?;
        });
        Ok(())
    }

    /// A vendor's subscribers that have not been deleted, oldest first.
    pub async fn vendor_subscribers(&self, account_id: AccountId, vendor: Vendor) -> Result<Vec<Subscriber>, Error> {
        all(read!(self, |db| {
            sqlx::query_as::<Db, SubscriberRow>(concat!(
                "select ",
                subscriber_columns!(),
                " from subscriber where account_id = $1 and vendor = $2 and deleted_at is null order by id"
            ))
            .bind(account_id)
            .bind(vendor.as_str())
            .fetch_all(db)
            .await?
        }))
    }
}
