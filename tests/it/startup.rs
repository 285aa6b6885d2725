//! Start-up for CI: the ready file, health, the seed, init files.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Output;

use scanhook::clock::Clock;
use scanhook::store::Store;
use serde_json::{Value, json};
use sqlx::{Connection, Executor};
use tempfile::TempDir;
use tokio::process::Command;

use crate::daemon::{Daemon, Proxy};
use crate::support::{Database, PATIENCE, Receiver, Service, on_both_databases, start_time, test_config, text};

/// A folder with these files.
fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    files.iter().for_each(|(name, text)| fs::write(folder.path().join(name), text).expect("written"));
    folder
}

fn shown(path: &Path) -> &str {
    path.to_str().expect("text")
}

/// Runs scanhook to its end.
async fn scanhook(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_scanhook"));
    let ended = command.args(arguments).kill_on_drop(true).output();
    tokio::time::timeout(PATIENCE, ended).await.expect("it ends").expect("scanhook runs")
}

/// Starts a daemon that must fail to: what it says.
async fn failing_start(database: &Database, arguments: &[&str]) -> String {
    let serve = ["serve", "--listen", "127.0.0.1:0", "--database-url", &database.url];
    let output = scanhook(&[&serve, arguments].concat()).await;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    said
}

/// GETs from a daemon: the status and the JSON.
async fn get(daemon: &Daemon, path: &str, key: &str) -> (u16, Value) {
    let request = daemon.http.get(format!("{}{path}", daemon.url));
    let request = if key.is_empty() { request } else { request.bearer_auth(key) };
    let answer = request.send().await.expect("an answer");
    (answer.status().as_u16(), answer.json().await.unwrap_or_default())
}

/// The items of a list.
async fn list(daemon: &Daemon, path: &str, key: &str) -> Vec<Value> {
    let (status, list) = get(daemon, path, key).await;
    assert_eq!(status, 200, "{list}");
    list["data"].as_array().expect("a list").clone()
}

fn read(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).expect("the ready file is there")).expect("JSON")
}

#[tokio::test]
async fn the_ready_file_says_how_to_use_the_daemon_and_is_gone_when_it_stops() {
    let (database, folder) = (Database::sqlite(), folder(&[]));
    let path = folder.path().join("ready.json");
    let settings = [
        ("SCANHOOK__AUTH__MODE", "keys"),
        ("SCANHOOK__AUTH__DEFAULT_KEY", "shk_of_the_default"),
        ("SCANHOOK__VENDORS__PROBELY__LISTEN", "127.0.0.1:0"),
    ];
    let daemon = Daemon::start_with(&database, &["--ready-file", shown(&path)], &settings).await;
    let ready = read(&path);
    assert_eq!(ready, daemon.said);
    assert_eq!((text(&ready["url"]), text(&ready["database"])), (daemon.url.clone(), database.url.clone()));
    assert_eq!(ready["pid"].as_u64(), daemon.process.id().map(u64::from));
    let mode = fs::metadata(&path).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "others can read the key");
    assert_eq!(list(&daemon, "/api/v1/subscribers", &text(&ready["api_key"])).await, Vec::<Value>::new());
    let of_vendor = daemon.http.get(format!("{}/targets/", text(&ready["vendors"]["probely"])));
    assert_eq!(of_vendor.send().await.expect("an answer").status().as_u16(), 401);
    assert_eq!(daemon.stop().await, Some(0));
    assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 0, "something is left");
}

#[tokio::test]
async fn without_keys_the_ready_file_has_none() {
    let (database, folder) = (Database::sqlite(), folder(&[]));
    let path = folder.path().join("ready.json");
    let settings = [("SCANHOOK__AUTH__DEFAULT_KEY", "shk_of_the_default")];
    let daemon = Daemon::start_with(&database, &["--ready-file", shown(&path)], &settings).await;
    assert_eq!(read(&path)["api_key"], "");
    assert_eq!(daemon.stop().await, Some(0));
}

#[tokio::test]
async fn the_ready_file_of_a_killed_daemon_is_never_taken_for_the_next_ones() {
    let (database, folder) = (Database::sqlite(), folder(&[("bad.yaml", "subscriber: []\n")]));
    let path = folder.path().join("ready.json");
    let flags = ["--ready-file", shown(&path)];
    let daemon = Daemon::start_with(&database, &flags, &[]).await;
    let killed = daemon.process.id().map(u64::from);
    daemon.kill().await;
    assert_eq!(read(&path)["pid"].as_u64(), killed);
    let daemon = Daemon::start_with(&database, &flags, &[]).await;
    assert_eq!(read(&path)["pid"].as_u64(), daemon.process.id().map(u64::from));
    daemon.kill().await;
    let init = folder.path().join("bad.yaml");
    failing_start(&database, &[&flags[..], &["--init", shown(&init)]].concat()).await;
    assert!(!path.exists(), "a daemon that did not start is said to be ready");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn until_the_init_files_are_applied_the_process_lives_and_is_not_ready() {
    let database = Database::postgres().await;
    Store::open(&test_config(&database).database).await.expect("the store opens").close().await;
    let mut holder = sqlx::PgConnection::connect(&database.url).await.expect("connects");
    holder.execute("begin; lock table init_file in access exclusive mode").await.expect("locked");
    let folder = folder(&[("a.yaml", "targets: [{address: a.example.test}]\n")]);
    let path = folder.path().join("ready.json");
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("an address");
    let free = free.to_string();
    let flags = ["--init", shown(folder.path()), "--ready-file", shown(&path), "--listen", &free];
    let mut command = Command::new(env!("CARGO_BIN_EXE_scanhook"));
    let arguments = [&["serve", "--database-url", &database.url][..], &flags].concat();
    let mut process = command.args(arguments).kill_on_drop(true).spawn().expect("the daemon starts");
    let http = reqwest::Client::builder().no_proxy().build().expect("a client");
    let status = async |path: &str| match http.get(format!("http://{free}{path}")).send().await {
        Ok(answer) => answer.status().as_u16(),
        Err(_) => 0,
    };
    let living = async { while status("/livez").await != 200 {} };
    tokio::time::timeout(PATIENCE, living).await.expect("it lives");
    let ready = http.get(format!("http://{free}/readyz")).send().await.expect("an answer");
    assert_eq!(ready.status().as_u16(), 503);
    let problem: Value = ready.json().await.expect("JSON");
    assert_eq!(problem["type"], "urn:scanhook:problem:not-ready");
    assert_eq!(problem["detail"], "init files are being applied");
    assert_eq!((status("/api/v1/targets").await, status("/probely/targets/").await), (503, 503));
    assert!(!path.exists(), "the ready file is there too early");
    holder.execute("commit").await.expect("unlocked");
    let becoming_ready = async { while status("/readyz").await != 200 {} };
    tokio::time::timeout(PATIENCE, becoming_ready).await.expect("it is ready");
    assert_eq!(status("/api/v1/targets").await, 200);
    process.kill().await.expect("killed");
    database.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_database_is_away_the_daemon_lives_and_is_not_ready() {
    let database = Database::postgres().await;
    let (proxy, behind) = Proxy::of(&database).await;
    let daemon = Daemon::start_with(&behind, &[], &[("SCANHOOK__DATABASE__ANSWER_TIMEOUT", "500ms")]).await;
    let check = || async { scanhook(&["healthcheck", "--url", &daemon.url]).await };
    assert_eq!(
        get(&daemon, "/readyz", "").await,
        (200, json!({"status": "ready", "roles": ["api", "dispatch", "scan"]}))
    );
    assert_eq!(check().await.status.code(), Some(0));
    proxy.is_away.send_replace(true);
    proxy.frozen.send_modify(|freezes| *freezes += 1);
    let (status, problem) = get(&daemon, "/readyz", "").await;
    assert_eq!((status, &problem["detail"]), (503, &json!("the database does not answer")));
    assert_eq!(get(&daemon, "/livez", "").await, (200, json!({"status": "live"})));
    let checked = check().await;
    let said = String::from_utf8_lossy(&checked.stderr).into_owned();
    assert_eq!(checked.status.code(), Some(1), "{said}");
    assert!(said.contains("the database does not answer (503"), "{said}");
    proxy.is_away.send_replace(false);
    let recovering = async { while get(&daemon, "/readyz", "").await.0 != 200 {} };
    tokio::time::timeout(PATIENCE, recovering).await.expect("it is ready again");
    assert_eq!(check().await.status.code(), Some(0));
    assert_eq!(daemon.stop().await, Some(0));
    let checked = scanhook(&["healthcheck", "--url", "http://127.0.0.1:9"]).await;
    assert_eq!(checked.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&checked.stderr).contains("no scanhook answers at http://127.0.0.1:9/"));
    database.remove().await;
}

#[tokio::test]
async fn health_needs_no_key_and_can_be_asked_by_head() {
    let database = Database::sqlite();
    let settings = [("SCANHOOK__AUTH__MODE", "keys"), ("SCANHOOK__AUTH__DEFAULT_KEY", "shk_of_the_default")];
    let daemon = Daemon::start_with(&database, &[], &settings).await;
    for path in ["/livez", "/readyz"] {
        assert_eq!(get(&daemon, path, "").await.0, 200);
        let head = daemon.http.head(format!("{}{path}", daemon.url)).send().await.expect("an answer");
        assert_eq!(head.status().as_u16(), 200);
        assert_eq!(head.text().await.expect("a whole answer"), "");
    }
    assert_eq!(get(&daemon, "/api/v1/init", "").await.0, 401);
    let (_, description) = get(&daemon, "/api/openapi.json", "").await;
    let operation = &description["paths"]["/readyz"]["get"];
    assert_eq!(operation["security"], json!([{}]));
    assert_eq!(operation["responses"]["401"], Value::Null);
    assert_eq!(daemon.stop().await, Some(0));
}

/// What of an id does not depend on the time.
fn without_time(id: &Value) -> Vec<u8> {
    let bytes = bs58::decode(text(id)).into_vec().expect("Base58");
    bytes[bytes.len() - 8..].to_vec()
}

/// What a daemon with this seed makes.
async fn made_with(seed: &str) -> (Vec<Vec<u8>>, Vec<String>) {
    let database = Database::at("sqlite::memory:".to_owned());
    let daemon = Daemon::start_with(&database, &["--seed", seed], &[]).await;
    let account = daemon.post("/api/v1/accounts", &json!({"name": "a"})).await;
    let subscriber = json!({"url": "http://127.0.0.1:9/", "vendor": "hostedscan"});
    let subscriber = daemon.post("/api/v1/subscribers", &subscriber).await;
    let target = daemon.post("/api/v1/targets", &json!({"address": "a.example.test"})).await;
    let event = json!({"vendor": "standard", "event_type": "a.b", "content": {}});
    let event = daemon.post("/api/v1/events", &event).await;
    assert_eq!(daemon.stop().await, Some(0));
    let ids = [&account, &subscriber, &target, &event].map(|made| without_time(&made["id"]));
    (ids.to_vec(), vec![text(&account["api_key"]), text(&subscriber["secret"])])
}

#[tokio::test]
async fn a_seed_makes_the_same_keys_and_secrets_and_ids_but_for_their_time() {
    let (first, second, other) = tokio::join!(made_with("7"), made_with("7"), made_with("8"));
    assert_eq!(first, second);
    assert_ne!(first.0, other.0);
    assert_ne!(first.1, other.1);
}

/// Two files that use everything; the receiver gets what the default account's story tells.
fn whole_init(receiver: &str) -> [(&'static str, String); 3] {
    let first = format!(
        "subscribers:
  - url: {receiver}
    vendor: hostedscan
    secret: s3cret
    event_types: ['scan.*']
    retry_schedule: [5s, 5m]
    headers: {{X-Run: ci}}
targets:
  - address: shop.example.test
    weaknesses: [owasp-zap-missing-hsts]
schedules:
  - cron: '0 0 0 1 1 *'
    target: shop.example.test
    scanner: OWASP_ZAP
scenarios:
  - name: first-scan
    speed: 1000000
"
    );
    let second = "accounts:
  - name: checkout
    api_key: shk_checkout
    subscribers: [{url: 'http://127.0.0.1:9/', vendor: probely, options: {zoneless_times: true}}]
    targets: [{address: pay.example.test}]
";
    [("1-first.yaml", first), ("2-second.yml", second.to_owned()), ("notes.txt", "not: [yaml".to_owned())]
}

fn written(files: &[(&'static str, String)]) -> TempDir {
    folder(&files.iter().map(|(name, text)| (*name, text.as_str())).collect::<Vec<_>>())
}

on_both_databases! {
    async fn what_init_files_say_is_there_once_however_often_the_daemon_starts(database) {
        let receiver = Receiver::answering([200]).await;
        let folder = written(&whole_init(&receiver.url));
        let flags = ["--init", shown(folder.path())];
        let daemon = Daemon::start_with(database, &flags, &[]).await;
        let subscribers = list(&daemon, "/api/v1/subscribers", "").await;
        assert_eq!(subscribers.len(), 1);
        assert_eq!(subscribers[0]["retry_schedule"], json!(["5s", "5m"]));
        assert_eq!(subscribers[0]["headers"], json!({"X-Run": "ci"}));
        assert_eq!(list(&daemon, "/api/v1/schedules", "").await.len(), 1);
        assert_eq!(list(&daemon, "/api/v1/targets", "shk_checkout").await[0]["address"], "pay.example.test");
        let of_account = list(&daemon, "/api/v1/subscribers", "shk_checkout").await;
        assert_eq!(of_account[0]["options"], json!({"zoneless_times": true}));
        // The story is told, and its webhooks are sent.
        receiver.wait_for(1).await;
        assert!(receiver.got()[0].headers.contains_key("x-hostedscan-signature"));
        let telling = async { while list(&daemon, "/api/v1/init", "").await[0]["state"] != "applied" {} };
        tokio::time::timeout(PATIENCE, telling).await.expect("the story ends");
        let made = list(&daemon, "/api/v1/init", "").await;
        let kinds = |file: &Value| -> Vec<String> {
            file["made"].as_array().expect("a list").iter().map(|made| text(&made["kind"])).collect()
        };
        assert_eq!(made.iter().map(|file| text(&file["name"])).collect::<Vec<_>>(), ["1-first.yaml", "2-second.yml"]);
        assert_eq!(kinds(&made[0]), ["subscriber", "target", "schedule", "run"]);
        assert_eq!(kinds(&made[1]), ["account", "subscriber", "target"]);
        assert_eq!(made[0]["made"][0]["id"], subscribers[0]["id"]);
        assert_eq!((&made[0]["error"], text(&made[0]["hash"]).len()), (&Value::Null, 64));
        assert_eq!(get(&daemon, "/api/v1/init", "shk_checkout").await.0, 403);
        let targets = list(&daemon, "/api/v1/targets", "").await;
        assert_eq!(daemon.stop().await, Some(0));

        let daemon = Daemon::start_with(database, &flags, &[]).await;
        assert_eq!(list(&daemon, "/api/v1/init", "").await, made);
        assert_eq!(list(&daemon, "/api/v1/subscribers", "").await, subscribers);
        assert_eq!(list(&daemon, "/api/v1/subscribers", "shk_checkout").await, of_account);
        assert_eq!(list(&daemon, "/api/v1/targets", "").await, targets);
        assert_eq!(list(&daemon, "/api/v1/scenarios/runs", "").await.len(), 1);
        assert_eq!(daemon.stop().await, Some(0));
    }

    async fn a_file_that_cannot_be_applied_fails_the_start_and_nothing_of_any_file_is_left(database) {
        let first = "subscribers: [{url: 'http://127.0.0.1:9/', vendor: halo}]
accounts: [{name: a, api_key: shk_of_a}]
targets: [{address: a.example.test}]
";
        let second = "# the target is of another account
accounts:
  - name: b
    api_key: shk_of_b
    schedules:
      - {cron: '0 0 0 1 1 *', target: a.example.test, scanner: NMAP}
";
        let folder = folder(&[("a.yaml", first), ("b.yaml", second)]);
        let said = failing_start(database, &["--init", shown(folder.path())]).await;
        let place = format!("{}:6:39: accounts.0.schedules.0.target: ", folder.path().join("b.yaml").display());
        assert!(said.contains(&place) && said.contains("there is no target `a.example.test`"), "{said}");
        let daemon = Daemon::start_with(database, &[], &[]).await;
        for path in ["/api/v1/subscribers", "/api/v1/targets", "/api/v1/events", "/api/v1/init"] {
            assert_eq!(list(&daemon, path, "").await, Vec::<Value>::new(), "{path}");
        }
        assert_eq!(get(&daemon, "/api/v1/targets", "shk_of_a").await.0, 401);
        assert_eq!(daemon.stop().await, Some(0));
        // The same file is applied once it is right.
        fs::write(folder.path().join("b.yaml"), second.replace("    schedules", "    targets: [{address: a.example.test}]\n    schedules")).expect("written");
        let daemon = Daemon::start_with(database, &["--init", shown(folder.path())], &[]).await;
        assert_eq!(list(&daemon, "/api/v1/schedules", "shk_of_b").await.len(), 1);
        assert_eq!(list(&daemon, "/api/v1/subscribers", "").await.len(), 1);
        assert_eq!(daemon.stop().await, Some(0));
    }

    async fn what_is_added_to_a_file_is_made_and_what_is_changed_in_it_is_refused(database) {
        let old = "targets:\n  - address: a.example.test\naccounts:\n  - {name: a, api_key: shk_of_a}\n";
        let folder = folder(&[("a.yaml", old)]);
        let path = folder.path().join("a.yaml");
        let flags = ["--init", shown(&path)];
        assert_eq!(Daemon::start_with(database, &flags, &[]).await.stop().await, Some(0));

        let added = "# layout and order do not matter
accounts:
  - api_key: shk_of_a
    name: a
    targets: [{address: c.example.test}]
targets: [{address: b.example.test}, {address: a.example.test}]
";
        fs::write(&path, added).expect("written");
        let daemon = Daemon::start_with(database, &flags, &[]).await;
        let addresses = async |key: &str| -> Vec<String> {
            list(&daemon, "/api/v1/targets", key).await.iter().map(|target| text(&target["address"])).collect()
        };
        assert_eq!(addresses("").await, ["b.example.test", "a.example.test"]);
        assert_eq!(addresses("shk_of_a").await, ["c.example.test"]);
        assert_eq!(list(&daemon, "/api/v1/init", "").await[0]["made"].as_array().map(Vec::len), Some(4));
        assert_eq!(daemon.stop().await, Some(0));

        fs::write(&path, added.replace("b.example", "d.example")).expect("written");
        let said = failing_start(database, &flags).await;
        let place = format!("{}:6:11: targets.0: what this file said here when it was applied at ", path.display());
        assert!(said.contains(&place) && said.contains("start with a new database"), "{said}");
        fs::write(&path, added).expect("written");
        let daemon = Daemon::start_with(database, &flags, &[]).await;
        assert_eq!(list(&daemon, "/api/v1/targets", "").await.len(), 2);
        assert_eq!(daemon.stop().await, Some(0));
    }

    async fn daemons_that_start_at_once_make_things_once(database) {
        let receiver = Receiver::answering([200]).await;
        let folder = written(&whole_init(&receiver.url));
        let flags = ["--init", shown(folder.path())];
        let start = || Daemon::start_with(database, &flags, &[]);
        let (first, second, third) = tokio::join!(start(), start(), start());
        assert_eq!(list(&first, "/api/v1/subscribers", "").await.len(), 1);
        assert_eq!(list(&second, "/api/v1/scenarios/runs", "").await.len(), 1);
        assert_eq!(list(&third, "/api/v1/targets", "shk_checkout").await.len(), 1);
        assert_eq!(list(&first, "/api/v1/init", "").await.len(), 2);
        let codes = tokio::join!(first.stop(), second.stop(), third.stop());
        assert_eq!(codes, (Some(0), Some(0), Some(0)));
    }

    async fn an_account_may_choose_its_key_if_nobody_has_it(database) {
        let service = Service::start(database).await;
        let account = |key: &str| json!({"name": "a", "api_key": key});
        let made = service.post("/api/v1/accounts", account("shk_chosen")).await.expect(201);
        assert_eq!(made["api_key"], "shk_chosen");
        let problem = service.post("/api/v1/accounts", account("shk_chosen")).await.expect(409);
        assert_eq!(problem["type"], "urn:scanhook:problem:key-taken");
        for key in ["short", "with a space", "ключ-ключ"] {
            let problem = service.post("/api/v1/accounts", account(key)).await.expect(422);
            assert_eq!(problem["errors"][0]["pointer"], "/api_key");
        }
        let folder = folder(&[("a.yaml", "accounts:\n  - {name: b, api_key: shk_chosen}\n")]);
        let said = failing_start(database, &["--init", shown(folder.path())]).await;
        assert!(said.contains("a.yaml:2:24: accounts.0.api_key: another account has this key"), "{said}");
    }
}

#[tokio::test]
async fn an_init_file_tells_whether_its_stories_were_told() {
    let source = "accounts: []
scenarios:
  - source: |
      name: slow
      about: takes long
      speed: 1
      steps: [{wait: 1d}]
";
    let (database, folder) = (Database::sqlite(), folder(&[("a.yaml", source)]));
    let daemon = Daemon::start_with(&database, &["--init", shown(folder.path())], &[]).await;
    let file = list(&daemon, "/api/v1/init", "").await.remove(0);
    assert_eq!((&file["state"], &file["made"][0]["state"]), (&json!("running"), &json!("running")));
    let cancel = format!("{}/api/v1/scenarios/runs/{}/cancel", daemon.url, text(&file["made"][0]["id"]));
    assert_eq!(daemon.http.post(cancel).send().await.expect("an answer").status().as_u16(), 204);
    let file = list(&daemon, "/api/v1/init", "").await.remove(0);
    assert_eq!((&file["state"], &file["error"]), (&json!("failed"), &json!("the scenario slow: was cancelled")));
    assert_eq!(daemon.stop().await, Some(0));
}

/// What is wrong with an init file of this text, without its path.
fn faults(source: &str) -> String {
    let folder = folder(&[("a.yaml", source)]);
    let path = folder.path().join("a.yaml");
    match scanhook::init::read(std::slice::from_ref(&path), start_time()) {
        Ok(_) => String::new(),
        Err(faults) => faults.to_string().replace(shown(&path), "a.yaml"),
    }
}

#[test]
fn what_is_wrong_with_a_file_is_told_by_line_and_column_and_field() {
    for (source, part) in [
        ("targets: [", "a.yaml:1:"),
        ("subscriber: []\n", "a.yaml:1:1: unknown field `subscriber`"),
        (
            "subscribers:\n  - url: http://127.0.0.1/\n    vendor: acme\n",
            "a.yaml:3:13: subscribers.0.vendor: unknown vendor `acme`; known are standard, hostedscan, halo, probely",
        ),
        ("subscribers:\n  - vendor: halo\n", "a.yaml:2:5: subscribers.0: missing field `url`"),
        (
            "subscribers:\n  - url: http://127.0.0.1/\n    vendor: halo\n    secret: s\n    evnt_types: []\n",
            "a.yaml:5:5: ",
        ),
        (
            "subscribers:\n- url: http://127.0.0.1/\n  vendor: hostedscan\n  event_types:\n  - risk.*\n  - risc.*\n",
            "a.yaml:6:5: subscribers.0.event_types.1: `risc.*` fits no event type",
        ),
        (
            "subscribers: [{url: 'http://127.0.0.1/', vendor: halo, retry_schedule: [soon]}]\n",
            "subscribers.0.retry_schedule",
        ),
        ("targets:\n  - address: 'a b'\n", "a.yaml:2:14: targets.0.address: `a b` is neither a host name"),
        (
            "targets:\n  - address: a.test\n  - label: x\n    address: a.test\n",
            "a.yaml:4:14: targets.1.address: is the same as in line 2",
        ),
        (
            "schedules:\n  - cron: hourly\n    target: a.test\n    scanner: NMAP\n",
            "a.yaml:2:11: schedules.0.cron: `hourly` is not a cron expression",
        ),
        ("scenarios:\n  - name: no-such\n", "a.yaml:2:11: scenarios.0.name: no scenario is called `no-such`"),
        (
            "accounts:\n  - name: a\n",
            "a.yaml:2:5: accounts.0.api_key: is missing: a key that is made here could be shown to nobody",
        ),
        (
            "accounts:\n  - {name: a, api_key: shk_of_a}\n  - {name: b, api_key: shk_of_a}\n",
            "a.yaml:3:24: accounts.1.api_key: is the same as in line 2",
        ),
    ] {
        let told = faults(source);
        assert!(told.contains(part), "{part} is not in: {told}");
    }
    for good in ["", "# nothing yet\n", "targets: []\n", "accounts: [{name: a, api_key: shk_of_a}]\n"] {
        assert_eq!(faults(good), "", "{good}");
    }
}

#[test]
fn every_problem_of_every_file_is_told_at_once() {
    let folder = folder(&[
        ("a.yaml", "targets: [{address: ''}]\nsubscribers: [{url: x, vendor: halo}]\n"),
        ("b.yaml", "target: []\n"),
        (".hidden.yaml", "target: []\n"),
    ]);
    let none = folder.path().join("none.yaml");
    let empty = tempfile::tempdir().expect("a folder");
    let paths = [folder.path().to_owned(), none, folder.path().join("a.yaml"), empty.path().to_owned()];
    let told = scanhook::init::read(&paths, Clock::Real.now()).expect_err("faults").to_string();
    for part in ["targets.0.address", "subscribers.0.url", "b.yaml:1:1", "none.yaml: cannot be read", "has no *.yaml"] {
        assert!(told.contains(part), "{part} is not in: {told}");
    }
    assert!(!told.contains(".hidden"), "{told}");
    let twice = [("a.yaml", "targets: []\n")];
    let (one, other) = (self::folder(&twice), self::folder(&twice));
    let told = scanhook::init::read(&[one.path().to_owned(), other.path().to_owned()], Clock::Real.now());
    assert!(told.expect_err("a fault").to_string().contains("there are two files `a.yaml`"));
}
