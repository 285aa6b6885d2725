//! Recording attempts, in batches that form by themselves, and what follows once they are.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tracing::{Span, error, info, warn};

use super::leases::UnderWay;
use super::{Finished, chain};
use crate::batch::Batches;
use crate::delivery::{Next, Outcome};
use crate::handover::{AttemptMade, Handover, Place};
use crate::store::{Effect, Error, Record, Store};

/// An attempt that was made, and what is held until it is recorded.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) record: Record,
    pub(super) rest: Rest,
}

/// What is let go of once an attempt is recorded.
#[derive(Debug)]
pub(super) struct Rest {
    /// The account goes by a clock of its own.
    pub(super) is_manual: bool,
    pub(super) lease: UnderWay,
    pub(super) place: Place,
    /// Where an attempt changes its subscriber, the next one waits for the record.
    pub(super) finished: Option<Finished>,
    /// Who wants to know what came of it.
    pub(super) told: Option<oneshot::Sender<AttemptMade>>,
    /// Counted among what is under way.
    pub(super) counted: TaskTrackerToken,
    pub(super) span: Span,
}

/// Records attempts.
#[derive(Debug)]
pub(super) struct Recorder(Batches<Made>);

/// What happens after a record.
#[derive(Debug)]
struct Afterwards {
    handover: Arc<Handover>,
    claims_at: Arc<AtomicI64>,
}

impl Recorder {
    /// Starts the task that records; `stop` ends it. It has room for `in_hand` attempts, so that
    /// hardly one waits. `claims_at` is when the claims look next by themselves, in microseconds: they
    /// are woken for what is due earlier.
    pub(super) fn start(
        store: Store,
        handover: Arc<Handover>,
        claims_at: Arc<AtomicI64>,
        in_hand: usize,
        tracker: &TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        let (at_once, afterwards) = (store.commits_at_once(), Arc::new(Afterwards { handover, claims_at }));
        Self(Batches::start(tracker, stop, at_once, in_hand.max(1), move |mut made: Vec<Made>| {
            // In the order of renewals, so that they seldom wait for each other in a circle.
            made.sort_unstable_by_key(|made| made.record.delivery_id);
            let (store, afterwards) = (store.clone(), Arc::clone(&afterwards));
            async move {
                let (records, rests): (Vec<Record>, Vec<Rest>) =
                    made.into_iter().map(|made| (made.record, made.rest)).unzip();
                let recorded = record(&store, &records).await;
                for ((record, rest), recorded) in records.into_iter().zip(rests).zip(recorded) {
                    let span = rest.span.clone();
                    span.in_scope(|| afterwards.follow(record, rest, recorded));
                }
            }
        }))
    }

    /// Has an attempt recorded. If the database cannot take it, the lease lapses and it is made again.
    pub(super) async fn record(&self, made: Made) {
        let id = made.record.delivery_id;
        if let Err(stopped) = self.0.put(made).await {
            error!("an attempt of {id} was not recorded and will be made again: {stopped}");
        }
    }
}

impl Afterwards {
    /// Tells of an attempt, and lets go of what was held for it.
    fn follow(&self, record: Record, rest: Rest, recorded: Result<bool, Arc<Error>>) {
        tell_log(&record, recorded);
        let Record { attempt, next, .. } = record;
        let Rest { is_manual, lease, place, finished, told, counted, span: _ } = rest;
        drop((lease, place, finished));
        if let Some(told) = told {
            // Whoever moved the account's clock may have given up.
            let _ = told.send(AttemptMade { outcome: attempt.outcome, next });
        }
        // The claiming loop sleeps until what it knew of; tell it of anything earlier.
        if let Next::Rescheduled { at } = next
            && !is_manual
            && at.timestamp_micros() < self.claims_at.load(Ordering::Acquire)
        {
            self.handover.wake_here();
        }
        drop(counted);
    }
}

fn tell_log(record: &Record, recorded: Result<bool, Arc<Error>>) {
    let Record { delivery_id: id, subscriber_id, attempt, next, effect, .. } = record;
    let (number, outcome) = (attempt.number, &attempt.outcome);
    let duration_ms = attempt.duration.as_millis() as u64;
    info!(attempt.number = number, outcome = %Told(outcome), duration_ms, next = ?next, "attempt {number} of {id}: {}", Told(outcome));
    if let Some(Effect::Disable(reason)) = effect {
        warn!("subscriber {subscriber_id}: {reason}");
    }
    match recorded {
        Ok(true) => (),
        Ok(false) => {
            warn!("attempt {number} of {id} was not recorded: its lease had lapsed, or the delivery is gone");
        }
        Err(failure) => {
            let failure = chain(&*failure);
            error!(error = %failure, "attempt {number} of {id} was not recorded and will be made again: {failure}");
        }
    }
}

/// Records attempts together: whether each was.
async fn record(store: &Store, records: &[Record]) -> Vec<Result<bool, Arc<Error>>> {
    match store.record_attempts(records).await {
        Ok(ours) => ours.into_iter().map(Ok).collect(),
        // One record that the database cannot take must not lose the others.
        Err(_) => record_singly(store, records).await,
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

/// An outcome, as the log tells it.
struct Told<'o>(&'o Outcome);

impl std::fmt::Display for Told<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Outcome::Accepted { status } | Outcome::Rejected { status, .. } => {
                write!(formatter, "{} {status}", self.0.as_str())
            }
            Outcome::Unreachable { error, detail } => write!(formatter, "unreachable ({error}): {detail}"),
        }
    }
}
