//! A world's objects as HostedScan shows them: in its events and in its API.
//!
//! Documented: the fields, the states, three threat levels. Assumed: a cancelled scan is a failed
//! one, as there is no such state; a paused one is running.
//!
//! Invariant: what the API shows of a scan or a risk is what the events show, and more fields.

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::id::ObjectId;
use crate::world::{Definition, Level, OtherTarget, Scan, ScanState, Target, TargetKind, Weakness, WeaknessState};

/// The content types of a finished scan's results.
pub(crate) const RESULTS: [&str; 4] = ["text/html", "application/pdf", "application/xml", "application/json"];

/// An id in HostedScan's shape, always the same for one object: the second of its creation, then
/// eight bytes that tell objects apart.
pub(crate) fn vendor_id(kind: &str, id: ObjectId) -> String {
    let digest = Sha256::digest(format!("hostedscan/{kind}/{id}"));
    let seconds = (id.time().timestamp() as u32).to_be_bytes();
    format!("{}{}", hex::encode(seconds), hex::encode(&digest[..8]))
}

/// Whether a vendor's id is that of an object. The seconds are compared first: they are cheap.
pub(crate) fn is_id_of(given: &str, kind: &str, id: ObjectId) -> bool {
    given.len() == 24
        && given.starts_with(&hex::encode((id.time().timestamp() as u32).to_be_bytes()))
        && given == vendor_id(kind, id)
}

/// A report's id, in the shape of a UUID of version 4. (Inferred: one was seen.)
pub(crate) fn report_id(id: ObjectId) -> String {
    let digest = Sha256::digest(format!("hostedscan/report/{id}"));
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    uuid::Builder::from_random_bytes(bytes).into_uuid().to_string()
}

/// The id of one of a scan's results, by its content type.
pub(crate) fn result_id(content_type: &str, scan_id: ObjectId) -> String {
    vendor_id(&format!("result/{content_type}"), scan_id)
}

/// A scan as HostedScan shows it.
pub(crate) fn scan(scan: &Scan, target: &Target) -> Value {
    let (state, progress) = match scan.state {
        ScanState::Completed => ("SUCCEEDED", 100),
        ScanState::Failed | ScanState::Cancelled => ("FAILED", scan.progress),
        _ if scan.started_at.is_none() => ("QUEUED", 0),
        _ => ("RUNNING", scan.progress),
    };
    let result =
        |content_type: &&str| json!({"result_id": result_id(content_type, scan.id), "content_type": content_type});
    let results: Vec<Value> = match scan.state {
        ScanState::Completed => RESULTS.iter().map(result).collect(),
        _ => Vec::new(),
    };
    let of_target = |id, field: &str, value: &str| json!({"target_id": vendor_id("target", id), field: value});
    let mut requested = vec![of_target(target.id, "target", &target.address)];
    let mut resolved = vec![of_target(target.id, "resolved_target", &resolve(target.id, target.kind, &target.address))];
    let mut skipped = Vec::new();
    for OtherTarget { id, kind, address, is_unreachable } in &scan.others {
        requested.push(of_target(*id, "target", address));
        if *is_unreachable {
            skipped.push(of_target(*id, "skipped_reason", "Host unreachable"));
        } else {
            resolved.push(of_target(*id, "resolved_target", &resolve(*id, *kind, address)));
        }
    }
    if scan.state == ScanState::Failed {
        skipped.insert(0, of_target(target.id, "skipped_reason", &scan.plan.reason));
    }
    if scan.started_at.is_none() {
        resolved.clear();
        skipped.clear();
    }
    json!({
        "id": vendor_id("scan", scan.id), "type": scan.scanner, "state": state, "progress": progress,
        "results": results, "requested_targets": requested, "resolved_targets": resolved, "skipped_targets": skipped,
    })
}

/// A scan as the API shows it, though not in the answer to its POST: with `risks`. (Documented.)
pub(crate) fn scan_with_risks(own: &Scan, target: &Target) -> Value {
    let ids =
        |ids: &[ObjectId]| -> Vec<Value> { ids.iter().map(|id| json!({"risk_id": vendor_id("risk", *id)})).collect() };
    let mut shown = scan(own, target);
    shown["risks"] = json!({"new_open": ids(&own.new), "still_open": ids(&own.again), "closed": ids(&own.closed)});
    shown
}

/// A target as the API shows it: `id`, `target`, `label`, `tags`. (Documented.)
pub(crate) fn target(target: &Target) -> Value {
    json!({
        "id": vendor_id("target", target.id), "target": target.address, "label": target.label, "tags": target.tags,
    })
}

/// The address that a target's name leads to: one of those kept for documentation.
fn resolve(id: ObjectId, kind: TargetKind, address: &str) -> String {
    let host = kind.host(address);
    if kind == TargetKind::Network || host.parse::<std::net::IpAddr>().is_ok() {
        return host;
    }
    let digest = Sha256::digest(id.to_string());
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
        "id": vendor_id("risk", weakness.id), "target_id": vendor_id("target", target.id),
        "target": target.address, "tags": target.tags, "status": status,
        "risk_definition": {
            "scan_type": definition.scanner, "title": title, "threat_level": threat_level,
            "description": definition.description, "solution": definition.solution,
            "references": definition.references, "cvss": format!("{:.1}", definition.cvss_score),
            "additional_info": additional_info,
        },
    })
}

/// A weakness as the API shows it. Documented: the five fields that the events do not have.
/// Inferred: they all stand beside `risk_definition`, and the two times are ISO 8601 in UTC.
/// Nothing in this API accepts a risk, so none is.
pub(crate) fn risk_with_times(weakness: &Weakness, target: &Target) -> Value {
    let mut shown = risk(weakness, target);
    shown["target_label"] = target.label.as_str().into();
    shown["is_accepted"] = false.into();
    shown["accepted_by"] = json!([]);
    shown["first_detected_at"] = weakness.first_detected_at.map(iso).into();
    shown["last_detected_at"] = weakness.last_detected_at.map(iso).into();
    shown
}

/// A weakness as a scan's results show it: nothing that can change later.
pub(crate) fn finding(weakness: &Weakness, target: &Target) -> Value {
    let mut shown = risk(weakness, target);
    json!({
        "id": shown["id"].take(), "target_id": shown["target_id"].take(), "target": shown["target"].take(),
        "risk_definition": shown["risk_definition"].take(),
    })
}

/// A time as the API writes it.
pub(crate) fn iso(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Millis, true)
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
