//! The application: wires the parts, starts them, and stops them in order.

use std::io;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use axum::Router;
use axum::serve::ListenerExt;
use futures_util::FutureExt;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

use crate::account::ApiKey;
use crate::clock::Clock;
use crate::config::{Config, Seed, hide_password};
use crate::dispatch::{Dispatcher, Parts};
use crate::handover::Handover;
use crate::http::{Api, router};
use crate::publish::Publisher;
use crate::random::Chance;
use crate::scanner::Scanner;
use crate::store::Store;

/// scanhook with its database open, ready to serve.
#[derive(Debug)]
pub struct App {
    pub store: Store,
    pub clock: Clock,
    pub dispatcher: Arc<Dispatcher>,
    pub scanner: Arc<Scanner>,
    router: Router,
    config: Config,
    /// The tasks that commit batches; `finish` ends them.
    writers: TaskTracker,
    finish: CancellationToken,
}

impl App {
    /// Opens the database, brings it up to date and wires the parts. Nothing is sent yet.
    pub async fn open(config: Config, clock: Clock) -> anyhow::Result<Self> {
        let store = Store::open(&config.database).await?;
        let chance = match config.chance.seed {
            Seed::Random => Chance::from_system(),
            Seed::Fixed(seed) => Chance::from_seed(seed),
        };
        let new_cursor_key = ApiKey::generate(&mut chance.stream("cursor-key", ""));
        let installation = store.enter(new_cursor_key.reveal()).await.with_context(|| {
            let url = hide_password(&config.database.url);
            format!("cannot write to the database {url}; a SQLite file needs write permission, and so do those ending in -wal and -shm beside it")
        })?;
        let chance = chance.of_process(installation.process_number);
        let default_key = &config.auth.default_key;
        let key_hash = (!default_key.is_empty()).then(|| ApiKey::new(default_key).hash());
        store.set_default_key_hash(key_hash.as_deref()).await.context("auth.default_key cannot be used")?;

        let writers = TaskTracker::new();
        let finish = CancellationToken::new();
        let settings = config.dispatch.clone();
        let (handover, handed_over) = Handover::new(
            installation.process_number,
            settings.lease,
            settings.in_hand,
            settings.in_hand_per_subscriber,
        );
        let handover = Arc::new(handover);
        let publisher = Publisher::start(
            store.clone(),
            Arc::clone(&handover),
            clock.clone(),
            chance.clone(),
            config.publish.validation,
            &writers,
            finish.clone(),
        );
        let scanner = Arc::new(Scanner::new(
            store.clone(),
            publisher.clone(),
            clock.clone(),
            chance.clone(),
            config.scanner.clone(),
        ));
        scanner.sync_schedules().await.context("cannot set the schedules of the settings")?;
        let parts = Parts {
            store: store.clone(),
            handover: Arc::clone(&handover),
            handed_over,
            clock: clock.clone(),
            chance: chance.clone(),
            settings,
            vendors: config.vendors.clone(),
        };
        let dispatcher = Arc::new(Dispatcher::new(parts, &writers, finish.clone())?);
        let router = router(Api {
            store: store.clone(),
            publisher,
            handover,
            scanner: Arc::clone(&scanner),
            clock: clock.clone(),
            chance,
            auth_mode: config.auth.mode,
            cursor_key: installation.cursor_key,
            body_limit_bytes: config.server.body_limit_bytes,
            batch_body_limit_bytes: config.server.batch_body_limit_bytes,
        });
        Ok(Self { store, clock, dispatcher, scanner, router, config, writers, finish })
    }

    /// The HTTP surface, for serving it elsewhere than [`run`](Self::run) does.
    pub fn router(&self) -> Router {
        self.router.clone()
    }

    /// Binds the address in `server.listen`.
    pub async fn bind(&self) -> anyhow::Result<TcpListener> {
        bind(self.config.server.listen).await
    }

    /// Serves and dispatches until `stop`, then finishes what is under way, within
    /// `server.shutdown_limit`.
    pub async fn run(self, listener: TcpListener, stop: CancellationToken) -> anyhow::Result<()> {
        let limit = self.config.server.shutdown_limit;
        let stop_dispatch = CancellationToken::new();
        let tasks = TaskTracker::new();
        let too_late = CancellationToken::new();
        tasks.spawn({
            let (stop, too_late) = (stop.clone(), too_late.clone());
            async move {
                stop.cancelled().await;
                tokio::time::sleep(limit).await;
                too_late.cancel();
            }
        });
        let dispatcher = Arc::clone(&self.dispatcher);
        let dispatching = tasks.spawn({
            let stop = stop_dispatch.clone();
            async move { dispatcher.run(&stop).await }
        });
        let scanner = Arc::clone(&self.scanner);
        let scanning = tasks.spawn({
            let stop = stop.clone();
            async move {
                // A defect in one rule must not end all that goes on by itself.
                while AssertUnwindSafe(scanner.run(&stop)).catch_unwind().await.is_err() {
                    error!("the scanner panicked and goes on");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        });
        // Clients that hold on must leave time for the attempts that are under way.
        let served = serve(listener, self.router.clone(), stop.clone(), limit / 2).await;
        info!("stopping: finishing what is in flight, for at most {}", humantime::format_duration(limit));
        stop_dispatch.cancel();
        tokio::select! {
            _ = dispatching => (),
            () = too_late.cancelled() => {
                warn!("attempts were still under way at the limit; their leases lapse and they are made again");
            }
        }
        // What the scanner is at is one transaction; its commit needs the writers.
        let end = async {
            // A panic has been told of.
            let _ = scanning.await;
            self.close().await;
        };
        tokio::select! {
            () = end => (),
            () = too_late.cancelled() => warn!("the database was not closed at the limit; nothing committed is lost"),
        }
        served
    }

    /// Commits what is gathered and closes the database.
    pub async fn close(self) {
        self.finish.cancel();
        self.writers.close();
        self.writers.wait().await;
        self.store.close().await;
    }
}

/// Serves HTTP until `stop`, then lets requests that are under way end, within `limit`.
async fn serve(listener: TcpListener, router: Router, stop: CancellationToken, limit: Duration) -> anyhow::Result<()> {
    let listener = listener.tap_io(|connection| {
        // Without it small answers wait for the client's acknowledgement.
        if let Err(error) = connection.set_nodelay(true) {
            tracing::debug!("cannot set nodelay: {error}");
        }
    });
    let server = axum::serve(listener, router).with_graceful_shutdown(stop.clone().cancelled_owned());
    let past_limit = async {
        stop.cancelled().await;
        tokio::time::sleep(limit).await;
    };
    tokio::select! {
        served = server => served.context("the HTTP server failed"),
        () = past_limit => {
            warn!("clients still held connections at the limit");
            Ok(())
        }
    }
}

/// Binds a TCP address; an error says what to do.
pub async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => {
            anyhow!("cannot listen on {address}: the port is in use; stop what uses it, or choose another with --listen (port 0 takes a free one)")
        }
        io::ErrorKind::PermissionDenied => {
            anyhow!("cannot listen on {address}: permission denied; ports below 1024 need root")
        }
        _ => anyhow!("cannot listen on {address}: {error}"),
    })
}
