//! `scanhook wait` and `scanhook settle`: exit with 0 once something has come about, and with 1 if it
//! does not.

use chrono::{DateTime, Utc};
use serde_json::{Map, Value, json};

use super::Global;
use super::client::Client;
use super::output::{print_json, say, table, text};
use crate::event::Vendor;
use crate::expectation::Condition;

/// Wait until deliveries (or events) are there, and in the state that is expected.
///
/// Exits with 0 as soon as that holds, and prints them. Exits with 1 if it does not, and says what is
/// there instead. Without --count, --min, --max or --none, one is enough.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  scanhook wait --event-type risk.opened --content '$.id=\"61918df1ed4b650040af5b0a\"' --status succeeded\n  scanhook wait --vendor halo --count 2 --answer 200 --within 30s\n  scanhook wait --event-type scan.failed --events --none --within 2s"
)]
pub(super) struct Wait {
    /// Only this vendor's: standard, hostedscan, halo or probely.
    #[arg(long)]
    vendor: Option<Vendor>,
    /// Only this event type, or a beginning and `*`.
    #[arg(long, value_name = "PATTERN")]
    event_type: Option<String>,
    /// Only those to this subscriber.
    #[arg(long, value_name = "ID")]
    subscriber: Option<String>,
    /// What the event's content has: a JSONPath and a value (JSON, or else a text). May be repeated.
    #[arg(long, value_name = "PATH=JSON", value_parser = Condition::parse_pair)]
    content: Vec<(String, Value)>,
    /// What the webhook's body has, in the same way. May be repeated.
    #[arg(long, value_name = "PATH=JSON", value_parser = Condition::parse_pair)]
    body: Vec<(String, Value)>,
    /// Only those published at this time or later.
    #[arg(long, value_name = "TIME")]
    since: Option<DateTime<Utc>>,
    /// Count events, not deliveries.
    #[arg(long)]
    events: bool,
    /// Exactly so many.
    #[arg(long, value_name = "N", conflicts_with_all = ["min", "max", "none"])]
    count: Option<u32>,
    /// At least so many.
    #[arg(long, value_name = "N", conflicts_with = "none")]
    min: Option<u32>,
    /// At most so many; without --min, for the whole time.
    #[arg(long, value_name = "N", conflicts_with = "none")]
    max: Option<u32>,
    /// None, for the whole time.
    #[arg(long)]
    none: bool,
    /// scheduled, succeeded, rescheduled or failed.
    #[arg(long)]
    status: Option<String>,
    /// After exactly so many attempts.
    #[arg(long, value_name = "N")]
    attempts: Option<u32>,
    /// The HTTP status that the last attempt was answered with.
    #[arg(long, value_name = "STATUS")]
    answer: Option<u16>,
    /// How long to wait, up to 60s.
    #[arg(long, value_name = "DURATION", default_value = "5s")]
    within: String,
}

/// Wait until nothing is in flight or due.
///
/// Exits with 0 then, and says what is due later. Exits with 1 if that does not come about, and says
/// what is in the way.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  scanhook settle\n  scanhook settle --within 30s --idle-url http://127.0.0.1:9000/idle"
)]
pub(super) struct Settle {
    /// How long to wait, up to 60s.
    #[arg(long, value_name = "DURATION", default_value = "5s")]
    within: String,
    /// A consumer's own: asked by GET until it answers 2xx and still nothing is owed.
    #[arg(long, value_name = "URL")]
    idle_url: Option<String>,
}

impl Wait {
    fn count(&self) -> Option<Value> {
        match (self.count, self.min, self.max) {
            _ if self.none => Some(json!(0)),
            (Some(count), ..) => Some(json!(count)),
            (None, Some(min), Some(max)) => Some(json!({"min": min, "max": max})),
            (None, Some(min), None) => Some(json!({"min": min})),
            (None, None, Some(max)) => Some(json!({"max": max})),
            (None, None, None) => None,
        }
    }

    fn body(self) -> String {
        let given = |fields: Vec<(&str, Option<Value>)>| -> Map<String, Value> {
            fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
        };
        let paths = |pairs: Vec<(String, Value)>| (!pairs.is_empty()).then(|| Value::from_iter(pairs));
        let expect = given(vec![
            ("count", self.count()),
            ("status", self.status.map(Value::from)),
            ("attempts", self.attempts.map(Value::from)),
            ("answer", self.answer.map(Value::from)),
        ]);
        let criteria = given(vec![
            ("of", self.events.then(|| "events".into())),
            ("vendor", self.vendor.map(|vendor| vendor.as_str().into())),
            ("event_type", self.event_type.map(Value::from)),
            ("subscriber_id", self.subscriber.map(Value::from)),
            ("content", paths(self.content)),
            ("body", paths(self.body)),
            ("since", self.since.map(|since| since.to_rfc3339().into())),
        ]);
        json!({"match": criteria, "expect": expect, "within": self.within}).to_string()
    }
}

pub(super) async fn wait(global: &Global, args: Wait) -> anyhow::Result<()> {
    let is_of_events = args.events;
    let held = Client::new(global)?.post("/api/v1/assert", args.body(), &[]).await?;
    if global.json {
        print_json(&held);
        return Ok(());
    }
    let matches = held["matches"].as_array().map(Vec::as_slice).unwrap_or_default();
    let columns: &[(&str, &str)] = if is_of_events {
        &[("EVENT", "event_id"), ("VENDOR", "vendor"), ("EVENT TYPE", "event_type")]
    } else {
        &[
            ("DELIVERY", "delivery_id"),
            ("EVENT TYPE", "event_type"),
            ("SUBSCRIBER", "subscriber_id"),
            ("STATUS", "status"),
            ("ATTEMPTS", "attempts"),
            ("LAST ANSWER", "last_answer"),
        ]
    };
    if matches.is_empty() {
        say!("none, as expected");
        return Ok(());
    }
    let mut rows = table(&columns.iter().map(|(heading, _)| *heading).collect::<Vec<_>>());
    for found in matches {
        rows.add_row(columns.iter().map(|(_, field)| text(&found[*field])));
    }
    say!("{rows}");
    Ok(())
}

pub(super) async fn settle(global: &Global, args: Settle) -> anyhow::Result<()> {
    let Settle { within, idle_url } = args;
    let body = json!({"within": within, "idle_url": idle_url}).to_string();
    let settled = Client::new(global)?.post("/api/v1/settle", body, &[]).await?;
    if global.json {
        print_json(&settled);
        return Ok(());
    }
    let [deliveries, timers] = ["scheduled_deliveries", "timers"].map(|field| text(&settled[field]));
    say!("settled; due later: {deliveries} deliveries, {timers} timers");
    let next = &settled["next_delivery"];
    if next.is_object() {
        let [event_type, url, at] = ["event_type", "subscriber_url", "due_at"].map(|field| text(&next[field]));
        say!("the next delivery: {event_type} to {url} at {at}");
    }
    let next = &settled["next_timer"];
    if next.is_object() {
        let [kind, id, at] = ["kind", "id", "due_at"].map(|field| text(&next[field]));
        say!("the next timer: the {kind} {id} at {at}");
    }
    Ok(())
}
