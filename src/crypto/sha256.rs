//! What bytes are known by: SHA-256, as an array.

use aws_lc_rs::digest::{SHA256, digest};

/// SHA-256 of bytes (FIPS 180-4).
#[must_use]
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, bytes).as_ref());
    hash
}
