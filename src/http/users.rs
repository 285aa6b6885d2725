//! Users: who uses the vendor's product, as far as its events tell of them.

use axum::Json;
use axum::extract::State;
use chrono::{DateTime, Utc};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Api;
use super::error::Problem;
use super::extract::{Caller, IdOf, JsonBody};
use super::page::ListOf;
use crate::clock::rfc3339;
use crate::id::ObjectId;
use crate::scanner::Rules;
use crate::scanner::hand;
use crate::world::{Settings, User, World};

pub(super) fn router() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(list, add)).routes(routes!(remove)).routes(routes!(add_key))
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewUser {
    #[schema(example = "riley@example.com")]
    email: String,
    #[serde(default)]
    name: String,
}

#[derive(Debug, Serialize, ToSchema)]
struct UserView {
    #[schema(value_type = String)]
    id: ObjectId,
    email: String,
    name: String,
    admin: bool,
    #[serde(serialize_with = "rfc3339::serialize")]
    created_at: DateTime<Utc>,
}

impl From<&User> for UserView {
    fn from(user: &User) -> Self {
        let name = format!("{} {}", user.first_name, user.last_name).trim().to_owned();
        Self { id: user.id, email: user.email.clone(), name, admin: user.is_admin, created_at: user.created_at }
    }
}

/// List the users, oldest first.
#[utoipa::path(
    get, path = "/api/v1/users", tag = "users",
    responses((status = 200, description = "All of them", body = ListOf<UserView>))
)]
async fn list(State(api): State<Api>, Caller(account_id): Caller) -> Result<Json<ListOf<UserView>>, Problem> {
    let world = api.scanner.world(account_id).await?;
    let data = world.users().map(|user| UserView::from(&**user)).collect();
    Ok(Json(ListOf { data, next_cursor: None }))
}

/// Add a user.
#[utoipa::path(
    post, path = "/api/v1/users", tag = "users", request_body = NewUser,
    responses(
        (status = 201, description = "The user", body = UserView),
        (status = 409, description = "There is one of this e-mail address", body = Problem),
        (status = 422, description = "A field is unusable", body = Problem),
    )
)]
async fn add(
    State(api): State<Api>,
    Caller(account_id): Caller,
    JsonBody(new): JsonBody<NewUser>,
) -> Result<(StatusCode, Json<UserView>), Problem> {
    let add =
        |world: &mut World, rules: Rules<'_>| hand::add_user(world, &new.email, &new.name, Settings::new(), rules.now);
    let user = api.scanner.change(account_id, add).await?;
    Ok((StatusCode::CREATED, Json(UserView::from(&*user))))
}

/// Remove a user by e-mail address.
#[utoipa::path(
    delete, path = "/api/v1/users/{email}", tag = "users", params(("email" = String, Path)),
    responses(
        (status = 204, description = "The user is gone"),
        (status = 404, description = "There is none", body = Problem),
    )
)]
async fn remove(
    State(api): State<Api>,
    Caller(account_id): Caller,
    IdOf(email): IdOf<String>,
) -> Result<StatusCode, Problem> {
    api.scanner.change(account_id, |world, rules| hand::remove_user(world, &email, rules.now)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Have a user make an API key at the vendor.
#[utoipa::path(
    post, path = "/api/v1/users/{email}/keys", tag = "users", params(("email" = String, Path)),
    responses(
        (status = 204, description = "It is told"),
        (status = 404, description = "There is no such user", body = Problem),
    )
)]
async fn add_key(
    State(api): State<Api>,
    Caller(account_id): Caller,
    IdOf(email): IdOf<String>,
) -> Result<StatusCode, Problem> {
    api.scanner.change(account_id, |world, rules| hand::add_key(world, &email, rules.now)).await?;
    Ok(StatusCode::NO_CONTENT)
}
