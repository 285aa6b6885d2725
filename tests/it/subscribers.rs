//! Subscribers: making, reading, changing and deleting them.

use std::time::Duration;

use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::support::{Receiver, Service, on_both_databases, spawn, test_config, text};

on_both_databases! {
    async fn a_secret_is_shown_once(database) {
        let service = Service::start(database).await;
        let (id, secret) = service.subscribe("http://127.0.0.1:9/").await;
        assert!(secret.starts_with("whsec_"));
        let path = format!("/api/v1/subscribers/{id}");
        assert!(!service.get(&path).await.text.contains(&secret));
        assert!(!service.get("/api/v1/subscribers").await.text.contains(&secret));
        assert!(!service.patch(&path, json!({"enabled": true})).await.text.contains(&secret));
    }

    async fn a_subscriber_reads_back_as_it_was_made(database) {
        let service = Service::start(database).await;
        let made = json!({
            "url": "https://127.0.0.1:8443/a?b=c", "vendor": "hostedscan", "event_types": ["risk.*"], "secret": "s3cret",
            "retry_schedule": {"base": "1m", "factor": 2.0, "cap": "4h", "window": "2days"}, "timeout": "2s",
            "headers": {"X-A": "1"}, "enabled": false,
        });
        let (id, secret) = service.subscribe_as(made.clone()).await;
        assert_eq!(secret, "s3cret");
        let shown = service.get(&format!("/api/v1/subscribers/{id}")).await.expect(200);
        for (field, value) in made.as_object().expect("an object").iter().filter(|(field, _)| *field != "secret") {
            assert_eq!(shown[field], *value, "{field}");
        }
    }

    async fn what_is_left_out_of_a_patch_stays_and_null_goes_back_to_the_vendors_own(database) {
        let service = Service::start(database).await;
        let made = json!({"url": "http://127.0.0.1:9/", "vendor": "standard", "retry_schedule": ["5s"], "timeout": "2s"});
        let (id, _) = service.subscribe_as(made).await;
        let path = format!("/api/v1/subscribers/{id}");
        let changed = service.patch(&path, json!({"url": "http://127.0.0.1:10/"})).await.expect(200);
        assert_eq!((&changed["url"], &changed["retry_schedule"]), (&json!("http://127.0.0.1:10/"), &json!(["5s"])));
        let changed = service.patch(&path, json!({"retry_schedule": null, "timeout": null})).await.expect(200);
        assert_eq!((&changed["retry_schedule"], &changed["timeout"]), (&json!(null), &json!(null)));
        assert_eq!(service.get(&path).await.expect(200), changed);
    }

    async fn a_changed_secret_signs_the_next_attempt(database) {
        let service = Service::start(database).await;
        let receiver = Receiver::answering([500, 200]).await;
        let made = json!({"url": receiver.url, "vendor": "hostedscan", "secret": "old", "retry_schedule": ["5s"]});
        let (id, _) = service.subscribe_as(made).await;
        let event = json!({"vendor": "hostedscan", "event_type": "risk.opened", "content": {"id": "1"}});
        service.post("/api/v1/events", event).await.expect(202);
        service.dispatch().await;
        service.patch(&format!("/api/v1/subscribers/{id}"), json!({"secret": "new"})).await.expect(200);
        service.advance("5s");
        service.dispatch().await;
        let verify = |secret: &str, index: usize| {
            let got = &receiver.got()[index];
            let scheme = scanhook::vendors::dialect(scanhook::event::Vendor::Hostedscan).scheme().expect("it signs");
            scheme.verify(&scanhook::subscriber::Secret::new(secret), &got.headers, &got.body)
        };
        assert_eq!((verify("old", 0), verify("new", 1)), (Ok(()), Ok(())));
        assert!(verify("old", 1).is_err());
    }

    async fn changed_options_are_for_later_events_and_every_attempt_of_one_sends_the_same_bytes(database) {
        let service = Service::start(database).await;
        let receiver = Receiver::answering([500, 200]).await;
        let made = json!({"url": receiver.url, "vendor": "probely", "retry_schedule": ["5s"]});
        let (id, _) = service.subscribe_as(made).await;
        let event = json!({"vendor": "probely", "event_type": "user_created"});
        let answer = service.post("/api/v1/trigger", event.clone()).await.expect(202);
        service.dispatch().await;
        let change = json!({"options": {"misspelt_occurred_at": true, "without_webhooks": true}});
        service.patch(&format!("/api/v1/subscribers/{id}"), change).await.expect(200);
        service.advance("5s");
        service.dispatch().await;
        service.post("/api/v1/trigger", event).await.expect(202);
        service.dispatch().await;
        let got = receiver.got();
        assert_eq!(got[0].body, got[1].body);
        assert!(String::from_utf8_lossy(&got[2].body).contains("ocurred_at"));
        let shown = service.only_delivery(&answer["data"][0]["event"]).await;
        assert_eq!(text(&shown["request_body"]).as_bytes(), got[0].body);
    }

    async fn a_deleted_subscriber_gets_nothing_and_its_deliveries_stay_on_record(database) {
        let service = Service::start(database).await;
        let receiver = Receiver::answering([500]).await;
        let (id, _) = service.subscribe(&receiver.url).await;
        let event = service.publish("a.b").await;
        service.dispatch().await;
        service.delete(&format!("/api/v1/subscribers/{id}")).await.expect(204);
        service.get(&format!("/api/v1/subscribers/{id}")).await.assert_problem(404, "not-found", "subscriber");
        service.delete(&format!("/api/v1/subscribers/{id}")).await.assert_problem(404, "not-found", "subscriber");
        service.advance("1d");
        assert_eq!(service.dispatch().await, 0);
        let delivery = service.only_delivery(&event).await;
        assert_eq!((&delivery["status"], &delivery["subscriber_id"]), (&json!("failed"), &json!(id)));
        let path = format!("/api/v1/deliveries/{}/redeliver", text(&delivery["id"]));
        service.post(&path, json!({})).await.assert_problem(409, "subscriber-disabled", "disabled or deleted");
    }

    async fn a_delivery_in_hand_when_its_subscriber_is_deleted_fails_without_a_request(database) {
        let service = Service::start(database).await;
        let receiver = Receiver::answering([500]).await;
        let (id, _) = service.subscribe(&receiver.url).await;
        let event = service.publish("a.b").await;
        // The handed-over delivery is leased, so deleting leaves it to the lease's holder.
        service.delete(&format!("/api/v1/subscribers/{id}")).await.expect(204);
        assert_eq!(service.dispatch().await, 0);
        assert_eq!(service.only_delivery(&event).await["status"], "failed");
        assert_eq!(receiver.count(), 0);
    }

    async fn a_delivery_in_hand_when_its_subscriber_is_disabled_waits(database) {
        let service = Service::start(database).await;
        let receiver = Receiver::answering([200]).await;
        let (id, _) = service.subscribe(&receiver.url).await;
        let event = service.publish("a.b").await;
        let path = format!("/api/v1/subscribers/{id}");
        service.patch(&path, json!({"enabled": false})).await.expect(200);
        assert_eq!(service.dispatch().await, 0);
        assert_eq!(service.only_delivery(&event).await["status"], "scheduled");
        service.patch(&path, json!({"enabled": true})).await.expect(200);
        assert_eq!(service.dispatch().await, 1);
        assert_eq!(service.only_delivery(&event).await["status"], "succeeded");
    }

    async fn a_delivery_in_hand_goes_to_the_url_and_under_the_secret_of_now(database) {
        let service = Service::start(database).await;
        let (before, after) = (Receiver::answering([200]).await, Receiver::answering([200]).await);
        let (id, _) = service.subscribe_as(json!({"url": before.url, "vendor": "hostedscan", "secret": "old"})).await;
        let event = json!({"vendor": "hostedscan", "event_type": "risk.opened", "content": {"id": "1"}});
        service.post("/api/v1/events", event).await.expect(202);
        let change = json!({"url": after.url, "secret": "new"});
        service.patch(&format!("/api/v1/subscribers/{id}"), change).await.expect(200);
        assert_eq!(service.dispatch().await, 1);
        assert_eq!((before.count(), after.count()), (0, 1));
        let scheme = scanhook::vendors::dialect(scanhook::event::Vendor::Hostedscan).scheme().expect("it signs");
        let got = &after.got()[0];
        assert_eq!(scheme.verify(&scanhook::subscriber::Secret::new("new"), &got.headers, &got.body), Ok(()));
    }

    async fn what_another_process_changes_counts_for_attempts_more_than_ten_milliseconds_after_publish(database) {
        for (later, counts) in [(10, (1, 0)), (11, (0, 1))] {
            let (service, other) = (Service::start(database).await, Service::start(database).await);
            let (before, after) = (Receiver::answering([200]).await, Receiver::answering([200]).await);
            let (id, _) = service.subscribe(&before.url).await;
            service.publish("a.b").await;
            other.patch(&format!("/api/v1/subscribers/{id}"), json!({"url": after.url})).await.expect(200);
            service.clock.advance(Duration::from_millis(later));
            assert_eq!(service.dispatch().await, 1);
            assert_eq!((before.count(), after.count()), counts, "{later} ms later");
            service.delete(&format!("/api/v1/subscribers/{id}")).await.expect(204);
        }
    }

    async fn a_410_stops_what_is_in_hand(database) {
        let mut config = test_config(database);
        (config.dispatch.concurrency, config.dispatch.concurrency_per_subscriber) = (1, 1);
        let service = Service::start_with(config).await;
        let (gone, healthy) = (Receiver::answering([410]).await, Receiver::answering([200]).await);
        let (id, _) = service.subscribe(&gone.url).await;
        service.subscribe(&healthy.url).await;
        for _ in 0..20 {
            service.publish("a.b").await;
        }
        let stop = CancellationToken::new();
        let dispatcher = service.app.dispatcher.clone();
        let running = spawn({ let stop = stop.clone(); async move { dispatcher.run(&stop).await } });
        // The two take turns, so the other has had at least nineteen.
        healthy.wait_for(20).await;
        stop.cancel();
        running.await.expect("no panic");
        assert_eq!(gone.count(), 1);
        let count = async |status: &str| {
            let list = service.get(&format!("/api/v1/deliveries?subscriber_id={id}&status={status}")).await.expect(200);
            list["data"].as_array().expect("a list").len()
        };
        assert_eq!((count("failed").await, count("scheduled").await), (1, 19));
    }

    async fn a_410_from_the_url_of_before_does_not_disable_the_subscriber(database) {
        let service = Service::start(database).await;
        let before = Receiver::answering_once_open(410).await;
        let (id, _) = service.subscribe(&before.url).await;
        let event = service.publish("a.b").await;
        let dispatcher = service.app.dispatcher.clone();
        let dispatching = spawn(async move { dispatcher.run_once().await.expect("the database answers") });
        before.wait_for(1).await;
        let path = format!("/api/v1/subscribers/{id}");
        service.patch(&path, json!({"url": "http://127.0.0.1:9/"})).await.expect(200);
        before.gate().open();
        assert_eq!(dispatching.await.expect("no panic"), 1);
        assert_eq!(service.get(&path).await.expect(200)["enabled"], true);
        assert_eq!(service.only_delivery(&event).await["status"], "failed");
    }

    async fn an_attempt_under_way_when_its_subscriber_goes_is_the_last(database) {
        for (change, status) in [(None, "failed"), (Some(json!({"enabled": false})), "rescheduled")] {
            let service = Service::start(database).await;
            let receiver = Receiver::answering_once_open(500).await;
            let (id, _) = service.subscribe(&receiver.url).await;
            let event = service.publish("a.b").await;
            let dispatcher = service.app.dispatcher.clone();
            let dispatching = spawn(async move { dispatcher.run_once().await.expect("the database answers") });
            receiver.wait_for(1).await;
            let path = format!("/api/v1/subscribers/{id}");
            match change {
                Some(change) => service.patch(&path, change).await.expect(200),
                None => service.delete(&path).await.expect(204),
            };
            receiver.gate().open();
            assert_eq!(dispatching.await.expect("no panic"), 1);
            let delivery = service.only_delivery(&event).await;
            assert_eq!((&delivery["status"], &delivery["attempts"][0]["outcome"]), (&json!(status), &json!("rejected")));
            service.advance("30d");
            assert_eq!(service.dispatch().await, 0);
        }
    }

    async fn what_is_published_while_its_subscriber_is_deleted_is_not_left_owed(database) {
        let service = Service::start(database).await;
        let event = json!({"vendor": "standard", "event_type": "a.b", "content": 1, "deliver_at": "2099-01-01T00:00:00Z"});
        for _ in 0..20 {
            let (id, _) = service.subscribe("http://127.0.0.1:9/").await;
            let path = format!("/api/v1/subscribers/{id}");
            let publish = || service.post("/api/v1/events", event.clone());
            let (_, _, deleted, _, _) = tokio::join!(publish(), publish(), service.delete(&path), publish(), publish());
            deleted.expect(204);
            let owed = service.get("/api/v1/deliveries?status=scheduled").await.expect(200);
            assert_eq!(owed["data"], json!([]));
        }
    }

    async fn changes_at_the_same_time_do_not_undo_one_another(database) {
        let service = Service::start(database).await;
        let (id, _) = service.subscribe("http://127.0.0.1:9/").await;
        let path = format!("/api/v1/subscribers/{id}");
        for round in 1..=20 {
            let changes = [
                json!({"timeout": format!("{round}s")}),
                json!({"headers": {"X-Round": round.to_string()}}),
                json!({"event_types": [format!("round.{round}")]}),
                json!({"url": format!("http://127.0.0.1:{round}/")}),
                json!({"retry_schedule": [format!("{round}s")]}),
            ];
            let patch = |change: &serde_json::Value| service.patch(&path, change.clone());
            let [a, b, c, d, e] = &changes;
            tokio::join!(patch(a), patch(b), patch(c), patch(d), patch(e));
            let shown = service.get(&path).await.expect(200);
            for (field, value) in changes.iter().filter_map(|change| change.as_object()).flatten() {
                assert_eq!(shown[field], *value, "{field} in round {round}");
            }
        }
    }

    async fn what_is_owed_to_a_disabled_subscriber_waits(database) {
        let service = Service::start(database).await;
        let receiver = Receiver::answering([500, 200]).await;
        let (id, _) = service.subscribe(&receiver.url).await;
        let event = service.publish("a.b").await;
        service.dispatch().await;
        let path = format!("/api/v1/subscribers/{id}");
        service.patch(&path, json!({"enabled": false})).await.expect(200);
        service.advance("1d");
        assert_eq!(service.dispatch().await, 0);
        assert_eq!(service.only_delivery(&event).await["status"], "rescheduled");
        service.patch(&path, json!({"enabled": true})).await.expect(200);
        assert_eq!(service.dispatch().await, 1);
        assert_eq!(service.only_delivery(&event).await["status"], "succeeded");
    }
}
