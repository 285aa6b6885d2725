//! The parts of the daemon as processes of their own, on one database: each does its own, they wake one
//! another, and the others go on when one is killed.

use scanhook::clock::Clock;
use serde_json::{Value, json};
use sqlx::{Connection, Executor};

use crate::daemon::{Daemon, Proxy};
use crate::support::{Database, PATIENCE, Receiver, on_both_databases, text};

/// What other processes do is found soon by looking.
const LOOKING: [(&str, &str); 3] = [
    ("SCANHOOK__DISPATCH__LEASE", "1s"),
    ("SCANHOOK__DISPATCH__POLL_EVERY", "50ms"),
    ("SCANHOOK__SCANNER__POLL_EVERY", "50ms"),
];
/// What other processes do is not found by looking.
const NOT_LOOKING: [(&str, &str); 3] = [
    ("SCANHOOK__DISPATCH__LEASE", "1h"),
    ("SCANHOOK__DISPATCH__POLL_EVERY", "1h"),
    ("SCANHOOK__SCANNER__POLL_EVERY", "1h"),
];

async fn start(database: &Database, roles: &str, settings: &[(&str, &str)]) -> Daemon {
    Daemon::start_with(database, &["--role", roles], settings).await
}

async fn start_each(database: &Database, settings: &[(&str, &str)]) -> [Daemon; 3] {
    let [api, dispatch, scan] = ["api", "dispatch", "scan"].map(|role| start(database, role, settings));
    tokio::join!(api, dispatch, scan).into()
}

async fn stop(daemons: impl IntoIterator<Item = Daemon>) {
    for daemon in daemons {
        assert_eq!(daemon.stop().await, Some(0));
    }
}

async fn subscribe(api: &Daemon, url: &str, vendor: &str) -> String {
    let subscriber = json!({"url": url, "vendor": vendor, "retry_schedule": vec!["10ms"; 20]});
    text(&api.post("/api/v1/subscribers", &subscriber).await["id"])
}

async fn publish(api: &Daemon) -> Value {
    api.post("/api/v1/events", &json!({"vendor": "standard", "event_type": "a.b", "content": {}})).await
}

/// Publishes an event that is due so much later.
async fn publish_for(api: &Daemon, after_ms: u64) -> Value {
    let deliver_at = Clock::Real.now() + std::time::Duration::from_millis(after_ms);
    let event = json!({"vendor": "standard", "event_type": "a.b", "content": {}, "deliver_at": deliver_at});
    api.post("/api/v1/events", &event).await
}

async fn scan(api: &Daemon, duration: &str) -> String {
    let scan = json!({"target": "shop.example.test", "scanner": "NMAP", "duration": duration});
    text(&api.post("/api/v1/scans", &scan).await["id"])
}

/// Waits until the last events of so many scans were delivered.
async fn scans_delivered(api: &Daemon, count: usize) {
    let expect = json!({"status": "succeeded", "count": count});
    let last = json!({"match": {"event_type": "scan_completed"}, "expect": expect, "within": "60s"});
    api.post("/api/v1/assert", &last).await;
}

async fn settled(api: &Daemon) {
    api.post("/api/v1/settle", &json!({"within": "60s"})).await;
}

/// What is in the way of settling when others have had this long to do something about it.
async fn unsettled(api: &Daemon, within: &str) -> Value {
    let request = api.http.post(format!("{}/api/v1/settle", api.url)).json(&json!({"within": within}));
    let answer = request.send().await.expect("an answer");
    assert_eq!(answer.status().as_u16(), 409);
    answer.json::<Value>().await.expect("JSON")["found"].clone()
}

/// A request that may be refused: the status and the JSON.
async fn call(daemon: &Daemon, method: &str, path: &str) -> (u16, Value) {
    let method = method.parse().expect("a method");
    let answer = daemon.http.request(method, format!("{}{path}", daemon.url)).send().await.expect("an answer");
    (answer.status().as_u16(), answer.json().await.unwrap_or_default())
}

on_both_databases! {
    async fn processes_with_a_role_each_do_together_what_one_does_alone(database) {
        let (events, scans) = (Receiver::answering([503, 200]).await, Receiver::answering([200]).await);
        let [api, dispatching, scanning] = start_each(database, &LOOKING).await;
        subscribe(&api, &events.url, "standard").await;
        subscribe(&api, &scans.url, "probely").await;
        publish(&api).await;
        events.wait_for(2).await;
        scan(&api, "200ms").await;
        scans_delivered(&api, 1).await;
        settled(&api).await;
        assert_eq!(events.count(), 2);
        stop([scanning, dispatching, api]).await;
    }

    async fn a_process_with_the_role_api_alone_sends_nothing_and_fires_no_timer(database) {
        let (events, scans) = (Receiver::answering([200]).await, Receiver::answering([200]).await);
        let api = start(database, "api", &LOOKING).await;
        subscribe(&api, &events.url, "standard").await;
        subscribe(&api, &scans.url, "probely").await;
        let event = publish(&api).await;
        scan(&api, "200ms").await;
        let found = unsettled(&api, "1s").await;
        assert_eq!(found["deliveries"][0]["id"], event["webhooks"][0]["id"], "{found}");
        assert_eq!(found["timers"][0]["kind"], "scan", "{found}");
        assert_eq!((events.count(), scans.count()), (0, 0));
        // One with the role dispatch sends it, but the scan goes on only with the third.
        let dispatching = start(database, "dispatch", &LOOKING).await;
        events.wait_for(1).await;
        let found = unsettled(&api, "1s").await;
        assert_eq!((&found["deliveries"], &found["timers"][0]["kind"]), (&json!([]), &json!("scan")), "{found}");
        let scanning = start(database, "scan", &LOOKING).await;
        scans_delivered(&api, 1).await;
        stop([scanning, dispatching, api]).await;
    }

    async fn what_a_killed_dispatch_process_had_in_hand_another_sends(database) {
        let receiver = Receiver::gated(30).await;
        let (api, first) = tokio::join!(start(database, "api", &LOOKING), start(database, "dispatch", &LOOKING));
        subscribe(&api, &receiver.url, "standard").await;
        let event = json!({"vendor": "standard", "event_type": "a.b", "content": {}});
        api.post("/api/v1/events/batch", &vec![event; 200].into()).await;
        // 30 have been answered, 64 are in flight, the rest are in hand under leases.
        receiver.wait_for(94).await;
        let second = start(database, "dispatch", &LOOKING).await;
        first.kill().await;
        receiver.gate().open();
        settled(&api).await;
        assert_eq!(receiver.ids().len(), 200);
        let accepted = api.http.get(format!("{}/api/v1/deliveries?status=succeeded&limit=250", api.url));
        let accepted: Value = accepted.send().await.expect("an answer").json().await.expect("JSON");
        assert_eq!(accepted["data"].as_array().map(Vec::len), Some(200));
        stop([second, api]).await;
    }

    async fn what_a_stopped_dispatch_process_gives_back_another_sends(database) {
        let receiver = Receiver::gated(0).await;
        // Nobody waits for leases to lapse.
        let settings = [LOOKING.as_slice(), &[("SCANHOOK__DISPATCH__LEASE", "1h")]].concat();
        let (api, first) = tokio::join!(start(database, "api", &settings), start(database, "dispatch", &settings));
        subscribe(&api, &receiver.url, "standard").await;
        let event = json!({"vendor": "standard", "event_type": "a.b", "content": {}});
        api.post("/api/v1/events/batch", &vec![event; 100].into()).await;
        receiver.wait_for(64).await;
        let second = start(database, "dispatch", &settings).await;
        let stopping = first.stop();
        let opening = async {
            // What the first gave back comes from the second while the first awaits its answers.
            receiver.wait_for(100).await;
            receiver.gate().open();
        };
        assert_eq!(tokio::join!(stopping, opening).0, Some(0));
        settled(&api).await;
        assert_eq!((receiver.count(), receiver.ids().len()), (100, 100));
        stop([second, api]).await;
    }

    async fn who_is_killed_holds_up_nobody_else(database) {
        let (events, scans) = (Receiver::answering_once_open(503).await, Receiver::answering([200]).await);
        let [api, dispatching, scanning] = start_each(database, &LOOKING).await;
        subscribe(&api, &events.url, "standard").await;
        subscribe(&api, &scans.url, "probely").await;
        publish(&api).await;
        events.wait_for(1).await;
        let id = scan(&api, "4s").await;
        scans.wait_for(1).await;
        api.kill().await;
        scanning.kill().await;
        events.gate().open();
        // Nineteen more tries by the process that is left.
        events.wait_for(20).await;
        let (api, scanning) = tokio::join!(start(database, "api", &LOOKING), start(database, "scan", &LOOKING));
        scans_delivered(&api, 1).await;
        let (status, ended) = call(&api, "GET", &format!("/api/v1/scans/{id}")).await;
        assert_eq!((status, &ended["state"]), (200, &json!("completed")), "{ended}");
        stop([scanning, dispatching, api]).await;
    }

    async fn an_account_on_a_manual_clock_is_moved_by_the_process_with_the_role_api(database) {
        let manual = [LOOKING.as_slice(), &[("SCANHOOK__CLOCK__MANUAL_FROM", "2026-01-01T00:00:00Z")]].concat();
        let [api, dispatching, scanning] = start_each(database, &manual).await;
        let (events, scans) = (Receiver::answering([503, 200]).await, Receiver::answering([200]).await);
        let subscriber = json!({"url": events.url, "vendor": "standard", "retry_schedule": ["30m"]});
        api.post("/api/v1/subscribers", &subscriber).await;
        subscribe(&api, &scans.url, "probely").await;
        publish(&api).await;
        scan(&api, "200ms").await;
        // The others do what is due by the machine's clock, and nothing of this account.
        let other = api.post("/api/v1/accounts", &json!({"name": "real"})).await;
        let real = Receiver::answering([200]).await;
        for (path, body) in [
            ("/api/v1/subscribers", json!({"url": real.url, "vendor": "probely"})),
            ("/api/v1/scans", json!({"target": "shop.example.test", "scanner": "NMAP", "duration": "200ms"})),
            ("/api/v1/assert", json!({"match": {"event_type": "scan_completed"}, "within": "60s"})),
        ] {
            let request = api.http.post(format!("{}{path}", api.url)).bearer_auth(text(&other["api_key"]));
            assert!(request.json(&body).send().await.expect("an answer").status().is_success(), "{path}");
        }
        assert_eq!((events.count(), scans.count()), (0, 0));
        let moved = api.post("/api/v1/clock/advance", &json!({"by": "1h"})).await;
        assert_eq!(events.count(), 2, "{moved}");
        let fired = moved["fired"].as_array().expect("a list");
        let kinds = |kind: &str| fired.iter().filter(|one| one["what"] == kind).count();
        assert_eq!(kinds("attempt"), 2 + scans.count(), "{moved}");
        assert!(scans.count() > 2 && fired.len() > kinds("attempt"), "{moved}");
        stop([scanning, dispatching, api]).await;
    }

    async fn a_process_without_the_role_api_answers_only_whether_it_is_well(database) {
        let settings = [("SCANHOOK__VENDORS__PROBELY__LISTEN", "127.0.0.1:0")];
        let daemon = start(database, "scan,dispatch", &settings).await;
        assert_eq!((&daemon.said["roles"], &daemon.said["vendors"]), (&json!(["dispatch", "scan"]), &json!({})));
        assert_eq!(call(&daemon, "GET", "/livez").await, (200, json!({"status": "live"})));
        let ready = json!({"status": "ready", "roles": ["dispatch", "scan"]});
        assert_eq!(call(&daemon, "GET", "/readyz").await, (200, ready));
        for (method, path) in [
            ("POST", "/api/v1/events"),
            ("GET", "/api/v1/subscribers"),
            ("GET", "/api/openapi.json"),
            ("GET", "/api/docs"),
            ("POST", "/hostedscan/v1/scans"),
            ("GET", "/"),
            ("POST", "/livez"),
        ] {
            let (status, problem) = call(&daemon, method, path).await;
            assert_eq!((status, &problem["type"]), (421, &json!("urn:scanhook:problem:no-api-here")), "{path}");
            let detail = text(&problem["detail"]);
            assert!(detail.contains("the roles dispatch,scan only; ask one that has `api`"), "{detail}");
        }
        stop([daemon]).await;
    }

    async fn what_the_settings_set_up_is_for_the_process_that_has_the_role(database) {
        let keys = [("SCANHOOK__AUTH__MODE", "keys"), ("SCANHOOK__AUTH__DEFAULT_KEY", "shk_of_the_default")];
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("scan.toml").display().to_string();
        let schedule = "[[scanner.schedule]]\ncron = \"0 0 0 1 1 *\"\ntarget = \"shop.example.test\"\nscanner = \"NMAP\"\n";
        std::fs::write(&path, schedule).expect("written");
        let api = start(database, "api", &keys).await;
        let scanning = Daemon::start_with(database, &["--role", "scan", "--config", &path], &[]).await;
        // Neither has been told what the other has, and none undoes it.
        let dispatching = start(database, "dispatch", &[]).await;
        let second = start(database, "api", &keys).await;
        for api in [&api, &second] {
            let request = api.http.get(format!("{}/api/v1/schedules", api.url)).bearer_auth("shk_of_the_default");
            let schedules: Value = request.send().await.expect("an answer").json().await.expect("JSON");
            assert_eq!(schedules["data"].as_array().map(Vec::len), Some(1), "{schedules}");
        }
        stop([second, dispatching, scanning, api]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_on_one_postgres_wake_one_another_without_looking() {
    let database = Database::postgres().await;
    let (events, scans) = (Receiver::answering([200]).await, Receiver::answering([200]).await);
    let [api, dispatching, scanning] = start_each(&database, &NOT_LOOKING).await;
    let subscriber = subscribe(&api, &events.url, "standard").await;
    subscribe(&api, &scans.url, "probely").await;
    for count in 1..=20 {
        publish(&api).await;
        events.wait_for(count).await;
    }
    // For later.
    let event = publish_for(&api, 100).await;
    events.wait_for(21).await;
    settled(&api).await;
    // Again.
    api.post(&format!("/api/v1/deliveries/{}/redeliver", text(&event["webhooks"][0]["id"])), &json!({})).await;
    events.wait_for(22).await;
    settled(&api).await;
    // What has waited for its subscriber to be enabled, long after it was due.
    let change = async |enabled: bool| {
        let request = api.http.patch(format!("{}/api/v1/subscribers/{subscriber}", api.url));
        let answer = request.json(&json!({"enabled": enabled})).send().await.expect("an answer");
        assert!(answer.status().is_success(), "{answer:?}");
    };
    publish_for(&api, 100).await;
    change(false).await;
    let other = Receiver::answering([200]).await;
    subscribe(&api, &other.url, "standard").await;
    publish_for(&api, 300).await;
    other.wait_for(1).await;
    change(true).await;
    events.wait_for(23).await;
    // Scans: timers of one process, set by another.
    for count in 1..=3 {
        scan(&api, "200ms").await;
        scans_delivered(&api, count).await;
        settled(&api).await;
    }
    stop([scanning, dispatching, api]).await;
    database.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_init_file_of_one_process_sets_others_on_the_same_postgres_going() {
    let database = Database::postgres().await;
    let receiver = Receiver::answering([200]).await;
    let (dispatching, scanning) =
        tokio::join!(start(&database, "dispatch", &NOT_LOOKING), start(&database, "scan", &NOT_LOOKING));
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("init.yaml").display().to_string();
    let subscriber = format!("subscribers:\n  - url: {}\n    vendor: probely\n", receiver.url);
    std::fs::write(&path, subscriber + "scenarios:\n  - name: first-scan\n").expect("written");
    let api = Daemon::start_with(&database, &["--role", "api", "--init", &path], &NOT_LOOKING).await;
    scans_delivered(&api, 1).await;
    stop([scanning, dispatching, api]).await;
    database.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_is_woken_by_the_commits_of_another_process_on_the_same_postgres() {
    let database = Database::postgres().await;
    let receiver = Receiver::answering([200]).await;
    let (api, dispatching) =
        tokio::join!(start(&database, "api", &NOT_LOOKING), start(&database, "dispatch", &NOT_LOOKING));
    subscribe(&api, &receiver.url, "standard").await;
    let clock = Clock::Real.stopwatch();
    for _ in 0..20 {
        publish(&api).await;
        settled(&api).await;
    }
    let took = clock.elapsed();
    assert_eq!(receiver.count(), 20);
    // Who is not woken looks again after a second.
    assert!(took < std::time::Duration::from_secs(10), "{took:?}");
    stop([dispatching, api]).await;
    database.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_another_process_on_the_same_postgres_has_in_hand_is_not_sent_after_a_restore() {
    let database = Database::postgres().await;
    let one_at_a_time = [NOT_LOOKING.as_slice(), &[("SCANHOOK__DISPATCH__CONCURRENCY_PER_SUBSCRIBER", "1")]].concat();
    let (api, dispatching) =
        tokio::join!(start(&database, "api", &one_at_a_time), start(&database, "dispatch", &one_at_a_time));
    let (receiver, other) = (Receiver::gated(0).await, Receiver::answering([200]).await);
    subscribe(&api, &receiver.url, "standard").await;
    let taken = api.post("/api/v1/snapshots", &json!({"name": "before"})).await;
    publish(&api).await;
    publish(&api).await;
    receiver.wait_for(1).await;
    // The second waits in the dispatch process, behind the first.
    api.post(&format!("/api/v1/snapshots/{}/restore", text(&taken["id"])), &json!({})).await;
    // What is said later is heard later.
    subscribe(&api, &other.url, "standard").await;
    publish(&api).await;
    other.wait_for(1).await;
    receiver.gate().open();
    receiver.wait_for(2).await;
    settled(&api).await;
    let shared = other.ids();
    assert_eq!((receiver.count(), shared.len()), (2, 1));
    assert!(receiver.ids().is_superset(&shared), "what was in hand before the restore was sent");
    stop([dispatching, api]).await;
    database.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_connection_to_postgres_is_listened_on_again() {
    let database = Database::postgres().await;
    let receiver = Receiver::answering([200]).await;
    let (api, dispatching) =
        tokio::join!(start(&database, "api", &NOT_LOOKING), start(&database, "dispatch", &NOT_LOOKING));
    subscribe(&api, &receiver.url, "standard").await;
    publish(&api).await;
    receiver.wait_for(1).await;
    let mut connection = sqlx::PgConnection::connect(&database.url).await.expect("connects");
    let listens =
        "query like 'LISTEN \"scanhook ' || (select oid from pg_namespace where nspname = current_schema()) || '\"%'";
    let end = format!("select pg_terminate_backend(pid) from pg_stat_activity where {listens}");
    let ended = connection.execute(sqlx::AssertSqlSafe(end)).await.expect("they listened");
    assert_eq!(ended.rows_affected(), 2);
    // What is said while nobody listens is found when it is listened again.
    for count in 2..=10 {
        publish(&api).await;
        receiver.wait_for(count).await;
    }
    stop([dispatching, api]).await;
    database.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_to_postgres_that_falls_silent_is_listened_on_again() {
    let database = Database::postgres().await;
    let (proxy, behind) = Proxy::of(&database).await;
    let receiver = Receiver::answering([200]).await;
    let impatient = [
        ("SCANHOOK__DATABASE__ANSWER_TIMEOUT", "500ms"),
        // It would wait for the silent connections.
        ("SCANHOOK__SERVER__SHUTDOWN_LIMIT", "2s"),
    ];
    let impatient = [NOT_LOOKING.as_slice(), &impatient].concat();
    let (api, dispatching) =
        tokio::join!(start(&database, "api", &NOT_LOOKING), start(&behind, "dispatch", &impatient));
    subscribe(&api, &receiver.url, "standard").await;
    publish(&api).await;
    receiver.wait_for(1).await;
    proxy.frozen.send_modify(|freezes| *freezes += 1);
    for count in 2..=5 {
        publish(&api).await;
        receiver.wait_for(count).await;
    }
    stop([dispatching, api]).await;
    database.remove().await;
}

#[tokio::test]
async fn roles_that_make_no_sense_are_refused_with_the_way_out() {
    let refused = async |arguments: &[&str]| {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_scanhook"));
        let ended = command.args(["serve", "--listen", "127.0.0.1:0"]).args(arguments).kill_on_drop(true).output();
        let output = tokio::time::timeout(PATIENCE, ended).await.expect("it ends").expect("scanhook runs");
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    for (roles, problem) in [
        (&["--role", "send"][..], "server.roles: `send` is none of api, dispatch, scan (from flag --role)"),
        (&["--role", "api", "--role", "scan;dispatch"], "server.roles: `scan;dispatch` is none of api, dispatch, scan"),
        (&["--role", ""], "server.roles: name at least one of api, dispatch and scan"),
        (&["--role", ",", "--role", ""], "server.roles: name at least one of api, dispatch and scan"),
        (&["--role", "api,scan", "--ephemeral"], "server.roles: dispatch is missing, and no other process can do that"),
        (&["--role", "scan", "--database-url", "sqlite::memory:"], "server.roles: api,dispatch is missing"),
    ] {
        let said = refused(roles).await;
        assert!(said.contains(problem), "{problem} is not in: {said}");
    }
    let said = refused(&["--role", "api", "--ephemeral"]).await;
    assert!(said.contains("leave the roles out for all of them, or give a file or Postgres"), "{said}");
}

#[tokio::test]
async fn all_roles_may_be_named_also_in_memory_and_by_the_environment() {
    let database = Database::at("sqlite::memory:".to_owned());
    let all = json!(["api", "dispatch", "scan"]);
    for roles in [&[][..], &["--role", "scan,api", "--role", "dispatch"]] {
        let daemon = Daemon::start_with(&database, roles, &[]).await;
        assert_eq!(daemon.said["roles"], all);
        stop([daemon]).await;
    }
    let database = Database::sqlite();
    let settings = [("SCANHOOK__SERVER__ROLES", "dispatch,scan"), ("SCANHOOK__SERVER__LISTEN", "0.0.0.0:0")];
    let daemon = Daemon::start_with(&database, &["--role", "api"], &settings[..1]).await;
    assert_eq!(daemon.said["roles"], json!(["api"]), "a flag is stronger");
    stop([daemon]).await;
    let daemon = Daemon::start_with(&database, &[], &settings[..1]).await;
    assert_eq!(daemon.said["roles"], json!(["dispatch", "scan"]));
    stop([daemon]).await;
}
