//! `scanhook scan`: scans by hand.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Map, Value};

use super::Global;
use super::client::{Answer, Client};
use super::output::{print_fields, print_json, print_list, say, text};
use crate::world::Scanner;

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    Start(Start),
    List(List),
    Show(Show),
    Cancel(Cancel),
}

/// Start a scan. Its events go to every subscriber that wants them.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  scanhook scan start --target shop.example.test --scanner OWASP_ZAP --follow\n  scanhook scan start --target shop.example.test --scanner NMAP --outcome failed --duration 2s\n  scanhook scan start --target shop.example.test --scanner OWASP_ZAP --finding owasp-zap-missing-hsts"
)]
pub(super) struct Start {
    /// The address of a target; it is added if it is not there.
    #[arg(long, value_name = "ADDRESS")]
    target: String,
    /// NMAP, NMAP_UDP, OPENVAS, OWASP_ZAP, OWASP_ZAP_ACTIVE or SSLYZE.
    #[arg(long)]
    scanner: Scanner,
    /// completed, failed or cancelled [default: completed].
    #[arg(long)]
    outcome: Option<String>,
    /// Why it fails.
    #[arg(long)]
    reason: Option<String>,
    /// From queued to ended [default: as long as such a scan takes, by scanner.time_scale].
    #[arg(long)]
    duration: Option<String>,
    /// Exactly what it finds; may be repeated [default: what is there].
    #[arg(long = "finding", value_name = "WEAKNESS")]
    findings: Vec<String>,
    /// Whose events tell of it; may be repeated [default: scanner.vendors].
    #[arg(long = "vendor")]
    vendors: Vec<String>,
    /// Show its progress until it ends.
    #[arg(long)]
    follow: bool,
}

/// List the scans, newest first.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  scanhook scan list --target shop.example.test")]
pub(super) struct List {
    /// Only those of this target.
    #[arg(long, value_name = "ADDRESS")]
    target: Option<String>,
    /// From the page before.
    #[arg(long)]
    cursor: Option<String>,
    /// How many, up to 250.
    #[arg(long)]
    limit: Option<u32>,
}

/// Show a scan.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  scanhook scan show 1C6sYRbTAvYTB1LMvsHH9S --json")]
pub(super) struct Show {
    id: String,
}

/// Cancel a scan that has not ended.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  scanhook scan cancel 1C6sYRbTAvYTB1LMvsHH9S")]
pub(super) struct Cancel {
    id: String,
}

/// How often a followed scan is looked at.
const LOOKS_EVERY: Duration = Duration::from_millis(100);

const FIELDS: [&str; 12] = [
    "id",
    "target_id",
    "scanner",
    "state",
    "progress",
    "reason",
    "first",
    "new",
    "again",
    "closed",
    "started_at",
    "ended_at",
];

fn new_scan(args: Start) -> Value {
    let mut body = Map::new();
    body.insert("target".to_owned(), args.target.into());
    body.insert("scanner".to_owned(), args.scanner.as_str().into());
    for (name, value) in [("outcome", args.outcome), ("reason", args.reason), ("duration", args.duration)] {
        if let Some(value) = value {
            body.insert(name.to_owned(), value.into());
        }
    }
    for (name, list) in [("findings", args.findings), ("vendors", args.vendors)] {
        if !list.is_empty() {
            body.insert(name.to_owned(), list.into());
        }
    }
    body.into()
}

/// Shows the progress of a scan until it has ended.
async fn follow(client: &Client, id: &str, quiet: bool) -> anyhow::Result<Answer> {
    let bar = if quiet { ProgressBar::hidden() } else { ProgressBar::new(100) };
    let style = ProgressStyle::with_template("{msg:>10} [{bar:40}] {pos:>3}%")?;
    bar.set_style(style.progress_chars("=> "));
    loop {
        let scan = client.get(&format!("/api/v1/scans/{id}"), &[]).await?;
        bar.set_message(text(&scan["state"]));
        bar.set_position(scan["progress"].as_u64().unwrap_or_default());
        if !matches!(scan["state"].as_str(), Some("queued" | "started")) {
            bar.finish_and_clear();
            return Ok(scan);
        }
        tokio::time::sleep(LOOKS_EVERY).await;
    }
}

pub(super) async fn run(global: &Global, command: Command) -> anyhow::Result<()> {
    let client = Client::new(global)?;
    match command {
        Command::Start(args) => {
            let is_followed = args.follow;
            let mut scan = client.post("/api/v1/scans", new_scan(args).to_string(), &[]).await?;
            if is_followed {
                scan = follow(&client, &text(&scan["id"]), global.json).await?;
            }
            if global.json { print_json(&scan) } else { print_fields(&scan, &FIELDS) }
        }
        Command::List(args) => {
            let limit = args.limit.map(|limit| limit.to_string());
            let query = [("target", args.target), ("cursor", args.cursor), ("limit", limit)];
            let list = client.get("/api/v1/scans", &query).await?;
            let columns = [
                ("ID", "id"),
                ("SCANNER", "scanner"),
                ("STATE", "state"),
                ("PROGRESS", "progress"),
                ("NEW", "new"),
                ("AGAIN", "again"),
                ("CLOSED", "closed"),
                ("CREATED AT", "created_at"),
            ];
            if global.json { print_json(&list) } else { print_list(&list, &columns) }
        }
        Command::Show(Show { id }) => {
            let scan = client.get(&format!("/api/v1/scans/{id}"), &[]).await?;
            if global.json { print_json(&scan) } else { print_fields(&scan, &FIELDS) }
        }
        Command::Cancel(Cancel { id }) => {
            let scan = client.post(&format!("/api/v1/scans/{id}/cancel"), String::new(), &[]).await?;
            if global.json { print_json(&scan) } else { say!("{id} is cancelled") }
        }
    }
    Ok(())
}
