//! The daemon as a process: killed, doubled, stopped. Nothing is lost, nothing stays stuck.

use std::process::Stdio;

use scanhook::delivery::Status;
use scanhook::id::AccountId;
use scanhook::store::{DeliveryFilter, Page, Present, Store};
use serde_json::{Value, json};
use sqlx::{Connection, Executor};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};

use crate::support::{Database, PATIENCE, Receiver, on_both_databases, spawn, test_config, text};

/// A running `scanhook serve`.
pub(crate) struct Daemon {
    pub(crate) process: Child,
    /// What it said when it was ready.
    pub(crate) said: Value,
    pub(crate) url: String,
    pub(crate) http: reqwest::Client,
}

impl Daemon {
    async fn start(database: &Database, settings: &[(&str, &str)]) -> Self {
        Self::start_logging_to(Stdio::inherit(), database, settings).await
    }

    async fn start_logging_to(log: Stdio, database: &Database, settings: &[(&str, &str)]) -> Self {
        Self::spawn(Command::new(env!("CARGO_BIN_EXE_scanhook")), log, database, settings).await
    }

    /// Starts it with more arguments.
    pub(crate) async fn start_with(database: &Database, arguments: &[&str], settings: &[(&str, &str)]) -> Self {
        let program = Command::new(env!("CARGO_BIN_EXE_scanhook"));
        Self::spawn_with(program, arguments, Stdio::inherit(), database, settings).await
    }

    async fn spawn(command: Command, log: Stdio, database: &Database, settings: &[(&str, &str)]) -> Self {
        Self::spawn_with(command, &[], log, database, settings).await
    }

    async fn spawn_with(
        mut command: Command,
        arguments: &[&str],
        log: Stdio,
        database: &Database,
        settings: &[(&str, &str)],
    ) -> Self {
        let mut process = command
            .args(["serve", "--json", "--listen", "127.0.0.1:0", "--database-url", &database.url])
            .args(arguments)
            .env("SCANHOOK__LOG__LEVEL", "warn")
            .envs(settings.iter().copied())
            .stdout(Stdio::piped())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .expect("the daemon starts");
        let mut lines = BufReader::new(process.stdout.take().expect("a pipe")).lines();
        let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.expect("in time").expect("readable");
        let line: Value = serde_json::from_str(&line.expect("the daemon says where it listens")).expect("JSON");
        let http = reqwest::Client::builder().no_proxy().build().expect("a client");
        Self { process, url: text(&line["url"]), said: line, http }
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Value {
        let answer = self.http.post(format!("{}{path}", self.url)).json(body).send().await.expect("an answer");
        assert!(answer.status().is_success(), "{answer:?}");
        answer.json().await.expect("JSON")
    }

    async fn publish(&self, count: usize) {
        let event = json!({"vendor": "standard", "event_type": "a.b", "content": {}});
        self.post("/api/v1/events/batch", &vec![event; count].into()).await;
    }

    pub(crate) async fn kill(mut self) {
        self.process.kill().await.expect("killed");
    }

    fn terminate(&self) {
        let pid = self.process.id().expect("it runs").to_string();
        let sent = std::process::Command::new("kill").args(["-TERM", &pid]).status().expect("kill runs");
        assert!(sent.success());
    }

    /// Asks the daemon to stop and waits: its exit code.
    pub(crate) async fn stop(self) -> Option<i32> {
        self.terminate();
        self.ended().await
    }

    async fn ended(mut self) -> Option<i32> {
        tokio::time::timeout(PATIENCE, self.process.wait()).await.expect("it ends").expect("waited for").code()
    }
}

/// How many deliveries are in each status, read past the daemon.
async fn count(database: &Database, status: Status) -> usize {
    let store = Store::open(&test_config(database).database).await.expect("the store opens");
    let filter = DeliveryFilter { status: Some(status), ..DeliveryFilter::default() };
    let page = Page { before: None, limit: 10_000 };
    let count = store.deliveries(AccountId::DEFAULT, &filter, &page).await.expect("a list").len();
    store.close().await;
    count
}

/// How many deliveries are leased.
async fn in_flight(store: &Store) -> usize {
    let now = scanhook::clock::Clock::Real.now();
    let present = Present::Machine { now, leased_until: now + std::time::Duration::from_secs(3_600) };
    let owed = store.owed(AccountId::DEFAULT, present, 10_000).await.expect("a list").deliveries;
    owed.iter().filter(|delivery| delivery.in_flight).count()
}

const FAST: [(&str, &str); 2] = [("SCANHOOK__DISPATCH__LEASE", "1s"), ("SCANHOOK__DISPATCH__POLL_EVERY", "50ms")];

on_both_databases! {
    async fn a_daemon_killed_in_mid_flight_loses_no_event_and_leaves_none_stuck(database) {
        let receiver = Receiver::gated(700).await;
        let daemon = Daemon::start(database, &FAST).await;
        daemon.post("/api/v1/subscribers", &json!({"url": receiver.url, "vendor": "standard"})).await;
        daemon.publish(1_000).await;
        daemon.publish(1_000).await;
        // 700 have been answered, 64 more are in flight, the rest wait under leases or in the table.
        receiver.wait_for(764).await;
        daemon.kill().await;
        receiver.gate().open();
        let daemon = Daemon::start(database, &FAST).await;
        loop {
            let so_far = receiver.count();
            if receiver.ids().len() == 2_000 {
                break;
            }
            receiver.wait_for(so_far + 1).await;
        }
        assert_eq!(daemon.stop().await, Some(0));
        assert_eq!(count(database, Status::Succeeded).await, 2_000);
    }

    async fn a_daemon_killed_while_it_moves_a_clock_fires_nothing_by_itself_afterwards(database) {
        let receiver = Receiver::gated(0).await;
        let manual = [FAST.as_slice(), &[("SCANHOOK__CLOCK__MANUAL_FROM", "2026-01-01T00:00:00Z")]].concat();
        let daemon = Daemon::start(database, &manual).await;
        daemon.post("/api/v1/subscribers", &json!({"url": receiver.url, "vendor": "standard"})).await;
        daemon.publish(1).await;
        let account = daemon.post("/api/v1/accounts", &json!({"name": "real"})).await;
        let moving = daemon.http.post(format!("{}/api/v1/clock/advance", daemon.url)).json(&json!({"by": "1h"})).send();
        let moving = spawn(moving);
        receiver.wait_for(1).await;
        daemon.kill().await;
        assert!(moving.await.expect("no panic").is_err(), "the daemon was killed in mid-move");
        receiver.gate().open();

        let daemon = Daemon::start(database, &manual).await;
        // What another account has published for later, on the machine's clock, comes when the lease of
        // what was in flight has long lapsed.
        let real = Receiver::answering([200]).await;
        let as_account = async |path: &str, body: &Value| {
            let request = daemon.http.post(format!("{}{path}", daemon.url)).bearer_auth(text(&account["api_key"]));
            assert!(request.json(body).send().await.expect("an answer").status().is_success(), "{path}");
        };
        as_account("/api/v1/subscribers", &json!({"url": real.url, "vendor": "standard"})).await;
        let later = scanhook::clock::Clock::Real.now() + std::time::Duration::from_secs(2);
        let event = json!({"vendor": "standard", "event_type": "a.b", "content": 1, "deliver_at": later});
        as_account("/api/v1/events", &event).await;
        real.wait_for(1).await;
        assert_eq!(receiver.count(), 1, "nothing of the account on a manual clock has fired");
        let moved = daemon.post("/api/v1/clock/advance", &json!({"by": "1h"})).await;
        assert_eq!((moved["fired"].as_array().map(Vec::len), receiver.count()), (Some(1), 2), "{moved}");
        assert_eq!(daemon.stop().await, Some(0));
        assert_eq!(count(database, Status::Succeeded).await, 1);
    }

    async fn on_sigterm_what_is_in_flight_is_finished_and_the_rest_is_given_back(database) {
        let receiver = Receiver::gated(0).await;
        let daemon = Daemon::start(database, &[("SCANHOOK__DISPATCH__CONCURRENCY", "10")]).await;
        daemon.post("/api/v1/subscribers", &json!({"url": receiver.url, "vendor": "standard"})).await;
        daemon.publish(30).await;
        receiver.wait_for(10).await;
        daemon.terminate();
        // Until the rest is given back, what is answered makes room for more.
        let store = Store::open(&test_config(database).database).await.expect("the store opens");
        let given_back = async { while in_flight(&store).await > 10 {} };
        tokio::time::timeout(PATIENCE, given_back).await.expect("the rest is given back");
        store.close().await;
        receiver.gate().open();
        assert_eq!(daemon.ended().await, Some(0));
        assert_eq!(receiver.count(), 10);
        assert_eq!(count(database, Status::Succeeded).await, 10);
        // What was given back is due at once: the new daemon need not wait for a lease to lapse.
        let daemon = Daemon::start(database, &[]).await;
        receiver.wait_for(30).await;
        assert_eq!(daemon.stop().await, Some(0));
        assert_eq!(receiver.ids().len(), 30);
    }

    async fn a_log_that_cannot_be_written_stops_nothing(database) {
        let full = std::fs::File::options().write(true).open("/dev/full").expect("a device that is always full");
        let settings = [("SCANHOOK__LOG__LEVEL", "info")];
        let daemon = Daemon::start_logging_to(full.into(), database, &settings).await;
        let receiver = Receiver::answering([500, 200]).await;
        let subscriber = json!({"url": receiver.url, "vendor": "standard", "retry_schedule": ["10ms"]});
        daemon.post("/api/v1/subscribers", &subscriber).await;
        daemon.publish(1).await;
        receiver.wait_for(2).await;
        assert_eq!(daemon.stop().await, Some(0));
        assert_eq!((receiver.count(), count(database, Status::Succeeded).await), (2, 1));
    }

    async fn a_client_and_a_receiver_that_hold_on_cannot_double_the_shutdown_limit(database) {
        let receiver = Receiver::gated(0).await;
        let daemon = Daemon::start(database, &[("SCANHOOK__SERVER__SHUTDOWN_LIMIT", "4s")]).await;
        daemon.post("/api/v1/subscribers", &json!({"url": receiver.url, "vendor": "standard"})).await;
        daemon.publish(1).await;
        receiver.wait_for(1).await;
        let address = daemon.url.trim_start_matches("http://").to_owned();
        let mut half_a_request = tokio::net::TcpStream::connect(address).await.expect("connects");
        half_a_request.write_all(b"POST /api/v1/events HTTP/1.1\r\nhost: a\r\n").await.expect("sent");
        let clock = scanhook::clock::Clock::Real.stopwatch();
        assert_eq!(daemon.stop().await, Some(0));
        let took = clock.elapsed();
        assert!(took < std::time::Duration::from_millis(7_500), "{took:?}");
    }

    async fn retries_happen_by_themselves(database) {
        let receiver = Receiver::answering([503, 503, 200]).await;
        let daemon = Daemon::start(database, &[]).await;
        let subscriber = json!({"url": receiver.url, "vendor": "standard", "retry_schedule": ["10ms", "20ms"]});
        daemon.post("/api/v1/subscribers", &subscriber).await;
        daemon.publish(1).await;
        receiver.wait_for(3).await;
        assert_eq!(daemon.stop().await, Some(0));
        assert_eq!(count(database, Status::Succeeded).await, 1);
    }

    async fn a_short_lease_is_renewed_while_an_attempt_takes_long(database) {
        let receiver = Receiver::gated(0).await;
        let settings = [("SCANHOOK__DISPATCH__LEASE", "2s"), ("SCANHOOK__DISPATCH__POLL_EVERY", "10ms")];
        let daemon = Daemon::start(database, &settings).await;
        let slow = daemon.post("/api/v1/subscribers", &json!({"url": receiver.url, "vendor": "standard"})).await;
        daemon.publish(1).await;
        receiver.wait_for(1).await;
        daemon.http.delete(format!("{}/api/v1/subscribers/{}", daemon.url, text(&slow["id"]))).send().await.expect("deleted");
        // A second receiver's failing delivery tells the time: two and a half leases go by.
        let ticking = Receiver::answering([500]).await;
        let schedule = vec!["100ms"; 50];
        daemon.post("/api/v1/subscribers", &json!({"url": ticking.url, "vendor": "standard", "retry_schedule": schedule})).await;
        daemon.publish(1).await;
        ticking.wait_for(51).await;
        assert_eq!(receiver.count(), 1, "the lease lapsed while its holder lived");
        receiver.gate().open();
        assert_eq!(daemon.stop().await, Some(0));
        assert_eq!(count(database, Status::Succeeded).await, 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_daemons_on_one_postgres_send_no_event_twice() {
    let database = Database::postgres().await;
    let receiver = Receiver::answering([200]).await;
    // A small hand leaves most deliveries in the table, where both daemons claim them.
    let settings = [("SCANHOOK__DISPATCH__IN_HAND", "50"), ("SCANHOOK__DISPATCH__POLL_EVERY", "10ms")];
    let (first, second) = tokio::join!(Daemon::start(&database, &settings), Daemon::start(&database, &settings));
    first.post("/api/v1/subscribers", &json!({"url": receiver.url, "vendor": "standard"})).await;
    tokio::join!(first.publish(1_000), second.publish(1_000));
    receiver.wait_for(2_000).await;
    let codes = tokio::join!(first.stop(), second.stop());
    assert_eq!(codes, (Some(0), Some(0)));
    assert_eq!((receiver.count(), receiver.ids().len()), (2_000, 2_000));
    assert_eq!(count(&database, Status::Succeeded).await, 2_000);
    database.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_whose_client_hangs_up_in_its_midst_is_carried_out() {
    let database = Database::postgres().await;
    let daemon = Daemon::start(&database, &[("SCANHOOK__DATABASE__CONNECTIONS", "2")]).await;
    let connect = async || sqlx::PgConnection::connect(&database.url).await.expect("connects");
    let (mut holder, mut watcher) = (connect().await, connect().await);
    for round in 0..5 {
        holder.execute("begin; lock table subscriber in exclusive mode").await.expect("locked");
        let body = json!({"url": format!("http://127.0.0.1:9/{round}"), "vendor": "standard"});
        let request = daemon.http.post(format!("{}/api/v1/subscribers", daemon.url)).json(&body);
        let client = spawn(async move { request.send().await });
        let waits = "select count(*) from pg_locks where relation = 'subscriber'::regclass and not granted";
        let is_waiting =
            async { while sqlx::query_scalar::<_, i64>(waits).fetch_one(&mut watcher).await.expect("a count") == 0 {} };
        tokio::time::timeout(PATIENCE, is_waiting).await.expect("the change is under way");
        client.abort();
        assert!(client.await.is_err());
        daemon.http.get(format!("{}/api/v1/event-types", daemon.url)).send().await.expect("the daemon answers");
        holder.execute("commit").await.expect("unlocked");
        // Before the next lock: a waiter may let go of what it got to plan anew, and would be taken for
        // the next change.
        let count = "select count(*) from subscriber";
        let is_there = async {
            while sqlx::query_scalar::<_, i64>(count).fetch_one(&mut watcher).await.expect("a count") <= round {}
        };
        tokio::time::timeout(PATIENCE, is_there).await.expect("the change was carried out");
    }
    assert_eq!(daemon.stop().await, Some(0));
    database.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_was_full_is_written_again_when_there_is_room() {
    let database = Database::sqlite();
    let receiver = Receiver::answering([200]).await;
    let mut command = Command::new("sh");
    // A limit on the size of files stands for the full disk.
    command.args(["-c", "trap '' XFSZ; ulimit -S -f 1000; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_scanhook")]);
    let daemon = Daemon::spawn(command, Stdio::null(), &database, &[]).await;
    daemon.post("/api/v1/subscribers", &json!({"url": receiver.url, "vendor": "standard"})).await;
    let event = json!({"vendor": "standard", "event_type": "a.b", "content": "x".repeat(8_000)});
    let publish = async || {
        let answer =
            daemon.http.post(format!("{}/api/v1/events", daemon.url)).json(&event).send().await.expect("an answer");
        answer.status().as_u16()
    };
    let mut accepted = 0;
    let filling = async {
        loop {
            match publish().await {
                202 => accepted += 1,
                status => break status,
            }
        }
    };
    assert_eq!(tokio::time::timeout(PATIENCE, filling).await.expect("the disk fills up"), 503);
    let pid = daemon.process.id().expect("it runs").to_string();
    let freed = std::process::Command::new("prlimit").args(["--pid", &pid, "--fsize=unlimited"]).status();
    assert!(freed.expect("prlimit runs").success());
    let writing = async { while publish().await != 202 {} };
    tokio::time::timeout(PATIENCE, writing).await.expect("it writes again");
    receiver.wait_for(accepted + 1).await;
    assert_eq!(daemon.stop().await, Some(0));
}

/// Relays to a server until it is frozen; then what it has accepted stays open and silent, and what
/// it accepts later is relayed, unless the server is away.
pub(crate) struct Proxy {
    pub(crate) address: std::net::SocketAddr,
    pub(crate) frozen: tokio::sync::watch::Sender<u64>,
    pub(crate) is_away: tokio::sync::watch::Sender<bool>,
}

impl Proxy {
    /// A proxy for the server of a Postgres, and the database behind it.
    pub(crate) async fn of(database: &Database) -> (Self, Database) {
        let url = url::Url::parse(&database.url).expect("a URL");
        let server = format!("{}:{}", url.host_str().expect("a host"), url.port().unwrap_or(5432));
        let proxy = Self::to(server).await;
        let mut through = url.clone();
        through.set_host(Some("127.0.0.1")).expect("a host");
        through.set_port(Some(proxy.address.port())).expect("a port");
        (proxy, Database::at(through.to_string()))
    }

    async fn to(server: String) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let frozen = tokio::sync::watch::Sender::new(0_u64);
        let freezes = frozen.subscribe();
        let is_away = tokio::sync::watch::Sender::new(false);
        let away = is_away.subscribe();
        spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                if *away.borrow() {
                    continue;
                }
                let mut freezes = freezes.clone();
                let server = server.clone();
                spawn(async move {
                    freezes.mark_unchanged();
                    let mut upstream = tokio::net::TcpStream::connect(server).await.expect("the server is there");
                    tokio::select! {
                        // Whoever ends the connection ends it for both.
                        _ = tokio::io::copy_bidirectional(&mut client, &mut upstream) => (),
                        _ = freezes.changed() => std::future::pending::<()>().await,
                    }
                });
            }
        });
        Self { address, frozen, is_away }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_connection_that_falls_silent_is_given_up() {
    let database = Database::postgres().await;
    let (proxy, behind) = Proxy::of(&database).await;
    let settings = [
        ("SCANHOOK__DATABASE__ANSWER_TIMEOUT", "500ms"),
        ("SCANHOOK__DATABASE__CONNECTIONS", "3"),
        ("SCANHOOK__DISPATCH__LEASE", "1s"),
    ];
    let daemon = Daemon::start(&behind, &settings).await;
    let receiver = Receiver::answering([200]).await;
    daemon.post("/api/v1/subscribers", &json!({"url": receiver.url, "vendor": "standard"})).await;
    daemon.publish(10).await;
    receiver.wait_for(10).await;
    proxy.frozen.send_modify(|freezes| *freezes += 1);
    let event = json!({"vendor": "standard", "event_type": "a.b", "content": {}});
    let recovering = async {
        loop {
            let request = daemon.http.post(format!("{}/api/v1/events", daemon.url)).json(&event);
            match request.send().await.expect("an answer").status().as_u16() {
                202 => break,
                status => assert_eq!(status, 503),
            }
        }
    };
    tokio::time::timeout(PATIENCE, recovering).await.expect("it publishes again");
    receiver.wait_for(11).await;
    assert_eq!(daemon.stop().await, Some(0));
    database.remove().await;
}
