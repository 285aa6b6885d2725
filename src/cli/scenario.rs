//! `scanhook scenario`: stories told as timed steps.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Map, Value, json};

use super::Global;
use super::client::{Answer, Client};
use super::output::{print_fields, print_json, say, table, text};
use super::story::{self, Told};
use crate::scanner::scenario::{Fault, read, shipped};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    Run(Run),
    Lint(Lint),
    List(List),
}

/// Run a scenario.
///
/// On a daemon, by its clock; or, with --seed or --ledger, here and now: on a clock of its own
/// that goes straight to whatever is due next, with a database in memory and a receiver that
/// accepts everything, so that the same seed gives the same story to the last byte.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  scanhook scenario run first-scan\n  scanhook scenario run story.yaml --speed 3600\n  scanhook scenario run rescan-closes-risks --seed 42 --ledger out.ndjson"
)]
pub(super) struct Run {
    /// A file, or the name of a scenario that comes with scanhook.
    scenario: String,
    /// How much faster than the story the clock goes [default: the scenario's, or scanner.time_scale;
    /// told here and now: 1].
    #[arg(long)]
    speed: Option<f64>,
    /// Tell it here and now, by this seed.
    #[arg(long)]
    seed: Option<u64>,
    /// Tell it here and now, and write a line for each event and attempt, with a running hash.
    #[arg(long, value_name = "FILE")]
    ledger: Option<PathBuf>,
    /// Told here and now: the statuses that the receiver answers with, in order; the last repeats.
    #[arg(long, value_delimiter = ',', default_value = "200")]
    answers: Vec<u16>,
    /// Told here and now: an empty database [default: in memory].
    #[arg(long, value_name = "URL")]
    database_url: Option<String>,
    /// Do not wait for its end.
    #[arg(long, conflicts_with_all = ["seed", "ledger"])]
    detach: bool,
}

/// Check scenarios without running them.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  scanhook scenario lint stories/*.yaml")]
pub(super) struct Lint {
    /// Files.
    #[arg(required = true)]
    files: Vec<PathBuf>,
}

/// List the scenarios that come with scanhook.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  scanhook scenario list")]
pub(super) struct List {
    /// Print the YAML of one of them.
    #[arg(long, value_name = "NAME")]
    show: Option<String>,
}

/// How often a run is looked at.
const LOOKS_EVERY: Duration = Duration::from_millis(100);

fn read_file(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// The YAML of a scenario that is named by a file or by its name.
fn source_of(scenario: &str) -> anyhow::Result<String> {
    let path = Path::new(scenario);
    match shipped::find(scenario) {
        Some(shipped) if !path.exists() => Ok(shipped.source.to_owned()),
        _ if path.exists() || scenario.contains(['/', '.']) => read_file(path),
        _ => Err(anyhow!("there is no file and no scenario called `{scenario}`; see `scanhook scenario list`")),
    }
}

fn check(name: &str, source: &str) -> anyhow::Result<()> {
    match read(source) {
        Ok(_) => Ok(()),
        Err(faults) => {
            let lines: Vec<String> = faults.iter().map(|fault| format!("{name}:{fault}")).collect();
            bail!("{}", lines.join("\n"))
        }
    }
}

fn lint(global: &Global, files: &[PathBuf]) -> anyhow::Result<()> {
    let mut faulty = Vec::new();
    let mut all: Vec<Value> = Vec::new();
    for path in files {
        let name = path.display().to_string();
        let faults: Vec<Fault> = read(&read_file(path)?).err().unwrap_or_default();
        faulty.extend(faults.iter().map(|fault| format!("{name}:{fault}")));
        all.push(json!({"file": name, "faults": faults}));
        if faults.is_empty() && !global.json {
            say!("{name}: nothing is wrong");
        }
    }
    if global.json {
        print_json(&Value::from(all));
    }
    if faulty.is_empty() { Ok(()) } else { bail!("{}", faulty.join("\n")) }
}

fn list(global: &Global, args: &List) -> anyhow::Result<()> {
    if let Some(name) = &args.show {
        let found = shipped::find(name).ok_or_else(|| anyhow!("no scenario is called `{name}`"))?;
        say!("{}", found.source.trim_end());
        return Ok(());
    }
    let about = |source: &str| read(source).map(|scenario| scenario.about).unwrap_or_default();
    if global.json {
        let view = |one: &shipped::Shipped| json!({"name": one.name, "about": about(one.source)});
        print_json(&json!({"data": shipped::ALL.iter().map(view).collect::<Vec<_>>()}));
        return Ok(());
    }
    let mut rows = table(&["SCENARIO", "ABOUT"]);
    for shipped in shipped::ALL {
        rows.add_row([shipped.name, &about(shipped.source)]);
    }
    say!("{rows}");
    Ok(())
}

/// Shows how far a run is until it has ended.
async fn follow(client: &Client, id: &str, quiet: bool) -> anyhow::Result<Answer> {
    let bar = if quiet { ProgressBar::hidden() } else { ProgressBar::new(1) };
    bar.set_style(ProgressStyle::with_template("{msg:>10} [{bar:40}] step {pos} of {len}")?.progress_chars("=> "));
    loop {
        let run = client.get(&format!("/api/v1/scenarios/runs/{id}"), &[]).await?;
        bar.set_length(run["steps"].as_u64().unwrap_or_default());
        bar.set_position(run["step"].as_u64().unwrap_or_default());
        bar.set_message(text(&run["state"]));
        if run["state"] != "running" {
            bar.finish_and_clear();
            return Ok(run);
        }
        tokio::time::sleep(LOOKS_EVERY).await;
    }
}

async fn run_on_daemon(global: &Global, args: &Run, source: &str) -> anyhow::Result<()> {
    let client = Client::new(global)?;
    let mut body = Map::new();
    body.insert("source".to_owned(), source.into());
    if let Some(speed) = args.speed {
        body.insert("speed".to_owned(), speed.into());
    }
    let mut run = client.post("/api/v1/scenarios/runs", Value::from(body).to_string(), &[]).await?;
    if !args.detach {
        run = follow(&client, &text(&run["id"]), global.json).await?;
    }
    if global.json {
        print_json(&run);
    } else {
        print_fields(&run, &["id", "name", "state", "step", "steps", "error", "started_at", "ended_at"]);
    }
    match run["error"].as_str() {
        Some(error) => bail!("the run failed: {error}"),
        None => Ok(()),
    }
}

async fn run_here(global: &Global, args: &Run, source: &str) -> anyhow::Result<()> {
    let (config, _) = global.load(Vec::new())?;
    let story = story::Story {
        config,
        source: source.to_owned(),
        seed: args.seed,
        speed: args.speed,
        answers: args.answers.clone(),
        database_url: args.database_url.clone(),
        ledger: args.ledger.clone(),
    };
    let Told { events, attempts, deliveries, story_time, hash, run } = story.tell().await?;
    let summary = json!({
        "state": run.state, "error": run.error, "events": events, "attempts": attempts, "deliveries": deliveries,
        "story_time": story_time, "hash": hash,
    });
    if global.json {
        print_json(&summary);
    } else {
        print_fields(&summary, &["state", "error", "events", "attempts", "deliveries", "story_time", "hash"]);
    }
    match run.error {
        Some(error) => bail!("the run failed: {error}"),
        None => Ok(()),
    }
}

pub(super) async fn run(global: &Global, command: Command) -> anyhow::Result<()> {
    match command {
        Command::Lint(Lint { files }) => lint(global, &files),
        Command::List(args) => list(global, &args),
        Command::Run(args) => {
            if args.speed.is_some_and(|speed| !speed.is_finite()) {
                bail!("--speed is a number from 0.001 to 1000000");
            }
            let source = source_of(&args.scenario)?;
            check(&args.scenario, &source)?;
            if args.seed.is_some() || args.ledger.is_some() || args.database_url.is_some() {
                run_here(global, &args, &source).await
            } else {
                run_on_daemon(global, &args, &source).await
            }
        }
    }
}
