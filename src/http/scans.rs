//! Scans: start, list, show, cancel.

use axum::Json;
use axum::extract::State;
use chrono::{DateTime, Utc};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Api;
use super::error::Problem;
use super::extract::{Caller, IdOf, JsonBody, QueryOf};
use super::page::{ListOf, Objects, PageQuery, one_object, page_of_objects};
use crate::clock::rfc3339;
use crate::event::Vendor;
use crate::id::ObjectId;
use crate::problem::quote;
use crate::scanner::life::{self, NewScan};
use crate::scanner::targets::{NewTarget, add_target};
use crate::scanner::weaknesses::Findings;
use crate::scanner::{Refusal, Rules};
use crate::schedule::{format_duration, parse_duration};
use crate::world::{Counts, Kind, Outcome, Scan, ScanState, Scanner, World};

pub(super) fn router() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(list, start)).routes(routes!(show)).routes(routes!(cancel))
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ScanToStart {
    /// The address of a target; it is added if it is not there.
    #[schema(example = "shop.example.test")]
    target: String,
    #[schema(value_type = String, example = "OWASP_ZAP")]
    scanner: Scanner,
    /// `completed` if left out.
    outcome: Option<Outcome>,
    /// Why it fails.
    reason: Option<String>,
    /// From queued to ended; as long as such a scan takes, by the time scale, if left out.
    #[schema(example = "2s")]
    duration: Option<String>,
    /// Exactly what it finds: how many, or which by their keys; what is there if left out.
    findings: Option<Findings>,
    /// Whose events tell of it; the setting `scanner.vendors` if left out.
    vendors: Option<Vec<Vendor>>,
}

/// A scan as the API shows it.
#[derive(Debug, Serialize, ToSchema)]
struct ScanView {
    #[schema(value_type = String)]
    id: ObjectId,
    #[schema(value_type = String)]
    target_id: ObjectId,
    #[schema(value_type = String)]
    scanner: Scanner,
    state: ScanState,
    /// 0 to 100.
    progress: u8,
    /// From queued to ended, if all goes as planned.
    duration: String,
    /// Why it failed.
    reason: Option<String>,
    /// Whether no scan of its target had completed before.
    first: bool,
    /// What it has found, by level.
    found: Counts,
    /// How many of them were not open before.
    new: usize,
    /// How many were open before and are found again.
    again: usize,
    /// How many were open before and are not found any more.
    closed: usize,
    vendors: Vec<Vendor>,
    #[serde(serialize_with = "rfc3339::serialize")]
    created_at: DateTime<Utc>,
    #[serde(serialize_with = "rfc3339::option::serialize")]
    started_at: Option<DateTime<Utc>>,
    #[serde(serialize_with = "rfc3339::option::serialize")]
    ended_at: Option<DateTime<Utc>>,
}

impl From<&Scan> for ScanView {
    fn from(scan: &Scan) -> Self {
        Self {
            id: scan.id,
            target_id: scan.target_id,
            scanner: scan.scanner,
            state: scan.state,
            progress: scan.progress,
            duration: format_duration(scan.plan.duration),
            reason: (scan.state == ScanState::Failed).then(|| scan.plan.reason.clone()),
            first: scan.is_first,
            found: scan.counts,
            new: scan.new.len(),
            again: scan.again.len(),
            closed: scan.closed.len(),
            vendors: scan.vendors.clone(),
            created_at: scan.created_at,
            started_at: scan.started_at,
            ended_at: scan.ended_at,
        }
    }
}

/// Checks which vendors are to tell.
fn check_vendors(vendors: Option<&[Vendor]>) -> Result<(), Refusal> {
    if vendors.is_some_and(|vendors| vendors.contains(&Vendor::Standard)) {
        return Err(Refusal::field("/vendors", "standard has no words of its own for a scan"));
    }
    let is_told_twice = |(index, vendor): (usize, &Vendor)| vendors.unwrap_or_default()[..index].contains(vendor);
    if vendors.is_some_and(|vendors| vendors.is_empty() || vendors.iter().enumerate().any(is_told_twice)) {
        return Err(Refusal::field("/vendors", "must name at least one vendor, and each once"));
    }
    Ok(())
}

fn start_scan(world: &mut World, rules: Rules<'_>, new: &ScanToStart) -> Result<ScanView, Refusal> {
    let duration = new.duration.as_deref().map(parse_duration).transpose();
    let duration = duration.map_err(|reason| Refusal::field("/duration", reason))?;
    check_vendors(new.vendors.as_deref())?;
    let target = match world.target_at(&new.target) {
        Some(target) => target.id,
        None => add_target(world, NewTarget { address: new.target.clone(), ..NewTarget::default() }, rules.now)?.id,
    };
    let scan = NewScan {
        outcome: new.outcome.unwrap_or_default(),
        reason: new.reason.clone(),
        duration,
        findings: new.findings.clone(),
        vendors: new.vendors.clone(),
        ..NewScan::of(target, new.scanner)
    };
    Ok(ScanView::from(&*life::start(world, rules, scan, rules.now)?))
}

/// Start a scan.
#[utoipa::path(
    post, path = "/api/v1/scans", tag = "scans", request_body = ScanToStart,
    responses(
        (status = 201, description = "The scan, queued", body = ScanView),
        (status = 422, description = "A field is unusable", body = Problem),
    )
)]
async fn start(
    State(api): State<Api>,
    Caller(account_id): Caller,
    JsonBody(new): JsonBody<ScanToStart>,
) -> Result<(StatusCode, Json<ScanView>), Problem> {
    let view = api.scanner.change(account_id, |world, rules| start_scan(world, rules, &new)).await?;
    Ok((StatusCode::CREATED, Json(view)))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// The address of a target.
    target: Option<String>,
    /// From the page before.
    cursor: Option<String>,
    /// 1 to 250; 50 if left out.
    limit: Option<u32>,
}

/// List the scans, newest first.
#[utoipa::path(
    get, path = "/api/v1/scans", tag = "scans", params(ListQuery),
    responses(
        (status = 200, description = "A page of them", body = ListOf<ScanView>),
        (status = 404, description = "There is no such target", body = Problem),
    )
)]
async fn list(
    State(api): State<Api>,
    Caller(account_id): Caller,
    QueryOf(query): QueryOf<ListQuery>,
) -> Result<Json<ListOf<ScanView>>, Problem> {
    let ListQuery { target, cursor, limit } = query;
    let target_id = match &target {
        Some(address) => {
            let world = api.scanner.world(account_id).await?;
            let found = world.target_at(address).map(|target| target.id);
            Some(found.ok_or_else(|| Problem::not_found(format!("there is no target {}", quote(address))))?)
        }
        None => None,
    };
    let objects = Objects { name: ("scans", target.unwrap_or_default()), kind: Kind::Scan, target_id };
    page_of_objects(&api, account_id, objects, &PageQuery { cursor, limit }, |scan: &Scan| scan.into()).await
}

/// Show a scan.
#[utoipa::path(
    get, path = "/api/v1/scans/{id}", tag = "scans", params(("id" = String, Path)),
    responses(
        (status = 200, description = "The scan", body = ScanView),
        (status = 404, description = "There is none", body = Problem),
    )
)]
async fn show(
    State(api): State<Api>,
    Caller(account_id): Caller,
    IdOf(id): IdOf<ObjectId>,
) -> Result<Json<ScanView>, Problem> {
    let scan = one_object::<Scan>(&api, account_id, Kind::Scan, id).await?;
    Ok(Json(ScanView::from(&*scan)))
}

/// Cancel a scan that has not ended.
#[utoipa::path(
    post, path = "/api/v1/scans/{id}/cancel", tag = "scans", params(("id" = String, Path)),
    responses(
        (status = 200, description = "The scan, cancelled", body = ScanView),
        (status = 404, description = "There is none", body = Problem),
        (status = 409, description = "It has ended", body = Problem),
    )
)]
async fn cancel(
    State(api): State<Api>,
    Caller(account_id): Caller,
    IdOf(id): IdOf<ObjectId>,
) -> Result<Json<ScanView>, Problem> {
    // A scan that has ended is not in the world any more.
    if one_object::<Scan>(&api, account_id, Kind::Scan, id).await?.state.has_ended() {
        return Err(Refusal::Conflict(format!("scan {id} has ended")).into());
    }
    let cancel = |world: &mut World, rules: Rules<'_>| life::cancel(world, id, rules.now);
    Ok(Json(ScanView::from(&*api.scanner.change(account_id, cancel).await?)))
}
