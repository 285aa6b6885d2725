//! The receiver: takes webhooks, as lean as hyper is, and says when they came. It has threads of its
//! own, as a program of its own has: on the load maker's, both ends of an exchange would share a
//! thread, which no receiver's do.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};
use http::{Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::load::Target;
use crate::clock::{Clock, Stopwatch};

/// What stands before an event's number, in its content.
const NUMBER: &[u8] = br#""n":"#;

/// How a receiver treats its requests.
#[derive(Debug, Clone, Copy)]
pub(super) enum Manner {
    /// Answers 200 at once.
    Prompt,
    /// Answers 200 after a while.
    Thinks(Duration),
    /// Never answers.
    Hangs,
}

/// A receiver on a free port; it ends when it is dropped.
#[derive(Debug)]
pub(super) struct Receiver {
    pub(super) address: SocketAddr,
    state: Arc<State>,
    _threads: Threads,
}

/// The threads of a receiver; they end when it is dropped.
#[derive(Debug)]
struct Threads(Option<Runtime>);

impl Drop for Threads {
    fn drop(&mut self) {
        // A runtime that is only dropped waits, which tasks must not.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

#[derive(Debug)]
struct State {
    manner: Manner,
    count: AtomicU64,
    /// At which count to wake whoever waits.
    goal: AtomicU64,
    reached: Notify,
    since: Stopwatch,
    /// When each numbered event came first, in nanoseconds.
    arrivals: Vec<AtomicU64>,
}

impl Receiver {
    pub(super) async fn start(manner: Manner) -> anyhow::Result<Self> {
        Self::noting(manner, 0).await
    }

    /// A receiver that notes when each of the events below this number arrives.
    pub(super) async fn noting(manner: Manner, numbers: u64) -> anyhow::Result<Self> {
        let runtime = Builder::new_multi_thread().thread_name("receiver").enable_all().build()?;
        let handle = runtime.handle().clone();
        let threads = Threads(Some(runtime));
        let listener = handle.spawn(TcpListener::bind("127.0.0.1:0")).await?.context("cannot listen on loopback")?;
        let address = listener.local_addr()?;
        let state = Arc::new(State {
            manner,
            count: AtomicU64::new(0),
            goal: AtomicU64::new(u64::MAX),
            reached: Notify::new(),
            since: Clock::Real.stopwatch(),
            arrivals: (0..numbers).map(|_| AtomicU64::new(u64::MAX)).collect(),
        });
        handle.spawn(serve(listener, Arc::clone(&state)));
        Ok(Self { address, state, _threads: threads })
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    /// For load that goes straight to the receiver.
    pub(super) fn target(&self) -> Target {
        Target { address: self.address, path: "/hook" }
    }

    /// The time that arrivals are told in.
    pub(super) fn since(&self) -> &Stopwatch {
        &self.state.since
    }

    /// How many requests have arrived.
    pub(super) fn count(&self) -> u64 {
        self.state.count.load(Ordering::Acquire)
    }

    /// Waits until so many requests have arrived in all.
    pub(super) async fn wait_for(&self, count: u64, patience: Duration) -> anyhow::Result<()> {
        self.state.goal.store(count, Ordering::SeqCst);
        let arrive = async {
            while self.state.count.load(Ordering::SeqCst) < count {
                self.state.reached.notified().await;
            }
        };
        if tokio::time::timeout(patience, arrive).await.is_err() {
            let (arrived, seconds) = (self.count(), patience.as_secs());
            bail!("{arrived} of {count} requests have arrived after {seconds} s");
        }
        Ok(())
    }

    /// When each numbered event arrived, in order; fails if one has not.
    pub(super) fn arrivals(&self) -> anyhow::Result<Vec<Duration>> {
        let arrival = |(number, nanos): (usize, &AtomicU64)| match nanos.load(Ordering::Acquire) {
            u64::MAX => bail!("event {number} has not arrived"),
            nanos => Ok(Duration::from_nanos(nanos)),
        };
        self.state.arrivals.iter().enumerate().map(arrival).collect()
    }
}

async fn serve(listener: TcpListener, state: Arc<State>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        // Without it answers are gathered, which no receiver worth measuring against does.
        let _ = stream.set_nodelay(true);
        let state = Arc::clone(&state);
        connections.spawn(async move {
            let service = service_fn(move |request| receive(Arc::clone(&state), request));
            // How a connection ends is for its other end to tell.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn receive(state: Arc<State>, request: Request<Incoming>) -> Result<Response<Empty<Bytes>>, Infallible> {
    let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    if let Some(arrival) = number(&body).filter(|_| !state.arrivals.is_empty()).and_then(|n| state.arrivals.get(n)) {
        let nanos = u64::try_from(state.since.elapsed().as_nanos()).unwrap_or(u64::MAX);
        arrival.fetch_min(nanos, Ordering::AcqRel);
    }
    match state.manner {
        Manner::Prompt => (),
        Manner::Thinks(time) => tokio::time::sleep(time).await,
        Manner::Hangs => std::future::pending().await,
    }
    if state.count.fetch_add(1, Ordering::SeqCst) + 1 >= state.goal.load(Ordering::SeqCst) {
        state.reached.notify_one();
    }
    Ok(Response::new(Empty::new()))
}

/// The number of the event in a body.
fn number(body: &[u8]) -> Option<usize> {
    let start = body.windows(NUMBER.len()).position(|window| window == NUMBER)? + NUMBER.len();
    let digits = body[start..].iter().take_while(|byte| byte.is_ascii_digit());
    Some(digits.fold(0, |number: usize, digit| number.saturating_mul(10).saturating_add(usize::from(digit - b'0'))))
}

#[cfg(test)]
mod tests {
    #[test]
    fn an_event_is_known_by_its_number() {
        assert_eq!(super::number(&super::super::load::event(1_234)), Some(1_234));
        assert_eq!(super::number(b"{}"), None);
    }
}
