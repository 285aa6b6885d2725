//! Halo Security's API, version 1: reading what webhooks have named, by the ids they have named it.
//!
//! Calls are GET, also those that change something. (Documented.) Every answer is JSON, and its
//! content type has no parameters, on which a public client relies.

use axum::Json;
use axum::Router;
use axum::extract::FromRequestParts;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::StatusCode;
use http::request::Parts;
use serde_json::json;
use tracing::error;

use super::{Api, account_of};
use crate::id::AccountId;
use crate::{scanner, store};

mod acks;
mod call;
mod events;
mod filter;
mod issues;
mod pci;
mod scans;
mod targets;
mod users;

/// The header with the key. (Documented.)
const KEY: &str = "x-apikey";

pub(super) fn router(api: Api) -> Router {
    Router::new()
        .route("/user/me.json", get(users::me))
        .route("/user/list.json", get(users::list))
        .route("/user/get.json", get(users::get))
        .route("/event/list.json", get(events::list))
        .route("/event/get.json", get(events::get))
        .route("/event/delete.json", get(events::delete))
        .route("/event/types.json", get(events::types))
        .route("/target/list.json", get(targets::list))
        .route("/target/get.json", get(targets::get))
        .route("/scan/list.json", get(scans::list))
        .route("/scan/get.json", get(scans::get))
        .route("/issue/list.json", get(issues::list))
        .route("/issue/get.json", get(issues::get))
        .route("/port/list.json", get(targets::ports))
        .route("/technology/list.json", get(targets::technologies))
        .route("/pci/summary.json", get(pci::summary))
        .route("/pci/report-list.json", get(pci::list))
        .route("/ack/host-list.json", get(acks::list))
        .route("/ack/host-add.json", get(acks::add))
        .route("/ack/host-delete.json", get(acks::delete))
        .method_not_allowed_fallback(async || not_found())
        .fallback(async || not_found())
        .with_state(api)
}

/// What Halo answers where there is nothing. (Assumed: as for an event that is not there.)
pub(super) fn not_found() -> Response {
    Failure::new(404, "not found").into_response()
}

/// An answer that is not a success: `{"code": 0, "message": "…"}`. (Documented.) The code is the
/// status, and 0 for a bad parameter.
#[derive(Debug)]
pub(super) struct Failure(u16, String);

impl Failure {
    pub(super) fn new(code: u16, message: impl Into<String>) -> Self {
        Self(code, message.into())
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0).unwrap_or(StatusCode::BAD_REQUEST);
        (status, Json(json!({"code": self.0, "message": self.1}))).into_response()
    }
}

impl From<store::Error> for Failure {
    fn from(failure: store::Error) -> Self {
        match failure {
            store::Error::NotFound(what) => Self::new(404, format!("{what} not found")),
            failure => {
                error!("Halo's API: {failure}");
                Self::new(500, "internal error")
            }
        }
    }
}

impl From<scanner::Error> for Failure {
    fn from(failure: scanner::Error) -> Self {
        match failure {
            scanner::Error::Store(failure) => failure.into(),
            failure => {
                error!("Halo's API: {failure}");
                Self::new(500, "internal error")
            }
        }
    }
}

/// The account that a request acts in.
pub(super) struct Caller(pub(super) AccountId);

impl FromRequestParts<Api> for Caller {
    type Rejection = Failure;
    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Failure> {
        let denied = || Failure::new(401, "authentication failed");
        let key = parts.headers.get(KEY).and_then(|key| key.to_str().ok()).map(str::trim).filter(|key| !key.is_empty());
        account_of(api, key.ok_or_else(denied)?).await?.map(Self).ok_or_else(denied)
    }
}
