//! What the audit log records: closed vocabularies, never a value.

use super::id::{OrganizationId, ScopeId};
use super::key::SecretKey;
use super::scope::Scope;
use super::time::Timestamp;

macro_rules! vocabulary {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$vdoc])* $variant),* }

        impl $name {
            /// Every word of the vocabulary.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The word itself: log field, stored column and API value alike.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $text),* }
            }

            /// Parses a word.
            #[must_use]
            pub fn parse(text: &str) -> Option<Self> {
                Some(match text { $($text => Self::$variant,)* _ => return None })
            }
        }
    };
}

vocabulary!(
    /// What was done.
    Action {
        /// A secret got its first value.
        SecretCreate = "secret.create",
        /// A secret's value was replaced.
        SecretRotate = "secret.rotate",
        /// A secret was removed.
        SecretDelete = "secret.delete",
        /// A secret's value was opened for use.
        SecretLoad = "secret.load",
        /// A secret's metadata was read.
        SecretGet = "secret.get",
        /// Secrets were listed.
        SecretList = "secret.list",
        /// A placeholder was scaffolded.
        SecretScaffold = "secret.scaffold",
        /// A manifest was registered or replaced.
        ExtensionPut = "extension.put",
        /// An extension was installed.
        InstallationCreate = "installation.create",
        /// An installation was changed.
        InstallationUpdate = "installation.update",
        /// An instance started.
        InstanceStart = "instance.start",
        /// An instance stopped.
        InstanceStop = "instance.stop",
    }
);

vocabulary!(
    /// By which way it was done.
    Source {
        /// The REST API.
        Api = "api",
        /// The command line.
        Cli = "cli",
        /// An SDK's secret manager.
        Sdk = "sdk",
        /// A payload of a delivery.
        Delivery = "delivery",
        /// The identity of an outbound handshake.
        Handshake = "handshake",
        /// A signature.
        Signing = "signing",
        /// A scheduled refresh.
        Refresh = "refresh",
    }
);

vocabulary!(
    /// How it ended.
    Outcome {
        /// Done.
        Ok = "ok",
        /// Refused by a rule or a role.
        Refused = "refused",
        /// Failed for a reason of our own.
        Failed = "failed",
    }
);

/// Who did it: a token, or `sidecar:<instance>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    /// The token's id, or `sidecar:<instance>`.
    pub id: String,
    /// The token's name, or the instance's.
    pub name: String,
}

/// One entry of the audit log, before it is linked into its chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEntry {
    /// Whose chain: an organization's, or the platform's (`None`).
    pub organization: Option<OrganizationId>,
    /// When.
    pub at: Timestamp,
    /// Who.
    pub actor: Actor,
    /// What.
    pub action: Action,
    /// By which way.
    pub source: Source,
    /// How it ended.
    pub outcome: Outcome,
    /// At which scope, where it concerns a secret.
    pub scope: Option<Scope>,
    /// Bound to what: the secret's scope id, or the id of the extension or installation concerned.
    pub subject: Option<ScopeId>,
    /// Which key, where it concerns a secret.
    pub key: Option<SecretKey>,
    /// Which version of it.
    pub version: Option<u64>,
    /// Whether the value stands in an external backend.
    pub external: bool,
}
