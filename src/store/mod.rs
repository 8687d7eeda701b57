//! Where rows are kept: the port every adapter implements, and the way to open one.
//!
//! An adapter sees sealed bytes only. It is object-safe, and an adapter is done when
//! `tests/it/store_contract` is green over it.

pub mod copy;
mod error;
mod keks;
mod look;
mod notice;
mod position;
mod postgres;
mod records;
mod row;
mod sqlite;
mod watched;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::watch;

use crate::crypto::chain::ChainKey;
use crate::domain::alert::Alert;
use crate::domain::audit::AuditEntry;
use crate::domain::change::Changed;
use crate::domain::id::{ExtensionId, InstallationId, OrganizationId, ScopeId};
use crate::domain::scope::{Scope, Slot};
use crate::domain::time::Timestamp;

pub use error::StoreError;
pub use keks::{InstanceRow, KekRow, KeyWrite, Rewrap, loaded};
pub use look::{FileFacts, Holder, Look, Schema, ServerFacts, look};
pub use notice::{Finding, Notice, Rotated, rotated};
pub use position::FeedPosition;
pub use records::{
    AuditQuery, ChainHead, Change, CheckpointRow, ExtensionRow, InstallationRow, InstallationSnapshot, LinkedEntry,
    Listed, OutboxDepth, OutboxRow, PROVIDERS_MAX, Page, PolicyRow, Predecessor, ProviderRow, RequestRow, Role,
    SecretQuery, SecretRow, Tenancy, TokenRow, UseCount, UseQuery, Write,
};
pub use watched::{CountedKey, Sightings, Watched};

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

    /// All extensions, by position.
    async fn extensions(&self, page: &Page) -> Result<Listed<ExtensionRow>, StoreError>;

    /// The installations that a tenancy may see, by position.
    async fn installations(&self, tenancy: &Tenancy, page: &Page) -> Result<Listed<InstallationRow>, StoreError>;

    /// The rows that stand at these slots, tombstones included, in one snapshot and in no particular order;
    /// a slot without a row has no entry.
    async fn slots(&self, slots: &[Slot]) -> Result<Vec<SecretRow>, StoreError>;

    /// The secrets that a tenancy may see, by position, without their values (references keep theirs). An
    /// organization sees its own rows only, never a partner's.
    async fn secrets(
        &self,
        tenancy: &Tenancy,
        query: &SecretQuery,
        page: &Page,
    ) -> Result<Listed<SecretRow>, StoreError>;

    /// Whether any row (of any kind but audit) names this organization or scope id already.
    async fn scope_known(&self, organization: &OrganizationId, scope: Scope, id: &ScopeId) -> Result<bool, StoreError>;

    /// The token with this hash.
    async fn token(&self, hash: &[u8; 32]) -> Result<Option<TokenRow>, StoreError>;

    /// The token with this public id.
    async fn token_by_id(&self, id: &str) -> Result<Option<TokenRow>, StoreError>;

    /// The tokens that a tenancy may see, by position.
    async fn tokens(&self, tenancy: &Tenancy, page: &Page) -> Result<Listed<TokenRow>, StoreError>;

    /// Whether any operator token is stored (the bootstrap token is valid only while none is).
    async fn has_operator_token(&self) -> Result<bool, StoreError>;

    /// Every organization that a row of any kind but audit names.
    async fn organizations(&self) -> Result<Vec<OrganizationId>, StoreError>;

    /// An organization's policy.
    async fn policy(&self, organization: &OrganizationId) -> Result<Option<PolicyRow>, StoreError>;

    /// An organization's providers, by name: at most [`PROVIDERS_MAX`], and a few more where writers of one moment did
    /// not see each other.
    async fn providers(&self, organization: &OrganizationId) -> Result<Vec<ProviderRow>, StoreError>;

    /// The alerts that a tenancy may see, newest first; with `open_only` those that nobody acknowledged.
    async fn alerts(&self, tenancy: &Tenancy, open_only: bool, page: &Page) -> Result<Listed<Alert>, StoreError>;

    /// One alert.
    async fn alert(&self, id: &str) -> Result<Option<Alert>, StoreError>;

    /// A named request that has not expired by `now`.
    async fn request(&self, id: &[u8; 32], now: Timestamp) -> Result<Option<RequestRow>, StoreError>;

    /// Takes due notices, at most `limit`, so that nobody else takes them before `until`, and counts an attempt for
    /// each.
    async fn lease_outbox(&self, now: Timestamp, until: Timestamp, limit: u32) -> Result<Vec<OutboxRow>, StoreError>;

    /// How much waits in the outbox.
    async fn outbox_depth(&self) -> Result<OutboxDepth, StoreError>;

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

    /// The audit entries that a tenancy may see, newest first.
    async fn audit(
        &self,
        tenancy: &Tenancy,
        query: &AuditQuery,
        page: &Page,
    ) -> Result<Listed<LinkedEntry>, StoreError>;

    /// How often a key was used.
    async fn uses(&self, query: &UseQuery) -> Result<UseCount, StoreError>;

    /// Where every chain ends.
    async fn chain_heads(&self) -> Result<Vec<ChainHead>, StoreError>;

    /// Where one chain ends.
    async fn chain_head(&self, organization: Option<&OrganizationId>) -> Result<Option<ChainHead>, StoreError>;

    /// Every chain that anything is left of: an entry, a head or a checkpoint.
    async fn chains(&self) -> Result<Vec<Option<OrganizationId>>, StoreError>;

    /// The checkpoints of one chain from a position on, oldest first.
    async fn checkpoints(
        &self,
        organization: Option<&OrganizationId>,
        from: u64,
        limit: u32,
    ) -> Result<Vec<CheckpointRow>, StoreError>;

    /// The last checkpoint of one chain that was signed before a moment.
    async fn last_checkpoint(
        &self,
        organization: Option<&OrganizationId>,
        before: Timestamp,
    ) -> Result<Option<CheckpointRow>, StoreError>;

    /// The key-encryption keys that were ever promoted, or beside one that was.
    async fn keks(&self) -> Result<Vec<KekRow>, StoreError>;

    /// The instances that said that they are there, gone ones included until somebody forgets them.
    async fn instances(&self) -> Result<Vec<InstanceRow>, StoreError>;

    /// The secrets of which anything, value, reference or predecessor, begins with `head`, by position. For whoever puts
    /// them under another key: not tenant-facing.
    async fn wrapped(&self, head: &[u8], page: &Page) -> Result<Listed<SecretRow>, StoreError>;

    /// How many these are; where `head` is empty, all of which anything is sealed.
    async fn wrapped_count(&self, head: &[u8]) -> Result<u64, StoreError>;

    /// Takes a lease, or keeps it; `false` where another one has it at `now`.
    async fn lease(&self, name: &str, holder: &str, now: Timestamp, until: Timestamp) -> Result<bool, StoreError>;

    /// Whether other processes may work on it at the same time.
    fn is_shared(&self) -> bool;

    /// What was changed behind a position, in commit order, and the position now reached. May repeat, never misses.
    async fn changes(&self, after: FeedPosition) -> Result<(Vec<Changed>, FeedPosition), StoreError>;

    /// Changes its value whenever the feed may have grown: a hint, the feed is the truth.
    fn wake(&self) -> watch::Receiver<u64>;
}

/// A store, shared.
pub type SharedStore = Arc<dyn Store>;

/// Why a store could not be opened. An operator has to change something; carries nothing of the URL. Which setting or
/// argument it came from says whoever has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Not a store of this build.
    #[error("rows are kept in `sqlite:/path/to/kiket.db` or `postgres://user@host/database`")]
    Scheme,
    /// A PostgreSQL URL that cannot be used as it stands.
    #[error(
        "not a URL of PostgreSQL; behind `?` it may have sslmode, sslrootcert, sslcert, sslkey, host, port, \
         dbname, user, password, application_name and options"
    )]
    Address,
    /// No server answers there.
    #[error("the database server cannot be reached")]
    Unreachable,
    /// The server is not who it should be, or speaks no TLS.
    #[error(
        "no verified TLS connection to the database server; name its certificate authority with \
         sslrootcert, or say with sslmode how much less is enough"
    )]
    Tls,
    /// The server does not let this user in, or not do what is needed.
    #[error("the database server refuses the user, the password, the database or a right in it")]
    Refused,
    /// The server cannot keep these rows.
    #[error("this must be a PostgreSQL 13 or later in UTF8 that takes writes, no standby")]
    Unsuited,
    /// The file or its folder cannot be used.
    #[error("the database file cannot be opened: {0}")]
    File(std::io::ErrorKind),
    /// Another process serves from it, or copies it.
    #[error("another kiket serves from this database, or copies it; stop it first")]
    InUse,
    /// What a copy left behind that did not come to its end.
    #[error(
        "a copy into this database did not finish; run `kiket store copy` into it again, or serve from another one"
    )]
    Unfinished,
    /// It is no database, a newer version's, or a damaged one.
    #[error("this is no database of this version of kiket")]
    Foreign,
    /// Nobody brought it to this version yet.
    #[error(
        "the database is not of this version yet; an instance of this version with role `admin` or `all` \
         brings it there"
    )]
    Behind,
    /// It would not keep what was acknowledged through a power cut.
    #[error("the database does not take WAL with synchronous=FULL here")]
    NotDurable,
}

/// Opens the store at a URL, creating it if absent. `chain` links its audit entries. The store works on the runtime it
/// was opened on.
///
/// # Errors
/// [`OpenError`].
pub async fn open(url: &str, chain: ChainKey) -> Result<SharedStore, OpenError> {
    Ok(match place(url)? {
        Place::File(path) => Arc::new(sqlite::SqliteStore::open(path, chain).await?),
        Place::Server(url) => Arc::new(postgres::PostgresStore::open(url, chain).await?),
    })
}

/// What a database URL names.
enum Place<'a> {
    File(&'a Path),
    Server(&'a str),
}

fn place(url: &str) -> Result<Place<'_>, OpenError> {
    if url.starts_with("postgres://") || url.starts_with("postgresql://") {
        return Ok(Place::Server(url));
    }
    file(url).map(Place::File).ok_or(OpenError::Scheme)
}

/// The directories in which a store at this URL changes files: none where a server keeps the rows.
#[must_use]
pub fn folders(url: &str) -> Vec<PathBuf> {
    let Some(path) = file(url) else {
        return Vec::new();
    };
    let folder = |path: &Path| match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Some(PathBuf::from(".")),
        parent => parent.map(Path::to_path_buf),
    };
    // SQLite keeps its log beside the file that a link leads to, the lock stands beside the link.
    let (named, real) = (folder(path), path.canonicalize().ok().and_then(|real| folder(&real)));
    named.into_iter().chain(real).collect()
}

/// The file that a URL names.
fn file(url: &str) -> Option<&Path> {
    let path = url.strip_prefix("sqlite:")?;
    let path = path.strip_prefix("//").unwrap_or(path);
    (!path.is_empty() && !path.starts_with(':')).then(|| Path::new(path))
}

/// Opens a shared store as it stands: for instances that may have no right to change its shape, or that are of another
/// version than those that may.
///
/// # Errors
/// [`OpenError`]; [`OpenError::Scheme`] for a file, which belongs to one process.
pub async fn join(url: &str, chain: ChainKey) -> Result<SharedStore, OpenError> {
    match place(url)? {
        Place::File(_) => Err(OpenError::Scheme),
        Place::Server(url) => Ok(Arc::new(postgres::PostgresStore::join(url, chain).await?)),
    }
}
