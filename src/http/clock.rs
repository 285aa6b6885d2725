//! The account's clock: the machine's, or one of its own that is moved by hand.

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
use crate::account::{ClockMode, NewClock};
use crate::clock::{check_time, rfc3339};
use crate::clocks::{self, Fired, Moved, StoppedAt, Until, What};
use crate::delivery::{Next, Outcome, Status};
use crate::id::{AccountId, DeliveryId, EventId, ObjectId, SubscriberId};
use crate::problem::FieldProblem;
use crate::schedule::parse_duration;
use crate::world::Kind;

/// How far `run-until-idle` goes where it is not said.
const FURTHEST: Duration = Duration::from_secs(7 * 24 * 3_600);

pub(super) fn router() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(show, set)).routes(routes!(advance)).routes(routes!(run_until_idle))
}

/// An account's clock.
#[derive(Debug, Serialize, ToSchema)]
struct ClockView {
    mode: ClockMode,
    /// What time it is in the account.
    #[serde(serialize_with = "rfc3339::serialize")]
    now: DateTime<Utc>,
}

async fn view(api: &Api, account_id: AccountId) -> Result<Json<ClockView>, Problem> {
    let own = api.store.account_clock(account_id).await?;
    let mode = if own.is_some() { ClockMode::Manual } else { ClockMode::Real };
    Ok(Json(ClockView { mode, now: own.unwrap_or_else(|| api.clock.now()) }))
}

/// What time it is in the account.
#[utoipa::path(
    get, path = "/api/v1/clock", tag = "clock",
    responses((status = 200, description = "The clock", body = ClockView))
)]
async fn show(State(api): State<Api>, Caller(account_id): Caller) -> Result<Json<ClockView>, Problem> {
    view(&api, account_id).await
}

/// Set the account's clock.
///
/// On a manual clock nothing of the account fires by itself: retries, delayed events, scans,
/// schedules and scenarios wait until the clock is moved. What is owed keeps its times. Setting the
/// clock fires nothing; back on the real one, what is overdue fires at once.
#[utoipa::path(
    put, path = "/api/v1/clock", tag = "clock", request_body = NewClock,
    responses(
        (status = 200, description = "The clock as it is now", body = ClockView),
        (status = 400, description = "The body is not JSON", body = Problem),
        (status = 422, description = "The mode or the time is unusable", body = Problem),
    )
)]
async fn set(
    State(api): State<Api>,
    Caller(account_id): Caller,
    JsonBody(new): JsonBody<NewClock>,
) -> Result<Json<ClockView>, Problem> {
    new.check("").map_err(|problem| Problem::invalid(vec![problem]))?;
    let now = api.clocks.now(account_id).await?;
    api.clocks.set(account_id, new.stands_at(now)).await?;
    view(&api, account_id).await
}

/// How far to move a manual clock: `by` or `to`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Advance {
    #[schema(example = "5h30m")]
    by: Option<String>,
    to: Option<DateTime<Utc>>,
}

/// How far to go at most.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct RunUntilIdle {
    /// 7 days if left out.
    #[schema(example = "4d")]
    max: Option<String>,
}

/// What came of moving the clock.
#[derive(Debug, Serialize, ToSchema)]
struct MovedView {
    #[serde(serialize_with = "rfc3339::serialize")]
    from: DateTime<Utc>,
    #[serde(serialize_with = "rfc3339::serialize")]
    now: DateTime<Utc>,
    /// `time_limit` and `fired_limit` mean that there is more to fire: move the clock again.
    stopped: StoppedAt,
    /// What fired, in order.
    fired: Vec<FiredView>,
    /// When the next delivery is due by this clock.
    #[serde(serialize_with = "rfc3339::option::serialize")]
    next_delivery_at: Option<DateTime<Utc>>,
    /// When the account's world goes on.
    #[serde(serialize_with = "rfc3339::option::serialize")]
    next_timer_at: Option<DateTime<Utc>>,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(tag = "what", rename_all = "snake_case")]
enum FiredView {
    /// The account's world went on: a step of a scan, a tick of a schedule, a step of a story.
    Timer {
        #[serde(serialize_with = "rfc3339::serialize")]
        at: DateTime<Utc>,
        kind: Kind,
        #[schema(value_type = String)]
        id: ObjectId,
    },
    /// A delivery was attempted.
    Attempt {
        #[serde(serialize_with = "rfc3339::serialize")]
        at: DateTime<Utc>,
        #[schema(value_type = String)]
        delivery_id: DeliveryId,
        #[schema(value_type = String)]
        event_id: EventId,
        event_type: String,
        #[schema(value_type = String)]
        subscriber_id: SubscriberId,
        /// The attempt's number; the first is 1.
        number: u32,
        #[schema(example = "rejected")]
        outcome: &'static str,
        /// The status that the receiver answered.
        answer: Option<u16>,
        /// The delivery's, after the attempt.
        status: Status,
        /// When it is tried again.
        #[serde(serialize_with = "rfc3339::option::serialize")]
        next_try: Option<DateTime<Utc>>,
    },
}

impl From<Fired> for FiredView {
    fn from(Fired { at, what }: Fired) -> Self {
        match what {
            What::Timer(timer) => Self::Timer { at, kind: timer.kind, id: timer.subject },
            What::Attempt(claimed, made) => {
                let (status, next_try) = match made.next {
                    Next::Succeeded => (Status::Succeeded, None),
                    Next::Failed => (Status::Failed, None),
                    Next::Rescheduled { at } => (Status::Rescheduled, Some(at)),
                };
                let answer = match &made.outcome {
                    Outcome::Accepted { status } | Outcome::Rejected { status, .. } => Some(*status),
                    Outcome::Unreachable { .. } => None,
                };
                Self::Attempt {
                    at,
                    delivery_id: claimed.id,
                    event_id: claimed.event.id,
                    event_type: claimed.event.event_type.clone(),
                    subscriber_id: claimed.subscriber_id,
                    number: claimed.attempt,
                    outcome: made.outcome.as_str(),
                    answer,
                    status,
                    next_try,
                }
            }
        }
    }
}

impl From<Moved> for MovedView {
    fn from(moved: Moved) -> Self {
        Self {
            from: moved.from,
            now: moved.now,
            stopped: moved.stopped,
            fired: moved.fired.into_iter().map(FiredView::from).collect(),
            next_delivery_at: moved.ahead.delivery,
            next_timer_at: moved.ahead.timer,
        }
    }
}

impl From<clocks::Error> for Problem {
    fn from(failure: clocks::Error) -> Self {
        match failure {
            clocks::Error::NoClock => {
                let detail = "the account goes by the machine's clock, which cannot be moved; give it one of its own \
                              first: PUT /api/v1/clock {\"mode\": \"manual\"}";
                Self::conflict("real-clock", "The account has no clock of its own", detail)
            }
            clocks::Error::Back { .. } => {
                let reason = format!("{failure}; PUT /api/v1/clock sets it back");
                Self::invalid(vec![FieldProblem::new("/to", reason)])
            }
            clocks::Error::Stopped => Self::unavailable("scanhook is shutting down"),
            clocks::Error::Scanner(failure) => failure.into(),
            clocks::Error::Store(failure) => failure.into(),
        }
    }
}

fn duration(pointer: &str, text: &str) -> Result<Duration, Problem> {
    parse_duration(text).map_err(|reason| Problem::invalid(vec![FieldProblem::new(pointer, reason)]))
}

/// Move a manual clock forward.
///
/// It stops at every due time on the way, delivers, awaits the answer, schedules what follows, and
/// goes on. `{"by": "0s"}` fires what is due already. At most 10,000 things fire, for about a minute;
/// then `stopped` says so, and the same call goes on from there.
#[utoipa::path(
    post, path = "/api/v1/clock/advance", tag = "clock", request_body = Advance,
    responses(
        (status = 200, description = "What fired, in order", body = MovedView),
        (status = 400, description = "The body is not JSON", body = Problem),
        (status = 409, description = "The account has no clock of its own", body = Problem),
        (status = 422, description = "A field is unusable", body = Problem),
    )
)]
async fn advance(
    State(api): State<Api>,
    Caller(account_id): Caller,
    JsonBody(how_far): JsonBody<Advance>,
) -> Result<Json<MovedView>, Problem> {
    let until = match (how_far.by, how_far.to) {
        (Some(by), None) => Until::For(duration("/by", &by)?),
        (None, Some(to)) => {
            check_time("/to", to).map_err(|problem| Problem::invalid(vec![problem]))?;
            Until::At(to)
        }
        _ => {
            let reason = "must have either `by`, such as \"5h30m\", or `to`, a time";
            return Err(Problem::invalid(vec![FieldProblem::new("", reason)]));
        }
    };
    Ok(Json(api.clocks.advance(account_id, until).await?.into()))
}

/// Move a manual clock forward until nothing is ahead any more.
///
/// The clock stays where the last thing fired. Where something is due again and again, as with a
/// schedule, it goes to `max`.
#[utoipa::path(
    post, path = "/api/v1/clock/run-until-idle", tag = "clock", request_body = RunUntilIdle,
    responses(
        (status = 200, description = "What fired, in order", body = MovedView),
        (status = 400, description = "The body is not JSON", body = Problem),
        (status = 409, description = "The account has no clock of its own", body = Problem),
        (status = 422, description = "A field is unusable", body = Problem),
    )
)]
async fn run_until_idle(
    State(api): State<Api>,
    Caller(account_id): Caller,
    JsonBody(how_far): JsonBody<RunUntilIdle>,
) -> Result<Json<MovedView>, Problem> {
    let max = how_far.max.map(|max| duration("/max", &max)).transpose()?.unwrap_or(FURTHEST);
    Ok(Json(api.clocks.advance(account_id, Until::Idle(max)).await?.into()))
}
