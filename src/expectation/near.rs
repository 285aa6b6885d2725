//! Near misses: how many were left at each step of looking, and in words where the rest went.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Bounds, Criteria, Expected, Got, Of, Seen, SeenDelivery, SeenEvent};
use crate::event::Vendor;
use crate::problem::quote;
use crate::subscriber::Subscriber;

/// The most of anything that a sentence lists.
const MOST_LISTED: usize = 3;

/// How many were left at each step of looking, and why that is not what was expected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct NearMisses {
    /// Events looked at: the newest, published at `since` or later.
    pub events: usize,
    /// Those of the vendor that is meant (and that event, if one is named).
    pub of_vendor: usize,
    /// Those of the type that is meant.
    pub of_type: usize,
    /// Those whose content is as it is meant.
    pub with_content: usize,
    /// The deliveries of these; null where events are meant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deliveries: Option<usize>,
    /// All that match: events, or deliveries to the subscriber and with the body that are meant.
    pub matched: usize,
    /// Those of them in the state that is expected.
    pub as_expected: usize,
    /// There are older events that were not looked at.
    pub is_cut: bool,
    /// The same in words.
    #[serde(skip)]
    pub detail: String,
}

/// A subscriber of the account's, as far as it says why it got nothing.
#[derive(Debug, Clone)]
pub struct Wanting {
    vendor: Vendor,
    enabled: bool,
    event_types: Vec<String>,
}

impl From<Subscriber> for Wanting {
    fn from(subscriber: Subscriber) -> Self {
        let Subscriber { vendor, enabled, event_types, .. } = subscriber;
        Self { vendor, enabled, event_types }
    }
}

impl NearMisses {
    /// Counts what is left at each step of looking, and says where the rest went.
    pub fn new(criteria: &Criteria, expected: &Expected, seen: &Seen, subscribers: &[Wanting]) -> Self {
        let looked_at: Vec<&SeenEvent> = seen.events.iter().collect();
        let is_of_vendor = |event: &&SeenEvent| criteria.vendor.is_none_or(|vendor| vendor == event.vendor);
        let of_vendor: Vec<&SeenEvent> = looked_at.iter().copied().filter(is_of_vendor).collect();
        let of_type: Vec<&SeenEvent> = of_vendor.iter().copied().filter(|event| criteria.fits_head(event)).collect();
        let with_content: Vec<&SeenEvent> = of_type.iter().copied().filter(|event| event.misses.is_empty()).collect();
        let is_of_deliveries = criteria.of == Of::Deliveries;
        let to_subscriber: Vec<&SeenDelivery> =
            seen.deliveries.iter().filter(|delivery| criteria.fits_subscriber(delivery)).collect();
        let matching: Vec<&SeenDelivery> =
            to_subscriber.iter().copied().filter(|delivery| delivery.misses.is_empty()).collect();
        let matched = if is_of_deliveries { matching.len() } else { with_content.len() };
        let as_expected = seen.count(criteria, expected);
        let none = if is_of_deliveries { "no delivery matched" } else { "no event matched" };
        let mut detail = if looked_at.is_empty() {
            nothing(criteria)
        } else if of_vendor.is_empty() {
            let vendor = criteria.vendor.map_or("", Vendor::as_str);
            let others = tally(looked_at.iter().map(|event| event.vendor.to_string()));
            format!("{}, none of {vendor}; there are of {others}", there_are(looked_at.len(), "event"))
        } else if of_type.is_empty() {
            none_of_type(criteria, &of_vendor)
        } else if with_content.is_empty() {
            let misses = tally_misses(of_type.iter().flat_map(|event| &event.misses), "them");
            format!("{none}: {}, but {misses}", of(criteria, of_type.len(), "event"))
        } else if !is_of_deliveries || matched > 0 {
            counted(criteria, expected, (matched, as_expected), &with_content, &matching)
        } else if seen.deliveries.is_empty() {
            format!("{none}: {}, but {}", was_published(with_content.len()), unwanted(&with_content, subscribers))
        } else if to_subscriber.is_empty() {
            let others = tally(seen.deliveries.iter().map(|delivery| delivery.subscriber_id.to_string()));
            let wanted = criteria.subscriber_id.map(|id| id.to_string()).unwrap_or_default();
            let there_are = there_are(seen.deliveries.len(), "delivery");
            format!("{none}: {there_are}, none to the subscriber {wanted}; they are to {others}")
        } else {
            let misses = tally_misses(to_subscriber.iter().flat_map(|delivery| &delivery.misses), "the bodies");
            format!("{none}: {}, but {misses}", of(criteria, to_subscriber.len(), "delivery"))
        };
        if seen.is_cut {
            detail.push_str(&format!("; only the newest {} events were looked at", grouped(seen.events.len())));
        }
        Self {
            events: looked_at.len(),
            of_vendor: of_vendor.len(),
            of_type: of_type.len(),
            with_content: with_content.len(),
            deliveries: is_of_deliveries.then_some(seen.deliveries.len()),
            matched,
            as_expected,
            is_cut: seen.is_cut,
            detail,
        }
    }
}

fn nothing(criteria: &Criteria) -> String {
    let what = match criteria.event_id {
        Some(id) => format!("there is no event {id} in this account"),
        None => "there are no events in this account".to_owned(),
    };
    match criteria.since {
        Some(since) => format!("{what} published at {} or later", crate::clock::format_time(since)),
        None => what,
    }
}

fn none_of_type(criteria: &Criteria, of_vendor: &[&SeenEvent]) -> String {
    let vendor = criteria.vendor.map(|vendor| format!(" of {vendor}")).unwrap_or_default();
    let wanted = criteria.event_type.as_deref().unwrap_or("*");
    let there = tally(of_vendor.iter().map(|event| event.event_type.clone()));
    let there_are = there_are(of_vendor.len(), "event");
    format!("{there_are}{vendor}, none of type {}; there are {there}", unquoted(wanted))
}

/// What matched, and why that is too few, too many or in another state.
fn counted(
    criteria: &Criteria,
    expected: &Expected,
    (matched, as_expected): (usize, usize),
    events: &[&SeenEvent],
    deliveries: &[&SeenDelivery],
) -> String {
    let (noun, ids): (&str, Vec<String>) = match criteria.of {
        Of::Events => ("event", events.iter().map(|event| event.id.to_string()).collect()),
        Of::Deliveries => {
            let are_met = deliveries.iter().filter(|delivery| expected.is_met_by(delivery));
            ("delivery", are_met.map(|delivery| delivery.id.to_string()).collect())
        }
    };
    let told = format!("{} matched", plural(matched, noun));
    let wanted = wanted(expected.count);
    if expected.count.max.is_some_and(|max| as_expected > max as usize) {
        let as_expected = match as_expected == matched {
            true => String::new(),
            false => format!(", {as_expected} of them in the state that was asked about"),
        };
        return format!("{told}{as_expected}, but {wanted}: {}", listed(ids.into_iter()));
    }
    let others = deliveries.iter().filter(|delivery| !expected.is_met_by(delivery));
    let others =
        tally_by(others.map(|delivery| standing(delivery, expected)), |what, count| format!("{count} is {what}"));
    match (others.is_empty(), expected.count.min) {
        (true, _) => format!("{told}, but {wanted}"),
        (false, 1) => format!("{told}, but {others}"),
        (false, _) => format!("{told}, but {others}; {wanted}"),
    }
}

fn wanted(Bounds { min, max }: Bounds) -> String {
    let were = |count: u32| if count == 1 { "was" } else { "were" };
    match max {
        Some(0) => "none was expected".to_owned(),
        Some(max) if max == min => format!("{min} {} expected", were(min)),
        Some(max) if min == 0 => format!("at most {max} {} expected", were(max)),
        Some(max) => format!("{min} to {max} were expected"),
        None => format!("at least {min} {} expected", were(min)),
    }
}

/// Where a delivery stands, such as `rescheduled (last answer 503)`.
fn standing(delivery: &SeenDelivery, expected: &Expected) -> String {
    let last = match delivery.last {
        None => "no attempt yet".to_owned(),
        Some(Got::Answer(status)) => format!("last answer {status}"),
        Some(Got::Nothing(error)) => format!("no answer: {error}"),
    };
    match expected.attempts {
        Some(_) if delivery.attempts > 0 => {
            format!("{} ({last}, {})", delivery.status, plural(delivery.attempts as usize, "attempt"))
        }
        _ => format!("{} ({last})", delivery.status),
    }
}

/// Why events made no delivery, as far as the subscribers tell it now.
fn unwanted(events: &[&SeenEvent], subscribers: &[Wanting]) -> String {
    let vendors: Vec<Vendor> = events.iter().map(|event| event.vendor).collect();
    let of_vendor: Vec<&Wanting> = subscribers.iter().filter(|one| vendors.contains(&one.vendor)).collect();
    let enabled: Vec<&&Wanting> = of_vendor.iter().filter(|one| one.enabled).collect();
    let wants = |one: &&&Wanting| {
        let wants = |event: &&SeenEvent| {
            one.vendor == event.vendor
                && one.event_types.iter().any(|pattern| crate::subscriber::matches(pattern, &event.event_type))
        };
        events.iter().any(wants)
    };
    let whose = |count: usize| match count {
        1 => "its only subscriber".to_owned(),
        count => format!("each of its {count} subscribers"),
    };
    if of_vendor.is_empty() {
        let names = tally_by(vendors.iter().map(ToString::to_string), |name, _| name.to_owned());
        format!("there is no subscriber of {names}")
    } else if enabled.is_empty() {
        format!("{} is disabled", whose(of_vendor.len()))
    } else if !enabled.iter().any(wants) {
        let types = tally_by(enabled.iter().flat_map(|one| one.event_types.clone()), |name, _| unquoted(name));
        format!("{} wants other types ({types})", whose(enabled.len()))
    } else {
        "no subscriber wanted it then (one that is added or enabled later gets nothing)".to_owned()
    }
}

fn was_published(count: usize) -> String {
    format!("{} {} published", plural(count, "event"), if count == 1 { "was" } else { "were" })
}

/// Such as `3 events of risk.opened`.
fn of(criteria: &Criteria, count: usize, noun: &str) -> String {
    let event_type = criteria.event_type.as_deref().map(|name| format!(" of {}", unquoted(name)));
    format!("{}{}", plural(count, noun), event_type.unwrap_or_default())
}

fn there_are(count: usize, noun: &str) -> String {
    format!("there {} {}", if count == 1 { "is" } else { "are" }, plural(count, noun))
}

fn plural(count: usize, noun: &str) -> String {
    match (count, noun) {
        (1, noun) => format!("1 {noun}"),
        (count, "delivery") => format!("{} deliveries", grouped(count)),
        (count, noun) => format!("{} {noun}s", grouped(count)),
    }
}

/// A number with commas.
fn grouped(count: usize) -> String {
    let digits = count.to_string();
    let from_end = |(index, digit): (usize, char)| {
        let comma = index > 0 && (digits.len() - index).is_multiple_of(3);
        comma.then_some(',').into_iter().chain([digit])
    };
    digits.chars().enumerate().flat_map(from_end).collect()
}

/// A name from outside, cut if it is long.
fn unquoted(name: &str) -> String {
    quote(name).trim_matches('`').to_owned()
}

/// The most frequent, each with its number: `scan.succeeded (3), risk.opened (2)`.
fn tally(items: impl Iterator<Item = String>) -> String {
    tally_by(items, |item, count| format!("{} ({})", unquoted(item), grouped(count)))
}

fn tally_misses<'m>(misses: impl Iterator<Item = &'m String>, of_what: &str) -> String {
    tally_by(misses.cloned(), |miss, count| format!("{miss} in {} of {of_what}", grouped(count)))
}

fn tally_by(items: impl Iterator<Item = String>, told: impl Fn(&str, usize) -> String) -> String {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    items.for_each(|item| *counts.entry(item).or_default() += 1);
    let mut counts: Vec<(String, usize)> = counts.into_iter().collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    listed(counts.into_iter().map(|(item, count)| told(&item, count)))
}

fn listed(items: impl ExactSizeIterator<Item = String>) -> String {
    let more = items.len().saturating_sub(MOST_LISTED);
    let mut shown: Vec<String> = items.take(MOST_LISTED).collect();
    if more > 0 {
        shown.push(format!("and {more} more"));
    }
    shown.join(", ")
}
