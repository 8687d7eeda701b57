//! How a PostgreSQL database is either end of a copy.

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::stream::{self, BoxStream, StreamExt};
use sqlx::Connection as _;
use sqlx::postgres::PgConnectOptions;

use super::super::copy::{Cell, Cells, Column, End, Kind, Shape, Side, Standing, quoted};
use super::super::{OpenError, SharedStore, StoreError};
use super::{Connection, PostgresStore, address, copied, dialect, failed, keep_what_is_acknowledged, schema};
use crate::crypto::chain::ChainKey;

/// Before the rows: the format's name, no flags, no more to say.
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

/// Behind the rows.
const TRAILER: &[u8] = &(-1_i16).to_be_bytes();

/// A database, and the connection that has it.
pub(in crate::store) struct PostgresEnd {
    options: PgConnectOptions,
    side: Side,
    connection: Option<Connection>,
}

impl PostgresEnd {
    pub(in crate::store) fn new(url: &str, side: Side) -> Result<Self, OpenError> {
        Ok(Self {
            options: address::parse(url)?,
            side,
            connection: None,
        })
    }

    fn connection(&mut self) -> Result<&mut Connection, StoreError> {
        self.connection.as_mut().ok_or(StoreError::Unavailable)
    }

    fn reached(&mut self) -> Result<&mut Connection, OpenError> {
        self.connection.as_mut().ok_or(OpenError::Unreachable)
    }
}

#[async_trait]
impl End for PostgresEnd {
    /// The server by when it was started, and what of it rows are kept in.
    async fn identity(&mut self) -> Result<Option<String>, OpenError> {
        // A copy takes as long as it takes.
        let unbounded = ["statement_timeout", "idle_in_transaction_session_timeout"].map(|name| (name, "0"));
        let mut connection = schema::connect(&self.options.clone().options(unbounded)).await?;
        let query = sqlx::query_scalar(
            "SELECT format('server %s %s %s', EXTRACT(EPOCH FROM pg_postmaster_start_time()), current_database(), \
             current_schema())",
        );
        let identity = query.fetch_one(&mut connection).await.map_err(schema::refused)?;
        self.connection = Some(connection);
        Ok(Some(identity))
    }

    async fn take(&mut self) -> Result<(), OpenError> {
        let connection = self.reached()?;
        schema::refuse_unsuited(connection).await?;
        schema::refuse_foreign(connection).await?;
        schema::take_alone(connection).await?;
        keep_what_is_acknowledged(connection).await.map_err(schema::refused)
    }

    async fn standing(&mut self) -> Result<Standing, OpenError> {
        let connection = self.reached()?;
        let is_known: bool = sqlx::query_scalar("SELECT to_regclass('_sqlx_migrations') IS NOT NULL")
            .fetch_one(&mut *connection)
            .await
            .map_err(schema::refused)?;
        copied::standing(connection, &schema::MIGRATIONS, is_known).await
    }

    async fn tables(&mut self) -> Result<Vec<String>, StoreError> {
        let query = sqlx::query_scalar(
            "SELECT relname::text FROM pg_class WHERE relnamespace = current_schema()::regnamespace \
             AND relkind IN ('r', 'p') AND relname <> '_sqlx_migrations' AND NOT EXISTS (SELECT 1 FROM pg_depend \
             WHERE classid = 'pg_class'::regclass AND objid = pg_class.oid AND deptype = 'e') ORDER BY relname",
        );
        query.fetch_all(self.connection()?).await.map_err(failed)
    }

    async fn migrate(&mut self) -> Result<(), OpenError> {
        schema::migrate(self.reached()?).await
    }

    async fn columns(&mut self, table: &str) -> Result<Option<Vec<Column>>, StoreError> {
        let query = sqlx::query_as(
            "SELECT attname::text, atttypid::regtype::text FROM pg_attribute \
             WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped",
        );
        let query = query.bind(quoted(table));
        let columns: Vec<(String, String)> = query.fetch_all(self.connection()?).await.map_err(failed)?;
        let column = |(name, declared): (String, String)| {
            let kind = match declared.as_str() {
                "bigint" => Kind::Number,
                "text" => Kind::Text,
                "bytea" => Kind::Bytes,
                _ => return None,
            };
            Some(Column { name, kind })
        };
        Ok(columns.into_iter().map(column).collect())
    }

    async fn begin(&mut self) -> Result<(), StoreError> {
        let begin = match self.side {
            Side::From => dialect::SNAPSHOT,
            Side::To => "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE",
        };
        self.run(begin).await
    }

    async fn clear(&mut self, tables: &[String]) -> Result<(), StoreError> {
        let tables: Vec<String> = tables.iter().map(|table| quoted(table)).collect();
        if tables.is_empty() {
            return Ok(());
        }
        self.run(&format!("TRUNCATE {}", tables.join(", "))).await
    }

    async fn run(&mut self, sql: &str) -> Result<(), StoreError> {
        copied::run(self.connection()?, sql).await
    }

    async fn number(&mut self, sql: &str) -> Result<i64, StoreError> {
        copied::number(self.connection()?, sql).await
    }

    fn rows<'a>(&'a mut self, shape: &Shape) -> BoxStream<'a, Result<Cells, StoreError>> {
        match self.connection() {
            Ok(connection) => copied::rows(connection, shape),
            Err(error) => stream::iter([Err(error)]).boxed(),
        }
    }

    /// By the server's own way for many rows, in its binary format. It takes given positions as they are.
    async fn write(&mut self, shape: &Shape, rows: &[Cells]) -> Result<(), StoreError> {
        let connection = self.connection()?;
        let (table, columns) = (quoted(shape.table.name), shape.names());
        let statement = format!("COPY {table} ({columns}) FROM STDIN (FORMAT binary)");
        let data = encoded(rows)?;
        let mut copy = connection.copy_in_raw(&statement).await.map_err(failed)?;
        copy.send(data).await.map_err(failed)?;
        copy.finish().await.map(drop).map_err(failed)
    }

    async fn counter(&mut self, table: &str) -> Result<i64, StoreError> {
        let query = sqlx::query_scalar("SELECT pg_get_serial_sequence($1, 'position')").bind(quoted(table));
        let sequence: Option<String> = query.fetch_one(self.connection()?).await.map_err(failed)?;
        let sequence = sequence.ok_or(StoreError::Damaged)?; // its name, as it stands in a statement
        let sql = format!("SELECT CASE WHEN is_called THEN last_value ELSE last_value - 1 END FROM {sequence}");
        self.number(&sql).await
    }

    async fn count_from(&mut self, table: &str, position: i64) -> Result<(), StoreError> {
        let (table, next) = (quoted(table), position.saturating_add(1));
        let sql = format!("ALTER TABLE {table} ALTER COLUMN position RESTART WITH {next}");
        self.run(&sql).await // undone with the transaction, as setval is not
    }

    async fn store(&self, chain: ChainKey) -> Result<SharedStore, OpenError> {
        Ok(Arc::new(PostgresStore::over(self.options.clone(), chain, None)))
    }

    async fn close(&mut self) {
        if let Some(connection) = self.connection.take() {
            let _ = connection.close().await; // the server notices an end without a word, too
        }
    }
}

/// Rows in the binary format of COPY.
fn encoded(rows: &[Cells]) -> Result<Vec<u8>, StoreError> {
    let cells = rows.iter().flatten().map(length).fold(0, usize::saturating_add);
    let frame = HEADER.len().saturating_add(TRAILER.len());
    let heads = rows.len().saturating_mul(size_of::<i16>());
    let mut data = Vec::with_capacity(cells.saturating_add(frame).saturating_add(heads));
    data.extend_from_slice(HEADER);
    for row in rows {
        let columns = i16::try_from(row.len()).map_err(|_| StoreError::Damaged)?;
        data.extend_from_slice(&columns.to_be_bytes());
        for cell in row {
            match cell {
                Cell::Null => data.extend_from_slice(&(-1_i32).to_be_bytes()),
                Cell::Number(number) => field(&mut data, &number.to_be_bytes())?,
                Cell::Text(text) => field(&mut data, text.as_bytes())?,
                Cell::Bytes(bytes) => field(&mut data, bytes)?,
            }
        }
    }
    data.extend_from_slice(TRAILER);
    Ok(data)
}

fn length(cell: &Cell) -> usize {
    let bytes = match cell {
        Cell::Null => 0,
        Cell::Number(_) => size_of::<i64>(),
        Cell::Text(text) => text.len(),
        Cell::Bytes(bytes) => bytes.len(),
    };
    bytes.saturating_add(size_of::<i32>())
}

fn field(data: &mut Vec<u8>, bytes: &[u8]) -> Result<(), StoreError> {
    let length = i32::try_from(bytes.len()).map_err(|_| StoreError::Damaged)?;
    data.extend_from_slice(&length.to_be_bytes());
    data.extend_from_slice(bytes);
    Ok(())
}
