//! What every handler takes: who calls, ids in the path, fields in the body. And how a failure looks.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use http::request::Parts;
use http::{HeaderValue, Method, StatusCode, header};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use tracing::error;

use crate::http::vendors::{Api, BodyError, account_of, read_body};
use crate::id::{AccountId, ObjectId};
use crate::problem::FieldProblem;
use crate::scanner::{self, Refusal, Rules};
use crate::store;
use crate::vendors::probely::ids::vendor_id;
use crate::vendors::probely::objects::{Scene, url_of};
use crate::world::{Object, Target, User, World};

/// An answer that is not a success. (The shapes are documented.)
#[derive(Debug)]
pub(super) enum Failure {
    /// 400: what is wrong with each field.
    Fields(Map<String, Value>),
    /// 400: why an action is not done.
    Action(String),
    /// Any status, with a reason.
    Detail(StatusCode, String),
    /// 404: which of several ids name nothing.
    MissingIds(Vec<String>),
}

impl Failure {
    pub(super) fn not_found() -> Self {
        Self::Detail(StatusCode::NOT_FOUND, "Not found.".to_owned())
    }

    pub(super) fn method(method: &Method) -> Self {
        Self::Detail(StatusCode::METHOD_NOT_ALLOWED, format!("Method \"{method}\" not allowed."))
    }

    /// One field that is wrong.
    pub(super) fn field(name: &str, reason: impl Into<String>) -> Self {
        Self::Fields([(name.to_owned(), json!([reason.into()]))].into_iter().collect())
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let bad = StatusCode::BAD_REQUEST;
        let (status, body) = match self {
            Self::Fields(fields) => (bad, fields.into()),
            Self::Action(reason) => (bad, json!({"error": reason})),
            Self::Detail(status, detail) => (status, json!({"detail": detail})),
            Self::MissingIds(ids) => {
                let body = json!({"detail": "Not Found", "is_id_404_validation": true, "invalid_ids": ids});
                (StatusCode::NOT_FOUND, body)
            }
        };
        let mut response = (status, Json(body)).into_response();
        if status == StatusCode::UNAUTHORIZED {
            let scheme = HeaderValue::from_static("JWT realm=\"api\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
        }
        response
    }
}

impl From<store::Error> for Failure {
    fn from(failure: store::Error) -> Self {
        match failure {
            store::Error::NotFound(_) => Self::not_found(),
            failure => {
                error!("Probely's API: {failure}");
                Self::Detail(StatusCode::INTERNAL_SERVER_ERROR, "Internal server error.".to_owned())
            }
        }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NotFound(_) => Self::not_found(),
            Refusal::Conflict(reason) => Self::Action(reason),
            Refusal::Invalid(problems) => {
                let field = |FieldProblem { pointer, reason }: FieldProblem| {
                    let mut names = pointer.split('/').filter(|name| !name.is_empty());
                    let name = names.next().unwrap_or("non_field_errors").to_owned();
                    // A field of a field is told in an object.
                    let wrap = |inner, name: &str| json!({ name: inner });
                    (name, names.rev().fold(json!([reason]), wrap))
                };
                Self::Fields(problems.into_iter().map(field).collect())
            }
        }
    }
}

impl From<scanner::Error> for Failure {
    fn from(failure: scanner::Error) -> Self {
        match failure {
            scanner::Error::Refused(refusal) => refusal.into(),
            scanner::Error::Store(failure) => failure.into(),
            scanner::Error::Event(refused) => {
                error!("Probely's API: {refused}");
                Self::Detail(StatusCode::INTERNAL_SERVER_ERROR, "Internal server error.".to_owned())
            }
        }
    }
}

/// Who calls, and what is done for them with.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) api: Api,
    pub(super) account_id: AccountId,
}

impl FromRequestParts<Api> for Call {
    type Rejection = Failure;
    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Failure> {
        let denied = |text: &str| Failure::Detail(StatusCode::UNAUTHORIZED, text.to_owned());
        let value = parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let key = value.and_then(|value| value.trim().split_once(' '));
        let key = key.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("jwt")).map(|(_, key)| key.trim());
        let key = key.filter(|key| !key.is_empty());
        let key = key.ok_or_else(|| denied("Authentication credentials were not provided."))?;
        let account_id = account_of(api, key).await?.ok_or_else(|| denied("Invalid token."))?;
        Ok(Self { api: api.clone(), account_id })
    }
}

impl Call {
    /// The account's world as it is now, and the user who calls: the account's first.
    pub(super) async fn view(&self) -> Result<View, Failure> {
        let mut world = self.api.scanner.world(self.account_id).await?;
        if world.users().next().is_none() {
            // Whoever calls is a user, and stays the same one.
            self.change(|_, _| Ok(())).await?;
            world = self.api.scanner.world(self.account_id).await?;
        }
        let by = world.owner(now(self).await?);
        Ok(View { world, by })
    }

    /// Changes the account's world; what comes of it is shown in the changed world.
    pub(super) async fn change<T>(
        &self,
        mut act: impl FnMut(&mut World, Rules<'_>) -> Result<T, Refusal> + Send,
    ) -> Result<T, Failure> {
        let change = |world: &mut World, rules: Rules<'_>| {
            // The user who calls is there before whatever is done in their name.
            world.owner(rules.now);
            act(world, rules)
        };
        Ok(self.api.scanner.change(self.account_id, change).await?)
    }
}

/// A world, and the user who looks at it.
#[derive(Debug)]
pub(super) struct View {
    pub(super) world: World,
    pub(super) by: Arc<User>,
}

impl View {
    pub(super) fn scene(&self) -> Scene<'_> {
        Scene { world: &self.world, by: &self.by }
    }

    /// The targets that Probely can have, oldest first.
    pub(super) fn targets(&self) -> impl Iterator<Item = &Arc<Target>> {
        self.world.targets().filter(|target| url_of(target).is_some())
    }

    /// A target by Probely's id.
    pub(super) fn target(&self, id: &str) -> Result<&Arc<Target>, Failure> {
        self.targets().find(|target| vendor_id("target", target.id) == id).ok_or_else(Failure::not_found)
    }

    /// Targets by Probely's ids, each once: by our ids and by Probely's. All that name nothing are told.
    pub(super) fn many_targets(&self, ids: impl Iterator<Item = String>) -> Result<Vec<(ObjectId, String)>, Failure> {
        let known = self.targets().map(|target| (vendor_id("target", target.id), target.id)).collect();
        many(&known, ids)
    }

    /// A target by our id, if Probely can have it.
    pub(super) fn target_of(&self, id: ObjectId) -> Option<&Arc<Target>> {
        self.world.target(id).filter(|target| url_of(target).is_some())
    }
}

/// Looks up many ids, each once, among those that are known. All that name nothing are told.
pub(super) fn many<T: Clone>(
    known: &HashMap<String, T>,
    ids: impl Iterator<Item = String>,
) -> Result<Vec<(T, String)>, Failure> {
    let (mut found, mut missing, mut seen) = (Vec::new(), Vec::new(), HashSet::new());
    for id in ids.filter(|id| seen.insert(id.clone())) {
        match known.get(&id) {
            Some(one) => found.push((one.clone(), id)),
            None => missing.push(id),
        }
    }
    if missing.is_empty() { Ok(found) } else { Err(Failure::MissingIds(missing)) }
}

/// A user of a world by our id.
pub(super) fn user_of(world: &World, id: ObjectId) -> Option<&Arc<User>> {
    match world.object(id) {
        Some(Object::User(user)) => Some(user),
        _ => None,
    }
}

/// What the path names. What cannot be read names nothing.
#[derive(Debug)]
pub(super) struct At<T>(pub(super) T);

impl<T: DeserializeOwned + Send> FromRequestParts<Api> for At<T> {
    type Rejection = Failure;
    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Failure> {
        let found = Path::<T>::from_request_parts(parts, api).await;
        found.map(|Path(named)| Self(named)).map_err(|_| Failure::not_found())
    }
}

/// The fields of a body: JSON, a form, or a multipart form. Files are kept as their text.
#[derive(Debug)]
pub(super) struct Fields(pub(super) Map<String, Value>);

impl FromRequest<Api> for Fields {
    type Rejection = Failure;
    async fn from_request(request: Request<Body>, api: &Api) -> Result<Self, Failure> {
        let declared = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let declared = declared.unwrap_or_default().to_owned();
        let bytes = read_body(api, request).await.map_err(|failure| match failure {
            BodyError::TooLarge => Failure::Detail(StatusCode::PAYLOAD_TOO_LARGE, "Request body is too large.".into()),
            BodyError::BrokenOff => Failure::Detail(StatusCode::BAD_REQUEST, "The request body broke off.".into()),
        })?;
        let essence = declared.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        match essence.as_str() {
            // Some clients send nothing, and do not say what it is.
            _ if bytes.trim_ascii().is_empty() => Ok(Self(Map::new())),
            "application/x-www-form-urlencoded" => Ok(Self(form(url::form_urlencoded::parse(&bytes)))),
            "multipart/form-data" => {
                let unreadable = |_| Failure::Detail(StatusCode::BAD_REQUEST, "Multipart form parse error".to_owned());
                let boundary = multer::parse_boundary(&declared).map_err(unreadable)?;
                let whole = futures_util::stream::iter([Ok::<_, std::io::Error>(bytes)]);
                let mut parts = multer::Multipart::new(whole, boundary);
                let mut pairs = Vec::new();
                while let Some(part) = parts.next_field().await.map_err(unreadable)? {
                    let name = part.name().unwrap_or_default().to_owned();
                    pairs.push((name, part.text().await.map_err(unreadable)?));
                }
                Ok(Self(form(pairs.into_iter())))
            }
            _ => parse(&bytes).map(Self),
        }
    }
}

fn parse(bytes: &[u8]) -> Result<Map<String, Value>, Failure> {
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(other) => {
            let reason = format!("Invalid data. Expected a dictionary, but got {}.", kind_of(&other));
            Err(Failure::field("non_field_errors", reason))
        }
        Err(error) => Err(Failure::Detail(StatusCode::BAD_REQUEST, format!("JSON parse error - {error}"))),
    }
}

/// What the service's framework calls a type of JSON value.
pub(super) fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "NoneType",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float",
        Value::Number(_) => "int",
        Value::String(_) => "str",
        Value::Array(_) => "list",
        Value::Object(_) => "dict",
    }
}

/// A form's fields. A dot in a name stands for a nested object; a name that comes again makes a list.
fn form<N: AsRef<str>, V: Into<String>>(pairs: impl Iterator<Item = (N, V)>) -> Map<String, Value> {
    /// No object that is set is nested deeper.
    const DEEPEST: usize = 4;
    let mut fields = Map::new();
    for (name, value) in pairs {
        let names: Vec<&str> = name.as_ref().splitn(DEEPEST, '.').collect();
        put(&mut fields, &names, Value::from(value.into()));
    }
    fields
}

fn put(fields: &mut Map<String, Value>, names: &[&str], value: Value) {
    match names {
        [] => (),
        [name] => match fields.get_mut(*name) {
            Some(Value::Array(values)) => values.push(value),
            Some(before) => *before = Value::Array(vec![before.take(), value]),
            None => drop(fields.insert((*name).to_owned(), value)),
        },
        [name, inner @ ..] => {
            let entry = fields.entry(*name).or_insert_with(|| json!({}));
            match entry {
                Value::Object(nested) => put(nested, inner, value),
                _ => *entry = json!({}),
            }
        }
    }
}

/// When something happens that a caller does.
pub(super) async fn now(call: &Call) -> Result<DateTime<Utc>, Failure> {
    Ok(call.api.clocks.now(call.account_id).await?)
}
