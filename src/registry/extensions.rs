//! How a manifest is registered and read back.

use super::rows::{sealed_extension, verified_manifest};
use super::{Registry, RegistryError, Stored};
use crate::domain::audit::{Action, Actor, AuditEntry, Source};
use crate::domain::change::Changed;
use crate::domain::id::ExtensionId;
use crate::domain::manifest::Manifest;
use crate::domain::secret::successor;
use crate::store::{Change, ExtensionRow, Listed, Page, StoreError, Write};

/// A registered extension.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtensionRecord {
    /// The row.
    pub row: ExtensionRow,
    /// What its document says.
    pub manifest: Manifest,
}

impl Registry {
    /// Registers a manifest, or replaces it. `expected` is the version the caller read, if it insists on one.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub async fn put_extension(
        &self,
        who: &Actor,
        source: Source,
        id: &ExtensionId,
        document: &str,
        expected: Option<u64>,
    ) -> Result<Stored<ExtensionRecord>, RegistryError> {
        let manifest = Manifest::parse(document)?;
        if manifest.id != *id {
            return Err(RegistryError::IdMismatch);
        }
        if let Some(destination) = manifest.callback.as_ref().and_then(|callback| callback.url.as_ref()) {
            self.check(destination, &manifest)?;
        }
        let before = self.store.extension(id).await?;
        let replaced = before.as_ref().map(|row| row.version);
        if expected.is_some() && expected != replaced {
            return Err(RegistryError::Conflict);
        }
        let now = self.clock.now();
        let row = sealed_extension(
            &self.keyring,
            ExtensionRow {
                id: id.clone(),
                document: document.to_owned(),
                version: replaced.map_or(Some(1), successor).ok_or(RegistryError::Exhausted)?,
                mac: Vec::new(),
                created_at: before.map_or(now, |row| row.created_at),
                updated_at: now,
            },
        );
        let entry = AuditEntry {
            subject: Some(id.into()),
            version: Some(row.version),
            ..AuditEntry::of(None, now, who.clone(), Action::ExtensionPut, source)
        };
        let write = Write::Extension {
            row: row.clone(),
            expected: replaced,
        };
        self.store
            .commit(Change {
                writes: vec![write],
                entries: vec![entry],
            })
            .await
            .map_err(conflict)?;
        if replaced.is_some() {
            self.announce(who, source, id, &manifest).await;
        }
        let changed = vec![Changed::Extension(id.clone())];
        Ok(Stored {
            record: ExtensionRecord { row, manifest },
            changed,
            created: replaced.is_none(),
        })
    }

    /// All registered extensions, by position.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub async fn extensions(&self, page: &Page) -> Result<Listed<ExtensionRecord>, RegistryError> {
        let listed = self.store.extensions(page).await?;
        let records = listed.rows.into_iter().map(|row| {
            let manifest = verified_manifest(&self.keyring, &row)?;
            Ok(ExtensionRecord { row, manifest })
        });
        Ok(Listed {
            rows: records.collect::<Result<_, RegistryError>>()?,
            next: listed.next,
        })
    }

    /// A registered extension.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub async fn extension(&self, id: &ExtensionId) -> Result<Option<ExtensionRecord>, RegistryError> {
        let Some(row) = self.store.extension(id).await? else {
            return Ok(None);
        };
        let manifest = verified_manifest(&self.keyring, &row)?;
        Ok(Some(ExtensionRecord { row, manifest }))
    }
}

/// Someone was faster: the caller reads again.
pub(super) fn conflict(error: StoreError) -> RegistryError {
    match error {
        StoreError::Conflict => RegistryError::Conflict,
        other => RegistryError::Store(other),
    }
}
