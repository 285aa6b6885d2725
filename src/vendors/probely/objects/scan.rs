//! Scans: whole, and as targets show them.

use serde_json::{Value, json};

use super::target::{PROFILE, simple_scope, site_options, stack};
use super::{Scene, is_set, own, own_text, simple_user};
use crate::clock::format_time;
use crate::vendors::probely::ids::vendor_id;
use crate::world::{Counts, Scan, ScanState, Target};

/// A scan crawls until this much of it is done, then it scans what it has crawled. (Assumed.)
const CRAWLED: u8 = 40;
const PAGES: u64 = 84;
const CHECKS: u64 = 412;

/// A Scan, as it was last changed by someone.
pub(crate) fn scan(scan: &Scan, target: &Target, scene: Scene<'_>) -> Option<Value> {
    let changed_at = scan.ended_at.or(scan.paused_at).or(scan.started_at).unwrap_or(scan.created_at);
    let scope = simple_scope(target, scene)?;
    let options = json!({
        "site": site_options(target, scene)?, "has_assets": scope["has_assets"], "scanning_agent": null,
    });
    let mut shown = running_scan(scan, target, scene);
    let more = json!({
        "target": scope,
        "unlimited": true,
        "changed": format_time(changed_at), "changed_by": simple_user(scene.by),
        "target_options": options,
        "has_sequence_navigation": is_set(&scan.settings, "has_sequence_navigation"),
        "incremental": is_set(&scan.settings, "incremental"),
        "reduced_scope": is_set(&scan.settings, "reduced_scope"),
        "crawl_sequences_only": is_set(&scan.settings, "crawl_sequences_only"),
        "ignore_blackout_period": is_set(&scan.settings, "ignore_blackout_period"),
        "user_data": own(&scan.settings).and_then(|own| own.get("user_data")),
    });
    if let (Value::Object(fields), Value::Object(more)) = (&mut shown, more) {
        fields.extend(more);
    }
    Some(shown)
}

/// A scan as the target that it was of shows it.
pub(super) fn short_scan(scan: &Scan, counts: Counts) -> Value {
    let Counts { low, medium, high, critical } = counts;
    json!({
        "id": vendor_id("scan", scan.id), "status": status(scan.state),
        "started": scan.started_at.map(format_time), "completed": scan.ended_at.map(format_time),
        "scan_profile": own_text(&scan.settings, "scan_profile").unwrap_or(PROFILE),
        "lows": low, "mediums": medium, "highs": high, "criticals": critical,
        "created": format_time(scan.created_at),
    })
}

/// A scan as the target that it is of shows it while it runs.
pub(super) fn running_scan(scan: &Scan, target: &Target, scene: Scene<'_>) -> Value {
    // A scan that has begun sees the website as it is now, not as an earlier scan saw it.
    let stack = scan.started_at.map(|_| stack(&target.surface.technologies)).unwrap_or_default();
    let (crawler_state, crawler_status) = part(scan, 0..CRAWLED, PAGES);
    let (scanner_state, scanner_status) = part(scan, CRAWLED..100, CHECKS);
    let mut shown = short_scan(scan, scene.world.counts_of(scan, target.id));
    let more = json!({
        "crawler": {
            "state": crawler_state, "status": crawler_status, "warning": [], "error": errors(scan, target),
        },
        "fingerprinter": {"state": crawler_state, "count": stack.len(), "warning": [], "error": []},
        "scanner": {"state": scanner_state, "status": scanner_status, "warning": [], "error": []},
        "stack": stack,
    });
    if let (Value::Object(fields), Value::Object(more)) = (&mut shown, more) {
        fields.extend(more);
    }
    shown
}

/// Where a scan stands, in Probely's words. (Documented.)
pub(crate) fn status(state: ScanState) -> &'static str {
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
