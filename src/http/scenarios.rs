//! Scenarios: list, check, run, watch.

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
use super::page::{ListOf, Objects, PageQuery, one_object, page_of_objects};
use crate::clock::rfc3339;
use crate::id::ObjectId;
use crate::scanner::scenario::run::NewRun;
use crate::scanner::scenario::{Fault, RunToStart, read, run, shipped};
use crate::world::{Kind, Run, RunState};

pub(super) fn router() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(lint))
        .routes(routes!(runs, start))
        .routes(routes!(show))
        .routes(routes!(cancel))
}

/// A scenario that comes with scanhook.
#[derive(Debug, Serialize, ToSchema)]
struct ShippedView {
    name: &'static str,
    about: String,
    steps: usize,
    /// Its YAML.
    source: &'static str,
}

/// List the scenarios that come with scanhook.
#[utoipa::path(
    get, path = "/api/v1/scenarios", tag = "scenarios",
    responses((status = 200, description = "All of them", body = ListOf<ShippedView>))
)]
async fn list(_caller: Caller) -> Json<ListOf<ShippedView>> {
    let view = |one: &shipped::Shipped| {
        let read = read(one.source).ok();
        let about = read.as_ref().map(|scenario| scenario.about.clone()).unwrap_or_default();
        ShippedView {
            name: one.name,
            about,
            steps: read.map_or(0, |scenario| scenario.steps.len()),
            source: one.source,
        }
    };
    Json(ListOf { data: shipped::ALL.iter().map(view).collect(), next_cursor: None })
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Source {
    /// A scenario's YAML.
    source: String,
}

#[derive(Debug, Serialize, ToSchema)]
struct Lint {
    /// What is wrong; none if nothing is.
    faults: Vec<Fault>,
}

/// Check a scenario without running it.
#[utoipa::path(
    post, path = "/api/v1/scenarios/lint", tag = "scenarios", request_body = Source,
    responses((status = 200, description = "What is wrong with it", body = Lint))
)]
async fn lint(_caller: Caller, JsonBody(body): JsonBody<Source>) -> Json<Lint> {
    Json(Lint { faults: read(&body.source).err().unwrap_or_default() })
}

/// A run of a scenario.
#[derive(Debug, Serialize, ToSchema)]
struct RunView {
    #[schema(value_type = String)]
    id: ObjectId,
    name: String,
    state: RunState,
    /// How many steps have been taken.
    step: usize,
    steps: usize,
    speed: f64,
    /// Why it failed.
    error: Option<String>,
    #[serde(serialize_with = "rfc3339::serialize")]
    started_at: DateTime<Utc>,
    #[serde(serialize_with = "rfc3339::option::serialize")]
    ended_at: Option<DateTime<Utc>>,
}

impl From<&Run> for RunView {
    fn from(run: &Run) -> Self {
        Self {
            id: run.id,
            name: run.name.clone(),
            state: run.state,
            step: run.step,
            steps: run.steps,
            speed: run.speed,
            error: run.error.clone(),
            started_at: run.started_at,
            ended_at: run.ended_at,
        }
    }
}

/// Run a scenario.
#[utoipa::path(
    post, path = "/api/v1/scenarios/runs", tag = "scenarios", request_body = RunToStart,
    responses(
        (status = 201, description = "The run", body = RunView),
        (status = 404, description = "There is no scenario of this name", body = Problem),
        (status = 422, description = "Something is wrong with the scenario", body = Problem),
    )
)]
async fn start(
    State(api): State<Api>,
    Caller(account_id): Caller,
    JsonBody(new): JsonBody<RunToStart>,
) -> Result<(StatusCode, Json<RunView>), Problem> {
    let (source, scenario) = new.scenario()?;
    let new = NewRun { source, scenario: &scenario, speed: new.speed };
    let run = api.scanner.change(account_id, |world, rules| run::start(world, rules, &new, rules.now)).await?;
    Ok((StatusCode::CREATED, Json(RunView::from(&*run))))
}

/// List the runs, newest first.
#[utoipa::path(
    get, path = "/api/v1/scenarios/runs", tag = "scenarios", params(PageQuery),
    responses((status = 200, description = "A page of them", body = ListOf<RunView>))
)]
async fn runs(
    State(api): State<Api>,
    Caller(account_id): Caller,
    QueryOf(query): QueryOf<PageQuery>,
) -> Result<Json<ListOf<RunView>>, Problem> {
    let objects = Objects { name: ("runs", String::new()), kind: Kind::Run, target_id: None };
    page_of_objects(&api, account_id, objects, &query, |run: &Run| run.into()).await
}

/// Show how far a run is.
#[utoipa::path(
    get, path = "/api/v1/scenarios/runs/{id}", tag = "scenarios", params(("id" = String, Path)),
    responses(
        (status = 200, description = "The run", body = RunView),
        (status = 404, description = "There is none", body = Problem),
    )
)]
async fn show(
    State(api): State<Api>,
    Caller(account_id): Caller,
    IdOf(id): IdOf<ObjectId>,
) -> Result<Json<RunView>, Problem> {
    let run = one_object::<Run>(&api, account_id, Kind::Run, id).await?;
    Ok(Json(RunView::from(&*run)))
}

/// Cancel a run. Scans that it has started go on.
#[utoipa::path(
    post, path = "/api/v1/scenarios/runs/{id}/cancel", tag = "scenarios", params(("id" = String, Path)),
    responses(
        (status = 204, description = "It is cancelled"),
        (status = 404, description = "There is none that is running", body = Problem),
    )
)]
async fn cancel(
    State(api): State<Api>,
    Caller(account_id): Caller,
    IdOf(id): IdOf<ObjectId>,
) -> Result<StatusCode, Problem> {
    api.scanner.change(account_id, |world, rules| run::cancel(world, id, rules.now)).await?;
    Ok(StatusCode::NO_CONTENT)
}
