//! `scanhook why` and `scanhook schedule explain`: why a delivery stands where it stands, and what a
//! retry schedule means.

use super::Global;
use super::client::Client;
use super::output::{print_json, say, table, text};

/// Say why a delivery stands where it stands.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  scanhook why 1C6sYRbTAvYTB1LMvsHH9S")]
pub(super) struct Args {
    /// The delivery's id, as `scanhook deliveries list` shows it.
    #[arg(value_name = "ID")]
    id: String,
}

pub(super) async fn run(global: &Global, args: Args) -> anyhow::Result<()> {
    let client = Client::new(global)?;
    let why = client.get(&format!("/api/v1/deliveries/{}/why", args.id), &[]).await?;
    if global.json {
        print_json(&why);
        return Ok(());
    }
    why["attempts"].as_array().into_iter().flatten().for_each(|line| say!("{}", text(line)));
    say!("{}", text(&why["now"]));
    Ok(())
}

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    Explain(Explain),
}

/// Say when each attempt of a retry schedule is made.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  scanhook schedule explain --vendor probely\n  scanhook schedule explain --subscriber 1C6sYRbTAvYTB1LMvsHH9S --outage 6h"
)]
pub(super) struct Explain {
    /// The schedule of this vendor, by the daemon's settings.
    #[arg(long, required_unless_present = "subscriber", conflicts_with = "subscriber")]
    vendor: Option<String>,
    /// The schedule that holds for this subscriber.
    #[arg(long, value_name = "ID")]
    subscriber: Option<String>,
    /// For how long the receiver accepts nothing, such as 6h.
    #[arg(long, value_name = "DURATION")]
    outage: Option<String>,
}

pub(super) async fn explain(global: &Global, command: Command) -> anyhow::Result<()> {
    let Command::Explain(Explain { vendor, subscriber, outage }) = command;
    let client = Client::new(global)?;
    let query = [("vendor", vendor), ("subscriber_id", subscriber), ("outage", outage)];
    let explained = client.get("/api/v1/retry-schedule", &query).await?;
    if global.json {
        print_json(&explained);
        return Ok(());
    }
    let [schedule, tries, horizon, jitter] =
        ["schedule_of", "tries", "horizon", "jitter"].map(|field| text(&explained[field]));
    say!("{schedule}: {tries} attempts within {horizon}; each wait is stretched by a factor of 1 ± {jitter}");
    let mut rows = table(&["ATTEMPT", "WAIT", "AFTER THE FIRST", "IF THE FIRST WERE NOW"]);
    for attempt in explained["attempts"].as_array().into_iter().flatten() {
        rows.add_row(["number", "wait", "after", "at"].map(|field| text(&attempt[field])));
    }
    say!("{rows}");
    if let Some(outage) = explained["outage"].as_str() {
        say!("{outage}");
    }
    Ok(())
}
