//! Accounts: made, shown, reset, deleted.

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
use super::extract::{Caller, IdOf, JsonBody, QueryOf};
use super::page::{ListOf, Listing, PageQuery, check_limit};
use crate::account::{Account, Holdings, Keep, NewAccount};
use crate::clock::rfc3339;
use crate::id::AccountId;
use crate::store;

pub(super) fn router() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(own))
        .routes(routes!(remove))
        .routes(routes!(reset))
}

#[derive(Debug, Serialize, ToSchema)]
struct CreatedAccount {
    #[serde(flatten)]
    account: AccountView,
    /// Shown this once: only its hash is stored.
    api_key: String,
}

/// An account as the API shows it: without its key.
#[derive(Debug, Serialize, ToSchema)]
struct AccountView {
    #[schema(value_type = String)]
    id: AccountId,
    name: String,
    #[serde(serialize_with = "rfc3339::serialize")]
    created_at: DateTime<Utc>,
}

/// An account, and how much it holds.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct OwnAccount {
    #[serde(flatten)]
    account: AccountView,
    counts: Holdings,
}

/// How to reset an account.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Reset {
    /// What stays. Nothing if left out.
    #[serde(default)]
    keep: Vec<Keep>,
}

impl From<Account> for AccountView {
    fn from(account: Account) -> Self {
        let Account { id, name, created_at, .. } = account;
        Self { id, name, created_at }
    }
}

/// The caller's account as it is now.
pub(super) async fn own_account(api: &Api, account_id: AccountId) -> Result<Json<OwnAccount>, Problem> {
    let account = api.store.account(account_id).await?.into();
    Ok(Json(OwnAccount { account, counts: api.store.holdings(account_id).await? }))
}

/// What follows when all of an account was changed at once: nothing that was under way in it goes on.
pub(super) fn start_over(api: &Api, account_id: AccountId) {
    api.handover.void_leases(account_id);
    api.handover.wake();
    api.scanner.wake();
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
    let created = CreatedAccount { account: account.into(), api_key: key.reveal().to_owned() };
    Ok((StatusCode::CREATED, Json(created)))
}

/// List all accounts, oldest first.
#[utoipa::path(
    get, path = "/api/v1/accounts", tag = "accounts", params(PageQuery),
    responses(
        (status = 200, description = "A page of them", body = ListOf<AccountView>),
        (status = 403, description = "Only the default account lists accounts", body = Problem),
    )
)]
async fn list(
    State(api): State<Api>,
    Caller(caller): Caller,
    QueryOf(query): QueryOf<PageQuery>,
) -> Result<Json<ListOf<AccountView>>, Problem> {
    if caller != AccountId::DEFAULT {
        return Err(Problem::forbidden("only the default account lists accounts; GET /api/v1/account shows your own"));
    }
    let limit = check_limit(query.limit)?;
    let listing = Listing::new(&api, caller, "accounts", &());
    let after = listing.position(query.cursor.as_deref())?;
    let after = after.map(|id| id.parse::<AccountId>()).transpose().map_err(|_| Problem::invalid_cursor())?;
    let rows = api.store.accounts(after, limit + 1).await?;
    Ok(Json(listing.page(rows, limit, |row| row.id.to_string(), AccountView::from)))
}

/// Show the account that the API key opens.
#[utoipa::path(
    get, path = "/api/v1/account", tag = "accounts",
    responses((status = 200, description = "The account, and how much it holds", body = OwnAccount))
)]
async fn own(State(api): State<Api>, Caller(account_id): Caller) -> Result<Json<OwnAccount>, Problem> {
    own_account(&api, account_id).await
}

/// Delete an account and all it holds. Its API key opens nothing any more.
#[utoipa::path(
    delete, path = "/api/v1/accounts/{id}", tag = "accounts", params(("id" = String, Path)),
    responses(
        (status = 204, description = "It is gone"),
        (status = 403, description = "Only the default account deletes another", body = Problem),
        (status = 404, description = "There is none", body = Problem),
        (status = 409, description = "The default account stays", body = Problem),
    )
)]
async fn remove(
    State(api): State<Api>,
    Caller(caller): Caller,
    IdOf(id): IdOf<AccountId>,
) -> Result<StatusCode, Problem> {
    if caller != AccountId::DEFAULT && caller != id {
        return Err(Problem::forbidden("only the default account deletes another account"));
    }
    if id == AccountId::DEFAULT {
        let detail = "the default account cannot be deleted; POST /api/v1/reset empties it";
        return Err(Problem::conflict("default-account", "The default account stays", detail));
    }
    match api.store.delete_account(id).await {
        Err(store::Error::AccountGone) => return Err(Problem::not_found(format!("there is no account {id}"))),
        deleted => deleted?,
    }
    start_over(&api, id);
    Ok(StatusCode::NO_CONTENT)
}

/// Make the account as it was when it was made. Its API key, its clock and its snapshots stay.
#[utoipa::path(
    post, path = "/api/v1/reset", tag = "accounts", request_body = Reset,
    responses(
        (status = 200, description = "The account as it is now", body = OwnAccount),
        (status = 422, description = "What is to be kept cannot be", body = Problem),
    )
)]
async fn reset(
    State(api): State<Api>,
    Caller(account_id): Caller,
    JsonBody(Reset { keep }): JsonBody<Reset>,
) -> Result<Json<OwnAccount>, Problem> {
    api.store.reset_account(account_id, &keep).await?;
    start_over(&api, account_id);
    if account_id == AccountId::DEFAULT {
        api.scanner.sync_schedules().await?;
    }
    own_account(&api, account_id).await
}
