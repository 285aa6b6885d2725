//! A delivery: one event owed to one subscriber; its attempts, and the rule of retrying.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::event::Event;
use crate::id::{AccountId, DeliveryId, EventId, SubscriberId};
use crate::subscriber::Options;
use crate::words::words;

/// The version of the webhook format, as Probely's `webhooks[]` names it. There is only one.
pub const API_VERSION: &str = "v1";
/// How much of a response's body and of its headers an attempt keeps, in bytes.
pub const KEPT_BYTES: usize = 16 * 1024;

words!(
    /// Where a delivery stands. (Probely's own four words.)
    Status {
        /// No attempt has been made yet.
        Scheduled = "scheduled",
        /// A receiver accepted it.
        Succeeded = "succeeded",
        /// An attempt was made and another will follow.
        Rescheduled = "rescheduled",
        /// It was given up.
        Failed = "failed",
    }
);

words!(
    /// Why no answer came, or none that could be read.
    AttemptError {
        /// The host's name could not be resolved.
        Dns = "dns",
        /// The connection could not be made.
        Connect = "connect",
        /// The TLS handshake failed.
        Tls = "tls",
        /// The time-out passed.
        Timeout = "timeout",
        /// The address is in `dispatch.blocked_networks`.
        BlockedAddress = "blocked_address",
        /// What came back is not HTTP.
        Protocol = "protocol",
    }
);

impl Status {
    /// Whether another attempt will be made.
    pub fn is_owed(self) -> bool {
        matches!(self, Self::Scheduled | Self::Rescheduled)
    }
}

/// One event owed to one subscriber, over all its attempts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    pub id: DeliveryId,
    pub account_id: AccountId,
    pub event_id: EventId,
    pub subscriber_id: SubscriberId,
    pub status: Status,
    /// When the next attempt is due; once finished, when the last one was.
    /// (Probely's field is never null, so the last value stays.)
    pub next_try: DateTime<Utc>,
    /// Attempts made after the first.
    pub retries: u32,
    pub created_at: DateTime<Utc>,
}

/// Attempts made so far: a `scheduled` delivery has had none.
pub fn attempts_made(status: Status, retries: u32) -> u32 {
    if status == Status::Scheduled { 0 } else { retries + 1 }
}

/// A delivery that this process holds a lease on, with all that an attempt needs.
#[derive(Debug, Clone)]
pub struct Claimed {
    /// When its next attempt was due.
    pub due_at: DateTime<Utc>,
    pub id: DeliveryId,
    /// Names this claim: only its holder may record the attempt.
    pub lease: i64,
    pub lease_until: DateTime<Utc>,
    /// The account's time, where it has a clock of its own; none means the machine's.
    pub at: Option<DateTime<Utc>>,
    /// The number of the attempt to make; the first is 1.
    pub attempt: u32,
    /// Attempts made before the schedule (re)started: a redelivery starts it anew.
    pub schedule_start: u32,
    pub event: Arc<Event>,
    /// Only its id: the subscriber is read anew for each attempt, since it may have changed.
    pub subscriber_id: SubscriberId,
    /// The subscriber's options as they were at publish: what the body depends on.
    pub options: Options,
}

/// One HTTP request of a delivery, and its outcome.
#[derive(Debug, Clone, PartialEq)]
pub struct Attempt {
    /// The first is 1.
    pub number: u32,
    pub url: String,
    pub started_at: DateTime<Utc>,
    pub finished_at: DateTime<Utc>,
    pub duration: Duration,
    /// The request's headers in order, spelled as they were sent.
    pub request_headers: Vec<(String, String)>,
    pub outcome: Outcome,
    /// The answer, as far as one came. Present also where its body broke off.
    pub response: Option<Response>,
    /// Why what followed did; none for what was recorded before this was.
    pub reason: Option<Reason>,
}

/// What a receiver answered. Headers and body are cut at [`KEPT_BYTES`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// How an attempt ended. Whatever a receiver does is one of these, never an error of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// A 2xx answer.
    Accepted { status: u16 },
    /// Another answer.
    Rejected { status: u16, retry_after: Option<Duration> },
    /// No answer.
    Unreachable { error: AttemptError, detail: String },
}

impl Outcome {
    /// The word for it: `accepted`, `rejected` or `unreachable`.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Accepted { .. } => "accepted",
            Self::Rejected { .. } => "rejected",
            Self::Unreachable { .. } => "unreachable",
        }
    }

    /// Why no answer came, and in more words.
    pub fn error(&self) -> Option<(AttemptError, &str)> {
        match self {
            Self::Unreachable { error, detail } => Some((*error, detail)),
            Self::Accepted { .. } | Self::Rejected { .. } => None,
        }
    }
}

/// What follows an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    Succeeded,
    Rescheduled { at: DateTime<Utc> },
    Failed,
}

/// Whose waits between attempts hold for a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ScheduleOf {
    /// The subscriber's own.
    Subscriber,
    /// The vendor's, by the settings.
    Vendor,
}

/// What an attempt's end was decided by: enough to say why the next try is when it is.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Reason {
    /// When the attempt was due.
    pub due_at: DateTime<Utc>,
    pub schedule: ScheduleOf,
    /// The attempts since the schedule started, this one included.
    pub tries: u32,
    /// How many waits the schedule has.
    pub waits: u32,
    /// The schedule's wait after this attempt; none if it is used up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_ms: Option<u64>,
    /// The jitter: a factor on the wait.
    pub stretch: f64,
    /// What the receiver asked for by `Retry-After`, as far as the limit lets it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_try: Option<DateTime<Utc>>,
}

/// Decides what follows an attempt.
///
/// `tries` counts the attempts since the schedule started, this one included. `stretch` is the
/// jitter, a factor on the planned wait; 1 is none. What the receiver asked for by `Retry-After`
/// can push the next try later, never earlier.
pub fn next(outcome: &Outcome, tries: u32, waits: &[Duration], stretch: f64, now: DateTime<Utc>) -> Next {
    let asked = match outcome {
        Outcome::Accepted { .. } => return Next::Succeeded,
        Outcome::Rejected { status: 410, .. } => return Next::Failed,
        Outcome::Rejected { retry_after, .. } => *retry_after,
        Outcome::Unreachable { .. } => None,
    };
    let Some(planned) = (tries as usize).checked_sub(1).and_then(|index| waits.get(index)) else {
        return Next::Failed;
    };
    let wait = planned.mul_f64(stretch).max(asked.unwrap_or_default());
    Next::Rescheduled { at: now + wait }
}

/// Reads `Retry-After`: seconds, or an HTTP date. Nonsense and the past count as not asked.
pub fn parse_retry_after(value: &str, now: DateTime<Utc>, longest: Duration) -> Option<Duration> {
    let value = value.trim();
    let asked = if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than fit still mean "very long".
        Duration::from_secs(value.parse().unwrap_or(u64::MAX))
    } else {
        let at = DateTime::<Utc>::from(httpdate::parse_http_date(value).ok()?);
        (at - now).to_std().ok()?
    };
    Some(asked.min(longest))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAITS: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(300)];

    fn rejected(status: u16, retry_after: Option<u64>) -> Outcome {
        Outcome::Rejected { status, retry_after: retry_after.map(Duration::from_secs) }
    }

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).expect("within range")
    }

    #[test]
    fn the_rule_of_retrying() {
        let unreachable = Outcome::Unreachable { error: AttemptError::Timeout, detail: String::new() };
        let rescheduled = |seconds| Next::Rescheduled { at: at(seconds) };
        for (outcome, tries, stretch, expected) in [
            (Outcome::Accepted { status: 204 }, 1, 1.0, Next::Succeeded),
            (rejected(500, None), 1, 1.0, rescheduled(5)),
            (rejected(302, None), 2, 1.0, rescheduled(300)),
            (rejected(404, None), 3, 1.0, Next::Failed),
            (rejected(410, None), 1, 1.0, Next::Failed),
            (unreachable.clone(), 1, 1.2, rescheduled(6)),
            (unreachable, 3, 1.0, Next::Failed),
            (rejected(503, Some(60)), 1, 1.0, rescheduled(60)),
            (rejected(503, Some(60)), 2, 1.0, rescheduled(300)),
            (rejected(503, Some(5)), 1, 0.8, rescheduled(5)),
            (rejected(503, Some(60)), 3, 1.0, Next::Failed),
        ] {
            assert_eq!(next(&outcome, tries, &WAITS, stretch, at(0)), expected, "{outcome:?} try {tries}");
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_and_is_bounded() {
        let now = at(784_111_777 - 30);
        let hour = Duration::from_secs(3600);
        for (value, expected) in [
            ("120", Some(120)),
            (" 7 ", Some(7)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(30)),
            ("Sun, 06 Nov 1993 08:49:37 GMT", None),
            ("999999999999999999999999", Some(3600)),
            ("-5", None),
            ("soon", None),
            ("", None),
        ] {
            let expected = expected.map(Duration::from_secs);
            assert_eq!(parse_retry_after(value, now, hour), expected, "{value}");
        }
    }
}
