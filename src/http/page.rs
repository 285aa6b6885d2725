//! Pages of lists, by cursor. A cursor is a position and a mark that binds it to this
//! installation, account, list and filter, so that one that was tampered with is refused.

use std::sync::Arc;

use axum::Json;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::Api;
use super::error::Problem;
use crate::id::{AccountId, ObjectId};
use crate::world::{Kind, Object};

const DEFAULT_LIMIT: u32 = 50;
const LARGEST_LIMIT: u32 = 250;
const MARK_BYTES: usize = 12;

/// A page of a list.
#[derive(Debug, serde::Serialize, utoipa::ToSchema)]
pub(super) struct ListOf<T> {
    pub(super) data: Vec<T>,
    /// Give it as `cursor` for the next page; null on the last one.
    pub(super) next_cursor: Option<String>,
}

/// One list as a caller sees it: what its cursors are bound to.
#[derive(Debug)]
pub(super) struct Listing {
    key: String,
    bound_to: String,
}

impl Listing {
    /// The list called `name`, in an account, under a filter.
    pub(super) fn new(api: &Api, account_id: AccountId, name: &str, filter: &impl std::fmt::Debug) -> Self {
        Self { key: api.cursor_key.clone(), bound_to: format!("{account_id}\0{name}\0{filter:?}") }
    }

    fn mark(&self, position: &str) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.key.as_bytes()).expect("HMAC takes a key of any length");
        mac.update(self.bound_to.as_bytes());
        mac.update(b"\0");
        mac.update(position.as_bytes());
        mac
    }

    /// Reads a cursor back into the position it stands for.
    pub(super) fn position(&self, cursor: Option<&str>) -> Result<Option<String>, Problem> {
        let Some(cursor) = cursor else { return Ok(None) };
        let bytes = BASE64.decode(cursor).map_err(|_| Problem::invalid_cursor())?;
        let (mark, position) = bytes.split_at_checked(MARK_BYTES).ok_or_else(Problem::invalid_cursor)?;
        let position = std::str::from_utf8(position).map_err(|_| Problem::invalid_cursor())?;
        self.mark(position).verify_truncated_left(mark).map_err(|_| Problem::invalid_cursor())?;
        Ok(Some(position.to_owned()))
    }

    /// Reads a cursor back into a position that is an object's id.
    pub(super) fn object_position(&self, cursor: Option<&str>) -> Result<Option<ObjectId>, Problem> {
        let position = self.position(cursor)?;
        position.map(|id| id.parse()).transpose().map_err(|_| Problem::invalid_cursor())
    }

    /// Cuts what was read, one row more than wanted, into a page and the cursor of the next.
    pub(super) fn page<R, T>(
        &self,
        mut rows: Vec<R>,
        limit: u32,
        id: impl Fn(&R) -> String,
        show: impl Fn(R) -> T,
    ) -> ListOf<T> {
        let has_more = rows.len() > limit as usize;
        rows.truncate(limit as usize);
        let next_cursor = rows.last().filter(|_| has_more).map(|last| {
            let position = id(last);
            let mut bytes = self.mark(&position).finalize().into_bytes()[..MARK_BYTES].to_vec();
            bytes.extend_from_slice(position.as_bytes());
            BASE64.encode(bytes)
        });
        ListOf { data: rows.into_iter().map(show).collect(), next_cursor }
    }
}

/// Which page of a list that has no filters.
#[derive(Debug, serde::Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct PageQuery {
    /// From the page before.
    pub(super) cursor: Option<String>,
    /// 1 to 250; 50 if left out.
    pub(super) limit: Option<u32>,
}

/// Objects of a world to list.
#[derive(Debug)]
pub(super) struct Objects<'l> {
    /// The list's name, and what it is filtered by.
    pub(super) name: (&'l str, String),
    pub(super) kind: Kind,
    /// Only those of this target.
    pub(super) target_id: Option<ObjectId>,
}

/// A page of a world's objects, newest first.
pub(super) async fn page_of_objects<T, V>(
    api: &Api,
    account_id: AccountId,
    objects: Objects<'_>,
    page: &PageQuery,
    show: impl Fn(&T) -> V,
) -> Result<Json<ListOf<V>>, Problem>
where
    Arc<T>: TryFrom<Object>,
{
    let limit = check_limit(page.limit)?;
    let Objects { name: (name, filter), kind, target_id } = objects;
    let listing = Listing::new(api, account_id, name, &filter);
    let before = listing.object_position(page.cursor.as_deref())?;
    let rows = api.store.world_objects(account_id, kind, target_id, before, limit + 1).await?;
    let show = |object: Object| Arc::try_from(object).map(|object| show(&object)).map_err(|_| Problem::internal());
    let ListOf { data, next_cursor } = listing.page(rows, limit, |row| row.id().to_string(), show);
    Ok(Json(ListOf { data: data.into_iter().collect::<Result<_, _>>()?, next_cursor }))
}

/// One object of a world.
pub(super) async fn one_object<T>(api: &Api, account_id: AccountId, kind: Kind, id: ObjectId) -> Result<Arc<T>, Problem>
where
    Arc<T>: TryFrom<Object>,
{
    let object = api.store.world_object(account_id, kind, id).await?;
    Arc::try_from(object).map_err(|_| Problem::internal())
}

/// Checks how many rows a page may have.
pub(super) fn check_limit(limit: Option<u32>) -> Result<u32, Problem> {
    match limit.unwrap_or(DEFAULT_LIMIT) {
        limit @ 1..=LARGEST_LIMIT => Ok(limit),
        limit => Err(Problem::invalid_parameter(format!("limit is {limit}; it must be from 1 to {LARGEST_LIMIT}"))),
    }
}

/// Checks a text filter, so that no byte reaches the database that it cannot take.
pub(super) fn check_filter(name: &str, text: Option<&str>) -> Result<(), Problem> {
    let Some(text) = text else { return Ok(()) };
    crate::problem::check_text(name, text, 256)
        .map_err(|problem| Problem::invalid_parameter(format!("{name} {}", problem.reason)))
}
