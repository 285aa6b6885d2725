//! Dispatch: claim, sign, send, decide, record.
//!
//! Three loops run side by side: one claims what is due, one sends what is in hand, one renews
//! leases. Whatever a receiver does is an outcome; errors here are the database's.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tracing::{Instrument, Span, debug, error, info_span, warn};

mod attempt;
mod lanes;
mod leases;
mod recorder;

use crate::batch::{Batcher, Stopped};
use crate::clock::Clock;
use crate::config::{Dispatch, Vendors};
use crate::delivery::Claimed;
use crate::handover::{AsOf, Handover, InHand};
use crate::id::SubscriberId;
use crate::random::Chance;
use crate::sender::Sender;
use crate::store::{Error, Store};
use crate::subscriber::Subscriber;

use attempt::Attempter;
use lanes::Lanes;
use leases::{Leases, UnderWay};
use recorder::{Made, Recorder, Rest};

/// The most deliveries that one claim takes.
const CLAIM_LIMIT: usize = 512;
/// The longest wait after the database has failed.
const TRIES_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Sends what is due and records what became of it.
#[derive(Debug)]
pub struct Dispatcher {
    store: Store,
    handover: Arc<Handover>,
    handed_over: Mutex<Option<mpsc::UnboundedReceiver<InHand>>>,
    leases: Arc<Leases>,
    attempter: Attempter,
    recorder: Recorder,
    /// Reads subscribers as they are now; none where there is no such row.
    subscribers: Batcher<SubscriberId, CurrentSubscriber>,
    clock: Clock,
    settings: Dispatch,
    /// When the claiming loop looks next by itself, in microseconds.
    claims_at: Arc<AtomicI64>,
}

/// How long what publish knew of a subscriber is used as it is. What another process changes meanwhile
/// comes too late for the attempt, as it does for one that is under way; what this process changes does not.
const KNOWN_FOR: TimeDelta = TimeDelta::milliseconds(10);

/// A subscriber as it is now, if its row is there and can be read.
type CurrentSubscriber = Result<Option<Arc<Subscriber>>, Arc<Error>>;

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
#[derive(Debug)]
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
    pub sender: Arc<Sender>,
    pub clock: Clock,
    pub chance: Chance,
    pub settings: Dispatch,
    pub vendors: Vendors,
}

impl Dispatcher {
    /// Makes the dispatcher and starts the task that records attempts; `stop` ends that task.
    pub fn new(parts: Parts, tracker: &TaskTracker, stop: CancellationToken) -> Self {
        let store = parts.store.clone();
        let subscribers = Batcher::start(tracker, stop.clone(), 1, move |ids: Vec<SubscriberId>| {
            let store = store.clone();
            async move { read_subscribers(&store, &ids).await }
        });
        let claims_at = Arc::new(AtomicI64::new(i64::MAX));
        let (told, handover) = (Arc::clone(&claims_at), Arc::clone(&parts.handover));
        let recorder = Recorder::start(parts.store.clone(), handover, told, parts.settings.in_hand, tracker, stop);
        let attempter = Attempter {
            sender: parts.sender,
            clock: parts.clock.clone(),
            chance: parts.chance,
            settings: parts.settings.clone(),
            vendors: parts.vendors,
        };
        Self {
            store: parts.store,
            handover: parts.handover,
            handed_over: Mutex::new(Some(parts.handed_over)),
            leases: Arc::default(),
            attempter,
            recorder,
            subscribers,
            clock: parts.clock,
            settings: parts.settings,
            claims_at,
        }
    }

    /// Runs until `stop`, then lets attempts that are under way end and gives the rest back.
    /// Runs once: a second call returns at once.
    pub async fn run(self: &Arc<Self>, stop: &CancellationToken) {
        let Some(handed_over) = self.lock_handed_over().take() else { return };
        tokio::join!(self.run_claims(stop), self.run_in_hand(handed_over, stop));
    }

    /// As [`run`](Self::run), but claims nothing: sends only what others here put in hand.
    pub async fn run_without_claims(self: &Arc<Self>, stop: &CancellationToken) {
        let Some(handed_over) = self.lock_handed_over().take() else { return };
        self.run_in_hand(handed_over, stop).await;
    }

    async fn run_in_hand(self: &Arc<Self>, handed_over: mpsc::UnboundedReceiver<InHand>, stop: &CancellationToken) {
        // Attempts that are under way at the end still need their leases.
        let sent = CancellationToken::new();
        let sends = async {
            self.run_sends(handed_over, stop).await;
            sent.cancel();
        };
        tokio::join!(self.run_renewals(&sent), sends);
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
            let under_way = TaskTracker::new();
            let sends: Vec<_> = taken
                .into_iter()
                .map(|in_hand| {
                    self.leases.hold(&in_hand.claimed);
                    let (dispatcher, counted) = (Arc::clone(self), under_way.token());
                    under_way.spawn(async move { dispatcher.deliver(in_hand, None, counted).await })
                })
                .collect();
            for send in sends {
                attempts += usize::from(send.await.unwrap_or(false));
            }
            under_way.close();
            under_way.wait().await;
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
            let claimed_at = self.clock.now();
            match self.claim().await {
                Ok(Claim::MoreMayBeDue) => (),
                Ok(claim) => self.wait_for_due(claimed_at, claim == Claim::ShortOfRoom, stop).await,
                Err(error) => self.back_off(&error, stop).await,
            }
        }
    }

    /// Waits until something that was not due by `claimed_at` may be.
    async fn wait_for_due(&self, claimed_at: DateTime<Utc>, is_short_of_room: bool, stop: &CancellationToken) {
        let next_due = match self.store.next_due(claimed_at).await {
            Ok(next_due) => next_due,
            Err(error) => return self.back_off(&error, stop).await,
        };
        let poll = self.clock.now() + self.settings.poll_every;
        let at = next_due.map_or(poll, |due| due.min(poll));
        self.claims_at.store(at.timestamp_micros(), Ordering::Release);
        tokio::select! {
            () = stop.cancelled() => (),
            () = self.handover.woken() => (),
            () = self.handover.room_made(), if is_short_of_room => (),
            () = self.clock.sleep_until(at) => (),
        }
    }

    /// Waits a little after the database has failed.
    async fn back_off(&self, failure: &Error, stop: &CancellationToken) {
        let wait = self.settings.poll_every.min(TRIES_AGAIN_AFTER);
        error!(error = %chain(failure), "cannot claim deliveries: {}", chain(failure));
        tokio::select! {
            () = stop.cancelled() => (),
            () = self.clock.sleep_until(self.clock.now() + wait) => (),
        }
    }

    async fn run_sends(self: &Arc<Self>, mut handed_over: mpsc::UnboundedReceiver<InHand>, stop: &CancellationToken) {
        let mut lanes = Lanes::new(self.settings.concurrency, self.settings.concurrency_per_subscriber);
        let (report, mut finished) = mpsc::unbounded_channel::<SubscriberId>();
        let under_way = TaskTracker::new();
        while !stop.is_cancelled() {
            while let Some(in_hand) = lanes.start_next() {
                let (dispatcher, counted) = (Arc::clone(self), under_way.token());
                let finished = Some(Finished(report.clone(), in_hand.claimed.subscriber_id));
                under_way.spawn(async move { dispatcher.deliver(in_hand, finished, counted).await });
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
        let waiting: Vec<Claimed> = waiting.into_iter().map(|in_hand| in_hand.claimed).collect();
        self.give_back(&waiting).await;
        if !waiting.is_empty() {
            self.handover.wake();
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

    /// Gives leases back without an attempt.
    async fn give_back(&self, claimed: &[Claimed]) {
        if let Err(error) = self.store.release(claimed).await {
            let count = claimed.len();
            warn!(error = %chain(&error), "{count} leases were not given back and will lapse: {}", chain(&error));
        }
        claimed.iter().for_each(|claimed| self.leases.let_go(claimed.id, claimed.lease));
    }

    /// Makes one attempt, unless the delivery is no longer ours to make: whether it did. `finished` is
    /// dropped once the receiver has answered: it need not wait for the record, which holds the place,
    /// unless that changes the subscriber. `counted` is dropped after the record.
    async fn deliver(&self, in_hand: InHand, finished: Option<Finished>, counted: TaskTrackerToken) -> bool {
        let InHand { claimed, place, known, made: told } = in_hand;
        let span = info_span!(
            "delivery",
            delivery.id = %claimed.id,
            event.id = %claimed.event.id,
            subscriber.id = %claimed.subscriber_id
        );
        let deliver = async {
            let Some((lease, subscriber)) = self.is_to_be_made(&claimed, known).await else { return false };
            let record = self.attempter.make(&claimed, &subscriber).await;
            // What changes the subscriber must hold before the next attempt to it.
            let finished = finished.filter(|_| record.effect.is_some());
            let (is_manual, span) = (claimed.at.is_some(), Span::current());
            let rest = Rest { is_manual, lease, place, finished, told, counted, span };
            self.recorder.record(Made { record, rest }).await;
            true
        };
        deliver.instrument(span).await
    }

    /// The lease and the subscriber for an attempt; none if it is not to be made.
    async fn is_to_be_made(
        &self,
        claimed: &Claimed,
        known: Option<(Arc<Subscriber>, AsOf)>,
    ) -> Option<(UnderWay, Arc<Subscriber>)> {
        let Some(lease) = self.leases.start(claimed, self.clock.now()) else {
            debug!("the lease of {} has lapsed; another process may have taken over", claimed.id);
            self.leases.let_go(claimed.id, claimed.lease);
            return None;
        };
        if self.handover.is_void(claimed.event.account_id, claimed.lease) {
            debug!("{} is not attempted: its account was deleted, reset or restored", claimed.id);
            // It may have been stored just after that; then it is due.
            Box::pin(self.give_back(std::slice::from_ref(claimed))).await;
            self.handover.wake();
            return None;
        }
        let still_holds = |as_of: AsOf| {
            let age = self.clock.now() - as_of.at;
            self.store.changes() == as_of.changes && (TimeDelta::zero()..=KNOWN_FOR).contains(&age)
        };
        if let Some((subscriber, _)) = known.filter(|(_, as_of)| still_holds(*as_of)) {
            return Some((lease, subscriber));
        }
        let subscriber = match self.subscribers.submit(claimed.subscriber_id).await {
            Ok(Ok(subscriber)) => subscriber,
            // Not given back: it would be claimed again at once, and fail again.
            Ok(Err(failure)) => {
                error!("{} is not attempted before its lease lapses: {}", claimed.id, chain(&*failure));
                return None;
            }
            Err(Stopped) => return None,
        };
        let usable = subscriber.filter(|now| now.enabled && now.deleted_at.is_none());
        if usable.is_none() {
            // Boxed, as what is rare should not make each attempt's task larger.
            Box::pin(self.give_back(std::slice::from_ref(claimed))).await;
        }
        Some((lease, usable?))
    }

    fn lock_handed_over(&self) -> MutexGuard<'_, Option<mpsc::UnboundedReceiver<InHand>>> {
        self.handed_over.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads subscribers for attempts that are about to be made, an answer for each.
async fn read_subscribers(store: &Store, ids: &[SubscriberId]) -> Vec<CurrentSubscriber> {
    match store.subscribers_by_id(ids).await {
        Ok(found) => ids.iter().map(|id| found.get(id).cloned().unwrap_or(Ok(None))).collect(),
        Err(failure) => vec![Err(Arc::new(failure)); ids.len()],
    }
}

/// An error and its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
