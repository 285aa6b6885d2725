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
    assert_eq!(told["requests"], 6);
    let deliveries = told["deliveries"].as_array().expect("a list");
    let attempts = |delivery: &Value| delivery["attempts"].as_array().map(Vec::len);
    assert_eq!(deliveries.iter().map(attempts).collect::<Vec<_>>(), [Some(2), Some(2), Some(1), Some(1)]);
    let shown = success(&scanhook(&["demo"]));
    assert!(shown.contains("all succeeded: true, all signatures verified: true"), "{shown}");
}

#[test]
fn every_command_shows_an_example() {
    for command in [
        &["serve"][..],
        &["demo"],
        &["publish"],
        &["receive"],
        &["migrate"],
        &["config"],
        &["subscribers", "add"],
        &["subscribers", "list"],
        &["subscribers", "show"],
        &["subscribers", "remove"],
        &["events", "list"],
        &["events", "show"],
        &["deliveries", "list"],
        &["deliveries", "show"],
        &["deliveries", "redeliver"],
    ] {
        let help = success(&scanhook(&[command, &["--help"]].concat()));
        assert!(
            help.contains(&format!("scanhook {}", command.join(" "))) && help.contains("Example"),
            "{command:?}: {help}"
        );
        assert!(help.contains("--json"), "{command:?}");
    }
}

#[test]
fn wrong_arguments_are_named_and_exit_with_2() {
    assert_fails(&scanhook(&["serv"]), 2, "unrecognized subcommand 'serv'");
    assert_fails(&scanhook(&["serve", "--ephemeral", "--database-url", "sqlite:a"]), 2, "cannot be used with");
    assert_fails(
        &scanhook(&["publish", "acme", "a.b", "{}"]),
        2,
        "unknown vendor `acme`; known are standard, hostedscan",
    );
    assert_fails(&scanhook(&["receive", "--answers", "503,many"]), 2, "`many` is not an HTTP status");
    assert_fails(&scanhook(&["publish", "standard", "a.b"]), 2, "CONTENT");
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
    let refused = against(&service, &["publish", "hostedscan", "risk.new", "{}"]).await;
    assert_fails(&refused, 1, "hostedscan has no event type `risk.new`");
    assert_fails(&against(&service, &["publish", "standard", "a.b", "{"]).await, 1, "the content is not JSON");
}
