//! Whether a chain is as it was written: every link and MAC, where it begins and ends, and every signed head of it.

use std::collections::VecDeque;

use crate::crypto::chain::{ChainBreak, ChainKey, GENESIS, Link};
use crate::crypto::keyring::{Keyring, KeyringError};
use crate::domain::audit::{Action, AuditEntry, Outcome};
use crate::domain::id::OrganizationId;
use crate::store::{ChainHead, CheckpointRow, LinkedEntry, SharedStore, StoreError};

/// Rows that are held at a time.
const PAGE: u32 = 500;

/// What is wrong with a chain. The first thing found is told: what follows it proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Finding {
    /// Entries were removed, inserted or reordered.
    #[error("entry {expected} does not stand where it belongs")]
    Missing {
        /// The position that belongs there.
        expected: u64,
    },
    /// An entry, or its link to the one before, is not what was written.
    #[error("entry {sequence} was altered, or follows another entry than it did")]
    Altered {
        /// Its position.
        sequence: u64,
    },
    /// An entry cannot be read at all.
    #[error("entry {sequence} cannot be read")]
    Unreadable {
        /// Its position.
        sequence: u64,
    },
    /// The chain ends before an entry that was there once.
    #[error("the chain ends with entry {last}, and entry {expected} was there")]
    Cut {
        /// The last entry there is; 0 where there is none.
        last: u64,
        /// One that was written.
        expected: u64,
    },
    /// What is kept as the chain's end is not its end.
    #[error("the chain's head was altered or removed")]
    Head,
    /// A checkpoint was not signed by this store's key, or not as it stands there.
    #[error("the checkpoint at entry {sequence} is not as it was signed")]
    CheckpointForged {
        /// Where it stands.
        sequence: u64,
    },
    /// A signed checkpoint knew another entry at its place.
    #[error("entry {sequence} is another one than the checkpoint there signed")]
    CheckpointContradicted {
        /// Where it stands.
        sequence: u64,
    },
    /// Entries are gone from the start, and no entry says that retention removed just these.
    #[error("the chain begins with entry {first}, and retention did not remove what was before it")]
    StartRemoved {
        /// The first entry there is.
        first: u64,
    },
    /// A row names a chain that there cannot be. Told of the platform's chain.
    #[error("a row of the log names no organization")]
    Nameless,
    /// Nothing of it was ever signed, so anybody could have made it. Told of exports only.
    #[error("no signed checkpoint covers any entry")]
    Unsigned,
}

impl Finding {
    /// The word in answers and logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Missing { .. } => "missing-entry",
            Self::Altered { .. } => "altered-entry",
            Self::Unreadable { .. } => "unreadable-entry",
            Self::Cut { .. } => "cut",
            Self::Head => "altered-head",
            Self::CheckpointForged { .. } => "forged-checkpoint",
            Self::CheckpointContradicted { .. } => "contradicted-checkpoint",
            Self::StartRemoved { .. } => "removed-start",
            Self::Nameless => "nameless-chain",
            Self::Unsigned => "unsigned",
        }
    }

    /// The position it is about.
    #[must_use]
    pub const fn sequence(self) -> Option<u64> {
        match self {
            Self::Missing { expected: sequence }
            | Self::Altered { sequence }
            | Self::Unreadable { sequence }
            | Self::Cut { expected: sequence, .. }
            | Self::CheckpointForged { sequence }
            | Self::CheckpointContradicted { sequence }
            | Self::StartRemoved { first: sequence } => Some(sequence),
            Self::Head | Self::Nameless | Self::Unsigned => None,
        }
    }
}

/// What was found of one chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainReport {
    /// Whose; the platform's where `None`.
    pub organization: Option<OrganizationId>,
    /// The first entry there is.
    pub first: Option<u64>,
    /// The last entry that holds.
    pub last: Option<u64>,
    /// How many entries hold.
    pub entries: u64,
    /// How many checkpoints hold.
    pub checkpoints: u64,
    /// Up to which entry the chain is signed.
    pub signed_up_to: Option<u64>,
    /// What is wrong; `None` where the chain is intact.
    pub finding: Option<Finding>,
}

impl ChainReport {
    pub(super) const fn of(organization: Option<OrganizationId>) -> Self {
        Self {
            organization,
            first: None,
            last: None,
            entries: 0,
            checkpoints: 0,
            signed_up_to: None,
            finding: None,
        }
    }

    pub(super) fn signed(&mut self, sequence: u64) {
        self.checkpoints = self.checkpoints.saturating_add(1);
        self.signed_up_to = self.signed_up_to.max(Some(sequence));
    }
}

/// The position that an entry of retention says was the last one removed.
pub(super) fn pruned_up_to(entry: &AuditEntry) -> Option<u64> {
    let is_prune = entry.action == Action::AuditPrune && entry.outcome == Outcome::Ok;
    entry.version.filter(|_| is_prune)
}

/// What chains are verified with.
#[derive(Debug, Clone)]
pub struct Verifier {
    pub(super) chain: ChainKey,
    public_key: Vec<u8>,
}

impl Verifier {
    /// The verifier of what this keyring links and signs.
    ///
    /// # Errors
    /// [`KeyringError`], which reading the keyring has ruled out.
    pub fn new(keyring: &Keyring) -> Result<Self, KeyringError> {
        Ok(Self {
            chain: keyring.chain_key(),
            public_key: keyring.checkpoint_key()?.public_key(),
        })
    }

    /// What an auditor keeps to verify exports with: 32 bytes.
    #[must_use]
    pub fn public_key(&self) -> &[u8] {
        &self.public_key
    }

    pub(super) fn is_signed(&self, row: &CheckpointRow) -> bool {
        row.checkpoint.is_signed(&self.public_key, &row.signature)
    }

    /// Every chain that anything is left of.
    ///
    /// # Errors
    /// [`StoreError`] where the store does not answer.
    pub async fn verify_all(&self, store: &SharedStore) -> Result<Vec<ChainReport>, StoreError> {
        let mut reports = Vec::new();
        let chains = match store.chains().await {
            Err(StoreError::Damaged) => {
                let mut nameless = ChainReport::of(None);
                nameless.finding = Some(Finding::Nameless);
                reports.push(nameless);
                let known = store.organizations().await?;
                std::iter::once(None).chain(known.into_iter().map(Some)).collect()
            }
            chains => chains?,
        };
        for organization in chains {
            reports.push(self.verify(store, organization.as_ref()).await?);
        }
        Ok(reports)
    }

    /// One chain, page by page: from its start, or from the checkpoint that retention left it to begin with.
    ///
    /// # Errors
    /// [`StoreError`] where the store does not answer. A damaged row is a finding.
    pub async fn verify(
        &self,
        store: &SharedStore,
        organization: Option<&OrganizationId>,
    ) -> Result<ChainReport, StoreError> {
        let report = self.walk(store, organization).await?;
        match report.finding {
            None => Ok(report),
            // Retention may have removed what was about to be read: then a second look finds nothing.
            Some(_) => self.walk(store, organization).await,
        }
    }

    async fn walk(
        &self,
        store: &SharedStore,
        organization: Option<&OrganizationId>,
    ) -> Result<ChainReport, StoreError> {
        let mut walk = Walk {
            verifier: self,
            store,
            organization,
            report: ChainReport::of(organization.cloned()),
            reached: 0,
            hash: GENESIS,
            position: 0,
            pruned_up_to: None,
            checkpoints: VecDeque::new(),
            checkpoints_from: Some(0),
        };
        match walk.whole().await {
            Ok(()) => {}
            Err(Stopped::Found(finding)) => walk.report.finding = Some(finding),
            Err(Stopped::Store(error)) => return Err(error),
        }
        Ok(walk.report)
    }
}

/// Why a walk did not get to its end.
enum Stopped {
    Found(Finding),
    Store(StoreError),
}

impl From<Finding> for Stopped {
    fn from(finding: Finding) -> Self {
        Self::Found(finding)
    }
}

/// A damaged row is found; any other failure is the store's.
fn found(finding: Finding) -> impl Fn(StoreError) -> Stopped {
    move |error| match error {
        StoreError::Damaged => Stopped::Found(finding),
        other => Stopped::Store(other),
    }
}

struct Walk<'a> {
    verifier: &'a Verifier,
    store: &'a SharedStore,
    organization: Option<&'a OrganizationId>,
    report: ChainReport,
    /// The last entry that holds, and its hash and place in the whole log.
    reached: u64,
    hash: [u8; 32],
    position: u64,
    pruned_up_to: Option<u64>,
    /// Checkpoints not held against anything yet, and where the next ones begin.
    checkpoints: VecDeque<CheckpointRow>,
    checkpoints_from: Option<u64>,
}

impl Walk<'_> {
    async fn whole(&mut self) -> Result<(), Stopped> {
        let head = self.head().await?;
        let end = head.as_ref().map_or(0, |head| head.sequence);
        self.start().await?;
        let mut page_rows = PAGE;
        loop {
            let expected = self.reached.saturating_add(1);
            let page = match self.store.chain(self.organization, expected, page_rows).await {
                Err(StoreError::Damaged) if page_rows > 1 => {
                    page_rows = 1; // one by one up to the one that cannot be read
                    continue;
                }
                page => page.map_err(found(Finding::Unreadable { sequence: expected }))?,
            };
            if page.is_empty() {
                break;
            }
            self.hold(&page, head.as_ref())?;
            self.hold_checkpoints(&page).await?;
            if self.reached >= end && page.len() < page_rows as usize {
                break;
            }
        }
        self.end(end).await
    }

    async fn head(&self) -> Result<Option<ChainHead>, Stopped> {
        let head = self.store.chain_head(self.organization).await;
        head.map_err(found(Finding::Head))
    }

    /// Finds where the chain begins: at its first entry, or behind a checkpoint.
    async fn start(&mut self) -> Result<(), Stopped> {
        let first = match self.store.chain(self.organization, 0, 1).await {
            Ok(first) => first.first().map(|linked| linked.sequence),
            Err(StoreError::Damaged) => None, // which one it is, the walk tells
            Err(error) => return Err(Stopped::Store(error)),
        };
        self.report.first = first;
        let before = first.unwrap_or(1).saturating_sub(1);
        if before == 0 {
            return Ok(());
        }
        let removed = Finding::StartRemoved {
            first: before.saturating_add(1),
        };
        let rows = self.store.checkpoints(self.organization, before, 1).await;
        let rows = rows.map_err(found(removed))?;
        let row = rows.first().filter(|row| row.checkpoint.sequence == before);
        let row = row.filter(|row| self.verifier.is_signed(row)).ok_or(removed)?;
        (self.reached, self.hash) = (before, row.checkpoint.hash);
        Ok(())
    }

    fn hold(&mut self, page: &[LinkedEntry], head: Option<&ChainHead>) -> Result<(), Finding> {
        for linked in page {
            let part: [(u64, &AuditEntry, Link); 1] = [(linked.sequence, &linked.entry, linked.link)];
            let held = self.verifier.chain.verify(&self.hash, self.reached, &part);
            self.hash = held.map_err(|error| match error {
                ChainBreak::Sequence { expected } => Finding::Missing { expected },
                ChainBreak::Altered { sequence } => Finding::Altered { sequence },
            })?;
            if linked.position <= self.position {
                let expected = linked.sequence;
                return Err(Finding::Missing { expected }); // moved within the list
            }
            (self.reached, self.position) = (linked.sequence, linked.position);
            self.report.last = Some(self.reached);
            self.report.entries = self.report.entries.saturating_add(1);
            self.pruned_up_to = pruned_up_to(&linked.entry).or(self.pruned_up_to);
            if head.is_some_and(|head| head.sequence == self.reached && head.hash != self.hash) {
                return Err(Finding::Head);
            }
        }
        Ok(())
    }

    /// Holds the checkpoints up to a page's end against its entries.
    async fn hold_checkpoints(&mut self, page: &[LinkedEntry]) -> Result<(), Stopped> {
        let begin = page.first().map_or(0, |linked| linked.sequence);
        while let Some(row) = self.next_checkpoint(self.reached).await? {
            let sequence = row.checkpoint.sequence;
            let offset = sequence.checked_sub(begin).and_then(|n| usize::try_from(n).ok());
            let entry = offset.and_then(|offset| page.get(offset));
            if entry.is_some_and(|linked| linked.link.hash != row.checkpoint.hash) {
                return Err(Finding::CheckpointContradicted { sequence }.into());
            }
            self.report.signed(sequence);
        }
        Ok(())
    }

    /// The next checkpoint up to an entry, if it is as it was signed.
    async fn next_checkpoint(&mut self, up_to: u64) -> Result<Option<CheckpointRow>, Stopped> {
        if let (true, Some(from)) = (self.checkpoints.is_empty(), self.checkpoints_from) {
            let rows = self.store.checkpoints(self.organization, from, PAGE).await;
            let rows = rows.map_err(found(Finding::CheckpointForged { sequence: from }))?;
            let last = rows.last().map(|row| row.checkpoint.sequence.saturating_add(1));
            self.checkpoints_from = last.filter(|_| rows.len() == PAGE as usize);
            self.checkpoints = rows.into();
        }
        let due = |row: &CheckpointRow| row.checkpoint.sequence <= up_to;
        if !self.checkpoints.front().is_some_and(due) {
            return Ok(None);
        }
        let Some(row) = self.checkpoints.pop_front() else {
            return Ok(None);
        };
        if self.verifier.is_signed(&row) {
            return Ok(Some(row));
        }
        let sequence = row.checkpoint.sequence;
        Err(Finding::CheckpointForged { sequence }.into())
    }

    /// Holds the end against the head and the checkpoints, and the beginning against what retention said it removed.
    async fn end(&mut self, end: u64) -> Result<(), Stopped> {
        let last = self.report.last.unwrap_or(0);
        if last < end {
            return Err(Finding::Cut { last, expected: end }.into());
        }
        // What was appended meanwhile moved the head along.
        let head = self.head().await?.map_or(0, |head| head.sequence);
        if head < last {
            return Err(Finding::Head.into());
        }
        while let Some(row) = self.next_checkpoint(u64::MAX).await? {
            let expected = row.checkpoint.sequence;
            if expected > head {
                return Err(Finding::Cut { last, expected }.into());
            }
        }
        let begins_behind = self.report.first.unwrap_or(1).saturating_sub(1);
        if self.pruned_up_to.unwrap_or(0) != begins_behind {
            let first = begins_behind.saturating_add(1);
            return Err(Finding::StartRemoved { first }.into());
        }
        Ok(())
    }
}
