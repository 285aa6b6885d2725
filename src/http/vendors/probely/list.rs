//! Pages of lists, their order and their filters.

use std::cmp::Reverse;

use axum::Json;
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use http::StatusCode;
use serde::Serialize;

use super::call::Failure;
use crate::http::vendors::Params;

/// The length of a page, unless the caller says otherwise. (Documented.)
const LENGTH: u32 = 10;
/// The longest page. Clients were seen to ask for so much.
const LONGEST: u32 = 10_000;

/// Which page of a list a caller wants.
#[derive(Debug, Clone, Copy)]
pub(super) struct Page {
    page: u32,
    pub(super) length: u32,
}

/// A page as it goes out, in the order of the real service.
#[derive(Debug, Serialize)]
struct Shown<T> {
    count: u64,
    page_total: u64,
    page: u32,
    length: u32,
    results: Vec<T>,
}

impl Page {
    /// Reads `page` and `length`. (What there is no page for is assumed to be as in the framework.)
    pub(super) fn read(params: &Params) -> Result<Self, Failure> {
        let page = match params.get("page") {
            None => 1,
            Some(text) => text.parse().ok().filter(|page| *page > 0).ok_or_else(invalid_page)?,
        };
        let length = params.get("length").and_then(|text| text.parse().ok()).filter(|length| *length > 0);
        Ok(Self { page, length: length.unwrap_or(LENGTH).min(LONGEST) })
    }

    /// How many come before the page.
    pub(super) fn offset(self) -> u32 {
        (self.page - 1).saturating_mul(self.length)
    }

    /// A page of `count` objects of which these are the page's.
    pub(super) fn show<T: Serialize>(self, count: u64, results: Vec<T>) -> Result<Response, Failure> {
        // Of nothing there is one page, which is empty. (Seen.)
        let page_total = count.div_ceil(self.length.into()).max(1);
        if u64::from(self.page) > page_total {
            return Err(invalid_page());
        }
        let Self { page, length } = self;
        Ok(Json(Shown { count, page_total, page, length, results }).into_response())
    }

    /// Cuts the page out of all objects and shows it.
    pub(super) fn of<T, V: Serialize>(
        self,
        all: Vec<T>,
        show: impl FnMut(&T) -> Option<V>,
    ) -> Result<Response, Failure> {
        let own = all.iter().skip(self.offset() as usize).take(self.length as usize);
        let results = own.filter_map(show).collect();
        self.show(all.len() as u64, results)
    }
}

fn invalid_page() -> Failure {
    Failure::Detail(StatusCode::NOT_FOUND, "Invalid page.".to_owned())
}

/// What lists are ordered by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    Nothing,
    Number(i64),
    Text(String),
}

impl From<DateTime<Utc>> for Key {
    fn from(time: DateTime<Utc>) -> Self {
        Self::Number(time.timestamp_micros())
    }
}

impl From<Option<DateTime<Utc>>> for Key {
    fn from(time: Option<DateTime<Utc>>) -> Self {
        time.map_or(Self::Nothing, Self::from)
    }
}

/// Orders a list as the caller says: by a field, backwards after a `-`. `key` gives an object's place
/// by a field, or none if lists are not ordered by it; then `default` stands.
pub(super) fn order<T>(all: &mut [T], params: &Params, default: &str, key: impl Fn(&T, &str) -> Option<Key>) {
    let wanted = params.get("ordering").unwrap_or(default);
    let is_known = |field: &str| all.first().is_none_or(|one| key(one, field.trim_start_matches('-')).is_some());
    let field = if is_known(wanted) { wanted } else { default };
    let place = |one: &T| key(one, field.trim_start_matches('-')).unwrap_or(Key::Nothing);
    match field.starts_with('-') {
        true => all.sort_by_cached_key(|one| Reverse(place(one))),
        false => all.sort_by_cached_key(place),
    }
}

/// Whether a value is among those of a parameter, if it is given.
pub(super) fn is_among(params: &Params, name: &str, value: &str) -> bool {
    let mut wanted = params.all(name).peekable();
    wanted.peek().is_none() || wanted.any(|one| one == value)
}

/// A parameter that is true or false, as Python or as JavaScript writes it.
pub(super) fn flag(params: &Params, name: &str) -> Option<bool> {
    match params.get(name)?.to_ascii_lowercase().as_str() {
        "true" | "1" => Some(true),
        "false" | "0" => Some(false),
        _ => None,
    }
}

/// A parameter that is a time.
pub(super) fn time(params: &Params, name: &str) -> Result<Option<DateTime<Utc>>, Failure> {
    let Some(text) = params.get(name) else { return Ok(None) };
    // A plus that was not written as %2B has become a space; and a space may stand for the T.
    let written = [text.to_owned(), text.replace(' ', "+"), text.replacen(' ', "T", 1)];
    let parse = |text: &String| {
        let parsed = DateTime::parse_from_rfc3339(text).map(|time| time.to_utc());
        parsed.or_else(|_| format!("{text}Z").parse()).or_else(|_| format!("{text}T00:00:00Z").parse()).ok()
    };
    let found = written.iter().find_map(parse);
    found.map(Some).ok_or_else(|| Failure::field(name, "Enter a valid date/time."))
}

/// Whether a text has the caller's search in it.
pub(super) fn is_found(params: &Params, texts: &[&str]) -> bool {
    let Some(search) = params.get("search").map(str::to_lowercase) else { return true };
    texts.iter().any(|text| text.to_lowercase().contains(&search))
}

/// Checks the ids that a list is narrowed to: with `is_id_404_validation`, those that name nothing
/// are told.
pub(super) fn check_ids(params: &Params, is_known: impl Fn(&str) -> bool) -> Result<(), Failure> {
    if flag(params, "is_id_404_validation") != Some(true) {
        return Ok(());
    }
    let missing: Vec<String> = params.all("id").filter(|id| !is_known(id)).map(str::to_owned).collect();
    if missing.is_empty() { Ok(()) } else { Err(Failure::MissingIds(missing)) }
}
