//! `scanhook bench`: how fast this machine's scanhook is, against what the machine can do at all.
//!
//! The load maker and the receiver live in this process, on threads of their own; each daemon under
//! test is a process of its own, with real HTTP in and out over loopback and a database of its own.
//! Ratios are of figures taken one after the other in one run, so that they hold on any machine.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Mutex;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use anyhow::Context;

mod daemon;
mod database;
mod load;
mod measures;
mod receiver;
mod report;

pub use report::{Bar, Failure, Figure, Report};

use crate::problem::quote;
use crate::random::Chance;
use crate::store::Store;
use database::{Database, Kind};
use report::Sample;

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    Limit,
    Pipeline,
    Batch,
    Latency,
    Drain,
    Hung,
    Fanout,
    Retries,
    Daemons,
    Cost,
    Start,
}

/// Which databases a measure is taken on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Where {
    /// On each that there is.
    Each,
    PostgresOnly,
    /// None takes part, or the daemon's own in memory.
    Nowhere,
}

impl Measure {
    /// Every measure, in the order they are taken.
    pub const ALL: [Self; 11] = [
        Self::Limit,
        Self::Pipeline,
        Self::Batch,
        Self::Latency,
        Self::Drain,
        Self::Hung,
        Self::Fanout,
        Self::Retries,
        Self::Daemons,
        Self::Cost,
        Self::Start,
    ];

    /// Its name on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Limit => "limit",
            Self::Pipeline => "pipeline",
            Self::Batch => "batch",
            Self::Latency => "latency",
            Self::Drain => "drain",
            Self::Hung => "hung",
            Self::Fanout => "fanout",
            Self::Retries => "retries",
            Self::Daemons => "daemons",
            Self::Cost => "cost",
            Self::Start => "start",
        }
    }

    /// What it measures, in a line.
    pub fn about(self) -> &'static str {
        match self {
            Self::Limit => "exchanges a second of the bare load maker with the bare receiver",
            Self::Pipeline => "events a second, published one by one, delivered and recorded, against the limit",
            Self::Batch => "events a second, published a hundred a request, against one by one",
            Self::Latency => "from POST to receipt at 200 and 1,000 events a second, against the bare exchange",
            Self::Drain => "the drain of a backlog, with and without many other rows in the table",
            Self::Hung => "a healthy subscriber's latency beside one that never answers",
            Self::Fanout => "one event to many subscribers, until all have it",
            Self::Retries => "many retries falling due at once",
            Self::Daemons => "one, two and three daemons on one Postgres",
            Self::Cost => "CPU time and bytes in the database for each delivery, resident memory",
            Self::Start => "from the start of the process to ready, in memory",
        }
    }

    fn is_taken(self) -> Where {
        match self {
            Self::Limit | Self::Start => Where::Nowhere,
            Self::Daemons => Where::PostgresOnly,
            _ => Where::Each,
        }
    }
}

impl fmt::Display for Measure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl FromStr for Measure {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|measure| measure.as_str() == text);
        found.ok_or_else(|| {
            let known = Self::ALL.map(Self::as_str).join(", ");
            format!("unknown measure {}; known are {known}", quote(text))
        })
    }
}

/// How much and how long: all that bounds a run.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    /// How often each measure is taken.
    pub runs: u32,
    /// How long load is made at full speed.
    load: Duration,
    warm_up: Duration,
    /// How many events are paced out at a fixed rate.
    paced: u64,
    /// Deliveries of the backlogs that are drained.
    backlog: usize,
    /// Finished deliveries, and as many that are due far in the future, beside a backlog.
    others: usize,
    /// Deliveries due to the subscriber that never answers.
    hung: usize,
    subscribers: u64,
    /// Deliveries that one daemon after the other shares.
    shared: usize,
    starts: u32,
}

impl Sizes {
    /// What the bars are about.
    pub fn full(runs: u32) -> Self {
        Self {
            runs,
            load: Duration::from_secs(2),
            warm_up: Duration::from_millis(500),
            paced: 1_600,
            backlog: 100_000,
            others: 1_000_000,
            hung: 10_000,
            subscribers: 1_000,
            shared: 20_000,
            starts: 15_u32.div_ceil(runs.max(1)),
        }
    }

    /// Enough to see that nothing is broken, in about a minute.
    pub fn quick(runs: u32) -> Self {
        Self {
            runs,
            load: Duration::from_millis(700),
            warm_up: Duration::from_millis(200),
            paced: 600,
            backlog: 10_000,
            others: 50_000,
            hung: 2_000,
            subscribers: 1_000,
            shared: 4_000,
            starts: 5,
        }
    }
}

/// Where measures are taken.
#[derive(Debug)]
pub struct Lab {
    /// The program whose daemons are measured: this one.
    program: PathBuf,
    postgres: Option<String>,
    sizes: Sizes,
    chance: Chance,
    schema_count: AtomicU32,
    /// Schemas on the Postgres server that are to be dropped.
    schemas: Mutex<Vec<String>>,
}

impl Lab {
    /// A lab for SQLite and, given the URL of a server on which schemas may be made, Postgres.
    pub fn new(postgres: Option<String>, sizes: Sizes) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("cannot find this program's own file")?;
        let (schema_count, schemas) = (AtomicU32::new(0), Mutex::default());
        Ok(Self { program, postgres, sizes, chance: Chance::from_system(), schema_count, schemas })
    }

    /// How many steps [`run`](Self::run) tells of.
    pub fn steps(&self, measures: &[Measure]) -> u64 {
        let places: usize = measures.iter().map(|measure| self.places(*measure).len()).sum();
        places as u64 * u64::from(self.sizes.runs)
    }

    /// Takes measures, each in all its runs. `tell` is told of each run before it starts.
    pub async fn run(&self, measures: &[Measure], tell: &(dyn Fn(String) + Send + Sync)) -> Report {
        let mut report = Report::default();
        self.note_what_does_not_count(measures, &mut report).await;
        for measure in measures {
            for place in self.places(*measure) {
                let database = place.map_or("", Kind::as_str);
                if let Err(error) = self.take(*measure, place, &mut report, tell).await {
                    report.failures.push(Failure { measure: *measure, database, error });
                }
            }
        }
        report
    }

    /// Where a measure is taken: on which databases, or once on none.
    fn places(&self, measure: Measure) -> Vec<Option<Kind>> {
        let postgres = self.postgres.as_ref().map(|_| Some(Kind::Postgres));
        match measure.is_taken() {
            Where::Nowhere => vec![None],
            Where::PostgresOnly => postgres.into_iter().collect(),
            Where::Each => [Some(Some(Kind::Sqlite)), postgres].into_iter().flatten().collect(),
        }
    }

    async fn take(
        &self,
        measure: Measure,
        place: Option<Kind>,
        report: &mut Report,
        tell: &(dyn Fn(String) + Send + Sync),
    ) -> anyhow::Result<()> {
        let database = place.map_or("", Kind::as_str);
        let mut crowded = None;
        for run in 1..=self.sizes.runs {
            let on = place.map(|kind| format!(" on {kind}")).unwrap_or_default();
            tell(format!("{measure}{on}, run {run} of {}", self.sizes.runs));
            let samples = self.take_once(measure, place, &mut crowded).await;
            report.add(measure, database, samples.with_context(|| format!("{measure}{on}, run {run}"))?);
        }
        match crowded {
            Some(crowded) => self.remove(crowded).await,
            None => Ok(()),
        }
    }

    /// Takes a measure once. `crowded` is kept from run to run.
    async fn take_once(
        &self,
        measure: Measure,
        place: Option<Kind>,
        crowded: &mut Option<Database>,
    ) -> anyhow::Result<Vec<Sample>> {
        let kind = place.unwrap_or(Kind::Sqlite);
        match measure {
            Measure::Limit => measures::limit(self).await,
            Measure::Pipeline => measures::pipeline(self, kind).await,
            Measure::Batch => measures::batch(self, kind).await,
            Measure::Latency => measures::latency(self, kind).await,
            Measure::Drain => measures::drain(self, kind, crowded).await,
            Measure::Hung => measures::hung(self, kind).await,
            Measure::Fanout => measures::fanout(self, kind).await,
            Measure::Retries => measures::retries(self, kind).await,
            Measure::Daemons => measures::daemons(self).await,
            Measure::Cost => measures::cost(self, kind).await,
            Measure::Start => measures::start(self).await,
        }
    }

    /// Notes what is left out, and what would make figures look better than they are.
    async fn note_what_does_not_count(&self, measures: &[Measure], report: &mut Report) {
        if cfg!(debug_assertions) {
            report.notes.push("this is a debug build: its figures say nothing of a release build".to_owned());
        }
        match &self.postgres {
            None if measures.iter().any(|measure| measure.is_taken() != Where::Nowhere) => report.notes.push(
                "Postgres was left out; give --database-url, or run scripts/bench, which starts a throwaway server"
                    .to_owned(),
            ),
            None => (),
            Some(_) => match self.careless_settings().await {
                Ok(careless) if careless.is_empty() => (),
                Ok(careless) => report.notes.push(format!(
                    "Postgres is not durable ({}): its figures are not comparable; `scripts/postgres bench` starts one that is",
                    careless.join(", ")
                )),
                Err(error) => report.notes.push(format!("Postgres could not be asked for its settings: {error:#}")),
            },
        }
    }

    async fn careless_settings(&self) -> anyhow::Result<Vec<String>> {
        let database = self.database(Kind::Postgres).await?;
        let store: Store = database.store().await?;
        let careless = store.careless_settings().await;
        store.close().await;
        self.remove(database).await?;
        Ok(careless?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_measure_is_known_by_its_name() {
        for measure in Measure::ALL {
            assert_eq!(measure.as_str().parse(), Ok(measure));
        }
        let refused = "speed".parse::<Measure>().expect_err("no such measure");
        assert!(refused.starts_with("unknown measure `speed`; known are limit, pipeline, "), "{refused}");
    }
}
