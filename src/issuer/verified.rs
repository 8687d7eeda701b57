//! Which tokens were verified a moment ago: one that comes again costs a hash, not a signature.
//!
//! Known by the SHA-256 of its text, never by the text. What was remembered counts only beside the very key, as fetched,
//! that it was verified with: the next fetch makes it be verified anew, and a withdrawn key takes its tokens with it.

use std::collections::HashMap;
use std::mem;
use std::sync::{Arc, Mutex, PoisonError};

use jsonwebtoken::DecodingKey;

use super::verify::Signed;

/// So many are remembered at least, and twice as many at most.
const TOKENS_MAX: usize = 1_024;

/// A token's hash.
pub(super) type Hash = [u8; 32];

/// Tokens that were verified.
#[derive(Default)]
pub(super) struct Verified(Mutex<Generations>);

/// When the young ones are many they become the old ones, and the old ones are forgotten.
#[derive(Default)]
struct Generations {
    young: HashMap<Hash, Entry>,
    old: HashMap<Hash, Entry>,
}

struct Entry {
    key: Arc<DecodingKey>,
    signed: Arc<Signed>,
}

impl Verified {
    /// What a token says, if it was verified with this key.
    pub(super) fn get(&self, token: &Hash, key: &Arc<DecodingKey>) -> Option<Arc<Signed>> {
        let generations = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = generations.young.get(token).or_else(|| generations.old.get(token));
        let entry = entry.filter(|entry| Arc::ptr_eq(&entry.key, key));
        entry.map(|entry| Arc::clone(&entry.signed))
    }

    /// Remembers a token that was verified with this key.
    pub(super) fn put(&self, token: Hash, key: Arc<DecodingKey>, signed: Arc<Signed>) {
        let mut generations = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if generations.young.len() >= TOKENS_MAX {
            generations.old = mem::take(&mut generations.young);
        }
        generations.young.insert(token, Entry { key, signed });
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::domain::runtime_token::Vouched;

    fn signed(organization: usize) -> Arc<Signed> {
        Arc::new(Signed::new(
            0..u64::MAX,
            Vouched {
                organization: organization.to_string().into(),
                extension: "com.example".into(),
                project: "p".into(),
                product_installation: None,
            },
        ))
    }

    fn hash(number: usize) -> Hash {
        crate::crypto::sha256::sha256(&number.to_be_bytes())
    }

    #[test]
    fn a_token_is_remembered_beside_the_key_that_verified_it_and_no_other() {
        let verified = Verified::default();
        let (key, same_bytes) = (DecodingKey::from_ec_der(b"k"), DecodingKey::from_ec_der(b"k"));
        let (key, refetched) = (Arc::new(key), Arc::new(same_bytes));
        verified.put(hash(1), Arc::clone(&key), signed(1));
        let found = verified.get(&hash(1), &key).unwrap();
        assert!(Arc::ptr_eq(&found, &verified.get(&hash(1), &key).unwrap()));
        assert!(verified.get(&hash(2), &key).is_none());
        assert!(verified.get(&hash(1), &refetched).is_none());
        verified.put(hash(1), Arc::clone(&refetched), signed(1));
        assert!(verified.get(&hash(1), &refetched).is_some());
        assert!(verified.get(&hash(1), &key).is_none());
    }

    #[test]
    fn the_last_thousand_are_remembered_and_never_more_than_two_thousand() {
        let verified = Verified::default();
        let key = Arc::new(DecodingKey::from_ec_der(b"k"));
        for number in 0..5 * TOKENS_MAX {
            verified.put(hash(number), Arc::clone(&key), signed(number));
            let oldest = number.saturating_sub(TOKENS_MAX - 1);
            assert!(verified.get(&hash(oldest), &key).is_some());
            if let Some(long_ago) = number.checked_sub(2 * TOKENS_MAX) {
                assert!(verified.get(&hash(long_ago), &key).is_none());
            }
            let generations = verified.0.lock().unwrap();
            assert!(generations.young.len() + generations.old.len() <= 2 * TOKENS_MAX);
        }
    }
}
