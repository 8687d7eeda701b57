//! What a committed change touched, as the change feed tells it and as caches compare it.

use std::sync::Arc;

use super::id::{ExtensionId, InstallationId, OrganizationId};
use super::scope::Slot;

/// One thing that a committed change created, replaced or removed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Changed {
    /// More than the feed can tell: whoever holds anything drops it.
    Everything,
    /// The secret at this slot.
    Secret(Slot),
    /// This extension's manifest.
    Extension(ExtensionId),
    /// This installation's record.
    Installation(InstallationId),
    /// Some API token.
    Tokens,
    /// This organization's providers: where its references are looked up.
    Providers(OrganizationId),
    /// Which key-encryption key seals, or that one was retired.
    Keys,
}

/// What is called with a commit's changes before its answer goes out, so that the next delivery sees them.
pub type OnCommitted = Arc<dyn Fn(&[Changed]) + Send + Sync>;
