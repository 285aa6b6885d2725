//! Subscribers: who gets which events, and how.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use chrono::{DateTime, Utc};
use http::StatusCode;
use serde::Serialize;
use url::Url;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Api;
use super::error::Problem;
use super::extract::{Caller, IdOf, JsonBody, QueryOf};
use super::page::{ListOf, Listing, PageQuery, check_limit};
use crate::clock::rfc3339;
use crate::event::Vendor;
use crate::id::{AccountId, SubscriberId};
use crate::register::{self, NewSubscriber, Rotation, SubscriberPatch, Waits};
use crate::schedule::{RetrySchedule, format_duration};
use crate::store;
use crate::subscriber::{Options, SignatureTime, Subscriber};

pub(super) fn router() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(show, change, remove)).routes(routes!(rotate))
}

/// A subscriber as the API shows it: without its secret.
#[derive(Debug, Serialize, ToSchema)]
struct SubscriberView {
    #[schema(value_type = String)]
    id: SubscriberId,
    vendor: Vendor,
    url: String,
    event_types: Vec<String>,
    /// Null: the vendor's own.
    #[schema(value_type = Option<Waits>)]
    retry_schedule: Option<RetrySchedule>,
    /// Null: the setting `dispatch.timeout`.
    timeout: Option<String>,
    headers: BTreeMap<String, String>,
    /// The vendor's own switches, where they are set.
    options: Options,
    enabled: bool,
    signature_time: SignatureTime,
    /// Why scanhook disabled it by itself.
    disabled_reason: Option<String>,
    /// Until when the secret before the present one signs as well.
    #[serde(serialize_with = "rfc3339::option::serialize")]
    previous_secret_until: Option<DateTime<Utc>>,
    #[serde(serialize_with = "rfc3339::serialize")]
    created_at: DateTime<Utc>,
}

#[derive(Debug, Serialize, ToSchema)]
struct CreatedSubscriber {
    #[serde(flatten)]
    subscriber: SubscriberView,
    /// What receivers verify with. Shown this once. Null where the vendor does not sign.
    secret: Option<String>,
}

impl From<Subscriber> for SubscriberView {
    fn from(subscriber: Subscriber) -> Self {
        Self {
            id: subscriber.id,
            vendor: subscriber.vendor,
            url: subscriber.url.into(),
            event_types: subscriber.event_types,
            retry_schedule: subscriber.retry_schedule,
            timeout: subscriber.timeout.map(format_duration),
            headers: subscriber.headers,
            options: subscriber.options,
            enabled: subscriber.enabled,
            signature_time: subscriber.signature_time,
            disabled_reason: subscriber.disabled_reason,
            previous_secret_until: subscriber.previous_secret.map(|(_, until)| until),
            created_at: subscriber.created_at,
        }
    }
}

/// A subscriber that gets every event of a vendor.
pub(super) async fn new_subscriber(
    api: &Api,
    account_id: AccountId,
    vendor: Vendor,
    url: Url,
) -> Result<Subscriber, store::Error> {
    let now = api.clocks.now(account_id).await?;
    Ok(register::new_subscriber(account_id, vendor, url, now, &api.chance))
}

/// Register a URL that wants events.
#[utoipa::path(
    post, path = "/api/v1/subscribers", tag = "subscribers", request_body = NewSubscriber,
    responses(
        (status = 201, description = "The subscriber, with its secret", body = CreatedSubscriber),
        (status = 400, description = "The body is not JSON", body = Problem),
        (status = 422, description = "A field is unusable", body = Problem),
    )
)]
async fn create(
    State(api): State<Api>,
    Caller(account_id): Caller,
    JsonBody(new): JsonBody<NewSubscriber>,
) -> Result<(StatusCode, Json<CreatedSubscriber>), Problem> {
    let now = api.clocks.now(account_id).await?;
    let subscriber = register::subscriber(new, account_id, now, &api.chance)?;
    api.store.insert_subscriber(&subscriber).await?;
    let secret = subscriber.secret.as_ref().map(|secret| secret.reveal().to_owned());
    Ok((StatusCode::CREATED, Json(CreatedSubscriber { subscriber: subscriber.into(), secret })))
}

/// List the subscribers, oldest first.
#[utoipa::path(
    get, path = "/api/v1/subscribers", tag = "subscribers", params(PageQuery),
    responses((status = 200, description = "A page of them", body = ListOf<SubscriberView>))
)]
async fn list(
    State(api): State<Api>,
    Caller(account_id): Caller,
    QueryOf(query): QueryOf<PageQuery>,
) -> Result<Json<ListOf<SubscriberView>>, Problem> {
    let limit = check_limit(query.limit)?;
    let listing = Listing::new(&api, account_id, "subscribers", &());
    let after = listing.position(query.cursor.as_deref())?;
    let after = after.map(|id| id.parse::<SubscriberId>()).transpose().map_err(|_| Problem::invalid_cursor())?;
    let rows = api.store.subscribers(account_id, after, limit + 1).await?;
    Ok(Json(listing.page(rows, limit, |row| row.id.to_string(), SubscriberView::from)))
}

/// Show a subscriber.
#[utoipa::path(
    get, path = "/api/v1/subscribers/{id}", tag = "subscribers", params(("id" = String, Path)),
    responses(
        (status = 200, description = "The subscriber", body = SubscriberView),
        (status = 404, description = "There is none", body = Problem),
    )
)]
async fn show(
    State(api): State<Api>,
    Caller(account_id): Caller,
    IdOf(id): IdOf<SubscriberId>,
) -> Result<Json<SubscriberView>, Problem> {
    Ok(Json(api.store.subscriber(account_id, id).await?.into()))
}

/// Change a subscriber. Fields that are left out stay as they are.
#[utoipa::path(
    patch, path = "/api/v1/subscribers/{id}", tag = "subscribers", params(("id" = String, Path)),
    request_body = SubscriberPatch,
    responses(
        (status = 200, description = "The subscriber as it is now", body = SubscriberView),
        (status = 404, description = "There is none", body = Problem),
        (status = 422, description = "A field is unusable", body = Problem),
    )
)]
async fn change(
    State(api): State<Api>,
    Caller(account_id): Caller,
    IdOf(id): IdOf<SubscriberId>,
    JsonBody(patch): JsonBody<SubscriberPatch>,
) -> Result<Json<SubscriberView>, Problem> {
    let now = api.clocks.now(account_id).await?;
    let change = |subscriber: &mut Subscriber| {
        subscriber.changed_at = now;
        register::apply(subscriber, patch).map_err(Problem::invalid)
    };
    let subscriber = api.store.change_subscriber(account_id, id, change).await??;
    api.handover.wake();
    Ok(Json(subscriber.into()))
}

/// Give a subscriber a new secret. Where the vendor's header carries several signatures, the old one
/// signs as well for a while, so that a receiver can change over.
#[utoipa::path(
    post, path = "/api/v1/subscribers/{id}/rotate-secret", tag = "subscribers", params(("id" = String, Path)),
    request_body = Rotation,
    responses(
        (status = 200, description = "The subscriber, with its new secret", body = CreatedSubscriber),
        (status = 404, description = "There is none", body = Problem),
        (status = 422, description = "A field is unusable", body = Problem),
    )
)]
async fn rotate(
    State(api): State<Api>,
    Caller(account_id): Caller,
    IdOf(id): IdOf<SubscriberId>,
    JsonBody(rotation): JsonBody<Rotation>,
) -> Result<Json<CreatedSubscriber>, Problem> {
    let now = api.clocks.now(account_id).await?;
    let rotate = |subscriber: &mut Subscriber| {
        register::rotate(subscriber, rotation, now, &api.chance).map_err(Problem::invalid)
    };
    let subscriber = api.store.change_subscriber(account_id, id, rotate).await??;
    let secret = subscriber.secret.as_ref().map(|secret| secret.reveal().to_owned());
    Ok(Json(CreatedSubscriber { subscriber: subscriber.into(), secret }))
}

/// Delete a subscriber. What is still owed to it fails; its deliveries stay on record.
#[utoipa::path(
    delete, path = "/api/v1/subscribers/{id}", tag = "subscribers", params(("id" = String, Path)),
    responses(
        (status = 204, description = "It is gone"),
        (status = 404, description = "There is none", body = Problem),
    )
)]
async fn remove(
    State(api): State<Api>,
    Caller(account_id): Caller,
    IdOf(id): IdOf<SubscriberId>,
) -> Result<StatusCode, Problem> {
    let now = api.clocks.now(account_id).await?;
    api.store.delete_subscriber(account_id, id, now).await?;
    Ok(StatusCode::NO_CONTENT)
}
