//! Batches that form by themselves: while one commit is in flight the next batch gathers, so that
//! a lone item commits at once and a flood commits in hundreds. Nothing ever waits for company.

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The most items of one batch.
const MOST: usize = 1_024;
/// How often the others are let in before a batch is committed.
const MOST_ROUNDS: u32 = 4;

/// Hands items to one task that commits them in batches.
#[derive(Debug)]
pub struct Batches<T> {
    queue: mpsc::Sender<T>,
}

/// Hands items to one task that commits them in batches, and waits for an answer to each.
#[derive(Debug)]
pub struct Batcher<T, R>(Batches<(T, oneshot::Sender<R>)>);

impl<T, R> Clone for Batcher<T, R> {
    fn clone(&self) -> Self {
        Self(Batches { queue: self.0.queue.clone() })
    }
}

/// The batcher has stopped: the program is ending.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("shutting down")]
pub struct Stopped;

impl<T: Send + 'static> Batches<T> {
    /// Starts the task. Up to `at_once` calls of `commit` are under way together, and up to `waiting`
    /// items gather meanwhile. On `stop` the task commits what it has and ends.
    pub fn start<C, F>(
        tracker: &TaskTracker,
        stop: CancellationToken,
        at_once: usize,
        waiting: usize,
        mut commit: C,
    ) -> Self
    where
        C: FnMut(Vec<T>) -> F + Send + 'static,
        F: Future<Output = ()> + Send,
    {
        let (queue, mut waiting) = mpsc::channel::<T>(waiting);
        tracker.spawn(async move {
            let mut gathered = Vec::new();
            let mut commits = FuturesUnordered::new();
            loop {
                let is_over = waiting.is_closed() && waiting.is_empty();
                tokio::select! {
                    biased;
                    Some(()) = commits.next() => (),
                    _ = waiting.recv_many(&mut gathered, MOST), if commits.len() < at_once && !is_over => (),
                    () = stop.cancelled(), if !waiting.is_closed() => waiting.close(),
                    else => break,
                }
                if !gathered.is_empty() {
                    gather_what_is_ready(&mut waiting, &mut gathered).await;
                    commits.push(commit(std::mem::take(&mut gathered)));
                }
            }
        });
        Self { queue }
    }

    /// Hands over an item; waits while too many wait already.
    pub async fn put(&self, item: T) -> Result<(), Stopped> {
        self.queue.send(item).await.map_err(|_| Stopped)
    }
}

/// Lets whoever can run at once hand over as well: under load that makes a batch several times as
/// large, and a lone item waits for nobody.
async fn gather_what_is_ready<T>(waiting: &mut mpsc::Receiver<T>, gathered: &mut Vec<T>) {
    for _ in 0..MOST_ROUNDS {
        let before = gathered.len();
        tokio::task::yield_now().await;
        while gathered.len() < MOST
            && let Ok(item) = waiting.try_recv()
        {
            gathered.push(item);
        }
        if gathered.len() == before || gathered.len() == MOST {
            return;
        }
    }
}

impl<T: Send + 'static, R: Send + 'static> Batcher<T, R> {
    /// Starts the task, as [`Batches::start`] does. `commit` answers for each item, in order.
    pub fn start<C, F>(tracker: &TaskTracker, stop: CancellationToken, at_once: usize, mut commit: C) -> Self
    where
        C: FnMut(Vec<T>) -> F + Send + 'static,
        F: Future<Output = Vec<R>> + Send,
    {
        Self(Batches::start(tracker, stop, at_once, MOST, move |gathered| {
            let (items, answers): (Vec<T>, Vec<oneshot::Sender<R>>) = gathered.into_iter().unzip();
            let committed = commit(items);
            async move {
                for (answer, result) in answers.into_iter().zip(committed.await) {
                    // Whoever asked may be gone, for instance a client that hung up.
                    let _ = answer.send(result);
                }
            }
        }))
    }

    /// Hands over an item and waits for its answer.
    pub async fn submit(&self, item: T) -> Result<R, Stopped> {
        let (answer, answered) = oneshot::channel();
        self.0.put((item, answer)).await?;
        answered.await.map_err(|_| Stopped)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tokio::sync::Semaphore;

    use super::*;

    #[tokio::test]
    async fn items_gather_while_a_commit_is_in_flight() {
        let tracker = TaskTracker::new();
        let stop = CancellationToken::new();
        let gate = Arc::new(Semaphore::new(0));
        let sizes: Arc<Mutex<Vec<usize>>> = Arc::default();
        let batcher = Batcher::start(&tracker, stop.clone(), 1, {
            let (gate, sizes) = (gate.clone(), sizes.clone());
            move |items: Vec<u32>| {
                sizes.lock().unwrap().push(items.len());
                let gate = gate.clone();
                async move {
                    gate.acquire().await.expect("open").forget();
                    items.into_iter().map(|item| item * 2).collect()
                }
            }
        });
        let submits: Vec<_> = (0..10)
            .map(|n| {
                tracker.spawn({
                    let batcher = batcher.clone();
                    async move { batcher.submit(n).await }
                })
            })
            .collect();
        while sizes.lock().unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
        gate.add_permits(10);
        for (n, submit) in submits.into_iter().enumerate() {
            assert_eq!(submit.await.expect("ran"), Ok(n as u32 * 2));
        }
        let sizes = sizes.lock().unwrap().clone();
        assert!(sizes.len() <= 3 && sizes.iter().sum::<usize>() == 10, "{sizes:?}");
        stop.cancel();
        tracker.close();
        tracker.wait().await;
        assert_eq!(batcher.submit(1).await, Err(Stopped));
    }
}
