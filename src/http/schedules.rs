//! Schedules: scans that start by the clock.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use chrono::{DateTime, Utc};
use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Api;
use super::error::Problem;
use super::extract::{Caller, IdOf, JsonBody};
use super::page::ListOf;
use crate::clock::rfc3339;
use crate::id::ObjectId;
use crate::scanner::schedules;
use crate::schedule::format_duration;
use crate::world::ticks::NewSchedule;
use crate::world::{Missed, Object, Outcome, Scanner, Schedule, World};

pub(super) fn router() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(list, add)).routes(routes!(remove))
}

#[derive(Debug, Serialize, ToSchema)]
struct ScheduleView {
    #[schema(value_type = String)]
    id: ObjectId,
    cron: String,
    timezone: String,
    target: String,
    #[schema(value_type = String)]
    scanner: Scanner,
    #[schema(value_type = Object)]
    mix: BTreeMap<Outcome, f64>,
    drift: f64,
    duration: Option<String>,
    missed: Missed,
    /// Whether it comes from the settings.
    from_settings: bool,
    /// When it ticks next.
    #[serde(serialize_with = "rfc3339::option::serialize")]
    next_tick: Option<DateTime<Utc>>,
    #[serde(serialize_with = "rfc3339::option::serialize")]
    ticked_at: Option<DateTime<Utc>>,
}

fn view(schedule: &Schedule, world: &World) -> ScheduleView {
    ScheduleView {
        id: schedule.id,
        cron: schedule.cron.clone(),
        timezone: schedule.timezone.clone(),
        target: schedule.target.clone(),
        scanner: schedule.scanner,
        mix: schedule.mix.clone(),
        drift: schedule.drift,
        duration: schedule.duration.map(format_duration),
        missed: schedule.missed,
        from_settings: schedule.name.is_some(),
        next_tick: world.timer(schedule.id).map(|timer| timer.due_at),
        ticked_at: schedule.ticked_at,
    }
}

/// List the schedules, oldest first.
#[utoipa::path(
    get, path = "/api/v1/schedules", tag = "schedules",
    responses((status = 200, description = "All of them", body = ListOf<ScheduleView>))
)]
async fn list(State(api): State<Api>, Caller(account_id): Caller) -> Result<Json<ListOf<ScheduleView>>, Problem> {
    let world = api.scanner.world(account_id).await?;
    let active = |object: &Object| match object {
        Object::Schedule(schedule) if schedule.is_active => Some(view(schedule, &world)),
        _ => None,
    };
    Ok(Json(ListOf { data: world.objects().filter_map(active).collect(), next_cursor: None }))
}

/// Add a schedule.
#[utoipa::path(
    post, path = "/api/v1/schedules", tag = "schedules", request_body = NewSchedule,
    responses(
        (status = 201, description = "The schedule", body = ScheduleView),
        (status = 422, description = "A field is unusable", body = Problem),
    )
)]
async fn add(
    State(api): State<Api>,
    Caller(account_id): Caller,
    JsonBody(new): JsonBody<NewSchedule>,
) -> Result<(StatusCode, Json<ScheduleView>), Problem> {
    let added = api
        .scanner
        .change(account_id, |world, rules| {
            let schedule = schedules::add(world, &new, rules.now)?;
            Ok(view(&schedule, world))
        })
        .await?;
    Ok((StatusCode::CREATED, Json(added)))
}

/// Remove a schedule. Scans that it has started go on.
#[utoipa::path(
    delete, path = "/api/v1/schedules/{id}", tag = "schedules", params(("id" = String, Path)),
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
    api.scanner.change(account_id, |world, _| schedules::remove(world, id)).await?;
    Ok(StatusCode::NO_CONTENT)
}
