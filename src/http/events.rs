//! Events: publishing them, one or many, and reading them back.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Api;
use super::error::Problem;
use super::extract::{Caller, IdOf, JsonBody, QueryOf};
use super::page::{ListOf, Listing, check_filter, check_limit};
use crate::clock::{check_time, rfc3339};
use crate::config::Validation;
use crate::delivery::{API_VERSION, Delivery, Status};
use crate::event::Vendor;
use crate::id::{DeliveryId, EventId, SubscriberId};
use crate::problem::FieldProblem;
use crate::publish::{NewEvent, Published, Refused};
use crate::store::{EventFilter, EventWithDeliveries, Page};

/// Where events are published.
pub(super) const PATH: &str = "/api/v1/events";
const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// Says that the answer is the first event's, as other APIs say it.
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

pub(super) fn router() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(list, publish)).routes(routes!(show))
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct EventToPublish {
    #[schema(example = "hostedscan")]
    vendor: String,
    /// The vendor's own name for what has happened.
    #[schema(example = "risk.opened")]
    event_type: String,
    /// Any JSON that the vendor's format allows. Its text is kept and sent byte for byte.
    #[schema(value_type = Object, example = json!({"id": "61918df1ed4b650040af5b0a", "status": "OPEN"}))]
    content: Box<RawValue>,
    /// When it happened; now if left out.
    occurred_at: Option<DateTime<Utc>>,
    /// What `content` describes; what the vendor's format says if left out.
    object_type: Option<String>,
    /// When its webhooks are first due; now if left out.
    deliver_at: Option<DateTime<Utc>>,
    /// In a batch, what the header `Idempotency-Key` is for a single event.
    idempotency_key: Option<String>,
    /// `off`, `warn` or `enforce`: how the content is checked; the setting if left out.
    validation: Option<Validation>,
}

/// One entry of an event's `webhooks`: a delivery, in Probely's words.
#[derive(Debug, Serialize, ToSchema)]
struct WebhookView {
    /// The delivery's id.
    #[schema(value_type = String)]
    id: DeliveryId,
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
}

/// An event as the API shows it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct EventView {
    #[schema(value_type = String)]
    id: EventId,
    vendor: Vendor,
    /// The id in the vendor's own shape, as receivers see it.
    vendor_event_id: String,
    event_type: String,
    #[serde(serialize_with = "rfc3339::serialize")]
    occurred_at: DateTime<Utc>,
    object_type: String,
    #[schema(value_type = Object)]
    content: Box<RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    idempotency_key: Option<String>,
    #[serde(serialize_with = "rfc3339::serialize")]
    created_at: DateTime<Utc>,
    /// The deliveries it made.
    webhooks: Vec<WebhookView>,
    /// Under `validation: warn`, what is wrong with the content by its schema.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<FieldProblem>,
}

impl From<Published> for EventView {
    fn from(published: Published) -> Self {
        Self { warnings: published.warnings, ..Self::from(published.event) }
    }
}

impl From<EventWithDeliveries> for EventView {
    fn from(EventWithDeliveries { event, deliveries }: EventWithDeliveries) -> Self {
        let webhook = |delivery: Delivery| WebhookView {
            id: delivery.id,
            subscriber_id: delivery.subscriber_id,
            api_version: API_VERSION,
            status: delivery.status,
            next_try: delivery.next_try,
            retries: delivery.retries,
        };
        Self {
            id: event.id,
            vendor: event.vendor,
            vendor_event_id: event.vendor_event_id,
            event_type: event.event_type,
            occurred_at: event.occurred_at,
            object_type: event.object_type,
            content: RawValue::from_string(event.content).expect("content was JSON when it was published"),
            idempotency_key: event.idempotency_key,
            created_at: event.created_at,
            webhooks: deliveries.into_iter().map(webhook).collect(),
            warnings: Vec::new(),
        }
    }
}

/// Checks the times of an event.
pub(super) fn check_times(
    occurred_at: Option<DateTime<Utc>>,
    deliver_at: Option<DateTime<Utc>>,
) -> Result<(), Problem> {
    let given = [("/occurred_at", occurred_at), ("/deliver_at", deliver_at)];
    given
        .into_iter()
        .filter_map(|(pointer, time)| Some((pointer, time?)))
        .try_for_each(|(pointer, time)| check_time(pointer, time).map_err(|problem| Problem::invalid(vec![problem])))
}

pub(super) fn new_event(event: EventToPublish) -> Result<NewEvent, Problem> {
    let vendor = event.vendor.parse().map_err(|error| Problem::unknown_vendor(format!("{error}")))?;
    check_times(event.occurred_at, event.deliver_at)?;
    Ok(NewEvent {
        vendor,
        event_type: event.event_type,
        content: event.content,
        occurred_at: event.occurred_at,
        object_type: event.object_type,
        deliver_at: event.deliver_at,
        idempotency_key: event.idempotency_key,
        validation: event.validation,
    })
}

/// Publish an event.
///
/// Answers once the event and its deliveries are committed. With an `Idempotency-Key` that is
/// known, answers with the first event and stores nothing.
#[utoipa::path(
    post, path = "/api/v1/events", tag = "events", request_body = EventToPublish,
    params(("Idempotency-Key" = Option<String>, Header, description = "Your own name for this event")),
    responses(
        (status = 202, description = "The event and its deliveries are stored", body = EventView),
        (status = 400, description = "The body is not JSON", body = Problem),
        (status = 401, description = "The API key is wrong", body = Problem),
        (status = 413, description = "The body is too large", body = Problem),
        (status = 422, description = "Unknown vendor or event type, or an unusable field", body = Problem),
    )
)]
async fn publish(
    State(api): State<Api>,
    Caller(account_id): Caller,
    headers: HeaderMap,
    JsonBody(event): JsonBody<EventToPublish>,
) -> Result<Response, Problem> {
    let mut event = new_event(event)?;
    if headers.get_all(IDEMPOTENCY_KEY).iter().count() > 1 {
        return Err(Problem::invalid_header("Idempotency-Key is given more than once"));
    }
    if let Some(key) = headers.get(IDEMPOTENCY_KEY) {
        let key = key.to_str().map_err(|_| Problem::invalid_header("Idempotency-Key is not plain ASCII"))?;
        crate::problem::check_text("Idempotency-Key", key, 255)
            .map_err(|problem| Problem::invalid_header(problem.to_string()))?;
        event.idempotency_key = Some(key.to_owned());
    }
    let answer = api.publisher.publish(account_id, vec![event]).await.pop();
    let published = answer.unwrap_or(Err(Refused::Stopped))?;
    let is_repeat = published.is_repeat;
    let mut response = (StatusCode::ACCEPTED, Json(EventView::from(published))).into_response();
    if is_repeat {
        response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    }
    Ok(response)
}

#[derive(Debug, Clone, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    #[param(inline)]
    vendor: Option<Vendor>,
    event_type: Option<String>,
    /// Occurred at this time or later.
    from: Option<DateTime<Utc>>,
    /// Occurred before this time.
    until: Option<DateTime<Utc>>,
    /// From the page before.
    cursor: Option<String>,
    /// 1 to 250; 50 if left out.
    limit: Option<u32>,
}

/// List the events, newest first.
#[utoipa::path(
    get, path = "/api/v1/events", tag = "events", params(ListQuery),
    responses(
        (status = 200, description = "A page of them", body = ListOf<EventView>),
        (status = 400, description = "A parameter or the cursor is unusable", body = Problem),
    )
)]
async fn list(
    State(api): State<Api>,
    Caller(account_id): Caller,
    QueryOf(query): QueryOf<ListQuery>,
) -> Result<Json<ListOf<EventView>>, Problem> {
    let limit = check_limit(query.limit)?;
    check_filter("event_type", query.event_type.as_deref())?;
    let filter =
        EventFilter { vendor: query.vendor, event_type: query.event_type, from: query.from, until: query.until };
    let listing = Listing::new(&api, account_id, "events", &filter);
    let page = Page { before: listing.position(query.cursor.as_deref())?, limit: limit + 1 };
    let rows = api.store.events(account_id, &filter, &page).await?;
    Ok(Json(listing.page(rows, limit, |row| row.event.id.to_string(), EventView::from)))
}

/// Show an event with its deliveries.
#[utoipa::path(
    get, path = "/api/v1/events/{id}", tag = "events", params(("id" = String, Path)),
    responses(
        (status = 200, description = "The event", body = EventView),
        (status = 404, description = "There is none", body = Problem),
    )
)]
async fn show(
    State(api): State<Api>,
    Caller(account_id): Caller,
    IdOf(id): IdOf<EventId>,
) -> Result<Json<EventView>, Problem> {
    Ok(Json(api.store.event(account_id, id).await?.into()))
}
