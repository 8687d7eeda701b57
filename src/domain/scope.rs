//! Where a secret can live, and which place is asked first.

use std::fmt;

use super::id::{OrganizationId, ScopeId};
use super::key::SecretKey;

/// The five scopes. **Variant order is precedence**: the first that has a value wins
/// (spec, "Scope hierarchy").
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// One installation of an extension in one project.
    ExtensionInstallation,
    /// A marketplace install, shared by an organization's projects.
    ProductInstallation,
    /// One extension: the organization's own values first, then the partner's defaults.
    Extension,
    /// One project.
    Project,
    /// The whole organization.
    Organization,
}

impl Scope {
    /// All scopes in precedence order.
    pub const ALL: [Self; 5] = [
        Self::ExtensionInstallation,
        Self::ProductInstallation,
        Self::Extension,
        Self::Project,
        Self::Organization,
    ];

    /// Parses a scope by its name or alias (contract, section 3).
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "extension_installation" | "installation" => Self::ExtensionInstallation,
            "product_installation" | "product" => Self::ProductInstallation,
            "extension" => Self::Extension,
            "project" => Self::Project,
            "organization" => Self::Organization,
            _ => return None,
        })
    }

    /// The scope's canonical name in API, CLI, audit log and stored rows.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ExtensionInstallation => "extension_installation",
            Self::ProductInstallation => "product_installation",
            Self::Extension => "extension",
            Self::Project => "project",
            Self::Organization => "organization",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How many keys of a delivery each scope satisfied.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ScopeHits([u16; 5]);

impl ScopeHits {
    /// Counts one key for a scope.
    pub fn count(&mut self, scope: Scope) {
        for (n, candidate) in self.0.iter_mut().zip(Scope::ALL) {
            if candidate == scope {
                *n = n.saturating_add(1);
            }
        }
    }

    /// The scopes that satisfied any key, with how many, in precedence order.
    pub fn iter(&self) -> impl Iterator<Item = (Scope, u16)> {
        Scope::ALL.into_iter().zip(self.0).filter(|(_, n)| *n > 0)
    }
}

/// Whose value it is. Tenants never share a layer; a partner's defaults are the one thing
/// that several organizations may read, and none of them may write.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Owner {
    /// A tenant's own value.
    Organization(OrganizationId),
    /// A partner default, at scope `extension` only.
    Partner,
}

impl Owner {
    /// The stored form: the organization's id, or `""` for a partner (never NULL, so that rows stay unique).
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Organization(id) => id.as_str(),
            Self::Partner => "",
        }
    }
}

/// The place of one value: at most one secret row stands here.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot {
    /// Whose.
    pub owner: Owner,
    /// At which scope.
    pub scope: Scope,
    /// Bound to what.
    pub scope_id: ScopeId,
    /// Under which key.
    pub key: SecretKey,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scope_parses_from_its_name_and_the_order_is_the_precedence() {
        for scope in Scope::ALL {
            assert_eq!(Scope::parse(scope.name()), Some(scope));
        }
        assert!(Scope::ALL.is_sorted());
        assert_eq!(Scope::parse("installation"), Some(Scope::ExtensionInstallation));
        assert_eq!(Scope::parse("product"), Some(Scope::ProductInstallation));
        assert_eq!(Scope::parse("Organization"), None);
    }
}
