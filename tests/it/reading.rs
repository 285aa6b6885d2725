//! Reading back: events, deliveries, pages, and what one account sees of another.

use serde_json::{Value, json};

use crate::support::{Receiver, Service, on_both_databases, text};

async fn ids(service: &Service, path: &str) -> Vec<String> {
    let list = service.get(path).await.expect(200);
    list["data"].as_array().expect("a list").iter().map(|item| text(&item["id"])).collect()
}

on_both_databases! {
    async fn an_event_shows_its_webhooks_as_probely_does(database) {
        let service = Service::start(database).await;
        let receiver = Receiver::answering([500]).await;
        let (subscriber, _) = service.subscribe(&receiver.url).await;
        let event = service.publish("invoice.paid").await;
        service.dispatch().await;
        let event = service.get(&format!("/api/v1/events/{}", text(&event["id"]))).await.expect(200);
        assert_eq!((&event["event_type"], &event["object_type"]), (&json!("invoice.paid"), &json!("invoice")));
        assert_eq!(event["occurred_at"], "2026-01-01T00:00:00.000000Z");
        let webhook = &event["webhooks"][0];
        let expected = json!({
            "id": webhook["id"], "subscriber_id": subscriber, "api_version": "v1", "status": "rescheduled",
            "next_try": "2026-01-01T00:00:05.000000Z", "retries": 0,
        });
        assert_eq!(*webhook, expected);
    }

    async fn lists_are_paged_by_cursor_newest_first(database) {
        let service = Service::start(database).await;
        let mut published = Vec::new();
        for n in 0..7 {
            published.push(text(&service.publish(if n % 2 == 0 { "even.one" } else { "odd.one" }).await["id"]));
            service.advance("1ms");
        }
        published.reverse();
        assert_eq!(ids(&service, "/api/v1/events").await, published);
        let mut seen = Vec::new();
        let mut path = "/api/v1/events?limit=3".to_owned();
        loop {
            let page = service.get(&path).await.expect(200);
            seen.extend(page["data"].as_array().expect("a list").iter().map(|item| text(&item["id"])));
            let Some(cursor) = page["next_cursor"].as_str() else { break };
            path = format!("/api/v1/events?limit=3&cursor={cursor}");
        }
        assert_eq!(seen, published);
        let even: Vec<_> = published.iter().step_by(2).cloned().collect();
        assert_eq!(ids(&service, "/api/v1/events?event_type=even.one").await, even);
        let path = "/api/v1/events?from=2026-01-01T00:00:00.002Z&until=2026-01-01T00:00:00.004Z";
        assert_eq!(ids(&service, path).await, published[3..5]);
        assert_eq!(ids(&service, "/api/v1/events?vendor=hostedscan").await, [""; 0]);
    }

    async fn deliveries_are_filtered(database) {
        let service = Service::start(database).await;
        let good = Receiver::answering([200]).await;
        let bad = Receiver::answering([500]).await;
        let (_, _) = service.subscribe(&good.url).await;
        let (to_bad, _) = service.subscribe_as(json!({"url": bad.url, "vendor": "standard", "event_types": ["a.*"]})).await;
        let event = service.publish("a.b").await;
        service.advance("1s");
        service.publish("c.d").await;
        service.dispatch().await;
        let webhooks: Vec<_> = event["webhooks"].as_array().expect("a list").iter().map(|webhook| text(&webhook["id"])).collect();
        let count = async |query: &str| ids(&service, &format!("/api/v1/deliveries{query}")).await.len();
        assert_eq!(count("").await, 3);
        assert_eq!(count("?status=succeeded").await, 2);
        assert_eq!(ids(&service, "/api/v1/deliveries?status=rescheduled").await, webhooks[1..]);
        assert_eq!(ids(&service, &format!("/api/v1/deliveries?subscriber_id={to_bad}")).await, webhooks[1..]);
        assert_eq!(count(&format!("?event_id={}", text(&event["id"]))).await, 2);
        assert_eq!(count("?event_type=c.d").await, 1);
        assert_eq!(count("?from=2026-01-01T00:00:01Z").await, 1);
        assert_eq!(count("?until=2026-01-01T00:00:01Z").await, 2);
    }

    async fn an_account_sees_only_its_own(database) {
        let mut service = Service::start(database).await;
        let receiver = Receiver::answering([200]).await;
        let (subscriber, _) = service.subscribe(&receiver.url).await;
        let event = service.publish("a.b").await;
        let delivery = text(&event["webhooks"][0]["id"]);
        let account = service.post("/api/v1/accounts", json!({"name": "other"})).await.expect(201);
        service.with_key(account["api_key"].as_str());
        for path in ["/api/v1/events", "/api/v1/deliveries", "/api/v1/subscribers"] {
            assert_eq!(ids(&service, path).await, [""; 0], "{path}");
        }
        for path in [
            format!("/api/v1/events/{}", text(&event["id"])),
            format!("/api/v1/deliveries/{delivery}"),
            format!("/api/v1/subscribers/{subscriber}"),
        ] {
            service.get(&path).await.assert_problem(404, "not-found", "in this account");
        }
        service.delete(&format!("/api/v1/subscribers/{subscriber}")).await.assert_problem(404, "not-found", "");
        service.patch(&format!("/api/v1/subscribers/{subscriber}"), json!({})).await.assert_problem(404, "not-found", "");
        service.post(&format!("/api/v1/deliveries/{delivery}/redeliver"), json!({})).await.assert_problem(404, "not-found", "");
        assert_eq!(service.publish("a.b").await["webhooks"], json!([]));
        let nested = service.post("/api/v1/accounts", json!({"name": "third"})).await;
        nested.assert_problem(403, "forbidden", "only the default account makes accounts");
    }

    async fn an_idempotency_key_of_one_account_is_free_in_another(database) {
        let mut service = Service::start(database).await;
        let event = json!({"vendor": "standard", "event_type": "a.b", "content": {}});
        let publish = async |service: &Service| {
            let request = service.request("POST", "/api/v1/events").header("Idempotency-Key", "k").json(&event);
            text(&service.send(request).await.expect(202)["id"])
        };
        let first = publish(&service).await;
        let account = service.post("/api/v1/accounts", json!({"name": "other"})).await.expect(201);
        service.with_key(account["api_key"].as_str());
        assert_ne!(publish(&service).await, first);
    }

    async fn an_attempt_shows_the_request_as_it_was_sent(database) {
        let service = Service::start(database).await;
        let receiver = Receiver::answering([200]).await;
        let headers = json!({"X-Custom-Name": "as typed"});
        service.subscribe_as(json!({"url": receiver.url, "vendor": "hostedscan", "headers": headers})).await;
        let event = json!({"vendor": "hostedscan", "event_type": "risk.closed", "content": {"id": "1"}});
        let event = service.post("/api/v1/events", event).await.expect(202);
        service.dispatch().await;
        let delivery = service.only_delivery(&event).await;
        let got = &receiver.got()[0];
        assert_eq!(text(&delivery["request_body"]).as_bytes(), got.body);
        let shown = delivery["attempts"][0]["request_headers"].as_array().expect("a list");
        assert_eq!(shown.len(), got.headers.len(), "{shown:?} is not {:?}", got.headers);
        for header in shown {
            let (name, value) = (text(&header[0]), text(&header[1]));
            assert_eq!(got.headers[name.as_str()], value);
        }
        assert!(shown.contains(&json!(["X-Custom-Name", "as typed"])));
    }
}

#[tokio::test]
async fn the_description_names_every_path_and_the_page_works_offline() {
    let database = crate::support::Database::sqlite();
    let service = Service::start(&database).await;
    let description = service.get("/api/openapi.json").await.expect(200);
    assert_eq!(description["openapi"], "3.1.0");
    let paths: Vec<&String> = description["paths"].as_object().expect("paths").keys().collect();
    assert_eq!(
        paths,
        [
            "/api/v1/account",
            "/api/v1/accounts",
            "/api/v1/accounts/{id}",
            "/api/v1/assert",
            "/api/v1/clock",
            "/api/v1/clock/advance",
            "/api/v1/clock/run-until-idle",
            "/api/v1/deliveries",
            "/api/v1/deliveries/{id}",
            "/api/v1/deliveries/{id}/redeliver",
            "/api/v1/deliveries/{id}/why",
            "/api/v1/event-types",
            "/api/v1/event-types/{vendor}/{event_type}",
            "/api/v1/events",
            "/api/v1/events/batch",
            "/api/v1/events/{id}",
            "/api/v1/init",
            "/api/v1/reset",
            "/api/v1/retry-schedule",
            "/api/v1/scans",
            "/api/v1/scans/{id}",
            "/api/v1/scans/{id}/cancel",
            "/api/v1/scenarios",
            "/api/v1/scenarios/lint",
            "/api/v1/scenarios/runs",
            "/api/v1/scenarios/runs/{id}",
            "/api/v1/scenarios/runs/{id}/cancel",
            "/api/v1/schedules",
            "/api/v1/schedules/{id}",
            "/api/v1/settle",
            "/api/v1/snapshots",
            "/api/v1/snapshots/{id}",
            "/api/v1/snapshots/{id}/restore",
            "/api/v1/subscribers",
            "/api/v1/subscribers/{id}",
            "/api/v1/subscribers/{id}/preflight",
            "/api/v1/subscribers/{id}/rotate-secret",
            "/api/v1/targets",
            "/api/v1/targets/{id}",
            "/api/v1/targets/{id}/fix",
            "/api/v1/targets/{id}/verify",
            "/api/v1/targets/{id}/weaknesses",
            "/api/v1/trigger",
            "/api/v1/users",
            "/api/v1/users/{email}",
            "/api/v1/users/{email}/keys",
            "/api/v1/verify",
            "/livez",
            "/readyz",
        ]
    );
    let page = service.get("/api/docs/").await;
    assert_eq!(page.status, 200);
    for part in page.text.split('"').filter(|part| part.ends_with(".js") || part.ends_with(".css")) {
        assert!(!part.starts_with("http") && !part.starts_with("//"), "{part} is not served from here");
        let part = part.trim_start_matches("./");
        assert_eq!(service.get(&format!("/api/docs/{part}")).await.status, 200, "{part}");
    }
    assert_eq!(Value::Null, service.get("/api/docs/").await.body);
}
