//! Scenarios: list, check, run, watch.

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
use super::extract::{Caller, IdOf, JsonBody, QueryOf};
use super::page::{ListOf, Listing, check_limit};
use super::targets::object_position;
use crate::clock::rfc3339;
use crate::id::ObjectId;
use crate::problem::{FieldProblem, quote};
use crate::scanner::scenario::run::NewRun;
use crate::scanner::scenario::{Fault, read, run, shipped};
use crate::world::{Kind, Object, Run, RunState};

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

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct RunToStart {
    /// A scenario that comes with scanhook.
    #[schema(example = "first-scan")]
    name: Option<String>,
    /// A scenario's YAML.
    source: Option<String>,
    /// How much faster than the story the clock goes; as the scenario or the settings say if left out.
    speed: Option<f64>,
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
    let invalid = |pointer: &str, reason: String| Problem::invalid(vec![FieldProblem::new(pointer, reason)]);
    let source = match (&new.name, &new.source) {
        (None, Some(source)) => source.as_str(),
        (Some(name), None) => {
            let found = shipped::find(name);
            found.ok_or_else(|| Problem::not_found(format!("no scenario is called {}", quote(name))))?.source
        }
        _ => return Err(invalid("/name", "give either the name of a scenario or its source".to_owned())),
    };
    if new.speed.is_some_and(|speed| !(0.001..=1_000_000.0).contains(&speed)) {
        return Err(invalid("/speed", "must be from 0.001 to 1000000".to_owned()));
    }
    let faults = |faults: Vec<Fault>| {
        let field = |fault: Fault| FieldProblem::new("/source", fault.to_string());
        Problem::invalid(faults.into_iter().map(field).collect())
    };
    let scenario = read(source).map_err(faults)?;
    let new = NewRun { source, scenario: &scenario, speed: new.speed };
    let run = api.scanner.change(account_id, |world, rules| run::start(world, rules, &new, rules.now)).await?;
    Ok((StatusCode::CREATED, Json(RunView::from(&*run))))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// From the page before.
    cursor: Option<String>,
    /// 1 to 250; 50 if left out.
    limit: Option<u32>,
}

/// List the runs, newest first.
#[utoipa::path(
    get, path = "/api/v1/scenarios/runs", tag = "scenarios", params(ListQuery),
    responses((status = 200, description = "A page of them", body = ListOf<RunView>))
)]
async fn runs(
    State(api): State<Api>,
    Caller(account_id): Caller,
    QueryOf(query): QueryOf<ListQuery>,
) -> Result<Json<ListOf<RunView>>, Problem> {
    let limit = check_limit(query.limit)?;
    let listing = Listing::new(&api, account_id, "runs", &());
    let before = object_position(&listing, query.cursor.as_deref())?;
    let rows = api.store.world_objects(account_id, Kind::Run, None, before, limit + 1).await?;
    let rows: Vec<_> = rows
        .into_iter()
        .filter_map(|object| match object {
            Object::Run(run) => Some(run),
            _ => None,
        })
        .collect();
    Ok(Json(listing.page(rows, limit, |row| row.id.to_string(), |row| RunView::from(&*row))))
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
    match api.store.world_object(account_id, Kind::Run, id).await? {
        Object::Run(run) => Ok(Json(RunView::from(&*run))),
        _ => Err(Problem::internal()),
    }
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
