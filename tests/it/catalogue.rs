//! The catalogue: every event type of every vendor, with a schema that means something.

use scanhook::config::Validation;
use scanhook::event::Vendor;
use scanhook::vendors::{EventType, dialect};
use serde_json::{Value, json};

use crate::support::{RawReceiver, Receiver, Service, on_both_databases, test_config, text};

fn catalogued() -> Vec<(Vendor, &'static EventType)> {
    let of_vendor = |vendor: Vendor| {
        let known = dialect(vendor).catalogue().into_iter().flat_map(|catalogue| &catalogue.event_types);
        known.map(move |event_type| (vendor, event_type))
    };
    Vendor::ALL.into_iter().flat_map(of_vendor).collect()
}

/// Names, and subjects where they are known, as the vendors' own documents list them.
fn listed(seed: &str) -> Vec<(&str, Option<&str>)> {
    seed.lines()
        .map(|line| line.split_once('\t').map_or((line, None), |(name, subject)| (name, Some(subject))))
        .collect()
}

#[test]
fn every_event_type_of_the_vendors_lists_is_there_spelled_the_same_with_the_same_subject() {
    for (vendor, seed, count) in [
        (Vendor::Hostedscan, include_str!("../seeds/hostedscan.tsv"), 3),
        (Vendor::Halo, include_str!("../seeds/halo.tsv"), 67),
        (Vendor::Probely, include_str!("../seeds/probely.tsv"), 12),
    ] {
        let listed = listed(seed);
        assert_eq!(listed.len(), count, "{vendor}");
        let catalogue = dialect(vendor).catalogue().expect("a catalogue");
        for (name, subject) in &listed {
            let known = catalogue.get(name).unwrap_or_else(|| panic!("{vendor} lacks {name}"));
            assert!(subject.is_none_or(|subject| subject == known.subject), "{name}: {}", known.subject);
        }
    }
    let counts =
        Vendor::ALL.map(|vendor| dialect(vendor).catalogue().map_or(0, |catalogue| catalogue.event_types.len()));
    assert_eq!(counts, [0, 7, 67, 12]);
}

#[test]
fn every_example_fits_its_own_schema() {
    for (vendor, event_type) in catalogued() {
        assert_eq!(event_type.violations(&event_type.example), [], "{vendor} {}", event_type.name);
        assert!(!event_type.source.is_empty() && !event_type.description.is_empty(), "{}", event_type.name);
    }
}

/// Every place of a value, by JSON pointer.
fn places(value: &Value, at: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => fields.iter().for_each(|(name, value)| {
            let at = format!("{at}/{name}");
            found.push(at.clone());
            places(value, &at, found);
        }),
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(index, value)| places(value, &format!("{at}/{index}"), found));
        }
        _ => (),
    }
}

#[test]
fn an_example_without_a_field_or_with_a_wrong_word_does_not_fit() {
    for (vendor, event_type) in catalogued() {
        let example = &event_type.example;
        let fields = example.as_object().expect("an object");
        let without = |name: &String| {
            let mut mutated = fields.clone();
            mutated.shift_remove(name);
            event_type.violations(&mutated.into())
        };
        let required = event_type.schema["required"].as_array().expect("required fields");
        assert!(!required.is_empty(), "{vendor} {} requires nothing", event_type.name);
        for name in required {
            assert!(!without(&text(name)).is_empty(), "{vendor} {} does without {name}", event_type.name);
        }
        // A value of another kind is refused in most places; some may hold anything.
        let mut all = Vec::new();
        places(example, "", &mut all);
        let refused = all.iter().filter(|place| {
            let mut mutated = example.clone();
            *mutated.pointer_mut(place).expect("a place") = json!({"not": ["what", "it", "was"]});
            !event_type.violations(&mutated).is_empty()
        });
        assert!(refused.count() * 2 >= all.len(), "{vendor} {}: most places take anything", event_type.name);
    }
    let broken = |vendor, name: &str, pointer: &str, value: Value| {
        let event_type = dialect(vendor).catalogue().and_then(|catalogue| catalogue.get(name)).expect("known");
        let mut mutated = event_type.example.clone();
        *mutated.pointer_mut(pointer).unwrap_or_else(|| panic!("{name} has no {pointer}")) = value;
        let problems = event_type.violations(&mutated);
        assert!(problems.iter().any(|problem| problem.pointer == format!("/content{pointer}")), "{name}: {problems:?}");
    };
    broken(Vendor::Hostedscan, "risk.opened", "/status", json!("CLOSED"));
    broken(Vendor::Hostedscan, "risk.created", "/risk_definition/threat_level", json!("AWFUL"));
    broken(Vendor::Hostedscan, "scan.succeeded", "/state", json!("RUNNING"));
    broken(Vendor::Halo, "website-cert-risk", "/scan_id", json!("short"));
    broken(Vendor::Probely, "scan_completed", "/status", json!("started"));
    broken(Vendor::Probely, "finding_detected", "/severity", json!(15));
    broken(Vendor::Probely, "target_created", "/id", json!("not base58!!"));
}

/// The requests of every event type of a vendor, as they stand on the wire.
async fn on_the_wire(service: &Service, subscriber: Value, event_types: impl IntoIterator<Item = &str>) -> String {
    let mut requests = String::new();
    for event_type in event_types {
        let receiver = RawReceiver::sending(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
        let mut subscriber = subscriber.clone();
        subscriber["url"] = json!(format!("http://{}/hook", receiver.address));
        let (id, _) = service.subscribe_as(subscriber.clone()).await;
        let trigger = json!({"vendor": subscriber["vendor"], "event_type": event_type, "validation": "enforce"});
        service.post("/api/v1/trigger", trigger).await.expect(202);
        assert_eq!(service.dispatch().await, 1, "{event_type}");
        service.delete(&format!("/api/v1/subscribers/{id}")).await.expect(204);
        let request = String::from_utf8(receiver.got().remove(0)).expect("UTF-8");
        requests += &request.replace(&receiver.address.port().to_string(), "PORT").replace("\r\n", "\n");
        requests += "\n\n";
    }
    requests
}

fn names(vendor: Vendor) -> impl Iterator<Item = &'static str> {
    catalogued().into_iter().filter(move |(of, _)| *of == vendor).map(|(_, event_type)| event_type.name.as_str())
}

on_both_databases! {
    async fn every_hostedscan_event_looks_on_the_wire_as_the_vendors(database) {
        let service = Service::start(database).await;
        let subscriber = |vocabulary: &str| json!({"vendor": "hostedscan", "secret": "s3cret", "options": {"vocabulary": vocabulary}});
        let classic = on_the_wire(&service, subscriber("classic"), names(Vendor::Hostedscan).take(3)).await;
        let current = on_the_wire(&service, subscriber("current"), names(Vendor::Hostedscan).skip(3)).await;
        insta::assert_snapshot!("every_hostedscan_event", classic + &current);
    }

    async fn every_halo_event_looks_on_the_wire_as_the_vendors(database) {
        let service = Service::start(database).await;
        insta::assert_snapshot!("every_halo_event", on_the_wire(&service, json!({"vendor": "halo"}), names(Vendor::Halo)).await);
    }

    async fn every_probely_event_looks_on_the_wire_as_the_vendors(database) {
        let service = Service::start(database).await;
        insta::assert_snapshot!("every_probely_event", on_the_wire(&service, json!({"vendor": "probely"}), names(Vendor::Probely)).await);
    }

    async fn a_subscriber_gets_the_vocabulary_it_chose(database) {
        let service = Service::start(database).await;
        let receiver = Receiver::answering([200]).await;
        let add = async |options: Value| {
            service.subscribe_as(json!({"url": receiver.url, "vendor": "hostedscan", "options": options})).await.0
        };
        let classic = add(json!({})).await;
        let current = add(json!({"vocabulary": "current"})).await;
        let owed = async |event_type: &str| {
            let trigger = json!({"vendor": "hostedscan", "event_type": event_type});
            let answer = service.post("/api/v1/trigger", trigger).await.expect(202);
            let webhooks = answer["data"][0]["event"]["webhooks"].as_array().expect("a list").clone();
            webhooks.iter().map(|webhook| text(&webhook["subscriber_id"])).collect::<Vec<_>>()
        };
        assert_eq!(owed("risk.opened").await, [classic]);
        assert_eq!(owed("risk.created").await, [current]);
        let wrong = json!({"url": receiver.url, "vendor": "hostedscan", "event_types": ["risk.opened"], "options": {"vocabulary": "current"}});
        service.post("/api/v1/subscribers", wrong).await.assert_problem(422, "invalid-field", "`risk.opened` fits no event type");
    }

    async fn a_probely_target_webhook_gets_what_is_about_its_target(database) {
        let service = Service::start(database).await;
        let scan = dialect(Vendor::Probely).catalogue().and_then(|catalogue| catalogue.get("scan_started")).expect("known");
        let target = text(&scan.example["target"]["id"]);
        let add = async |options: Value| {
            service.subscribe_as(json!({"url": "http://127.0.0.1:9/", "vendor": "probely", "options": options})).await.0
        };
        add(json!({})).await;
        add(json!({"target_id": target})).await;
        add(json!({"target_id": target, "older_target_scope": true})).await;
        add(json!({"target_id": "111111111111"})).await;
        let owed = async |event_type: &str| {
            let trigger = json!({"vendor": "probely", "event_type": event_type});
            let answer = service.post("/api/v1/trigger", trigger).await.expect(202);
            answer["data"][0]["event"]["webhooks"].as_array().map(Vec::len)
        };
        for (event_type, expected) in [
            ("user_created", 1), ("target_created", 1), ("target_verified", 2), ("scan_failed", 3), ("finding_fixed", 3),
        ] {
            assert_eq!(owed(event_type).await, Some(expected), "{event_type}");
        }
    }

    async fn probelys_documented_oddities_are_switches(database) {
        let service = Service::start(database).await;
        let body = async |options: Value| {
            let receiver = Receiver::answering([200]).await;
            let (id, _) = service.subscribe_as(json!({"url": receiver.url, "vendor": "probely", "options": options})).await;
            service.post("/api/v1/trigger", json!({"vendor": "probely", "event_type": "user_created"})).await.expect(202);
            service.dispatch().await;
            service.delete(&format!("/api/v1/subscribers/{id}")).await.expect(204);
            serde_json::from_slice::<Value>(&receiver.got()[0].body).expect("JSON")
        };
        let plain = body(json!({})).await;
        assert_eq!(plain["occurred_at"], "2026-01-01T00:00:00.000000Z");
        assert_eq!(plain["webhooks"][0]["status"], "scheduled");
        assert_eq!(text(&plain["webhooks"][0]["id"]).len(), 12);
        let odd = body(json!({"zoneless_times": true, "misspelt_occurred_at": true, "without_webhooks": true})).await;
        assert_eq!(odd["ocurred_at"], "2026-01-01T00:00:00.0000000");
        assert_eq!((odd.get("occurred_at"), odd.get("webhooks")), (None, None));
    }

    async fn halo_signs_only_for_a_subscriber_that_asks(database) {
        let service = Service::start(database).await;
        let receiver = Receiver::answering([200]).await;
        let secret = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz";
        service.subscribe_as(json!({"url": receiver.url, "vendor": "halo"})).await;
        service.subscribe_as(json!({"url": receiver.url, "vendor": "halo", "secret": secret})).await;
        service.post("/api/v1/trigger", json!({"vendor": "halo", "event_type": "target-add"})).await.expect(202);
        service.dispatch().await;
        let got = receiver.got();
        let signed: Vec<_> = got.iter().filter(|got| got.headers.contains_key("webhook-signature")).collect();
        assert_eq!((got.len(), signed.len()), (2, 1));
        let scheme = dialect(Vendor::Halo).scheme().expect("a scheme");
        let secret = scanhook::subscriber::Secret::new(secret);
        assert_eq!(scheme.verify(&secret, &signed[0].headers, &signed[0].body), Ok(()));
        let probely = json!({"url": receiver.url, "vendor": "probely", "secret": "s"});
        service.post("/api/v1/subscribers", probely).await.assert_problem(422, "invalid-field", "Probely signs nothing");
    }

    async fn an_option_of_another_vendor_is_refused(database) {
        let service = Service::start(database).await;
        let subscriber = json!({"url": "http://127.0.0.1:9/", "vendor": "hostedscan", "options": {"target_id": "a"}});
        let answer = service.post("/api/v1/subscribers", subscriber).await;
        answer.assert_problem(422, "invalid-field", "is not an option of hostedscan; it has: vocabulary");
        assert_eq!(answer.body["errors"][0]["pointer"], "/options/target_id");
    }

    async fn content_is_checked_against_its_schema_as_told(database) {
        let mut config = test_config(database);
        config.publish.validation = Validation::Enforce;
        let service = Service::start_with(config).await;
        let event = |validation: Value| {
            let content = json!({"id": 5, "status": "AJAR", "extra": true});
            let mut event = json!({"vendor": "hostedscan", "event_type": "risk.opened", "content": content});
            if !validation.is_null() {
                event["validation"] = validation;
            }
            event
        };
        let refused = service.post("/api/v1/events", event(json!(null))).await;
        refused.assert_problem(422, "schema-violation", "the content is not as hostedscan sends it for risk.opened");
        let pointers: Vec<_> = refused.body["errors"].as_array().expect("a list").iter().map(|error| text(&error["pointer"])).collect();
        assert!(pointers.contains(&"/content/id".to_owned()) && pointers.contains(&"/content/status".to_owned()), "{pointers:?}");
        assert!(pointers.len() > 2, "what is missing is told too: {pointers:?}");
        let told: std::collections::HashSet<String> = refused.body["errors"].as_array().expect("a list").iter().map(Value::to_string).collect();
        assert_eq!(told.len(), pointers.len(), "nothing is told twice");
        assert!(text(&refused.body["detail"]).contains("publish with `validation`: `off`"));
        let warned = service.post("/api/v1/events", event(json!("warn"))).await.expect(202);
        assert_eq!(warned["warnings"].as_array().map(Vec::len), Some(pointers.len()));
        let off = service.post("/api/v1/events", event(json!("off"))).await.expect(202);
        assert_eq!(off.get("warnings"), None);
        assert_eq!(service.get("/api/v1/events").await.expect(200)["data"].as_array().map(Vec::len), Some(2));
        service.post("/api/v1/events", event(json!("strict"))).await.assert_problem(422, "invalid-field", "strict");
    }

    async fn a_trigger_publishes_the_example_with_overrides(database) {
        let service = Service::start(database).await;
        let trigger = json!({
            "vendor": "hostedscan", "event_type": "risk.opened", "count": 3, "validation": "enforce",
            "set": {"risk_definition.title": "Open TCP Port: 21", "tags.0": "prod"}, "remove": ["risk_definition.cvss"],
        });
        let answer = service.post("/api/v1/trigger", trigger).await.expect(202);
        let data = answer["data"].as_array().expect("a list");
        assert_eq!(data.len(), 3);
        let content = &data[2]["event"]["content"];
        assert_eq!((&content["risk_definition"]["title"], &content["tags"][0]), (&json!("Open TCP Port: 21"), &json!("prod")));
        assert_eq!(content["risk_definition"].get("cvss"), None);
        let all = service.post("/api/v1/trigger", json!({"vendor": "probely", "validation": "enforce"})).await.expect(202);
        assert_eq!(all["data"].as_array().map(Vec::len), Some(12));
        let raw = service.post_raw("/api/v1/trigger", "application/json", r#"{"vendor":"standard","event_type":"a.b","raw":{"x":  1}}"#).await;
        assert!(raw.text.contains(r#"{"x":  1}"#), "{}", raw.text);
    }

    async fn an_unusable_trigger_is_refused_and_nothing_is_stored(database) {
        let service = Service::start(database).await;
        for (trigger, word, detail) in [
            (json!({"vendor": "acme", "event_type": "a"}), "unknown-vendor", "unknown vendor `acme`"),
            (json!({"vendor": "halo", "event_type": "website-gone"}), "unknown-event-type", "halo has no event type `website-gone`"),
            (json!({"vendor": "halo", "event_type": "target-add", "set": {"target_id": "seven"}, "validation": "enforce"}), "schema-violation", "content.target_id"),
            (json!({"vendor": "halo", "event_type": "target-add", "set": {"target_id.a": 1}}), "invalid-field", "meets a plain value"),
            (json!({"vendor": "halo", "event_type": "target-add", "remove": ["nothing"]}), "invalid-field", "is not there to be removed"),
            (json!({"vendor": "halo", "event_type": "target-add", "count": 0}), "invalid-field", "must be from 1 to 1000"),
            (json!({"vendor": "halo", "event_type": "target-add", "raw": {}, "set": {"a": 1}}), "invalid-field", "stands for the whole content"),
            (json!({"vendor": "halo", "set": {"a": 1}}), "invalid-field", "event_type: must be given"),
            (json!({"vendor": "standard"}), "invalid-field", "standard has no event types of its own"),
        ] {
            service.post("/api/v1/trigger", trigger).await.assert_problem(422, word, detail);
        }
        let many = json!({"vendor": "halo", "count": 100});
        service.post("/api/v1/trigger", many).await.assert_problem(413, "too-many-events", "6700 events");
        assert_eq!(service.get("/api/v1/events").await.expect(200)["data"], json!([]));
    }
}

#[tokio::test]
async fn the_catalogue_can_be_read_by_the_api() {
    let database = crate::support::Database::sqlite();
    let service = Service::start(&database).await;
    let count = async |query: &str| {
        service.get(&format!("/api/v1/event-types{query}")).await.expect(200)["data"].as_array().map(Vec::len)
    };
    assert_eq!(
        (count("").await, count("?vendor=probely").await, count("?vendor=standard").await),
        (Some(86), Some(12), Some(0))
    );
    service.get("/api/v1/event-types?vendor=acme").await.assert_problem(400, "invalid-parameter", "acme");
    let shown = service.get("/api/v1/event-types/halo/website-cert-risk").await.expect(200);
    assert_eq!((&shown["subject"], &shown["provenance"]), (&json!("SSL Certificate Risk"), &json!("documented")));
    assert!(shown["schema"]["properties"]["scan_id"].is_object() && shown["example"].is_object());
    service.get("/api/v1/event-types/halo/nothing").await.assert_problem(
        404,
        "not-found",
        "halo has no event type `nothing`",
    );
    service.get("/api/v1/event-types/acme/nothing").await.assert_problem(404, "not-found", "unknown vendor");
}
