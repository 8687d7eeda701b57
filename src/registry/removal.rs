//! How an installation is removed, and the secrets of its own scope with it: all at once, or not at all.

use super::{Registry, RegistryError};
use crate::domain::audit::{Action, Asker, AuditEntry};
use crate::domain::change::Changed;
use crate::domain::id::InstallationId;
use crate::domain::scope::Scope;
use crate::domain::secret::{SecretKind, SecretMeta, successor};
use crate::domain::time::Timestamp;
use crate::store::{Change, Page, SecretQuery, SecretRow, StoreError, Tenancy, Write};

/// How often a removal is tried again that a write of one of the secrets overtook.
const OVERTAKEN_MAX: u32 = 8;

/// Rows that are read at a time.
const PAGE_ROWS: u32 = 1_000;

impl Registry {
    /// Removes an installation. Its own secrets become tombstones in the same commit; what stands at wider scopes
    /// stays. `expected` is the version the caller read, if it insists on one.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub async fn uninstall(
        &self,
        tenancy: &Tenancy,
        asker: &Asker,
        id: &InstallationId,
        expected: Option<u64>,
    ) -> Result<Vec<Changed>, RegistryError> {
        for _ in 0..OVERTAKEN_MAX {
            let installation = match self.registered(tenancy, id).await? {
                Some(registered) => registered.installation,
                None => return Err(RegistryError::Unknown),
            };
            if expected.is_some_and(|expected| expected != installation.version) {
                return Err(RegistryError::Conflict);
            }
            let now = self.clock.now();
            let owner = Tenancy::Organization(installation.organization.clone());
            let mut change = Change::default();
            let mut changed = vec![Changed::Installation(id.clone())];
            let entry = |action| asker.entry(Some(installation.organization.clone()), now, action);
            for meta in self.own_secrets(&owner, id).await? {
                let (row, replaced) = tombstone(meta, asker, now)?;
                let deleted = entry(Action::SecretDelete);
                change
                    .entries
                    .push(deleted.about(&row.meta.slot, row.meta.version, false));
                changed.push(Changed::Secret(row.meta.slot.clone()));
                change.writes.push(Write::Secret {
                    row,
                    expected: Some(replaced),
                });
            }
            change.entries.push(AuditEntry {
                subject: Some(id.into()),
                version: Some(installation.version),
                ..entry(Action::InstallationDelete)
            });
            change.writes.push(Write::InstallationGone {
                id: id.clone(),
                expected: installation.version,
            });
            match self.store.commit(change).await {
                Ok(()) => return Ok(changed),
                Err(StoreError::Conflict) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(RegistryError::Conflict)
    }

    async fn own_secrets(&self, owner: &Tenancy, id: &InstallationId) -> Result<Vec<SecretMeta>, RegistryError> {
        let query = SecretQuery {
            scope: Some(Scope::ExtensionInstallation),
            scope_id: Some(id.into()),
            key: None,
        };
        let mut page = Page {
            after: None,
            limit: PAGE_ROWS,
        };
        let mut secrets = Vec::new();
        loop {
            let listed = self.store.secrets(owner, &query, &page).await?;
            secrets.extend(listed.rows.into_iter().map(|row| row.meta));
            match listed.next {
                None => return Ok(secrets),
                next => page.after = next,
            }
        }
    }
}

fn tombstone(meta: SecretMeta, asker: &Asker, now: Timestamp) -> Result<(SecretRow, u64), RegistryError> {
    let replaced = meta.version;
    let meta = SecretMeta {
        kind: SecretKind::Tombstone,
        version: successor(replaced).ok_or(RegistryError::Exhausted)?,
        updated_at: now,
        expires_at: None,
        written_by: asker.actor.name.clone(),
        ..meta
    };
    let row = SecretRow {
        meta,
        sealed: Vec::new(),
        predecessor: None,
    };
    Ok((row, replaced))
}
