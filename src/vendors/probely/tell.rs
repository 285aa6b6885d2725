//! What Probely says of a fact: one event, or none.

use serde_json::Value;

use super::objects::{finding, scan, target, user};
use crate::vendors::Told;
use crate::world::{Fact, What, World};

/// The event that tells of a fact. Documented: a weakness that comes back raises none.
pub(super) fn tell(fact: &Fact, world: &World) -> Vec<Told> {
    event(fact, world).map(|(event_type, content)| Told { event_type, content }).into_iter().collect()
}

fn event(fact: &Fact, _world: &World) -> Option<(&'static str, Value)> {
    let by = &fact.by;
    Some(match &fact.what {
        What::UserAdded(added) => ("user_created", user(added, by)),
        What::UserRemoved(removed) => ("user_deleted", user(removed, by)),
        What::TargetAdded(about) => ("target_created", target(about, by)?),
        What::TargetRemoved(about) => ("target_deleted", target(about, by)?),
        What::TargetVerified(about) => ("target_verified", target(about, by)?),
        What::VerificationFailed(about) => ("target_verification_failed", target(about, by)?),
        What::ScanStarted(own, about) => ("scan_started", scan(own, &about.target, by)?),
        What::ScanCompleted(own, about) => ("scan_completed", scan(own, &about.target, by)?),
        What::ScanFailed(own, about) => ("scan_failed", scan(own, &about.target, by)?),
        What::ScanCancelled(own, about) => ("scan_canceled", scan(own, &about.target, by)?),
        What::WeaknessDetected(weakness, _, about) => ("finding_detected", finding(weakness, &about.target, by)?),
        What::WeaknessFixed(weakness, _, about) | What::WeaknessMarkedFixed(weakness, about) => {
            ("finding_fixed", finding(weakness, &about.target, by)?)
        }
        What::KeyAdded(_)
        | What::ScanQueued(..)
        | What::ScanProgressed(..)
        | What::WeaknessReturned(..)
        | What::Observed(..)
        | What::PciReportApproved(_)
        | What::PciReportRejected(_)
        | What::PciReportExpires(..)
        | What::EngineerAssigned(_)
        | What::FileAttached(..)
        | What::ProjectStateChanged(..) => return None,
    })
}
