//! What a test expects of an account: which events or deliveries, how many, and in what state. Pure:
//! what there is comes in as an argument, and each answer depends on nothing else.

use chrono::{DateTime, Utc};

use crate::delivery::{AttemptError, Status};
use crate::event::Vendor;
use crate::id::{DeliveryId, EventId, SubscriberId};
use crate::subscriber::matches;

mod condition;
mod near;
#[cfg(test)]
mod near_tests;

pub use condition::{Condition, MOST_CONDITIONS};
pub use near::{NearMisses, Wanting};

/// What is counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Of {
    #[default]
    Deliveries,
    Events,
}

/// Which events or deliveries are meant. Each part that is given must hold.
#[derive(Debug, Clone, Default)]
pub struct Criteria {
    pub of: Of,
    pub vendor: Option<Vendor>,
    /// An exact name, or a beginning and `*`.
    pub event_type: Option<String>,
    pub subscriber_id: Option<SubscriberId>,
    pub event_id: Option<EventId>,
    /// Of the event's content.
    pub content: Vec<Condition>,
    /// Of the webhook's body, if it is JSON.
    pub body: Vec<Condition>,
    /// Published at this time or later.
    pub since: Option<DateTime<Utc>>,
}

/// How many: both ends are included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    pub min: u32,
    pub max: Option<u32>,
}

/// What is expected of those that match.
#[derive(Debug, Clone)]
pub struct Expected {
    /// How many of them are in the state that the other fields name.
    pub count: Bounds,
    pub status: Option<Status>,
    /// How many attempts have been made.
    pub attempts: Option<Bounds>,
    /// The HTTP status that the last attempt was answered with.
    pub answer: Option<u16>,
}

/// What an attempt got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Got {
    /// An answer of this HTTP status.
    Answer(u16),
    Nothing(AttemptError),
}

/// An event, as far as it matters here.
#[derive(Debug, Clone)]
pub struct SeenEvent {
    pub id: EventId,
    pub vendor: Vendor,
    pub event_type: String,
    pub created_at: DateTime<Utc>,
    /// What its content lacks, in words; none if it was not looked into.
    pub misses: Vec<String>,
}

/// A delivery of an event that matches, as far as it matters here.
#[derive(Debug, Clone)]
pub struct SeenDelivery {
    pub id: DeliveryId,
    pub event_id: EventId,
    pub event_type: String,
    pub subscriber_id: SubscriberId,
    pub status: Status,
    /// How many have been made.
    pub attempts: u32,
    /// What the last attempt got; none if there was none.
    pub last: Option<Got>,
    /// What its body lacks, in words; none if it was not looked into.
    pub misses: Vec<String>,
}

/// What there is, newest first.
#[derive(Debug, Default)]
pub struct Seen {
    pub events: Vec<SeenEvent>,
    /// Of the events that match.
    pub deliveries: Vec<SeenDelivery>,
    /// There are older events that were not looked at.
    pub is_cut: bool,
}

/// Whether an expectation holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ruling {
    Holds,
    Fails,
    /// It may still change; at the end of the time it holds or not as this says.
    Open {
        holds_at_the_end: bool,
    },
}

impl Criteria {
    /// Whether an event is one of those meant, its content aside.
    pub fn fits_head(&self, event: &SeenEvent) -> bool {
        self.event_id.is_none_or(|id| id == event.id)
            && self.since.is_none_or(|since| event.created_at >= since)
            && self.vendor.is_none_or(|vendor| vendor == event.vendor)
            && self.fits_type(&event.event_type)
    }

    fn fits_type(&self, event_type: &str) -> bool {
        self.event_type.as_deref().is_none_or(|pattern| matches(pattern, event_type))
    }

    /// Whether an event is one of those meant.
    pub fn fits_event(&self, event: &SeenEvent) -> bool {
        self.fits_head(event) && event.misses.is_empty()
    }

    /// Whether a delivery of a fitting event is to one of those meant, its body aside.
    pub fn fits_subscriber(&self, delivery: &SeenDelivery) -> bool {
        self.subscriber_id.is_none_or(|id| id == delivery.subscriber_id)
    }

    /// Whether a delivery of a fitting event is one of those meant.
    pub fn fits_delivery(&self, delivery: &SeenDelivery) -> bool {
        self.fits_subscriber(delivery) && delivery.misses.is_empty()
    }
}

impl Bounds {
    /// Whether a number is within.
    pub fn contain(&self, count: usize) -> bool {
        count >= self.min as usize && !self.are_exceeded_by(count)
    }

    fn are_exceeded_by(&self, count: usize) -> bool {
        self.max.is_some_and(|max| count > max as usize)
    }
}

impl Expected {
    /// Whether a delivery is in the state that is expected.
    pub fn is_met_by(&self, delivery: &SeenDelivery) -> bool {
        self.status.is_none_or(|status| status == delivery.status)
            && self.attempts.is_none_or(|attempts| attempts.contain(delivery.attempts as usize))
            && self.answer.is_none_or(|status| delivery.last == Some(Got::Answer(status)))
    }

    /// Whether it says anything of the state, which changes, and not only of the number.
    pub fn is_of_state(&self) -> bool {
        self.status.is_some() || self.attempts.is_some() || self.answer.is_some()
    }

    /// Rules on how many match and are in the state that is expected.
    ///
    /// Where none would do, it fails with the first too many, and holds only at the end. Otherwise it
    /// holds as soon as there are enough; what has once been published stays, so too many fail at
    /// once, unless a state is expected that they may leave again.
    pub fn rule(&self, count: usize) -> Ruling {
        let is_negative = self.count.min == 0;
        if self.count.contain(count) {
            if is_negative { Ruling::Open { holds_at_the_end: true } } else { Ruling::Holds }
        } else if self.count.are_exceeded_by(count) && (is_negative || !self.is_of_state()) {
            Ruling::Fails
        } else {
            Ruling::Open { holds_at_the_end: false }
        }
    }
}

impl Seen {
    /// The events that match.
    pub fn matching_events(&self, criteria: &Criteria) -> Vec<&SeenEvent> {
        self.events.iter().filter(|event| criteria.fits_event(event)).collect()
    }

    /// The deliveries that match and are in the state that is expected.
    pub fn expected_deliveries(&self, criteria: &Criteria, expected: &Expected) -> Vec<&SeenDelivery> {
        let fits = |delivery: &&SeenDelivery| criteria.fits_delivery(delivery) && expected.is_met_by(delivery);
        self.deliveries.iter().filter(fits).collect()
    }

    /// How many match and are in the state that is expected.
    pub fn count(&self, criteria: &Criteria, expected: &Expected) -> usize {
        match criteria.of {
            Of::Events => self.matching_events(criteria).len(),
            Of::Deliveries => self.expected_deliveries(criteria, expected).len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ruling_waits_only_for_what_can_still_change() {
        let open = |holds_at_the_end| Ruling::Open { holds_at_the_end };
        let bounds = |min, max: Option<u32>| Bounds { min, max };
        for (count, status, found, expected) in [
            (bounds(1, None), None, 0, open(false)),
            (bounds(1, None), None, 3, Ruling::Holds),
            (bounds(2, Some(2)), None, 2, Ruling::Holds),
            (bounds(2, Some(2)), None, 3, Ruling::Fails),
            // A delivery that is rescheduled now may not be a moment later.
            (bounds(2, Some(2)), Some(Status::Rescheduled), 3, open(false)),
            (bounds(0, Some(0)), None, 0, open(true)),
            (bounds(0, Some(0)), None, 1, Ruling::Fails),
            (bounds(0, Some(0)), Some(Status::Failed), 1, Ruling::Fails),
            (bounds(0, Some(2)), None, 2, open(true)),
        ] {
            let expectation = Expected { count, status, attempts: None, answer: None };
            assert_eq!(expectation.rule(found), expected, "{found} of {count:?}");
        }
    }
}
