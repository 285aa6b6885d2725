//! Halo Security's own API: what a consumer of its webhooks calls back.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use scanhook::config::AuthMode;
use serde_json::{Map, Value, json};

use crate::support::{Answer, Database, Receiver, Service, on_both_databases, test_config, text};

/// Every call of the API.
const CALLS: [&str; 20] = [
    "user/me.json",
    "user/list.json",
    "user/get.json",
    "event/list.json",
    "event/get.json",
    "event/delete.json",
    "event/types.json",
    "target/list.json",
    "target/get.json",
    "scan/list.json",
    "scan/get.json",
    "issue/list.json",
    "issue/get.json",
    "port/list.json",
    "technology/list.json",
    "pci/summary.json",
    "pci/report-list.json",
    "ack/host-list.json",
    "ack/host-add.json",
    "ack/host-delete.json",
];

async fn call_as(service: &Service, key: &str, path: &str, params: &[(&str, &str)]) -> Answer {
    let request = service.request("GET", &format!("/halo/api/v1/{path}")).header("x-apikey", key).query(params);
    service.send(request).await
}

async fn call(service: &Service, path: &str, params: &[(&str, &str)]) -> Answer {
    call_as(service, "any", path, params).await
}

/// A call that must succeed, as JSON without parameters of the content type.
async fn read(service: &Service, path: &str, params: &[(&str, &str)]) -> Value {
    let answer = call(service, path, params).await;
    assert_eq!(answer.headers["content-type"], "application/json", "{path}");
    answer.expect(200)
}

/// The rows of a list.
async fn rows(service: &Service, path: &str, params: &[(&str, &str)]) -> Vec<Value> {
    read(service, path, params).await["list"].as_array().expect("a list").clone()
}

/// What stands at this place in every row of a list, in order.
async fn column(service: &Service, path: &str, params: &[(&str, &str)], pointer: &str) -> Vec<Value> {
    let at = |row: &Value| row.pointer(pointer).unwrap_or_else(|| panic!("{row} has no {pointer}")).clone();
    rows(service, path, params).await.iter().map(at).collect()
}

#[track_caller]
fn assert_failure(answer: &Answer, status: u16, code: u16, message: &str) {
    assert_eq!(answer.status, status, "{}", answer.text);
    assert_eq!(answer.body, json!({"code": code, "message": message}));
    assert_eq!(answer.headers["content-type"], "application/json");
}

async fn add_target(service: &Service, address: &str, weaknesses: Value) -> String {
    let target = json!({"address": address, "weaknesses": weaknesses});
    text(&service.post("/api/v1/targets", target).await.expect(201)["id"])
}

async fn scan(service: &Service, address: &str, more: Value) -> Value {
    let mut scan = json!({"target": address, "scanner": "OWASP_ZAP", "duration": "40m"});
    for (field, value) in more.as_object().expect("an object") {
        scan[field] = value.clone();
    }
    service.post("/api/v1/scans", scan).await.expect(201)
}

async fn scan_to_the_end(service: &Service, address: &str, more: Value) {
    scan(service, address, more).await;
    service.live().await;
}

/// The bodies that a receiver got, of one key.
fn bodies(receiver: &Receiver, key: &str) -> Vec<Value> {
    let got = receiver.got();
    let bodies = got.iter().map(|got| serde_json::from_slice::<Value>(&got.body).expect("JSON"));
    bodies.filter(|body| body["key"] == key).collect()
}

/// The form of a value: names and types; a list is the form of its rows, which must be one.
fn form(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            Value::Object(fields.iter().map(|(name, value)| (name.clone(), form(value))).collect::<Map<_, _>>())
        }
        Value::Array(items) => {
            let forms: BTreeSet<String> = items.iter().map(|item| form(item).to_string()).collect();
            assert!(forms.len() <= 1, "the rows differ: {forms:?}");
            Value::Array(items.first().map(form).into_iter().collect())
        }
        Value::String(text) if chrono::NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M").is_ok() => json!("time"),
        Value::String(_) => json!("text"),
        Value::Number(number) if number.is_u64() => json!("number"),
        other => panic!("{other} has no form in this API"),
    }
}

/// A list's form.
fn list_of(row: Value) -> Value {
    let pagination = json!({"total": "number", "start": "number", "limit": "number"});
    json!({"request": {"sort": "number", "target_count": "number"}, "pagination": pagination, "list": [row]})
}

/// What every call answers: the names and the types.
fn documented() -> Vec<(&'static str, Value)> {
    let target = json!({"target_name": "text", "target_id": "number", "target": "text"});
    let event = json!({
        "event_id": "text", "subject": "text", "date_created": "time", "key": "text", "url": "text",
        "target": target,
    });
    let user = json!({
        "role": "number", "user_id": "number", "phone": "text", "last_name": "text", "title": "text",
        "first_name": "text", "email": "text",
    });
    let counts = json!({"0": "number", "1": "number", "2": "number", "3": "number", "4": "number", "5": "number"});
    let issue = json!({"issue_id": "number", "name": "text", "severity": "number"});
    let status = json!({"status": "text", "assigned_to": "text", "scans_since_found": "number", "target_id": "number"});
    let report = json!({
        "attest_name": "text", "target_count": "number", "name": "text", "pci_report_id": "number", "status": "text",
    });
    vec![
        ("user/me.json", json!({"user": user})),
        ("user/list.json", list_of(user.clone())),
        ("user/get.json", json!({"user": user})),
        ("event/list.json", list_of(json!({"event": event}))),
        ("event/get.json", json!({"success": "number", "event": event})),
        ("event/types.json", list_of(json!({"subject": "text", "key": "text"}))),
        ("target/list.json", list_of(json!({"target": target}))),
        (
            "target/get.json",
            json!({"target": {
                "recent_scan_ids": ["text"], "target_name": "text", "date_created": "time", "ip": "text",
                "target_id": "number", "target": "text", "geo": "text", "scan_id": "text",
                "scan_frequency": "number", "scan_hour": "number",
            }}),
        ),
        ("scan/list.json", list_of(json!({"scan": {"date": "time", "scan_id": "text"}, "target": target}))),
        (
            "scan/get.json",
            json!({"scan": {
                "date": "time", "duration": "number", "issue_severity_count": counts,
                "issue_instance_severity_count": counts, "scan_id": "text",
            }, "target": target}),
        ),
        (
            "issue/list.json",
            list_of(json!({"issue": issue, "target": target, "status": status, "instances": "number"})),
        ),
        (
            "issue/get.json",
            json!({"issue": {
                "issue_id": "number", "name": "text", "severity": "number", "description": "text",
                "category": "text", "cve_ids": ["text"], "pci": "number", "type": "text",
            }}),
        ),
        (
            "port/list.json",
            list_of(json!({"port": {
                "port": "number", "protocol": "text", "service": "text", "banner": "text", "state": "text",
            }, "target": target})),
        ),
        (
            "technology/list.json",
            list_of(json!({"technology": {"technology": "text", "version": "text"}, "target": target})),
        ),
        ("pci/summary.json", json!({"report_count": "number", "last_report_id": "number", "status": "text"})),
        ("pci/report-list.json", list_of(json!({"report": report}))),
    ]
}

/// The same of the calls that change something, and of what they change.
fn documented_changes() -> Vec<(&'static str, Value)> {
    vec![
        ("event/delete.json", json!({"success": "number"})),
        ("ack/host-add.json", json!({"success": "number"})),
        (
            "ack/host-list.json",
            list_of(json!({"awk_host": {
                "host": "text", "comment": "text", "created_date": "time", "type": "number", "created_by": "text",
            }})),
        ),
        ("ack/host-delete.json", json!({"success": "number"})),
    ]
}

const ONE_REPORT: &str = "
name: one-report
about: A PCI report is approved, and a day later it expires.
steps:
  - pci_report: { name: Shop Q1, state: approved }
  - wait: 1d
  - pci_report: { name: Shop Q1, expires_in_days: 0 }
";

async fn tell(service: &Service, source: &str) {
    service.post("/api/v1/scenarios/runs", json!({"source": source})).await.expect(201);
    service.live().await;
}

/// The first id of each kind that the lists show, as parameters of any call.
async fn known_ids(service: &Service) -> Vec<(&'static str, String)> {
    let first = async |path: &str, pointer: &str| column(service, path, &[], pointer).await[0].clone();
    let issues = rows(service, "issue/list.json", &[]).await;
    let with_cves = issues.iter().find(|row| text(&row["issue"]["name"]).contains("JS Library"));
    vec![
        ("user_id", first("user/list.json", "/user_id").await.to_string()),
        ("event_id", text(&first("event/list.json", "/event/event_id").await)),
        ("target_id", first("target/list.json", "/target/target_id").await.to_string()),
        ("scan_id", text(&first("scan/list.json", "/scan/scan_id").await)),
        ("issue_id", with_cves.expect("an issue with CVEs")["issue"]["issue_id"].to_string()),
    ]
}

on_both_databases! {
    async fn every_call_answers_just_the_documented_fields(database) {
        let service = Service::start(database).await;
        add_target(&service, "shop.example.test", json!(["owasp-zap-missing-hsts", "owasp-zap-vulnerable-js-library"])).await;
        for _ in 0..2 {
            scan_to_the_end(&service, "shop.example.test", json!({})).await;
        }
        // Of events without a target the form is another one.
        let with_target: Vec<_> = rows(&service, "event/list.json", &[]).await;
        assert!(with_target.iter().all(|row| row["event"]["target"].is_object()));
        let ids = known_ids(&service).await;
        let mut ids: Vec<(&str, &str)> = ids.iter().map(|(name, id)| (*name, id.as_str())).collect();
        ids.extend([("host", "cdn.example.test"), ("type", "script")]);
        let mut called = BTreeSet::new();
        for (path, expected) in documented().into_iter().chain(documented_changes()) {
            if path == "pci/summary.json" {
                assert_eq!(read(&service, path, &[]).await, json!({"report_count": 0, "last_report_id": null, "status": null}));
                tell(&service, ONE_REPORT).await;
            }
            // A list takes no ids but as filters.
            let params = if path.ends_with("list.json") { &[][..] } else { &ids };
            assert_eq!(form(&read(&service, path, params).await), expected, "{path}");
            called.insert(path);
        }
        assert_eq!(called, BTreeSet::from(CALLS));
    }

    async fn what_a_webhook_names_can_be_fetched_by_the_ids_in_it(database) {
        let service = Service::start(database).await;
        let receiver = Receiver::answering([200]).await;
        service.subscribe_as(json!({"url": receiver.url, "vendor": "halo"})).await;
        add_target(&service, "shop.example.test", json!(["owasp-zap-missing-hsts", "owasp-zap-missing-csp"])).await;
        scan_to_the_end(&service, "shop.example.test", json!({})).await;
        scan_to_the_end(&service, "shop.example.test", json!({})).await;
        let (added, first) = (bodies(&receiver, "issue-add"), bodies(&receiver, "target-scan-first"));
        let finished = bodies(&receiver, "target-scan-finish");
        assert_eq!((added.len(), first.len(), finished.len()), (2, 1, 1));
        let mut seen = 0;
        for body in receiver.got().iter().map(|got| serde_json::from_slice::<Value>(&got.body).expect("JSON")) {
            let event = &read(&service, "event/get.json", &[("event_id", &text(&body["event_id"]))]).await["event"];
            for field in ["event_id", "subject", "key", "url"] {
                assert_eq!(event[field], body[field], "{body}");
            }
            assert_eq!(event["target"]["target_id"], body["target_id"]);
            let target = &read(&service, "target/get.json", &[("target_id", &body["target_id"].to_string())]).await["target"];
            assert_eq!(target["target"], "shop.example.test");
            assert_eq!(target["scan_id"], finished[0]["scan_id"], "the current scan is the last");
            assert_eq!(target["recent_scan_ids"], json!([first[0]["scan_id"]]));
            if let Some(scan_id) = body["scan_id"].as_str() {
                let scan = read(&service, "scan/get.json", &[("scan_id", scan_id)]).await;
                assert_eq!((&scan["scan"]["scan_id"], &scan["target"]), (&body["scan_id"], &event["target"]));
            }
            seen += 1;
        }
        assert!(seen > 5, "{seen}");
        for body in added {
            let id = body["issue_id"].to_string();
            let issue = &read(&service, "issue/get.json", &[("issue_id", &id)]).await["issue"];
            assert_eq!((&issue["name"], &issue["severity"]), (&body["issue_name"], &body["severity"]));
            let found = rows(&service, "issue/list.json", &[("issue_id", &id)]).await;
            assert_eq!(found.len(), 1);
            assert_eq!((&found[0]["issue"]["issue_id"], &found[0]["target"]["target_id"]), (&body["issue_id"], &body["target_id"]));
            assert_eq!(found[0]["status"]["scans_since_found"], 1);
        }
    }

    async fn a_consumer_can_page_to_the_end(database) {
        let service = Service::start(database).await;
        let trigger = json!({"vendor": "halo", "event_type": "target-add", "count": 25});
        service.post("/api/v1/trigger", trigger).await.expect(202);
        let whole = read(&service, "event/list.json", &[]).await;
        assert_eq!(whole["request"], json!({"sort": 0, "target_count": 0}));
        assert_eq!(whole["pagination"], json!({"total": 25, "start": 0, "limit": 100}));
        for limit in [1, 7, 25, 1_000] {
            let (mut pages, mut start) = (Vec::new(), 0);
            loop {
                let page = read(&service, "event/list.json", &[("start", &start.to_string()), ("limit", &limit.to_string())]).await;
                assert_eq!(page["pagination"], json!({"total": 25, "start": start, "limit": limit}));
                assert_eq!(page["request"].get("start"), (start > 0).then(|| json!(start)).as_ref());
                pages.extend(page["list"].as_array().expect("a list").clone());
                start += limit;
                if page["pagination"]["total"].as_i64().expect("a number") <= start {
                    break;
                }
            }
            assert_eq!(json!(pages), whole["list"], "{limit} at a time");
        }
        let beyond = read(&service, "event/list.json", &[("start", &u64::MAX.to_string())]).await;
        assert_eq!((&beyond["list"], &beyond["pagination"]["total"]), (&json!([]), &json!(25)));
    }

    async fn more_events_than_are_read_at_once_are_listed_each_once(database) {
        let service = Service::start(database).await;
        for _ in 0..3 {
            let trigger = json!({"vendor": "halo", "event_type": "target-add", "count": 700});
            service.post("/api/v1/trigger", trigger).await.expect(202);
        }
        let mut ids = BTreeSet::new();
        for start in ["0", "1000", "2000"] {
            let page = column(&service, "event/list.json", &[("limit", "1000"), ("start", start)], "/event/event_id").await;
            ids.extend(page.iter().map(text));
        }
        assert_eq!(ids.len(), 2_100);
    }

    async fn a_bad_parameter_is_code_0_and_what_is_missing_code_404(database) {
        let service = Service::start(database).await;
        for (path, params, message) in [
            ("event/get.json", &[][..], "event_id required"),
            ("event/get.json", &[("event_id", "")], "event_id required"),
            ("event/delete.json", &[], "event_id required"),
            ("target/get.json", &[], "target_id required"),
            ("target/get.json", &[("target_id", "abc")], "target_id not valid"),
            ("target/get.json", &[("target_id", "1-5")], "target_id not valid"),
            ("scan/get.json", &[], "scan_id required"),
            ("issue/get.json", &[], "issue_id required"),
            ("user/get.json", &[("user_id", "-1")], "user_id not valid"),
            ("event/list.json", &[("limit", "0")], "limit not valid"),
            ("event/list.json", &[("limit", "1001")], "limit not valid"),
            ("target/list.json", &[("limit", "ten")], "limit not valid"),
            ("issue/list.json", &[("start", "-1")], "start not valid"),
            ("issue/list.json", &[("start", "99999999999999999999")], "start not valid"),
            ("scan/list.json", &[("sort", "1")], "sort not valid"),
            ("issue/list.json", &[("sort", "2")], "sort not valid"),
            ("user/list.json", &[("sort_desc", "2")], "sort_desc not valid"),
            ("scan/list.json", &[("type", "latest")], "type not valid"),
            ("event/list.json", &[("subject", "~(")], "subject not valid"),
            ("event/list.json", &[("target_id", "5-1")], "target_id not valid"),
            ("issue/list.json", &[("severity", ">")], "severity not valid"),
            ("port/list.json", &[("port", "http")], "port not valid"),
            ("issue/list.json", &[("asof", "2026-01-01")], "asof not supported"),
        ] {
            assert_failure(&call(&service, path, params).await, 400, 0, message);
        }
        for (path, params, message) in [
            ("event/get.json", [("event_id", "id1")], "event not found"),
            ("event/get.json", [("event_id", "a\0b")], "event not found"),
            ("event/delete.json", [("event_id", "id1")], "event not found"),
            ("target/get.json", [("target_id", "1")], "target not found"),
            ("scan/get.json", [("scan_id", "id1")], "scan not found"),
            ("issue/list.json", [("scan_id", "id1")], "scan not found"),
            ("issue/get.json", [("issue_id", "1")], "issue not found"),
            ("user/get.json", [("user_id", "1")], "user not found"),
            ("nothing.json", [("a", "b")], "not found"),
            ("event/list", [("a", "b")], "not found"),
            ("", [("a", "b")], "not found"),
        ] {
            assert_failure(&call(&service, path, &params).await, 404, 404, message);
        }
        for method in ["POST", "PUT", "DELETE"] {
            let request = service.request(method, "/halo/api/v1/event/list.json").header("x-apikey", "any");
            assert_failure(&service.send(request).await, 404, 404, "not found");
        }
    }

    async fn without_a_key_nobody_gets_in_also_in_open_mode(database) {
        let service = Service::start(database).await;
        for path in CALLS {
            let answer = service.get(&format!("/halo/api/v1/{path}")).await;
            assert_failure(&answer, 401, 401, "authentication failed");
            assert_failure(&call_as(&service, " ", path, &[]).await, 401, 401, "authentication failed");
        }
        let bearer = service.request("GET", "/halo/api/v1/user/me.json").bearer_auth("any");
        assert_failure(&service.send(bearer).await, 401, 401, "authentication failed");
        let unreadable = http::HeaderValue::from_bytes(b"k\xe9y").expect("a header value");
        let request = service.request("GET", "/halo/api/v1/user/me.json").header("x-apikey", unreadable);
        assert_failure(&service.send(request).await, 401, 401, "authentication failed");
    }

    async fn two_accounts_do_not_see_one_another(database) {
        let mut config = test_config(database);
        config.auth.mode = AuthMode::Keys;
        config.auth.default_key = "shk_first".to_owned();
        let mut service = Service::start_with(config).await;
        service.with_key(Some("shk_first"));
        let other = service.post("/api/v1/accounts", json!({"name": "other"})).await.expect(201);
        let other = text(&other["api_key"]);
        add_target(&service, "shop.example.test", json!(["owasp-zap-missing-hsts"])).await;
        scan_to_the_end(&service, "shop.example.test", json!({})).await;
        tell(&service, ONE_REPORT).await;
        let list = async |key: &str, path: &str| call_as(&service, key, path, &[]).await.expect(200)["pagination"]["total"].as_u64();
        for path in ["event/list.json", "target/list.json", "scan/list.json", "issue/list.json", "port/list.json", "pci/report-list.json"] {
            assert_ne!(list("shk_first", path).await, Some(0), "{path}");
            assert_eq!(list(&other, path).await, Some(0), "{path}");
        }
        let first = async |path: &str, pointer: &str| {
            let body = call_as(&service, "shk_first", path, &[]).await.expect(200);
            body["list"][0].pointer(pointer).expect("an id").to_string().replace('"', "")
        };
        for (list, pointer, get, name, message) in [
            ("event/list.json", "/event/event_id", "event/get.json", "event_id", "event not found"),
            ("event/list.json", "/event/event_id", "event/delete.json", "event_id", "event not found"),
            ("target/list.json", "/target/target_id", "target/get.json", "target_id", "target not found"),
            ("scan/list.json", "/scan/scan_id", "scan/get.json", "scan_id", "scan not found"),
        ] {
            let id = first(list, pointer).await;
            assert_failure(&call_as(&service, &other, get, &[(name, &id)]).await, 404, 404, message);
            call_as(&service, "shk_first", get, &[(name, &id)]).await.expect(200);
        }
        assert_failure(&call_as(&service, "shk_wrong", "user/me.json", &[]).await, 401, 401, "authentication failed");
    }

    async fn a_deleted_event_is_gone_from_this_api_only(database) {
        let service = Service::start(database).await;
        let receiver = Receiver::answering([200]).await;
        service.subscribe_as(json!({"url": receiver.url, "vendor": "halo"})).await;
        service.post("/api/v1/trigger", json!({"vendor": "halo", "event_type": "target-add", "count": 2})).await.expect(202);
        let ids = column(&service, "event/list.json", &[], "/event/event_id").await;
        let id = text(&ids[0]);
        assert_eq!(read(&service, "event/delete.json", &[("event_id", &id)]).await, json!({"success": 1}));
        assert_eq!(column(&service, "event/list.json", &[], "/event/event_id").await, ids[1..]);
        for path in ["event/get.json", "event/delete.json"] {
            assert_failure(&call(&service, path, &[("event_id", &id)]).await, 404, 404, "event not found");
        }
        assert_eq!(service.events().await.len(), 2, "scanhook's own API keeps it");
        assert_eq!(service.dispatch().await, 2, "and it is still delivered");
        assert!(bodies(&receiver, "target-add").iter().any(|body| body["event_id"] == id));
    }

    async fn events_are_filtered_and_sorted(database) {
        let service = Service::start(database).await;
        add_target(&service, "shop.example.test", json!(["owasp-zap-missing-hsts"])).await;
        add_target(&service, "blog.example.test", json!([])).await;
        scan_to_the_end(&service, "shop.example.test", json!({})).await;
        service.post("/api/v1/users", json!({"email": "riley@example.com", "name": "Riley Example"})).await.expect(201);
        let keys = async |params: &[(&str, &str)]| -> BTreeMap<String, usize> {
            let mut keys = BTreeMap::new();
            for key in column(&service, "event/list.json", params, "/event/key").await {
                *keys.entry(text(&key)).or_default() += 1;
            }
            keys
        };
        let one = |key: &str, count: usize| BTreeMap::from([(key.to_owned(), count)]);
        let all: usize = keys(&[]).await.values().sum();
        assert_eq!(keys(&[("key", "=target-add")]).await, one("target-add", 2));
        assert_eq!(keys(&[("key", "=target-ad")]).await, BTreeMap::new());
        assert_eq!(keys(&[("key", "issue")]).await, one("issue-add", 1));
        assert_eq!(keys(&[("key", "~^target-a")]).await, one("target-add", 2));
        assert_eq!(keys(&[("key", "!=target-add")]).await.values().sum::<usize>(), all - 2);
        assert_eq!(keys(&[("subject", "new ISSUE*")]).await, one("issue-add", 1));
        assert_eq!(keys(&[("subject", "-")]).await, BTreeMap::new());
        assert_eq!(keys(&[("detail", "=riley@example.com")]).await, one("account-user-add", 1));
        assert_eq!(keys(&[("detail", "blog.example"), ("key", "*add")]).await, one("target-add", 1));
        // A scan's start has no detail.
        assert_eq!(keys(&[("detail", "-"), ("key", "target-scan-start")]).await, one("target-scan-start", 1));
        let ids = column(&service, "target/list.json", &[("target", "=blog.example.test")], "/target/target_id").await;
        assert_eq!(keys(&[("target_id", &ids[0].to_string())]).await, one("target-add", 1));
        let shop = column(&service, "event/list.json", &[("target_id", &format!("<{}", ids[0]))], "/event/target/target").await;
        assert!(shop.len() > 3 && shop.iter().all(|target| target == "shop.example.test"), "{shop:?}");
        let up = column(&service, "event/list.json", &[("sort", "0")], "/event/subject").await;
        assert!(up.is_sorted_by_key(text) && up.len() == all, "{up:?}");
        let up = column(&service, "event/list.json", &[], "/event/event_id").await;
        let mut down = column(&service, "event/list.json", &[("sort_desc", "1")], "/event/event_id").await;
        down.reverse();
        assert_eq!(up, down);
        let user = rows(&service, "event/list.json", &[("key", "account-user-add")]).await;
        assert_eq!(user[0]["event"].get("target"), None, "it is about no target");
    }

    async fn an_event_about_a_target_that_the_world_has_not_shows_what_it_says(database) {
        let service = Service::start(database).await;
        let trigger = |target: Value| json!({"vendor": "halo", "event_type": "target-add", "set": target});
        service.post("/api/v1/trigger", trigger(json!({"target_id": 7, "target": "a.example.test", "target_name": "A"}))).await.expect(202);
        let shown = column(&service, "event/list.json", &[], "/event/target").await;
        assert_eq!(shown, [json!({"target_name": "A", "target_id": 7, "target": "a.example.test"})]);
        assert_eq!(column(&service, "event/list.json", &[("target_id", "7")], "/event/key").await, ["target-add"]);
        assert_eq!(rows(&service, "event/list.json", &[("target_id", "70")]).await.len(), 0);
        assert_eq!(rows(&service, "event/list.json", &[("target_id", "1-6,8")]).await.len(), 0);
    }

    async fn the_same_issue_has_the_same_id_on_every_target(database) {
        let service = Service::start(database).await;
        let receiver = Receiver::answering([200]).await;
        service.subscribe_as(json!({"url": receiver.url, "vendor": "halo", "event_types": ["issue-add"]})).await;
        for address in ["shop.example.test", "blog.example.test"] {
            add_target(&service, address, json!(["owasp-zap-missing-hsts"])).await;
            scan_to_the_end(&service, address, json!({})).await;
        }
        let added = bodies(&receiver, "issue-add");
        assert_eq!(added.len(), 2);
        assert_eq!(added[0]["issue_id"], added[1]["issue_id"]);
        assert_ne!(added[0]["target_id"], added[1]["target_id"]);
        let listed = rows(&service, "issue/list.json", &[]).await;
        assert_eq!(listed.iter().map(|row| &row["issue"]["issue_id"]).collect::<Vec<_>>(), [&added[0]["issue_id"]; 2]);
    }

    async fn instances_of_an_issue_on_a_target_are_counted(database) {
        let service = Service::start(database).await;
        add_target(&service, "shop.example.test", json!([])).await;
        scan_to_the_end(&service, "shop.example.test", json!({"findings": 50})).await;
        let instances = column(&service, "issue/list.json", &[], "/instances").await;
        assert_eq!(instances.iter().filter_map(Value::as_u64).sum::<u64>(), 50);
        assert!(instances.len() < 50 && instances.contains(&json!(3)), "{instances:?}");
        let id = text(&column(&service, "scan/list.json", &[], "/scan/scan_id").await[0]);
        let scan = &read(&service, "scan/get.json", &[("scan_id", &id)]).await["scan"];
        let sum = |counts: &Value| counts.as_object().expect("counts").values().filter_map(Value::as_u64).sum::<u64>();
        assert_eq!(sum(&scan["issue_instance_severity_count"]), 50);
        assert_eq!(sum(&scan["issue_severity_count"]), instances.len() as u64);
        assert_eq!(scan["duration"], 38 * 60, "it starts when a twentieth of its 40 minutes has passed");
        for severity in 0..=5_u64 {
            let of_severity = rows(&service, "issue/list.json", &[("severity", &severity.to_string())]).await;
            assert_eq!(scan["issue_severity_count"][severity.to_string()], of_severity.len());
        }
    }

    async fn a_fixed_issue_is_listed_only_for_those_who_ask(database) {
        let service = Service::start(database).await;
        let target = add_target(&service, "shop.example.test", json!(["owasp-zap-missing-hsts", "owasp-zap-missing-csp"])).await;
        scan_to_the_end(&service, "shop.example.test", json!({})).await;
        let first = text(&column(&service, "scan/list.json", &[], "/scan/scan_id").await[0]);
        let fix = json!({"weaknesses": ["owasp-zap-missing-hsts"]});
        service.post(&format!("/api/v1/targets/{target}/fix"), fix).await.expect(200);
        scan_to_the_end(&service, "shop.example.test", json!({})).await;
        let second = text(&column(&service, "scan/list.json", &[], "/scan/scan_id").await[0]);
        let names = async |params: &[(&str, &str)]| column(&service, "issue/list.json", params, "/issue/name").await.len();
        assert_eq!(names(&[]).await, 1);
        assert_eq!(column(&service, "issue/list.json", &[], "/status/status").await, ["new"]);
        let fixed = rows(&service, "issue/list.json", &[("status", "=fixed")]).await;
        assert_eq!((fixed.len(), &fixed[0]["status"]["status"], &fixed[0]["instances"]), (1, &json!("fixed"), &json!(1)));
        assert_eq!(names(&[("status", "*")]).await, 2);
        assert_eq!((names(&[("scan_id", &first)]).await, names(&[("scan_id", &second)]).await), (2, 1));
        assert_eq!(names(&[("name", "strict-transport"), ("status", "*")]).await, 1);
        let by_severity = column(&service, "issue/list.json", &[("status", "*"), ("sort", "1"), ("sort_desc", "1")], "/issue/severity").await;
        assert_eq!(by_severity, [3, 2]);
        let by_name = column(&service, "issue/list.json", &[("status", "*")], "/issue/name").await;
        assert!(by_name.is_sorted_by_key(text), "{by_name:?}");
    }

    async fn scans_are_current_recent_prior_or_all(database) {
        let service = Service::start(database).await;
        add_target(&service, "shop.example.test", json!([])).await;
        for _ in 0..8 {
            scan_to_the_end(&service, "shop.example.test", json!({})).await;
        }
        scan_to_the_end(&service, "shop.example.test", json!({"outcome": "failed"})).await;
        scan_to_the_end(&service, "shop.example.test", json!({"vendors": ["probely"]})).await;
        let ids = async |kind: &str| column(&service, "scan/list.json", &[("type", kind)], "/scan/scan_id").await;
        let (current, recent, prior, all) = (ids("current").await, ids("recent").await, ids("prior").await, ids("all").await);
        assert_eq!((current.len(), recent.len(), prior.len(), all.len()), (1, 5, 7, 9));
        assert!(all.is_sorted_by_key(text) && prior.is_sorted_by_key(text));
        assert_eq!(prior[2..], recent, "the last five before the current one");
        assert_eq!((&all[..7], &all[7]), (&prior[..], &current[0]));
        let target_id = column(&service, "target/list.json", &[], "/target/target_id").await[0].to_string();
        let target = &read(&service, "target/get.json", &[("target_id", &target_id)]).await["target"];
        assert_eq!(target["scan_id"], current[0]);
        let newest_first: Vec<Value> = recent.into_iter().rev().collect();
        assert_eq!(target["recent_scan_ids"], json!(newest_first));
        assert_eq!(column(&service, "scan/list.json", &[], "/scan/scan_id").await, current, "current is the usual");
        assert_eq!(rows(&service, "scan/list.json", &[("target_id", &format!("!{target_id}")[1..])]).await.len(), 1);
        assert_eq!(rows(&service, "scan/list.json", &[("target_id", "1")]).await.len(), 0);
    }

    async fn a_running_scan_is_there_from_its_start_on(database) {
        let service = Service::start(database).await;
        let receiver = Receiver::answering([200]).await;
        service.subscribe_as(json!({"url": receiver.url, "vendor": "halo", "event_types": ["target-scan-start"]})).await;
        add_target(&service, "shop.example.test", json!([])).await;
        scan(&service, "shop.example.test", json!({})).await;
        assert_eq!(rows(&service, "scan/list.json", &[("type", "all")]).await.len(), 0, "it waits");
        service.advance("2m");
        service.app.scanner.run_once().await.expect("the scanner goes on");
        service.dispatch().await;
        service.advance("90s");
        let id = text(&bodies(&receiver, "target-scan-start")[0]["scan_id"]);
        assert_eq!(column(&service, "scan/list.json", &[("type", "all")], "/scan/scan_id").await, [json!(id)]);
        assert_eq!(rows(&service, "scan/list.json", &[]).await.len(), 0, "none is current yet");
        let scan = &read(&service, "scan/get.json", &[("scan_id", &id)]).await["scan"];
        assert_eq!((&scan["duration"], &scan["date"]), (&json!(90), &json!("2026-01-01 00:02")));
        let target_id = column(&service, "target/list.json", &[], "/target/target_id").await[0].to_string();
        assert_eq!(read(&service, "target/get.json", &[("target_id", &target_id)]).await["target"]["scan_id"], "");
        assert_eq!(rows(&service, "port/list.json", &[]).await.len(), 0, "nothing has been seen");
    }

    async fn targets_are_listed_by_name_with_what_was_seen_of_them(database) {
        let service = Service::start(database).await;
        for (address, label) in [("zoo.example.test", ""), ("192.0.2.7", "Mail"), ("example.test", "all of it")] {
            service.post("/api/v1/targets", json!({"address": address, "label": label, "weaknesses": []})).await.expect(201);
        }
        let names = column(&service, "target/list.json", &[], "/target/target_name").await;
        assert_eq!(names, ["Mail", "all of it", "zoo.example.test"]);
        let one = async |name: &str| {
            let id = column(&service, "target/list.json", &[("target_name", name)], "/target/target_id").await[0].to_string();
            read(&service, "target/get.json", &[("target_id", &id)]).await["target"].clone()
        };
        let mail = one("=Mail").await;
        assert_eq!((&mail["target"], &mail["ip"], &mail["date_created"]), (&json!("192.0.2.7"), &json!("192.0.2.7"), &json!("2026-01-01 00:00")));
        assert_ne!(one("zoo").await["ip"], mail["ip"]);
        scan_to_the_end(&service, "zoo.example.test", json!({})).await;
        let ports = rows(&service, "port/list.json", &[]).await;
        assert!(ports.len() >= 2 && ports.iter().all(|row| row["target"]["target"] == "zoo.example.test"));
        assert_eq!(column(&service, "port/list.json", &[("port", "443")], "/port/service").await, ["https"]);
        assert_eq!(rows(&service, "port/list.json", &[("state", "=closed")]).await.len(), 0);
        let technologies = rows(&service, "technology/list.json", &[]).await;
        let surface = service.get("/api/v1/targets?limit=10").await.expect(200);
        let zoo = surface["data"].as_array().expect("a list").iter().find(|one| one["address"] == "zoo.example.test").expect("it is there").clone();
        assert_eq!(technologies.len(), zoo["surface"]["technologies"].as_array().expect("a list").len());
    }

    async fn a_removed_target_is_gone_but_its_past_is_known(database) {
        let service = Service::start(database).await;
        let target = add_target(&service, "shop.example.test", json!(["owasp-zap-missing-hsts"])).await;
        scan_to_the_end(&service, "shop.example.test", json!({})).await;
        let scan_id = text(&column(&service, "scan/list.json", &[], "/scan/scan_id").await[0]);
        let target_id = column(&service, "target/list.json", &[], "/target/target_id").await[0].to_string();
        service.delete(&format!("/api/v1/targets/{target}")).await.expect(204);
        for path in ["target/list.json", "scan/list.json", "issue/list.json", "port/list.json"] {
            assert_eq!(rows(&service, path, &[]).await.len(), 0, "{path}");
        }
        assert_failure(&call(&service, "target/get.json", &[("target_id", &target_id)]).await, 404, 404, "target not found");
        let scan = read(&service, "scan/get.json", &[("scan_id", &scan_id)]).await;
        assert_eq!((&scan["target"]["target"], &scan["scan"]["issue_severity_count"]["3"]), (&json!("shop.example.test"), &json!(1)));
        let targets = column(&service, "event/list.json", &[("key", "target")], "/event/target/target").await;
        assert!(targets.len() >= 3 && targets.iter().all(|target| target == "shop.example.test"), "{targets:?}");
    }

    async fn the_key_is_its_first_users(database) {
        let service = Service::start(database).await;
        let before = read(&service, "user/me.json", &[]).await;
        assert_eq!((&before["user"]["email"], &before["user"]["role"]), (&json!("owner@example.com"), &json!(1)));
        service.post("/api/v1/users", json!({"email": "a.riley@example.com", "name": "Riley Example"})).await.expect(201);
        assert_eq!(read(&service, "user/me.json", &[]).await, before, "asking has changed nothing");
        let emails = column(&service, "user/list.json", &[], "/email").await;
        assert_eq!(emails, ["a.riley@example.com", "owner@example.com"]);
        assert_eq!(column(&service, "user/list.json", &[("sort_desc", "1")], "/email").await, [emails[1].clone(), emails[0].clone()]);
        let riley = rows(&service, "user/list.json", &[("name", "riley ex")]).await;
        assert_eq!((riley.len(), &riley[0]["email"]), (1, &emails[0]));
        assert_eq!(rows(&service, "user/list.json", &[("email", "!owner*")]).await, riley);
        let same = read(&service, "user/get.json", &[("user_id", &riley[0]["user_id"].to_string())]).await;
        assert_eq!(same["user"], riley[0]);
        service.delete("/api/v1/users/a.riley@example.com").await.expect(204);
        assert_eq!(column(&service, "user/list.json", &[], "/email").await, ["owner@example.com"]);
    }

    async fn pci_reports_have_the_numbers_that_webhooks_name(database) {
        let service = Service::start(database).await;
        let receiver = Receiver::answering([200]).await;
        service.subscribe_as(json!({"url": receiver.url, "vendor": "halo"})).await;
        tell(&service, ONE_REPORT).await;
        let approved = &bodies(&receiver, "pci-report-approved")[0];
        let summary = read(&service, "pci/summary.json", &[]).await;
        assert_eq!(summary, json!({"report_count": 1, "last_report_id": approved["pci_report_id"], "status": "approved"}));
        let reports = rows(&service, "pci/report-list.json", &[]).await;
        assert_eq!((&reports[0]["report"]["pci_report_id"], &reports[0]["report"]["name"]), (&approved["pci_report_id"], &json!("Shop Q1")));
    }

    async fn hosts_are_acknowledged_each_once_and_by_type(database) {
        let service = Service::start(database).await;
        let cdn = |kind: &'static str| [("host", "cdn.example.test"), ("type", kind), ("comment", "Ours.")];
        for kind in ["script", "global"] {
            assert_eq!(read(&service, "ack/host-add.json", &cdn(kind)).await, json!({"success": 1}));
        }
        assert_failure(&call(&service, "ack/host-add.json", &cdn("script")).await, 400, 0, "Host Already Acknowledged");
        let sample = json!({"awk_host": {"host": "cdn.example.test", "comment": "Ours.", "created_date": "2026-01-01 00:00", "type": 1000, "created_by": "Account Owner"}});
        let listed = rows(&service, "ack/host-list.json", &[]).await;
        assert!(listed.len() == 2 && listed.contains(&sample), "{listed:?}");
        for (path, params, message) in [
            ("ack/host-add.json", &[("host", "a.test")][..], "type not valid"),
            ("ack/host-add.json", &[("host", "a.test"), ("type", "scripts")], "type not valid"),
            ("ack/host-add.json", &[("type", "script")], "host required"),
            ("ack/host-add.json", &[("type", "script"), ("host", "a\0")], "host not valid"),
            ("ack/host-add.json", &[("type", "script"), ("host", "a.test"), ("comment", "a\n")], "comment not valid"),
            ("ack/host-delete.json", &[], "host required"),
            ("ack/host-delete.json", &[("host", "a.test")], "nothing deleted"),
            ("ack/host-delete.json", &[("host", "cdn.example.test"), ("type", "form")], "nothing deleted"),
        ] {
            assert_failure(&call(&service, path, params).await, 400, 0, message);
        }
        read(&service, "ack/host-delete.json", &[("host", "cdn.example.test"), ("type", "script")]).await;
        assert_eq!(rows(&service, "ack/host-list.json", &[]).await, [sample]);
        read(&service, "ack/host-add.json", &cdn("script")).await;
        read(&service, "ack/host-delete.json", &[("host", "cdn.example.test")]).await;
        assert_eq!(rows(&service, "ack/host-list.json", &[]).await.len(), 0, "of every type");
        assert_eq!(service.events().await.len(), 0, "nothing tells of it");
    }

    async fn the_documented_samples_report_id_is_an_option(database) {
        let service = Service::start(database).await;
        let (plain, odd) = (Receiver::answering([200]).await, Receiver::answering([200]).await);
        service.subscribe_as(json!({"url": plain.url, "vendor": "halo"})).await;
        service.subscribe_as(json!({"url": odd.url, "vendor": "halo", "options": {"report_id": true}})).await;
        tell(&service, ONE_REPORT).await;
        let (without, with) = (plain.got(), odd.got());
        assert_eq!((without.len(), with.len()), (2, 2));
        assert_eq!(without[0].body, with[0].body, "other events are as always");
        let [without, with] = [&without[1].body, &with[1].body].map(|body| String::from_utf8(body.to_vec()).expect("UTF-8"));
        let body: Value = serde_json::from_str(&with).expect("JSON");
        assert_eq!(body["key"], "pci-report-expire-today");
        assert_eq!(body["report_id"], body["pci_report_id"]);
        assert!(!without.contains("\"report_id\""));
        assert_eq!(with.replacen(&format!(r#","report_id":{}"#, body["report_id"]), "", 1), without, "and nothing else differs");
        let foreign = json!({"url": plain.url, "vendor": "probely", "options": {"report_id": true}});
        service.post("/api/v1/subscribers", foreign).await.assert_problem(422, "invalid-field", "is not an option of probely");
    }

    async fn report_id_is_added_only_where_it_can_be(database) {
        let service = Service::start(database).await;
        let receiver = Receiver::answering([200]).await;
        service.subscribe_as(json!({"url": receiver.url, "vendor": "halo", "options": {"report_id": true}})).await;
        let contents = [r#"{}"#, r#"{"report_id": 5, "pci_report_id": 6}"#, r#" { "pci_report_id" : "six" } "#];
        for content in contents {
            let event = format!(r#"{{"vendor":"halo","event_type":"pci-report-expire-today","content":{content}}}"#);
            service.post_raw("/api/v1/events", "application/json", event).await.expect(202);
        }
        service.dispatch().await;
        let bodies: Vec<Value> = receiver.got().iter().map(|got| serde_json::from_slice(&got.body).expect("JSON")).collect();
        let ids: BTreeSet<String> = bodies.iter().map(|body| body["report_id"].to_string()).collect();
        assert_eq!(ids, BTreeSet::from(["null", "5", "\"six\""].map(str::to_owned)));
    }
}

/// A parameter that means something to some call, or nothing to any.
fn parameter() -> impl Strategy<Value = (String, String)> {
    let known = [
        "start",
        "limit",
        "sort",
        "sort_desc",
        "type",
        "key",
        "subject",
        "detail",
        "target_id",
        "event_id",
        "scan_id",
        "issue_id",
        "user_id",
        "severity",
        "status",
        "name",
        "email",
        "target",
        "target_name",
        "port",
        "protocol",
        "service",
        "state",
        "technology",
        "version",
        "asof",
    ];
    let name = prop_oneof![9 => proptest::sample::select(known.to_vec()).prop_map(str::to_owned), 1 => any::<String>()];
    let value = prop_oneof![
        2 => "[-!~=*<>,0-9]{0,8}",
        2 => "[!]?~[a-c(){}|\\[\\]*+?.\\\\^$0-9]{0,12}",
        1 => proptest::sample::select(&["18446744073709551615", "18446744073709551616", "99999999999999999999999", "-1", "1e9"][..]).prop_map(str::to_owned),
        1 => proptest::sample::select(&["current", "recent", "prior", "all", "=target-add", "fixed", "\0", "a\0b"][..]).prop_map(str::to_owned),
        1 => "[\\x00-\\x1f\\x7f]{0,6}",
        1 => any::<String>(),
        1 => "0|1|5|100000|100001|12001",
    ];
    (name, value)
}

/// Queries: well-formed ones, and such as no client writes.
fn query() -> impl Strategy<Value = String> {
    let encoded = proptest::collection::vec(parameter(), 0..5).prop_map(|params| {
        params
            .iter()
            .fold(url::form_urlencoded::Serializer::new(String::new()), |mut query, (name, value)| {
                query.append_pair(name, value);
                query
            })
            .finish()
    });
    let junk = "([a-z_]{1,9}=)?(%[0-9a-zA-Z]{0,2}|%00|%ff|%c3|[&=+;~!*-]){0,12}";
    prop_oneof![4 => encoded, 1 => junk]
}

#[test]
fn whatever_is_asked_is_answered_in_json_and_never_with_a_fault_of_ours() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    for database in [Database::sqlite(), runtime.block_on(Database::postgres())] {
        let service = runtime.block_on(async {
            let service = Service::start(&database).await;
            add_target(&service, "shop.example.test", json!(["owasp-zap-missing-hsts"])).await;
            scan_to_the_end(&service, "shop.example.test", json!({})).await;
            service
        });
        let paths =
            prop_oneof![9 => proptest::sample::select(&CALLS[..]).prop_map(str::to_owned), 1 => "[a-z/%]{0,12}"];
        let mut runner = TestRunner::new(Config { cases: 200, failure_persistence: None, ..Config::default() });
        let check = |(path, query): (String, String)| {
            let answer = runtime.block_on(call(&service, &format!("{path}?{query}"), &[]));
            prop_assert!([200, 400, 404].contains(&answer.status), "{} {}", answer.status, answer.text);
            prop_assert_eq!(&answer.headers["content-type"], "application/json");
            prop_assert!(answer.body.is_object(), "{}", answer.text);
            if answer.status == 200 && answer.body.get("list").is_some() {
                let shown = answer.body["list"].as_array().map_or(0, Vec::len) as u64;
                let total = answer.body["pagination"]["total"].as_u64().unwrap_or_default();
                prop_assert!(
                    shown <= total && shown <= answer.body["pagination"]["limit"].as_u64().unwrap_or_default()
                );
            }
            if answer.status != 200 {
                prop_assert!(answer.body["code"] == 0 || answer.body["code"] == 404, "{}", answer.text);
                prop_assert!(answer.body["message"].as_str().is_some_and(|message| !message.is_empty()));
            }
            Ok(())
        };
        runner.run(&(paths, query()), check).expect("every answer is the vendor's");
        runtime.block_on(async move {
            drop(service);
            database.remove().await;
        });
    }
}
