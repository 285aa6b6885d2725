//! The body of an assertion: how it is written, and its checks.

use std::fmt;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::de::{self, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use utoipa::ToSchema;

use super::within;
use crate::delivery::Status;
use crate::event::Vendor;
use crate::expectation::{Bounds, Condition, Criteria, Expected, MOST_CONDITIONS, Of};
use crate::id::{EventId, SubscriberId};
use crate::problem::{FieldProblem, check_text};
use crate::watch::Assertion;

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AssertBody {
    /// Which deliveries or events are meant; all deliveries if left out.
    #[serde(default, rename = "match", deserialize_with = "crate::json::object")]
    criteria: Option<MatchBody>,
    /// What is expected of them; that there is one, if left out.
    #[serde(default, deserialize_with = "crate::json::object")]
    expect: Option<ExpectBody>,
    /// How long to wait for it, up to `60s`; not at all if left out.
    #[schema(example = "5s")]
    within: Option<String>,
}

/// Each part that is given must hold.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct MatchBody {
    #[serde(default)]
    of: Of,
    #[schema(example = "hostedscan")]
    vendor: Option<String>,
    /// An event type, or a beginning and `*`.
    #[schema(example = "risk.*")]
    event_type: Option<String>,
    /// Of deliveries only.
    #[schema(value_type = Option<String>)]
    subscriber_id: Option<SubscriberId>,
    #[schema(value_type = Option<String>)]
    event_id: Option<EventId>,
    /// What the event's content has: an object of JSONPaths (RFC 9535), each with a value that one of
    /// the nodes it selects must have, or a list of JSONPaths that must each select something.
    #[serde(default)]
    #[schema(value_type = PathsSchema, example = json!({"$.risk.id": "abc"}))]
    content: Paths,
    /// The same of the webhook's body. Of deliveries only.
    #[serde(default)]
    #[schema(value_type = PathsSchema, example = json!(["$.data.risk"]))]
    body: Paths,
    /// Published at this time or later.
    since: Option<DateTime<Utc>>,
}

#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ExpectBody {
    /// How many of those meant are in the state below: a number, or `min` and `max`, both included; at
    /// least one if left out. Where `min` is 0, `max` must hold for the whole of `within`.
    #[schema(value_type = Option<NumberSchema>, example = json!({"min": 1, "max": 3}))]
    count: Option<Number>,
    /// Of deliveries only, as the rest.
    #[schema(inline)]
    status: Option<Status>,
    /// How many attempts have been made: a number, or `min` and `max`, both included.
    #[schema(value_type = Option<NumberSchema>, example = json!(1))]
    attempts: Option<Number>,
    /// The HTTP status that the last attempt was answered with.
    #[schema(example = 200)]
    answer: Option<u16>,
}

/// JSONPaths with values, or a list of JSONPaths.
#[derive(ToSchema)]
#[serde(untagged)]
#[schema(as = Paths)]
#[expect(dead_code, reason = "it says in the description how `Paths` is written")]
enum PathsSchema {
    #[schema(value_type = Object)]
    Values(Value),
    List(Vec<String>),
}

/// A number, or a range with both ends included.
#[derive(ToSchema)]
#[serde(untagged)]
#[schema(as = Number)]
#[expect(dead_code, reason = "it says in the description how `Number` is written")]
enum NumberSchema {
    Exactly(u32),
    Range { min: Option<u32>, max: Option<u32> },
}

/// Conditions on a JSON value.
#[derive(Debug, Default)]
struct Paths(Vec<Condition>);

impl Paths {
    fn push<E: de::Error>(&mut self, path: &str, equals: Option<Value>) -> Result<(), E> {
        if self.0.len() == MOST_CONDITIONS {
            return Err(E::custom(format!("has more than {MOST_CONDITIONS} paths")));
        }
        self.0.push(Condition::new(path, equals).map_err(E::custom)?);
        Ok(())
    }
}

impl<'de> Deserialize<'de> for Paths {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Shapes;
        impl<'de> Visitor<'de> for Shapes {
            type Value = Paths;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter
                    .write_str("an object of JSONPaths and values such as {\"$.id\": \"abc\"}, or a list of JSONPaths")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Paths, A::Error> {
                let mut paths = Paths::default();
                while let Some(path) = sequence.next_element::<String>()? {
                    paths.push(&path, None)?;
                }
                Ok(paths)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Paths, A::Error> {
                let mut paths = Paths::default();
                while let Some((path, value)) = map.next_entry::<String, Value>()? {
                    paths.push(&path, Some(value))?;
                }
                Ok(paths)
            }
        }
        deserializer.deserialize_any(Shapes)
    }
}

/// A number, or a range of numbers.
#[derive(Debug, Clone, Copy)]
struct Number(Bounds);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Range {
            min: Option<u32>,
            max: Option<u32>,
        }

        struct Shapes;
        impl<'de> Visitor<'de> for Shapes {
            type Value = Number;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a whole number of 0 or more, or {\"min\": 1, \"max\": 3}")
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Number, E> {
                let number = u32::try_from(number).map_err(|_| E::custom(format!("{number} is too large")))?;
                Ok(Number(Bounds { min: number, max: Some(number) }))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Number, A::Error> {
                let Range { min, max } = Range::deserialize(de::value::MapAccessDeserializer::new(map))?;
                let min = min.unwrap_or_default();
                match max {
                    Some(max) if max < min => Err(de::Error::custom("max must not be less than min")),
                    None if min == 0 => Err(de::Error::custom("says nothing; give min, max or both")),
                    max => Ok(Number(Bounds { min, max })),
                }
            }
        }
        deserializer.deserialize_any(Shapes)
    }
}

impl AssertBody {
    /// What is asserted, or everything that is wrong with it.
    pub(super) fn check(self) -> Result<Assertion, Vec<FieldProblem>> {
        let MatchBody {
            of,
            vendor,
            event_type,
            subscriber_id,
            event_id,
            content: Paths(content),
            body: Paths(body),
            since,
        } = self.criteria.unwrap_or_default();
        let ExpectBody { count, status, attempts, answer } = self.expect.unwrap_or_default();
        let mut problems = Vec::new();
        let vendor = vendor.map(|vendor| vendor.parse::<Vendor>()).transpose().unwrap_or_else(|error| {
            problems.push(FieldProblem::new("/match/vendor", error.to_string()));
            None
        });
        if let Some(pattern) = &event_type {
            problems.extend(check_text("/match/event_type", pattern, 128).err());
            if pattern.trim_end_matches('*').contains('*') || pattern.ends_with("**") {
                problems.push(FieldProblem::new("/match/event_type", "may have one `*`, at its end"));
            }
        }
        let of_deliveries_only = [
            ("/match/subscriber_id", subscriber_id.is_some()),
            ("/match/body", !body.is_empty()),
            ("/expect/status", status.is_some()),
            ("/expect/attempts", attempts.is_some()),
            ("/expect/answer", answer.is_some()),
        ];
        for (pointer, _) in of_deliveries_only.into_iter().filter(|(_, is_given)| of == Of::Events && *is_given) {
            problems.push(FieldProblem::new(pointer, "is of deliveries; events have none, so leave `of` out"));
        }
        if answer.is_some_and(|status| !(100..=599).contains(&status)) {
            problems.push(FieldProblem::new("/expect/answer", "is not an HTTP status; those are 100 to 599"));
        }
        let within = within(self.within.as_deref(), Duration::ZERO).unwrap_or_else(|problem| {
            problems.push(problem);
            Duration::ZERO
        });
        if !problems.is_empty() {
            return Err(problems);
        }
        let criteria = Criteria { of, vendor, event_type, subscriber_id, event_id, content, body, since };
        let count = count.map_or(Bounds { min: 1, max: None }, |Number(bounds)| bounds);
        let expected = Expected { count, status, attempts: attempts.map(|Number(bounds)| bounds), answer };
        Ok(Assertion { criteria, expected, within })
    }
}
