//! `scanhook accounts`: isolated tenants.

use anyhow::Context;
use serde_json::{Map, json};

use super::Global;
use super::client::Client;
use super::output::{print_fields, print_json, print_list, say, text};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    Create(Create),
    List(List),
    Delete(Delete),
}

/// Make an account with an API key of its own.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  scanhook accounts create 'checkout tests'\n  scanhook accounts create ci --key my-key-for-ci"
)]
pub(super) struct Create {
    /// A label for people.
    name: String,
    /// Its API key, 8 to 200 visible ASCII characters [default: one is made].
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
}

/// List all accounts, oldest first.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  scanhook accounts list --json")]
pub(super) struct List {
    /// From the page before.
    #[arg(long)]
    cursor: Option<String>,
    /// How many, up to 250.
    #[arg(long)]
    limit: Option<u32>,
}

/// Delete an account and all it holds. Its API key opens nothing any more.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  scanhook accounts delete 1C6sYRbTAvYTB1LMvsHH9S")]
pub(super) struct Delete {
    id: String,
}

pub(super) async fn run(global: &Global, command: Command) -> anyhow::Result<()> {
    let client = Client::new(global)?;
    match command {
        Command::Create(Create { name, key }) => {
            let mut body = Map::from_iter([("name".to_owned(), name.into())]);
            body.extend(key.map(|key| ("api_key".to_owned(), key.into())));
            let body = json!(body).to_string();
            let created = client.post("/api/v1/accounts", body, &[]).await.context("the account was not made")?;
            if global.json {
                print_json(&created);
            } else {
                print_fields(&created, &["id", "name"]);
                say!("{:>16}  {} (shown this once)", "api_key", text(&created["api_key"]));
            }
        }
        Command::List(List { cursor, limit }) => {
            let query = [("cursor", cursor), ("limit", limit.map(|limit| limit.to_string()))];
            let list = client.get("/api/v1/accounts", &query).await?;
            let columns = [("ID", "id"), ("NAME", "name"), ("CREATED", "created_at")];
            if global.json { print_json(&list) } else { print_list(&list, &columns) }
        }
        Command::Delete(Delete { id }) => {
            client.delete(&format!("/api/v1/accounts/{id}")).await?;
            if global.json { print_json(&json!({"deleted": id})) } else { say!("deleted {id}") }
        }
    }
    Ok(())
}
