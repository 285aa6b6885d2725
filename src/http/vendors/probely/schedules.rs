//! Scheduled scans: scans that recur by the clock of a time zone.

use std::sync::Arc;

use axum::Json;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use chrono::{DateTime, Utc, Weekday};
use chrono_tz::Tz;
use http::StatusCode;
use serde_json::{Map, Value};

use super::call::{self, At, Call, Failure, Fields, View};
use super::fields::{BLACKOUT, Rule, as_flag, as_time, check, kept};
use super::labels::LabelFilter;
use super::list::{Key, Page, check_ids, is_among, is_found, order};
use super::scans::{ids_in, scanner_of};
use super::targets::PROFILES;
use crate::clock::format_time;
use crate::event::Vendor;
use crate::http::vendors::{Api, Params};
use crate::id::ObjectId;
use crate::scanner::Refusal;
use crate::scanner::schedules::{Recurring, put_recurring, remove as remove_schedule};
use crate::vendors::probely::ids::vendor_id;
use crate::vendors::probely::objects;
use crate::world::ticks::{Every, Nth, Recurrence};
use crate::world::{Schedule, Target, World};

/// What a caller may set of a scheduled scan. (Documented by the official client.)
const RULES: [(&str, Rule); 12] = [
    ("date_time", Rule::Time),
    ("recurrence", Rule::Choice(&["", "h", "d", "w", "m", "q"])),
    ("timezone", Rule::Zone),
    ("run_on_day_of_week", Rule::Flag),
    ("scheduled_day_of_week", Rule::MaybeNumber),
    ("week_index", Rule::ChoiceOrNull(&["first", "second", "third", "fourth", "last", ""])),
    ("scan_profile", Rule::Choice(PROFILES)),
    ("partial_scan", Rule::Flag),
    ("override_target_settings", Rule::Flag),
    ("incremental", Rule::Flag),
    ("reduced_scope", Rule::Flag),
    ("blackout_period", Rule::FieldsOrNull(BLACKOUT)),
];

/// A schedule of Probely's kind, and its target.
type Found = (Arc<Schedule>, Arc<Target>);

fn all(view: &View, target: Option<&Target>) -> Vec<Found> {
    let with_target = |schedule: &Arc<Schedule>| {
        let target = view.target_of(schedule.target_id?)?;
        schedule.recurrence.map(|_| (Arc::clone(schedule), Arc::clone(target)))
    };
    let own = view.world.schedules().filter_map(with_target);
    own.filter(|(_, of)| target.is_none_or(|target| target.id == of.id)).collect()
}

fn shown((schedule, target): &Found, view: &View) -> Option<Value> {
    objects::scheduled_scan(schedule, target, view.scene())
}

fn find(view: &View, target: Option<&str>, id: &str) -> Result<Found, Failure> {
    let target = target.map(|target| view.target(target)).transpose()?;
    let found = all(view, target.map(|target| &**target));
    found
        .into_iter()
        .find(|(schedule, _)| vendor_id("scheduled_scan", schedule.id) == id)
        .ok_or_else(Failure::not_found)
}

pub(super) async fn list_all(call: Call, params: Params) -> Result<Response, Failure> {
    page_of(&call, None, &params).await
}

pub(super) async fn list(call: Call, At(target): At<String>, params: Params) -> Result<Response, Failure> {
    page_of(&call, Some(&target), &params).await
}

async fn page_of(call: &Call, target: Option<&str>, params: &Params) -> Result<Response, Failure> {
    let page = Page::read(params)?;
    let view = call.view().await?;
    let target = target.map(|target| view.target(target)).transpose()?;
    check_ids(params, |id| find(&view, None, id).is_ok())?;
    let mut found = all(&view, target.map(|target| &**target));
    let labels = LabelFilter::read(params, "label", &view.world);
    found.retain(|(schedule, target)| {
        is_among(params, "id", &vendor_id("scheduled_scan", schedule.id))
            && is_among(params, "target", &vendor_id("target", target.id))
            && labels.holds(target)
            && is_found(params, &[&target.label, &target.address])
    });
    order(&mut found, params, "-changed", |(schedule, _), field| match field {
        "changed" => Some(Key::Text(changed_at(schedule))),
        "date_time" => Some(view.world.timer(schedule.id).map(|timer| timer.due_at).into()),
        _ => None,
    });
    page.of(found, |found| shown(found, &view))
}

fn changed_at(schedule: &Schedule) -> String {
    let set = objects::own(&schedule.settings).and_then(|own| own.get("changed")?.as_str());
    set.map_or_else(|| format_time(schedule.created_at), str::to_owned)
}

/// What was given of a scheduled scan, on top of what it was.
fn recurring(known: Option<&Schedule>, given: &Map<String, Value>, at: DateTime<Utc>) -> Result<Recurring, Failure> {
    let text = |name: &str| given.get(name).and_then(Value::as_str);
    let timezone = text("timezone").or(known.map(|known| &*known.timezone)).unwrap_or("UTC").to_owned();
    let zone = timezone.parse::<Tz>().unwrap_or(Tz::UTC);
    let before = known.and_then(|known| known.recurrence);
    let first_at = text("date_time").and_then(|time| as_time(time, zone));
    let first_at = first_at.or(before.map(|before| before.first_at));
    let first_at = first_at.ok_or_else(|| Failure::field("date_time", "This field is required."))?;
    let every = match text("recurrence") {
        None => before.map_or(Every::Never, |before| before.every),
        Some("h") => Every::Hour,
        Some("d") => Every::Day,
        Some("w") => Every::Week,
        Some("m") => Every::Month,
        Some("q") => Every::Quarter,
        Some(_) => Every::Never,
    };
    let on_before = before.and_then(|before| before.on);
    let on = match given.get("run_on_day_of_week").and_then(as_flag) {
        Some(false) => None,
        None if on_before.is_none() => None,
        _ => Some(weekday(given, on_before)?),
    };
    if every == Every::Never && first_at <= at && known.is_none_or(|known| known.recurrence.is_none()) {
        return Err(Failure::field("date_time", "The date must be in the future."));
    }
    let mut settings = known.map(|known| known.settings.clone()).unwrap_or_default();
    let own = settings.entry(Vendor::Probely).or_default();
    const KEPT: [&str; 6] =
        ["scan_profile", "partial_scan", "override_target_settings", "incremental", "reduced_scope", "blackout_period"];
    own.extend(
        given
            .iter()
            .filter(|(name, _)| KEPT.contains(&name.as_str()))
            .map(|(name, value)| (name.clone(), value.clone())),
    );
    own.insert("changed".to_owned(), format_time(at).into());
    let scanner = scanner_of(own.get("scan_profile").and_then(Value::as_str).unwrap_or_default());
    Ok(Recurring { recurrence: Recurrence { first_at, every, on }, timezone, scanner, settings })
}

/// Which weekday of a month is meant; what was not given is as it was.
fn weekday(given: &Map<String, Value>, before: Option<(Nth, Weekday)>) -> Result<(Nth, Weekday), Failure> {
    let nth = match (given.get("week_index").and_then(Value::as_str), before) {
        (Some("first"), _) => Nth::First,
        (Some("second"), _) => Nth::Second,
        (Some("third"), _) => Nth::Third,
        (Some("fourth"), _) => Nth::Fourth,
        (Some("last"), _) => Nth::Last,
        (_, Some((nth, _))) => nth,
        _ => return Err(Failure::field("week_index", "This field is required.")),
    };
    const DAYS: [Weekday; 7] =
        [Weekday::Mon, Weekday::Tue, Weekday::Wed, Weekday::Thu, Weekday::Fri, Weekday::Sat, Weekday::Sun];
    let wrong = || Failure::field("scheduled_day_of_week", "Give a day from 1 to 7.");
    let day = match (given.get("scheduled_day_of_week").and_then(Value::as_i64), before) {
        (Some(day), _) => day,
        (None, Some((_, day))) => return Ok((nth, day)),
        (None, None) => return Err(wrong()),
    };
    let day = usize::try_from(day).ok().and_then(|day| DAYS.get(day.checked_sub(1)?));
    day.map(|day| (nth, *day)).ok_or_else(wrong)
}

async fn add(call: &Call, targets: &[ObjectId], given: &Map<String, Value>) -> Result<Vec<ObjectId>, Failure> {
    check(given, &RULES, &["date_time"])?;
    let new = recurring(None, &kept(given, &RULES), call::now(call).await?)?;
    call.change(|world, rules| {
        let add = |world: &mut World, id: &ObjectId| {
            let gone = || Refusal::NotFound("there is no such target".to_owned());
            let target = world.target(*id).cloned().ok_or_else(gone)?;
            let mut new = new.clone();
            let own = new.settings.entry(Vendor::Probely).or_default();
            if let (None, Some(set)) = (own.get("scan_profile"), objects::own(&target.settings)) {
                own.extend(set.get("scan_profile").map(|profile| ("scan_profile".to_owned(), profile.clone())));
                new.scanner = scanner_of(own.get("scan_profile").and_then(Value::as_str).unwrap_or_default());
            }
            Ok(put_recurring(world, None, &target, new, rules.now)?.id)
        };
        targets.iter().map(|id| add(world, id)).collect()
    })
    .await
}

async fn many(call: &Call, status: StatusCode, ids: &[ObjectId]) -> Result<Response, Failure> {
    let view = call.view().await?;
    let own: Vec<Value> = all(&view, None)
        .iter()
        .filter(|(schedule, _)| ids.contains(&schedule.id))
        .filter_map(|one| shown(one, &view))
        .collect();
    Ok((status, Json(own)).into_response())
}

async fn single(call: &Call, status: StatusCode, id: ObjectId) -> Result<Response, Failure> {
    let view = call.view().await?;
    let found = all(&view, None).into_iter().find(|(schedule, _)| schedule.id == id);
    let shown = found.and_then(|found| shown(&found, &view)).ok_or_else(Failure::not_found)?;
    Ok((status, Json(shown)).into_response())
}

pub(super) async fn create(call: Call, At(target): At<String>, Fields(fields): Fields) -> Result<Response, Failure> {
    let target = call.view().await?.target(&target)?.id;
    let added = add(&call, &[target], &fields).await?;
    let id = added.first().copied().ok_or_else(Failure::not_found)?;
    single(&call, StatusCode::CREATED, id).await
}

/// The inner object of a bulk call.
fn inner(fields: &Map<String, Value>) -> Result<&Map<String, Value>, Failure> {
    fields
        .get("scheduledscan")
        .and_then(Value::as_object)
        .ok_or_else(|| Failure::field("scheduledscan", "This field is required."))
}

pub(super) async fn bulk_create(call: Call, Fields(fields): Fields) -> Result<Response, Failure> {
    let found = call.view().await?.many_targets(ids_in(&fields, "targets")?.into_iter())?;
    let targets: Vec<ObjectId> = found.into_iter().map(|(id, _)| id).collect();
    let added = add(&call, &targets, inner(&fields)?).await?;
    many(&call, StatusCode::CREATED, &added).await
}

/// The scheduled scans that a bulk call names.
async fn bulk_found(call: &Call, fields: &Map<String, Value>) -> Result<Vec<Found>, Failure> {
    let view = call.view().await?;
    let known = all(&view, None).into_iter().map(|one| (vendor_id("scheduled_scan", one.0.id), one)).collect();
    let found = call::many(&known, ids_in(fields, "scheduledscans")?.into_iter())?;
    Ok(found.into_iter().map(|(one, _)| one).collect())
}

async fn change_these(call: &Call, found: &[Found], given: &Map<String, Value>) -> Result<(), Failure> {
    check(given, &RULES, &[])?;
    let now = call::now(call).await?;
    let given = kept(given, &RULES);
    let changes =
        found.iter().map(|(schedule, target)| Ok((schedule.id, target, recurring(Some(schedule), &given, now)?)));
    let changes: Vec<(ObjectId, &Arc<Target>, Recurring)> = changes.collect::<Result<_, Failure>>()?;
    call.change(|world, rules| {
        changes
            .iter()
            .try_for_each(|(id, target, new)| put_recurring(world, Some(*id), target, new.clone(), rules.now).map(drop))
    })
    .await
}

async fn remove_these(call: &Call, found: &[Found]) -> Result<Response, Failure> {
    call.change(|world, _| {
        let is_there = |world: &World, id| world.schedules().any(|schedule| schedule.id == id);
        for (schedule, _) in found {
            if is_there(world, schedule.id) {
                remove_schedule(world, schedule.id)?;
            }
        }
        Ok(())
    })
    .await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

pub(super) async fn bulk_change(call: Call, Fields(fields): Fields) -> Result<Response, Failure> {
    let found = bulk_found(&call, &fields).await?;
    change_these(&call, &found, inner(&fields)?).await?;
    many(&call, StatusCode::OK, &found.iter().map(|(schedule, _)| schedule.id).collect::<Vec<_>>()).await
}

pub(super) async fn bulk_remove(call: Call, Fields(fields): Fields) -> Result<Response, Failure> {
    let found = bulk_found(&call, &fields).await?;
    remove_these(&call, &found).await
}

pub(super) fn one() -> MethodRouter<Api> {
    async fn change(
        call: Call,
        At((target, id)): At<(String, String)>,
        Fields(fields): Fields,
    ) -> Result<Response, Failure> {
        let found = find(&call.view().await?, Some(&target), &id)?;
        let id = found.0.id;
        change_these(&call, &[found], &fields).await?;
        single(&call, StatusCode::OK, id).await
    }
    get(async |call: Call, At((target, id)): At<(String, String)>| {
        let id = find(&call.view().await?, Some(&target), &id)?.0.id;
        single(&call, StatusCode::OK, id).await
    })
    .patch(change)
    .put(change)
    .delete(async |call: Call, At((target, id)): At<(String, String)>| {
        let found = find(&call.view().await?, Some(&target), &id)?;
        remove_these(&call, &[found]).await
    })
}
