//! What goes out on the wire, byte for byte, and what independent verifiers say of it.

use std::collections::HashMap;

use scanhook::event::Vendor;
use scanhook::subscriber::Options;
use scanhook::vendors::dialect;
use serde_json::json;

use crate::support::{RawReceiver, Receiver, Service, on_both_databases};

const STORY: [(&str, &str); 3] = [
    (
        "scan.succeeded",
        r#"{"id":"652d0c000b6f4a0012aa0001","type":"NMAP","state":"SUCCEEDED","progress":100,"results":[{"result_id":"652d0c8d0b6f4a0012cc0001","content_type":"text/html"}],"requested_targets":[{"target_id":"652d0b000b6f4a0012dd0001","target":"shop.example.test"}],"resolved_targets":[{"target_id":"652d0b000b6f4a0012dd0001","resolved_target":"192.0.2.10"}],"skipped_targets":[]}"#,
    ),
    (
        "risk.opened",
        r#"{"id":"652d0c8d0b6f4a0012ee0001","target_id":"652d0b000b6f4a0012dd0001","target":"shop.example.test","tags":[],"status":"OPEN","risk_definition":{"scan_type":"NMAP","title":"Open TCP Port: 8080","threat_level":"MEDIUM","additional_info":{"port":"8080"}}}"#,
    ),
    (
        "risk.closed",
        r#"{"id":"652d0c8d0b6f4a0012ee0001","target_id":"652d0b000b6f4a0012dd0001","target":"shop.example.test","tags":["Ü"],"status":"CLOSED","risk_definition":{"scan_type":"NMAP","title":"Open TCP Port: 8080","threat_level":"MEDIUM","additional_info":{"port":"8080"}}}"#,
    ),
];

/// The one request a raw receiver got, with its port, which differs from run to run, taken out.
async fn on_the_wire(service: &Service, vendor: &str, event_type: &str, content: &str) -> String {
    let receiver = RawReceiver::sending(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let url = format!("http://{}/hook?a=b", receiver.address);
    let secret = if vendor == "standard" { "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz" } else { "s3cret" };
    let headers = json!({"X-Custom-Name": "as typed"});
    let subscriber = json!({"url": url, "vendor": vendor, "secret": secret, "headers": headers});
    let (id, _) = service.subscribe_as(subscriber).await;
    let body = format!(r#"{{"vendor":"{vendor}","event_type":"{event_type}","content":{content}}}"#);
    service.post_raw("/api/v1/events", "application/json", body).await.expect(202);
    assert_eq!(service.dispatch().await, 1);
    service.delete(&format!("/api/v1/subscribers/{id}")).await.expect(204);
    let request = String::from_utf8(receiver.got().remove(0)).expect("UTF-8");
    request.replace(&receiver.address.port().to_string(), "PORT").replace("\r\n", "\n")
}

on_both_databases! {
    async fn hostedscan_requests_look_as_the_vendors_do(database) {
        let service = Service::start(database).await;
        let mut requests = String::new();
        for (event_type, content) in STORY {
            requests += &on_the_wire(&service, "hostedscan", event_type, content).await;
            requests += "\n\n";
        }
        insta::assert_snapshot!("hostedscan_requests", requests);
    }

    async fn standard_requests_look_as_the_specification_says(database) {
        let service = Service::start(database).await;
        let request = on_the_wire(&service, "standard", "invoice.paid", r#"{"amount":  1.50}"#).await;
        insta::assert_snapshot!("standard_requests", request);
    }

    async fn the_standardwebhooks_crate_verifies_every_attempt(database) {
        let service = Service::start(database).await;
        let receiver = Receiver::answering([500, 503, 200]).await;
        let schedule = json!(["5s", "5s"]);
        let (_, secret) = service.subscribe_as(json!({"url": receiver.url, "vendor": "standard", "retry_schedule": schedule})).await;
        service.publish("invoice.paid").await;
        for _ in 0..3 {
            assert_eq!(service.dispatch().await, 1);
            service.advance("5s");
        }
        let oracle = standardwebhooks::Webhook::new(&secret).expect("the oracle takes the secret");
        let got = receiver.got();
        for got in &got {
            let headers: HashMap<String, String> = got
                .headers
                .iter()
                .map(|(name, value)| (name.to_string(), value.to_str().expect("text").to_owned()))
                .collect();
            // `verify` also wants the timestamp to be near the machine's time; the clock here is set by hand.
            let (id, timestamp) = (&headers["webhook-id"], headers["webhook-timestamp"].parse().expect("seconds"));
            let signature = oracle.sign(id, timestamp, &got.body).expect("the oracle signs");
            assert_eq!(headers["webhook-signature"], signature);
        }
        let timestamps: Vec<_> = got.iter().map(|got| got.headers["webhook-timestamp"].clone()).collect();
        assert_eq!(timestamps, ["1767225600", "1767225605", "1767225610"]);
        assert!(got.iter().all(|one| one.headers["webhook-id"] == got[0].headers["webhook-id"]));
    }
}

#[test]
fn the_standardwebhooks_crate_verifies_what_is_sent_now() {
    let dialect = dialect(Vendor::Standard);
    let mut rng = scanhook::random::Chance::from_seed(1).stream("secret", "");
    let secret = dialect.generate_secret(&mut rng).expect("it signs");
    let now = scanhook::clock::Clock::Real.now();
    let event = scanhook::event::Event {
        id: "1".repeat(22).parse().expect("an id"),
        account_id: scanhook::id::AccountId::DEFAULT,
        vendor: Vendor::Standard,
        vendor_event_id: dialect.event_id(now, &mut rng),
        occurred_at: now,
        event_type: "invoice.paid".to_owned(),
        object_type: "invoice".to_owned(),
        content: "{}".to_owned(),
        idempotency_key: None,
        created_at: now,
        at_publish: None,
    };
    let body = dialect.body(&event, &Options::default());
    let mut headers = http::HeaderMap::new();
    for (name, value) in dialect.headers(&event, body.as_bytes(), &[&secret], now) {
        headers.insert(name, value.parse().expect("a header value"));
    }
    let oracle = standardwebhooks::Webhook::new(secret.reveal()).expect("the oracle takes the secret");
    oracle.verify(body.as_bytes(), &headers).expect("the oracle verifies");
    let scheme = dialect.scheme().expect("it signs");
    assert_eq!(scheme.verify(&secret, &headers, body.as_bytes()), Ok(()));
    assert!(scheme.verify(&secret, &headers, b"{}").is_err());
}
