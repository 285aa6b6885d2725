//! `scanhook trigger`: publish the example of an event type, with overrides.

use std::path::PathBuf;

use anyhow::{Context, anyhow, bail};
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::Global;
use super::client::Client;
use super::output::{print_json, say, text};
use crate::event::Vendor;

/// Publish the example of an event type, with overrides.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  scanhook trigger halo website-cert-expiring --set target_id=7 --set days=3\n  scanhook trigger hostedscan risk.opened --set risk_definition.title='\"Open TCP Port: 21\"' --remove risk_definition.cvss\n  scanhook trigger probely --all"
)]
pub(super) struct Args {
    /// Whose event: standard, hostedscan, halo or probely.
    vendor: Vendor,
    /// The vendor's own name for what has happened; `scanhook event-types` lists them.
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    event_type: Option<String>,
    /// Publish one of each of the vendor's event types.
    #[arg(long)]
    all: bool,
    /// Set a value by its dotted path; JSON, or else a text. May be repeated.
    #[arg(long = "set", value_name = "PATH=VALUE")]
    set: Vec<String>,
    /// Remove what is at a dotted path. May be repeated.
    #[arg(long = "remove", value_name = "PATH")]
    remove: Vec<String>,
    /// How many events, up to 1,000.
    #[arg(long)]
    count: Option<usize>,
    /// Publish the content of this file instead of the example, byte for byte.
    #[arg(long, value_name = "FILE")]
    raw: Option<PathBuf>,
    /// When its webhooks are first due [default: now].
    #[arg(long, value_name = "TIME")]
    deliver_at: Option<String>,
    /// off, warn or enforce: how the content is checked [default: publish.validation].
    #[arg(long, value_name = "MODE")]
    validation: Option<String>,
}

#[derive(Serialize)]
struct Body {
    vendor: Vendor,
    #[serde(skip_serializing_if = "Option::is_none")]
    event_type: Option<String>,
    set: Map<String, Value>,
    remove: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    raw: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deliver_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    validation: Option<String>,
}

fn body(args: Args) -> anyhow::Result<Body> {
    let mut set = Map::new();
    for pair in args.set {
        let (path, value) = pair.split_once('=').ok_or_else(|| anyhow!("`{pair}` is not PATH=VALUE"))?;
        let value = serde_json::from_str(value).unwrap_or_else(|_| Value::from(value));
        set.insert(path.to_owned(), value);
    }
    let raw = args.raw.map(|path| {
        let content = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        RawValue::from_string(content.trim().to_owned()).with_context(|| format!("{} is not JSON", path.display()))
    });
    Ok(Body {
        vendor: args.vendor,
        event_type: args.event_type,
        set,
        remove: args.remove,
        count: args.count,
        raw: raw.transpose()?,
        deliver_at: args.deliver_at,
        validation: args.validation,
    })
}

pub(super) async fn run(global: &Global, args: Args) -> anyhow::Result<()> {
    let body = serde_json::to_string(&body(args)?)?;
    let answer = Client::new(global)?.post("/api/v1/trigger", body, &[]).await?;
    let items = answer["data"].as_array().cloned().unwrap_or_default();
    let refused: Vec<String> =
        items.iter().filter_map(|item| item["problem"]["detail"].as_str()).map(str::to_owned).collect();
    if global.json {
        print_json(&answer);
    } else {
        for event in items.iter().map(|item| &item["event"]).filter(|event| event.is_object()) {
            let count = event["webhooks"].as_array().map_or(0, Vec::len);
            say!("published {} {}: {count} deliveries", text(&event["event_type"]), text(&event["id"]));
        }
    }
    if !refused.is_empty() {
        bail!("{} of {} events were refused: {}", refused.len(), items.len(), refused.join("; "));
    }
    Ok(())
}
