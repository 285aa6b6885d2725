//! Scans: start, list, show, pause, resume, cancel; one by one and in bulk.

use std::sync::Arc;

use axum::Json;
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value};

use super::call::{self, At, Call, Failure, Fields, View, user_of};
use super::fields::{Rule, check, entries, kept};
use super::labels::LabelFilter;
use super::list::{Key, Page, check_ids, is_among, is_found, order, time};
use super::targets::PROFILES;
use crate::event::Vendor;
use crate::http::vendors::{Params, all_objects, named};
use crate::id::ObjectId;
use crate::scanner::life::{self, NewScan};
use crate::scanner::{Refusal, Rules, hold};
use crate::vendors::probely::ids::vendor_id;
use crate::vendors::probely::objects::{self, Scene};
use crate::world::{Kind, Scan, Scanner, World};

/// What a caller may set of a scan that it starts. (Documented.)
const RULES: [(&str, Rule); 7] = [
    ("scan_profile", Rule::Choice(PROFILES)),
    ("incremental", Rule::Flag),
    ("reduced_scope", Rule::Flag),
    ("crawl_sequences_only", Rule::Flag),
    ("has_sequence_navigation", Rule::Flag),
    ("ignore_blackout_period", Rule::Flag),
    ("user_data", Rule::Text(10_000)),
];

/// A scan as Probely shows it; none if its target is gone.
pub(super) fn shown(scan: &Scan, view: &View) -> Option<Value> {
    shown_for(scan, scan.target_id, view)
}

/// A scan as one of its targets has it.
fn shown_for(scan: &Scan, target_id: ObjectId, view: &View) -> Option<Value> {
    let by = user_of(&view.world, scan.by).unwrap_or(&view.by);
    objects::scan(scan, view.target_of(target_id)?, Scene { world: &view.world, by })
}

/// The scanner that a scan of this profile stands for. (A choice: Probely has one of its own.)
pub(super) fn scanner_of(profile: &str) -> Scanner {
    if profile == "full" { Scanner::OwaspZapActive } else { Scanner::OwaspZap }
}

/// Starts a scan of a target, with a scanner of the caller's or the profile's.
pub(super) fn start_with(
    world: &mut World,
    rules: Rules<'_>,
    target_id: ObjectId,
    set: &Map<String, Value>,
    scanner: Option<Scanner>,
) -> Result<Arc<Scan>, Refusal> {
    let mut set = set.clone();
    if !set.contains_key("scan_profile") {
        let settings = world.target(target_id).and_then(|target| objects::own(&target.settings));
        let profile = settings.and_then(|own| own.get("scan_profile")).cloned();
        set.insert("scan_profile".to_owned(), profile.unwrap_or_else(|| "normal".into()));
    }
    let profile = set.get("scan_profile").and_then(Value::as_str).unwrap_or_default();
    let scanner = scanner.unwrap_or_else(|| scanner_of(profile));
    let settings = [(Vendor::Probely, set)].into();
    life::start(world, rules, NewScan { settings, ..NewScan::of(target_id, scanner) }, rules.now)
}

pub(super) async fn scan_now(call: Call, At(target): At<String>, Fields(fields): Fields) -> Result<Response, Failure> {
    let target_id = call.view().await?.target(&target)?.id;
    check(&fields, &RULES, &[])?;
    let set = kept(&fields, &RULES);
    let scan = call.change(|world, rules| start_with(world, rules, target_id, &set, None)).await?;
    let view = call.view().await?;
    shown(&scan, &view).map(|scan| Json(scan).into_response()).ok_or_else(Failure::not_found)
}

/// A scan by Probely's id, with its target; of one target if one is named.
async fn scan(call: &Call, target: Option<&str>, id: &str, view: &View) -> Result<Arc<Scan>, Failure> {
    let is_meant = |one: ObjectId| vendor_id("scan", one) == id;
    let found: Option<Arc<Scan>> = named(&call.api, call.account_id, Kind::Scan, is_meant).await?;
    let target_id = target.map(|target| view.target(target).map(|target| target.id)).transpose()?;
    let is_shown = |scan: &Arc<Scan>| match target_id {
        Some(target_id) => scan.is_of(target_id),
        None => view.target_of(scan.target_id).is_some(),
    };
    found.filter(is_shown).ok_or_else(Failure::not_found)
}

async fn show_one(call: Call, target: Option<String>, id: String) -> Result<Response, Failure> {
    let view = call.view().await?;
    let scan = scan(&call, target.as_deref(), &id, &view).await?;
    let target_id = target.map(|target| view.target(&target).map(|target| target.id)).transpose()?;
    shown_for(&scan, target_id.unwrap_or(scan.target_id), &view)
        .map(|scan| Json(scan).into_response())
        .ok_or_else(Failure::not_found)
}

pub(super) async fn show(call: Call, At(id): At<String>) -> Result<Response, Failure> {
    show_one(call, None, id).await
}

pub(super) async fn show_of_target(call: Call, At((target, id)): At<(String, String)>) -> Result<Response, Failure> {
    show_one(call, Some(target), id).await
}

pub(super) async fn list(call: Call, params: Params) -> Result<Response, Failure> {
    page_of(&call, None, &params).await
}

pub(super) async fn list_of_target(call: Call, At(target): At<String>, params: Params) -> Result<Response, Failure> {
    page_of(&call, Some(&target), &params).await
}

async fn page_of(call: &Call, target: Option<&str>, params: &Params) -> Result<Response, Failure> {
    let page = Page::read(params)?;
    let view = call.view().await?;
    let target_id = target.map(|target| view.target(target).map(|target| target.id)).transpose()?;
    let mut all: Vec<Arc<Scan>> = all_objects(&call.api, call.account_id, Kind::Scan, None).await?;
    all.retain(|scan| match target_id {
        Some(target_id) => scan.is_of(target_id),
        None => view.target_of(scan.target_id).is_some(),
    });
    check_ids(params, |id| all.iter().any(|scan| vendor_id("scan", scan.id) == id))?;
    let (within, labels) = (Within::read(params)?, LabelFilter::read(params, "label", &view.world));
    all.retain(|scan| {
        is_wanted(scan, target_id.unwrap_or(scan.target_id), params, &labels, &view) && within.holds(scan)
    });
    order(&mut all, params, "-changed", |scan, field| {
        Some(match field {
            "changed" => scan.ended_at.or(scan.paused_at).or(scan.started_at).unwrap_or(scan.created_at).into(),
            "created" => scan.created_at.into(),
            "started" => scan.started_at.into(),
            "completed" => scan.ended_at.into(),
            "status" => Key::Text(objects::status(scan.state).to_owned()),
            _ => return None,
        })
    });
    page.of(all, |scan| shown_for(scan, target_id.unwrap_or(scan.target_id), &view))
}

fn is_wanted(scan: &Scan, target_id: ObjectId, params: &Params, labels: &LabelFilter<'_>, view: &View) -> bool {
    let Some(target) = view.target_of(target_id) else { return false };
    is_among(params, "id", &vendor_id("scan", scan.id))
        && is_among(params, "status", objects::status(scan.state))
        && is_among(params, "target", &vendor_id("target", target.id))
        && labels.holds(target)
        && is_found(params, &[&target.label, &target.address])
}

/// Bounds of when scans started and completed.
struct Within(Vec<(&'static str, &'static str, chrono::DateTime<chrono::Utc>)>);

impl Within {
    fn read(params: &Params) -> Result<Self, Failure> {
        let mut bounds = Vec::new();
        for field in ["started", "completed"] {
            for comparison in ["gt", "gte", "lt", "lte"] {
                if let Some(bound) = time(params, &format!("{field}__{comparison}"))? {
                    bounds.push((field, comparison, bound));
                }
            }
        }
        Ok(Self(bounds))
    }

    fn holds(&self, scan: &Scan) -> bool {
        self.0.iter().all(|(field, comparison, bound)| {
            let at = if *field == "started" { scan.started_at } else { scan.ended_at };
            at.is_some_and(|at| match *comparison {
                "gt" => at > *bound,
                "gte" => at >= *bound,
                "lt" => at < *bound,
                _ => at <= *bound,
            })
        })
    }
}

type Act = fn(&mut World, Rules<'_>, ObjectId) -> Result<Arc<Scan>, Refusal>;

/// What a path says is to be done with a scan.
fn action(name: &str) -> Result<Act, Failure> {
    match name {
        "cancel" | "stop" => Ok(|world, rules, id| hold::cancel(world, rules, id, rules.now)),
        "pause" => Ok(|world, rules, id| hold::pause(world, rules, id, rules.now)),
        "resume" => Ok(|world, rules, id| hold::resume(world, rules, id, rules.now)),
        _ => Err(Failure::not_found()),
    }
}

/// Why a scan cannot be paused, resumed or cancelled, in Probely's words and without our ids.
fn in_own_words(failure: Failure, action: &str, scan: &Scan) -> Failure {
    match failure {
        Failure::Action(_) => {
            Failure::Action(format!("Cannot {action} a scan that is {}.", objects::status(scan.state)))
        }
        other => other,
    }
}

fn check_running(scan: &Scan) -> Result<(), Failure> {
    match scan.state.has_ended() {
        true => Err(Failure::Action(format!("The scan has ended: it is {}.", objects::status(scan.state)))),
        false => Ok(()),
    }
}

pub(super) async fn act(
    call: Call,
    At((target, id, name)): At<(String, String, String)>,
    Fields(_): Fields,
) -> Result<Response, Failure> {
    let act = action(&name)?;
    let found = scan(&call, Some(&target), &id, &call.view().await?).await?;
    check_running(&found)?;
    let changed = call.change(|world, rules| act(world, rules, found.id)).await;
    let changed = changed.map_err(|failure| in_own_words(failure, &name, &found))?;
    let view = call.view().await?;
    shown(&changed, &view).map(|scan| Json(scan).into_response()).ok_or_else(Failure::not_found)
}

/// The ids in a list of objects with an `id`.
pub(super) fn ids_in(fields: &Map<String, Value>, name: &str) -> Result<Vec<String>, Failure> {
    let items = fields.get(name).and_then(entries);
    let items = items.ok_or_else(|| Failure::field(name, "This field is required."))?;
    let id = |item: &Value| item.get("id").unwrap_or(item).as_str().map(str::to_owned);
    let ids: Option<Vec<String>> = items.iter().map(id).collect();
    ids.filter(|ids| !ids.is_empty()).ok_or_else(|| Failure::field(name, "Give a list of objects with an id."))
}

pub(super) async fn bulk(call: Call, At(name): At<String>, Fields(fields): Fields) -> Result<Response, Failure> {
    if name == "start" {
        return bulk_start(call, fields).await;
    }
    let act = action(&name)?;
    let view = call.view().await?;
    let all: Vec<Arc<Scan>> = all_objects(&call.api, call.account_id, Kind::Scan, None).await?;
    let own = all.into_iter().filter(|scan| view.target_of(scan.target_id).is_some());
    let known = own.map(|scan| (vendor_id("scan", scan.id), scan)).collect();
    let found = call::many(&known, ids_in(&fields, "scans")?.into_iter())?;
    found.iter().try_for_each(|(scan, _)| check_running(scan))?;
    let changed = call
        .change(|world, rules| found.iter().map(|(scan, _)| act(world, rules, scan.id)).collect::<Result<Vec<_>, _>>());
    many(&call, &changed.await?).await
}

async fn bulk_start(call: Call, mut fields: Map<String, Value>) -> Result<Response, Failure> {
    let targets = call.view().await?.many_targets(ids_in(&fields, "targets")?.into_iter())?;
    fields.remove("targets");
    check(&fields, &RULES, &[])?;
    let set = kept(&fields, &RULES);
    let start_all = |world: &mut World, rules: Rules<'_>| {
        targets.iter().map(|(target, _)| start_with(world, rules, *target, &set, None)).collect::<Result<Vec<_>, _>>()
    };
    let scans = call.change(start_all).await?;
    many(&call, &scans).await
}

async fn many(call: &Call, scans: &[Arc<Scan>]) -> Result<Response, Failure> {
    let view = call.view().await?;
    let shown: Vec<Value> = scans.iter().filter_map(|scan| shown(scan, &view)).collect();
    Ok(Json(shown).into_response())
}
