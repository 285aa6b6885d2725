//! `scanhook clock`: the account's clock.

use chrono::{DateTime, Utc};
use serde_json::{Map, Value, json};

use super::Global;
use super::client::Client;
use super::output::{print_fields, print_json, say, table, text};
use crate::account::ClockMode;

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    Show(Show),
    Set(Set),
    Advance(Advance),
    RunUntilIdle(RunUntilIdle),
}

/// Show what time it is in the account.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  scanhook clock show")]
pub(super) struct Show {}

/// Give the account a clock of its own, or the machine's. Nothing fires by itself on a manual clock.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  scanhook clock set manual --now 2026-01-01T00:00:00Z\n  scanhook clock set real")]
pub(super) struct Set {
    /// real or manual.
    mode: ClockMode,
    /// Where a manual clock stands [default: the account's present time].
    #[arg(long, value_name = "TIME")]
    now: Option<DateTime<Utc>>,
}

/// Move a manual clock forward, and fire what is due on the way.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  scanhook clock advance 5h30m\n  scanhook clock advance --to 2026-01-02T00:00:00Z")]
pub(super) struct Advance {
    /// By how much; 0s fires what is due already.
    #[arg(value_name = "DURATION", required_unless_present = "to", conflicts_with = "to")]
    by: Option<String>,
    /// To which time.
    #[arg(long, value_name = "TIME")]
    to: Option<DateTime<Utc>>,
}

/// Move a manual clock forward until nothing is ahead any more.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  scanhook clock run-until-idle --max 4d")]
pub(super) struct RunUntilIdle {
    /// By how much at most [default: 7d].
    #[arg(long, value_name = "DURATION")]
    max: Option<String>,
}

pub(super) async fn run(global: &Global, command: Command) -> anyhow::Result<()> {
    let client = Client::new(global)?;
    let (verb, body) = match command {
        Command::Show(Show {}) => {
            let clock = client.get("/api/v1/clock", &[]).await?;
            return show(global, &clock);
        }
        Command::Set(Set { mode, now }) => {
            let mut body = Map::from_iter([("mode".to_owned(), Value::from(mode.as_str()))]);
            body.extend(now.map(|now| ("now".to_owned(), json!(now))));
            let clock = client.put("/api/v1/clock", Value::Object(body).to_string()).await?;
            return show(global, &clock);
        }
        Command::Advance(Advance { by: Some(by), .. }) => ("advance", json!({"by": by})),
        Command::Advance(Advance { to, .. }) => ("advance", json!({"to": to})),
        Command::RunUntilIdle(RunUntilIdle { max: Some(max) }) => ("run-until-idle", json!({"max": max})),
        Command::RunUntilIdle(RunUntilIdle { max: None }) => ("run-until-idle", json!({})),
    };
    let moved = client.post(&format!("/api/v1/clock/{verb}"), body.to_string(), &[]).await?;
    if global.json {
        print_json(&moved);
        return Ok(());
    }
    let mut rows = table(&["AT", "WHAT", "OF", "NO.", "ANSWER", "THEN"]);
    for fired in moved["fired"].as_array().into_iter().flatten() {
        if fired["what"] == "timer" {
            rows.add_row([text(&fired["at"]), text(&fired["kind"]), text(&fired["id"])]);
        } else {
            let [at, event_type, of, number] =
                ["at", "event_type", "delivery_id", "number"].map(|field| text(&fired[field]));
            let answer = if fired["answer"].is_null() { &fired["outcome"] } else { &fired["answer"] };
            let then = if fired["next_try"].is_null() { &fired["status"] } else { &fired["next_try"] };
            rows.add_row([at, event_type, of, number, text(answer), text(then)]);
        }
    }
    say!("{rows}");
    let [now, stopped, delivery, timer] =
        ["now", "stopped", "next_delivery_at", "next_timer_at"].map(|field| text(&moved[field]));
    say!("it is {now} now ({stopped}); the next delivery is due at {delivery}, the next timer at {timer}");
    Ok(())
}

fn show(global: &Global, clock: &super::client::Answer) -> anyhow::Result<()> {
    if global.json {
        print_json(clock)
    } else {
        print_fields(clock, &["mode", "now"])
    }
    Ok(())
}
