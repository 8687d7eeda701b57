//! What a committed change touched, as the change feed tells it and as caches compare it.

use super::id::{ExtensionId, InstallationId};
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
}
