//! The nouns of a world.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::definitions::{Definition, Scanner, definition};
use super::fact::Counts;
use super::item::{OtherTarget, Settings};
use super::surface::Surface;
use super::ticks::Recurrence;
use crate::event::Vendor;
use crate::id::ObjectId;
use crate::schedule::human;

/// Someone who uses the vendor's product.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    pub id: ObjectId,
    pub number: u64,
    pub email: String,
    pub first_name: String,
    pub last_name: String,
    pub is_admin: bool,
    /// A user who was removed stays on record.
    pub is_active: bool,
    pub created_at: DateTime<Utc>,
    pub changed_at: DateTime<Utc>,
    /// What vendors' own APIs have set on it.
    #[serde(default, skip_serializing_if = "Settings::is_empty")]
    pub settings: Settings,
}

/// What a target's address names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum TargetKind {
    /// A name or an IP address.
    Host,
    /// An http or https URL.
    Url,
    /// Addresses, as `192.0.2.0/28`.
    Network,
    /// A registered domain and the hosts below it.
    Domain,
}

impl fmt::Display for TargetKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Host => "host",
            Self::Url => "url",
            Self::Network => "network",
            Self::Domain => "domain",
        })
    }
}

/// Something to scan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Target {
    pub id: ObjectId,
    pub number: u64,
    pub kind: TargetKind,
    pub address: String,
    pub label: String,
    pub tags: Vec<String>,
    pub is_verified: bool,
    pub verified_at: Option<DateTime<Utc>>,
    /// Why the last verification failed; empty if it did not.
    pub verification_error: String,
    /// Scans of it fail.
    pub is_unreachable: bool,
    /// What can be seen of it from outside.
    pub surface: Surface,
    /// What the last completed scan saw of it, and when.
    pub seen: Option<(Surface, DateTime<Utc>)>,
    /// The last scan that has ended, without what it found.
    #[serde(default)]
    pub last_scan: Option<Box<Scan>>,
    pub created_at: DateTime<Utc>,
    pub changed_at: DateTime<Utc>,
    pub deleted_at: Option<DateTime<Utc>>,
    /// What vendors' own APIs have set on it.
    #[serde(default, skip_serializing_if = "Settings::is_empty")]
    pub settings: Settings,
}

impl TargetKind {
    /// The name or the address alone, without a scheme, a port or a path.
    pub fn host(self, address: &str) -> String {
        match self {
            Self::Url => {
                let url = url::Url::parse(address).ok();
                url.and_then(|url| url.host_str().map(str::to_owned)).unwrap_or_else(|| address.to_owned())
            }
            Self::Host | Self::Network | Self::Domain => address.to_owned(),
        }
    }

    /// The IP address that a target of this kind leads to, or its network: one of those kept for
    /// documentation, unless its address says it.
    pub fn leads_to(self, id: ObjectId, address: &str) -> String {
        let host = self.host(address);
        if self == Self::Network || host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok() {
            return host;
        }
        let digest = Sha256::digest(id.to_string());
        format!("192.0.2.{}", 1 + digest.first().copied().unwrap_or_default() % 254)
    }
}

impl Target {
    /// The name or the address alone, without a scheme, a port or a path.
    pub fn host(&self) -> String {
        self.kind.host(&self.address)
    }
}

/// How a weakness stands in the eyes of the scanner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum WeaknessState {
    /// No scan has found it.
    Latent,
    /// The last scan that looked for it found it.
    Open,
    /// A scan found it once, and the last did not.
    Closed,
}

/// A weakness of one target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Weakness {
    pub id: ObjectId,
    /// From 1, within its target.
    pub number: u64,
    /// From 1 within its target, in the order that scans found them; none before that.
    #[serde(default)]
    pub found_number: Option<u64>,
    pub target_id: ObjectId,
    /// The key of its [`Definition`].
    pub definition: String,
    /// Tells apart several of one definition on one target: 0 is the first.
    pub instance: u32,
    /// Whether it is there, whatever the scanner knows.
    pub is_present: bool,
    pub state: WeaknessState,
    pub first_detected_at: Option<DateTime<Utc>>,
    pub last_detected_at: Option<DateTime<Utc>>,
    /// Its target has been removed.
    #[serde(default)]
    pub is_gone: bool,
    /// The scans that found it, the last 20.
    pub scans: Vec<ObjectId>,
    pub changed_at: DateTime<Utc>,
    /// What vendors' own APIs have set on it.
    #[serde(default, skip_serializing_if = "Settings::is_empty")]
    pub settings: Settings,
}

impl Weakness {
    /// What kind of weakness it is.
    ///
    /// # Panics
    /// If the catalogue has lost a kind that was stored.
    pub fn definition(&self) -> &'static Definition {
        definition(&self.definition).expect("weaknesses are made of the catalogue's kinds")
    }
}

/// Where a scan stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ScanState {
    Queued,
    Started,
    /// It is to stand still, and will in a moment.
    Pausing,
    Paused,
    /// It is to go on, and will in a moment.
    Resuming,
    /// It is to be cancelled, and will be in a moment.
    Cancelling,
    Completed,
    Failed,
    Cancelled,
}

impl ScanState {
    /// Whether nothing more will come of it.
    pub fn has_ended(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }
}

/// How a scan is to end.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    #[default]
    Completed,
    Failed,
    Cancelled,
}

/// What is settled about a scan when it is queued.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    pub outcome: Outcome,
    /// Why it fails, where it does.
    pub reason: String,
    /// From queued to ended.
    #[serde(with = "human")]
    pub duration: Duration,
    /// By how much the webhooks of these event types come late.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub late: BTreeMap<String, Late>,
}

/// A wait, as JSON keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Late(#[serde(with = "human")] pub Duration);

/// One look of a scanner at one target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scan {
    pub id: ObjectId,
    pub number: u64,
    pub target_id: ObjectId,
    /// The further targets of a scan that has several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<OtherTarget>,
    pub scanner: Scanner,
    pub state: ScanState,
    /// 0 to 100.
    pub progress: u8,
    pub plan: Plan,
    /// Whether no scan of this target had completed before.
    pub is_first: bool,
    /// How many of what it has found are of each level.
    pub counts: Counts,
    /// Weaknesses that it found and that were not open before.
    pub new: Vec<ObjectId>,
    /// Weaknesses that were open and that it found again.
    pub again: Vec<ObjectId>,
    /// Weaknesses that were open and that it did not find.
    pub closed: Vec<ObjectId>,
    /// Whose events tell of it.
    pub vendors: Vec<Vendor>,
    /// A story that is still being told refers to it.
    #[serde(default)]
    pub is_named: bool,
    pub by: ObjectId,
    pub created_at: DateTime<Utc>,
    pub started_at: Option<DateTime<Utc>>,
    /// Since when it has stood still, if it does.
    #[serde(default)]
    pub paused_at: Option<DateTime<Utc>>,
    /// How long it had stood still before, in all.
    #[serde(default)]
    pub held: Late,
    pub ended_at: Option<DateTime<Utc>>,
    /// What vendors' own APIs have set on it.
    #[serde(default, skip_serializing_if = "Settings::is_empty")]
    pub settings: Settings,
}

impl Scan {
    /// Whether a target is among those that it looks at.
    pub fn is_of(&self, target_id: ObjectId) -> bool {
        self.target_id == target_id || self.others.iter().any(|other| other.id == target_id)
    }
}

/// What is done about ticks that were missed while no process ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Missed {
    /// One scan is run for all of them.
    #[default]
    RunOnce,
    /// Nothing.
    Skip,
}

/// Scans that start by the clock.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    pub id: ObjectId,
    pub number: u64,
    /// Second, minute, hour, day, month, day of week; empty where it recurs otherwise.
    pub cron: String,
    /// When it starts scans, where it has no cron expression.
    #[serde(default)]
    pub recurrence: Option<Recurrence>,
    /// An IANA name, such as `Europe/Lisbon`.
    pub timezone: String,
    /// The target's address.
    pub target: String,
    /// Which target it is, where several may have this address.
    #[serde(default)]
    pub target_id: Option<ObjectId>,
    pub scanner: Scanner,
    /// The outcomes and their weights.
    pub mix: BTreeMap<Outcome, f64>,
    /// The chance that a weakness is fixed, or that another appears, before each scan.
    pub drift: f64,
    pub duration: Option<Duration>,
    pub missed: Missed,
    /// Its name, where it comes from the settings.
    pub name: Option<String>,
    /// The last tick that was acted on.
    pub ticked_at: Option<DateTime<Utc>>,
    pub is_active: bool,
    pub created_at: DateTime<Utc>,
    /// What vendors' own APIs have set on it.
    #[serde(default, skip_serializing_if = "Settings::is_empty")]
    pub settings: Settings,
}

/// How a run of a scenario stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    Running,
    Completed,
    Failed,
    Cancelled,
}

/// A scenario as it is being told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    pub id: ObjectId,
    pub number: u64,
    pub name: String,
    /// The scenario's YAML.
    pub source: String,
    pub state: RunState,
    /// How many steps have been taken.
    pub step: usize,
    pub steps: usize,
    /// What steps have named, for expressions.
    pub names: BTreeMap<String, ObjectId>,
    /// Why it failed.
    pub error: Option<String>,
    /// Story time divided by clock time.
    pub speed: f64,
    pub vendors: Vec<Vendor>,
    pub started_at: DateTime<Utc>,
    pub ended_at: Option<DateTime<Utc>>,
}

/// Where a PCI report stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PciState {
    Pending,
    Approved,
    Rejected,
    Expired,
}

/// A PCI report: valid for 90 days after its approval. (Documented.)
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PciReport {
    pub id: ObjectId,
    pub number: u64,
    pub name: String,
    pub state: PciState,
    pub approved_at: Option<DateTime<Utc>>,
    pub created_at: DateTime<Utc>,
}

/// A project of the vendor's engineers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Project {
    pub id: ObjectId,
    pub number: u64,
    pub name: String,
    pub state: String,
    pub engineer: String,
    pub files: Vec<String>,
    pub created_at: DateTime<Utc>,
}
