//! How a database becomes one of this version: looked at first, then migrated, by one instance at a time.
//!
//! A migration only adds. Instances of the version before go on over what it left, and those that only join take what
//! they do not know for additions.

use std::time::Duration;

use sqlx::migrate::Migrator;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions};
use tokio::time::timeout;

use super::super::copy::UNFINISHED;
use super::{Connection, OpenError};

pub(super) static MIGRATIONS: Migrator = sqlx::migrate!("src/store/migrations/postgres");

/// The longest that a start waits for the server, and for others that migrate.
const BRING_UP_MAX: Duration = Duration::from_secs(120);

/// The longest that one connection takes to be made.
const CONNECT_MAX: Duration = Duration::from_secs(10);

/// The longest that a copy waits for instances that are ending.
const ENDING_MAX_MS: u64 = 3_000;

/// Migrates the database, or refuses it and leaves it as it is. The migrations stand under an advisory lock, so that
/// of many instances that start at once one migrates and the others wait for it. The connection has the database among
/// others, see [`share`].
pub(super) async fn bring_up(options: &PgConnectOptions) -> Result<Connection, OpenError> {
    let mut connection = connect(options).await?;
    let brought_up = timeout(BRING_UP_MAX, async {
        refuse_unsuited(&mut connection).await?;
        refuse_foreign(&mut connection).await?;
        refuse_copied(&mut connection).await?;
        migrate(&mut connection).await
    });
    brought_up.await.map_err(|_| OpenError::Unreachable)??;
    Ok(connection)
}

/// Refuses a database that lacks anything that this version needs. Changes nothing. The connection is as that of
/// [`bring_up`].
pub(super) async fn expect(options: &PgConnectOptions) -> Result<Connection, OpenError> {
    let mut connection = connect(options).await?;
    refuse_unsuited(&mut connection).await?;
    refuse_foreign(&mut connection).await?;
    refuse_copied(&mut connection).await?;
    let is_new: bool = sqlx::query_scalar("SELECT to_regclass('_sqlx_migrations') IS NULL")
        .fetch_one(&mut connection)
        .await
        .map_err(refused)?;
    if is_new {
        return Err(OpenError::Behind);
    }
    let applied: Vec<(i64, Vec<u8>)> = sqlx::query_as("SELECT version, checksum FROM _sqlx_migrations WHERE success")
        .fetch_all(&mut connection)
        .await
        .map_err(refused)?;
    for needed in MIGRATIONS.iter() {
        match applied.iter().find(|(version, _)| *version == needed.version) {
            None => return Err(OpenError::Behind),
            Some((_, checksum)) if **checksum != *needed.checksum => return Err(OpenError::Foreign),
            Some(_) => {}
        }
    }
    Ok(connection)
}

pub(super) async fn connect(options: &PgConnectOptions) -> Result<Connection, OpenError> {
    let connected = timeout(CONNECT_MAX, options.connect()).await;
    connected.map_err(|_| OpenError::Unreachable)?.map_err(refused)
}

pub(super) async fn migrate(connection: &mut Connection) -> Result<(), OpenError> {
    // Not `run`, whose future cannot be told to be `Send` where a trait asks for it.
    MIGRATIONS
        .run_direct(None, connection, false)
        .await
        .map_err(|error| match error {
            sqlx::migrate::MigrateError::Execute(error) | sqlx::migrate::MigrateError::ExecuteMigration(error, _) => {
                refused(error)
            }
            _ => OpenError::Foreign,
        })
}

/// Refuses a database that is being copied, and what a copy left behind that did not come to its end.
async fn refuse_copied(connection: &mut Connection) -> Result<(), OpenError> {
    if !share(connection).await.map_err(refused)? {
        return Err(OpenError::InUse);
    }
    let query = sqlx::query_scalar("SELECT to_regclass($1) IS NOT NULL").bind(UNFINISHED);
    let is_unfinished: bool = query.fetch_one(connection).await.map_err(refused)?;
    if is_unfinished {
        Err(OpenError::Unfinished)
    } else {
        Ok(())
    }
}

/// Takes the database among others who serve from it, until the connection ends; not while it is being copied.
pub(super) async fn share(connection: &mut Connection) -> Result<bool, sqlx::Error> {
    let query = "SELECT pg_try_advisory_lock_shared(hashtextextended('kiket serves ' || current_schema(), 0))";
    sqlx::query_scalar(query).fetch_one(connection).await
}

/// Takes the database, until the connection ends, where nobody serves from it. Those who just stopped are waited for:
/// the server may not have noticed yet.
pub(super) async fn take_alone(connection: &mut Connection) -> Result<(), OpenError> {
    let wait = format!("SET lock_timeout = '{ENDING_MAX_MS}ms'");
    let wait = sqlx::query(AssertSqlSafe(wait)).execute(&mut *connection).await;
    wait.map_err(refused)?;
    let query = "SELECT pg_advisory_lock(hashtextextended('kiket serves ' || current_schema(), 0))";
    let taken = sqlx::query(query).execute(&mut *connection).await;
    taken.map_err(|error| match &error {
        sqlx::Error::Database(database) if database.code().as_deref() == Some("55P03") => OpenError::InUse,
        _ => refused(error),
    })?;
    let forever = sqlx::query("SET lock_timeout = 0").execute(connection).await;
    forever.map(drop).map_err(refused)
}

/// Transactions are told apart by 64-bit ids since version 13.
pub(super) async fn refuse_unsuited(connection: &mut Connection) -> Result<(), OpenError> {
    let is_suited: bool = sqlx::query_scalar(
        "SELECT current_setting('server_version_num')::int >= 130000 \
         AND current_setting('server_encoding') = 'UTF8' AND NOT pg_is_in_recovery()",
    )
    .fetch_one(connection)
    .await
    .map_err(refused)?;
    if is_suited { Ok(()) } else { Err(OpenError::Unsuited) }
}

/// Refuses another program's schema before anything of it is changed: one with tables, none of them by which
/// migrations are told. What an extension of the server brings belongs to nobody.
pub(super) async fn refuse_foreign(connection: &mut Connection) -> Result<(), OpenError> {
    let is_foreign: bool = sqlx::query_scalar(
        "WITH standing AS (SELECT relname FROM pg_class WHERE relnamespace = current_schema()::regnamespace \
         AND relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT EXISTS (SELECT 1 FROM pg_depend \
         WHERE classid = 'pg_class'::regclass AND objid = pg_class.oid AND deptype = 'e')) \
         SELECT current_schema() IS NULL OR (EXISTS (SELECT 1 FROM standing) \
         AND NOT EXISTS (SELECT 1 FROM standing WHERE relname = '_sqlx_migrations'))",
    )
    .fetch_one(connection)
    .await
    .map_err(refused)?;
    if is_foreign { Err(OpenError::Foreign) } else { Ok(()) }
}

/// A driver's error at the start as what an operator can change: its text can quote the URL.
pub(super) fn refused(error: sqlx::Error) -> OpenError {
    match error {
        sqlx::Error::Tls(_) => OpenError::Tls,
        sqlx::Error::Configuration(_) => OpenError::Address,
        sqlx::Error::Database(database) => match database.code().as_deref() {
            // No such user or password, no such database, no right.
            Some(code) if code.starts_with("28") || matches!(code, "3D000" | "42501") => OpenError::Refused,
            Some("25006") => OpenError::Unsuited,
            Some(code) if code.starts_with("42") => OpenError::Foreign,
            _ => OpenError::Unreachable,
        },
        // TLS that fails within the handshake comes as an error of the connection.
        sqlx::Error::Io(error) if error.kind() == std::io::ErrorKind::InvalidData => OpenError::Tls,
        _ => OpenError::Unreachable,
    }
}
