//! Bad input: a clear error that names the thing and the way out. Nothing is stored.

use scanhook::config::AuthMode;
use serde_json::{Value, json};

use crate::support::{Answer, Service, on_both_databases, test_config, text};

fn event(change: impl FnOnce(&mut Value)) -> Value {
    let mut event = json!({"vendor": "hostedscan", "event_type": "risk.opened", "content": {"id": "1"}});
    change(&mut event);
    event
}

fn subscriber(field: &str, value: Value) -> Value {
    let mut subscriber = json!({"url": "http://127.0.0.1:9/", "vendor": "standard"});
    subscriber[field] = value;
    subscriber
}

#[track_caller]
fn assert_field(answer: &Answer, pointer: &str, reason: &str) {
    answer.assert_problem(422, "invalid-field", reason);
    assert_eq!(answer.body["errors"][0]["pointer"], pointer, "{}", answer.text);
}

on_both_databases! {
    async fn an_unusable_event_is_refused_and_nothing_is_stored(database) {
        let service = Service::start(database).await;
        let publish = async |change: fn(&mut Value)| service.post("/api/v1/events", event(change)).await;
        publish(|event| event["vendor"] = json!("acme")).await
            .assert_problem(422, "unknown-vendor", "unknown vendor `acme`; known are standard, hostedscan, halo, probely");
        publish(|event| event["event_type"] = json!("risk.new")).await
            .assert_problem(422, "unknown-event-type", "hostedscan has no event type `risk.new`; known are scan.succeeded, risk.opened, risk.closed");
        assert_field(&publish(|event| event["content"] = json!([1])).await, "/content", "must be an object");
        assert_field(&publish(|event| event["object_type"] = json!("scan")).await, "/object_type", "the object type of risk.opened is `risk`");
        assert_field(&publish(|event| event["occurred_at"] = json!("yesterday")).await, "/occurred_at", "occurred_at: ");
        assert_field(&publish(|event| event["occurred_at"] = json!("+99999-01-01T00:00:00Z")).await, "/occurred_at", "");
        assert_field(&publish(|event| event["deliver_at"] = json!(5)).await, "/deliver_at", "deliver_at: ");
        assert_field(&publish(|event| event["evnt"] = json!(5)).await, "/evnt", "unknown field `evnt`");
        assert_field(&publish(|event| event["idempotency_key"] = json!("a\u{0}b")).await, "/idempotency_key", "control characters");
        let missing = service.post("/api/v1/events", json!({"vendor": "standard", "event_type": "a.b"})).await;
        missing.assert_problem(422, "invalid-field", "missing field `content`");
        let standard = service.post("/api/v1/events", json!({"vendor": "standard", "event_type": "a b", "content": 1})).await;
        assert_field(&standard, "/event_type", "joined by full stops");
        assert_eq!(service.get("/api/v1/events").await.expect(200)["data"], json!([]));
    }

    async fn a_body_that_is_not_json_is_refused(database) {
        let service = Service::start(database).await;
        for path in ["/api/v1/events", "/api/v1/subscribers", "/api/v1/accounts", "/api/v1/events/batch"] {
            let post = async |content_type: &str, body: &'static str| service.post_raw(path, content_type, body).await;
            post("application/json", "").await.assert_problem(400, "malformed-json", "the body is empty");
            post("text/plain", "{}").await.assert_problem(415, "unsupported-media-type", "`text/plain`; send application/json");
            let bare = service.send(service.request("POST", path).body("{}")).await;
            bare.assert_problem(415, "unsupported-media-type", "the content type is missing; send application/json");
            post("application/x-www-form-urlencoded", "a=b").await.assert_problem(415, "unsupported-media-type", "send application/json");
            if path != "/api/v1/events/batch" {
                post("application/json", "{").await.assert_problem(400, "malformed-json", "EOF while parsing");
            }
        }
        service.post_raw("/api/v1/events/batch", "application/json", "[{\"vendor\":").await
            .assert_problem(400, "malformed-json", "EOF while parsing");
        service.post_raw("/api/v1/accounts", "application/json", "{\"name\": \"a\"} b").await
            .assert_problem(400, "malformed-json", "trailing characters");
        service.post_raw("/api/v1/events", "application/json", "{\"vendor\": \"a\u{1}\"}").await
            .assert_problem(400, "malformed-json", "control character");
        let bytes = vec![b'{', b'"', 0xff, b'"', b':', b'1', b'}'];
        service.post_raw("/api/v1/events", "application/json", bytes).await.assert_problem(400, "malformed-json", "");
    }

    async fn an_array_is_not_taken_for_an_object(database) {
        let service = Service::start(database).await;
        for (path, body) in [
            ("/api/v1/accounts", json!(["name"])),
            ("/api/v1/events", json!(["standard", "a.b", 1])),
            ("/api/v1/trigger", json!(["standard"])),
            ("/api/v1/subscribers", json!("text")),
        ] {
            let answer = service.post(path, body).await;
            assert_eq!((answer.status, &answer.body["detail"]), (422, &json!("the body must be a JSON object")), "{path}");
        }
        let answer = service.post("/api/v1/subscribers", subscriber("options", json!(["classic"]))).await;
        assert_field(&answer, "/options", "invalid type: sequence, expected an object");
        let answer = service.post("/api/v1/events/batch", json!([["standard", "a.b", 1]])).await.expect(207);
        assert_eq!(answer["data"][0]["problem"]["detail"], "the body must be a JSON object");
        assert_eq!(service.get("/api/v1/events").await.expect(200)["data"], json!([]));
        assert_eq!(service.get("/api/v1/subscribers").await.expect(200)["data"], json!([]));
    }

    async fn a_long_name_is_not_echoed_whole(database) {
        let service = Service::start(database).await;
        for field in ["vendor", "event_type"] {
            let mut event = event(|_| ());
            event[field] = json!("x".repeat(100_000));
            let answer = service.post("/api/v1/events", event).await;
            assert_eq!(answer.status, 422);
            assert!(answer.text.len() < 1_000, "{field}: {}", answer.text.len());
        }
    }

    async fn two_idempotency_keys_are_one_too_many(database) {
        let service = Service::start(database).await;
        let request = service.request("POST", "/api/v1/events").json(&event(|_| ()));
        let answer = service.send(request.header("idempotency-key", "a").header("idempotency-key", "b")).await;
        answer.assert_problem(400, "invalid-header", "Idempotency-Key is given more than once");
        assert_eq!(service.get("/api/v1/events").await.expect(200)["data"], json!([]));
    }

    async fn a_body_over_the_limit_is_refused(database) {
        let mut config = test_config(database);
        config.server.body_limit_bytes = 1_000;
        config.server.batch_body_limit_bytes = 5_000;
        let service = Service::start_with(config).await;
        let long = |length: usize| event(|event| event["content"] = json!({"a": "x".repeat(length)}));
        service.post("/api/v1/events", long(1_000)).await
            .assert_problem(413, "body-too-large", "larger than 1000 bytes; server.body_limit_bytes sets the limit");
        service.post("/api/v1/events/batch", json!([long(6_000)])).await.assert_problem(413, "body-too-large", "5000 bytes");
        let answer = service.post("/api/v1/events/batch", json!([long(10), long(2_000)])).await.expect(207);
        assert_eq!(answer["data"][1]["problem"]["type"], "urn:scanhook:problem:body-too-large");
    }

    async fn an_unusable_subscriber_is_refused_with_every_field_named(database) {
        let service = Service::start(database).await;
        let add = async |field: &str, value: Value| service.post("/api/v1/subscribers", subscriber(field, value)).await;
        assert_field(&add("url", json!("not a url")).await, "/url", "`not a url` is not a URL");
        assert_field(&add("url", json!("ftp://127.0.0.1/")).await, "/url", "only http and https are sent to");
        assert_field(&add("headers", json!({"bad name": "1"})).await, "/headers/bad name", "not a header name that HTTP allows");
        assert_field(&add("headers", json!({"X-A": "1\r\nX-B: 2"})).await, "/headers/X-A", "one that HTTP forbids");
        assert_field(&add("headers", json!({"Host": "1"})).await, "/headers/Host", "set by the request itself");
        assert_field(&add("event_types", json!([])).await, "/event_types", "at least one event type");
        assert_field(&add("event_types", json!(["a*b"])).await, "/event_types/0", "one `*`, at its end");
        assert_field(&add("secret", json!("short")).await, "/secret", "must start with `whsec_`");
        assert_field(&add("retry_schedule", json!(["soon"])).await, "/retry_schedule/0", "`soon` is not a duration");
        assert_field(&add("retry_schedule", json!({"base": "1s"})).await, "/retry_schedule", "missing field `factor`");
        assert_field(&add("timeout", json!("1h")).await, "/timeout", "must be from 1ms to 2m");
        assert_field(&add("colour", json!("red")).await, "/colour", "unknown field `colour`");
        add("vendor", json!("acme")).await.assert_problem(422, "unknown-vendor", "unknown vendor `acme`");
        let mut several = subscriber("secret", json!("short"));
        several["timeout"] = json!("never");
        let answer = service.post("/api/v1/subscribers", several).await;
        assert_eq!(answer.body["errors"].as_array().map(Vec::len), Some(2), "{}", answer.text);
        assert_eq!(service.get("/api/v1/subscribers").await.expect(200)["data"], json!([]));
        let (id, _) = service.subscribe("http://127.0.0.1:9/").await;
        let patch = service.patch(&format!("/api/v1/subscribers/{id}"), json!({"url": "file:///a"})).await;
        assert_field(&patch, "/url", "only http and https");
        let patch = service.patch(&format!("/api/v1/subscribers/{id}"), json!({"vendor": "hostedscan"})).await;
        assert_field(&patch, "/vendor", "unknown field `vendor`");
    }

    async fn an_unknown_id_names_nothing(database) {
        let service = Service::start(database).await;
        for id in ["1C6sYRbTAvYTB1LMvsHH9S", "nonsense", "%00", "1C6sYRbTAvYTB1LMvsHH90"] {
            for resource in ["events", "deliveries", "subscribers"] {
                let answer = service.get(&format!("/api/v1/{resource}/{id}")).await;
                answer.assert_problem(404, "not-found", "");
            }
            let answer = service.post(&format!("/api/v1/deliveries/{id}/redeliver"), json!({})).await;
            answer.assert_problem(404, "not-found", "");
        }
        service.get("/api/v1/nothing").await.assert_problem(404, "not-found", "there is no /api/v1/nothing");
        service.delete("/api/v1/events").await.assert_problem(405, "method-not-allowed", "");
    }

    async fn an_unusable_query_is_refused(database) {
        let service = Service::start(database).await;
        for (query, detail) in [
            ("events?limit=0", "it must be from 1 to 250"),
            ("events?limit=251", "it must be from 1 to 250"),
            ("events?limit=many", "limit"),
            ("events?vendor=acme", "acme"),
            ("events?evnt_type=a", "unknown field `evnt_type`"),
            ("events?event_type=%00", "event_type must not contain control characters"),
            ("events?from=yesterday", "from"),
            ("events?event_type=%ff", "the query is not UTF-8"),
            ("deliveries?status=lost", "lost"),
            ("deliveries?subscriber_id=x", "22 Base58 characters"),
            ("deliveries?event_type=%0a", "control characters"),
            ("subscribers?limit=-1", "limit"),
        ] {
            service.get(&format!("/api/v1/{query}")).await.assert_problem(400, "invalid-parameter", detail);
        }
    }

    async fn a_cursor_that_was_tampered_with_is_refused(database) {
        let mut service = Service::start(database).await;
        for _ in 0..3 {
            service.publish("a.b").await;
        }
        let cursor = text(&service.get("/api/v1/events?limit=1").await.expect(200)["next_cursor"]);
        let path = |cursor: &str| format!("/api/v1/events?limit=1&cursor={cursor}");
        assert_eq!(service.get(&path(&cursor)).await.status, 200);
        let mut changed = cursor.clone().into_bytes();
        let last = changed.len() - 3;
        changed[last] = if changed[last] == b'A' { b'B' } else { b'A' };
        for wrong in [String::from_utf8(changed).expect("ASCII"), "AAAA".to_owned(), "%".to_owned(), String::new(), "é".to_owned()] {
            service.get(&path(&wrong)).await.assert_problem(400, "invalid-cursor", "start again without it");
        }
        let elsewhere = service.get(&format!("/api/v1/events?event_type=a.b&cursor={cursor}")).await;
        elsewhere.assert_problem(400, "invalid-cursor", "not one that was given for this list");
        let account = service.post("/api/v1/accounts", json!({"name": "other"})).await.expect(201);
        service.with_key(account["api_key"].as_str());
        service.get(&path(&cursor)).await.assert_problem(400, "invalid-cursor", "");
    }

    async fn a_wrong_api_key_is_refused_also_in_open_mode(database) {
        let mut service = Service::start(database).await;
        service.with_key(Some("shk_wrong"));
        let answer = service.get("/api/v1/events").await;
        assert_eq!(answer.headers["www-authenticate"], "Bearer");
        answer.assert_problem(401, "unauthorized", "no account has this API key");
        service.with_key(None);
        let basic = service.send(service.request("GET", "/api/v1/events").basic_auth("a", Some("b"))).await;
        basic.assert_problem(401, "unauthorized", "must be `Bearer` and an API key");
    }

    async fn in_keys_mode_no_key_is_refused_and_the_default_key_opens(database) {
        let mut config = test_config(database);
        config.auth.mode = AuthMode::Keys;
        config.auth.default_key = "shk_of_the_default_account".to_owned();
        let mut service = Service::start_with(config).await;
        service.get("/api/v1/events").await.assert_problem(401, "unauthorized", "an API key is needed");
        service.with_key(Some("shk_of_the_default_account"));
        let account = service.post("/api/v1/accounts", json!({"name": "other"})).await.expect(201);
        service.with_key(account["api_key"].as_str());
        assert_eq!(service.get("/api/v1/events").await.status, 200);
    }

    async fn an_unusable_idempotency_key_is_refused(database) {
        let service = Service::start(database).await;
        for key in [&b"k\xe9y"[..], &[b'k'; 256], b""] {
            let value = http::HeaderValue::from_bytes(key).expect("a header value");
            let request = service.request("POST", "/api/v1/events").header("Idempotency-Key", value);
            let answer = service.send(request.json(&event(|_| ()))).await;
            answer.assert_problem(400, "invalid-header", "Idempotency-Key");
        }
    }

    async fn an_unusable_account_name_is_refused(database) {
        let service = Service::start(database).await;
        for name in [json!(""), json!("a\u{0}"), json!("x".repeat(201))] {
            assert_field(&service.post("/api/v1/accounts", json!({"name": name})).await, "/name", "name: ");
        }
    }
}
