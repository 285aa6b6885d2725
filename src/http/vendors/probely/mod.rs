//! Probely's API. One file a resource; `call` is what all of them take and answer.
//!
//! Documented: the paths, the pages, the errors, the status codes. Inferred from the service's
//! framework: the texts of errors, and what is refused how. Every path works with and without its
//! trailing slash.

use axum::Router;
use axum::extract::Request;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http::{HeaderName, HeaderValue, Method};

use super::Api;

mod call;
mod events;
mod fields;
mod findings;
mod labels;
mod list;
mod scans;
mod schedules;
mod targets;
mod things;
mod users;
mod webhooks;

use call::Failure;

pub(super) fn router(api: Api) -> Router {
    Router::new()
        .merge(account_wide())
        .merge(of_targets())
        .method_not_allowed_fallback(async |method: Method| Failure::method(&method))
        .fallback(async || Failure::not_found())
        .layer(middleware::from_fn(dressed))
        .with_state(api)
}

fn account_wide() -> Router<Api> {
    Router::new()
        .route("/events", get(events::list))
        .route("/events/{id}", get(events::show))
        .route("/webhooks", get(webhooks::list).post(webhooks::create))
        .route("/webhooks/{id}", webhooks::one())
        .route("/scans", get(scans::list))
        .route("/scans/bulk/{action}", post(scans::bulk))
        .route("/scans/{id}", get(scans::show))
        .route("/findings", get(findings::list))
        .route("/findings/bulk/update", post(findings::bulk_update))
        .route("/findings/bulk/retest", post(findings::bulk_retest))
        .route("/findings/{id}", get(findings::show).patch(findings::change).put(findings::change))
        .route("/users", get(users::list).post(users::create))
        .route("/users/{id}", get(users::show).patch(users::change).put(users::change).delete(users::remove))
        .route("/profile", get(users::profile).patch(users::change_profile))
        .route("/account", get(users::account))
        .route("/roles", get(users::roles))
        .route("/labels", labels::many())
        .route("/labels/{collection}", labels::many_of())
        .route("/labels/{collection}/{id}", labels::one())
        .route("/teams", get(things::teams).post(things::create_team))
        .route("/teams/{id}", things::one_team())
        .route("/scan-profiles", get(things::profiles))
        .route("/scan-profiles/{id}", get(things::profile))
        .route("/scanning-agents", get(things::nothing))
        .route("/integrations", get(things::nothing))
        .route("/scheduledscans", get(schedules::list_all))
        .route(
            "/scheduledscans/bulk",
            post(schedules::bulk_create).patch(schedules::bulk_change).delete(schedules::bulk_remove),
        )
        .route("/cli/analytics/event", post(things::accepted))
}

fn of_targets() -> Router<Api> {
    Router::new()
        .route("/targets", get(targets::list).post(targets::create))
        .route("/targets/bulk/update", post(targets::bulk_update))
        .route("/targets/bulk/delete", post(targets::bulk_remove))
        .route("/targets/sequences", get(things::all_sequences))
        .route("/targets/assets", get(things::all_assets))
        .route(
            "/targets/{target}",
            get(targets::show).patch(targets::change).put(targets::change).delete(targets::remove),
        )
        .route("/targets/{target}/verify", post(targets::verify))
        .route("/targets/{target}/upload_api_schema_file", post(targets::upload_schema))
        .route("/targets/{target}/scan_now", post(scans::scan_now))
        .route("/targets/{target}/scans", get(scans::list_of_target))
        .route("/targets/{target}/scans/{id}", get(scans::show_of_target))
        .route("/targets/{target}/scans/{id}/{action}", post(scans::act))
        .route("/targets/{target}/findings", get(findings::list_of_target))
        .route("/targets/{target}/findings/bulk-update", post(findings::bulk_update_of_target))
        .route(
            "/targets/{target}/findings/{id}",
            get(findings::show_of_target).patch(findings::change_of_target).put(findings::change_of_target),
        )
        .route("/targets/{target}/findings/{id}/retest", post(findings::retest))
        .route("/targets/{target}/events", get(events::list_of_target))
        .route("/targets/{target}/events/{id}", get(events::show_of_target))
        .route("/targets/{target}/webhooks", get(webhooks::list_of_target).post(webhooks::create_of_target))
        .route("/targets/{target}/webhooks/{id}", webhooks::one_of_target())
        .route("/targets/{target}/sequences", get(things::sequences).post(things::create_sequence))
        .route("/targets/{target}/sequences/{id}", things::one_sequence())
        .route("/targets/{target}/assets", get(things::assets).post(things::create_asset))
        .route("/targets/{target}/assets/{id}", things::one_asset())
        .route("/targets/{target}/scheduledscans", get(schedules::list).post(schedules::create))
        .route("/targets/{target}/scheduledscans/{id}", schedules::one())
}

/// Adds the headers that every answer of the real service was seen with.
async fn dressed(request: Request, next: Next) -> Response {
    const HEADERS: [(&str, &str); 4] = [
        ("vary", "Accept-Encoding, Origin"),
        ("x-frame-options", "DENY"),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "same-origin"),
    ];
    let mut response = next.run(request).await.into_response();
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    response
}
