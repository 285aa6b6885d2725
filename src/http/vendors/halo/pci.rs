//! `pci/…`: the account's PCI reports.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use super::super::{Api, Params};
use super::Caller;
use super::call::{Answer, Page, world};
use super::users::with_owner;
use crate::vendors::halo::objects;
use crate::world::{Object, PciReport, World};

/// `pci/summary.json`: `report_count`, `last_report_id`, `status`. (Documented.) Before the first
/// report the last two are null. (Assumed.)
pub(super) async fn summary(State(api): State<Api>, Caller(account_id): Caller) -> Answer {
    let world = world(&api, account_id).await?;
    let reports = reports(&world);
    let last = reports.last();
    Ok(Json(json!({
        "report_count": reports.len(),
        "last_report_id": last.map(|report| objects::pci_report_id(report)),
        "status": last.map(|report| objects::pci_status(report)),
    })))
}

/// `pci/report-list.json`. (The call is documented; that each row is a `report`, as in the answer to
/// attesting, and `sort` 0 by number are assumed.)
pub(super) async fn list(State(api): State<Api>, Caller(account_id): Caller, params: Params) -> Answer {
    let page = Page::read(&params, 0)?;
    let (world, owner) = with_owner(&api, account_id).await?;
    let attest_name = objects::full_name(&owner);
    let count = world.targets().count();
    let show =
        |report: &&Arc<PciReport>| -> Value { json!({"report": objects::pci_report(report, &attest_name, count)}) };
    Ok(page.answer(count, reports(&world), show))
}

/// The account's PCI reports, oldest first.
fn reports(world: &World) -> Vec<&Arc<PciReport>> {
    let mut reports: Vec<_> = world
        .objects()
        .filter_map(|object| match object {
            Object::PciReport(report) => Some(report),
            _ => None,
        })
        .collect();
    reports.sort_by_key(|report| report.number);
    reports
}
