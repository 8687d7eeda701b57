//! The port over a driver: every read a query of this folder, every write the adapter's own way to a transaction.

use async_trait::async_trait;
use tokio::sync::watch;

use super::super::{
    AuditQuery, ChainHead, Change, CheckpointRow, ExtensionRow, FeedPosition, InstallationRow, InstallationSnapshot,
    InstanceRow, KekRow, KeyWrite, LinkedEntry, Listed, OutboxDepth, OutboxRow, Page, PolicyRow, ProviderRow,
    RequestRow, SecretQuery, SecretRow, Store, StoreError, Tenancy, TokenRow, UseCount, UseQuery, Write,
};
use super::{Adapter, audit, dialect, keys, notices, providers, read};
use crate::domain::alert::Alert;
use crate::domain::audit::AuditEntry;
use crate::domain::change::Changed;
use crate::domain::id::{ExtensionId, InstallationId, OrganizationId, ScopeId};
use crate::domain::scope::{Scope, Slot};
use crate::domain::time::Timestamp;

#[async_trait]
impl Store for Adapter {
    async fn health(&self) -> Result<(), StoreError> {
        dialect::within(read::anything(self.pool())).await
    }

    async fn installation(&self, id: &InstallationId) -> Result<Option<InstallationSnapshot>, StoreError> {
        dialect::within(read::installation(self.pool(), id)).await
    }

    async fn extension(&self, id: &ExtensionId) -> Result<Option<ExtensionRow>, StoreError> {
        dialect::within(read::extension(self.pool(), id)).await
    }

    async fn extensions(&self, page: &Page) -> Result<Listed<ExtensionRow>, StoreError> {
        dialect::within(read::extensions(self.pool(), page)).await
    }

    async fn installations(&self, tenancy: &Tenancy, page: &Page) -> Result<Listed<InstallationRow>, StoreError> {
        dialect::within(read::installations(self.pool(), tenancy, page)).await
    }

    async fn slots(&self, slots: &[Slot]) -> Result<Vec<SecretRow>, StoreError> {
        dialect::within(dialect::slots(self.pool(), slots)).await
    }

    async fn secrets(
        &self,
        tenancy: &Tenancy,
        query: &SecretQuery,
        page: &Page,
    ) -> Result<Listed<SecretRow>, StoreError> {
        dialect::within(read::secrets(self.pool(), tenancy, query, page)).await
    }

    async fn scope_known(&self, organization: &OrganizationId, scope: Scope, id: &ScopeId) -> Result<bool, StoreError> {
        dialect::within(read::scope_known(self.pool(), organization, scope, id)).await
    }

    async fn token(&self, hash: &[u8; 32]) -> Result<Option<TokenRow>, StoreError> {
        dialect::within(read::token(self.pool(), hash)).await
    }

    async fn token_by_id(&self, id: &str) -> Result<Option<TokenRow>, StoreError> {
        dialect::within(read::token_by_id(self.pool(), id)).await
    }

    async fn tokens(&self, tenancy: &Tenancy, page: &Page) -> Result<Listed<TokenRow>, StoreError> {
        dialect::within(read::tokens(self.pool(), tenancy, page)).await
    }

    async fn has_operator_token(&self) -> Result<bool, StoreError> {
        dialect::within(read::has_operator_token(self.pool())).await
    }

    async fn organizations(&self) -> Result<Vec<OrganizationId>, StoreError> {
        dialect::within(read::organizations(self.pool())).await
    }

    async fn policy(&self, organization: &OrganizationId) -> Result<Option<PolicyRow>, StoreError> {
        dialect::within(read::policy(self.pool(), organization)).await
    }

    async fn providers(&self, organization: &OrganizationId) -> Result<Vec<ProviderRow>, StoreError> {
        providers::list(self.pool(), organization).await
    }

    async fn alerts(&self, tenancy: &Tenancy, open_only: bool, page: &Page) -> Result<Listed<Alert>, StoreError> {
        dialect::within(notices::alerts(self.pool(), tenancy, open_only, page)).await
    }

    async fn alert(&self, id: &str) -> Result<Option<Alert>, StoreError> {
        dialect::within(notices::alert(self.pool(), id)).await
    }

    async fn request(&self, id: &[u8; 32], now: Timestamp) -> Result<Option<RequestRow>, StoreError> {
        dialect::within(notices::request(self.pool(), id, now)).await
    }

    async fn lease_outbox(&self, now: Timestamp, until: Timestamp, limit: u32) -> Result<Vec<OutboxRow>, StoreError> {
        self.take_notices(now, until, limit).await
    }

    async fn outbox_depth(&self) -> Result<OutboxDepth, StoreError> {
        dialect::within(notices::depth(self.pool())).await
    }

    async fn commit(&self, change: Change) -> Result<(), StoreError> {
        self.write(change).await
    }

    async fn record(&self, entries: Vec<AuditEntry>) -> Result<(), StoreError> {
        self.append(entries).await
    }

    async fn chain(
        &self,
        organization: Option<&OrganizationId>,
        from: u64,
        limit: u32,
    ) -> Result<Vec<LinkedEntry>, StoreError> {
        dialect::within(audit::chain(self.pool(), organization, from, limit)).await
    }

    async fn audit(
        &self,
        tenancy: &Tenancy,
        query: &AuditQuery,
        page: &Page,
    ) -> Result<Listed<LinkedEntry>, StoreError> {
        dialect::within(audit::list(self.pool(), tenancy, query, page)).await
    }

    async fn uses(&self, query: &UseQuery) -> Result<UseCount, StoreError> {
        dialect::within(audit::uses(self.pool(), query)).await
    }

    async fn chain_heads(&self) -> Result<Vec<ChainHead>, StoreError> {
        dialect::within(audit::chain_heads(self.pool())).await
    }

    async fn chain_head(&self, organization: Option<&OrganizationId>) -> Result<Option<ChainHead>, StoreError> {
        dialect::within(audit::chain_head(self.pool(), organization)).await
    }

    async fn chains(&self) -> Result<Vec<Option<OrganizationId>>, StoreError> {
        dialect::within(audit::chains(self.pool())).await
    }

    async fn checkpoints(
        &self,
        organization: Option<&OrganizationId>,
        from: u64,
        limit: u32,
    ) -> Result<Vec<CheckpointRow>, StoreError> {
        dialect::within(audit::checkpoints(self.pool(), organization, from, limit)).await
    }

    async fn last_checkpoint(
        &self,
        organization: Option<&OrganizationId>,
        before: Timestamp,
    ) -> Result<Option<CheckpointRow>, StoreError> {
        dialect::within(audit::last_checkpoint(self.pool(), organization, before)).await
    }

    async fn keks(&self) -> Result<Vec<KekRow>, StoreError> {
        keys::keks(self.pool()).await
    }

    async fn instances(&self) -> Result<Vec<InstanceRow>, StoreError> {
        keys::instances(self.pool()).await
    }

    async fn wrapped(&self, head: &[u8], page: &Page) -> Result<Listed<SecretRow>, StoreError> {
        keys::wrapped(self.pool(), head, page).await
    }

    async fn wrapped_count(&self, head: &[u8]) -> Result<u64, StoreError> {
        keys::wrapped_count(self.pool(), head).await
    }

    async fn lease(&self, name: &str, holder: &str, now: Timestamp, until: Timestamp) -> Result<bool, StoreError> {
        let leased = KeyWrite::Leased {
            name: name.to_owned(),
            holder: holder.to_owned(),
            now,
            until,
        };
        let change = Change {
            writes: vec![Write::Keys(Box::new(leased))],
            entries: Vec::new(),
        };
        match self.write(change).await {
            Ok(()) => Ok(true),
            Err(StoreError::Conflict) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn is_shared(&self) -> bool {
        Self::IS_SHARED
    }

    async fn changes(&self, after: FeedPosition) -> Result<(Vec<Changed>, FeedPosition), StoreError> {
        dialect::within(dialect::changes(self.pool(), after)).await
    }

    fn wake(&self) -> watch::Receiver<u64> {
        self.hints()
    }
}
