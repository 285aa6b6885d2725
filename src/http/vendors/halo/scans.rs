//! `scan/…`: the scans of targets.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde_json::json;

use super::super::{Api, Params, all_objects, named};
use super::call::{Answer, Page, is_number_wanted, not_valid, number_filter, required, world};
use super::{Caller, Failure};
use crate::event::Vendor;
use crate::id::{AccountId, ObjectId};
use crate::vendors::halo::objects;
use crate::world::{Kind, Object, Scan, ScanState, Target, Weakness};

/// How many scans before the current one are recent. (Inferred: the documentation's sample has five.)
const RECENT: usize = 5;

/// The completed scans of one target, newest first.
pub(super) struct History(Vec<Arc<Scan>>);

impl History {
    /// Those of a target.
    pub(super) async fn read(api: &Api, account_id: AccountId, target_id: ObjectId) -> Result<Self, Failure> {
        let mut all: Vec<Arc<Scan>> = all_objects(api, account_id, Kind::Scan, None).await?;
        all.retain(|scan| scan.is_of(target_id));
        Ok(Self::of(all))
    }

    fn of(scans: Vec<Arc<Scan>>) -> Self {
        let is_completed = |scan: &Arc<Scan>| is_shown(scan) && scan.state == ScanState::Completed;
        let mut completed: Vec<Arc<Scan>> = scans.into_iter().filter(is_completed).collect();
        completed.sort_by_key(|scan| std::cmp::Reverse((scan.ended_at, scan.id)));
        Self(completed)
    }

    /// The last.
    pub(super) fn current(&self) -> Option<&Arc<Scan>> {
        self.0.first()
    }

    /// Those before the last.
    fn prior(&self) -> &[Arc<Scan>] {
        self.0.get(1..).unwrap_or_default()
    }

    /// The last few before the last.
    pub(super) fn recent(&self) -> &[Arc<Scan>] {
        let prior = self.prior();
        prior.get(..RECENT).unwrap_or(prior)
    }
}

/// Whether the vendor knows of a scan: what its webhooks tell of, from its start on.
fn is_shown(scan: &Scan) -> bool {
    let has_begun = scan.started_at.is_some() || scan.state == ScanState::Failed;
    has_begun && scan.vendors.contains(&Vendor::Halo)
}

/// `scan/list.json`: `sort` 0 is by scan id; `type` is `current`, `recent`, `prior` or `all`.
/// (Documented.) Assumed: only `all` has scans that run, failed or were cancelled; the filter
/// `target_id`.
pub(super) async fn list(State(api): State<Api>, Caller(account_id): Caller, params: Params) -> Answer {
    let page = Page::read(&params, 0)?;
    let kind = params.get("type").unwrap_or("current");
    let select: fn(Vec<Arc<Scan>>) -> Vec<Arc<Scan>> = match kind {
        "current" => |scans| History::of(scans).current().cloned().into_iter().collect(),
        "recent" => |scans| History::of(scans).recent().to_vec(),
        "prior" => |scans| History::of(scans).prior().to_vec(),
        "all" => |scans| scans.into_iter().filter(|scan| is_shown(scan)).collect(),
        _ => return Err(not_valid("type")),
    };
    let target_id = number_filter(&params, "target_id")?;
    let world = world(&api, account_id).await?;
    let mut by_target: BTreeMap<ObjectId, Vec<Arc<Scan>>> = BTreeMap::new();
    for scan in all_objects::<Scan>(&api, account_id, Kind::Scan, None).await? {
        let targets = std::iter::once(scan.target_id).chain(scan.others.iter().map(|other| other.id));
        for id in targets.collect::<Vec<_>>() {
            by_target.entry(id).or_default().push(Arc::clone(&scan));
        }
    }
    let mut rows: Vec<(String, Arc<Scan>, &Arc<Target>)> = Vec::new();
    for (id, scans) in by_target {
        let target = world.target(id).filter(|one| is_number_wanted(target_id.as_ref(), objects::target_id(one)));
        let Some(target) = target else { continue };
        rows.extend(select(scans).into_iter().map(|scan| (objects::scan_id(scan.id), scan, target)));
    }
    rows.sort_by(|(one, ..), (other, ..)| one.cmp(other));
    Ok(page.answer(
        world.targets().count(),
        rows,
        |(_, scan, target)| json!({"scan": objects::scan_reference(scan), "target": objects::target_reference(target)}),
    ))
}

/// `scan/get.json`. (Documented; that the target stands beside the scan is inferred from the list, and
/// the text of the 404 assumed.)
pub(super) async fn get(State(api): State<Api>, Caller(account_id): Caller, params: Params) -> Answer {
    let scan = find(&api, account_id, required(&params, "scan_id")?).await?;
    let target = match api.store.world_object(account_id, Kind::Target, scan.target_id).await? {
        Object::Target(target) => target,
        _ => return Err(Failure::new(404, "scan not found")),
    };
    let found: HashSet<ObjectId> = scan.new.iter().chain(&scan.again).copied().collect();
    let mut weaknesses: Vec<Arc<Weakness>> =
        all_objects(&api, account_id, Kind::Weakness, Some(scan.target_id)).await?;
    weaknesses.retain(|one| found.contains(&one.id) && objects::is_issue(one, &target));
    let shown = objects::scan(&scan, &weaknesses, api.clocks.now(account_id).await?);
    Ok(Json(json!({"scan": shown, "target": objects::target_reference(&target)})))
}

/// The scan that webhooks call by this id.
pub(super) async fn find(api: &Api, account_id: AccountId, scan_id: &str) -> Result<Arc<Scan>, Failure> {
    let is_meant = |id: ObjectId| objects::scan_id(id) == scan_id;
    let scan: Option<Arc<Scan>> = named(api, account_id, Kind::Scan, is_meant).await?;
    scan.filter(|scan| is_shown(scan)).ok_or_else(|| Failure::new(404, "scan not found"))
}
