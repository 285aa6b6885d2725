//! Looking whether a subscriber's receiver can be reached.

use axum::Json;
use axum::extract::State;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Api;
use super::error::Problem;
use super::extract::{Caller, IdOf};
use crate::id::SubscriberId;
use crate::sender::Preflight;

pub(super) fn router() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(preflight))
}

/// Look whether a subscriber's receiver can be reached: DNS, TCP, TLS, HTTP.
///
/// Says in words what failed and what to do. The receiver gets a HEAD request, no webhook.
#[utoipa::path(
    post, path = "/api/v1/subscribers/{id}/preflight", tag = "subscribers", params(("id" = String, Path)),
    responses(
        (status = 200, description = "Each step up to the first that fails", body = Preflight),
        (status = 404, description = "There is no such subscriber", body = Problem),
    )
)]
async fn preflight(
    State(api): State<Api>,
    Caller(account_id): Caller,
    IdOf(id): IdOf<SubscriberId>,
) -> Result<Json<Preflight>, Problem> {
    let subscriber = api.store.subscriber(account_id, id).await?;
    let check_cert = subscriber.options.check_cert.unwrap_or(true);
    Ok(Json(api.sender.preflight(&subscriber.url, check_cert, &api.clock).await))
}
