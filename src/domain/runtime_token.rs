//! What a runtime token says of an invocation, which record it must fit, and the words for how a check ends.

use std::borrow::Cow;
use std::fmt;

use super::installation::Installation;
use super::problem::Problem;
use super::vocabulary::vocabulary;

/// A token as an invocation presents it. Nothing prints it: until it ends, whoever holds it can use it.
#[derive(Clone, PartialEq, Eq)]
pub struct PresentedToken<'a>(Cow<'a, str>);

impl<'a> PresentedToken<'a> {
    /// A token's text, whatever it is worth.
    #[must_use]
    pub const fn new(text: Cow<'a, str>) -> Self {
        Self(text)
    }

    /// The text, to be verified.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PresentedToken<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PresentedToken(..)")
    }
}

/// The ids that a verified token vouches for; integers are taken as text.
///
/// Organization, extension and project must be there: every endpoint that is delivered to sees the token of its
/// invocation, and one that is silent on any of them would open another tenant's, partner's or project's installation.
/// The product installation may be absent or null, as in an invocation's stated ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vouched {
    /// `org_id`
    pub organization: Box<str>,
    /// `ext_id`
    pub extension: Box<str>,
    /// `proj_id`
    pub project: Box<str>,
    /// `pi_id`
    pub product_installation: Option<Box<str>>,
}

impl Vouched {
    /// Whether every id is that of the registry's record.
    #[must_use]
    pub fn fits(&self, installation: &Installation) -> bool {
        let product = installation.product_installation.as_ref().map(|id| id.as_str());
        *self.organization == *installation.organization.as_str()
            && *self.extension == *installation.extension.as_str()
            && *self.project == *installation.project.as_str()
            && self
                .product_installation
                .as_deref()
                .is_none_or(|id| Some(id) == product)
    }
}

vocabulary!(
    /// How the check of a runtime token ends. For the log and a metric: a dispatcher is never told more than
    /// [`Self::problem`].
    TokenVerdict {
        /// It holds.
        Valid = "valid",
        /// The invocation has none.
        Absent = "absent",
        /// Longer than accepted.
        TooLarge = "too-large",
        /// No JWT, or a member that is read stands twice or is of the wrong type.
        Malformed = "malformed",
        /// Not signed with ES256.
        Algorithm = "algorithm",
        /// Its header brings a key along or points to one, or demands what is not understood.
        Header = "header",
        /// Signed with a key that the issuer does not publish, or that it does not name among several.
        UnknownKey = "unknown-key",
        /// The signature is another's.
        Signature = "signature",
        /// Issued by somebody else.
        Issuer = "issuer",
        /// A claim that must be there is not.
        Incomplete = "incomplete",
        /// It ended.
        Expired = "expired",
        /// It has not begun, or was issued in the future.
        NotYetValid = "not-yet-valid",
        /// It vouches for another installation.
        Mismatch = "mismatch",
        /// The issuer's keys cannot be had: it is not known whether it holds.
        KeysUnavailable = "keys-unavailable",
    }
);

impl TokenVerdict {
    /// What a dispatcher is told; `None` where the token holds.
    #[must_use]
    pub const fn problem(self) -> Option<Problem> {
        match self {
            Self::Valid => None,
            Self::KeysUnavailable => Some(Problem::SecretSourceUnavailable),
            Self::Absent
            | Self::TooLarge
            | Self::Malformed
            | Self::Algorithm
            | Self::Header
            | Self::UnknownKey
            | Self::Signature
            | Self::Issuer
            | Self::Incomplete
            | Self::Expired
            | Self::NotYetValid
            | Self::Mismatch => Some(Problem::RuntimeTokenInvalid),
        }
    }
}
