//! What only Probely has: labels, teams, extra hosts, login sequences, scan profiles; and scheduled
//! scans in its form.

use chrono::{DateTime, Utc, Weekday};
use serde_json::{Map, Value, json};

use super::finding::definition_of;
use super::target::{PROFILE, label_id, simple_scope};
use super::{Scene, cut, is_set, overlay, own, own_text, simple_user};
use crate::clock::format_time;
use crate::event::Vendor;
use crate::vendors::probely::ids::{derived_id, vendor_id, verification_token};
use crate::world::ticks::{Every, Nth};
use crate::world::{Definition, Item, Scanner, Schedule, Settings, Target, definitions};

/// Items of a collection that settings name by their ids, in the order they are named.
fn named<'s>(collection: &'static str, names: Option<&'s Value>, scene: Scene<'s>) -> impl Iterator<Item = &'s Item> {
    let ids = names.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    ids.filter_map(move |id| {
        let mut items = scene.world.items(Vendor::Probely, collection);
        items.find(|item| item.id.to_string() == id).map(|item| &**item)
    })
}

fn text<'i>(fields: &'i Map<String, Value>, name: &str) -> &'i str {
    fields.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn flag(fields: &Map<String, Value>, name: &str, default: bool) -> bool {
    fields.get(name).and_then(Value::as_bool).unwrap_or(default)
}

/// A label of targets, findings or users. (Documented.)
pub(crate) fn label(item: &Item, scene: Scene<'_>) -> Value {
    let id = text(&item.fields, "id");
    let id = if id.is_empty() { vendor_id("label", item.id) } else { id.to_owned() };
    shown_label(id, text(&item.fields, "name"), text(&item.fields, "color"), item.changed_at, scene)
}

fn shown_label(id: String, name: &str, color: &str, changed_at: DateTime<Utc>, scene: Scene<'_>) -> Value {
    json!({
        "id": id, "name": cut(name, 255), "color": color,
        "changed_by": simple_user(scene.by), "changed": format_time(changed_at),
    })
}

/// The label that a tag is: one that was made, or one that is there because of the tag.
pub(crate) fn label_of_tag(tag: &str, since: DateTime<Utc>, scene: Scene<'_>) -> Value {
    let mut made = scene.world.items(Vendor::Probely, "target_label");
    match made.find(|item| text(&item.fields, "name") == tag) {
        Some(item) => label(item, scene),
        None => {
            let is_taken = |id: &str| {
                scene.world.items(Vendor::Probely, "target_label").any(|item| text(&item.fields, "id") == id)
            };
            shown_label(tag_id(tag, is_taken), tag, "#00FF00", since, scene)
        }
    }
}

/// The id of the label that a tag is, if none was made of this name. One that had the name may have
/// another by now, and has kept its id.
pub(crate) fn tag_id(tag: &str, is_taken: impl Fn(&str) -> bool) -> String {
    let id = label_id(tag);
    if is_taken(&id) { derived_id("tag", tag) } else { id }
}

/// The labels of a finding or a user.
pub(crate) fn labels_of(of: &str, settings: &Settings, scene: Scene<'_>) -> Vec<Value> {
    let collection = if of == "user" { "user_label" } else { "finding_label" };
    named(collection, own(settings).and_then(|own| own.get("labels")), scene).map(|item| label(item, scene)).collect()
}

/// A team.
pub(crate) fn team(item: &Item) -> Value {
    json!({"id": vendor_id("team", item.id), "name": cut(text(&item.fields, "name"), 255)})
}

/// The teams of a target.
pub(super) fn teams_of(target: &Target, scene: Scene<'_>) -> Vec<Value> {
    named("team", own(&target.settings).and_then(|own| own.get("teams")), scene).map(team).collect()
}

/// An extra host of a target. (Documented.)
pub(crate) fn asset(item: &Item, scene: Scene<'_>) -> Value {
    let Item { id, fields, .. } = item;
    let list = |name| fields.get(name).cloned().unwrap_or_else(|| json!([]));
    let host = text(fields, "host");
    let name = text(fields, "name");
    json!({
        "id": vendor_id("asset", *id), "name": if name.is_empty() { host } else { name }, "desc": text(fields, "desc"),
        "host": host, "include": flag(fields, "include", true),
        "headers": list("headers"), "cookies": list("cookies"), "stack": [],
        "verified": flag(fields, "verified", false), "verification_token": verification_token(*id),
        "verification_date": fields.get("verification_date"), "verification_method": text(fields, "verification_method"),
        "verification_last_error": "",
        "changed": format_time(item.changed_at), "changed_by": simple_user(scene.by),
    })
}

/// The extra hosts of a target. Those of a removed target went with it.
pub(super) fn assets_of(target: &Target, scene: Scene<'_>) -> Vec<Value> {
    let own = scene.world.items(Vendor::Probely, "asset").filter(|item| item.target_id == Some(target.id));
    own.map(|item| asset(item, scene)).collect()
}

/// Whether a target has extra hosts.
pub(super) fn has_assets(target: &Target, scene: Scene<'_>) -> bool {
    scene.world.items(Vendor::Probely, "asset").any(|item| item.target_id == Some(target.id))
}

/// When scans stand still; null if nobody has said so. (The fields are documented.)
pub(super) fn blackout(settings: &Settings, changed: &str, scene: Scene<'_>) -> Value {
    let set = own(settings).and_then(|own| own.get("blackout_period")?.as_object());
    let Some(set) = set else { return Value::Null };
    let mut shown = json!({
        "begin": "00:00:00", "cease": "00:00:00", "weekdays": [], "enabled": true, "timezone": "UTC",
        "changed": changed, "changed_by": simple_user(scene.by),
    });
    overlay(&mut shown, set);
    shown
}

/// A recorded sequence of a target, without its content. (Documented by the official client.)
pub(crate) fn sequence(item: &Item, scene: Scene<'_>) -> Value {
    let Item { id, fields, .. } = item;
    let kind = text(fields, "type");
    json!({
        "id": vendor_id("sequence", *id), "name": text(fields, "name"),
        "requires_authentication": flag(fields, "requires_authentication", false),
        "type": if kind.is_empty() { "login" } else { kind }, "enabled": flag(fields, "enabled", true),
        "index": fields.get("index").cloned().unwrap_or_else(|| item.number.into()),
        "changed": format_time(item.changed_at), "changed_by": simple_user(scene.by),
    })
}

/// A scheduled scan without its target; none if the schedule does not recur as Probely's do.
fn targetless(schedule: &Schedule, scene: Scene<'_>) -> Option<Value> {
    let recurrence = schedule.recurrence?;
    let due_at = scene.world.timer(schedule.id).map_or(recurrence.first_at, |timer| timer.due_at);
    let every = match recurrence.every {
        Every::Never => "",
        Every::Hour => "h",
        Every::Day => "d",
        Every::Week => "w",
        Every::Month => "m",
        Every::Quarter => "q",
    };
    let nth = |nth: Nth| match nth {
        Nth::First => "first",
        Nth::Second => "second",
        Nth::Third => "third",
        Nth::Fourth => "fourth",
        Nth::Last => "last",
    };
    let changed_at = own_text(&schedule.settings, "changed").map(str::to_owned);
    let changed_at = changed_at.unwrap_or_else(|| format_time(schedule.created_at));
    let is = |name| is_set(&schedule.settings, name);
    Some(json!({
        "id": vendor_id("scheduled_scan", schedule.id), "date_time": format_time(due_at), "recurrence": every,
        "timezone": schedule.timezone, "blackout_period": blackout(&schedule.settings, &changed_at, scene),
        "run_on_day_of_week": recurrence.on.is_some(),
        "scheduled_day_of_week": recurrence.on.map(|(_, day)| Weekday::number_from_monday(&day)),
        "week_index": recurrence.on.map(|(one, _)| nth(one)),
        "partial_scan": is("partial_scan"), "override_target_settings": is("override_target_settings"),
        "incremental": is("incremental"), "reduced_scope": is("reduced_scope"),
        "scan_profile": own_text(&schedule.settings, "scan_profile").unwrap_or(PROFILE), "unlimited": true,
        "changed": changed_at, "changed_by": simple_user(scene.by),
    }))
}

/// A scheduled scan of a target.
pub(crate) fn scheduled_scan(schedule: &Schedule, target: &Target, scene: Scene<'_>) -> Option<Value> {
    let mut shown = targetless(schedule, scene)?;
    shown["target"] = simple_scope(target, scene)?;
    Some(shown)
}

/// The scheduled scan of a target that comes next.
pub(super) fn next_scan_of(target: &Target, scene: Scene<'_>) -> Option<Value> {
    let own = scene.world.schedules().filter(|schedule| schedule.target_id == Some(target.id));
    let next = own.min_by_key(|schedule| scene.world.timer(schedule.id).map(|timer| timer.due_at))?;
    targetless(next, scene)
}

/// The profiles that scans may have: slug, name, description, `single` or `api`. (The slugs are
/// documented; the rest is assumed.)
const PROFILES: [(&str, &str, &str, &str); 5] = [
    ("lightning", "Lightning", "A quick look", "single"),
    ("normal", "Normal", "The usual scan", "single"),
    ("full", "Full", "Everything, which takes long", "single"),
    ("safe", "Safe", "Only requests that change nothing", "single"),
    ("api_normal", "API Normal", "The usual scan of an API", "api"),
];

/// The profiles for a type of target, as a target shows them.
pub(super) fn profiles_of(kind: &str) -> Vec<Value> {
    let own = PROFILES.into_iter().filter(|(.., of)| *of == kind);
    own.map(|(id, name, description, _)| json!({"id": id, "name": name, "description": description, "builtin": true}))
        .collect()
}

/// Every profile, as the list of profiles shows it. (The fields are the official client's.)
pub(crate) fn profiles() -> Vec<Value> {
    let of_websites = |one: &&Definition| matches!(one.scanner, Scanner::OwaspZap | Scanner::OwaspZapActive);
    let vulnerabilities: Vec<Value> = definitions().iter().filter(of_websites).map(definition_of).collect();
    let shown = |(id, name, description, kind): (&str, &str, &str, &str)| {
        let is_safe = matches!(id, "lightning" | "safe");
        json!({
            "id": id, "name": name, "description": description, "archived": false,
            "type": if kind == "api" { "api" } else { "web" }, "speed": 20,
            "payloads": match id { "lightning" => 10, "full" => 30, _ => 20 },
            "vulnerabilities": vulnerabilities,
            "methods": if is_safe { "safe" } else { "all" }, "can_scan_unverified": is_safe,
            "delay": null, "max_run_time": null, "dedup_enabled": true, "auto_patterns_enabled": true,
            "max_urls": 5000, "builtin": true,
        })
    };
    PROFILES.into_iter().map(shown).collect()
}
