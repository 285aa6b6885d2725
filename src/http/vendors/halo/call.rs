//! What every call has in common: its parameters, and the form of lists.

use axum::Json;
use serde_json::{Value, json};

use super::super::{Api, Params};
use super::Failure;
use super::filter::{NumberFilter, TextFilter, whole};
use crate::id::AccountId;
use crate::world::World;

/// How many rows a list has where the call does not say. (Documented.)
const USUAL_LIMIT: u64 = 100;
/// The most rows that a call may ask for. (Documented.)
const MOST_ROWS: u64 = 1_000;
/// What the vendor's calls can do and these cannot. To leave it unheeded would answer wrongly.
const UNSUPPORTED: [&str; 2] = ["asof", "target_filter"];

/// What a call answers.
pub(super) type Answer = Result<Json<Value>, Failure>;

/// A parameter that cannot be used: `{"code": 0, "message": "type not valid"}`. (Documented.)
pub(super) fn not_valid(name: &str) -> Failure {
    Failure::new(0, format!("{name} not valid"))
}

/// A parameter that must be there: `{"code": 0, "message": "event_id required"}`. (Documented.)
pub(super) fn required<'p>(params: &'p Params, name: &'p str) -> Result<&'p str, Failure> {
    params.get(name).ok_or_else(|| Failure::new(0, format!("{name} required")))
}

/// A number that must be there.
pub(super) fn required_number(params: &Params, name: &str) -> Result<u64, Failure> {
    whole(required(params, name)?).ok_or_else(|| not_valid(name))
}

/// What a filter of texts says; none where it is not given.
pub(super) fn text_filter(params: &Params, name: &str) -> Result<Option<TextFilter>, Failure> {
    params.get(name).map(|text| TextFilter::parse(text).ok_or_else(|| not_valid(name))).transpose()
}

/// What a filter of numbers says; none where it is not given.
pub(super) fn number_filter(params: &Params, name: &str) -> Result<Option<NumberFilter>, Failure> {
    params.get(name).map(|text| NumberFilter::parse(text).ok_or_else(|| not_valid(name))).transpose()
}

/// Whether a text passes a filter that may not be there.
pub(super) fn is_text_wanted(filter: Option<&TextFilter>, text: &str) -> bool {
    filter.is_none_or(|filter| filter.matches(text))
}

/// Whether a number passes a filter that may not be there.
pub(super) fn is_number_wanted(filter: Option<&NumberFilter>, number: u64) -> bool {
    filter.is_none_or(|filter| filter.matches(number))
}

/// The account's world as it is now.
pub(super) async fn world(api: &Api, account_id: AccountId) -> Result<World, Failure> {
    Ok(api.scanner.world(account_id).await?)
}

/// Which rows of a list are wanted, and in which order.
#[derive(Debug)]
pub(super) struct Page {
    start: u64,
    limit: u64,
    /// The order; what it means is each call's own.
    pub(super) sort: u64,
    is_descending: bool,
}

impl Page {
    /// Reads `start`, `limit`, `sort` and `sort_desc`. The call knows the orders from 0 to `last_sort`.
    /// (That others are refused is assumed.)
    pub(super) fn read(params: &Params, last_sort: u64) -> Result<Self, Failure> {
        if let Some(name) = UNSUPPORTED.into_iter().find(|name| params.get(name).is_some()) {
            return Err(Failure::new(0, format!("{name} not supported")));
        }
        let number = |name: &str, usual: u64, allowed: std::ops::RangeInclusive<u64>| {
            let given = params.get(name).map_or(Some(usual), whole);
            given.filter(|number| allowed.contains(number)).ok_or_else(|| not_valid(name))
        };
        Ok(Self {
            start: number("start", 0, 0..=u64::MAX)?,
            limit: number("limit", USUAL_LIMIT, 1..=MOST_ROWS)?,
            sort: number("sort", 0, 0..=last_sort)?,
            is_descending: number("sort_desc", 0, 0..=1)? == 1,
        })
    }

    /// The list: `request`, `pagination`, `list`. (Documented.) Of the request it repeats `sort`, and
    /// `start` if it is not 0, and adds how many targets there are. The rows come in ascending order.
    pub(super) fn answer<T>(&self, target_count: usize, mut rows: Vec<T>, show: impl Fn(&T) -> Value) -> Json<Value> {
        if self.is_descending {
            rows.reverse();
        }
        let [start, limit] = [self.start, self.limit].map(|number| usize::try_from(number).unwrap_or(usize::MAX));
        let list: Vec<Value> = rows.iter().skip(start).take(limit).map(show).collect();
        let mut request = json!({"sort": self.sort});
        if self.start > 0 {
            request["start"] = json!(self.start);
        }
        request["target_count"] = json!(target_count);
        let pagination = json!({"total": rows.len(), "start": self.start, "limit": self.limit});
        Json(json!({"request": request, "pagination": pagination, "list": list}))
    }
}
