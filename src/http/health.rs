//! Whether scanhook lives, and whether it can serve. No key is needed to ask.

use std::time::Duration;

use axum::Json;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tokio::sync::watch;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Api;
use super::error::Problem;
use crate::role::{Role, Roles};

/// How long the database may take to answer. Whoever asks does not wait long.
const ANSWERS_WITHIN: Duration = Duration::from_secs(2);

pub(super) fn router() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(live)).routes(routes!(ready))
}

/// How far a process is. (The database is open and up to date before anything can be asked.)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Init files are being applied.
    Initialising,
    Serving,
    Stopping,
}

/// How far this process is; clones share it.
#[derive(Debug, Clone)]
pub struct Readiness(watch::Sender<Stage>);

impl Default for Readiness {
    fn default() -> Self {
        Self(watch::Sender::new(Stage::Serving))
    }
}

impl Readiness {
    /// Goes on to a stage.
    pub fn set(&self, stage: Stage) {
        self.0.send_replace(stage);
    }

    /// Waits until this process is stopping.
    pub(super) async fn stopping(&self) {
        // The sender lives in `self`, so the channel cannot be closed here.
        let _ = self.0.subscribe().wait_for(|stage| *stage == Stage::Stopping).await;
    }

    fn stage(&self) -> Stage {
        *self.0.borrow()
    }
}

/// Holds back everything but the two questions of this file until the init files are applied: what
/// they want must be there before anybody asks for it.
pub(super) async fn once_initialised(State(readiness): State<Readiness>, request: Request, next: Next) -> Response {
    let asks = matches!(request.uri().path(), "/livez" | "/readyz");
    if readiness.stage() == Stage::Initialising && !asks {
        return Problem::unavailable("init files are being applied; /readyz says when that is done").into_response();
    }
    next.run(request).await
}

#[derive(Debug, Serialize, ToSchema)]
struct Health {
    /// `live`.
    status: &'static str,
}

#[derive(Debug, Serialize, ToSchema)]
struct Ready {
    /// `ready`.
    status: &'static str,
    /// What this process does; other processes on its database do the rest.
    #[schema(value_type = Vec<Role>)]
    roles: Roles,
}

/// Say whether the process answers.
#[utoipa::path(
    get, path = "/livez", tag = "health", security(()),
    responses((status = 200, description = "It does", body = Health))
)]
async fn live() -> Json<Health> {
    Json(Health { status: "live" })
}

/// Say whether scanhook can serve now: migrated, initialised, and the database answers.
#[utoipa::path(
    get, path = "/readyz", tag = "health", security(()),
    responses(
        (status = 200, description = "It can", body = Ready),
        (status = 503, description = "Something is missing; `detail` says what", body = Problem),
    )
)]
async fn ready(State(api): State<Api>) -> Result<Json<Ready>, Problem> {
    match api.readiness.stage() {
        Stage::Initialising => return Err(Problem::not_ready("init files are being applied")),
        Stage::Stopping => return Err(Problem::not_ready("scanhook is stopping")),
        Stage::Serving => (),
    }
    match tokio::time::timeout(ANSWERS_WITHIN, api.store.ping()).await {
        Ok(Ok(())) => Ok(Json(Ready { status: "ready", roles: api.roles.clone() })),
        Ok(Err(failure)) => Err(Problem::not_ready(failure.to_string())),
        Err(_) => {
            let limit = humantime::format_duration(ANSWERS_WITHIN);
            Err(Problem::not_ready(format!("the database does not answer within {limit}")))
        }
    }
}
