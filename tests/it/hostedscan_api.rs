//! HostedScan's own API, as its consumers call it back: the documented calls, shapes and errors.

use std::collections::BTreeSet;

use http::HeaderMap;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use quick_xml::Reader;
use quick_xml::events::Event;
use scanhook::config::AuthMode;
use serde_json::{Value, json};

use crate::support::{Answer, Database, Receiver, Service, on_both_databases, test_config, text};

const BASE: &str = "/hostedscan/v1";
const THREE: [&str; 3] = ["owasp-zap-missing-hsts", "owasp-zap-missing-csp", "nmap-open-tcp-port-22"];

/// A program that calls the API with a key.
struct Consumer<'s> {
    service: &'s Service,
    key: String,
}

impl<'s> Consumer<'s> {
    fn of(service: &'s Service) -> Self {
        Self::with_key(service, "key_0123456789abcdef")
    }

    fn with_key(service: &'s Service, key: &str) -> Self {
        Self { service, key: key.to_owned() }
    }

    fn request(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        self.service.request(method, &format!("{BASE}{path}")).header("X-HOSTEDSCAN-API-KEY", &self.key)
    }

    async fn get(&self, path: &str) -> Answer {
        self.service.send(self.request("GET", path)).await
    }

    async fn send(&self, method: &str, path: &str, body: Value) -> Answer {
        self.service.send(self.request(method, path).json(&body)).await
    }

    async fn post(&self, path: &str, body: Value) -> Answer {
        self.send("POST", path, body).await
    }

    /// The data of an answer that is a success.
    async fn data(&self, path: &str) -> Value {
        self.get(path).await.expect(200)["data"].clone()
    }

    /// A file: its content type and its bytes.
    async fn download(&self, path: &str) -> (String, Vec<u8>) {
        let answer = self.request("GET", path).send().await.expect("the API answers");
        assert_eq!(answer.status(), 200, "{path}");
        let content_type = answer.headers()["content-type"].to_str().expect("text").to_owned();
        (content_type, answer.bytes().await.expect("a whole file").to_vec())
    }

    /// Starts a scan of the shop: its id.
    async fn scan(&self, scanner: &str) -> String {
        let scan = self.post("/scans", json!({"type": scanner, "targets": ["shop.example.test"]})).await.expect(200);
        text(&scan["data"]["id"])
    }

    /// A list to its end, page by page, and how many pages it had.
    async fn all(&self, path: &str) -> (Vec<Value>, usize) {
        let (mut items, mut pages, mut token) = (Vec::new(), 0, String::new());
        loop {
            let separator = if path.contains('?') { '&' } else { '?' };
            let page = self.get(&format!("{path}{separator}page_token={token}")).await.expect(200);
            let data = page["data"].as_array().expect("a list");
            assert!(data.len() <= 500);
            items.extend(data.iter().cloned());
            pages += 1;
            match page.get("next_page_token") {
                Some(next) => token = text(next),
                None => return (items, pages),
            }
        }
    }
}

/// Asserts an error: its status, and a text in its `error`, which is all that it has.
#[track_caller]
fn assert_error(answer: &Answer, status: u16, part: &str) {
    assert_eq!(answer.status, status, "{}", answer.text);
    assert_eq!(answer.headers["content-type"], "application/json");
    let error = answer.body["error"].as_str().expect("a text");
    assert!(error.contains(part), "{error:?} says nothing of {part:?}");
    assert_eq!(answer.body.as_object().map(serde_json::Map::len), Some(1));
}

/// Asserts that a value has exactly the fields of a shape, each of its type.
#[track_caller]
fn assert_shape(value: &Value, shape: &Value, place: &str) {
    match shape {
        Value::Object(fields) => {
            let own: BTreeSet<&String> = value.as_object().expect(place).keys().collect();
            assert_eq!(own, fields.keys().collect(), "the fields of {place}");
            fields.iter().for_each(|(name, shape)| assert_shape(&value[name], shape, &format!("{place}.{name}")));
        }
        Value::Array(shapes) => {
            let items = value.as_array().expect(place);
            items.iter().for_each(|item| assert_shape(item, &shapes[0], &format!("{place}[]")));
        }
        shape => {
            let fits = match shape.as_str().expect("a type") {
                "id" => value.as_str().is_some_and(|id| id.len() == 24 && id.chars().all(|c| c.is_ascii_hexdigit())),
                "date" => value
                    .as_str()
                    .is_some_and(|date| date.ends_with('Z') && chrono::DateTime::parse_from_rfc3339(date).is_ok()),
                "string" => value.is_string(),
                "integer" => value.is_u64(),
                "boolean" => value.is_boolean(),
                "object" => value.is_object(),
                other => panic!("{other} is no type"),
            };
            assert!(fits, "{place} is {value}, not {shape}");
        }
    }
}

fn scan_shape() -> Value {
    json!({
        "id": "id", "type": "string", "state": "string", "progress": "integer",
        "results": [{"result_id": "id", "content_type": "string"}],
        "requested_targets": [{"target_id": "id", "target": "string"}],
        "resolved_targets": [{"target_id": "id", "resolved_target": "string"}],
        "skipped_targets": [{"target_id": "id", "skipped_reason": "string"}],
    })
}

fn shown_scan_shape() -> Value {
    let mut shape = scan_shape();
    shape["risks"] =
        json!({"new_open": [{"risk_id": "id"}], "still_open": [{"risk_id": "id"}], "closed": [{"risk_id": "id"}]});
    shape
}

fn risk_shape() -> Value {
    json!({
        "id": "id", "target_id": "id", "target": "string", "tags": ["string"], "status": "string",
        "risk_definition": {
            "scan_type": "string", "title": "string", "threat_level": "string", "description": "string",
            "solution": "string", "references": ["string"], "cvss": "string", "additional_info": "object",
        },
        "target_label": "string", "is_accepted": "boolean",
        "accepted_by": [{"note": "string", "created_at": "date", "last_updated_at": "date"}],
        "first_detected_at": "date", "last_detected_at": "date",
    })
}

fn target_shape() -> Value {
    json!({"id": "id", "target": "string", "label": "string", "tags": ["string"]})
}

async fn add_shop(service: &Service, weaknesses: Value) {
    let target = json!({"address": "shop.example.test", "label": "Shop", "tags": ["prod"], "weaknesses": weaknesses});
    service.post("/api/v1/targets", target).await.expect(201);
}

/// Reads XML, or HTML written as XML, to its end: its texts.
#[track_caller]
fn texts_of(markup: &[u8]) -> String {
    let markup = std::str::from_utf8(markup).expect("UTF-8");
    let mut reader = Reader::from_str(markup);
    let mut texts = String::new();
    let mut depth = 0;
    loop {
        match reader.read_event().expect("it is well-formed") {
            Event::Start(_) => depth += 1,
            Event::End(_) => depth -= 1,
            Event::Text(text) => texts.push_str(&text),
            Event::Eof => break,
            _ => (),
        }
    }
    assert_eq!(depth, 0);
    texts
}

/// Asserts that a file is a PDF that shows a text on one of its lines.
#[track_caller]
fn assert_pdf(bytes: &[u8], shown: &str) {
    let text = String::from_utf8_lossy(bytes);
    assert!(text.starts_with("%PDF-") && text.trim_end().ends_with("%%EOF"));
    let start = text.rsplit("startxref").next().and_then(|rest| rest.split_whitespace().next()).expect("a place");
    assert!(bytes[start.parse::<usize>().expect("a number")..].starts_with(b"xref"));
    assert!(text.contains(shown), "{shown} is not shown");
}

async fn keys_service(database: &Database) -> Service {
    let mut config = test_config(database);
    config.auth.mode = AuthMode::Keys;
    config.auth.default_key = "shk_of_the_default_account".to_owned();
    let mut service = Service::start_with(config).await;
    service.with_key(Some("shk_of_the_default_account"));
    service
}

on_both_databases! {
    async fn a_consumer_goes_from_a_scan_over_its_webhooks_to_its_risks_and_results(database) {
        let service = Service::start(database).await;
        let receiver = Receiver::answering([200]).await;
        service.subscribe_as(json!({"url": receiver.url, "vendor": "hostedscan"})).await;
        add_shop(&service, json!(THREE)).await;
        let consumer = Consumer::of(&service);
        let started = consumer.post("/scans", json!({"type": "OWASP_ZAP", "targets": ["shop.example.test"]})).await.expect(200);
        assert_shape(&started["data"], &scan_shape(), "scan");
        assert_eq!(started["data"]["state"], "QUEUED");
        service.live().await;
        let hooks: Vec<Value> = receiver.got().iter().map(|got| serde_json::from_slice(&got.body).expect("JSON")).collect();
        let of_type = |wanted: &str| hooks.iter().filter(|hook| hook["type"] == wanted).map(|hook| hook["data"].clone()).collect::<Vec<_>>();
        let [told] = &*of_type("scan.succeeded") else { panic!("one scan succeeds: {hooks:?}") };
        let mut scan = consumer.data(&format!("/scans/{}", text(&told["id"]))).await;
        assert_shape(&scan, &shown_scan_shape(), "scan");
        let risks = scan.as_object_mut().and_then(|scan| scan.remove("risks")).expect("risks");
        assert_eq!(&scan, told, "the API and the webhook show the same");
        assert_eq!((risks["new_open"].as_array().map(Vec::len), &risks["closed"]), (Some(2), &json!([])));
        let opened = of_type("risk.opened");
        assert_eq!(opened.len(), 2);
        for told in &opened {
            assert!(risks["new_open"].as_array().is_some_and(|new| new.contains(&json!({"risk_id": told["id"]}))));
            let risk = consumer.data(&format!("/risks/{}", text(&told["id"]))).await;
            assert_shape(&risk, &risk_shape(), "risk");
            let fields = told.as_object().expect("an object");
            fields.iter().for_each(|(name, value)| assert_eq!(&risk[name], value, "{name}"));
            assert_eq!((&risk["target_label"], &risk["is_accepted"], &risk["tags"]), (&json!("Shop"), &json!(false), &json!(["prod"])));
        }
        let title = text(&opened[0]["risk_definition"]["title"]);
        let mut seen = Vec::new();
        for result in scan["results"].as_array().expect("results") {
            let (content_type, bytes) = consumer.download(&format!("/results/{}", text(&result["result_id"]))).await;
            assert_eq!(content_type, text(&result["content_type"]));
            match content_type.as_str() {
                "application/pdf" => assert_pdf(&bytes, &title),
                "application/json" => {
                    let found: Value = serde_json::from_slice(&bytes).expect("JSON");
                    let ids = |list: &Value, field: &str| list.as_array().expect("a list").iter().map(|one| text(&one[field])).collect::<BTreeSet<_>>();
                    assert_eq!(ids(&found["risks"], "id"), ids(&risks["new_open"], "risk_id"));
                }
                _ => assert!(texts_of(&bytes).contains(&title), "{content_type}"),
            }
            seen.push(content_type);
        }
        assert_eq!(seen, ["text/html", "application/pdf", "application/xml", "application/json"]);
    }

    async fn the_results_of_a_scan_stay_as_they_are(database) {
        let service = Service::start(database).await;
        add_shop(&service, json!(THREE)).await;
        let consumer = Consumer::of(&service);
        let id = consumer.scan("OWASP_ZAP").await;
        service.live().await;
        let scan = consumer.data(&format!("/scans/{id}")).await;
        let results: Vec<String> = scan["results"].as_array().expect("results").iter().map(|one| format!("/results/{}", text(&one["result_id"]))).collect();
        let mut first = Vec::new();
        for path in &results {
            first.push(consumer.download(path).await);
        }
        let target = format!("/targets/{}", text(&scan["requested_targets"][0]["target_id"]));
        let own = service.get("/api/v1/targets").await.expect(200);
        service.post(&format!("/api/v1/targets/{}/fix", text(&own["data"][0]["id"])), json!({})).await.expect(200);
        consumer.scan("OWASP_ZAP").await;
        service.live().await;
        consumer.send("PUT", &target, json!({"label": "Other", "tags": ["old"]})).await.expect(200);
        consumer.send("DELETE", &target, json!({})).await.expect(200);
        service.advance("40d");
        for (path, first) in results.iter().zip(&first) {
            assert_eq!(&consumer.download(path).await, first);
        }
        assert_eq!(consumer.data(&format!("/scans/{id}")).await, scan);
    }

    async fn a_scan_goes_from_queued_to_running_to_succeeded_and_then_has_results(database) {
        let service = Service::start(database).await;
        add_shop(&service, json!(THREE)).await;
        let consumer = Consumer::of(&service);
        let path = format!("/scans/{}", consumer.scan("NMAP").await);
        let mut states = Vec::new();
        loop {
            let scan = consumer.data(&path).await;
            assert_shape(&scan, &shown_scan_shape(), "scan");
            let has_results = scan["results"].as_array().is_some_and(|results| !results.is_empty());
            assert_eq!(has_results, scan["state"] == "SUCCEEDED");
            if states.last() != Some(&scan["state"]) {
                states.push(scan["state"].clone());
            }
            let Some(next) = service.app.scanner.next_due().await.expect("the database answers") else { break };
            service.clock.advance((next - service.clock.now()).to_std().unwrap_or_default());
            service.app.scanner.run_once().await.expect("the scanner goes on");
        }
        assert_eq!(states, ["QUEUED", "RUNNING", "SUCCEEDED"]);
    }

    async fn a_scan_takes_targets_by_address_id_and_tag_together(database) {
        let service = Service::start(database).await;
        let consumer = Consumer::of(&service);
        service.post("/api/v1/targets", json!({"address": "down.example.test", "tags": ["eu"], "unreachable": true})).await.expect(201);
        let known = consumer.post("/targets", json!({"target": "https://known.example.test/app"})).await.expect(200);
        let body = json!({
            "type": "OWASP_ZAP_ACTIVE", "targets": ["198.51.100.7", "https://known.example.test/app"],
            "target_ids": [known["data"]["id"]], "tags": ["eu"], "use_authentication": true,
        });
        let id = text(&consumer.post("/scans", body).await.expect(200)["data"]["id"]);
        service.live().await;
        let scan = consumer.data(&format!("/scans/{id}")).await;
        assert_shape(&scan, &shown_scan_shape(), "scan");
        let of = |list: &str, field: &str| scan[list].as_array().expect("a list").iter().map(|one| text(&one[field])).collect::<Vec<_>>();
        assert_eq!(of("requested_targets", "target"), ["198.51.100.7", "https://known.example.test/app", "down.example.test"]);
        assert_eq!(of("skipped_targets", "skipped_reason"), ["Host unreachable"]);
        assert_eq!((&scan["state"], of("resolved_targets", "target_id").len()), (&json!("SUCCEEDED"), 2));
        assert_eq!(consumer.data("/targets").await.as_array().map(Vec::len), Some(3), "what was missing is added");
        for result in scan["results"].as_array().expect("results") {
            let (_, bytes) = consumer.download(&format!("/results/{}", text(&result["result_id"]))).await;
            assert!(String::from_utf8_lossy(&bytes).contains("198.51.100.7"), "{result}");
        }
    }

    async fn scans_are_listed_and_filtered(database) {
        let service = Service::start(database).await;
        add_shop(&service, json!(THREE)).await;
        let consumer = Consumer::of(&service);
        let first = consumer.scan("NMAP").await;
        service.live().await;
        let second = consumer.scan("OWASP_ZAP").await;
        let ids = async |query: &str| -> Vec<String> {
            let list = consumer.get(&format!("/scans/{query}")).await.expect(200);
            assert_shape(&list, &json!({"data": [shown_scan_shape()]}), "list");
            list["data"].as_array().expect("a list").iter().map(|scan| text(&scan["id"])).collect()
        };
        let (first, second, none) = (vec![first.clone()], vec![second.clone()], Vec::<String>::new());
        assert_eq!(ids("").await, [second.clone(), first.clone()].concat());
        assert_eq!(ids("?filters[state][0]=QUEUED").await, second);
        assert_eq!(ids(r#"?filters={"type":["NMAP","SSLYZE"]}"#).await, first);
        assert_eq!(ids("?filters%5Btype%5D%5B%5D=NMAP&filters[state]=QUEUED").await, none);
        assert_eq!(ids("?filters[scheduled_by]=owner@example.com").await.len(), 2);
        assert_eq!(ids("?filters[scheduled_by]=nobody@example.com").await, none);
    }

    async fn many_risks_come_in_pages_each_once_while_others_are_added(database) {
        let service = Service::start(database).await;
        add_shop(&service, json!([])).await;
        let consumer = Consumer::of(&service);
        let scan = json!({"target": "shop.example.test", "scanner": "OWASP_ZAP", "findings": 1_200, "vendors": ["halo"]});
        service.post("/api/v1/scans", scan).await.expect(201);
        service.live().await;
        let (risks, pages) = consumer.all("/risks").await;
        risks.iter().for_each(|risk| assert_shape(risk, &risk_shape(), "risk"));
        let ids: BTreeSet<String> = risks.iter().map(|risk| text(&risk["id"])).collect();
        assert_eq!((risks.len(), ids.len(), pages), (1_200, 1_200, 3));
        let (low, _) = consumer.all("/risks?filters[risk_definition.threat_level][]=LOW").await;
        let is_low = |risk: &&Value| risk["risk_definition"]["threat_level"] == "LOW";
        assert_eq!((low.len(), low.is_empty()), (risks.iter().filter(is_low).count(), false));
        let page = consumer.get("/risks").await.expect(200);
        let token = text(&page["next_page_token"]);
        consumer.post("/targets", json!({"target": "new.example.test"})).await.expect(200);
        consumer.post("/scans", json!({"type": "NMAP", "targets": ["new.example.test"]})).await.expect(200);
        service.live().await;
        let next = consumer.data(&format!("/risks?page_token={token}")).await;
        assert_eq!(next, json!(risks[500..1_000]));
        let report = consumer.post("/reports", json!({"report_format": "PDF"})).await.expect(200);
        let (_, bytes) = consumer.download(&format!("/reports/{}", text(&report["data"]["id"]))).await;
        assert_pdf(&bytes, "(Page 100 of ");
        assert_error(&consumer.get(&format!("/scans?page_token={token}")).await, 400, "page_token");
        assert_error(&consumer.get("/risks?page_token=x%00y").await, 400, "page_token");
    }

    async fn risks_are_filtered_by_every_documented_key(database) {
        let service = Service::start(database).await;
        add_shop(&service, json!(THREE)).await;
        let consumer = Consumer::of(&service);
        assert_eq!(consumer.data("/risks").await, json!([]), "nobody has found them yet");
        consumer.scan("NMAP").await;
        consumer.scan("OWASP_ZAP").await;
        service.live().await;
        let all = consumer.data("/risks").await;
        let all = all.as_array().expect("a list");
        assert_eq!(all.len(), 3);
        let values = |risk: &Value, key: &str| {
            let found = key.split('.').fold(risk, |value, field| &value[field]);
            found.as_array().map_or_else(|| vec![found.clone()], Clone::clone)
        };
        for key in ["target_id", "status", "tags", "risk_definition.scan_type", "risk_definition.threat_level", "risk_definition.title"] {
            let wanted = &values(&all[0], key)[0];
            let kept: Vec<&Value> = all.iter().filter(|risk| values(risk, key).contains(wanted)).collect();
            let json = json!({key: [wanted]}).to_string();
            let json: String = url::form_urlencoded::byte_serialize(json.as_bytes()).collect();
            let value: String = url::form_urlencoded::byte_serialize(text(wanted).as_bytes()).collect();
            for query in [format!("filters={json}"), format!("filters[{key}][0]={value}"), format!("filters%5B{key}%5D={value}")] {
                assert_eq!(consumer.data(&format!("/risks?{query}")).await, json!(kept), "{query}");
            }
            assert_eq!(consumer.data(&format!("/risks?filters[{key}]=other")).await, json!([]), "{key}");
        }
        assert_error(&consumer.get("/risks?filters[risk_definition.scantype][0]=NMAP").await, 400, "risk_definition.scantype");
        assert_error(&consumer.get("/risks?filters={").await, 400, "filters");
        assert_error(&consumer.get("/scans?filters[status]=OPEN").await, 400, "status");
    }

    async fn a_target_is_added_shown_changed_and_removed_with_its_risks(database) {
        let service = Service::start(database).await;
        let consumer = Consumer::of(&service);
        let new = json!({"target": "shop.example.test", "label": "Shop", "tags": ["prod", "eu"]});
        let added = consumer.post("/targets", new.clone()).await.expect(200);
        assert_shape(&added, &json!({"data": target_shape()}), "answer");
        assert_eq!((&added["data"]["label"], &added["data"]["tags"]), (&new["label"], &new["tags"]));
        let path = format!("/targets/{}", text(&added["data"]["id"]));
        assert_eq!(consumer.data(&path).await, added["data"]);
        assert_eq!(consumer.get("/targets/").await.expect(200), json!({"data": [added["data"]]}));
        assert_error(&consumer.post("/targets", new).await, 400, "Target already exists");
        for (query, body) in [
            ("?upsert=true", json!({"target": "shop.example.test", "label": "One"})),
            ("", json!({"target": "shop.example.test", "label": "One", "upsert": true})),
        ] {
            let upserted = consumer.post(&format!("/targets{query}"), body).await.expect(200);
            assert_eq!(upserted["data"], json!({"id": added["data"]["id"], "target": "shop.example.test", "label": "One", "tags": ["prod", "eu"]}));
        }
        let changed = consumer.send("PUT", &path, json!({"label": "Two", "tags": ["us"]})).await.expect(200);
        assert_eq!(changed["data"], json!({"id": added["data"]["id"], "target": "shop.example.test", "label": "Two", "tags": ["us"]}));
        consumer.scan("NMAP").await;
        service.live().await;
        let risks = consumer.data("/risks").await;
        let risk = format!("/risks/{}", text(&risks[0]["id"]));
        assert_eq!(consumer.data(&risk).await, risks[0]);
        let removed = consumer.send("DELETE", &path, Value::Null).await;
        assert_eq!((removed.status, removed.text.as_str()), (200, ""));
        for (method, path) in [("GET", &path), ("PUT", &path), ("DELETE", &path), ("GET", &risk)] {
            assert_error(&consumer.send(method, path, json!({})).await, 404, "Not found");
        }
        assert_eq!((consumer.data("/targets").await, consumer.data("/risks").await), (json!([]), json!([])));
    }

    async fn a_recording_is_uploaded_as_a_form_with_one_file(database) {
        let service = Service::start(database).await;
        let consumer = Consumer::of(&service);
        let added = consumer.post("/targets", json!({"target": "shop.example.test"})).await.expect(200);
        let path = format!("/targets/{}/auth/selenium", text(&added["data"]["id"]));
        let upload = async |path: &str, name: &str, content: &str| {
            let form = format!("--x\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"login.side\"\r\n\r\n{content}\r\n--x--\r\n");
            let request = consumer.request("POST", path).header("content-type", "multipart/form-data; boundary=x").body(form);
            service.send(request).await
        };
        let side = json!({"id": "1", "name": "login", "url": "https://shop.example.test", "tests": []}).to_string();
        assert_eq!(upload(&path, "file", &side).await.expect(200), added);
        let nested = format!("{{\"a\":{}{}}}", "[".repeat(120), "]".repeat(120));
        assert_eq!(upload(&path, "file", &nested).await.expect(200), added);
        assert_error(&upload(&path, "file", "not JSON").await, 400, "file");
        assert_error(&upload(&path, "file", "[]").await, 400, "file");
        assert_error(&upload(&path, "other", &side).await, 400, "file: is required");
        assert_error(&upload("/targets/0/auth/selenium", "file", &side).await, 404, "Not found");
        assert_error(&consumer.post(&path, json!({})).await, 400, "multipart/form-data");
        let request = consumer.request("POST", &path).header("content-type", "multipart/form-data; boundary=x").body("--x\r\nbroken");
        assert_error(&service.send(request).await, 400, "form");
    }

    async fn a_report_shows_the_risks_as_they_stood_when_it_was_ordered(database) {
        let service = Service::start(database).await;
        add_shop(&service, json!(THREE)).await;
        let consumer = Consumer::of(&service);
        consumer.scan("OWASP_ZAP").await;
        consumer.scan("NMAP").await;
        service.live().await;
        let risks = consumer.data("/risks?filters[risk_definition.scan_type]=OWASP_ZAP").await;
        let title = text(&risks[0]["risk_definition"]["title"]);
        let order = async |body: Value| -> String {
            let ordered = consumer.post("/reports", body).await.expect(200);
            assert_shape(&ordered, &json!({"data": {"id": "string"}}), "answer");
            let id = text(&ordered["data"]["id"]);
            assert_eq!((id.len(), &id[14..15]), (36, "4"), "a UUID of version 4");
            format!("/reports/{id}")
        };
        let zap = json!({"risk_definition.scan_type": ["OWASP_ZAP"], "status": ["OPEN"]});
        let html = order(json!({"report_format": "HTML", "risks_filter": zap, "targets_filter": {"tag": ["prod"]}})).await;
        let pdf = order(json!({"report_format": "PDF", "targets_filter": {"target_ids": [risks[0]["target_id"]]}})).await;
        let empty = order(json!({"report_format": "HTML", "targets_filter": {"tag": ["other"]}})).await;
        let first = [consumer.download(&html).await, consumer.download(&pdf).await];
        let own = service.get("/api/v1/targets").await.expect(200);
        service.post(&format!("/api/v1/targets/{}/fix", text(&own["data"][0]["id"])), json!({})).await.expect(200);
        consumer.scan("OWASP_ZAP").await;
        service.live().await;
        assert_eq!(consumer.data("/risks?filters[status]=CLOSED").await.as_array().map(Vec::len), Some(2));
        assert_eq!([consumer.download(&html).await, consumer.download(&pdf).await], first);
        let [(html_type, html), (pdf_type, pdf)] = first;
        assert_eq!((&*html_type, &*pdf_type), ("text/html", "application/pdf"));
        let shown = texts_of(&html);
        assert!(shown.contains(&title) && shown.contains("OPEN") && !shown.contains("NMAP") && !shown.contains("CLOSED"));
        assert_pdf(&pdf, &title);
        assert_pdf(&pdf, "(Risks: 3)");
        let (_, empty) = consumer.download(&empty).await;
        assert!(!String::from_utf8_lossy(&empty).contains("<section"));
        let later = order(json!({"report_format": "HTML", "risks_filter": zap})).await;
        assert!(!String::from_utf8_lossy(&consumer.download(&later).await.1).contains("<section"));
    }

    async fn what_is_wrong_with_a_request_is_named(database) {
        let service = Service::start(database).await;
        let consumer = Consumer::of(&service);
        consumer.post("/targets", json!({"target": "shop.example.test"})).await.expect(200);
        let shop = json!(["shop.example.test"]);
        for (path, body, part) in [
            ("/scans", json!([]), "object"),
            ("/scans", json!({"targets": shop}), "type"),
            ("/scans", json!({"type": 1, "targets": shop}), "type"),
            ("/scans", json!({"type": "NESSUS", "targets": shop}), "NESSUS"),
            ("/scans", json!({"type": "NMAP"}), "targets, target_ids and tags"),
            ("/scans", json!({"type": "NMAP", "targets": [], "tags": null}), "targets, target_ids and tags"),
            ("/scans", json!({"type": "NMAP", "targets": "shop.example.test"}), "targets"),
            ("/scans", json!({"type": "NMAP", "targets": ["shop.example.test", 7]}), "targets[1]"),
            ("/scans", json!({"type": "NMAP", "targets": ["192.0.2.0/28"]}), "targets[0]"),
            ("/scans", json!({"type": "NMAP", "target_ids": ["12345"]}), "target_ids.0"),
            ("/scans", json!({"type": "NMAP", "tags": ["nobody's"]}), "tags"),
            ("/scans", json!({"type": "NMAP", "targets": shop, "use_authentication": "yes"}), "use_authentication"),
            ("/targets", json!({}), "target: is required"),
            ("/targets", json!({"target": ""}), "target"),
            ("/targets", json!({"target": "localhost"}), "target"),
            ("/targets", json!({"target": "300.1.1.1"}), "target"),
            ("/targets", json!({"target": "ftp://example.test"}), "target"),
            ("/targets", json!({"target": "a\u{0}.example.test"}), "target"),
            ("/targets", json!({"target": "a.example.test", "label": 1}), "label"),
            ("/targets", json!({"target": "a.example.test", "label": "a\nb"}), "label"),
            ("/targets", json!({"target": "a.example.test", "tags": {"a": 1}}), "tags"),
            ("/targets", json!({"target": "a.example.test", "tags": vec!["a"; 11]}), "tags"),
            ("/targets", json!({"target": "a.example.test", "upsert": "maybe"}), "upsert"),
            ("/targets?upsert=maybe", json!({"target": "a.example.test"}), "upsert"),
            ("/reports", json!({}), "report_format"),
            ("/reports", json!({"report_format": "DOCX"}), "DOCX"),
            ("/reports", json!({"report_format": "PDF", "targets_filter": []}), "targets_filter"),
            ("/reports", json!({"report_format": "PDF", "targets_filter": {"_id": ["1"]}}), "_id"),
            ("/reports", json!({"report_format": "PDF", "risks_filter": {"status": [1]}}), "status"),
        ] {
            assert_error(&consumer.post(path, body).await, 400, part);
        }
        let broken = consumer.request("POST", "/scans").body("{\"type\":");
        assert_error(&service.send(broken).await, 400, "not JSON");
        assert_eq!(consumer.data("/targets").await.as_array().map(Vec::len), Some(1), "nothing was half done");
        assert_eq!(consumer.data("/scans").await, json!([]));
    }

    async fn what_is_not_there_is_not_found_and_a_large_body_is_too_large(database) {
        let mut config = test_config(database);
        config.server.body_limit_bytes = 2_000;
        let service = Service::start_with(config).await;
        let consumer = Consumer::of(&service);
        add_shop(&service, json!([])).await;
        let running = consumer.scan("NMAP").await;
        for path in ["/scans/12345", "/risks/%ff", "/results/12345", &format!("/results/{running}"), "/targets/12345", "/reports/12345", "/nothing", "/scans/1/2", ""] {
            assert_error(&consumer.get(path).await, 404, "Not found");
        }
        for (method, path) in [("DELETE", "/scans/1"), ("PATCH", "/targets/1"), ("POST", "/risks"), ("OPTIONS", "/scans")] {
            assert_error(&consumer.send(method, path, json!({})).await, 404, "Not found");
        }
        for path in ["/scans", "/targets", "/reports"] {
            let large = json!({"type": "NMAP", "targets": ["a".repeat(2_000)]});
            assert_error(&consumer.post(path, large).await, 413, "too large");
        }
    }

    async fn a_key_opens_its_own_account_and_no_other(database) {
        let service = keys_service(database).await;
        let account = service.post("/api/v1/accounts", json!({"name": "other"})).await.expect(201);
        add_shop(&service, json!(THREE)).await;
        let one = Consumer::with_key(&service, "shk_of_the_default_account");
        let id = one.scan("OWASP_ZAP").await;
        service.live().await;
        let scan = one.data(&format!("/scans/{id}")).await;
        let report = one.post("/reports", json!({"report_format": "PDF"})).await.expect(200);
        let paths = [
            format!("/scans/{id}"),
            format!("/results/{}", text(&scan["results"][0]["result_id"])),
            format!("/risks/{}", text(&scan["risks"]["new_open"][0]["risk_id"])),
            format!("/targets/{}", text(&scan["requested_targets"][0]["target_id"])),
            format!("/reports/{}", text(&report["data"]["id"])),
        ];
        let other = Consumer::with_key(&service, &text(&account["api_key"]));
        for path in &paths {
            assert_eq!(one.get(path).await.status, 200);
            assert_error(&other.get(path).await, 404, "Not found");
        }
        for list in ["/scans", "/risks", "/targets"] {
            assert_eq!(other.data(list).await, json!([]));
        }
        other.post("/targets", json!({"target": "shop.example.test"})).await.expect(200);
        for path in paths.iter().map(String::as_str).chain(["/scans", "/risks", "/targets"]) {
            let wrong = Consumer::with_key(&service, "key_of_nobody");
            assert_error(&wrong.get(path).await, 401, "Invalid API key");
            let none = service.send(service.request("GET", &format!("{BASE}{path}")).headers(HeaderMap::new())).await;
            assert_error(&none, 401, "Invalid API key");
        }
    }

    async fn the_sample_key_gets_samples_and_nothing_happens(database) {
        let service = keys_service(database).await;
        let receiver = Receiver::answering([200]).await;
        service.subscribe_as(json!({"url": receiver.url, "vendor": "hostedscan"})).await;
        let sample = Consumer::with_key(&service, "test-data-key");
        let started = sample.post("/scans", json!({"type": "NMAP", "target_ids": ["123", "456"]})).await.expect(200);
        assert_shape(&started, &json!({"data": scan_shape()}), "answer");
        assert_eq!((&started["data"]["id"], &started["data"]["state"]), (&json!("61918df1ed4b650040af5b0a"), &json!("RUNNING")));
        let scan = sample.data("/scans/12345").await;
        assert_shape(&scan, &shown_scan_shape(), "scan");
        assert_eq!((&scan["state"], scan["risks"]["still_open"].as_array().map(Vec::len)), (&json!("SUCCEEDED"), Some(1)));
        let risk = sample.data(&format!("/risks/{}", text(&scan["risks"]["still_open"][0]["risk_id"]))).await;
        assert_shape(&risk, &risk_shape(), "risk");
        assert_eq!(risk["risk_definition"]["title"], "certificate has expired");
        let mut types = Vec::new();
        for result in scan["results"].as_array().expect("results") {
            let (content_type, bytes) = sample.download(&format!("/results/{}", text(&result["result_id"]))).await;
            assert_eq!(content_type, text(&result["content_type"]));
            assert!(String::from_utf8_lossy(&bytes).contains("certificate has expired"));
            types.push(content_type);
        }
        assert_eq!(types, ["text/html", "application/json", "application/pdf"]);
        for (list, shape) in [("/scans/", shown_scan_shape()), ("/risks", risk_shape()), ("/targets", target_shape())] {
            let list = sample.get(list).await.expect(200);
            assert_shape(&list, &json!({"data": [shape]}), "list");
            assert_eq!(list["data"].as_array().map(Vec::len), Some(1));
        }
        for (method, path) in [("POST", "/targets"), ("GET", "/targets/12345"), ("PUT", "/targets/12345"), ("POST", "/targets/12345/auth/selenium")] {
            assert_shape(&sample.send(method, path, json!({})).await.expect(200)["data"], &target_shape(), path);
        }
        assert_eq!(sample.send("DELETE", "/targets/12345", json!({})).await.text, "");
        let report = sample.post("/reports", json!({"report_format": "PDF"})).await.expect(200);
        assert_pdf(&sample.download(&format!("/reports/{}", text(&report["data"]["id"]))).await.1, "certificate has expired");
        assert_error(&sample.get("/nothing").await, 404, "Not found");
        service.live().await;
        assert_eq!((receiver.count(), service.events().await.len()), (0, 0));
        let own = Consumer::with_key(&service, "shk_of_the_default_account");
        assert_eq!(own.data("/targets").await, json!([]));
    }

    async fn whatever_is_asked_the_answer_is_one_that_is_documented(database) {
        let service = Service::start(database).await;
        add_shop(&service, json!(THREE)).await;
        let consumer = Consumer::of(&service);
        let id = consumer.scan("OWASP_ZAP").await;
        service.live().await;
        let scan = consumer.data(&format!("/scans/{id}")).await;
        let report = consumer.post("/reports", json!({"report_format": "HTML"})).await.expect(200);
        let known = vec![
            id,
            text(&scan["results"][1]["result_id"]),
            text(&scan["risks"]["new_open"][0]["risk_id"]),
            text(&scan["requested_targets"][0]["target_id"]),
            text(&report["data"]["id"]),
        ];
        let mut statuses = BTreeSet::new();
        for (method, path, body, content_type) in some_requests(known, 200) {
            let request = consumer.request(method, &path).header("content-type", content_type).body(body.clone());
            let answer = service.send(request).await;
            let told = || format!("{method} {path} {:?}: {} {}", String::from_utf8_lossy(&body), answer.status, answer.text);
            assert!([200, 400, 404].contains(&answer.status), "{}", told());
            assert!(answer.status == 200 || answer.body["error"].is_string(), "{}", told());
            statuses.insert(answer.status);
        }
        assert_eq!(statuses, BTreeSet::from([200, 400, 404]), "the requests are of all sorts");
    }
}

/// Any text, as it stands in a URL.
fn any_value() -> impl Strategy<Value = String> {
    let encoded = |bytes: Vec<u8>| bytes.iter().map(|byte| format!("%{byte:02x}")).collect::<String>();
    prop_oneof![
        vec(any::<u8>(), 1..12).prop_map(encoded),
        Just("%00%0a%7f".to_owned()),
        Just("%zz%".to_owned()),
        Just("99999999999999999999999999".to_owned()),
        Just("-1".to_owned()),
        "[a-z0-9]{1,30}",
    ]
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        Just(json!("shop.example.test")),
        Just(json!("NMAP")),
        Just(json!("PDF")),
        Just(json!("OPEN")),
        Just(json!("\u{0}\u{7f}")),
    ];
    let field = prop::sample::select(vec![
        "type",
        "targets",
        "target_ids",
        "tags",
        "use_authentication",
        "target",
        "label",
        "upsert",
        "report_format",
        "targets_filter",
        "risks_filter",
        "status",
        "tag",
        "risk_definition.title",
        "",
    ]);
    leaf.prop_recursive(3, 24, 6, move |inner| {
        let fields = vec((field.clone(), inner.clone()), 0..7);
        let object = fields.prop_map(|fields| {
            Value::Object(fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
        });
        prop_oneof![vec(inner, 0..4).prop_map(Value::from), object]
    })
}

/// So many of any requests; the same in every run.
fn some_requests(known: Vec<String>, count: usize) -> Vec<AnyRequest> {
    let mut runner = TestRunner::deterministic();
    vec(any_request(known), count).new_tree(&mut runner).expect("requests").current()
}

/// A request's method, path, body and content type.
type AnyRequest = (&'static str, String, Vec<u8>, &'static str);

/// A request to a route, or nearly.
fn any_request(known: Vec<String>) -> impl Strategy<Value = AnyRequest> {
    let routes = vec![
        "/scans",
        "/scans/{}",
        "/results/{}",
        "/risks",
        "/risks/{}",
        "/targets",
        "/targets/{}",
        "/targets/{}/auth/selenium",
        "/reports",
        "/reports/{}",
        "/{}",
    ];
    let id = prop_oneof![prop::sample::select(known), any_value().prop_map(|id| format!("x{id}"))];
    let path = (prop::sample::select(routes), id).prop_map(|(route, id)| route.replace("{}", &id));
    let name = prop::sample::select(vec![
        "filters",
        "filters[status][0]",
        "filters[tags][]",
        "filters[type]",
        "filters[",
        "filters[]",
        "filters[a][b]",
        "filters%5Brisk_definition.title%5D",
        "page_token",
        "upsert",
        "%00",
    ]);
    let filters = any_json()
        .prop_map(|json| url::form_urlencoded::byte_serialize(json.to_string().as_bytes()).collect::<String>());
    let parameter = (name, prop_oneof![any_value(), filters]).prop_map(|(name, value)| format!("{name}={value}"));
    let query =
        vec(parameter, 0..3).prop_map(|all| if all.is_empty() { String::new() } else { format!("?{}", all.join("&")) });
    let method = prop::sample::select(vec!["GET", "GET", "POST", "POST", "PUT", "DELETE", "PATCH"]);
    let body = prop_oneof![
        any_json().prop_map(|json| json.to_string().into_bytes()),
        vec(any::<u8>(), 0..60),
        Just(b"--x\r\nContent-Disposition: form-data; name=\"file\"\r\n\r\n{}\r\n--x--\r\n".to_vec()),
    ];
    let content_type =
        prop::sample::select(vec!["application/json", "multipart/form-data; boundary=x", "text/plain", ""]);
    (method, (path, query).prop_map(|(path, query)| path + &query), body, content_type)
}
