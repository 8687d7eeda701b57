//! Whether an export is the log as it stood: recomputed with a public key alone, no store and no keyring.
//!
//! An export has every field that a hash covers, the hashes, and the signed checkpoints of its chains. Entries come
//! newest first, those of several chains mixed. What is newer than the last checkpoint is linked but not signed: anybody
//! could have made it up, so a report says up to where a chain is signed.

use std::collections::BTreeMap;

use super::verify::{ChainReport, Finding, pruned_up_to};
use crate::crypto::chain::{GENESIS, entry_hash};
use crate::domain::audit::AuditEntry;
use crate::domain::id::OrganizationId;
use crate::store::CheckpointRow;

/// An entry as an export has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportedEntry {
    /// Position in its chain.
    pub sequence: u64,
    /// The entry.
    pub entry: AuditEntry,
    /// What the export says its hash is.
    pub hash: [u8; 32],
}

/// Holds an export's entries against checkpoints, one after the other: of the entries, one a chain is kept.
pub struct ExportVerifier {
    chains: BTreeMap<Option<OrganizationId>, Chain>,
}

struct Chain {
    report: ChainReport,
    checkpoints: BTreeMap<u64, [u8; 32]>,
    /// The last entry seen, whose link to the one before it is not known yet.
    oldest: Option<ExportedEntry>,
    pruned_up_to: Option<u64>,
}

impl ExportVerifier {
    /// A verifier that knows these checkpoints: those of the export, and any that were kept beside it, from the log for
    /// one. One that `public_key` did not sign is a finding.
    #[must_use]
    pub fn new(public_key: &[u8], checkpoints: impl IntoIterator<Item = CheckpointRow>) -> Self {
        let mut chains = BTreeMap::new();
        for CheckpointRow { checkpoint, signature } in checkpoints {
            let chain: &mut Chain = Chain::at(&mut chains, checkpoint.organization.as_ref());
            let sequence = checkpoint.sequence;
            if !checkpoint.is_signed(public_key, &signature) {
                chain
                    .report
                    .finding
                    .get_or_insert(Finding::CheckpointForged { sequence });
            } else if chain.checkpoints.insert(sequence, checkpoint.hash).is_none() {
                chain.report.signed(sequence);
            }
        }
        Self { chains }
    }

    /// The next entry of an export. Within a chain, each comes right after the one that follows it in the log.
    pub fn entry(&mut self, next: ExportedEntry) {
        let chain = Chain::at(&mut self.chains, next.entry.organization.as_ref());
        if chain.report.finding.is_none() {
            chain.report.finding = chain.take(next).err();
        }
    }

    /// What was found of each chain that the export or a checkpoint names.
    #[must_use]
    pub fn finish(self) -> Vec<ChainReport> {
        let finished = self.chains.into_values().map(|mut chain| {
            if chain.report.finding.is_none() {
                chain.report.finding = chain.end().err();
            }
            chain.report
        });
        finished.collect()
    }
}

impl Chain {
    fn at<'a>(
        chains: &'a mut BTreeMap<Option<OrganizationId>, Self>,
        organization: Option<&OrganizationId>,
    ) -> &'a mut Self {
        chains.entry(organization.cloned()).or_insert_with(|| Self {
            report: ChainReport::of(organization.cloned()),
            checkpoints: BTreeMap::new(),
            oldest: None,
            pruned_up_to: None,
        })
    }

    fn take(&mut self, next: ExportedEntry) -> Result<(), Finding> {
        let sequence = next.sequence;
        match self.oldest.take() {
            None => self.report.last = Some(sequence),
            Some(later) if later.sequence.checked_sub(1) == Some(sequence) => link(&later, &next.hash)?,
            Some(later) => {
                return Err(Finding::Missing {
                    expected: later.sequence.saturating_sub(1),
                });
            }
        }
        if self.checkpoints.get(&sequence).is_some_and(|hash| *hash != next.hash) {
            return Err(Finding::CheckpointContradicted { sequence });
        }
        self.report.first = Some(sequence);
        self.report.entries = self.report.entries.saturating_add(1);
        self.pruned_up_to = self.pruned_up_to.or(pruned_up_to(&next.entry));
        self.oldest = Some(next);
        Ok(())
    }

    /// Holds the oldest entry against where the chain begins, and the newest against the checkpoints.
    fn end(&mut self) -> Result<(), Finding> {
        let last = self.report.last.unwrap_or(0);
        if let Some((expected, _)) = self.checkpoints.last_key_value()
            && *expected > last
        {
            let expected = *expected;
            return Err(Finding::Cut { last, expected });
        }
        if let Some(oldest) = self.oldest.take() {
            let first = oldest.sequence;
            let before = first.saturating_sub(1);
            let removed = Finding::StartRemoved { first };
            let previous = match before {
                0 => &GENESIS,
                before => self.checkpoints.get(&before).ok_or(removed)?,
            };
            link(&oldest, previous)?;
            if self.pruned_up_to.unwrap_or(0) != before {
                return Err(removed);
            }
        }
        match self.report.signed_up_to {
            Some(_) => Ok(()),
            None => Err(Finding::Unsigned),
        }
    }
}

/// Whether an entry's hash is the one of its fields after the entry before.
fn link(entry: &ExportedEntry, previous: &[u8; 32]) -> Result<(), Finding> {
    let sequence = entry.sequence;
    if entry_hash(previous, sequence, &entry.entry) == entry.hash {
        Ok(())
    } else {
        Err(Finding::Altered { sequence })
    }
}
