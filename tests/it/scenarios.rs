//! Scenarios: stories told as timed steps.

use std::collections::BTreeSet;
use std::process::{Command, Output};

use scanhook::event::Vendor;
use scanhook::scanner::scenario::{read, shipped};
use scanhook::vendors::dialect;
use serde_json::{Value, json};

use crate::support::{Database, Receiver, Service, on_both_databases, text};

/// Runs a scenario to its end: the run as the API shows it.
async fn run(service: &Service, body: Value) -> Value {
    let started = service.post("/api/v1/scenarios/runs", body).await.expect(201);
    service.live().await;
    service.get(&format!("/api/v1/scenarios/runs/{}", text(&started["id"]))).await.expect(200)
}

const TWO_SCANS: &str = "
name: two-scans
about: Two scans, and an event of its own between them.
targets:
  - { address: shop.example.test, weaknesses: [owasp-zap-missing-hsts] }
steps:
  - scan: { target: shop.example.test, scanner: OWASP_ZAP, as: first, duration: 40m }
  - wait: { for: first }
  - emit:
      vendor: halo
      event_type: issue-add
      set: { scan_id: '{{ first.halo.scan_id }}', detail: 'run {{ run }}: {{ first.state }}' }
  - wait: 1h
  - change: { target: shop.example.test, to: { fix: all } }
  - scan: { target: shop.example.test, scanner: OWASP_ZAP, as: second, duration: 40m }
  - wait: { for: second }
";

on_both_databases! {
    async fn a_story_is_told_step_by_step(database) {
        let service = Service::start(database).await;
        let ended = run(&service, json!({"source": TWO_SCANS, "speed": 60})).await;
        assert_eq!((&ended["state"], &ended["step"], &ended["steps"]), (&json!("completed"), &json!(7), &json!(7)), "{ended}");
        // 40 minutes, an hour and 40 minutes of the story at 60 times the speed.
        assert_eq!(ended["ended_at"].as_str().map(|at| &at[..19]), Some("2026-01-01T00:02:20"));
        let events = service.events().await;
        let halo: Vec<&Value> = events.iter().filter(|event| event["vendor"] == "halo").collect();
        let issues: Vec<&&Value> = halo.iter().filter(|event| event["event_type"] == "issue-add").collect();
        assert_eq!(issues.len(), 2);
        assert_eq!(issues[1]["content"]["scan_id"], issues[0]["content"]["scan_id"], "the expression is the scan's id");
        assert_eq!(issues[1]["content"]["detail"], "run 1: completed");
        let of_type = |event_type: &str| events.iter().filter(|event| event["event_type"] == event_type).count();
        assert_eq!((of_type("risk.opened"), of_type("risk.closed"), of_type("finding_fixed")), (1, 1, 1));
    }

    async fn a_story_goes_on_after_a_restart(database) {
        let service = Service::start(database).await;
        let started = service.post("/api/v1/scenarios/runs", json!({"source": TWO_SCANS, "speed": 60})).await.expect(201);
        service.app.scanner.run_once().await.expect("the scanner goes on");
        service.advance("45s");
        service.app.scanner.run_once().await.expect("the scanner goes on");
        let path = format!("/api/v1/scenarios/runs/{}", text(&started["id"]));
        let half = service.get(&path).await.expect(200);
        assert_eq!((&half["state"], &half["step"]), (&json!("running"), &json!(4)), "{half}");
        drop(service);
        let service = Service::start(database).await;
        service.advance("45s");
        service.live().await;
        assert_eq!(service.get(&path).await.expect(200)["state"], "completed");
        let events = service.events().await;
        let of_type = |event_type: &str| events.iter().filter(|event| event["event_type"] == event_type).count();
        assert_eq!((of_type("scan_started"), of_type("scan_completed"), of_type("risk.closed")), (2, 2, 1));
    }

    async fn every_event_type_of_every_vendor_comes_out_of_the_simulation(database) {
        let service = Service::start(database).await;
        // The storm has a test of its own; late events are emitted, not simulated.
        for scenario in shipped::ALL.iter().filter(|one| !matches!(one.name, "storm" | "late-events")) {
            let account = service.post("/api/v1/accounts", json!({"name": scenario.name})).await.expect(201);
            let mut own = Service::start(database).await;
            own.with_key(account["api_key"].as_str());
            own.clock.advance((service.clock.now() - own.clock.now()).to_std().unwrap_or_default());
            let ended = run(&own, json!({"name": scenario.name, "speed": 1})).await;
            assert_eq!(ended["state"], "completed", "{}: {ended}", scenario.name);
            for event in own.events().await {
                let vendor: Vendor = text(&event["vendor"]).parse().expect("a vendor");
                let known = dialect(vendor).catalogue().and_then(|all| all.get(event["event_type"].as_str()?));
                let known = known.expect("a known event type");
                assert_eq!(known.violations(&event["content"]), [], "{}: {}", scenario.name, known.name);
                seen(vendor, &known.name);
            }
        }
        for vendor in [Vendor::Hostedscan, Vendor::Halo, Vendor::Probely] {
            let all = &dialect(vendor).catalogue().expect("it has one").event_types;
            let missing: Vec<&str> = all.iter().map(|one| one.name.as_str()).filter(|name| !is_seen(vendor, name)).collect();
            assert!(missing.is_empty(), "{vendor}: {missing:?}");
        }
    }

    async fn a_scan_may_end_before_its_start_arrives(database) {
        let service = Service::start(database).await;
        let receiver = Receiver::answering([200]).await;
        service.subscribe_as(json!({"url": receiver.url, "vendor": "probely", "event_types": ["scan_*"]})).await;
        let ended = run(&service, json!({"name": "completed-before-started", "speed": 1})).await;
        assert_eq!(ended["state"], "completed", "{ended}");
        let arrived: Vec<String> = receiver.got().iter().map(|got| {
            let body: Value = serde_json::from_slice(&got.body).expect("JSON");
            text(&body["event_type"])
        }).collect();
        let place = |event_type: &str| arrived.iter().position(|one| one == event_type).expect("it arrived");
        assert!(place("scan_completed") < place("scan_started"), "{arrived:?}");
    }

    async fn a_scenario_with_faults_is_refused_and_leaves_nothing_half_run(database) {
        let service = Service::start(database).await;
        let head = "name: bad\nabout: wrong\ntargets:\n  - { address: shop.example.test }\nsteps:\n";
        for (step, place, reason) in [
            ("  - scan: { target: other.test, scanner: NMAP }", "6:21", "unknown target `other.test`; the story has: shop.example.test"),
            ("  - scna: {}", "6:5", "unknown variant `scna`"),
            ("  - scan: { target: shop.example.test, scanner: ZAP }", "6:", "unknown variant `ZAP`"),
            ("  - scan: { target: shop.example.test, scanner: NMAP, colour: red }", "6:", "unknown field `colour`"),
            ("  - wait: -5m", "6:", "`-5m` is negative"),
            ("  - wait: soon", "6:", "`soon` is not a duration"),
            ("  - wait: { for: later }\n  - scan: { target: shop.example.test, scanner: NMAP, as: later }", "6:", "would wait for itself"),
            ("  - wait: { for: nobody }", "6:", "no scan is named `nobody`"),
            ("  - emit: { vendor: halo, event_type: target-gone }", "6:", "halo has no event type `target-gone`"),
            ("  - emit: { vendor: halo, event_type: target-add, set: { colour: red } }", "6:", "target-add has no field `colour`"),
            ("  - emit: { vendor: halo, event_type: target-add, set: { detail: '{{ nobody.id }}' } }", "6:", "uses `nobody`"),
            ("  - emit: { vendor: halo, event_type: target-add, set: { detail: '{{ now' } }", "6:", "is not an expression"),
            ("  - change: { target: shop.example.test, to: { fix: [sqli] } }", "6:", "unknown weakness `sqli`"),
            ("  - remove_user: riley@example.com", "6:", "unknown user `riley@example.com`"),
            ("  - scan: { target: shop.example.test, scanner: OWASP_ZAP, findings: [nmap-open-tcp-port-22] }", "6:", "is not found by OWASP_ZAP"),
            ("  - scan: { target: shop.example.test, scanner: NMAP, duration: 8d }", "6:", "at most 7 days"),
            ("  - add_user: { email: owner@example.com }", "6:", "is there already"),
            ("  - emit: { vendor: hostedscan, event_type: risk.opened, set: { status: 5 } }", "6:", "status"),
            ("  - pci_report: { name: r, expires_in_days: -9223372036854775808 }", "6:", "from -3650 to 90"),
            ("  - &a [*a]", "6:", ""),
        ] {
            let source = format!("{head}{step}\n");
            let answer = service.post("/api/v1/scenarios/runs", json!({"source": source})).await;
            answer.assert_problem(422, "invalid-field", reason);
            let told = text(&answer.body["errors"][0]["reason"]);
            assert!(told.starts_with(place), "{step}: {told}");
            let lint = service.post("/api/v1/scenarios/lint", json!({"source": source})).await.expect(200);
            assert_eq!(lint["faults"][0]["line"], 6, "{step}: {lint}");
        }
        service.post("/api/v1/scenarios/runs", json!({"name": "no-such"})).await.assert_problem(404, "not-found", "no scenario is called `no-such`");
        service.post("/api/v1/scenarios/runs", json!({})).await.assert_problem(422, "invalid-field", "either the name of a scenario or its source");
        service.post("/api/v1/scenarios/runs", json!({"name": "first-scan", "speed": 0})).await.assert_problem(422, "invalid-field", "must be from 0.001");
        assert_eq!(service.get("/api/v1/targets").await.expect(200)["data"], json!([]));
        assert_eq!(service.get("/api/v1/scenarios/runs").await.expect(200)["data"], json!([]));
        assert_eq!(service.events().await, Vec::<Value>::new());
    }

    async fn a_run_that_cannot_go_on_fails_with_the_place(database) {
        let service = Service::start(database).await;
        let started = service.post("/api/v1/scenarios/runs", json!({"source": TWO_SCANS, "speed": 60})).await.expect(201);
        service.app.scanner.run_once().await.expect("the scanner goes on");
        service.advance("45s");
        service.app.scanner.run_once().await.expect("the scanner goes on");
        let targets = service.get("/api/v1/targets").await.expect(200);
        service.delete(&format!("/api/v1/targets/{}", text(&targets["data"][0]["id"]))).await.expect(204);
        service.live().await;
        let run = service.get(&format!("/api/v1/scenarios/runs/{}", text(&started["id"]))).await.expect(200);
        assert_eq!((&run["state"], &run["error"]), (&json!("failed"), &json!("step 5 (line 14): there is no target `shop.example.test` in this account")));
    }

    async fn an_expression_that_grows_without_bound_fails_its_run_and_nothing_else(database) {
        let service = Service::start(database).await;
        let source = "name: bomb\nabout: too much\nsteps:\n  - emit: { vendor: standard, event_type: a.b, count: 1000, content: { a: \"{{ 'x' * 50000000 }}\" } }\n";
        let ended = run(&service, json!({"source": source})).await;
        assert_eq!(ended["state"], "failed");
        assert!(text(&ended["error"]).contains("worth more than 65536 bytes"), "{ended}");
        assert_eq!(service.events().await, Vec::<Value>::new());
    }

    async fn what_many_steps_emit_is_not_one_change(database) {
        let service = Service::start(database).await;
        let step = "  - emit: { vendor: standard, event_type: a.b, count: 600, content: { a: 1 } }\n";
        let source = format!("name: many\nabout: many events\nsteps:\n{}", step.repeat(5));
        service.post("/api/v1/scenarios/runs", json!({"source": source})).await.expect(201);
        let changes = service.app.scanner.run_once().await.expect("the scanner goes on");
        assert_eq!((changes, service.events().await.len()), (3, 3_000));
    }

    async fn a_run_is_cancelled_once(database) {
        let service = Service::start(database).await;
        let started = service.post("/api/v1/scenarios/runs", json!({"name": "first-scan"})).await.expect(201);
        let path = format!("/api/v1/scenarios/runs/{}/cancel", text(&started["id"]));
        service.post_raw(&path, "application/json", "").await.expect(204);
        service.post_raw(&path, "application/json", "").await.assert_problem(404, "not-found", "running run");
        service.live().await;
        let events = service.events().await;
        assert!(events.iter().all(|event| event["object_type"] != "scan"), "{events:?}");
    }
}

thread_local! {
    /// The event types that this test has seen; each database's test runs on a thread of its own.
    static SEEN: std::cell::RefCell<BTreeSet<(String, String)>> = const { std::cell::RefCell::new(BTreeSet::new()) };
}

fn seen(vendor: Vendor, event_type: &str) {
    SEEN.with_borrow_mut(|seen| seen.insert((vendor.to_string(), event_type.to_owned())));
}

fn is_seen(vendor: Vendor, event_type: &str) -> bool {
    SEEN.with_borrow(|seen| seen.contains(&(vendor.to_string(), event_type.to_owned())))
}

#[test]
fn every_shipped_scenario_reads_well_and_is_called_as_its_file() {
    assert!(shipped::ALL.len() >= 14);
    for scenario in shipped::ALL {
        let read = read(scenario.source).unwrap_or_else(|faults| panic!("{}: {faults:?}", scenario.name));
        assert_eq!(read.name.value, scenario.name);
        assert!(read.about.len() > 20, "{}", scenario.name);
    }
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/scenarios");
    let files = std::fs::read_dir(folder).expect("a folder").count();
    assert_eq!(files, shipped::ALL.len(), "a file under examples/scenarios is not in the list");
}

async fn scanhook(arguments: Vec<String>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_scanhook"));
    let run = move || command.args(arguments).output().expect("scanhook runs");
    tokio::task::spawn_blocking(run).await.expect("no panic")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_seed_gives_the_same_ledger_on_both_databases() {
    let directory = tempfile::tempdir().expect("a directory");
    let postgres = Database::postgres().await;
    let (file, ledger) = (Database::sqlite(), |name: &str| directory.path().join(name).display().to_string());
    let tell = async |seed: &str, ledger: &str, database: Option<&str>| {
        let arguments =
            ["scenario", "run", "rescan-closes-risks", "--seed", seed, "--answers", "503,200", "--ledger", ledger];
        let mut arguments: Vec<String> = arguments.map(str::to_owned).to_vec();
        if let Some(url) = database {
            arguments.extend(["--database-url".to_owned(), url.to_owned()]);
        }
        let output = scanhook(arguments).await;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        std::fs::read_to_string(ledger).expect("a ledger")
    };
    let first = tell("42", &ledger("first"), None).await;
    let lines: Vec<Value> = first.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let attempts = lines.iter().filter(|line| line["kind"] == "attempt").count();
    let events = lines.iter().filter(|line| line["kind"] == "event").count();
    // Each of the four receivers refuses its first request.
    assert!(events > 20 && attempts == events + 4, "{events} events, {attempts} attempts");
    let refused = lines.iter().find(|line| line["status"] == 503).expect("a refused attempt");
    assert_eq!((&refused["number"], &refused["outcome"]), (&json!(1), &json!("rejected")));
    assert_eq!(tell("42", &ledger("second"), None).await, first);
    assert_eq!(tell("42", &ledger("file"), Some(&file.url)).await, first);
    assert_eq!(tell("42", &ledger("postgres"), Some(&postgres.url)).await, first);
    assert_ne!(tell("43", &ledger("other"), None).await, first);
    let again = ["scenario", "run", "first-scan", "--seed", "1", "--database-url", &file.url];
    let refused = scanhook(again.map(str::to_owned).to_vec()).await;
    let error = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && error.contains("the database is not empty"), "{error}");
    postgres.remove().await;
}

#[tokio::test]
async fn faults_are_told_on_the_command_line_with_file_line_and_column() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("bad.yaml").display().to_string();
    std::fs::write(&path, "name: bad\nabout: wrong\nsteps:\n  - wait: -5m\n  - wait: { for: me }\n").expect("written");
    for command in ["lint", "run"] {
        let output = scanhook(vec!["scenario".to_owned(), command.to_owned(), path.clone()]).await;
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{error}");
        for part in [format!("{path}:4:5: `-5m` is negative"), format!("{path}:5:5: no scan is named `me`")] {
            assert!(error.contains(&part), "{part} is not in {error}");
        }
    }
    let shown = scanhook(["scenario", "list", "--show", "first-scan"].map(str::to_owned).to_vec()).await;
    assert!(String::from_utf8_lossy(&shown.stdout).starts_with("name: first-scan"));
    let unknown = scanhook(["scenario", "run", "no-such"].map(str::to_owned).to_vec()).await;
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("no file and no scenario called `no-such`"));
}
