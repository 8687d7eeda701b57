//! Where an organization's references are looked up: how its providers are configured, read and checked.
//!
//! A provider names a host that the organization's credentials are sent to, so its row carries a MAC over every column:
//! a writer to the database cannot point a tenant's vault elsewhere. Where one row does not authenticate, none of the
//! organization's providers is used: which of the others a reference would go to instead is then somebody else's choice.

mod check;
mod row;

use std::sync::Arc;

use crate::clock::Clock;
use crate::crypto::keyring::Keyring;
use crate::domain::alert::AlertKind;
use crate::domain::audit::{Action, Asker, AuditEntry};
use crate::domain::change::Changed;
use crate::domain::id::{OrganizationId, ScopeId};
use crate::domain::policy::DAY_MILLIS;
use crate::domain::provider::{Provider, ProviderName};
use crate::domain::secret::successor;
use crate::domain::time::Timestamp;
use crate::egress::{DestinationPolicy, DestinationRefused};
use crate::external::External;
use crate::secrets::resolve::{ResolveError, SecretResolver};
use crate::store::{Change, Finding, PROVIDERS_MAX, ProviderRow, SharedStore, StoreError, Write};
use check::UnderWay;

pub use check::ProviderCheck;

/// How often a write is tried again that someone else overtook.
const OVERTAKEN_MAX: u32 = 8;

/// The use cases over providers.
pub struct ProviderBook {
    store: SharedStore,
    keyring: Arc<Keyring>,
    clock: Arc<dyn Clock>,
    resolver: SecretResolver,
    policy: DestinationPolicy,
    external: Arc<External>,
    under_way: UnderWay,
}

/// A provider as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProviderRecord {
    /// Whose.
    pub organization: OrganizationId,
    /// What it says.
    pub provider: Provider,
    /// Starts at 1; every write bumps it.
    pub version: u64,
    /// When it was first configured.
    pub created_at: Timestamp,
    /// When it was last written.
    pub updated_at: Timestamp,
}

/// A provider that was written, and what that changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfiguredProvider {
    /// The provider as it now stands.
    pub record: ProviderRecord,
    /// Whether it is new.
    pub created: bool,
    /// What caches have to drop.
    pub changed: Vec<Changed>,
}

/// Why a provider was not configured, removed or read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProvidersError {
    /// The store's fault. Retry as the store's error says.
    #[error(transparent)]
    Store(StoreError),
    /// No such provider.
    #[error("there is no such provider")]
    Unknown,
    /// It is not at the version that the caller expected. Read it again.
    #[error("the provider was changed by someone else")]
    Conflict,
    /// The organization has as many as it may.
    #[error("an organization has at most {PROVIDERS_MAX} providers")]
    Count,
    /// Its address must not be spoken to. Its author has to change it.
    #[error(transparent)]
    Destination(#[from] DestinationRefused),
    /// A stored row is not as the sidecar wrote it. An operator has to look into it.
    #[error("a stored provider does not authenticate")]
    Tampered,
    /// Another of the organization's providers is tried at the moment. Retry a little later.
    #[error("a provider of the organization is being checked already")]
    Busy,
    /// Its credential could not be opened, or the load not recorded: the system's fault.
    #[error(transparent)]
    Credential(ResolveError),
    /// Its version is at its limit. It cannot be changed any more.
    #[error("the provider's version is at its limit")]
    Exhausted,
}

impl From<StoreError> for ProvidersError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Damaged => Self::Tampered, // a row that does not even read back
            other => Self::Store(other),
        }
    }
}

/// An organization's providers, by name.
///
/// # Errors
/// [`ProvidersError::Store`], or [`ProvidersError::Tampered`] where any of the rows is not as it was written.
pub async fn load(
    store: &SharedStore,
    keyring: &Keyring,
    organization: &OrganizationId,
) -> Result<Vec<Provider>, ProvidersError> {
    let rows = store.providers(organization).await?;
    let read = |row: &ProviderRow| row::read(keyring, row).ok_or(ProvidersError::Tampered);
    rows.iter().map(read).collect()
}

/// That providers of an organization are not as they were written. Whose they were cannot be told from them, so the
/// platform's operators hear of it.
#[must_use]
pub fn tampered(organization: &OrganizationId) -> Finding {
    Finding {
        kind: AlertKind::IntegrityFailure,
        organization: None,
        scope: None,
        subject: Some(organization.into()),
        key: None,
        detail: String::from("a stored provider does not authenticate; the organization's references are not fetched"),
        occasion: String::new(),
    }
}

impl ProviderBook {
    /// Over these sources. `resolver` opens credentials and raises alerts, `external` asks.
    #[must_use]
    pub fn new(
        store: SharedStore,
        keyring: Arc<Keyring>,
        clock: Arc<dyn Clock>,
        resolver: SecretResolver,
        policy: DestinationPolicy,
        external: Arc<External>,
    ) -> Self {
        Self {
            store,
            keyring,
            clock,
            resolver,
            policy,
            external,
            under_way: UnderWay::default(),
        }
    }

    /// An organization's providers, by name.
    ///
    /// # Errors
    /// [`ProvidersError`].
    pub async fn list(&self, organization: &OrganizationId) -> Result<Vec<ProviderRecord>, ProvidersError> {
        let rows = self.rows(organization).await?;
        rows.into_iter().map(|row| self.record(row)).collect()
    }

    /// One provider.
    ///
    /// # Errors
    /// [`ProvidersError`].
    pub async fn get(
        &self,
        organization: &OrganizationId,
        name: &ProviderName,
    ) -> Result<ProviderRecord, ProvidersError> {
        let rows = self.rows(organization).await?;
        let row = rows.into_iter().find(|row| row.name == *name);
        self.record(row.ok_or(ProvidersError::Unknown)?)
    }

    /// Configures a provider, whole. `expected` is the version the caller read, if it insists on one. A new default
    /// ends the one before, in the same change: bare paths are looked up in one place, and the caller names it.
    ///
    /// # Errors
    /// [`ProvidersError`].
    pub async fn put(
        &self,
        asker: &Asker,
        organization: &OrganizationId,
        provider: &Provider,
        expected: Option<u64>,
    ) -> Result<ConfiguredProvider, ProvidersError> {
        self.policy.check(provider.backend.address())?;
        for _ in 0..OVERTAKEN_MAX {
            let rows = self.rows(organization).await?;
            let standing = rows.iter().find(|row| row.name == provider.name);
            let replaced = standing.map(|row| row.version);
            if expected.is_some_and(|expected| expected != replaced.unwrap_or(0)) {
                return Err(ProvidersError::Conflict);
            }
            if standing.is_none() && i64::try_from(rows.len()).is_ok_and(|count| count >= PROVIDERS_MAX) {
                return Err(ProvidersError::Count);
            }
            let now = self.clock.now();
            let row = ProviderRow {
                organization: organization.clone(),
                name: provider.name.clone(),
                document: row::document(provider),
                is_default: provider.default,
                version: replaced.map_or(Some(1), successor).ok_or(ProvidersError::Exhausted)?,
                created_at: standing.map_or(now, |row| row.created_at),
                updated_at: now,
                mac: Vec::new(),
            };
            let row = row::sealed(&self.keyring, row);
            let mut change = Change::default();
            if row.is_default {
                for other in rows.iter().filter(|other| other.is_default && other.name != row.name) {
                    let ended = self.no_default(other, now)?;
                    self.write(asker, ended, Some(other.version), &mut change);
                }
            }
            self.write(asker, row.clone(), replaced, &mut change);
            match self.store.commit(change).await {
                Ok(()) => {
                    return Ok(ConfiguredProvider {
                        record: self.record(row)?,
                        created: replaced.is_none(),
                        changed: vec![Changed::Providers(organization.clone())],
                    });
                }
                // This provider or another default: what stands now decides.
                Err(StoreError::Conflict) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(ProvidersError::Conflict)
    }

    /// Removes a provider, whatever its row says. References to it stay, and cannot be fetched.
    ///
    /// # Errors
    /// [`ProvidersError`]; `Unknown` where there is none.
    pub async fn delete(
        &self,
        asker: &Asker,
        organization: &OrganizationId,
        name: &ProviderName,
        expected: Option<u64>,
    ) -> Result<Vec<Changed>, ProvidersError> {
        for _ in 0..OVERTAKEN_MAX {
            let rows = self.rows(organization).await?;
            let standing = rows.iter().find(|row| row.name == *name);
            let version = standing.ok_or(ProvidersError::Unknown)?.version;
            if expected.is_some_and(|expected| expected != version) {
                return Err(ProvidersError::Conflict);
            }
            let entry = AuditEntry {
                version: Some(version),
                ..self.entry(asker, organization, name, Action::ProviderDelete)
            };
            let change = Change {
                writes: vec![Write::ProviderGone {
                    organization: organization.clone(),
                    name: name.clone(),
                    expected: version,
                }],
                entries: vec![entry],
            };
            match self.store.commit(change).await {
                Ok(()) => return Ok(vec![Changed::Providers(organization.clone())]),
                Err(StoreError::Conflict) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(ProvidersError::Conflict)
    }

    /// The same provider, not the default any more. One that somebody edited is not sealed anew.
    fn no_default(&self, row: &ProviderRow, now: Timestamp) -> Result<ProviderRow, ProvidersError> {
        row::read(&self.keyring, row).ok_or_else(|| self.alerted(&row.organization))?;
        let ended = ProviderRow {
            is_default: false,
            version: successor(row.version).ok_or(ProvidersError::Exhausted)?,
            updated_at: now,
            ..row.clone()
        };
        Ok(row::sealed(&self.keyring, ended))
    }

    fn write(&self, asker: &Asker, row: ProviderRow, expected: Option<u64>, change: &mut Change) {
        change.entries.push(AuditEntry {
            version: Some(row.version),
            ..self.entry(asker, &row.organization, &row.name, Action::ProviderPut)
        });
        change.writes.push(Write::Provider { row, expected });
    }

    fn entry(&self, asker: &Asker, organization: &OrganizationId, name: &ProviderName, action: Action) -> AuditEntry {
        AuditEntry {
            subject: ScopeId::parse(name.as_str()).ok(),
            ..asker.entry(Some(organization.clone()), self.clock.now(), action)
        }
    }

    async fn rows(&self, organization: &OrganizationId) -> Result<Vec<ProviderRow>, ProvidersError> {
        match self.store.providers(organization).await {
            Ok(rows) => Ok(rows),
            Err(StoreError::Damaged) => Err(self.alerted(organization)),
            Err(error) => Err(error.into()),
        }
    }

    fn record(&self, row: ProviderRow) -> Result<ProviderRecord, ProvidersError> {
        let provider = row::read(&self.keyring, &row).ok_or_else(|| self.alerted(&row.organization))?;
        Ok(ProviderRecord {
            organization: row.organization,
            provider,
            version: row.version,
            created_at: row.created_at,
            updated_at: row.updated_at,
        })
    }

    fn alerted(&self, organization: &OrganizationId) -> ProvidersError {
        self.resolver.raise(tampered(organization), DAY_MILLIS);
        ProvidersError::Tampered
    }
}
