//! Deliveries: where each stands, its attempts, and sending one again.

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
use super::extract::{Caller, IdOf, QueryOf};
use super::page::{ListOf, Listing, check_filter, check_limit};
use crate::clock::rfc3339;
use crate::delivery::{API_VERSION, Attempt, AttemptError, Status};
use crate::id::{DeliveryId, EventId, SubscriberId};
use crate::store::{DeliveryDetail, DeliveryFilter, ListedDelivery, Page, Redelivered};
use crate::vendors::dialect;

pub(super) fn router() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(show)).routes(routes!(redeliver))
}

/// A delivery in a list.
#[derive(Debug, Serialize, ToSchema)]
struct DeliveryView {
    #[schema(value_type = String)]
    id: DeliveryId,
    #[schema(value_type = String)]
    event_id: EventId,
    event_type: String,
    #[schema(value_type = String)]
    subscriber_id: SubscriberId,
    #[schema(example = "v1")]
    api_version: &'static str,
    status: Status,
    /// When the next attempt is due; once finished, when the last one was.
    #[serde(serialize_with = "rfc3339::serialize")]
    next_try: DateTime<Utc>,
    /// Attempts made after the first.
    retries: u32,
    #[serde(serialize_with = "rfc3339::serialize")]
    created_at: DateTime<Utc>,
}

/// A delivery with its attempts, and the body that each of them sends.
#[derive(Debug, Serialize, ToSchema)]
struct DeliveryDetailView {
    #[serde(flatten)]
    delivery: DeliveryView,
    /// What every attempt sends, byte for byte.
    request_body: String,
    attempts: Vec<AttemptView>,
}

/// One HTTP request of a delivery, and its outcome.
#[derive(Debug, Serialize, ToSchema)]
struct AttemptView {
    /// The first is 1.
    number: u32,
    url: String,
    #[serde(serialize_with = "rfc3339::serialize")]
    started_at: DateTime<Utc>,
    #[serde(serialize_with = "rfc3339::serialize")]
    finished_at: DateTime<Utc>,
    duration_ms: u64,
    /// `accepted`, `rejected` or `unreachable`.
    #[schema(example = "rejected")]
    outcome: &'static str,
    /// Why no answer came.
    error: Option<AttemptError>,
    error_detail: Option<String>,
    /// Names and values in order, spelled as they were sent.
    request_headers: Vec<(String, String)>,
    response_status: Option<u16>,
    response_headers: Option<Vec<(String, String)>>,
    /// The first 16 KiB. Bytes that are not UTF-8 are replaced.
    response_body: Option<String>,
}

impl From<ListedDelivery> for DeliveryView {
    fn from(ListedDelivery { delivery, event_type }: ListedDelivery) -> Self {
        Self {
            id: delivery.id,
            event_id: delivery.event_id,
            event_type,
            subscriber_id: delivery.subscriber_id,
            api_version: API_VERSION,
            status: delivery.status,
            next_try: delivery.next_try,
            retries: delivery.retries,
            created_at: delivery.created_at,
        }
    }
}

impl From<Attempt> for AttemptView {
    fn from(attempt: Attempt) -> Self {
        let outcome = attempt.outcome.as_str();
        let (error, error_detail) = attempt.outcome.error().unzip();
        let error_detail = error_detail.map(str::to_owned);
        let (status, headers, body) = match attempt.response {
            Some(response) => (Some(response.status), Some(response.headers), Some(response.body)),
            None => (None, None, None),
        };
        Self {
            number: attempt.number,
            url: attempt.url,
            started_at: attempt.started_at,
            finished_at: attempt.finished_at,
            duration_ms: u64::try_from(attempt.duration.as_millis()).unwrap_or(u64::MAX),
            outcome,
            error,
            error_detail,
            request_headers: attempt.request_headers,
            response_status: status,
            response_headers: headers,
            response_body: body.map(|body| String::from_utf8_lossy(&body).into_owned()),
        }
    }
}

impl From<DeliveryDetail> for DeliveryDetailView {
    fn from(DeliveryDetail { listed, event, options, attempts }: DeliveryDetail) -> Self {
        let request_body = dialect(event.vendor).body(&event, &options);
        let attempts = attempts.into_iter().map(AttemptView::from).collect();
        Self { delivery: listed.into(), request_body, attempts }
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    #[param(inline)]
    status: Option<Status>,
    #[param(value_type = Option<String>)]
    subscriber_id: Option<SubscriberId>,
    #[param(value_type = Option<String>)]
    event_id: Option<EventId>,
    event_type: Option<String>,
    /// Made at this time or later.
    from: Option<DateTime<Utc>>,
    /// Made before this time.
    until: Option<DateTime<Utc>>,
    /// From the page before.
    cursor: Option<String>,
    /// 1 to 250; 50 if left out.
    limit: Option<u32>,
}

/// List the deliveries, newest first.
#[utoipa::path(
    get, path = "/api/v1/deliveries", tag = "deliveries", params(ListQuery),
    responses(
        (status = 200, description = "A page of them", body = ListOf<DeliveryView>),
        (status = 400, description = "A parameter or the cursor is unusable", body = Problem),
    )
)]
async fn list(
    State(api): State<Api>,
    Caller(account_id): Caller,
    QueryOf(query): QueryOf<ListQuery>,
) -> Result<Json<ListOf<DeliveryView>>, Problem> {
    let limit = check_limit(query.limit)?;
    check_filter("event_type", query.event_type.as_deref())?;
    let filter = DeliveryFilter {
        status: query.status,
        subscriber_id: query.subscriber_id,
        event_id: query.event_id,
        event_type: query.event_type,
        from: query.from,
        until: query.until,
    };
    let listing = Listing::new(&api, account_id, "deliveries", &filter);
    let page = Page { before: listing.position(query.cursor.as_deref())?, limit: limit + 1 };
    let rows = api.store.deliveries(account_id, &filter, &page).await?;
    Ok(Json(listing.page(rows, limit, |row| row.delivery.id.to_string(), DeliveryView::from)))
}

/// Show a delivery with its attempts.
#[utoipa::path(
    get, path = "/api/v1/deliveries/{id}", tag = "deliveries", params(("id" = String, Path)),
    responses(
        (status = 200, description = "The delivery", body = DeliveryDetailView),
        (status = 404, description = "There is none", body = Problem),
    )
)]
async fn show(
    State(api): State<Api>,
    Caller(account_id): Caller,
    IdOf(id): IdOf<DeliveryId>,
) -> Result<Json<DeliveryDetailView>, Problem> {
    Ok(Json(api.store.delivery(account_id, id).await?.into()))
}

/// Send a delivery again, now.
///
/// A finished one starts its retry schedule anew; one that waits for a retry is due now.
#[utoipa::path(
    post, path = "/api/v1/deliveries/{id}/redeliver", tag = "deliveries", params(("id" = String, Path)),
    responses(
        (status = 202, description = "It is due now", body = DeliveryDetailView),
        (status = 404, description = "There is none", body = Problem),
        (status = 409, description = "It is being attempted, or its subscriber gets nothing", body = Problem),
    )
)]
async fn redeliver(
    State(api): State<Api>,
    Caller(account_id): Caller,
    IdOf(id): IdOf<DeliveryId>,
) -> Result<(StatusCode, Json<DeliveryDetailView>), Problem> {
    let now = api.clocks.now(account_id).await?;
    match api.store.redeliver(account_id, id, now).await? {
        Redelivered::Due => (),
        Redelivered::InFlight => {
            let detail = "an attempt is being made at this moment; try again when it has ended";
            return Err(Problem::conflict("in-flight", "An attempt is under way", detail));
        }
        Redelivered::NoSubscriber => {
            let detail = "its subscriber is disabled or deleted; enable it first";
            return Err(Problem::conflict("subscriber-disabled", "The subscriber gets nothing", detail));
        }
    }
    let detail = api.store.delivery(account_id, id).await?;
    api.handover.wake();
    Ok((StatusCode::ACCEPTED, Json(detail.into())))
}
