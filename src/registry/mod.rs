//! Which extensions and installations there are, and where each installation's deliveries go.
//!
//! Manifests and installations decide where secrets are sent, so their rows carry a MAC that is checked whenever one
//! is read: a writer to the database cannot redirect a delivery.

mod alerts;
mod extensions;
mod installations;
mod policies;
mod removal;
mod tokens;

use std::sync::Arc;

use crate::clock::Clock;
use crate::crypto::encoding::Encoder;
use crate::crypto::keyring::Keyring;
use crate::domain::alert::AlertKind;
use crate::domain::change::Changed;
use crate::domain::destination::{Destination, Scheme};
use crate::domain::id::{InstallationId, ScopeId};
use crate::domain::installation::Installation;
use crate::domain::key::SecretKey;
use crate::domain::manifest::{Manifest, ManifestError};
use crate::domain::policy::PolicyError;
use crate::domain::resolution::PartnerDefaults;
use crate::egress::{DestinationPolicy, DestinationRefused};
use crate::store::{ExtensionRow, Finding, InstallationRow, SharedStore, StoreError};

pub use alerts::{AlertFilter, Health};
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
    let Some(snapshot) = store.installation(id).await? else {
        return Ok(None);
    };
    let installation = verified_installation(keyring, snapshot.installation)?;
    let manifest = verified_manifest(keyring, &snapshot.extension)?;
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
    Ok(Some(Registered {
        installation,
        manifest,
        destination: overriding.or(own),
        partner_defaults,
    }))
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

const EXTENSIONS: &str = "extensions";
const INSTALLATIONS: &str = "installations";

fn extension_fields(row: &ExtensionRow) -> [Vec<u8>; 3] {
    [
        row.id.as_str().into(),
        row.document.as_bytes().into(),
        row.version.to_be_bytes().into(),
    ]
}

fn installation_fields(installation: &Installation) -> [Vec<u8>; 1] {
    let fields = Encoder::new("kiket.installation-row.v1")
        .text(installation.id.as_str())
        .text(installation.extension.as_str())
        .text(installation.organization.as_str())
        .text(installation.project.as_str())
        .optional(installation.product_installation.as_ref(), |encoder, id| {
            encoder.text(id.as_str())
        })
        .text(installation.state.name())
        .optional(installation.callback_url.as_deref(), Encoder::text)
        .number(installation.version);
    [fields.finish()]
}

fn slices<const N: usize>(fields: &[Vec<u8>; N]) -> [&[u8]; N] {
    fields.each_ref().map(Vec::as_slice)
}

fn sealed_extension(keyring: &Keyring, mut row: ExtensionRow) -> ExtensionRow {
    row.mac = keyring.row_mac(EXTENSIONS, &slices(&extension_fields(&row))).to_vec();
    row
}

fn sealed_installation(keyring: &Keyring, installation: Installation) -> InstallationRow {
    let mac = keyring
        .row_mac(INSTALLATIONS, &slices(&installation_fields(&installation)))
        .to_vec();
    InstallationRow { installation, mac }
}

fn verified_manifest(keyring: &Keyring, row: &ExtensionRow) -> Result<Manifest, RegistryError> {
    if !keyring.row_mac_holds(EXTENSIONS, &slices(&extension_fields(row)), &row.mac) {
        return Err(RegistryError::Tampered);
    }
    Manifest::parse(&row.document).map_err(|_| RegistryError::Tampered)
}

fn verified_installation(keyring: &Keyring, row: InstallationRow) -> Result<Installation, RegistryError> {
    let fields = installation_fields(&row.installation);
    if keyring.row_mac_holds(INSTALLATIONS, &slices(&fields), &row.mac) {
        Ok(row.installation)
    } else {
        Err(RegistryError::Tampered)
    }
}
