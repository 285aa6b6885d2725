//! The description of the API (OpenAPI 3.1), made from the handlers. What every operation has in
//! common is added here, so that no handler says it again.

use std::sync::LazyLock;

use axum::body::Bytes;
use axum::response::IntoResponse;
use http::header;
use utoipa::OpenApi;
use utoipa::openapi::path::{Operation, Parameter, ParameterIn, PathItem};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{Content, Ref, RefOr, Response, ResponseBuilder};

use super::routes;

#[derive(OpenApi)]
#[openapi(
    info(title = "scanhook", description = "Plays a security-scanning vendor: events in, signed webhooks out."),
    tags(
        (name = "events", description = "What the vendor says has happened"),
        (name = "event types", description = "What each vendor sends: schema, example, provenance"),
        (name = "signatures", description = "Why a signature does or does not verify"),
        (name = "deliveries", description = "One event owed to one subscriber, over all its attempts"),
        (name = "waiting", description = "Knowing when all is done, or has come about"),
        (name = "subscribers", description = "Registered URLs that want events"),
        (name = "targets", description = "What there is to scan, and its weaknesses"),
        (name = "scans", description = "A scanner's look at a target"),
        (name = "schedules", description = "Scans that start by the clock"),
        (name = "scenarios", description = "Stories told as timed steps"),
        (name = "users", description = "Who uses the vendor's product"),
        (name = "accounts", description = "Isolated tenants"),
        (name = "snapshots", description = "What an account held at one time, to go back to"),
        (name = "init", description = "What init files have made"),
        (name = "health", description = "Whether scanhook lives, and whether it can serve"),
    )
)]
struct Description;

/// The description without operations.
pub(super) fn empty() -> utoipa::openapi::OpenApi {
    Description::openapi()
}

/// Where the description is.
pub(super) const PATH: &str = "/api/openapi.json";

/// Shows the description. It is made when it is first asked for: most programs never do.
pub(super) async fn show() -> impl IntoResponse {
    static TEXT: LazyLock<Bytes> =
        LazyLock::new(|| serde_json::to_vec(&openapi()).expect("a description serialises").into());
    ([(header::CONTENT_TYPE, "application/json")], TEXT.clone())
}

/// The whole description.
pub fn openapi() -> utoipa::openapi::OpenApi {
    let mut description = routes().into_openapi();
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some("An account's API key. In open mode no key means the default account."))
        .build();
    let components = description.components.get_or_insert_default();
    components.add_security_scheme("api_key", SecurityScheme::Http(bearer));
    // The empty requirement says that a key is not always needed.
    let keys = SecurityRequirement::new::<_, [&str; 0], &str>("api_key", []);
    description.security = Some(vec![SecurityRequirement::default(), keys]);
    for item in description.paths.paths.values_mut() {
        let PathItem { get, put, post, delete, patch, .. } = item;
        [get, put, post, delete, patch].into_iter().flatten().for_each(complete);
    }
    description
}

/// Adds the problems that an operation can answer with whatever it does, and says that problems are
/// `application/problem+json`.
fn complete(operation: &mut Operation) {
    let is_at =
        |one: &RefOr<Parameter>, place: &ParameterIn| matches!(one, RefOr::T(one) if one.parameter_in == *place);
    let has = |place: ParameterIn| operation.parameters.iter().flatten().any(|one| is_at(one, &place));
    let mut more = Vec::new();
    // What says by itself who may call it needs no key and no database.
    if operation.security.is_none() {
        more.push(("401", "The API key is missing or unknown"));
        more.push(("503", "The database does not answer"));
    }
    if operation.request_body.is_some() {
        more.push(("400", "The body is not JSON"));
        more.push(("413", "The body is too large"));
        more.push(("415", "The body is not declared as JSON"));
        more.push(("422", "A field is unusable"));
    }
    if has(ParameterIn::Query) {
        more.push(("400", "A parameter is unusable"));
    }
    if has(ParameterIn::Path) {
        more.push(("404", "There is no such thing"));
    }
    for (status, text) in more {
        let responses = &mut operation.responses.responses;
        responses.entry(status.to_owned()).or_insert_with(|| RefOr::T(problem(text)));
    }
    for response in operation.responses.responses.values_mut() {
        let RefOr::T(response) = response else { continue };
        let is_problem = |content: &RefOr<Content>| matches!(content, RefOr::T(Content { schema: Some(RefOr::Ref(to)), .. }) if to.ref_location.ends_with("/Problem"));
        if response.content.values().any(is_problem) {
            let content = std::mem::take(&mut response.content);
            response.content =
                content.into_values().map(|content| ("application/problem+json".to_owned(), content)).collect();
        }
    }
}

fn problem(text: &str) -> Response {
    let schema = Ref::from_schema_name("Problem");
    ResponseBuilder::new().description(text).content("application/problem+json", Content::new(Some(schema))).build()
}
