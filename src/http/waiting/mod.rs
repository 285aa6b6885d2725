//! Waiting: until an account has settled, or until an expectation holds.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Api;
use super::error::Problem;
use super::extract::{Caller, JsonBody};
use crate::clock::rfc3339;
use crate::clocks::{self, Until};
use crate::delivery::{AttemptError, Status};
use crate::event::Vendor;
use crate::expectation::{Got, SeenDelivery, SeenEvent};
use crate::id::{DeliveryId, EventId, ObjectId, SubscriberId};
use crate::problem::FieldProblem;
use crate::schedule::{format_duration, parse_duration};
use crate::store::{OwedDelivery, Scheduled};
use crate::subscriber::parse_url;
use crate::watch::{Matches, Unsettled};
use crate::world::Timer;

mod expected;

use expected::AssertBody;

/// The longest that a request waits.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// How long `settle` waits if it is not told.
const SETTLES_WITHIN: Duration = Duration::from_secs(5);
/// The most matches that an answer lists.
const MOST_LISTED: usize = 250;

pub(super) fn router() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(settle)).routes(routes!(assert))
}

/// Reads how long to wait.
fn within(text: Option<&str>, default: Duration) -> Result<Duration, FieldProblem> {
    let Some(text) = text else { return Ok(default) };
    let within = parse_duration(text).map_err(|reason| FieldProblem::new("/within", reason))?;
    if within > LONGEST_WAIT {
        let reason = format!("is {}; at most {} are waited", format_duration(within), format_duration(LONGEST_WAIT));
        return Err(FieldProblem::new("/within", reason));
    }
    Ok(within)
}

/// Waits for something, but does not hold up the end of the program.
async fn unless_stopping<T, E: Into<Problem>>(
    api: &Api,
    wait: impl Future<Output = Result<T, E>>,
) -> Result<T, Problem> {
    tokio::select! {
        waited = wait => waited.map_err(Into::into),
        () = api.readiness.stopping() => Err(Problem::unavailable("scanhook is stopping; what was waited for is not known")),
    }
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct SettleBody {
    /// How long to wait, up to `60s`; `5s` if left out.
    #[schema(example = "5s")]
    within: Option<String>,
    /// A consumer's own: once nothing is owed, it is asked by GET until it answers 2xx.
    #[schema(example = "http://127.0.0.1:9000/idle")]
    idle_url: Option<String>,
}

/// A delivery that is owed an attempt.
#[derive(Debug, Serialize, ToSchema)]
struct OwedView {
    #[schema(value_type = String)]
    id: DeliveryId,
    event_type: String,
    #[schema(value_type = String)]
    subscriber_id: SubscriberId,
    subscriber_url: String,
    /// When it may be claimed: its next try or, in flight, the time its lease lapses.
    #[serde(serialize_with = "rfc3339::serialize")]
    due_at: DateTime<Utc>,
    in_flight: bool,
}

/// Something in the world that goes on by itself.
#[derive(Debug, Serialize, ToSchema)]
struct TimerView {
    /// What goes on: `scan`, `schedule`, `run`, …
    #[schema(example = "scan")]
    kind: &'static str,
    #[schema(value_type = String)]
    id: ObjectId,
    #[serde(serialize_with = "rfc3339::serialize")]
    due_at: DateTime<Utc>,
}

/// What is due later, of an account in which nothing is in flight or due.
#[derive(Debug, Serialize, ToSchema)]
struct Settled {
    /// How many deliveries are due later. (Those that wait for a disabled subscriber are not.)
    scheduled_deliveries: u64,
    /// The earliest of them.
    next_delivery: Option<OwedView>,
    /// How many scans, schedules and runs go on later.
    timers: u64,
    /// The earliest of them.
    next_timer: Option<TimerView>,
}

/// What is in the way of having settled, up to a hundred of each.
#[derive(Debug, Serialize)]
struct InTheWay {
    deliveries: Vec<OwedView>,
    timers: Vec<TimerView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    consumer: Option<String>,
}

impl From<OwedDelivery> for OwedView {
    fn from(owed: OwedDelivery) -> Self {
        let OwedDelivery { id, event_type, subscriber_id, subscriber_url, due_at, in_flight } = owed;
        Self { id, event_type, subscriber_id, subscriber_url, due_at, in_flight }
    }
}

impl From<Timer> for TimerView {
    fn from(Timer { due_at, subject, kind }: Timer) -> Self {
        Self { kind: kind.as_str(), id: subject, due_at }
    }
}

impl From<Scheduled> for Settled {
    fn from(scheduled: Scheduled) -> Self {
        Self {
            scheduled_deliveries: scheduled.deliveries,
            next_delivery: scheduled.next_delivery.map(OwedView::from),
            timers: scheduled.timers,
            next_timer: scheduled.next_timer.map(TimerView::from),
        }
    }
}

/// Wait until nothing is in flight or due.
///
/// Answers as soon as no delivery of the account is in flight or due and no scan, schedule or run has
/// something to do now, with what is due later. On a manual clock it fires what is due already, and the
/// clock stays where it is. With `idle_url`, a consumer must say as well that it is
/// idle, and still nothing may be owed then.
#[utoipa::path(
    post, path = "/api/v1/settle", tag = "waiting", request_body = SettleBody,
    responses(
        (status = 200, description = "It has settled; this is due later", body = Settled),
        (status = 409, description = "It has not, within the time; `found` is what is in the way", body = Problem),
    )
)]
async fn settle(
    State(api): State<Api>,
    Caller(account_id): Caller,
    JsonBody(body): JsonBody<SettleBody>,
) -> Result<Json<Settled>, Problem> {
    let within = within(body.within.as_deref(), SETTLES_WITHIN);
    let idle_url = body.idle_url.as_deref().map(|url| parse_url("/idle_url", url)).transpose();
    let (within, idle_url) = match (within, idle_url) {
        (Ok(within), Ok(idle_url)) => (within, idle_url),
        (within, idle_url) => return Err(Problem::invalid(within.err().into_iter().chain(idle_url.err()).collect())),
    };
    // By a clock of the account's own nothing fires by itself.
    let fire = || async {
        match api.clocks.advance(account_id, Until::For(Duration::ZERO)).await {
            Ok(moved) => Ok(Some(moved.now)),
            Err(clocks::Error::NoClock) => Ok(None),
            Err(failure) => Err(Problem::from(failure)),
        }
    };
    let settled = unless_stopping(&api, api.watcher.settle(account_id, within, idle_url.as_ref(), fire)).await?;
    settled.map(|scheduled| Json(scheduled.into())).map_err(|unsettled| not_settled(unsettled, within))
}

fn not_settled(Unsettled { owed, consumer }: Unsettled, within: Duration) -> Problem {
    const MOST_TOLD: usize = 3;
    let delivery = |owed: &OwedDelivery| {
        let state = if owed.in_flight { "in flight" } else { "due" };
        format!("{} ({}) to {} is {state}", owed.id, owed.event_type, owed.subscriber_url)
    };
    let timer = |timer: &Timer| format!("the {} {} has something to do", timer.kind.as_str(), timer.subject);
    let mut told: Vec<String> = owed.deliveries.iter().map(delivery).collect();
    told.extend(owed.timers.iter().map(timer));
    told.extend(consumer.clone());
    let more = told.len().saturating_sub(MOST_TOLD);
    told.truncate(MOST_TOLD);
    if more > 0 {
        told.push(format!("and {more} more"));
    }
    let detail = format!("it has not settled within {}: {}", format_duration(within), told.join("; "));
    let found = InTheWay {
        deliveries: owed.deliveries.into_iter().map(OwedView::from).collect(),
        timers: owed.timers.into_iter().map(TimerView::from).collect(),
        consumer,
    };
    Problem::not_come_about("not-settled", "Not all is done", detail, found)
}

/// What matched and is as expected.
#[derive(Debug, Serialize, ToSchema)]
struct Held {
    /// How many matched and are as expected.
    count: usize,
    /// They, or the newest 250 of them, newest first.
    matches: Vec<MatchView>,
}

/// A delivery, or an event where events are meant.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
enum MatchView {
    Delivery {
        #[schema(value_type = String)]
        delivery_id: DeliveryId,
        #[schema(value_type = String)]
        event_id: EventId,
        event_type: String,
        #[schema(value_type = String)]
        subscriber_id: SubscriberId,
        status: Status,
        /// How many have been made.
        attempts: u32,
        /// The HTTP status that the last attempt was answered with.
        last_answer: Option<u16>,
        /// Why the last attempt got no answer.
        last_error: Option<AttemptError>,
    },
    Event {
        #[schema(value_type = String)]
        event_id: EventId,
        event_type: String,
        vendor: Vendor,
    },
}

impl From<SeenEvent> for MatchView {
    fn from(event: SeenEvent) -> Self {
        let SeenEvent { id, vendor, event_type, .. } = event;
        Self::Event { event_id: id, event_type, vendor }
    }
}

impl From<SeenDelivery> for MatchView {
    fn from(seen: SeenDelivery) -> Self {
        let (last_answer, last_error) = match seen.last {
            Some(Got::Answer(status)) => (Some(status), None),
            Some(Got::Nothing(error)) => (None, Some(error)),
            None => (None, None),
        };
        let SeenDelivery { id, event_id, event_type, subscriber_id, status, attempts, .. } = seen;
        let delivery_id = id;
        Self::Delivery { delivery_id, event_id, event_type, subscriber_id, status, attempts, last_answer, last_error }
    }
}

impl From<Matches> for Held {
    fn from(matches: Matches) -> Self {
        match matches {
            Matches::Events(events) => {
                Self { count: events.len(), matches: events.into_iter().take(MOST_LISTED).map(Into::into).collect() }
            }
            Matches::Deliveries(deliveries) => Self {
                count: deliveries.len(),
                matches: deliveries.into_iter().take(MOST_LISTED).map(Into::into).collect(),
            },
        }
    }
}

/// Wait until an expectation holds.
///
/// `match` says which deliveries (or events) are meant, `expect` how many of them are in which state.
/// It answers as soon as that holds; where none is expected (`"count": 0`), at the end of `within`, and
/// as soon as there is one. Only the newest 10,000 events are looked at.
#[utoipa::path(
    post, path = "/api/v1/assert", tag = "waiting", request_body = AssertBody,
    responses(
        (status = 200, description = "It holds", body = Held),
        (status = 409, description = "It does not; `detail` tells the near misses, `found` counts them", body = Problem),
    )
)]
async fn assert(
    State(api): State<Api>,
    Caller(account_id): Caller,
    JsonBody(body): JsonBody<AssertBody>,
) -> Result<Json<Held>, Problem> {
    let assertion = body.check().map_err(Problem::invalid)?;
    let held = unless_stopping(&api, api.watcher.assert(account_id, &assertion)).await?;
    held.map(|matches| Json(matches.into())).map_err(|near| {
        let detail = near.detail.clone();
        Problem::not_come_about("assertion-failed", "The expectation does not hold", detail, near)
    })
}
