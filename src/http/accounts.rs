//! Accounts.

use axum::Json;
use axum::extract::State;
use chrono::{DateTime, Utc};
use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Api;
use super::error::Problem;
use super::extract::{Caller, JsonBody};
use crate::account::{Account, NewAccount};
use crate::clock::rfc3339;
use crate::id::AccountId;

pub(super) fn router() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(create))
}

#[derive(Debug, Serialize, ToSchema)]
struct CreatedAccount {
    #[schema(value_type = String)]
    id: AccountId,
    name: String,
    /// Shown this once: only its hash is stored.
    api_key: String,
    #[serde(serialize_with = "rfc3339::serialize")]
    created_at: DateTime<Utc>,
}

/// Make an account with an API key of its own.
#[utoipa::path(
    post, path = "/api/v1/accounts", tag = "accounts", request_body = NewAccount,
    responses(
        (status = 201, description = "The account and its key", body = CreatedAccount),
        (status = 403, description = "Only the default account makes accounts", body = Problem),
        (status = 409, description = "Another account has this key", body = Problem),
        (status = 422, description = "The name or the key is unusable", body = Problem),
    )
)]
async fn create(
    State(api): State<Api>,
    Caller(caller): Caller,
    JsonBody(new): JsonBody<NewAccount>,
) -> Result<(StatusCode, Json<CreatedAccount>), Problem> {
    if caller != AccountId::DEFAULT {
        return Err(Problem::forbidden("only the default account makes accounts"));
    }
    let problems = new.check();
    if !problems.is_empty() {
        return Err(Problem::invalid(problems));
    }
    let (account, key) = new.make(api.clock.now(), &api.chance);
    api.store.insert_account(&account, &key.hash()).await?;
    let Account { id, name, created_at, .. } = account;
    let created = CreatedAccount { id, name, api_key: key.reveal().to_owned(), created_at };
    Ok((StatusCode::CREATED, Json(created)))
}
