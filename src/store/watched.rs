//! How those who watch learn of uses and notices as they are stored: a store around the store that tells of both.
//!
//! Whoever records a use, it comes through here; nothing has to remember to tell. Telling takes a lock for a moment
//! and waits for nobody.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use tokio::sync::{Notify, watch};

use super::{
    AuditQuery, ChainHead, Change, CheckpointRow, ExtensionRow, FeedPosition, InstallationRow, InstallationSnapshot,
    InstanceRow, KekRow, LinkedEntry, Listed, OutboxDepth, OutboxRow, Page, PolicyRow, ProviderRow, RequestRow,
    SecretQuery, SecretRow, SharedStore, Store, StoreError, Tenancy, TokenRow, UseCount, UseQuery, Write,
};
use crate::domain::alert::Alert;
use crate::domain::audit::{Action, AuditEntry, Outcome, Source};
use crate::domain::change::Changed;
use crate::domain::id::{ExtensionId, InstallationId, OrganizationId, ScopeId};
use crate::domain::key::SecretKey;
use crate::domain::scope::{Scope, Slot};
use crate::domain::time::Timestamp;

/// A key that was used, in the words of the audit log.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CountedKey {
    /// In whose chain.
    pub organization: OrganizationId,
    /// At which scope.
    pub scope: Scope,
    /// Bound to what.
    pub subject: ScopeId,
    /// Which key.
    pub key: SecretKey,
}

impl CountedKey {
    /// The key that an entry counts for, if it counts as a use: the same rule as [`Store::uses`] counts by.
    #[must_use]
    pub fn of(entry: &AuditEntry) -> Option<Self> {
        let counts = match entry.action {
            Action::SecretGet | Action::SecretDelivered => true,
            Action::SecretLoad => entry.source != Source::Refresh && entry.outcome == Outcome::Ok,
            _ => false,
        };
        if !counts {
            return None;
        }
        Some(Self {
            organization: entry.organization.clone()?,
            scope: entry.scope?,
            subject: entry.subject.clone()?,
            key: entry.key.clone()?,
        })
    }
}

/// What was stored lately and not looked at yet.
#[derive(Debug, Default)]
pub struct Sightings {
    uses: Mutex<Uses>,
    used: Notify,
    notices: Notify,
}

/// Each key once, with the moment of its last use, in the order of first ones.
#[derive(Debug, Default)]
struct Uses {
    order: VecDeque<CountedKey>,
    last: HashMap<CountedKey, Timestamp>,
}

impl Sightings {
    /// Waits for the next key that was used, and when it was last. Cancel safe.
    pub async fn next_use(&self) -> (CountedKey, Timestamp) {
        loop {
            if let Some(seen) = self.take_use() {
                return seen;
            }
            self.used.notified().await;
        }
    }

    /// Waits until a notice was put into the outbox since the last call returned. Cancel safe.
    pub async fn next_notice(&self) {
        self.notices.notified().await;
    }

    fn take_use(&self) -> Option<(CountedKey, Timestamp)> {
        let mut uses = self.uses.lock().unwrap_or_else(PoisonError::into_inner);
        let key = uses.order.pop_front()?;
        let at = uses.last.remove(&key)?;
        Some((key, at))
    }

    fn saw_uses(&self, seen: Vec<(CountedKey, Timestamp)>) {
        if seen.is_empty() {
            return;
        }
        let mut uses = self.uses.lock().unwrap_or_else(PoisonError::into_inner);
        for (key, at) in seen {
            if uses.last.insert(key.clone(), at).is_none() {
                uses.order.push_back(key);
            }
        }
        drop(uses);
        self.used.notify_one();
    }
}

/// A store that tells.
pub struct Watched {
    inner: SharedStore,
    sightings: Arc<Sightings>,
}

impl Watched {
    /// Around a store, with what it tells.
    #[must_use]
    pub fn around(inner: SharedStore) -> (SharedStore, Arc<Sightings>) {
        let sightings = Arc::new(Sightings::default());
        let watched = Self {
            inner,
            sightings: Arc::clone(&sightings),
        };
        (Arc::new(watched), sightings)
    }
}

fn uses(entries: &[AuditEntry]) -> Vec<(CountedKey, Timestamp)> {
    let counted = |entry: &AuditEntry| CountedKey::of(entry).map(|key| (key, entry.at));
    entries.iter().filter_map(counted).collect()
}

#[async_trait]
impl Store for Watched {
    async fn health(&self) -> Result<(), StoreError> {
        self.inner.health().await
    }

    async fn installation(&self, id: &InstallationId) -> Result<Option<InstallationSnapshot>, StoreError> {
        self.inner.installation(id).await
    }

    async fn extension(&self, id: &ExtensionId) -> Result<Option<ExtensionRow>, StoreError> {
        self.inner.extension(id).await
    }

    async fn extensions(&self, page: &Page) -> Result<Listed<ExtensionRow>, StoreError> {
        self.inner.extensions(page).await
    }

    async fn installations(&self, tenancy: &Tenancy, page: &Page) -> Result<Listed<InstallationRow>, StoreError> {
        self.inner.installations(tenancy, page).await
    }

    async fn slots(&self, slots: &[Slot]) -> Result<Vec<SecretRow>, StoreError> {
        self.inner.slots(slots).await
    }

    async fn secrets(
        &self,
        tenancy: &Tenancy,
        query: &SecretQuery,
        page: &Page,
    ) -> Result<Listed<SecretRow>, StoreError> {
        self.inner.secrets(tenancy, query, page).await
    }

    async fn scope_known(&self, organization: &OrganizationId, scope: Scope, id: &ScopeId) -> Result<bool, StoreError> {
        self.inner.scope_known(organization, scope, id).await
    }

    async fn token(&self, hash: &[u8; 32]) -> Result<Option<TokenRow>, StoreError> {
        self.inner.token(hash).await
    }

    async fn token_by_id(&self, id: &str) -> Result<Option<TokenRow>, StoreError> {
        self.inner.token_by_id(id).await
    }

    async fn tokens(&self, tenancy: &Tenancy, page: &Page) -> Result<Listed<TokenRow>, StoreError> {
        self.inner.tokens(tenancy, page).await
    }

    async fn has_operator_token(&self) -> Result<bool, StoreError> {
        self.inner.has_operator_token().await
    }

    async fn organizations(&self) -> Result<Vec<OrganizationId>, StoreError> {
        self.inner.organizations().await
    }

    async fn policy(&self, organization: &OrganizationId) -> Result<Option<PolicyRow>, StoreError> {
        self.inner.policy(organization).await
    }

    async fn providers(&self, organization: &OrganizationId) -> Result<Vec<ProviderRow>, StoreError> {
        self.inner.providers(organization).await
    }

    async fn alerts(&self, tenancy: &Tenancy, open_only: bool, page: &Page) -> Result<Listed<Alert>, StoreError> {
        self.inner.alerts(tenancy, open_only, page).await
    }

    async fn alert(&self, id: &str) -> Result<Option<Alert>, StoreError> {
        self.inner.alert(id).await
    }

    async fn request(&self, id: &[u8; 32], now: Timestamp) -> Result<Option<RequestRow>, StoreError> {
        self.inner.request(id, now).await
    }

    async fn lease_outbox(&self, now: Timestamp, until: Timestamp, limit: u32) -> Result<Vec<OutboxRow>, StoreError> {
        self.inner.lease_outbox(now, until, limit).await
    }

    async fn outbox_depth(&self) -> Result<OutboxDepth, StoreError> {
        self.inner.outbox_depth().await
    }

    async fn commit(&self, change: Change) -> Result<(), StoreError> {
        let used = uses(&change.entries);
        let is_notice = |write: &Write| matches!(write, Write::Outbox(_) | Write::Alert { .. });
        let has_notice = change.writes.iter().any(is_notice);
        self.inner.commit(change).await?;
        self.sightings.saw_uses(used);
        if has_notice {
            self.sightings.notices.notify_one();
        }
        Ok(())
    }

    async fn record(&self, entries: Vec<AuditEntry>) -> Result<(), StoreError> {
        let used = uses(&entries);
        self.inner.record(entries).await?;
        self.sightings.saw_uses(used);
        Ok(())
    }

    async fn chain(
        &self,
        organization: Option<&OrganizationId>,
        from: u64,
        limit: u32,
    ) -> Result<Vec<LinkedEntry>, StoreError> {
        self.inner.chain(organization, from, limit).await
    }

    async fn audit(
        &self,
        tenancy: &Tenancy,
        query: &AuditQuery,
        page: &Page,
    ) -> Result<Listed<LinkedEntry>, StoreError> {
        self.inner.audit(tenancy, query, page).await
    }

    async fn uses(&self, query: &UseQuery) -> Result<UseCount, StoreError> {
        self.inner.uses(query).await
    }

    async fn chain_heads(&self) -> Result<Vec<ChainHead>, StoreError> {
        self.inner.chain_heads().await
    }

    async fn chain_head(&self, organization: Option<&OrganizationId>) -> Result<Option<ChainHead>, StoreError> {
        self.inner.chain_head(organization).await
    }

    async fn chains(&self) -> Result<Vec<Option<OrganizationId>>, StoreError> {
        self.inner.chains().await
    }

    async fn checkpoints(
        &self,
        organization: Option<&OrganizationId>,
        from: u64,
        limit: u32,
    ) -> Result<Vec<CheckpointRow>, StoreError> {
        self.inner.checkpoints(organization, from, limit).await
    }

    async fn last_checkpoint(
        &self,
        organization: Option<&OrganizationId>,
        before: Timestamp,
    ) -> Result<Option<CheckpointRow>, StoreError> {
        self.inner.last_checkpoint(organization, before).await
    }

    async fn keks(&self) -> Result<Vec<KekRow>, StoreError> {
        self.inner.keks().await
    }

    async fn instances(&self) -> Result<Vec<InstanceRow>, StoreError> {
        self.inner.instances().await
    }

    async fn wrapped(&self, head: &[u8], page: &Page) -> Result<Listed<SecretRow>, StoreError> {
        self.inner.wrapped(head, page).await
    }

    async fn wrapped_count(&self, head: &[u8]) -> Result<u64, StoreError> {
        self.inner.wrapped_count(head).await
    }

    async fn lease(&self, name: &str, holder: &str, now: Timestamp, until: Timestamp) -> Result<bool, StoreError> {
        self.inner.lease(name, holder, now, until).await
    }

    fn is_shared(&self) -> bool {
        self.inner.is_shared()
    }

    async fn changes(&self, after: FeedPosition) -> Result<(Vec<Changed>, FeedPosition), StoreError> {
        self.inner.changes(after).await
    }

    fn wake(&self) -> watch::Receiver<u64> {
        self.inner.wake()
    }
}
