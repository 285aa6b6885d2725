//! Why a delivery stands where it stands, in sentences: for each attempt when it was due, how late it
//! began, how it ended, and how that led to the time of the next. And what a retry schedule means.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Api;
use super::error::Problem;
use super::extract::{Caller, IdOf, QueryOf};
use crate::clock::{format_time, rfc3339};
use crate::delivery::{Attempt, Outcome, Reason, ScheduleOf, Status};
use crate::event::Vendor;
use crate::id::{DeliveryId, SubscriberId};
use crate::schedule::{RetrySchedule, format_duration, parse_duration};
use crate::store::DeliveryDetail;
use crate::subscriber::Subscriber;

pub(super) fn router() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(why)).routes(routes!(explain))
}

/// Why a delivery stands where it stands.
#[derive(Debug, Serialize, ToSchema)]
struct Why {
    #[schema(value_type = String)]
    id: DeliveryId,
    status: Status,
    /// A sentence or two for each attempt.
    attempts: Vec<String>,
    /// What comes next, or why nothing does.
    now: String,
}

/// Say why a delivery stands where it stands.
#[utoipa::path(
    get, path = "/api/v1/deliveries/{id}/why", tag = "deliveries", params(("id" = String, Path)),
    responses(
        (status = 200, description = "Sentences", body = Why),
        (status = 404, description = "There is none", body = Problem),
    )
)]
async fn why(
    State(api): State<Api>,
    Caller(account_id): Caller,
    IdOf(id): IdOf<DeliveryId>,
) -> Result<Json<Why>, Problem> {
    let detail = api.store.delivery(account_id, id).await?;
    let subscriber_id = detail.listed.delivery.subscriber_id;
    let found = api.store.subscribers_by_id(&[subscriber_id]).await?;
    let subscriber = found.get(&subscriber_id).and_then(|found| found.as_ref().ok()?.clone());
    let attempts = detail.attempts.iter().map(|attempt| sentence(id, detail.event.vendor, attempt)).collect();
    let now = standing(&detail, subscriber.as_deref(), api.clocks.now(account_id).await?);
    Ok(Json(Why { id, status: detail.listed.delivery.status, attempts, now }))
}

/// A duration for people: to the millisecond below a minute, to the second above.
fn long(duration: Duration) -> String {
    let unit = if duration < Duration::from_secs(60) { 1 } else { 1_000 };
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX) / unit * unit;
    format_duration(Duration::from_millis(millis))
}

fn from_millis(millis: u64) -> String {
    long(Duration::from_millis(millis))
}

/// One attempt: how it began and ended, and what that led to.
fn sentence(id: DeliveryId, vendor: Vendor, attempt: &Attempt) -> String {
    let Attempt { number, started_at, outcome, duration, .. } = attempt;
    let ended = match outcome {
        Outcome::Accepted { status } => format!("the receiver accepted it with {status}"),
        Outcome::Rejected { status, .. } => format!("the receiver rejected it with {status}"),
        Outcome::Unreachable { error, detail } => format!("no answer came ({error}: {detail})"),
    };
    let begun = format!("Attempt {number} began at {}", format_time(*started_at));
    let Some(reason) = &attempt.reason else { return format!("{begun}; after {} {ended}.", long(*duration)) };
    let late = (*started_at - reason.due_at).to_std().unwrap_or_default();
    let late = match late.as_millis() {
        0..50 => "when it was due".to_owned(),
        _ => format!(
            "{} after it was due (until then no process ran, its subscriber was disabled, or the places of \
             dispatch.concurrency or dispatch.concurrency_per_subscriber were taken)",
            long(late)
        ),
    };
    format!("{begun}, {late}; after {} {ended}. {}", long(*duration), led_to(id, vendor, attempt, reason))
}

/// What an attempt led to.
fn led_to(id: DeliveryId, vendor: Vendor, attempt: &Attempt, reason: &Reason) -> String {
    let Reason { schedule, tries, waits, wait_ms, stretch, asked_ms, next_try, .. } = reason;
    let schedule = match schedule {
        ScheduleOf::Subscriber => "the subscriber's retry_schedule".to_owned(),
        ScheduleOf::Vendor => format!("vendors.{vendor}.retry_schedule"),
    };
    match (&attempt.outcome, next_try, wait_ms) {
        (Outcome::Accepted { .. }, ..) => "So it succeeded.".to_owned(),
        (Outcome::Rejected { status: 410, .. }, ..) => {
            "410 says that the receiver is gone, so it failed at once and the subscriber was disabled.".to_owned()
        }
        (_, Some(next_try), Some(wait)) => {
            let stretched = Duration::from_millis(*wait).mul_f64(*stretch);
            let jitter = match (stretch - 1.0).abs() > f64::EPSILON {
                true => format!(
                    ", times {stretch:.4} by jitter (dispatch.jitter, stream jitter/{id}/{}) is {}",
                    attempt.number,
                    long(stretched)
                ),
                false => " without jitter".to_owned(),
            };
            let asked = match asked_ms {
                None => String::new(),
                Some(asked) if Duration::from_millis(*asked) > stretched => {
                    format!("; Retry-After asked for {}, which is later and is honoured", from_millis(*asked))
                }
                Some(asked) => {
                    format!("; Retry-After asked for {}, which is no later, so it changes nothing", from_millis(*asked))
                }
            };
            let wait = from_millis(*wait);
            format!(
                "Wait {tries} of {waits} of {schedule} is {wait}{jitter}{asked}. So the next try was set to {}.",
                format_time(*next_try)
            )
        }
        _ => format!("All {waits} waits of {schedule} are used up, so it failed."),
    }
}

/// What comes next, or why nothing does.
fn standing(detail: &DeliveryDetail, subscriber: Option<&Subscriber>, now: DateTime<Utc>) -> String {
    let delivery = &detail.listed.delivery;
    let is_deleted = subscriber.is_none_or(|subscriber| subscriber.deleted_at.is_some());
    match delivery.status {
        Status::Succeeded => "It has succeeded; nothing more is sent.".to_owned(),
        Status::Failed if is_deleted => "Its subscriber was deleted, so it failed; nothing more is sent.".to_owned(),
        Status::Failed => "It has failed; nothing more is sent, unless it is redelivered.".to_owned(),
        Status::Scheduled | Status::Rescheduled => match subscriber {
            Some(subscriber) if !subscriber.enabled => {
                let reason = subscriber.disabled_reason.as_deref().unwrap_or("by hand");
                format!("Its subscriber is disabled ({reason}); it waits until that is enabled again.")
            }
            _ if delivery.next_try <= now => "It is due, and is sent as soon as there is a place.".to_owned(),
            _ => {
                let left = long((delivery.next_try - now).to_std().unwrap_or_default());
                format!("The next attempt is due at {}, in {left}.", format_time(delivery.next_try))
            }
        },
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ExplainQuery {
    /// A vendor's schedule, by the settings.
    vendor: Option<String>,
    /// The schedule that holds for a subscriber.
    #[param(value_type = Option<String>)]
    subscriber_id: Option<SubscriberId>,
    /// For how long the receiver does not accept anything, such as `6h`.
    outage: Option<String>,
}

/// What a retry schedule means: when each attempt is made if all before it fail.
#[derive(Debug, Serialize, ToSchema)]
struct Explanation {
    /// Whose schedule it is.
    schedule_of: String,
    /// How many attempts there are, the first included.
    tries: usize,
    /// From the first attempt to the last.
    horizon: String,
    /// How much jitter may stretch or shrink each wait, as a part of it.
    jitter: f64,
    attempts: Vec<Planned>,
    /// What becomes of an outage of the given length.
    outage: Option<String>,
}

/// One attempt, by plan: without jitter, and if each is answered at once.
#[derive(Debug, Serialize, ToSchema)]
struct Planned {
    number: usize,
    /// After the attempt before it.
    wait: String,
    /// After the first attempt.
    after: String,
    /// If the first attempt were made now.
    #[serde(serialize_with = "rfc3339::serialize")]
    at: DateTime<Utc>,
}

/// Explain a retry schedule: a vendor's, or the one that holds for a subscriber.
#[utoipa::path(
    get, path = "/api/v1/retry-schedule", tag = "deliveries", params(ExplainQuery),
    responses(
        (status = 200, description = "When each attempt is made", body = Explanation),
        (status = 404, description = "There is no such subscriber", body = Problem),
    )
)]
async fn explain(
    State(api): State<Api>,
    Caller(account_id): Caller,
    QueryOf(query): QueryOf<ExplainQuery>,
) -> Result<Json<Explanation>, Problem> {
    let (schedule, whose) = match (&query.vendor, query.subscriber_id) {
        (Some(vendor), None) => {
            let vendor: Vendor = vendor.parse().map_err(|error| Problem::invalid_parameter(format!("{error}")))?;
            (api.vendors.of(vendor).retry_schedule.clone(), format!("vendors.{vendor}.retry_schedule"))
        }
        (None, Some(id)) => {
            let subscriber = api.store.subscriber(account_id, id).await?;
            let vendor = subscriber.vendor;
            match subscriber.retry_schedule {
                Some(own) => (own, format!("the retry_schedule of subscriber {id}")),
                None => (
                    api.vendors.of(vendor).retry_schedule.clone(),
                    format!("vendors.{vendor}.retry_schedule, for subscriber {id}"),
                ),
            }
        }
        _ => return Err(Problem::invalid_parameter("give either vendor or subscriber_id")),
    };
    let outage = query.outage.as_deref().map(parse_duration).transpose();
    let outage = outage.map_err(|reason| Problem::invalid_parameter(format!("outage: {reason}")))?;
    let now = api.clocks.now(account_id).await?;
    Ok(Json(explanation(&schedule, whose, api.jitter, outage, now)))
}

fn explanation(
    schedule: &RetrySchedule,
    schedule_of: String,
    jitter: f64,
    outage: Option<Duration>,
    now: DateTime<Utc>,
) -> Explanation {
    let mut after = Duration::ZERO;
    let mut afters = vec![after];
    let mut attempts = vec![Planned { number: 1, wait: long(after), after: long(after), at: now }];
    for (index, wait) in schedule.waits().into_iter().enumerate() {
        after += wait;
        afters.push(after);
        let at = now + TimeDelta::from_std(after).unwrap_or(TimeDelta::MAX);
        attempts.push(Planned { number: index + 2, wait: long(wait), after: long(after), at });
    }
    let told = outage.map(|outage| match afters.iter().position(|after| *after >= outage) {
        Some(index) => format!(
            "An outage of {} that begins with the first attempt costs {index} failed attempts; attempt {} of {} is made \
             {} after it ends, and succeeds.",
            long(outage),
            index + 1,
            afters.len(),
            long(afters[index] - outage)
        ),
        None => format!(
            "An outage of {} outlasts the schedule: its last attempt is made {} after the first, so the delivery fails \
             and must be redelivered.",
            long(outage),
            long(after)
        ),
    });
    Explanation { schedule_of, tries: attempts.len(), horizon: long(after), jitter, attempts, outage: told }
}
