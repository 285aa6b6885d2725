//! Accounts on a clock of their own: nothing fires by itself, every time is exact.

use std::time::Duration;

use chrono::{DateTime, Utc};
use scanhook::Scanhook;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::support::{Database, Receiver, Service, humantime, on_both_databases, start_time, test_config, text};

/// scanhook as another program runs it, its default account on a clock of its own.
async fn running(database: &Database) -> Scanhook {
    let builder = Scanhook::builder().database(&database.url).manual_clock(start_time()).seed(1);
    builder.setting("dispatch.jitter", "0").setting("publish.validation", "off").start().await.expect("it starts")
}

async fn get(scanhook: &Scanhook, path: &str) -> Value {
    scanhook.call("GET", path, None).await.expect(path)
}

async fn post(scanhook: &Scanhook, path: &str, body: Value) -> Value {
    scanhook.call("POST", path, Some(&body)).await.expect(path)
}

async fn subscribe(scanhook: &Scanhook, vendor: &str, url: &str) -> Value {
    post(scanhook, "/api/v1/subscribers", json!({"vendor": vendor, "url": url})).await
}

async fn publish(scanhook: &Scanhook, vendor: &str, event_type: &str) -> Value {
    let event = json!({"vendor": vendor, "event_type": event_type, "content": {"id": "a"}});
    post(scanhook, "/api/v1/events", event).await
}

async fn only_delivery(scanhook: &Scanhook, event: &Value) -> Value {
    let event = get(scanhook, &format!("/api/v1/events/{}", text(&event["id"]))).await;
    get(scanhook, &format!("/api/v1/deliveries/{}", text(&event["webhooks"][0]["id"]))).await
}

fn time(value: &Value) -> DateTime<Utc> {
    text(value).parse().expect("a time")
}

/// Lives through a vendor's whole schedule with a receiver that is down, and asserts when each attempt
/// was made, by waits that are written out here.
async fn lives_through(database: &Database, vendor: &str, event_type: &str, waits: &[&str]) {
    let scanhook = running(database).await;
    let receiver = Receiver::answering([503]).await;
    subscribe(&scanhook, vendor, &receiver.url).await;
    let event = publish(&scanhook, vendor, event_type).await;
    assert_eq!(receiver.count(), 0, "nothing fires by itself");

    let moved = scanhook.run_until_idle(humantime("4d")).await.expect("the clock moves");

    let mut expected = vec![start_time()];
    for wait in waits {
        expected.push(expected[expected.len() - 1] + humantime(wait));
    }
    let delivery = only_delivery(&scanhook, &event).await;
    let attempts = delivery["attempts"].as_array().expect("attempts");
    let started: Vec<DateTime<Utc>> = attempts.iter().map(|attempt| time(&attempt["started_at"])).collect();
    assert_eq!(started, expected);
    assert_eq!(delivery["status"], "failed");
    assert_eq!(receiver.count(), expected.len());
    assert_eq!(moved.fired.iter().map(|fired| fired.at).collect::<Vec<_>>(), expected);
    assert_eq!(moved.now, expected[expected.len() - 1]);
    scanhook.stop().await.expect("it stops");
}

on_both_databases! {
    async fn twelve_hours_of_hostedscan_pass_at_once(database) {
        let waits = ["1m", "2m", "4m", "8m", "16m", "32m", "64m", "128m", "256m"];
        lives_through(database, "hostedscan", "risk.opened", &waits).await;
    }

    async fn two_days_of_probely_pass_at_once(database) {
        let waits = [
            "1m", "2m", "4m", "8m", "16m", "32m", "64m", "128m", "4h", "4h", "4h", "4h", "4h", "4h", "4h", "4h", "4h",
            "4h",
        ];
        lives_through(database, "probely", "scan_started", &waits).await;
    }

    async fn seventy_five_hours_of_standard_webhooks_pass_at_once(database) {
        let waits = ["5s", "5m", "30m", "2h", "5h", "10h", "14h", "20h", "24h"];
        lives_through(database, "standard", "invoice.paid", &waits).await;
    }

    async fn an_advance_stops_at_each_due_time_and_tells_what_fired_in_order(database) {
        let scanhook = running(database).await;
        let receiver = Receiver::answering([500, 200]).await;
        let subscriber = subscribe(&scanhook, "standard", &receiver.url).await;
        let late = json!({"vendor": "standard", "event_type": "b.late", "content": {}, "deliver_at": "2026-01-01T00:00:03Z"});
        post(&scanhook, "/api/v1/events", late).await;
        let event = publish(&scanhook, "standard", "a.now").await;
        assert_eq!(event["created_at"], "2026-01-01T00:00:00.000000Z");

        let moved = post(&scanhook, "/api/v1/clock/advance", json!({"by": "4s"})).await;
        assert_eq!((&moved["now"], &moved["stopped"]), (&json!("2026-01-01T00:00:04.000000Z"), &json!("reached")));
        assert_eq!(moved["next_delivery_at"], "2026-01-01T00:00:05.000000Z");
        let fired = moved["fired"].as_array().expect("what fired");
        let told: Vec<[&Value; 5]> =
            fired.iter().map(|one| ["at", "event_type", "number", "answer", "status"].map(|field| &one[field])).collect();
        assert_eq!(told, [
            [&json!("2026-01-01T00:00:00.000000Z"), &json!("a.now"), &json!(1), &json!(500), &json!("rescheduled")],
            [&json!("2026-01-01T00:00:03.000000Z"), &json!("b.late"), &json!(1), &json!(200), &json!("succeeded")],
        ]);
        assert_eq!((&fired[0]["what"], &fired[0]["subscriber_id"]), (&json!("attempt"), &subscriber["id"]));
        assert_eq!(fired[0]["next_try"], moved["next_delivery_at"]);

        let moved = post(&scanhook, "/api/v1/clock/advance", json!({"to": "2026-01-01T00:00:05Z"})).await;
        assert_eq!(moved["fired"].as_array().map(Vec::len), Some(1));
        assert_eq!(only_delivery(&scanhook, &event).await["status"], "succeeded");
        let moved = post(&scanhook, "/api/v1/clock/run-until-idle", json!({"max": "1h"})).await;
        assert_eq!((&moved["stopped"], &moved["now"]), (&json!("idle"), &json!("2026-01-01T00:00:05.000000Z")));
    }

    async fn settling_fires_what_is_due_and_leaves_the_clock_where_it_is(database) {
        let scanhook = running(database).await;
        let receiver = Receiver::answering([503, 200]).await;
        subscribe(&scanhook, "standard", &receiver.url).await;
        publish(&scanhook, "standard", "a.b").await;
        let settled = post(&scanhook, "/api/v1/settle", json!({"within": "10s"})).await;
        assert_eq!(receiver.count(), 1);
        assert_eq!(settled["scheduled_deliveries"], 1);
        assert_eq!(settled["next_delivery"]["due_at"], "2026-01-01T00:00:05.000000Z");
        assert_eq!(get(&scanhook, "/api/v1/clock").await["now"], "2026-01-01T00:00:00.000000Z");
        scanhook.advance(humantime("5s")).await.expect("the clock moves");
        let expected = json!({"match": {"event_type": "a.b"}, "expect": {"status": "succeeded", "attempts": 2}});
        assert_eq!(post(&scanhook, "/api/v1/assert", expected).await["count"], 1);
        let settled = post(&scanhook, "/api/v1/settle", json!({})).await;
        assert_eq!((&settled["scheduled_deliveries"], &settled["timers"]), (&json!(0), &json!(0)));
    }

    async fn a_receiver_that_hangs_holds_up_its_own_account_only(database) {
        let scanhook = running(database).await;
        let hung = Receiver::gated(0).await;
        let healthy = Receiver::answering([200]).await;
        subscribe(&scanhook, "standard", &hung.url).await;
        publish(&scanhook, "standard", "a.b").await;
        let account = json!({"name": "other", "clock": {"mode": "manual", "now": "2026-06-01T00:00:00Z"}});
        let key = text(&post(&scanhook, "/api/v1/accounts", account).await["api_key"]);
        let http = reqwest::Client::builder().no_proxy().build().expect("a client");
        let other = async |path: &str, body: Value| {
            let url = format!("{}{path}", scanhook.url());
            let answer = http.post(url).bearer_auth(&key).json(&body).send().await.expect("an answer");
            answer.json::<Value>().await.expect("JSON")
        };
        other("/api/v1/subscribers", json!({"vendor": "standard", "url": healthy.url})).await;
        other("/api/v1/events", json!({"vendor": "standard", "event_type": "a.b", "content": 1})).await;
        let moving = scanhook.advance(humantime("1h"));
        let meanwhile = async {
            hung.wait_for(1).await;
            let moved = other("/api/v1/clock/advance", json!({"by": "1h"})).await;
            assert_eq!(moved["fired"].as_array().map(Vec::len), Some(1), "{moved}");
            assert_eq!(healthy.count(), 1);
            hung.gate().open();
        };
        let (moved, ()) = tokio::join!(moving, meanwhile);
        assert_eq!(moved.expect("the clock moves").fired.len(), 1);
    }

    async fn a_scan_runs_to_its_end_by_the_clock_and_its_webhooks_with_it(database) {
        let scanhook = running(database).await;
        let receiver = Receiver::answering([200]).await;
        subscribe(&scanhook, "hostedscan", &receiver.url).await;
        post(&scanhook, "/api/v1/scans", json!({"target": "shop.example.test", "scanner": "NMAP"})).await;
        let moved = post(&scanhook, "/api/v1/clock/run-until-idle", json!({})).await;
        let fired = moved["fired"].as_array().expect("what fired");
        let kinds: Vec<&Value> = fired.iter().map(|one| &one["what"]).collect();
        assert!(kinds.contains(&&json!("timer")) && kinds.contains(&&json!("attempt")), "{moved}");
        let scans = get(&scanhook, "/api/v1/scans").await;
        assert_eq!(scans["data"][0]["state"], "completed", "{scans}");
        let deliveries = get(&scanhook, "/api/v1/deliveries").await;
        assert_eq!(receiver.count(), deliveries["data"].as_array().map_or(0, Vec::len));
        let events = get(&scanhook, "/api/v1/events").await;
        for event in events["data"].as_array().expect("events") {
            assert!(time(&event["created_at"]) >= start_time() && time(&event["created_at"]) <= time(&moved["now"]));
        }
    }

    async fn a_schedule_ticks_by_the_clock_until_the_furthest_time(database) {
        let scanhook = running(database).await;
        post(&scanhook, "/api/v1/targets", json!({"address": "shop.example.test"})).await;
        let schedule = json!({"cron": "0 0 6 * * *", "target": "shop.example.test", "scanner": "NMAP", "duration": "10m"});
        post(&scanhook, "/api/v1/schedules", schedule).await;
        let moved = post(&scanhook, "/api/v1/clock/run-until-idle", json!({"max": "3d"})).await;
        assert_eq!((&moved["stopped"], &moved["now"]), (&json!("reached"), &json!("2026-01-04T00:00:00.000000Z")));
        let scans = get(&scanhook, "/api/v1/scans").await;
        assert_eq!(scans["data"].as_array().map(Vec::len), Some(3), "{scans}");
        assert_eq!(moved["next_timer_at"], "2026-01-04T06:00:00.000000Z");
    }

    async fn signatures_carry_the_account_s_time_or_the_real_one(database) {
        let scanhook = running(database).await;
        let receiver = Receiver::answering([200]).await;
        let account = subscribe(&scanhook, "standard", &format!("{}/account", receiver.url)).await;
        let real = json!({"vendor": "standard", "url": format!("{}/real", receiver.url), "signature_time": "real"});
        let real = post(&scanhook, "/api/v1/subscribers", real).await;
        assert_eq!((&account["signature_time"], &real["signature_time"]), (&json!("account"), &json!("real")));
        publish(&scanhook, "standard", "a.b").await;
        scanhook.advance(Duration::ZERO).await.expect("the clock moves");
        let got = receiver.got();
        assert_eq!(got.len(), 2);
        for one in got {
            let (secret, is_real) = if one.path.ends_with("/real") { (&real, true) } else { (&account, false) };
            let webhook = standardwebhooks::Webhook::new(&text(&secret["secret"])).expect("a secret");
            // The oracle refuses what was signed long ago, and nothing else here.
            assert_eq!(webhook.verify(&one.body, &one.headers).is_ok(), is_real, "{}", one.path);
            let stamp: i64 = one.headers["webhook-timestamp"].to_str().expect("text").parse().expect("seconds");
            assert_eq!(stamp == start_time().timestamp(), !is_real);
        }
    }

    async fn back_on_the_real_clock_what_is_overdue_fires_by_itself(database) {
        let scanhook = running(database).await;
        let receiver = Receiver::answering([200]).await;
        subscribe(&scanhook, "standard", &receiver.url).await;
        publish(&scanhook, "standard", "a.b").await;
        let clock = scanhook.call("PUT", "/api/v1/clock", Some(&json!({"mode": "real"}))).await.expect("it is set");
        assert_eq!(clock["mode"], "real");
        receiver.wait_for(1).await;
        let moved = scanhook.call("POST", "/api/v1/clock/advance", Some(&json!({"by": "1s"}))).await;
        assert!(moved.expect_err("refused").to_string().contains("goes by the machine's clock"));
    }

    async fn a_clock_of_its_own_takes_over_what_was_owed_by_the_machine_s(database) {
        let mut config = test_config(database);
        config.dispatch.concurrency = 1;
        let service = Service::start_with(config).await;
        let receiver = Receiver::answering([503]).await;
        service.subscribe(&receiver.url).await;
        let event = service.publish("a.b").await;
        assert_eq!(service.dispatch().await, 1);
        let put = service.request("PUT", "/api/v1/clock").json(&json!({"mode": "manual", "now": "2026-01-01T00:00:00Z"}));
        service.send(put).await.expect(200);
        service.clock.advance(humantime("1h"));
        assert_eq!(service.dispatch().await, 0, "it is not due by the machine's clock any more");
        let delivery = service.only_delivery(&event).await;
        assert_eq!((&delivery["status"], &delivery["next_try"]), (&json!("rescheduled"), &json!("2026-01-01T00:00:05.000000Z")));
        let clock = service.get("/api/v1/clock").await.expect(200);
        assert_eq!(clock, json!({"mode": "manual", "now": "2026-01-01T00:00:00.000000Z"}));
    }

    async fn a_disabled_subscriber_gets_nothing_until_it_is_enabled_again(database) {
        let scanhook = running(database).await;
        let receiver = Receiver::answering([410, 200]).await;
        let subscriber = subscribe(&scanhook, "standard", &receiver.url).await;
        publish(&scanhook, "standard", "a.gone").await;
        let waits = publish(&scanhook, "standard", "a.waits").await;
        scanhook.run_until_idle(humantime("1d")).await.expect("the clock moves");
        assert_eq!(receiver.count(), 1, "410 disables");
        let path = format!("/api/v1/subscribers/{}", text(&subscriber["id"]));
        scanhook.call("PATCH", &path, Some(&json!({"enabled": true}))).await.expect("it is enabled");
        scanhook.run_until_idle(humantime("1d")).await.expect("the clock moves");
        assert_eq!(only_delivery(&scanhook, &waits).await["status"], "succeeded");
        // Redelivered, it is due by the account's clock.
        let delivery = text(&only_delivery(&scanhook, &waits).await["id"]);
        post(&scanhook, &format!("/api/v1/deliveries/{delivery}/redeliver"), json!({})).await;
        assert_eq!(receiver.count(), 2);
        scanhook.advance(Duration::ZERO).await.expect("the clock moves");
        assert_eq!(receiver.count(), 3);
    }

    async fn an_old_secret_signs_beside_the_new_one_until_it_expires_by_the_clock(database) {
        let scanhook = running(database).await;
        let receiver = Receiver::answering([200]).await;
        let subscriber = subscribe(&scanhook, "standard", &receiver.url).await;
        let path = format!("/api/v1/subscribers/{}", text(&subscriber["id"]));
        scanhook.call("PATCH", &path, Some(&json!({"signature_time": "real"}))).await.expect("it is changed");
        let rotated = post(&scanhook, &format!("{path}/rotate-secret"), json!({"keep_old_for": "6h"})).await;
        assert_eq!(rotated["previous_secret_until"], "2026-01-01T06:00:00.000000Z");
        assert_ne!(rotated["secret"], subscriber["secret"]);
        publish(&scanhook, "standard", "a.b").await;
        scanhook.advance(humantime("6h")).await.expect("the clock moves");
        publish(&scanhook, "standard", "a.b").await;
        scanhook.advance(Duration::ZERO).await.expect("the clock moves");
        let verifies = |secret: &Value| {
            let webhook = standardwebhooks::Webhook::new(&text(secret)).expect("a secret");
            receiver.got().iter().map(|one| webhook.verify(&one.body, &one.headers).is_ok()).collect::<Vec<_>>()
        };
        assert_eq!(verifies(&rotated["secret"]), [true, true]);
        assert_eq!(verifies(&subscriber["secret"]), [true, false]);
        assert_eq!(receiver.got()[0].headers["webhook-signature"].to_str().map(|text| text.split(' ').count()).ok(), Some(2));
    }

    async fn a_subscriber_that_accepts_nothing_for_long_is_disabled_by_the_clock(database) {
        let builder = Scanhook::builder().database(&database.url).manual_clock(start_time()).setting("dispatch.jitter", "0");
        let scanhook = builder.setting("dispatch.disable_after", "2h").start().await.expect("it starts");
        let mut answers = vec![503, 200];
        answers.extend([503; 20]);
        let receiver = Receiver::answering(answers).await;
        let subscriber = subscribe(&scanhook, "standard", &receiver.url).await;
        let path = format!("/api/v1/subscribers/{}", text(&subscriber["id"]));
        publish(&scanhook, "standard", "a.recovers").await;
        scanhook.advance(humantime("1h")).await.expect("the clock moves");
        publish(&scanhook, "standard", "a.fails").await;
        scanhook.run_until_idle(humantime("5d")).await.expect("the clock moves");
        // From 01:00:00 the attempts are at 0s, 5s, 5m5s, 35m5s and 2h35m5s: there it is disabled.
        assert_eq!(receiver.count(), 2 + 5);
        let shown = get(&scanhook, &path).await;
        assert_eq!(shown["enabled"], false);
        let reason = text(&shown["disabled_reason"]);
        assert!(reason.contains("has accepted nothing since 2026-01-01T01:00:00.000000Z"), "{reason}");
        scanhook.call("PATCH", &path, Some(&json!({"enabled": true}))).await.expect("it is enabled");
        scanhook.advance(humantime("5h")).await.expect("the clock moves");
        assert_eq!(get(&scanhook, &path).await["enabled"], true, "it counts anew");
    }

    async fn a_secret_is_rotated_only_as_the_vendor_allows(database) {
        let service = Service::start(database).await;
        let rotate = async |vendor: &str, body: Value| {
            let (id, _) = service.subscribe_as(json!({"vendor": vendor, "url": "http://127.0.0.1:9/"})).await;
            service.post(&format!("/api/v1/subscribers/{id}/rotate-secret"), body).await
        };
        rotate("hostedscan", json!({"keep_old_for": "1h"})).await.assert_problem(422, "invalid-field", "carries one signature");
        let rotated = rotate("hostedscan", json!({"secret": "s3cret"})).await.expect(200);
        assert_eq!((&rotated["secret"], &rotated["previous_secret_until"]), (&json!("s3cret"), &Value::Null));
        rotate("probely", json!({})).await.assert_problem(422, "invalid-field", "must be given: probely does not sign");
        rotate("standard", json!({"secret": "short"})).await.assert_problem(422, "invalid-field", "must start with `whsec_`");
        rotate("standard", json!({"keep_old_for": "60d"})).await.assert_problem(422, "invalid-field", "at most 30days");
        rotate("standard", json!({"keep_old_for": "long"})).await.assert_problem(422, "invalid-field", "is not a duration");
    }

    async fn a_clock_that_cannot_be_set_or_moved_so_is_told_why(database) {
        let service = Service::start(database).await;
        let put = async |body: Value| service.send(service.request("PUT", "/api/v1/clock").json(&body)).await;
        let advance = async |body: Value| service.post("/api/v1/clock/advance", body).await;
        put(json!({"mode": "frozen"})).await.assert_problem(422, "invalid-field", "unknown variant `frozen`");
        put(json!({"mode": "manual", "now": "noon"})).await.assert_problem(422, "invalid-field", "now: ");
        put(json!({"mode": "manual", "now": "1969-12-31T00:00:00Z"})).await.assert_problem(422, "invalid-field", "from 1970 to 9999");
        put(json!({"mode": "real", "now": "2026-01-01T00:00:00Z"})).await.assert_problem(422, "invalid-field", "cannot be set on a real clock");
        advance(json!({"by": "1s"})).await.assert_problem(409, "real-clock", "PUT /api/v1/clock");
        service.post("/api/v1/clock/run-until-idle", json!({})).await.assert_problem(409, "real-clock", "PUT /api/v1/clock");
        assert_eq!(service.get("/api/v1/clock").await.expect(200)["mode"], "real");

        put(json!({"mode": "manual", "now": "2026-03-01T00:00:00Z"})).await.expect(200);
        for body in [json!({}), json!({"by": "1s", "to": "2026-03-02T00:00:00Z"})] {
            advance(body).await.assert_problem(422, "invalid-field", "either `by`");
        }
        advance(json!({"by": "soon"})).await.assert_problem(422, "invalid-field", "`soon` is not a duration");
        advance(json!({"to": "2026-02-01T00:00:00Z"})).await.assert_problem(422, "invalid-field", "is before the account's time");
        service.post("/api/v1/clock/run-until-idle", json!({"max": 4})).await.assert_problem(422, "invalid-field", "max: ");
        // Further than there are times it goes to the last.
        let moved = advance(json!({"by": "100000y"})).await.expect(200);
        assert_eq!(moved["now"], "9999-12-31T23:59:59.000000Z");
        let account = json!({"name": "a", "clock": {"mode": "real", "now": "2026-01-01T00:00:00Z"}});
        service.post("/api/v1/accounts", account).await.assert_problem(422, "invalid-field", "clock.now: cannot be set");
    }

    async fn the_command_line_sets_and_moves_the_clock(database) {
        let scanhook = running(database).await;
        let receiver = Receiver::answering([500]).await;
        subscribe(&scanhook, "standard", &receiver.url).await;
        publish(&scanhook, "standard", "a.b").await;
        let clock = async |arguments: &[&str]| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_scanhook"));
            let output = command.args(["--url", scanhook.url(), "clock"]).args(arguments).output().await.expect("it runs");
            (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
        };
        let (code, said) = clock(&["advance", "6s"]).await;
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains("2026-01-01T00:00:05.000000Z") && said.contains("500") && said.contains("(reached)"), "{said}");
        assert_eq!(receiver.count(), 2);
        let (code, said) = clock(&["run-until-idle", "--max", "5d", "--json"]).await;
        assert!(code == Some(0) && said.contains("\"stopped\":\"idle\""), "{said}");
        let (code, said) = clock(&["advance", "--to", "2025-01-01T00:00:00Z"]).await;
        assert!(code == Some(1) && said.contains("is before the account's time"), "{said}");
        let (code, said) = clock(&["set", "real"]).await;
        assert!(code == Some(0) && said.contains("mode  real"), "{said}");
    }

    async fn two_hundred_accounts_run_a_scenario_each_at_once_and_see_only_their_own(database) {
        let builder = Scanhook::builder().database(&database.url).seed(1).setting("auth.default_key", "default-key");
        let builder = builder.setting("auth.mode", "keys").setting("dispatch.jitter", "0");
        let scanhook = builder.start().await.expect("it starts");
        let receiver = Receiver::answering([200]).await;
        let http = reqwest::Client::builder().no_proxy().build().expect("a client");
        let accounts: Vec<Value> = futures_util::future::join_all((0..200).map(|number| {
            let (http, url, hook) = (&http, scanhook.url(), &receiver.url);
            async move { run_a_scenario(http, url, &format!("{hook}/{number}"), number).await }
        }))
        .await;

        let got = receiver.got();
        let mut all = 0;
        for (number, account) in accounts.iter().enumerate() {
            let own = got.iter().filter(|one| one.path.ends_with(&format!("/hook/{number}"))).count();
            let events = account["events"].as_array().expect("events");
            assert_eq!(Some(own), account["deliveries"].as_array().map(Vec::len), "account {number}");
            assert!(own > 0, "account {number}");
            let began = start_time() + Duration::from_secs(3600 * number as u64);
            for event in events {
                let after = time(&event["occurred_at"]) - began;
                assert!((chrono::TimeDelta::zero()..chrono::TimeDelta::hours(1)).contains(&after), "{number}: {event}");
            }
            all += own;
        }
        assert_eq!(all, got.len());
    }
}

/// Makes an account on a clock of its own, has it run a scenario to its end: its events and deliveries.
async fn run_a_scenario(http: &reqwest::Client, url: &str, hook: &str, number: u32) -> Value {
    let send = async |method: &str, path: &str, key: &str, body: Value| {
        let request = http.request(method.parse().expect("a method"), format!("{url}{path}")).bearer_auth(key);
        let request = if body.is_null() { request } else { request.json(&body) };
        let answer = request.send().await.expect("an answer");
        let (status, text) = (answer.status(), answer.text().await.expect("a body"));
        assert!(status.is_success(), "{method} {path}: {text}");
        serde_json::from_str::<Value>(&text).expect("JSON")
    };
    let now = start_time() + Duration::from_secs(3600 * u64::from(number));
    let account = json!({"name": format!("test {number}"), "clock": {"mode": "manual", "now": now.to_rfc3339()}});
    let key = text(&send("POST", "/api/v1/accounts", "default-key", account).await["api_key"]);
    send("POST", "/api/v1/subscribers", &key, json!({"vendor": "hostedscan", "url": hook})).await;
    send("POST", "/api/v1/scenarios/runs", &key, json!({"name": "first-scan"})).await;
    let moved = send("POST", "/api/v1/clock/run-until-idle", &key, json!({"max": "1d"})).await;
    assert_eq!(moved["stopped"], "idle", "account {number}: {moved}");
    let events = send("GET", "/api/v1/events?limit=250", &key, Value::Null).await;
    let deliveries = send("GET", "/api/v1/deliveries?limit=250", &key, Value::Null).await;
    json!({"events": events["data"], "deliveries": deliveries["data"]})
}
