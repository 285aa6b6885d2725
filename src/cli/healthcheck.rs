//! `scanhook healthcheck`: for whoever watches a container.

use std::time::Duration;

use anyhow::anyhow;

use super::Global;
use super::client::Client;
use super::output::{print_json, say};

/// How long the daemon may take to answer.
const LIMIT: Duration = Duration::from_secs(5);

/// Ask a daemon whether it is ready. Exits with 0 if it is; else with 1, and says why.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  scanhook healthcheck --url http://127.0.0.1:7226")]
pub(super) struct Args {}

pub(super) async fn run(global: &Global, _args: Args) -> anyhow::Result<()> {
    let client = Client::new(global)?;
    let asked = tokio::time::timeout(LIMIT, client.get("/readyz", &[])).await;
    let silent = |_| anyhow!("the daemon does not answer within {}", humantime::format_duration(LIMIT));
    let answer = asked.map_err(silent)??;
    if global.json {
        print_json(&answer);
    } else {
        say!("ready");
    }
    Ok(())
}
