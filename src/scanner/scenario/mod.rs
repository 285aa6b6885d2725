//! Scenarios: YAML files that tell a story as timed steps. Reading and checking them; pure.
//!
//! Invariant: a scenario that [`read`] accepts names nothing that is not there, so that a run
//! does not stop half-way for a mistake that could have been seen.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use serde_saphyr::{Location, Spanned};

mod check;
pub mod expression;
pub mod run;
pub mod shipped;

use super::Refusal;
use super::change::Change;
use super::targets::NewTarget;
use super::weaknesses::Findings;
use crate::event::Vendor;
use crate::problem::{FieldProblem, quote};
use crate::world::{Outcome, PciState, Scanner};

/// The longest scenario, in bytes.
const LONGEST_SOURCE: usize = 256 * 1024;
/// The most steps.
const MOST_STEPS: usize = 1_000;

/// Something wrong with a scenario, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Fault {
    /// From 1; 0 is the whole.
    pub line: u64,
    /// From 1; 0 is the whole.
    pub column: u64,
    pub reason: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}: {}", self.line, self.column, self.reason)
    }
}

impl Fault {
    fn at(location: Location, reason: impl Into<String>) -> Self {
        Self { line: location.line(), column: location.column(), reason: reason.into() }
    }

    /// What is wrong with a YAML text that cannot be read.
    pub fn of_yaml(error: &serde_saphyr::Error) -> Self {
        let reason = error.without_snippet().to_string();
        match error.location() {
            // The text ends with the place, which stands before it here.
            Some(location) => Self::at(location, reason.split(" at line ").next().unwrap_or(&reason)),
            None => Self { line: 0, column: 0, reason },
        }
    }
}

/// A story.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    pub name: Spanned<String>,
    /// What it shows, in a sentence.
    pub about: String,
    /// Whose events tell of its scans; the setting `scanner.vendors` if left out.
    pub vendors: Option<Vec<Vendor>>,
    /// How much faster than the story the clock goes; `scanner.time_scale` if left out.
    pub speed: Option<Spanned<f64>>,
    /// The targets it plays on. They are added when it starts, but for those that are there.
    #[serde(default)]
    pub targets: Vec<Spanned<NewTarget>>,
    pub steps: Vec<Spanned<Step>>,
}

/// One step of a story. Steps follow at once on one another; only `wait` takes time.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    Scan(ScanStep),
    /// A duration, or until a scan has ended.
    Wait(Wait),
    /// Cancels a scan by its name.
    Cancel(Spanned<String>),
    Change(Box<ChangeStep>),
    Emit(EmitStep),
    AddTarget(NewTarget),
    RemoveTarget(Spanned<String>),
    VerifyTarget(VerifyStep),
    AddUser(UserStep),
    RemoveUser(Spanned<String>),
    /// A user, by e-mail address, makes an API key.
    AddKey(Spanned<String>),
    PciReport(PciStep),
    Project(ProjectStep),
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScanStep {
    pub target: Spanned<String>,
    pub scanner: Scanner,
    /// What later steps call it.
    #[serde(rename = "as")]
    pub name: Option<Spanned<String>>,
    #[serde(default)]
    pub outcome: Outcome,
    /// Why it fails.
    pub reason: Option<String>,
    /// In story time; as long as such a scan takes if left out.
    pub duration: Option<Spanned<String>>,
    /// Exactly what it finds: how many, or which; what is there if left out.
    pub findings: Option<Spanned<Findings>>,
    /// By how much the webhooks of some event types come late, in story time.
    #[serde(default)]
    pub late: BTreeMap<String, Spanned<String>>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(untagged, expecting = "a duration such as 5m, or { for: NAME } of a scan")]
pub enum Wait {
    For {
        #[serde(rename = "for")]
        scan: String,
    },
    Duration(String),
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChangeStep {
    pub target: Spanned<String>,
    pub to: Spanned<Change>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmitStep {
    pub vendor: Vendor,
    pub event_type: Spanned<String>,
    /// Values by dotted path, set in the event type's example. Texts may have `{{ expressions }}`.
    #[serde(default)]
    pub set: Map<String, Value>,
    /// Dotted paths, removed from the example.
    #[serde(default)]
    pub remove: Vec<String>,
    /// The content itself, where the vendor has no example.
    pub content: Option<Value>,
    /// How long before now it happened, as the vendor tells it: `-2h`, whatever the speed.
    pub occurred: Option<Spanned<String>>,
    /// How long after this step its webhooks are due, in story time.
    pub deliver_after: Option<Spanned<String>>,
    /// How many of it.
    pub count: Option<u32>,
    /// Whether the content must fit its schema.
    #[serde(default = "yes")]
    pub checked: bool,
}

fn yes() -> bool {
    true
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VerifyStep {
    pub target: Spanned<String>,
    /// Why it fails; it succeeds if left out.
    pub error: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserStep {
    pub email: Spanned<String>,
    #[serde(default)]
    pub name: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PciStep {
    pub name: String,
    pub state: Option<PciState>,
    /// It expires in so many days: 14, 0 or -1.
    pub expires_in_days: Option<i64>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProjectStep {
    pub name: String,
    pub engineer: Option<String>,
    pub state: Option<String>,
    pub file: Option<String>,
}

/// A scenario to run, by its name or as it is.
#[derive(Debug, Clone, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RunToStart {
    /// A scenario that comes with scanhook.
    #[schema(example = "first-scan")]
    pub name: Option<String>,
    /// A scenario's YAML.
    pub source: Option<String>,
    /// How much faster than the story the clock goes; as the scenario or the settings say if left out.
    pub speed: Option<f64>,
}

impl RunToStart {
    /// The scenario's YAML, and what it says.
    pub fn scenario(&self) -> Result<(&str, Scenario), Refusal> {
        let source = match (&self.name, &self.source) {
            (None, Some(source)) => source.as_str(),
            (Some(name), None) => {
                let unknown = || Refusal::NotFound(format!("no scenario is called {}", quote(name)));
                shipped::find(name).ok_or_else(unknown)?.source
            }
            _ => return Err(Refusal::field("/name", "give either the name of a scenario or its source")),
        };
        if self.speed.is_some_and(|speed| !(0.001..=1_000_000.0).contains(&speed)) {
            return Err(Refusal::field("/speed", "must be from 0.001 to 1000000"));
        }
        let field = |fault: Fault| FieldProblem::new("/source", fault.to_string());
        let scenario = read(source);
        let scenario = scenario.map_err(|faults| Refusal::Invalid(faults.into_iter().map(field).collect()))?;
        Ok((source, scenario))
    }
}

/// Reads a scenario and checks all of it. All faults that can be told at once are.
pub fn read(source: &str) -> Result<Scenario, Vec<Fault>> {
    let whole = |reason: String| vec![Fault { line: 0, column: 0, reason }];
    if source.len() > LONGEST_SOURCE {
        return Err(whole(format!("the scenario is longer than {LONGEST_SOURCE} bytes")));
    }
    let scenario: Scenario = serde_saphyr::from_str(source).map_err(|error| vec![Fault::of_yaml(&error)])?;
    let faults = check::check(&scenario);
    if faults.is_empty() { Ok(scenario) } else { Err(faults) }
}

/// Reads a duration of the story, which must not be negative.
fn story_time(text: &str) -> Result<Duration, String> {
    if text.trim_start().starts_with('-') {
        return Err(format!("`{text}` is negative; a story only goes forward"));
    }
    let duration = crate::schedule::parse_duration(text)?;
    let longest = Duration::from_secs(10 * 366 * 86_400);
    if duration > longest { Err(format!("`{text}` is longer than ten years")) } else { Ok(duration) }
}

/// The names that steps give, in order.
fn names(scenario: &Scenario) -> BTreeSet<&str> {
    scenario
        .steps
        .iter()
        .filter_map(|step| match &step.value {
            Step::Scan(scan) => scan.name.as_ref().map(|name| name.value.as_str()),
            _ => None,
        })
        .collect()
}
