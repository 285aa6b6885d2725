//! What is thrown at Probely's API: forms, junk, floods, bombs, and much at once.

use std::time::Duration;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

use crate::probely_api::{Probely, scanned, start};
use crate::support::{Service, on_both_databases, text};

on_both_databases! {
    async fn every_path_works_with_and_without_its_slash(database) {
        let service = start(database).await;
        let probely = Probely::of(&service);
        let target = scanned(&probely, "https://a.example.com").await;
        for path in PATHS {
            let path = path.replace("{t}", &target).replace("{i}", "1").replace("{c}", "targets");
            for method in ["GET", "POST", "PATCH", "DELETE"] {
                if path.ends_with("delete") || (method == "DELETE" && path == format!("/targets/{target}")) {
                    continue;
                }
                let bare = probely.call(method, &path, Some(json!([]))).await;
                let slashed = probely.call(method, &format!("{path}/"), Some(json!([]))).await;
                assert_eq!((bare.status, bare.body.is_null()), (slashed.status, slashed.body.is_null()), "{method} {path}");
                assert!(bare.status < 500, "{method} {path}: {}", bare.text);
                if bare.status == 405 {
                    assert_eq!(bare.body, json!({"detail": format!("Method \"{method}\" not allowed.")}));
                }
            }
        }
        assert_eq!(probely.call("GET", "/nowhere/", None).await.expect(404), json!({"detail": "Not found."}));
    }

    async fn forms_are_read_like_json(database) {
        let service = start(database).await;
        let probely = Probely::of(&service);
        let form = "application/x-www-form-urlencoded";
        let made = probely.raw("POST", "/targets/", form, "site.url=https%3A%2F%2Fa.test&site.basic_auth.username=u&site.otp_digits=8&incremental=on&labels=a&labels=b").await.expect(201);
        assert_eq!((&made["site"]["basic_auth"]["username"], &made["site"]["otp_digits"], &made["incremental"]), (&json!("u"), &json!(8), &json!(true)));
        assert_eq!(made["labels"].as_array().map(Vec::len), Some(2));
        let id = text(&made["id"]);
        let multipart = "--b\r\nContent-Disposition: form-data; name=\"report_type\"\r\n\r\npci\r\n--b--\r\n";
        assert_eq!(probely.raw("PATCH", &format!("/targets/{id}/"), "multipart/form-data; boundary=b", multipart).await.expect(200)["report_type"], "pci");
        assert_eq!(probely.raw("POST", "/targets/bulk/delete/", form, &format!("ids={id}")).await.expect(200), json!({"ids": [id]}));
        let webhook = probely.raw("POST", "/webhooks/", form, "url=https%3A%2F%2Fa.test&check_cert=false").await.expect(201);
        assert_eq!(webhook["check_cert"], false);
        for (content_type, body, status) in [
            ("application/json", "{", 400), ("application/json", "[1]", 400), ("application/json", "\u{feff}", 400), ("multipart/form-data", "x", 400),
            ("multipart/form-data; boundary=b", "--c", 400), ("application/json", "", 400), (form, "%ff=%00", 400),
        ] {
            let answer = probely.raw("POST", "/webhooks/", content_type, body).await;
            assert_eq!(answer.status, status, "{content_type} {body:?}: {}", answer.text);
            assert!(answer.body.is_object(), "{}", answer.text);
        }
        let deep = format!("{}1{}", "{\"a\":".repeat(100_000), "}".repeat(100_000));
        assert!(probely.raw("POST", "/webhooks/", "application/json", &deep).await.expect(400)["detail"].is_string());
        let dots = format!("{}=1", "a.".repeat(50_000));
        probely.raw("POST", "/webhooks/", form, &dots).await.expect(400);
    }

    async fn what_is_set_stays_small_and_can_be_read_again(database) {
        let service = start(database).await;
        let probely = Probely::of(&service);
        let target = probely.add_target("https://a.example.com").await;
        let one = format!("/targets/{target}/");
        let nested = (0..100).fold(json!(1), |inner, _| json!({"a": inner}));
        let long = "x".repeat(900_000);
        let many: Vec<Value> = (0..100).map(|n| json!({"name": n.to_string(), "value": "x".repeat(4_000)})).collect();
        for body in [
            json!({"blackout_period": {"begin": nested}}), json!({"connected_target": nested}), json!({"site": {"whitelist": [long]}}),
            json!({"site": {"whitelist": vec!["a"; 101]}}), json!({"site": {"headers": many}}), json!({"site": {"cookies": [{"name": nested, "value": ""}]}}),
            json!({"labels": [nested]}), json!({"teams": [nested]}), json!({"site": {"api_scan_settings": {"api_login_payload": long}}}),
            json!({"blackout_period": {"weekdays": [8]}}), json!({"blackout_period": {"timezone": "x"}}),
        ] {
            probely.patch(&one, body).await.expect(400);
        }
        // What has no meaning is passed over, not kept.
        probely.patch(&one, json!({"blackout_period": {"begin": "10:00", "x": nested}, "site": {"logout_detectors": [nested]}})).await.expect(200);
        let shown = probely.get(&one).await;
        assert!(shown.to_string().len() < 10_000);
        let assets = format!("/targets/{target}/assets/");
        probely.post(&assets, json!({"host": "a", "headers": many})).await.expect(400);
        for n in 0..100 {
            probely.post(&assets, json!({"host": n.to_string()})).await.expect(201);
        }
        probely.post(&assets, json!({"host": "one too many"})).await.expect(400);
        drop(service);
        let again = start(database).await;
        assert_eq!(Probely::of(&again).get(&one).await["blackout_period"]["begin"], "10:00");
    }

    async fn a_bomb_of_yaml_is_refused_in_time(database) {
        let service = start(database).await;
        let probely = Probely::of(&service);
        let target = probely.add_target("https://a.example.com").await;
        let bomb: String = (1..30).map(|n| format!("a{n}: &a{n} [{}]\n", vec![format!("*a{}", n - 1); 9].join(", "))).collect();
        for file in [format!("a0: &a0 [1]\n{bomb}"), "[".repeat(100_000), "{a: ".repeat(50_000)] {
            let body = format!("--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\n{file}\r\n--b--\r\n");
            let path = format!("/targets/{target}/upload_api_schema_file/");
            let upload = probely.raw("POST", &path, "multipart/form-data; boundary=b", &body);
            let answer = tokio::time::timeout(Duration::from_secs(60), upload).await.expect("in time");
            assert!(answer.expect(400)["file"].is_array());
        }
    }

    async fn concurrent_changes_all_hold(database) {
        let service = start(database).await;
        let probely = Probely::of(&service);
        let target = probely.add_target("https://a.example.com").await;
        const TEXTS: [&str; 6] = ["desc", "form_login_check_pattern", "otp_secret", "otp_field", "otp_submit", "name"];
        let paths: Vec<String> = (0..48).map(|_| format!("/targets/{target}/")).collect();
        let flags = ["incremental", "reduced_scope", "schedule_incremental", "schedule_reduced_scope", "crawl_sequences_only", "schedule_crawl_sequences_only"];
        let patches = paths.iter().enumerate().map(|(n, path)| match n % 12 {
            n @ 0..6 => probely.patch(path, json!({"site": {TEXTS[n]: "set"}})),
            n => probely.patch(path, json!({flags[n - 6]: true})),
        });
        for answer in futures_util::future::join_all(patches).await {
            answer.expect(200);
        }
        let shown = probely.get(&paths[0]).await;
        assert!(TEXTS.iter().all(|name| shown["site"][name] == "set") && flags.iter().all(|name| shown[name] == true), "{shown}");
        let scan = probely.scan_now(&target).await;
        let acts: Vec<String> = ["cancel", "pause"].iter().cycle().take(20).map(|act| format!("/targets/{target}/scans/{scan}/{act}/")).collect();
        let answers = futures_util::future::join_all(acts.iter().map(|path| probely.post(path, json!({})))).await;
        let cancelled = acts.iter().zip(&answers).filter(|(path, answer)| path.ends_with("cancel/") && answer.status == 200).count();
        assert_eq!(cancelled, 1, "it is cancelled once");
        assert!(answers.iter().all(|answer| [200, 400].contains(&answer.status)));
        service.live().await;
        assert_eq!(probely.status_of(&scan).await, "canceled");
        let told = probely.field("/events/?length=100", "event_type").await;
        assert_eq!(told, ["scan_canceled", "target_created"]);
    }

    async fn many_findings_and_many_ids_are_answered_in_time(database) {
        let service = start(database).await;
        let probely = Probely::of(&service);
        let target = json!({"address": "https://big.example.com", "weaknesses": 3_000, "tags": ["a", "b"]});
        service.post("/api/v1/targets", target).await.expect(201);
        let target = text(&probely.field("/targets/", "id").await[0]);
        for n in 0..100 {
            probely.post("/labels/targets/", json!({"name": format!("label {n}")})).await.expect(201);
        }
        probely.scan_now(&target).await;
        service.live().await;
        let count = probely.count("/findings/?length=1").await;
        assert!(count > 100, "{count}");
        let walk = async {
            let mut seen = std::collections::BTreeSet::new();
            for page in 1..=count.div_ceil(50) {
                let ids = probely.field(&format!("/findings/?length=50&ordering=-last_found&page={page}"), "id").await;
                seen.extend(ids.iter().filter_map(Value::as_u64));
            }
            assert_eq!(seen.len() as u64, count);
            let ids: Vec<String> = (0..40_000).map(|n| format!("{target}-{n}")).collect();
            probely.post("/findings/bulk/update/", json!({"ids": ids, "state": "accepted"})).await.expect(404);
            let ids: Vec<String> = (0..40_000).map(|n| format!("target{n}")).collect();
            probely.post("/targets/bulk/update/", json!({"ids": ids})).await.expect(404);
            probely.post("/scans/bulk/cancel/", json!({"scans": ids})).await.expect(404);
            assert_eq!(probely.get("/findings/?length=10000&target_label=a").await["count"], count);
        };
        tokio::time::timeout(Duration::from_secs(120), walk).await.expect("in time");
    }

    async fn whatever_is_sent_is_answered(database) {
        let service = start(database).await;
        let probely = Probely::of(&service);
        let target = scanned(&probely, "https://a.example.com").await;
        let scan = probely.scan_now(&target).await;
        let ids = [target, scan, "1".to_owned(), text(&probely.get("/profile/").await["id"])];
        let mut runner = TestRunner::deterministic();
        for _ in 0..200 {
            let (method, path, body) = requests(&ids).new_tree(&mut runner).expect("a request").current();
            let answer = tokio::time::timeout(Duration::from_secs(30), send(&service, &method, &path, &body)).await;
            let answer = answer.unwrap_or_else(|_| panic!("{method} {path} {body} is not answered"));
            assert!(answer.0 < 500, "{method} {path} {body}: {answer:?}");
            assert!(answer.1.is_empty() || serde_json::from_str::<Value>(&answer.1).is_ok(), "{method} {path} {body}: {answer:?}");
        }
        service.live().await;
        drop(service);
        // All that was kept can be read again.
        let again = start(database).await;
        for path in ["/targets/", "/scans/", "/findings/", "/users/", "/events/", "/webhooks/", "/labels/", "/scheduledscans/"] {
            Probely::of(&again).get(&format!("{path}?length=10000")).await;
        }
    }
}

/// Every path: `{t}` is a target, `{i}` another id, `{c}` a collection of labels.
const PATHS: [&str; 56] = [
    "/events",
    "/events/{i}",
    "/webhooks",
    "/webhooks/{i}",
    "/scans",
    "/scans/bulk/start",
    "/scans/bulk/pause",
    "/scans/bulk/resume",
    "/scans/bulk/cancel",
    "/scans/{i}",
    "/findings",
    "/findings/bulk/update",
    "/findings/bulk/retest",
    "/findings/{i}",
    "/users",
    "/users/{i}",
    "/profile",
    "/account",
    "/roles",
    "/labels",
    "/labels/{c}",
    "/labels/{c}/{i}",
    "/teams",
    "/teams/{i}",
    "/scan-profiles",
    "/scan-profiles/{i}",
    "/scanning-agents",
    "/integrations",
    "/scheduledscans",
    "/scheduledscans/bulk",
    "/cli/analytics/event",
    "/targets",
    "/targets/bulk/update",
    "/targets/bulk/delete",
    "/targets/sequences",
    "/targets/assets",
    "/targets/{t}",
    "/targets/{t}/verify",
    "/targets/{t}/upload_api_schema_file",
    "/targets/{t}/scan_now",
    "/targets/{t}/scans",
    "/targets/{t}/scans/{i}",
    "/targets/{t}/scans/{i}/pause",
    "/targets/{t}/findings",
    "/targets/{t}/findings/bulk-update",
    "/targets/{t}/findings/{i}",
    "/targets/{t}/findings/{i}/retest",
    "/targets/{t}/events",
    "/targets/{t}/events/{i}",
    "/targets/{t}/webhooks",
    "/targets/{t}/webhooks/{i}",
    "/targets/{t}/sequences",
    "/targets/{t}/sequences/{i}",
    "/targets/{t}/assets",
    "/targets/{t}/assets/{i}",
    "/targets/{t}/scheduledscans/{i}",
];

/// Values of fields: usable, unusable, and of the wrong type.
fn values() -> impl Strategy<Value = Value> {
    let words = [
        "",
        "fixed",
        "accepted",
        "https://a.test/",
        "a@b.test",
        "full",
        "m",
        "2026-05-05T00:00:00Z",
        "UTC",
        "\u{0}",
        "é\n\u{7f}",
        "10:00",
        "last",
        "true",
    ];
    let leaf = prop_oneof![
        proptest::sample::select(words.to_vec()).prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
        Just(Value::Null),
        Just(json!(1e300)),
        Just((0..110).fold(json!([]), |inner, _| json!([inner]))),
        "\\PC{0,40}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        let objects = proptest::collection::vec((names(), inner.clone()), 0..4);
        prop_oneof![
            proptest::collection::vec(inner, 0..4).prop_map(Value::from),
            objects.prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

fn names() -> impl Strategy<Value = String> {
    const NAMES: [&str; 30] = [
        "site",
        "url",
        "name",
        "desc",
        "labels",
        "teams",
        "state",
        "ids",
        "scans",
        "targets",
        "id",
        "target_id",
        "finding_id",
        "email",
        "title",
        "color",
        "host",
        "headers",
        "cookies",
        "content",
        "date_time",
        "recurrence",
        "timezone",
        "week_index",
        "scan_profile",
        "blackout_period",
        "weekdays",
        "assignee",
        "comment",
        "value",
    ];
    proptest::sample::select(NAMES.to_vec()).prop_map(str::to_owned)
}

/// A method, a path with its query, and a body.
fn requests(ids: &[String]) -> impl Strategy<Value = (String, String, String)> + use<> {
    let junk = ["%00", "%ff%fe", "..%2f..", "%F0%9F%92%A9", "9999999999999999999999", "-1", "bulk", "a-b-c", "%22%27;"];
    let ids: Vec<String> = ids.iter().cloned().chain(junk.map(str::to_owned)).collect();
    let id = || proptest::sample::select(ids.clone());
    let target = prop_oneof![3 => Just(ids[0].clone()), 1 => id()];
    let query = prop_oneof![
        3 => Just(String::new()),
        1 => proptest::sample::select(vec![
            "page=99999999999&length=-5", "length=0&ordering=--id", "id=%00&is_id_404_validation=True", "search=%ff%00&label=%00",
            "started__gt=%00", "event_type=%00", "page=1&page=2&length=10000", "&&==%", "ordering=%00&new=perhaps", "state=retesting&scan=x",
            "label=a&label_logical_operator=%00", "include=target&include=content", "lastfound_after=99999999-01-01",
        ]).prop_map(|query| format!("?{query}")),
    ];
    let methods =
        proptest::sample::select(vec!["GET", "POST", "PUT", "PATCH", "DELETE", "POST", "PATCH", "OPTIONS", "HEAD"]);
    let fields = proptest::collection::vec((names(), values()), 0..6);
    let body = prop_oneof![
        6 => fields.prop_map(|fields| Value::Object(fields.into_iter().collect()).to_string()),
        1 => values().prop_map(|value| value.to_string()),
        1 => "\\PC{0,30}",
    ];
    (methods, proptest::sample::select(PATHS.to_vec()), target, id(), query, body).prop_map(
        |(method, path, target, id, query, body)| {
            let path = path.replace("{t}", &target).replace("{i}", &id).replace("{c}", "findings");
            (method.to_owned(), format!("{path}/{query}"), body)
        },
    )
}

async fn send(service: &Service, method: &str, path: &str, body: &str) -> (u16, String) {
    let request = service.request(method, &format!("/probely{path}"));
    let request = request.header("Authorization", "JWT any").header("Content-Type", "application/json");
    let answer = service.send(request.body(body.to_owned())).await;
    (answer.status, answer.text)
}
