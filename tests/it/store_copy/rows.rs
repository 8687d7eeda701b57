//! What stands in a database, as text that is the same for the same rows whichever database it is.

use std::collections::BTreeMap;

use data_encoding::HEXLOWER;
use kiket_sidecar::store::copy::LEFT_BEHIND;
use sqlx::postgres::PgConnection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Row};

use super::super::support::postgres::Database;

/// The rows of each table that is copied, sorted.
pub type Dump = BTreeMap<String, Vec<String>>;

fn is_left_behind(table: &str) -> bool {
    LEFT_BEHIND.iter().any(|(name, _)| *name == table)
}

pub async fn open_file(url: &str) -> SqliteConnection {
    let options = SqliteConnectOptions::new().filename(url.strip_prefix("sqlite:").unwrap());
    options.connect().await.unwrap()
}

/// Runs SQL on a file as somebody who has got at it.
pub fn run_on_file(url: &str, sql: &str) {
    block_on(async {
        let mut connection = open_file(url).await;
        let done = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
            .execute(&mut connection)
            .await;
        done.unwrap_or_else(|error| panic!("{sql}: {error}"));
        connection.close().await.unwrap();
    });
}

pub fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.unwrap().block_on(work)
}

pub async fn tables_of_file(connection: &mut SqliteConnection) -> Vec<String> {
    let named = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%'";
    sqlx::query_scalar(named).fetch_all(connection).await.unwrap()
}

pub async fn tables_of_server(connection: &mut PgConnection) -> Vec<String> {
    let named = "SELECT tablename::text FROM pg_tables WHERE schemaname = current_schema()";
    sqlx::query_scalar(named).fetch_all(connection).await.unwrap()
}

pub fn dump_file(url: &str) -> Dump {
    block_on(async {
        let mut connection = open_file(url).await;
        let mut dump = Dump::new();
        for table in tables_of_file(&mut connection).await {
            if is_left_behind(&table) {
                continue;
            }
            let columns: Vec<(String, String)> =
                sqlx::query_as("SELECT name, type FROM pragma_table_info($1) ORDER BY name")
                    .bind(&table)
                    .fetch_all(&mut connection)
                    .await
                    .unwrap();
            let sql = AssertSqlSafe(format!("SELECT * FROM {table}"));
            let rows = sqlx::query(sql).fetch_all(&mut connection).await.unwrap();
            let text = rows.iter().map(|row| {
                let cells = columns.iter().map(|(name, declared)| {
                    let name = name.as_str();
                    match declared.as_str() {
                        "TEXT" => cell(name, row.get::<Option<String>, _>(name).map(|text| format!("{text:?}"))),
                        "BLOB" => cell(
                            name,
                            row.get::<Option<Vec<u8>>, _>(name).map(|bytes| HEXLOWER.encode(&bytes)),
                        ),
                        _ => cell(name, row.get::<Option<i64>, _>(name).map(|number| number.to_string())),
                    }
                });
                cells.collect::<String>()
            });
            insert(&mut dump, table.clone(), text.collect());
        }
        connection.close().await.unwrap();
        dump
    })
}

pub fn dump_server(database: &Database) -> Dump {
    block_on(async {
        let mut connection = database.raw().await;
        let mut dump = Dump::new();
        for table in tables_of_server(&mut connection).await {
            if is_left_behind(&table) {
                continue;
            }
            let columns: Vec<(String, String)> = sqlx::query_as(
                "SELECT attname::text, atttypid::regtype::text FROM pg_attribute \
                 WHERE attrelid = $1::regclass AND attnum > 0 ORDER BY attname COLLATE \"C\"",
            )
            .bind(&table)
            .fetch_all(&mut connection)
            .await
            .unwrap();
            let sql = AssertSqlSafe(format!("SELECT * FROM {table}"));
            let rows = sqlx::query(sql).fetch_all(&mut connection).await.unwrap();
            let text = rows.iter().map(|row| {
                let cells = columns.iter().map(|(name, declared)| {
                    let name = name.as_str();
                    match declared.as_str() {
                        "text" => cell(name, row.get::<Option<String>, _>(name).map(|text| format!("{text:?}"))),
                        "bytea" => cell(
                            name,
                            row.get::<Option<Vec<u8>>, _>(name).map(|bytes| HEXLOWER.encode(&bytes)),
                        ),
                        _ => cell(name, row.get::<Option<i64>, _>(name).map(|number| number.to_string())),
                    }
                });
                cells.collect::<String>()
            });
            insert(&mut dump, table.clone(), text.collect());
        }
        dump
    })
}

fn cell(name: &str, value: Option<String>) -> String {
    format!("{name}={} ", value.unwrap_or_else(|| String::from("NULL")))
}

fn insert(dump: &mut Dump, table: String, mut rows: Vec<String>) {
    rows.sort();
    dump.insert(table, rows);
}
