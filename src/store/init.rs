//! Init files that have been applied, and what is stored together with the events that tell of it.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::world::{WorldChange, store_change};
use super::{Error, Store, Tx, accounts, json, micros, read, subscribers, time, to_json, within};
use crate::account::Account;
use crate::id::AccountId;
use crate::subscriber::Subscriber;

/// What is stored in one transaction with events, before them: all of it or nothing.
#[derive(Debug, Default)]
pub struct Along {
    /// Each with the hash that it had when it was read; none if it was not there.
    pub files: Vec<(AppliedFile, Option<String>)>,
    /// Each with the hash of its API key.
    pub accounts: Vec<(Account, String)>,
    pub subscribers: Vec<Subscriber>,
    pub worlds: Vec<WorldChange>,
}

impl Along {
    /// Whose they are; an account may be named more than once.
    pub(super) fn account_ids(&self) -> impl Iterator<Item = AccountId> {
        let subscribers = self.subscribers.iter().map(|subscriber| subscriber.account_id);
        self.worlds.iter().map(|world| world.account_id).chain(subscribers)
    }
}

impl From<WorldChange> for Along {
    fn from(change: WorldChange) -> Self {
        Self { worlds: vec![change], ..Self::default() }
    }
}

/// An init file that has been applied.
#[derive(Debug, Clone, PartialEq)]
pub struct AppliedFile {
    pub name: String,
    /// Of its text: lower-case hex of SHA-256.
    pub hash: String,
    pub applied_at: DateTime<Utc>,
    pub made: Vec<Made>,
}

/// What kind of thing an init file made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum MadeKind {
    Account,
    Subscriber,
    Target,
    Schedule,
    /// A run of a scenario.
    Run,
}

/// One thing that an init file made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Made {
    pub kind: MadeKind,
    pub id: String,
    pub account_id: AccountId,
    /// Where it stood in the file.
    pub pointer: String,
    /// Of what was said of it.
    pub digest: String,
}

type Row = (String, String, String, i64);

fn file((name, hash, made, applied_at): Row) -> Result<AppliedFile, Error> {
    Ok(AppliedFile { name, hash, made: json(&made)?, applied_at: time(applied_at)? })
}

impl Store {
    /// Every init file that has been applied, in the order of their names.
    pub async fn init_files(&self) -> Result<Vec<AppliedFile>, Error> {
        self.in_time(async {
            let rows = read!(self, |db| {
                let select = "select name, hash, made, applied_at from init_file order by name";
                sqlx::query_as::<Db, Row>(select).fetch_all(db).await?
            });
            rows.into_iter().map(file).collect()
        })
        .await
    }

    /// Asks the database for an answer.
    pub async fn ping(&self) -> Result<(), Error> {
        self.in_time(async {
            read!(self, |db| sqlx::query_scalar::<Db, i64>("select processes from installation").fetch_one(db).await?);
            Ok(())
        })
        .await
    }
}

pub(super) async fn store_along(tx: &mut Tx, along: &Along) -> Result<(), Error> {
    // The files are first: of two processes that apply the same, one waits here for the other.
    for (file, replaced) in &along.files {
        store_file(tx, file, replaced.as_deref()).await?;
    }
    for (account, key_hash) in &along.accounts {
        accounts::insert_row(tx, account, key_hash).await?;
    }
    for subscriber in &along.subscribers {
        subscribers::insert_row(tx, subscriber).await?;
    }
    for world in &along.worlds {
        store_change(tx, world).await?;
    }
    Ok(())
}

async fn store_file(tx: &mut Tx, file: &AppliedFile, replaced: Option<&str>) -> Result<(), Error> {
    let stored = within!(tx, |db| {
        sqlx::query::<Db>(
            "insert into init_file (name, hash, made, applied_at) values ($1, $2, $3, $4)
             on conflict (name) do update
             set hash = excluded.hash, made = excluded.made, applied_at = excluded.applied_at
             where init_file.hash = $5",
        )
        .bind(file.name.as_str())
        .bind(file.hash.as_str())
        .bind(to_json(&file.made))
        .bind(micros(file.applied_at))
        .bind(replaced.unwrap_or_default())
        .execute(db)
        .await?
        .rows_affected()
    });
    if stored == 0 { Err(Error::WorldChanged) } else { Ok(()) }
}
