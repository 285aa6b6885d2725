//! Snapshots: what an account held at one time, to go back to.

use axum::Json;
use axum::extract::State;
use chrono::{DateTime, Utc};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Api;
use super::accounts::{OwnAccount, own_account, start_over};
use super::error::Problem;
use super::extract::{Caller, IdOf, JsonBody, QueryOf};
use super::page::{ListOf, Listing, PageQuery, check_limit};
use crate::account::{Holdings, Snapshot};
use crate::clock::rfc3339;
use crate::id::SnapshotId;
use crate::problem::check_text;

pub(super) fn router() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(remove)).routes(routes!(restore))
}

/// A snapshot as the API shows it.
#[derive(Debug, Serialize, ToSchema)]
struct SnapshotView {
    #[schema(value_type = String)]
    id: SnapshotId,
    name: Option<String>,
    #[serde(serialize_with = "rfc3339::serialize")]
    created_at: DateTime<Utc>,
    /// How much the account held.
    counts: Holdings,
}

/// A snapshot to take.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewSnapshot {
    /// A label for people.
    #[schema(example = "three targets, no scans")]
    name: Option<String>,
}

impl From<Snapshot> for SnapshotView {
    fn from(snapshot: Snapshot) -> Self {
        let Snapshot { id, name, created_at, holdings } = snapshot;
        Self { id, name, created_at, counts: holdings }
    }
}

/// Take a snapshot of the account: its subscribers, events, deliveries with their attempts, and its
/// world.
#[utoipa::path(
    post, path = "/api/v1/snapshots", tag = "snapshots", request_body = NewSnapshot,
    responses(
        (status = 201, description = "The snapshot", body = SnapshotView),
        (status = 409, description = "The account holds too much", body = Problem),
        (status = 422, description = "The name is unusable", body = Problem),
    )
)]
async fn create(
    State(api): State<Api>,
    Caller(account_id): Caller,
    JsonBody(NewSnapshot { name }): JsonBody<NewSnapshot>,
) -> Result<(StatusCode, Json<SnapshotView>), Problem> {
    if let Some(name) = &name {
        check_text("/name", name, 200).map_err(|problem| Problem::invalid(vec![problem]))?;
    }
    let now = api.clock.now();
    let sequence = api.chance.next_in_sequence("snapshot", account_id);
    let mut stream = api.chance.stream("snapshot", format!("{account_id}/{sequence}"));
    let id = SnapshotId::generate(now, sequence, &mut stream);
    let snapshot = api.store.insert_snapshot(account_id, id, name.as_deref(), now).await?;
    Ok((StatusCode::CREATED, Json(snapshot.into())))
}

/// List the snapshots, oldest first.
#[utoipa::path(
    get, path = "/api/v1/snapshots", tag = "snapshots", params(PageQuery),
    responses((status = 200, description = "A page of them", body = ListOf<SnapshotView>))
)]
async fn list(
    State(api): State<Api>,
    Caller(account_id): Caller,
    QueryOf(query): QueryOf<PageQuery>,
) -> Result<Json<ListOf<SnapshotView>>, Problem> {
    let limit = check_limit(query.limit)?;
    let listing = Listing::new(&api, account_id, "snapshots", &());
    let after = listing.position(query.cursor.as_deref())?;
    let after = after.map(|id| id.parse::<SnapshotId>()).transpose().map_err(|_| Problem::invalid_cursor())?;
    let rows = api.store.snapshots(account_id, after, limit + 1).await?;
    Ok(Json(listing.page(rows, limit, |row| row.id.to_string(), SnapshotView::from)))
}

/// Delete a snapshot. The account stays as it is.
#[utoipa::path(
    delete, path = "/api/v1/snapshots/{id}", tag = "snapshots", params(("id" = String, Path)),
    responses(
        (status = 204, description = "It is gone"),
        (status = 404, description = "There is none", body = Problem),
    )
)]
async fn remove(
    State(api): State<Api>,
    Caller(account_id): Caller,
    IdOf(id): IdOf<SnapshotId>,
) -> Result<StatusCode, Problem> {
    api.store.delete_snapshot(account_id, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Put the account back as it was when the snapshot was taken. What was due then is due now.
#[utoipa::path(
    post, path = "/api/v1/snapshots/{id}/restore", tag = "snapshots", params(("id" = String, Path)),
    responses(
        (status = 200, description = "The account as it is now", body = OwnAccount),
        (status = 404, description = "There is no such snapshot of this account", body = Problem),
    )
)]
async fn restore(
    State(api): State<Api>,
    Caller(account_id): Caller,
    IdOf(id): IdOf<SnapshotId>,
) -> Result<Json<OwnAccount>, Problem> {
    api.store.restore_snapshot(account_id, id).await?;
    start_over(&api, account_id);
    own_account(&api, account_id).await
}
