//! `scanhook serve`: the daemon.

use std::path::PathBuf;

use serde_json::{Map, Value, json};
use tokio_util::task::TaskTracker;
use tracing::info;

use super::output::say;
use super::ready_file::ReadyFile;
use super::{Global, stop_on_signals};
use crate::app::{App, Listeners};
use crate::clock::Clock;
use crate::config::{AuthMode, Config, hide_password};
use crate::role::Role;
use crate::{init, telemetry};

/// Run the daemon: the API, the dispatcher that sends webhooks, and the scanner.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  scanhook serve\n  scanhook serve --ephemeral --listen 127.0.0.1:0 --ready-file ready.json --init init.yaml\n  scanhook serve --database-url postgres://me@127.0.0.1/scanhook --config scanhook.toml\n  scanhook serve --role dispatch --listen 127.0.0.1:7227 --database-url postgres://me@127.0.0.1/scanhook"
)]
pub(super) struct Args {
    /// Where to listen; port 0 takes a free one [default: 127.0.0.1:7226].
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<String>,
    /// sqlite:FILE or postgres://… [default: sqlite:scanhook.db].
    #[arg(long, value_name = "URL")]
    database_url: Option<String>,
    /// Play only these parts, while other processes on the same database play the rest: api, dispatch,
    /// scan; may be repeated [default: all].
    #[arg(long, value_name = "ROLE,…")]
    role: Vec<String>,
    /// Connect to another host in place of one, such as localhost=host.docker.internal; may be repeated.
    #[arg(long, value_name = "FROM=TO")]
    map_host: Vec<String>,
    /// Keep everything in memory; nothing is left behind.
    #[arg(long, conflicts_with = "database_url")]
    ephemeral: bool,
    /// The same number gives the same chance on every run [default: random].
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Give the default account a clock of its own that stands at this time until it is moved.
    #[arg(long, value_name = "TIME")]
    manual_clock: Option<String>,
    /// A YAML file, or a folder of them, of what is there from the start; may be repeated.
    #[arg(long, value_name = "FILE_OR_FOLDER")]
    init: Vec<PathBuf>,
    /// Write JSON here once all is ready: url, vendors, api_key, pid, database, roles. Removed at the end.
    #[arg(long, value_name = "FILE")]
    ready_file: Option<PathBuf>,
}

impl Args {
    /// The settings that the flags set.
    fn settings(&self) -> Vec<(&'static str, String, &'static str)> {
        let mut flags = Vec::new();
        flags.extend(self.listen.clone().map(|listen| ("server.listen", listen, "--listen")));
        flags.extend(self.database_url.clone().map(|url| ("database.url", url, "--database-url")));
        if !self.role.is_empty() {
            flags.push(("server.roles", self.role.join(","), "--role"));
        }
        if !self.map_host.is_empty() {
            let pairs = serde_json::Value::from(self.map_host.clone()).to_string();
            flags.push(("dispatch.map_hosts", pairs, "--map-host"));
        }
        if self.ephemeral {
            flags.push(("database.url", "sqlite::memory:".to_owned(), "--ephemeral"));
        }
        flags.extend(self.manual_clock.clone().map(|from| ("clock.manual_from", from, "--manual-clock")));
        flags.extend(self.seed.map(|seed| ("chance.seed", seed.to_string(), "--seed")));
        flags
    }
}

/// What a program must know to use this daemon.
fn about(config: &Config, listeners: &Listeners) -> anyhow::Result<Value> {
    let vendors = listeners.vendor_urls()?;
    let vendors: Map<String, Value> =
        vendors.into_iter().map(|(vendor, url)| (vendor.to_string(), url.into())).collect();
    let api_key = match config.auth.mode {
        AuthMode::Keys => config.auth.default_key.as_str(),
        AuthMode::Open | AuthMode::OpenToAnyone => "",
    };
    Ok(json!({
        "url": listeners.url()?,
        "vendors": vendors,
        "api_key": api_key,
        "pid": std::process::id(),
        "database": hide_password(&config.database.url),
        "roles": config.server.roles,
    }))
}

pub(super) async fn run(global: &Global, args: Args) -> anyhow::Result<()> {
    let (config, _) = global.load(args.settings())?;
    telemetry::start(&config.log);
    if let Some(path) = &args.ready_file {
        ReadyFile::clear(path)?;
    }
    // Before the database is touched: what is wrong with a file is told without any trace.
    let files = init::read(&args.init, Clock::Real.now())?;
    let app = App::open(config.clone(), Clock::Real).await?;
    let listeners = app.bind().await?;
    let stop = stop_on_signals(&TaskTracker::new())?;
    let (url, vendors) = (listeners.url()?, listeners.vendor_urls()?);
    let about = about(&config, &listeners)?;
    let running = app.start(listeners, &files, stop.clone()).await?;
    let ready_file = args.ready_file.map(|path| ReadyFile::write(&path, &about)).transpose()?;
    if global.json {
        say!("{about}");
    } else {
        let roles = &config.server.roles;
        let what = if roles.has(Role::Api) { format!(" (try {url}/api/docs)") } else { String::new() };
        let only = if roles.missing().is_empty() { String::new() } else { format!(", with the roles {roles} only") };
        say!("scanhook {} listens on {url}{what}{only}", env!("CARGO_PKG_VERSION"));
        for (vendor, url) in &vendors {
            say!("the API of {vendor} by itself: {url}");
        }
    }
    let database = hide_password(&config.database.url);
    let roles = &config.server.roles;
    info!(%url, %database, %roles, "listening on {url}, database {database}, roles {roles}");
    let ended = running.ended();
    tokio::pin!(ended);
    let served = tokio::select! {
        served = &mut ended => Some(served),
        // Whoever still finds the file must be able to use the daemon.
        () = stop.cancelled() => None,
    };
    drop(ready_file);
    match served {
        Some(served) => served?,
        None => ended.await?,
    }
    info!("stopped");
    Ok(())
}
