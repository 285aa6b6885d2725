//! Probely's ids: 12 characters of Base58, random or derived from what they name.

use rand::Rng;
use rand_chacha::ChaCha12Rng;
use sha2::{Digest, Sha256};

use crate::id::ObjectId;

const BASE58: &[u8; 58] = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";

/// An id for something that is seen once.
pub(super) fn random_id(rng: &mut ChaCha12Rng) -> String {
    (0..12).map(|_| char::from(BASE58[(rng.next_u64() % 58) as usize])).collect()
}

/// The id of an object as one kind of thing: always the same.
pub(crate) fn vendor_id(kind: &str, id: ObjectId) -> String {
    derived_id(kind, &id.to_string())
}

/// The id of whatever has this key among its kind: always the same.
pub(super) fn derived_id(kind: &str, key: &str) -> String {
    // 58^12 is so much less than 2^128 that every id is as likely as any other.
    let mut rest = number(kind, key);
    let mut character = || {
        let digit = rest % 58;
        rest /= 58;
        char::from(BASE58[digit as usize])
    };
    (0..12).map(|_| character()).collect()
}

/// The id of a role.
pub(crate) fn role_id(name: &str) -> String {
    derived_id("role", name)
}

/// What the owner of a target puts on its website, or in its DNS.
pub(super) fn verification_token(target_id: ObjectId) -> String {
    let bytes = number("verification_token", &target_id.to_string()).to_be_bytes();
    uuid::Builder::from_random_bytes(bytes).into_uuid().to_string()
}

fn number(kind: &str, key: &str) -> u128 {
    let hash = Sha256::digest(format!("probely\0{kind}\0{key}"));
    hash.iter().take(16).fold(0, |number, byte| number << 8 | u128::from(*byte))
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;
    use crate::random::Chance;

    #[test]
    fn an_id_depends_on_the_kind_and_the_object_and_on_nothing_else() {
        let mut rng = Chance::from_seed(1).stream("id", "");
        let [one, other] = [1, 2].map(|number| ObjectId::generate(DateTime::UNIX_EPOCH, number, &mut rng));
        assert_eq!(vendor_id("site", one), vendor_id("site", one));
        assert_ne!(vendor_id("site", one), vendor_id("target", one));
        assert_ne!(vendor_id("site", one), vendor_id("site", other));
        assert_eq!(verification_token(one), verification_token(one));
        assert_ne!(verification_token(one), verification_token(other));
        // Stored events carry it, so it may never change.
        assert_eq!(derived_id("definition", "owasp-zap-missing-hsts"), "isfWT4nF34zV");
    }

    #[test]
    fn derived_ids_use_the_whole_alphabet_evenly() {
        let mut counts = [0_u32; 58];
        for key in 0..2_000 {
            for character in derived_id("label", &key.to_string()).bytes() {
                counts[BASE58.iter().position(|one| *one == character).expect("Base58")] += 1;
            }
        }
        // 24 000 characters: 414 of each, give or take 20.
        assert!(counts.iter().all(|count| (310..=520).contains(count)), "{counts:?}");
    }
}
