//! Many events in one request, each answered for.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{Request, StatusCode};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Api;
use super::error::Problem;
use super::events::{EventToPublish, EventView, new_event};
use super::extract::{Caller, parse_json, parse_object, read_body};
use crate::publish::{NewEvent, Published, Refused};

/// The most events of one batch.
pub(super) const LARGEST_BATCH: usize = 1_000;

pub(super) fn router() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(publish_batch))
}

/// What became of one event of a batch: `event` or `problem`.
#[derive(Debug, Serialize, ToSchema)]
struct BatchItem {
    /// Its place in the batch, from 0.
    index: usize,
    /// 202, or the problem's status.
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<EventView>,
    /// Whether the idempotency key was known, so that nothing was stored.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    replayed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<Problem>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct BatchAnswer {
    data: Vec<BatchItem>,
}

/// Publish up to 1,000 events.
///
/// Takes a JSON array, or one event a line (NDJSON). Each is answered for: one that is refused
/// does not hold up the others. 202 if all were stored, 207 otherwise.
#[utoipa::path(
    post, path = "/api/v1/events/batch", tag = "events", request_body = Vec<EventToPublish>,
    responses(
        (status = 202, description = "All are stored", body = BatchAnswer),
        (status = 207, description = "Some were refused", body = BatchAnswer),
        (status = 400, description = "The body is not JSON", body = Problem),
        (status = 413, description = "The body is too large, or has too many events", body = Problem),
    )
)]
async fn publish_batch(
    State(api): State<Api>,
    Caller(account_id): Caller,
    request: Request<Body>,
) -> Result<Response, Problem> {
    let body = read_body(request, api.batch_body_limit_bytes, "server.batch_body_limit_bytes").await?;
    let parsed = split_batch(&body)?;
    if parsed.len() > LARGEST_BATCH {
        return Err(Problem::too_many_events(parsed.len(), LARGEST_BATCH));
    }
    let mut items: Vec<Option<Problem>> = Vec::with_capacity(parsed.len());
    let mut events = Vec::with_capacity(parsed.len());
    for event in parsed.into_iter().map(|text| one_of_batch(text, api.body_limit_bytes)) {
        match event {
            Ok(event) => {
                items.push(None);
                events.push(event);
            }
            Err(problem) => items.push(Some(problem)),
        }
    }
    let mut answers = api.publisher.publish(account_id, events).await.into_iter();
    let mut answer = || answers.next().unwrap_or(Err(Refused::Stopped)).map_err(Problem::from);
    Ok(answer_for_each(items.into_iter().map(|problem| problem.map_or_else(&mut answer, Err))))
}

/// Answers for each event: 202 if all were stored, 207 otherwise.
pub(super) fn answer_for_each(results: impl Iterator<Item = Result<Published, Problem>>) -> Response {
    let item = |(index, result): (usize, Result<Published, Problem>)| match result {
        Ok(published) => {
            let replayed = published.is_repeat;
            BatchItem { index, status: 202, event: Some(published.into()), replayed, problem: None }
        }
        Err(problem) => {
            BatchItem { index, status: problem.status, event: None, replayed: false, problem: Some(problem) }
        }
    };
    let data: Vec<BatchItem> = results.enumerate().map(item).collect();
    let is_whole = data.iter().all(|item| item.problem.is_none());
    let status = if is_whole { StatusCode::ACCEPTED } else { StatusCode::MULTI_STATUS };
    (status, Json(BatchAnswer { data })).into_response()
}

/// Cuts a batch into the texts of its events: the items of an array, or the lines.
fn split_batch(body: &[u8]) -> Result<Vec<&[u8]>, Problem> {
    let body = body.trim_ascii();
    if body.first() == Some(&b'[') {
        let items: Vec<&RawValue> = parse_json(body)?;
        return Ok(items.into_iter().map(|item| item.get().as_bytes()).collect());
    }
    if body.is_empty() {
        return Err(Problem::malformed_json("the body is empty; send a JSON array, or one event a line"));
    }
    Ok(body.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty()).collect())
}

fn one_of_batch(text: &[u8], limit: usize) -> Result<NewEvent, Problem> {
    if text.len() > limit {
        return Err(Problem::body_too_large(limit, "server.body_limit_bytes"));
    }
    new_event(parse_object(text)?)
}
