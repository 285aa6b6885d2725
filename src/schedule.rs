//! A retry schedule: the waits between attempts, as a list or as a formula.

use std::fmt;
use std::time::Duration;

use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};

/// The most waits that a schedule may have.
pub const MOST_WAITS: usize = 1_000;
/// The longest wait, and the longest window.
pub const LONGEST_WAIT: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// The waits between the attempts of a delivery. Its first attempt is made at once.
#[derive(Debug, Clone, PartialEq)]
pub enum RetrySchedule {
    /// The waits themselves, in order.
    Waits(Vec<Duration>),
    /// Waits that grow: `base`, `base × factor`, … none longer than `cap`, and all together no
    /// longer than `window`.
    Formula { base: Duration, factor: f64, cap: Duration, window: Duration },
}

impl RetrySchedule {
    /// Checks a list of waits. Errors are texts for the user.
    pub fn from_waits(waits: Vec<Duration>) -> Result<Self, String> {
        if waits.len() > MOST_WAITS {
            return Err(format!("has {} waits; at most {MOST_WAITS} are allowed", waits.len()));
        }
        if let Some(wait) = waits.iter().find(|wait| **wait > LONGEST_WAIT) {
            return Err(format!("a wait of {} is too long; at most 30 days are allowed", format_duration(*wait)));
        }
        Ok(Self::Waits(waits))
    }

    /// Checks a formula. Errors are texts for the user.
    pub fn from_formula(base: Duration, factor: f64, cap: Option<Duration>, window: Duration) -> Result<Self, String> {
        let cap = cap.unwrap_or(window);
        if base < Duration::from_millis(1) {
            return Err("base must be at least 1ms".to_owned());
        }
        if !(1.0..=100.0).contains(&factor) {
            return Err(format!("factor must be from 1 to 100, not {factor}"));
        }
        if cap < base {
            return Err("cap must not be shorter than base".to_owned());
        }
        if window > LONGEST_WAIT {
            return Err("window must be at most 30 days".to_owned());
        }
        let schedule = Self::Formula { base, factor, cap, window };
        if schedule.waits().len() > MOST_WAITS {
            return Err(format!("gives more than {MOST_WAITS} waits; lengthen base or shorten window"));
        }
        Ok(schedule)
    }

    /// The waits, in order. Attempt number n + 1 follows attempt n after wait n.
    pub fn waits(&self) -> Vec<Duration> {
        match self {
            Self::Waits(waits) => waits.clone(),
            Self::Formula { base, factor, cap, window } => {
                let mut waits = Vec::new();
                let mut wait = *base;
                let mut total = wait;
                while total <= *window && waits.len() <= MOST_WAITS {
                    waits.push(wait);
                    wait = Duration::from_secs_f64((wait.as_secs_f64() * factor).min(cap.as_secs_f64()));
                    total += wait;
                }
                waits
            }
        }
    }
}

/// Reads a duration such as `5s`, `1h30m` or `250ms`.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|error| format!("`{text}` is not a duration ({error}); write it as \"5s\", \"1h30m\" or \"250ms\""))
}

/// Writes a duration so that [`parse_duration`] reads it back.
pub fn format_duration(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}

/// Serde for durations such as `"5s"`.
pub mod human {
    use std::time::Duration;

    use serde::Deserialize;

    /// Writes `"5s"`.
    pub fn serialize<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&super::format_duration(*duration))
    }

    /// Reads `"5s"`.
    pub fn deserialize<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(deserializer)?;
        super::parse_duration(&text).map_err(serde::de::Error::custom)
    }
}

#[derive(Deserialize, Serialize)]
struct Wait(#[serde(with = "human")] Duration);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Formula {
    #[serde(with = "human")]
    base: Duration,
    factor: f64,
    cap: Option<Wait>,
    #[serde(with = "human")]
    window: Duration,
}

impl Serialize for RetrySchedule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Waits(waits) => serializer.collect_seq(waits.iter().map(|wait| Wait(*wait))),
            Self::Formula { base, factor, cap, window } => {
                use serde::ser::SerializeStruct;
                let mut formula = serializer.serialize_struct("RetrySchedule", 4)?;
                formula.serialize_field("base", &Wait(*base))?;
                formula.serialize_field("factor", factor)?;
                formula.serialize_field("cap", &Wait(*cap))?;
                formula.serialize_field("window", &Wait(*window))?;
                formula.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for RetrySchedule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Shapes;
        impl<'de> Visitor<'de> for Shapes {
            type Value = RetrySchedule;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a list of waits such as [\"5s\", \"5m\"], or {base, factor, cap, window}")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<RetrySchedule, A::Error> {
                let mut waits = Vec::new();
                while let Some(Wait(wait)) = sequence.next_element()? {
                    waits.push(wait);
                    // Refuse early: a body of a megabyte holds very many waits.
                    if waits.len() > MOST_WAITS {
                        break;
                    }
                }
                RetrySchedule::from_waits(waits).map_err(de::Error::custom)
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RetrySchedule, A::Error> {
                let formula = Formula::deserialize(de::value::MapAccessDeserializer::new(map))?;
                let cap = formula.cap.map(|Wait(cap)| cap);
                RetrySchedule::from_formula(formula.base, formula.factor, cap, formula.window)
                    .map_err(de::Error::custom)
            }
        }
        deserializer.deserialize_any(Shapes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(schedule: &str) -> Vec<u64> {
        let schedule: RetrySchedule = serde_json::from_str(schedule).expect("a schedule");
        schedule.waits().iter().map(Duration::as_secs).collect()
    }

    #[test]
    fn a_list_is_taken_as_it_stands() {
        assert_eq!(seconds(r#"["5s", "5m", "30m"]"#), [5, 300, 1800]);
        assert_eq!(seconds("[]"), [0; 0]);
    }

    #[test]
    fn a_formula_stops_before_its_window_would_be_passed() {
        let twelve_hours = seconds(r#"{"base": "60s", "factor": 2, "window": "12h"}"#);
        assert_eq!(twelve_hours, [60, 120, 240, 480, 960, 1920, 3840, 7680, 15360]);
        let capped = seconds(r#"{"base": "60s", "factor": 2, "cap": "4h", "window": "2d"}"#);
        assert_eq!(capped.len(), 18);
        assert_eq!(capped.last(), Some(&14_400));
    }

    #[test]
    fn nonsense_is_refused_with_the_reason() {
        for (schedule, reason) in [
            (r#"["soon"]"#, "`soon` is not a duration"),
            (r#"["-5s"]"#, "is not a duration"),
            (r#"["40d"]"#, "is too long"),
            (r#"{"base": "1s", "factor": 0.5, "window": "1h"}"#, "factor must be from 1 to 100"),
            (r#"{"base": "0s", "factor": 2, "window": "1h"}"#, "base must be at least 1ms"),
            (r#"{"base": "1ms", "factor": 1, "window": "1h"}"#, "gives more than 1000 waits"),
            (r#"{"base": "2s", "factor": 2, "cap": "1s", "window": "1h"}"#, "cap must not be shorter"),
            (r#"{"base": "2s", "factor": 2, "window": "1h", "speed": 1}"#, "unknown field `speed`"),
            ("5", "expected a list of waits"),
        ] {
            let error = serde_json::from_str::<RetrySchedule>(schedule).expect_err(schedule).to_string();
            assert!(error.contains(reason), "{schedule}: {error}");
        }
    }

    #[test]
    fn a_schedule_reads_back_as_it_was_written() {
        for text in [r#"["5s","5m"]"#, r#"{"base":"1m","factor":2.0,"cap":"4h","window":"2days"}"#] {
            let schedule: RetrySchedule = serde_json::from_str(text).expect("a schedule");
            assert_eq!(serde_json::to_string(&schedule).expect("serialises"), text);
        }
    }
}
