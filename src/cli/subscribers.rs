//! `scanhook subscribers`: who gets which events.

use anyhow::{Context, anyhow};
use serde_json::{Map, Value, json};

use super::Global;
use super::client::Client;
use super::output::{print_fields, print_json, print_list, say, text};
use crate::event::Vendor;
use crate::subscriber::SignatureTime;

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    Add(Add),
    List(List),
    Show(Show),
    Remove(Remove),
    Preflight(Preflight),
    RotateSecret(RotateSecret),
    Enable(Enable),
    Disable(Disable),
}

/// Register a URL that wants events.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  scanhook subscribers add http://127.0.0.1:9000/hook --vendor hostedscan\n  scanhook subscribers add http://127.0.0.1:9000 --vendor standard --event-type 'invoice.*' --retry 5s --retry 5m"
)]
pub(super) struct Add {
    /// Where the webhooks go.
    #[arg(value_name = "URL")]
    receiver_url: String,
    /// Whose webhooks these are: standard, hostedscan, halo or probely.
    #[arg(long)]
    vendor: Vendor,
    /// An event type, or a beginning and `*`; may be repeated [default: all].
    #[arg(long = "event-type", value_name = "PATTERN")]
    event_types: Vec<String>,
    /// What signs the webhooks [default: one is made].
    #[arg(long)]
    secret: Option<String>,
    /// A wait between attempts; repeat it for a schedule [default: the vendor's own].
    #[arg(long = "retry", value_name = "WAIT")]
    retries: Vec<String>,
    /// How long one request may take [default: dispatch.timeout].
    #[arg(long)]
    timeout: Option<String>,
    /// A header added to every request; may be repeated.
    #[arg(long = "header", value_name = "NAME: VALUE")]
    headers: Vec<String>,
    /// Whose time signatures carry, where the account has a clock of its own [default: account].
    #[arg(long, value_name = "account|real")]
    signature_time: Option<SignatureTime>,
    /// A switch of the vendor's, such as vocabulary=current or target_id=…; may be repeated.
    #[arg(long = "option", value_name = "NAME=VALUE")]
    options: Vec<String>,
}

/// List the subscribers, oldest first.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  scanhook subscribers list --json")]
pub(super) struct List {
    /// From the page before.
    #[arg(long)]
    cursor: Option<String>,
    /// How many, up to 250.
    #[arg(long)]
    limit: Option<u32>,
}

/// Show a subscriber.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  scanhook subscribers show 1C6sYRbTAvYTB1LMvsHH9S")]
pub(super) struct Show {
    id: String,
}

/// Look whether a subscriber's receiver can be reached: DNS, TCP, TLS, HTTP. It gets no webhook.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  scanhook subscribers preflight 1C6sYRbTAvYTB1LMvsHH9S")]
pub(super) struct Preflight {
    id: String,
}

/// Let a subscriber get webhooks again.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  scanhook subscribers enable 1C6sYRbTAvYTB1LMvsHH9S")]
pub(super) struct Enable {
    id: String,
}

/// Give a subscriber a new secret; the old one signs beside it for a while, where the vendor can.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  scanhook subscribers rotate-secret 1C6sYRbTAvYTB1LMvsHH9S --keep-old-for 1h")]
pub(super) struct RotateSecret {
    id: String,
    /// In the vendor's shape [default: one is made].
    #[arg(long)]
    secret: Option<String>,
    /// How long the old secret signs as well [default: 24h where the vendor's header takes several].
    #[arg(long, value_name = "DURATION")]
    keep_old_for: Option<String>,
}

/// Let a subscriber get nothing. What it is owed waits.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  scanhook subscribers disable 1C6sYRbTAvYTB1LMvsHH9S")]
pub(super) struct Disable {
    id: String,
}

/// Delete a subscriber. What is still owed to it fails.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  scanhook subscribers remove 1C6sYRbTAvYTB1LMvsHH9S")]
pub(super) struct Remove {
    id: String,
}

const FIELDS: [&str; 11] = [
    "id",
    "vendor",
    "url",
    "event_types",
    "retry_schedule",
    "timeout",
    "headers",
    "options",
    "enabled",
    "signature_time",
    "disabled_reason",
];

fn new_subscriber(args: Add) -> anyhow::Result<Value> {
    let mut body = Map::new();
    body.insert("url".to_owned(), args.receiver_url.into());
    body.insert("vendor".to_owned(), args.vendor.as_str().into());
    if let Some(whose) = args.signature_time {
        body.insert("signature_time".to_owned(), whose.as_str().into());
    }
    if !args.event_types.is_empty() {
        body.insert("event_types".to_owned(), args.event_types.into());
    }
    if !args.retries.is_empty() {
        body.insert("retry_schedule".to_owned(), args.retries.into());
    }
    for (name, value) in [("secret", args.secret), ("timeout", args.timeout)] {
        if let Some(value) = value {
            body.insert(name.to_owned(), value.into());
        }
    }
    let mut headers = Map::new();
    for header in args.headers {
        let (name, value) =
            header.split_once(':').ok_or_else(|| anyhow!("`{header}` is not a header; write it as 'Name: value'"))?;
        headers.insert(name.trim().to_owned(), value.trim().into());
    }
    let mut options = Map::new();
    for option in args.options {
        let (name, value) = option.split_once('=').ok_or_else(|| anyhow!("`{option}` is not NAME=VALUE"))?;
        let value = serde_json::from_str::<bool>(value).map_or_else(|_| Value::from(value), Value::from);
        options.insert(name.to_owned(), value);
    }
    if !options.is_empty() {
        body.insert("options".to_owned(), options.into());
    }
    if !headers.is_empty() {
        body.insert("headers".to_owned(), headers.into());
    }
    Ok(body.into())
}

pub(super) async fn run(global: &Global, command: Command) -> anyhow::Result<()> {
    let client = Client::new(global)?;
    match command {
        Command::Add(args) => {
            let body = new_subscriber(args)?.to_string();
            let created =
                client.post("/api/v1/subscribers", body, &[]).await.context("the subscriber was not added")?;
            if global.json {
                print_json(&created);
            } else {
                print_fields(&created, &FIELDS[..4]);
                print_secret(&created);
            }
        }
        Command::RotateSecret(RotateSecret { id, secret, keep_old_for }) => {
            let body = json!({"secret": secret, "keep_old_for": keep_old_for}).to_string();
            let rotated = client.post(&format!("/api/v1/subscribers/{id}/rotate-secret"), body, &[]).await?;
            if global.json {
                print_json(&rotated);
            } else {
                print_fields(&rotated, &["id", "previous_secret_until"]);
                print_secret(&rotated);
            }
        }
        Command::List(args) => {
            let query = [("cursor", args.cursor), ("limit", args.limit.map(|limit| limit.to_string()))];
            let list = client.get("/api/v1/subscribers", &query).await?;
            if global.json {
                print_json(&list);
            } else {
                let columns = [
                    ("ID", "id"),
                    ("VENDOR", "vendor"),
                    ("URL", "url"),
                    ("EVENT TYPES", "event_types"),
                    ("ENABLED", "enabled"),
                ];
                print_list(&list, &columns);
            }
        }
        Command::Show(Show { id }) => {
            let subscriber = client.get(&format!("/api/v1/subscribers/{id}"), &[]).await?;
            if global.json { print_json(&subscriber) } else { print_fields(&subscriber, &FIELDS) }
        }
        Command::Preflight(Preflight { id }) => {
            let walked = client.post(&format!("/api/v1/subscribers/{id}/preflight"), String::new(), &[]).await?;
            if global.json {
                print_json(&walked)
            } else {
                print_preflight(&walked)
            }
            anyhow::ensure!(walked["ok"] == true, "the receiver cannot be reached");
        }
        Command::Enable(Enable { id }) => set_enabled(global, &client, &id, true).await?,
        Command::Disable(Disable { id }) => set_enabled(global, &client, &id, false).await?,
        Command::Remove(Remove { id }) => {
            client.delete(&format!("/api/v1/subscribers/{id}")).await?;
            if global.json { print_json(&json!({"removed": id})) } else { say!("removed {id}") }
        }
    }
    Ok(())
}

async fn set_enabled(global: &Global, client: &Client, id: &str, enabled: bool) -> anyhow::Result<()> {
    let changed = client.patch(&format!("/api/v1/subscribers/{id}"), json!({"enabled": enabled}).to_string()).await?;
    let word = if enabled { "enabled" } else { "disabled" };
    if global.json {
        print_json(&changed)
    } else {
        say!("{word} {id}")
    }
    Ok(())
}

fn print_secret(subscriber: &Value) {
    if subscriber["secret"].is_string() {
        say!("{:>16}  {} (shown this once)", "secret", text(&subscriber["secret"]));
    }
}

fn print_preflight(walked: &Value) {
    for step in walked["steps"].as_array().into_iter().flatten() {
        let mark = if step["ok"] == true { "ok" } else { "failed" };
        say!("{:>4}  {mark}: {}", text(&step["step"]), text(&step["found"]));
        if let Some(advice) = step["advice"].as_str() {
            say!("      {advice}");
        }
    }
}
