//! `scanhook schedules`: scans that start by the clock.

use anyhow::anyhow;
use serde_json::{Map, Value, json};

use super::Global;
use super::client::Client;
use super::output::{print_fields, print_json, print_list, say};
use crate::world::Scanner;

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    Add(Add),
    List(List),
    Remove(Remove),
}

/// Add a schedule.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  scanhook schedules add '0 */5 * * * *' --target shop.example.test --scanner OWASP_ZAP --mix completed=0.9 --mix failed=0.1"
)]
pub(super) struct Add {
    /// Second, minute, hour, day of month, month, day of week.
    cron: String,
    /// The address of a target.
    #[arg(long, value_name = "ADDRESS")]
    target: String,
    /// NMAP, NMAP_UDP, OPENVAS, OWASP_ZAP, OWASP_ZAP_ACTIVE or SSLYZE.
    #[arg(long)]
    scanner: Scanner,
    /// An IANA name [default: UTC].
    #[arg(long)]
    timezone: Option<String>,
    /// The weight of an outcome; may be repeated [default: completed=1].
    #[arg(long, value_name = "OUTCOME=WEIGHT")]
    mix: Vec<String>,
    /// The chance that a weakness comes or goes before each scan [default: 0].
    #[arg(long)]
    drift: Option<f64>,
    /// From queued to ended [default: as long as such a scan takes, by scanner.time_scale].
    #[arg(long)]
    duration: Option<String>,
    /// run_once or skip [default: run_once].
    #[arg(long)]
    missed: Option<String>,
}

/// List the schedules, oldest first.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  scanhook schedules list")]
pub(super) struct List {}

/// Remove a schedule. Scans that it has started go on.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  scanhook schedules remove 1C6sYRbTAvYTB1LMvsHH9S")]
pub(super) struct Remove {
    id: String,
}

fn new_schedule(args: Add) -> anyhow::Result<Value> {
    let mut body = Map::new();
    body.insert("cron".to_owned(), args.cron.into());
    body.insert("target".to_owned(), args.target.into());
    body.insert("scanner".to_owned(), args.scanner.as_str().into());
    for (name, value) in [("timezone", args.timezone), ("duration", args.duration), ("missed", args.missed)] {
        if let Some(value) = value {
            body.insert(name.to_owned(), value.into());
        }
    }
    if let Some(drift) = args.drift {
        body.insert("drift".to_owned(), drift.into());
    }
    let mut mix = Map::new();
    for pair in args.mix {
        let weight = pair.split_once('=').and_then(|(name, weight)| Some((name, weight.parse::<f64>().ok()?)));
        let (name, weight) = weight.ok_or_else(|| anyhow!("`{pair}` is not OUTCOME=WEIGHT, such as failed=0.1"))?;
        mix.insert(name.to_owned(), weight.into());
    }
    if !mix.is_empty() {
        body.insert("mix".to_owned(), mix.into());
    }
    Ok(body.into())
}

pub(super) async fn run(global: &Global, command: Command) -> anyhow::Result<()> {
    let client = Client::new(global)?;
    match command {
        Command::Add(args) => {
            let schedule = client.post("/api/v1/schedules", new_schedule(args)?.to_string(), &[]).await?;
            let fields = ["id", "cron", "timezone", "target", "scanner", "next_tick"];
            if global.json { print_json(&schedule) } else { print_fields(&schedule, &fields) }
        }
        Command::List(List {}) => {
            let list = client.get("/api/v1/schedules", &[]).await?;
            let columns = [
                ("ID", "id"),
                ("CRON", "cron"),
                ("TIME ZONE", "timezone"),
                ("TARGET", "target"),
                ("SCANNER", "scanner"),
                ("NEXT TICK", "next_tick"),
            ];
            if global.json { print_json(&list) } else { print_list(&list, &columns) }
        }
        Command::Remove(Remove { id }) => {
            client.delete(&format!("/api/v1/schedules/{id}")).await?;
            if global.json { print_json(&json!({"removed": id})) } else { say!("removed {id}") }
        }
    }
    Ok(())
}
