//! `scanhook serve`: the daemon.

use serde_json::json;
use tokio_util::task::TaskTracker;
use tracing::info;

use super::output::say;
use super::{Global, stop_on_signals};
use crate::app::App;
use crate::clock::Clock;
use crate::config::hide_password;
use crate::telemetry;

/// Run the daemon: the API, and the dispatcher that sends webhooks.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  scanhook serve\n  scanhook serve --ephemeral --listen 127.0.0.1:0\n  scanhook serve --database-url postgres://me@127.0.0.1/scanhook --config scanhook.toml"
)]
pub(super) struct Args {
    /// Where to listen; port 0 takes a free one [default: 127.0.0.1:7226].
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<String>,
    /// sqlite:FILE or postgres://… [default: sqlite:scanhook.db].
    #[arg(long, value_name = "URL")]
    database_url: Option<String>,
    /// Connect to another host in place of one, such as localhost=host.docker.internal; may be repeated.
    #[arg(long, value_name = "FROM=TO")]
    map_host: Vec<String>,
    /// Keep everything in memory; nothing is left behind.
    #[arg(long, conflicts_with = "database_url")]
    ephemeral: bool,
}

pub(super) async fn run(global: &Global, args: Args) -> anyhow::Result<()> {
    let mut flags = Vec::new();
    flags.extend(args.listen.map(|listen| ("server.listen", listen, "--listen")));
    flags.extend(args.database_url.map(|url| ("database.url", url, "--database-url")));
    if !args.map_host.is_empty() {
        let pairs = serde_json::to_string(&args.map_host)?;
        flags.push(("dispatch.map_hosts", pairs, "--map-host"));
    }
    if args.ephemeral {
        flags.push(("database.url", "sqlite::memory:".to_owned(), "--ephemeral"));
    }
    let (config, _) = global.load(flags)?;
    telemetry::start(&config.log);
    let database = hide_password(&config.database.url);
    let app = App::open(config, Clock::Real).await?;
    let listeners = app.bind().await?;
    let stop = stop_on_signals(&TaskTracker::new())?;
    let url = listeners.url()?;
    let vendors = listeners.vendor_urls()?;
    if global.json {
        let vendors: serde_json::Map<String, serde_json::Value> =
            vendors.iter().map(|(vendor, url)| (vendor.to_string(), url.as_str().into())).collect();
        say!("{}", json!({"url": url, "vendors": vendors, "database": database, "pid": std::process::id()}));
    } else {
        say!("scanhook {} listens on {url} (try {url}/api/docs)", env!("CARGO_PKG_VERSION"));
        for (vendor, url) in &vendors {
            say!("the API of {vendor} by itself: {url}");
        }
    }
    info!(%url, %database, "listening on {url}, database {database}");
    app.run(listeners, stop).await?;
    info!("stopped");
    Ok(())
}
