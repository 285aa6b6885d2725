//! An account: an isolated tenant, and the API key that opens it.

use std::fmt;

use chrono::{DateTime, Utc};
use rand::Rng;
use sha2::{Digest, Sha256};

use crate::id::AccountId;

/// An isolated tenant. Nothing of one account is seen by another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    pub id: AccountId,
    /// A label for people; need not be unique.
    pub name: String,
    pub created_at: DateTime<Utc>,
}

/// An account's API key. Only its hash is stored, so it is shown once, when it is made.
#[derive(Clone, PartialEq, Eq)]
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

impl fmt::Debug for ApiKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("ApiKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Chance;

    #[test]
    fn a_key_is_never_printed_by_debug() {
        let key = ApiKey::generate(&mut Chance::from_seed(1).stream("api-key", ""));
        assert!(key.reveal().starts_with("shk_"));
        assert!(!format!("{key:?}").contains(key.reveal()));
        assert_eq!(key.hash().len(), 64);
    }
}
