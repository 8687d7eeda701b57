//! What an organization's references need before anything is fetched: its providers, and the credentials they are asked
//! with.
//!
//! A credential is a value that stands here, at the organization's own scope. One that is itself a reference is never
//! followed: it would take a credential to fetch the credential.

use super::{ResolveError, SecretResolver};
use crate::domain::id::OrganizationId;
use crate::domain::key::SecretKey;
use crate::domain::policy::DAY_MILLIS;
use crate::domain::provider::Provider;
use crate::domain::scope::{Owner, Scope, Slot};
use crate::domain::secret::SecretKind;
use crate::external::Credentials;
use crate::secrets::providers::{self, ProvidersError};
use crate::store::SecretRow;

/// A provider's credentials, opened, and the rows that they stand in.
pub struct ProviderCredentials {
    /// What a source is opened with.
    pub credentials: Credentials,
    /// Which row each came from: equal stamps mean equal credentials.
    pub stamp: Vec<(Slot, u64)>,
}

/// The rows of a provider's credentials, not opened.
pub(super) struct CredentialRows {
    credential: Option<SecretRow>,
    authority: Option<SecretRow>,
}

impl CredentialRows {
    /// Which rows they are: equal stamps mean equal credentials.
    pub(super) fn stamp(&self) -> Vec<(Slot, u64)> {
        let stamped = |row: &SecretRow| (row.meta.slot.clone(), row.meta.version);
        self.credential.iter().chain(&self.authority).map(stamped).collect()
    }
}

/// Why a provider's credentials were not opened. Says which of its two keys by its field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// The field's key has no value at the organization's scope. Somebody has to set one.
    #[error("the secret that {0} names has no value at the organization's scope")]
    Missing(&'static str),
    /// The field's key is itself a reference. Somebody has to set a value instead.
    #[error("the secret that {0} names is itself a reference, which is not followed")]
    External(&'static str),
    /// The store's fault, the log's, or a value that does not open.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
}

impl SecretResolver {
    /// An organization's providers, by name. Where one was edited in the database, none is used, and an alert says so.
    ///
    /// # Errors
    /// [`ResolveError`]; `Source` where one is not as it was written.
    pub async fn providers(&self, organization: &OrganizationId) -> Result<Vec<Provider>, ResolveError> {
        match providers::load(&self.store, &self.keyring, organization).await {
            Ok(providers) => Ok(providers),
            Err(ProvidersError::Store(error)) => Err(error.into()),
            Err(_) => {
                self.raise(providers::tampered(organization), DAY_MILLIS);
                Err(ResolveError::Source)
            }
        }
    }

    /// What a provider's settings name, opened. The loads are in the audit log before anything is returned; they do not
    /// count as unusual reading.
    ///
    /// # Errors
    /// [`CredentialError`].
    pub async fn credentials(
        &self,
        organization: &OrganizationId,
        provider: &Provider,
    ) -> Result<ProviderCredentials, CredentialError> {
        let rows = self.credential_rows(organization, provider).await?;
        Ok(ProviderCredentials {
            stamp: rows.stamp(),
            credentials: self.open_credentials(&rows).await?,
        })
    }

    /// Where a provider's credentials stand.
    pub(super) async fn credential_rows(
        &self,
        organization: &OrganizationId,
        provider: &Provider,
    ) -> Result<CredentialRows, CredentialError> {
        let slot = |key: &SecretKey| Slot {
            owner: Owner::Organization(organization.clone()),
            scope: Scope::Organization,
            scope_id: organization.into(),
            key: key.clone(),
        };
        let credential = provider.credential_key().map(slot);
        let authority = provider.ca_key.as_ref().map(slot);
        let slots: Vec<Slot> = credential.iter().chain(&authority).cloned().collect();
        let rows = if slots.is_empty() {
            Vec::new()
        } else {
            self.store.slots(&slots).await.map_err(ResolveError::from)?
        };
        Ok(CredentialRows {
            credential: standing(&rows, credential.as_ref(), "auth.credential_key")?.cloned(),
            authority: standing(&rows, authority.as_ref(), "ca_key")?.cloned(),
        })
    }

    /// Opens a provider's credentials, once their loads are in the audit log.
    pub(super) async fn open_credentials(&self, rows: &CredentialRows) -> Result<Credentials, ResolveError> {
        for row in rows.credential.iter().chain(&rows.authority) {
            self.record_own_load(row).await?;
        }
        let open = |row: &SecretRow| self.open(row).map_err(|slot| self.unopened(&slot));
        Ok(Credentials {
            credential: rows.credential.as_ref().map(open).transpose()?,
            authority: rows.authority.as_ref().map(open).transpose()?,
        })
    }
}

/// The row of a slot that must hold a value.
fn standing<'a>(
    rows: &'a [SecretRow],
    slot: Option<&Slot>,
    field: &'static str,
) -> Result<Option<&'a SecretRow>, CredentialError> {
    let Some(slot) = slot else { return Ok(None) };
    let row = rows.iter().find(|row| row.meta.slot == *slot);
    let row = row.ok_or(CredentialError::Missing(field))?;
    match row.meta.kind {
        SecretKind::Value => Ok(Some(row)),
        SecretKind::Reference => Err(CredentialError::External(field)),
        SecretKind::Placeholder | SecretKind::Tombstone => Err(CredentialError::Missing(field)),
    }
}
