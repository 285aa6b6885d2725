//! What was measured: figures with their spread over the runs, beside their bars.

use serde::Serialize;
use serde_json::{Value, json};

use super::Measure;

/// What a figure should reach.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Bar {
    /// The median should be so much or more.
    AtLeast(f64),
    /// The median should be so much or less.
    AtMost(f64),
}

impl Bar {
    /// Whether a median holds it.
    pub fn holds(self, median: f64) -> bool {
        match self {
            Self::AtLeast(least) => median >= least,
            Self::AtMost(most) => median <= most,
        }
    }
}

/// One value of a figure, measured in one run.
#[derive(Debug, Clone)]
pub(super) struct Sample {
    name: String,
    unit: &'static str,
    bar: Option<Bar>,
    value: f64,
}

impl Sample {
    pub(super) fn new(name: impl Into<String>, unit: &'static str, value: f64) -> Self {
        Self { name: name.into(), unit, bar: None, value }
    }

    /// One value divided by another of the same run.
    pub(super) fn ratio(name: impl Into<String>, value: f64, by: f64) -> Self {
        Self::new(name, "", value / by)
    }

    pub(super) fn bar(self, bar: Bar) -> Self {
        Self { bar: Some(bar), ..self }
    }
}

/// A figure over all runs.
#[derive(Debug, Clone)]
pub struct Figure {
    pub measure: Measure,
    /// Where it was measured: `SQLite`, `Postgres`; empty where no database takes part.
    pub database: &'static str,
    pub name: String,
    /// `ms`, `MiB`, …; empty for a ratio.
    pub unit: &'static str,
    pub bar: Option<Bar>,
    /// In the order they were measured; never empty.
    pub values: Vec<f64>,
}

impl Figure {
    /// The value in the middle.
    pub fn median(&self) -> f64 {
        quantile(&sorted(&self.values), 0.5)
    }

    /// The smallest value and the largest.
    pub fn spread(&self) -> (f64, f64) {
        let sorted = sorted(&self.values);
        (quantile(&sorted, 0.0), quantile(&sorted, 1.0))
    }

    /// Whether the median holds the bar; none without a bar.
    pub fn holds(&self) -> Option<bool> {
        self.bar.map(|bar| bar.holds(self.median()))
    }

    fn to_json(&self) -> Value {
        let (min, max) = self.spread();
        json!({
            "measure": self.measure.as_str(), "database": self.database, "name": self.name, "unit": self.unit,
            "median": self.median(), "min": min, "max": max, "values": self.values, "bar": self.bar,
            "holds": self.holds(),
        })
    }
}

/// A measure that could not be taken to its end.
#[derive(Debug)]
pub struct Failure {
    pub measure: Measure,
    pub database: &'static str,
    pub error: anyhow::Error,
}

/// All that was measured.
#[derive(Debug, Default)]
pub struct Report {
    pub figures: Vec<Figure>,
    pub failures: Vec<Failure>,
    /// What was not measured or is not comparable, and how it would be; one sentence each.
    pub notes: Vec<String>,
}

impl Report {
    /// Takes in the samples of one run.
    pub(super) fn add(&mut self, measure: Measure, database: &'static str, samples: Vec<Sample>) {
        for Sample { name, unit, bar, value } in samples {
            let is_same =
                |figure: &&mut Figure| figure.measure == measure && figure.database == database && figure.name == name;
            match self.figures.iter_mut().find(is_same) {
                Some(figure) => figure.values.push(value),
                None => self.figures.push(Figure { measure, database, name, unit, bar, values: vec![value] }),
            }
        }
    }

    /// The report as `--json` prints it.
    pub fn to_json(&self) -> Value {
        let failure = |failure: &Failure| {
            let error = format!("{:#}", failure.error);
            json!({"measure": failure.measure.as_str(), "database": failure.database, "error": error})
        };
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "cores": std::thread::available_parallelism().map_or(0, usize::from),
            "figures": self.figures.iter().map(Figure::to_json).collect::<Vec<_>>(),
            "failures": self.failures.iter().map(failure).collect::<Vec<_>>(),
            "notes": self.notes,
        })
    }
}

/// The values in ascending order.
pub(super) fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

/// The value below which a share of the sorted values lies, by the nearest rank; 0.5 is the median.
pub(super) fn quantile(sorted: &[f64], share: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1).min(last)).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_nearest_ranks() {
        let values: Vec<f64> = (1..=1_000).map(f64::from).collect();
        let quantiles = [0.0, 0.5, 0.99, 0.999, 1.0].map(|share| quantile(&values, share));
        assert_eq!(quantiles, [1.0, 500.0, 990.0, 999.0, 1_000.0]);
        assert_eq!(quantile(&sorted(&[3.0, 1.0, 2.0]), 0.5), 2.0);
    }

    #[test]
    fn values_of_one_figure_gather_and_its_median_is_held_to_the_bar() {
        let mut report = Report::default();
        for value in [0.5, 0.1, 0.4] {
            report.add(Measure::Pipeline, "SQLite", vec![Sample::ratio("r", value, 1.0).bar(Bar::AtLeast(0.3))]);
        }
        report.add(Measure::Pipeline, "Postgres", vec![Sample::new("r", "ms", 7.0)]);
        let [sqlite, postgres] = &report.figures[..] else { panic!("{:?}", report.figures) };
        assert_eq!((sqlite.median(), sqlite.spread(), sqlite.holds()), (0.4, (0.1, 0.5), Some(true)));
        assert_eq!((postgres.median(), postgres.holds()), (7.0, None));
        assert!(!Bar::AtMost(4.0).holds(4.1));
        assert_eq!(report.to_json()["figures"][0]["bar"], json!({"at_least": 0.3}));
    }
}
