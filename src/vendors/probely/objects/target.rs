//! Targets, and the sites that are their core.

use std::net::Ipv6Addr;

use serde_json::{Value, json};

use super::scan::{running_scan, short_scan};
use super::things::{assets_of, blackout, has_assets, label_of_tag, next_scan_of, profiles_of, teams_of};
use super::{Scene, cut, overlay, own, own_text, severity, simple_user};
use crate::clock::format_time;
use crate::vendors::probely::ids::{derived_id, vendor_id, verification_token};
use crate::world::surface::Technology;
use crate::world::{About, Target, TargetKind};

/// The scan profile of a target for which no other is set.
pub(super) const PROFILE: &str = "normal";

/// Where Probely looks for a target.
pub(crate) fn url_of(target: &Target) -> Option<String> {
    match target.kind {
        TargetKind::Url => Some(target.address.clone()),
        TargetKind::Host if target.address.parse::<Ipv6Addr>().is_ok() => Some(format!("https://[{}]", target.address)),
        TargetKind::Host | TargetKind::Domain => Some(format!("https://{}", target.address)),
        TargetKind::Network => None,
    }
}

/// A Target, as it was last changed by someone.
pub(crate) fn target(about: &About, scene: Scene<'_>) -> Option<Value> {
    let About { target, counts } = about;
    // Without a scan, nothing is known of it, not even that it has no weakness.
    let counts = (target.seen.is_some() || counts.total() > 0).then_some(counts);
    let running = scene.world.running_scans().find(|scan| scan.target_id == target.id);
    let running = running.map(|scan| running_scan(scan, target));
    let mut shown = json!({
        "id": vendor_id("target", target.id), "name": "",
        "site": null,
        "lows": counts.map(|counts| counts.low), "mediums": counts.map(|counts| counts.medium),
        "highs": counts.map(|counts| counts.high), "criticals": counts.map(|counts| counts.critical),
        "risk": counts.map(|counts| counts.worst().map_or(0, severity)),
        "last_scan": target.last_scan.as_ref().map(|scan| short_scan(scan)),
        "running_scan": running, "next_scan": next_scan_of(target, scene),
        "assets": [],
        "scan_profile": PROFILE, "type": "single", "enabled": true, "environment": "testing",
        "connected_target": null, "unlimited": true, "report_type": "default", "report_fileformat": "pdf",
        "allowed_scan_profiles": profiles_of(type_of(target)),
        "labels": [],
        "scanning_agent": null, "include_deduplicated_endpoints": null, "teams": [], "blackout_period": null,
        "fail_fast": false, "login_video": null,
        "changed": format_time(target.changed_at), "changed_by": simple_user(scene.by),
        "incremental": false, "reduced_scope": false,
        "schedule_incremental": false, "schedule_reduced_scope": false,
        "crawl_sequences_only": false, "schedule_crawl_sequences_only": false,
    });
    if let Some(own) = own(&target.settings) {
        overlay(&mut shown, own);
    }
    // What was set of these is told with more than was given.
    shown["site"] = site(target, scene)?;
    shown["assets"] = assets_of(target, scene).into();
    shown["blackout_period"] = blackout(&target.settings, &format_time(target.changed_at), scene);
    shown["labels"] = labels(target, scene).into();
    shown["teams"] = teams_of(target, scene).into();
    Some(shown)
}

/// `single` for a website, `api` for an API.
fn type_of(target: &Target) -> &str {
    own_text(&target.settings, "type").unwrap_or("single")
}

/// A target as scans and findings show it.
pub(crate) fn simple_scope(target: &Target, scene: Scene<'_>) -> Option<Value> {
    let mut shown = json!({
        "id": vendor_id("target", target.id), "name": "",
        "site": null,
        "type": "single", "desc": "",
        "labels": [],
        "has_assets": has_assets(target, scene), "report_fileformat": "pdf",
        "scanning_agent": null, "teams": [], "blackout_period": null,
    });
    if let Some(own) = own(&target.settings) {
        overlay(&mut shown, own);
    }
    shown["site"] = site(target, scene)?;
    shown["blackout_period"] = blackout(&target.settings, &format_time(target.changed_at), scene);
    shown["labels"] = labels(target, scene).into();
    shown["teams"] = teams_of(target, scene).into();
    Some(shown)
}

/// The core settings of a target, and what was found out about it.
fn site(target: &Target, scene: Scene<'_>) -> Option<Value> {
    let technologies = target.seen.as_ref().map(|(surface, _)| &*surface.technologies).unwrap_or_default();
    let mut site = site_options(target, scene)?;
    site["stack"] = stack(technologies).into();
    site["verified"] = target.is_verified.into();
    site["verification_token"] = verification_token(target.id).into();
    site["verification_date"] = target.verified_at.map(format_time).into();
    site["verification_method"] = if target.is_verified { "dns_txt" } else { "" }.into();
    site["verification_last_error"] = target.verification_error.as_str().into();
    Some(site)
}

/// The core settings of a target.
pub(super) fn site_options(target: &Target, scene: Scene<'_>) -> Option<Value> {
    let host = target.host();
    let name = if target.label.is_empty() { &host } else { &target.label };
    let mut site = json!({
        "id": vendor_id("site", target.id), "name": cut(name, 255), "desc": "",
        "url": url_of(target)?, "host": host,
        "has_form_login": false, "form_login_url": "", "form_login_check_pattern": "", "form_login": [],
        "logout_detection_enabled": false, "has_sequence_login": false, "has_sequence_navigation": false,
        "has_basic_auth": false, "basic_auth": {"username": "", "password": ""},
        "headers": [], "cookies": [], "whitelist": [], "blacklist": [],
        "changed": format_time(target.changed_at), "changed_by": simple_user(scene.by),
        "auth_enabled": false, "logout_condition": "any", "check_session_url": "",
        "has_otp": false, "otp_secret": "", "otp_algorithm": "SHA1", "otp_digits": 6, "otp_field": "",
        "otp_submit": "", "otp_login_sequence_totp_value": "", "otp_type": "totp", "otp_url": "",
        "api_scan_settings": null,
    });
    if let Some(Value::Object(set)) = own(&target.settings).and_then(|own| own.get("site")) {
        overlay(&mut site, set);
    }
    Some(site)
}

/// The target's labels, which are its tags.
fn labels(target: &Target, scene: Scene<'_>) -> Vec<Value> {
    target.tags.iter().map(|tag| label_of_tag(tag, target.created_at, scene)).collect()
}

/// The id of the label that a tag is, unless a label of this name was made with another.
pub(crate) fn label_id(tag: &str) -> String {
    derived_id("label", tag)
}

pub(super) fn stack(technologies: &[Technology]) -> Vec<Value> {
    let framework = |one: &Technology| json!({"id": derived_id("framework", &one.name), "name": one.name, "desc": ""});
    technologies.iter().map(framework).collect()
}
