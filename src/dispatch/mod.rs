//! Dispatch: claim, sign, send, decide, record.
//!
//! Three loops run side by side: one claims what is due, one sends what is in hand, one renews
//! leases. Whatever a receiver does is an outcome; errors here are the database's.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Utc};
use rand::Rng;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, debug, error, info, info_span, warn};

mod lanes;
mod sender;
mod spelling;

use crate::batch::Batcher;
use crate::clock::Clock;
use crate::config::{Dispatch, Vendors};
use crate::delivery::{Attempt, Claimed, Next, Outcome, Response, next, parse_retry_after};
use crate::handover::{Handover, InHand};
use crate::id::{DeliveryId, SubscriberId};
use crate::random::Chance;
use crate::store::{Error, Record, Store};
use crate::subscriber::Subscriber;
use crate::vendors::dialect;

use lanes::Lanes;
use sender::{NoAnswer, Outgoing, Sender};

/// The most deliveries that one claim takes.
const CLAIM_LIMIT: usize = 512;

/// Sends what is due and records what became of it.
#[derive(Debug)]
pub struct Dispatcher {
    store: Store,
    handover: Arc<Handover>,
    handed_over: Mutex<Option<mpsc::UnboundedReceiver<InHand>>>,
    recorder: Batcher<Record, Result<bool, Arc<Error>>>,
    sender: Sender,
    clock: Clock,
    chance: Chance,
    settings: Dispatch,
    vendors: Vendors,
    /// The leases held now, by delivery. A delivery that is not here must not be sent.
    held: Mutex<HashMap<DeliveryId, Held>>,
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

/// Lets go of a lease when the attempt ends, however it ends: a lease that is renewed for ever
/// would keep its delivery stuck.
struct UnderWay<'d> {
    dispatcher: &'d Dispatcher,
    id: DeliveryId,
    lease: i64,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.dispatcher.let_go(self.id, self.lease);
    }
}

/// Says that a subscriber's attempt has ended, however it ended.
struct Finished(mpsc::UnboundedSender<SubscriberId>, SubscriberId);

impl Drop for Finished {
    fn drop(&mut self) {
        // Nobody listens any more while shutting down.
        let _ = self.0.send(self.1);
    }
}

#[derive(Debug, Clone, Copy)]
struct Held {
    lease: i64,
    until: DateTime<Utc>,
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
        Ok(Self {
            store: parts.store,
            handover: parts.handover,
            handed_over: Mutex::new(Some(parts.handed_over)),
            recorder,
            sender,
            clock: parts.clock,
            chance: parts.chance,
            settings: parts.settings,
            vendors: parts.vendors,
            held: Mutex::default(),
            claims_at: AtomicI64::new(i64::MAX),
        })
    }

    /// Runs until `stop`, then lets attempts that are under way end and gives the rest back.
    /// Runs once: a second call returns at once.
    pub async fn run(self: &Arc<Self>, stop: &CancellationToken) {
        let Some(handed_over) = self.lock_handed_over().take() else { return };
        tokio::join!(self.run_claims(stop), self.run_renewals(stop), self.run_sends(handed_over, stop));
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
                    self.hold(&in_hand.claimed);
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
                    self.hold(&in_hand.claimed);
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
        let now = self.clock.now();
        let until = self.handover.lapses_at(now);
        let fresh_until = until - self.settings.lease / 3;
        let is_old = |held: &Held| held.until <= fresh_until;
        let old: Vec<(DeliveryId, i64)> =
            self.lock_held().iter().filter(|(_, held)| is_old(held)).map(|(id, held)| (*id, held.lease)).collect();
        if old.is_empty() {
            return Ok(());
        }
        let renewed = self.store.renew_leases(&old, until).await?;
        let mut held = self.lock_held();
        for (id, lease) in old {
            match held.get_mut(&id) {
                Some(entry) if entry.lease == lease && renewed.contains(&id) => entry.until = until,
                Some(entry) if entry.lease == lease => drop(held.remove(&id)),
                _ => (),
            }
        }
        Ok(())
    }

    fn hold(&self, claimed: &Claimed) {
        self.lock_held().insert(claimed.id, Held { lease: claimed.lease, until: claimed.lease_until });
    }

    /// Whether the lease is still ours: checked before every request.
    fn still_holds(&self, claimed: &Claimed) -> bool {
        let now = self.clock.now();
        self.lock_held().get(&claimed.id).is_some_and(|held| held.lease == claimed.lease && held.until > now)
    }

    fn let_go(&self, id: DeliveryId, lease: i64) {
        let mut held = self.lock_held();
        if held.get(&id).is_some_and(|held| held.lease == lease) {
            held.remove(&id);
        }
    }

    async fn give_back(&self, claimed: &Claimed) {
        if let Err(error) = self.store.release(claimed).await {
            warn!(delivery.id = %claimed.id, error = %chain(&error), "a lease was not given back and will lapse");
        }
        self.let_go(claimed.id, claimed.lease);
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
        let _under_way = UnderWay { dispatcher: self, id: claimed.id, lease: claimed.lease };
        let made = async {
            if !self.still_holds(&claimed) {
                debug!("the lease has lapsed; another process may have taken over");
                return false;
            }
            if !claimed.subscriber.enabled || claimed.subscriber.deleted_at.is_some() {
                self.give_back(&claimed).await;
                return false;
            }
            let record = self.attempt(&claimed).await;
            self.record(&claimed, record).await;
            true
        };
        let made = made.instrument(span).await;
        drop(place);
        made
    }

    /// Signs, sends and decides.
    async fn attempt(&self, claimed: &Claimed) -> Record {
        let Claimed { event, subscriber, .. } = claimed;
        let dialect = dialect(event.vendor);
        let body = dialect.body(event);
        let started_at = self.clock.now();
        let stopwatch = self.clock.stopwatch();
        let signed = dialect.headers(event, body.as_bytes(), &subscriber.secret, started_at);
        let headers = request_headers(subscriber, signed, body.len());
        let outgoing = Outgoing {
            url: subscriber.url.clone(),
            headers: headers.clone(),
            body: body.into(),
            timeout: subscriber.timeout.unwrap_or(self.settings.timeout),
        };
        let answer = self.sender.send(outgoing).await;
        let finished_at = self.clock.now();
        let (outcome, response) = self.judge(answer, finished_at);
        let next = self.decide(claimed, &outcome, finished_at);
        let disable = matches!(outcome, Outcome::Rejected { status: 410, .. })
            .then(|| format!("it answered 410 Gone to delivery {}", claimed.id));
        let attempt = Attempt {
            number: claimed.attempt,
            url: subscriber.url.to_string(),
            started_at,
            finished_at,
            duration: stopwatch.elapsed(),
            request_headers: headers,
            outcome,
            response,
        };
        Record {
            account_id: event.account_id,
            delivery_id: claimed.id,
            subscriber_id: subscriber.id,
            lease: claimed.lease,
            attempt,
            next,
            disable,
        }
    }

    fn judge(&self, answer: Result<Response, NoAnswer>, now: DateTime<Utc>) -> (Outcome, Option<Response>) {
        match answer {
            Ok(response) if (200..300).contains(&response.status) => {
                (Outcome::Accepted { status: response.status }, Some(response))
            }
            Ok(response) => {
                let asked = response.headers.iter().find(|(name, _)| name == "retry-after");
                let limit = self.settings.retry_after_limit;
                let retry_after = asked.and_then(|(_, value)| parse_retry_after(value, now, limit));
                (Outcome::Rejected { status: response.status, retry_after }, Some(response))
            }
            Err(NoAnswer { error, detail, response }) => (Outcome::Unreachable { error, detail }, response),
        }
    }

    fn decide(&self, claimed: &Claimed, outcome: &Outcome, now: DateTime<Utc>) -> Next {
        let own = claimed.subscriber.retry_schedule.as_ref();
        let schedule = own.unwrap_or(&self.vendors.of(claimed.event.vendor).retry_schedule);
        let tries = claimed.attempt - claimed.schedule_start;
        next(outcome, tries, &schedule.waits(), self.stretch(claimed), now)
    }

    /// The jitter: a factor from 1 - jitter to 1 + jitter, the same for the same seed and attempt.
    fn stretch(&self, claimed: &Claimed) -> f64 {
        let mut stream = self.chance.stream("jitter", format!("{}/{}", claimed.id, claimed.attempt));
        let unit = f64::from(stream.next_u32()) / f64::from(u32::MAX);
        1.0 + self.settings.jitter * (2.0 * unit - 1.0)
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
            Ok(Ok(false)) => warn!("attempt {number} was not recorded: its lease had lapsed"),
            Ok(Err(failure)) => {
                let failure = chain(&*failure);
                error!(error = %failure, "attempt {number} was not recorded and will be made again: {failure}");
            }
            Err(stopped) => error!("attempt {number} was not recorded and will be made again: {stopped}"),
        }
        // The claiming loop sleeps until what it knew of; tell it of anything earlier.
        if let Next::Rescheduled { at } = next
            && at.timestamp_micros() < self.claims_at.load(Ordering::Acquire)
        {
            self.handover.wake();
        }
    }

    fn lock_held(&self) -> MutexGuard<'_, HashMap<DeliveryId, Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_handed_over(&self) -> MutexGuard<'_, Option<mpsc::UnboundedReceiver<InHand>>> {
        self.handed_over.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All headers of a request in the order they are sent: the host, the dialect's, the
/// subscriber's, the length.
fn request_headers(
    subscriber: &Subscriber,
    signed: Vec<(&'static str, String)>,
    body_length: usize,
) -> Vec<(String, String)> {
    let url = &subscriber.url;
    let host = match (url.host_str().unwrap_or_default(), url.port()) {
        (host, Some(port)) => format!("{host}:{port}"),
        (host, None) => host.to_owned(),
    };
    // One spelling throughout: a vendor that writes Content-Type writes Host.
    let is_lower = signed.iter().any(|(name, _)| *name == "content-type");
    let (host_name, length_name) = if is_lower { ("host", "content-length") } else { ("Host", "Content-Length") };
    let signed = signed.into_iter().map(|(name, value)| (name.to_owned(), value));
    let own = subscriber.headers.iter().map(|(name, value)| (name.clone(), value.clone()));
    let length = (length_name.to_owned(), body_length.to_string());
    std::iter::once((host_name.to_owned(), host)).chain(signed).chain(own).chain([length]).collect()
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
