//! `issue/…`: what scans have found. An issue is a kind of weakness, and has the same id on every
//! target; how many weaknesses of the kind a target has are its `instances` there.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use super::super::{Api, Params};
use super::call::{Answer, Page, is_number_wanted, is_text_wanted, number_filter, required_number, text_filter, world};
use super::{Caller, Failure, scans};
use crate::id::ObjectId;
use crate::vendors::halo::objects;
use crate::world::{Definition, Target, Weakness, WeaknessState, World, definitions};

/// An issue on a target.
struct Row<'w> {
    definition: &'static Definition,
    target: &'w Arc<Target>,
    instances: usize,
    is_open: bool,
    /// How many scans have found it since the first.
    scans_since: usize,
}

impl Row<'_> {
    /// Nobody confirms or acknowledges an issue of a world. (The words are DefectDojo's.)
    fn status(&self) -> &'static str {
        if self.is_open { "new" } else { "fixed" }
    }

    /// `issue`, `target`, `status`, `instances`. (Inferred from DefectDojo, which reads this list.)
    fn show(&self) -> Value {
        json!({
            "issue": objects::issue_reference(self.definition),
            "target": objects::target_reference(self.target),
            "status": {
                "status": self.status(),
                "assigned_to": "nobody",
                "scans_since_found": self.scans_since,
                "target_id": objects::target_id(self.target),
            },
            "instances": self.instances,
        })
    }
}

/// `issue/list.json`: what is open by the current scans; by the parameter `status` also what is fixed,
/// and by `scan_id` what that scan found. (That the current scan is meant if none is named is
/// documented.) Assumed: the filters `issue_id`, `name`, `severity`, `status`, `target_id`; `sort` 0 is
/// by name, 1 by severity.
pub(super) async fn list(State(api): State<Api>, Caller(account_id): Caller, params: Params) -> Answer {
    let page = Page::read(&params, 1)?;
    let (name, status) = (text_filter(&params, "name")?, text_filter(&params, "status")?);
    let [issue_id, severity, target_id] =
        ["issue_id", "severity", "target_id"].map(|name| number_filter(&params, name));
    let (issue_id, severity, target_id) = (issue_id?, severity?, target_id?);
    let scan = match params.get("scan_id") {
        Some(scan_id) => Some(scans::find(&api, account_id, scan_id).await?),
        None => None,
    };
    let found: Option<HashSet<ObjectId>> = scan.map(|scan| scan.new.iter().chain(&scan.again).copied().collect());
    let world = world(&api, account_id).await?;
    let mut rows = rows(&world, found.as_ref());
    rows.retain(|row| {
        (row.is_open || status.is_some() || found.is_some())
            && is_text_wanted(status.as_ref(), row.status())
            && is_text_wanted(name.as_ref(), &row.definition.title)
            && is_number_wanted(issue_id.as_ref(), objects::issue_id(row.definition))
            && is_number_wanted(severity.as_ref(), objects::severity(row.definition.threat_level).into())
            && is_number_wanted(target_id.as_ref(), objects::target_id(row.target))
    });
    rows.sort_by_key(|row| {
        let severity = if page.sort == 1 { objects::severity(row.definition.threat_level) } else { 0 };
        (severity, row.definition.title.as_str(), objects::issue_id(row.definition), objects::target_id(row.target))
    });
    Ok(page.answer(world.targets().count(), rows, Row::show))
}

/// Every issue that was ever found on a target that is still there; of those of one scan, if `found`
/// says which those are.
fn rows<'w>(world: &'w World, found: Option<&HashSet<ObjectId>>) -> Vec<Row<'w>> {
    let mut rows = Vec::new();
    for target in world.targets() {
        let is_meant = |one: &&Arc<Weakness>| {
            one.state != WeaknessState::Latent
                && objects::is_issue(one, target)
                && found.is_none_or(|found| found.contains(&one.id))
        };
        let mut by_kind: BTreeMap<&str, Vec<&Arc<Weakness>>> = BTreeMap::new();
        for weakness in world.weaknesses(target.id).filter(is_meant) {
            by_kind.entry(&weakness.definition).or_default().push(weakness);
        }
        rows.extend(by_kind.into_values().filter_map(|of_kind| row(target, &of_kind)));
    }
    rows
}

/// The issue that these weaknesses of one kind are; its instances are those that are open, or all
/// where none is.
fn row<'w>(target: &'w Arc<Target>, of_kind: &[&Arc<Weakness>]) -> Option<Row<'w>> {
    let definition = of_kind.first()?.definition();
    let open = of_kind.iter().filter(|one| one.state == WeaknessState::Open).count();
    let scans = of_kind.iter().map(|one| one.scans.len()).max().unwrap_or_default();
    Some(Row {
        definition,
        target,
        instances: if open > 0 { open } else { of_kind.len() },
        is_open: open > 0,
        scans_since: scans.saturating_sub(1),
    })
}

/// `issue/get.json`: an issue of the vendor's catalogue, whether or not a target has it. (The
/// parameter and the texts of the errors are assumed.)
pub(super) async fn get(State(_): State<Api>, Caller(_): Caller, params: Params) -> Answer {
    let id = required_number(&params, "issue_id")?;
    let definition = definitions().iter().find(|definition| objects::issue_id(definition) == id);
    let definition = definition.ok_or_else(|| Failure::new(404, "issue not found"))?;
    Ok(Json(json!({"issue": objects::issue(definition)})))
}
