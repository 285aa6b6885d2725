//! Typed ids: a UUIDv7 written as 22 Base58 characters, so that text sorts as time does.
//!
//! The Base58 alphabet is in ASCII order and every id has the same width; both are what makes
//! the text order the time order. Columns that hold ids compare bytes (`collate "C"` on Postgres).

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use rand::Rng;
use uuid::{Builder, Uuid, Variant, Version};

/// The number of characters of every id: 128 bits in Base58.
pub const WIDTH: usize = 22;

/// The digits, in ASCII order.
const ALPHABET: &[u8; 58] = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";

/// A text that is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an id is {WIDTH} Base58 characters")]
pub struct InvalidId;

/// Makes a UUIDv7: milliseconds, then microseconds, then the low bits of `sequence`, then chance.
///
/// Ids of one sequence sort in the order they were made, also within one microsecond.
fn uuid_v7(at: DateTime<Utc>, sequence: u64, rng: &mut impl Rng) -> Uuid {
    let micros = u64::try_from(at.timestamp_micros()).unwrap_or_default();
    let fraction = (micros % 1000) * 4096 / 1000;
    let mut bytes = [0_u8; 16];
    rng.fill_bytes(&mut bytes);
    bytes[..6].copy_from_slice(&(micros / 1000).to_be_bytes()[2..]);
    bytes[6..8].copy_from_slice(&(fraction as u16).to_be_bytes());
    bytes[8..10].copy_from_slice(&(sequence as u16 & 0x3fff).to_be_bytes());
    Builder::from_bytes(bytes).with_version(Version::SortRand).with_variant(Variant::RFC4122).into_uuid()
}

/// The text of an id.
struct Text([u8; WIDTH]);

impl Text {
    fn as_str(&self) -> &str {
        str::from_utf8(&self.0).expect("Base58 is ASCII")
    }
}

/// Writes an id, which every event does a dozen times: with a width that is known this takes a
/// fraction of the time that writing any bytes does.
fn encode(id: Uuid) -> Text {
    /// So many digits fit in 64 bits.
    const RUN: usize = 10;
    let mut text = [0; WIDTH];
    let mut rest = id.as_u128();
    for digits in text.rchunks_mut(RUN) {
        let mut run = (rest % u128::from(58_u64.pow(RUN as u32))) as u64;
        rest /= u128::from(58_u64.pow(RUN as u32));
        for digit in digits.iter_mut().rev() {
            *digit = ALPHABET[(run % 58) as usize];
            run /= 58;
        }
    }
    Text(text)
}

fn decode(text: &str) -> Result<Uuid, InvalidId> {
    if text.len() != WIDTH {
        return Err(InvalidId);
    }
    let bytes = bs58::decode(text).into_vec().map_err(|_| InvalidId)?;
    let padding = bytes.len().checked_sub(16).ok_or(InvalidId)?;
    let id = Uuid::from_slice(&bytes[padding..]).map_err(|_| InvalidId)?;
    // One id has one text: other paddings of the same number are refused.
    if encode(id).as_str() == text { Ok(id) } else { Err(InvalidId) }
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Uuid);

        impl $name {
            /// When it was made, to the millisecond.
            pub fn time(self) -> DateTime<Utc> {
                let (seconds, nanos) = self.0.get_timestamp().map_or((0, 0), |time| time.to_unix());
                DateTime::from_timestamp(seconds.cast_signed(), nanos).unwrap_or_default()
            }

            /// Makes an id for the time `at`; `sequence` orders ids of the same microsecond.
            pub fn generate(at: DateTime<Utc>, sequence: u64, rng: &mut impl Rng) -> Self {
                Self(uuid_v7(at, sequence, rng))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(encode(self.0).as_str())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(formatter, "{}({self})", stringify!($name))
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                decode(text).map(Self)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(encode(self.0).as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }

        impl<DB: sqlx::Database> sqlx::Type<DB> for $name
        where
            String: sqlx::Type<DB>,
        {
            fn type_info() -> DB::TypeInfo {
                <String as sqlx::Type<DB>>::type_info()
            }
            fn compatible(info: &DB::TypeInfo) -> bool {
                <String as sqlx::Type<DB>>::compatible(info)
            }
        }

        impl sqlx::postgres::PgHasArrayType for $name {
            fn array_type_info() -> sqlx::postgres::PgTypeInfo {
                <String as sqlx::postgres::PgHasArrayType>::array_type_info()
            }
        }

        impl<'q, DB: sqlx::Database> sqlx::Encode<'q, DB> for $name
        where
            String: sqlx::Encode<'q, DB>,
        {
            fn encode_by_ref(
                &self,
                buffer: &mut <DB as sqlx::Database>::ArgumentBuffer,
            ) -> Result<sqlx::encode::IsNull, sqlx::error::BoxDynError> {
                encode(self.0).as_str().to_owned().encode(buffer)
            }
        }

        impl<'r, DB: sqlx::Database> sqlx::Decode<'r, DB> for $name
        where
            &'r str: sqlx::Decode<'r, DB>,
        {
            fn decode(
                value: <DB as sqlx::Database>::ValueRef<'r>,
            ) -> Result<Self, sqlx::error::BoxDynError> {
                Ok(<&str as sqlx::Decode<DB>>::decode(value)?.parse()?)
            }
        }
    };
}

id!(
    /// The id of an account.
    AccountId
);
id!(
    /// The id of a subscriber.
    SubscriberId
);
id!(
    /// The id of an event.
    EventId
);
id!(
    /// The id of a delivery.
    DeliveryId
);
id!(
    /// The id of a snapshot of an account.
    SnapshotId
);
id!(
    /// The id of anything in a world: a user, a target, a weakness, a scan, a schedule, …
    ObjectId
);

impl AccountId {
    /// The account that always exists; the migrations insert it.
    pub const DEFAULT: Self = Self(Uuid::nil());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Chance;
    use proptest::prelude::*;

    fn at(micros: i64) -> DateTime<Utc> {
        DateTime::from_timestamp_micros(micros).expect("a time within range")
    }

    #[test]
    fn the_default_account_is_twenty_two_ones() {
        assert_eq!(AccountId::DEFAULT.to_string(), "1".repeat(WIDTH));
        assert_eq!("1".repeat(WIDTH).parse(), Ok(AccountId::DEFAULT));
    }

    #[test]
    fn ids_carry_a_version_7_uuid() {
        let id = EventId::generate(at(1_700_000_000_123_456), 0, &mut Chance::from_seed(1).stream("id", ""));
        assert_eq!(id.0.get_version(), Some(Version::SortRand));
        assert_eq!(id.0.get_timestamp().map(|time| time.to_unix().0), Some(1_700_000_000));
    }

    proptest! {
        #[test]
        fn text_order_is_time_order(first in 0_i64..4_000_000_000_000_000, later in 1_i64..1_000_000_000) {
            let chance = Chance::from_seed(2);
            let one = EventId::generate(at(first), 9, &mut chance.stream("id", "one"));
            let two = EventId::generate(at(first + later), 0, &mut chance.stream("id", "two"));
            prop_assert_eq!(one.to_string().len(), WIDTH);
            prop_assert!(one.to_string() < two.to_string() );
        }

        #[test]
        fn an_id_reads_back_as_itself(micros in 0_i64..4_000_000_000_000_000, key in any::<u32>()) {
            let id = DeliveryId::generate(at(micros), 3, &mut Chance::from_seed(3).stream("id", key));
            prop_assert_eq!(id.to_string().parse::<DeliveryId>(), Ok(id));
        }

        #[test]
        fn an_id_is_the_base58_of_its_number(number in any::<u128>()) {
            let text = bs58::encode(number.to_be_bytes()).into_string();
            let number = AccountId(Uuid::from_u128(number)).to_string();
            prop_assert_eq!(number.trim_start_matches('1'), text.trim_start_matches('1'));
        }

        #[test]
        fn whatever_is_not_an_id_is_refused(text in "\\PC{0,30}") {
            if let Ok(id) = text.parse::<EventId>() {
                prop_assert_eq!(id.to_string(), text);
            }
        }
    }

    #[test]
    fn ids_of_one_instant_sort_by_their_sequence() {
        let chance = Chance::from_seed(4);
        let ids: Vec<String> =
            (0..100).map(|n| EventId::generate(at(5), n, &mut chance.stream("id", n)).to_string()).collect();
        assert!(ids.is_sorted());
    }
}
