//! Init files: what has been applied, and what it made.

use axum::Json;
use axum::extract::State;
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Api;
use super::error::Problem;
use super::extract::Caller;
use super::page::ListOf;
use crate::clock::rfc3339;
use crate::id::AccountId;
use crate::store::{self, AppliedFile, Made, MadeKind};
use crate::world::{Kind, Object, RunState};

pub(super) fn router() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(list))
}

/// How far an init file is.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum InitState {
    /// All that it wants is there, and its scenarios have been told.
    Applied,
    /// All that it wants is there; one of its scenarios is being told.
    Running,
    /// One of its scenarios was not told to its end.
    Failed,
}

#[derive(Debug, Serialize, ToSchema)]
struct MadeView {
    kind: MadeKind,
    id: String,
    #[schema(value_type = String)]
    account_id: AccountId,
    /// Where it stands in the file, by a JSON pointer.
    #[schema(example = "/accounts/0/subscribers/1")]
    pointer: String,
    /// How far a run is; null for everything else.
    state: Option<RunState>,
}

/// An init file that has been applied.
#[derive(Debug, Serialize, ToSchema)]
struct InitView {
    /// The file's name without folders.
    name: String,
    /// SHA-256 of its text, in lower-case hex.
    hash: String,
    state: InitState,
    #[serde(serialize_with = "rfc3339::serialize")]
    applied_at: DateTime<Utc>,
    made: Vec<MadeView>,
    /// Why one of its scenarios was not told to its end.
    error: Option<String>,
}

/// List the init files that have been applied, by name.
#[utoipa::path(
    get, path = "/api/v1/init", tag = "init",
    responses(
        (status = 200, description = "All of them", body = ListOf<InitView>),
        (status = 403, description = "Only the default account sees them: they are of all accounts", body = Problem),
    )
)]
async fn list(State(api): State<Api>, Caller(caller): Caller) -> Result<Json<ListOf<InitView>>, Problem> {
    if caller != AccountId::DEFAULT {
        return Err(Problem::forbidden("only the default account sees the init files"));
    }
    let mut data = Vec::new();
    for file in api.store.init_files().await? {
        data.push(view(&api, file).await?);
    }
    Ok(Json(ListOf { data, next_cursor: None }))
}

async fn view(api: &Api, file: AppliedFile) -> Result<InitView, Problem> {
    let mut view = InitView {
        name: file.name,
        hash: file.hash,
        state: InitState::Applied,
        applied_at: file.applied_at,
        made: Vec::with_capacity(file.made.len()),
        error: None,
    };
    for Made { kind, id, account_id, pointer, .. } in file.made {
        let mut state = None;
        if let Some(Object::Run(run)) = run(api, account_id, kind, &id).await? {
            state = Some(run.state);
            match run.state {
                RunState::Completed => (),
                RunState::Running if view.error.is_none() => view.state = InitState::Running,
                RunState::Running => (),
                RunState::Failed | RunState::Cancelled => {
                    view.state = InitState::Failed;
                    let reason = run.error.as_deref().unwrap_or("was cancelled");
                    view.error.get_or_insert_with(|| format!("the scenario {}: {reason}", run.name));
                }
            }
        }
        view.made.push(MadeView { kind, id, account_id, pointer, state });
    }
    Ok(view)
}

/// The run that a file started.
async fn run(api: &Api, account_id: AccountId, kind: MadeKind, id: &str) -> Result<Option<Object>, store::Error> {
    match id.parse() {
        Ok(id) if kind == MadeKind::Run => api.store.world_object(account_id, Kind::Run, id).await.map(Some),
        _ => Ok(None),
    }
}
