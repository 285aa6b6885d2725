//! Why a delivery stands where it stands, and what a retry schedule means.

use serde_json::{Value, json};

use crate::support::{Receiver, Reply, Service, on_both_databases, test_config, text};

/// The sentences about the one delivery of an event: those on its attempts, and what comes next.
async fn why(service: &Service, event: &Value) -> (Vec<String>, String) {
    let delivery = service.only_delivery(event).await;
    let why = service.get(&format!("/api/v1/deliveries/{}/why", text(&delivery["id"]))).await.expect(200);
    assert_eq!(why["status"], delivery["status"]);
    (why["attempts"].as_array().expect("a list").iter().map(text).collect(), text(&why["now"]))
}

#[track_caller]
fn assert_says(sentence: &str, parts: &[&str]) {
    for part in parts {
        assert!(sentence.contains(part), "no `{part}` in: {sentence}");
    }
}

on_both_databases! {
    async fn each_attempt_says_how_its_end_led_to_the_next_try(database) {
        let service = Service::start(database).await;
        let asking = |seconds: &str| Reply { headers: vec![("retry-after", seconds.to_owned())], ..Reply::from(503) };
        let receiver = Receiver::answering([asking("60"), asking("1"), Reply::from(500), Reply::from(200)]).await;
        let subscriber = json!({"url": receiver.url, "vendor": "standard", "retry_schedule": ["5s", "2m", "1h"]});
        service.subscribe_as(subscriber).await;
        let event = service.publish("a.b").await;
        service.dispatch().await;
        let (attempts, now) = why(&service, &event).await;
        assert_says(&attempts[0], &[
            "Attempt 1 began at 2026-01-01T00:00:00", "when it was due", "rejected it with 503",
            "Wait 1 of 3 of the subscriber's retry_schedule is 5s without jitter",
            "Retry-After asked for 1m, which is later and is honoured",
            "the next try was set to 2026-01-01T00:01:00",
        ]);
        assert_says(&now, &["due at 2026-01-01T00:01:00", "in 1m"]);
        // The next attempt begins late.
        service.advance("70s");
        service.dispatch().await;
        let (attempts, _) = why(&service, &event).await;
        assert_says(&attempts[1], &["10s after it was due", "Wait 2 of 3", "is 2m", "is no later, so it changes nothing"]);
        service.advance("2m");
        service.dispatch().await;
        service.advance("1h");
        service.dispatch().await;
        let (attempts, now) = why(&service, &event).await;
        assert_eq!(attempts.len(), 4);
        assert_says(&attempts[2], &["rejected it with 500", "Wait 3 of 3", "is 1h"]);
        assert_says(&attempts[3], &["accepted it with 200", "So it succeeded."]);
        assert_says(&now, &["It has succeeded"]);
    }

    async fn jitter_is_told_with_its_stream_and_a_used_up_schedule_as_such(database) {
        let mut config = test_config(database);
        config.dispatch.jitter = 0.5;
        let service = Service::start_with(config).await;
        let receiver = Receiver::answering([500]).await;
        service.subscribe_as(json!({"url": receiver.url, "vendor": "standard", "retry_schedule": ["10s"]})).await;
        let event = service.publish("a.b").await;
        service.dispatch().await;
        service.advance("15s");
        service.dispatch().await;
        let delivery = service.only_delivery(&event).await;
        let (attempts, now) = why(&service, &event).await;
        let stream = format!("stream jitter/{}/1", text(&delivery["id"]));
        assert_says(&attempts[0], &["Wait 1 of 1", "is 10s, times ", "by jitter", &stream]);
        assert_says(&attempts[1], &["All 1 waits of the subscriber's retry_schedule are used up, so it failed."]);
        assert_says(&now, &["It has failed", "redelivered"]);
    }

    async fn what_waits_for_its_subscriber_and_what_is_gone_say_so(database) {
        let service = Service::start(database).await;
        let receiver = Receiver::answering([410]).await;
        let (id, _) = service.subscribe_as(json!({"url": receiver.url, "vendor": "hostedscan"})).await;
        let event = json!({"vendor": "hostedscan", "event_type": "risk.opened", "content": {}});
        let first = service.post("/api/v1/events", event.clone()).await.expect(202);
        service.dispatch().await;
        let (attempts, now) = why(&service, &first).await;
        assert_says(&attempts[0], &["410 says that the receiver is gone"]);
        assert_says(&now, &["It has failed"]);
        service.patch(&format!("/api/v1/subscribers/{id}"), json!({"enabled": true})).await.expect(200);
        let second = service.post("/api/v1/events", event).await.expect(202);
        let (attempts, now) = why(&service, &second).await;
        assert!(attempts.is_empty(), "{attempts:?}");
        assert_says(&now, &["It is due"]);
        service.patch(&format!("/api/v1/subscribers/{id}"), json!({"enabled": false})).await.expect(200);
        assert_says(&why(&service, &second).await.1, &["Its subscriber is disabled (by hand)"]);
        service.delete(&format!("/api/v1/subscribers/{id}")).await.expect(204);
        service.dispatch().await;
        assert_says(&why(&service, &second).await.1, &["Its subscriber was deleted"]);
    }

    async fn a_schedule_is_explained_with_its_horizon_and_an_outage(database) {
        let service = Service::start(database).await;
        let explain = async |query: &str| service.get(&format!("/api/v1/retry-schedule?{query}")).await;
        let hostedscan = explain("vendor=hostedscan&outage=6h").await.expect(200);
        assert_eq!(hostedscan["tries"], 10);
        assert_eq!(hostedscan["horizon"], "8h 31m");
        assert_eq!(hostedscan["attempts"][9]["at"], "2026-01-01T08:31:00.000000Z");
        assert_says(&text(&hostedscan["outage"]), &["costs 9 failed attempts; attempt 10 of 10", "2h 31m after it ends"]);
        let probely = explain("vendor=probely&outage=3d").await.expect(200);
        assert_eq!(probely["tries"], 19);
        assert_says(&text(&probely["outage"]), &["outlasts the schedule"]);
        let subscriber = json!({"url": "http://127.0.0.1:9/", "vendor": "halo", "retry_schedule": ["5s", "10s"]});
        let (id, _) = service.subscribe_as(subscriber).await;
        let own = explain(&format!("subscriber_id={id}")).await.expect(200);
        assert_eq!((&own["tries"], &own["horizon"]), (&json!(3), &json!("15s")));
        explain("").await.assert_problem(400, "invalid-parameter", "either vendor or subscriber_id");
        explain("vendor=acme").await.assert_problem(400, "invalid-parameter", "acme");
        explain("vendor=halo&outage=soon").await.assert_problem(400, "invalid-parameter", "outage");
        explain("subscriber_id=1111111111111111111112").await.assert_problem(404, "not-found", "");
    }
}
