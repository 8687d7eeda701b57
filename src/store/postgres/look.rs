//! How a database of a server stands, looked at without changing it, nor being seen by those who serve from it.

use std::sync::Arc;

use sqlx::Connection as _;
use tokio::time::timeout;

use super::super::OpenError;
use super::super::copy::UNFINISHED;
use super::super::look::{Applied, Holder, Look, Schema, ServerFacts, schema};
use super::hints::Hints;
use super::schema::{MIGRATIONS, connect, refuse_foreign, refuse_unsuited, refused};
use super::write::Writer;
use super::{Connection, PostgresStore, READERS_MAX, SILENT_MAX, address, bounded, pool};
use crate::crypto::chain::ChainKey;
use crate::domain::time::Timestamp;

/// Looks at the database. The server is told that the connections only read.
pub(in crate::store) async fn look(url: &str, chain: ChainKey) -> Result<Look, OpenError> {
    let options = address::parse(url)?.options([("default_transaction_read_only", "on")]);
    let mut connection = connect(&options).await?;
    let is_socket = options.get_socket().is_some() || options.get_host().starts_with('/');
    let database = options.get_database().unwrap_or_default();
    let name = format!(
        "{} at {}",
        database,
        if is_socket { "a Unix socket" } else { options.get_host() }
    );
    let looked = timeout(SILENT_MAX, looked(&mut connection, name, is_socket)).await;
    let (schema, facts) = looked.map_err(|_| OpenError::Unreachable)??;
    let _ = connection.close().await; // the server notices an end without a word, too
    let rows = match schema {
        // A later version only added to what this one reads.
        Schema::Current | Schema::Newer if facts.unreadable.is_empty() => {
            let options = bounded(options);
            let closed = pool(1, options.clone());
            closed.close().await; // whoever writes gets no connection
            let hints = Hints::none();
            let writer = Writer::new(closed, chain, hints.sender());
            let readers = pool(READERS_MAX, options);
            Some(Arc::new(PostgresStore { readers, writer, hints }) as _)
        }
        _ => None,
    };
    Ok(Look {
        holder: Holder::Server(facts),
        schema,
        rows,
    })
}

async fn looked(
    connection: &mut Connection,
    name: String,
    is_socket: bool,
) -> Result<(Schema, ServerFacts), OpenError> {
    refuse_unsuited(connection).await?;
    refuse_foreign(connection).await?;
    let query = sqlx::query_scalar("SELECT to_regclass($1) IS NOT NULL").bind(UNFINISHED);
    let is_unfinished: bool = query.fetch_one(&mut *connection).await.map_err(refused)?;
    if is_unfinished {
        return Err(OpenError::Unfinished);
    }
    let (version, now, is_encrypted, may_create): (String, i64, bool, bool) = sqlx::query_as(
        "SELECT current_setting('server_version'), (extract(epoch FROM clock_timestamp()) * 1000)::bigint, \
         COALESCE((SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()), FALSE), \
         has_schema_privilege(current_schema(), 'CREATE')",
    )
    .fetch_one(&mut *connection)
    .await
    .map_err(refused)?;
    let facts = ServerFacts {
        name,
        version,
        is_encrypted: (!is_socket).then_some(is_encrypted),
        now: Timestamp(u64::try_from(now).unwrap_or_default()),
        may_create,
        unreadable: without(connection, "SELECT").await?,
        unwritable: without(connection, "INSERT").await?,
    };
    Ok((standing(connection, &facts).await?, facts))
}

/// The tables that this user lacks a right to.
async fn without(connection: &mut Connection, right: &'static str) -> Result<Vec<String>, OpenError> {
    let query = sqlx::query_scalar(
        "SELECT relname::text FROM pg_class WHERE relnamespace = current_schema()::regnamespace AND relkind = 'r' \
         AND relname <> '_sqlx_migrations' AND NOT has_table_privilege(oid, $1) ORDER BY 1",
    );
    query.bind(right).fetch_all(connection).await.map_err(refused)
}

async fn standing(connection: &mut Connection, facts: &ServerFacts) -> Result<Schema, OpenError> {
    let query = sqlx::query_scalar("SELECT to_regclass('_sqlx_migrations') IS NULL");
    let is_new: bool = query.fetch_one(&mut *connection).await.map_err(refused)?;
    if is_new {
        return Ok(Schema::None);
    }
    if !facts.unreadable.is_empty() {
        return Ok(Schema::Current); // nothing more can be told
    }
    let applied: Vec<Applied> =
        sqlx::query_as("SELECT version, checksum, success FROM _sqlx_migrations ORDER BY version")
            .fetch_all(connection)
            .await
            .map_err(refused)?;
    schema(&applied, &MIGRATIONS)
}
