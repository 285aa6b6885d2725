//! The objects of Halo Security, as its webhooks and its API show them: one id and one form each.
//!
//! Ids are made from ours by functions, so that what a webhook has named can be fetched by it.

use std::collections::BTreeSet;
use std::sync::Arc;

use chrono::{DateTime, Timelike, Utc};
use ipnet::IpNet;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::CATALOGUE;
use crate::event::Event;
use crate::id::ObjectId;
use crate::world::surface::{Port, Technology};
use crate::world::{
    Definition, Item, Level, PciReport, PciState, Scan, Scanner, Target, TargetKind, User, Weakness, definition,
};

/// From which CVSS score on an issue fails a PCI scan. (The PCI council's ASV programme guide.)
const PCI_SCORE: f64 = 4.0;

/// A time in UTC. (Documented: `YYYY-MM-DD HH24:MI`.)
pub(crate) fn timestamp(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M").to_string()
}

/// Where a person sees an event. (Documented.)
pub(crate) fn event_url(event_id: &str) -> String {
    format!("https://www.halosecurity.com/link?q=user-event&id={event_id}")
}

/// The fixed label of an event type. (Documented.)
pub(crate) fn subject(key: &str) -> &'static str {
    CATALOGUE.get(key).map_or("", |event_type| &event_type.subject)
}

/// An event: `event_id`, `subject`, `date_created`, `key`, `url`, `target`. (Documented.) One that
/// is about no target has no `target`. (Assumed.)
pub(crate) fn event(event: &Event, target: Option<Value>) -> Value {
    let id = &event.vendor_event_id;
    let mut shown = json!({
        "event_id": id,
        "subject": subject(&event.event_type),
        "date_created": timestamp(event.occurred_at),
        "key": event.event_type,
        "url": event_url(id),
    });
    if let Some(target) = target {
        shown["target"] = target;
    }
    shown
}

pub(crate) fn is_website(target: &Target) -> bool {
    matches!(target.kind, TargetKind::Host | TargetKind::Url)
}

/// A target's number: a target, a domain and a network are counted apart. (Assumed.)
pub(crate) fn target_id(target: &Target) -> u64 {
    if is_website(target) { 100_000 + target.number } else { 1_000 + target.number }
}

/// The name that a user has given it; its host, if none. (The latter assumed.)
pub(crate) fn target_name(target: &Target) -> String {
    if target.label.is_empty() { target.host() } else { target.label.clone() }
}

/// A target where another object names it: `target_name`, `target_id`, `target`. (Documented.)
pub(crate) fn target_reference(target: &Target) -> Value {
    json!({"target_name": target_name(target), "target_id": target_id(target), "target": target.host()})
}

/// A target alone. The names are documented. Assumed: the country, which a world does not
/// have, is made up; every target is scanned daily, in the hour it was added;
/// `scan_id` is empty before the first scan has ended.
pub(crate) fn target(target: &Target, current: Option<&Scan>, recent: &[Arc<Scan>]) -> Value {
    let host = target.host();
    let leads_to = target.kind.leads_to(target.id, &target.address);
    // Of a network, its first address.
    let ip = leads_to.parse::<IpNet>().ok().and_then(|network| network.hosts().next());
    let ip = ip.map_or(leads_to, |ip| ip.to_string());
    json!({
        "recent_scan_ids": recent.iter().map(|scan| scan_id(scan.id)).collect::<Vec<_>>(),
        "target_name": target_name(target),
        "date_created": timestamp(target.created_at),
        "ip": ip,
        "target_id": target_id(target),
        "target": host,
        "geo": "US-CA",
        "scan_id": current.map(|scan| scan_id(scan.id)).unwrap_or_default(),
        "scan_frequency": 1,
        "scan_hour": target.created_at.hour(),
    })
}

/// A scan's id: twelve digits of time, twenty letters and digits. (Inferred.)
pub(crate) fn scan_id(id: ObjectId) -> String {
    const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let digest = Sha256::digest(format!("halo/scan/{id}"));
    let letters = digest.iter().take(20).map(|byte| char::from(ALPHABET[usize::from(*byte) % ALPHABET.len()]));
    format!("{}{}", id.time().format("%Y%m%d%H%M"), letters.collect::<String>())
}

/// When a scan started: its `date`. (The name is documented; that it is the start is assumed.)
fn scan_date(scan: &Scan) -> String {
    timestamp(scan.started_at.unwrap_or(scan.created_at))
}

/// A scan in a list: `date`, `scan_id`. (Documented.)
pub(crate) fn scan_reference(scan: &Scan) -> Value {
    json!({"date": scan_date(scan), "scan_id": scan_id(scan.id)})
}

/// A scan alone: `date`, `duration`, both counts by severity, `scan_id`. (Documented.) Assumed: the
/// duration is in seconds, and of a running scan what it has taken so far; the first count is of
/// different issues, the second of their instances.
pub(crate) fn scan(scan: &Scan, found: &[Arc<Weakness>], now: DateTime<Utc>) -> Value {
    let duration = scan.started_at.map(|started| (scan.ended_at.unwrap_or(now) - started).num_seconds().max(0));
    let definitions: Vec<&Definition> = found.iter().map(|weakness| weakness.definition()).collect();
    let different: BTreeSet<&str> = definitions.iter().map(|one| one.key.as_str()).collect();
    let different = different.into_iter().filter_map(|key| definition(key).ok());
    json!({
        "date": scan_date(scan),
        "duration": duration.unwrap_or_default(),
        "issue_severity_count": by_severity(different),
        "issue_instance_severity_count": by_severity(definitions.into_iter()),
        "scan_id": scan_id(scan.id),
    })
}

/// How many issues there are of each severity, `"0"` to `"5"`. (Documented.)
fn by_severity<'d>(definitions: impl Iterator<Item = &'d Definition>) -> Value {
    let mut counts = [0_u32; 6];
    for definition in definitions {
        if let Some(count) = counts.get_mut(usize::from(severity(definition.threat_level))) {
            *count += 1;
        }
    }
    let named = counts.into_iter().enumerate().map(|(level, count)| (level.to_string(), json!(count)));
    Value::Object(named.collect::<Map<_, _>>())
}

/// Whether a weakness is an issue: of a network or a domain, an open port is told as such.
pub(crate) fn is_issue(weakness: &Weakness, target: &Target) -> bool {
    let is_port = matches!(weakness.definition().scanner, Scanner::Nmap | Scanner::NmapUdp);
    is_website(target) || !is_port
}

/// An issue's number: that of its kind in the vendor's catalogue, the same on every target.
/// (Documented by DefectDojo, which reads this API. The numbers are assumed.)
pub(crate) fn issue_id(definition: &Definition) -> u64 {
    let digest = Sha256::digest(format!("halo/issue/{}", definition.key));
    let number = digest.iter().take(4).fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    100_000 + number % 900_000
}

/// 5 critical, 4 high, 3 medium, 2 low; 1 and 0 are only information. (Inferred from DefectDojo.)
pub(crate) fn severity(level: Level) -> u8 {
    match level {
        Level::Low => 2,
        Level::Medium => 3,
        Level::High => 4,
        Level::Critical => 5,
    }
}

/// An issue where a row names it: `issue_id`, `name`, `severity`. (Inferred from DefectDojo.)
pub(crate) fn issue_reference(definition: &Definition) -> Value {
    json!({
        "issue_id": issue_id(definition),
        "name": definition.title,
        "severity": severity(definition.threat_level),
    })
}

/// An issue alone. (The names are inferred from DefectDojo, the values of `category` and `type`
/// assumed. `pci` is 1 where the issue fails a PCI scan.)
pub(crate) fn issue(definition: &Definition) -> Value {
    let is_cve = |reference: &&String| reference.starts_with("CVE-");
    let (category, kind) = match definition.scanner {
        Scanner::Nmap | Scanner::NmapUdp => ("Firewall", "port"),
        Scanner::Openvas => ("Server", "vulnerability"),
        Scanner::OwaspZap | Scanner::OwaspZapActive => ("Website", "vulnerability"),
        Scanner::Sslyze => ("Certificate", "configuration"),
    };
    json!({
        "issue_id": issue_id(definition),
        "name": definition.title,
        "severity": severity(definition.threat_level),
        "description": definition.description,
        "category": category,
        "cve_ids": definition.references.iter().filter(is_cve).collect::<Vec<_>>(),
        "pci": u8::from(definition.cvss_score >= PCI_SCORE),
        "type": kind,
    })
}

/// A user's number.
pub(crate) fn user_id(user: &User) -> u64 {
    12_000 + user.number
}

/// 1 is an administrator. (Inferred; 2 for anybody else assumed.)
pub(crate) fn role(user: &User) -> u8 {
    if user.is_admin { 1 } else { 2 }
}

/// A user. (Documented.) A world knows no phone and no title; they are empty. (Assumed.)
pub(crate) fn user(user: &User) -> Value {
    json!({
        "role": role(user),
        "user_id": user_id(user),
        "phone": "",
        "last_name": user.last_name,
        "title": "",
        "first_name": user.first_name,
        "email": user.email,
    })
}

/// A user's two names, with a space between.
pub(crate) fn full_name(user: &User) -> String {
    format!("{} {}", user.first_name, user.last_name).trim().to_owned()
}

/// What an acknowledged host may be acknowledged as. (Documented.)
pub(crate) const HOST_TYPES: [&str; 9] =
    ["global", "discovery", "cookie", "script", "form", "cert", "download", "link", "traffic"];

/// An acknowledged host: `host`, `comment`, `created_date`, `type`, `created_by`. (Documented. That
/// the type's number is 1000 and its place among the types is assumed; the sample has 1000.)
pub(crate) fn acknowledged_host(item: &Item) -> Value {
    let field = |name: &str| item.fields.get(name).and_then(Value::as_str).unwrap_or_default();
    let place = HOST_TYPES.iter().position(|kind| *kind == field("type")).unwrap_or_default();
    json!({
        "host": field("host"),
        "comment": field("comment"),
        "created_date": timestamp(item.created_at),
        "type": 1_000 + place,
        "created_by": field("created_by"),
    })
}

/// A PCI report's number.
pub(crate) fn pci_report_id(report: &PciReport) -> u64 {
    123_000 + report.number
}

/// Where a PCI report stands. (`pending` is documented, the others assumed.)
pub(crate) fn pci_status(report: &PciReport) -> &'static str {
    match report.state {
        PciState::Pending => "pending",
        PciState::Approved => "approved",
        PciState::Rejected => "rejected",
        PciState::Expired => "expired",
    }
}

/// A PCI report: `attest_name`, `target_count`, `name`, `pci_report_id` (documented of the report
/// that attesting makes), and its `status` (assumed).
pub(crate) fn pci_report(report: &PciReport, attest_name: &str, target_count: usize) -> Value {
    json!({
        "attest_name": attest_name,
        "target_count": target_count,
        "name": report.name,
        "pci_report_id": pci_report_id(report),
        "status": pci_status(report),
    })
}

/// An open port. (Assumed: as the events of ports name its parts.)
pub(crate) fn port(port: &Port) -> Value {
    json!({
        "port": port.port,
        "protocol": port.protocol,
        "service": port.service,
        "banner": port.banner,
        "state": "open",
    })
}

/// A technology. (Assumed: as the events of technologies name its parts.)
pub(crate) fn technology(technology: &Technology) -> Value {
    json!({"technology": technology.name, "version": technology.version})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Chance;
    use crate::world::definitions;

    #[test]
    fn no_two_issues_of_the_catalogue_have_one_number() {
        let ids: BTreeSet<u64> = definitions().iter().map(issue_id).collect();
        assert_eq!(ids.len(), definitions().len());
        assert!(ids.iter().all(|id| (100_000..1_000_000).contains(id)));
    }

    #[test]
    fn an_issues_number_stays_the_same_from_version_to_version() {
        let hsts = definition("owasp-zap-missing-hsts").expect("known");
        assert_eq!(issue_id(hsts), 603_079);
    }

    #[test]
    fn a_scans_id_begins_with_the_minute_it_was_queued_in() {
        let at = "2026-01-01T03:15:59.999999Z".parse().expect("a time");
        let id = scan_id(ObjectId::generate(at, 0, &mut Chance::from_seed(1).stream("id", "")));
        assert!(id.starts_with("202601010315") && id.len() == 32, "{id}");
        assert!(id.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{id}");
    }
}
