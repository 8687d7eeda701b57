//! How rows come under the active key in the background: page by page, by one instance at a time.
//!
//! What is left to do is what the rows themselves say, so a pass that is cut off anywhere is gone on with by whoever
//! comes next. A row is replaced only as it was read; one that changed meanwhile is left for the next pass. Nothing is
//! opened: data keys are unwrapped and wrapped anew. Readers notice nothing, and no cache has to drop anything.

use tokio_util::sync::CancellationToken;

use super::{DAY_MILLIS, Keks, KeksError, LOOK_EVERY, change, follow};
use crate::crypto::envelope;
use crate::crypto::keyring::KekInfo;
use crate::domain::alert::AlertKind;
use crate::domain::secret::SecretKind;
use crate::domain::time::Timestamp;
use crate::store::{Change, Finding, KekRow, KeyWrite, Page, Rewrap, SecretRow, StoreError, Write};

/// The lease of whoever does it.
const LEASE: &str = "rewrap";

/// How long the lease is held without being kept: if the holder dies, another one goes on after that.
pub const HOLD_MILLIS: u64 = 30 * 1_000;

/// How soon is looked again after something was done, or while another one does it: those who had not learnt of the
/// promotion yet may have sealed under the former key meanwhile.
pub const LOOK_AGAIN_MILLIS: u64 = 10 * 1_000;

/// How often is looked for rows although nothing is known to be left.
const LOOK_MILLIS: u64 = 5 * 60 * 1_000;

/// How often is looked soon after a promotion was learnt of.
const LOOKS_SOON: u32 = 3;

/// Rows of a page, which is one transaction.
const PAGE_ROWS: u32 = 64;

/// The most rows that do not open of which one pass alerts.
const ALERTS_MAX: u64 = 20;

/// How a pass ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pass {
    /// Nothing is left to be done by anybody.
    Clean,
    /// Something was done, or another one is doing it.
    Again,
}

impl Keks {
    /// Puts what is sealed under another key under the active one, whenever there is something, until `stop`.
    pub async fn rewrap(&self, stop: CancellationToken) {
        let (mut due, mut looks) = (Timestamp(0), 0_u32);
        loop {
            let now = self.clock.now();
            if due <= now {
                let passed = tokio::select! {
                    () = stop.cancelled() => return,
                    passed = self.pass() => passed,
                };
                let again = passed.unwrap_or_else(|error| {
                    tracing::warn!(%error, "rows could not be put under the active key; it is tried again");
                    Pass::Again
                });
                let wait = if again == Pass::Again || looks > 0 {
                    LOOK_AGAIN_MILLIS
                } else {
                    LOOK_MILLIS
                };
                looks = looks.saturating_sub(1);
                due = self.clock.now().plus_millis(wait);
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.learnt.notified() => (due, looks) = (Timestamp(0), LOOKS_SOON),
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
    }

    async fn pass(&self) -> Result<Pass, KeksError> {
        // As long as nothing was promoted, instances may differ about which key is active.
        if self.keyring.promotion() == 0 {
            return Ok(Pass::Clean);
        }
        let mut passed = Pass::Clean;
        for info in self.keyring.kek_infos().into_iter().filter(|info| !info.is_active) {
            if self.store.wrapped_count(&envelope::head(&info.id)).await? == 0 {
                continue;
            }
            if !self.hold().await? {
                return Ok(Pass::Again);
            }
            let rows = follow(&self.store, &self.keyring).await?;
            let known = rows.iter().find(|row| row.id == info.id.as_str());
            if self.pass_over(&info, known).await? {
                passed = Pass::Again;
            }
        }
        Ok(passed)
    }

    /// Takes or keeps the lease. On a database that is this process's alone nobody else is there.
    async fn hold(&self) -> Result<bool, StoreError> {
        if !self.store.is_shared() {
            return Ok(true);
        }
        let now = self.clock.now();
        let until = now.plus_millis(HOLD_MILLIS);
        self.store.lease(LEASE, &self.instance, now, until).await
    }

    /// Goes over all rows under one key; whether any was put under another, or the lease was lost.
    async fn pass_over(&self, info: &KekInfo, known: Option<&KekRow>) -> Result<bool, KeksError> {
        let head = envelope::head(&info.id);
        let (mut done, mut unreadable) = (0_u64, 0_u64);
        let mut held_at = self.clock.now();
        let mut page = Page {
            after: None,
            limit: PAGE_ROWS,
        };
        loop {
            let listed = self.store.wrapped(&head, &page).await?;
            let mut writes = Vec::new();
            for row in &listed.rows {
                let (write, damage) = self.rewrapped(row, &head);
                writes.extend(write.map(|write| Write::Keys(Box::new(write))));
                if let Some(detail) = damage {
                    unreadable = unreadable.saturating_add(1);
                    if unreadable <= ALERTS_MAX {
                        self.alert(row, detail).await?;
                    }
                }
            }
            if !writes.is_empty() {
                done = done.saturating_add(writes.len().try_into().unwrap_or(u64::MAX));
                let entries = Vec::new();
                match self.store.commit(Change { writes, entries }).await {
                    Err(StoreError::Conflict) => return Ok(true), // the key that was active here was retired
                    committed => committed?,
                }
            }
            let Some(next) = listed.next else { break };
            page.after = Some(next);
            let now = self.clock.now();
            if now.0.abs_diff(held_at.0) >= HOLD_MILLIS / 3 {
                if !self.hold().await? {
                    return Ok(true);
                }
                held_at = now;
            }
        }
        tracing::info!(kek = %info.id, rows = done, unreadable, "rows were put under the active key");
        if known.is_some_and(|known| known.unreadable != unreadable) {
            let id = info.id.to_string();
            let rows = unreadable;
            self.store.commit(change(KeyWrite::Unreadable { id, rows })).await?;
        }
        Ok(done > 0)
    }

    /// What of the row comes under the active key, and what does not open and stays.
    fn rewrapped(&self, row: &SecretRow, head: &[u8]) -> (Option<KeyWrite>, Option<&'static str>) {
        let meta = &row.meta;
        let again = |kind, version, sealed: &[u8]| {
            let to = self.keyring.rewrap(&meta.slot, kind, version, sealed).ok().flatten()?;
            Some(Rewrap {
                from: sealed.to_vec(),
                to,
            })
        };
        let (mut sealed, mut predecessor, mut damage) = (None, None, None);
        if let Some(old) = row.predecessor.as_ref().filter(|old| old.sealed.starts_with(head)) {
            // Which kind it was is authenticated with it.
            let mut kinds = [SecretKind::Value, SecretKind::Reference].into_iter();
            predecessor = kinds.find_map(|kind| again(kind, old.version, &old.sealed));
            if predecessor.is_none() {
                damage = Some("the value before the last rotation does not open: it cannot be put under another key");
            }
        }
        if row.sealed.starts_with(head) {
            sealed = again(meta.kind, meta.version, &row.sealed);
            if sealed.is_none() {
                damage = Some("the value does not open: it cannot be put under another key");
            }
        }
        let write = (sealed.is_some() || predecessor.is_some()).then(|| KeyWrite::Rewrapped {
            slot: meta.slot.clone(),
            version: meta.version,
            sealed,
            predecessor,
        });
        (write, damage)
    }

    async fn alert(&self, row: &SecretRow, detail: &str) -> Result<(), StoreError> {
        let meta = &row.meta;
        let occasion = format!("re-wrap {}", meta.version);
        let finding = Finding::about(AlertKind::IntegrityFailure, &meta.slot, detail.to_owned(), occasion);
        let now = self.clock.now();
        let quiet_since = Timestamp(now.0.saturating_sub(DAY_MILLIS));
        let change = Change {
            writes: vec![finding.raise(quiet_since, &self.actor, now)],
            entries: Vec::new(),
        };
        self.store.commit(change).await
    }
}
