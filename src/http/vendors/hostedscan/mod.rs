//! HostedScan's API, version 1. (Documented: paths, fields, the envelope, pages of 500, the statuses
//! 200, 400, 401 and 404.)

use axum::extract::{FromRequestParts, Path, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http::StatusCode;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use serde_json::{Value, json};
use tower::ServiceExt;
use tracing::error;

use self::filters::Filters;
use super::{Api, Params, account_of};
use crate::http::page::Listing;
use crate::id::{AccountId, ObjectId};
use crate::scanner::{self, Refusal};
use crate::{publish, store};

mod body;
mod files;
mod filters;
mod reports;
mod results;
mod risks;
mod sample;
mod scans;
mod targets;

/// The header with the key. (Documented.)
const KEY: &str = "x-hostedscan-api-key";
/// The key that gets sample answers. (Documented.)
const SAMPLE_KEY: &str = "test-data-key";
/// The items of one page. (Documented: up to 500.)
const PAGE: usize = 500;

pub(super) fn router(api: Api) -> Router {
    let own = Router::new()
        .route("/scans", get(scans::list).post(scans::start))
        .route("/scans/{id}", get(scans::show))
        .route("/results/{id}", get(results::download))
        .route("/risks", get(risks::list))
        .route("/risks/{id}", get(risks::show))
        .route("/targets", get(targets::list).post(targets::add))
        .route("/targets/{id}", get(targets::show).put(targets::change).delete(targets::remove))
        .route("/targets/{id}/auth/selenium", post(targets::upload))
        .route("/reports", post(reports::order))
        .route("/reports/{id}", get(reports::download))
        .method_not_allowed_fallback(async || not_found())
        .fallback(async || not_found())
        .with_state(api);
    // Asked before any route is found: the samples have routes of their own.
    let sample_or_own = middleware::from_fn_with_state(sample::router(), sample_or_own);
    Router::new().fallback_service(own).layer(sample_or_own)
}

/// Sends whoever has the sample key to the samples, in every auth mode.
async fn sample_or_own(State(samples): State<Router>, request: Request, next: Next) -> Response {
    if request.headers().get(KEY).is_some_and(|key| key.as_bytes().trim_ascii() == SAMPLE_KEY.as_bytes()) {
        return samples.oneshot(request).await.into_response();
    }
    next.run(request).await
}

/// What HostedScan answers where there is nothing.
pub(super) fn not_found() -> Response {
    Failure::new(StatusCode::NOT_FOUND, "Not found").into_response()
}

/// An answer that is not a success. Inferred from clients: an object with a text `error`.
#[derive(Debug)]
pub(super) struct Failure(StatusCode, String);

impl Failure {
    pub(super) fn new(status: StatusCode, error: impl Into<String>) -> Self {
        Self(status, error.into())
    }

    /// A bad or missing parameter.
    fn bad(error: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error)
    }

    /// There is no such thing.
    fn missing() -> Self {
        Self::new(StatusCode::NOT_FOUND, "Not found")
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.0, Json(json!({"error": self.1}))).into_response()
    }
}

impl From<store::Error> for Failure {
    fn from(failure: store::Error) -> Self {
        match failure {
            store::Error::NotFound(_) => Self::missing(),
            failure => {
                error!("HostedScan's API: {failure}");
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "Internal server error")
            }
        }
    }
}

impl From<scanner::Error> for Failure {
    fn from(failure: scanner::Error) -> Self {
        match failure {
            scanner::Error::Refused(Refusal::NotFound(_)) => Self::missing(),
            scanner::Error::Refused(refusal) => Self::bad(refusal.to_string()),
            scanner::Error::Event(publish::Refused::Invalid(_)) => Self::bad(failure.to_string()),
            scanner::Error::Event(failure) => {
                error!("HostedScan's API: {failure}");
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "Internal server error")
            }
            scanner::Error::Store(failure) => failure.into(),
        }
    }
}

/// The account that a request acts in.
pub(super) struct Caller(pub(super) AccountId);

impl FromRequestParts<Api> for Caller {
    type Rejection = Failure;
    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Failure> {
        let denied = || Failure::new(StatusCode::UNAUTHORIZED, "Invalid API key");
        let key = parts.headers.get(KEY).and_then(|key| key.to_str().ok()).map(str::trim).filter(|key| !key.is_empty());
        account_of(api, key.ok_or_else(denied)?).await?.map(Self).ok_or_else(denied)
    }
}

/// The id in the path. What is not UTF-8 is nobody's id.
struct Id(String);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = Failure;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let id = Path::<String>::from_request_parts(parts, state).await;
        id.map(|Path(id)| Self(id)).map_err(|_| Failure::missing())
    }
}

impl Params {
    /// The filters among the parameters.
    fn filters(&self, known: &[&'static str]) -> Result<Filters, Failure> {
        let pairs = self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        Filters::of_query(pairs, known).map_err(Failure::bad)
    }
}

/// One object, as HostedScan wraps it. (Documented.)
fn one(object: Value) -> Json<Value> {
    Json(json!({"data": object}))
}

/// A file as it is. (Documented: not wrapped.)
fn file(content_type: &'static str, bytes: Vec<u8>) -> Response {
    ([(CONTENT_TYPE, content_type)], bytes).into_response()
}

/// One of the lists, newest first. (The order is assumed.) Its tokens are positions, so that they
/// keep their meaning while objects are added.
struct List(Listing);

impl List {
    fn new(api: &Api, account_id: AccountId, name: &str) -> Self {
        Self(Listing::new(api, account_id, &format!("hostedscan/{name}"), &()))
    }

    /// The object that the page follows; none for the first page.
    fn position(&self, params: &Params) -> Result<Option<ObjectId>, Failure> {
        self.0.object_position(params.get("page_token")).map_err(|_| Failure::bad("page_token: is not from this list"))
    }

    /// A page of what was read: up to one object more than the page has.
    fn page(&self, objects: Vec<(ObjectId, Value)>) -> Json<Value> {
        let limit = u32::try_from(PAGE).unwrap_or(u32::MAX);
        let page = self.0.page(objects, limit, |(id, _)| id.to_string(), |(_, shown)| shown);
        let mut answer = json!({"data": page.data});
        // Clients go on for as long as there is a token, so the last page has none.
        if let Some(token) = page.next_cursor {
            answer["next_page_token"] = token.into();
        }
        Json(answer)
    }
}
