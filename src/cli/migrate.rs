//! `scanhook migrate`: bring the database up to date, without serving.

use serde_json::json;

use super::Global;
use super::output::say;
use crate::config::hide_password;
use crate::store::Store;

/// Make the database or bring it up to date, then exit. (`serve` does so by itself.)
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  scanhook migrate --database-url postgres://me@127.0.0.1/scanhook")]
pub(super) struct Args {
    /// sqlite:FILE or postgres://… [default: sqlite:scanhook.db].
    #[arg(long, value_name = "URL")]
    database_url: Option<String>,
}

pub(super) async fn run(global: &Global, args: Args) -> anyhow::Result<()> {
    let flags = args.database_url.map(|url| ("database.url", url, "--database-url"));
    let (config, _) = global.load(flags.into_iter().collect())?;
    Store::open(&config.database).await?.close().await;
    let database = hide_password(&config.database.url);
    if global.json {
        say!("{}", json!({"database": database, "migrated": true}));
    } else {
        say!("{database} is up to date");
    }
    Ok(())
}
