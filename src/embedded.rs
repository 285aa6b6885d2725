//! scanhook inside another Rust program: for tests that want a vendor of their own.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, anyhow};
use axum::body::Body;
use chrono::{DateTime, Utc};
use http::{Request, header};
use http_body_util::BodyExt;
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use crate::app::App;
use crate::clock::Clock;
use crate::clocks::{Clocks, Moved, Until};
use crate::config::{Config, Sources};
use crate::id::AccountId;
use crate::init;

/// What to start; see [`Scanhook::builder`].
#[derive(Debug, Default)]
pub struct Builder {
    settings: Vec<(&'static str, String)>,
    init: Vec<PathBuf>,
}

/// A running scanhook. It stops when it is dropped.
///
/// ```no_run
/// # async fn example() -> anyhow::Result<()> {
/// use scanhook::Scanhook;
/// use serde_json::json;
///
/// let scanhook = Scanhook::builder().ephemeral().manual_clock("2026-01-01T00:00:00Z".parse()?).start().await?;
/// let subscriber = json!({"vendor": "standard", "url": "http://127.0.0.1:9000/hook"});
/// scanhook.call("POST", "/api/v1/subscribers", Some(&subscriber)).await?;
/// let moved = scanhook.run_until_idle(std::time::Duration::from_secs(4 * 24 * 3600)).await?;
/// assert_eq!(moved.fired.len(), 0);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Scanhook {
    url: String,
    router: axum::Router,
    clocks: std::sync::Arc<Clocks>,
    /// Stops it when it is dropped.
    stop: DropGuard,
    ended: JoinHandle<anyhow::Result<()>>,
}

impl Builder {
    /// Keeps everything in memory. This is how it is unless another database is named.
    #[must_use]
    pub fn ephemeral(self) -> Self {
        self.setting("database.url", "sqlite::memory:")
    }

    /// The database: `sqlite:FILE` or `postgres://…`.
    #[must_use]
    pub fn database(self, url: impl Into<String>) -> Self {
        self.setting("database.url", url)
    }

    /// Gives the default account a clock of its own that stands at `from` until it is moved.
    #[must_use]
    pub fn manual_clock(self, from: DateTime<Utc>) -> Self {
        self.setting("clock.manual_from", from.to_rfc3339())
    }

    /// The same number gives the same chance on every run.
    #[must_use]
    pub fn seed(self, seed: u64) -> Self {
        self.setting("chance.seed", seed.to_string())
    }

    /// A YAML file, or a folder of them, of what is there from the start.
    #[must_use]
    pub fn init(mut self, path: impl Into<PathBuf>) -> Self {
        self.init.push(path.into());
        self
    }

    /// Any setting of `config.toml` by its dotted key, such as `dispatch.jitter`.
    #[must_use]
    pub fn setting(mut self, key: &'static str, value: impl Into<String>) -> Self {
        self.settings.retain(|(known, _)| *known != key);
        self.settings.push((key, value.into()));
        self
    }

    /// Starts it on a free port of 127.0.0.1. Needs a Tokio runtime with I/O and time. Neither files of
    /// settings nor the environment are read, and no log is written.
    pub async fn start(self) -> anyhow::Result<Scanhook> {
        let mut flags = vec![
            ("server.listen", "127.0.0.1:0".to_owned(), "the builder"),
            ("database.url", "sqlite::memory:".to_owned(), "the builder"),
        ];
        flags.extend(self.settings.into_iter().map(|(key, value)| (key, value, "the builder")));
        let (config, _) = Config::load(&Sources { file: None, environment: Vec::new(), flags })?;
        let files = init::read(&self.init, Clock::Real.now())?;
        let app = App::open(config, Clock::Real).await?;
        let listeners = app.bind().await?;
        let (url, router, clocks) = (listeners.url()?, app.router(), std::sync::Arc::clone(&app.clocks));
        let stop = CancellationToken::new();
        let running = app.start(listeners, &files, stop.clone()).await?;
        let ended = TaskTracker::new().spawn(running.ended());
        Ok(Scanhook { url, router, clocks, stop: stop.drop_guard(), ended })
    }
}

impl Scanhook {
    /// What to start, beginning with the defaults of `config.toml`.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Where it listens, such as `http://127.0.0.1:40123`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Calls its API without a connection, as the default account: the answer's JSON, or null where it
    /// has no body. What the API refuses is an error that says why.
    pub async fn call(&self, method: &str, path: &str, body: Option<&Value>) -> anyhow::Result<Value> {
        let mut request = Request::builder().method(method).uri(path);
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
        let request = request.body(body).with_context(|| format!("{method} {path} is not a request"))?;
        let answer = self.router.clone().oneshot(request).await?;
        let (status, body) = (answer.status(), answer.into_body().collect().await?.to_bytes());
        let value: Value = if body.is_empty() { Value::Null } else { serde_json::from_slice(&body)? };
        if status.is_success() {
            Ok(value)
        } else {
            Err(anyhow!("{method} {path}: {} ({status})", value["detail"].as_str().unwrap_or("refused")))
        }
    }

    /// Moves the default account's clock by this much; see [`Clocks::advance`].
    pub async fn advance(&self, by: Duration) -> anyhow::Result<Moved> {
        Ok(self.clocks.advance(AccountId::DEFAULT, Until::For(by)).await?)
    }

    /// Moves the default account's clock until nothing is ahead any more, by at most this much.
    pub async fn run_until_idle(&self, at_most: Duration) -> anyhow::Result<Moved> {
        Ok(self.clocks.advance(AccountId::DEFAULT, Until::Idle(at_most)).await?)
    }

    /// Stops it and waits until all that was under way has ended.
    pub async fn stop(self) -> anyhow::Result<()> {
        let Self { stop, ended, .. } = self;
        drop(stop);
        ended.await.context("scanhook panicked")?
    }
}
