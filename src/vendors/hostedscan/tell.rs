//! What HostedScan says of a fact, in both vocabularies: every subscriber picks one.
//!
//! Inferred: when the current vocabulary's events come.

use serde_json::Value;

use super::objects::{risk, scan};
use crate::vendors::Told;
use crate::world::{Fact, What};

/// The events that tell of a fact.
pub(super) fn tell(fact: &Fact) -> Vec<Told> {
    let told = |types: &[&'static str], content: Value| {
        types.iter().map(|event_type| Told { event_type, content: content.clone() }).collect()
    };
    // A scan of several targets is one scan, which is told of once.
    if is_of_another_target(&fact.what) {
        return Vec::new();
    }
    match &fact.what {
        What::ScanQueued(own, about) => told(&["scan.created"], scan(own, &about.target)),
        What::ScanCompleted(own, about) => told(&["scan.succeeded", "scan.updated"], scan(own, &about.target)),
        What::ScanStarted(own, about)
        | What::ScanProgressed(own, about)
        | What::ScanFailed(own, about)
        | What::ScanCancelled(own, about) => told(&["scan.updated"], scan(own, &about.target)),
        What::WeaknessDetected(own, _, about) => told(&["risk.opened", "risk.created"], risk(own, &about.target)),
        What::WeaknessReturned(own, _, about) => told(&["risk.opened", "risk.updated"], risk(own, &about.target)),
        What::WeaknessFixed(own, _, about) | What::WeaknessMarkedFixed(own, about) => {
            told(&["risk.closed", "risk.updated"], risk(own, &about.target))
        }
        _ => Vec::new(),
    }
}

/// Whether it tells of a scan in the name of one of its further targets.
fn is_of_another_target(what: &What) -> bool {
    match what {
        What::ScanQueued(scan, about)
        | What::ScanStarted(scan, about)
        | What::ScanProgressed(scan, about)
        | What::ScanCompleted(scan, about)
        | What::ScanFailed(scan, about)
        | What::ScanCancelled(scan, about) => about.target.id != scan.target_id,
        _ => false,
    }
}
