//! `scanhook snapshots`: what the account held at one time, to go back to.

use serde_json::{Map, json};

use super::Global;
use super::client::Client;
use super::output::{print_json, print_list, say, text};
use super::reset::counts;

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    Create(Create),
    List(List),
    Restore(Restore),
    Delete(Delete),
}

/// Take a snapshot: subscribers, events, deliveries with their attempts, targets, scans, schedules.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  scanhook snapshots create 'three targets'")]
pub(super) struct Create {
    /// A label for people.
    name: Option<String>,
}

/// List the snapshots, oldest first.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  scanhook snapshots list --json")]
pub(super) struct List {
    /// From the page before.
    #[arg(long)]
    cursor: Option<String>,
    /// How many, up to 250.
    #[arg(long)]
    limit: Option<u32>,
}

/// Put the account back as it was. What was due then is due now.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  scanhook snapshots restore 1C6sYRbTAvYTB1LMvsHH9S")]
pub(super) struct Restore {
    id: String,
}

/// Delete a snapshot. The account stays as it is.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  scanhook snapshots delete 1C6sYRbTAvYTB1LMvsHH9S")]
pub(super) struct Delete {
    id: String,
}

pub(super) async fn run(global: &Global, command: Command) -> anyhow::Result<()> {
    let client = Client::new(global)?;
    match command {
        Command::Create(Create { name }) => {
            let mut body = Map::new();
            body.extend(name.map(|name| ("name".to_owned(), name.into())));
            let snapshot = client.post("/api/v1/snapshots", json!(body).to_string(), &[]).await?;
            if global.json {
                print_json(&snapshot);
            } else {
                say!("{} ({})", text(&snapshot["id"]), counts(&snapshot));
            }
        }
        Command::List(List { cursor, limit }) => {
            let query = [("cursor", cursor), ("limit", limit.map(|limit| limit.to_string()))];
            let list = client.get("/api/v1/snapshots", &query).await?;
            let columns = [("ID", "id"), ("NAME", "name"), ("CREATED", "created_at")];
            if global.json { print_json(&list) } else { print_list(&list, &columns) }
        }
        Command::Restore(Restore { id }) => {
            let account = client.post(&format!("/api/v1/snapshots/{id}/restore"), String::new(), &[]).await?;
            if global.json { print_json(&account) } else { say!("restored {id} ({})", counts(&account)) }
        }
        Command::Delete(Delete { id }) => {
            client.delete(&format!("/api/v1/snapshots/{id}")).await?;
            if global.json { print_json(&json!({"deleted": id})) } else { say!("deleted {id}") }
        }
    }
    Ok(())
}
