//! Pages of lists, by cursor. A cursor is a position and a mark that binds it to this
//! installation, account, list and filter, so that one that was tampered with is refused.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::Api;
use super::error::Problem;
use crate::id::AccountId;

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
