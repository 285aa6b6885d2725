//! Subscribers: making, reading, changing and deleting them.

use serde_json::json;

use crate::support::{Receiver, Service, on_both_databases, text};

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
        let (id, _) = service.subscribe_as(json!({"url": receiver.url, "vendor": "standard", "retry_schedule": ["5s"]})).await;
        let event = service.publish("a.b").await;
        // The handed-over delivery is leased, so deleting leaves it to the lease's holder.
        service.delete(&format!("/api/v1/subscribers/{id}")).await.expect(204);
        service.dispatch().await;
        service.advance("5s");
        service.dispatch().await;
        assert_eq!(service.only_delivery(&event).await["status"], "failed");
        assert!(receiver.count() <= 1);
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
