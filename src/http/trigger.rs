//! Trigger: publish the example of an event type, with overrides. From there it is an event like
//! any other.

use axum::extract::State;
use axum::response::Response;
use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Api;
use super::batch::{BatchAnswer, LARGEST_BATCH, answer_for_each};
use super::error::Problem;
use super::events::check_times;
use super::extract::{Caller, JsonBody};
use crate::config::Validation;
use crate::event::Vendor;
use crate::problem::FieldProblem;
use crate::publish::NewEvent;
use crate::vendors::{EventType, dialect, remove, set};

pub(super) fn router() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(trigger))
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Trigger {
    #[schema(example = "halo")]
    vendor: String,
    /// One of each of the vendor's event types if left out.
    #[schema(example = "website-cert-expiring")]
    event_type: Option<String>,
    /// Values by dotted path, set in the example.
    #[serde(default)]
    #[schema(value_type = Object, example = json!({"target_id": 7, "days": 3}))]
    set: Map<String, Value>,
    /// Dotted paths, removed from the example.
    #[serde(default)]
    remove: Vec<String>,
    /// How many events, up to 1,000.
    count: Option<usize>,
    /// Content to publish instead of the example, byte for byte.
    #[schema(value_type = Option<Object>)]
    raw: Option<Box<RawValue>>,
    occurred_at: Option<DateTime<Utc>>,
    deliver_at: Option<DateTime<Utc>>,
    validation: Option<Validation>,
}

impl Trigger {
    /// The events of one type.
    fn events(&self, vendor: Vendor, event_type: &str, known: Option<&EventType>) -> Result<Vec<NewEvent>, Problem> {
        let content = match &self.raw {
            Some(raw) => raw.clone(),
            None => {
                // Where any name goes there is no example of the vendor's own.
                let mut content =
                    known.map_or_else(|| json!({"message": "a test event"}), |known| known.example.clone());
                let set = self.set.iter().map(|(path, value)| set(&mut content, path, value.clone()));
                let mut problems: Vec<FieldProblem> =
                    set.collect::<Vec<_>>().into_iter().filter_map(Result::err).collect();
                problems.extend(self.remove.iter().filter_map(|path| remove(&mut content, path).err()));
                if !problems.is_empty() {
                    return Err(Problem::invalid(problems));
                }
                to_raw_value(&content).map_err(|error| Problem::malformed_json(error.to_string()))?
            }
        };
        let event = NewEvent {
            vendor,
            event_type: event_type.to_owned(),
            content,
            occurred_at: self.occurred_at,
            object_type: None,
            deliver_at: self.deliver_at,
            idempotency_key: None,
            validation: self.validation,
        };
        Ok(vec![event; self.count.unwrap_or(1)])
    }

    fn check(&self) -> Result<(), Problem> {
        let problem = |pointer, reason: String| Err(Problem::invalid(vec![FieldProblem::new(pointer, reason)]));
        check_times(self.occurred_at, self.deliver_at)?;
        if !(1..=LARGEST_BATCH).contains(&self.count.unwrap_or(1)) {
            return problem("/count", format!("must be from 1 to {LARGEST_BATCH}"));
        }
        if self.raw.is_some() && !(self.set.is_empty() && self.remove.is_empty()) {
            return problem("/raw", "stands for the whole content, so `set` and `remove` cannot go with it".to_owned());
        }
        if self.event_type.is_none() && (self.raw.is_some() || !self.set.is_empty() || !self.remove.is_empty()) {
            return problem("/event_type", "must be given with `set`, `remove` and `raw`".to_owned());
        }
        Ok(())
    }
}

/// Publish the example of an event type, with overrides.
#[utoipa::path(
    post, path = "/api/v1/trigger", tag = "events", request_body = Trigger,
    responses(
        (status = 202, description = "All are stored", body = BatchAnswer),
        (status = 207, description = "Some were refused", body = BatchAnswer),
        (status = 422, description = "Unknown vendor or event type, or an unusable field", body = Problem),
    )
)]
async fn trigger(
    State(api): State<Api>,
    Caller(account_id): Caller,
    JsonBody(trigger): JsonBody<Trigger>,
) -> Result<Response, Problem> {
    let vendor: Vendor = trigger.vendor.parse().map_err(|error| Problem::unknown_vendor(format!("{error}")))?;
    trigger.check()?;
    let catalogue = dialect(vendor).catalogue();
    let mut events = Vec::new();
    match (&trigger.event_type, catalogue) {
        (Some(event_type), catalogue) => {
            let known = catalogue.and_then(|catalogue| catalogue.get(event_type));
            events = trigger.events(vendor, event_type, known)?;
        }
        (None, Some(catalogue)) => {
            for known in &catalogue.event_types {
                events.extend(trigger.events(vendor, &known.name, Some(known))?);
            }
        }
        (None, None) => {
            let reason = format!("must be given: {vendor} has no event types of its own");
            return Err(Problem::invalid(vec![FieldProblem::new("/event_type", reason)]));
        }
    }
    if events.len() > LARGEST_BATCH {
        return Err(Problem::too_many_events(events.len(), LARGEST_BATCH));
    }
    let mut answers = api.publisher.publish(account_id, events).await;
    // One kind of event has one answer; only several kinds are worth telling apart.
    if trigger.event_type.is_some()
        && let Some(refused) = answers.iter().position(Result::is_err)
    {
        let Err(refused) = answers.swap_remove(refused) else { return Err(Problem::internal()) };
        return Err(refused.into());
    }
    Ok(answer_for_each(answers.into_iter().map(|answer| answer.map_err(Problem::from))))
}
