//! `scanhook targets`: what there is to scan.

use anyhow::anyhow;
use serde_json::{Map, Value, json};

use super::Global;
use super::client::Client;
use super::output::{print_fields, print_json, print_list, say, text};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    Add(Add),
    List(List),
    Weaknesses(Weaknesses),
    Fix(Fix),
    Remove(Remove),
}

/// Add a target. Its weaknesses are drawn, unless they are given.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  scanhook targets add shop.example.test --tag prod\n  scanhook targets add 192.0.2.0/28 --weakness nmap-open-tcp-port-22\n  scanhook targets add example.test --kind domain"
)]
pub(super) struct Add {
    /// A host name or an IP address, a URL, a network, or a domain.
    address: String,
    /// host, url, network or domain [default: told from the address].
    #[arg(long)]
    kind: Option<String>,
    #[arg(long)]
    label: Option<String>,
    /// May be repeated.
    #[arg(long = "tag")]
    tags: Vec<String>,
    /// A weakness on it; may be repeated [default: some are drawn].
    #[arg(long = "weakness")]
    weaknesses: Vec<String>,
    /// How many weaknesses are on it.
    #[arg(long, conflicts_with = "weaknesses", value_name = "COUNT")]
    weakness_count: Option<u32>,
    /// Scans of it fail.
    #[arg(long)]
    unreachable: bool,
}

/// List the targets, newest first.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  scanhook targets list --json")]
pub(super) struct List {
    /// From the page before.
    #[arg(long)]
    cursor: Option<String>,
    /// How many, up to 250.
    #[arg(long)]
    limit: Option<u32>,
}

/// List the weaknesses of a target.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  scanhook targets weaknesses shop.example.test")]
pub(super) struct Weaknesses {
    /// Its address or its id.
    target: String,
    /// From the page before.
    #[arg(long)]
    cursor: Option<String>,
    /// How many, up to 250.
    #[arg(long)]
    limit: Option<u32>,
}

/// Fix weaknesses. The next completed scan that looks for them closes them.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  scanhook targets fix shop.example.test --weakness owasp-zap-missing-hsts")]
pub(super) struct Fix {
    /// Its address or its id.
    target: String,
    /// May be repeated [default: all of them].
    #[arg(long = "weakness")]
    weaknesses: Vec<String>,
}

/// Remove a target. Scans of it that are running are cancelled.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  scanhook targets remove shop.example.test")]
pub(super) struct Remove {
    /// Its address or its id.
    target: String,
}

const FIELDS: [&str; 7] = ["id", "kind", "address", "label", "tags", "unreachable", "open"];

/// The id of a target that is named by its address or its id.
async fn id_of(client: &Client, target: &str) -> anyhow::Result<String> {
    let mut cursor = None;
    loop {
        let query = [("limit", Some("250".to_owned())), ("cursor", cursor)];
        let list = client.get("/api/v1/targets", &query).await?;
        let mut all = list["data"].as_array().into_iter().flatten();
        if let Some(found) = all.find(|one| one["address"] == target || one["id"] == target) {
            return Ok(text(&found["id"]));
        }
        cursor = list["next_cursor"].as_str().map(str::to_owned);
        if cursor.is_none() {
            return Err(anyhow!("there is no target `{target}`; `scanhook targets list` shows all"));
        }
    }
}

fn new_target(args: Add) -> Value {
    let mut body = Map::new();
    body.insert("address".to_owned(), args.address.into());
    for (name, value) in [("kind", args.kind), ("label", args.label)] {
        if let Some(value) = value {
            body.insert(name.to_owned(), value.into());
        }
    }
    for (name, list) in [("tags", args.tags), ("weaknesses", args.weaknesses)] {
        if !list.is_empty() {
            body.insert(name.to_owned(), list.into());
        }
    }
    if let Some(count) = args.weakness_count {
        body.insert("weaknesses".to_owned(), count.into());
    }
    if args.unreachable {
        body.insert("unreachable".to_owned(), true.into());
    }
    body.into()
}

pub(super) async fn run(global: &Global, command: Command) -> anyhow::Result<()> {
    let client = Client::new(global)?;
    match command {
        Command::Add(args) => {
            let target = client.post("/api/v1/targets", new_target(args).to_string(), &[]).await?;
            if global.json { print_json(&target) } else { print_fields(&target, &FIELDS) }
        }
        Command::List(args) => {
            let query = [("cursor", args.cursor), ("limit", args.limit.map(|limit| limit.to_string()))];
            let list = client.get("/api/v1/targets", &query).await?;
            let columns = [("ID", "id"), ("KIND", "kind"), ("ADDRESS", "address"), ("TAGS", "tags"), ("OPEN", "open")];
            if global.json { print_json(&list) } else { print_list(&list, &columns) }
        }
        Command::Weaknesses(args) => {
            let id = id_of(&client, &args.target).await?;
            let query = [("cursor", args.cursor), ("limit", args.limit.map(|limit| limit.to_string()))];
            let list = client.get(&format!("/api/v1/targets/{id}/weaknesses"), &query).await?;
            let columns = [
                ("WEAKNESS", "weakness"),
                ("LEVEL", "threat_level"),
                ("STATE", "state"),
                ("PRESENT", "present"),
                ("TITLE", "title"),
            ];
            if global.json { print_json(&list) } else { print_list(&list, &columns) }
        }
        Command::Fix(Fix { target, weaknesses }) => {
            let id = id_of(&client, &target).await?;
            let body = if weaknesses.is_empty() { json!({}) } else { json!({"weaknesses": weaknesses}) };
            let target = client.post(&format!("/api/v1/targets/{id}/fix"), body.to_string(), &[]).await?;
            if global.json { print_json(&target) } else { say!("fixed; the next scan that looks for them closes them") }
        }
        Command::Remove(Remove { target }) => {
            let id = id_of(&client, &target).await?;
            client.delete(&format!("/api/v1/targets/{id}")).await?;
            if global.json { print_json(&json!({"removed": id})) } else { say!("removed {target}") }
        }
    }
    Ok(())
}
