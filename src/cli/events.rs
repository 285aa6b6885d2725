//! `scanhook events`: reading events back.

use super::Global;
use super::client::Client;
use super::output::{print_fields, print_json, say, table, text};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    List(List),
    Show(Show),
}

/// List the events, newest first.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  scanhook events list --vendor hostedscan --event-type risk.opened --limit 10")]
pub(super) struct List {
    /// Only this vendor's.
    #[arg(long)]
    vendor: Option<String>,
    /// Only this event type.
    #[arg(long)]
    event_type: Option<String>,
    /// Only those that occurred at this time or later.
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Only those that occurred before this time.
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// From the page before.
    #[arg(long)]
    cursor: Option<String>,
    /// How many, up to 250.
    #[arg(long)]
    limit: Option<u32>,
}

/// Show an event with its deliveries.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  scanhook events show 1C6sYRbTAvYTB1LMvsHH9S --json")]
pub(super) struct Show {
    id: String,
}

pub(super) async fn run(global: &Global, command: Command) -> anyhow::Result<()> {
    let client = Client::new(global)?;
    match command {
        Command::List(args) => {
            let query = [
                ("vendor", args.vendor),
                ("event_type", args.event_type),
                ("from", args.from),
                ("until", args.until),
                ("cursor", args.cursor),
                ("limit", args.limit.map(|limit| limit.to_string())),
            ];
            let list = client.get("/api/v1/events", &query).await?;
            if global.json {
                print_json(&list);
                return Ok(());
            }
            let mut rows = table(&["ID", "OCCURRED AT", "VENDOR", "EVENT TYPE", "DELIVERIES"]);
            for event in list["data"].as_array().into_iter().flatten() {
                let statuses =
                    event["webhooks"].as_array().into_iter().flatten().map(|webhook| text(&webhook["status"]));
                let deliveries = statuses.collect::<Vec<_>>().join(", ");
                let [id, at, vendor, event_type] =
                    ["id", "occurred_at", "vendor", "event_type"].map(|field| text(&event[field]));
                rows.add_row([id, at, vendor, event_type, deliveries]);
            }
            say!("{rows}");
            if let Some(cursor) = list["next_cursor"].as_str() {
                say!("there is more: --cursor {cursor}");
            }
        }
        Command::Show(Show { id }) => {
            let event = client.get(&format!("/api/v1/events/{id}"), &[]).await?;
            if global.json {
                print_json(&event);
                return Ok(());
            }
            print_fields(
                &event,
                &["id", "vendor", "vendor_event_id", "event_type", "object_type", "occurred_at", "content"],
            );
            let mut rows = table(&["DELIVERY", "SUBSCRIBER", "STATUS", "NEXT TRY", "RETRIES"]);
            for webhook in event["webhooks"].as_array().into_iter().flatten() {
                rows.add_row(
                    ["id", "subscriber_id", "status", "next_try", "retries"].map(|field| text(&webhook[field])),
                );
            }
            say!("{rows}");
        }
    }
    Ok(())
}
