//! Errors of the API: RFC 9457 problem details that name the field and the reason.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use tracing::error;

use crate::problem::FieldProblem;
use crate::publish::Refused;
use crate::register::Unusable;
use crate::role::Roles;
use crate::scanner::{self, Refusal};
use crate::store;

/// A problem detail (RFC 9457).
#[derive(Debug, Clone, serde::Serialize, utoipa::ToSchema)]
pub struct Problem {
    /// `urn:scanhook:problem:` and a word that programs can branch on.
    #[serde(rename = "type")]
    #[schema(example = "urn:scanhook:problem:unknown-vendor")]
    pub kind: String,
    /// The kind of problem in words; the same for every problem of its type.
    pub title: &'static str,
    /// The HTTP status.
    pub status: u16,
    /// What is wrong this time, and the way out.
    pub detail: String,
    /// Each thing that is wrong with the input.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldProblem>,
    /// What there is instead of what was waited for; its members depend on the type.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub found: Option<Box<serde_json::Value>>,
}

impl Problem {
    fn new(status: StatusCode, word: &str, title: &'static str, detail: impl Into<String>) -> Self {
        let kind = format!("urn:scanhook:problem:{word}");
        Self { kind, title, status: status.as_u16(), detail: detail.into(), errors: Vec::new(), found: None }
    }

    fn with(mut self, errors: Vec<FieldProblem>) -> Self {
        self.errors = errors;
        self
    }

    /// The body is not JSON.
    pub fn malformed_json(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "malformed-json", "The body is not JSON", detail)
    }

    /// Fields of the body are missing, unknown or have unusable values.
    pub fn invalid(errors: Vec<FieldProblem>) -> Self {
        let detail = errors.iter().map(FieldProblem::to_string).collect::<Vec<_>>().join("; ");
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid-field", "A field is missing or unusable", detail)
            .with(errors)
    }

    /// A query parameter is unknown or unusable.
    pub fn invalid_parameter(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid-parameter", "A query parameter is unusable", detail)
    }

    /// A request header is unusable.
    pub fn invalid_header(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid-header", "A request header is unusable", detail)
    }

    /// The cursor is not one that scanhook gave for this list.
    pub fn invalid_cursor() -> Self {
        let detail = "the cursor is not one that was given for this list; start again without it";
        Self::new(StatusCode::BAD_REQUEST, "invalid-cursor", "The cursor is not valid here", detail)
    }

    /// The vendor is not one that scanhook plays.
    pub fn unknown_vendor(detail: impl Into<String>) -> Self {
        let detail = detail.into();
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "unknown-vendor", "No such vendor", detail.clone())
            .with(vec![FieldProblem::new("/vendor", detail)])
    }

    /// The body is larger than the settings allow.
    pub fn body_too_large(limit: usize, setting: &str) -> Self {
        let detail = format!("the body is larger than {limit} bytes; {setting} sets the limit");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "body-too-large", "The body is too large", detail)
    }

    /// More events in a batch than are taken at once.
    pub fn too_many_events(count: usize, limit: usize) -> Self {
        let detail = format!("the batch has {count} events; at most {limit} are taken at once");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too-many-events", "The batch is too long", detail)
    }

    /// The body is not declared as JSON.
    pub fn unsupported_media_type(found: Option<&str>) -> Self {
        let found = found.map_or("missing".to_owned(), |found| format!("`{found}`"));
        let detail = format!("the content type is {found}; send application/json");
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type", "The body must be JSON", detail)
    }

    /// No key where one is needed, or a wrong one.
    pub fn unauthorized(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", "The API key is missing or wrong", detail)
    }

    /// The account was deleted after its key was looked at.
    pub fn account_gone() -> Self {
        Self::unauthorized("the account was deleted meanwhile; its API key opens nothing any more")
    }

    /// The key is right but may not do this.
    pub fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", "This API key may not do that", detail)
    }

    /// There is no such thing in this account.
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", "There is no such thing", detail)
    }

    /// The path exists, but not with this method.
    pub fn method_not_allowed() -> Self {
        let detail = "this path does not take this method; see /api/docs";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "The method is not allowed here", detail)
    }

    /// The process does not have the role `api`.
    pub fn no_api_here(roles: &Roles) -> Self {
        let detail = format!(
            "this process has the roles {roles} only; ask one that has `api`, or add `api` to its `serve --role` (server.roles)"
        );
        Self::new(StatusCode::MISDIRECTED_REQUEST, "no-api-here", "This process does not serve the API", detail)
    }

    /// What is asked for does not fit the present state.
    pub fn conflict(word: &str, title: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, word, title, detail)
    }

    /// What was waited for has not come about.
    pub fn not_come_about(word: &str, title: &'static str, detail: String, found: impl serde::Serialize) -> Self {
        let found = serde_json::to_value(found).expect("counts, names and times serialise");
        Self { found: Some(Box::new(found)), ..Self::conflict(word, title, detail) }
    }

    /// The database or the program cannot serve at the moment.
    pub fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "scanhook cannot serve this now", detail)
    }

    /// Something is missing before scanhook can serve.
    pub fn not_ready(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "not-ready", "scanhook is not ready", detail)
    }

    /// A defect of scanhook's.
    pub fn internal() -> Self {
        let detail = "scanhook failed; its log says why";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "scanhook failed", detail)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(self)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl From<store::Error> for Problem {
    fn from(failure: store::Error) -> Self {
        match failure {
            store::Error::NotFound(what) => Self::not_found(format!("there is no such {what} in this account")),
            store::Error::WorldChanged => Self::unavailable("the world is changing too fast; try again"),
            store::Error::AccountGone => Self::account_gone(),
            store::Error::TooMuch(detail) => {
                Self::conflict("account-too-large", "The account is too large for a snapshot", detail)
            }
            store::Error::KeyTaken => Self::conflict("key-taken", "The API key is taken", failure.to_string()),
            store::Error::Away(failure) => {
                error!(error = %failure, "the database does not answer: {failure}");
                Self::unavailable("the database does not answer; try again")
            }
            store::Error::Database(failure) => {
                error!(error = %failure, "the database failed: {failure}");
                Self::internal()
            }
        }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NotFound(detail) => Self::not_found(detail),
            Refusal::Invalid(errors) => Self::invalid(errors),
            Refusal::Conflict(detail) => Self::conflict("state-conflict", "It does not fit the present state", detail),
        }
    }
}

impl From<Unusable> for Problem {
    fn from(unusable: Unusable) -> Self {
        match unusable {
            Unusable::UnknownVendor(detail) => Self::unknown_vendor(detail),
            Unusable::Fields(problems) => Self::invalid(problems),
        }
    }
}

impl From<scanner::Error> for Problem {
    fn from(failure: scanner::Error) -> Self {
        match failure {
            scanner::Error::Refused(refusal) => refusal.into(),
            scanner::Error::Event(refused) => refused.into(),
            scanner::Error::Store(failure) => failure.into(),
        }
    }
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        let detail = refused.to_string();
        match refused {
            Refused::UnknownEventType { .. } => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "unknown-event-type", "No such event type", detail.clone())
                    .with(vec![FieldProblem::new("/event_type", detail)])
            }
            Refused::Invalid(errors) => Self::invalid(errors),
            Refused::Violation { problems, .. } => {
                let told = problems.iter().map(FieldProblem::to_string).collect::<Vec<_>>().join("; ");
                let detail = format!("{detail}: {told}; to send it all the same, publish with `validation`: `off`");
                let title = "The content does not fit its schema";
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "schema-violation", title, detail).with(problems)
            }
            Refused::KeyReused(_) => Self::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "idempotency-key-reused",
                "The idempotency key stands for another event",
                detail,
            ),
            Refused::Database(failure) => {
                error!(error = %failure, "events were not stored: {failure:?}");
                Self::unavailable(match *failure {
                    // The answer to a commit may be what got lost.
                    store::Error::Away(_) => {
                        "the database does not answer; try again, with an Idempotency-Key so that nothing is stored twice"
                    }
                    _ => "the database could not take the event; nothing was stored, try again",
                })
            }
            Refused::WorldChanged => Self::unavailable("the world is changing too fast; nothing was stored, try again"),
            Refused::Clash => Self::unavailable("the id made for the event is taken; nothing was stored, try again"),
            Refused::AccountGone => Self::account_gone(),
            Refused::Stopped => Self::unavailable("scanhook is shutting down; nothing was stored"),
        }
    }
}
