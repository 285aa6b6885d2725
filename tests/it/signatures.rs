//! Signatures: that every attempt verifies, and that a wrong one is explained.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use scanhook::event::Vendor;
use scanhook::subscriber::Secret;
use scanhook::vendors::{Explanation, Scheme, dialect};
use serde_json::{Value, json};

use crate::support::{Database, Receiver, Service, text};

const BODY: &str = r#"{"b":1,"a":"é","list":[1,2]}"#;
const TIME: i64 = 1_767_225_600_000;

fn scheme(vendor: Vendor) -> &'static Scheme {
    dialect(vendor).scheme().expect("it signs")
}

fn headers(pairs: &[(&str, String)]) -> http::HeaderMap {
    let parse = |(name, value): &(&str, String)| {
        (name.parse::<http::HeaderName>().expect("a name"), value.parse().expect("a value"))
    };
    pairs.iter().map(parse).collect()
}

/// What is said of a body that arrives with a signature made by other means.
fn explain(signed: &[u8], timestamp: i64, secret: &str, arrived: &str, given: &str, old: &[&str]) -> Explanation {
    let scheme = scheme(Vendor::Hostedscan);
    let mut sent = scheme.sign("", timestamp.to_string(), signed, &[&Secret::new(secret)]);
    sent[1].1 = TIME.to_string();
    let old: Vec<Secret> = old.iter().map(|old| Secret::new(*old)).collect();
    scheme.explain(&Secret::new(given), &old, &headers(&sent), arrived.as_bytes())
}

#[test]
fn the_usual_mistakes_are_named() {
    let value: Value = serde_json::from_str(BODY).expect("JSON");
    let python = r#"{"b": 1, "a": "\u00e9", "list": [1, 2]}"#;
    let with_break = format!("{BODY}\n");
    for (explanation, part) in [
        (explain(BODY.as_bytes(), TIME, "s", &with_break, "s", &[]), "a line break was added to the body"),
        (explain(with_break.as_bytes(), TIME, "s", BODY, "s", &[]), "a line break at the end of the body was lost"),
        (explain(BODY.as_bytes(), TIME, "s", python, "s", &[]), "parsed and serialised again"),
        (explain(python.as_bytes(), TIME, "s", BODY, "s", &[]), "parsed and serialised again"),
        (explain(format!("{value:#}").as_bytes(), TIME, "s", BODY, "s", &[]), "parsed and serialised again"),
        (explain(BODY.as_bytes(), TIME / 1000, "s", BODY, "s", &[]), "signed in seconds, but sent in milliseconds"),
        (explain(BODY.as_bytes(), TIME, "old", BODY, "new", &["older", "old"]), "signed with an old secret"),
        (explain(BODY.as_bytes(), TIME, "abc", BODY, "whsec_abc", &[]), "without its prefix"),
    ] {
        assert!(!explanation.valid);
        assert_eq!(explanation.diagnosis.len(), 1, "{part}: {explanation:?}");
        assert!(explanation.diagnosis[0].contains(part), "{part}: {explanation:?}");
    }
    let unknown = explain(BODY.as_bytes(), TIME, "this", BODY, "that", &[]);
    assert!(unknown.diagnosis[0].contains("none of the usual mistakes"), "{unknown:?}");
    let both = explain(with_break.as_bytes(), TIME / 1000, "s", BODY, "s", &[]);
    assert_eq!(both.diagnosis.len(), 2, "{both:?}");
}

#[test]
fn a_wrong_encoding_joiner_and_key_are_named() {
    use base64::Engine;
    use hmac::{Hmac, KeyInit, Mac};
    let mac = |key: &[u8], message: String| {
        let mut mac = Hmac::<sha2::Sha256>::new_from_slice(key).expect("a key");
        mac.update(message.as_bytes());
        mac.finalize().into_bytes()
    };
    let base64 = |bytes: &[u8]| base64::engine::general_purpose::STANDARD.encode(bytes);
    let hostedscan = |signature: String| {
        let sent = [("X-HOSTEDSCAN-TIMESTAMP", TIME.to_string()), ("X-HOSTEDSCAN-SIGNATURE", signature)];
        scheme(Vendor::Hostedscan).explain(&Secret::new("s"), &[], &headers(&sent), BODY.as_bytes())
    };
    let right = mac(b"s", format!("{TIME}.{BODY}"));
    assert!(hostedscan(hex::encode(right)).valid);
    for (signature, part) in [
        (base64(&right), "written in base64, not in hex"),
        (format!("sha256={}", hex::encode(right)), "a prefix that this vendor does not write"),
        (hex::encode(mac(b"s", format!("{TIME}{BODY}"))), "joined by nothing"),
        (hex::encode(mac(b"s", format!("{TIME}:{BODY}"))), "joined by a colon"),
        (hex::encode(mac(b"s\n", format!("{TIME}.{BODY}"))), "the secret had a line break"),
    ] {
        let explanation = hostedscan(signature);
        assert_eq!(explanation.diagnosis.len(), 1, "{explanation:?}");
        assert!(explanation.diagnosis[0].contains(part), "{part}: {explanation:?}");
    }
    let secret = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz";
    let standard = |signature: String| {
        let sent = [
            ("webhook-id", "msg_1".to_owned()),
            ("webhook-timestamp", "1767225600".to_owned()),
            ("webhook-signature", signature),
        ];
        scheme(Vendor::Standard).explain(&Secret::new(secret), &[], &headers(&sent), BODY.as_bytes())
    };
    let message = || format!("msg_1.1767225600.{BODY}");
    let right = mac(b"012345678901234567890123", message());
    assert!(standard(format!("v1,AAAA v1,{}", base64(&right))).valid);
    for (signature, part) in [
        (base64(&right), "it lacks `v1,`"),
        (hex::encode(right), "written in hex"),
        (format!("v1,{}", base64(&mac(secret.as_bytes(), message()))), "whole text, prefix and all"),
        (format!("v1,{}", base64(&mac(&secret.as_bytes()[6..], message()))), "not decoded from base64"),
    ] {
        let explanation = standard(signature);
        assert_eq!(explanation.diagnosis.len(), 1, "{explanation:?}");
        assert!(explanation.diagnosis[0].contains(part), "{part}: {explanation:?}");
    }
}

#[test]
fn a_missing_header_is_named() {
    let explanation = scheme(Vendor::Hostedscan).explain(&Secret::new("s"), &[], &http::HeaderMap::new(), b"{}");
    assert_eq!(
        explanation.diagnosis,
        ["the header X-HOSTEDSCAN-TIMESTAMP is missing", "the header X-HOSTEDSCAN-SIGNATURE is missing"]
    );
}

#[tokio::test]
async fn the_api_explains_a_signature() {
    let database = Database::sqlite();
    let service = Service::start(&database).await;
    let sent = scheme(Vendor::Hostedscan).sign("", TIME.to_string(), BODY.as_bytes(), &[&Secret::new("s3cret")]);
    let mut request = json!({"vendor": "hostedscan", "secret": "s3cret", "body": BODY, "headers": {sent[0].0: sent[0].1, sent[1].0: sent[1].1}});
    let answer = service.post("/api/v1/verify", request.clone()).await.expect(200);
    assert_eq!((&answer["valid"], &answer["signed"]), (&json!(true), &json!(format!("{TIME}.{BODY}"))));
    request["body"] = json!(format!("{BODY}\n"));
    let answer = service.post("/api/v1/verify", request.clone()).await.expect(200);
    assert_eq!(answer["valid"], false);
    assert!(text(&answer["diagnosis"][0]).contains("a line break was added"));
    assert_ne!(answer["expected"], answer["received"]);
    request["vendor"] = json!("probely");
    service.post("/api/v1/verify", request.clone()).await.assert_problem(422, "invalid-field", "probely signs nothing");
    request["vendor"] = json!("acme");
    service.post("/api/v1/verify", request.clone()).await.assert_problem(422, "unknown-vendor", "acme");
    request["vendor"] = json!("hostedscan");
    request["headers"] = json!({"bad name": "1"});
    service.post("/api/v1/verify", request).await.assert_problem(422, "invalid-field", "not a header that HTTP allows");
}

/// Any JSON that content may be, written in more ways than one.
fn content() -> impl Strategy<Value = String> {
    let leaf =
        prop_oneof![any::<i64>().prop_map(|n| n.to_string()), "\\PC{0,12}".prop_map(|text| json!(text).to_string())];
    proptest::collection::vec(("[a-z]{1,6}", leaf, "[ \\n\\t]{0,3}"), 0..6).prop_map(|fields| {
        let field = |(name, value, space): &(String, String, String)| format!("\"{name}\"{space}:{space}{value}");
        format!("{{{}}}", fields.iter().map(field).collect::<Vec<_>>().join(","))
    })
}

#[test]
fn every_attempt_of_every_delivery_verifies_retries_and_redeliveries_included() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    for database in [Database::sqlite(), runtime.block_on(Database::postgres())] {
        let service = runtime.block_on(Service::start(&database));
        let mut runner = TestRunner::new(Config { cases: 30, ..Config::default() });
        let answers = proptest::collection::vec(prop_oneof![Just(200_u16), Just(500), Just(302), Just(429)], 1..5);
        let vendors = prop_oneof![Just(Vendor::Standard), Just(Vendor::Hostedscan), Just(Vendor::Halo)];
        let cases = (vendors, content(), answers, any::<bool>());
        let check = |(vendor, content, answers, redeliver): (Vendor, String, Vec<u16>, bool)| {
            runtime.block_on(verify_all(&service, vendor, &content, &answers, redeliver));
            Ok(())
        };
        runner.run(&cases, check).expect("every attempt verifies");
        runtime.block_on(async move {
            drop(service);
            database.remove().await;
        });
    }
}

async fn verify_all(service: &Service, vendor: Vendor, content: &str, answers: &[u16], redeliver: bool) {
    let receiver = Receiver::answering(answers.to_vec()).await;
    let secret = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz";
    let subscriber =
        json!({"url": receiver.url, "vendor": vendor, "secret": secret, "retry_schedule": ["1s", "2s", "3s"]});
    let (id, _) = service.subscribe_as(subscriber).await;
    let event_type = match vendor {
        Vendor::Hostedscan => "risk.opened",
        Vendor::Halo => "target-add",
        Vendor::Standard | Vendor::Probely => "a.b",
    };
    let body = format!(r#"{{"vendor":"{vendor}","event_type":"{event_type}","content":{content},"validation":"off"}}"#);
    let event = service.post_raw("/api/v1/events", "application/json", body).await.expect(202);
    for _ in 0..4 {
        service.dispatch().await;
        service.advance("3s");
    }
    if redeliver {
        let delivery = text(&event["webhooks"][0]["id"]);
        service.post(&format!("/api/v1/deliveries/{delivery}/redeliver"), json!({})).await.expect(202);
        assert_eq!(service.dispatch().await, 1);
    }
    let got = receiver.got();
    let first_success = answers.iter().position(|status| *status == 200);
    let repeats = *answers.last().expect("an answer") == 200;
    let expected = first_success.map_or(if repeats { answers.len() } else { 4 }, |index| (index + 1).min(4));
    assert_eq!(got.len(), expected + usize::from(redeliver));
    for one in &got {
        assert_eq!(scheme(vendor).verify(&Secret::new(secret), &one.headers, &one.body), Ok(()));
        assert_eq!(one.body, got[0].body);
        serde_json::from_slice::<Value>(&one.body).expect("the body is JSON");
    }
    service.delete(&format!("/api/v1/subscribers/{id}")).await.expect(204);
}
