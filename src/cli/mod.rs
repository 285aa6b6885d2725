//! The command line. One file a command.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tokio_util::sync::CancellationToken;

mod accounts;
mod bench;
mod client;
mod clock;
mod config;
mod deliveries;
mod demo;
mod event_types;
mod events;
mod healthcheck;
mod migrate;
mod output;
mod publish;
mod ready_file;
mod receive;
mod reset;
mod scan;
mod scenario;
mod schedules;
mod serve;
mod signatures;
mod snapshots;
mod story;
mod subscribers;
mod targets;
mod trigger;
mod wait;
mod why;

use crate::config::{Config, Origin, Sources, environment};

/// Plays a security-scanning vendor: stores events, owes each to every subscriber, and sends
/// signed webhooks exactly as the vendor does.
#[derive(Debug, Parser)]
#[command(
    name = "scanhook",
    version,
    after_help = "Example:\n  scanhook demo\n  scanhook serve --ephemeral\n  scanhook help publish"
)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// What every command takes.
#[derive(Debug, Clone, clap::Args)]
struct Global {
    /// A settings file; `scanhook config` shows every setting.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The daemon to talk to [default: http://127.0.0.1:7226].
    #[arg(long, global = true, value_name = "URL")]
    url: Option<String>,
    /// The account's API key.
    #[arg(long, global = true, value_name = "KEY")]
    api_key: Option<String>,
    /// Print JSON.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::Args),
    Demo(demo::Args),
    Publish(publish::Args),
    Trigger(trigger::Args),
    EventTypes(event_types::Args),
    /// Register URLs that want events, and manage them.
    #[command(subcommand)]
    Subscribers(subscribers::Command),
    /// Read events back.
    #[command(subcommand)]
    Events(events::Command),
    /// See where deliveries stand, and send them again.
    #[command(subcommand)]
    Deliveries(deliveries::Command),
    Why(why::Args),
    /// What time it is in the account: the machine's time, or one that is moved by hand.
    #[command(subcommand)]
    Clock(clock::Command),
    Wait(wait::Wait),
    Settle(wait::Settle),
    /// Explain when retries are made (for scans by the clock, see schedules).
    #[command(subcommand)]
    Schedule(why::Command),
    /// Start scans, watch them, cancel them.
    #[command(subcommand)]
    Scan(scan::Command),
    /// Manage what there is to scan.
    #[command(subcommand)]
    Targets(targets::Command),
    /// Start scans by the clock.
    #[command(subcommand)]
    Schedules(schedules::Command),
    /// Tell stories as timed steps.
    #[command(subcommand)]
    Scenario(scenario::Command),
    /// Make, list and delete accounts, which do not see one another.
    #[command(subcommand)]
    Accounts(accounts::Command),
    Reset(reset::Args),
    /// Keep what the account holds, to go back to it.
    #[command(subcommand)]
    Snapshots(snapshots::Command),
    Receive(receive::Args),
    Sign(signatures::Sign),
    Verify(signatures::Verify),
    Migrate(migrate::Args),
    Healthcheck(healthcheck::Args),
    Config(config::Args),
    Bench(bench::Args),
}

impl Global {
    /// The settings in force, under these flags.
    fn load(&self, flags: Vec<(&'static str, String, &'static str)>) -> anyhow::Result<(Config, Vec<Origin>)> {
        let mut all = Vec::new();
        all.extend(self.url.clone().map(|url| ("client.url", url, "--url")));
        all.extend(self.api_key.clone().map(|key| ("client.api_key", key, "--api-key")));
        all.extend(flags);
        let sources = Sources { file: self.config.clone(), environment: environment(), flags: all };
        Ok(Config::load(&sources)?)
    }
}

/// Reads the command line and runs the command. Exits with 0, with 1 if the command failed, or
/// with 2 if the command line is wrong.
pub async fn main() -> ExitCode {
    let Cli { global, command } = Cli::parse();
    let ended = match command {
        Command::Serve(args) => serve::run(&global, args).await,
        Command::Demo(args) => demo::run(&global, args).await,
        Command::Publish(args) => publish::run(&global, args).await,
        Command::Subscribers(command) => subscribers::run(&global, command).await,
        Command::Events(command) => events::run(&global, command).await,
        Command::Deliveries(command) => deliveries::run(&global, command).await,
        Command::Why(args) => why::run(&global, args).await,
        Command::Clock(command) => clock::run(&global, command).await,
        Command::Wait(args) => wait::wait(&global, args).await,
        Command::Settle(args) => wait::settle(&global, args).await,
        Command::Schedule(command) => why::explain(&global, command).await,
        Command::Trigger(args) => trigger::run(&global, args).await,
        Command::EventTypes(args) => event_types::run(&global, args),
        Command::Sign(args) => signatures::sign(&global, &args),
        Command::Verify(args) => signatures::verify(&global, args),
        Command::Scan(command) => scan::run(&global, command).await,
        Command::Targets(command) => targets::run(&global, command).await,
        Command::Schedules(command) => schedules::run(&global, command).await,
        Command::Scenario(command) => scenario::run(&global, command).await,
        Command::Accounts(command) => accounts::run(&global, command).await,
        Command::Reset(args) => reset::run(&global, args).await,
        Command::Snapshots(command) => snapshots::run(&global, command).await,
        Command::Receive(args) => receive::run(&global, args).await,
        Command::Migrate(args) => migrate::run(&global, args).await,
        Command::Healthcheck(args) => healthcheck::run(&global, args).await,
        Command::Config(args) => config::run(&global, args),
        Command::Bench(args) => bench::run(&global, args).await,
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Cancelled by SIGTERM or Ctrl-C. A second signal ends the program at once.
fn stop_on_signals(tracker: &tokio_util::task::TaskTracker) -> anyhow::Result<CancellationToken> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let stop = CancellationToken::new();
    let token = stop.clone();
    tracker.spawn(async move {
        for _ in 0..2 {
            tokio::select! { _ = terminate.recv() => (), _ = interrupt.recv() => () }
            if token.is_cancelled() {
                std::process::exit(130);
            }
            token.cancel();
        }
    });
    Ok(stop)
}
