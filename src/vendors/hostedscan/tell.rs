//! What HostedScan says of a fact, in both vocabularies: every subscriber picks one.
//!
//! Documented: the fields, the states, three threat levels. Inferred: when the current vocabulary's
//! events come. Assumed: a cancelled scan is a failed one, as there is no such state.

use chrono::{DateTime, Utc};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::id::ObjectId;
use crate::vendors::Told;
use crate::world::{Definition, Fact, Level, Scan, ScanState, Target, TargetKind, Weakness, WeaknessState, What};

/// The content types of a finished scan's results.
const RESULTS: [&str; 4] = ["text/html", "application/pdf", "application/xml", "application/json"];

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
        What::WeaknessFixed(own, _, about) => told(&["risk.closed", "risk.updated"], risk(own, &about.target)),
        _ => Vec::new(),
    }
}

/// An id in HostedScan's shape, always the same for one object: the second of its creation, then
/// eight bytes that tell objects apart.
pub(crate) fn vendor_id(kind: &str, id: ObjectId, created_at: DateTime<Utc>) -> String {
    let digest = Sha256::digest(format!("hostedscan/{kind}/{id}"));
    let seconds = (created_at.timestamp() as u32).to_be_bytes();
    format!("{}{}", hex::encode(seconds), hex::encode(&digest[..8]))
}

fn target_id(target: &Target) -> String {
    vendor_id("target", target.id, target.created_at)
}

/// A scan as HostedScan shows it.
pub(crate) fn scan(scan: &Scan, target: &Target) -> Value {
    let target_id = target_id(target);
    let (state, progress) = match scan.state {
        ScanState::Queued => ("QUEUED", 0),
        ScanState::Started => ("RUNNING", scan.progress),
        ScanState::Completed => ("SUCCEEDED", 100),
        ScanState::Failed | ScanState::Cancelled => ("FAILED", scan.progress),
    };
    let result = |content_type: &&str| {
        let result_id = vendor_id(&format!("result/{content_type}"), scan.id, scan.created_at);
        json!({"result_id": result_id, "content_type": content_type})
    };
    let results: Vec<Value> = match scan.state {
        ScanState::Completed => RESULTS.iter().map(result).collect(),
        _ => Vec::new(),
    };
    let resolved = match scan.state {
        ScanState::Queued => json!([]),
        _ => json!([{"target_id": target_id, "resolved_target": resolved(target)}]),
    };
    let skipped = match scan.state {
        ScanState::Failed => json!([{"target_id": target_id, "skipped_reason": scan.plan.reason}]),
        _ => json!([]),
    };
    json!({
        "id": vendor_id("scan", scan.id, scan.created_at), "type": scan.scanner, "state": state, "progress": progress,
        "results": results, "requested_targets": [{"target_id": target_id, "target": target.address}],
        "resolved_targets": resolved, "skipped_targets": skipped,
    })
}

/// The address that a target's name leads to: one of those kept for documentation.
fn resolved(target: &Target) -> String {
    let host = target.host();
    if target.kind == TargetKind::Network || host.parse::<std::net::IpAddr>().is_ok() {
        return host;
    }
    let digest = Sha256::digest(target.id.to_string());
    format!("192.0.2.{}", 1 + digest[0] % 254)
}

/// A weakness as HostedScan shows it.
pub(crate) fn risk(weakness: &Weakness, target: &Target) -> Value {
    let definition = weakness.definition();
    let threat_level = match definition.threat_level {
        Level::Low => "LOW",
        Level::Medium => "MEDIUM",
        // Only three levels are documented.
        Level::High | Level::Critical => "HIGH",
    };
    let status = if weakness.state == WeaknessState::Closed { "CLOSED" } else { "OPEN" };
    let (title, additional_info) = instance(definition, weakness.instance);
    json!({
        "id": vendor_id("risk", weakness.id, target.created_at), "target_id": target_id(target),
        "target": target.address, "tags": target.tags, "status": status,
        "risk_definition": {
            "scan_type": definition.scanner, "title": title, "threat_level": threat_level,
            "description": definition.description, "solution": definition.solution,
            "references": definition.references, "cvss": format!("{:.1}", definition.cvss_score),
            "additional_info": additional_info,
        },
    })
}

/// The title and the scanner's own words of one of several weaknesses of a kind, each of which
/// sits somewhere else.
fn instance(definition: &Definition, instance: u32) -> (String, Value) {
    let mut info = definition.additional_info.as_object().cloned().unwrap_or_else(Map::new);
    if instance == 0 {
        return (definition.title.clone(), info.into());
    }
    let mut title = definition.title.clone();
    match definition.place.port {
        Some(port) => {
            let other = 1024 + (u32::from(port) + instance * 7) % 60_000;
            title = title.replace(&port.to_string(), &other.to_string());
            let protocol = definition.place.protocol.as_deref().unwrap_or("tcp");
            let is_joined = info.get("port").and_then(Value::as_str).is_some_and(|port| port.contains('/'));
            let port = if is_joined { format!("{other}/{protocol}") } else { other.to_string() };
            info.insert("port".to_owned(), port.into());
        }
        None => drop(info.insert("instance".to_owned(), instance.into())),
    }
    if let Some(Value::Array(instances)) = info.get_mut("instances") {
        for one in instances.iter_mut().filter_map(|one| one.get_mut("uri")) {
            let uri = one.as_str().unwrap_or_default().trim_end_matches('/').to_owned();
            *one = format!("{uri}/{instance}").into();
        }
    }
    (title, info.into())
}
