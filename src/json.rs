//! Reading JSON strictly.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// Reads a field that is an object or null. (What is derived for a struct takes an array as well.)
pub fn object<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    struct Object<T>(PhantomData<T>);
    impl<'de, T: Deserialize<'de>> Visitor<'de> for Object<T> {
        type Value = Option<T>;

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("an object")
        }

        fn visit_unit<E>(self) -> Result<Option<T>, E> {
            Ok(None)
        }

        fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<Option<T>, M::Error> {
            T::deserialize(MapAccessDeserializer::new(map)).map(Some)
        }
    }
    deserializer.deserialize_any(Object(PhantomData))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    struct Point {
        x: i32,
    }

    #[derive(Debug, Deserialize)]
    struct Thing {
        #[serde(default, deserialize_with = "object")]
        at: Option<Point>,
    }

    #[test]
    fn an_array_is_not_an_object() {
        let read = |json: &str| serde_json::from_str::<Thing>(json).map(|thing| thing.at);
        assert_eq!(read(r#"{"at": {"x": 1}}"#).expect("an object"), Some(Point { x: 1 }));
        assert_eq!(read(r#"{"at": null}"#).expect("null"), None);
        assert_eq!(read("{}").expect("left out"), None);
        assert!(read(r#"{"at": [1]}"#).expect_err("an array").to_string().contains("expected an object"));
    }
}
