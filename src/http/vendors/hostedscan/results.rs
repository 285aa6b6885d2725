//! The results of a scan, as files. The same scan always gives the same bytes, so they show nothing
//! that can change after it.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;

use super::files::{Document, Format};
use super::{Api, Caller, Failure, Id, scans};
use crate::http::vendors::{all_objects, named};
use crate::id::{AccountId, ObjectId};
use crate::vendors::hostedscan::objects::{self, RESULTS, iso};
use crate::world::{Kind, Scan, ScanState, Target, Weakness};

/// The content type of a result, by its id and its scan's.
fn content_type(id: &str, scan_id: ObjectId) -> Option<&'static str> {
    RESULTS.into_iter().find(|one| objects::is_id_of(id, &format!("result/{one}"), scan_id))
}

pub(super) async fn download(
    State(api): State<Api>,
    Caller(account_id): Caller,
    Id(id): Id,
) -> Result<Response, Failure> {
    let scan = named::<Scan>(&api, account_id, Kind::Scan, |own| content_type(&id, own).is_some()).await?;
    let scan = scan.filter(|scan| scan.state == ScanState::Completed).ok_or_else(Failure::missing)?;
    let format = content_type(&id, scan.id).and_then(Format::of).ok_or_else(Failure::missing)?;
    let looked_at = looked_at(&api, account_id, &scan).await?;
    Document::download(format, move || document(&scan, &looked_at)).await
}

/// The targets of a scan, each with what this scan found there.
async fn looked_at(
    api: &Api,
    account_id: AccountId,
    scan: &Scan,
) -> Result<Vec<(Arc<Target>, Vec<Arc<Weakness>>)>, Failure> {
    let world = api.scanner.world(account_id).await?;
    let found: BTreeSet<ObjectId> = scan.new.iter().chain(&scan.again).copied().collect();
    let mut looked_at = Vec::new();
    let others = scan.others.iter().filter(|other| !other.is_unreachable).map(|other| other.id);
    for id in std::iter::once(scan.target_id).chain(others) {
        let Some(target) = scans::target(api, account_id, &world, id).await? else { continue };
        let mut weaknesses: Vec<Arc<Weakness>> = all_objects(api, account_id, Kind::Weakness, Some(id)).await?;
        weaknesses.retain(|weakness| found.contains(&weakness.id));
        looked_at.push((target, weaknesses));
    }
    Ok(looked_at)
}

/// A scan's results as a document: the gravest findings first.
fn document(scan: &Scan, looked_at: &[(Arc<Target>, Vec<Arc<Weakness>>)]) -> Document {
    let targets: HashMap<ObjectId, &Target> = looked_at.iter().map(|(target, _)| (target.id, &**target)).collect();
    let mut found: Vec<&Weakness> = looked_at.iter().flat_map(|(_, found)| found).map(|one| &**one).collect();
    found.sort_by_key(|weakness| (std::cmp::Reverse(weakness.definition().threat_level), weakness.id));
    let shown = |weakness: &Weakness| Some(objects::finding(weakness, targets.get(&weakness.target_id)?));
    let addresses: Vec<&str> = looked_at.iter().map(|(target, _)| target.address.as_str()).collect();
    let facts = vec![
        ("Scan", objects::vendor_id("scan", scan.id)),
        ("Type", scan.scanner.to_string()),
        ("Targets", addresses.join(", ")),
        ("Started at", scan.started_at.map(iso).unwrap_or_default()),
        ("Ended at", scan.ended_at.map(iso).unwrap_or_default()),
    ];
    Document::new("Scan results", facts, found.into_iter().filter_map(shown).collect())
}
