//! The identities a delivery, a tenant and its parts go by.

use std::fmt;
use std::sync::Arc;

/// Longest accepted id, in bytes.
pub const ID_BYTES_MAX: usize = 128;

/// The text is no id. Carries nothing of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Not 1 to 128 of the allowed characters.
    #[error("an id is 1 to 128 of A-Z, a-z, 0-9 and . _ : -")]
    Malformed,
    /// An extension id without a dot.
    #[error("an extension id is a reverse-DNS name and contains a dot")]
    NotReverseDns,
}

fn well_formed(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b':' | b'-');
    !text.is_empty() && text.len() <= ID_BYTES_MAX && text.bytes().all(allowed)
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Parses an id: `[A-Za-z0-9._:-]{1,128}` (contract, section 2).
            ///
            /// # Errors
            /// [`IdError`] where the text does not follow the rule.
            pub fn parse(text: &str) -> Result<Self, IdError> {
                let check: fn(&str) -> Result<(), IdError> = $check;
                if !well_formed(text) {
                    return Err(IdError::Malformed);
                }
                check(text)?;
                Ok(Self(text.into()))
            }

            /// The id's text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

id!(
    /// A tenant.
    OrganizationId,
    |_| Ok(())
);
id!(
    /// A project of an organization.
    ProjectId,
    |_| Ok(())
);
id!(
    /// A marketplace install that an organization's projects share.
    ProductInstallationId,
    |_| Ok(())
);
id!(
    /// An extension installed in a project: what a delivery is addressed to.
    InstallationId,
    |_| Ok(())
);
id!(
    /// A partner's extension, by reverse-DNS name.
    ExtensionId,
    |text| if text.contains('.') { Ok(()) } else { Err(IdError::NotReverseDns) }
);
id!(
    /// What a scope is bound to: the id of an installation, a product installation, an extension,
    /// a project or an organization, according to the scope.
    ScopeId,
    |_| Ok(())
);

macro_rules! scope_id_from {
    ($($name:ident),*) => {
        $(impl From<&$name> for ScopeId {
            fn from(id: &$name) -> Self {
                Self(Arc::clone(&id.0))
            }
        })*
    };
}
scope_id_from!(
    OrganizationId,
    ProjectId,
    ProductInstallationId,
    InstallationId,
    ExtensionId
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_hold_both_sides_of_their_limits() {
        for good in ["1", "acme", "a.b_c:d-e", &"x".repeat(128)] {
            assert!(OrganizationId::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "a b", "a/b", "ä", "a\n", &"x".repeat(129)] {
            assert_eq!(OrganizationId::parse(bad), Err(IdError::Malformed), "{bad}");
        }
    }

    #[test]
    fn an_extension_id_contains_a_dot() {
        assert!(ExtensionId::parse("com.example.mailchimp").is_ok());
        assert_eq!(ExtensionId::parse("mailchimp"), Err(IdError::NotReverseDns));
    }
}
