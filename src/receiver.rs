//! A receiver: a program behind a subscriber's URL that verifies signatures and answers as told.
//! `scanhook receive` and the demo run it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Limited};
use tokio::sync::mpsc;

use crate::event::Vendor;
use crate::subscriber::Secret;
use crate::vendors::dialect;

/// The largest body that the receiver takes, in bytes.
const BODY_LIMIT: usize = 64 * 1024 * 1024;

/// What the receiver knows and how it answers.
#[derive(Debug, Clone)]
pub struct ReceiverSettings {
    /// Whose webhooks are expected.
    pub vendor: Vendor,
    /// What to verify with; without it signatures are not checked.
    pub secret: Option<Secret>,
    /// The statuses to answer with, in order; the last repeats. None means 200.
    pub answers: Vec<StatusCode>,
}

/// A request that arrived, and how it was answered.
#[derive(Debug, Clone)]
pub struct Received {
    /// Counts from 1.
    pub number: usize,
    pub method: Method,
    pub uri: Uri,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// Whether the signature is right, or why not; none if there is no secret to check with.
    pub verdict: Option<Result<(), String>>,
    pub answer: StatusCode,
}

#[derive(Debug, Clone)]
struct Shared {
    settings: Arc<ReceiverSettings>,
    count: Arc<AtomicUsize>,
    seen: mpsc::UnboundedSender<Received>,
}

/// The receiver's HTTP surface: any method and path. Each request is told to `seen` before it is
/// answered.
pub fn router(settings: ReceiverSettings, seen: mpsc::UnboundedSender<Received>) -> Router {
    let shared = Shared { settings: Arc::new(settings), count: Arc::default(), seen };
    Router::new().fallback(receive).with_state(shared)
}

async fn receive(State(shared): State<Shared>, request: Request<Body>) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(body) = Limited::new(body, BODY_LIMIT).collect().await else {
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    };
    let body = body.to_bytes();
    let index = shared.count.fetch_add(1, Ordering::Relaxed);
    let answers = &shared.settings.answers;
    let answer = answers.get(index).or(answers.last()).copied().unwrap_or(StatusCode::OK);
    let scheme = dialect(shared.settings.vendor).scheme();
    let verdict = scheme.zip(shared.settings.secret.as_ref());
    let verdict = verdict.map(|(scheme, secret)| scheme.verify(secret, &parts.headers, &body));
    let received = Received {
        number: index + 1,
        method: parts.method,
        uri: parts.uri,
        headers: parts.headers,
        body,
        verdict,
        answer,
    };
    // Whoever watched may be gone; the sender still gets its answer.
    let _ = shared.seen.send(received);
    answer.into_response()
}
