//! `scanhook bench`: how fast scanhook is on this machine.

use anyhow::bail;
use comfy_table::CellAlignment;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use tokio_util::task::TaskTracker;

use super::output::{print_json, say, table};
use super::{Global, stop_on_signals};
use crate::bench::{Bar, Figure, Lab, Measure, Report, Sizes};

/// Measure how fast scanhook is on this machine, beside what a bare HTTP exchange does here.
///
/// Daemons under test are processes of this program, on fresh databases; load and receivers are
/// real HTTP over loopback. Files are made below TMPDIR, which should be on a disk. Environment
/// variables that are settings (SCANHOOK__…) reach the daemons; their log level is warn.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  scanhook bench --quick\n  scanhook bench pipeline latency --runs 3\n  scanhook bench --database-url postgres://me@127.0.0.1/scratch\n  scripts/postgres bench -- sh -c 'scanhook bench --database-url \"$SCANHOOK_TEST_POSTGRES\"'"
)]
pub(super) struct Args {
    /// What to measure [default: everything; see --list].
    #[arg(value_name = "MEASURE")]
    measures: Vec<Measure>,
    /// Measure on this Postgres, too; each measure makes a schema there and drops it.
    #[arg(long, value_name = "POSTGRES_URL", value_parser = postgres_url)]
    database_url: Option<String>,
    /// How often to take each measure [default: 5, or 1 with --quick].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    runs: Option<u32>,
    /// Take less of everything: about a minute a database.
    #[arg(long)]
    quick: bool,
    /// List the measures.
    #[arg(long)]
    list: bool,
}

fn postgres_url(text: &str) -> Result<String, String> {
    if text.starts_with("postgres://") || text.starts_with("postgresql://") {
        return Ok(text.to_owned());
    }
    Err("must be `postgres://…`; SQLite is measured anyway, in a temporary file".to_owned())
}

pub(super) async fn run(global: &Global, args: Args) -> anyhow::Result<()> {
    if args.list {
        list(global);
        return Ok(());
    }
    let measures = if args.measures.is_empty() { Measure::ALL.to_vec() } else { args.measures };
    let sizes = if args.quick { Sizes::quick(args.runs.unwrap_or(1)) } else { Sizes::full(args.runs.unwrap_or(5)) };
    let lab = Lab::new(args.database_url, sizes)?;
    let bar = if global.json { ProgressBar::hidden() } else { ProgressBar::new(lab.steps(&measures)) };
    bar.set_style(ProgressStyle::with_template("[{bar:30}] {pos}/{len}  {elapsed}  {msg}")?.progress_chars("=> "));
    let tell = |step: String| {
        bar.set_message(step);
        bar.inc(1);
        bar.tick();
    };
    let stop = stop_on_signals(&TaskTracker::new())?;
    let report = tokio::select! {
        report = lab.run(&measures, &tell) => Some(report),
        () = stop.cancelled() => None,
    };
    bar.finish_and_clear();
    // Daemons have died with what was dropped.
    lab.clean_up().await?;
    let Some(report) = report else { bail!("interrupted") };
    print(global, &report);
    match report.failures.len() {
        0 => Ok(()),
        count => bail!("{count} of the measures could not be taken to the end"),
    }
}

fn list(global: &Global) {
    if global.json {
        let view = |measure: Measure| json!({"name": measure.as_str(), "about": measure.about()});
        print_json(&json!({"data": Measure::ALL.map(view).to_vec()}));
        return;
    }
    let mut rows = table(&["MEASURE", "ABOUT"]);
    for measure in Measure::ALL {
        rows.add_row([measure.as_str(), measure.about()]);
    }
    say!("{rows}");
}

fn print(global: &Global, report: &Report) {
    if global.json {
        print_json(&report.to_json());
        return;
    }
    let mut rows = table(&["MEASURE", "DATABASE", "FIGURE", "MEDIAN", "MIN – MAX", "UNIT", "BAR", "HOLDS"]);
    for figure in &report.figures {
        rows.add_row(row(figure));
    }
    for index in [3, 4, 6] {
        if let Some(column) = rows.column_mut(index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    say!("{rows}");
    for note in &report.notes {
        say!("note: {note}");
    }
    for failure in &report.failures {
        say!("failed: {:#}", failure.error);
    }
}

fn row(figure: &Figure) -> [String; 8] {
    let (min, max) = figure.spread();
    let bar = match figure.bar {
        Some(Bar::AtLeast(least)) => format!("≥ {}", shown(least)),
        Some(Bar::AtMost(most)) => format!("≤ {}", shown(most)),
        None => String::new(),
    };
    let holds = match figure.holds() {
        Some(true) => "yes",
        Some(false) => "NO",
        None => "",
    };
    [
        figure.measure.to_string(),
        figure.database.to_owned(),
        figure.name.clone(),
        shown(figure.median()),
        format!("{} – {}", shown(min), shown(max)),
        figure.unit.to_owned(),
        bar,
        holds.to_owned(),
    ]
}

/// A number in three digits or more, thousands apart.
fn shown(value: f64) -> String {
    if value < 10.0 {
        return format!("{value:.2}");
    }
    if value < 100.0 {
        return format!("{value:.1}");
    }
    let digits = format!("{value:.0}");
    let groups: Vec<&str> = digits.as_bytes().rchunks(3).rev().filter_map(|group| str::from_utf8(group).ok()).collect();
    groups.join(",")
}

#[cfg(test)]
mod tests {
    #[test]
    fn numbers_are_shown_in_three_digits_or_more() {
        let shown = [0.304, 9.5, 42.26, 999.4, 1_234_567.0, 12_345.6].map(super::shown);
        assert_eq!(shown, ["0.30", "9.50", "42.3", "999", "1,234,567", "12,346"]);
    }
}
