//! What Probely says of a fact: one event, or none.

use serde_json::Value;

use super::objects::{Scene, finding, scan, target, user};
use crate::vendors::Told;
use crate::world::{Fact, What, World};

/// The event that tells of a fact. Documented: a weakness that comes back raises none.
pub(super) fn tell(fact: &Fact, world: &World) -> Vec<Told> {
    event(fact, world).map(|(event_type, content)| Told { event_type, content }).into_iter().collect()
}

fn event(fact: &Fact, world: &World) -> Option<(&'static str, Value)> {
    let scene = Scene { world, by: &fact.by };
    Some(match &fact.what {
        What::UserAdded(added) => ("user_created", user(added, scene)),
        What::UserRemoved(removed) => ("user_deleted", user(removed, scene)),
        What::TargetAdded(about) => ("target_created", target(about, scene)?),
        What::TargetRemoved(about) => ("target_deleted", target(about, scene)?),
        What::TargetVerified(about) => ("target_verified", target(about, scene)?),
        What::VerificationFailed(about) => ("target_verification_failed", target(about, scene)?),
        What::ScanStarted(own, about) => ("scan_started", scan(own, &about.target, scene)?),
        What::ScanCompleted(own, about) => ("scan_completed", scan(own, &about.target, scene)?),
        What::ScanFailed(own, about) => ("scan_failed", scan(own, &about.target, scene)?),
        What::ScanCancelled(own, about) => ("scan_canceled", scan(own, &about.target, scene)?),
        What::WeaknessDetected(weakness, _, about) => ("finding_detected", finding(weakness, &about.target, scene)?),
        What::WeaknessFixed(weakness, _, about) | What::WeaknessMarkedFixed(weakness, about) => {
            ("finding_fixed", finding(weakness, &about.target, scene)?)
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
