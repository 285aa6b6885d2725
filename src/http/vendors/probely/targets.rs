//! Targets: add, list, change, remove, verify.

use std::sync::Arc;

use axum::Json;
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use http::StatusCode;
use serde_json::{Map, Value, json};

use super::call::{At, Call, Failure, Fields, View};
use super::fields::{BLACKOUT, Rule, check, entries, kept};
use super::labels::{LabelFilter, tags_in};
use super::list::{Key, Page, check_ids, flag, is_among, is_found, order};
use super::things::teams_in;
use crate::event::Vendor;
use crate::http::vendors::Params;
use crate::id::ObjectId;
use crate::problem::check_text;
use crate::scanner::targets::{NewTarget, add_target, remove_target, rename_target, verify_target};
use crate::scanner::{Refusal, missing};
use crate::vendors::probely::ids::vendor_id;
use crate::vendors::probely::objects::{self, url_of};
use crate::world::{About, Settings, Target, TargetKind, World};

/// The slugs of scan profiles. (Documented, as examples.)
pub(super) const PROFILES: &[&str] = &["lightning", "normal", "full", "safe", "api_normal"];

/// What a caller may set of a target. (The fields and their words are documented.)
const RULES: [(&str, Rule); 23] = [
    ("site", Rule::Fields(&SITE)),
    ("name", Rule::Text(255)),
    ("desc", Rule::Text(10_000)),
    ("type", Rule::Choice(&["single", "api"])),
    ("environment", Rule::Choice(&["testing", "production"])),
    ("enabled", Rule::Flag),
    ("unlimited", Rule::Flag),
    ("scan_profile", Rule::Choice(PROFILES)),
    ("report_type", Rule::Choice(&["default", "executive_summary", "owasp", "pci", "pci4", "iso27001", "hipaa"])),
    ("report_fileformat", Rule::Choice(&["pdf", "docx"])),
    ("include_deduplicated_endpoints", Rule::MaybeFlag),
    ("fail_fast", Rule::MaybeFlag),
    ("login_video", Rule::UrlOrNull),
    ("blackout_period", Rule::FieldsOrNull(BLACKOUT)),
    ("incremental", Rule::Flag),
    ("reduced_scope", Rule::Flag),
    ("schedule_incremental", Rule::Flag),
    ("schedule_reduced_scope", Rule::Flag),
    ("crawl_sequences_only", Rule::Flag),
    ("schedule_crawl_sequences_only", Rule::Flag),
    ("labels", Rule::List),
    ("teams", Rule::List),
    ("connected_target", Rule::MaybeText(255)),
];

/// What a caller may set of a target's site. (Documented.)
const SITE: [(&str, Rule); 30] = [
    ("url", Rule::Url),
    ("name", Rule::Text(255)),
    ("desc", Rule::Text(10_000)),
    ("has_form_login", Rule::Flag),
    ("form_login_url", Rule::MaybeUrl),
    ("form_login_check_pattern", Rule::Text(255)),
    ("form_login", Rule::Pairs),
    ("logout_detection_enabled", Rule::Flag),
    ("has_sequence_login", Rule::Flag),
    ("has_sequence_navigation", Rule::Flag),
    ("has_basic_auth", Rule::Flag),
    ("basic_auth", Rule::Fields(&[("username", Rule::Text(255)), ("password", Rule::Text(255))])),
    ("headers", Rule::Headers),
    ("cookies", Rule::Headers),
    ("whitelist", Rule::Texts),
    ("blacklist", Rule::Texts),
    ("auth_enabled", Rule::Flag),
    ("logout_condition", Rule::Choice(&["any", "all"])),
    ("check_session_url", Rule::MaybeUrl),
    ("has_otp", Rule::Flag),
    ("otp_secret", Rule::Text(255)),
    ("otp_algorithm", Rule::Choice(&["SHA1", "SHA256", "SHA512"])),
    ("otp_digits", Rule::Numbers(&[6, 7, 8])),
    ("otp_field", Rule::Text(255)),
    ("otp_submit", Rule::Text(255)),
    ("otp_login_sequence_totp_value", Rule::Text(8)),
    ("otp_type", Rule::Choice(&["totp", "other"])),
    ("otp_url", Rule::MaybeUrl),
    ("api_scan_settings", Rule::FieldsOrNull(&API)),
    ("skip_reachability_check", Rule::Flag),
];

/// What a caller may set of how an API is scanned. (Documented.)
const API: [(&str, Rule); 12] = [
    ("api_schema_type", Rule::Choice(&["openapi", "postman"])),
    ("api_schema_url", Rule::UrlOrNull),
    ("api_schema_file", Rule::MaybeText(255)),
    ("custom_api_parameters", Rule::Pairs),
    ("media_type", Rule::Choice(&["application/json", "application/x-www-form-urlencoded"])),
    ("api_login_url", Rule::MaybeUrl),
    ("api_login_payload", Rule::Text(4_096)),
    ("api_login_enabled", Rule::Flag),
    ("api_login_token_field", Rule::Text(256)),
    ("token_prefix", Rule::Text(16)),
    ("token_parameter_name", Rule::Text(256)),
    ("token_parameter_location", Rule::Choice(&["cookie", "header", ""])),
];

/// How an API is scanned where nothing else is said.
fn api_settings() -> Value {
    json!({
        "api_schema_type": "openapi", "api_schema_url": null, "api_schema_file": null, "custom_api_parameters": [],
        "media_type": "application/json", "api_login_url": "", "api_login_payload": "", "api_login_enabled": false,
        "api_login_token_field": "", "token_prefix": "", "token_parameter_name": "", "token_parameter_location": "",
    })
}

fn shown(about: &About, view: &View) -> Option<Value> {
    objects::target(about, view.scene())
}

/// Shows a target as it is now.
async fn show_now(call: &Call, status: StatusCode, id: ObjectId) -> Result<Response, Failure> {
    let view = call.view().await?;
    let target = view.target_of(id).ok_or_else(Failure::not_found)?;
    let about = view.world.about(target);
    Ok((status, Json(shown(&about, &view))).into_response())
}

pub(super) async fn list(call: Call, params: Params) -> Result<Response, Failure> {
    let page = Page::read(&params)?;
    let view = call.view().await?;
    check_ids(&params, |id| view.target(id).is_ok())?;
    let labels = LabelFilter::read(&params, "label", &view.world);
    let own = view.targets().filter(|target| labels.holds(target)).map(|target| view.world.about(target));
    let mut all: Vec<About> = own.filter(|about| is_wanted(about, &params)).collect();
    order(&mut all, &params, "-changed", |About { target, counts }, field| {
        Some(match field {
            "changed" => target.changed_at.into(),
            "created" => target.created_at.into(),
            "name" | "site__name" => Key::Text(target.label.to_lowercase()),
            "url" | "site__url" => Key::Text(target.address.to_lowercase()),
            "risk" => Key::Number(counts.worst().map_or(0, objects::severity).into()),
            _ => return None,
        })
    });
    page.of(all, |about| shown(about, &view))
}

fn is_wanted(about: &About, params: &Params) -> bool {
    let About { target, counts } = about;
    let set = |name| objects::own(&target.settings).and_then(|own| own.get(name)?.as_str());
    let risk = match counts.worst() {
        Some(level) => objects::severity(level).to_string(),
        None if target.seen.is_none() => "null".to_owned(),
        None => "0".to_owned(),
    };
    let is = |name, value| flag(params, name).is_none_or(|wanted| wanted == value);
    is_among(params, "id", &vendor_id("target", target.id))
        && is_among(params, "scan_profile", set("scan_profile").unwrap_or("normal"))
        && is_among(params, "type", set("type").unwrap_or("single"))
        && is_among(params, "risk", &risk)
        && is("verified", target.is_verified)
        && is("unlimited", true)
        && is_found(params, &[&target.label, &target.address])
}

pub(super) async fn show(call: Call, At(id): At<String>) -> Result<Response, Failure> {
    let id = call.view().await?.target(&id)?.id;
    show_now(&call, StatusCode::OK, id).await
}

pub(super) async fn create(call: Call, params: Params, Fields(fields): Fields) -> Result<Response, Failure> {
    check(&fields, &RULES, &["site"])?;
    let set = kept(&fields, &RULES);
    let url = set.get("site").and_then(|site| site.get("url")).and_then(Value::as_str).map(str::to_owned);
    let Some(url) = url else {
        return Err(Failure::Fields(
            [("site".to_owned(), json!({"url": ["This field is required."]}))].into_iter().collect(),
        ));
    };
    let may_repeat = flag(&params, "duplicate_check") == Some(false);
    if !may_repeat && call.view().await?.world.target_at(&url).is_some() {
        let reason = json!({"url": ["A target with this URL already exists."]});
        return Err(Failure::Fields([("site".to_owned(), reason)].into_iter().collect()));
    }
    let added = call
        .change(|world, rules| {
            let new =
                NewTarget { address: url.clone(), kind: Some(TargetKind::Url), may_repeat, ..NewTarget::default() };
            let new = set_on_new(world, new, &set)?;
            Ok(add_target(world, new, rules.now).map_err(in_own_words)?.id)
        })
        .await?;
    show_now(&call, StatusCode::CREATED, added).await
}

/// A refusal with the names that the fields have here.
fn in_own_words(refusal: Refusal) -> Refusal {
    let Refusal::Invalid(mut problems) = refusal else { return refusal };
    for problem in &mut problems {
        let name = match problem.pointer.split('/').nth(1) {
            Some("label") => "/site/name",
            Some("tags") => "/labels",
            _ => "/site/url",
        };
        name.clone_into(&mut problem.pointer);
    }
    Refusal::Invalid(problems)
}

/// A new target with what was set of it.
fn set_on_new(world: &World, mut new: NewTarget, set: &Map<String, Value>) -> Result<NewTarget, Refusal> {
    let (mut label, mut tags) = (String::new(), Vec::new());
    apply(world, (&mut label, &mut tags, &mut new.settings), set)?;
    Ok(NewTarget { label, tags, ..new })
}

/// Sets fields that have been checked: the name, the tags, and what only Probely knows.
fn apply(
    world: &World,
    (label, tags, settings): (&mut String, &mut Vec<String>, &mut Settings),
    set: &Map<String, Value>,
) -> Result<(), Refusal> {
    let mut set = set.clone();
    if let Some(labels) = set.remove("labels") {
        *tags = tags_in(world, &labels)?;
    }
    if let Some(teams) = set.remove("teams") {
        set.insert("teams".to_owned(), teams_in(world, &teams)?);
    }
    if let Some(Value::Object(site)) = set.get_mut("site") {
        site.remove("url");
        if let Some(name) = site.remove("name").and_then(|name| name.as_str().map(str::to_owned)) {
            if !name.is_empty() {
                check_text("/site/name", &name, 1_020).map_err(|problem| Refusal::Invalid(vec![problem]))?;
            }
            *label = name;
        }
        if let Some(Value::Object(given)) = site.get("api_scan_settings") {
            let own = settings.get(&Vendor::Probely).and_then(|own| own.get("site")?.get("api_scan_settings"));
            let mut whole = own.filter(|own| own.is_object()).cloned().unwrap_or_else(api_settings);
            if let Value::Object(whole) = &mut whole {
                whole.extend(given.clone());
            }
            site.insert("api_scan_settings".to_owned(), whole);
        }
    }
    let own = settings.entry(Vendor::Probely).or_default();
    merge(own, set);
    check_size(own)
}

/// The most bytes that are set on one thing. (Assumed: a target is part of every webhook about it.)
const MOST_BYTES: usize = 65_536;

/// Checks that what is set on one thing is not too much in all.
pub(super) fn check_size(set: &Map<String, Value>) -> Result<(), Refusal> {
    let length = serde_json::to_string(set).map_or(0, |text| text.len());
    let reason = || format!("These are {length} bytes of settings; at most {MOST_BYTES} are kept.");
    if length > MOST_BYTES { Err(Refusal::field("", reason())) } else { Ok(()) }
}

/// Sets fields, those of objects one by one.
fn merge(own: &mut Map<String, Value>, set: Map<String, Value>) {
    for (name, value) in set {
        match (own.get_mut(&name), value) {
            (Some(Value::Object(inner)), Value::Object(set)) => merge(inner, set),
            (_, value) => drop(own.insert(name, value)),
        }
    }
}

/// Changes a target of a world.
fn change_one(world: &mut World, id: ObjectId, set: &Map<String, Value>, at: DateTime<Utc>) -> Result<(), Refusal> {
    let target = world.target(id).cloned().ok_or_else(|| missing("target", id))?;
    let mut target = Target::clone(&target);
    apply(world, (&mut target.label, &mut target.tags, &mut target.settings), set)?;
    target.changed_at = at;
    let url = set.get("site").and_then(|site| site.get("url")).and_then(Value::as_str);
    let url = url.filter(|url| url_of(&target).as_deref() != Some(*url)).map(str::to_owned);
    world.put(Arc::new(target));
    match url {
        Some(url) => rename_target(world, id, &url, at),
        None => Ok(()),
    }
}

pub(super) async fn change(call: Call, At(id): At<String>, Fields(fields): Fields) -> Result<Response, Failure> {
    let id = call.view().await?.target(&id)?.id;
    check(&fields, &RULES, &[])?;
    let set = kept(&fields, &RULES);
    call.change(|world, rules| change_one(world, id, &set, rules.now)).await?;
    show_now(&call, StatusCode::OK, id).await
}

pub(super) async fn remove(call: Call, At(id): At<String>) -> Result<Response, Failure> {
    let id = call.view().await?.target(&id)?.id;
    call.change(|world, rules| remove_target(world, id, rules.now)).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// The targets that a bulk call names, by our ids and by Probely's.
async fn bulk_ids(call: &Call, fields: &Map<String, Value>) -> Result<Vec<(ObjectId, String)>, Failure> {
    let ids = fields.get("ids").and_then(entries).ok_or_else(|| Failure::field("ids", "This field is required."))?;
    let text = |id: &Value| id.as_str().map_or_else(|| id.to_string(), str::to_owned);
    call.view().await?.many_targets(ids.iter().map(text))
}

fn ids_of(found: &[(ObjectId, String)]) -> Response {
    Json(json!({"ids": found.iter().map(|(_, id)| id).collect::<Vec<_>>()})).into_response()
}

pub(super) async fn bulk_update(call: Call, Fields(fields): Fields) -> Result<Response, Failure> {
    let found = bulk_ids(&call, &fields).await?;
    check(&fields, &RULES, &[])?;
    let set = kept(&fields, &RULES);
    call.change(|world, rules| found.iter().try_for_each(|(id, _)| change_one(world, *id, &set, rules.now))).await?;
    Ok(ids_of(&found))
}

pub(super) async fn bulk_remove(call: Call, Fields(fields): Fields) -> Result<Response, Failure> {
    let found = bulk_ids(&call, &fields).await?;
    call.change(|world, rules| found.iter().try_for_each(|(id, _)| remove_target(world, *id, rules.now))).await?;
    Ok(ids_of(&found))
}

/// Verifies a target. One that scans do not reach cannot be verified. (The answers are assumed.)
pub(super) async fn verify(call: Call, At(id): At<String>) -> Result<Response, Failure> {
    let (id, is_reachable) = {
        let view = call.view().await?;
        let target = view.target(&id)?;
        (target.id, !target.is_unreachable)
    };
    const FAILED: &str = "The host does not answer.";
    let reason = (!is_reachable).then(|| FAILED.to_owned());
    call.change(|world, rules| verify_target(world, id, reason.clone(), rules.now)).await?;
    if is_reachable { show_now(&call, StatusCode::OK, id).await } else { Err(Failure::Action(FAILED.to_owned())) }
}

/// Takes the schema of an API: JSON or YAML.
pub(super) async fn upload_schema(call: Call, At(id): At<String>, Fields(fields): Fields) -> Result<Response, Failure> {
    let target = call.view().await?.target(&id)?.id;
    let Some(text) = fields.get("file").and_then(Value::as_str) else {
        return Err(Failure::field("file", "No file was submitted."));
    };
    let is_object = serde_saphyr::from_str::<Value>(text).is_ok_and(|schema| schema.is_object());
    if !is_object {
        return Err(Failure::field("file", "The file is neither JSON nor YAML of an API schema."));
    }
    let site = json!({"api_scan_settings": {"api_schema_file": format!("{id}-api_schema_file")}});
    let set: Map<String, Value> = [("site".to_owned(), site)].into_iter().collect();
    call.change(|world, rules| change_one(world, target, &set, rules.now)).await?;
    show_now(&call, StatusCode::CREATED, target).await
}
