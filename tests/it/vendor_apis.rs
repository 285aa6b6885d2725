//! What the vendors' own APIs have in common: where they are, with https, who may call.

use scanhook::app::App;
use scanhook::clock::Clock;
use scanhook::config::{AuthMode, Config};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::support::{Database, Service, on_both_databases, spawn, start_time, test_config};

/// Each vendor: its path on the main address and by itself, and the header with the key.
const VENDORS: [(&str, &str, &str, [&str; 2]); 3] = [
    ("hostedscan", "/hostedscan/v1/targets", "/v1/targets", ["X-HOSTEDSCAN-API-KEY", "key"]),
    ("halo", "/halo/api/v1/target/list.json", "/api/v1/target/list.json", ["x-apikey", "key"]),
    ("probely", "/probely/targets/", "/targets/", ["Authorization", "JWT key"]),
];

/// Serves the vendors' APIs at addresses of their own: their URLs.
async fn serve_alone(mut config: Config) -> Vec<(String, String)> {
    config.server.listen = "127.0.0.1:0".parse().expect("an address");
    let app = App::open(config, Clock::manual(start_time())).await.expect("scanhook opens");
    let listeners = app.bind().await.expect("free ports");
    let urls = listeners.vendor_urls().expect("addresses");
    drop(spawn(app.run(listeners, CancellationToken::new())));
    urls.into_iter().map(|(vendor, url)| (vendor.to_string(), url)).collect()
}

fn listening_alone(database: &Database) -> Config {
    let mut config = test_config(database);
    let any = Some("127.0.0.1:0".parse().expect("an address"));
    (config.vendors.hostedscan.listen, config.vendors.halo.listen, config.vendors.probely.listen) = (any, any, any);
    config
}

on_both_databases! {
    async fn each_vendor_answers_below_its_name_and_asks_for_its_own_header(database) {
        let service = Service::start(database).await;
        for (vendor, path, _, [header, key]) in VENDORS {
            let denied = service.get(path).await;
            assert_eq!(denied.status, 401, "{vendor}: {}", denied.text);
            assert!(denied.body.is_object(), "{vendor}: {}", denied.text);
            let answer = service.send(service.request("GET", path).header(header, key)).await;
            assert_eq!(answer.status, 200, "{vendor}: {}", answer.text);
            let missing = service.send(service.request("GET", &format!("{path}nothing")).header(header, key)).await;
            assert_eq!(missing.status, 404, "{vendor}: {}", missing.text);
            assert!(missing.body.is_object(), "{vendor}: {}", missing.text);
        }
    }

    async fn with_keys_each_account_sees_its_own_world_by_the_vendors_header(database) {
        let mut config = test_config(database);
        config.auth.mode = AuthMode::Keys;
        config.auth.default_key = "shk_default".to_owned();
        let mut service = Service::start_with(config).await;
        service.with_key(Some("shk_default"));
        let account = service.post("/api/v1/accounts", json!({"name": "other"})).await.expect(201);
        service.post("/api/v1/targets", json!({"address": "https://mine.example.test"})).await.expect(201);
        service.with_key(None);
        let other = account["api_key"].as_str().expect("a key");
        for (vendor, path, _, [header, value]) in VENDORS {
            let with = async |key: &str| {
                let value = value.replace("key", key);
                service.send(service.request("GET", path).header(header, value)).await
            };
            assert_eq!(with("wrong").await.status, 401, "{vendor}");
            let (mine, others) = (with("shk_default").await, with(other).await);
            assert_eq!((mine.status, others.status), (200, 200), "{vendor}");
            assert!(mine.text.contains("mine.example.test"), "{vendor}: {}", mine.text);
            assert!(!others.text.contains("mine.example.test"), "{vendor}: {}", others.text);
        }
    }

    async fn a_scan_of_several_targets_is_told_and_shown_by_every_vendor(database) {
        let service = Service::start(database).await;
        let ask = async |method: &str, path: &str, body: serde_json::Value| {
            let request = service.request(method, path).header("X-HOSTEDSCAN-API-KEY", "key").header("x-apikey", "key");
            let request = request.header("Authorization", "JWT key");
            let request = if body.is_null() { request } else { request.json(&body) };
            service.send(request).await.expect(200)
        };
        let get = async |path: &str| ask("GET", path, serde_json::Value::Null).await;
        let new = json!({"type": "OWASP_ZAP", "targets": ["one.example.test", "other.example.test"]});
        ask("POST", "/hostedscan/v1/scans", new).await;
        service.live().await;

        let events = service.events().await;
        let count = |event_type: &str| events.iter().filter(|event| event["event_type"] == event_type).count();
        assert_eq!((count("scan.succeeded"), count("scan.created")), (1, 1), "one scan in HostedScan's words");
        assert_eq!((count("scan_started"), count("scan_completed")), (2, 2), "one for each target in Probely's");
        assert_eq!((count("target-scan-start"), count("target-scan-first")), (2, 2), "and in Halo's");
        assert_eq!(count("risk.opened"), count("finding_detected"));

        let found = |scan: &serde_json::Value| {
            ["lows", "mediums", "highs", "criticals"].map(|name| scan[name].as_u64().expect("a count")).iter().sum::<u64>()
        };
        let mut sum = 0;
        for target in get("/probely/targets/").await["results"].as_array().expect("targets") {
            let id = target["id"].as_str().expect("an id");
            let scans = get(&format!("/probely/targets/{id}/scans/")).await;
            let scan = &scans["results"][0];
            assert_eq!((&scans["count"], &scan["target"]["id"]), (&json!(1), &target["id"]));
            assert_eq!(scan["id"], target["last_scan"]["id"]);
            assert_eq!(found(scan), found(&target["last_scan"]));
            let path = format!("/probely/targets/{id}/scans/{}/", scan["id"].as_str().expect("an id"));
            assert_eq!(get(&path).await["target"]["id"], target["id"]);
            let findings = get(&format!("/probely/targets/{id}/findings/?length=100&ordering=id")).await;
            let numbers: Vec<u64> =
                findings["results"].as_array().expect("findings").iter().map(|one| one["id"].as_u64().expect("a number")).collect();
            assert_eq!(numbers, (1..=found(scan)).collect::<Vec<_>>(), "findings are numbered from 1");
            sum += found(scan);
        }
        assert_eq!(sum as usize, count("finding_detected"));
        let halo = get("/halo/api/v1/scan/list.json").await;
        assert_eq!(halo["list"].as_array().map(Vec::len), Some(2), "{halo}");

        // What a further target has of the scan stays when the first is removed.
        let id_of = async |host: &str| {
            let found = get(&format!("/probely/targets/?search={host}")).await;
            found["results"][0]["id"].as_str().expect("an id").to_owned()
        };
        let (first, other) = (id_of("one.example.test").await, id_of("other.example.test").await);
        let kept = get(&format!("/probely/targets/{other}/scans/")).await;

        // A host has one address for every vendor.
        let resolved = get("/hostedscan/v1/scans").await["data"][0]["resolved_targets"].clone();
        let addresses: Vec<&str> =
            resolved.as_array().expect("a list").iter().map(|one| one["resolved_target"].as_str().expect("text")).collect();
        for one in get("/halo/api/v1/target/list.json").await["list"].as_array().expect("a list") {
            let target = get(&format!("/halo/api/v1/target/get.json?target_id={}", one["target"]["target_id"])).await;
            assert!(addresses.contains(&target["target"]["ip"].as_str().expect("an address")), "{target} {addresses:?}");
        }

        let remove = service.request("DELETE", &format!("/probely/targets/{first}/")).header("Authorization", "JWT key");
        service.send(remove).await.expect(204);
        let now = get(&format!("/probely/targets/{other}/scans/")).await;
        assert_eq!((&now["count"], &now["results"][0]["id"]), (&json!(1), &kept["results"][0]["id"]));
    }
}

#[tokio::test]
async fn each_vendor_has_its_own_paths_at_an_address_of_its_own() {
    let database = Database::sqlite();
    let urls = serve_alone(listening_alone(&database)).await;
    assert_eq!(urls.len(), 3);
    let http = reqwest::Client::builder().no_proxy().build().expect("a client");
    for (vendor, _, path, [header, key]) in VENDORS {
        let (_, url) = urls.iter().find(|(of, _)| of == vendor).expect("its address");
        let get = async |path: &str| {
            http.get(format!("{url}{path}")).header(header, key).send().await.expect("an answer").status().as_u16()
        };
        assert_eq!(get(path).await, 200, "{vendor}");
        assert_eq!(get("/api/v1/subscribers").await, 404, "{vendor}: scanhook's own API is not there");
    }
}

#[tokio::test]
async fn a_vendor_is_served_by_https_with_the_certificate_of_the_settings() {
    let database = Database::sqlite();
    let folder = tempfile::tempdir().expect("a folder");
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate");
    let [cert, key] = ["cert.pem", "key.pem"].map(|name| folder.path().join(name));
    std::fs::write(&cert, made.cert.pem()).expect("written");
    std::fs::write(&key, made.signing_key.serialize_pem()).expect("written");
    let mut config = test_config(&database);
    config.server.listen = "127.0.0.1:0".parse().expect("an address");
    config.vendors.probely.listen = Some("127.0.0.1:0".parse().expect("an address"));
    (config.vendors.probely.tls_cert_file, config.vendors.probely.tls_key_file) = (cert.clone(), key.clone());
    let urls = serve_alone(config.clone()).await;
    assert!(urls[0].1.starts_with("https://"), "{urls:?}");
    let trusted = reqwest::Certificate::from_pem(made.cert.pem().as_bytes()).expect("a certificate");
    let http = reqwest::Client::builder().no_proxy().tls_certs_only([trusted]).build().expect("a client");
    let asked = http.get(format!("{}/profile/", urls[0].1)).header("Authorization", "JWT key").send().await;
    assert_eq!(asked.expect("an answer").status(), 200);
    let untrusting = reqwest::Client::builder().no_proxy().build().expect("a client");
    assert!(untrusting.get(format!("{}/profile/", urls[0].1)).send().await.is_err());

    // What cannot be used is told by its setting's name.
    std::fs::write(&key, "nothing").expect("written");
    let app = App::open(config, Clock::manual(start_time())).await.expect("scanhook opens");
    let refused = app.bind().await.expect_err("no key");
    assert!(refused.to_string().contains("vendors.probely.tls_key_file"), "{refused:#}");
}
