//! Accounts.

use super::{Error, Store, Tx, micros, read, within, write};
use crate::account::Account;
use crate::id::AccountId;

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
