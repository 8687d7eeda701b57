//! Which keys an issuer publishes that a runtime token can be signed with.

use std::sync::Arc;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ParsedPublicKey};
use jsonwebtoken::DecodingKey;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse};
use serde::Deserialize;
use serde_json::Value;

/// The length of a coordinate on P-256 in base64url: 32 bytes, never fewer (RFC 7518, section 6.2.1.2).
const COORDINATE_LEN: usize = 43;

/// The usable keys of a JWK set (RFC 7517, section 5).
pub(super) struct KeySet(Vec<Published>);

struct Published {
    id: Option<String>,
    key: Arc<DecodingKey>,
}

/// What was fetched is no JWK set. Carries nothing of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NotAKeySet;

#[derive(Deserialize)]
struct Document {
    keys: Vec<Value>,
}

impl KeySet {
    /// Reads a set. Keys for anything but ES256 signatures are passed over, as are broken ones: an issuer may publish
    /// others beside them.
    pub(super) fn parse(document: &[u8]) -> Result<Self, NotAKeySet> {
        let document: Document = serde_json::from_slice(document).map_err(|_| NotAKeySet)?;
        Ok(Self(document.keys.into_iter().filter_map(published).collect()))
    }

    /// The key that an id names, or the only one there is where a token names none. An id that stands twice names
    /// neither: which one is meant is anybody's guess.
    pub(super) fn find(&self, id: Option<&str>) -> Option<Arc<DecodingKey>> {
        let mut named = self.0.iter().filter(|key| id.is_none() || key.id.as_deref() == id);
        match (named.next(), named.next()) {
            (Some(only), None) => Some(Arc::clone(&only.key)),
            _ => None,
        }
    }

    pub(super) const fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn published(value: Value) -> Option<Published> {
    let jwk: Jwk = serde_json::from_value(value).ok()?;
    let common = &jwk.common;
    let AlgorithmParameters::EllipticCurve(curve) = &jwk.algorithm else {
        return None;
    };
    let is_for_this = curve.curve == EllipticCurve::P256
        && curve.x.len() == COORDINATE_LEN
        && curve.y.len() == COORDINATE_LEN
        && common
            .key_algorithm
            .as_ref()
            .is_none_or(|algorithm| *algorithm == KeyAlgorithm::ES256)
        && common
            .public_key_use
            .as_ref()
            .is_none_or(|used| *used == PublicKeyUse::Signature)
        && common
            .key_operations
            .as_ref()
            .is_none_or(|operations| operations.contains(&KeyOperations::Verify));
    let key = DecodingKey::from_jwk(&jwk).ok().filter(|_| is_for_this)?;
    // A point that is not on the curve is found out here, not at the first token.
    ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key.try_get_as_bytes().ok()?).ok()?;
    Some(Published {
        id: jwk.common.key_id,
        key: Arc::new(key),
    })
}
