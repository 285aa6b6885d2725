//! The clocks of accounts, and deliveries that are due by them.

use chrono::{DateTime, Utc};
use sqlx::QueryBuilder;

use super::claims::ClaimedRow;
use super::{Error, Store, micros, read, time, within, write, write_deliveries};
use crate::delivery::Claimed;
use crate::id::AccountId;
use crate::world::Timer;

/// The most deliveries that one claim takes.
const CLAIM_LIMIT: i64 = 512;

/// What an account still has ahead of it by its own clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ahead {
    pub delivery: Option<DateTime<Utc>>,
    pub timer: Option<DateTime<Utc>>,
}

impl Ahead {
    /// When the first of it is due.
    pub fn first(self) -> Option<DateTime<Utc>> {
        [self.delivery, self.timer].into_iter().flatten().min()
    }
}

impl Store {
    /// Where an account's own clock stands; none if it goes by the machine's, or is not there.
    pub async fn account_clock(&self, account_id: AccountId) -> Result<Option<DateTime<Utc>>, Error> {
        self.in_time(async {
            let now = read!(self, |db| {
                sqlx::query_scalar::<Db, Option<i64>>("select clock_now from account where id = $1")
                    .bind(account_id)
                    .fetch_optional(db)
                    .await?
            });
            Ok(now.flatten().map(time).transpose()?)
        })
        .await
    }

    /// Gives an account a clock of its own that stands at `now`, or with none the machine's. What is
    /// owed keeps its times; from then on they are of the other clock.
    pub async fn set_account_clock(&self, account_id: AccountId, now: Option<DateTime<Utc>>) -> Result<(), Error> {
        self.in_time(async {
            // Publish and record wait: none of them sees half of this.
            let mut tx = self.begin_alone(account_id).await?;
            // What is leased stays so: its `due_at` is when the lease lapses.
            let statement = if now.is_some() {
                "update delivery set manual_due_at = next_try,
                    due_at = case when lease_holder is not null then due_at end
                 where account_id = $1 and due_at is not null"
            } else {
                "update delivery set manual_due_at = null,
                    due_at = case when lease_holder is not null then due_at else next_try end
                 where account_id = $1 and manual_due_at is not null"
            };
            within!(&mut tx, |db| {
                let set = sqlx::query::<Db>("update account set clock_now = $2 where id = $1");
                set.bind(account_id).bind(now.map(micros)).execute(&mut *db).await?;
                sqlx::query::<Db>(statement).bind(account_id).execute(db).await?;
            });
            tx.commit().await?;
            self.stir([account_id]);
            Ok(())
        })
        .await
    }

    /// Moves an account's own clock forward. It never goes back, and the machine's is left alone.
    pub async fn move_account_clock(&self, account_id: AccountId, to: DateTime<Utc>) -> Result<(), Error> {
        self.in_time(async {
            write!(self, |tx| {
                sqlx::query::<Db>("update account set clock_now = $2 where id = $1 and clock_now < $2")
                    .bind(account_id)
                    .bind(micros(to))
                    .execute(&mut *tx)
                    .await?;
            });
            Ok(())
        })
        .await
    }

    /// When an account's next delivery and its next timer are due by its own clock.
    pub async fn ahead(&self, account_id: AccountId) -> Result<Ahead, Error> {
        self.in_time(async {
            let (delivery, timer) = read!(self, |db| {
                let select = "select
                    (select min(manual_due_at) from delivery where account_id = $1 and manual_due_at is not null),
                    (select min(due_at) from timer where account_id = $1)";
                sqlx::query_as::<Db, (Option<i64>, Option<i64>)>(select).bind(account_id).fetch_one(db).await?
            });
            Ok(Ahead { delivery: delivery.map(time).transpose()?, timer: timer.map(time).transpose()? })
        })
        .await
    }

    /// The earliest timer of an account that is due at `at` by its own clock.
    pub async fn due_timer_of(&self, account_id: AccountId, at: DateTime<Utc>) -> Result<Option<Timer>, Error> {
        self.in_time(async {
            let row = read!(self, |db| {
                let select = "select account_id, subject_id, kind, due_at from timer
                    where account_id = $1 and due_at <= $2 order by due_at, subject_id limit 1";
                sqlx::query_as::<Db, super::world::TimerRow>(select)
                    .bind(account_id)
                    .bind(micros(at))
                    .fetch_optional(db)
                    .await?
            });
            let timer = row.map(<(AccountId, Timer)>::try_from).transpose()?;
            Ok(timer.map(|(_, timer)| timer))
        })
        .await
    }

    /// Leases what is due at `at` by its account's own clock, the earliest first. `now` is the
    /// machine's time, which leases go by: what another holds is left to it.
    pub async fn claim_by_own_clock(
        &self,
        account_id: AccountId,
        at: DateTime<Utc>,
        now: DateTime<Utc>,
        (lease, lease_until): (i64, DateTime<Utc>),
    ) -> Result<Vec<Claimed>, Error> {
        let lock = self.pools.and_hold(" for update skip locked");
        self.in_time(async {
            let rows = write_deliveries!(self, |tx| {
                let mut claim = QueryBuilder::<Db>::new("update delivery set lease_holder = ");
                claim.push_bind(lease).push(", due_at = ").push_bind(micros(lease_until));
                claim.push(" where id in (select id from delivery where account_id = ").push_bind(account_id);
                claim.push(" and manual_due_at <= ").push_bind(micros(at));
                claim.push(" and (lease_holder is null or due_at <= ").push_bind(micros(now));
                claim.push(") order by manual_due_at, event_id, id limit ").push_bind(CLAIM_LIMIT).push(lock);
                claim.push(
                    ") returning id, event_id, subscriber_id, status, retries, schedule_start, next_try, options",
                );
                claim.build_query_as::<ClaimedRow>().fetch_all(&mut *tx).await?
            });
            let mut claimed = self.complete(rows, lease, lease_until).await?;
            claimed.iter_mut().for_each(|claimed| claimed.at = Some(at));
            // Events of one time are in the order of their ids; those of deliveries have none there.
            claimed.sort_by_key(|claimed| (claimed.due_at, claimed.event.id, claimed.id));
            Ok(claimed)
        })
        .await
    }
}
