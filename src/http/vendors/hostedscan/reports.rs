//! Reports: order one, download it. It shows the risks as they stood when it was ordered.
//!
//! Documented: `report_format`, both filters and their keys, the answer's `id`, the file as it is.
//! Assumed: a report is ready at once; a filter that nothing meets gives a report of nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::response::Response;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::body::{Fields, wrong};
use super::files::{Document, Format};
use super::filters::Filters;
use super::risks::as_risk;
use super::{Api, Caller, Failure, Id, one};
use crate::event::Vendor;
use crate::http::vendors::named;
use crate::id::ObjectId;
use crate::problem::quote;
use crate::vendors::hostedscan::objects;
use crate::world::{Item, Kind, Surface, Target, Weakness, World, to_value};

const COLLECTION: &str = "report";
const TARGET_KEYS: [&str; 2] = ["target_ids", "tag"];
const RISK_KEYS: [&str; 4] =
    ["status", "risk_definition.scan_type", "risk_definition.threat_level", "risk_definition.title"];

/// What a report shows. Kept without the texts, which are the same for every weakness of a kind.
#[derive(Debug, Serialize, Deserialize)]
struct Snapshot {
    format: Format,
    targets: Vec<Target>,
    weaknesses: Vec<Weakness>,
}

/// A report that is asked for.
struct Wanted {
    format: Format,
    targets: Filters,
    risks: Filters,
}

impl Wanted {
    fn read(fields: &Fields) -> Result<Self, Failure> {
        let format = match fields.text("report_format")?.ok_or_else(|| wrong("report_format", "is required"))? {
            "PDF" => Format::Pdf,
            "HTML" => Format::Html,
            other => return Err(wrong("report_format", &format!("{} is neither PDF nor HTML", quote(other)))),
        };
        let filters = |name, keys| match fields.get(name) {
            Some(filters) => Filters::of_object(name, filters, keys).map_err(Failure::bad),
            None => Ok(Filters::default()),
        };
        let targets = filters("targets_filter", &TARGET_KEYS)?;
        Ok(Self { format, targets, risks: filters("risks_filter", &RISK_KEYS)? })
    }

    /// What there is to show now.
    fn snapshot(&self, world: &World) -> Snapshot {
        let is_wanted = |target: &Target| {
            let id = objects::vendor_id("target", target.id);
            self.targets.keep_by(|key| match key {
                "tag" => target.tags.iter().map(String::as_str).collect(),
                _ => vec![&*id],
            })
        };
        let bare = |target: &Arc<Target>| Target {
            surface: Surface::default(),
            seen: None,
            last_scan: None,
            ..Target::clone(target)
        };
        let targets: Vec<Target> = world.targets().filter(|target| is_wanted(target)).map(bare).collect();
        let of_target = |target: &Target| world.weaknesses(target.id).cloned().collect::<Vec<_>>();
        let all = targets.iter().flat_map(of_target);
        let is_wanted = |weakness: &Arc<Weakness>| {
            let object = Arc::clone(weakness).into();
            as_risk(world, &object).is_some_and(|(weakness, target)| self.risks.keep(&objects::risk(weakness, target)))
        };
        let bare = |weakness: Arc<Weakness>| Weakness { scans: Vec::new(), ..Weakness::clone(&weakness) };
        Snapshot { format: self.format, weaknesses: all.filter(is_wanted).map(bare).collect(), targets }
    }
}

/// Stores a report: its id.
fn store(world: &mut World, snapshot: &Snapshot, at: DateTime<Utc>) -> ObjectId {
    let (number, id) = world.next_id(Kind::Item, at);
    let fields = match to_value(snapshot) {
        Value::Object(fields) => fields,
        _ => Map::new(),
    };
    let (vendor, collection) = (Vendor::Hostedscan, COLLECTION.to_owned());
    let (created_at, changed_at, deleted_at) = (at, at, None);
    world.put(Item {
        id,
        number,
        vendor,
        collection,
        target_id: None,
        fields,
        is_fixed: true,
        created_at,
        changed_at,
        deleted_at,
    });
    id
}

pub(super) async fn order(
    State(api): State<Api>,
    Caller(account_id): Caller,
    request: Request,
) -> Result<Json<Value>, Failure> {
    let wanted = Wanted::read(&Fields::read(&api, request).await?)?;
    let order = |world: &mut World, at| Ok(store(world, &wanted.snapshot(world), at));
    let id = api.scanner.change(account_id, |world, rules| order(world, rules.now)).await?;
    Ok(one(json!({"id": objects::report_id(id)})))
}

pub(super) async fn download(
    State(api): State<Api>,
    Caller(account_id): Caller,
    Id(id): Id,
) -> Result<Response, Failure> {
    let item = named::<Item>(&api, account_id, Kind::Item, |own| objects::report_id(own) == id).await?;
    let item = item.filter(|item| item.vendor == Vendor::Hostedscan && item.collection == COLLECTION);
    let item = item.ok_or_else(Failure::missing)?;
    let fields = Value::Object(item.fields.clone());
    let snapshot: Snapshot = serde_json::from_value(fields).map_err(|_| Failure::missing())?;
    let format = snapshot.format;
    let created_at = item.created_at;
    Document::download(format, move || document(&snapshot, created_at)).await
}

/// A report as a document: the gravest risks first.
fn document(snapshot: &Snapshot, created_at: DateTime<Utc>) -> Document {
    let targets: BTreeMap<ObjectId, &Target> = snapshot.targets.iter().map(|target| (target.id, target)).collect();
    let mut weaknesses: Vec<&Weakness> = snapshot.weaknesses.iter().collect();
    weaknesses.sort_by_key(|weakness| (std::cmp::Reverse(weakness.definition().threat_level), weakness.id));
    let shown = |weakness: &Weakness| Some(objects::risk_with_times(weakness, targets.get(&weakness.target_id)?));
    let risks: Vec<Value> = weaknesses.into_iter().filter_map(shown).collect();
    let facts = vec![("Created at", objects::iso(created_at)), ("Targets", snapshot.targets.len().to_string())];
    Document::new("Risk report", facts, risks)
}
