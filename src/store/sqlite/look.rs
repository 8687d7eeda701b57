//! How a file stands, looked at without changing it, nor what a process that serves keeps beside it.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Access, FlockOperation, access, flock};
use rustix::io::Errno;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};
use sqlx::{ConnectOptions, Connection as _};
use tokio::sync::watch;

use super::super::copy::UNFINISHED;
use super::super::look::{Applied, FileFacts, Holder, Look, Schema, schema};
use super::super::{OpenError, folders};
use super::write::Writer;
use super::{Connection, MIGRATIONS, READERS_MAX, SqliteStore, WAIT_MAX};
use crate::crypto::chain::ChainKey;

/// Up to this length a file is read whole, in a moment.
const READ_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Looks at the file. It is opened to be read alone, and where there is no log beside it, without the files that SQLite
/// would put there. Where there is one, its index (`-shm`) is made anew, as by everybody who opens it; file and log stay
/// as they are.
pub(in crate::store) async fn look(path: &Path, chain: ChainKey) -> Result<Look, OpenError> {
    let mut facts = FileFacts {
        path: path.to_owned(),
        mode: None,
        is_writable: is_writable(path),
        is_in_use: is_in_use(path),
        is_whole: None,
    };
    let nothing = |facts| Look {
        holder: Holder::File(facts),
        schema: Schema::None,
        rows: None,
    };
    let status = match fs::metadata(path) {
        Ok(status) => status,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(nothing(facts)),
        Err(error) => return Err(OpenError::File(error.kind())),
    };
    access(path, Access::READ_OK).map_err(|error| OpenError::File(error.kind()))?;
    facts.mode = Some(status.permissions().mode() & 0o7777);
    if status.is_file() && status.len() == 0 {
        return Ok(nothing(facts)); // made, and not filled yet
    }
    let is_still = !facts.is_in_use && !has_log(path);
    let options = reading(path).immutable(is_still);
    let mut connection = options.connect().await.map_err(|_| OpenError::Foreign)?;
    let schema = standing(&mut connection).await?;
    if status.len() <= READ_BYTES_MAX {
        facts.is_whole = Some(is_whole(&mut connection).await);
    }
    let rows = match schema {
        Schema::Current => Some(Arc::new(over(connection, options, chain).await?) as _),
        Schema::None | Schema::Older | Schema::Newer => {
            let _ = connection.close().await; // nothing was written
            None
        }
    };
    Ok(Look {
        holder: Holder::File(facts),
        schema,
        rows,
    })
}

/// A connection that may only read.
fn reading(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .read_only(true)
        .busy_timeout(WAIT_MAX)
        .pragma("query_only", "ON")
        .pragma("temp_store", "MEMORY") // sorts would open files in /tmp
        .disable_statement_logging()
}

/// A store whose one writer has a connection that may only read.
async fn over(
    connection: Connection,
    options: SqliteConnectOptions,
    chain: ChainKey,
) -> Result<SqliteStore, OpenError> {
    let readers = SqlitePoolOptions::new()
        .max_connections(READERS_MAX)
        .acquire_timeout(WAIT_MAX)
        .connect_with(options)
        .await
        .map_err(|_| OpenError::Foreign)?;
    let (wake, _) = watch::channel(0);
    let writer = Writer::start(connection, chain, wake.clone(), None);
    Ok(SqliteStore { readers, writer, wake })
}

async fn standing(connection: &mut Connection) -> Result<Schema, OpenError> {
    let refused = |_| OpenError::Foreign;
    let names: Vec<String> = sqlx::query_scalar("SELECT name FROM sqlite_schema WHERE type = 'table'")
        .fetch_all(&mut *connection)
        .await
        .map_err(refused)?;
    let has = |name: &str| names.iter().any(|other| other == name);
    if names.is_empty() {
        return Ok(Schema::None);
    }
    if !has("_sqlx_migrations") {
        return Err(OpenError::Foreign);
    }
    if has(UNFINISHED) {
        return Err(OpenError::Unfinished);
    }
    let applied: Vec<Applied> =
        sqlx::query_as("SELECT version, checksum, success FROM _sqlx_migrations ORDER BY version")
            .fetch_all(connection)
            .await
            .map_err(refused)?;
    schema(&applied, &MIGRATIONS)
}

async fn is_whole(connection: &mut Connection) -> bool {
    let said: Result<String, _> = sqlx::query_scalar("PRAGMA quick_check(1)").fetch_one(connection).await;
    said.is_ok_and(|said| said == "ok")
}

/// Whether this process could write the file, or make it, and what SQLite keeps beside it.
fn is_writable(path: &Path) -> bool {
    let url = format!("sqlite:{}", path.display());
    let may = |path: &Path| access(path, Access::WRITE_OK).is_ok();
    let beside = folders(&url);
    (may(path) || !path.exists()) && !beside.is_empty() && beside.iter().all(|folder| may(folder))
}

/// Whether a process has taken the file. Asked without waiting and given up at once: whoever starts just then tries
/// again a moment later.
fn is_in_use(path: &Path) -> bool {
    let Ok(file) = File::open(beside(path, ".lock")) else {
        return false; // nobody ever served from it
    };
    flock(&file, FlockOperation::NonBlockingLockShared) == Err(Errno::WOULDBLOCK)
}

/// Whether SQLite's log beside the file holds what is not in it yet: a process that served from it was killed.
fn has_log(path: &Path) -> bool {
    let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    fs::metadata(beside(&real, "-wal")).is_ok_and(|log| log.len() > 0)
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}
