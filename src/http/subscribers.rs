//! Subscribers: who gets which events, and how.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use chrono::{DateTime, Utc};
use http::StatusCode;
use serde::{Deserialize, Deserializer, Serialize};
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
use crate::json::object;
use crate::problem::FieldProblem;
use crate::schedule::{RetrySchedule, format_duration, parse_duration};
use crate::subscriber::{LONGEST_TIMEOUT, Options, Secret, Subscriber, check_headers, check_patterns, parse_url};
use crate::vendors::{dialect, event_types};

pub(super) fn router() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(show, change, remove))
}

/// A retry schedule as it is written: the waits themselves, or a formula for them.
#[derive(ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "describes what RetrySchedule reads and writes")]
enum Waits {
    List(Vec<String>),
    Formula { base: String, factor: Option<f64>, cap: Option<String>, window: String },
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewSubscriber {
    /// Where the webhooks go: http or https.
    #[schema(example = "http://127.0.0.1:9000/hook")]
    url: String,
    /// Whose webhooks these are.
    #[schema(example = "hostedscan")]
    vendor: String,
    /// Exact names, or a trailing `*`. All of them if left out.
    #[schema(example = json!(["risk.*", "scan.succeeded"]))]
    event_types: Option<Vec<String>>,
    /// What signs the webhooks, in the vendor's shape. Made if left out and the vendor signs.
    secret: Option<String>,
    /// The vendor's own switches. Those that are left out are off.
    #[serde(default, deserialize_with = "object")]
    options: Option<Options>,
    /// Waits such as `["5s", "5m"]`, or `{base, factor, cap, window}`. Null: the vendor's own.
    #[schema(value_type = Option<Waits>, example = json!(["5s", "5m", "30m"]))]
    retry_schedule: Option<RetrySchedule>,
    /// How long one request may take. Null: the setting `dispatch.timeout`.
    #[schema(example = "10s")]
    timeout: Option<String>,
    /// Headers added to every request.
    #[schema(example = json!({"X-Environment": "test"}))]
    headers: Option<BTreeMap<String, String>>,
    /// A disabled subscriber gets nothing; what it is owed waits.
    enabled: Option<bool>,
}

/// What to change. A field that is left out stays as it is.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct SubscriberPatch {
    url: Option<String>,
    event_types: Option<Vec<String>>,
    secret: Option<String>,
    #[serde(default, deserialize_with = "object")]
    options: Option<Options>,
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<Waits>)]
    retry_schedule: Option<Option<RetrySchedule>>,
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    timeout: Option<Option<String>>,
    headers: Option<BTreeMap<String, String>>,
    enabled: Option<bool>,
}

/// Tells a field that is null from one that is left out.
fn given<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<T>>, D::Error> {
    Option::<T>::deserialize(deserializer).map(Some)
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
    /// Why scanhook disabled it by itself.
    disabled_reason: Option<String>,
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
            disabled_reason: subscriber.disabled_reason,
            created_at: subscriber.created_at,
        }
    }
}

/// Checks a time-out: from 1ms to two minutes.
fn parse_timeout(text: &str) -> Result<Duration, FieldProblem> {
    let problem = |reason| FieldProblem::new("/timeout", reason);
    let timeout = parse_duration(text).map_err(problem)?;
    if (Duration::from_millis(1)..=LONGEST_TIMEOUT).contains(&timeout) {
        Ok(timeout)
    } else {
        Err(problem(format!("must be from 1ms to {}", format_duration(LONGEST_TIMEOUT))))
    }
}

/// Applies what was given to a subscriber, and tells all that is wrong with it.
fn apply(subscriber: &mut Subscriber, changes: SubscriberPatch) -> Result<(), Problem> {
    let dialect = dialect(subscriber.vendor);
    let mut problems = Vec::new();
    if let Some(url) = changes.url {
        match parse_url("/url", &url) {
            Ok(url) => subscriber.url = url,
            Err(problem) => problems.push(problem),
        }
    }
    if let Some(options) = changes.options {
        for name in options.foreign(dialect.options()) {
            let reason = format!("is not an option of {}; it has: {}", subscriber.vendor, dialect.options().join(", "));
            problems.push(FieldProblem::new(format!("/options/{name}"), reason));
        }
        subscriber.options = options;
    }
    if let Some(event_types) = changes.event_types {
        subscriber.event_types = event_types;
    }
    let known = event_types(subscriber.vendor, &subscriber.options);
    problems.extend(check_patterns("/event_types", &subscriber.event_types, &known));
    if let Some(secret) = changes.secret {
        if let Err(reason) = dialect.check_secret(&secret) {
            problems.push(FieldProblem::new("/secret", reason));
        }
        subscriber.secret = Some(Secret::new(secret));
    }
    if let Some(retry_schedule) = changes.retry_schedule {
        subscriber.retry_schedule = retry_schedule;
    }
    match changes.timeout.map(|timeout| timeout.as_deref().map(parse_timeout).transpose()) {
        Some(Ok(timeout)) => subscriber.timeout = timeout,
        Some(Err(problem)) => problems.push(problem),
        None => (),
    }
    if let Some(headers) = changes.headers {
        problems.extend(check_headers("/headers", &headers, dialect.header_names()));
        subscriber.headers = headers;
    }
    if let Some(enabled) = changes.enabled {
        subscriber.enabled = enabled;
        subscriber.disabled_reason = None;
    }
    if problems.is_empty() { Ok(()) } else { Err(Problem::invalid(problems)) }
}

/// A subscriber that gets every event of a vendor.
pub(super) fn new_subscriber(api: &Api, account_id: AccountId, vendor: Vendor, url: Url) -> Subscriber {
    let now = api.clock.now();
    let sequence = api.chance.next_in_sequence("subscriber", account_id);
    let key = format!("{account_id}/{sequence}");
    let id = SubscriberId::generate(now, sequence, &mut api.chance.stream("subscriber", key));
    Subscriber {
        id,
        account_id,
        vendor,
        url,
        event_types: vec!["*".to_owned()],
        secret: dialect(vendor).generate_secret(&mut api.chance.stream("secret", id)),
        retry_schedule: None,
        timeout: None,
        headers: BTreeMap::new(),
        options: Options::default(),
        vendor_id: dialect(vendor).subscriber_id(&mut api.chance.stream("vendor-subscriber", id)),
        enabled: true,
        disabled_reason: None,
        created_at: now,
        changed_at: now,
        deleted_at: None,
    }
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
    let vendor: Vendor = new.vendor.parse().map_err(|error| Problem::unknown_vendor(format!("{error}")))?;
    let url = parse_url("/url", &new.url).map_err(|problem| Problem::invalid(vec![problem]))?;
    let mut subscriber = new_subscriber(&api, account_id, vendor, url);
    let NewSubscriber { event_types, secret, options, headers, enabled, .. } = new;
    let (retry_schedule, timeout) = (new.retry_schedule.map(Some), new.timeout.map(Some));
    let changes =
        SubscriberPatch { url: None, event_types, secret, options, retry_schedule, timeout, headers, enabled };
    apply(&mut subscriber, changes)?;
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
    let now = api.clock.now();
    let change = |subscriber: &mut Subscriber| {
        subscriber.changed_at = now;
        apply(subscriber, patch)
    };
    let subscriber = api.store.change_subscriber(account_id, id, change).await??;
    api.handover.wake();
    Ok(Json(subscriber.into()))
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
    api.store.delete_subscriber(account_id, id, api.clock.now()).await?;
    Ok(StatusCode::NO_CONTENT)
}
