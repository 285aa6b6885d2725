//! Reading the JSON bodies of requests, so that whatever is wrong with one names its field.
//!
//! Fields that nobody knows are passed over, and null is a field that is not there. (Assumed.)

use axum::body::Body;
use axum::extract::Request;
use http::StatusCode;
use serde_json::{Map, Value};

use super::{Api, Failure};
use crate::http::vendors::{BodyError, read_body};
use crate::problem::quote;

/// The fields of a body.
#[derive(Debug)]
pub(super) struct Fields(Map<String, Value>);

impl Fields {
    /// Reads a body that is an object.
    pub(super) async fn read(api: &Api, request: Request<Body>) -> Result<Self, Failure> {
        let body = bytes(api, request).await?;
        match serde_json::from_slice(&body) {
            Ok(Value::Object(fields)) => Ok(Self(fields)),
            Ok(_) => Err(Failure::bad("the body must be a JSON object")),
            Err(error) => Err(Failure::bad(format!("the body is not JSON: {error}"))),
        }
    }

    /// A field as it is.
    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    /// A text.
    pub(super) fn text(&self, name: &str) -> Result<Option<&str>, Failure> {
        match self.get(name) {
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(wrong(name, "must be a string")),
            None => Ok(None),
        }
    }

    /// A boolean.
    pub(super) fn boolean(&self, name: &str) -> Result<Option<bool>, Failure> {
        match self.get(name) {
            Some(Value::Bool(value)) => Ok(Some(*value)),
            Some(_) => Err(wrong(name, "must be true or false")),
            None => Ok(None),
        }
    }

    /// A list of texts.
    pub(super) fn texts(&self, name: &str) -> Result<Option<Vec<String>>, Failure> {
        self.get(name).map(|value| texts(name, value)).transpose()
    }
}

/// A list of texts, given under a name.
pub(super) fn texts(name: &str, value: &Value) -> Result<Vec<String>, Failure> {
    let Value::Array(items) = value else { return Err(wrong(name, "must be an array of strings")) };
    let text = |(index, item): (usize, &Value)| {
        item.as_str().map(str::to_owned).ok_or_else(|| wrong(&format!("{name}[{index}]"), "must be a string"))
    };
    items.iter().enumerate().map(text).collect()
}

/// What is wrong with a field.
pub(super) fn wrong(name: &str, reason: &str) -> Failure {
    Failure::bad(format!("{name}: {reason}"))
}

/// Reads a boolean of the query.
pub(super) fn query_boolean(name: &str, value: Option<&str>) -> Result<Option<bool>, Failure> {
    match value {
        None => Ok(None),
        Some("true" | "1") => Ok(Some(true)),
        Some("false" | "0") => Ok(Some(false)),
        Some(other) => Err(wrong(name, &format!("{} is neither true nor false", quote(other)))),
    }
}

/// Reads a body as it is.
pub(super) async fn bytes(api: &Api, request: Request<Body>) -> Result<axum::body::Bytes, Failure> {
    read_body(api, request).await.map_err(|error| match error {
        BodyError::TooLarge => Failure::new(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large"),
        BodyError::BrokenOff => Failure::bad("the body broke off"),
    })
}
