//! What is told to the log by the clock, and not by who did it: counts, signed heads, and what retention removed.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use data_encoding::{BASE64, HEXLOWER};
use tokio_util::sync::CancellationToken;

use super::deliveries::{Deliveries, Told};
use super::strangers::{self, Stranger, Strangers};
use super::verify::Verifier;
use crate::clock::Clock;
use crate::crypto::chain::GENESIS;
use crate::crypto::checkpoint::{Checkpoint, CheckpointKey};
use crate::crypto::keyring::{Keyring, KeyringError};
use crate::domain::audit::{Action, Actor, AuditEntry, Delivered, Source};
use crate::domain::id::OrganizationId;
use crate::domain::policy::DAY_MILLIS;
use crate::domain::scope::Slot;
use crate::domain::time::Timestamp;
use crate::store::{ChainHead, Change, CheckpointRow, PolicyRow, SharedStore, StoreError, Write};
use crate::telemetry::{AuditFailure, Metrics};

/// How often the clock is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);

const FLUSH_EVERY_MILLIS: u64 = 60 * 1_000;
const CHECKPOINT_EVERY_MILLIS: u64 = 5 * 60 * 1_000;
const PRUNE_EVERY_MILLIS: u64 = 60 * 60 * 1_000;

/// Entries, or checkpoints, of one transaction.
const TOGETHER_MAX: usize = 200;

/// Rows that are held at a time while a chain is verified up to its head.
const PAGE: u32 = 500;

/// Whether a policy's row is as it was stored: nobody may shorten the log by an edit of the database.
pub type PolicyIsAuthentic = Arc<dyn Fn(&PolicyRow) -> bool + Send + Sync>;

/// What an instance does for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogDuty {
    /// Writes what it counted.
    Counts,
    /// Signs the heads of all chains and removes what retention ends, besides.
    Whole,
}

/// Keeps the log whole. Its work may be called at any time, from anywhere; the log has each count once.
pub struct Recorder {
    store: SharedStore,
    actor: Actor,
    key: CheckpointKey,
    verifier: Verifier,
    policy_is_authentic: PolicyIsAuthentic,
    metrics: Arc<Metrics>,
    deliveries: Deliveries,
    strangers: Strangers,
    /// What was collected and could not be written yet.
    unwritten: Mutex<Unwritten>,
    /// The last checkpoint of each chain, as far as it was asked for.
    signed: Mutex<HashMap<Option<OrganizationId>, Reached>>,
}

/// An entry's position and hash.
type Reached = (u64, [u8; 32]);

#[derive(Default)]
struct Unwritten {
    deliveries: HashMap<Told, u64>,
    strangers: [u64; Stranger::ALL.len()],
}

/// Counts that somebody is writing. What is left of them when it is dropped, also halfway, is there for the next one.
struct Taken<'a> {
    from: &'a Mutex<Unwritten>,
    counts: Unwritten,
}

impl<'a> Taken<'a> {
    fn from(from: &'a Mutex<Unwritten>) -> Self {
        let counts = std::mem::take(&mut *lock(from));
        Self { from, counts }
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        let mut kept = lock(self.from);
        for (told, count) in self.counts.deliveries.drain() {
            let sum = kept.deliveries.entry(told).or_default();
            *sum = sum.saturating_add(count);
        }
        for (sum, count) in kept.strangers.iter_mut().zip(self.counts.strangers) {
            *sum = sum.saturating_add(count);
        }
    }
}

/// Every critical section leaves what it guards whole at each step, so a poisoned lock is still sound.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Recorder {
    /// A recorder that writes as `actor`, and counts in `metrics` what it could not do.
    ///
    /// # Errors
    /// [`KeyringError`], which reading the keyring has ruled out.
    pub fn new(
        store: SharedStore,
        keyring: &Keyring,
        actor: Actor,
        policy_is_authentic: PolicyIsAuthentic,
        metrics: Arc<Metrics>,
    ) -> Result<Self, KeyringError> {
        Ok(Self {
            store,
            actor,
            key: keyring.checkpoint_key()?,
            verifier: Verifier::new(keyring)?,
            policy_is_authentic,
            metrics,
            deliveries: Deliveries::default(),
            strangers: Strangers::default(),
            unwritten: Mutex::default(),
            signed: Mutex::default(),
        })
    }

    /// Where bundles get their counters.
    #[must_use]
    pub const fn deliveries(&self) -> &Deliveries {
        &self.deliveries
    }

    /// What chains of this store are verified with.
    #[must_use]
    pub const fn verifier(&self) -> &Verifier {
        &self.verifier
    }

    /// Counts a caller that was turned away before it was anybody.
    pub fn turned_away(&self, reason: Stranger) {
        self.strangers.count(reason);
    }

    /// Does its work by the clock until `stop`. What fails is tried again when it is due the next time.
    pub async fn run(self: Arc<Self>, duty: LogDuty, clock: Arc<dyn Clock>, stop: CancellationToken) {
        let now = clock.now();
        let mut flush = Due::after(now, FLUSH_EVERY_MILLIS);
        let mut checkpoint = Due::after(now, CHECKPOINT_EVERY_MILLIS);
        let mut prune = Due::after(now, PRUNE_EVERY_MILLIS);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            let now = clock.now();
            if flush.is_due(now) {
                self.report(AuditFailure::Counts, self.flush(now).await);
            }
            if duty == LogDuty::Counts {
                continue;
            }
            if checkpoint.is_due(now) {
                self.report(AuditFailure::Checkpoints, self.checkpoint(now).await);
            }
            if prune.is_due(now) {
                self.report(AuditFailure::Retention, self.prune(now).await);
            }
        }
    }

    fn report(&self, work: AuditFailure, done: Result<(), StoreError>) {
        if let Err(error) = done {
            self.metrics.audit_failures.inc(work);
            tracing::warn!(work = work.name(), %error, "the audit log could not be kept up; it is tried again");
        }
    }

    /// Writes what was counted since the last time. What cannot be written is kept for the next time.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn flush(&self, now: Timestamp) -> Result<(), StoreError> {
        let mut taken = Taken::from(&self.unwritten);
        let unwritten = &mut taken.counts;
        self.deliveries.collect(&mut unwritten.deliveries);
        self.strangers.collect(&mut unwritten.strangers);
        let entries = strangers::entries(&unwritten.strangers, now);
        if !entries.is_empty() {
            self.store.record(entries).await?;
            unwritten.strangers = Default::default();
        }
        let mut told: Vec<Told> = unwritten.deliveries.keys().cloned().collect();
        told.sort_unstable();
        for part in told.chunks(TOGETHER_MAX) {
            let count = |told: &Told| unwritten.deliveries.get(told).copied().unwrap_or_default();
            let entries = part.iter().map(|told| self.delivered(told, count(told), now)).collect();
            let slots: Vec<Slot> = part.iter().map(|told| told.used.slot.clone()).collect();
            let writes = vec![Write::SecretsUsed { slots, at: now }];
            self.store.commit(Change { writes, entries }).await?;
            for told in part {
                unwritten.deliveries.remove(told);
            }
        }
        Ok(())
    }

    fn delivered(&self, told: &Told, count: u64, now: Timestamp) -> AuditEntry {
        let organization = Some(told.organization.clone());
        let entry = AuditEntry::of(
            organization,
            now,
            self.actor.clone(),
            Action::SecretDelivered,
            told.used.source,
        );
        AuditEntry {
            delivered: Some(Delivered {
                destination: told.destination.clone(),
                count,
            }),
            ..entry.about(&told.used.slot, told.used.version, told.used.external)
        }
    }

    /// Signs the head of every chain that grew since its last checkpoint. A chain that does not hold is not signed, and
    /// an error is logged: a signature never covers what somebody put in.
    ///
    /// # Errors
    /// [`StoreError`] where the store does not answer.
    pub async fn checkpoint(&self, now: Timestamp) -> Result<(), StoreError> {
        let mut rows = Vec::new();
        for head in self.store.chain_heads().await? {
            rows.extend(self.signed_head(head, now).await?);
            if rows.len() >= TOGETHER_MAX {
                self.keep(std::mem::take(&mut rows)).await?;
            }
        }
        self.keep(rows).await
    }

    /// The same for one chain.
    ///
    /// # Errors
    /// [`StoreError`] where the store does not answer.
    pub async fn checkpoint_one(
        &self,
        organization: Option<&OrganizationId>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let Some(head) = self.store.chain_head(organization).await? else {
            return Ok(());
        };
        let row = self.signed_head(head, now).await?;
        self.keep(row.into_iter().collect()).await
    }

    /// The checkpoint of a chain that grew, if it holds since the last one.
    async fn signed_head(&self, head: ChainHead, now: Timestamp) -> Result<Option<CheckpointRow>, StoreError> {
        let last = self.last_signed(head.organization.as_ref()).await?;
        let (reached, hash) = last.unwrap_or((0, GENESIS));
        if reached == head.sequence {
            return Ok(None);
        }
        if !self.holds(&head, reached, hash).await? {
            self.metrics.audit_failures.inc(AuditFailure::Altered);
            tracing::error!(
                organization_id = head.organization.as_ref().map(OrganizationId::as_str),
                sequence = head.sequence,
                "the audit log was altered: its head is not signed; verify it"
            );
            return Ok(None);
        }
        let checkpoint = Checkpoint {
            organization: head.organization,
            sequence: head.sequence,
            hash: head.hash,
            at: now,
        };
        let signature = self.key.sign(&checkpoint); // without one, the next round signs
        Ok(signature.map(|signature| CheckpointRow { checkpoint, signature }))
    }

    async fn last_signed(&self, organization: Option<&OrganizationId>) -> Result<Option<Reached>, StoreError> {
        let organization = organization.cloned();
        if let Some(last) = lock(&self.signed).get(&organization) {
            return Ok(Some(*last));
        }
        let row = self
            .store
            .last_checkpoint(organization.as_ref(), Timestamp(u64::MAX))
            .await?;
        // One that is forged counts for nothing: the chain is held from its start then, and the lie is for `verify`.
        let row = row.filter(|row| self.verifier.is_signed(row));
        Ok(row.map(|row| (row.checkpoint.sequence, row.checkpoint.hash)))
    }

    /// Whether a chain holds from an entry on up to its head.
    async fn holds(&self, head: &ChainHead, mut reached: u64, mut hash: [u8; 32]) -> Result<bool, StoreError> {
        while reached < head.sequence {
            let from = reached.saturating_add(1);
            let page = match self.store.chain(head.organization.as_ref(), from, PAGE).await {
                Err(StoreError::Damaged) => return Ok(false),
                page => page?,
            };
            let part: Vec<_> = page
                .iter()
                .filter(|linked| linked.sequence <= head.sequence)
                .map(|linked| (linked.sequence, &linked.entry, linked.link))
                .collect();
            let Some((last, ..)) = part.last() else {
                return Ok(false);
            };
            let Ok(next) = self.verifier.chain.verify(&hash, reached, &part) else {
                return Ok(false);
            };
            (reached, hash) = (*last, next);
        }
        Ok(reached == head.sequence && hash == head.hash)
    }

    /// Keeps checkpoints in the table, then in the log, which remembers them when the table is gone.
    async fn keep(&self, rows: Vec<CheckpointRow>) -> Result<(), StoreError> {
        if rows.is_empty() {
            return Ok(());
        }
        let writes = rows.iter().cloned().map(Write::Checkpoint).collect();
        self.store
            .commit(Change {
                writes,
                entries: Vec::new(),
            })
            .await?;
        let mut signed = lock(&self.signed);
        for CheckpointRow { checkpoint, signature } in rows {
            tracing::info!(
                organization_id = checkpoint.organization.as_ref().map(OrganizationId::as_str),
                sequence = checkpoint.sequence,
                hash = HEXLOWER.encode(&checkpoint.hash),
                at = checkpoint.at.to_rfc3339(),
                signature = BASE64.encode(&signature),
                "audit checkpoint"
            );
            signed.insert(checkpoint.organization, (checkpoint.sequence, checkpoint.hash));
        }
        Ok(())
    }

    /// Removes what each organization's policy does not keep any longer, up to a checkpoint that is as old. The
    /// platform's chain is kept forever.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn prune(&self, now: Timestamp) -> Result<(), StoreError> {
        for (organization, days) in self.retentions().await? {
            let cutoff = Timestamp(now.0.saturating_sub(u64::from(days).saturating_mul(DAY_MILLIS)));
            let Some(row) = self.store.last_checkpoint(Some(&organization), cutoff).await? else {
                continue;
            };
            let up_to = row.checkpoint.sequence;
            let first = self.store.chain(Some(&organization), 0, 1).await?;
            let is_there = first.first().is_some_and(|linked| linked.sequence <= up_to);
            if !is_there || !self.verifier.is_signed(&row) {
                continue;
            }
            let entry = AuditEntry {
                version: Some(up_to),
                ..AuditEntry::of(
                    Some(organization.clone()),
                    now,
                    self.actor.clone(),
                    Action::AuditPrune,
                    Source::Refresh,
                )
            };
            let write = Write::AuditPruned {
                organization: Some(organization),
                up_to,
            };
            let change = Change {
                writes: vec![write],
                entries: vec![entry],
            };
            self.store.commit(change).await?;
        }
        Ok(())
    }

    /// How many days each organization keeps its entries, where it does not keep them forever.
    async fn retentions(&self) -> Result<BTreeMap<OrganizationId, u32>, StoreError> {
        let mut retentions = BTreeMap::new();
        for organization in self.store.organizations().await? {
            let Some(row) = self.store.policy(&organization).await? else {
                continue;
            };
            if !(self.policy_is_authentic)(&row) {
                tracing::error!(organization_id = %organization, "a policy is not as it was stored: nothing is removed");
                continue;
            }
            if let Some(days) = row.policy.retention_days {
                retentions.insert(organization, days);
            }
        }
        Ok(retentions)
    }
}

/// When something is to be done the next time.
struct Due {
    at: Timestamp,
    every: u64,
}

impl Due {
    const fn after(now: Timestamp, every: u64) -> Self {
        Self {
            at: now.plus_millis(every),
            every,
        }
    }

    /// Whether it is time; then the next time is set. A clock that was set back does not put it off.
    fn is_due(&mut self, now: Timestamp) -> bool {
        let is_due = now >= self.at || now.plus_millis(self.every) < self.at;
        if is_due {
            self.at = now.plus_millis(self.every);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_due_once_a_period_and_a_clock_that_was_set_back_does_not_put_it_off() {
        let mut due = Due::after(Timestamp(1_000_000), 60_000);
        for (now, expected) in [
            (1_000_000, false),
            (1_059_999, false),
            (1_060_000, true),
            (1_060_000, false),
            (1_119_999, false),
            (1_500_000, true), // several periods at once are one
            (1_559_999, false),
            (1_499_999, true), // before the last time
            (1_500_000, false),
        ] {
            assert_eq!(due.is_due(Timestamp(now)), expected, "at {now}");
        }
    }
}
