//! The catalogue: what each vendor sends.

use axum::Json;
use axum::extract::Path;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Api;
use super::error::Problem;
use super::extract::QueryOf;
use crate::event::Vendor;
use crate::subscriber::Vocabulary;
use crate::vendors::{EventType, Provenance, dialect};

pub(super) fn router() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(show))
}

/// An event type in the list.
#[derive(Debug, Serialize, ToSchema)]
struct EventTypeView {
    vendor: Vendor,
    event_type: &'static str,
    object_type: &'static str,
    /// The vendor's own label.
    subject: &'static str,
    description: &'static str,
    /// Which of HostedScan's vocabularies it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    vocabulary: Option<Vocabulary>,
    provenance: Provenance,
    /// Where the fact comes from.
    source: &'static str,
}

/// An event type with its schema and an example.
#[derive(Debug, Serialize, ToSchema)]
struct EventTypeDetail {
    #[serde(flatten)]
    event_type: EventTypeView,
    /// The JSON Schema (2020-12) of `content`.
    #[schema(value_type = Object)]
    schema: &'static Value,
    /// A realistic `content`.
    #[schema(value_type = Object)]
    example: &'static Value,
}

#[derive(Debug, Serialize, ToSchema)]
struct EventTypeList {
    data: Vec<EventTypeView>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// Only this vendor's.
    #[param(inline)]
    vendor: Option<Vendor>,
}

fn view(vendor: Vendor, event_type: &'static EventType) -> EventTypeView {
    EventTypeView {
        vendor,
        event_type: &event_type.name,
        object_type: &event_type.object_type,
        subject: &event_type.subject,
        description: &event_type.description,
        vocabulary: event_type.vocabulary,
        provenance: event_type.provenance,
        source: &event_type.source,
    }
}

/// List the event types, each vendor's in its own order.
///
/// `standard` has none: any name goes.
#[utoipa::path(
    get, path = "/api/v1/event-types", tag = "event types", params(ListQuery),
    responses(
        (status = 200, description = "All of them", body = EventTypeList),
        (status = 400, description = "No such vendor", body = Problem),
    )
)]
async fn list(QueryOf(query): QueryOf<ListQuery>) -> Json<EventTypeList> {
    let vendors = Vendor::ALL.into_iter().filter(|vendor| query.vendor.is_none_or(|wanted| wanted == *vendor));
    let of_vendor = |vendor: Vendor| {
        let known = dialect(vendor).catalogue().into_iter().flat_map(|catalogue| &catalogue.event_types);
        known.map(move |event_type| view(vendor, event_type))
    };
    Json(EventTypeList { data: vendors.flat_map(of_vendor).collect() })
}

/// Show an event type with its schema and an example.
#[utoipa::path(
    get, path = "/api/v1/event-types/{vendor}/{event_type}", tag = "event types",
    params(("vendor" = String, Path), ("event_type" = String, Path)),
    responses(
        (status = 200, description = "The event type", body = EventTypeDetail),
        (status = 404, description = "There is none", body = Problem),
    )
)]
async fn show(Path((vendor, event_type)): Path<(String, String)>) -> Result<Json<EventTypeDetail>, Problem> {
    let vendor: Vendor = vendor.parse().map_err(|error| Problem::not_found(format!("{error}")))?;
    let known = dialect(vendor).catalogue().and_then(|catalogue| catalogue.get(&event_type));
    let known = known.ok_or_else(|| {
        Problem::not_found(format!("{vendor} has no event type `{event_type}`; GET /api/v1/event-types lists them"))
    })?;
    Ok(Json(EventTypeDetail { event_type: view(vendor, known), schema: &known.schema, example: &known.example }))
}
