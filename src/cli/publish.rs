//! `scanhook publish`: hand an event in.

use std::io::Read;
use std::path::PathBuf;

use anyhow::Context;
use serde::Serialize;
use serde_json::value::RawValue;

use super::Global;
use super::client::Client;
use super::output::{print_json, say, text};
use crate::event::Vendor;

/// Publish an event.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  scanhook publish hostedscan risk.opened '{\"id\": \"61918df1ed4b650040af5b0a\", \"status\": \"OPEN\"}'\n  scanhook publish standard invoice.paid --file invoice.json --deliver-at 2030-01-01T00:00:00Z\n  echo '{}' | scanhook publish standard ping --file -"
)]
pub(super) struct Args {
    /// Whose event: standard, hostedscan, halo or probely.
    vendor: Vendor,
    /// The vendor's own name for what has happened.
    event_type: String,
    /// JSON; sent byte for byte.
    #[arg(required_unless_present = "file")]
    content: Option<String>,
    /// Read the content from a file, or from standard input with `-`.
    #[arg(long, conflicts_with = "content", value_name = "FILE")]
    file: Option<PathBuf>,
    /// When it happened [default: now].
    #[arg(long, value_name = "TIME")]
    occurred_at: Option<String>,
    /// What the content describes [default: what the vendor's format says].
    #[arg(long, value_name = "WORD")]
    object_type: Option<String>,
    /// When its webhooks are first due [default: now].
    #[arg(long, value_name = "TIME")]
    deliver_at: Option<String>,
    /// A repeat with the same key stores nothing.
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// off, warn or enforce: how the content is checked [default: publish.validation].
    #[arg(long, value_name = "MODE")]
    validation: Option<String>,
}

#[derive(Serialize)]
struct Body {
    vendor: Vendor,
    event_type: String,
    content: Box<RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    occurred_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    object_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deliver_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    validation: Option<String>,
}

fn read_content(args: &Args) -> anyhow::Result<String> {
    match (&args.content, &args.file) {
        (Some(content), _) => Ok(content.clone()),
        (None, Some(path)) if path.as_os_str() == "-" => {
            let mut content = String::new();
            std::io::stdin().read_to_string(&mut content).context("cannot read standard input")?;
            Ok(content)
        }
        (None, Some(path)) => std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display())),
        (None, None) => anyhow::bail!("give the content, or --file"),
    }
}

pub(super) async fn run(global: &Global, args: Args) -> anyhow::Result<()> {
    let content = read_content(&args)?;
    let content = RawValue::from_string(content.trim().to_owned()).context("the content is not JSON")?;
    let body = Body {
        vendor: args.vendor,
        event_type: args.event_type,
        content,
        occurred_at: args.occurred_at,
        object_type: args.object_type,
        deliver_at: args.deliver_at,
        validation: args.validation,
    };
    let body = serde_json::to_string(&body).context("the event cannot be written as JSON")?;
    let headers: Vec<(&str, &str)> = args.idempotency_key.iter().map(|key| ("idempotency-key", key.as_str())).collect();
    let event = Client::new(global)?.post("/api/v1/events", body, &headers).await?;
    if global.json {
        print_json(&event);
        return Ok(());
    }
    let count = event["webhooks"].as_array().map_or(0, Vec::len);
    say!("published {} {}: {count} deliveries", text(&event["event_type"]), text(&event["id"]));
    for warning in event["warnings"].as_array().into_iter().flatten() {
        say!("warning: {} {}", text(&warning["pointer"]), text(&warning["reason"]));
    }
    if count == 0 {
        say!("no enabled subscriber wants it; add one with `scanhook subscribers add`");
    }
    Ok(())
}
