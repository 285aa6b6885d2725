//! The simulated world: scans, schedules, and what must hold over many seeds.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rand::Rng;
use scanhook::clock::Clock;
use scanhook::config::Seed;
use scanhook::event::Vendor;
use scanhook::id::ObjectId;
use scanhook::scanner::change::{Change, Fix, change_target};
use scanhook::scanner::hold;
use scanhook::scanner::life::{self, NewScan};
use scanhook::scanner::targets::{NewTarget, add_target, remove_target};
use scanhook::scanner::weaknesses::Findings;
use scanhook::scanner::{Rules, hand};
use scanhook::vendors::dialect;
use scanhook::world::{About, Changes, Fact, Outcome, Scanner, Settings, WeaknessState, What, World};
use serde_json::{Value, json};

use crate::support::{Receiver, Service, on_both_databases, spawn, start_time, test_config, text};

/// The types of a vendor's events, in order.
fn types(events: &[Value], vendor: &str) -> Vec<String> {
    events.iter().filter(|event| event["vendor"] == vendor).map(|event| text(&event["event_type"])).collect()
}

fn count(types: &[String], event_type: &str) -> usize {
    types.iter().filter(|one| *one == event_type).count()
}

async fn add_shop(service: &Service, weaknesses: Value) -> String {
    let target = json!({"address": "shop.example.test", "tags": ["prod"], "weaknesses": weaknesses});
    text(&service.post("/api/v1/targets", target).await.expect(201)["id"])
}

async fn scan(service: &Service, more: Value) -> Value {
    let mut scan = json!({"target": "shop.example.test", "scanner": "OWASP_ZAP"});
    for (field, value) in more.as_object().expect("an object") {
        scan[field] = value.clone();
    }
    service.post("/api/v1/scans", scan).await.expect(201)
}

const THREE: [&str; 3] = ["owasp-zap-missing-hsts", "owasp-zap-missing-csp", "nmap-open-tcp-port-22"];

on_both_databases! {
    async fn one_scan_tells_all_three_vendors_of_the_same_findings(database) {
        let service = Service::start(database).await;
        let receivers = [Receiver::answering([200]).await, Receiver::answering([200]).await, Receiver::answering([200]).await];
        for (receiver, vendor) in receivers.iter().zip(["hostedscan", "halo", "probely"]) {
            service.subscribe_as(json!({"url": receiver.url, "vendor": vendor})).await;
        }
        add_shop(&service, json!(THREE)).await;
        let started = scan(&service, json!({"duration": "40m"})).await;
        assert_eq!((&started["state"], &started["progress"]), (&json!("queued"), &json!(0)));
        service.live().await;
        assert_eq!((service.clock.now() - start_time()).num_minutes(), 40);
        let ended = service.get(&format!("/api/v1/scans/{}", text(&started["id"]))).await.expect(200);
        assert_eq!((&ended["state"], &ended["new"], &ended["first"]), (&json!("completed"), &json!(2), &json!(true)));
        let bodies = |index: usize| -> Vec<Value> {
            receivers[index].got().iter().map(|got| serde_json::from_slice(&got.body).expect("JSON")).collect()
        };
        let titles = |bodies: &[Value], type_field: &str, wanted: &str, pointer: &str| -> BTreeSet<String> {
            let of_type = bodies.iter().filter(|body| body[type_field] == wanted);
            of_type.map(|body| text(body.pointer(pointer).expect("a title"))).collect()
        };
        let hostedscan = titles(&bodies(0), "type", "risk.opened", "/data/risk_definition/title");
        let halo = titles(&bodies(1), "key", "issue-add", "/issue_name");
        let probely = titles(&bodies(2), "event_type", "finding_detected", "/content/definition/name");
        assert_eq!(hostedscan.len(), 2);
        assert_eq!((&hostedscan, &hostedscan), (&halo, &probely));
        let keys = types(&service.events().await, "halo");
        assert_eq!((&*keys[0], &*keys[1], keys.last().map(String::as_str)), ("target-add", "target-scan-start", Some("target-scan-first")));
        let counters = bodies(2).into_iter().find(|body| body["event_type"] == "scan_completed").expect("it completed");
        let sum: u64 = ["lows", "mediums", "highs", "criticals"].iter().filter_map(|one| counters["content"][one].as_u64()).sum();
        assert_eq!(sum, 2);
    }

    async fn a_fix_closes_and_a_return_opens_again(database) {
        let service = Service::start(database).await;
        let target = add_shop(&service, json!(THREE)).await;
        scan(&service, json!({})).await;
        service.live().await;
        let fix = json!({"weaknesses": ["owasp-zap-missing-hsts"]});
        service.post(&format!("/api/v1/targets/{target}/fix"), fix).await.expect(200);
        let before = service.events().await.len();
        scan(&service, json!({})).await;
        service.live().await;
        let second = service.events().await.split_off(before);
        assert_eq!(types(&second, "hostedscan"), ["scan.created", "scan.updated", "scan.updated", "scan.updated", "scan.updated", "risk.closed", "risk.updated", "scan.succeeded", "scan.updated"]);
        assert_eq!(types(&second, "probely"), ["scan_started", "finding_fixed", "scan_completed"]);
        assert_eq!(types(&second, "halo"), ["target-scan-start", "target-scan-finish"]);
        service.patch(&format!("/api/v1/targets/{target}"), json!({"introduce": ["owasp-zap-missing-hsts"]})).await.expect(200);
        let before = service.events().await.len();
        scan(&service, json!({})).await;
        service.live().await;
        let third = service.events().await.split_off(before);
        let opened = third.iter().find(|event| event["event_type"] == "risk.opened").expect("it opens again");
        let closed = second.iter().find(|event| event["event_type"] == "risk.closed").expect("it was closed");
        assert_eq!(opened["content"]["id"], closed["content"]["id"], "it is the same risk");
        assert_eq!(count(&types(&third, "probely"), "finding_detected"), 0, "only the first detection is told");
        let weaknesses = service.get(&format!("/api/v1/targets/{target}/weaknesses?limit=250")).await.expect(200);
        let states: BTreeMap<String, Value> = weaknesses["data"].as_array().expect("a list").iter().map(|one| (text(&one["weakness"]), one["state"].clone())).collect();
        assert_eq!((&states[THREE[0]], &states[THREE[2]]), (&json!("open"), &json!("latent")));
    }

    async fn a_failed_scan_says_nothing_in_the_classic_vocabulary(database) {
        let service = Service::start(database).await;
        add_shop(&service, json!([])).await;
        let failed = scan(&service, json!({"outcome": "failed", "reason": "Out of memory"})).await;
        service.live().await;
        let shown = service.get(&format!("/api/v1/scans/{}", text(&failed["id"]))).await.expect(200);
        assert_eq!((&shown["state"], &shown["reason"]), (&json!("failed"), &json!("Out of memory")));
        let events = service.events().await;
        let hostedscan = types(&events, "hostedscan");
        assert_eq!((hostedscan.first(), count(&hostedscan, "scan.succeeded")), (Some(&"scan.created".to_owned()), 0));
        let last = events.iter().rfind(|event| event["event_type"] == "scan.updated").expect("an update");
        assert_eq!(last["content"]["state"], "FAILED");
        assert_eq!(count(&types(&events, "probely"), "scan_failed"), 1);
        assert_eq!(count(&types(&events, "halo"), "target-scan-failed"), 1);
    }

    async fn a_scan_of_an_odd_length_goes_on(database) {
        let service = Service::start(database).await;
        add_shop(&service, json!(THREE)).await;
        // Databases keep microseconds; what is due in between must not be taken for something else.
        let started = scan(&service, json!({"duration": "1s 333333333ns"})).await;
        service.live().await;
        let shown = service.get(&format!("/api/v1/scans/{}", text(&started["id"]))).await.expect(200);
        assert_eq!(shown["state"], "completed");
    }

    async fn a_cancelled_scan_ends_at_once_and_cannot_be_cancelled_again(database) {
        let service = Service::start(database).await;
        add_shop(&service, json!(THREE)).await;
        let started = scan(&service, json!({"duration": "1h"})).await;
        service.advance("30m");
        service.app.scanner.run_once().await.expect("the scanner goes on");
        let path = format!("/api/v1/scans/{}/cancel", text(&started["id"]));
        let cancelled = service.post_raw(&path, "application/json", "").await.expect(200);
        assert_eq!((&cancelled["state"], &cancelled["progress"]), (&json!("cancelled"), &json!(50)));
        service.post_raw(&path, "application/json", "").await.assert_problem(409, "state-conflict", "has ended");
        service.live().await;
        assert_eq!(types(&service.events().await, "probely"), ["target_created", "scan_started", "finding_detected", "scan_canceled"]);
    }

    async fn a_target_that_is_removed_takes_its_running_scans_with_it(database) {
        let service = Service::start(database).await;
        let id = add_shop(&service, json!([])).await;
        let running = scan(&service, json!({})).await;
        service.delete(&format!("/api/v1/targets/{id}")).await.expect(204);
        service.get(&format!("/api/v1/targets/{id}")).await.assert_problem(404, "not-found", "no such target");
        service.live().await;
        let shown = service.get(&format!("/api/v1/scans/{}", text(&running["id"]))).await.expect(200);
        assert_eq!(shown["state"], "cancelled");
        assert_eq!(types(&service.events().await, "probely"), ["target_created", "scan_canceled", "target_deleted"]);
        add_shop(&service, json!([])).await;
    }

    async fn a_scan_goes_on_after_a_restart(database) {
        let service = Service::start(database).await;
        add_shop(&service, json!(THREE)).await;
        let started = scan(&service, json!({"duration": "40m"})).await;
        service.advance("15m");
        service.app.scanner.run_once().await.expect("the scanner goes on");
        drop(service);
        let again = Service::start(database).await;
        again.advance("15m");
        again.live().await;
        let shown = again.get(&format!("/api/v1/scans/{}", text(&started["id"]))).await.expect(200);
        assert_eq!((&shown["state"], &shown["new"]), (&json!("completed"), &json!(2)));
        assert_eq!(count(&types(&again.events().await, "hostedscan"), "risk.opened"), 2);
    }

    async fn a_tick_fires_once_though_two_processes_wait_for_it(database) {
        let (first, second) = (Service::start(database).await, Service::start(database).await);
        add_shop(&first, json!([])).await;
        let schedule = json!({"cron": "0 */5 * * * *", "target": "shop.example.test", "scanner": "OWASP_ZAP", "duration": "1m"});
        let added = first.post("/api/v1/schedules", schedule).await.expect(201);
        assert_eq!(added["next_tick"], "2026-01-01T00:05:00.000000Z");
        for _ in 0..4 {
            first.advance("5m");
            second.advance("5m");
            let (one, other) = (Arc::clone(&first.app.scanner), Arc::clone(&second.app.scanner));
            let runs = [spawn(async move { one.run_once().await }), spawn(async move { other.run_once().await })];
            for run in runs {
                run.await.expect("no panic").expect("the scanner goes on");
            }
        }
        let scans = first.get("/api/v1/scans").await.expect(200);
        assert_eq!(scans["data"].as_array().map(Vec::len), Some(4));
        assert_eq!(count(&types(&first.events().await, "hostedscan"), "scan.created"), 4);
    }

    async fn missed_ticks_are_run_once_or_skipped(database) {
        let service = Service::start(database).await;
        add_shop(&service, json!([])).await;
        for missed in ["run_once", "skip"] {
            let schedule = json!({
                "cron": "0 0 * * * *", "target": "shop.example.test", "scanner": "NMAP", "missed": missed, "duration": "1m",
            });
            let id = text(&service.post("/api/v1/schedules", schedule).await.expect(201)["id"]);
            let before = service.get("/api/v1/scans").await.expect(200)["data"].as_array().map_or(0, Vec::len);
            service.advance("5h 30m");
            service.app.scanner.run_once().await.expect("the scanner goes on");
            let after = service.get("/api/v1/scans").await.expect(200)["data"].as_array().map_or(0, Vec::len);
            assert_eq!(after - before, usize::from(missed == "run_once"));
            let listed = service.get("/api/v1/schedules").await.expect(200);
            let next = text(&listed["data"][0]["next_tick"]);
            assert!(next > scanhook::clock::format_time(service.clock.now()), "{next}");
            service.delete(&format!("/api/v1/schedules/{id}")).await.expect(204);
        }
        service.advance("1d");
        let before = service.get("/api/v1/scans").await.expect(200);
        service.app.scanner.run_once().await.expect("the scanner goes on");
        let ids = |list: &Value| list["data"].as_array().map_or(0, Vec::len);
        assert_eq!(ids(&service.get("/api/v1/scans").await.expect(200)), ids(&before));
    }

    async fn the_schedules_of_the_settings_are_there_and_go_with_them(database) {
        let mut config = test_config(database);
        config.scanner.schedule = serde_json::from_value(json!([
            {"cron": "0 0 3 * * *", "timezone": "Europe/Lisbon", "target": "a.example.test", "scanner": "NMAP"},
            {"cron": "0 0 4 * * *", "target": "b.example.test", "scanner": "SSLYZE", "mix": {"completed": 1.0, "failed": 1.0}},
        ])).expect("schedules");
        let service = Service::start_with(config.clone()).await;
        let list = service.get("/api/v1/schedules").await.expect(200);
        assert_eq!(list["data"].as_array().map(Vec::len), Some(2));
        drop(service);
        config.scanner.schedule.remove(0);
        let service = Service::start_with(config).await;
        let list = service.get("/api/v1/schedules").await.expect(200);
        assert_eq!((list["data"].as_array().map(Vec::len), &list["data"][0]["target"]), (Some(1), &json!("b.example.test")));
        assert_eq!(service.get("/api/v1/targets").await.expect(200)["data"].as_array().map(Vec::len), Some(2));
    }

    async fn an_outcome_is_drawn_by_its_weight(database) {
        let service = Service::start(database).await;
        add_shop(&service, json!([])).await;
        let schedule = json!({
            "cron": "0 * * * * *", "target": "shop.example.test", "scanner": "SSLYZE", "duration": "10s",
            "mix": {"completed": 1.0, "failed": 1.0, "cancelled": 0.0},
        });
        service.post("/api/v1/schedules", schedule).await.expect(201);
        for _ in 0..120 {
            service.advance("30s");
            service.app.scanner.run_once().await.expect("the scanner goes on");
        }
        let scans = service.get("/api/v1/scans?limit=250").await.expect(200);
        let states: Vec<&Value> = scans["data"].as_array().expect("a list").iter().map(|scan| &scan["state"]).collect();
        let count = |state: &str| states.iter().filter(|one| ***one == state).count();
        assert_eq!((states.len(), count("cancelled")), (60, 0));
        assert!((15..45).contains(&count("failed")) && (15..45).contains(&count("completed")), "{states:?}");
    }

    async fn a_storm_of_5000_risks_is_published_and_delivered(database) {
        let service = Service::start(database).await;
        let receiver = Receiver::answering([200]).await;
        service.subscribe_as(json!({"url": receiver.url, "vendor": "hostedscan", "event_types": ["risk.opened", "scan.succeeded"]})).await;
        add_shop(&service, json!(5_000)).await;
        let started = scan(&service, json!({"scanner": "OPENVAS", "findings": 5_000, "vendors": ["hostedscan"]})).await;
        service.live().await;
        let shown = service.get(&format!("/api/v1/scans/{}", text(&started["id"]))).await.expect(200);
        assert_eq!((&shown["state"], &shown["new"]), (&json!("completed"), &json!(5_000)));
        assert_eq!(receiver.count(), 5_001);
        let ids: BTreeSet<String> = receiver.got().iter().map(|got| {
            let body: Value = serde_json::from_slice(&got.body).expect("JSON");
            text(&body["data"]["id"])
        }).collect();
        assert_eq!(ids.len(), 5_001);
    }

    async fn users_come_and_go(database) {
        let service = Service::start(database).await;
        service.post("/api/v1/users", json!({"email": "riley@example.com", "name": "Riley Example"})).await.expect(201);
        service.post("/api/v1/users", json!({"email": "riley@example.com"})).await.assert_problem(409, "state-conflict", "already");
        service.post("/api/v1/users", json!({"email": "@"})).await.assert_problem(422, "invalid-field", "not an e-mail address");
        service.post("/api/v1/users", json!({"email": "riley"})).await.assert_problem(422, "invalid-field", "not an e-mail address");
        service.post_raw("/api/v1/users/riley@example.com/keys", "application/json", "").await.expect(204);
        service.delete("/api/v1/users/riley@example.com").await.expect(204);
        service.delete("/api/v1/users/riley@example.com").await.assert_problem(404, "not-found", "no user `riley@example.com`");
        let events = service.events().await;
        assert_eq!(types(&events, "probely"), ["user_created", "user_deleted"]);
        assert_eq!(types(&events, "halo"), ["account-user-add", "account-apikey-add"]);
    }

    async fn accounts_have_worlds_of_their_own(database) {
        let mut service = Service::start(database).await;
        add_shop(&service, json!([])).await;
        let account = service.post("/api/v1/accounts", json!({"name": "other"})).await.expect(201);
        service.with_key(account["api_key"].as_str());
        assert_eq!(service.get("/api/v1/targets").await.expect(200)["data"], json!([]));
        add_shop(&service, json!([])).await;
        scan(&service, json!({})).await;
        service.live().await;
        service.with_key(None);
        assert_eq!(service.get("/api/v1/scans").await.expect(200)["data"], json!([]));
        assert_eq!(types(&service.events().await, "probely"), ["target_created"]);
    }

    async fn an_account_with_much_to_do_does_not_stand_before_the_others(database) {
        let mut service = Service::start(database).await;
        add_shop(&service, json!([])).await;
        for _ in 0..70 {
            scan(&service, json!({"duration": "1m"})).await;
        }
        let account = service.post("/api/v1/accounts", json!({"name": "other"})).await.expect(201);
        service.with_key(account["api_key"].as_str());
        add_shop(&service, json!([])).await;
        let late = scan(&service, json!({"duration": "2m"})).await;
        service.advance("1h");
        let due = service.app.store.due_timers(service.clock.now(), 64).await.expect("the database answers");
        assert_eq!(due.len(), 2, "the earliest of each account: {due:?}");
        assert_eq!(due[1].1.subject.to_string(), text(&late["id"]));
    }

    async fn what_is_removed_is_not_kept_in_mind(database) {
        let service = Service::start(database).await;
        let id = add_shop(&service, json!(200)).await;
        service.delete(&format!("/api/v1/targets/{id}")).await.expect(204);
        let world = service.app.scanner.world(scanhook::id::AccountId::DEFAULT).await.expect("a world");
        assert_eq!(world.objects().count(), 1, "only the owner is left");
        let stored = service.app.store.world(scanhook::id::AccountId::DEFAULT).await.expect("a world").expect("it is stored");
        assert_eq!(stored.objects().count(), 1);
    }

    async fn what_cannot_be_changed_is_refused_with_the_reason(database) {
        let service = Service::start(database).await;
        let path = format!("/api/v1/targets/{}", add_shop(&service, json!([])).await);
        for (change, detail) in [
            (json!({"open_port": [8080]}), "expected an object"),
            (json!({"open_port": {"port": 99999}}), "invalid value"),
            (json!({"open_port": {"port": 0}}), "port must be from 1"),
            (json!({"open_port": {"port": 1, "protocol": "smoke"}}), "protocol must be tcp or udp"),
            (json!({"banner": {"port": 9}}), "port 9 is not open"),
            (json!({"certificate": {"risk": 9}}), "risk must be from 1 to 3"),
            (json!({"certificate": {"expires_in": "soon"}}), "`soon` is not a duration"),
            (json!({"fix": "some"}), "neither `all` nor a list of weaknesses"),
            (json!({"introduce": ["sqli"]}), "unknown weakness `sqli`"),
            (json!({"element": {"kind": "picture", "name": "a"}}), "unknown variant `picture`"),
            (json!({"colour": "red"}), "unknown field `colour`"),
        ] {
            service.patch(&path, change.clone()).await.assert_problem(422, "invalid-field", detail);
        }
    }

    async fn what_cannot_be_scanned_is_refused_with_the_reason(database) {
        let service = Service::start(database).await;
        let target = |field: &str, value: Value| {
            let mut target = json!({"address": "a.example.test"});
            target[field] = value;
            target
        };
        for (body, detail) in [
            (target("address", json!("not a host")), "`not a host` is neither a host name nor an IP address"),
            (target("address", json!("ftp://a.test/")), "is not an http or https URL"),
            (target("address", json!("10.0.0.0/99")), "is not a network"),
            (target("kind", json!("planet")), "unknown variant `planet`"),
            (target("weaknesses", json!(["sqli"])), "unknown weakness `sqli`; did you mean"),
            (target("weaknesses", json!(1_000_000)), "at most 20000"),
            (target("tags", json!(vec!["a"; 11])), "are more than 10"),
            (target("colour", json!("red")), "unknown field `colour`"),
        ] {
            service.post("/api/v1/targets", body.clone()).await.assert_problem(422, "invalid-field", detail);
        }
        add_shop(&service, json!([])).await;
        let twice = service.post("/api/v1/targets", json!({"address": "shop.example.test"})).await;
        twice.assert_problem(409, "state-conflict", "there is a target `shop.example.test` already");
        for (field, value, detail) in [
            ("scanner", json!("ZAP"), "unknown variant `ZAP`"),
            ("duration", json!("soon"), "`soon` is not a duration"),
            ("duration", json!("30days"), "longer than 7 days"),
            ("outcome", json!("lost"), "unknown variant `lost`"),
            ("findings", json!(["nmap-open-tcp-port-22"]), "is not found by OWASP_ZAP"),
            ("vendors", json!(["standard"]), "has no words of its own"),
            ("vendors", json!(["halo", "halo"]), "each once"),
            ("vendors", json!([]), "at least one vendor"),
        ] {
            let mut scan = json!({"target": "shop.example.test", "scanner": "OWASP_ZAP"});
            scan[field] = value;
            service.post("/api/v1/scans", scan).await.assert_problem(422, "invalid-field", detail);
        }
        for (field, value, detail) in [
            ("cron", json!("0 0 0 30 2 *"), "never fires"),
            ("cron", json!("often"), "is not a cron expression"),
            ("timezone", json!("Mars/Base"), "is not a time zone"),
            ("target", json!("b.example.test"), "there is no target `b.example.test`"),
            ("drift", json!(2), "must be from 0 to 1"),
            ("duration", json!("8d"), "longer than 7 days"),
            ("mix", json!({"completed": 1e308, "failed": 1e308}), "must be weights"),
            ("mix", json!({"completed": -1}), "must be weights"),
        ] {
            let mut schedule = json!({"cron": "0 * * * * *", "target": "shop.example.test", "scanner": "NMAP"});
            schedule[field] = value;
            service.post("/api/v1/schedules", schedule).await.assert_problem(422, "invalid-field", detail);
        }
        for (path, what) in [("scans", "scan"), ("targets", "target")] {
            service.get(&format!("/api/v1/{path}/1C6sYRbTAvYTB1LMvsHH9S")).await.assert_problem(404, "not-found", what);
        }
        assert_eq!(service.get("/api/v1/scans").await.expect(200)["data"], json!([]));
        assert_eq!(types(&service.events().await, "probely"), ["target_created"]);
    }
}

/// What facts have told of one world so far, in the words of what must hold.
#[derive(Default)]
struct Told {
    targets: BTreeSet<String>,
    gone: BTreeSet<String>,
    open: BTreeSet<String>,
    seen: BTreeSet<String>,
    found_by_scan: BTreeMap<String, usize>,
    ended: BTreeSet<String>,
}

impl Told {
    fn hear(&mut self, fact: &Fact, seed: u64) {
        if let Some(scan) = fact.what.scan() {
            let (scan, target) = (scan.id.to_string(), scan.target_id.to_string());
            assert!(self.targets.contains(&target), "seed {seed}: {scan} is of a target that is not there");
            let is_main = |about: &About| about.target.id.to_string() == target;
            // For further targets the same end is told again.
            let is_again = matches!(&fact.what, What::ScanCompleted(_, about) | What::ScanFailed(_, about) | What::ScanCancelled(_, about) if !is_main(about));
            let goes_on = self.ended.contains(&scan) && !is_again;
            assert!(!goes_on, "seed {seed}: {scan} goes on after its end: {:?}", fact.what);
        }
        match &fact.what {
            What::TargetAdded(about) => assert!(self.targets.insert(about.target.id.to_string())),
            What::TargetRemoved(about) => assert!(self.gone.insert(about.target.id.to_string())),
            What::WeaknessDetected(weakness, scan, _) => {
                assert!(self.seen.insert(weakness.id.to_string()), "seed {seed}: detected for the first time twice");
                assert!(self.open.insert(weakness.id.to_string()));
                *self.found_by_scan.entry(scan.id.to_string()).or_default() += 1;
            }
            What::WeaknessReturned(weakness, scan, _) => {
                assert!(self.seen.contains(&weakness.id.to_string()), "seed {seed}: returned before it was found");
                assert!(self.open.insert(weakness.id.to_string()), "seed {seed}: opened while it is open");
                *self.found_by_scan.entry(scan.id.to_string()).or_default() += 1;
            }
            What::WeaknessFixed(weakness, ..) => {
                assert!(self.open.remove(&weakness.id.to_string()), "seed {seed}: closed and not open");
            }
            // What is told for further targets is the same again.
            What::ScanCompleted(scan, about) | What::ScanFailed(scan, about) | What::ScanCancelled(scan, about)
                if about.target.id != scan.target_id => {}
            What::ScanCompleted(scan, about) => {
                let id = scan.id.to_string();
                assert_eq!(self.found_by_scan.remove(&id).unwrap_or_default(), scan.new.len(), "seed {seed}");
                assert_eq!(scan.counts.total() as usize, scan.new.len() + scan.again.len(), "seed {seed}");
                assert_eq!(about.target.id, scan.target_id);
                self.ended.insert(id);
            }
            What::ScanFailed(scan, _) | What::ScanCancelled(scan, _) => assert!(self.ended.insert(scan.id.to_string())),
            _ => (),
        }
    }
}

/// Checks every event that a fact makes, against its schema.
fn check_events(fact: &Fact, world: &World, seed: u64, types: &mut BTreeSet<(&'static str, &'static str)>) {
    for vendor in [Vendor::Hostedscan, Vendor::Halo, Vendor::Probely] {
        let dialect = dialect(vendor);
        for told in dialect.tell(fact, world) {
            let event_type = dialect.catalogue().and_then(|all| all.get(told.event_type)).expect("a known event type");
            assert_eq!(event_type.violations(&told.content), [], "seed {seed}: {vendor} {}", told.event_type);
            types.insert((vendor.as_str(), told.event_type));
        }
    }
}

/// The ids that each vendor has told of so far.
#[derive(Default)]
struct Ids(BTreeSet<String>);

impl Ids {
    /// Checks that whatever an event refers to has been told of, and remembers what it introduces.
    fn follow(&mut self, fact: &Fact, world: &World, seed: u64) {
        for told in dialect(Vendor::Probely).tell(fact, world) {
            let content = &told.content;
            let own = format!("{}/{}", told.event_type.split('_').next().unwrap_or_default(), content["id"]);
            let mut needed = Vec::new();
            match told.event_type {
                "user_created" | "target_created" | "scan_started" => drop(self.0.insert(own)),
                "scan_canceled" | "scan_failed" if content["started"].is_null() => (),
                "finding_detected" => {
                    needed.extend(content["scans"].as_array().into_iter().flatten().map(|scan| format!("scan/{scan}")));
                    self.0.insert(format!("{own} of {}", content["target"]["id"]));
                }
                "finding_fixed" => needed.push(format!("{own} of {}", content["target"]["id"])),
                _ => needed.push(own),
            }
            if content["target"]["id"].is_string() {
                needed.push(format!("target/{}", content["target"]["id"]));
            }
            for id in needed {
                assert!(self.0.contains(&id), "seed {seed}: {} refers to {id}", told.event_type);
            }
        }
        for told in dialect(Vendor::Halo).tell(fact, world) {
            let content = &told.content;
            let target = ["target_id", "domain_id", "network_id"]
                .into_iter()
                .map(|name| &content[name])
                .find(|id| !id.is_null());
            let target = target.map(|id| format!("halo/target/{id}"));
            let scan = content.get("scan_id").map(|id| format!("halo/scan/{id}"));
            if told.event_type.ends_with("-add") && scan.is_none() {
                self.0.extend(target);
            } else if told.event_type.ends_with("-scan-start") {
                self.0.extend(scan);
            } else {
                // A scan that fails before it starts has not been told of.
                let needed = target.into_iter().chain(scan.filter(|_| told.event_type != "target-scan-failed"));
                for id in needed {
                    assert!(self.0.contains(&id), "seed {seed}: {} refers to {id}", told.event_type);
                }
            }
        }
    }
}

/// One thing that may be done to a world, drawn by chance.
fn act(world: &mut World, rules: Rules<'_>, rng: &mut impl Rng) {
    let at = rules.now;
    let targets: Vec<_> = world.targets().map(|target| target.id).collect();
    let one = targets.get(rng.next_u32() as usize % targets.len().max(1)).copied();
    let address =
        ["a.example.test", "https://b.example.test/app", "192.0.2.0/28", "example.test"][rng.next_u32() as usize % 4];
    match (rng.next_u32() % 10, one) {
        (0, _) | (_, None) => {
            drop(add_target(world, NewTarget { address: address.to_owned(), ..NewTarget::default() }, at))
        }
        (1, Some(id)) if targets.len() > 2 => remove_target(world, id, at).expect("it is there"),
        (2, Some(id)) => {
            let change = Change { fix: Some(Fix::Word("all".to_owned())), ..Change::default() };
            change_target(world, id, &change, at).expect("it is there");
        }
        (3, Some(id)) => {
            let change = Change { introduce: Some(Findings::Count(rng.next_u32() % 40)), ..Change::default() };
            change_target(world, id, &change, at).expect("it is there");
        }
        (4, Some(id)) => {
            let change = Change { reachable: Some(rng.next_u32().is_multiple_of(2)), ..Change::default() };
            change_target(world, id, &change, at).expect("it is there");
        }
        (5, _) => {
            let Some(id) = world.running_scans().next().map(|scan| scan.id) else { return };
            match rng.next_u32() % 4 {
                0 => drop(life::cancel(world, id, at).expect("it runs")),
                // What is pausing cannot be paused, and so on.
                1 => drop(hold::pause(world, rules, id, at)),
                2 => drop(hold::resume(world, rules, id, at)),
                _ => drop(hold::cancel(world, rules, id, at)),
            }
        }
        (6, _) => drop(hand::add_user(
            world,
            &format!("user{}@example.com", rng.next_u32() % 3),
            "A User",
            Settings::new(),
            at,
        )),
        (_, Some(id)) => {
            let outcome = [Outcome::Completed, Outcome::Completed, Outcome::Failed, Outcome::Cancelled];
            let scanner = Scanner::ALL[rng.next_u32() as usize % 6];
            let outcome = outcome[rng.next_u32() as usize % 4];
            let mut is_shared = |other: &ObjectId| *other != id && rng.next_u32().is_multiple_of(3);
            let others = targets.iter().copied().filter(|other| is_shared(other)).collect();
            let new = NewScan { outcome, others, ..NewScan::of(id, scanner) };
            life::start(world, rules, new, at).expect("it starts");
        }
    }
}

#[test]
fn over_many_seeds_nothing_is_told_that_does_not_hang_together() {
    let settings = scanhook::config::Config::defaults().scanner;
    let mut types = BTreeSet::new();
    for seed in 0..60 {
        let mut world = World::new(seed);
        let (mut told, mut ids) = (Told::default(), Ids::default());
        let mut now = start_time();
        let mut rng = scanhook::random::Chance::from_seed(seed).stream("acts", "");
        for _ in 0..60 {
            act(&mut world, Rules { settings: &settings, now }, &mut rng);
            hear(&mut world, (&mut told, &mut ids), seed, &mut types);
            // Everything that is due before the next act goes on, in order.
            let until = now + chrono::TimeDelta::milliseconds(i64::from(rng.next_u32() % 3_000));
            while let Some(timer) = next_timer(&world).filter(|timer| timer.0 <= until) {
                life::step(&mut world, timer.1, timer.0);
                hear(&mut world, (&mut told, &mut ids), seed, &mut types);
            }
            now = until;
        }
        for target in world.targets() {
            for weakness in world.weaknesses(target.id) {
                let is_open = told.open.contains(&weakness.id.to_string());
                assert_eq!(weakness.state == WeaknessState::Open, is_open, "seed {seed}");
            }
        }
    }
    let events_of = |vendor: Vendor| types.iter().filter(|(of, _)| *of == vendor.as_str()).count();
    assert!(events_of(Vendor::Hostedscan) == 7 && events_of(Vendor::Probely) >= 8, "{types:?}");
}

fn hear(
    world: &mut World,
    (told, ids): (&mut Told, &mut Ids),
    seed: u64,
    types: &mut BTreeSet<(&'static str, &'static str)>,
) {
    let Changes { facts, .. } = world.take_changes();
    for fact in &facts {
        told.hear(fact, seed);
        ids.follow(fact, world, seed);
        check_events(fact, world, seed, types);
    }
}

fn next_timer(world: &World) -> Option<(chrono::DateTime<chrono::Utc>, ObjectId)> {
    world.running_scans().filter_map(|scan| world.timer(scan.id)).map(|timer| (timer.due_at, timer.subject)).min()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_seed_makes_the_same_world_on_both_databases() {
    let mut worlds = Vec::new();
    let postgres = crate::support::Database::postgres().await;
    for database in [&crate::support::Database::sqlite(), &postgres] {
        let mut config = test_config(database);
        config.chance.seed = Seed::Fixed(7);
        let service = Service::start_with(config).await;
        service.post("/api/v1/targets", json!({"address": "shop.example.test"})).await.expect(201);
        scan(&service, json!({"scanner": "OPENVAS"})).await;
        service.live().await;
        worlds.push(service.events().await);
    }
    postgres.remove().await;
    assert!(worlds[0].len() > 10, "{}", worlds[0].len());
    assert_eq!(worlds[0], worlds[1]);
    let clock = Clock::manual(start_time());
    assert_eq!(clock.now(), start_time());
}
