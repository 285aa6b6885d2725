//! Between the processes on one Postgres: says what this one has to tell, hears what the others say.
//!
//! Invariant: nothing depends on it. What is not heard is found by looking (`poll_every`), so whatever
//! fails here only makes others later.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::handover::Handover;
use crate::others::{News, Others, Told};
use crate::scanner::Scanner;
use crate::store::{Ear, Error, Store};

/// The shortest time between two times that something is said: Postgres lets one transaction at a time
/// do so. What is told after a while of silence is said at once.
const SAYS_EVERY: Duration = Duration::from_millis(10);
/// How often this process says that it is there. What it has not heard of itself by the next time is
/// not heard at all. It also is how long a process that waits is believed to.
const HELLO_EVERY: Duration = Duration::from_secs(5);
/// How long to wait before listening again, where it has worked before and where it never has.
const LISTENS_AGAIN_AFTER: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// What is woken here, and how the others are reached.
#[derive(Debug, Clone)]
pub(super) struct Relay {
    pub(super) store: Store,
    pub(super) handover: Arc<Handover>,
    pub(super) scanner: Arc<Scanner>,
    pub(super) process_number: i64,
}

/// Why nothing is heard any more.
#[derive(Debug, thiserror::Error)]
enum Deaf {
    #[error("{0}")]
    Lost(Error),
    #[error("it does not hear itself")]
    Silent,
}

impl Relay {
    fn others(&self) -> &Others {
        self.store.others()
    }

    /// Says what others are told, until `stop`, and then once more.
    pub(super) async fn speak(self, stop: CancellationToken) {
        let mut is_heard = true;
        loop {
            let is_last = tokio::select! {
                () = self.others().told() => false,
                () = stop.cancelled() => true,
            };
            while let Some(news) = self.others().take() {
                let said = self.say(&news).await;
                match &said {
                    Err(failure) if is_heard => warn!("other processes cannot be told of what is due: {failure}"),
                    Err(failure) => debug!("other processes cannot be told of what is due: {failure}"),
                    Ok(()) => (),
                }
                is_heard = said.is_ok();
            }
            if is_last {
                return;
            }
            tokio::time::sleep(SAYS_EVERY).await;
        }
    }

    async fn say(&self, news: &News) -> Result<(), Error> {
        let said = News { from: self.process_number, ..news.clone() };
        self.store.notify(&serde_json::to_string(&said).expect("news serialise")).await
    }

    /// Wakes what others say is to be woken, until `stop`.
    pub(super) async fn hear(self, stop: CancellationToken) {
        let (soon, later) = LISTENS_AGAIN_AFTER;
        let mut after = later;
        let mut is_told = false;
        while !stop.is_cancelled() {
            let mut has_heard = false;
            let deaf = tokio::select! {
                () = stop.cancelled() => return,
                deaf = self.hear_until_deaf(&mut has_heard) => deaf,
            };
            // It is told once each time that it begins.
            if has_heard {
                (after, is_told) = (soon, true);
                info!("lost the connection that hears other processes, and listens again: {deaf}");
            } else if !std::mem::replace(&mut is_told, true) {
                warn!(
                    "cannot hear other processes by LISTEN and NOTIFY, so what they make due is found every poll_every only; a pooler in transaction mode, such as PgBouncer, does not carry LISTEN: {deaf}"
                );
            }
            tokio::select! {
                () = stop.cancelled() => (),
                () = tokio::time::sleep(after) => (),
            }
        }
    }

    /// Hears the others for as long as this process hears itself. Notes that it has.
    async fn hear_until_deaf(&self, has_heard: &mut bool) -> Deaf {
        let mut ear = match self.store.listen().await {
            Ok(Some(ear)) => ear,
            Ok(None) => return Deaf::Silent,
            Err(failure) => return Deaf::Lost(failure),
        };
        // Something may have been said while nobody listened.
        self.handover.wake_here();
        self.scanner.wake_here();
        let mut hellos = tokio::time::interval(HELLO_EVERY);
        hellos.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut hears_itself = true;
        let mut since_waiting = 0;
        loop {
            tokio::select! {
                heard = hear(&mut ear) => match heard {
                    Ok(Some(news)) if news.from == self.process_number => (hears_itself, *has_heard) = (true, true),
                    Ok(Some(news)) => {
                        if news.waiting {
                            since_waiting = 0;
                        }
                        self.act_on(&news);
                    }
                    // Another version may say what this one does not understand.
                    Ok(None) => (),
                    Err(failure) => return Deaf::Lost(failure),
                },
                _ = hellos.tick() => {
                    if !std::mem::take(&mut hears_itself) {
                        return Deaf::Silent;
                    }
                    since_waiting += 1;
                    if since_waiting > 2 {
                        self.others().end_waiting();
                    }
                    let waits = self.store.activity().is_watched();
                    self.others().tell(if waits { Told::Waiting } else { Told::Hello });
                }
            }
        }
    }

    fn act_on(&self, news: &News) {
        news.voided.iter().for_each(|account_id| self.handover.void_leases_here(*account_id));
        if news.deliveries {
            self.handover.wake_here();
        }
        if news.timers {
            self.scanner.wake_here();
        }
        if news.waiting {
            self.others().begin_to_wait();
        }
        if news.stirred_all {
            self.store.activity().stir_all();
        }
        news.stirred.iter().for_each(|account_id| self.store.activity().stir(*account_id));
    }
}

/// Waits for the next news; none if they cannot be read.
async fn hear(ear: &mut Ear) -> Result<Option<News>, Error> {
    Ok(serde_json::from_str(&ear.hear().await?).ok())
}
