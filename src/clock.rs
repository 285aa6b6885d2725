//! Time: the only place that reads the machine's clock.
//!
//! Every time of scanhook's is UTC with microseconds, the resolution that both databases keep.

use std::time::{Duration, Instant};

use chrono::{DateTime, SubsecRound, Utc};
use tokio::sync::watch;

use crate::problem::FieldProblem;

/// Says what time it is: the machine's time, or one that is moved by hand.
#[derive(Debug, Clone)]
pub enum Clock {
    /// The machine's clock.
    Real,
    /// A time that stands still until it is moved. All clones share it.
    Manual(watch::Sender<DateTime<Utc>>),
}

/// Measures how long something took, in the time of the clock that started it.
#[derive(Debug)]
pub enum Stopwatch {
    /// Started on the machine's clock.
    Real(Instant),
    /// Started on a hand-set clock.
    Manual(Clock, DateTime<Utc>),
}

impl Clock {
    /// A clock that stands at `now` until it is moved.
    pub fn manual(now: DateTime<Utc>) -> Self {
        Self::Manual(watch::Sender::new(now.trunc_subsecs(6)))
    }

    /// The time, in whole microseconds.
    pub fn now(&self) -> DateTime<Utc> {
        match self {
            #[expect(clippy::disallowed_methods, reason = "this is the one reader of the machine's clock")]
            Self::Real => Utc::now().trunc_subsecs(6),
            Self::Manual(time) => *time.borrow(),
        }
    }

    /// Moves a hand-set clock forward. The machine's clock is left alone.
    pub fn advance(&self, by: Duration) {
        if let Self::Manual(time) = self {
            time.send_modify(|now| *now += by);
        }
    }

    /// Waits until the clock shows `at` or later.
    pub async fn sleep_until(&self, at: DateTime<Utc>) {
        match self {
            Self::Real => {
                let wait = (at - self.now()).to_std().unwrap_or_default();
                tokio::time::sleep(wait).await;
            }
            Self::Manual(time) => {
                let mut moved = time.subscribe();
                // The sender lives in `self`, so the channel cannot be closed here.
                let _ = moved.wait_for(|now| *now >= at).await;
            }
        }
    }

    /// Starts to measure.
    pub fn stopwatch(&self) -> Stopwatch {
        match self {
            #[expect(clippy::disallowed_methods, reason = "durations are measured on the monotonic clock")]
            Self::Real => Stopwatch::Real(Instant::now()),
            Self::Manual(_) => Stopwatch::Manual(self.clone(), self.now()),
        }
    }
}

impl Stopwatch {
    /// The time since the start.
    pub fn elapsed(&self) -> Duration {
        match self {
            Self::Real(start) => start.elapsed(),
            Self::Manual(clock, start) => (clock.now() - *start).to_std().unwrap_or_default(),
        }
    }
}

/// The last second that the vendors' formats can show, the end of the year 9999.
pub const LAST: DateTime<Utc> = DateTime::from_timestamp(253_402_300_799, 0).expect("within range");

/// Checks a time that somebody gives: from 1970 to the end of the year 9999.
pub fn check_time(pointer: &str, time: DateTime<Utc>) -> Result<(), FieldProblem> {
    let is_usable = (DateTime::UNIX_EPOCH..=LAST).contains(&time);
    if is_usable { Ok(()) } else { Err(FieldProblem::new(pointer, "must be from 1970 to 9999")) }
}

/// Writes a time as the API shows it: RFC 3339 with six digits and `Z`.
pub fn format_time(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(chrono::SecondsFormat::Micros, true)
}

/// Serde for times in the API: RFC 3339 with six digits and `Z`.
pub mod rfc3339 {
    use chrono::{DateTime, Utc};

    /// Writes the time with six digits and `Z`.
    pub fn serialize<S: serde::Serializer>(time: &DateTime<Utc>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&super::format_time(*time))
    }

    /// The same for a time that may not have come yet: null.
    pub mod option {
        use chrono::{DateTime, Utc};

        /// Writes the time, or null.
        pub fn serialize<S: serde::Serializer>(time: &Option<DateTime<Utc>>, serializer: S) -> Result<S::Ok, S::Error> {
            match time {
                Some(time) => super::serialize(time, serializer),
                None => serializer.serialize_none(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_sleeper_wakes_when_the_hand_set_clock_reaches_its_time() {
        let clock = Clock::manual(DateTime::UNIX_EPOCH);
        let sleeper = clock.sleep_until(DateTime::UNIX_EPOCH + Duration::from_secs(60));
        tokio::pin!(sleeper);
        clock.advance(Duration::from_secs(59));
        assert!(futures_are_pending(sleeper.as_mut()).await);
        clock.advance(Duration::from_secs(1));
        sleeper.await;
        assert_eq!(clock.now().timestamp(), 60);
    }

    async fn futures_are_pending<F: Future<Output = ()>>(mut future: std::pin::Pin<&mut F>) -> bool {
        std::future::poll_fn(|context| std::task::Poll::Ready(future.as_mut().poll(context).is_pending())).await
    }

    #[test]
    fn a_time_is_written_with_six_digits_and_z() {
        let time = DateTime::from_timestamp_micros(1_700_000_000_000_000).expect("within range");
        assert_eq!(format_time(time), "2023-11-14T22:13:20.000000Z");
    }
}
