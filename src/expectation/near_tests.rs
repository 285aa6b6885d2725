use chrono::{DateTime, Utc};

use super::*;
use crate::random::Chance;
use crate::subscriber::Subscriber;

fn at() -> DateTime<Utc> {
    DateTime::from_timestamp(1_767_225_600, 0).expect("within range")
}

fn subscriber_id(number: u64) -> SubscriberId {
    SubscriberId::generate(at(), number, &mut Chance::from_seed(number).stream("subscriber", number))
}

fn event(vendor: Vendor, event_type: &str, misses: &[&str]) -> SeenEvent {
    let id = EventId::generate(at(), 1, &mut Chance::from_seed(1).stream("event", event_type));
    let misses = misses.iter().map(|miss| (*miss).to_owned()).collect();
    SeenEvent { id, vendor, event_type: event_type.to_owned(), created_at: at(), misses }
}

fn delivery(status: Status, attempts: u32, last: Option<Got>) -> SeenDelivery {
    SeenDelivery {
        id: DeliveryId::generate(at(), 1, &mut Chance::from_seed(1).stream("delivery", attempts)),
        event_id: event(Vendor::Hostedscan, "risk.opened", &[]).id,
        event_type: "risk.opened".to_owned(),
        subscriber_id: subscriber_id(1),
        status,
        attempts,
        last,
        misses: Vec::new(),
    }
}

fn subscriber(event_types: &[&str], enabled: bool) -> Wanting {
    let url = "http://127.0.0.1:9000/".parse().expect("a URL");
    Wanting::from(Subscriber {
        id: subscriber_id(1),
        account_id: crate::id::AccountId::DEFAULT,
        vendor: Vendor::Hostedscan,
        url,
        event_types: event_types.iter().map(|name| (*name).to_owned()).collect(),
        secret: None,
        previous_secret: None,
        retry_schedule: None,
        timeout: None,
        headers: std::collections::BTreeMap::new(),
        options: crate::subscriber::Options::default(),
        vendor_id: None,
        signature_time: crate::subscriber::SignatureTime::default(),
        enabled,
        disabled_reason: None,
        failing_since: None,
        created_at: at(),
        changed_at: at(),
        deleted_at: None,
    })
}

fn hostedscan(event_type: &str) -> Criteria {
    Criteria { vendor: Some(Vendor::Hostedscan), event_type: Some(event_type.to_owned()), ..Criteria::default() }
}

fn expecting(min: u32, max: Option<u32>) -> Expected {
    Expected { count: Bounds { min, max }, status: None, attempts: None, answer: None }
}

#[track_caller]
fn check(criteria: &Criteria, expected: &Expected, seen: &Seen, subscribers: &[Wanting], told: &str) {
    assert_eq!(NearMisses::new(criteria, expected, seen, subscribers).detail, told);
}

#[test]
fn a_type_that_is_missing_is_told_with_those_that_are_there() {
    let seen = |events| Seen { events, ..Seen::default() };
    let [succeeded, opened] =
        ["scan.succeeded", "risk.opened"].map(|event_type| event(Vendor::Hostedscan, event_type, &[]));
    let events = vec![opened.clone(), succeeded.clone(), succeeded.clone(), opened, succeeded];
    let (criteria, expected) = (hostedscan("scan.failed"), expecting(1, None));
    let told =
        "there are 5 events of hostedscan, none of type scan.failed; there are scan.succeeded (3), risk.opened (2)";
    check(&criteria, &expected, &seen(events), &[], told);
    let of_halo = seen(vec![event(Vendor::Halo, "website-cert-risk", &[])]);
    check(&criteria, &expected, &of_halo, &[], "there is 1 event, none of hostedscan; there are of halo (1)");
    check(&criteria, &expected, &Seen::default(), &[], "there are no events in this account");
    let recent = Criteria { since: Some(at()), ..criteria };
    let told = "there are no events in this account published at 2026-01-01T00:00:00.000000Z or later";
    check(&recent, &expected, &Seen::default(), &[], told);
}

#[test]
fn a_content_that_differs_is_told_with_what_stands_there() {
    let misses = [r#"$.risk.id is "abc""#];
    let events = vec![event(Vendor::Hostedscan, "risk.opened", &misses); 3];
    let seen = Seen { events, is_cut: true, ..Seen::default() };
    let told = r#"no delivery matched: 3 events of risk.opened, but $.risk.id is "abc" in 3 of them; only the newest 3 events were looked at"#;
    check(&hostedscan("risk.opened"), &expecting(1, None), &seen, &[], told);
}

#[test]
fn an_event_that_nobody_got_is_told_with_the_reason() {
    let seen = Seen { events: vec![event(Vendor::Hostedscan, "risk.opened", &[])], ..Seen::default() };
    for (subscribers, reason) in [
        (vec![], "there is no subscriber of hostedscan"),
        (vec![subscriber(&["scan.*"], true)], "its only subscriber wants other types (scan.*)"),
        (vec![subscriber(&["*"], false)], "its only subscriber is disabled"),
        (
            vec![subscriber(&["scan.*"], true), subscriber(&["risk.closed"], true)],
            "each of its 2 subscribers wants other types (risk.closed, scan.*)",
        ),
        (
            vec![subscriber(&["*"], true)],
            "no subscriber wanted it then (one that is added or enabled later gets nothing)",
        ),
    ] {
        let told = format!("no delivery matched: 1 event was published, but {reason}");
        check(&hostedscan("risk.opened"), &expecting(1, None), &seen, &subscribers, &told);
    }
}

#[test]
fn a_body_or_a_subscriber_that_differs_is_told() {
    let mut differs = delivery(Status::Scheduled, 0, None);
    differs.misses.push("$.data selects nothing".to_owned());
    let events = vec![event(Vendor::Hostedscan, "risk.opened", &[])];
    let seen = Seen { events, deliveries: vec![differs], is_cut: false };
    let criteria = hostedscan("risk.opened");
    let told = "no delivery matched: 1 delivery of risk.opened, but $.data selects nothing in 1 of the bodies";
    check(&criteria, &expecting(1, None), &seen, &[], told);
    let criteria = Criteria { subscriber_id: Some(subscriber_id(2)), ..criteria };
    let told = format!(
        "no delivery matched: there is 1 delivery, none to the subscriber {}; they are to {} (1)",
        subscriber_id(2),
        subscriber_id(1)
    );
    check(&criteria, &expecting(1, None), &seen, &[], &told);
}

#[test]
fn a_state_or_a_number_that_differs_is_told() {
    let succeeded = delivery(Status::Succeeded, 1, Some(Got::Answer(200)));
    let rescheduled = delivery(Status::Rescheduled, 2, Some(Got::Answer(503)));
    let unreachable = delivery(Status::Failed, 3, Some(Got::Nothing(AttemptError::Timeout)));
    let event = event(Vendor::Hostedscan, "risk.opened", &[]);
    let state = |status, attempts: Option<u32>| Expected {
        status,
        attempts: attempts.map(|count| Bounds { min: count, max: Some(count) }),
        ..expecting(1, None)
    };
    let exactly = |count, expected: Expected| Expected { count: Bounds { min: count, max: Some(count) }, ..expected };
    let (one, id) = ([succeeded.clone()], succeeded.id);
    for (deliveries, expected, told) in [
        (
            vec![succeeded.clone(), rescheduled.clone()],
            exactly(2, state(Some(Status::Succeeded), None)),
            "2 deliveries matched, but 1 is rescheduled (last answer 503); 2 were expected".to_owned(),
        ),
        (
            vec![rescheduled.clone(), unreachable, delivery(Status::Scheduled, 0, None)],
            state(Some(Status::Succeeded), None),
            "3 deliveries matched, but 1 is failed (no answer: timeout), 1 is rescheduled (last answer 503), \
             1 is scheduled (no attempt yet)"
                .to_owned(),
        ),
        (
            vec![rescheduled],
            state(None, Some(1)),
            "1 delivery matched, but 1 is rescheduled (last answer 503, 2 attempts)".to_owned(),
        ),
        (one.to_vec(), expecting(2, None), "1 delivery matched, but at least 2 were expected".to_owned()),
        (one.to_vec(), expecting(2, Some(3)), "1 delivery matched, but 2 to 3 were expected".to_owned()),
        (one.to_vec(), expecting(0, Some(0)), format!("1 delivery matched, but none was expected: {id}")),
    ] {
        let seen = Seen { events: vec![event.clone()], deliveries, is_cut: false };
        check(&hostedscan("risk.opened"), &expected, &seen, &[], &told);
    }
}

#[test]
fn what_is_left_at_each_step_is_counted() {
    let events = vec![
        event(Vendor::Halo, "website-cert-risk", &[]),
        event(Vendor::Hostedscan, "scan.succeeded", &[]),
        event(Vendor::Hostedscan, "risk.opened", &["$.a selects nothing"]),
        event(Vendor::Hostedscan, "risk.opened", &[]),
    ];
    let deliveries = vec![delivery(Status::Succeeded, 1, Some(Got::Answer(200))), delivery(Status::Scheduled, 0, None)];
    let seen = Seen { events, deliveries, is_cut: false };
    let expected = Expected { status: Some(Status::Succeeded), ..expecting(2, None) };
    let counts = NearMisses::new(&hostedscan("risk.*"), &expected, &seen, &[]);
    let steps =
        [counts.events, counts.of_vendor, counts.of_type, counts.with_content, counts.matched, counts.as_expected];
    assert_eq!((steps, counts.deliveries), ([4, 3, 2, 1, 2, 1], Some(2)));
}
