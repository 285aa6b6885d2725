//! SQLite's short way for what happens with every event: a whole transaction as one text.
//!
//! sqlx runs SQLite on a thread of its own, and each statement is a way there and back, `begin` and
//! `commit` even two. That costs more than what most of these statements do.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use either::Either;
use futures_util::TryStreamExt;
use sqlx::pool::PoolConnection;
use sqlx::sqlite::{SqliteQueryResult, SqliteRow};
use sqlx::{Executor, FromRow, QueryBuilder, Row, Sqlite, SqlitePool};
use tokio_util::task::TaskTracker;

use super::bind::{
    ATTEMPT_COLUMNS, MADE_COLUMNS, MOVE_ON, NEW_DELIVERY_COLUMNS, NEW_EVENT_COLUMNS, bind_attempt, bind_delivery,
    bind_event, bind_made,
};
use super::claims::Record;
use super::events::{NewDelivery, Publication, Tenants, Written, with_events};
use super::known::{Accounts, Known};
use super::subscribers::{Row as SubscriberRow, all};
use super::{Error, ROWS_AT_ONCE, Store, in_list, padded, subscriber_columns, time};
use crate::event::Event;
use crate::id::{AccountId, DeliveryId, EventId};

/// What one statement of a text gave: its rows, and how many it changed. (A statement that changes
/// nothing has the number of the one before.)
#[derive(Default)]
struct Given {
    rows: Vec<SqliteRow>,
    changed: u64,
}

impl Store {
    /// Records attempts that change nothing of their subscribers: whether each was.
    pub(super) async fn record_in_one_go(&self, write: &SqlitePool, records: &[Record]) -> Result<Vec<bool>, Error> {
        let mut texts = Texts::begin(records.len() <= ROWS_AT_ONCE);
        for run in records.chunks(ROWS_AT_ONCE) {
            let text = texts.next();
            text.push("with made (lease, ").push(ATTEMPT_COLUMNS).push(") as (");
            text.push_values(padded(run), |mut row, record| {
                row.push_bind(record.lease);
                bind_attempt!(row, record);
            });
            text.push(") insert into attempt (").push(ATTEMPT_COLUMNS).push(") select ").push(ATTEMPT_COLUMNS);
            text.push(
                " from made where exists (select 1 from delivery where delivery.id = made.delivery_id
                    and delivery.lease_holder = made.lease) on conflict do nothing",
            );
            let text = texts.next();
            text.push("with ").push(MADE_COLUMNS).push(" as (");
            text.push_values(padded(run), |mut row, record| bind_made!(row, record));
            text.push(") ").push(MOVE_ON);
        }
        let given = texts.run(write.acquire().await?).await?;
        self.stir(records.iter().map(|record| record.account_id));
        let inserts = records.len().div_ceil(ROWS_AT_ONCE);
        let inserted: u64 = given.iter().step_by(2).take(inserts).map(|insert| insert.changed).sum();
        if inserted == records.len() as u64 {
            return Ok(vec![true; records.len()]);
        }
        // Some leases had lapsed; whoever has them now records another attempt at another moment.
        let mut select =
            QueryBuilder::<Sqlite>::new("select delivery_id, started_at from attempt where delivery_id in (");
        let mut ids = select.separated(", ");
        for id in in_list(records.iter().map(|record| record.delivery_id)) {
            ids.push_bind(id);
        }
        select.push(")");
        let there: HashSet<(DeliveryId, i64)> = select.build_query_as().fetch_all(write).await?.into_iter().collect();
        let ours = |record: &Record| there.contains(&(record.delivery_id, super::micros(record.attempt.started_at)));
        Ok(records.iter().map(ours).collect())
    }

    /// Stores events and their deliveries; none if there are none, or if another process has written since
    /// `plan` was told what is known.
    pub(super) async fn insert_in_one_go<T: Send>(
        &self,
        write: &SqlitePool,
        accounts: &[AccountId],
        plan: &mut (impl FnMut(Tenants) -> (Vec<Publication>, T) + Send),
    ) -> Result<Option<Written<T>>, Error> {
        // Nobody else of this process writes while it is held.
        let mut connection = write.acquire().await?;
        let changes = self.changes();
        let known = match self.memory.get(accounts).filter(|known| known.version().is_some()) {
            Some(known) => known,
            None => {
                let read = read(&mut connection, accounts).await?;
                self.memory.put(&read);
                read
            }
        };
        let held: HashSet<AccountId> = known.ids().into_iter().collect();
        let version: i64 = known.version().unwrap_or_default().parse().unwrap_or_default();
        let (publications, rest) = plan(known.tenants(changes));
        let storable: Vec<&Publication> =
            publications.iter().filter(|new| held.contains(&new.event.account_id)).collect();
        let deliveries = with_events(storable.iter().copied());
        if storable.is_empty() {
            return Ok(None);
        }
        let mut texts = Texts::begin(storable.len().max(deliveries.len()) <= ROWS_AT_ONCE);
        for run in storable.chunks(ROWS_AT_ONCE) {
            insert_events(texts.next(), run, version);
        }
        for run in deliveries.chunks(ROWS_AT_ONCE) {
            insert_deliveries(texts.next(), run);
        }
        let given = texts.run(connection).await?;
        let inserts = storable.len().div_ceil(ROWS_AT_ONCE);
        let count: u64 = given.iter().take(inserts).map(|insert| insert.changed).sum();
        if count == storable.len() as u64 {
            let stored = storable.iter().map(|new| new.event.id).collect();
            return Ok(Some(Written { publications, rest, held, stored }));
        }
        // Another process's write looks like this, too.
        self.memory.forget_all();
        let stored = there(write, &storable).await?;
        Ok((!stored.is_empty()).then_some(Written { publications, rest, held, stored }))
    }
}

/// Which of these events are stored.
async fn there(write: &SqlitePool, publications: &[&Publication]) -> Result<HashSet<EventId>, Error> {
    let mut select = QueryBuilder::<Sqlite>::new("select id, vendor_event_id from event where id in (");
    let mut ids = select.separated(", ");
    for id in in_list(publications.iter().map(|new| new.event.id)) {
        ids.push_bind(id);
    }
    select.push(")");
    let there: HashSet<(EventId, String)> = select.build_query_as().fetch_all(write).await?.into_iter().collect();
    // Another event may have one of these ids; it has another of the vendor's.
    let is_there = |new: &&&Publication| there.contains(&(new.event.id, new.event.vendor_event_id.clone()));
    Ok(publications.iter().filter(is_there).map(|new| new.event.id).collect())
}

/// Reads what is to be known of these accounts.
async fn read(connection: &mut PoolConnection<Sqlite>, accounts: &[AccountId]) -> Result<Accounts, Error> {
    let mut text = QueryBuilder::<Sqlite>::new(
        "select id, clock_now, (select data_version from pragma_data_version) from account where id in (",
    );
    let mut ids = text.separated(", ");
    for id in accounts {
        ids.push_bind(*id);
    }
    text.push(concat!(
        "); select ",
        subscriber_columns!(),
        " from subscriber where deleted_at is null and enabled and account_id in ("
    ));
    let mut ids = text.separated(", ");
    for id in accounts {
        ids.push_bind(*id);
    }
    text.push(") order by id");
    let given = each(connection, &mut text).await?;
    let [of_accounts, of_subscribers] = &given[..] else { return Err(sqlx::Error::RowNotFound.into()) };
    let mut known = HashMap::new();
    for row in &of_accounts.rows {
        let now: Option<i64> = row.try_get(1)?;
        let (id, version): (AccountId, i64) = (row.try_get(0)?, row.try_get(2)?);
        let (clock_now, version) = (now.map(time).transpose()?, version.to_string());
        known.insert(id, Known { clock_now, version, subscribers: Vec::new(), subscriber_versions: Vec::new() });
    }
    let rows = of_subscribers.rows.iter().map(SubscriberRow::from_row).collect::<Result<Vec<_>, _>>()?;
    for subscriber in all(rows)? {
        if let Some(account) = known.get_mut(&subscriber.account_id) {
            account.subscribers.push(Arc::new(subscriber));
        }
    }
    Ok(known.into_iter().collect())
}

fn insert_events(text: &mut QueryBuilder<Sqlite>, run: &[&Publication], version: i64) {
    text.push("with new (").push(NEW_EVENT_COLUMNS).push(") as (");
    text.push_values(padded(run), |mut row, new| bind_event!(row, &new.event));
    // With `or rollback` SQLite need not be able to undo this statement alone, which costs a copy of
    // each page that it changes.
    text.push(") insert or rollback into event (").push(NEW_EVENT_COLUMNS).push(") select * from new where ");
    text.push("(select data_version from pragma_data_version) = ").push_bind(version);
    text.push(" on conflict do nothing");
}

fn insert_deliveries(text: &mut QueryBuilder<Sqlite>, run: &[(&Event, &NewDelivery)]) {
    text.push("with new (").push(NEW_DELIVERY_COLUMNS).push(") as (");
    text.push_values(padded(run), |mut row, (event, delivery)| bind_delivery!(row, *event, *delivery));
    text.push(") insert into delivery (").push(NEW_DELIVERY_COLUMNS).push(") select * from new where ");
    text.push("exists (select 1 from event where event.id = event_id and event.account_id = new.account_id)");
    text.push(" on conflict do nothing");
}

/// A transaction: one text of few rows, so that it is one way there and back, or one text a statement.
struct Texts {
    texts: Vec<QueryBuilder<Sqlite>>,
    is_short: bool,
}

impl Texts {
    fn begin(is_short: bool) -> Self {
        Self { texts: vec![QueryBuilder::new("begin immediate")], is_short }
    }

    /// Where the next statement is written.
    fn next(&mut self) -> &mut QueryBuilder<Sqlite> {
        if !self.is_short {
            self.texts.push(QueryBuilder::default());
        }
        let text = self.texts.last_mut().expect("there is always one");
        if self.is_short { text.push("; ") } else { text }
    }

    /// Runs it, and gives what each statement gave. It runs to its end whatever becomes of who waits for
    /// it, so that the connection is never given back in the middle of it.
    async fn run(mut self, mut connection: PoolConnection<Sqlite>) -> Result<Vec<Given>, Error> {
        self.next().push("commit");
        let work = TaskTracker::new().spawn(async move {
            let mut given = Vec::new();
            for text in &mut self.texts {
                match each(&mut connection, text).await {
                    Ok(more) => given.extend(more),
                    Err(error) => {
                        // SQLite may have rolled it back by itself.
                        let _ = sqlx::query("rollback").execute(&mut *connection).await;
                        return Err(error);
                    }
                }
            }
            Ok(given)
        });
        let mut given = work.await.map_err(|panicked| sqlx::Error::Io(std::io::Error::other(panicked)))??;
        // The first began it.
        given.remove(0);
        Ok(given)
    }
}

/// Runs each statement of a text.
async fn each(
    connection: &mut PoolConnection<Sqlite>,
    text: &mut QueryBuilder<Sqlite>,
) -> Result<Vec<Given>, sqlx::Error> {
    let (mut given, mut rows) = (Vec::new(), Vec::new());
    let mut results = connection.fetch_many(text.build());
    while let Some(result) = results.try_next().await? {
        match result {
            Either::Right(row) => rows.push(row),
            Either::Left(done) => {
                let changed = SqliteQueryResult::rows_affected(&done);
                given.push(Given { rows: std::mem::take(&mut rows), changed });
            }
        }
    }
    Ok(given)
}
