//! Whether a runtime token is what its issuer signed, and holds at this moment.

use std::ops::Range;

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};
use serde::de::{Deserializer, Error, IgnoredAny, Visitor};
use serde::{Deserialize, de};

use crate::crypto::sha256::sha256;
use crate::domain::runtime_token::{PresentedToken, TokenVerdict, Vouched};
use crate::domain::time::Timestamp;

/// The longest token, in bytes.
const TOKEN_BYTES_MAX: usize = 8 * 1024;

/// How far the issuer's clock may be from this one, in seconds.
const LEEWAY_SECS: u64 = 30;

/// A token whose header may be believed as far as the choice of a key goes.
pub(super) struct Unverified<'a> {
    text: &'a str,
    key_id: Option<String>,
}

/// The header's members that matter. One that stands twice is an error.
#[derive(Deserialize)]
struct Head {
    alg: String,
    #[serde(default)]
    kid: Option<String>,
    #[serde(default)]
    crit: Option<IgnoredAny>,
    #[serde(default)]
    jwk: Option<IgnoredAny>,
    #[serde(default)]
    jku: Option<IgnoredAny>,
    #[serde(default)]
    x5c: Option<IgnoredAny>,
    #[serde(default)]
    x5u: Option<IgnoredAny>,
}

impl<'a> Unverified<'a> {
    /// Reads a token's header and nothing else of it.
    pub(super) fn read(token: &'a PresentedToken<'_>) -> Result<Self, TokenVerdict> {
        let text = token.as_str();
        if text.len() > TOKEN_BYTES_MAX {
            return Err(TokenVerdict::TooLarge);
        }
        let mut parts = text.split('.');
        let (Some(head), Some(_), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
            return Err(TokenVerdict::Malformed);
        };
        let head = data_encoding::BASE64URL_NOPAD.decode(head.as_bytes());
        let head = head.map_err(|_| TokenVerdict::Malformed)?;
        let head: Head = serde_json::from_slice(&head).map_err(|_| TokenVerdict::Malformed)?;
        if head.alg != "ES256" {
            return Err(TokenVerdict::Algorithm);
        }
        let brings_a_key = [head.jwk, head.jku, head.x5c, head.x5u].iter().any(Option::is_some);
        if brings_a_key || head.crit.is_some() {
            return Err(TokenVerdict::Header);
        }
        Ok(Self { text, key_id: head.kid })
    }

    /// What it is known by once it is verified.
    pub(super) fn hash(&self) -> [u8; 32] {
        sha256(self.text.as_bytes())
    }

    /// The key that it says to be signed with.
    pub(super) fn key_id(&self) -> Option<&str> {
        self.key_id.as_deref()
    }
}

/// What an issuer's tokens have to say of themselves.
pub(super) struct Rules(Validation);

/// The claims that matter. One that stands twice is an error; null is as good as absent.
#[derive(Deserialize)]
struct Claims {
    #[serde(default)]
    #[expect(dead_code, reason = "read for its type: the library would take a list, too")]
    iss: Option<String>,
    #[serde(default)]
    exp: Option<Seconds>,
    #[serde(default)]
    nbf: Option<Seconds>,
    #[serde(default)]
    iat: Option<Seconds>,
    #[serde(default)]
    org_id: Option<Id>,
    #[serde(default)]
    ext_id: Option<Id>,
    #[serde(default)]
    proj_id: Option<Id>,
    #[serde(default)]
    pi_id: Option<Id>,
}

/// Seconds since the epoch, whole or not (RFC 7519, section 2).
#[derive(Clone, Copy)]
struct Seconds(u64);

/// An id: text, or an integer that becomes text.
struct Id(Box<str>);

impl Rules {
    /// For tokens of an issuer that goes by this name. The time is checked here: the library reads its own clock, and
    /// passes over an `nbf` or `exp` that it cannot read.
    pub(super) fn of_issuer(name: &str) -> Self {
        let mut validation = Validation::new(Algorithm::ES256);
        validation.set_required_spec_claims(&["exp", "iss"]);
        validation.set_issuer(&[name]);
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation.validate_aud = false; // the issuer's, for whoever receives the delivery
        Self(validation)
    }

    /// Checks signature and issuer, and that all is said that has to be.
    pub(super) fn verify(&self, token: &Unverified<'_>, key: &DecodingKey) -> Result<Signed, TokenVerdict> {
        let verified = decode::<Claims>(token.text, key, &self.0);
        let claims = verified.map_err(|error| verdict(error.kind()))?.claims;
        let Seconds(exp) = claims.exp.ok_or(TokenVerdict::Incomplete)?;
        let from = [claims.nbf, claims.iat]
            .into_iter()
            .flatten()
            .map(|Seconds(at)| at)
            .max();
        let stated = |id: Option<Id>| id.map(|Id(text)| text).ok_or(TokenVerdict::Incomplete);
        let vouched = Vouched {
            organization: stated(claims.org_id)?,
            extension: stated(claims.ext_id)?,
            project: stated(claims.proj_id)?,
            product_installation: claims.pi_id.map(|Id(text)| text),
        };
        Ok(Signed::new(from.unwrap_or(0)..exp, vouched))
    }
}

/// What an issuer signed, for a time.
pub(super) struct Signed {
    /// In seconds since the epoch: from `nbf` or `iat`, whichever is later, until `exp`.
    time: Range<u64>,
    vouched: Vouched,
}

impl Signed {
    pub(super) const fn new(time: Range<u64>, vouched: Vouched) -> Self {
        Self { time, vouched }
    }

    /// What it vouches for, if this is its time.
    pub(super) const fn at(&self, now: Timestamp) -> Result<&Vouched, TokenVerdict> {
        let now = now.as_secs();
        if now >= self.time.end.saturating_add(LEEWAY_SECS) {
            return Err(TokenVerdict::Expired);
        }
        if self.time.start > now.saturating_add(LEEWAY_SECS) {
            return Err(TokenVerdict::NotYetValid);
        }
        Ok(&self.vouched)
    }
}

fn verdict(kind: &ErrorKind) -> TokenVerdict {
    match kind {
        ErrorKind::InvalidSignature => TokenVerdict::Signature,
        ErrorKind::InvalidIssuer => TokenVerdict::Issuer,
        ErrorKind::MissingRequiredClaim(_) => TokenVerdict::Incomplete,
        ErrorKind::InvalidAlgorithm => TokenVerdict::Algorithm,
        _ => TokenVerdict::Malformed,
    }
}

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl Visitor<'_> for Reader {
            type Value = Seconds;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("seconds since the epoch")
            }

            fn visit_u64<E: Error>(self, value: u64) -> Result<Seconds, E> {
                Ok(Seconds(value))
            }

            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "checked; a fraction is cut"
            )]
            fn visit_f64<E: Error>(self, value: f64) -> Result<Seconds, E> {
                if value.is_finite() && value >= 0.0 {
                    Ok(Seconds(value as u64))
                } else {
                    Err(E::invalid_value(de::Unexpected::Other("a number"), &self))
                }
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl Visitor<'_> for Reader {
            type Value = Id;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a text or an integer")
            }

            fn visit_str<E: Error>(self, value: &str) -> Result<Id, E> {
                Ok(Id(value.into()))
            }

            fn visit_u64<E: Error>(self, value: u64) -> Result<Id, E> {
                Ok(Id(value.to_string().into()))
            }

            fn visit_i64<E: Error>(self, value: i64) -> Result<Id, E> {
                Ok(Id(value.to_string().into()))
            }
        }
        deserializer.deserialize_any(Reader)
    }
}
