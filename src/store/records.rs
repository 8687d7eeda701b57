//! What is stored: rows, what a change writes, what a list asks for.

use super::KeyWrite;
use crate::crypto::chain::Link;
use crate::crypto::checkpoint::Checkpoint;
use crate::domain::alert::Alert;
use crate::domain::audit::{Action, AuditEntry, Source};
use crate::domain::id::{ExtensionId, InstallationId, OrganizationId, ScopeId};
use crate::domain::installation::Installation;
use crate::domain::key::SecretKey;
use crate::domain::policy::Policy;
use crate::domain::provider::ProviderName;
use crate::domain::scope::{Scope, Slot};
use crate::domain::secret::SecretMeta;
use crate::domain::time::Timestamp;

/// Whose rows a call may see: without one, a tenant-facing call does not compile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tenancy {
    /// Every tenant's rows: the platform operator.
    Platform,
    /// One tenant's rows.
    Organization(OrganizationId),
}

/// A stored extension: the manifest as it was registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtensionRow {
    /// The extension.
    pub id: ExtensionId,
    /// The manifest document, verbatim. Holds no secret.
    pub document: String,
    /// Starts at 1; every registration bumps it.
    pub version: u64,
    /// Authenticates the row (written and checked by `registry`; opaque here).
    pub mac: Vec<u8>,
    /// When it was first registered.
    pub created_at: Timestamp,
    /// When it was last registered.
    pub updated_at: Timestamp,
}

/// A stored installation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstallationRow {
    /// The record.
    pub installation: Installation,
    /// What the organization agreed to (written and read by `registry`; opaque here); `None` in rows older than consents.
    pub consent: Option<String>,
    /// Authenticates the row (written and checked by `registry`; opaque here).
    pub mac: Vec<u8>,
}

/// An installation with its extension, read in one snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstallationSnapshot {
    /// The installation.
    pub installation: InstallationRow,
    /// Its extension.
    pub extension: ExtensionRow,
}

/// The value a rotation replaced, kept for signature overlap and rollback.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Predecessor {
    /// The version it had.
    pub version: u64,
    /// Its sealed bytes.
    pub sealed: Vec<u8>,
    /// Until when it stays valid in signatures.
    pub valid_until: Timestamp,
}

/// A stored secret: metadata and sealed bytes. `sealed` is empty for placeholders and tombstones, and, in lists, for
/// values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretRow {
    /// All but the value.
    pub meta: SecretMeta,
    /// The envelope of the value or reference.
    pub sealed: Vec<u8>,
    /// What the last rotation replaced.
    pub predecessor: Option<Predecessor>,
}

/// What an API token may do. Variant names are the contract's roles (section 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Everything.
    PlatformOperator,
    /// Its organization's secrets, installations and policy.
    OrgAdmin,
    /// Every read of its organization.
    Auditor,
    /// Deliveries.
    Dispatcher,
}

impl Role {
    /// The role's name in API and stored rows.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::PlatformOperator => "platform_operator",
            Self::OrgAdmin => "org_admin",
            Self::Auditor => "auditor",
            Self::Dispatcher => "dispatcher",
        }
    }

    /// Parses a role's name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "platform_operator" => Self::PlatformOperator,
            "org_admin" => Self::OrgAdmin,
            "auditor" => Self::Auditor,
            "dispatcher" => Self::Dispatcher,
            _ => return None,
        })
    }
}

/// A stored API token: only its hash, never its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRow {
    /// The token's public id.
    pub id: String,
    /// HMAC of the token's text.
    pub hash: [u8; 32],
    /// What people call it.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// Where, if bound to an organization.
    pub organization: Option<OrganizationId>,
    /// Who made it.
    pub created_by: String,
    /// When.
    pub created_at: Timestamp,
    /// When it ends.
    pub expires_at: Option<Timestamp>,
    /// When it was last used, to the minute. Not authenticated.
    pub last_used_at: Option<Timestamp>,
    /// Authenticates the row.
    pub mac: Vec<u8>,
}

/// A stored policy of an organization.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyRow {
    /// Whose.
    pub organization: OrganizationId,
    /// What it says.
    pub policy: Policy,
    /// Starts at 1; every write bumps it.
    pub version: u64,
    /// When it was last written.
    pub updated_at: Timestamp,
    /// Authenticates the row.
    pub mac: Vec<u8>,
}

/// The most providers of one organization.
pub const PROVIDERS_MAX: i64 = 32;

/// A stored provider of an organization: where its references are looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProviderRow {
    /// Whose.
    pub organization: OrganizationId,
    /// What the organization calls it.
    pub name: ProviderName,
    /// Its settings (written and read by `secrets`; opaque here). Holds no secret.
    pub document: String,
    /// Whether bare paths are looked up here, as the document says; at most one of an organization.
    pub is_default: bool,
    /// Starts at 1; every write bumps it.
    pub version: u64,
    /// When it was first configured.
    pub created_at: Timestamp,
    /// When it was last written.
    pub updated_at: Timestamp,
    /// Authenticates the row.
    pub mac: Vec<u8>,
}

/// Something that has to be told to somebody outside, at least once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxRow {
    /// Unique, and the same at every attempt.
    pub id: String,
    /// What kind of notice: a word of whoever sends it.
    pub kind: String,
    /// Whose.
    pub organization: Option<OrganizationId>,
    /// What to tell, as its sender wrote it. Never a value.
    pub payload: String,
    /// When it came about.
    pub created_at: Timestamp,
    /// Not before this moment.
    pub due_at: Timestamp,
    /// How often it was tried.
    pub attempts: u32,
}

/// How much waits in the outbox.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OutboxDepth {
    /// Notices that were not delivered yet.
    pub waiting: u64,
    /// When the oldest of them came about.
    pub oldest: Option<Timestamp>,
}

/// A write that its client named, so that sending it twice does it once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestRow {
    /// Keyed hash of the client's token and its `Idempotency-Key`.
    pub id: [u8; 32],
    /// Keyed hash of what was asked.
    pub asked: [u8; 32],
    /// Status and body of the answer; `None` while it is under way. Never a value.
    pub answer: Option<(u16, Vec<u8>)>,
    /// When it was asked.
    pub created_at: Timestamp,
    /// From when on it is forgotten.
    pub expires_at: Timestamp,
}

/// A signed head of an audit chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointRow {
    /// What was signed.
    pub checkpoint: Checkpoint,
    /// The signature.
    pub signature: Vec<u8>,
}

/// Where an audit chain ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainHead {
    /// Whose.
    pub organization: Option<OrganizationId>,
    /// The position of the last entry.
    pub sequence: u64,
    /// That entry's hash.
    pub hash: [u8; 32],
}

/// Which audit entries a list asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditQuery {
    /// Of this key.
    pub key: Option<SecretKey>,
    /// Of this action.
    pub action: Option<Action>,
    /// Of this source.
    pub source: Option<Source>,
    /// By this token id or name, or sidecar.
    pub actor: Option<String>,
    /// Not before.
    pub since: Option<Timestamp>,
    /// Before.
    pub until: Option<Timestamp>,
}

/// Which key's uses are counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UseQuery {
    /// In whose chain.
    pub organization: OrganizationId,
    /// At which scope.
    pub scope: Scope,
    /// Bound to what.
    pub subject: ScopeId,
    /// Which key.
    pub key: SecretKey,
    /// Entries after this moment.
    pub after: Timestamp,
    /// And not after this one.
    pub up_to: Timestamp,
}

/// How often a key was used, as the audit log has it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UseCount {
    /// Reads of its metadata, refused reads, and loads for deliveries (but not refreshes).
    pub reads: u64,
    /// Deliveries from memory.
    pub deliveries: u64,
    /// When the last of the entries that were looked at came about.
    pub last_at: Option<Timestamp>,
}

/// Which secrets a list asks for. Tombstones are never listed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SecretQuery {
    /// At this scope only.
    pub scope: Option<Scope>,
    /// Bound to this only.
    pub scope_id: Option<ScopeId>,
    /// Under this key only.
    pub key: Option<SecretKey>,
}

/// A page of a list in key order: rows after `after` (an opaque row position), at most `limit`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The position behind which the page starts; `None` for the first.
    pub after: Option<u64>,
    /// The most rows to return.
    pub limit: u32,
}

/// The rows of one page and where the next one starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed<T> {
    /// The rows.
    pub rows: Vec<T>,
    /// The position for the next page's `after`; `None` where this was the last.
    pub next: Option<u64>,
}

/// One row to write. `expected` is the version of the row that the write replaces, `None` where there must be none:
/// a mismatch fails the whole change with [`StoreError::Conflict`](super::StoreError::Conflict).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// Insert or replace a manifest.
    Extension {
        /// The new row.
        row: ExtensionRow,
        /// The version it replaces.
        expected: Option<u64>,
    },
    /// Insert or replace an installation.
    Installation {
        /// The new row.
        row: InstallationRow,
        /// The version it replaces.
        expected: Option<u64>,
    },
    /// Insert or replace a secret (a delete replaces it by a tombstone).
    Secret {
        /// The new row.
        row: SecretRow,
        /// The version it replaces.
        expected: Option<u64>,
    },
    /// Remove an installation. Its secrets are for the caller to replace by tombstones.
    InstallationGone {
        /// Which.
        id: InstallationId,
        /// The version it removes.
        expected: u64,
    },
    /// Notes that values were used. Not told to the feed.
    SecretsUsed {
        /// Which.
        slots: Vec<Slot>,
        /// When.
        at: Timestamp,
    },
    /// Insert a token. A hash that is taken is a conflict.
    Token(TokenRow),
    /// Remove a token. The last platform_operator's that does not end is a conflict.
    TokenGone {
        /// Which.
        id: String,
    },
    /// Notes that a token was used. Not told to the feed.
    TokenUsed {
        /// Which.
        id: String,
        /// When.
        at: Timestamp,
    },
    /// Insert or replace an organization's policy.
    Policy {
        /// The new row.
        row: PolicyRow,
        /// The version it replaces.
        expected: Option<u64>,
    },
    /// Insert or replace a provider. One more than an organization may have is a conflict, and so is a second default:
    /// what replaces a default comes behind the write that ends it.
    Provider {
        /// The new row.
        row: ProviderRow,
        /// The version it replaces.
        expected: Option<u64>,
    },
    /// Remove a provider.
    ProviderGone {
        /// Whose.
        organization: OrganizationId,
        /// Which.
        name: ProviderName,
        /// The version it removes.
        expected: u64,
    },
    /// Raise an alert with its notices, unless one that says the same was raised after `quiet_since`: then nothing at
    /// all is written of it, its notices and its entry included.
    Alert {
        /// The alert.
        alert: Alert,
        /// Older ones that say the same do not count.
        quiet_since: Timestamp,
        /// Who has to be told.
        notices: Vec<OutboxRow>,
        /// What the audit log says of it.
        entry: AuditEntry,
    },
    /// Acknowledge an alert that nobody acknowledged yet.
    AlertAcknowledged {
        /// Which.
        id: String,
        /// By whom.
        by: String,
        /// When.
        at: Timestamp,
    },
    /// Insert a notice. One that is there already stays as it is.
    Outbox(OutboxRow),
    /// A notice was delivered, or given up.
    OutboxDone {
        /// Which.
        id: String,
    },
    /// A notice is to be tried again.
    OutboxLater {
        /// Which.
        id: String,
        /// Not before this moment.
        due_at: Timestamp,
    },
    /// Insert a named request; one that is there is a conflict. Forgets expired ones.
    Request(RequestRow),
    /// Keep a named request's answer, from now on until the row's end.
    RequestAnswered(RequestRow),
    /// Forget a named request: it did nothing.
    RequestGone {
        /// Which.
        id: [u8; 32],
    },
    /// What is written of key-encryption keys, instances and leases.
    Keys(Box<KeyWrite>),
    /// Keep a signed head.
    Checkpoint(CheckpointRow),
    /// Remove a chain's entries up to a position at which a checkpoint stands.
    AuditPruned {
        /// Whose.
        organization: Option<OrganizationId>,
        /// The last one removed.
        up_to: u64,
    },
}

/// Writes and their audit entries: all happen, or none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Change {
    /// The rows.
    pub writes: Vec<Write>,
    /// The entries; a change whose entries cannot be stored fails.
    pub entries: Vec<AuditEntry>,
}

/// An audit entry as it stands in its chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkedEntry {
    /// Position in the whole log: later entries have higher ones.
    pub position: u64,
    /// Position in its chain, from 1, without gaps.
    pub sequence: u64,
    /// The entry.
    pub entry: AuditEntry,
    /// What holds it there.
    pub link: Link,
}
