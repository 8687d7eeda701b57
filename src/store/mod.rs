//! Where rows are kept: the port every adapter implements, and the way to open one.
//!
//! An adapter sees sealed bytes only. It is object-safe, and an adapter is done when
//! `tests/it/store_contract` is green over it.

mod row;
mod sqlite;

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::watch;

use crate::crypto::chain::ChainKey;
use crate::domain::audit::AuditEntry;
use crate::domain::change::Changed;
use crate::domain::id::{ExtensionId, InstallationId, OrganizationId, ScopeId};
use crate::domain::installation::Installation;
use crate::domain::key::SecretKey;
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

/// A stored secret: metadata and sealed bytes. `sealed` is empty for placeholders and tombstones.
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
    /// Authenticates the row.
    pub mac: Vec<u8>,
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
/// a mismatch fails the whole change with [`StoreError::Conflict`].
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
    /// Insert a token. A hash that is taken is a conflict.
    Token(TokenRow),
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
    /// Position in its chain, from 1, without gaps.
    pub sequence: u64,
    /// The entry.
    pub entry: AuditEntry,
    /// `crypto::chain`'s MAC over the entry, its position and the entry before.
    pub mac: [u8; 32],
}

/// A position in the change feed; `0` stands before everything.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct FeedPosition(pub u64);

/// Why a store call failed. No variant carries a row, a parameter or the driver's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// A precondition did not hold: read again, then retry.
    #[error("the row was changed by someone else")]
    Conflict,
    /// The database is away, locked or too slow. Retry later.
    #[error("the store is unavailable")]
    Unavailable,
    /// No space left. Retrying does not help before an operator does.
    #[error("the store is full")]
    Full,
    /// A stored row cannot be read back. Retrying does not help.
    #[error("a stored row is damaged")]
    Damaged,
}

/// The Secret Store's rows. One transaction per call; every method is cancel safe (a cancelled
/// `commit` or `record` has happened entirely or not at all).
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Whether the store answers.
    async fn health(&self) -> Result<(), StoreError>;

    /// An installation and its extension in one snapshot. For the delivery path: not tenant-facing.
    async fn installation(&self, id: &InstallationId) -> Result<Option<InstallationSnapshot>, StoreError>;

    /// One extension.
    async fn extension(&self, id: &ExtensionId) -> Result<Option<ExtensionRow>, StoreError>;

    /// The installations that a tenancy may see, by position.
    async fn installations(&self, tenancy: &Tenancy, page: &Page) -> Result<Listed<InstallationRow>, StoreError>;

    /// The rows that stand at these slots, tombstones included, in one snapshot and in no particular order;
    /// a slot without a row has no entry.
    async fn slots(&self, slots: &[Slot]) -> Result<Vec<SecretRow>, StoreError>;

    /// The secrets that a tenancy may see, by position, without their values. An organization sees its own
    /// rows only, never a partner's.
    async fn secrets(
        &self,
        tenancy: &Tenancy,
        query: &SecretQuery,
        page: &Page,
    ) -> Result<Listed<SecretMeta>, StoreError>;

    /// Whether any row (of any kind but audit) names this organization or scope id already.
    async fn scope_known(&self, organization: &OrganizationId, scope: Scope, id: &ScopeId) -> Result<bool, StoreError>;

    /// The token with this hash.
    async fn token(&self, hash: &[u8; 32]) -> Result<Option<TokenRow>, StoreError>;

    /// Whether any operator token is stored (the bootstrap token is valid only while none is).
    async fn has_operator_token(&self) -> Result<bool, StoreError>;

    /// Applies a change with its audit entries, and tells the feed what it touched. All or nothing.
    async fn commit(&self, change: Change) -> Result<(), StoreError>;

    /// Appends audit entries without a change.
    async fn record(&self, entries: Vec<AuditEntry>) -> Result<(), StoreError>;

    /// The entries of one chain (`None`: the platform's) from a sequence on, in order.
    async fn chain(
        &self,
        organization: Option<&OrganizationId>,
        from: u64,
        limit: u32,
    ) -> Result<Vec<LinkedEntry>, StoreError>;

    /// What was changed behind a position, in commit order, and the position now reached. May repeat, never misses.
    async fn changes(&self, after: FeedPosition) -> Result<(Vec<Changed>, FeedPosition), StoreError>;

    /// Changes its value whenever the feed may have grown: a hint, the feed is the truth.
    fn wake(&self) -> watch::Receiver<u64>;
}

/// A store, shared.
pub type SharedStore = Arc<dyn Store>;

/// Why a store could not be opened. An operator has to change something; carries nothing of the URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Not a store of this build.
    #[error("database_url: this version keeps its rows in SQLite only: `sqlite:/path/to/kiket.db`")]
    Scheme,
    /// The file or its folder cannot be used.
    #[error("database_url: the database file cannot be opened: {0}")]
    File(std::io::ErrorKind),
    /// Another process serves from it.
    #[error("database_url: another kiket serves from this database; stop it first")]
    InUse,
    /// It is no database, a newer version's, or a damaged one.
    #[error("database_url: this is no database of this version of kiket")]
    Foreign,
    /// It would not keep what was acknowledged through a power cut.
    #[error("database_url: the database does not take WAL with synchronous=FULL here")]
    NotDurable,
}

/// Opens the store at a URL, creating it if absent. `chain` links its audit entries. The store works on the runtime it
/// was opened on.
///
/// # Errors
/// [`OpenError`].
pub async fn open(url: &str, chain: ChainKey) -> Result<SharedStore, OpenError> {
    let path = url.strip_prefix("sqlite:").ok_or(OpenError::Scheme)?;
    let path = path.strip_prefix("//").unwrap_or(path);
    if path.is_empty() || path.starts_with(':') {
        return Err(OpenError::Scheme);
    }
    Ok(Arc::new(sqlite::SqliteStore::open(Path::new(path), chain).await?))
}
