//! How a presented token is compared with an expected one: by digest, in constant time.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use secrecy::{ExposeSecret, SecretString};

/// The digest of a token that was chosen at random; it cannot be guessed back from its digest.
pub struct TokenDigest([u8; 32]);

impl TokenDigest {
    /// The digest of a token's text.
    #[must_use]
    pub fn of(text: &[u8]) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest(&SHA256, text).as_ref());
        Self(bytes)
    }

    /// The digest of a token that is kept secret.
    #[must_use]
    pub fn of_secret(token: &SecretString) -> Self {
        Self::of(token.expose_secret().as_bytes())
    }

    /// Whether `text` is that token. The time taken tells nothing about how much of it is right.
    #[must_use]
    pub fn matches(&self, text: &[u8]) -> bool {
        verify_slices_are_equal(&self.0, &Self::of(text).0).is_ok()
    }
}

impl std::fmt::Debug for TokenDigest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenDigest(..)")
    }
}
