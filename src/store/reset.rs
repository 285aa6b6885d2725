//! Accounts that are deleted or reset: all their rows at once.
//!
//! Locks are taken in one order: the account, its subscribers, the rest. Publish holds the account
//! as it is, so that nothing is stored in one while or after it is deleted.

use super::accounts;
use super::{Error, Store, Tx, json, to_json, within};
use crate::account::Keep;
use crate::id::AccountId;
use crate::world::Head;

/// How often a change of a whole account is tried that the database ends because it and another
/// transaction waited for each other.
const MOST_TRIES: usize = 5;

/// A table with rows of accounts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Table {
    pub(super) name: &'static str,
    /// Which rows are of the account `$1`.
    pub(super) is_of: &'static str,
}

const fn table(name: &'static str) -> Table {
    Table { name, is_of: "account_id = $1" }
}

/// What an account holds, in an order in which it can be put back.
pub(super) const HELD: [Table; 7] = [
    table("subscriber"),
    table("event"),
    table("delivery"),
    // There is no index of attempts by account: they are many, and looked for by delivery.
    Table { name: "attempt", is_of: "delivery_id in (select id from delivery where account_id = $1)" },
    table("world"),
    table("world_object"),
    table("timer"),
];

/// What a world leaves behind when its rows are removed.
#[derive(Debug)]
pub(super) struct FormerWorld {
    pub(super) version: i64,
    head: Head,
}

impl Store {
    /// Deletes an account and all its rows. Fails with [`Error::AccountGone`] if there is none.
    pub async fn delete_account(&self, account_id: AccountId) -> Result<(), Error> {
        unless_deadlocked(|| async {
            let mut tx = self.begin_alone(account_id).await?;
            remove(&mut tx, account_id, &[]).await?;
            for statement in ["delete from snapshot where account_id = $1", "delete from account where id = $1"] {
                within!(&mut tx, |db| sqlx::query::<Db>(statement).bind(account_id).execute(db).await.map(drop))?;
            }
            tx.commit().await?;
            self.stir([account_id]);
            Ok(())
        })
        .await
    }

    /// Makes an account as it was when it was made, but for what is kept. Its snapshots stay.
    pub async fn reset_account(&self, account_id: AccountId, keep: &[Keep]) -> Result<(), Error> {
        unless_deadlocked(|| async {
            let mut tx = self.begin_alone(account_id).await?;
            if let Some(former) = remove(&mut tx, account_id, keep).await? {
                insert_new_world(&mut tx, account_id, former).await?;
            }
            tx.commit().await?;
            self.stir([account_id]);
            Ok(())
        })
        .await
    }

    /// Begins to change all of an account: nothing is published in it until that ends, and no attempt
    /// recorded.
    pub(super) async fn begin_alone(&self, account_id: AccountId) -> Result<Tx, Error> {
        let mut tx = self.begin().await?;
        if accounts::hold(&mut tx, &[account_id], self.pools.and_hold(" for update")).await?.is_empty() {
            return Err(Error::AccountGone);
        }
        let lock = self.pools.and_hold(" for update");
        if !lock.is_empty() {
            within!(&mut tx, |db| {
                let mut hold = sqlx::QueryBuilder::<Db>::new("select id from subscriber where account_id = ");
                hold.push_bind(account_id).push(" order by id").push(lock).build().execute(&mut *db).await?;
                // A publish that waited for the lock sees by the row's new version that what it knows is old.
                let touch = "update account set name = name where id = $1";
                sqlx::query::<Db>(touch).bind(account_id).execute(db).await?;
            });
        }
        Ok(tx)
    }
}

/// Tries a transaction again that the database ended because it and another waited for each other.
pub(super) async fn unless_deadlocked<T, F>(mut work: impl FnMut() -> F) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    let mut tries = 1;
    loop {
        match work().await {
            Err(Error::Database(sqlx::Error::Database(error)))
                if tries < MOST_TRIES && error.code().as_deref() == Some("40P01") =>
            {
                tries += 1;
            }
            ended => return ended,
        }
    }
}

/// Removes the rows of an account but for what is kept, and says what its world was.
pub(super) async fn remove(tx: &mut Tx, account_id: AccountId, keep: &[Keep]) -> Result<Option<FormerWorld>, Error> {
    let world = within!(tx, |db| {
        let select = "select version, head from world where account_id = $1";
        sqlx::query_as::<Db, (i64, String)>(select).bind(account_id).fetch_optional(db).await?
    });
    for Table { name, is_of } in HELD.into_iter().rev() {
        // Deleted subscribers are only there for what names them.
        let and_not_kept =
            if name == "subscriber" && keep.contains(&Keep::Subscribers) { " and deleted_at is not null" } else { "" };
        within!(tx, |db| {
            let delete = format!("delete from {name} where {is_of}{and_not_kept}");
            sqlx::query::<Db>(sqlx::AssertSqlSafe(delete)).bind(account_id).execute(db).await?;
        });
    }
    world.map(|(version, head)| Ok(FormerWorld { version, head: json(&head)? })).transpose()
}

/// Puts a world in place of a former one, in which nothing has happened. It keeps the seed, and its
/// version is higher, so that nobody takes the one for the other.
pub(super) async fn insert_new_world(
    tx: &mut Tx,
    account_id: AccountId,
    former: FormerWorld,
) -> Result<(), sqlx::Error> {
    let head = Head { numbers: std::collections::BTreeMap::new(), ..former.head };
    within!(tx, |db| {
        let insert = "insert into world (account_id, version, head) values ($1, $2, $3)";
        let insert = sqlx::query::<Db>(insert).bind(account_id).bind(former.version + 1).bind(to_json(&head));
        insert.execute(db).await?;
    });
    Ok(())
}
