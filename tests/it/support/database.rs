//! Which database a test runs over: a file, or with `KIKET_TEST_STORE=postgres` one in a throw-away server.

use std::fs::File;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};

use super::postgres;

/// A database that nobody has used yet.
pub enum Database {
    File(PathBuf),
    Server(postgres::Database),
}

impl Database {
    /// In this folder, where it is a file.
    pub fn fresh(folder: &Path) -> Self {
        match std::env::var("KIKET_TEST_STORE").as_deref() {
            Err(_) | Ok("sqlite") => Self::File(folder.join("kiket.db")),
            Ok("postgres") => Self::Server(postgres::Database::fresh()),
            Ok(other) => panic!("KIKET_TEST_STORE is `sqlite` or `postgres`, not `{other}`"),
        }
    }

    /// As the product is told of it.
    pub fn url(&self) -> String {
        match self {
            Self::File(path) => format!("sqlite:{}", path.display()),
            Self::Server(database) => database.url(),
        }
    }

    /// Runs SQL, as SQLite has it, as somebody who has got at the database, whatever rows refer to; so many rows are
    /// touched.
    pub fn damage(&self, sql: &str) -> u64 {
        match self {
            Self::File(path) => {
                let options = SqliteConnectOptions::new().filename(path).foreign_keys(false);
                postgres::apart(
                    async move |sql: String| {
                        let mut connection = options.connect().await.unwrap();
                        let done = sqlx::raw_sql(AssertSqlSafe(sql.clone())).execute(&mut connection).await;
                        let touched = done.unwrap_or_else(|error| panic!("{sql}: {error}")).rows_affected();
                        connection.close().await.unwrap();
                        touched
                    },
                    sql,
                )
            }
            Self::Server(database) => {
                let zeros = "CREATE OR REPLACE FUNCTION pg_temp.zeroblob(n INT) RETURNS BYTEA LANGUAGE sql \
                             AS $$ SELECT decode(repeat('00', n), 'hex') $$";
                let sql = sql
                    .replace(" x'", " '\\x")
                    .replace("zeroblob(", "pg_temp.zeroblob(")
                    .replace(" AS BLOB)", " AS BYTEA)");
                database.run(&format!("SET session_replication_role = replica; {zeros}; {sql}"))
            }
        }
    }

    /// Waits until nobody holds the database: whoever had it gives it up when the last write is done.
    pub fn released(&self) {
        match self {
            Self::File(path) => {
                let lock = File::open(path.with_extension("db.lock")).unwrap();
                flock(&lock, FlockOperation::LockExclusive).unwrap();
            }
            Self::Server(database) => {
                let others = "DO $$ BEGIN WHILE EXISTS (SELECT 1 FROM pg_stat_activity WHERE pid <> pg_backend_pid() \
                              AND datname = current_database() AND backend_type = 'client backend') LOOP \
                              PERFORM pg_stat_clear_snapshot(), pg_sleep(0.01); END LOOP; END $$";
                database.run(others);
            }
        }
    }
}
