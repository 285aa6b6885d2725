//! The benchmark, with little of everything: what it prints, not how fast it is.

use std::process::{Command, Output};

use serde_json::Value;

fn bench(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_scanhook")).arg("bench").args(arguments).output().expect("scanhook runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_measure_gives_its_figures_with_their_spread_beside_their_bars() {
    let output = bench(&["start", "fanout", "--quick", "--json"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let figures = report["figures"].as_array().expect("figures");
    assert_eq!(figures.len(), 3, "{report}");
    for figure in figures {
        let number = |field: &str| figure[field].as_f64().expect("a number");
        assert!(0.0 < number("min") && number("min") <= number("median"), "{figure}");
        assert!(number("median") <= number("max"), "{figure}");
        let bar = figure["bar"]["at_most"].as_f64().expect("a bar");
        assert_eq!(figure["holds"], number("median") <= bar, "{figure}");
    }
    let starts = figures.iter().find(|figure| figure["measure"] == "start").expect("a start");
    assert_eq!((&starts["unit"], starts["values"].as_array().map(Vec::len)), (&"ms".into(), Some(5)));
    let fanout = figures.iter().find(|figure| figure["measure"] == "fanout").expect("a fan-out");
    assert_eq!(fanout["database"], "SQLite");
    let notes = report["notes"].to_string();
    assert!(notes.contains("a debug build") && notes.contains("Postgres was left out"), "{notes}");
    assert_eq!(report["failures"], serde_json::json!([]));
}

#[test]
fn people_get_a_table() {
    let output = bench(&["start", "--quick"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let shown = text(&output.stdout);
    for part in ["MEDIAN", "MIN – MAX", "BAR", "HOLDS", "from start to ready", "≤ 50.0"] {
        assert!(shown.contains(part), "{part} is not in: {shown}");
    }
    // No database takes part, so none was left out.
    assert!(!shown.contains("left out"), "{shown}");
}

#[test]
fn the_measures_are_listed() {
    let listed = text(&bench(&["--list"]).stdout);
    for measure in scanhook::bench::Measure::ALL {
        assert!(listed.contains(&format!(" {measure} ")), "{measure} is not in: {listed}");
    }
    let json: Value = serde_json::from_slice(&bench(&["--list", "--json"]).stdout).expect("JSON");
    assert_eq!(json["data"].as_array().map(Vec::len), Some(scanhook::bench::Measure::ALL.len()));
}

#[test]
fn what_cannot_be_measured_is_refused_with_the_way_out() {
    for (arguments, part) in [
        (&["speed"][..], "unknown measure `speed`; known are limit, pipeline, batch, latency, drain"),
        (&["start", "--database-url", "sqlite:a.db"], "must be `postgres://…`; SQLite is measured anyway"),
        (&["start", "--runs", "0"], "0 is not in 1..=100"),
    ] {
        let output = bench(arguments);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(part), "{part} is not in: {said}");
    }
    let output = bench(&["daemons", "--quick", "--database-url", "postgres://nobody@127.0.0.1:9/none"]);
    let said = text(&output.stdout) + &text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("cannot make a schema on the Postgres server"), "{said}");
}
