//! How rows are kept in one SQLite file: WAL with `synchronous=FULL`, one writer, a few readers.

mod copy;
mod dialect;
mod look;
mod write;

// One text for both adapters: what it says of connections, rows and dialect it takes from the adapter it stands in.
#[path = "../sql/audit.rs"]
mod audit;
#[path = "../sql/change.rs"]
mod change;
#[path = "../sql/copied.rs"]
mod copied;
#[path = "../sql/keys.rs"]
mod keys;
#[path = "../sql/notices.rs"]
mod notices;
#[path = "../sql/port.rs"]
mod port;
#[path = "../sql/providers.rs"]
mod providers;
#[path = "../sql/read.rs"]
mod read;
#[path = "../sql/rows.rs"]
mod rows;

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use sqlx::migrate::Migrator;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::sqlite::{SqliteConnection as Connection, SqlitePool as Pool, SqliteRow};
use sqlx::{ConnectOptions, Connection as _, Row as _, Sqlite as Database};
use tokio::sync::watch;

use super::copy::UNFINISHED;
use super::row::Columns;
use super::{Change, OpenError, OutboxRow, StoreError};
use crate::crypto::chain::ChainKey;
use crate::domain::audit::AuditEntry;
use crate::domain::time::Timestamp;
pub(super) use copy::SqliteEnd;
pub(super) use look::look;
use write::Writer;

static MIGRATIONS: Migrator = sqlx::migrate!("src/store/migrations/sqlite");

/// Connections for reading.
const READERS_MAX: u32 = 4;

/// The longest that a statement waits for the file or for a connection.
const WAIT_MAX: Duration = Duration::from_secs(2);

/// How long a start waits for another process to give the file up.
const IN_USE_WAIT: Duration = Duration::from_secs(1);

use SqliteRow as Row;
use SqliteStore as Adapter;

/// The store in one file.
pub(super) struct SqliteStore {
    readers: Pool,
    writer: Writer,
    wake: watch::Sender<u64>,
}

impl SqliteStore {
    /// Opens the file, creates and migrates it as needed, and takes it for this process.
    pub(super) async fn open(path: &Path, chain: ChainKey) -> Result<Self, OpenError> {
        let lock = lock(path).await?;
        create(path)?;
        refuse_foreign(path).await?;
        refuse_unfinished(path).await?;
        let mut connection = options(path).connect().await.map_err(|_| OpenError::Foreign)?;
        MIGRATIONS.run(&mut connection).await.map_err(|_| OpenError::Foreign)?;
        connection.close().await.map_err(|_| OpenError::Foreign)?;
        Self::over(path, chain, lock).await
    }

    /// Over a file of this version that this process has.
    async fn over(path: &Path, chain: ChainKey, lock: Arc<File>) -> Result<Self, OpenError> {
        let options = options(path);
        let mut connection = options.connect().await.map_err(|_| OpenError::Foreign)?;
        assert_durable(&mut connection).await?;
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS_MAX)
            .acquire_timeout(WAIT_MAX)
            // A file's connections do not age, and each is a thread with a page cache: a new one is memory for nothing.
            .idle_timeout(None)
            .max_lifetime(None)
            .connect_with(options.pragma("query_only", "ON"))
            .await
            .map_err(|_| OpenError::Foreign)?;
        let (wake, _) = watch::channel(0);
        let writer = Writer::start(connection, chain, wake.clone(), Some(lock));
        Ok(Self { readers, writer, wake })
    }
}

/// What the port's text asks of an adapter.
impl SqliteStore {
    /// The file is this process's alone.
    const IS_SHARED: bool = false;

    const fn pool(&self) -> &Pool {
        &self.readers
    }

    async fn write(&self, change: Change) -> Result<(), StoreError> {
        self.writer.commit(change).await
    }

    async fn append(&self, entries: Vec<AuditEntry>) -> Result<(), StoreError> {
        self.writer.record(entries).await
    }

    async fn take_notices(&self, now: Timestamp, until: Timestamp, limit: u32) -> Result<Vec<OutboxRow>, StoreError> {
        self.writer.lease(now, until, limit).await
    }

    fn hints(&self) -> watch::Receiver<u64> {
        self.wake.subscribe()
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

/// Refuses what a copy left behind that did not come to its end.
async fn refuse_unfinished(path: &Path) -> Result<(), OpenError> {
    let refused = |_| OpenError::Foreign;
    let looking = SqliteConnectOptions::new().filename(path).disable_statement_logging();
    let mut connection = looking.connect().await.map_err(refused)?;
    let is_unfinished: bool = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = $1)")
        .bind(UNFINISHED)
        .fetch_one(&mut connection)
        .await
        .map_err(refused)?;
    connection.close().await.map_err(refused)?;
    if is_unfinished {
        Err(OpenError::Unfinished)
    } else {
        Ok(())
    }
}

/// Takes the database for this process. A lock file of its own: closing any descriptor of the database itself would
/// give up SQLite's locks on it. The kernel releases it however the process ends; whoever starts right after another one
/// ended waits a moment, because a child that was about to become another program may hold its descriptors.
async fn lock(path: &Path) -> Result<Arc<File>, OpenError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(PathBuf::from(name));
    let file = file.map_err(|error| OpenError::File(error.kind()))?;
    let asked = Instant::now();
    while flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        if asked.elapsed() >= IN_USE_WAIT {
            return Err(OpenError::InUse);
        }
        tokio::time::sleep(IN_USE_WAIT / 20).await;
    }
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
async fn assert_durable(connection: &mut Connection) -> Result<(), OpenError> {
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

#[cfg(test)]
mod tests;
