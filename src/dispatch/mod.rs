//! Dispatch: claim, sign, send, decide, record.
//!
//! Three loops run side by side: one claims what is due, one sends what is in hand, one renews
//! leases. Whatever a receiver does is an outcome; errors here are the database's.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, debug, error, info, info_span, warn};

mod attempt;
mod lanes;
mod leases;
mod sender;
mod spelling;

use crate::batch::Batcher;
use crate::clock::Clock;
use crate::config::{Dispatch, Vendors};
use crate::delivery::{Attempt, Claimed, Next, Outcome};
use crate::handover::{Handover, InHand};
use crate::id::SubscriberId;
use crate::random::Chance;
use crate::store::{Error, Record, Store};

use attempt::Attempter;
use lanes::Lanes;
use leases::Leases;
use sender::Sender;

/// The most deliveries that one claim takes.
const CLAIM_LIMIT: usize = 512;

/// Sends what is due and records what became of it.
#[derive(Debug)]
pub struct Dispatcher {
    store: Store,
    handover: Arc<Handover>,
    handed_over: Mutex<Option<mpsc::UnboundedReceiver<InHand>>>,
    leases: Leases,
    attempter: Attempter,
    recorder: Batcher<Record, Result<bool, Arc<Error>>>,
    clock: Clock,
    settings: Dispatch,
    /// When the claiming loop looks next by itself, in microseconds.
    claims_at: AtomicI64,
}

/// What a claim leaves behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Claim {
    /// It took all that it may at once.
    MoreMayBeDue,
    /// It had to pass over what found no place in hand.
    ShortOfRoom,
    NothingMoreIsDue,
}

/// Says that a subscriber's attempt has ended, however it ended.
struct Finished(mpsc::UnboundedSender<SubscriberId>, SubscriberId);

impl Drop for Finished {
    fn drop(&mut self) {
        // Nobody listens any more while shutting down.
        let _ = self.0.send(self.1);
    }
}

/// What the dispatcher works with.
#[derive(Debug)]
pub struct Parts {
    pub store: Store,
    pub handover: Arc<Handover>,
    pub handed_over: mpsc::UnboundedReceiver<InHand>,
    pub clock: Clock,
    pub chance: Chance,
    pub settings: Dispatch,
    pub vendors: Vendors,
}

impl Dispatcher {
    /// Makes the dispatcher and starts the task that records attempts; `stop` ends that task.
    pub fn new(parts: Parts, tracker: &TaskTracker, stop: CancellationToken) -> anyhow::Result<Self> {
        let sender = Sender::new(&parts.settings)?;
        let store = parts.store.clone();
        let recorder = Batcher::start(tracker, stop, move |records: Vec<Record>| {
            let store = store.clone();
            async move {
                match store.record_attempts(&records).await {
                    Ok(ours) => ours.into_iter().map(Ok).collect(),
                    // One record that the database cannot take must not lose the others.
                    Err(_) => record_singly(&store, &records).await,
                }
            }
        });
        let attempter = Attempter {
            sender,
            clock: parts.clock.clone(),
            chance: parts.chance,
            settings: parts.settings.clone(),
            vendors: parts.vendors,
        };
        Ok(Self {
            store: parts.store,
            handover: parts.handover,
            handed_over: Mutex::new(Some(parts.handed_over)),
            leases: Leases::default(),
            attempter,
            recorder,
            clock: parts.clock,
            settings: parts.settings,
            claims_at: AtomicI64::new(i64::MAX),
        })
    }

    /// Runs until `stop`, then lets attempts that are under way end and gives the rest back.
    /// Runs once: a second call returns at once.
    pub async fn run(self: &Arc<Self>, stop: &CancellationToken) {
        let Some(handed_over) = self.lock_handed_over().take() else { return };
        // Attempts that are under way at the end still need their leases.
        let sent = CancellationToken::new();
        let sends = async {
            self.run_sends(handed_over, stop).await;
            sent.cancel();
        };
        tokio::join!(self.run_claims(stop), self.run_renewals(&sent), sends);
    }

    /// Sends everything that is in hand or due, and waits for the answers: the number of attempts
    /// made. For stepping through time by hand; only before [`run`](Self::run).
    pub async fn run_once(self: &Arc<Self>) -> Result<usize, Error> {
        let mut attempts = 0;
        loop {
            self.claim().await?;
            let mut taken = Vec::new();
            if let Some(handed_over) = self.lock_handed_over().as_mut() {
                while let Ok(in_hand) = handed_over.try_recv() {
                    taken.push(in_hand);
                }
            }
            if taken.is_empty() {
                return Ok(attempts);
            }
            let tracker = TaskTracker::new();
            let sends: Vec<_> = taken
                .into_iter()
                .map(|in_hand| {
                    self.leases.hold(&in_hand.claimed);
                    let dispatcher = Arc::clone(self);
                    tracker.spawn(async move { dispatcher.deliver(in_hand).await })
                })
                .collect();
            for send in sends {
                attempts += usize::from(send.await.unwrap_or(false));
            }
        }
    }

    /// Claims what is due and puts it in hand.
    async fn claim(&self) -> Result<Claim, Error> {
        let room = self.handover.room();
        let limit = CLAIM_LIMIT.min(room.limit);
        if limit == 0 {
            return Ok(Claim::ShortOfRoom);
        }
        let now = self.clock.now();
        let (lease, lease_until) = self.handover.new_lease(now);
        let claimed = self.store.claim_due(now, lease, lease_until, limit, &room.full).await?;
        let count = claimed.len();
        self.handover.put_claimed(claimed);
        Ok(match count {
            _ if count == limit => Claim::MoreMayBeDue,
            _ if room.full.is_empty() => Claim::NothingMoreIsDue,
            _ => Claim::ShortOfRoom,
        })
    }

    async fn run_claims(&self, stop: &CancellationToken) {
        while !stop.is_cancelled() {
            // Until the loop knows when it looks next, whatever is rescheduled must wake it.
            self.claims_at.store(i64::MAX, Ordering::Release);
            match self.claim().await {
                Ok(Claim::MoreMayBeDue) => (),
                Ok(claim) => self.wait_for_due(claim == Claim::ShortOfRoom, stop).await,
                Err(error) => self.back_off(&error, stop).await,
            }
        }
    }

    async fn wait_for_due(&self, is_short_of_room: bool, stop: &CancellationToken) {
        let now = self.clock.now();
        let next_due = match self.store.next_due(now).await {
            Ok(next_due) => next_due,
            Err(error) => return self.back_off(&error, stop).await,
        };
        let poll = now + self.settings.poll_every;
        let at = next_due.map_or(poll, |due| due.min(poll));
        self.claims_at.store(at.timestamp_micros(), Ordering::Release);
        tokio::select! {
            () = stop.cancelled() => (),
            () = self.handover.woken() => (),
            () = self.handover.place_freed(), if is_short_of_room => (),
            () = self.clock.sleep_until(at) => (),
        }
    }

    /// Waits a little after the database has failed.
    async fn back_off(&self, failure: &Error, stop: &CancellationToken) {
        error!(error = %chain(failure), "cannot claim deliveries: {}", chain(failure));
        tokio::select! {
            () = stop.cancelled() => (),
            () = self.clock.sleep_until(self.clock.now() + self.settings.poll_every) => (),
        }
    }

    async fn run_sends(self: &Arc<Self>, mut handed_over: mpsc::UnboundedReceiver<InHand>, stop: &CancellationToken) {
        let mut lanes = Lanes::new(self.settings.concurrency, self.settings.concurrency_per_subscriber);
        let (report, mut finished) = mpsc::unbounded_channel::<SubscriberId>();
        let under_way = TaskTracker::new();
        while !stop.is_cancelled() {
            while let Some(in_hand) = lanes.start_next() {
                let dispatcher = Arc::clone(self);
                let finished = Finished(report.clone(), in_hand.claimed.subscriber.id);
                under_way.spawn(async move {
                    dispatcher.deliver(in_hand).await;
                    drop(finished);
                });
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(subscriber_id) = finished.recv() => lanes.finished(subscriber_id),
                Some(in_hand) = handed_over.recv() => {
                    self.leases.hold(&in_hand.claimed);
                    lanes.push(in_hand);
                }
            }
        }
        handed_over.close();
        let mut waiting = lanes.drain();
        while let Ok(in_hand) = handed_over.try_recv() {
            waiting.push(in_hand);
        }
        for in_hand in waiting {
            self.give_back(&in_hand.claimed).await;
        }
        under_way.close();
        under_way.wait().await;
    }

    async fn run_renewals(&self, stop: &CancellationToken) {
        let every = self.settings.lease / 3;
        while !stop.is_cancelled() {
            tokio::select! {
                () = stop.cancelled() => (),
                () = self.clock.sleep_until(self.clock.now() + every) => {
                    if let Err(error) = self.renew_leases().await {
                        warn!(error = %chain(&error), "cannot renew leases: {}", chain(&error));
                    }
                }
            }
        }
    }

    /// Renews every lease that has used up a third of its time.
    async fn renew_leases(&self) -> Result<(), Error> {
        let until = self.handover.lapses_at(self.clock.now());
        let old = self.leases.lapsing(until - self.settings.lease / 3);
        if !old.is_empty() {
            let renewed = self.store.renew_leases(&old, until).await?;
            self.leases.renewed(&old, &renewed, until);
        }
        Ok(())
    }

    /// Gives a lease back without an attempt.
    async fn give_back(&self, claimed: &Claimed) {
        if let Err(error) = self.store.release(claimed).await {
            warn!(delivery.id = %claimed.id, error = %chain(&error), "a lease was not given back and will lapse");
        }
        self.leases.let_go(claimed.id, claimed.lease);
    }

    /// Makes one attempt, unless the delivery is no longer ours to make: whether it did.
    async fn deliver(&self, in_hand: InHand) -> bool {
        let InHand { claimed, place } = in_hand;
        let span = info_span!(
            "delivery",
            delivery.id = %claimed.id,
            event.id = %claimed.event.id,
            subscriber.id = %claimed.subscriber.id
        );
        let made = async {
            let Some(_under_way) = self.leases.start(&claimed, self.clock.now()) else {
                debug!("the lease of {} has lapsed; another process may have taken over", claimed.id);
                self.leases.let_go(claimed.id, claimed.lease);
                return false;
            };
            if !claimed.subscriber.enabled || claimed.subscriber.deleted_at.is_some() {
                self.give_back(&claimed).await;
                return false;
            }
            let record = self.attempter.make(&claimed).await;
            self.record(&claimed, record).await;
            true
        };
        let made = made.instrument(span).await;
        drop(place);
        made
    }

    /// Records an attempt. If the database cannot take it, the lease lapses and it is made again.
    async fn record(&self, claimed: &Claimed, record: Record) {
        let Attempt { number, ref outcome, duration, .. } = record.attempt;
        let what = describe(outcome);
        let (duration_ms, next) = (duration.as_millis() as u64, record.next);
        info!(attempt.number = number, outcome = %what, duration_ms, next = ?next, "attempt {number} of {}: {what}", claimed.id);
        if let Some(reason) = &record.disable {
            warn!("subscriber {} is disabled: {reason}", record.subscriber_id);
        }
        match self.recorder.submit(record).await {
            Ok(Ok(true)) => (),
            Ok(Ok(false)) => warn!("attempt {number} of {} was not recorded: its lease had lapsed", claimed.id),
            Ok(Err(failure)) => {
                let failure = chain(&*failure);
                error!(error = %failure, "attempt {number} of {} was not recorded and will be made again: {failure}", claimed.id);
            }
            Err(stopped) => {
                error!("attempt {number} of {} was not recorded and will be made again: {stopped}", claimed.id)
            }
        }
        // The claiming loop sleeps until what it knew of; tell it of anything earlier.
        if let Next::Rescheduled { at } = next
            && at.timestamp_micros() < self.claims_at.load(Ordering::Acquire)
        {
            self.handover.wake();
        }
    }

    fn lock_handed_over(&self) -> MutexGuard<'_, Option<mpsc::UnboundedReceiver<InHand>>> {
        self.handed_over.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Records one by one what could not be recorded together, each with a second chance.
async fn record_singly(store: &Store, records: &[Record]) -> Vec<Result<bool, Arc<Error>>> {
    let mut answers = Vec::with_capacity(records.len());
    for record in records {
        let one = std::slice::from_ref(record);
        let answer = match store.record_attempts(one).await {
            Ok(ours) => Ok(ours),
            Err(_) => store.record_attempts(one).await,
        };
        answers.push(answer.map(|ours| ours == [true]).map_err(Arc::new));
    }
    answers
}

fn describe(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Accepted { status } | Outcome::Rejected { status, .. } => format!("{} {status}", outcome.as_str()),
        Outcome::Unreachable { error, detail } => format!("unreachable ({error}): {detail}"),
    }
}

/// An error and its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
