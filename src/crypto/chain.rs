//! How audit entries hold each other in place: each hash covers an entry, its position and the hash before; each MAC
//! covers the hash.
//!
//! Whoever lacks the key cannot alter, remove, insert or reorder entries unseen. Whoever has an export and a public key
//! can recompute the hashes and hold them against a signed checkpoint (`crypto::checkpoint`). That the end of a chain
//! was cut is seen only by someone who remembers a later head: a checkpoint.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;

use super::encoding::Encoder;
use super::keyring::digest;
use super::locked::Locked;
use super::sha256::sha256;
use crate::domain::audit::AuditEntry;

/// What stands before the first entry of every chain.
pub const GENESIS: [u8; 32] = [0; 32];

/// How an entry is held in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// Covers the entry, its position and the hash before. Needs no key.
    pub hash: [u8; 32],
    /// Covers the hash.
    pub mac: [u8; 32],
}

/// The key that links entries. Not printable.
#[derive(Clone)]
pub struct ChainKey(Arc<Locked>);

impl fmt::Debug for ChainKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ChainKey(..)")
    }
}

/// Where a chain does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChainBreak {
    /// Another position stands where this one belongs: entries were removed, inserted or reordered.
    #[error("the chain does not go on with entry {expected}")]
    Sequence {
        /// The position that belongs here.
        expected: u64,
    },
    /// The entry, or its link to the one before, is not what was written.
    #[error("entry {sequence} of the chain was altered, or follows another entry than it did")]
    Altered {
        /// The entry's position.
        sequence: u64,
    },
}

impl ChainKey {
    pub(super) fn new(key: Locked) -> Self {
        Self(Arc::new(key))
    }

    pub(super) fn key(&self) -> &Locked {
        &self.0
    }

    /// The link of an entry at a position (from 1), after the entry whose hash is `previous` ([`GENESIS`] before the
    /// first).
    #[must_use]
    pub fn link(&self, previous: &[u8; 32], sequence: u64, entry: &AuditEntry) -> Link {
        let hash = entry_hash(previous, sequence, entry);
        Link {
            hash,
            mac: digest(&self.0, &hash),
        }
    }

    /// Checks the part of a chain behind position `after` (0: from its start), whose hash is `previous`; returns the
    /// hash of its last entry, from which the next part goes on.
    ///
    /// # Errors
    /// [`ChainBreak`] at the first entry that does not hold.
    pub fn verify(
        &self,
        previous: &[u8; 32],
        after: u64,
        part: &[(u64, &AuditEntry, Link)],
    ) -> Result<[u8; 32], ChainBreak> {
        let mut head = *previous;
        let mut expected = after;
        for (sequence, entry, link) in part {
            expected = expected.saturating_add(1);
            if *sequence != expected {
                return Err(ChainBreak::Sequence { expected });
            }
            let right = self.link(&head, *sequence, entry);
            let holds = right.hash == link.hash && verify_slices_are_equal(&right.mac, &link.mac).is_ok();
            if !holds {
                return Err(ChainBreak::Altered { sequence: *sequence });
            }
            head = right.hash;
        }
        Ok(head)
    }
}

/// The hash of an entry at a position (from 1), after the entry whose hash is `previous` ([`GENESIS`] before the first).
#[must_use]
pub fn entry_hash(previous: &[u8; 32], sequence: u64, entry: &AuditEntry) -> [u8; 32] {
    // Every field is named, so that a new one cannot be forgotten here.
    let AuditEntry {
        organization,
        at,
        actor,
        action,
        source,
        outcome,
        scope,
        subject,
        key,
        version,
        external,
        delivered,
    } = entry;
    let encoded = Encoder::new("kiket.audit-entry.v1")
        .bytes(previous)
        .number(sequence)
        .optional(organization.as_ref(), |encoder, id| encoder.text(id.as_str()))
        .number(at.0)
        .text(&actor.id)
        .text(&actor.name)
        .text(action.name())
        .text(source.name())
        .text(outcome.name())
        .optional(*scope, Encoder::scope)
        .optional(subject.as_ref(), |encoder, id| encoder.text(id.as_str()))
        .optional(key.as_ref(), |encoder, key| encoder.text(key.as_str()))
        .optional(*version, Encoder::number)
        .flag(*external)
        .optional(delivered.as_ref(), |encoder, delivered| {
            encoder.text(&delivered.destination).number(delivered.count)
        })
        .finish();
    sha256(&encoded)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use data_encoding::HEXLOWER;

    use super::*;
    use crate::domain::audit::{Action, Actor, Delivered, Outcome, Source};
    use crate::domain::id::{OrganizationId, ScopeId};
    use crate::domain::key::SecretKey;
    use crate::domain::scope::Scope;
    use crate::domain::time::Timestamp;

    fn key_of(byte: u8) -> ChainKey {
        let mut key = Locked::zeroed(32).unwrap();
        key.expose_secret_mut().fill(byte);
        ChainKey::new(key)
    }

    fn key() -> ChainKey {
        key_of(7)
    }

    fn entry(version: u64) -> AuditEntry {
        AuditEntry {
            organization: Some(OrganizationId::parse("acme").unwrap()),
            at: Timestamp(1_700_000_000_000),
            actor: Actor {
                id: "tok_1".into(),
                name: "ops".into(),
            },
            action: Action::SecretRotate,
            source: Source::Api,
            outcome: Outcome::Ok,
            scope: Some(Scope::Project),
            subject: Some(ScopeId::parse("p1").unwrap()),
            key: Some(SecretKey::parse("K").unwrap()),
            version: Some(version),
            external: false,
            delivered: None,
        }
    }

    fn chain(entries: &[AuditEntry]) -> Vec<(u64, &AuditEntry, Link)> {
        let mut head = GENESIS;
        entries
            .iter()
            .zip(1..)
            .map(|(entry, sequence)| {
                let link = key().link(&head, sequence, entry);
                head = link.hash;
                (sequence, entry, link)
            })
            .collect()
    }

    #[test]
    fn a_link_is_the_one_that_stored_chains_depend_on() {
        let Link { hash, mac } = key().link(&GENESIS, 1, &entry(1));
        assert_eq!(
            HEXLOWER.encode(&hash),
            "89ed27f5384a38fa703fd60ecf6e96cabd42a81c0ecd7e001c2edc233b23fbc3"
        );
        assert_eq!(
            HEXLOWER.encode(&mac),
            "6819c0d6fb8f4709f0a8661fed2b3d2f267d4daac01f32688f3f2ef3d64a2829"
        );
    }

    #[test]
    fn a_chain_holds_whole_and_in_parts() {
        let entries: Vec<_> = (1..=5).map(entry).collect();
        let chain = chain(&entries);
        let whole = key().verify(&GENESIS, 0, &chain).unwrap();
        let half = key().verify(&GENESIS, 0, &chain[..2]).unwrap();
        assert_eq!(key().verify(&half, 2, &chain[2..]), Ok(whole));
        assert_eq!(key().verify(&whole, 5, &[]), Ok(whole));
        let other = key_of(8);
        assert_eq!(
            other.verify(&GENESIS, 0, &chain),
            Err(ChainBreak::Altered { sequence: 1 })
        );
    }

    #[test]
    fn a_removed_inserted_or_reordered_entry_breaks_the_chain() {
        let entries: Vec<_> = (1..=4).map(entry).collect();
        let good = chain(&entries);
        let verify = |part: &[_]| key().verify(&GENESIS, 0, part);

        let mut removed = good.clone();
        removed.remove(1);
        assert_eq!(verify(&removed), Err(ChainBreak::Sequence { expected: 2 }));
        let mut renumbered = removed.clone();
        (renumbered[1].0, renumbered[2].0) = (2, 3);
        assert_eq!(verify(&renumbered), Err(ChainBreak::Altered { sequence: 2 }));
        let mut twice = good.clone();
        twice.insert(1, good[0]);
        assert_eq!(verify(&twice), Err(ChainBreak::Sequence { expected: 2 }));
        let mut swapped = good.clone();
        (swapped[1].1, swapped[2].1) = (good[2].1, good[1].1);
        assert_eq!(verify(&swapped), Err(ChainBreak::Altered { sequence: 2 }));
        assert_eq!(verify(&good[1..]), Err(ChainBreak::Sequence { expected: 1 }));
    }

    #[test]
    fn every_field_of_an_entry_is_covered() {
        let alter: [fn(&mut AuditEntry); 19] = [
            |e| e.organization = None,
            |e| e.organization = Some(OrganizationId::parse("other").unwrap()),
            |e| e.at = Timestamp(e.at.0 + 1),
            |e| e.actor.id.push('x'),
            |e| e.actor.name.push('x'),
            |e| {
                e.actor = Actor {
                    id: "tok_1o".into(),
                    name: "ps".into(),
                }
            },
            |e| e.action = Action::SecretCreate,
            |e| e.source = Source::Cli,
            |e| e.outcome = Outcome::Refused,
            |e| e.scope = None,
            |e| e.scope = Some(Scope::Organization),
            |e| e.subject = None,
            |e| e.subject = Some(ScopeId::parse("p2").unwrap()),
            |e| e.key = None,
            |e| e.key = Some(SecretKey::parse("L").unwrap()),
            |e| e.version = None,
            |e| e.version = Some(2),
            |e| e.external = true,
            |e| {
                e.delivered = Some(Delivered {
                    destination: "https://ext.example.com:443".into(),
                    count: 1,
                });
            },
        ];
        let original = entry(1);
        let link = key().link(&GENESIS, 1, &original);
        for (n, alter) in alter.iter().enumerate() {
            let mut altered = original.clone();
            alter(&mut altered);
            let broken = key().verify(&GENESIS, 0, &[(1, &altered, link)]);
            assert_eq!(broken, Err(ChainBreak::Altered { sequence: 1 }), "alteration {n}");
        }
        assert_eq!(format!("{:?}", key()), "ChainKey(..)");
    }
}
