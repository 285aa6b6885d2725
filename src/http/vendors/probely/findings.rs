//! Findings: list, show, change, retest. A finding's number is its own within its target only, so
//! that account-wide its id is `TARGET-NUMBER`.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use axum::Json;
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use http::StatusCode;
use serde_json::{Map, Value, json};

use super::call::{At, Call, Failure, Fields, View};
use super::fields::{Rule, check, entries, kept};
use super::labels::{LabelFilter, items_in};
use super::list::{Key, Page, check_ids, flag, is_among, is_found, order, time};
use super::scans;
use crate::clock::format_time;
use crate::event::Vendor;
use crate::http::vendors::Params;
use crate::id::ObjectId;
use crate::scanner::weaknesses::{mark_fixed, reopen};
use crate::scanner::{Refusal, missing};
use crate::vendors::probely::ids::vendor_id;
use crate::vendors::probely::objects;
use crate::world::{Object, Target, Weakness, WeaknessState, World};

/// What a caller may set of a finding. (Documented.)
const RULES: [(&str, Rule); 6] = [
    ("state", Rule::Choice(&["notfixed", "invalid", "accepted", "fixed"])),
    ("comment", Rule::Text(10_000)),
    ("review_status", Rule::Choice(&["notrequired", "pending", "rejected", "accepted"])),
    ("review_reason", Rule::MaybeText(10_000)),
    ("labels", Rule::List),
    ("assignee", Rule::Object),
];

/// A finding and its target.
type Found = (Arc<Weakness>, Arc<Target>);

fn shown((weakness, target): &Found, view: &View) -> Option<Value> {
    objects::finding(weakness, target, view.scene())
}

/// A finding by its number in a target, or by `TARGET-NUMBER`. A bare number means the oldest target
/// that has such a finding. (Assumed.)
fn one(view: &View, target: Option<&str>, id: &str) -> Result<Found, Failure> {
    let (target, number) = match (target, id.rsplit_once('-')) {
        (None, Some((target, number))) => (Some(target), number),
        (target, _) => (target, id),
    };
    let number: u64 = number.parse().map_err(|_| Failure::not_found())?;
    match target {
        Some(target) => numbered(view, view.target(target)?, number),
        None => view.targets().find_map(|target| numbered(view, target, number)),
    }
    .ok_or_else(Failure::not_found)
}

/// The finding of a target that has this number; none if no scan has found it.
fn numbered(view: &View, target: &Arc<Target>, number: u64) -> Option<Found> {
    let weakness = view.world.weakness(target.id, number).filter(|one| one.state != WeaknessState::Latent);
    weakness.map(|weakness| (Arc::clone(weakness), Arc::clone(target)))
}

fn show_one(view: &View, found: &Found) -> Result<Response, Failure> {
    shown(found, view).map(|finding| Json(finding).into_response()).ok_or_else(Failure::not_found)
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
    let target = target.map(|target| view.target(target)).transpose()?;
    check_ids(params, |id| one(&view, None, id).is_ok())?;
    let wanted = Wanted::read(params, &view)?;
    let mut found: Vec<Found> = Vec::new();
    for of in view.targets().filter(|of| target.is_none_or(|target| target.id == of.id)) {
        wanted.of_target(of, &view, &mut found);
    }
    order(&mut found, params, "-last_found", |(weakness, _), field| {
        Some(match field {
            "last_found" => weakness.last_detected_at.into(),
            "created_at" => weakness.first_detected_at.into(),
            "changed" => weakness.changed_at.into(),
            "id" => Key::Number(weakness.number.cast_signed()),
            "severity" => Key::Number(objects::severity(weakness.definition().threat_level).into()),
            "state" => Key::Text(objects::state(weakness).to_owned()),
            _ => return None,
        })
    });
    page.of(found, |found| shown(found, &view))
}

/// From a time to a time.
type Bounds = (Option<DateTime<Utc>>, Option<DateTime<Utc>>);

fn is_within(at: DateTime<Utc>, (after, before): Bounds) -> bool {
    after.is_none_or(|after| at >= after) && before.is_none_or(|before| at <= before)
}

/// Which findings a caller wants, looked up once: there may be very many of them.
struct Wanted<'p> {
    params: &'p Params,
    labels: LabelFilter<'p>,
    found: Bounds,
    changed: Bounds,
    ids: Vec<&'p str>,
    states: Vec<&'p str>,
    scans: Vec<&'p str>,
}

impl<'p> Wanted<'p> {
    fn read(params: &'p Params, view: &View) -> Result<Self, Failure> {
        Ok(Self {
            params,
            labels: LabelFilter::read(params, "target_label", &view.world),
            found: (time(params, "lastfound_after")?, time(params, "lastfound_before")?),
            changed: (time(params, "changed_after")?, time(params, "changed_before")?),
            ids: params.all("id").collect(),
            states: params.all("state").collect(),
            scans: params.all("scan").collect(),
        })
    }

    /// Adds those of a target.
    fn of_target(&self, target: &Arc<Target>, view: &View, found: &mut Vec<Found>) {
        let target_id = vendor_id("target", target.id);
        if !is_among(self.params, "target", &target_id) || !self.labels.holds(target) {
            return;
        }
        let mut scans = HashMap::new();
        for weakness in view.world.weaknesses(target.id).filter(|one| one.state != WeaknessState::Latent) {
            let mut is_wanted_scan = |id: &ObjectId| {
                *scans.entry(*id).or_insert_with(|| self.scans.contains(&vendor_id("scan", *id).as_str()))
            };
            let is_of_scan = self.scans.is_empty() || weakness.scans.iter().any(&mut is_wanted_scan);
            if is_of_scan && self.is_named(weakness, &target_id) && self.holds(weakness, target, view) {
                found.push((Arc::clone(weakness), Arc::clone(target)));
            }
        }
    }

    /// Whether it is among the ids that are wanted: `TARGET-NUMBER`, or numbers.
    fn is_named(&self, weakness: &Weakness, target_id: &str) -> bool {
        let number = weakness.number.to_string();
        let is_meant = |id: &&str| match id.rsplit_once('-') {
            Some((target, own)) => target == target_id && own == number,
            None => *id == number,
        };
        self.ids.is_empty() || self.ids.iter().any(is_meant)
    }

    fn holds(&self, weakness: &Weakness, target: &Target, view: &View) -> bool {
        let Self { params, .. } = self;
        let definition = weakness.definition();
        let review = objects::own(&weakness.settings).and_then(|own| own.get("review_status")?.as_str());
        let state = objects::state(weakness);
        let is_in_state = |wanted: &&str| match *wanted {
            "retesting" => objects::is_retesting(weakness, &view.world),
            wanted => wanted == state,
        };
        (self.states.is_empty() || self.states.iter().any(is_in_state))
            && is_among(params, "severity", &objects::severity(definition.threat_level).to_string())
            && is_among(params, "review_status", review.unwrap_or("notrequired"))
            && flag(params, "new").is_none_or(|wanted| wanted == objects::is_new(weakness))
            && is_found(params, &[&definition.title, &target.label, &target.address])
            && is_within(weakness.last_detected_at.unwrap_or(weakness.changed_at), self.found)
            && is_within(weakness.changed_at, self.changed)
    }
}

pub(super) async fn show(call: Call, At(id): At<String>) -> Result<Response, Failure> {
    let view = call.view().await?;
    show_one(&view, &one(&view, None, &id)?)
}

pub(super) async fn show_of_target(call: Call, At((target, id)): At<(String, String)>) -> Result<Response, Failure> {
    let view = call.view().await?;
    show_one(&view, &one(&view, Some(&target), &id)?)
}

/// Sets what was given, which has been checked, of one finding.
fn set(world: &mut World, id: ObjectId, set: &Map<String, Value>, at: DateTime<Utc>) -> Result<(), Refusal> {
    let mut given = set.clone();
    let by = world.owner(at);
    let state = given.remove("state").as_ref().and_then(Value::as_str).map(str::to_owned);
    let is_fixed = state.as_deref() == Some("fixed");
    if let Some(state) = state {
        if !is_fixed {
            reopen(world, id, at)?;
        }
        // One that comes back after it was fixed is not fixed.
        given.insert("state".to_owned(), if is_fixed { "notfixed".to_owned() } else { state }.into());
    }
    if let Some(labels) = given.remove("labels") {
        given.insert("labels".to_owned(), items_in(world, "finding_label", &labels)?);
    }
    if let Some(assignee) = given.remove("assignee") {
        let wanted = assignee.get("id").and_then(Value::as_str);
        let user = world.users().find(|user| wanted == Some(vendor_id("user", user.id).as_str())).map(|user| user.id);
        if user.is_none() && !assignee.is_null() {
            return Err(Refusal::field("/assignee", "Object does not exist."));
        }
        given.insert("assignee".to_owned(), user.map_or(Value::Null, |id| id.to_string().into()));
    }
    given.insert("changed_by".to_owned(), by.id.to_string().into());
    // What a scan changes after this is not the user's.
    given.insert("changed".to_owned(), format_time(at).into());
    let Some(Object::Weakness(weakness)) = world.object(id) else { return Err(missing("finding", id)) };
    let mut weakness = Weakness::clone(weakness);
    weakness.changed_at = at;
    weakness.settings.entry(Vendor::Probely).or_default().extend(given);
    world.put(weakness);
    // Last, because the event shows all that was set.
    if is_fixed { mark_fixed(world, id, at) } else { Ok(()) }
}

async fn change_these(call: &Call, ids: &[ObjectId], fields: &Map<String, Value>) -> Result<(), Failure> {
    check(fields, &RULES, &[])?;
    let given = kept(fields, &RULES);
    call.change(|world, rules| ids.iter().try_for_each(|id| set(world, *id, &given, rules.now))).await
}

async fn change_one(
    call: Call,
    target: Option<String>,
    id: String,
    fields: Map<String, Value>,
) -> Result<Response, Failure> {
    let (weakness, _) = one(&call.view().await?, target.as_deref(), &id)?;
    change_these(&call, &[weakness.id], &fields).await?;
    let view = call.view().await?;
    show_one(&view, &one(&view, target.as_deref(), &id)?)
}

pub(super) async fn change(call: Call, At(id): At<String>, Fields(fields): Fields) -> Result<Response, Failure> {
    change_one(call, None, id, fields).await
}

pub(super) async fn change_of_target(
    call: Call,
    At((target, id)): At<(String, String)>,
    Fields(fields): Fields,
) -> Result<Response, Failure> {
    change_one(call, Some(target), id, fields).await
}

/// The findings that a bulk call names, each once: `{target_id, finding_id}`, `TARGET-NUMBER`, or a
/// number; of one target if one is named.
fn bulk_found(view: &View, of: Option<&str>, fields: &Map<String, Value>) -> Result<Vec<Found>, Failure> {
    let ids = fields.get("ids").and_then(entries).ok_or_else(|| Failure::field("ids", "This field is required."))?;
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let all: Vec<&Arc<Target>> = view.targets().collect();
    let by_id: HashMap<String, &Arc<Target>> = all.iter().map(|one| (vendor_id("target", one.id), *one)).collect();
    let of_target = |target: &str, number: &str| {
        let target = by_id.get(target).filter(|_| of.is_none_or(|of| of == target))?;
        numbered(view, target, number.parse().ok()?)
    };
    let of_any = |number: &str| {
        let number = number.parse().ok()?;
        all.iter().find_map(|target| numbered(view, target, number))
    };
    let (mut found, mut missing, mut seen) = (Vec::new(), Vec::new(), HashSet::new());
    for id in ids {
        let named = match (id.get("target_id"), id.get("finding_id")) {
            (Some(target), Some(finding)) => format!("{}-{}", text(target), text(finding)),
            _ => text(id),
        };
        let one = match (named.rsplit_once('-'), of) {
            (Some((target, number)), _) => of_target(target, number),
            (None, Some(of)) => of_target(of, &named),
            (None, None) => of_any(&named),
        };
        match one {
            Some(one) if seen.insert(one.0.id) => found.push(one),
            Some(_) => (),
            None => missing.push(named),
        }
    }
    if missing.is_empty() { Ok(found) } else { Err(Failure::MissingIds(missing)) }
}

/// The findings that a bulk call was about, as the official client expects them.
fn named(found: &[Found]) -> Response {
    let id = |(weakness, target): &Found| json!({"target_id": vendor_id("target", target.id), "finding_id": weakness.number.to_string()});
    Json(json!({"ids": found.iter().map(id).collect::<Vec<_>>()})).into_response()
}

pub(super) async fn bulk_update(call: Call, Fields(fields): Fields) -> Result<Response, Failure> {
    let found = bulk_found(&call.view().await?, None, &fields)?;
    change_these(&call, &found.iter().map(|(weakness, _)| weakness.id).collect::<Vec<_>>(), &fields).await?;
    Ok(named(&found))
}

pub(super) async fn bulk_update_of_target(
    call: Call,
    At(target): At<String>,
    Fields(fields): Fields,
) -> Result<Response, Failure> {
    call.view().await?.target(&target)?;
    let found = bulk_found(&call.view().await?, Some(&target), &fields)?;
    change_these(&call, &found.iter().map(|(weakness, _)| weakness.id).collect::<Vec<_>>(), &fields).await?;
    Ok(named(&found))
}

/// Starts the scans that look for findings again: one a target.
async fn retest_these(
    call: &Call,
    found: &[Found],
    fields: &Map<String, Value>,
) -> Result<Vec<Arc<crate::world::Scan>>, Failure> {
    const RETEST: [(&str, Rule); 2] =
        [("scan_profile", Rule::Choice(super::targets::PROFILES)), ("ignore_blackout_period", Rule::Flag)];
    check(fields, &RETEST, &[])?;
    let given = kept(fields, &RETEST);
    call.change(|world, rules| {
        let mut scans: Vec<Arc<crate::world::Scan>> = Vec::new();
        for (weakness, target) in found {
            let known =
                scans.iter().find(|scan| scan.target_id == target.id && scan.scanner == weakness.definition().scanner);
            let scan = match known {
                Some(scan) => Arc::clone(scan),
                None => {
                    let scanner = weakness.definition().scanner;
                    scans.push(scans::start_with(world, rules, target.id, &given, Some(scanner))?);
                    Arc::clone(&scans[scans.len() - 1])
                }
            };
            let retest: Map<String, Value> = [("retest".to_owned(), scan.id.to_string().into())].into_iter().collect();
            set(world, weakness.id, &retest, rules.now)?;
        }
        Ok(scans)
    })
    .await
}

pub(super) async fn retest(
    call: Call,
    At((target, id)): At<(String, String)>,
    Fields(fields): Fields,
) -> Result<Response, Failure> {
    let found = one(&call.view().await?, Some(&target), &id)?;
    let scans = retest_these(&call, &[found], &fields).await?;
    let view = call.view().await?;
    let shown = scans.first().and_then(|scan| scans::shown(scan, &view)).ok_or_else(Failure::not_found)?;
    Ok((StatusCode::CREATED, Json(shown)).into_response())
}

pub(super) async fn bulk_retest(call: Call, Fields(fields): Fields) -> Result<Response, Failure> {
    let found = bulk_found(&call.view().await?, None, &fields)?;
    retest_these(&call, &found, &fields).await?;
    Ok(named(&found))
}
