//! An extension installed in a project: what a delivery is addressed to.

use super::id::{ExtensionId, InstallationId, OrganizationId, ProductInstallationId, ProjectId};
use super::time::Timestamp;

/// Where an installation stands in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum InstallationState {
    /// Installed, not yet enabled.
    Pending,
    /// Receives deliveries.
    Enabled,
    /// Switched off.
    Disabled,
}

impl InstallationState {
    /// The state's name in API and stored rows.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Enabled => "enabled",
            Self::Disabled => "disabled",
        }
    }

    /// Parses a state's name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "pending" => Self::Pending,
            "enabled" => Self::Enabled,
            "disabled" => Self::Disabled,
            _ => return None,
        })
    }
}

/// The registry's record of an installation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installation {
    /// What a delivery names.
    pub id: InstallationId,
    /// Of which extension.
    pub extension: ExtensionId,
    /// In which organization.
    pub organization: OrganizationId,
    /// In which project.
    pub project: ProjectId,
    /// Under which marketplace install, if any.
    pub product_installation: Option<ProductInstallationId>,
    /// Where it stands.
    pub state: InstallationState,
    /// A callback URL that overrides the manifest's, as it was registered.
    pub callback_url: Option<String>,
    /// Starts at 1; every change bumps it.
    pub version: u64,
    /// When it was installed.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}
