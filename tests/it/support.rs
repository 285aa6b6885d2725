//! What tests share: databases, a service on a hand-set clock, receivers that answer as told.

use std::collections::{HashSet, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt;
use scanhook::app::App;
use scanhook::clock::Clock;
use scanhook::config::{Config, Seed, Validation};
use serde_json::{Value, json};
use sqlx::{Connection, Executor, PgConnection};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinHandle};

/// How long a test waits for something that must happen. Only a failing test waits so long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(150);

/// Makes of each test two: one on SQLite and one on Postgres.
macro_rules! on_both_databases {
    ($($(#[$meta:meta])* async fn $name:ident($database:ident) $body:block)*) => {
        $(
            mod $name {
                use super::*;

                async fn check($database: &$crate::support::Database) $body

                $(#[$meta])*
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn sqlite() {
                    let database = $crate::support::Database::sqlite();
                    check(&database).await;
                }

                $(#[$meta])*
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn postgres() {
                    let database = $crate::support::Database::postgres().await;
                    check(&database).await;
                    database.remove().await;
                }
            }
        )*
    };
}
pub(crate) use on_both_databases;

/// An empty database of a test's own.
pub(crate) struct Database {
    pub(crate) url: String,
    schema: Option<(String, String)>,
    _directory: Option<TempDir>,
}

impl Database {
    /// A SQLite file that is gone at the end.
    pub(crate) fn sqlite() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let url = format!("sqlite:{}/test.db", directory.path().display());
        Self { url, schema: None, _directory: Some(directory) }
    }

    /// A schema of its own on the Postgres server that `scripts/test` starts.
    pub(crate) async fn postgres() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let server = postgres_server();
        let schema = format!("test_{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let mut connection = PgConnection::connect(&server).await.expect("the test Postgres answers");
        let create = format!("create schema {schema}");
        connection.execute(sqlx::AssertSqlSafe(create)).await.expect("a new schema");
        let separator = if server.contains('?') { '&' } else { '?' };
        let url = format!("{server}{separator}options=-csearch_path%3D{schema}");
        Self { url, schema: Some((server, schema)), _directory: None }
    }

    /// A database that somebody else has made and removes.
    pub(crate) fn at(url: String) -> Self {
        Self { url, schema: None, _directory: None }
    }

    /// Drops the schema, so that a server of the developer's own stays clean.
    pub(crate) async fn remove(self) {
        if let Some((server, schema)) = self.schema {
            let mut connection = PgConnection::connect(&server).await.expect("the test Postgres answers");
            let drop_schema = format!("drop schema {schema} cascade");
            connection.execute(sqlx::AssertSqlSafe(drop_schema)).await.expect("the schema is dropped");
        }
    }

    pub(crate) fn is_postgres(&self) -> bool {
        self.schema.is_some()
    }
}

#[expect(clippy::disallowed_methods, reason = "scripts/test says by the environment where its Postgres is")]
pub(crate) fn postgres_server() -> String {
    std::env::var("SCANHOOK_TEST_POSTGRES")
        .expect("SCANHOOK_TEST_POSTGRES names no server: run `scripts/test`, or `scripts/postgres run -- cargo test`")
}

/// The time at which every test's clock starts.
pub(crate) fn start_time() -> DateTime<Utc> {
    "2026-01-01T00:00:00Z".parse().expect("a time")
}

/// scanhook on a hand-set clock, with its API on a free port. It dispatches only when told.
pub(crate) struct Service {
    pub(crate) url: String,
    pub(crate) clock: Clock,
    pub(crate) app: App,
    http: reqwest::Client,
    api_key: Option<String>,
    server: AbortHandle,
}

impl Drop for Service {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// What the API answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
    pub(crate) body: Value,
}

impl Answer {
    /// Asserts that this is a problem of this status and type whose detail holds a text.
    #[track_caller]
    pub(crate) fn assert_problem(&self, status: u16, word: &str, detail: &str) {
        assert_eq!(self.status, status, "{}", self.text);
        assert_eq!(self.headers["content-type"], "application/problem+json");
        assert_eq!(self.body["type"], format!("urn:scanhook:problem:{word}"), "{}", self.text);
        assert_eq!(self.body["status"], status);
        assert!(self.body["detail"].as_str().is_some_and(|text| text.contains(detail)), "{}", self.text);
    }

    /// Asserts the status and gives the body.
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        self.body
    }
}

/// The settings that tests run with: the defaults, a seed, no jitter.
pub(crate) fn test_config(database: &Database) -> Config {
    let mut config = Config::defaults();
    config.database.url.clone_from(&database.url);
    config.chance.seed = Seed::Fixed(1);
    config.dispatch.jitter = 0.0;
    // Most tests are not about content; those that are turn the check on.
    config.publish.validation = Validation::Off;
    config
}

impl Service {
    pub(crate) async fn start(database: &Database) -> Self {
        Self::start_with(test_config(database)).await
    }

    pub(crate) async fn start_with(config: Config) -> Self {
        let clock = Clock::manual(start_time());
        let app = App::open(config, clock.clone()).await.expect("scanhook opens");
        let (url, server) = serve(app.router()).await;
        let http = reqwest::Client::builder().no_proxy().build().expect("a client");
        Self { url, clock, app, http, api_key: None, server: server.abort_handle() }
    }

    /// Acts with an API key from now on.
    pub(crate) fn with_key(&mut self, key: Option<&str>) {
        self.api_key = key.map(str::to_owned);
    }

    pub(crate) async fn send(&self, request: reqwest::RequestBuilder) -> Answer {
        let request = match &self.api_key {
            Some(key) => request.bearer_auth(key),
            None => request,
        };
        let answer = request.send().await.expect("the API answers");
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        let text = answer.text().await.expect("a whole answer");
        let body = serde_json::from_str(&text).unwrap_or(Value::Null);
        Answer { status, headers, text, body }
    }

    pub(crate) fn request(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        let method = method.parse().expect("a method");
        self.http.request(method, format!("{}{path}", self.url))
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(self.request("GET", path)).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.send(self.request("POST", path).json(&body)).await
    }

    /// POSTs bytes as they are.
    pub(crate) async fn post_raw(&self, path: &str, content_type: &str, body: impl Into<reqwest::Body>) -> Answer {
        self.send(self.request("POST", path).header("content-type", content_type).body(body)).await
    }

    pub(crate) async fn patch(&self, path: &str, body: Value) -> Answer {
        self.send(self.request("PATCH", path).json(&body)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.send(self.request("DELETE", path)).await
    }

    /// Adds a `standard` subscriber: its id and its secret.
    pub(crate) async fn subscribe(&self, url: &str) -> (String, String) {
        self.subscribe_as(json!({"url": url, "vendor": "standard"})).await
    }

    /// Adds a subscriber: its id and its secret.
    pub(crate) async fn subscribe_as(&self, subscriber: Value) -> (String, String) {
        let created = self.post("/api/v1/subscribers", subscriber).await.expect(201);
        (text(&created["id"]), created["secret"].as_str().unwrap_or_default().to_owned())
    }

    /// Publishes a `standard` event: the event as the API shows it.
    pub(crate) async fn publish(&self, event_type: &str) -> Value {
        let event = json!({"vendor": "standard", "event_type": event_type, "content": {"n": 1}});
        self.post("/api/v1/events", event).await.expect(202)
    }

    /// Sends all that is due, and waits for the answers: how many attempts that were.
    pub(crate) async fn dispatch(&self) -> usize {
        self.app.dispatcher.run_once().await.expect("the database answers")
    }

    /// Goes from one due time to the next, until nothing is due any more.
    pub(crate) async fn live(&self) {
        loop {
            let stepped = self.app.scanner.run_once().await.expect("the scanner goes on");
            if stepped + self.dispatch().await > 0 {
                continue;
            }
            let timer = self.app.scanner.next_due().await.expect("the database answers");
            let delivery = self.app.store.next_due(self.clock.now()).await.expect("the database answers");
            let Some(next) = [timer, delivery].into_iter().flatten().min() else { return };
            self.clock.advance((next - self.clock.now()).to_std().unwrap_or_default());
        }
    }

    /// Every event of the account, oldest first.
    pub(crate) async fn events(&self) -> Vec<Value> {
        let mut events = Vec::new();
        let mut query = "?limit=250".to_owned();
        loop {
            let page = self.get(&format!("/api/v1/events{query}")).await.expect(200);
            events.extend(page["data"].as_array().expect("a list").iter().cloned());
            match page["next_cursor"].as_str() {
                Some(cursor) => query = format!("?limit=250&cursor={cursor}"),
                None => break,
            }
        }
        events.reverse();
        events
    }

    pub(crate) fn advance(&self, by: &str) {
        self.clock.advance(humantime(by));
    }

    /// The one delivery of an event, with its attempts.
    pub(crate) async fn only_delivery(&self, event: &Value) -> Value {
        let event = self.get(&format!("/api/v1/events/{}", text(&event["id"]))).await.expect(200);
        let webhooks = event["webhooks"].as_array().expect("webhooks");
        assert_eq!(webhooks.len(), 1, "{event}");
        self.get(&format!("/api/v1/deliveries/{}", text(&webhooks[0]["id"]))).await.expect(200)
    }
}

pub(crate) fn humantime(text: &str) -> Duration {
    scanhook::schedule::parse_duration(text).expect("a duration")
}

pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is not a text")).to_owned()
}

async fn serve(router: axum::Router) -> (String, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let server = spawn(async move { axum::serve(listener, router).await.expect("serves") });
    (url, server)
}

#[expect(clippy::disallowed_methods, reason = "tests end with their runtime; nothing waits for these tasks")]
pub(crate) fn spawn<F: Future<Output: Send> + Send + 'static>(future: F) -> JoinHandle<F::Output> {
    tokio::spawn(future)
}

/// How a receiver answers one request.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Vec<u8>,
    /// Never answer.
    pub(crate) hang: bool,
}

/// Lets so many requests be answered; the others wait until it is opened.
#[derive(Debug, Clone)]
pub(crate) struct Gate(watch::Sender<usize>);

impl Gate {
    pub(crate) fn open(&self) {
        self.0.send_replace(usize::MAX);
    }
}

impl From<u16> for Reply {
    fn from(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new(), hang: false }
    }
}

/// A request that a receiver got.
#[derive(Debug, Clone)]
pub(crate) struct Got {
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// A real HTTP receiver that answers as told and keeps what it got.
pub(crate) struct Receiver {
    pub(crate) url: String,
    state: Arc<ReceiverState>,
    server: AbortHandle,
}

struct ReceiverState {
    replies: Mutex<VecDeque<Reply>>,
    got: Mutex<Vec<Got>>,
    count: watch::Sender<usize>,
    gate: Gate,
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Receiver {
    /// Answers in this order; the last answer repeats.
    pub(crate) async fn answering<R: Into<Reply>>(replies: impl IntoIterator<Item = R>) -> Self {
        Self::start(replies.into_iter().map(Into::into).collect(), usize::MAX).await
    }

    /// Accepts everything, but answers no more than this many requests before the gate is opened.
    pub(crate) async fn gated(count: usize) -> Self {
        Self::start([Reply::from(200)].into(), count).await
    }

    /// Answers with this status, but not before the gate is opened.
    pub(crate) async fn answering_once_open(status: u16) -> Self {
        Self::start([Reply::from(status)].into(), 0).await
    }

    async fn start(replies: VecDeque<Reply>, gate: usize) -> Self {
        let state = Arc::new(ReceiverState {
            replies: Mutex::new(replies),
            got: Mutex::default(),
            count: watch::Sender::new(0),
            gate: Gate(watch::Sender::new(gate)),
        });
        let shared = Arc::clone(&state);
        let router = axum::Router::new().fallback(move |request: Request<Body>| {
            let state = Arc::clone(&shared);
            async move { state.receive(request).await }
        });
        let (url, server) = serve(router).await;
        Self { url: format!("{url}/hook"), state, server: server.abort_handle() }
    }

    pub(crate) fn got(&self) -> Vec<Got> {
        lock(&self.state.got).clone()
    }

    pub(crate) fn gate(&self) -> Gate {
        self.state.gate.clone()
    }

    /// The different `webhook-id`s that have arrived.
    pub(crate) fn ids(&self) -> HashSet<String> {
        let id = |got: &Got| got.headers["webhook-id"].to_str().expect("text").to_owned();
        lock(&self.state.got).iter().map(id).collect()
    }

    pub(crate) fn count(&self) -> usize {
        *self.state.count.borrow()
    }

    /// Waits until this many requests have arrived.
    pub(crate) async fn wait_for(&self, count: usize) {
        let mut counts = self.state.count.subscribe();
        // The guard that `wait_for` gives must be gone before the count is read again.
        let arrived = async { counts.wait_for(|now| *now >= count).await.map(drop) };
        let waited = tokio::time::timeout(PATIENCE, arrived).await;
        waited.unwrap_or_else(|_| panic!("{} of {count} requests arrived", self.count())).expect("the receiver lives");
    }
}

impl ReceiverState {
    async fn receive(&self, request: Request<Body>) -> Response {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.expect("a whole body").to_bytes();
        let reply = {
            let mut replies = lock(&self.replies);
            let first = replies.front().cloned().expect("a reply");
            if replies.len() > 1 {
                replies.pop_front();
            }
            first
        };
        lock(&self.got).push(Got { path: parts.uri.to_string(), headers: parts.headers, body });
        let mut number = 0;
        self.count.send_modify(|count| {
            *count += 1;
            number = *count;
        });
        let mut gate = self.gate.0.subscribe();
        let passed = gate.wait_for(|open| *open >= number).await.is_ok();
        if reply.hang || !passed {
            std::future::pending::<()>().await;
        }
        let status = StatusCode::from_u16(reply.status).expect("a status");
        let mut response = (status, reply.body).into_response();
        for (name, value) in reply.headers {
            response.headers_mut().insert(name, value.parse().expect("a header value"));
        }
        response
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no test panics while it holds a lock")
}

/// A receiver that sends fixed bytes to each connection and closes it; what it got, byte for byte.
pub(crate) struct RawReceiver {
    pub(crate) address: SocketAddr,
    got: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl RawReceiver {
    pub(crate) async fn sending(bytes: &'static [u8]) -> Self {
        Self::start(bytes, 1).await
    }

    /// Sends the same bytes for as long as the connection stands.
    pub(crate) async fn flooding_with(bytes: &'static [u8]) -> Self {
        Self::start(bytes, usize::MAX).await
    }

    async fn start(bytes: &'static [u8], times: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let got: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
        let kept = Arc::clone(&got);
        spawn(async move {
            while let Ok((mut connection, _)) = listener.accept().await {
                let request = read_request(&mut connection).await;
                lock(&kept).push(request);
                // The sender may have gone away; that is part of what is tested.
                for _ in 0..times {
                    if connection.write_all(bytes).await.is_err() {
                        break;
                    }
                }
            }
        });
        Self { address, got }
    }

    pub(crate) fn got(&self) -> Vec<Vec<u8>> {
        lock(&self.got).clone()
    }
}

/// Reads a request to its end, which its head tells, or as far as it comes.
async fn read_request(connection: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
    let mut request = Vec::new();
    while !is_whole(&request) {
        let mut buffer = [0; 4096];
        match connection.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(count) => request.extend_from_slice(&buffer[..count]),
        }
    }
    request
}

fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head
        .to_ascii_lowercase()
        .split("content-length: ")
        .nth(1)
        .and_then(|rest| rest.split("\r\n").next().and_then(|length| length.parse::<usize>().ok()));
    length.is_some_and(|length| body.len() >= length)
}

/// A receiver with a self-signed certificate that answers 200: its URL, and the certificate in PEM.
pub(crate) async fn self_signed_receiver() -> (String, String) {
    use tokio_rustls::TlsAcceptor;
    use tokio_rustls::rustls::ServerConfig;
    use tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer;
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate");
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let provider = Arc::new(tokio_rustls::rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().expect("versions");
    let config = config.with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key.into());
    let acceptor = TlsAcceptor::from(Arc::new(config.expect("a usable certificate")));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("https://{}/", listener.local_addr().expect("an address"));
    spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            // A sender that does not trust the certificate ends the handshake.
            let Ok(mut connection) = acceptor.accept(connection).await else { continue };
            read_request(&mut connection).await;
            // The test looks at what the sender says of the answer.
            let _ = connection.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
        }
    });
    (url, made.cert.pem())
}
