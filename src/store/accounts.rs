//! Accounts.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use sqlx::QueryBuilder;

use super::{Error, Store, Tx, micros, read, time, within, write};
use crate::account::{Account, Holdings};
use crate::id::AccountId;

/// An account's row.
type Row = (AccountId, String, i64, Option<i64>);

fn account((id, name, created_at, clock_now): Row) -> Result<Account, sqlx::Error> {
    Ok(Account { id, name, created_at: time(created_at)?, clock_now: clock_now.map(time).transpose()? })
}

/// The counts of what the account `$1` holds.
macro_rules! holdings_columns {
    () => {
        "(select count(*) from subscriber where account_id = $1 and deleted_at is null),
         (select count(*) from event where account_id = $1),
         (select count(*) from delivery where account_id = $1)"
    };
}
pub(super) use holdings_columns;

impl Store {
    /// Stores a new account and the hash of its API key. Fails with [`Error::KeyTaken`] if another
    /// account has that key.
    pub async fn insert_account(&self, account: &Account, key_hash: &str) -> Result<(), Error> {
        self.in_time(async {
            let mut tx = self.begin().await?;
            insert_row(&mut tx, account, key_hash).await?;
            Ok(tx.commit().await?)
        })
        .await
    }

    /// One account.
    pub async fn account(&self, id: AccountId) -> Result<Account, Error> {
        self.in_time(async {
            let row = read!(self, |db| {
                let select = "select id, name, created_at, clock_now from account where id = $1";
                sqlx::query_as::<Db, Row>(select).bind(id).fetch_optional(db).await?
            });
            Ok(account(row.ok_or(Error::AccountGone)?)?)
        })
        .await
    }

    /// The accounts after a position, oldest first.
    pub async fn accounts(&self, after: Option<AccountId>, limit: u32) -> Result<Vec<Account>, Error> {
        self.in_time(async {
            let rows = read!(self, |db| {
                let select = "select id, name, created_at, clock_now from account where id > $1 order by id limit $2";
                sqlx::query_as::<Db, Row>(select)
                    .bind(after.map(|id| id.to_string()).unwrap_or_default())
                    .bind(i64::from(limit))
                    .fetch_all(db)
                    .await?
            });
            Ok(rows.into_iter().map(account).collect::<Result<_, _>>()?)
        })
        .await
    }

    /// How much an account holds.
    pub async fn holdings(&self, account_id: AccountId) -> Result<Holdings, Error> {
        self.in_time(async {
            let counts = read!(self, |db| {
                let select = concat!("select ", holdings_columns!());
                sqlx::query_as::<Db, (i64, i64, i64)>(select).bind(account_id).fetch_one(db).await?
            });
            Ok(holdings(counts))
        })
        .await
    }

    /// The account that an API key opens, by the key's hash.
    pub async fn account_by_key_hash(&self, key_hash: &str) -> Result<Option<AccountId>, Error> {
        Ok(read!(self, |db| {
            sqlx::query_scalar::<Db, AccountId>("select id from account where key_hash = $1")
                .bind(key_hash)
                .fetch_optional(db)
                .await?
        }))
    }

    /// Sets the hash of the default account's API key, from the settings. Fails with
    /// [`Error::KeyTaken`] if another account has that key.
    pub async fn set_default_key_hash(&self, key_hash: Option<&str>) -> Result<(), Error> {
        write!(self, |tx| {
            let set =
                sqlx::query::<Db>("update account set key_hash = $1 where id = $2 and key_hash is distinct from $1")
                    .bind(key_hash)
                    .bind(AccountId::DEFAULT)
                    .execute(&mut *tx)
                    .await;
            match set {
                Err(sqlx::Error::Database(error)) if error.is_unique_violation() => return Err(Error::KeyTaken),
                set => set?,
            };
        });
        Ok(())
    }
}

/// Reads the counts of [`holdings_columns!`].
pub(super) fn holdings((subscribers, events, deliveries): (i64, i64, i64)) -> Holdings {
    Holdings {
        subscribers: subscribers.unsigned_abs(),
        events: events.unsigned_abs(),
        deliveries: deliveries.unsigned_abs(),
    }
}

pub(super) async fn insert_row(tx: &mut Tx, account: &Account, key_hash: &str) -> Result<(), Error> {
    let inserted = within!(tx, |db| {
        sqlx::query::<Db>("insert into account (id, name, key_hash, created_at, clock_now) values ($1, $2, $3, $4, $5)")
            .bind(account.id)
            .bind(account.name.as_str())
            .bind(key_hash)
            .bind(micros(account.created_at))
            .bind(account.clock_now.map(micros))
            .execute(db)
            .await
            .map(drop)
    });
    match inserted {
        Err(sqlx::Error::Database(error)) if error.is_unique_violation() => Err(Error::KeyTaken),
        inserted => Ok(inserted?),
    }
}

/// Accounts as they are until the transaction ends, as far as `lock` says: those that are there, and
/// where the clocks stand of those that have one of their own.
pub(super) async fn hold(
    tx: &mut Tx,
    accounts: &[AccountId],
    lock: &'static str,
) -> Result<HashMap<AccountId, Option<DateTime<Utc>>>, sqlx::Error> {
    if accounts.is_empty() {
        return Ok(HashMap::new());
    }
    let found = within!(tx, |db| {
        let mut select = QueryBuilder::<Db>::new("select id, clock_now from account where id in (");
        let mut ids = select.separated(", ");
        accounts.iter().for_each(|id| {
            ids.push_bind(*id);
        });
        select.push(") order by id").push(lock);
        select.build_query_as::<(AccountId, Option<i64>)>().fetch_all(db).await?
    });
    found.into_iter().map(|(id, now)| Ok((id, now.map(time).transpose()?))).collect()
}
