//! How rows are kept in a PostgreSQL database that many instances share.
//!
//! Reads and writes have connections of their own, so that writers who wait for each other keep no reader waiting.
//! Everything ends by itself: waiting for a connection, a statement, a lock, a transaction that goes on no more.

mod address;
mod copy;
mod dialect;
mod feed;
mod hints;
mod look;
mod order;
mod schema;
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

use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection as Connection, PgPool as Pool, PgPoolOptions, PgRow};
use sqlx::{Connection as _, Postgres as Database, Row as _};
use tokio::sync::watch;
use tokio::time::timeout;

use super::row::Columns;
use super::{Change, OpenError, OutboxRow, StoreError};
use crate::crypto::chain::ChainKey;
use crate::domain::audit::AuditEntry;
use crate::domain::time::Timestamp;
pub(super) use copy::PostgresEnd;
use hints::Hints;
pub(super) use look::look;
use write::Writer;

/// Connections for reading.
const READERS_MAX: u32 = 4;

/// Connections for writing. Writers of one organization wait for each other anyway.
const WRITERS_MAX: u32 = 4;

/// The longest that a statement, or waiting for a lock or a connection, takes.
const WAIT_MAX: Duration = Duration::from_secs(2);

/// The longest that a call waits for a server that says nothing at all: a connection, and a statement.
const SILENT_MAX: Duration = Duration::from_secs(5);

/// The longest that the server keeps a transaction open in which nothing happens: an instance that stands still must
/// not hold the end of a chain.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// A connection that nobody used for so long is given back: hundreds of instances share one server.
const IDLE_MAX: Duration = Duration::from_secs(60);

/// A connection that was idle for so long is asked whether it is still there before it is used.
const IDLE_UNSEEN_MAX: Duration = Duration::from_secs(1);

use PgRow as Row;
use PostgresStore as Adapter;

/// The store in one database.
pub(super) struct PostgresStore {
    readers: Pool,
    writer: Writer,
    hints: Hints,
}

impl PostgresStore {
    /// Opens the database at a URL and migrates it as needed. Others may do the same at the same time.
    pub(super) async fn open(url: &str, chain: ChainKey) -> Result<Self, OpenError> {
        let options = address::parse(url)?;
        let held = schema::bring_up(&options).await?;
        Ok(Self::over(options, chain, Some(held)))
    }

    /// Opens the database at a URL as it stands.
    pub(super) async fn join(url: &str, chain: ChainKey) -> Result<Self, OpenError> {
        let options = address::parse(url)?;
        let held = schema::expect(&options).await?;
        Ok(Self::over(options, chain, Some(held)))
    }

    /// Over a database of this version. `held` keeps copies away until the listener does.
    fn over(options: PgConnectOptions, chain: ChainKey, held: Option<Connection>) -> Self {
        let options = bounded(options);
        let hints = Hints::start(options.clone(), held);
        let readers = pool(READERS_MAX, options.clone());
        let writer = Writer::new(pool(WRITERS_MAX, options), chain, hints.sender());
        Self { readers, writer, hints }
    }
}

/// What the port's text asks of an adapter.
impl PostgresStore {
    const IS_SHARED: bool = true;

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
        self.hints.subscribe()
    }
}

/// The same server, with an end to everything. What a server's own settings say of safety stays, but that a commit is
/// on disk before it is acknowledged is no matter of settings.
fn bounded(options: PgConnectOptions) -> PgConnectOptions {
    let millis = |wait: Duration| wait.as_millis().to_string();
    options.options([
        ("statement_timeout", millis(WAIT_MAX)),
        ("lock_timeout", millis(WAIT_MAX)),
        ("idle_in_transaction_session_timeout", millis(PAUSE_MAX)),
    ])
}

/// Connections to it, none of them made yet.
fn pool(connections_max: u32, options: PgConnectOptions) -> Pool {
    PgPoolOptions::new()
        .max_connections(connections_max)
        .acquire_timeout(WAIT_MAX)
        .idle_timeout(IDLE_MAX)
        .test_before_acquire(false)
        .after_connect(|connection, _| Box::pin(async move { keep_what_is_acknowledged(connection).await }))
        .before_acquire(|connection, seen| {
            Box::pin(async move {
                if seen.idle_for > IDLE_UNSEEN_MAX {
                    connection.ping().await?;
                }
                Ok(true)
            })
        })
        // The driver asks once more, without an end: a server that is gone without a word would keep the place taken.
        .after_release(|connection, _| {
            Box::pin(async move {
                match timeout(WAIT_MAX, connection.ping()).await {
                    Ok(answer) => answer.map(|()| true),
                    Err(_) => Err(sqlx::Error::PoolTimedOut),
                }
            })
        })
        .connect_lazy_with(options)
}

/// A server that acknowledges a commit before it is on disk loses it with its power.
async fn keep_what_is_acknowledged(connection: &mut Connection) -> Result<(), sqlx::Error> {
    let query = sqlx::query(
        "SELECT set_config('synchronous_commit', 'on', FALSE) WHERE current_setting('synchronous_commit') = 'off'",
    );
    query.execute(connection).await.map(drop)
}

/// The driver reads NULL as an empty value where a type does not say that it may be NULL: each read says so.
impl Columns for PgRow {
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
    match error {
        sqlx::Error::Database(database) => match database.code().as_deref() {
            Some("53100") => StoreError::Full,
            Some("XX001" | "XX002") => StoreError::Damaged,
            Some(code) if code.starts_with("23") => StoreError::Conflict,
            _ => StoreError::Unavailable,
        },
        sqlx::Error::ColumnDecode { .. }
        | sqlx::Error::ColumnNotFound(_)
        | sqlx::Error::Decode(_)
        | sqlx::Error::RowNotFound => StoreError::Damaged, // only rows that must be there are asked for so
        _ => StoreError::Unavailable,
    }
}
