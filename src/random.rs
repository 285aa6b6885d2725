//! Seeded chance: the only source of randomness.
//!
//! Every draw comes from a stream that is keyed by (seed, purpose, key). What happens at the same
//! time elsewhere cannot change it, so the same seed gives the same ids, secrets and jitter.

use std::collections::HashMap;
use std::fmt::{self, Display};
use std::sync::{Arc, Mutex, PoisonError};

use rand::rngs::SysRng;
use rand::{SeedableRng, TryRng};
use rand_chacha::ChaCha12Rng;
use sha2::{Digest, Sha256};

/// A source of chance streams. Clones share their sequences.
#[derive(Clone)]
pub struct Chance {
    root: [u8; 32],
    sequences: Arc<Mutex<HashMap<String, u64>>>,
}

impl Chance {
    /// Chance that is the same on every run with this seed.
    pub fn from_seed(seed: u64) -> Self {
        Self::from_root(Sha256::digest(seed.to_be_bytes()).into())
    }

    /// Chance that differs on every run, fit for secrets.
    ///
    /// # Panics
    /// If the operating system has no randomness to give.
    pub fn from_system() -> Self {
        let mut root = [0; 32];
        SysRng.try_fill_bytes(&mut root).expect("the operating system gives randomness");
        Self::from_root(root)
    }

    fn from_root(root: [u8; 32]) -> Self {
        Self { root, sequences: Arc::default() }
    }

    /// The chance of one process among those that have used a database: number 1 is the first.
    /// Two processes with the same seed must not make the same ids.
    pub fn of_process(self, number: i64) -> Self {
        let mut hash = Sha256::new();
        hash.update(self.root);
        hash.update(number.to_be_bytes());
        Self::from_root(hash.finalize().into())
    }

    /// The stream for one purpose and key.
    pub fn stream(&self, purpose: &str, key: impl Display) -> ChaCha12Rng {
        let mut hash = Sha256::new();
        hash.update(self.root);
        hash.update(format!("{purpose}\0{key}"));
        ChaCha12Rng::from_seed(hash.finalize().into())
    }

    /// Counts up from 0 for each purpose and key: the sequence number of the next id of its kind.
    pub fn next_in_sequence(&self, purpose: &str, key: impl Display) -> u64 {
        let mut sequences = self.sequences.lock().unwrap_or_else(PoisonError::into_inner);
        let next = sequences.entry(format!("{purpose}\0{key}")).or_default();
        let number = *next;
        *next += 1;
        number
    }
}

impl fmt::Debug for Chance {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Chance(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::Rng;

    #[test]
    fn the_same_seed_purpose_and_key_draw_the_same() {
        let draw = |seed, purpose, key| Chance::from_seed(seed).stream(purpose, key).next_u64();
        assert_eq!(draw(1, "jitter", "a"), draw(1, "jitter", "a"));
        assert_ne!(draw(1, "jitter", "a"), draw(2, "jitter", "a"));
        assert_ne!(draw(1, "jitter", "a"), draw(1, "jitter", "b"));
        assert_ne!(draw(1, "jitter", "a"), draw(1, "secret", "a"));
    }

    #[test]
    fn two_processes_with_one_seed_draw_differently() {
        let draw = |number| Chance::from_seed(1).of_process(number).stream("id", "").next_u64();
        assert_ne!(draw(1), draw(2));
    }

    #[test]
    fn sequences_count_separately() {
        let chance = Chance::from_seed(1);
        assert_eq!(chance.next_in_sequence("event", "a"), 0);
        assert_eq!(chance.clone().next_in_sequence("event", "a"), 1);
        assert_eq!(chance.next_in_sequence("event", "b"), 0);
    }
}
