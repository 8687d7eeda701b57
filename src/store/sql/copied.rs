//! How a database is either end of a copy, as far as both adapters say it in the same words.

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use sqlx::migrate::Migrator;
use sqlx::{AssertSqlSafe, Row as _};

use super::super::copy::{Cell, Cells, Kind, Shape, Standing};
use super::super::{OpenError, StoreError};
use super::{Connection, Row, failed};

/// How the migrations that were run stand to those of this build. `is_known`: whether there is a table of them.
pub(super) async fn standing(
    connection: &mut Connection,
    migrations: &Migrator,
    is_known: bool,
) -> Result<Standing, OpenError> {
    if !is_known {
        return Ok(Standing::Untouched);
    }
    let rows = sqlx::query("SELECT version, checksum FROM _sqlx_migrations WHERE success ORDER BY version")
        .fetch_all(&mut *connection)
        .await
        .map_err(|_| OpenError::Foreign)?;
    let unfinished: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM _sqlx_migrations WHERE NOT success")
        .fetch_one(connection)
        .await
        .map_err(|_| OpenError::Foreign)?;
    let mut known = migrations.iter();
    for row in &rows {
        let read = (row.try_get::<i64, _>(0), row.try_get::<Vec<u8>, _>(1));
        let is_ours = match (read, known.next()) {
            ((Ok(version), Ok(checksum)), Some(ours)) => ours.version == version && *ours.checksum == *checksum,
            _ => false,
        };
        if !is_ours {
            return Err(OpenError::Foreign);
        }
    }
    match (unfinished, known.next()) {
        (0, None) => Ok(Standing::Current),
        (0, Some(_)) => Ok(Standing::Older),
        _ => Err(OpenError::Foreign),
    }
}

pub(super) async fn run(connection: &mut Connection, sql: &str) -> Result<(), StoreError> {
    let query = sqlx::query(AssertSqlSafe(sql)).persistent(false);
    query.execute(connection).await.map(drop).map_err(failed)
}

pub(super) async fn number(connection: &mut Connection, sql: &str) -> Result<i64, StoreError> {
    let query = sqlx::query_scalar(AssertSqlSafe(sql)).persistent(false);
    query.fetch_one(connection).await.map_err(failed)
}

/// All rows of a table, as they come: what is not asked for yet waits in the database.
pub(super) fn rows<'a>(connection: &'a mut Connection, shape: &Shape) -> BoxStream<'a, Result<Cells, StoreError>> {
    let kinds: Vec<Kind> = shape.columns.iter().map(|column| column.kind).collect();
    let query = sqlx::query(AssertSqlSafe(shape.select())).persistent(false);
    let found = query.fetch(connection);
    found
        .map(move |row| {
            let row = row.map_err(failed)?;
            kinds.iter().enumerate().map(|(n, kind)| cell(&row, n, *kind)).collect()
        })
        .boxed()
}

fn cell(row: &Row, n: usize, kind: Kind) -> Result<Cell, StoreError> {
    let cell = match kind {
        Kind::Number => row.try_get::<Option<i64>, _>(n).map_err(failed)?.map(Cell::Number),
        Kind::Text => row.try_get::<Option<String>, _>(n).map_err(failed)?.map(Cell::Text),
        Kind::Bytes => row.try_get::<Option<Vec<u8>>, _>(n).map_err(failed)?.map(Cell::Bytes),
    };
    Ok(cell.unwrap_or(Cell::Null))
}
