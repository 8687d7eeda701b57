//! What a warm delivery needs, built once per change: the ready-to-splice fragment, the route, the signers, and
//! everything they depend on.
//!
//! A bundle is immutable and shared by all workers. It is dropped exactly when something it depends on changes:
//! every slot that was asked (*also those without a row*), the manifest, the installation's record, and the providers
//! and credentials that a value was fetched with.

mod absence;
mod build;
mod cache;
mod contact;

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::audit::UseCounter;
use crate::crypto::signature::Signers;
use crate::delivery::{Lane, Route};
use crate::domain::change::Changed;
use crate::domain::echo::EchoPatterns;
use crate::domain::id::{ExtensionId, InstallationId, OrganizationId};
use crate::domain::installation::Installation;
use crate::domain::key::SecretKey;
use crate::domain::leak::LeakPatterns;
use crate::domain::scope::{ScopeHits, Slot};
use crate::domain::time::Timestamp;

pub use build::{BuildError, Builder, Ways};
pub use cache::{Bundles, Found};
pub use contact::StoreContact;

/// What is known of an installation id.
#[derive(Debug)]
pub struct Bundle {
    /// The installation, or that there is none.
    pub standing: Standing,
    /// After this moment the bundle is built anew even without a change, and used until the next one is there.
    pub fresh_until: Option<Timestamp>,
    /// After this moment it is not used, whatever becomes of the next one.
    pub usable_until: Option<Timestamp>,
    depends_on: Dependencies,
}

/// Whether a delivery can be addressed to an id.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "there is one per bundle, and nearly all are installed"
)]
pub enum Standing {
    /// No installation goes by this id.
    Unknown,
    /// There is one.
    Installed {
        /// Its record, to hold an invocation's stated ids against.
        installation: Installation,
        /// What a delivery would use, or what stands in its way.
        readiness: Result<Ready, Obstacle>,
    },
}

/// All that a delivery to an enabled, complete installation uses.
#[derive(Debug)]
pub struct Ready {
    /// Counts deliveries for the audit log.
    pub uses: Arc<UseCounter>,
    /// Where to, how long, over which identity.
    pub route: Arc<Route>,
    /// How much room it finds on the way, and whether the endpoint is there.
    pub lane: Arc<Lane>,
    /// `,"secrets":{…},"secret_status":{…}`: goes before the payload's final brace. Wiped when dropped.
    pub fragment: Bytes,
    /// How many keys the fragment injects.
    pub keys_injected: u32,
    /// How many it lists as missing.
    pub keys_missing: u32,
    /// Which scopes the values came from.
    pub scope_hits: ScopeHits,
    /// What signs the delivery, where the manifest names signing keys.
    pub signers: Option<Signers>,
    /// What is looked for in answers, where any injected value is long enough.
    pub echo: Option<Arc<Echo>>,
    /// What must not be seen in a request, where that is looked at.
    pub leaks: Option<LeakPatterns>,
    /// Whether the handshake presents a client certificate.
    pub mtls: bool,
    /// When the client certificate ends.
    pub identity_until: Option<Timestamp>,
}

/// What an endpoint must not give back.
pub struct Echo {
    /// The injected values, in every form.
    pub patterns: Arc<EchoPatterns>,
    /// What the delivery uses, to tell of it.
    pub uses: Arc<UseCounter>,
}

impl fmt::Debug for Echo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.patterns.keys()).finish()
    }
}

/// What stands in the way of a delivery although everything could be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Obstacle {
    /// The installation is pending or disabled.
    NotEnabled,
    /// The manifest has no callback, and the installation overrides none.
    NoDestination,
    /// Its destination changed, and no admin of the organization confirmed the new one.
    DestinationUnconfirmed,
    /// The manifest declares mTLS, and the callback is plain HTTP: there is no handshake to present a certificate in.
    PlainDestination,
    /// Required keys without a value, with `fail_fast`.
    RequiredMissing(Vec<SecretKey>),
    /// Signing keys without a value.
    SigningKeyMissing,
    /// Handshake secrets without a value.
    IdentityMissing,
    /// Handshake secrets that are not PEM, do not match, or are out of their validity; or a signing key that is none.
    IdentityInvalid,
}

/// What a bundle was built from.
#[derive(Debug, Default)]
struct Dependencies {
    installation: Option<InstallationId>,
    extension: Option<ExtensionId>,
    slots: HashSet<Slot>,
    /// Whose providers any of it was fetched with.
    providers: Option<OrganizationId>,
}

impl Dependencies {
    /// Each change that a bundle would not survive.
    fn changes(&self) -> impl Iterator<Item = Changed> {
        let installation = self.installation.iter().cloned().map(Changed::Installation);
        let extension = self.extension.iter().cloned().map(Changed::Extension);
        let slots = self.slots.iter().cloned().map(Changed::Secret);
        let providers = self.providers.iter().cloned().map(Changed::Providers);
        installation.chain(extension).chain(slots).chain(providers)
    }
}

impl Bundle {
    /// Whether a change touches anything that this bundle was built from.
    #[must_use]
    pub fn depends_on(&self, changed: &Changed) -> bool {
        match changed {
            Changed::Everything => true,
            Changed::Secret(slot) => self.depends_on.slots.contains(slot),
            Changed::Extension(id) => self.depends_on.extension.as_ref() == Some(id),
            Changed::Installation(id) => self.depends_on.installation.as_ref() == Some(id),
            Changed::Providers(organization) => self.depends_on.providers.as_ref() == Some(organization),
            Changed::Tokens | Changed::Keys => false,
        }
    }

    /// Whether any of it was fetched from another backend.
    const fn is_external(&self) -> bool {
        self.depends_on.providers.is_some()
    }
}
