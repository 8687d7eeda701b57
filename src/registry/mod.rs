//! Which extensions and installations there are, and where each installation's deliveries go.
//!
//! Manifests, installations and the consents in them decide where secrets are sent, so their rows carry a MAC that is
//! checked whenever one is read: a writer to the database cannot redirect a delivery.

mod alerts;
mod consents;
mod extensions;
mod installations;
mod policies;
mod removal;
mod rows;
mod tokens;

use std::sync::Arc;

use crate::clock::Clock;
use crate::crypto::keyring::Keyring;
use crate::domain::alert::AlertKind;
use crate::domain::change::Changed;
use crate::domain::consent::{Awaiting, Consent};
use crate::domain::destination::{Destination, Scheme};
use crate::domain::id::{InstallationId, ScopeId};
use crate::domain::installation::{Installation, InstallationState};
use crate::domain::key::SecretKey;
use crate::domain::manifest::{Demand, Manifest, ManifestError};
use crate::domain::policy::PolicyError;
use crate::domain::resolution::PartnerDefaults;
use crate::egress::{DestinationPolicy, DestinationRefused};
use crate::store::{Finding, InstallationSnapshot, SharedStore, StoreError};
use rows::{verified_installation, verified_manifest};

pub use alerts::{AlertFilter, Health};
pub use consents::{Seen, SeenKey, adopt_consents, findings};
pub use extensions::ExtensionRecord;
pub use installations::{InstallationPatch, Installed, NewInstallation};
pub use policies::{PolicyRecord, policy_is_authentic, policy_of, sealed_policy};
pub use tokens::{KnownToken, MadeToken, NewToken, TokenError, Tokens, sealed_token, token_is_authentic};

/// The use cases over extensions and installations.
pub struct Registry {
    store: SharedStore,
    keyring: Arc<Keyring>,
    clock: Arc<dyn Clock>,
    policy: DestinationPolicy,
}

/// Why something was not registered, changed or read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegistryError {
    /// The store's fault. Retry as the store's error says.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No such extension or installation, as far as the caller may see.
    #[error("there is no such record")]
    Unknown,
    /// The record is not at the version that the caller expected, or is there already. Read it again.
    #[error("the record was changed by someone else")]
    Conflict,
    /// The manifest is none. Its author has to change it.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The manifest is another extension's.
    #[error("the manifest's id is another one than the path's")]
    IdMismatch,
    /// The destination must not be delivered to, or is none.
    #[error(transparent)]
    DestinationRefused(#[from] DestinationRefused),
    /// A rule of a policy is none. Its author has to change it.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// An installation cannot be enabled as long as these have no value.
    #[error("required keys have no value")]
    RequiredMissing(Vec<SecretKey>),
    /// A consent names what does not stand there, or stands there no more. The caller looks again.
    #[error("what was named is not what stands there: look again")]
    NotAsSeen,
    /// A stored row is not as the sidecar wrote it. An operator has to look into it.
    #[error("a stored record does not authenticate")]
    Tampered,
    /// Its version is at its limit. The record cannot be changed any more.
    #[error("the record's version is at its limit")]
    Exhausted,
    /// The system's fault.
    #[error("internal error")]
    Internal,
}

/// Something stored, and what that changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored<T> {
    /// The record as it now stands.
    pub record: T,
    /// What caches have to drop.
    pub changed: Vec<Changed>,
    /// Whether it is new.
    pub created: bool,
}

/// What a delivery has to know of an installation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registered {
    /// The record.
    pub installation: Installation,
    /// Its extension's manifest.
    pub manifest: Manifest,
    /// Where deliveries go: the installation's own callback, else the manifest's.
    pub destination: Option<Destination>,
    /// Whether the partner's defaults are for it.
    pub partner_defaults: PartnerDefaults,
    /// What the organization agreed to.
    pub consent: Consent,
}

impl Registered {
    /// What waits for the organization's word. Nothing of one that is not enabled: enabling it is that word.
    #[must_use]
    pub fn awaiting(&self) -> Awaiting {
        if self.installation.state != InstallationState::Enabled {
            return Awaiting::default();
        }
        let demand = self.manifest.demand();
        self.consent.awaiting(self.destination.as_ref(), &demand)
    }

    /// What a delivery needs values for, with what of it is withheld.
    #[must_use]
    pub fn demand(&self) -> Demand {
        Demand {
            withheld: self.awaiting().keys,
            ..self.manifest.demand()
        }
    }
}

/// Reads what a delivery has to know, in one snapshot.
///
/// # Errors
/// [`RegistryError::Store`], or [`RegistryError::Tampered`] where a row is not as it was written.
pub async fn load(
    store: &SharedStore,
    keyring: &Keyring,
    id: &InstallationId,
) -> Result<Option<Registered>, RegistryError> {
    match store.installation(id).await? {
        None => Ok(None),
        Some(snapshot) => registered(keyring, snapshot).map(Some),
    }
}

fn registered(keyring: &Keyring, snapshot: InstallationSnapshot) -> Result<Registered, RegistryError> {
    let (installation, consent) = verified_installation(keyring, snapshot.installation)?;
    let manifest = verified_manifest(keyring, &snapshot.extension)?;
    put_together(installation, consent, manifest)
}

/// The records of an installation, as a delivery goes by them.
fn put_together(installation: Installation, consent: Consent, manifest: Manifest) -> Result<Registered, RegistryError> {
    let own = manifest.callback.as_ref().and_then(|callback| callback.url.clone());
    let overriding = match &installation.callback_url {
        None => None,
        Some(url) => Some(Destination::parse(url).map_err(|_| RegistryError::Tampered)?),
    };
    // Overridden away from the partner's destination, an installation could collect the partner's values.
    let partner_defaults = match &overriding {
        Some(destination) if own.as_ref() != Some(destination) => PartnerDefaults::Withheld,
        _ => PartnerDefaults::Offered,
    };
    Ok(Registered {
        installation,
        manifest,
        destination: overriding.or(own),
        partner_defaults,
        consent,
    })
}

/// That a record is not as it was written. Whose it is cannot be told from it, so the platform's operators hear of it.
#[must_use]
pub fn tampered(record: ScopeId) -> Finding {
    Finding {
        kind: AlertKind::IntegrityFailure,
        organization: None,
        scope: None,
        subject: Some(record),
        key: None,
        detail: String::from("a stored record does not authenticate; it is not used"),
        occasion: String::new(),
    }
}

impl Registry {
    /// A registry over these sources.
    #[must_use]
    pub fn new(store: SharedStore, keyring: Arc<Keyring>, clock: Arc<dyn Clock>, policy: DestinationPolicy) -> Self {
        Self {
            store,
            keyring,
            clock,
            policy,
        }
    }

    /// Whether an extension's secrets may be sent there at all. Names are vetted when they are dialled.
    fn check(&self, destination: &Destination, manifest: &Manifest) -> Result<(), RegistryError> {
        if destination.scheme == Scheme::Http && manifest.declares_mtls() {
            return Err(DestinationRefused.into());
        }
        Ok(self.policy.check(destination)?)
    }
}
