//! How a reference is fetched now because somebody asks for it, and what they hear of it.

use std::sync::Arc;

use crate::clock::Clock;
use crate::domain::audit::{Action, Asker, AuditEntry, Outcome};
use crate::domain::change::Changed;
use crate::domain::provider::{FetchOutcome, Unavailable};
use crate::domain::scope::{Owner, Slot};
use crate::domain::secret::SecretKind;
use crate::secrets::manage::Secret;
use crate::secrets::resolve::{ResolveError, SecretResolver};
use crate::store::{SharedStore, StoreError};

/// Fetches references for whoever asks.
pub struct SecretRefresher {
    store: SharedStore,
    clock: Arc<dyn Clock>,
    resolver: SecretResolver,
}

/// A reference that was fetched, or not.
pub struct Refreshed {
    /// The secret as it now stands; a new value behind it gave it a new version.
    pub result: Result<Secret, RefreshError>,
    /// What caches have to drop: also where there is no value any more.
    pub changed: Vec<Changed>,
}

/// Why there is nothing to use. Carries nothing of the backend's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RefreshError {
    /// The store's fault. Retry as the store's error says.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No such secret, as far as the caller may see.
    #[error("there is no such secret")]
    Unknown,
    /// The value stands here: there is nothing to fetch.
    #[error("the secret is no reference to an external one")]
    NotExternal,
    /// Nobody to fetch the value from. An administrator has to configure a provider.
    #[error("no provider is configured for this reference")]
    NoProvider,
    /// There is nothing where the reference points. Somebody has to put it there, or link elsewhere.
    #[error("the reference points to nothing")]
    Dangling,
    /// The provider's credential may not read it, or the reference is outside what the provider is for.
    #[error("the provider may not read what the reference points to")]
    Denied,
    /// The backend cannot say at the moment. Retry later.
    #[error("the provider cannot say at the moment: {}", .0.name())]
    Unavailable(Unavailable),
    /// The stored reference, the organization's providers or the audit log cannot be used.
    #[error("a secret's source is not available")]
    Source,
}

impl SecretRefresher {
    /// Over these sources.
    #[must_use]
    pub fn new(store: SharedStore, clock: Arc<dyn Clock>, resolver: SecretResolver) -> Self {
        Self { store, clock, resolver }
    }

    /// Asks a reference's backend now, whatever is known of it, and records that.
    ///
    /// # Errors
    /// [`RefreshError`] where nothing was asked.
    pub async fn refresh(&self, asker: &Asker, slot: &Slot) -> Result<Refreshed, RefreshError> {
        let rows = self.store.slots(std::slice::from_ref(slot)).await?;
        let row = rows.into_iter().find(|row| row.meta.kind != SecretKind::Tombstone);
        let row = row.ok_or(RefreshError::Unknown)?;
        if row.meta.kind != SecretKind::Reference {
            return Err(RefreshError::NotExternal);
        }
        let organization = match &slot.owner {
            Owner::Organization(organization) => Some(organization),
            Owner::Partner => None,
        };
        let outcome = self.resolver.fetch_now(organization, &row).await;
        let entry = AuditEntry {
            outcome: match outcome {
                Ok(FetchOutcome::Found) => Outcome::Ok,
                Ok(_) | Err(_) => Outcome::Failed,
            },
            ..asker.entry(organization.cloned(), self.clock.now(), Action::SecretRefresh)
        };
        let entry = entry.about(slot, row.meta.version, true);
        self.store.record(vec![entry]).await?;
        let result = match outcome? {
            FetchOutcome::Found => self.standing(slot).await,
            FetchOutcome::Dangling => Err(RefreshError::Dangling),
            FetchOutcome::Denied => Err(RefreshError::Denied),
            FetchOutcome::Unavailable(Unavailable::ProviderMissing) => Err(RefreshError::NoProvider),
            FetchOutcome::Unavailable(why) => Err(RefreshError::Unavailable(why)),
        };
        Ok(Refreshed {
            result,
            changed: vec![Changed::Secret(slot.clone())],
        })
    }

    /// The secret after the fetch, which may have noted a rotation.
    async fn standing(&self, slot: &Slot) -> Result<Secret, RefreshError> {
        let rows = self.store.slots(std::slice::from_ref(slot)).await?;
        let row = rows.into_iter().next().ok_or(RefreshError::Unknown)?;
        let reference = match row.meta.kind {
            SecretKind::Reference => Some(self.resolver.reference(&row)?),
            SecretKind::Value | SecretKind::Placeholder | SecretKind::Tombstone => None,
        };
        Ok(Secret {
            meta: row.meta,
            reference,
        })
    }
}

impl From<ResolveError> for RefreshError {
    fn from(error: ResolveError) -> Self {
        match error {
            ResolveError::Store(error) => Self::Store(error),
            ResolveError::Unrecorded => Self::Store(StoreError::Unavailable),
            ResolveError::Source => Self::Source,
        }
    }
}
