//! The command line, run as a user runs it.

use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::support::{Database, Receiver, Service, text};

fn scanhook(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_scanhook"));
    command.args(arguments).current_dir(std::env::temp_dir()).stdin(Stdio::null()).output().expect("scanhook runs")
}

/// Runs a command against a service; it may not block the service's own threads.
async fn against(service: &Service, arguments: &[&str]) -> Output {
    let mut all: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
    all.extend(["--url".to_owned(), service.url.clone()]);
    let run = move || scanhook(&all.iter().map(String::as_str).collect::<Vec<_>>());
    tokio::task::spawn_blocking(run).await.expect("no panic")
}

#[track_caller]
fn success(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[track_caller]
fn json(output: &Output) -> Value {
    serde_json::from_str(&success(output)).expect("JSON")
}

#[track_caller]
fn assert_fails(output: &Output, code: i32, part: &str) {
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{error}");
    assert!(error.contains(part), "{part} is not in: {error}");
    assert!(!error.contains("panicked"), "{error}");
}

#[test]
fn the_demo_ends_well() {
    let told = json(&scanhook(&["demo", "--json"]));
    assert_eq!(told["all_verified"], true);
    let deliveries = told["deliveries"].as_array().expect("a list");
    let attempts = |delivery: &Value| delivery["attempts"].as_array().map_or(0, Vec::len);
    let all: usize = deliveries.iter().map(attempts).sum();
    // Two answers of one receiver and one of another are refusals.
    assert_eq!((told["requests"].as_u64(), all), (Some(all as u64), deliveries.len() + 3));
    let shown = success(&scanhook(&["demo"]));
    assert!(shown.contains("all succeeded: true, all signatures verified: true"), "{shown}");
}

#[test]
fn every_command_shows_an_example() {
    for command in [
        &["serve"][..],
        &["trigger"],
        &["sign"],
        &["verify"],
        &["event-types"],
        &["event-types", "show"],
        &["demo"],
        &["publish"],
        &["receive"],
        &["migrate"],
        &["healthcheck"],
        &["config"],
        &["bench"],
        &["wait"],
        &["settle"],
        &["subscribers", "add"],
        &["subscribers", "list"],
        &["subscribers", "show"],
        &["subscribers", "remove"],
        &["subscribers", "rotate-secret"],
        &["events", "list"],
        &["events", "show"],
        &["deliveries", "list"],
        &["deliveries", "show"],
        &["deliveries", "redeliver"],
        &["scan", "start"],
        &["scan", "list"],
        &["scan", "show"],
        &["scan", "cancel"],
        &["targets", "add"],
        &["targets", "list"],
        &["targets", "weaknesses"],
        &["targets", "fix"],
        &["targets", "remove"],
        &["schedules", "add"],
        &["schedules", "list"],
        &["schedules", "remove"],
        &["clock", "show"],
        &["clock", "set"],
        &["clock", "advance"],
        &["clock", "run-until-idle"],
        &["scenario", "run"],
        &["scenario", "lint"],
        &["scenario", "list"],
        &["accounts", "create"],
        &["accounts", "list"],
        &["accounts", "delete"],
        &["reset"],
        &["snapshots", "create"],
        &["snapshots", "list"],
        &["snapshots", "restore"],
        &["snapshots", "delete"],
    ] {
        let help = success(&scanhook(&[command, &["--help"]].concat()));
        assert!(
            help.contains(&format!("scanhook {}", command.join(" "))) && help.contains("Example"),
            "{command:?}: {help}"
        );
        assert!(help.contains("--json"), "{command:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn accounts_are_made_reset_put_back_and_deleted() {
    let database = Database::sqlite();
    let service = Service::start(&database).await;
    let created = json(&against(&service, &["accounts", "create", "ci", "--json"]).await);
    let (id, key) = (text(&created["id"]), text(&created["api_key"]));
    let shown = success(&against(&service, &["accounts", "create", "two", "--key", "my-key-for-two"]).await);
    assert!(shown.contains("my-key-for-two (shown this once)"), "{shown}");
    let listed = success(&against(&service, &["accounts", "list", "--limit", "2"]).await);
    assert!(listed.contains(&id) && listed.contains("there is more: --cursor"), "{listed}");
    let as_ci = async |arguments: &[&str]| against(&service, &[arguments, &["--api-key", &key]].concat()).await;
    success(&as_ci(&["subscribers", "add", "http://127.0.0.1:9/", "--vendor", "standard"]).await);
    success(&as_ci(&["publish", "standard", "a.b", "{}"]).await);
    let taken = success(&as_ci(&["snapshots", "create", "before"]).await);
    assert!(taken.contains("(subscribers: 1, events: 1, deliveries: 1)"), "{taken}");
    let listed = json(&as_ci(&["snapshots", "list", "--json"]).await);
    let snapshot = text(&listed["data"][0]["id"]);
    assert_eq!(listed["data"][0]["name"], "before");
    let reset = success(&as_ci(&["reset", "--keep", "subscribers"]).await);
    assert_eq!(reset, "reset ci (subscribers: 1, events: 0, deliveries: 0)\n");
    assert_eq!(json(&as_ci(&["reset", "--json"]).await)["counts"]["subscribers"], 0);
    assert_fails(&as_ci(&["reset", "--keep", "events"]).await, 2, "possible values: subscribers");
    let restored = success(&as_ci(&["snapshots", "restore", &snapshot]).await);
    assert_eq!(restored, format!("restored {snapshot} (subscribers: 1, events: 1, deliveries: 1)\n"));
    assert_eq!(success(&as_ci(&["snapshots", "delete", &snapshot]).await), format!("deleted {snapshot}\n"));
    assert_fails(&as_ci(&["snapshots", "restore", &snapshot]).await, 1, "no such snapshot");
    assert_fails(&against(&service, &["accounts", "delete", "1111111111111111111111"]).await, 1, "/api/v1/reset");
    assert_eq!(success(&against(&service, &["accounts", "delete", &id]).await), format!("deleted {id}\n"));
    assert_fails(&as_ci(&["events", "list"]).await, 1, "no account has this API key");
}

#[test]
fn wrong_arguments_are_named_and_exit_with_2() {
    assert_fails(&scanhook(&["serv"]), 2, "unrecognized subcommand 'serv'");
    assert_fails(&scanhook(&["serve", "--ephemeral", "--database-url", "sqlite:a"]), 2, "cannot be used with");
    assert_fails(
        &scanhook(&["publish", "acme", "a.b", "{}"]),
        2,
        "unknown vendor `acme`; known are standard, hostedscan, halo, probely",
    );
    assert_fails(&scanhook(&["receive", "--answers", "503,many"]), 2, "`many` is not an HTTP status");
    assert_fails(&scanhook(&["publish", "standard", "a.b"]), 2, "CONTENT");
    let receive = ["receive", "--listen", "127.0.0.1:0", "--vendor", "standard", "--secret", "short"];
    assert_fails(&scanhook(&receive), 1, "--secret: must start with `whsec_`");
}

#[test]
fn wrong_settings_are_all_told_at_once_with_key_and_source() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("scanhook.toml");
    let settings = "[server]\nlissen = \"127.0.0.1:1\"\n[dispatch]\ntimeout = \"soon\"\nconcurrency = 0\n";
    std::fs::write(&file, settings).expect("written");
    let path = file.display().to_string();
    let output = scanhook(&["serve", "--config", &path]);
    assert_fails(&output, 1, &format!("server.lissen: is not a setting (from {path}); did you mean `server.listen`?"));
    assert_fails(&output, 1, "dispatch.timeout: `soon` is not a duration");
    assert_fails(&output, 1, "dispatch.concurrency: must be at least 1");
    std::fs::write(&file, "[server\n").expect("written");
    assert_fails(&scanhook(&["serve", "--config", &path]), 1, &path);
    assert_fails(&scanhook(&["serve", "--config", "/no/such.toml"]), 1, "cannot read /no/such.toml");
    assert_fails(&scanhook(&["serve", "--listen", "here"]), 1, "server.listen: ");
    assert_fails(&scanhook(&["serve", "--listen", "0.0.0.0:0", "--ephemeral"]), 1, "can be reached from elsewhere");
}

#[test]
fn schedules_in_a_settings_file_are_read_and_checked() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("scanhook.toml");
    let path = file.display().to_string();
    let good = "[[scanner.schedule]]\ncron = \"0 */5 * * * *\"\ntarget = \"shop.example.test\"\nscanner = \"OWASP_ZAP\"\n\
        mix = { completed = 0.9, failed = 0.1 }\ntimezone = \"Europe/Lisbon\"\n";
    std::fs::write(&file, good).expect("written");
    let settings = json(&scanhook(&["config", "--json", "--config", &path]));
    let schedule = settings.as_array().expect("a list").iter().find(|one| one["key"] == "scanner.schedule");
    let schedule = schedule.expect("it is listed");
    assert_eq!(schedule["source"], *path);
    assert!(text(&schedule["value"]).contains("shop.example.test"), "{schedule}");
    for (from, to, problem) in [
        ("0 */5 * * * *", "0 0 0 30 2 *", "scanner.schedule.0.cron: `0 0 0 30 2 *` never fires"),
        ("0 */5 * * * *", "often", "scanner.schedule.0.cron: `often` is not a cron expression"),
        ("Europe/Lisbon", "Mars/Base", "scanner.schedule.0.timezone: `Mars/Base` is not a time zone"),
        ("0.9", "-1.0", "scanner.schedule.0.mix: must be weights"),
        ("OWASP_ZAP", "ZAP", "scanner.schedule"),
    ] {
        std::fs::write(&file, good.replace(from, to)).expect("written");
        assert_fails(&scanhook(&["serve", "--ephemeral", "--config", &path]), 1, problem);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_script_waits_by_the_exit_code() {
    let database = Database::sqlite();
    let service = Service::start(&database).await;
    let receiver = Receiver::answering([503, 200]).await;
    let subscriber = serde_json::json!({"url": receiver.url, "vendor": "standard", "retry_schedule": ["5s"]});
    service.subscribe_as(subscriber).await;
    service.publish("invoice.paid").await;
    assert_fails(&against(&service, &["settle", "--within", "0s"]).await, 1, "(invoice.paid) to");
    service.dispatch().await;
    let settled = success(&against(&service, &["settle", "--within", "0s"]).await);
    assert!(settled.contains("due later: 1 deliveries, 0 timers") && settled.contains("next delivery"), "{settled}");
    let wait = ["wait", "--vendor", "standard", "--event-type", "invoice.*", "--within", "0s"];
    let wait = async |more: &[&str]| against(&service, &[&wait[..], more].concat()).await;
    assert_fails(
        &wait(&["--status", "succeeded"]).await,
        1,
        "1 delivery matched, but 1 is rescheduled (last answer 503) (409 Conflict)",
    );
    let matched =
        success(&wait(&["--content", "$.n=1", "--body", "$.data.n=1", "--attempts", "1", "--answer", "503"]).await);
    assert!(matched.contains("invoice.paid") && matched.contains("rescheduled"), "{matched}");
    assert_fails(&wait(&["--content", "$.n=2"]).await, 1, "$.n is 1 in 1 of them");
    assert_fails(&wait(&["--none"]).await, 1, "none was expected");
    assert_fails(&wait(&["--min", "2"]).await, 1, "at least 2 were expected");
    assert_eq!(json(&wait(&["--events", "--max", "1", "--json"]).await)["count"], 1);
    let none = success(&wait(&["--since", "2026-01-02T00:00:00Z", "--none"]).await);
    assert!(none.contains("none, as expected"), "{none}");
    assert_fails(&wait(&["--content", "n=1"]).await, 2, "`n=1` is not PATH=JSON with a JSONPath");
    assert_fails(&wait(&["--none", "--count", "1"]).await, 2, "cannot be used with");
    assert_fails(&wait(&["--status", "lost"]).await, 1, "expect.status");
    assert_fails(&wait(&["--since", "yesterday"]).await, 2, "--since");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scans_are_run_by_hand_from_the_command_line() {
    let database = Database::sqlite();
    let mut daemon = Command::new(env!("CARGO_BIN_EXE_scanhook"));
    daemon.args(["serve", "--json", "--listen", "127.0.0.1:0", "--database-url", &database.url]);
    let mut daemon = daemon.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("the daemon starts");
    let mut line = String::new();
    let pipe = daemon.stdout.take().expect("a pipe");
    std::io::BufRead::read_line(&mut std::io::BufReader::new(pipe), &mut line).expect("a line");
    let url = text(&serde_json::from_str::<Value>(&line).expect("JSON")["url"]);
    let run = |arguments: &[&str]| scanhook(&[arguments, &["--url", &url]].concat());
    let add = ["targets", "add", "shop.example.test", "--tag", "prod", "--weakness", "owasp-zap-missing-hsts"];
    assert!(success(&run(&add)).contains("shop.example.test"));
    let start = ["scan", "start", "--target", "shop.example.test", "--scanner", "OWASP_ZAP", "--duration", "500ms"];
    let ended = json(&run(&[&start[..], &["--follow", "--json"]].concat()));
    assert_eq!((&ended["state"], &ended["new"], &ended["progress"]), (&"completed".into(), &1.into(), &100.into()));
    assert!(success(&run(&["targets", "weaknesses", "shop.example.test"])).contains("open"));
    success(&run(&["targets", "fix", "shop.example.test", "--weakness", "owasp-zap-missing-hsts"]));
    let again = json(&run(&[&start[..], &["--follow", "--json"]].concat()));
    assert_eq!((&again["closed"], &again["first"]), (&1.into(), &false.into()));
    let failed =
        json(&run(&[&start[..], &["--outcome", "failed", "--reason", "Out of memory", "--follow", "--json"]].concat()));
    assert_eq!((&failed["state"], &failed["reason"]), (&"failed".into(), &"Out of memory".into()));
    let slow =
        json(&run(&["scan", "start", "--target", "b.example.test", "--scanner", "NMAP", "--duration", "1h", "--json"]));
    success(&run(&["scan", "cancel", &text(&slow["id"])]));
    assert!(success(&run(&["scan", "show", &text(&slow["id"])])).contains("cancelled"));
    assert!(success(&run(&["scan", "list", "--target", "shop.example.test"])).contains("OWASP_ZAP"));
    let schedule =
        ["schedules", "add", "0 0 3 * * *", "--target", "shop.example.test", "--scanner", "NMAP", "--mix", "failed=1"];
    let schedule = text(&json(&run(&[&schedule[..], &["--json"]].concat()))["id"]);
    assert!(success(&run(&["schedules", "list"])).contains(&schedule));
    success(&run(&["schedules", "remove", &schedule]));
    let story = json(&run(&["scenario", "run", "first-scan", "--speed", "2400", "--json"]));
    assert_eq!(story["state"], "completed");
    success(&run(&["targets", "remove", "b.example.test"]));
    assert!(!success(&run(&["targets", "list"])).contains("b.example.test"));
    assert_fails(&run(&["targets", "remove", "b.example.test"]), 1, "there is no target `b.example.test`");
    assert_fails(
        &run(&["scan", "start", "--target", "a b", "--scanner", "NMAP"]),
        1,
        "neither a host name nor an IP address",
    );
    assert_fails(&run(&["scan", "start", "--target", "a.test", "--scanner", "ZAP"]), 2, "unknown scanner `ZAP`");
    assert_fails(
        &run(&["schedules", "add", "often", "--target", "shop.example.test", "--scanner", "NMAP"]),
        1,
        "is not a cron expression",
    );
    daemon.kill().expect("killed");
    daemon.wait().expect("it has ended");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_arrive_is_looked_into_from_the_command_line() {
    let database = Database::sqlite();
    let service = Service::start(&database).await;
    let run = |arguments: &[&str]| scanhook(&[arguments, &["--url", &service.url]].concat());
    let receiver = Receiver::answering([503]).await;
    let (id, _) = service.subscribe(&receiver.url).await;
    assert!(success(&run(&["subscribers", "preflight", &id])).contains("http  ok: HEAD was answered with 503"));
    let event = service.publish("a.b").await;
    success(&run(&["subscribers", "disable", &id]));
    let delivery = text(&service.only_delivery(&event).await["id"]);
    assert!(success(&run(&["why", &delivery])).contains("Its subscriber is disabled (by hand)"));
    success(&run(&["subscribers", "enable", &id]));
    service.dispatch().await;
    assert!(success(&run(&["why", &delivery])).contains("Wait 1 of 9 of vendors.standard.retry_schedule is 5s"));
    let explained = success(&run(&["schedule", "explain", "--subscriber", &id, "--outage", "1m"]));
    assert!(explained.contains("costs 2 failed attempts; attempt 3 of 10"), "{explained}");
    assert_fails(&run(&["why", "nothing"]), 1, "names nothing");
    assert_fails(&run(&["schedule", "explain"]), 2, "--vendor");
    let (gone, _) = service.subscribe("http://nowhere.invalid/").await;
    let walked = run(&["subscribers", "preflight", &gone]);
    assert!(String::from_utf8_lossy(&walked.stdout).contains("dns  failed: cannot resolve nowhere.invalid"));
    assert_fails(&walked, 1, "the receiver cannot be reached");
}

#[test]
fn addresses_and_hosts_that_cannot_be_used_are_refused_by_the_setting_s_name() {
    let map = ["serve", "--ephemeral", "--map-host", "localhost"];
    assert_fails(&scanhook(&map), 1, "dispatch.map_hosts: each must be FROM=TO");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("scanhook.toml");
    let path = file.display().to_string();
    for (settings, problem) in [
        ("[vendors.halo]\nlisten = \"here\"", "vendors.halo.listen: must be \"\" or an address and a port"),
        ("[vendors.halo]\nlisten = \"0.0.0.0:1\"", "vendors.halo.listen 0.0.0.0:1 can be reached from elsewhere"),
        (
            "[vendors.halo]\nlisten = \"127.0.0.1:1\"\ntls_cert_file = \"a\"",
            "tls_cert_file and tls_key_file: give both",
        ),
        ("[vendors.halo]\ntls_cert_file = \"a\"\ntls_key_file = \"b\"", "vendors.halo.tls_cert_file: needs"),
        ("[vendors.halo]\nhttps_only = true", "vendors.halo.https_only"),
        ("[vendors.standard]\nlisten = \"127.0.0.1:1\"", "vendors.standard.listen"),
    ] {
        std::fs::write(&file, settings).expect("written");
        assert_fails(&scanhook(&["serve", "--ephemeral", "--config", &path]), 1, problem);
    }
}

#[test]
fn the_settings_in_force_are_printed_with_their_sources() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_scanhook"));
    let output =
        command.args(["config", "--json"]).env("SCANHOOK__DISPATCH__LEASE", "5s").output().expect("scanhook runs");
    let settings = json(&output);
    let find = |key: &str| settings.as_array().expect("a list").iter().find(|origin| origin["key"] == key).cloned();
    let lease = find("dispatch.lease").expect("listed");
    assert_eq!((&lease["value"], &lease["source"]), (&"5s".into(), &"environment SCANHOOK__DISPATCH__LEASE".into()));
    assert_eq!(find("dispatch.timeout").expect("listed")["source"], "default");
    assert_eq!(success(&scanhook(&["config", "--defaults"])), scanhook::config::DEFAULTS);
}

#[test]
fn a_port_in_use_is_named_with_the_way_out() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let output = scanhook(&["serve", "--ephemeral", "--listen", &address]);
    assert_fails(&output, 1, &format!("cannot listen on {address}: the port is in use"));
    assert_fails(&output, 1, "choose another with --listen");
    assert_fails(&scanhook(&["receive", "--listen", &address]), 1, "the port is in use");
}

#[test]
fn a_database_that_cannot_be_reached_is_named() {
    let output = scanhook(&["serve", "--database-url", "postgres://me:word@127.0.0.1:1/none"]);
    assert_fails(&output, 1, "cannot open the database postgres://me:***@127.0.0.1:1/none");
    assert_fails(&scanhook(&["migrate", "--database-url", "mysql://x"]), 1, "neither `sqlite:FILE`");
    let output = scanhook(&["migrate", "--database-url", "sqlite:/no/such/folder/a.db"]);
    assert_fails(
        &output,
        1,
        "cannot open the database sqlite:/no/such/folder/a.db: there is no folder /no/such/folder;",
    );
}

#[test]
fn a_default_key_that_another_account_has_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let url = format!("sqlite:{}/a.db", directory.path().display());
    success(&scanhook(&["migrate", "--database-url", &url]));
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let mut config = scanhook::config::Config::defaults();
        config.database.url.clone_from(&url);
        let store = scanhook::store::Store::open(&config.database).await.expect("opens");
        let now = "2026-01-01T00:00:00Z".parse().expect("a time");
        let id = scanhook::id::AccountId::generate(now, 1, &mut scanhook::random::Chance::from_seed(1).stream("a", ""));
        let account = scanhook::account::Account { id, name: "other".to_owned(), created_at: now, clock_now: None };
        let key = scanhook::account::ApiKey::new("shk_taken");
        store.insert_account(&account, &key.hash()).await.expect("stored");
        store.close().await;
    });
    let mut command = Command::new(env!("CARGO_BIN_EXE_scanhook"));
    command.args(["serve", "--listen", "127.0.0.1:0", "--database-url", &url]);
    let output = command.env("SCANHOOK__AUTH__DEFAULT_KEY", "shk_taken").output().expect("scanhook runs");
    assert_fails(&output, 1, "auth.default_key cannot be used: another account has this API key");
}

#[test]
fn an_authority_file_without_certificates_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("empty.pem");
    std::fs::write(&file, "no certificate\n").expect("written");
    let mut command = Command::new(env!("CARGO_BIN_EXE_scanhook"));
    command.args(["serve", "--ephemeral", "--listen", "127.0.0.1:0"]).env("SCANHOOK__DISPATCH__EXTRA_CA_FILE", &file);
    assert_fails(&command.output().expect("scanhook runs"), 1, "empty.pem has no certificate in PEM");
}

#[test]
fn a_daemon_that_is_not_there_is_named_with_the_way_out() {
    let output = scanhook(&["events", "list", "--url", "http://127.0.0.1:1"]);
    assert_fails(&output, 1, "no scanhook answers at http://127.0.0.1:1/; start it with `scanhook serve`");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_story_is_told_from_the_command_line() {
    let database = Database::sqlite();
    let service = Service::start(&database).await;
    let receiver = Receiver::answering([500, 200]).await;
    let add = [
        "subscribers",
        "add",
        &receiver.url,
        "--vendor",
        "hostedscan",
        "--event-type",
        "risk.*",
        "--retry",
        "5s",
        "--json",
    ];
    let subscriber = text(&json(&against(&service, &add).await)["id"]);
    let content = r#"{"id":   "1"}"#;
    let publish = ["publish", "hostedscan", "risk.opened", content, "--idempotency-key", "k", "--json"];
    let event = json(&against(&service, &publish).await);
    assert_eq!(json(&against(&service, &publish).await)["id"], event["id"]);
    service.dispatch().await;
    let listed = success(&against(&service, &["deliveries", "list", "--status", "rescheduled"]).await);
    let delivery = text(&event["webhooks"][0]["id"]);
    assert!(listed.contains(&delivery) && listed.contains("risk.opened"), "{listed}");
    let shown = success(&against(&service, &["deliveries", "show", &delivery]).await);
    assert!(shown.contains("rejected") && shown.contains(content), "{shown}");
    success(&against(&service, &["deliveries", "redeliver", &delivery]).await);
    service.dispatch().await;
    let shown = success(&against(&service, &["events", "show", &text(&event["id"])]).await);
    assert!(shown.contains("succeeded"), "{shown}");
    assert!(success(&against(&service, &["events", "list"]).await).contains("risk.opened"));
    assert!(success(&against(&service, &["subscribers", "list"]).await).contains(&subscriber));
    assert!(success(&against(&service, &["subscribers", "show", &subscriber]).await).contains("risk.*"));
    success(&against(&service, &["subscribers", "remove", &subscriber]).await);
    assert_fails(&against(&service, &["subscribers", "show", &subscriber]).await, 1, "there is no such subscriber");
    let trigger = ["trigger", "halo", "target-add", "--set", "target_id=7", "--count", "2", "--json"];
    let triggered = json(&against(&service, &trigger).await);
    assert_eq!(triggered["data"][1]["event"]["content"]["target_id"], 7);
    assert!(success(&against(&service, &["trigger", "probely", "--all"]).await).contains("published finding_fixed"));
    assert_fails(
        &against(&service, &["trigger", "halo", "target-gone"]).await,
        1,
        "halo has no event type `target-gone`",
    );
    let refused = against(&service, &["publish", "hostedscan", "risk.new", "{}"]).await;
    assert_fails(&refused, 1, "hostedscan has no event type `risk.new`");
    assert_fails(&against(&service, &["publish", "standard", "a.b", "{"]).await, 1, "the content is not JSON");
    let bad_key = ["publish", "standard", "a.b", "1", "--idempotency-key", "a\nb"];
    assert_fails(&against(&service, &bad_key).await, 1, "idempotency-key has characters that HTTP forbids");
    let bad_key = ["events", "list", "--api-key", "a\nb"];
    assert_fails(&against(&service, &bad_key).await, 1, "the API key has characters that HTTP forbids");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_content_that_is_no_ordinary_json_is_shown_as_it_was_published() {
    let database = Database::sqlite();
    let service = Service::start(&database).await;
    for content in
        [r#"{"n":  1e999}"#, r#"{"s": "\ud800", "n": 1.10}"#, &format!("{}{}", "[".repeat(100), "]".repeat(100))]
    {
        let publish = against(&service, &["publish", "standard", "a.b", content]).await;
        assert!(success(&publish).starts_with("published a.b"), "{content}");
        let list = success(&against(&service, &["events", "list", "--json", "--limit", "1"]).await);
        assert!(list.contains(content), "{content} is not in {list}");
        let id = list.split('"').nth(5).expect("an id").to_owned();
        assert!(success(&against(&service, &["events", "show", &id]).await).contains(content), "{content}");
        assert!(success(&against(&service, &["events", "list"]).await).contains(&id));
    }
}

#[test]
fn an_answer_that_cannot_be_written_is_a_failure() {
    let full = std::fs::File::options().write(true).open("/dev/full").expect("a device that is always full");
    let mut command = Command::new(env!("CARGO_BIN_EXE_scanhook"));
    let output = command.args(["config", "--defaults"]).stdout(full).stderr(Stdio::piped()).output().expect("it runs");
    assert_fails(&output, 1, "cannot write to standard output: No space left");
}

#[test]
fn the_catalogue_is_listed_and_shown_without_a_daemon() {
    let all = json(&scanhook(&["event-types", "--json"]));
    assert_eq!(all["data"].as_array().map(Vec::len), Some(86));
    let listed = success(&scanhook(&["event-types", "halo"]));
    assert!(
        listed.contains("website-cert-risk") && listed.contains("SSL Certificate Risk") && !listed.contains("probely")
    );
    let shown = success(&scanhook(&["event-types", "show", "hostedscan", "risk.opened"]));
    assert!(shown.contains("threat_level") && shown.contains("Documented"), "{shown}");
    assert_fails(&scanhook(&["event-types", "show", "halo", "gone"]), 1, "halo has no event type `gone`");
}

#[test]
fn what_is_signed_by_hand_verifies_by_hand() {
    let directory = tempfile::tempdir().expect("a directory");
    let body = directory.path().join("body.json");
    let body = body.to_str().expect("a path");
    std::fs::write(body, "{\"a\": 1}").expect("written");
    let sign = ["sign", "--vendor", "hostedscan", "--secret", "s3cret", "--timestamp", "1767225600000", body];
    let signed = success(&scanhook(&sign));
    let headers: Vec<&str> = signed.lines().collect();
    assert_eq!(headers[1], "X-HOSTEDSCAN-TIMESTAMP: 1767225600000");
    let verify = [
        "verify",
        "--vendor",
        "hostedscan",
        "--secret",
        "s3cret",
        "--header",
        headers[0],
        "--header",
        headers[1],
        body,
    ];
    assert!(success(&scanhook(&verify)).starts_with("valid\nsigned    22 bytes: 1767225600000.{\"a\": 1}"));
    std::fs::write(body, "{\"a\": 1}\n").expect("written");
    let output = scanhook(&verify);
    assert_fails(&output, 1, "the signature does not verify");
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(told.contains("NOT valid") && told.contains("because   a line break was added"), "{told}");
    assert_fails(&scanhook(&["sign", "--vendor", "probely", "--secret", "s", body]), 1, "probely signs nothing");
    assert_fails(
        &scanhook(&["sign", "--vendor", "standard", "--secret", "s", body]),
        1,
        "the secret must start with `whsec_`",
    );
    assert_fails(
        &scanhook(&["sign", "--vendor", "halo", "--secret", "s", "/no/such"]),
        1,
        "the secret must start with",
    );
    assert_fails(
        &scanhook(&["verify", "--vendor", "hostedscan", "--secret", "s", "--header", "x", body]),
        1,
        "`x` is not a header",
    );
}

#[test]
fn a_reader_that_stops_reading_ends_the_program_quietly() {
    for arguments in [&["event-types"][..], &["config", "--json"], &["config", "--defaults"]] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let mut command = Command::new(env!("CARGO_BIN_EXE_scanhook"));
        let child = command.args(arguments).stdout(writer).stderr(Stdio::piped()).spawn().expect("scanhook runs");
        let output = child.wait_with_output().expect("it ends");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{arguments:?}");
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
    }
}
