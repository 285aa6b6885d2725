//! An account: an isolated tenant, and the API key that opens it.

use std::fmt;

use chrono::{DateTime, SubsecRound, Utc};
use rand::Rng;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use utoipa::ToSchema;

use crate::clock::check_time;
use crate::id::{AccountId, SnapshotId};
use crate::json::object;
use crate::problem::{FieldProblem, check_text};
use crate::random::Chance;
use crate::words::words;

/// An isolated tenant. Nothing of one account is seen by another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    pub id: AccountId,
    /// A label for people; need not be unique.
    pub name: String,
    pub created_at: DateTime<Utc>,
    /// Where its own clock stands; none if it goes by the machine's.
    pub clock_now: Option<DateTime<Utc>>,
}

words!(
    /// Which clock an account goes by.
    ClockMode {
        /// The machine's.
        Real = "real",
        /// One of its own that is moved by hand.
        Manual = "manual",
    }
);

/// A clock to go by.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewClock {
    pub mode: ClockMode,
    /// Where a manual clock stands; the account's present time if left out.
    pub now: Option<DateTime<Utc>>,
}

impl NewClock {
    /// Checks it; `pointer` is where it stands.
    pub fn check(&self, pointer: &str) -> Result<(), FieldProblem> {
        let at = format!("{pointer}/now");
        match (self.mode, self.now) {
            (ClockMode::Real, Some(_)) => {
                Err(FieldProblem::new(at, "cannot be set on a real clock; leave it out, or have `mode`: `manual`"))
            }
            (_, Some(now)) => check_time(&at, now),
            (_, None) => Ok(()),
        }
    }

    /// Where the clock stands in an account whose time is `now`; none if it is the machine's.
    pub fn stands_at(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        match self.mode {
            ClockMode::Real => None,
            // Both databases keep microseconds.
            ClockMode::Manual => Some(self.now.unwrap_or(now).trunc_subsecs(6)),
        }
    }
}

/// How much an account holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct Holdings {
    /// Without those that were deleted.
    pub subscribers: u64,
    pub events: u64,
    pub deliveries: u64,
}

/// What an account held at one time, to go back to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    pub id: SnapshotId,
    /// A label for people; need not be unique.
    pub name: Option<String>,
    pub created_at: DateTime<Utc>,
    pub holdings: Holdings,
}

/// What a reset leaves in an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Keep {
    Subscribers,
}

/// An account's API key. Only its hash is stored, so it is shown once, when it is made.
#[derive(Clone, PartialEq, Eq, Deserialize)]
pub struct ApiKey(String);

impl ApiKey {
    /// Makes a key of 160 random bits.
    pub fn generate(rng: &mut impl Rng) -> Self {
        let mut bytes = [0; 20];
        rng.fill_bytes(&mut bytes);
        Self(format!("shk_{}", bs58::encode(bytes).into_string()))
    }

    /// Takes a key as a client sent it.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The key's text, to be shown to its owner.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// What the store keeps: lower-case hex of SHA-256. Keys are random, so no salt is needed.
    pub fn hash(&self) -> String {
        hex::encode(Sha256::digest(&self.0))
    }
}

/// An account to make.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewAccount {
    /// A label for people.
    #[schema(example = "checkout tests")]
    pub name: String,
    /// Its API key: 8 to 200 visible ASCII characters. Made if left out.
    #[schema(value_type = Option<String>)]
    pub api_key: Option<ApiKey>,
    /// The machine's if left out.
    #[serde(default, deserialize_with = "object")]
    pub clock: Option<NewClock>,
}

impl NewAccount {
    /// All that is wrong with it.
    pub fn check(&self) -> Vec<FieldProblem> {
        let mut problems = Vec::from_iter(check_text("/name", &self.name, 200).err());
        problems.extend(self.clock.as_ref().and_then(|clock| clock.check("/clock").err()));
        let is_key =
            |key: &ApiKey| (8..=200).contains(&key.0.len()) && key.0.bytes().all(|byte| byte.is_ascii_graphic());
        if self.api_key.as_ref().is_some_and(|key| !is_key(key)) {
            problems.push(FieldProblem::new("/api_key", "must be 8 to 200 visible ASCII characters, without spaces"));
        }
        problems
    }

    /// The account, with its key.
    pub fn make(&self, now: DateTime<Utc>, chance: &Chance) -> (Account, ApiKey) {
        let sequence = chance.next_in_sequence("account", "");
        let id = AccountId::generate(now, sequence, &mut chance.stream("account", sequence));
        // Not keyed by the id, which holds the time: with a seed the keys are known beforehand.
        let made = || ApiKey::generate(&mut chance.stream("api-key", sequence));
        let key = self.api_key.clone().unwrap_or_else(made);
        let clock_now = self.clock.as_ref().and_then(|clock| clock.stands_at(now));
        (Account { id, name: self.name.clone(), created_at: now, clock_now }, key)
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("ApiKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_never_printed_by_debug() {
        let key = ApiKey::generate(&mut Chance::from_seed(1).stream("api-key", ""));
        assert!(key.reveal().starts_with("shk_"));
        assert!(!format!("{key:?}").contains(key.reveal()));
        assert_eq!(key.hash().len(), 64);
    }
}
