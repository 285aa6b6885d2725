//! Publishing: what is stored, what is answered, and repeats.

use serde_json::json;

use crate::support::{Receiver, Service, on_both_databases, text};

on_both_databases! {
    async fn an_event_owes_one_delivery_to_each_subscriber_that_wants_it(database) {
        let service = Service::start(database).await;
        let receiver = Receiver::answering([200]).await;
        let add = async |patterns: serde_json::Value, vendor: &str| {
            let subscriber = json!({"url": receiver.url, "vendor": vendor, "event_types": patterns});
            service.subscribe_as(subscriber).await.0
        };
        let exact = add(json!(["risk.opened"]), "hostedscan").await;
        let beginning = add(json!(["scan.*", "risk.*"]), "hostedscan").await;
        add(json!(["scan.*"]), "hostedscan").await;
        add(json!(["*"]), "standard").await;
        let event = json!({"vendor": "hostedscan", "event_type": "risk.opened", "content": {"id": "1"}});
        let event = service.post("/api/v1/events", event).await.expect(202);
        let owed: Vec<_> = event["webhooks"].as_array().expect("a list").iter().map(|webhook| text(&webhook["subscriber_id"])).collect();
        assert_eq!(owed, [exact, beginning]);
    }

    async fn content_is_kept_and_sent_byte_for_byte(database) {
        let service = Service::start(database).await;
        let receiver = Receiver::answering([200]).await;
        service.subscribe_as(json!({"url": receiver.url, "vendor": "hostedscan"})).await;
        let content = "{ \"b\" : 1.0,  \"a\":\t[1e3, \"\\u0000\\ud83d\\ude00é\"],\n \"b\": 2 }";
        let body = format!(r#"{{"content":{content},"vendor":"hostedscan","event_type":"risk.opened"}}"#);
        let answer = service.post_raw("/api/v1/events", "application/json", body).await;
        assert_eq!(answer.status, 202, "{}", answer.text);
        assert!(answer.text.contains(content));
        let shown = service.get(&format!("/api/v1/events/{}", text(&answer.body["id"]))).await;
        assert!(shown.text.contains(content), "{}", shown.text);
        service.dispatch().await;
        let sent = String::from_utf8(receiver.got()[0].body.to_vec()).expect("UTF-8");
        assert!(sent.ends_with(&format!("\"data\":{content}}}")), "{sent}");
    }

    async fn a_repeat_with_the_same_key_returns_the_first_event_and_stores_nothing(database) {
        let service = Service::start(database).await;
        let receiver = Receiver::answering([200]).await;
        service.subscribe(&receiver.url).await;
        let publish = async |content: serde_json::Value| {
            let event = json!({"vendor": "standard", "event_type": "a.b", "content": content});
            service.send(service.request("POST", "/api/v1/events").header("Idempotency-Key", "k-1").json(&event)).await
        };
        let first = publish(json!({"n": 1})).await;
        assert!(!first.headers.contains_key("idempotent-replayed"));
        let first = first.expect(202);
        service.dispatch().await;
        service.advance("1h");
        let again = publish(json!({"n": 1})).await;
        assert_eq!(again.headers["idempotent-replayed"], "true");
        let again = again.expect(202);
        assert_eq!((&again["id"], &again["created_at"]), (&first["id"], &first["created_at"]));
        assert_eq!(again["webhooks"][0]["status"], "succeeded");
        assert_eq!(service.dispatch().await, 0);
        let other = publish(json!({"n": 2})).await;
        other.assert_problem(422, "idempotency-key-reused", "`k-1` was used for another event");
    }

    async fn repeats_at_the_same_moment_store_one_event(database) {
        let service = std::sync::Arc::new(Service::start(database).await);
        let publishes: Vec<_> = (0..20).map(|_| {
            let service = std::sync::Arc::clone(&service);
            crate::support::spawn(async move {
                let event = json!({"vendor": "standard", "event_type": "a.b", "content": {}});
                let request = service.request("POST", "/api/v1/events").header("Idempotency-Key", "k").json(&event);
                text(&service.send(request).await.expect(202)["id"])
            })
        }).collect();
        let mut ids = Vec::new();
        for publish in publishes {
            ids.push(publish.await.expect("no panic"));
        }
        ids.dedup();
        assert_eq!(ids.len(), 1, "{ids:?}");
        let list = service.get("/api/v1/events").await.expect(200);
        assert_eq!(list["data"].as_array().map(Vec::len), Some(1));
    }

    async fn a_batch_answers_for_each_event(database) {
        let service = Service::start(database).await;
        let receiver = Receiver::answering([200]).await;
        service.subscribe(&receiver.url).await;
        let batch = json!([
            {"vendor": "standard", "event_type": "a.b", "content": {}, "idempotency_key": "one"},
            {"vendor": "acme", "event_type": "a.b", "content": {}},
            {"vendor": "hostedscan", "event_type": "risk.new", "content": {}},
            {"vendor": "standard", "event_type": "a.b", "content": {}, "idempotency_key": "one"},
            {"vendor": "standard", "event_type": "a.b", "contents": {}},
        ]);
        let answer = service.post("/api/v1/events/batch", batch).await.expect(207);
        let data = answer["data"].as_array().expect("a list");
        let statuses: Vec<_> = data.iter().map(|item| item["status"].as_u64().expect("a number")).collect();
        assert_eq!(statuses, [202, 422, 422, 202, 422]);
        assert_eq!(data[1]["problem"]["type"], "urn:scanhook:problem:unknown-vendor");
        assert_eq!(data[2]["problem"]["type"], "urn:scanhook:problem:unknown-event-type");
        assert_eq!((&data[3]["event"]["id"], &data[3]["replayed"]), (&data[0]["event"]["id"], &json!(true)));
        assert!(text(&data[4]["problem"]["detail"]).contains("unknown field `contents`"));
        assert_eq!(service.dispatch().await, 1);
    }

    async fn a_batch_may_be_lines_and_a_broken_line_loses_no_other(database) {
        let service = Service::start(database).await;
        let line = r#"{"vendor":"standard","event_type":"a.b","content":{}}"#;
        let body = format!("{line}\n{{\"vendor\":\n\n{line}\r\n");
        let answer = service.post_raw("/api/v1/events/batch", "application/x-ndjson", body).await.expect(207);
        let statuses: Vec<_> = answer["data"].as_array().expect("a list").iter().map(|item| item["status"].clone()).collect();
        assert_eq!(statuses, [json!(202), json!(400), json!(202)]);
        assert_eq!(service.get("/api/v1/events").await.expect(200)["data"].as_array().map(Vec::len), Some(2));
    }

    async fn a_leap_second_does_not_change_the_body_between_attempts(database) {
        let service = Service::start(database).await;
        let receiver = Receiver::answering([500, 200]).await;
        service.subscribe_as(json!({"url": receiver.url, "vendor": "standard", "retry_schedule": ["5s"]})).await;
        let event = json!({"vendor": "standard", "event_type": "a.b", "content": 1, "occurred_at": "2016-12-31T23:59:60.5Z"});
        service.post("/api/v1/events", event).await.expect(202);
        service.dispatch().await;
        service.advance("5s");
        service.dispatch().await;
        let got = receiver.got();
        assert_eq!((got.len(), &got[0].body), (2, &got[1].body));
    }

    async fn a_thousand_events_are_published_together(database) {
        let service = Service::start(database).await;
        let receiver = Receiver::answering([200]).await;
        service.subscribe(&receiver.url).await;
        service.subscribe(&receiver.url).await;
        let event = json!({"vendor": "standard", "event_type": "a.b", "content": {}});
        let answer = service.post("/api/v1/events/batch", vec![event.clone(); 1_000].into()).await.expect(202);
        assert_eq!(answer["data"].as_array().map(Vec::len), Some(1_000));
        assert_eq!(service.dispatch().await, 2_000);
        let answer = service.post("/api/v1/events/batch", vec![event; 1_001].into()).await;
        answer.assert_problem(413, "too-many-events", "has 1001 events; at most 1000");
    }

    async fn the_same_seed_gives_the_same_ids_and_secrets(database) {
        let service = Service::start(database).await;
        let (id, secret) = service.subscribe("http://127.0.0.1:9/").await;
        let event = service.publish("a.b").await;
        // Golden: these must not change from version to version, nor from database to database.
        insta::assert_json_snapshot!("the_same_seed_gives_the_same_ids_and_secrets", json!({
            "subscriber": id, "secret": secret, "event": event["id"], "vendor_event_id": event["vendor_event_id"],
            "delivery": event["webhooks"][0]["id"],
        }));
    }
}
