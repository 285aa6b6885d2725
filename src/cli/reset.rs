//! `scanhook reset`: the account as it was when it was made.

use serde_json::{Value, json};

use super::Global;
use super::client::Client;
use super::output::{print_json, say, text};

/// Make the account as it was when it was made. Its API key, its clock and its snapshots stay.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  scanhook reset\n  scanhook reset --keep subscribers --api-key my-key-for-ci")]
pub(super) struct Args {
    /// What stays; may be repeated: subscribers.
    #[arg(long, value_name = "WHAT", value_parser = ["subscribers"])]
    keep: Vec<String>,
}

pub(super) async fn run(global: &Global, args: Args) -> anyhow::Result<()> {
    let client = Client::new(global)?;
    let account = client.post("/api/v1/reset", json!({"keep": args.keep}).to_string(), &[]).await?;
    if global.json {
        print_json(&account);
    } else {
        say!("reset {} ({})", text(&account["name"]), counts(&account));
    }
    Ok(())
}

/// How much an account holds, or a snapshot of it, in words.
pub(super) fn counts(holder: &Value) -> String {
    let count = |what: &str| format!("{what}: {}", holder["counts"][what]);
    ["subscribers", "events", "deliveries"].map(count).join(", ")
}
