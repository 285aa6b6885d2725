//! The objects of a world as Probely's API shows them, and as its events carry them. An object of
//! a network has no such form: Probely scans websites only.
//!
//! Documented: the fields and their words. Inferred: a finding's two URLs are the same.
//! Assumed: the roles; the pages and checks of a scan; whatever a world does not know, which is as
//! on an object that nobody has touched.

use std::net::Ipv6Addr;

use serde_json::{Value, json};

use super::ids::{derived_id, vendor_id, verification_token};
use super::requests::requests;
use crate::clock::format_time;
use crate::world::surface::Technology;
use crate::world::{
    About, Counts, Definition, Level, Scan, ScanState, Target, TargetKind, User, Weakness, WeaknessState,
};

/// The one profile that is ever used.
const PROFILE: &str = "normal";
/// A scan crawls until this much of it is done, then it scans what it has crawled. (Assumed.)
const CRAWLED: u8 = 40;
const PAGES: u64 = 84;
const CHECKS: u64 = 412;

/// Where Probely looks for a target.
pub(crate) fn url_of(target: &Target) -> Option<String> {
    match target.kind {
        TargetKind::Url => Some(target.address.clone()),
        TargetKind::Host if target.address.parse::<Ipv6Addr>().is_ok() => Some(format!("https://[{}]", target.address)),
        TargetKind::Host | TargetKind::Domain => Some(format!("https://{}", target.address)),
        TargetKind::Network => None,
    }
}

/// A User, as it was last changed by someone.
pub(crate) fn user(user: &User, by: &User) -> Value {
    let role = if user.is_admin { "Administrator" } else { "Security engineer" };
    json!({
        "id": vendor_id("user", user.id), "email": user.email, "name": full_name(user), "title": "",
        "is_billing_admin": user.is_admin,
        "changed_by": simple_user(by), "changed": format_time(user.changed_at),
        "last_login": null, "is_apiuser": false,
        "active": user.is_active, "is_active": user.is_active, "is_admin": user.is_admin,
        "labels": [],
        "user_roles": [
            {"role": {"id": derived_id("role", role), "name": role}, "scope": "account", "team": null, "target": null},
        ],
    })
}

/// A Target, as it was last changed by someone.
pub(crate) fn target(about: &About, by: &User) -> Option<Value> {
    let About { target, counts } = about;
    // Without a scan, nothing is known of it, not even that it has no weakness.
    let counts = (target.seen.is_some() || counts.total() > 0).then_some(counts);
    Some(json!({
        "id": vendor_id("target", target.id), "name": "",
        "site": site(target, by)?,
        "lows": counts.map(|counts| counts.low), "mediums": counts.map(|counts| counts.medium),
        "highs": counts.map(|counts| counts.high), "criticals": counts.map(|counts| counts.critical),
        "risk": counts.map(|counts| counts.worst().map_or(0, severity)),
        // A target knows when it was last scanned, not by which scan.
        "last_scan": null, "running_scan": null, "next_scan": null,
        "assets": [],
        "scan_profile": PROFILE, "type": "single", "enabled": true, "environment": "testing",
        "connected_target": null, "unlimited": true, "report_type": "default", "report_fileformat": "pdf",
        "allowed_scan_profiles": [
            {"id": "lightning", "name": "Lightning", "description": "A quick look", "builtin": true},
            {"id": "normal", "name": "Normal", "description": "The usual scan", "builtin": true},
        ],
        "labels": labels(target, by),
        "scanning_agent": null, "include_deduplicated_endpoints": null, "teams": [], "blackout_period": null,
        "fail_fast": false, "login_video": null,
        "changed": format_time(target.changed_at), "changed_by": simple_user(by),
        "incremental": false, "reduced_scope": false,
        "schedule_incremental": false, "schedule_reduced_scope": false,
        "crawl_sequences_only": false, "schedule_crawl_sequences_only": false,
    }))
}

/// A Scan, as it was last changed by someone.
pub(crate) fn scan(scan: &Scan, target: &Target, by: &User) -> Option<Value> {
    let Counts { low, medium, high, critical } = scan.counts;
    let changed_at = scan.ended_at.or(scan.started_at).unwrap_or(scan.created_at);
    // A scan that has begun sees the website as it is now, not as an earlier scan saw it.
    let stack = scan.started_at.map(|_| stack(&target.surface.technologies)).unwrap_or_default();
    let (crawler_state, crawler_status) = part(scan, 0..CRAWLED, PAGES);
    let (scanner_state, scanner_status) = part(scan, CRAWLED..100, CHECKS);
    Some(json!({
        "id": vendor_id("scan", scan.id),
        "target": simple_scope(target, by)?,
        "status": status(scan.state),
        "started": scan.started_at.map(format_time), "completed": scan.ended_at.map(format_time),
        "scan_profile": PROFILE,
        "lows": low, "mediums": medium, "highs": high, "criticals": critical,
        "created": format_time(scan.created_at), "unlimited": true,
        "changed": format_time(changed_at), "changed_by": simple_user(by),
        "crawler": {
            "state": crawler_state, "status": crawler_status, "warning": [], "error": errors(scan, target),
        },
        "fingerprinter": {"state": crawler_state, "count": stack.len(), "warning": [], "error": []},
        "scanner": {"state": scanner_state, "status": scanner_status, "warning": [], "error": []},
        "stack": stack,
        "target_options": {"site": site_options(target, by)?, "has_assets": false, "scanning_agent": null},
        "has_sequence_navigation": false, "incremental": false, "reduced_scope": false,
        "crawl_sequences_only": false, "ignore_blackout_period": false, "user_data": null,
    }))
}

/// A Finding. Only scans change it, so that it is the system's; its target is someone's.
pub(crate) fn finding(weakness: &Weakness, target: &Target, by: &User) -> Option<Value> {
    let definition = weakness.definition();
    let Spot { url, parameter } = Spot::of(weakness, &url_of(target)?);
    let attack = definition.additional_info.pointer("/instances/0/attack").and_then(Value::as_str).unwrap_or_default();
    let insertion_point = definition.place.insertion_point.as_deref().unwrap_or_default();
    let params = match insertion_point {
        "parameter" | "arbitrary_url_param" | "request_body" if !parameter.is_empty() => json!({&parameter: ["1"]}),
        _ => json!({}),
    };
    let is_open = weakness.state != WeaknessState::Closed;
    Some(json!({
        "id": weakness.number,
        "target": simple_scope(target, by)?,
        "scans": weakness.scans.iter().map(|id| vendor_id("scan", *id)).collect::<Vec<_>>(),
        "labels": [],
        "fix": definition.solution,
        "requests": requests(&definition.place, &url, &parameter, attack, &definition.evidence),
        "evidence": Some(&definition.evidence).filter(|evidence| !evidence.is_empty()), "extra": "",
        "definition": definition_of(definition),
        "url": url, "path": url,
        "method": definition.place.method.as_deref().unwrap_or_default().to_lowercase(),
        "insertion_point": insertion_point, "parameter": parameter, "value": attack, "params": params,
        "assignee": null,
        "state": if is_open { "notfixed" } else { "fixed" },
        "severity": severity(definition.threat_level),
        "cvss_score": definition.cvss_score, "cvss_vector": definition.cvss_vector,
        "last_found": format_time(weakness.last_detected_at.unwrap_or(weakness.changed_at)),
        "retesting": false, "new": is_open && weakness.scans.len() <= 1,
        "review_status": "notrequired", "review_reason": null,
        "created_at": format_time(weakness.first_detected_at.unwrap_or(weakness.changed_at)),
        "changed": format_time(weakness.changed_at),
        // The id is a real one, from before ids were Base58.
        "changed_by": {"id": "-sDw5iRCtV3Y", "email": "", "name": "Probely"},
        "comment": "",
    }))
}

/// A target as scans and findings show it.
fn simple_scope(target: &Target, by: &User) -> Option<Value> {
    Some(json!({
        "id": vendor_id("target", target.id), "name": "",
        "site": site(target, by)?,
        "type": "single", "desc": "",
        "labels": labels(target, by),
        "has_assets": false, "report_fileformat": "pdf",
        "scanning_agent": null, "teams": [], "blackout_period": null,
    }))
}

/// The core settings of a target, and what was found out about it.
fn site(target: &Target, by: &User) -> Option<Value> {
    let technologies = target.seen.as_ref().map(|(surface, _)| &*surface.technologies).unwrap_or_default();
    let mut site = site_options(target, by)?;
    site["stack"] = stack(technologies).into();
    site["verified"] = target.is_verified.into();
    site["verification_token"] = verification_token(target.id).into();
    site["verification_date"] = target.verified_at.map(format_time).into();
    site["verification_method"] = if target.is_verified { "dns_txt" } else { "" }.into();
    site["verification_last_error"] = target.verification_error.as_str().into();
    Some(site)
}

/// The core settings of a target.
fn site_options(target: &Target, by: &User) -> Option<Value> {
    let host = target.host();
    let name = if target.label.is_empty() { &host } else { &target.label };
    Some(json!({
        "id": vendor_id("site", target.id), "name": cut(name, 255), "desc": "",
        "url": url_of(target)?, "host": host,
        "has_form_login": false, "form_login_url": "", "form_login_check_pattern": "", "form_login": [],
        "logout_detection_enabled": false, "has_sequence_login": false, "has_sequence_navigation": false,
        "has_basic_auth": false, "basic_auth": {"username": "", "password": ""},
        "headers": [], "cookies": [], "whitelist": [], "blacklist": [],
        "changed": format_time(target.changed_at), "changed_by": simple_user(by),
        "auth_enabled": false, "logout_condition": "any", "check_session_url": "",
        "has_otp": false, "otp_secret": "", "otp_algorithm": "SHA1", "otp_digits": 6, "otp_field": "",
        "otp_submit": "", "otp_login_sequence_totp_value": "", "otp_type": "totp", "otp_url": "",
        "api_scan_settings": null,
    }))
}

fn simple_user(user: &User) -> Value {
    json!({"id": vendor_id("user", user.id), "email": user.email, "name": full_name(user)})
}

fn full_name(user: &User) -> String {
    cut(format!("{} {}", user.first_name, user.last_name).trim(), 60)
}

fn labels(target: &Target, by: &User) -> Vec<Value> {
    let label = |tag: &String| {
        json!({
            "id": derived_id("label", tag), "name": cut(tag, 255), "color": "#00FF00",
            "changed_by": simple_user(by), "changed": format_time(target.created_at),
        })
    };
    target.tags.iter().map(label).collect()
}

fn stack(technologies: &[Technology]) -> Vec<Value> {
    let framework = |one: &Technology| json!({"id": derived_id("framework", &one.name), "name": one.name, "desc": ""});
    technologies.iter().map(framework).collect()
}

fn definition_of(definition: &Definition) -> Value {
    json!({
        "id": derived_id("definition", &definition.key),
        "name": cut(&definition.title, 255), "desc": definition.description,
    })
}

fn status(state: ScanState) -> &'static str {
    match state {
        ScanState::Queued => "queued",
        ScanState::Started => "started",
        ScanState::Completed => "completed",
        ScanState::Failed => "failed",
        ScanState::Cancelled => "canceled",
        ScanState::Pausing => "pausing",
        ScanState::Paused => "paused",
        ScanState::Resuming => "resuming",
        ScanState::Cancelling => "canceling",
    }
}

fn severity(level: Level) -> u8 {
    match level {
        Level::Low => 10,
        Level::Medium => 20,
        Level::High => 30,
        Level::Critical => 40,
    }
}

/// The state of one part of a scan, and how many of `total` it has done.
fn part(scan: &Scan, percent: std::ops::Range<u8>, total: u64) -> (&'static str, Vec<u64>) {
    let has_begun = scan.started_at.is_some() && scan.progress >= percent.start;
    let state = match scan.started_at {
        Some(_) if scan.state.has_ended() || scan.progress >= percent.end => "ended",
        Some(_) if has_begun => "started",
        _ => "",
    };
    let done = u64::from(scan.progress.clamp(percent.start, percent.end) - percent.start);
    let status = has_begun.then(|| vec![total * done / u64::from(percent.end - percent.start), total]);
    (state, status.unwrap_or_default())
}

/// Why a scan failed.
fn errors(scan: &Scan, target: &Target) -> Vec<Value> {
    let code = if target.is_unreachable { "target_unreachable" } else { "scan_failed" };
    let error = || json!({"code": code, "message": scan.plan.reason});
    (scan.state == ScanState::Failed).then(error).into_iter().collect()
}

/// Where a finding is.
struct Spot {
    url: String,
    parameter: String,
}

impl Spot {
    /// Several weaknesses of one definition differ in the parameter, or where there is none, in the path.
    fn of(weakness: &Weakness, url: &str) -> Self {
        let place = &weakness.definition().place;
        let mut parameter = place.parameter.clone().unwrap_or_default();
        let base = url.split(['?', '#']).next().unwrap_or(url).trim_end_matches('/');
        let mut url = place.path.as_ref().map_or_else(|| url.to_owned(), |path| format!("{base}{path}"));
        if weakness.instance > 0 && parameter.is_empty() {
            url = format!("{}/{}", url.trim_end_matches('/'), weakness.instance);
        } else if weakness.instance > 0 {
            parameter = format!("{parameter}_{}", weakness.instance);
        }
        Self { url, parameter }
    }
}

/// The first characters of a text that must not be longer.
fn cut(text: &str, characters: usize) -> String {
    text.chars().take(characters).collect()
}
