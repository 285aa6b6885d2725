//! Waiting for an account: until it has settled, and until an expectation holds.

use futures_util::FutureExt;
use scanhook::id::AccountId;
use serde_json::{Value, json};

use crate::daemon::Daemon;
use crate::support::{Answer, PATIENCE, Receiver, Service, on_both_databases, text};

/// Publishes a `hostedscan` event.
async fn publish(service: &Service, event_type: &str, content: Value) -> Value {
    let event = json!({"vendor": "hostedscan", "event_type": event_type, "content": content});
    service.post("/api/v1/events", event).await.expect(202)
}

async fn settle(service: &Service, within: &str) -> Answer {
    service.post("/api/v1/settle", json!({"within": within})).await
}

async fn assert(service: &Service, criteria: Value, expect: Value, within: &str) -> Answer {
    service.post("/api/v1/assert", json!({"match": criteria, "expect": expect, "within": within})).await
}

#[track_caller]
fn assert_fails(answer: &Answer, detail: &str) {
    answer.assert_problem(409, "assertion-failed", detail);
}

on_both_databases! {
    async fn an_account_has_settled_when_nothing_is_in_flight_or_due(database) {
        let service = Service::start(database).await;
        let receiver = Receiver::answering([503, 200]).await;
        let subscriber = json!({"url": receiver.url, "vendor": "standard", "retry_schedule": ["5m"]});
        let (subscriber, _) = service.subscribe_as(subscriber).await;
        let settled = settle(&service, "0s").await.expect(200);
        assert_eq!(settled, json!({
            "scheduled_deliveries": 0, "next_delivery": null, "timers": 0, "next_timer": null,
        }));
        let event = service.publish("invoice.paid").await;
        let refused = settle(&service, "0s").await;
        refused.assert_problem(409, "not-settled", "it has not settled within 0s: ");
        refused.assert_problem(409, "not-settled", &format!("(invoice.paid) to {} is in flight", receiver.url));
        let delivery = &event["webhooks"][0]["id"];
        assert_eq!(&refused.body["found"]["deliveries"][0]["id"], delivery);
        service.dispatch().await;
        let settled = settle(&service, "0s").await.expect(200);
        assert_eq!(settled["scheduled_deliveries"], 1);
        assert_eq!(settled["next_delivery"]["id"], *delivery);
        assert_eq!(settled["next_delivery"]["subscriber_id"], subscriber);
        assert_eq!(settled["next_delivery"]["event_type"], "invoice.paid");
        let due_at = text(&settled["next_delivery"]["due_at"]);
        assert!(due_at.starts_with("2026-01-01T00:05:00"), "{due_at}");
        service.advance("5m1s");
        settle(&service, "0s").await.assert_problem(409, "not-settled", "is due");
        service.dispatch().await;
        assert_eq!(settle(&service, "0s").await.expect(200)["scheduled_deliveries"], 0);
        // What waits for its subscriber to be enabled is neither due nor scheduled.
        service.publish("invoice.paid").await;
        service.patch(&format!("/api/v1/subscribers/{subscriber}"), json!({"enabled": false})).await.expect(200);
        service.dispatch().await;
        assert_eq!(settle(&service, "0s").await.expect(200)["scheduled_deliveries"], 0);
    }

    async fn who_waits_for_an_account_to_settle_is_answered_when_it_has(database) {
        let service = Service::start(database).await;
        let receiver = Receiver::answering([200]).await;
        service.subscribe(&receiver.url).await;
        service.publish("a.b").await;
        // The clock stands still, so the wait cannot end by itself.
        let (settled, _) = tokio::join!(settle(&service, "5s"), service.dispatch());
        settled.expect(200);
        assert_eq!(receiver.count(), 1);
    }

    async fn a_scan_that_goes_on_is_in_the_way_only_when_it_has_something_to_do(database) {
        let service = Service::start(database).await;
        let scan = json!({"target": "shop.example.test", "scanner": "NMAP", "duration": "1h"});
        service.post("/api/v1/scans", scan).await.expect(201);
        let settled = settle(&service, "0s").await.expect(200);
        assert_eq!((&settled["timers"], &settled["next_timer"]["kind"]), (&json!(1), &json!("scan")));
        service.advance("1h");
        let refused = settle(&service, "0s").await;
        refused.assert_problem(409, "not-settled", "the scan ");
        assert_eq!(refused.body["found"]["timers"][0]["kind"], "scan");
        while service.app.scanner.run_once().await.expect("the scanner goes on") > 0 {}
        settle(&service, "0s").await.expect(200);
    }

    async fn a_consumer_that_says_when_it_is_idle_is_asked_until_it_is(database) {
        let service = Service::start(database).await;
        let consumer = Receiver::answering([503, 500, 204]).await;
        let body = json!({"within": "60s", "idle_url": consumer.url});
        service.post("/api/v1/settle", body).await.expect(200);
        assert_eq!(consumer.count(), 3);
        assert!(consumer.got()[0].body.is_empty());
        let busy = Receiver::answering([503]).await;
        let ask = async |url: &str| service.post("/api/v1/settle", json!({"within": "0s", "idle_url": url})).await;
        let refused = ask(&busy.url).await;
        refused.assert_problem(409, "not-settled", &format!("within 0s: {} answered 503", busy.url));
        assert_eq!(refused.body["found"]["deliveries"], json!([]));
        ask("http://169.254.169.254/idle").await.assert_problem(409, "not-settled", "blocked_address");
    }

    async fn what_a_consumer_brings_about_before_it_is_idle_is_waited_for(database) {
        let service = Service::start(database).await;
        let receiver = Receiver::answering([200]).await;
        service.subscribe(&receiver.url).await;
        let consumer = Receiver::answering_once_open(200).await;
        let waits = service.post("/api/v1/settle", json!({"within": "5s", "idle_url": consumer.url}));
        let meanwhile = async {
            consumer.wait_for(1).await;
            service.publish("brought.about").await;
            consumer.gate().open();
            service.advance("6s");
        };
        let (refused, ()) = tokio::join!(waits, meanwhile);
        refused.assert_problem(409, "not-settled", "(brought.about)");
    }

    async fn everything_that_may_be_waited_for_wakes_who_waits(database) {
        let service = Service::start(database).await;
        let mut watching = service.app.store.activity().watch(AccountId::DEFAULT);
        let mut woken = |by: &str| assert!(watching.stirred().now_or_never().is_some(), "not woken by {by}");
        let receiver = Receiver::answering([200]).await;
        let (id, _) = service.subscribe(&receiver.url).await;
        woken("a new subscriber");
        let event = service.publish("a.b").await;
        woken("an event");
        service.dispatch().await;
        woken("an attempt");
        let redeliver = format!("/api/v1/deliveries/{}/redeliver", text(&event["webhooks"][0]["id"]));
        service.send(service.request("POST", &redeliver)).await.expect(202);
        woken("a redelivery");
        service.dispatch().await;
        woken("the attempt after it");
        service.publish("a.b").await;
        woken("another event");
        service.patch(&format!("/api/v1/subscribers/{id}"), json!({"enabled": false})).await.expect(200);
        woken("a change of a subscriber");
        service.dispatch().await;
        woken("a lease that is given back");
        service.delete(&format!("/api/v1/subscribers/{id}")).await.expect(204);
        woken("the end of a subscriber");
        service.post("/api/v1/targets", json!({"address": "shop.example.test"})).await.expect(201);
        woken("a change of the world");
    }

    async fn an_expectation_that_holds_is_answered_with_what_matches(database) {
        let service = Service::start(database).await;
        let receiver = Receiver::answering([503, 200]).await;
        let subscriber = json!({"url": receiver.url, "vendor": "hostedscan", "retry_schedule": ["5s"]});
        let (subscriber, _) = service.subscribe_as(subscriber).await;
        let event = publish(&service, "risk.opened", json!({"id": "abc", "cvss": 9.0})).await;
        publish(&service, "risk.closed", json!({"id": "abd"})).await;
        let criteria = json!({
            "vendor": "hostedscan", "event_type": "risk.*", "subscriber_id": subscriber, "event_id": event["id"],
            "content": {"$.id": "abc", "$.cvss": 9}, "body": ["$.type", "$.data"],
            "since": "2026-01-01T00:00:00Z",
        });
        let held = assert(&service, criteria.clone(), json!({"status": "scheduled", "count": 1}), "0s").await.expect(200);
        assert_eq!(held["count"], 1);
        let matched = &held["matches"][0];
        assert_eq!((&matched["event_id"], &matched["event_type"]), (&event["id"], &json!("risk.opened")));
        assert_eq!((&matched["delivery_id"], &matched["attempts"]), (&event["webhooks"][0]["id"], &json!(0)));
        assert_eq!((&matched["subscriber_id"], &matched["last_answer"]), (&json!(subscriber), &Value::Null));
        service.dispatch().await;
        service.advance("6s");
        service.dispatch().await;
        let expect = json!({"count": {"min": 1, "max": 2}, "attempts": {"min": 1, "max": 2}, "answer": 200});
        assert_eq!(assert(&service, criteria, expect, "0s").await.expect(200)["matches"][0]["status"], "succeeded");
        let held = assert(&service, json!({"of": "events", "vendor": "hostedscan"}), json!({"count": 2}), "0s").await;
        let held = held.expect(200);
        assert_eq!(held["matches"][0]["event_type"], "risk.closed");
        assert_eq!((&held["matches"][1]["vendor"], held["matches"][1].get("status")), (&json!("hostedscan"), None));
        assert_eq!(service.post("/api/v1/assert", json!({})).await.expect(200)["count"], 2);
    }

    async fn an_expectation_that_does_not_hold_is_answered_with_the_near_misses(database) {
        let service = Service::start(database).await;
        assert_fails(&assert(&service, json!({}), json!({}), "0s").await, "there are no events in this account");
        let event = publish(&service, "risk.opened", json!({"id": "abc"})).await;
        let nobody = assert(&service, json!({"event_id": event["id"]}), json!({}), "0s").await;
        assert_fails(&nobody, "1 event was published, but there is no subscriber of hostedscan");
        let receiver = Receiver::answering([200, 503]).await;
        let scans = json!({"url": receiver.url, "vendor": "hostedscan", "event_types": ["scan.*"]});
        service.subscribe_as(scans).await;
        assert_fails(
            &assert(&service, json!({"event_id": event["id"]}), json!({}), "0s").await,
            "1 event was published, but its only subscriber wants other types (scan.*)",
        );
        for _ in 0..2 {
            publish(&service, "scan.succeeded", json!({"id": "1"})).await;
            service.dispatch().await;
        }
        let of_type = |event_type: &str| json!({"vendor": "hostedscan", "event_type": event_type});
        let missing = assert(&service, of_type("scan.failed"), json!({}), "0s").await;
        assert_fails(
            &missing,
            "there are 3 events of hostedscan, none of type scan.failed; there are scan.succeeded (2), risk.opened (1)",
        );
        assert_eq!((&missing.body["found"]["of_vendor"], &missing.body["found"]["of_type"]), (&json!(3), &json!(0)));
        let content = json!({"event_type": "risk.opened", "content": {"$.id": "abd"}});
        assert_fails(
            &assert(&service, content, json!({}), "0s").await,
            r#"no delivery matched: 1 event of risk.opened, but $.id is "abc" in 1 of them"#,
        );
        let body = json!({"event_type": "scan.*", "body": ["$.nothing"]});
        assert_fails(
            &assert(&service, body, json!({}), "0s").await,
            "2 deliveries of scan.*, but $.nothing selects nothing in 2 of the bodies",
        );
        let expect = json!({"count": 2, "status": "succeeded"});
        let state = assert(&service, of_type("scan.succeeded"), expect, "0s").await;
        assert_fails(&state, "2 deliveries matched, but 1 is rescheduled (last answer 503); 2 were expected");
        assert_eq!((&state.body["found"]["matched"], &state.body["found"]["as_expected"]), (&json!(2), &json!(1)));
        let later = json!({"since": "2026-01-02T00:00:00Z"});
        assert_fails(&assert(&service, later, json!({}), "0s").await, "no events in this account published at 2026-01-02");
    }

    async fn who_waits_for_an_expectation_is_answered_when_it_holds(database) {
        let service = Service::start(database).await;
        let receiver = Receiver::answering([200]).await;
        service.subscribe(&receiver.url).await;
        let act = async {
            service.publish("a.b").await;
            service.dispatch().await;
        };
        // The clock stands still, so the wait cannot end by itself.
        let waits = assert(&service, json!({"event_type": "a.b"}), json!({"status": "succeeded"}), "5s");
        let (held, ()) = tokio::join!(waits, act);
        assert_eq!(held.expect(200)["matches"][0]["last_answer"], 200);
    }

    async fn what_another_process_commits_is_seen_as_well(database) {
        let (service, other) = (Service::start(database).await, Service::start(database).await);
        let waits = assert(&service, json!({"of": "events", "event_type": "a.b"}), json!({}), "5s");
        let (held, event) = tokio::join!(waits, other.publish("a.b"));
        assert_eq!(held.expect(200)["matches"][0]["event_id"], event["id"]);
    }

    async fn that_nothing_comes_is_known_at_the_end_and_that_something_does_at_once(database) {
        let service = Service::start(database).await;
        let none = || assert(&service, json!({"of": "events", "event_type": "a.*"}), json!({"count": 0}), "5s");
        service.publish("b.c").await;
        let begun_at = service.clock.now();
        let time_goes_on = async {
            loop {
                service.advance("100ms");
                tokio::task::yield_now().await;
            }
        };
        let held = tokio::select! { held = none() => held, () = time_goes_on => unreachable!("time never ends") };
        assert_eq!(held.expect(200)["count"], 0);
        assert!(service.clock.now() - begun_at >= chrono::TimeDelta::seconds(5));
        let (failed, event) = tokio::join!(none(), service.publish("a.b"));
        assert_fails(&failed, &format!("1 event matched, but none was expected: {}", text(&event["id"])));
    }

    async fn an_account_sees_nothing_of_another(database) {
        let mut service = Service::start(database).await;
        let receiver = Receiver::answering([200]).await;
        service.subscribe(&receiver.url).await;
        let event = service.publish("a.b").await;
        let created = service.post("/api/v1/accounts", json!({"name": "other"})).await.expect(201);
        service.with_key(Some(&text(&created["api_key"])));
        settle(&service, "0s").await.expect(200);
        for criteria in [json!({}), json!({"of": "events"}), json!({"event_id": event["id"]})] {
            assert_fails(&assert(&service, criteria, json!({}), "0s").await, "in this account");
        }
    }

    async fn only_the_newest_events_are_looked_at_and_that_is_said(database) {
        let service = Service::start(database).await;
        publish(&service, "risk.opened", json!({"id": "oldest"})).await;
        let event = json!({"vendor": "standard", "event_type": "a.b", "content": {}});
        for _ in 0..10 {
            service.post("/api/v1/events/batch", vec![event.clone(); 1_000].into()).await.expect(202);
        }
        let cut = assert(&service, json!({"vendor": "hostedscan"}), json!({}), "0s").await;
        assert_fails(
            &cut,
            "there are 10,000 events, none of hostedscan; there are of standard (10,000); only the newest 10,000 events \
             were looked at",
        );
        assert_eq!(cut.body["found"]["is_cut"], true);
        let all = assert(&service, json!({"of": "events", "content": ["$"]}), json!({"count": 10_000}), "0s").await;
        assert_eq!(all.expect(200)["matches"].as_array().map(Vec::len), Some(250));
    }

    async fn a_wait_that_cannot_be_is_refused_with_the_field(database) {
        let service = Service::start(database).await;
        for (path, body, pointer, reason) in [
            ("settle", json!({"within": "61s"}), "/within", "at most 1m are waited"),
            ("settle", json!({"within": "soon"}), "/within", "is not a duration"),
            ("settle", json!({"idle_url": "ftp://127.0.0.1/"}), "/idle_url", "scheme `ftp`"),
            ("settle", json!({"idle_url": 3}), "/idle_url", "invalid type"),
            ("settle", json!({"for": "5s"}), "", "unknown field `for`"),
            ("assert", json!({"within": "2m"}), "/within", "at most 1m are waited"),
            ("assert", json!({"match": {"vendor": "acme"}}), "/match/vendor", "unknown vendor `acme`"),
            ("assert", json!({"match": {"event_type": "*.opened"}}), "/match/event_type", "one `*`, at its end"),
            ("assert", json!({"match": {"event_type": "a\u{0}"}}), "/match/event_type", "control characters"),
            ("assert", json!({"match": {"event_id": "x"}}), "/match/event_id", ""),
            ("assert", json!({"match": {"content": ["risk.id"]}}), "/match/content", "`risk.id` is not a JSONPath"),
            ("assert", json!({"match": {"body": {"$..*..*..*": 1}}}), "/match/body", "too much to look at"),
            ("assert", json!({"match": {"content": "$.a"}}), "/match/content", "a list of JSONPaths"),
            ("assert", json!({"match": {"content": vec!["$"; 21]}}), "/match/content", "more than 20 paths"),
            ("assert", json!({"match": {"of": "scans"}}), "/match/of", "unknown variant `scans`"),
            ("assert", json!({"match": {"of": "events", "body": ["$"]}}), "/match/body", "is of deliveries"),
            ("assert", json!({"match": {"of": "events"}, "expect": {"answer": 200}}), "/expect/answer", "is of deliveries"),
            ("assert", json!({"expect": {"count": -1}}), "/expect/count", "0 or more"),
            ("assert", json!({"expect": {"count": {"min": 3, "max": 2}}}), "/expect/count", "less than min"),
            ("assert", json!({"expect": {"count": {}}}), "/expect/count", "says nothing"),
            ("assert", json!({"expect": {"status": "lost"}}), "/expect/status", "lost"),
            ("assert", json!({"expect": {"answer": 42}}), "/expect/answer", "is not an HTTP status"),
            ("assert", json!({"expect": [1]}), "/expect", "an object"),
        ] {
            let refused = service.post(&format!("/api/v1/{path}"), body.clone()).await;
            refused.assert_problem(422, "invalid-field", reason);
            let at: Vec<&Value> =
                refused.body["errors"].as_array().into_iter().flatten().map(|error| &error["pointer"]).collect();
            assert!(at.iter().any(|at| at.as_str().is_some_and(|at| at.starts_with(pointer))), "{body}: {at:?}");
        }
    }

    async fn a_daemon_answers_who_waits_as_it_dispatches_and_does_not_wait_for_them_at_its_end(database) {
        let daemon = Daemon::start_with(database, &[], &[]).await;
        let receiver = Receiver::gated(0).await;
        daemon.post("/api/v1/subscribers", &json!({"url": receiver.url, "vendor": "standard"})).await;
        daemon.post("/api/v1/events", &json!({"vendor": "standard", "event_type": "a.b", "content": {}})).await;
        let expectation = json!({"expect": {"status": "succeeded"}, "within": "60s"});
        let act = async {
            receiver.wait_for(1).await;
            receiver.gate().open();
        };
        let (held, ()) = tokio::join!(daemon.post("/api/v1/assert", &expectation), act);
        assert_eq!(held["matches"][0]["attempts"], 1);
        daemon.post("/api/v1/settle", &json!({})).await;
        let consumer = Receiver::gated(0).await;
        let body = json!({"within": "60s", "idle_url": consumer.url});
        let client = reqwest::Client::builder().no_proxy().build().expect("a client");
        let waits = client.post(format!("{}/api/v1/settle", daemon.url)).json(&body).send();
        let end = async {
            consumer.wait_for(1).await;
            tokio::time::timeout(PATIENCE, daemon.stop()).await.expect("it ends")
        };
        let (answer, code) = tokio::join!(waits, end);
        assert_eq!((answer.expect("an answer").status().as_u16(), code), (503, Some(0)));
    }
}
