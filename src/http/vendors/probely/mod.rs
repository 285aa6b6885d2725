//! Probely's API.

use axum::Router;

use super::Api;

pub(super) fn router(api: Api) -> Router {
    Router::new().with_state(api)
}
