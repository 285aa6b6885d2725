//! What Probely says of each fact, held against its catalogue.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use serde_json::Value;

use super::CATALOGUE;
use super::objects::url_of;
use super::tell::tell;
use crate::vendors::Told;
use crate::world::surface::Technology;
use crate::world::{
    About, Counts, Definition, Fact, Kind, Observation, Outcome, Plan, Scan, ScanState, Scanner, Surface, Target,
    TargetKind, User, Weakness, WeaknessState, What, World, definition, definitions,
};

fn at(minutes: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_700_000_000, 120_000_000).expect("within range") + TimeDelta::minutes(minutes)
}

/// A world with one target, which nobody has scanned or verified.
struct Story {
    world: World,
    owner: Arc<User>,
    target: Target,
}

impl Story {
    fn of(kind: TargetKind, address: &str) -> Self {
        let mut world = World::new(7);
        let owner = world.owner(at(0));
        let (number, id) = world.next_id(Kind::Target, at(1));
        let technology = Technology { name: "nginx".to_owned(), version: "1.24.0".to_owned() };
        let target = Target {
            id,
            number,
            kind,
            address: address.to_owned(),
            label: "Example shop".to_owned(),
            tags: vec!["shop".to_owned()],
            is_verified: false,
            verified_at: None,
            verification_error: String::new(),
            is_unreachable: false,
            surface: Surface { technologies: vec![technology], ..Surface::default() },
            seen: None,
            created_at: at(1),
            changed_at: at(1),
            last_scan: None,
            deleted_at: None,
            settings: Default::default(),
        };
        Self { world, owner, target }
    }

    fn about(&self) -> About {
        self.world.about(&Arc::new(self.target.clone()))
    }

    fn weakness(&mut self, definition: &Definition, instance: u32) -> Weakness {
        let number = self.world.next_weakness_number(self.target.id);
        let (_, id) = self.world.next_id(Kind::Weakness, at(2));
        let weakness = Weakness {
            id,
            number,
            found_number: Some(number),
            target_id: self.target.id,
            definition: definition.key.clone(),
            instance,
            is_present: true,
            state: WeaknessState::Open,
            first_detected_at: Some(at(3)),
            last_detected_at: Some(at(3)),
            is_gone: false,
            scans: vec![id],
            changed_at: at(3),
            settings: Default::default(),
        };
        self.world.put(weakness.clone());
        weakness
    }

    fn scan(&mut self, state: ScanState, progress: u8) -> Arc<Scan> {
        let (number, id) = self.world.next_id(Kind::Scan, at(2));
        let outcome = if state == ScanState::Failed { Outcome::Failed } else { Outcome::Completed };
        Arc::new(Scan {
            id,
            number,
            target_id: self.target.id,
            others: Vec::new(),
            scanner: Scanner::OwaspZapActive,
            state,
            progress,
            plan: Plan {
                outcome,
                reason: "it does not answer".to_owned(),
                duration: Duration::from_secs(600),
                late: Default::default(),
            },
            is_first: true,
            counts: Counts { high: 2, ..Counts::default() },
            new: Vec::new(),
            again: Vec::new(),
            closed: Vec::new(),
            is_named: false,
            vendors: Vec::new(),
            by: self.owner.id,
            created_at: at(2),
            started_at: (state != ScanState::Queued).then(|| at(3)),
            paused_at: None,
            held: Default::default(),
            ended_at: state.has_ended().then(|| at(4)),
            settings: Default::default(),
        })
    }

    fn tell(&self, what: What) -> Option<Told> {
        let mut told = tell(&Fact { at: at(9), by: Arc::clone(&self.owner), what }, &self.world);
        assert!(told.len() <= 1, "{told:?}");
        told.pop()
    }

    /// The content that a fact is told with, as far as every content is the same.
    #[track_caller]
    fn content(&self, event_type: &str, what: What) -> Value {
        let told = self.tell(what).unwrap_or_else(|| panic!("{event_type} is not told"));
        assert_eq!(told.event_type, event_type);
        let known = CATALOGUE.get(event_type).expect("in the catalogue");
        assert_eq!(known.violations(&told.content), [], "{event_type}: {:#}", told.content);
        check_fields(&told.content, &known.example, event_type);
        told.content
    }
}

fn shop() -> Story {
    Story::of(TargetKind::Host, "shop.example.test")
}

/// What may be null in one event and not in another of its type.
const NULLABLE: [&str; 11] = [
    "lows",
    "mediums",
    "highs",
    "criticals",
    "risk",
    "last_scan",
    "started",
    "completed",
    "verification_date",
    "evidence",
    "last_login",
];

/// Checks that a content has the fields of the example: all of them, and no others.
#[track_caller]
fn check_fields(made: &Value, example: &Value, place: &str) {
    match (made, example) {
        // The names of parameters are not fields.
        (Value::Object(_), Value::Object(_)) if place.ends_with("/params") => (),
        (Value::Object(made), Value::Object(example)) => {
            let names = |fields: &serde_json::Map<String, Value>| {
                fields.keys().cloned().collect::<std::collections::BTreeSet<_>>()
            };
            assert_eq!(names(made), names(example), "{place}");
            made.iter().for_each(|(name, value)| check_fields(value, &example[name], &format!("{place}/{name}")));
        }
        (Value::Array(made), Value::Array(example)) => {
            // Where the example has none, the schema says what there may be.
            for value in made.iter().filter(|_| !example.is_empty()) {
                check_fields(value, &example[0], &format!("{place}/0"));
            }
        }
        _ => {
            let is_same = std::mem::discriminant(made) == std::mem::discriminant(example);
            let name = place.rsplit('/').next().unwrap_or_default();
            let is_null = made.is_null() || example.is_null();
            assert!(is_same || (is_null && NULLABLE.contains(&name)), "{place}: {made} instead of {example}");
        }
    }
}

#[track_caller]
fn check_id(id: &Value) {
    let id = id.as_str().expect("a text");
    assert!(id.len() == 12 && bs58::decode(id).into_vec().is_ok(), "{id}");
}

#[test]
fn users_come_and_go() {
    let story = shop();
    let created = story.content("user_created", What::UserAdded(Arc::clone(&story.owner)));
    let removed = Arc::new(User { is_active: false, ..(*story.owner).clone() });
    let deleted = story.content("user_deleted", What::UserRemoved(removed));
    check_id(&created["id"]);
    check_id(&created["user_roles"][0]["role"]["id"]);
    assert_eq!((&created["id"], &created["name"]), (&deleted["id"], &"Account Owner".into()));
    assert_eq!((&created["active"], &deleted["active"]), (&true.into(), &false.into()));
    assert_eq!(created["changed_by"]["email"], "owner@example.com");
}

#[test]
fn a_target_is_told_with_what_is_known_of_it() {
    let mut story = shop();
    let created = story.content("target_created", What::TargetAdded(story.about()));
    assert_eq!((&created["risk"], &created["lows"]), (&Value::Null, &Value::Null));
    assert_eq!(created["site"]["stack"], serde_json::json!([]));

    story.target.verification_error = "The DNS query name does not exist.".to_owned();
    let failed = story.content("target_verification_failed", What::VerificationFailed(story.about()));
    assert_eq!(failed["site"]["verification_last_error"], "The DNS query name does not exist.");

    story.target.verification_error.clear();
    (story.target.is_verified, story.target.verified_at) = (true, Some(at(2)));
    let verified = story.content("target_verified", What::TargetVerified(story.about()));
    assert_eq!(verified["site"]["verification_method"], "dns_txt");

    story.target.seen = Some((story.target.surface.clone(), at(3)));
    let seen = story.content("target_deleted", What::TargetRemoved(story.about()));
    assert_eq!((&seen["risk"], &seen["lows"]), (&0.into(), &0.into()));
    check_id(&seen["site"]["stack"][0]["id"]);

    story.weakness(definition("owasp-zap-active-sql-injection").expect("known"), 0);
    let deleted = story.content("target_deleted", What::TargetRemoved(story.about()));
    assert_eq!((&deleted["risk"], &deleted["criticals"]), (&40.into(), &1.into()));

    for content in [&created, &failed, &verified, &seen, &deleted] {
        check_id(&content["id"]);
        check_id(&content["site"]["id"]);
        check_id(&content["labels"][0]["id"]);
        assert_ne!(content["id"], content["site"]["id"]);
        assert_eq!(content["id"], created["id"]);
        for name in ["id", "verification_token"] {
            assert_eq!(content["site"][name], created["site"][name]);
        }
    }
}

#[test]
fn a_scan_is_told_with_how_far_it_is() {
    let mut story = shop();
    let id = story.content("target_created", What::TargetAdded(story.about()))["id"].clone();
    let states = |content: &Value| {
        ["crawler", "fingerprinter", "scanner"].map(|part| content[part]["state"].as_str().unwrap_or("?").to_owned())
    };
    type Make = fn(Arc<Scan>, About) -> What;
    for (state, progress, event_type, make, parts, scanned) in [
        (ScanState::Started, 0, "scan_started", What::ScanStarted as Make, ["started", "started", ""], 0),
        (ScanState::Started, 70, "scan_started", What::ScanStarted, ["ended", "ended", "started"], 206),
        (ScanState::Completed, 100, "scan_completed", What::ScanCompleted, ["ended"; 3], 412),
        (ScanState::Failed, 30, "scan_failed", What::ScanFailed, ["ended"; 3], 0),
        (ScanState::Cancelled, 70, "scan_canceled", What::ScanCancelled, ["ended"; 3], 206),
    ] {
        let scan = story.scan(state, progress);
        let content = story.content(event_type, make(Arc::clone(&scan), story.about()));
        check_id(&content["id"]);
        assert_eq!((&content["target"]["id"], &content["highs"]), (&id, &2.into()));
        assert_eq!(content["completed"].is_null(), !state.has_ended());
        assert_eq!(states(&content), parts, "{event_type} at {progress}");
        let status = content["scanner"]["status"].as_array().expect("a list").first().and_then(Value::as_u64);
        assert_eq!(status.unwrap_or_default(), scanned, "{event_type} at {progress}");
        assert_eq!(
            content["crawler"]["error"].as_array().map(Vec::len),
            Some(usize::from(event_type == "scan_failed"))
        );
    }
    // Cancelled before it began.
    let scan = Arc::new(Scan { started_at: None, ..(*story.scan(ScanState::Cancelled, 0)).clone() });
    let content = story.content("scan_canceled", What::ScanCancelled(scan, story.about()));
    assert_eq!((states(&content), &content["started"]), (["", "", ""].map(str::to_owned), &Value::Null));
}

#[test]
fn every_kind_of_weakness_is_a_finding_and_no_two_are_alike() {
    let mut story = Story::of(TargetKind::Url, "https://shop.example.test/eu/?debug=1");
    let scan = story.scan(ScanState::Started, 50);
    let scan_id = story.content("scan_started", What::ScanStarted(Arc::clone(&scan), story.about()))["id"].clone();
    for definition in definitions() {
        let mut places = std::collections::BTreeSet::new();
        for instance in 0..3 {
            let weakness = Weakness { scans: vec![scan.id], ..story.weakness(definition, instance) };
            let detected = What::WeaknessDetected(Arc::new(weakness.clone()), Arc::clone(&scan), story.about());
            let content = story.content("finding_detected", detected);
            assert_eq!((&content["id"], &content["new"]), (&weakness.number.into(), &true.into()));
            assert_eq!(content["scans"][0], scan_id);
            assert_eq!(
                content["requests"].as_array().map(Vec::len),
                Some(usize::from(definition.place.path.is_some()))
            );
            check_id(&content["definition"]["id"]);
            places.insert((content["url"].to_string(), content["parameter"].to_string()));

            let weakness = Arc::new(Weakness { state: WeaknessState::Closed, ..weakness });
            let fixed = What::WeaknessFixed(weakness, Arc::clone(&scan), story.about());
            let fixed = story.content("finding_fixed", fixed);
            assert_eq!((&fixed["id"], &fixed["url"]), (&content["id"], &content["url"]));
            assert_eq!((&fixed["state"], &fixed["new"]), (&"fixed".into(), &false.into()));
        }
        assert_eq!(places.len(), 3, "{}", definition.key);
    }
}

#[test]
fn a_finding_says_where_it_is_and_how_it_was_found() {
    let mut story = shop();
    let weakness = story.weakness(definition("owasp-zap-active-xss-reflected").expect("known"), 1);
    let scan = story.scan(ScanState::Started, 50);
    let content = story.content("finding_detected", What::WeaknessDetected(Arc::new(weakness), scan, story.about()));
    for (name, expected) in [
        ("url", "https://shop.example.test/search"),
        ("path", "https://shop.example.test/search"),
        ("method", "get"),
        ("insertion_point", "parameter"),
        ("parameter", "q_1"),
        ("value", "<script>alert(1);</script>"),
        ("evidence", "<script>alert(1);</script>"),
    ] {
        assert_eq!(content[name], expected, "{name}");
    }
    assert_eq!(content["params"], serde_json::json!({"q_1": ["1"]}));
    assert_eq!((&content["severity"], &content["changed_by"]["name"]), (&20.into(), &"Probely".into()));
}

#[test]
fn only_websites_are_scanned() {
    for (kind, address, url) in [
        (TargetKind::Host, "shop.example.test", Some("https://shop.example.test")),
        (TargetKind::Host, "2001:db8::1", Some("https://[2001:db8::1]")),
        (TargetKind::Domain, "example.test", Some("https://example.test")),
        (TargetKind::Url, "http://example.test:8080/eu", Some("http://example.test:8080/eu")),
        (TargetKind::Network, "192.0.2.0/28", None),
    ] {
        let mut story = Story::of(kind, address);
        assert_eq!(url_of(&story.target).as_deref(), url);
        let weakness = Arc::new(story.weakness(&definitions()[0], 0));
        let scan = story.scan(ScanState::Started, 10);
        for what in [
            What::TargetAdded(story.about()),
            What::TargetRemoved(story.about()),
            What::TargetVerified(story.about()),
            What::VerificationFailed(story.about()),
            What::ScanStarted(Arc::clone(&scan), story.about()),
            What::ScanCompleted(Arc::clone(&scan), story.about()),
            What::ScanFailed(Arc::clone(&scan), story.about()),
            What::ScanCancelled(Arc::clone(&scan), story.about()),
            What::WeaknessDetected(Arc::clone(&weakness), Arc::clone(&scan), story.about()),
            What::WeaknessFixed(Arc::clone(&weakness), Arc::clone(&scan), story.about()),
        ] {
            assert_eq!(story.tell(what.clone()).is_some(), url.is_some(), "{what:?}");
        }
    }
}

#[test]
fn nothing_is_told_of_what_probely_has_no_event_for() {
    let mut story = shop();
    let weakness = Arc::new(story.weakness(&definitions()[0], 0));
    let scan = story.scan(ScanState::Queued, 0);
    for what in [
        What::KeyAdded(Arc::clone(&story.owner)),
        What::ScanQueued(Arc::clone(&scan), story.about()),
        What::ScanProgressed(Arc::clone(&scan), story.about()),
        What::WeaknessReturned(weakness, Arc::clone(&scan), story.about()),
        What::Observed(Observation::EmailSeen("info@example.test".to_owned()), scan, story.about()),
    ] {
        assert_eq!(story.tell(what.clone()), None, "{what:?}");
    }
}
