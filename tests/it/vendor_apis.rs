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
