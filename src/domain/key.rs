//! What may name a secret.

use std::fmt;
use std::sync::Arc;

/// Longest accepted key, in bytes.
pub const KEY_BYTES_MAX: usize = 128;

/// A secret's name: `^[A-Z][A-Z0-9_]{0,127}$` (contract, section 3).
///
/// Cheap to clone; ordered by bytes, which is the order of every sorted list of keys.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SecretKey(Arc<str>);

/// The text is no secret key. Carries nothing of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a secret key is 1 to 128 of A-Z, 0-9 and _, and starts with a letter")]
pub struct KeyError;

impl SecretKey {
    /// Parses a key.
    ///
    /// # Errors
    /// [`KeyError`] where the text does not follow the rule above.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let bytes = text.as_bytes();
        let starts_with_letter = bytes.first().is_some_and(u8::is_ascii_uppercase);
        let rest_allowed = bytes
            .iter()
            .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || *b == b'_');
        if bytes.len() <= KEY_BYTES_MAX && starts_with_letter && rest_allowed {
            Ok(Self(text.into()))
        } else {
            Err(KeyError)
        }
    }

    /// The key's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_upper_snake_case_of_at_most_128_bytes() {
        for good in ["A", "MAILCHIMP_API_KEY", "A1_", &"K".repeat(128)] {
            assert!(SecretKey::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "_A", "1A", "a", "Ab", "A-B", "A B", "Ä", "A\n", &"K".repeat(129)] {
            assert_eq!(SecretKey::parse(bad), Err(KeyError), "{bad}");
        }
    }
}
