//! Dispatching: sign, send, decide, record.

use serde_json::json;

use crate::support::{
    RawReceiver, Receiver, Reply, Service, on_both_databases, self_signed_receiver, test_config, text,
};

on_both_databases! {
    async fn a_2xx_answer_succeeds(database) {
        let service = Service::start(database).await;
        let receiver = Receiver::answering([204]).await;
        service.subscribe(&receiver.url).await;
        let event = service.publish("invoice.paid").await;
        assert_eq!(event["webhooks"][0]["status"], "scheduled");
        assert_eq!(service.dispatch().await, 1);
        let delivery = service.only_delivery(&event).await;
        assert_eq!(delivery["status"], "succeeded");
        assert_eq!(delivery["retries"], 0);
        assert_eq!(delivery["attempts"][0]["outcome"], "accepted");
        assert_eq!(delivery["attempts"][0]["response_status"], 204);
        assert_eq!(receiver.got()[0].path, "/hook");
    }

    async fn a_refused_delivery_waits_for_the_schedule(database) {
        let service = Service::start(database).await;
        let receiver = Receiver::answering([500, 302, 200]).await;
        service.subscribe_as(json!({"url": receiver.url, "vendor": "standard", "retry_schedule": ["5s", "1h"]})).await;
        let event = service.publish("invoice.paid").await;
        assert_eq!(service.dispatch().await, 1);
        let delivery = service.only_delivery(&event).await;
        assert_eq!(delivery["status"], "rescheduled");
        assert_eq!(delivery["retries"], 0);
        assert_eq!(delivery["next_try"], "2026-01-01T00:00:05.000000Z");
        service.advance("4999ms");
        assert_eq!(service.dispatch().await, 0);
        service.advance("1ms");
        assert_eq!(service.dispatch().await, 1);
        service.advance("59m 59s");
        assert_eq!(service.dispatch().await, 0);
        service.advance("1s");
        assert_eq!(service.dispatch().await, 1);
        let delivery = service.only_delivery(&event).await;
        assert_eq!((&delivery["status"], &delivery["retries"]), (&json!("succeeded"), &json!(2)));
        assert_eq!(receiver.count(), 3);
    }

    async fn a_delivery_fails_when_its_schedule_is_used_up(database) {
        let service = Service::start(database).await;
        let receiver = Receiver::answering([500]).await;
        service.subscribe_as(json!({"url": receiver.url, "vendor": "standard", "retry_schedule": ["5s"]})).await;
        let event = service.publish("invoice.paid").await;
        service.dispatch().await;
        service.advance("5s");
        service.dispatch().await;
        service.advance("30d");
        assert_eq!(service.dispatch().await, 0);
        let delivery = service.only_delivery(&event).await;
        assert_eq!(delivery["status"], "failed");
        assert_eq!(delivery["retries"], 1);
        assert_eq!(delivery["next_try"], "2026-01-01T00:00:05.000000Z");
        assert_eq!(delivery["attempts"].as_array().map(Vec::len), Some(2));
    }

    async fn the_vendors_own_schedule_is_lived_through_to_the_second(database) {
        let service = Service::start(database).await;
        let receiver = Receiver::answering([503]).await;
        service.subscribe_as(json!({"url": receiver.url, "vendor": "hostedscan"})).await;
        let event = json!({"vendor": "hostedscan", "event_type": "risk.opened", "content": {"id": "1"}});
        let event = service.post("/api/v1/events", event).await.expect(202);
        assert_eq!(service.dispatch().await, 1);
        for wait in [60, 120, 240, 480, 960, 1920, 3840, 7680, 15360] {
            service.advance(&format!("{}s", wait - 1));
            assert_eq!(service.dispatch().await, 0, "before {wait}");
            service.advance("1s");
            assert_eq!(service.dispatch().await, 1, "after {wait}");
        }
        assert_eq!(service.only_delivery(&event).await["status"], "failed");
    }

    async fn retry_after_pushes_the_next_try_later_and_never_earlier(database) {
        let service = Service::start(database).await;
        let asking = |value: &str| Reply { headers: vec![("retry-after", value.to_owned())], ..Reply::from(503) };
        let receiver = Receiver::answering([
            asking("60"),
            asking("1"),
            asking("Thu, 01 Jan 2026 01:00:00 GMT"),
            asking("999999999"),
        ]).await;
        let schedule = json!(["5s", "5s", "5s", "5s"]);
        service.subscribe_as(json!({"url": receiver.url, "vendor": "standard", "retry_schedule": schedule})).await;
        let event = service.publish("invoice.paid").await;
        for (next_try, wait) in [
            ("2026-01-01T00:01:00.000000Z", "60s"),
            ("2026-01-01T00:01:05.000000Z", "5s"),
            ("2026-01-01T01:00:00.000000Z", "58m 55s"),
            ("2026-01-02T01:00:00.000000Z", "0s"),
        ] {
            assert_eq!(service.dispatch().await, 1);
            assert_eq!(service.only_delivery(&event).await["next_try"], next_try);
            service.advance(wait);
        }
    }

    async fn a_retry_after_behind_long_headers_is_honoured(database) {
        let service = Service::start(database).await;
        let headers = vec![("x-long", "h".repeat(30_000)), ("retry-after", "3600".to_owned())];
        let receiver = Receiver::answering([Reply { headers, ..Reply::from(503) }]).await;
        service.subscribe(&receiver.url).await;
        let event = service.publish("invoice.paid").await;
        service.dispatch().await;
        let delivery = service.only_delivery(&event).await;
        assert_eq!(delivery["next_try"], "2026-01-01T01:00:00.000000Z");
        assert!(delivery["attempts"][0]["response_headers"].to_string().contains("retry-after"), "{delivery}");
    }

    async fn gone_fails_at_once_and_disables_the_subscriber(database) {
        let service = Service::start(database).await;
        let receiver = Receiver::answering([500, 410]).await;
        let (id, _) = service.subscribe(&receiver.url).await;
        let waiting = service.publish("invoice.paid").await;
        service.dispatch().await;
        let gone = service.publish("invoice.paid").await;
        service.dispatch().await;
        assert_eq!(service.only_delivery(&gone).await["status"], "failed");
        let subscriber = service.get(&format!("/api/v1/subscribers/{id}")).await.expect(200);
        assert_eq!(subscriber["enabled"], false);
        assert!(text(&subscriber["disabled_reason"]).contains("410 Gone"));
        service.advance("1d");
        assert_eq!(service.dispatch().await, 0, "what is owed waits while the subscriber is disabled");
        assert_eq!(service.publish("invoice.paid").await["webhooks"], json!([]));
        service.patch(&format!("/api/v1/subscribers/{id}"), json!({"enabled": true})).await.expect(200);
        assert_eq!(service.dispatch().await, 1);
        assert_eq!(service.only_delivery(&waiting).await["attempts"].as_array().map(Vec::len), Some(2));
    }

    async fn redirects_are_not_followed(database) {
        let service = Service::start(database).await;
        let elsewhere = Receiver::answering([200]).await;
        let moved = Reply { headers: vec![("location", elsewhere.url.clone())], ..Reply::from(307) };
        let receiver = Receiver::answering([moved]).await;
        service.subscribe(&receiver.url).await;
        let event = service.publish("invoice.paid").await;
        service.dispatch().await;
        let delivery = service.only_delivery(&event).await;
        assert_eq!(delivery["status"], "rescheduled");
        assert_eq!(delivery["attempts"][0]["outcome"], "rejected");
        assert_eq!((receiver.count(), elsewhere.count()), (1, 0));
    }

    async fn what_receivers_send_is_bounded_before_it_is_kept(database) {
        let service = Service::start(database).await;
        let headers = vec![("x-long", "h".repeat(30_000)), ("x-short", "s".to_owned())];
        let long = Reply { body: vec![b'x'; 1_000_000], headers, ..Reply::from(500) };
        let receiver = Receiver::answering([long]).await;
        service.subscribe(&receiver.url).await;
        let event = service.publish("invoice.paid").await;
        service.dispatch().await;
        let attempt = &service.only_delivery(&event).await["attempts"][0];
        assert_eq!(attempt["outcome"], "rejected");
        assert_eq!(text(&attempt["response_body"]).len(), 16 * 1024);
        assert!(attempt["response_headers"].to_string().len() < 17 * 1024);
    }

    async fn every_way_of_not_answering_is_named(database) {
        let service = Service::start(database).await;
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
        let hanging = Receiver::answering([Reply { hang: true, ..Reply::from(200) }]).await;
        let plain = Receiver::answering([200]).await;
        let nonsense = RawReceiver::sending(b"220 mail.example ESMTP\r\n").await;
        let endless = RawReceiver::flooding_with(b"HTTP/1.1 102 Processing\r\n\r\n").await;
        for (url, error, detail) in [
            (format!("http://{free}/"), "connect", "Connection refused"),
            ("http://no-such-host.invalid/".to_owned(), "dns", "cannot resolve no-such-host.invalid"),
            (plain.url.replace("http://", "https://"), "tls", "InvalidContentType"),
            (hanging.url.clone(), "timeout", "no complete answer within"),
            ("http://169.254.169.254/".to_owned(), "blocked_address", "169.254.0.0/16"),
            ("http://[::ffff:169.254.169.254]/".to_owned(), "blocked_address", "169.254.0.0/16"),
            (format!("http://{}/", nonsense.address), "protocol", "invalid HTTP"),
            (format!("http://{}/", endless.address), "protocol", "more than 100 interim answers"),
        ] {
            // A slow resolver or a busy machine must not turn another error into a time-out.
            let timeout = if error == "timeout" { "200ms" } else { "60s" };
            let subscriber = json!({"url": url, "vendor": "standard", "timeout": timeout});
            let (id, _) = service.subscribe_as(subscriber).await;
            let event = service.publish("invoice.paid").await;
            service.dispatch().await;
            let delivery = service.only_delivery(&event).await;
            let attempt = &delivery["attempts"][0];
            assert_eq!(delivery["status"], "rescheduled", "{url}");
            assert_eq!(attempt["outcome"], "unreachable", "{url}");
            assert_eq!(attempt["error"], error, "{url}: {attempt}");
            assert!(text(&attempt["error_detail"]).contains(detail), "{url}: {attempt}");
            service.delete(&format!("/api/v1/subscribers/{id}")).await.expect(204);
        }
    }

    async fn an_answer_whose_body_breaks_off_counts_by_its_status(database) {
        let service = Service::start(database).await;
        for (head, status, outcome) in [("200 OK", "succeeded", "accepted"), ("500 No", "rescheduled", "rejected")] {
            let bytes = format!("HTTP/1.1 {head}\r\ncontent-length: 10\r\n\r\nhalf");
            let broken = RawReceiver::sending(bytes.into_bytes().leak()).await;
            let (id, _) = service.subscribe(&format!("http://{}/", broken.address)).await;
            let event = service.publish("invoice.paid").await;
            service.dispatch().await;
            let delivery = service.only_delivery(&event).await;
            let attempt = &delivery["attempts"][0];
            assert_eq!((&delivery["status"], &attempt["outcome"]), (&json!(status), &json!(outcome)), "{attempt}");
            assert_eq!(attempt["response_body"], "half");
            service.delete(&format!("/api/v1/subscribers/{id}")).await.expect(204);
        }
    }

    async fn a_self_signed_certificate_is_refused_unless_the_subscriber_or_the_settings_say_otherwise(database) {
        let (url, certificate) = self_signed_receiver().await;
        let attempt = async |service: &Service, subscriber: serde_json::Value, event: serde_json::Value| {
            let (id, _) = service.subscribe_as(subscriber).await;
            let answer = service.post("/api/v1/trigger", event).await.expect(202);
            service.dispatch().await;
            let delivery = service.only_delivery(&answer["data"][0]["event"]).await;
            service.delete(&format!("/api/v1/subscribers/{id}")).await.expect(204);
            delivery["attempts"][0].clone()
        };
        let probely = json!({"vendor": "probely", "event_type": "user_created"});
        let subscriber = |check_cert: bool| json!({"url": url, "vendor": "probely", "options": {"check_cert": check_cert}});
        let service = Service::start(database).await;
        let checked = attempt(&service, subscriber(true), probely.clone()).await;
        assert_eq!((&checked["error"], &checked["outcome"]), (&json!("tls"), &json!("unreachable")), "{checked}");
        let unchecked = attempt(&service, subscriber(false), probely.clone()).await;
        assert_eq!(unchecked["outcome"], "accepted", "{unchecked}");
        let standard = json!({"vendor": "standard", "event_type": "a.b"});
        let refused = attempt(&service, json!({"url": url, "vendor": "standard"}), standard.clone()).await;
        assert_eq!(refused["error"], "tls", "one subscriber's trust is not another's");
        drop(service);
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), certificate).expect("written");
        let mut config = test_config(database);
        config.dispatch.extra_ca_file = file.path().to_owned();
        let service = Service::start_with(config).await;
        let trusted = attempt(&service, json!({"url": url, "vendor": "standard"}), standard).await;
        assert_eq!(trusted["outcome"], "accepted", "{trusted}");
    }

    async fn jitter_is_the_same_for_the_same_seed(database) {
        let mut config = test_config(database);
        config.dispatch.jitter = 0.5;
        let service = Service::start_with(config).await;
        let receiver = Receiver::answering([500]).await;
        service.subscribe_as(json!({"url": receiver.url, "vendor": "standard", "retry_schedule": ["100s"]})).await;
        let first = service.publish("invoice.paid").await;
        let second = service.publish("invoice.paid").await;
        service.dispatch().await;
        let first = text(&service.only_delivery(&first).await["next_try"]);
        let second = text(&service.only_delivery(&second).await["next_try"]);
        // Golden: a change here means that the same seed no longer gives the same times.
        assert_eq!((&*first, &*second), ("2026-01-01T00:02:18.808179Z", "2026-01-01T00:01:11.783308Z"));
    }

    async fn a_finished_delivery_is_redelivered_with_its_schedule_anew(database) {
        let service = Service::start(database).await;
        let receiver = Receiver::answering([500, 500, 500, 200]).await;
        service.subscribe_as(json!({"url": receiver.url, "vendor": "standard", "retry_schedule": ["5s"]})).await;
        let event = service.publish("invoice.paid").await;
        service.dispatch().await;
        service.advance("5s");
        service.dispatch().await;
        let delivery = service.only_delivery(&event).await;
        assert_eq!(delivery["status"], "failed");
        let path = format!("/api/v1/deliveries/{}/redeliver", text(&delivery["id"]));
        let again = service.post(&path, json!({})).await.expect(202);
        assert_eq!((&again["status"], &again["next_try"]), (&json!("rescheduled"), &json!("2026-01-01T00:00:05.000000Z")));
        assert_eq!(service.dispatch().await, 1);
        assert_eq!(service.only_delivery(&event).await["status"], "rescheduled");
        service.advance("5s");
        assert_eq!(service.dispatch().await, 1);
        let delivery = service.only_delivery(&event).await;
        assert_eq!((&delivery["status"], &delivery["retries"]), (&json!("succeeded"), &json!(3)));
        let bodies: Vec<_> = receiver.got().into_iter().map(|got| got.body).collect();
        assert!(bodies.iter().all(|body| *body == bodies[0]), "every attempt sends the same bytes");
    }

    async fn a_delivery_that_waits_for_a_retry_can_be_made_due_now(database) {
        let service = Service::start(database).await;
        let receiver = Receiver::answering([500, 200]).await;
        service.subscribe_as(json!({"url": receiver.url, "vendor": "standard", "retry_schedule": ["10h"]})).await;
        let event = service.publish("invoice.paid").await;
        service.dispatch().await;
        let id = text(&service.only_delivery(&event).await["id"]);
        service.post(&format!("/api/v1/deliveries/{id}/redeliver"), json!({})).await.expect(202);
        assert_eq!(service.dispatch().await, 1);
        assert_eq!(service.only_delivery(&event).await["status"], "succeeded");
    }

    async fn a_delivery_in_flight_cannot_be_redelivered(database) {
        let service = Service::start(database).await;
        let receiver = Receiver::answering([200]).await;
        service.subscribe(&receiver.url).await;
        let event = service.publish("invoice.paid").await;
        let id = text(&event["webhooks"][0]["id"]);
        // It has been handed over under a lease, and waits to be sent.
        let answer = service.post(&format!("/api/v1/deliveries/{id}/redeliver"), json!({})).await;
        answer.assert_problem(409, "in-flight", "an attempt is being made at this moment");
    }

    async fn an_event_is_not_delivered_before_its_time(database) {
        let service = Service::start(database).await;
        let receiver = Receiver::answering([200]).await;
        service.subscribe(&receiver.url).await;
        let event = json!({
            "vendor": "standard", "event_type": "a.b", "content": {}, "deliver_at": "2026-01-01T06:00:00+01:00",
        });
        let event = service.post("/api/v1/events", event).await.expect(202);
        assert_eq!(event["webhooks"][0]["next_try"], "2026-01-01T05:00:00.000000Z");
        service.advance("4h 59m");
        assert_eq!(service.dispatch().await, 0);
        service.advance("1m");
        assert_eq!(service.dispatch().await, 1);
    }

    async fn a_full_hand_leaves_the_rest_in_the_table(database) {
        let mut config = test_config(database);
        config.dispatch.in_hand = 3;
        config.dispatch.in_hand_per_subscriber = 2;
        let service = Service::start_with(config).await;
        let receiver = Receiver::answering([200]).await;
        service.subscribe(&receiver.url).await;
        for _ in 0..10 {
            service.publish("invoice.paid").await;
        }
        assert_eq!(service.dispatch().await, 10);
        assert_eq!(receiver.count(), 10);
    }
}
