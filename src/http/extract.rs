//! What handlers take from a request: who asks, the JSON body, the query, ids in the path.

use std::str::FromStr;

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, FromRequestParts, Path, Query};
use http::request::Parts;
use http::{Request, header};
use http_body_util::{BodyExt, Limited};
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::Api;
use super::error::Problem;
use crate::account::ApiKey;
use crate::config::AuthMode;
use crate::id::AccountId;
use crate::problem::FieldProblem;

/// The account that a request acts in, by its API key.
#[derive(Debug, Clone, Copy)]
pub(super) struct Caller(pub(super) AccountId);

impl FromRequestParts<Api> for Caller {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        let Some(value) = parts.headers.get(header::AUTHORIZATION) else {
            return match api.auth_mode {
                AuthMode::Open | AuthMode::OpenToAnyone => Ok(Self(AccountId::DEFAULT)),
                AuthMode::Keys => {
                    Err(Problem::unauthorized("an API key is needed: send it as `Authorization: Bearer shk_…`"))
                }
            };
        };
        let key = value.to_str().ok().and_then(|value| value.split_once(' '));
        let Some((_, key)) = key.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")) else {
            return Err(Problem::unauthorized("the Authorization header must be `Bearer` and an API key"));
        };
        let found = api.store.account_by_key_hash(&ApiKey::new(key.trim()).hash()).await?;
        found.map(Self).ok_or_else(|| Problem::unauthorized("no account has this API key"))
    }
}

/// A JSON body. Unknown fields, wrong types and syntax are told with their place.
#[derive(Debug)]
pub(super) struct JsonBody<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<Api> for JsonBody<T> {
    type Rejection = Problem;
    async fn from_request(request: Request<Body>, api: &Api) -> Result<Self, Problem> {
        let bytes = read_body(request, api.body_limit_bytes, "server.body_limit_bytes").await?;
        parse_object(&bytes).map(Self)
    }
}

/// Reads a body up to a limit, if it is declared as JSON. (Anything else is refused: a page of
/// another site can make a browser send a form, or bytes without a type, to a loopback address.)
pub(super) async fn read_body(request: Request<Body>, limit: usize, setting: &str) -> Result<Bytes, Problem> {
    const NAMES: [&str; 5] = ["json", "ndjson", "x-ndjson", "jsonl", "jsonlines"];
    let declared = request.headers().get(header::CONTENT_TYPE).map(|value| value.to_str().unwrap_or("?"));
    let essence = declared.and_then(|value| value.split(';').next()).unwrap_or_default().trim().to_ascii_lowercase();
    let is_json =
        essence.strip_prefix("application/").is_some_and(|name| NAMES.contains(&name) || name.ends_with("+json"));
    if !is_json {
        return Err(Problem::unsupported_media_type(declared));
    }
    match Limited::new(request.into_body(), limit).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => Err(Problem::body_too_large(limit, setting)),
        Err(error) => Err(Problem::malformed_json(format!("the body broke off: {error}"))),
    }
}

/// Reads a JSON object. (What is derived for a struct takes an array as well.)
pub(super) fn parse_object<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    match bytes.trim_ascii().first() {
        Some(b'{') | None => parse_json(bytes),
        Some(_) => Err(Problem::invalid(vec![FieldProblem::new("", "the body must be a JSON object")])),
    }
}

/// Reads JSON; an error names the field by a JSON pointer.
pub(super) fn parse_json<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> Result<T, Problem> {
    if bytes.trim_ascii().is_empty() {
        return Err(Problem::malformed_json("the body is empty; send a JSON object"));
    }
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let parsed = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let pointer = pointer(error.path());
        let error = error.into_inner();
        if error.is_data() {
            Problem::invalid(vec![FieldProblem::new(pointer, reason(&error))])
        } else {
            Problem::malformed_json(error.to_string())
        }
    })?;
    deserializer.end().map_err(|error| Problem::malformed_json(error.to_string()))?;
    Ok(parsed)
}

/// The error without its line and column: the pointer says where.
fn reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rfind(" at line ") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

fn pointer(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    path.iter()
        .map(|segment| match segment {
            Segment::Seq { index } => format!("/{index}"),
            Segment::Map { key } => format!("/{}", key.replace('~', "~0").replace('/', "~1")),
            Segment::Enum { variant } => format!("/{variant}"),
            Segment::Unknown => String::new(),
        })
        .collect()
}

/// The query. Unknown parameters are refused, so that a misspelt filter is not passed over.
#[derive(Debug)]
pub(super) struct QueryOf<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequestParts<Api> for QueryOf<T> {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        if percent_decode_str(parts.uri.query().unwrap_or_default()).decode_utf8().is_err() {
            return Err(Problem::invalid_parameter("the query is not UTF-8"));
        }
        let Query(query) = Query::from_request_parts(parts, api).await.map_err(|rejection| {
            let text = rejection.body_text();
            let reason = text.strip_prefix("Failed to deserialize query string: ").unwrap_or(&text);
            Problem::invalid_parameter(reason)
        })?;
        Ok(Self(query))
    }
}

/// An id in the path. What is not an id names nothing.
#[derive(Debug)]
pub(super) struct IdOf<T>(pub(super) T);

impl<T: FromStr<Err: std::fmt::Display>> FromRequestParts<Api> for IdOf<T> {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        let Path(text) = Path::<String>::from_request_parts(parts, api)
            .await
            .map_err(|rejection| Problem::not_found(rejection.body_text()))?;
        text.parse().map(Self).map_err(|error| Problem::not_found(format!("`{text}` names nothing here: {error}")))
    }
}
