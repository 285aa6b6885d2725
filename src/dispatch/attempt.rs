//! One attempt: sign, send, decide. Whatever the receiver does is an outcome.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use rand::Rng;

use crate::clock::{Clock, format_time};
use crate::config::{Dispatch, Vendors};
use crate::delivery::{Attempt, Claimed, Next, Outcome, Reason, Response, ScheduleOf, next, parse_retry_after};
use crate::random::Chance;
use crate::schedule::format_duration;
use crate::sender::{NoAnswer, Outgoing, Sender};
use crate::store::{Effect, Record};
use crate::subscriber::{SignatureTime, Subscriber};
use crate::vendors::dialect;

/// Makes attempts.
#[derive(Debug)]
pub(super) struct Attempter {
    pub(super) sender: Arc<Sender>,
    pub(super) clock: Clock,
    pub(super) chance: Chance,
    pub(super) settings: Dispatch,
    pub(super) vendors: Vendors,
}

impl Attempter {
    /// Makes one attempt, to the subscriber as it is now, and decides what follows it.
    pub(super) async fn make(&self, claimed: &Claimed, subscriber: &Subscriber) -> Record {
        let event = &claimed.event;
        let dialect = dialect(event.vendor);
        let body = dialect.body(event, &claimed.options);
        // An account's own clock stands still while it waits for the answer.
        let now = || claimed.at.unwrap_or_else(|| self.clock.now());
        let started_at = now();
        let signed_at = match subscriber.signature_time {
            SignatureTime::Account => started_at,
            SignatureTime::Real => self.clock.now(),
        };
        let stopwatch = self.clock.stopwatch();
        let signed = dialect.headers(event, body.as_bytes(), &subscriber.secrets_at(started_at), signed_at);
        let headers = request_headers(subscriber, signed, body.len());
        let outgoing = Outgoing {
            url: &subscriber.url,
            headers: &headers,
            body: body.into(),
            timeout: subscriber.timeout.unwrap_or(self.settings.timeout),
            check_cert: subscriber.options.check_cert.unwrap_or(true),
        };
        let answer = self.sender.send(outgoing).await;
        let finished_at = now();
        let (outcome, response) = self.judge(answer, finished_at);
        let (next, reason) = self.decide(claimed, subscriber, &outcome, finished_at);
        let effect = self.effect(claimed, subscriber, &outcome, finished_at);
        let attempt = Attempt {
            number: claimed.attempt,
            url: subscriber.url.to_string(),
            started_at,
            finished_at,
            duration: stopwatch.elapsed(),
            request_headers: headers,
            outcome,
            response,
            reason: Some(reason),
        };
        Record {
            account_id: event.account_id,
            delivery_id: claimed.id,
            subscriber_id: subscriber.id,
            lease: claimed.lease,
            attempt,
            next,
            effect,
        }
    }

    /// What an attempt that ended like this changes of its subscriber.
    fn effect(
        &self,
        claimed: &Claimed,
        subscriber: &Subscriber,
        outcome: &Outcome,
        now: DateTime<Utc>,
    ) -> Option<Effect> {
        let disable_after = self.settings.disable_after;
        match (outcome, subscriber.failing_since) {
            (Outcome::Rejected { status: 410, .. }, _) => {
                Some(Effect::Disable(format!("it answered 410 Gone to delivery {}", claimed.id)))
            }
            _ if disable_after.is_zero() => None,
            (Outcome::Accepted { .. }, since) => since.map(|_| Effect::FailingSince(None)),
            (_, None) => Some(Effect::FailingSince(Some(now))),
            (_, Some(since)) => (now >= since + disable_after).then(|| {
                let (long, since) = (format_duration(disable_after), format_time(since));
                Effect::Disable(format!("it has accepted nothing since {since}; dispatch.disable_after is {long}"))
            }),
        }
    }

    fn judge(&self, answer: Result<Response, NoAnswer>, now: DateTime<Utc>) -> (Outcome, Option<Response>) {
        match answer {
            Ok(response) if (200..300).contains(&response.status) => {
                (Outcome::Accepted { status: response.status }, Some(response))
            }
            Ok(response) => {
                let asked = response.headers.iter().find(|(name, _)| name == "retry-after");
                let limit = self.settings.retry_after_limit;
                let retry_after = asked.and_then(|(_, value)| parse_retry_after(value, now, limit));
                (Outcome::Rejected { status: response.status, retry_after }, Some(response))
            }
            Err(NoAnswer { error, detail, response }) => (Outcome::Unreachable { error, detail }, response),
        }
    }

    fn decide(
        &self,
        claimed: &Claimed,
        subscriber: &Subscriber,
        outcome: &Outcome,
        now: DateTime<Utc>,
    ) -> (Next, Reason) {
        let (schedule, whose) = match &subscriber.retry_schedule {
            Some(own) => (own, ScheduleOf::Subscriber),
            None => (&self.vendors.of(claimed.event.vendor).retry_schedule, ScheduleOf::Vendor),
        };
        let tries = claimed.attempt - claimed.schedule_start;
        let (waits, stretch) = (schedule.waits(), self.stretch(claimed));
        let next = next(outcome, tries, &waits, stretch, now);
        let millis = |wait: Duration| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        let asked = match outcome {
            Outcome::Rejected { retry_after, .. } => *retry_after,
            Outcome::Accepted { .. } | Outcome::Unreachable { .. } => None,
        };
        let reason = Reason {
            due_at: claimed.due_at,
            schedule: whose,
            tries,
            waits: u32::try_from(waits.len()).unwrap_or(u32::MAX),
            wait_ms: waits.get((tries as usize).saturating_sub(1)).copied().map(millis),
            stretch,
            asked_ms: asked.map(millis),
            next_try: match next {
                Next::Rescheduled { at } => Some(at),
                Next::Succeeded | Next::Failed => None,
            },
        };
        (next, reason)
    }

    /// The jitter: a factor from 1 - jitter to 1 + jitter, the same for the same seed and attempt.
    fn stretch(&self, claimed: &Claimed) -> f64 {
        let mut stream = self.chance.stream("jitter", format!("{}/{}", claimed.id, claimed.attempt));
        let unit = f64::from(stream.next_u32()) / f64::from(u32::MAX);
        1.0 + self.settings.jitter * (2.0 * unit - 1.0)
    }
}

/// All headers of a request in the order they are sent: the host, the dialect's, the
/// subscriber's, the length.
fn request_headers(
    subscriber: &Subscriber,
    signed: Vec<(&'static str, String)>,
    body_length: usize,
) -> Vec<(String, String)> {
    let url = &subscriber.url;
    let host = match (url.host_str().unwrap_or_default(), url.port()) {
        (host, Some(port)) => format!("{host}:{port}"),
        (host, None) => host.to_owned(),
    };
    // One spelling throughout: a vendor that writes Content-Type writes Host.
    let is_lower = signed.iter().any(|(name, _)| *name == "content-type");
    let (host_name, length_name) = if is_lower { ("host", "content-length") } else { ("Host", "Content-Length") };
    let signed = signed.into_iter().map(|(name, value)| (name.to_owned(), value));
    let own = subscriber.headers.iter().map(|(name, value)| (name.clone(), value.clone()));
    let length = (length_name.to_owned(), body_length.to_string());
    std::iter::once((host_name.to_owned(), host)).chain(signed).chain(own).chain([length]).collect()
}
