//! Recording attempts, in batches that form by themselves, and telling the log of each.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

use super::chain;
use crate::batch::Batcher;
use crate::delivery::{Attempt, Claimed, Outcome};
use crate::store::{Effect, Error, Record, Store};

/// Records attempts.
#[derive(Debug)]
pub(super) struct Recorder {
    batcher: Batcher<Record, Result<bool, Arc<Error>>>,
}

impl Recorder {
    /// Starts the task that records; `stop` ends it.
    pub(super) fn start(store: Store, tracker: &TaskTracker, stop: CancellationToken) -> Self {
        let at_once = store.commits_at_once();
        let batcher = Batcher::start(tracker, stop, at_once, move |records: Vec<Record>| {
            let store = store.clone();
            async move {
                match store.record_attempts(&records).await {
                    Ok(ours) => ours.into_iter().map(Ok).collect(),
                    // One record that the database cannot take must not lose the others.
                    Err(_) => record_singly(&store, &records).await,
                }
            }
        });
        Self { batcher }
    }

    /// Records an attempt. If the database cannot take it, the lease lapses and it is made again.
    pub(super) async fn record(&self, claimed: &Claimed, record: Record) {
        let Attempt { number, ref outcome, duration, .. } = record.attempt;
        let what = describe(outcome);
        let (duration_ms, next, effect) = (duration.as_millis() as u64, record.next, record.effect.clone());
        // Before the log: whatever becomes of that, the attempt must not be made again.
        let recorded = self.batcher.submit(record).await;
        info!(attempt.number = number, outcome = %what, duration_ms, next = ?next, "attempt {number} of {}: {what}", claimed.id);
        if let Some(Effect::Disable(reason)) = effect {
            warn!("subscriber {}: {reason}", claimed.subscriber_id);
        }
        match recorded {
            Ok(Ok(true)) => (),
            Ok(Ok(false)) => warn!(
                "attempt {number} of {} was not recorded: its lease had lapsed, or the delivery is gone",
                claimed.id
            ),
            Ok(Err(failure)) => {
                let failure = chain(&*failure);
                error!(error = %failure, "attempt {number} of {} was not recorded and will be made again: {failure}", claimed.id);
            }
            Err(stopped) => {
                error!("attempt {number} of {} was not recorded and will be made again: {stopped}", claimed.id)
            }
        }
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
