//! What people are alerted to: closed kinds, never a value.

use super::id::{OrganizationId, ScopeId};
use super::key::SecretKey;
use super::scope::Scope;
use super::time::Timestamp;
use super::vocabulary::vocabulary;

vocabulary!(
    /// What happened.
    AlertKind {
        /// A key was read more often within a window than the organization's policy expects.
        ReadAnomaly = "read-anomaly",
        /// A value is older than the organization's policy allows.
        RotationOverdue = "rotation-overdue",
        /// A value reaches the end that its author gave it.
        Expiring = "expiring",
        /// A client certificate ends.
        CertificateExpiring = "certificate-expiring",
        /// Nobody has used a value for long.
        Unused = "unused",
        /// A reference points to nothing.
        Dangling = "dangling-reference",
        /// A certificate and its key do not match; the last matching pair is in use for a while.
        IdentityMismatched = "identity-mismatched",
        /// An endpoint's answer gave a value back.
        SecretEchoed = "secret-echoed",
        /// A value stood in a request outside of its slot, and nothing was sent.
        SecretMisplaced = "secret-misplaced",
        /// An installation's destination changed, and gets no secrets before it is confirmed.
        DestinationUnconfirmed = "destination-unconfirmed",
        /// An update of a manifest asks for more keys, which are withheld before they are accepted.
        KeysNotAccepted = "keys-not-accepted",
        /// A stored row or the audit chain is not as it was written.
        IntegrityFailure = "integrity-failure",
    }
);

vocabulary!(
    /// How soon somebody should look.
    Severity {
        /// At once.
        High = "high",
        /// Within days.
        Medium = "medium",
        /// Some time.
        Low = "low",
    }
);

impl AlertKind {
    /// How soon somebody should look.
    #[must_use]
    pub const fn severity(self) -> Severity {
        match self {
            Self::ReadAnomaly
            | Self::IdentityMismatched
            | Self::SecretEchoed
            | Self::SecretMisplaced
            | Self::DestinationUnconfirmed
            | Self::KeysNotAccepted
            | Self::IntegrityFailure => Severity::High,
            Self::RotationOverdue | Self::Expiring | Self::CertificateExpiring | Self::Dangling => Severity::Medium,
            Self::Unused => Severity::Low,
        }
    }
}

/// An alert to an organization's admins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alert {
    /// Unique.
    pub id: String,
    /// Whose admins; the platform's operators where `None`.
    pub organization: Option<OrganizationId>,
    /// What happened.
    pub kind: AlertKind,
    /// At which scope, where it concerns a secret.
    pub scope: Option<Scope>,
    /// Bound to what.
    pub subject: Option<ScopeId>,
    /// Which key.
    pub key: Option<SecretKey>,
    /// One sentence of ours, with counts and moments, never a value.
    pub detail: String,
    /// Equal for alerts that say the same: only the first of them within a quiet time is kept.
    pub dedup: String,
    /// When.
    pub raised_at: Timestamp,
    /// When somebody said that it was seen.
    pub acknowledged_at: Option<Timestamp>,
    /// Who said so: a token's name.
    pub acknowledged_by: Option<String>,
}
