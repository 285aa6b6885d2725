//! The load maker: plain HTTP/1.1 over kept connections, as lean as hyper is.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::clock::{Clock, Stopwatch};

/// The type of every event that is published.
pub(super) const EVENT_TYPE: &str = "bench.event";
/// The rest of an event's content, so that the whole request has about 450 bytes.
const FILLER: &str = r#""id":"61918df1ed4b650040af5b0a","status":"OPEN","risk_level":"HIGH","title":"Missing HTTP header: Strict-Transport-Security","description":"The server does not tell browsers to use HTTPS only, so that a first request can be read and changed on its way.","target":"https://shop.example.test/checkout","cvss_score":7.4,"detected_at":"2026-01-01T00:00:00Z""#;
/// How many connections share a fixed rate.
const PACED_CONNECTIONS: u64 = 32;
/// How far ahead the first moment is, so that it is not late from the start.
const LEAD: Duration = Duration::from_millis(10);
/// How much of an unexpected answer is told, in bytes.
const TOLD: usize = 300;

/// Where requests go.
#[derive(Debug, Clone, Copy)]
pub(super) struct Target {
    pub(super) address: SocketAddr,
    pub(super) path: &'static str,
}

/// How many requests were answered.
#[derive(Debug, Clone, Copy)]
pub(super) struct Answered {
    pub(super) requests: u64,
    pub(super) elapsed: Duration,
}

impl Answered {
    pub(super) fn per_second(self) -> f64 {
        self.requests as f64 / self.elapsed.as_secs_f64()
    }
}

/// An event to publish; its content starts with its number.
pub(super) fn event(number: u64) -> Bytes {
    format!(r#"{{"vendor":"standard","event_type":"{EVENT_TYPE}","content":{}}}"#, content(number)).into()
}

/// The content of an event.
pub(super) fn content(number: u64) -> String {
    format!(r#"{{"n":{number},{FILLER}}}"#)
}

/// A hundred events to publish in one request.
pub(super) fn hundred_events(number: u64) -> Bytes {
    let mut body = b"[".to_vec();
    for number in number * 100..number * 100 + 100 {
        body.extend_from_slice(&event(number));
        body.push(b',');
    }
    body.pop();
    body.push(b']');
    body.into()
}

/// Sends requests over this many connections, each as soon as the one before is answered, until
/// the time is over.
pub(super) async fn flood(
    target: Target,
    connections: usize,
    time: Duration,
    body: fn(u64) -> Bytes,
) -> anyhow::Result<Answered> {
    let mut streams = Vec::with_capacity(connections);
    for _ in 0..connections {
        streams.push(connect(target.address).await?);
    }
    let stopwatch = Arc::new(Clock::Real.stopwatch());
    let next = Arc::new(AtomicU64::new(0));
    let mut senders = JoinSet::new();
    for stream in streams {
        let (stopwatch, next) = (Arc::clone(&stopwatch), Arc::clone(&next));
        senders.spawn(over(stream, move |mut sender| async move {
            while stopwatch.elapsed() < time {
                let request = post(target, body(next.fetch_add(1, Ordering::Relaxed)))?;
                exchange(&mut sender, request).await?;
            }
            Ok(())
        }));
    }
    all(senders).await?;
    Ok(Answered { requests: next.load(Ordering::Relaxed), elapsed: stopwatch.elapsed() })
}

/// Sends events, numbered from `first`, at a fixed rate, however long answers take. Gives the
/// moment of the first by `since`; each of the others is so much later than the one before.
pub(super) async fn pace(
    target: Target,
    since: &Stopwatch,
    every: Duration,
    first: u64,
    count: u64,
) -> anyhow::Result<Duration> {
    let mut queues = Vec::new();
    let mut senders = JoinSet::new();
    for _ in 0..PACED_CONNECTIONS {
        let stream = connect(target.address).await?;
        let (queue, mut numbers) = mpsc::unbounded_channel::<u64>();
        queues.push(queue);
        senders.spawn(over(stream, move |mut sender| async move {
            while let Some(number) = numbers.recv().await {
                exchange(&mut sender, post(target, event(number))?).await?;
            }
            Ok(())
        }));
    }
    let (start, own) = (since.elapsed() + LEAD, Clock::Real.stopwatch());
    // A thread of its own: the runtime's timers are exact to a millisecond only.
    let pacer = tokio::task::spawn_blocking(move || {
        for step in 0..count {
            let at = LEAD + every * u32::try_from(step).unwrap_or(u32::MAX);
            std::thread::sleep(at.saturating_sub(own.elapsed()));
            let queue = &queues[(step % PACED_CONNECTIONS) as usize];
            if queue.send(first + step).is_err() {
                break;
            }
        }
    });
    all(senders).await?;
    pacer.await.context("the pacer ended early")?;
    Ok(start)
}

/// One request on a connection of its own: the answer as JSON; null if it has no body.
pub(super) async fn call(
    address: SocketAddr,
    method: Method,
    path: &str,
    body: Option<Value>,
) -> anyhow::Result<Value> {
    let what = format!("{method} {path}");
    let body = body.map(|body| body.to_string()).unwrap_or_default();
    let request = Request::builder().method(method).uri(path).header("host", "127.0.0.1");
    let request = request.header("content-type", "application/json").body(Full::from(body))?;
    let (answer, answered) = tokio::sync::oneshot::channel();
    let asked = over(connect(address).await?, move |mut sender| async move {
        let response = sender.send_request(request).await?;
        let status = response.status();
        // Whoever waits for it is this very function.
        let _ = answer.send((status, response.into_body().collect().await?.to_bytes()));
        Ok(())
    });
    asked.await.with_context(|| what.clone())?;
    let (status, text) = answered.await.with_context(|| what.clone())?;
    ensure!(status.is_success(), "{what} was answered {status}: {}", String::from_utf8_lossy(&text));
    if text.is_empty() { Ok(Value::Null) } else { serde_json::from_slice(&text).with_context(|| what) }
}

/// A connection, without the delay that gathers small packets.
async fn connect(address: SocketAddr) -> anyhow::Result<TcpStream> {
    let stream = TcpStream::connect(address).await.with_context(|| format!("cannot connect to {address}"))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Does some work over a connection. Both are one task, so that no request wakes another one.
async fn over<F: Future<Output = anyhow::Result<()>> + Send>(
    stream: TcpStream,
    work: impl FnOnce(SendRequest<Full<Bytes>>) -> F + Send,
) -> anyhow::Result<()> {
    let (sender, connection) = handshake(TokioIo::new(stream)).await?;
    tokio::select! {
        worked = work(sender) => worked,
        ended = connection => {
            ended?;
            bail!("the connection was closed")
        }
    }
}

fn post(target: Target, body: Bytes) -> http::Result<Request<Full<Bytes>>> {
    let request = Request::post(target.path).header("host", "127.0.0.1").header("content-type", "application/json");
    request.body(Full::new(body))
}

/// Sends a request and reads the whole answer, which must be good.
async fn exchange(sender: &mut SendRequest<Full<Bytes>>, request: Request<Full<Bytes>>) -> anyhow::Result<()> {
    sender.ready().await?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    let mut body = response.into_body();
    if !status.is_success() || status == StatusCode::MULTI_STATUS {
        let text = body.collect().await?.to_bytes();
        bail!("a request was answered {status}: {}", String::from_utf8_lossy(&text[..text.len().min(TOLD)]));
    }
    while let Some(frame) = body.frame().await {
        frame?;
    }
    Ok(())
}

/// Waits for all; the first failure ends the rest.
async fn all(mut senders: JoinSet<anyhow::Result<()>>) -> anyhow::Result<()> {
    while let Some(ended) = senders.join_next().await {
        ended.context("a sender ended early")??;
    }
    Ok(())
}
