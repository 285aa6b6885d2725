//! The application: wires the parts, starts them, and stops them in order.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use futures_util::FutureExt;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

mod listeners;
mod relay;

pub use listeners::{Listeners, bind};

use crate::account::ApiKey;
use crate::clock::Clock;
use crate::clocks::Clocks;
use crate::config::{Config, Dispatch, Seed, hide_password};
use crate::dispatch::{Dispatcher, Parts};
use crate::handover::{Handover, InHand};
use crate::http::{self, Api, Readiness, Stage, router};
use crate::id::AccountId;
use crate::init::{self, InitFile};
use crate::others::Others;
use crate::publish::Publisher;
use crate::random::Chance;
use crate::role::Role;
use crate::scanner::Scanner;
use crate::sender::Sender;
use crate::store::{Installation, Store};
use crate::watch::Watcher;

use relay::Relay;

fn handover(process_number: i64, config: &Config, others: Arc<Others>) -> (Arc<Handover>, UnboundedReceiver<InHand>) {
    let Dispatch { lease, in_hand, in_hand_per_subscriber, .. } = config.dispatch;
    // What is published here is for another process to send.
    let limit = if config.server.roles.has(Role::Dispatch) { in_hand } else { 0 };
    let (handover, handed_over) = Handover::new(process_number, lease, limit, in_hand_per_subscriber, others);
    (Arc::new(handover), handed_over)
}

/// How often the database is tidied. A commit that meets it waits, the longer the more there is to do.
const TIDIES_EVERY: Duration = Duration::from_millis(250);

/// Tidies the database now and then, until `stop`.
async fn keep_tidy(store: Store, clock: Clock, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = clock.sleep_until(clock.now() + TIDIES_EVERY) => (),
        }
        if let Err(failure) = store.tidy().await {
            warn!("the database was not tidied: {failure}");
        }
    }
}

/// Enters a database: takes a number for this process, and sets what the settings say of the default
/// account.
async fn enter(config: &Config, store: &Store) -> anyhow::Result<(Installation, Chance)> {
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
    // The others may not have been told the key, and must not take it away; nor set a clock that was moved.
    if config.server.roles.has(Role::Api) {
        let default_key = &config.auth.default_key;
        let key_hash = (!default_key.is_empty()).then(|| ApiKey::new(default_key).hash());
        store.set_default_key_hash(key_hash.as_deref()).await.context("auth.default_key cannot be used")?;
        if let Some(at) = config.clock.manual_from
            && store.account_clock(AccountId::DEFAULT).await?.is_none()
        {
            store.set_account_clock(AccountId::DEFAULT, Some(at)).await?;
        }
    }
    Ok((installation, chance))
}

/// scanhook with its database open, ready to serve.
#[derive(Debug)]
pub struct App {
    pub store: Store,
    pub clock: Clock,
    pub dispatcher: Arc<Dispatcher>,
    pub scanner: Arc<Scanner>,
    pub clocks: Arc<Clocks>,
    api: Api,
    relay: Relay,
    config: Config,
    /// The tasks that commit batches; `finish` ends them.
    writers: TaskTracker,
    finish: CancellationToken,
}

impl App {
    /// Opens the database, brings it up to date and wires the parts. Nothing is sent yet.
    pub async fn open(config: Config, clock: Clock) -> anyhow::Result<Self> {
        let store = Store::open(&config.database).await?;
        let (installation, chance) = enter(&config, &store).await?;
        let writers = TaskTracker::new();
        let finish = CancellationToken::new();
        writers.spawn(keep_tidy(store.clone(), clock.clone(), finish.clone()));
        let settings = config.dispatch.clone();
        let (handover, handed_over) = handover(installation.process_number, &config, Arc::clone(store.others()));
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
        if config.server.roles.has(Role::Scan) {
            scanner.sync_schedules().await.context("cannot set the schedules of the settings")?;
        }
        let sender = Arc::new(Sender::new(&settings)?);
        let parts = Parts {
            sender: Arc::clone(&sender),
            store: store.clone(),
            handover: Arc::clone(&handover),
            handed_over,
            clock: clock.clone(),
            chance: chance.clone(),
            settings,
            vendors: config.vendors.clone(),
        };
        let dispatcher = Arc::new(Dispatcher::new(parts, &writers, finish.clone()));
        let clocks = Clocks::new(store.clone(), Arc::clone(&handover), Arc::clone(&scanner), clock.clone());
        let clocks = Arc::new(clocks);
        let relay = Relay {
            store: store.clone(),
            handover: Arc::clone(&handover),
            scanner: Arc::clone(&scanner),
            process_number: installation.process_number,
        };
        let api = Api::new(http::Parts {
            store: store.clone(),
            publisher,
            handover,
            clocks: Arc::clone(&clocks),
            scanner: Arc::clone(&scanner),
            clock: clock.clone(),
            chance,
            auth_mode: config.auth.mode,
            vendors: config.vendors.clone(),
            watcher: Watcher::new(&store, &clock, &sender, config.dispatch.lease),
            sender,
            jitter: config.dispatch.jitter,
            cursor_key: installation.cursor_key,
            body_limit_bytes: config.server.body_limit_bytes,
            batch_body_limit_bytes: config.server.batch_body_limit_bytes,
            readiness: Readiness::default(),
            roles: config.server.roles.clone(),
        });
        Ok(Self { store, clock, dispatcher, scanner, clocks, api, relay, config, writers, finish })
    }

    /// The HTTP surface, for serving it elsewhere than [`run`](Self::run) does.
    pub fn router(&self) -> Router {
        router(self.api.clone())
    }

    /// Binds the address in `server.listen`, and those of the vendors' own APIs where this process has the
    /// role `api`.
    pub async fn bind(&self) -> anyhow::Result<Listeners> {
        Listeners::bind(&self.config).await
    }

    /// Serves and dispatches until `stop`, then finishes what is under way, within
    /// `server.shutdown_limit`.
    pub async fn run(self, listeners: Listeners, stop: CancellationToken) -> anyhow::Result<()> {
        self.start(listeners, &[], stop).await?.ended().await
    }

    /// Serves, applies the init files, and then plays its roles. If the files cannot be applied, nothing
    /// of them is, and nothing runs any more.
    pub async fn start(
        self,
        listeners: Listeners,
        files: &[InitFile],
        stop: CancellationToken,
    ) -> anyhow::Result<Running> {
        let limit = self.config.server.shutdown_limit;
        let tasks = TaskTracker::new();
        self.start_relay();
        self.api.readiness.set(Stage::Initialising);
        let serving = tasks.spawn({
            let (api, stop) = (self.api.clone(), stop.clone());
            // Clients that hold on must leave time for the attempts that are under way.
            async move { listeners.serve(&api, &stop, limit / 2).await }
        });
        let http::Parts { store, publisher, scanner, clock, chance, .. } = &*self.api;
        if let Err(failure) = init::apply(&init::Parts { store, publisher, scanner, clock, chance }, files).await {
            stop.cancel();
            // How serving ended does not matter any more.
            let _ = serving.await;
            self.close().await;
            return Err(failure.into());
        }
        if !files.is_empty() {
            // Their timers may be for another process.
            scanner.wake();
        }
        self.api.readiness.set(Stage::Serving);
        let (too_late, stop_dispatch) = (CancellationToken::new(), CancellationToken::new());
        tasks.spawn({
            let (stop, too_late, readiness) = (stop.clone(), too_late.clone(), self.api.readiness.clone());
            async move {
                stop.cancelled().await;
                readiness.set(Stage::Stopping);
                tokio::time::sleep(limit).await;
                too_late.cancel();
            }
        });
        let dispatching = self.start_dispatch(&tasks, stop_dispatch.clone());
        let scanning = self.start_scan(&tasks, stop.clone());
        Ok(Running { app: self, stop, stop_dispatch, too_late, serving, dispatching, scanning })
    }

    /// Starts to wake other processes and to be woken by them, where the database carries that.
    fn start_relay(&self) {
        if self.store.can_notify() {
            self.store.others().reach();
            self.writers.spawn(self.relay.clone().speak(self.finish.clone()));
            self.writers.spawn(self.relay.clone().hear(self.finish.clone()));
        }
    }

    fn start_dispatch(&self, tasks: &TaskTracker, stop: CancellationToken) -> JoinHandle<()> {
        let dispatcher = Arc::clone(&self.dispatcher);
        let claims = self.config.server.roles.has(Role::Dispatch);
        tasks.spawn(async move {
            match claims {
                true => dispatcher.run(&stop).await,
                // Whoever moves an account's clock puts in hand what that makes due, and awaits it.
                false => dispatcher.run_without_claims(&stop).await,
            }
        })
    }

    fn start_scan(&self, tasks: &TaskTracker, stop: CancellationToken) -> JoinHandle<()> {
        let scanner = self.config.server.roles.has(Role::Scan).then(|| Arc::clone(&self.scanner));
        tasks.spawn(async move {
            let Some(scanner) = scanner else { return };
            // A defect in one rule must not end all that goes on by itself.
            while AssertUnwindSafe(scanner.run(&stop)).catch_unwind().await.is_err() {
                error!("the scanner panicked and goes on");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        })
    }

    /// Commits what is gathered and closes the database.
    pub async fn close(self) {
        self.finish.cancel();
        self.writers.close();
        self.writers.wait().await;
        self.store.close().await;
    }
}

/// scanhook as it serves and dispatches.
#[derive(Debug)]
pub struct Running {
    app: App,
    stop: CancellationToken,
    stop_dispatch: CancellationToken,
    /// The shutdown limit has passed.
    too_late: CancellationToken,
    serving: JoinHandle<anyhow::Result<()>>,
    dispatching: JoinHandle<()>,
    scanning: JoinHandle<()>,
}

impl Running {
    /// Waits until it is stopped, then finishes what is under way, within `server.shutdown_limit`.
    pub async fn ended(self) -> anyhow::Result<()> {
        let Self { app, stop, stop_dispatch, too_late, serving, dispatching, scanning } = self;
        let served = serving.await.context("the HTTP server panicked");
        // A server that failed by itself stops the rest.
        stop.cancel();
        let limit = app.config.server.shutdown_limit;
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
            app.close().await;
        };
        tokio::select! {
            () = end => (),
            () = too_late.cancelled() => warn!("the database was not closed at the limit; nothing committed is lost"),
        }
        served?
    }
}
