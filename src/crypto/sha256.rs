//! What bytes are known by: SHA-256, as an array.

use aws_lc_rs::digest::{Context, SHA256, digest};

/// SHA-256 of bytes (FIPS 180-4).
#[must_use]
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, bytes).as_ref());
    hash
}

/// SHA-256 of bytes that come in pieces.
pub struct Sha256(Context);

impl Sha256 {
    /// Of nothing so far.
    #[must_use]
    #[expect(
        clippy::new_without_default,
        reason = "a hash of nothing is no value to begin with by chance"
    )]
    pub fn new() -> Self {
        Self(Context::new(&SHA256))
    }

    /// Takes the next piece in.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The hash of all pieces.
    #[must_use]
    pub fn finish(self) -> [u8; 32] {
        let mut hash = [0; 32];
        hash.copy_from_slice(self.0.finish().as_ref());
        hash
    }
}
