//! The API: the router, who may use it, and its description. One file a resource.

use std::any::Any;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{Method, Uri};
use tokio_util::task::TaskTracker;
use tower_http::catch_panic::CatchPanicLayer;
use tracing::error;
use utoipa_axum::router::OpenApiRouter;
use utoipa_swagger_ui::{Config, SwaggerUi};

mod accounts;
mod batch;
mod clock;
mod deliveries;
mod description;
mod error;
mod event_types;
mod events;
mod extract;
mod health;
mod init;
mod page;
mod preflight;
mod scans;
mod scenarios;
mod schedules;
mod signatures;
mod snapshots;
mod subscribers;
mod targets;
mod trigger;
mod users;
mod vendors;
mod waiting;
mod why;

pub use description::openapi;
pub use error::Problem;
pub use health::{Readiness, Stage};

use crate::clock::Clock;
use crate::clocks::Clocks;
use crate::config::{AuthMode, Vendors};
use crate::event::Vendor;
use crate::handover::Handover;
use crate::publish::Publisher;
use crate::random::Chance;
use crate::role::{Role, Roles};
use crate::scanner::Scanner;
use crate::sender::Sender;
use crate::store::Store;
use crate::watch::Watcher;

/// What handlers work with. Each layer of a request has it, so it is cheap to clone.
#[derive(Debug, Clone)]
pub struct Api(Arc<Parts>);

impl Api {
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }
}

impl Deref for Api {
    type Target = Parts;
    fn deref(&self) -> &Parts {
        &self.0
    }
}

/// What an [`Api`] is made of.
#[derive(Debug)]
pub struct Parts {
    pub store: Store,
    pub publisher: Publisher,
    pub handover: Arc<Handover>,
    pub scanner: Arc<Scanner>,
    /// The machine's; an account may have one of its own.
    pub clock: Clock,
    pub clocks: Arc<Clocks>,
    pub chance: Chance,
    pub auth_mode: AuthMode,
    pub vendors: Vendors,
    pub sender: Arc<Sender>,
    pub watcher: Watcher,
    /// The setting `dispatch.jitter`.
    pub jitter: f64,
    pub cursor_key: String,
    pub body_limit_bytes: usize,
    pub batch_body_limit_bytes: usize,
    pub readiness: Readiness,
    /// What this process does; without the role `api` it answers no more than whether it is well.
    pub roles: Roles,
}

fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::with_openapi(description::empty())
        .merge(events::router())
        .merge(batch::router())
        .merge(trigger::router())
        .merge(event_types::router())
        .merge(signatures::router())
        .merge(deliveries::router())
        .merge(why::router())
        .merge(waiting::router())
        .merge(subscribers::router())
        .merge(preflight::router())
        .merge(targets::router())
        .merge(scans::router())
        .merge(schedules::router())
        .merge(scenarios::router())
        .merge(users::router())
        .merge(accounts::router())
        .merge(snapshots::router())
        .merge(clock::router())
        .merge(init::router())
        .merge(health::router())
}

/// The whole HTTP surface; without the role `api` that is health.
pub fn router(api: Api) -> Router {
    if !api.roles.has(Role::Api) {
        let (health, _) = health::router().with_state(api.clone()).split_for_parts();
        let elsewhere = Problem::no_api_here(&api.roles);
        let refuse = async move || elsewhere;
        return guarded(&api, health.method_not_allowed_fallback(refuse.clone()).fallback(refuse));
    }
    let docs = SwaggerUi::new("/api/docs").config(Config::from(description::PATH));
    let (routes, _) = routes().split_for_parts();
    let routes = routes.route(description::PATH, get(description::show));
    let routes = routes.with_state(api.clone()).merge(docs).merge(vendors::mounted(&api));
    guarded(
        &api,
        routes
            .method_not_allowed_fallback(async || Problem::method_not_allowed())
            .fallback(async |uri: Uri| Problem::not_found(format!("there is no {}; see /api/docs", uri.path()))),
    )
}

/// One vendor's own API at the vendor's own paths; none if the vendor has none.
pub fn vendor_router(vendor: Vendor, api: &Api) -> Option<Router> {
    vendors::alone(vendor, api).map(|routes| guarded(api, routes))
}

fn guarded(api: &Api, routes: Router) -> Router {
    routes
        .layer(middleware::from_fn_with_state(api.readiness.clone(), health::once_initialised))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(middleware::from_fn_with_state(TaskTracker::new(), to_the_end))
}

/// How long a request may take, a slow upload included.
const LONGEST_REQUEST: Duration = Duration::from_secs(120);

/// Runs a request to its end also when its client hangs up: what is cut off in the middle of a
/// transaction would leave its connection in it. Publishing has a task of its own for that.
async fn to_the_end(State(requests): State<TaskTracker>, request: Request, next: Next) -> Response {
    let is_published = request.method() == Method::POST && request.uri().path() == events::PATH;
    let answer = tokio::time::timeout(LONGEST_REQUEST, next.run(request));
    let answered = if is_published { Ok(answer.await) } else { requests.spawn(answer).await };
    match answered {
        Ok(Ok(response)) => response,
        Ok(Err(_)) => {
            Problem::unavailable("the request took too long; it may still have been carried out").into_response()
        }
        Err(_) => Problem::internal().into_response(),
    }
}

/// A panic in a handler is a defect, but the connection and the program live on.
fn panicked(payload: Box<dyn Any + Send>) -> Response {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("?");
    error!("a handler panicked: {text}");
    Problem::internal().into_response()
}
