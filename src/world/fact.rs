//! Facts: what happens in a world, in no vendor's words. Each dialect turns a fact into its own
//! events, or into none.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::definitions::Level;
use super::nouns::{PciReport, Project, Scan, Target, User, Weakness};
use super::observe::Observation;
use crate::event::Vendor;

/// How many weaknesses there are of each level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Counts {
    pub low: u32,
    pub medium: u32,
    pub high: u32,
    pub critical: u32,
}

impl Counts {
    /// Counts levels.
    pub fn of(levels: impl Iterator<Item = Level>) -> Self {
        let mut counts = Self::default();
        levels.for_each(|level| counts.add(level));
        counts
    }

    /// Counts one more.
    pub fn add(&mut self, level: Level) {
        *self.of_level(level) += 1;
    }

    fn of_level(&mut self, level: Level) -> &mut u32 {
        match level {
            Level::Low => &mut self.low,
            Level::Medium => &mut self.medium,
            Level::High => &mut self.high,
            Level::Critical => &mut self.critical,
        }
    }

    /// Counts one less.
    pub fn remove(&mut self, level: Level) {
        let count = self.of_level(level);
        *count = count.saturating_sub(1);
    }

    /// All of them.
    pub fn total(&self) -> u32 {
        self.low + self.medium + self.high + self.critical
    }

    /// The worst level that there is one of.
    pub fn worst(&self) -> Option<Level> {
        let counted = [
            (self.critical, Level::Critical),
            (self.high, Level::High),
            (self.medium, Level::Medium),
            (self.low, Level::Low),
        ];
        counted.into_iter().find(|(count, _)| *count > 0).map(|(_, level)| level)
    }
}

/// A target at the moment of a fact, and how many of its weaknesses are open.
#[derive(Debug, Clone)]
pub struct About {
    pub target: Arc<Target>,
    pub counts: Counts,
}

/// Something that has happened in a world.
#[derive(Debug, Clone)]
pub struct Fact {
    pub at: DateTime<Utc>,
    /// Who did it, or in whose name it was done.
    pub by: Arc<User>,
    pub what: What,
}

/// What has happened.
#[derive(Debug, Clone)]
pub enum What {
    UserAdded(Arc<User>),
    UserRemoved(Arc<User>),
    /// A user has made an API key.
    KeyAdded(Arc<User>),
    TargetAdded(About),
    TargetRemoved(About),
    TargetVerified(About),
    VerificationFailed(About),
    ScanQueued(Arc<Scan>, About),
    ScanStarted(Arc<Scan>, About),
    ScanProgressed(Arc<Scan>, About),
    ScanCompleted(Arc<Scan>, About),
    ScanFailed(Arc<Scan>, About),
    ScanCancelled(Arc<Scan>, About),
    /// Found for the first time.
    WeaknessDetected(Arc<Weakness>, Arc<Scan>, About),
    /// Found again after it had been closed.
    WeaknessReturned(Arc<Weakness>, Arc<Scan>, About),
    /// Open before, and not found by a scan that looked for it.
    WeaknessFixed(Arc<Weakness>, Arc<Scan>, About),
    /// A user says that it is fixed.
    WeaknessMarkedFixed(Arc<Weakness>, About),
    /// Something about the target's surface that this scan saw.
    Observed(Observation, Arc<Scan>, About),
    PciReportApproved(Arc<PciReport>),
    PciReportRejected(Arc<PciReport>),
    /// Days until it expires: 14, 0 or -1.
    PciReportExpires(Arc<PciReport>, i64),
    EngineerAssigned(Arc<Project>),
    FileAttached(Arc<Project>, String),
    /// The state before.
    ProjectStateChanged(Arc<Project>, String),
}

/// An event that is emitted as it is, in a vendor's words: whatever a story needs that no fact tells.
#[derive(Debug, Clone)]
pub struct Emitted {
    pub vendor: Vendor,
    pub event_type: String,
    pub content: Value,
    pub occurred_at: DateTime<Utc>,
    pub deliver_at: Option<DateTime<Utc>>,
    /// Whether its content must fit its schema.
    pub is_checked: bool,
}

impl What {
    /// The scan that tells of it.
    pub fn scan(&self) -> Option<&Arc<Scan>> {
        match self {
            Self::ScanQueued(scan, _)
            | Self::ScanStarted(scan, _)
            | Self::ScanProgressed(scan, _)
            | Self::ScanCompleted(scan, _)
            | Self::ScanFailed(scan, _)
            | Self::ScanCancelled(scan, _)
            | Self::WeaknessDetected(_, scan, _)
            | Self::WeaknessReturned(_, scan, _)
            | Self::WeaknessFixed(_, scan, _)
            | Self::Observed(_, scan, _) => Some(scan),
            _ => None,
        }
    }
}
