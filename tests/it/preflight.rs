//! Looking whether a receiver can be reached, and connecting to another host in place of one.

use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::support::{Database, Receiver, Service, self_signed_receiver, test_config};

/// Walks the way to a URL: whether it can be reached, and each step's name, outcome and texts.
async fn walk(service: &Service, subscriber: Value) -> (bool, Vec<(String, bool, String)>) {
    let (id, _) = service.subscribe_as(subscriber).await;
    let walked =
        service.send(service.request("POST", &format!("/api/v1/subscribers/{id}/preflight"))).await.expect(200);
    let step = |step: &Value| {
        let words =
            format!("{} {}", step["found"].as_str().expect("found"), step["advice"].as_str().unwrap_or_default());
        (step["step"].as_str().expect("a name").to_owned(), step["ok"] == true, words)
    };
    (walked["ok"] == true, walked["steps"].as_array().expect("steps").iter().map(step).collect())
}

fn to(url: &str) -> Value {
    json!({"url": url, "vendor": "standard"})
}

#[tokio::test]
async fn a_receiver_that_answers_is_reached_step_by_step_and_gets_no_webhook() {
    let database = Database::sqlite();
    let service = Service::start(&database).await;
    let receiver = Receiver::answering([404]).await;
    let (ok, steps) = walk(&service, to(&receiver.url)).await;
    assert!(ok, "{steps:?}");
    let names: Vec<&str> = steps.iter().map(|(name, ..)| &**name).collect();
    assert_eq!(names, ["dns", "tcp", "http"]);
    assert!(steps[2].2.contains("404 Not Found there may be nothing at this path"), "{steps:?}");
    assert!(receiver.got()[0].body.is_empty());
}

#[tokio::test]
async fn the_first_step_that_fails_is_the_last_and_says_what_to_do() {
    let database = Database::sqlite();
    let service = Service::start(&database).await;
    let fails = async |subscriber: Value, step: &str, words: &[&str]| {
        let (ok, steps) = walk(&service, subscriber).await;
        let (name, is_ok, said) = steps.last().expect("a step");
        assert!(!ok && !is_ok && name == step, "{steps:?}");
        words.iter().for_each(|word| assert!(said.contains(word), "no `{word}` in {said}"));
    };
    fails(to("http://nowhere.invalid/"), "dns", &["cannot resolve nowhere.invalid", "--map-host nowhere.invalid="])
        .await;
    fails(to("http://169.254.169.254/"), "dns", &["dispatch.blocked_networks forbids"]).await;
    let closed = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}/", closed.local_addr().expect("an address"));
    drop(closed);
    fails(to(&url), "tcp", &["refused", "start the receiver"]).await;
    let plain = Receiver::answering([200]).await;
    fails(to(&plain.url.replace("http:", "https:")), "tls", &["the URL must begin with http://"]).await;
    let (secure, _) = self_signed_receiver().await;
    fails(to(&secure), "tls", &["dispatch.extra_ca_file"]).await;
    fails(to(&secure.replace("https:", "http:")), "http", &["the URL must begin with https://"]).await;
    service.get("/api/v1/subscribers/1111111111111111111112").await.assert_problem(404, "not-found", "");
}

#[tokio::test]
async fn a_certificate_that_need_not_be_checked_is_not() {
    let database = Database::sqlite();
    let service = Service::start(&database).await;
    let (url, _) = self_signed_receiver().await;
    let subscriber = json!({"url": url, "vendor": "probely", "options": {"check_cert": false}});
    let (_, steps) = walk(&service, subscriber).await;
    let tls = steps.iter().find(|(name, ..)| name == "tls").expect("a TLS step");
    assert!(tls.1 && tls.2.contains("was not checked"), "{steps:?}");
}

#[tokio::test]
async fn another_host_is_connected_to_and_the_request_keeps_the_name() {
    let database = Database::sqlite();
    let mut config = test_config(&database);
    config.dispatch.map_hosts = vec!["shop.example.test=127.0.0.1".to_owned(), "192.0.2.7=localhost".to_owned()];
    let service = Service::start_with(config).await;
    let receiver = Receiver::answering([200]).await;
    let port = receiver.url.rsplit(':').next().and_then(|rest| rest.split('/').next()).expect("a port").to_owned();
    for host in ["shop.example.test", "192.0.2.7"] {
        let url = format!("http://{host}:{port}/hook");
        let (ok, steps) = walk(&service, to(&url)).await;
        assert!(ok && steps[0].2.contains(&format!("in place of {host}")), "{steps:?}");
    }
    let before = receiver.count();
    service.publish("a.b").await;
    assert_eq!(service.dispatch().await, 2);
    let mut hosts: Vec<String> =
        receiver.got()[before..].iter().map(|got| got.headers["host"].to_str().expect("text").to_owned()).collect();
    hosts.sort();
    assert_eq!(hosts, [format!("192.0.2.7:{port}"), format!("shop.example.test:{port}")]);
}

#[tokio::test]
async fn a_blocked_network_stays_blocked_behind_another_name() {
    let database = Database::sqlite();
    let mut config = test_config(&database);
    config.dispatch.map_hosts = vec!["shop.example.test=169.254.169.254".to_owned()];
    let service = Service::start_with(config).await;
    service.subscribe("http://shop.example.test/").await;
    let event = service.publish("a.b").await;
    service.dispatch().await;
    let delivery = service.only_delivery(&event).await;
    assert_eq!(delivery["attempts"][0]["error"], "blocked_address", "{delivery}");
}
