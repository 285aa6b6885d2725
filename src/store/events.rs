//! Events: stored together with the deliveries that they make.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use sqlx::QueryBuilder;

use super::bind::{NEW_DELIVERY_COLUMNS, NEW_EVENT_COLUMNS, bind_delivery, bind_event};
use super::init::{Along, store_along};
use super::subscribers::{Row as SubscriberRow, all};
use super::{
    Error, Pools, ROWS_AT_ONCE, Store, Tx, accounts, event_columns, in_list, padded, read, subscriber_columns, time,
    undecodable, within, word,
};
use crate::delivery::Delivery;
use crate::event::Event;
use crate::id::{AccountId, DeliveryId, EventId, SubscriberId};
use crate::subscriber::{Options, Subscriber};

/// An event to store, with the deliveries it makes.
#[derive(Debug, Clone)]
pub struct Publication {
    pub event: Arc<Event>,
    pub deliveries: Vec<NewDelivery>,
}

/// A delivery to store, leased at once or due later.
#[derive(Debug, Clone)]
pub struct NewDelivery {
    pub id: DeliveryId,
    pub subscriber_id: SubscriberId,
    pub next_try: DateTime<Utc>,
    /// The subscriber's, as they are now: the body depends on them.
    pub options: Options,
    /// The lease and when it lapses, where the delivery is handed over without a claim.
    pub lease: Option<(i64, DateTime<Utc>)>,
    /// It is due by a clock of its account's own, and never leased here.
    pub is_manual: bool,
}

/// What is known of the accounts of a batch, as it is until the transaction ends.
#[derive(Debug)]
pub struct Tenants {
    /// The enabled subscribers, oldest first.
    pub subscribers: Vec<Arc<Subscriber>>,
    /// Where the clocks stand of those accounts that have one of their own.
    pub clocks: HashMap<AccountId, DateTime<Utc>>,
    /// What [`Store::changes`] is as long as this process changes none of it.
    pub changes: u64,
}

/// What became of one publication.
#[derive(Debug)]
pub enum Inserted {
    /// The event and its deliveries are committed.
    Stored,
    /// Its idempotency key is known: this is the first event, and nothing was stored.
    Repeat(Box<EventWithDeliveries>),
    /// Another event has its id, and nothing was stored. Another id will do.
    Clash,
    /// Its account was deleted, and nothing was stored.
    AccountGone,
}

/// An event as the API shows it.
#[derive(Debug, Clone)]
pub struct EventWithDeliveries {
    pub event: Event,
    pub deliveries: Vec<Delivery>,
}

/// What was written, with what the plan said besides.
pub(super) struct Written<T> {
    pub(super) publications: Vec<Publication>,
    pub(super) rest: T,
    /// The accounts that are there.
    pub(super) held: HashSet<AccountId>,
    /// The events that were stored.
    pub(super) stored: HashSet<EventId>,
}

/// An event's row.
#[derive(sqlx::FromRow)]
pub(super) struct Row {
    id: EventId,
    account_id: AccountId,
    vendor: String,
    vendor_event_id: String,
    occurred_at: i64,
    event_type: String,
    object_type: String,
    content: String,
    idempotency_key: Option<String>,
    created_at: i64,
    at_publish: Option<String>,
}

impl TryFrom<Row> for Event {
    type Error = sqlx::Error;
    fn try_from(row: Row) -> Result<Self, sqlx::Error> {
        Ok(Self {
            id: row.id,
            account_id: row.account_id,
            vendor: word(&row.vendor)?,
            vendor_event_id: row.vendor_event_id,
            occurred_at: time(row.occurred_at)?,
            event_type: row.event_type,
            object_type: row.object_type,
            content: row.content,
            idempotency_key: row.idempotency_key,
            created_at: time(row.created_at)?,
            at_publish: row.at_publish,
        })
    }
}

/// A delivery's row, without the lease.
#[derive(sqlx::FromRow)]
pub(super) struct DeliveryRow {
    id: DeliveryId,
    account_id: AccountId,
    event_id: EventId,
    subscriber_id: SubscriberId,
    status: String,
    next_try: i64,
    retries: i64,
    created_at: i64,
}

impl TryFrom<DeliveryRow> for Delivery {
    type Error = sqlx::Error;
    fn try_from(row: DeliveryRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            id: row.id,
            account_id: row.account_id,
            event_id: row.event_id,
            subscriber_id: row.subscriber_id,
            status: word(&row.status)?,
            next_try: time(row.next_try)?,
            retries: u32::try_from(row.retries).map_err(undecodable)?,
            created_at: time(row.created_at)?,
        })
    }
}

impl Store {
    /// Stores events and their deliveries in one transaction. The answers are in the same order.
    ///
    /// What goes `along` is stored before them, or none of it all is: [`Error::WorldChanged`] if
    /// somebody else was first, [`Error::AccountGone`] if an account of it was deleted.
    /// `accounts` has the account of each event. `plan` is given what is known of these accounts, and
    /// says what to store; the answer has its second part as it is. It may be asked again, if another
    /// process changes something first.
    /// An event whose idempotency key is known, from before or from earlier in the same call,
    /// stores nothing.
    pub async fn insert_events<T: Send>(
        &self,
        accounts: impl IntoIterator<Item = AccountId>,
        along: Option<&Along>,
        mut plan: impl FnMut(Tenants) -> (Vec<Publication>, T) + Send,
    ) -> Result<(Vec<(Publication, Inserted)>, T), Error> {
        self.in_time(async {
            let accounts = in_list(accounts);
            let short = match &self.pools {
                _ if along.is_some() => None,
                Pools::Sqlite { write, .. } => self.insert_in_one_go(write, &accounts, &mut plan).await?,
                Pools::Postgres(pool) => self.insert_in_one_statement(pool, &accounts, &mut plan).await?,
            };
            let Written { publications, rest, held, stored } = match short {
                Some(written) => written,
                None => self.insert_in_steps(&accounts, along, &mut plan).await?,
            };
            let written = publications.iter().map(|publication| publication.event.account_id);
            self.stir(written.chain(along.into_iter().flat_map(Along::account_ids)));
            let mut answers = Vec::with_capacity(publications.len());
            for publication in publications {
                let event = &publication.event;
                let inserted = if stored.contains(&event.id) {
                    Inserted::Stored
                } else if !held.contains(&event.account_id) {
                    Inserted::AccountGone
                } else {
                    let first = match &event.idempotency_key {
                        Some(key) => self.event_by_idempotency_key(event.account_id, key).await?,
                        None => None,
                    };
                    first.map_or(Inserted::Clash, |first| Inserted::Repeat(Box::new(first)))
                };
                answers.push((publication, inserted));
            }
            Ok((answers, rest))
        })
        .await
    }

    async fn insert_in_steps<T: Send>(
        &self,
        accounts: &[AccountId],
        along: Option<&Along>,
        plan: &mut (impl FnMut(Tenants) -> (Vec<Publication>, T) + Send),
    ) -> Result<Written<T>, Error> {
        // This transaction counts itself, once.
        let changes = self.changes() + 1;
        let mut tx = self.begin().await?;
        let held = self.hold_accounts(&mut tx, accounts, along).await?;
        if let Some(along) = along {
            store_along(&mut tx, along).await?;
        }
        let subscribers = self.hold_enabled_subscribers(&mut tx, accounts).await?.into_iter().map(Arc::new).collect();
        let clocks = held.iter().filter_map(|(id, now)| Some((*id, (*now)?))).collect();
        let (publications, rest) = plan(Tenants { subscribers, clocks, changes });
        let storable: Vec<&Publication> =
            publications.iter().filter(|new| held.contains_key(&new.event.account_id)).collect();
        let stored = insert_event_rows(&mut tx, &storable).await?;
        let owing = publications.iter().filter(|new| stored.contains(&new.event.id));
        insert_deliveries(&mut tx, &with_events(owing)).await?;
        tx.commit().await?;
        Ok(Written { publications, rest, held: held.into_keys().collect(), stored })
    }

    /// Those of these accounts that are there, and those that go `along`, with their own clocks. None
    /// of them is deleted, reset or restored, nor its clock set, before the transaction ends.
    async fn hold_accounts(
        &self,
        tx: &mut Tx,
        accounts: &[AccountId],
        along: Option<&Along>,
    ) -> Result<HashMap<AccountId, Option<DateTime<Utc>>>, Error> {
        let new: HashMap<AccountId, Option<DateTime<Utc>>> = along
            .into_iter()
            .flat_map(|along| &along.accounts)
            .map(|(account, _)| (account.id, account.clock_now))
            .collect();
        let along_ids: HashSet<AccountId> =
            along.into_iter().flat_map(Along::account_ids).filter(|id| !new.contains_key(id)).collect();
        let wanted = in_list(accounts.iter().chain(&along_ids).copied());
        let mut held = accounts::hold(tx, &wanted, self.pools.and_hold(" for key share")).await?;
        if !along_ids.iter().all(|id| held.contains_key(id)) {
            return Err(Error::AccountGone);
        }
        held.extend(new);
        Ok(held)
    }

    /// The enabled subscribers of accounts, oldest first, as they are until the transaction ends.
    async fn hold_enabled_subscribers(&self, tx: &mut Tx, accounts: &[AccountId]) -> Result<Vec<Subscriber>, Error> {
        if accounts.is_empty() {
            return Ok(Vec::new());
        }
        all(within!(tx, |db| {
            let mut select = QueryBuilder::<Db>::new(concat!(
                "select ",
                subscriber_columns!(),
                " from subscriber where deleted_at is null and enabled and account_id in ("
            ));
            let mut ids = select.separated(", ");
            accounts.iter().for_each(|id| {
                ids.push_bind(*id);
            });
            select.push(") order by id").push(self.pools.and_hold(" for share"));
            select.build_query_as::<SubscriberRow>().fetch_all(db).await?
        }))
    }

    async fn event_by_idempotency_key(
        &self,
        account_id: AccountId,
        key: &str,
    ) -> Result<Option<EventWithDeliveries>, Error> {
        let id = read!(self, |db| {
            sqlx::query_scalar::<Db, EventId>("select id from event where account_id = $1 and idempotency_key = $2")
                .bind(account_id)
                .bind(key)
                .fetch_optional(db)
                .await?
        });
        match id {
            Some(id) => self.event(account_id, id).await.map(Some),
            None => Ok(None),
        }
    }

    /// One event with its deliveries.
    pub async fn event(&self, account_id: AccountId, id: EventId) -> Result<EventWithDeliveries, Error> {
        let row = read!(self, |db| {
            sqlx::query_as::<Db, Row>(concat!(
                "select ",
                event_columns!(),
                " from event where account_id = $1 and id = $2"
            ))
            .bind(account_id)
            .bind(id)
            .fetch_optional(db)
            .await?
        });
        let event = row.ok_or(Error::NotFound("event"))?.try_into()?;
        Ok(self.with_deliveries(vec![event]).await?.remove(0))
    }

    /// Adds to each event its deliveries, in the order they were made.
    pub(super) async fn with_deliveries(&self, events: Vec<Event>) -> Result<Vec<EventWithDeliveries>, Error> {
        if events.is_empty() {
            return Ok(Vec::new());
        }
        let rows = read!(self, |db| {
            let mut select = QueryBuilder::<Db>::new(
                "select id, account_id, event_id, subscriber_id, status, next_try, retries, created_at
                 from delivery where event_id in (",
            );
            let mut ids = select.separated(", ");
            for event in &events {
                ids.push_bind(event.id);
            }
            select.push(") order by id");
            select.build_query_as::<DeliveryRow>().fetch_all(db).await?
        });
        let mut deliveries: HashMap<EventId, Vec<Delivery>> = HashMap::new();
        for row in rows {
            deliveries.entry(row.event_id).or_default().push(row.try_into()?);
        }
        let add = |event: Event| {
            let deliveries = deliveries.remove(&event.id).unwrap_or_default();
            EventWithDeliveries { event, deliveries }
        };
        Ok(events.into_iter().map(add).collect())
    }
}

/// Each delivery of these, with its event.
pub(super) fn with_events<'p>(
    publications: impl Iterator<Item = &'p Publication>,
) -> Vec<(&'p Event, &'p NewDelivery)> {
    let with_event = |new: &'p Publication| new.deliveries.iter().map(|delivery| (&*new.event, delivery));
    publications.flat_map(with_event).collect()
}

/// Inserts events whose id and idempotency key are new: which those are.
async fn insert_event_rows(tx: &mut Tx, publications: &[&Publication]) -> Result<HashSet<EventId>, sqlx::Error> {
    let mut stored = HashSet::with_capacity(publications.len());
    for run in publications.chunks(ROWS_AT_ONCE) {
        within!(tx, |db| {
            let mut insert = QueryBuilder::<Db>::new(format!("insert into event ({NEW_EVENT_COLUMNS}) "));
            insert.push_values(padded(run), |mut row, new| bind_event!(row, &new.event));
            insert.push(" on conflict do nothing returning id");
            stored.extend(insert.build_query_scalar::<EventId>().fetch_all(db).await?);
        });
    }
    Ok(stored)
}

async fn insert_deliveries(tx: &mut Tx, deliveries: &[(&Event, &NewDelivery)]) -> Result<(), sqlx::Error> {
    for run in deliveries.chunks(ROWS_AT_ONCE) {
        within!(tx, |db| {
            let mut insert = QueryBuilder::<Db>::new(format!("insert into delivery ({NEW_DELIVERY_COLUMNS}) "));
            insert.push_values(padded(run), |mut row, (event, delivery)| bind_delivery!(row, *event, *delivery));
            insert.push(" on conflict do nothing");
            let inserted = insert.build().execute(db).await?.rows_affected();
            if inserted != run.len() as u64 {
                // None may be owed without a row; the batch is refused as a whole.
                return Err(undecodable("another delivery has the id of a new one"));
            }
        });
    }
    Ok(())
}
