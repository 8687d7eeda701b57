//! What the audit log records: closed vocabularies, never a value.

use super::id::{OrganizationId, ScopeId};
use super::key::SecretKey;
use super::scope::{Scope, Slot};
use super::time::Timestamp;
use super::vocabulary::vocabulary;

vocabulary!(
    /// What was done.
    Action {
        /// A secret got its first value.
        SecretCreate = "secret.create",
        /// A secret's value was replaced.
        SecretRotate = "secret.rotate",
        /// A secret became a reference to an external one.
        SecretLink = "secret.link",
        /// A secret's previous value came back as a new version.
        SecretRollback = "secret.rollback",
        /// A reference's value was fetched anew.
        SecretRefresh = "secret.refresh",
        /// A secret was removed.
        SecretDelete = "secret.delete",
        /// A secret's value was opened for use.
        SecretLoad = "secret.load",
        /// A secret's metadata was read.
        SecretGet = "secret.get",
        /// Secrets were listed.
        SecretList = "secret.list",
        /// It was asked which scope a key's value comes from.
        SecretExplain = "secret.explain",
        /// Values were delivered from memory: see [`Delivered`].
        SecretDelivered = "secret.delivered",
        /// A placeholder was scaffolded.
        SecretScaffold = "secret.scaffold",
        /// An endpoint's answer gave a value back.
        SecretEchoed = "secret.echoed",
        /// A value stood in a request outside of its slot, and nothing was sent.
        SecretMisplaced = "secret.misplaced",
        /// An extension was read.
        ExtensionGet = "extension.get",
        /// Extensions were listed.
        ExtensionList = "extension.list",
        /// A manifest was registered or replaced.
        ExtensionPut = "extension.put",
        /// An installation and its checklist were read.
        InstallationGet = "installation.get",
        /// Installations were listed.
        InstallationList = "installation.list",
        /// An extension was installed.
        InstallationCreate = "installation.create",
        /// An installation was changed.
        InstallationUpdate = "installation.update",
        /// An installation was removed.
        InstallationDelete = "installation.delete",
        /// It was agreed that secrets may go to an installation's changed destination.
        DestinationConfirm = "destination.confirm",
        /// It was agreed that an installation's manifest may use a key.
        KeyAccept = "key.accept",
        /// What stood when consents were introduced was taken for agreed to.
        ConsentAdopt = "consent.adopt",
        /// API tokens were listed.
        TokenList = "token.list",
        /// An API token was made.
        TokenCreate = "token.create",
        /// An API token was removed.
        TokenDelete = "token.delete",
        /// The loaded keys were listed.
        KeyList = "key.list",
        /// A key-encryption key was made the active one.
        KeyPromote = "key.promote",
        /// A key-encryption key was given up.
        KeyRetire = "key.retire",
        /// How the secrets are was counted.
        SecretHealth = "secret.health",
        /// An organization's policy was read.
        PolicyGet = "policy.get",
        /// An organization's policy was changed.
        PolicyPut = "policy.put",
        /// An organization's providers were listed.
        ProviderList = "provider.list",
        /// A provider's settings were read.
        ProviderGet = "provider.get",
        /// A provider was configured or changed.
        ProviderPut = "provider.put",
        /// A provider was removed.
        ProviderDelete = "provider.delete",
        /// It was tried whether a provider can be reached and takes its credential.
        ProviderCheck = "provider.check",
        /// Alerts were listed.
        AlertList = "alert.list",
        /// An alert was raised.
        AlertRaise = "alert.raise",
        /// An alert was acknowledged.
        AlertAcknowledge = "alert.acknowledge",
        /// A rotation report was made.
        ReportExport = "report.export",
        /// The audit log was read or exported.
        AuditExport = "audit.export",
        /// The audit log was verified.
        AuditVerify = "audit.verify",
        /// Entries past their retention were removed.
        AuditPrune = "audit.prune",
        /// Callers that showed no valid token were turned away: see [`Delivered`].
        AuthRefuse = "auth.refuse",
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

/// Who asks, and by which way: what the audit log says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asker {
    /// Who.
    pub actor: Actor,
    /// By which way.
    pub source: Source,
}

impl Asker {
    /// What the audit log says of something that this asker did.
    #[must_use]
    pub fn entry(&self, organization: Option<OrganizationId>, at: Timestamp, action: Action) -> AuditEntry {
        AuditEntry::of(organization, at, self.actor.clone(), action, self.source)
    }
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
    /// Which version of it; for [`Action::AuditPrune`] the position of the last entry that was removed.
    pub version: Option<u64>,
    /// Whether the value stands in an external backend.
    pub external: bool,
    /// For [`Action::SecretDelivered`], [`Action::AuthRefuse`] and what is seen of values: where to, and how often. For
    /// [`Action::DestinationConfirm`] and [`Action::ConsentAdopt`]: the destination that was agreed to, and 0.
    pub delivered: Option<Delivered>,
}

/// What is counted for a minute instead of recorded one by one: deliveries of one key to one destination, or
/// requests that were turned away for one reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivered {
    /// The destination's origin, or the plane that turned requests away.
    pub destination: String,
    /// How many.
    pub count: u64,
}

impl AuditEntry {
    /// An entry that concerns nothing in particular yet; the caller fills in what it does.
    #[must_use]
    pub const fn of(
        organization: Option<OrganizationId>,
        at: Timestamp,
        actor: Actor,
        action: Action,
        source: Source,
    ) -> Self {
        Self {
            organization,
            at,
            actor,
            action,
            source,
            outcome: Outcome::Ok,
            scope: None,
            subject: None,
            key: None,
            version: None,
            external: false,
            delivered: None,
        }
    }

    /// The same entry about one secret.
    #[must_use]
    pub fn about(self, slot: &Slot, version: u64, is_external: bool) -> Self {
        Self {
            scope: Some(slot.scope),
            subject: Some(slot.scope_id.clone()),
            key: Some(slot.key.clone()),
            version: Some(version),
            external: is_external,
            ..self
        }
    }
}
