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
