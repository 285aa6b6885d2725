//! `scanhook deliveries`: where each stands, and sending one again.

use serde_json::Value;

use super::Global;
use super::client::Client;
use super::output::{print_fields, print_json, print_list, say, table, text};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    List(List),
    Show(Show),
    Redeliver(Redeliver),
}

/// List the deliveries, newest first.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  scanhook deliveries list --status failed")]
pub(super) struct List {
    /// scheduled, succeeded, rescheduled or failed.
    #[arg(long)]
    status: Option<String>,
    /// Only those to this subscriber.
    #[arg(long, value_name = "ID")]
    subscriber: Option<String>,
    /// Only those of this event.
    #[arg(long, value_name = "ID")]
    event: Option<String>,
    /// Only those of this event type.
    #[arg(long)]
    event_type: Option<String>,
    /// Only those made at this time or later.
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Only those made before this time.
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// From the page before.
    #[arg(long)]
    cursor: Option<String>,
    /// How many, up to 250.
    #[arg(long)]
    limit: Option<u32>,
}

/// Show a delivery with its attempts.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  scanhook deliveries show 1C6sYRbTAvYTB1LMvsHH9S --json")]
pub(super) struct Show {
    id: String,
}

/// Send a delivery again, now.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  scanhook deliveries redeliver 1C6sYRbTAvYTB1LMvsHH9S")]
pub(super) struct Redeliver {
    id: String,
}

pub(super) async fn run(global: &Global, command: Command) -> anyhow::Result<()> {
    let client = Client::new(global)?;
    match command {
        Command::List(args) => {
            let query = [
                ("status", args.status),
                ("subscriber_id", args.subscriber),
                ("event_id", args.event),
                ("event_type", args.event_type),
                ("from", args.from),
                ("until", args.until),
                ("cursor", args.cursor),
                ("limit", args.limit.map(|limit| limit.to_string())),
            ];
            let list = client.get("/api/v1/deliveries", &query).await?;
            let columns = [
                ("ID", "id"),
                ("EVENT TYPE", "event_type"),
                ("SUBSCRIBER", "subscriber_id"),
                ("STATUS", "status"),
                ("NEXT TRY", "next_try"),
                ("RETRIES", "retries"),
            ];
            if global.json { print_json(&list) } else { print_list(&list, &columns) }
        }
        Command::Show(Show { id }) => {
            let delivery = client.get(&format!("/api/v1/deliveries/{id}"), &[]).await?;
            if global.json { print_json(&delivery) } else { print_delivery(&delivery) }
        }
        Command::Redeliver(Redeliver { id }) => {
            let delivery = client.post(&format!("/api/v1/deliveries/{id}/redeliver"), String::new(), &[]).await?;
            if global.json { print_json(&delivery) } else { say!("{id} is due now") }
        }
    }
    Ok(())
}

fn print_delivery(delivery: &Value) {
    print_fields(
        delivery,
        &["id", "event_id", "event_type", "subscriber_id", "status", "next_try", "retries", "request_body"],
    );
    let mut rows = table(&["ATTEMPT", "STARTED AT", "MS", "OUTCOME", "ANSWER"]);
    for attempt in delivery["attempts"].as_array().into_iter().flatten() {
        let answer = match &attempt["error"] {
            Value::Null => text(&attempt["response_status"]),
            error => format!("{}: {}", text(error), text(&attempt["error_detail"])),
        };
        let [number, started_at, duration_ms, outcome] =
            ["number", "started_at", "duration_ms", "outcome"].map(|field| text(&attempt[field]));
        rows.add_row([number, started_at, duration_ms, outcome, answer]);
    }
    say!("{rows}");
}
