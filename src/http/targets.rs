//! Targets: what there is to scan, and its weaknesses.

use axum::Json;
use axum::extract::State;
use chrono::{DateTime, Utc};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Api;
use super::error::Problem;
use super::extract::{Caller, IdOf, JsonBody, QueryOf};
use super::page::{ListOf, Listing, Objects, PageQuery, check_limit, page_of_objects};
use crate::clock::rfc3339;
use crate::id::{AccountId, ObjectId};
use crate::scanner::change::{Change, Fix, change_target};
use crate::scanner::targets::{NewTarget, add_target, remove_target, verify_target};
use crate::world::{About, Counts, Kind, Level, Scanner, TargetKind, Weakness, WeaknessState};

pub(super) fn router() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(list, add))
        .routes(routes!(show, change, remove))
        .routes(routes!(fix))
        .routes(routes!(verify))
        .routes(routes!(weaknesses))
}

#[derive(Debug, Serialize, ToSchema)]
struct TargetView {
    #[schema(value_type = String)]
    id: ObjectId,
    kind: TargetKind,
    address: String,
    label: String,
    tags: Vec<String>,
    verified: bool,
    /// Scans of it fail.
    unreachable: bool,
    /// The weaknesses that are open, by level.
    open: Counts,
    /// What can be seen of it from outside.
    #[schema(value_type = Object)]
    surface: serde_json::Value,
    #[serde(serialize_with = "rfc3339::serialize")]
    created_at: DateTime<Utc>,
    /// When the last scan completed.
    #[serde(serialize_with = "rfc3339::option::serialize")]
    scanned_at: Option<DateTime<Utc>>,
}

impl From<About> for TargetView {
    fn from(About { target, counts }: About) -> Self {
        Self {
            id: target.id,
            kind: target.kind,
            address: target.address.clone(),
            label: target.label.clone(),
            tags: target.tags.clone(),
            verified: target.is_verified,
            unreachable: target.is_unreachable,
            open: counts,
            surface: crate::world::to_value(&target.surface),
            created_at: target.created_at,
            scanned_at: target.seen.as_ref().map(|(_, at)| *at),
        }
    }
}

/// One weakness of a target.
#[derive(Debug, Serialize, ToSchema)]
struct WeaknessView {
    #[schema(value_type = String)]
    id: ObjectId,
    number: u64,
    /// Its kind, as scenarios name it.
    #[schema(example = "owasp-zap-missing-hsts")]
    weakness: String,
    title: &'static str,
    #[schema(value_type = String)]
    scanner: Scanner,
    threat_level: Level,
    cvss_score: f64,
    state: WeaknessState,
    /// Whether it is there, whatever the scanner knows.
    present: bool,
    #[serde(serialize_with = "rfc3339::option::serialize")]
    first_detected_at: Option<DateTime<Utc>>,
    #[serde(serialize_with = "rfc3339::option::serialize")]
    last_detected_at: Option<DateTime<Utc>>,
}

impl From<&Weakness> for WeaknessView {
    fn from(weakness: &Weakness) -> Self {
        let definition = weakness.definition();
        Self {
            id: weakness.id,
            number: weakness.number,
            weakness: weakness.definition.clone(),
            title: &definition.title,
            scanner: definition.scanner,
            threat_level: definition.threat_level,
            cvss_score: definition.cvss_score,
            state: weakness.state,
            present: weakness.is_present,
            first_detected_at: weakness.first_detected_at,
            last_detected_at: weakness.last_detected_at,
        }
    }
}

/// List the targets, newest first.
#[utoipa::path(
    get, path = "/api/v1/targets", tag = "targets", params(PageQuery),
    responses((status = 200, description = "A page of them", body = ListOf<TargetView>))
)]
async fn list(
    State(api): State<Api>,
    Caller(account_id): Caller,
    QueryOf(query): QueryOf<PageQuery>,
) -> Result<Json<ListOf<TargetView>>, Problem> {
    let limit = check_limit(query.limit)?;
    let listing = Listing::new(&api, account_id, "targets", &());
    let before = listing.object_position(query.cursor.as_deref())?;
    let world = api.scanner.world(account_id).await?;
    let mut rows: Vec<About> = world
        .targets()
        .filter(|target| before.is_none_or(|before| target.id < before))
        .map(|target| world.about(target))
        .collect();
    rows.reverse();
    Ok(Json(listing.page(rows, limit, |row| row.target.id.to_string(), TargetView::from)))
}

/// Add a target. Its weaknesses are drawn, unless they are given.
#[utoipa::path(
    post, path = "/api/v1/targets", tag = "targets", request_body = NewTarget,
    responses(
        (status = 201, description = "The target", body = TargetView),
        (status = 409, description = "There is one of this address", body = Problem),
        (status = 422, description = "A field is unusable", body = Problem),
    )
)]
async fn add(
    State(api): State<Api>,
    Caller(account_id): Caller,
    JsonBody(new): JsonBody<NewTarget>,
) -> Result<(StatusCode, Json<TargetView>), Problem> {
    let about = api
        .scanner
        .change(account_id, |world, rules| {
            let target = add_target(world, new.clone(), rules.now)?;
            Ok(world.about(&target))
        })
        .await?;
    Ok((StatusCode::CREATED, Json(about.into())))
}

/// Show a target.
#[utoipa::path(
    get, path = "/api/v1/targets/{id}", tag = "targets", params(("id" = String, Path)),
    responses(
        (status = 200, description = "The target", body = TargetView),
        (status = 404, description = "There is none", body = Problem),
    )
)]
async fn show(
    State(api): State<Api>,
    Caller(account_id): Caller,
    IdOf(id): IdOf<ObjectId>,
) -> Result<Json<TargetView>, Problem> {
    let world = api.scanner.world(account_id).await?;
    let target = world.target(id).ok_or_else(|| Problem::not_found("there is no such target in this account"))?;
    Ok(Json(world.about(target).into()))
}

async fn make_change(
    api: &Api,
    account_id: AccountId,
    id: ObjectId,
    change: &Change,
) -> Result<Json<TargetView>, Problem> {
    let about = api
        .scanner
        .change(account_id, |world, rules| {
            let target = change_target(world, id, change, rules.now)?;
            Ok(world.about(&target))
        })
        .await?;
    Ok(Json(about.into()))
}

/// Change what there is to be found on a target. The next scan tells of it.
#[utoipa::path(
    patch, path = "/api/v1/targets/{id}", tag = "targets", params(("id" = String, Path)), request_body = Change,
    responses(
        (status = 200, description = "The target as it is now", body = TargetView),
        (status = 404, description = "There is none", body = Problem),
        (status = 422, description = "A field is unusable", body = Problem),
    )
)]
async fn change(
    State(api): State<Api>,
    Caller(account_id): Caller,
    IdOf(id): IdOf<ObjectId>,
    JsonBody(change): JsonBody<Change>,
) -> Result<Json<TargetView>, Problem> {
    make_change(&api, account_id, id, &change).await
}

#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct WhatToFix {
    /// By key; all of them if left out.
    weaknesses: Option<Vec<String>>,
}

/// Fix weaknesses. The next completed scan that looks for them closes them.
#[utoipa::path(
    post, path = "/api/v1/targets/{id}/fix", tag = "targets", params(("id" = String, Path)), request_body = WhatToFix,
    responses(
        (status = 200, description = "The target as it is now", body = TargetView),
        (status = 404, description = "There is none", body = Problem),
        (status = 422, description = "There is no such kind of weakness", body = Problem),
    )
)]
async fn fix(
    State(api): State<Api>,
    Caller(account_id): Caller,
    IdOf(id): IdOf<ObjectId>,
    JsonBody(what): JsonBody<WhatToFix>,
) -> Result<Json<TargetView>, Problem> {
    let fix = what.weaknesses.map_or_else(|| Fix::Word("all".to_owned()), Fix::Keys);
    let change = Change { fix: Some(fix), ..Change::default() };
    make_change(&api, account_id, id, &change).await
}

#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Verification {
    /// Why it fails; it succeeds if left out.
    error: Option<String>,
}

/// Verify that a target is the account's, or fail to.
#[utoipa::path(
    post, path = "/api/v1/targets/{id}/verify", tag = "targets", params(("id" = String, Path)),
    request_body = Verification,
    responses(
        (status = 204, description = "It was tried"),
        (status = 404, description = "There is none", body = Problem),
    )
)]
async fn verify(
    State(api): State<Api>,
    Caller(account_id): Caller,
    IdOf(id): IdOf<ObjectId>,
    JsonBody(verification): JsonBody<Verification>,
) -> Result<StatusCode, Problem> {
    let verify = |world: &mut _, rules: crate::scanner::Rules<'_>| {
        verify_target(world, id, verification.error.clone(), rules.now)
    };
    api.scanner.change(account_id, verify).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Remove a target. Scans of it that are running are cancelled.
#[utoipa::path(
    delete, path = "/api/v1/targets/{id}", tag = "targets", params(("id" = String, Path)),
    responses(
        (status = 204, description = "It is gone"),
        (status = 404, description = "There is none", body = Problem),
    )
)]
async fn remove(
    State(api): State<Api>,
    Caller(account_id): Caller,
    IdOf(id): IdOf<ObjectId>,
) -> Result<StatusCode, Problem> {
    api.scanner.change(account_id, |world, rules| remove_target(world, id, rules.now)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// List the weaknesses of a target, newest first.
#[utoipa::path(
    get, path = "/api/v1/targets/{id}/weaknesses", tag = "targets", params(("id" = String, Path), PageQuery),
    responses(
        (status = 200, description = "A page of them", body = ListOf<WeaknessView>),
        (status = 404, description = "There is no such target", body = Problem),
    )
)]
async fn weaknesses(
    State(api): State<Api>,
    Caller(account_id): Caller,
    IdOf(id): IdOf<ObjectId>,
    QueryOf(query): QueryOf<PageQuery>,
) -> Result<Json<ListOf<WeaknessView>>, Problem> {
    api.store.world_object(account_id, Kind::Target, id).await?;
    let objects = Objects { name: ("weaknesses", id.to_string()), kind: Kind::Weakness, target_id: Some(id) };
    page_of_objects(&api, account_id, objects, &query, |weakness: &Weakness| weakness.into()).await
}
