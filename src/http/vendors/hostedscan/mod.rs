//! HostedScan's API, version 1.

use axum::Json;
use axum::Router;
use axum::extract::FromRequestParts;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::request::Parts;
use serde_json::json;
use tracing::error;

use super::{Api, account_of};
use crate::id::AccountId;
use crate::store;

/// The header with the key. (Documented.)
const KEY: &str = "x-hostedscan-api-key";

pub(super) fn router(api: Api) -> Router {
    Router::new().method_not_allowed_fallback(async || not_found()).fallback(async || not_found()).with_state(api)
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
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.0, Json(json!({"error": self.1}))).into_response()
    }
}

impl From<store::Error> for Failure {
    fn from(failure: store::Error) -> Self {
        match failure {
            store::Error::NotFound(_) => Self::new(StatusCode::NOT_FOUND, "Not found"),
            failure => {
                error!("HostedScan's API: {failure}");
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "Internal server error")
            }
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
