//! How an auditor knows that an export is the log as it stood: the head of a chain, signed now and then with Ed25519.

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};

use super::encoding::Encoder;
use super::locked::Locked;
use crate::domain::id::OrganizationId;
use crate::domain::time::Timestamp;

/// The head of a chain at a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Whose chain: an organization's, or the platform's (`None`).
    pub organization: Option<OrganizationId>,
    /// The position of its last entry.
    pub sequence: u64,
    /// That entry's hash (`crypto::chain`).
    pub hash: [u8; 32],
    /// When.
    pub at: Timestamp,
}

/// The key that signs checkpoints. `Debug` prints nothing of it.
pub struct CheckpointKey {
    seed: Locked,
    public_key: Vec<u8>,
}

impl CheckpointKey {
    /// The key of a seed, of which it takes a copy.
    pub(super) fn new(seed: &[u8]) -> Option<Self> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).ok()?;
        let mut copy = Locked::zeroed(seed.len()).ok()?;
        copy.expose_secret_mut().copy_from_slice(seed);
        Some(Self {
            seed: copy,
            public_key: pair.public_key().as_ref().to_vec(),
        })
    }

    /// Signs a checkpoint: 64 bytes. `None` where the library has no memory for the key, whose own form it keeps for
    /// this call alone: that memory is not locked.
    #[must_use]
    pub fn sign(&self, checkpoint: &Checkpoint) -> Option<Vec<u8>> {
        let pair = Ed25519KeyPair::from_seed_unchecked(self.seed.expose_secret()).ok()?;
        Some(pair.sign(&checkpoint.encoded()).as_ref().to_vec())
    }

    /// What an auditor verifies with: 32 bytes.
    #[must_use]
    pub fn public_key(&self) -> Vec<u8> {
        self.public_key.clone()
    }
}

impl std::fmt::Debug for CheckpointKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CheckpointKey(..)")
    }
}

impl Checkpoint {
    /// Whether this very checkpoint was signed by the owner of a public key.
    #[must_use]
    pub fn is_signed(&self, public_key: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, public_key)
            .verify(&self.encoded(), signature)
            .is_ok()
    }

    fn encoded(&self) -> Vec<u8> {
        Encoder::new("kiket.audit-checkpoint.v1")
            .optional(self.organization.as_ref(), |encoder, id| encoder.text(id.as_str()))
            .number(self.sequence)
            .bytes(&self.hash)
            .number(self.at.0)
            .finish()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_signature_holds_for_the_very_checkpoint_and_key_only() {
        let key = |seed: u8| CheckpointKey::new(&[seed; 32]).unwrap();
        let checkpoint = Checkpoint {
            organization: Some(OrganizationId::parse("acme").unwrap()),
            sequence: 7,
            hash: [1; 32],
            at: Timestamp(5),
        };
        let signature = key(1).sign(&checkpoint).unwrap();
        assert!(checkpoint.is_signed(&key(1).public_key(), &signature));
        assert!(!checkpoint.is_signed(&key(2).public_key(), &signature));
        assert!(!checkpoint.is_signed(&[], &signature) && !checkpoint.is_signed(&key(1).public_key(), &[]));
        let alterations: [fn(&mut Checkpoint); 4] = [
            |checkpoint| checkpoint.organization = None,
            |checkpoint| checkpoint.sequence += 1,
            |checkpoint| checkpoint.hash = [2; 32],
            |checkpoint| checkpoint.at = Timestamp(6),
        ];
        for alter in alterations {
            let mut altered = checkpoint.clone();
            alter(&mut altered);
            assert!(!altered.is_signed(&key(1).public_key(), &signature), "{altered:?}");
        }
    }
}
