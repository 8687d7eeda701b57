//! How a token is made, and how a presented one is compared with an expected one: by digest, in constant time.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use super::sha256::sha256;

/// What every token's text begins with, so that a leaked one is recognised for what it is.
pub const TOKEN_PREFIX: &str = "kst_";

/// A token chosen at random: 256 bits.
#[derive(Debug)]
pub struct MintedToken {
    /// Its public name.
    pub id: String,
    /// What its holder shows.
    pub text: SecretString,
}

/// The system gives no randomness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no randomness")]
pub struct NoRandomness;

impl MintedToken {
    /// Makes one.
    ///
    /// # Errors
    /// [`NoRandomness`].
    pub fn mint() -> Result<Self, NoRandomness> {
        let mut id = [0; 12];
        let mut text = Zeroizing::new([0; 32]);
        aws_lc_rs::rand::fill(&mut id).map_err(|_| NoRandomness)?;
        aws_lc_rs::rand::fill(text.as_mut_slice()).map_err(|_| NoRandomness)?;
        Ok(Self {
            id: format!("tok_{}", HEXLOWER.encode(&id)),
            text: SecretString::from(format!("{TOKEN_PREFIX}{}", BASE64URL_NOPAD.encode(text.as_slice()))),
        })
    }

    /// The text, for the one answer that shows it.
    #[must_use]
    pub fn into_text(self) -> String {
        self.text.expose_secret().to_owned()
    }
}

/// The digest of a token that was chosen at random; it cannot be guessed back from its digest.
pub struct TokenDigest([u8; 32]);

impl TokenDigest {
    /// The digest of a token's text.
    #[must_use]
    pub fn of(text: &[u8]) -> Self {
        Self(sha256(text))
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
