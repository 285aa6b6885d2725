//! Probely's own API, as its consumers call it: webhooks, events, targets, scans, findings.

use scanhook::config::AuthMode;
use serde_json::{Value, json};

use crate::support::{Answer, Database, Receiver, Service, on_both_databases, test_config, text};

/// Calls Probely's API as one account.
pub(crate) struct Probely<'s> {
    pub(crate) service: &'s Service,
    pub(crate) key: String,
}

impl<'s> Probely<'s> {
    pub(crate) fn of(service: &'s Service) -> Self {
        Self { service, key: "any".to_owned() }
    }

    pub(crate) async fn call(&self, method: &str, path: &str, body: Option<Value>) -> Answer {
        let request = self.service.request(method, &format!("/probely{path}"));
        let request = request.header("Authorization", format!("JWT {}", self.key));
        // The official client sends an object with every request.
        self.service.send(request.json(&body.unwrap_or_else(|| json!({})))).await
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        self.call("GET", path, None).await.expect(200)
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.call("POST", path, Some(body)).await
    }

    pub(crate) async fn patch(&self, path: &str, body: Value) -> Answer {
        self.call("PATCH", path, Some(body)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.call("DELETE", path, None).await
    }

    pub(crate) async fn raw(&self, method: &str, path: &str, content_type: &str, body: &str) -> Answer {
        let request = self.service.request(method, &format!("/probely{path}"));
        let request = request.header("Authorization", "JWT any").header("Content-Type", content_type);
        self.service.send(request.body(body.to_owned())).await
    }

    pub(crate) async fn add_target(&self, url: &str) -> String {
        let target = self.post("/targets/", json!({"site": {"url": url, "name": "Shop"}})).await.expect(201);
        text(&target["id"])
    }

    pub(crate) async fn scan_now(&self, target: &str) -> String {
        text(&self.post(&format!("/targets/{target}/scan_now/"), json!({})).await.expect(200)["id"])
    }

    /// The field of each object of a list.
    pub(crate) async fn field(&self, path: &str, field: &str) -> Vec<Value> {
        let page = self.get(path).await;
        page["results"].as_array().expect("a list").iter().map(|one| one[field].clone()).collect()
    }

    pub(crate) async fn count(&self, path: &str) -> u64 {
        self.get(path).await["count"].as_u64().expect("a number")
    }

    pub(crate) async fn status_of(&self, scan: &str) -> Value {
        self.get(&format!("/scans/{scan}/")).await["status"].clone()
    }
}

/// The service in the real world's pace, taking webhooks at http URLs.
pub(crate) async fn start(database: &Database) -> Service {
    let mut config = test_config(database);
    config.scanner.time_scale = 1.0;
    config.vendors.probely.https_only = false;
    Service::start_with(config).await
}

pub(crate) async fn step(service: &Service, by: &str) {
    service.advance(by);
    service.app.scanner.run_once().await.expect("the scanner goes on");
}

fn types(events: &[Value]) -> Vec<String> {
    let own = events.iter().filter(|event| event["vendor"] == "probely");
    own.map(|event| text(&event["event_type"])).collect()
}

/// A target with findings of one scan.
pub(crate) async fn scanned(probely: &Probely<'_>, url: &str) -> String {
    let target = probely.add_target(url).await;
    probely.scan_now(&target).await;
    probely.service.live().await;
    target
}

on_both_databases! {
    async fn webhooks_are_created_replaced_patched_and_deleted(database) {
        let service = start(database).await;
        let probely = Probely::of(&service);
        let target = probely.add_target("https://a.example.com").await;
        for place in ["/webhooks/".to_owned(), format!("/targets/{target}/webhooks/")] {
            let missing = probely.post(&place, json!({})).await.expect(400);
            assert_eq!(missing, json!({"url": ["This field is required."]}));
            let made = probely.post(&place, json!({"url": "https://hook.example.com/a/", "name": "n", "check_cert": false})).await.expect(201);
            let one = format!("{place}{}/", text(&made["id"]));
            assert_eq!((&made["api_version"], &made["check_cert"], &made["name"]), (&json!("v1"), &json!(false), &json!("n")));
            assert_eq!((probely.get(&one).await, probely.count(&place).await), (made.clone(), 1));
            service.advance("1s");
            let patched = probely.patch(&one, json!({"name": "m"})).await.expect(200);
            assert_eq!((&patched["name"], &patched["check_cert"], &patched["url"]), (&json!("m"), &json!(false), &made["url"]));
            assert_ne!(patched["changed"], made["changed"]);
            probely.call("PUT", &one, Some(json!({"name": "m"}))).await.expect(400);
            let put = probely.call("PUT", &one, Some(json!({"url": "https://hook.example.com/b/"}))).await.expect(200);
            assert_eq!((&put["name"], &put["check_cert"], &put["url"]), (&json!(""), &json!(true), &json!("https://hook.example.com/b/")));
            assert_eq!(probely.call("PUT", &one, Some(put.clone())).await.expect(200), put, "what is shown can be put back");
            assert_eq!(probely.post(&place, json!({"url": "https://a.test/", "api_version": "v2"})).await.expect(400), json!({"api_version": ["\"v2\" is not a valid choice."]}));
            assert_eq!(probely.delete(&one).await.text, "");
            for method in ["GET", "PUT", "PATCH", "DELETE"] {
                let gone = probely.call(method, &one, Some(json!({"url": "https://a.test/"}))).await.expect(404);
                assert_eq!(gone, json!({"detail": "Not found."}), "{method}");
            }
        }
        let of_target = probely.post(&format!("/targets/{target}/webhooks/"), json!({"url": "https://a.test/"})).await.expect(201);
        probely.call("GET", &format!("/webhooks/{}/", text(&of_target["id"])), None).await.expect(404);
    }

    async fn webhooks_must_be_https_unless_the_setting_says_otherwise(database) {
        let service = Service::start(database).await;
        let refused = Probely::of(&service).post("/webhooks/", json!({"url": "http://127.0.0.1:9/"})).await.expect(400);
        assert!(refused["url"][0].as_str().is_some_and(|text| text.contains("vendors.probely.https_only")), "{refused}");
        let made = Probely::of(&service).post("/webhooks/", json!({"url": "https://127.0.0.1:9/"})).await.expect(201);
        let one = format!("/webhooks/{}/", text(&made["id"]));
        Probely::of(&service).patch(&one, json!({"url": "http://127.0.0.1:9/"})).await.expect(400);
        drop(service);
        let lenient = start(database).await;
        Probely::of(&lenient).patch(&one, json!({"url": "http://127.0.0.1:9/"})).await.expect(200);
    }

    async fn a_webhook_gets_the_object_of_the_api_and_its_event_shows_how_it_stands(database) {
        let service = start(database).await;
        let probely = Probely::of(&service);
        let receiver = Receiver::answering([500, 200]).await;
        let webhook = probely.post("/webhooks/", json!({"url": receiver.url})).await.expect(201);
        let target = probely.add_target("https://a.example.com").await;
        let shown = probely.get(&format!("/targets/{target}/")).await;
        let event = probely.get("/events/").await["results"][0].clone();
        let one = format!("/events/{}/", text(&event["id"]));
        assert_eq!((&event["event_type"], &event["content"]), (&json!("target_created"), &shown));
        let state = async || {
            let event = probely.get(&one).await;
            assert_eq!(event["webhooks"].as_array().map(Vec::len), Some(1), "{event}");
            let webhook = event["webhooks"][0].clone();
            (text(&webhook["status"]), webhook["retries"].clone(), text(&webhook["next_try"]), webhook["id"].clone())
        };
        let id = webhook["id"].clone();
        assert_eq!(state().await, ("scheduled".into(), json!(0), "2026-01-01T00:00:00.000000Z".into(), id.clone()));
        service.dispatch().await;
        assert_eq!(state().await, ("rescheduled".into(), json!(0), "2026-01-01T00:01:00.000000Z".into(), id.clone()));
        service.advance("1m");
        service.dispatch().await;
        let (status, retries, _, _) = state().await;
        assert_eq!((status.as_str(), retries, receiver.count()), ("succeeded", json!(1), 2));
        let body: Value = serde_json::from_slice(&receiver.got()[1].body).expect("JSON");
        assert_eq!((&body["content"], &body["id"], &body["webhooks"][0]["id"]), (&shown, &event["id"], &id));
        probely.delete(&format!("/webhooks/{}/", text(&id))).await.expect(204);
        assert_eq!(state().await.3, id, "a webhook that is gone had an id");
        for method in ["POST", "PUT", "PATCH", "DELETE"] {
            let refused = probely.call(method, &one, None).await.expect(405);
            assert_eq!(refused, json!({"detail": format!("Method \"{method}\" not allowed.")}));
        }
    }

    async fn a_target_has_the_events_of_its_scans_and_findings_only(database) {
        let service = start(database).await;
        let probely = Probely::of(&service);
        let (own, all) = (Receiver::answering([200]).await, Receiver::answering([200]).await);
        let target = probely.add_target("https://a.example.com").await;
        let other = probely.add_target("https://b.example.com").await;
        probely.post("/webhooks/", json!({"url": all.url})).await.expect(201);
        probely.post(&format!("/targets/{target}/webhooks/"), json!({"url": own.url})).await.expect(201);
        // A mention of a target is not about it.
        probely.patch(&format!("/targets/{other}/"), json!({"site": {"desc": format!("see \"id\":\"{target}\"")}})).await.expect(200);
        for one in [&target, &other] {
            probely.post(&format!("/targets/{one}/verify/"), json!({})).await.expect(200);
            probely.scan_now(one).await;
        }
        service.live().await;
        let events = service.events().await;
        let of_probely = types(&events);
        let about = |event: &&Value| event["vendor"] == "probely" && event["content"]["target"]["id"] == json!(target);
        let expected = events.iter().filter(about).count();
        assert!(expected >= 3, "{of_probely:?}");
        assert_eq!((own.count(), all.count()), (expected, of_probely.len() - 2));
        let listed = probely.get(&format!("/targets/{target}/events/?length=1000")).await;
        assert_eq!(listed["count"], expected, "{listed}");
        let first = text(&listed["results"][0]["id"]);
        assert_eq!(probely.get(&format!("/targets/{target}/events/{first}/")).await, listed["results"][0]);
        probely.call("GET", &format!("/targets/{other}/events/{first}/"), None).await.expect(404);
        probely.call("GET", "/targets/nothing/events/", None).await.expect(404);
        assert_eq!(probely.count("/events/?event_type=target_verified").await, 2);
        let newest = probely.field("/events/?length=1000", "occurred_at").await;
        assert!(newest.windows(2).all(|pair| text(&pair[0]) >= text(&pair[1])), "newest first");
    }

    async fn targets_are_added_listed_changed_verified_and_removed(database) {
        let service = start(database).await;
        let probely = Probely::of(&service);
        assert_eq!(probely.post("/targets/", json!({})).await.expect(400), json!({"site": ["This field is required."]}));
        assert_eq!(probely.post("/targets/", json!({"site": {}})).await.expect(400), json!({"site": {"url": ["This field is required."]}}));
        for url in ["nope", "ftp://a.test", "https:a.test", " https://a.test", "https://a\n.test", "https://"] {
            let refused = probely.post("/targets/", json!({"site": {"url": url}})).await.expect(400);
            assert_eq!(refused, json!({"site": {"url": ["Enter a valid URL."]}}), "{url}");
        }
        let a = probely.add_target("https://a.example.com").await;
        service.advance("1s");
        probely.post("/targets/", json!({"site": {"url": "https://a.example.com"}})).await.expect(400);
        let twin = probely.post("/targets/?duplicate_check=False", json!({"site": {"url": "https://a.example.com", "name": "Twin"}, "type": "api", "labels": [{"name": "red"}]})).await.expect(201);
        service.advance("1s");
        let b = text(&twin["id"]);
        assert_eq!(probely.field("/targets/", "id").await, [json!(b), json!(a)], "last changed first");
        assert_eq!(probely.field("/targets/?ordering=changed", "id").await, [json!(a), json!(b)]);
        assert_eq!(probely.field("/targets/?ordering=-name", "id").await, [json!(b), json!(a)]);
        let changed = probely.patch(&format!("/targets/{a}/"), json!({"site": {"name": "New"}, "scan_profile": "full", "blackout_period": {"begin": "13:27", "cease": "14:00", "weekdays": [1, 7], "enabled": true}})).await.expect(200);
        assert_eq!((&changed["site"]["name"], &changed["blackout_period"]["changed_by"]["email"]), (&json!("New"), &json!("owner@example.com")));
        for (filter, expected) in [
            ("type=api", 1), ("type=single", 1), ("label=red", 1), ("label=blue", 0), ("scan_profile=full", 1), ("risk=null", 2),
            ("verified=True", 0), ("search=NEW", 1), ("unlimited=False", 0), ("label=red&label=blue&label_logical_operator=and", 0),
            ("label=red&label=blue&label_logical_operator=or", 1), (&*format!("id={a}&id={b}"), 2), (&*format!("id={a}"), 1),
        ] {
            assert_eq!(probely.count(&format!("/targets/?{filter}")).await, expected, "{filter}");
        }
        let missing = probely.call("GET", &format!("/targets/?id={a}&id=zzz&is_id_404_validation=True"), None).await.expect(404);
        assert_eq!(missing, json!({"detail": "Not Found", "is_id_404_validation": true, "invalid_ids": ["zzz"]}));
        let verified = probely.post(&format!("/targets/{a}/verify/"), json!({})).await.expect(200);
        assert_eq!((&verified["site"]["verified"], &verified["site"]["verification_method"]), (&json!(true), &json!("dns_txt")));
        let moved = probely.patch(&format!("/targets/{a}/"), json!({"site": {"url": "https://c.example.com/app"}})).await.expect(200);
        assert_eq!((&moved["site"]["host"], &moved["site"]["verified"]), (&json!("c.example.com"), &json!(false)));
        let both = json!({"ids": [a, b, a], "report_type": "owasp"});
        assert_eq!(probely.post("/targets/bulk/update/", both.clone()).await.expect(200), json!({"ids": [a, b]}));
        assert_eq!(probely.field("/targets/", "report_type").await, ["owasp", "owasp"]);
        let missing = probely.post("/targets/bulk/delete/?is_id_404_validation=True", json!({"ids": [a, "zzz"]})).await.expect(404);
        assert_eq!(missing["invalid_ids"], json!(["zzz"]));
        let schema = "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.json\"\r\n\r\n{\"openapi\": \"3.0.0\"}\r\n--b--\r\n";
        let uploaded = probely.raw("POST", &format!("/targets/{b}/upload_api_schema_file/"), "multipart/form-data; boundary=b", schema).await.expect(201);
        assert!(uploaded["site"]["api_scan_settings"]["api_schema_file"].is_string(), "{uploaded}");
        assert_eq!(uploaded["site"]["api_scan_settings"]["api_schema_url"], Value::Null);
        probely.delete(&format!("/targets/{a}/")).await.expect(204);
        probely.delete(&format!("/targets/{a}/")).await.expect(404);
        assert_eq!(probely.post("/targets/bulk/delete/", json!({"ids": [b, b]})).await.expect(200), json!({"ids": [b]}));
        assert_eq!(types(&service.events().await), ["target_created", "target_created", "target_verified", "target_deleted", "target_deleted"]);
    }

    async fn a_scan_says_where_it_stands_while_it_is_held(database) {
        let service = start(database).await;
        let probely = Probely::of(&service);
        let target = probely.add_target("https://a.example.com").await;
        let fresh = probely.post(&format!("/targets/{target}/scan_now/"), json!({"scan_profile": "full"})).await.expect(200);
        let scan = text(&fresh["id"]);
        assert_eq!((&fresh["status"], &fresh["started"], &fresh["lows"], &fresh["scan_profile"]), (&json!("queued"), &Value::Null, &json!(0), &json!("full")));
        let act = async |action: &str| probely.post(&format!("/targets/{target}/scans/{scan}/{action}/"), json!({})).await;
        // Also one that is still queued stands still, and is queued again.
        assert_eq!(act("pause").await.expect(200)["status"], "pausing");
        assert_eq!(act("resume").await.expect(200)["status"], "resuming");
        assert!(act("pause").await.expect(400)["error"].is_string());
        step(&service, "20s").await;
        assert_eq!(probely.status_of(&scan).await, "queued");
        step(&service, "1h").await;
        assert_eq!(probely.status_of(&scan).await, "started");
        assert!(probely.get(&format!("/targets/{target}/")).await["running_scan"]["started"].is_string());
        assert_eq!(act("pause").await.expect(200)["status"], "pausing");
        act("pause").await.expect(400);
        drop(service);
        // A daemon that starts again goes on from there.
        let service = start(database).await;
        let probely = Probely::of(&service);
        let act = async |action: &str| probely.post(&format!("/targets/{target}/scans/{scan}/{action}/"), json!({})).await;
        step(&service, "2h").await;
        assert_eq!(probely.status_of(&scan).await, "paused");
        step(&service, "48h").await;
        assert_eq!(probely.status_of(&scan).await, "paused");
        assert_eq!(act("resume").await.expect(200)["status"], "resuming");
        step(&service, "20s").await;
        assert_eq!(probely.status_of(&scan).await, "started");
        act("resume").await.expect(400);
        act("pause").await.expect(200);
        step(&service, "20s").await;
        assert_eq!(act("stop").await.expect(200)["status"], "canceling");
        act("cancel").await.expect(400);
        step(&service, "20s").await;
        assert_eq!(probely.status_of(&scan).await, "canceled");
        let ended = probely.get(&format!("/targets/{target}/scans/{scan}/")).await;
        assert!(ended["completed"].is_string());
        for action in ["pause", "resume", "cancel", "stop"] {
            assert!(act(action).await.expect(400)["error"].is_string(), "{action}");
        }
        act("explode").await.expect(404);
        let told = types(&service.events().await);
        assert!(told.iter().all(|one| ["target_created", "scan_started", "scan_canceled", "finding_detected"].contains(&&**one)), "{told:?}");
    }

    async fn a_paused_scan_is_cancelled_with_its_target(database) {
        let service = start(database).await;
        let probely = Probely::of(&service);
        let target = probely.add_target("https://a.example.com").await;
        let scan = probely.scan_now(&target).await;
        probely.post(&format!("/targets/{target}/scans/{scan}/pause/"), json!({})).await.expect(200);
        step(&service, "20s").await;
        probely.delete(&format!("/targets/{target}/")).await.expect(204);
        probely.call("GET", &format!("/scans/{scan}/"), None).await.expect(404);
        service.live().await;
        assert_eq!(types(&service.events().await), ["target_created", "scan_canceled", "target_deleted"]);
    }

    async fn scans_are_listed_by_filter_and_held_in_bulk(database) {
        let service = start(database).await;
        let probely = Probely::of(&service);
        let (a, b) = (probely.add_target("https://a.example.com").await, probely.add_target("https://b.example.com").await);
        let bulk = json!({"targets": [{"id": a}, {"id": b}, {"id": a}], "scan_profile": "full"});
        let started = probely.post("/scans/bulk/start/?is_id_404_validation=True", bulk).await.expect(200);
        let ids: Vec<String> = started.as_array().expect("a list").iter().map(|scan| text(&scan["id"])).collect();
        assert_eq!(ids.len(), 2, "one a target");
        let missing = probely.post("/scans/bulk/start/", json!({"targets": [{"id": a}, {"id": "zzz"}]})).await.expect(404);
        assert_eq!(missing["invalid_ids"], json!(["zzz"]));
        step(&service, "5m").await;
        let scans = json!({"scans": [{"id": ids[0]}, {"id": ids[1]}, {"id": ids[0]}]});
        for (action, during, after) in [("pause", "pausing", "paused"), ("resume", "resuming", "started"), ("cancel", "canceling", "canceled")] {
            let changed = probely.post(&format!("/scans/bulk/{action}/"), scans.clone()).await.expect(200);
            assert!(changed.as_array().expect("a list").iter().all(|scan| scan["status"] == during), "{changed}");
            step(&service, "20s").await;
            assert_eq!(probely.count(&format!("/scans/?status={after}")).await, 2, "{after}");
        }
        probely.post("/scans/bulk/cancel/", scans).await.expect(400);
        for (filter, expected) in [
            (&*format!("target={a}"), 1), ("status=queued&status=canceled", 2), ("status=queued", 0), ("started__gt=2026-01-01", 2),
            ("started__lt=2026-01-01T00:00:00Z", 0), ("completed__gte=2026-01-01 00:00:00", 2), ("search=a.example", 1), ("label=x", 0),
        ] {
            assert_eq!(probely.count(&format!("/scans/?{filter}")).await, expected, "{filter}");
        }
        assert_eq!(probely.count(&format!("/targets/{b}/scans/")).await, 1);
        probely.call("GET", &format!("/targets/{b}/scans/{}/", ids[0]), None).await.expect(404);
        assert!(probely.call("GET", "/scans/?started__gt=soon", None).await.expect(400)["started__gt"].is_array());
    }

    async fn findings_are_found_by_compound_id_and_only_fixed_is_told(database) {
        let service = start(database).await;
        let probely = Probely::of(&service);
        let target = scanned(&probely, "https://a.example.com").await;
        let other = scanned(&probely, "https://b.example.com").await;
        let finding = probely.get(&format!("/targets/{target}/findings/?ordering=id")).await["results"][0].clone();
        let id = format!("{target}-{}", finding["id"]);
        let one = format!("/targets/{target}/findings/{}/", finding["id"]);
        assert_eq!((probely.get(&one).await, probely.get(&format!("/findings/{id}/")).await), (finding.clone(), finding.clone()));
        assert_eq!(probely.count(&format!("/findings/?id={id}&is_id_404_validation=True")).await, 1);
        let missing = probely.call("GET", &format!("/findings/?id={target}-999999&is_id_404_validation=True"), None).await.expect(404);
        assert_eq!(missing["invalid_ids"], json!([format!("{target}-999999")]));
        let before = service.events().await.len();
        for state in ["accepted", "invalid", "notfixed", "fixed"] {
            service.advance("1s");
            let changed = probely.patch(&one, json!({"state": state, "comment": format!("it is {state}")})).await.expect(200);
            assert_eq!((&changed["state"], &changed["changed_by"]["email"]), (&json!(state), &json!("owner@example.com")));
            assert_eq!(probely.count(&format!("/findings/?state={state}&target={target}&id={id}")).await, 1);
        }
        let events = service.events().await.split_off(before);
        assert_eq!(types(&events), ["finding_fixed"]);
        let told = events.iter().find(|event| event["vendor"] == "probely").expect("it is told");
        assert_eq!(told["content"], probely.get(&one).await, "the event shows all that was set with it");
        probely.patch(&one, json!({"state": "fixed"})).await.expect(200);
        assert_eq!(types(&service.events().await.split_off(before)).len(), 1, "it was fixed already");
        assert_eq!(probely.patch(&one, json!({"state": "gone"})).await.expect(400), json!({"state": ["\"gone\" is not a valid choice."]}));
        let scan = probely.post(&format!("{one}retest/"), json!({})).await.expect(201);
        assert_eq!((&scan["status"], &probely.get(&one).await["retesting"]), (&json!("queued"), &json!(true)));
        assert_eq!(probely.count("/findings/?state=retesting").await, 1);
        service.live().await;
        let again = probely.get(&one).await;
        assert_eq!((&again["retesting"], &again["state"], &again["new"]), (&json!(false), &json!("notfixed"), &json!(false)));
        assert_eq!(again["changed_by"]["name"], "Probely", "a scan has changed it");
        assert_eq!(probely.count("/findings/?state=retesting").await, 0);
        let bulk = json!({"ids": [{"target_id": target, "finding_id": finding["id"]}, id, id], "state": "accepted"});
        let answer = probely.post("/findings/bulk/update/", bulk).await.expect(200);
        assert_eq!(answer["ids"], json!([{"target_id": target, "finding_id": finding["id"].to_string()}]));
        let foreign = json!({"ids": [format!("{other}-1")], "state": "accepted"});
        probely.post(&format!("/targets/{target}/findings/bulk-update/"), foreign).await.expect(404);
        let own = json!({"ids": [finding["id"]], "state": "invalid"});
        probely.post(&format!("/targets/{target}/findings/bulk-update/"), own).await.expect(200);
        assert_eq!(probely.get(&one).await["state"], "invalid");
        probely.post("/findings/bulk/retest/", json!({"ids": [{"target_id": target, "finding_id": finding["id"]}]})).await.expect(200);
        assert_eq!(probely.count("/scans/?status=queued").await, 1);
        assert_eq!(probely.post("/findings/bulk/update/", json!({"ids": ["zzz-1"]})).await.expect(404)["invalid_ids"], json!(["zzz-1"]));
        let scans = probely.count(&format!("/findings/?scan={}", text(&again["scans"][0]))).await;
        assert!(scans >= 1 && scans < probely.count("/findings/").await);
        for (filter, expected) in [("lastfound_after=2030-01-01", 0), ("changed_before=2020-01-01", 0), ("severity=50", 0), ("review_status=pending", 0), ("target_label=x", 0)] {
            assert_eq!(probely.count(&format!("/findings/?{filter}")).await, expected, "{filter}");
        }
        let put = probely.call("PUT", &one, Some(probely.get(&one).await)).await;
        put.expect(200);
    }

    async fn accounts_do_not_see_one_another(database) {
        let mut config = test_config(database);
        config.auth.mode = AuthMode::Keys;
        config.auth.default_key = "shk_of_the_default_account".to_owned();
        let mut service = Service::start_with(config).await;
        service.with_key(Some("shk_of_the_default_account"));
        let account = service.post("/api/v1/accounts", json!({"name": "other"})).await.expect(201);
        service.with_key(None);
        let own = Probely { service: &service, key: "shk_of_the_default_account".to_owned() };
        let other = Probely { service: &service, key: text(&account["api_key"]) };
        let target = own.add_target("https://a.example.com").await;
        let webhook = text(&own.post("/webhooks/", json!({"url": "https://a.test/"})).await.expect(201)["id"]);
        let event = text(&own.field("/events/", "id").await[0]);
        for path in [format!("/targets/{target}/"), format!("/webhooks/{webhook}/"), format!("/events/{event}/"), format!("/targets/{target}/events/")] {
            own.get(&path).await;
            assert_eq!(other.call("GET", &path, None).await.expect(404), json!({"detail": "Not found."}), "{path}");
        }
        for path in ["/targets/", "/webhooks/", "/events/", "/scans/", "/findings/"] {
            assert_eq!(other.count(path).await, 0, "{path}");
        }
        other.delete(&format!("/targets/{target}/")).await.expect(404);
        let wrong = Probely { service: &service, key: "wrong".to_owned() };
        assert_eq!(wrong.call("GET", "/targets/", None).await.expect(401), json!({"detail": "Invalid token."}));
    }

    async fn nobody_gets_in_without_a_key(database) {
        for mode in [AuthMode::Open, AuthMode::OpenToAnyone, AuthMode::Keys] {
            let mut config = test_config(database);
            config.auth.mode = mode;
            config.auth.default_key = "shk_of_the_default_account".to_owned();
            let service = Service::start_with(config).await;
            for header in [None, Some("JWT"), Some("JWT "), Some("Bearer x"), Some("x")] {
                let request = service.request("GET", "/probely/targets/");
                let request = header.into_iter().fold(request, |request, header| request.header("Authorization", header));
                let answer = service.send(request).await;
                assert!(answer.headers.contains_key("www-authenticate"));
                assert_eq!(answer.expect(401), json!({"detail": "Authentication credentials were not provided."}), "{header:?}");
            }
        }
    }
}
