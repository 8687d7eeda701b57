//! How a SQLite file is either end of a copy.

use std::fs;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::stream::{self, BoxStream, StreamExt};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection as _};

use super::super::copy::{Cell, Cells, Column, End, Kind, Shape, Side, Standing, quoted};
use super::super::{OpenError, SharedStore, StoreError};
use super::{
    Connection, MIGRATIONS, SqliteStore, assert_durable, copied, create, dialect, failed, lock, options, refuse_foreign,
};
use crate::crypto::chain::ChainKey;

/// The most values of one statement. SQLite takes more; what is gained by longer statements ends here.
const VALUES_MAX: usize = 1_000;

/// A file, and who has it.
pub(in crate::store) struct SqliteEnd {
    path: PathBuf,
    side: Side,
    taken: Option<Taken>,
}

struct Taken {
    connection: Connection,
    lock: Arc<File>,
}

impl SqliteEnd {
    pub(in crate::store) fn new(path: &Path, side: Side) -> Self {
        let path = path.to_owned();
        Self {
            path,
            side,
            taken: None,
        }
    }

    fn connection(&mut self) -> Result<&mut Connection, StoreError> {
        let taken = self.taken.as_mut().ok_or(StoreError::Unavailable)?;
        Ok(&mut taken.connection)
    }

    fn opened(&mut self) -> Result<&mut Connection, OpenError> {
        self.connection().map_err(|_| OpenError::InUse)
    }
}

#[async_trait]
impl End for SqliteEnd {
    /// The file, whatever paths lead to it.
    async fn identity(&mut self) -> Result<Option<String>, OpenError> {
        let file = fs::metadata(&self.path).ok();
        Ok(file.map(|file| format!("file {} {}", file.dev(), file.ino())))
    }

    async fn take(&mut self) -> Result<(), OpenError> {
        let mut options = options(&self.path);
        if self.side == Side::From {
            fs::metadata(&self.path).map_err(|error| OpenError::File(error.kind()))?;
            options = options.pragma("query_only", "ON");
        }
        let lock = lock(&self.path).await?;
        create(&self.path)?;
        refuse_foreign(&self.path).await?;
        let mut connection = options.connect().await.map_err(|_| OpenError::Foreign)?;
        assert_durable(&mut connection).await?;
        self.taken = Some(Taken { connection, lock });
        Ok(())
    }

    async fn standing(&mut self) -> Result<Standing, OpenError> {
        let connection = self.opened()?;
        let known: i64 =
            sqlx::query_scalar("SELECT COUNT(*) FROM sqlite_schema WHERE type = 'table' AND name = '_sqlx_migrations'")
                .fetch_one(&mut *connection)
                .await
                .map_err(|_| OpenError::Foreign)?;
        copied::standing(connection, &MIGRATIONS, known > 0).await
    }

    async fn tables(&mut self) -> Result<Vec<String>, StoreError> {
        let query = sqlx::query_scalar(
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' \
             AND name <> '_sqlx_migrations' ORDER BY name",
        );
        query.fetch_all(self.connection()?).await.map_err(failed)
    }

    async fn migrate(&mut self) -> Result<(), OpenError> {
        let connection = self.opened()?;
        // Not `run`, whose future cannot be told to be `Send` where a trait asks for it.
        let run = MIGRATIONS.run_direct(None, connection, false).await;
        run.map_err(|_| OpenError::Foreign)
    }

    async fn columns(&mut self, table: &str) -> Result<Option<Vec<Column>>, StoreError> {
        let query = sqlx::query_as("SELECT name, type FROM pragma_table_info($1)").bind(table);
        let columns: Vec<(String, String)> = query.fetch_all(self.connection()?).await.map_err(failed)?;
        let column = |(name, declared): (String, String)| {
            let kind = match declared.as_str() {
                "INTEGER" => Kind::Number,
                "TEXT" => Kind::Text,
                "BLOB" => Kind::Bytes,
                _ => return None,
            };
            Some(Column { name, kind })
        };
        Ok(columns.into_iter().map(column).collect())
    }

    async fn begin(&mut self) -> Result<(), StoreError> {
        let begin = match self.side {
            Side::From => dialect::SNAPSHOT,
            Side::To => "BEGIN IMMEDIATE",
        };
        self.run(begin).await
    }

    async fn clear(&mut self, tables: &[String]) -> Result<(), StoreError> {
        self.run("PRAGMA defer_foreign_keys = ON").await?; // until the transaction's end
        for table in tables {
            self.run(&format!("DELETE FROM {}", quoted(table))).await?;
        }
        Ok(())
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

    async fn write(&mut self, shape: &Shape, rows: &[Cells]) -> Result<(), StoreError> {
        let connection = self.connection()?;
        let together = VALUES_MAX.checked_div(shape.columns.len()).unwrap_or(1).max(1);
        for rows in rows.chunks(together) {
            let statement = AssertSqlSafe(insert(shape, rows.len()));
            let mut query = sqlx::query(statement).persistent(rows.len() == together);
            for cell in rows.iter().flatten() {
                query = match cell {
                    Cell::Null => query.bind(None::<i64>),
                    Cell::Number(number) => query.bind(number),
                    Cell::Text(text) => query.bind(text),
                    Cell::Bytes(bytes) => query.bind(bytes),
                };
            }
            query.execute(&mut *connection).await.map_err(failed)?;
        }
        Ok(())
    }

    async fn counter(&mut self, table: &str) -> Result<i64, StoreError> {
        let query = sqlx::query_scalar("SELECT COALESCE((SELECT seq FROM sqlite_sequence WHERE name = $1), 0)");
        query.bind(table).fetch_one(self.connection()?).await.map_err(failed)
    }

    async fn count_from(&mut self, table: &str, position: i64) -> Result<(), StoreError> {
        let connection = self.connection()?;
        for sql in [
            "DELETE FROM sqlite_sequence WHERE name = $1",
            "INSERT INTO sqlite_sequence (name, seq) SELECT $1, $2 WHERE $2 > 0",
        ] {
            let query = sqlx::query(sql).bind(table).bind(position);
            query.execute(&mut *connection).await.map_err(failed)?;
        }
        Ok(())
    }

    async fn store(&self, chain: ChainKey) -> Result<SharedStore, OpenError> {
        let taken = self.taken.as_ref().ok_or(OpenError::InUse)?;
        let store = SqliteStore::over(&self.path, chain, Arc::clone(&taken.lock)).await?;
        Ok(Arc::new(store))
    }

    async fn close(&mut self) {
        if let Some(taken) = self.taken.take() {
            let _ = taken.connection.close().await; // checkpoints; the rows are safe without
            drop(taken.lock);
        }
    }
}

/// Inserts so many rows at a time.
fn insert(shape: &Shape, rows: usize) -> String {
    let row = vec!["?"; shape.columns.len()].join(", ");
    let rows = vec![format!("({row})"); rows].join(", ");
    format!(
        "INSERT INTO {} ({}) VALUES {rows}",
        quoted(shape.table.name),
        shape.names()
    )
}
