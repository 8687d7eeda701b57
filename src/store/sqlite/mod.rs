//! How rows are kept in one SQLite file: WAL with `synchronous=FULL`, one writer, a few readers.

mod audit;
mod notices;
mod read;
mod rows;
mod write;

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rustix::fs::{FlockOperation, flock};
use sqlx::migrate::Migrator;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteRow,
    SqliteSynchronous,
};
use sqlx::{ConnectOptions, Connection, Row};
use tokio::sync::watch;

use super::row::Columns;
use super::{
    AuditQuery, ChainHead, Change, CheckpointRow, ExtensionRow, FeedPosition, InstallationRow, InstallationSnapshot,
    LinkedEntry, Listed, OpenError, OutboxDepth, OutboxRow, Page, PolicyRow, RequestRow, SecretQuery, SecretRow, Store,
    StoreError, Tenancy, TokenRow, UseCount, UseQuery,
};
use crate::crypto::chain::ChainKey;
use crate::domain::alert::Alert;
use crate::domain::audit::AuditEntry;
use crate::domain::change::Changed;
use crate::domain::id::{ExtensionId, InstallationId, OrganizationId, ScopeId};
use crate::domain::scope::{Scope, Slot};
use crate::domain::time::Timestamp;
use write::Writer;

static MIGRATIONS: Migrator = sqlx::migrate!("src/store/migrations/sqlite");

/// Connections for reading.
const READERS_MAX: u32 = 4;

/// The longest that a statement waits for the file or for a connection.
const WAIT_MAX: Duration = Duration::from_secs(2);

/// The store in one file.
pub(super) struct SqliteStore {
    readers: SqlitePool,
    writer: Writer,
    wake: watch::Sender<u64>,
}

impl SqliteStore {
    /// Opens the file, creates and migrates it as needed, and takes it for this process.
    pub(super) async fn open(path: &Path, chain: ChainKey) -> Result<Self, OpenError> {
        let lock = lock(path)?;
        create(path)?;
        refuse_foreign(path).await?;
        let options = options(path);
        let mut connection = options.connect().await.map_err(|_| OpenError::Foreign)?;
        MIGRATIONS.run(&mut connection).await.map_err(|_| OpenError::Foreign)?;
        assert_durable(&mut connection).await?;
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS_MAX)
            .acquire_timeout(WAIT_MAX)
            .connect_with(options.pragma("query_only", "ON"))
            .await
            .map_err(|_| OpenError::Foreign)?;
        let (wake, _) = watch::channel(0);
        let writer = Writer::start(connection, chain, wake.clone(), lock);
        Ok(Self { readers, writer, wake })
    }
}

/// How every connection of the store is made.
fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(WAIT_MAX)
        .pragma("temp_store", "MEMORY") // sorts would open files in /tmp
        .pragma("secure_delete", "ON")
        .disable_statement_logging()
}

/// Refuses another program's database before anything of it is changed: one with tables, none of them by which
/// migrations are told.
async fn refuse_foreign(path: &Path) -> Result<(), OpenError> {
    let refused = |_| OpenError::Foreign;
    let looking = SqliteConnectOptions::new().filename(path).disable_statement_logging();
    let mut connection = looking.connect().await.map_err(refused)?;
    let is_foreign: bool = sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM sqlite_schema) \
         AND NOT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = '_sqlx_migrations')",
    )
    .fetch_one(&mut connection)
    .await
    .map_err(refused)?;
    connection.close().await.map_err(refused)?;
    if is_foreign { Err(OpenError::Foreign) } else { Ok(()) }
}

/// Takes the database for this process. A lock file of its own: closing any descriptor of the database itself would
/// give up SQLite's locks on it. The kernel releases it however the process ends.
fn lock(path: &Path) -> Result<Arc<File>, OpenError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(PathBuf::from(name));
    let file = file.map_err(|error| OpenError::File(error.kind()))?;
    flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|_| OpenError::InUse)?;
    Ok(Arc::new(file))
}

/// Creates the file for its owner alone. SQLite gives the files beside it the same mode.
fn create(path: &Path) -> Result<(), OpenError> {
    match OpenOptions::new().create_new(true).write(true).mode(0o600).open(path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(OpenError::File(error.kind())),
    }
}

/// Reads back what was asked for: with less, a power cut loses acknowledged rows.
async fn assert_durable(connection: &mut SqliteConnection) -> Result<(), OpenError> {
    let refused = |_| OpenError::NotDurable;
    let synchronous: i64 = sqlx::query_scalar("PRAGMA synchronous")
        .fetch_one(&mut *connection)
        .await
        .map_err(refused)?;
    let journal: String = sqlx::query_scalar("PRAGMA journal_mode")
        .fetch_one(&mut *connection)
        .await
        .map_err(refused)?;
    if synchronous == 2 && journal == "wal" {
        Ok(())
    } else {
        Err(OpenError::NotDurable)
    }
}

/// The driver reads NULL as an empty value where a type does not say that it may be NULL: each read says so.
impl Columns for SqliteRow {
    fn text(&self, column: &'static str) -> Result<String, StoreError> {
        self.text_or_null(column)?.ok_or(StoreError::Damaged)
    }

    fn text_or_null(&self, column: &'static str) -> Result<Option<String>, StoreError> {
        self.try_get(column).map_err(failed)
    }

    fn bytes(&self, column: &'static str) -> Result<Vec<u8>, StoreError> {
        self.bytes_or_null(column)?.ok_or(StoreError::Damaged)
    }

    fn bytes_or_null(&self, column: &'static str) -> Result<Option<Vec<u8>>, StoreError> {
        self.try_get(column).map_err(failed)
    }

    fn number(&self, column: &'static str) -> Result<i64, StoreError> {
        self.number_or_null(column)?.ok_or(StoreError::Damaged)
    }

    fn number_or_null(&self, column: &'static str) -> Result<Option<i64>, StoreError> {
        self.try_get(column).map_err(failed)
    }
}

/// A driver's error as its kind: its text can quote a row.
fn failed(error: sqlx::Error) -> StoreError {
    const PRIMARY_CODE: u32 = 0xff;
    match error {
        sqlx::Error::Database(database) => {
            let code = database.code().and_then(|code| code.parse::<u32>().ok()).unwrap_or(0);
            match code & PRIMARY_CODE {
                13 => StoreError::Full,
                19 => StoreError::Conflict,
                11 | 26 => StoreError::Damaged,
                _ => StoreError::Unavailable,
            }
        }
        sqlx::Error::ColumnDecode { .. }
        | sqlx::Error::ColumnNotFound(_)
        | sqlx::Error::Decode(_)
        | sqlx::Error::RowNotFound => StoreError::Damaged, // only rows that must be there are asked for so
        _ => StoreError::Unavailable,
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn health(&self) -> Result<(), StoreError> {
        sqlx::query("SELECT 1")
            .execute(&self.readers)
            .await
            .map(drop)
            .map_err(failed)
    }

    async fn installation(&self, id: &InstallationId) -> Result<Option<InstallationSnapshot>, StoreError> {
        read::installation(&self.readers, id).await
    }

    async fn extension(&self, id: &ExtensionId) -> Result<Option<ExtensionRow>, StoreError> {
        read::extension(&self.readers, id).await
    }

    async fn extensions(&self, page: &Page) -> Result<Listed<ExtensionRow>, StoreError> {
        read::extensions(&self.readers, page).await
    }

    async fn installations(&self, tenancy: &Tenancy, page: &Page) -> Result<Listed<InstallationRow>, StoreError> {
        read::installations(&self.readers, tenancy, page).await
    }

    async fn slots(&self, slots: &[Slot]) -> Result<Vec<SecretRow>, StoreError> {
        read::slots(&self.readers, slots).await
    }

    async fn secrets(
        &self,
        tenancy: &Tenancy,
        query: &SecretQuery,
        page: &Page,
    ) -> Result<Listed<SecretRow>, StoreError> {
        read::secrets(&self.readers, tenancy, query, page).await
    }

    async fn scope_known(&self, organization: &OrganizationId, scope: Scope, id: &ScopeId) -> Result<bool, StoreError> {
        read::scope_known(&self.readers, organization, scope, id).await
    }

    async fn token(&self, hash: &[u8; 32]) -> Result<Option<TokenRow>, StoreError> {
        read::token(&self.readers, hash).await
    }

    async fn token_by_id(&self, id: &str) -> Result<Option<TokenRow>, StoreError> {
        read::token_by_id(&self.readers, id).await
    }

    async fn tokens(&self, tenancy: &Tenancy, page: &Page) -> Result<Listed<TokenRow>, StoreError> {
        read::tokens(&self.readers, tenancy, page).await
    }

    async fn has_operator_token(&self) -> Result<bool, StoreError> {
        read::has_operator_token(&self.readers).await
    }

    async fn organizations(&self) -> Result<Vec<OrganizationId>, StoreError> {
        read::organizations(&self.readers).await
    }

    async fn policy(&self, organization: &OrganizationId) -> Result<Option<PolicyRow>, StoreError> {
        read::policy(&self.readers, organization).await
    }

    async fn alerts(&self, tenancy: &Tenancy, open_only: bool, page: &Page) -> Result<Listed<Alert>, StoreError> {
        notices::alerts(&self.readers, tenancy, open_only, page).await
    }

    async fn alert(&self, id: &str) -> Result<Option<Alert>, StoreError> {
        notices::alert(&self.readers, id).await
    }

    async fn request(&self, id: &[u8; 32], now: Timestamp) -> Result<Option<RequestRow>, StoreError> {
        notices::request(&self.readers, id, now).await
    }

    async fn lease_outbox(&self, now: Timestamp, until: Timestamp, limit: u32) -> Result<Vec<OutboxRow>, StoreError> {
        self.writer.lease(now, until, limit).await
    }

    async fn outbox_depth(&self) -> Result<OutboxDepth, StoreError> {
        notices::depth(&self.readers).await
    }

    async fn commit(&self, change: Change) -> Result<(), StoreError> {
        self.writer.commit(change).await
    }

    async fn record(&self, entries: Vec<AuditEntry>) -> Result<(), StoreError> {
        self.writer.record(entries).await
    }

    async fn chain(
        &self,
        organization: Option<&OrganizationId>,
        from: u64,
        limit: u32,
    ) -> Result<Vec<LinkedEntry>, StoreError> {
        audit::chain(&self.readers, organization, from, limit).await
    }

    async fn audit(
        &self,
        tenancy: &Tenancy,
        query: &AuditQuery,
        page: &Page,
    ) -> Result<Listed<LinkedEntry>, StoreError> {
        audit::list(&self.readers, tenancy, query, page).await
    }

    async fn uses(&self, query: &UseQuery) -> Result<UseCount, StoreError> {
        audit::uses(&self.readers, query).await
    }

    async fn chain_heads(&self) -> Result<Vec<ChainHead>, StoreError> {
        audit::chain_heads(&self.readers).await
    }

    async fn chain_head(&self, organization: Option<&OrganizationId>) -> Result<Option<ChainHead>, StoreError> {
        audit::chain_head(&self.readers, organization).await
    }

    async fn chains(&self) -> Result<Vec<Option<OrganizationId>>, StoreError> {
        audit::chains(&self.readers).await
    }

    async fn checkpoints(
        &self,
        organization: Option<&OrganizationId>,
        from: u64,
        limit: u32,
    ) -> Result<Vec<CheckpointRow>, StoreError> {
        audit::checkpoints(&self.readers, organization, from, limit).await
    }

    async fn last_checkpoint(
        &self,
        organization: Option<&OrganizationId>,
        before: Timestamp,
    ) -> Result<Option<CheckpointRow>, StoreError> {
        audit::last_checkpoint(&self.readers, organization, before).await
    }

    async fn changes(&self, after: FeedPosition) -> Result<(Vec<Changed>, FeedPosition), StoreError> {
        read::changes(&self.readers, after).await
    }

    fn wake(&self) -> watch::Receiver<u64> {
        self.wake.subscribe()
    }
}

#[cfg(test)]
mod tests;
