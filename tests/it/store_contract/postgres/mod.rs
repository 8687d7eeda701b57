//! The suite over PostgreSQL, and what only a database with many writers has to promise.

mod feed;
mod opening;
mod outage;
mod rotations;
mod silence;
mod waiting;

use kiket_sidecar::crypto::chain::ChainKey;
use kiket_sidecar::store::{self, OpenError, SharedStore};
use sqlx::Connection;

use super::{Harness, store_contract};
use crate::support::postgres::Database;

store_contract!(Postgres);

/// A database of its own in a throw-away server.
pub(super) struct Postgres(Database);

impl Postgres {
    async fn try_open(&self, chain: ChainKey) -> Result<SharedStore, OpenError> {
        store::open(&self.0.url(), chain).await
    }
}

impl Harness for Postgres {
    fn fresh() -> Self {
        Self(Database::fresh())
    }

    async fn open(&self, chain: ChainKey) -> SharedStore {
        self.try_open(chain).await.unwrap()
    }

    async fn damage(&self, sql: &'static str) {
        let mut connection = self.0.raw().await;
        let done = sqlx::query(sql).execute(&mut connection).await.unwrap();
        assert!(done.rows_affected() > 0, "{sql}");
        connection.close().await.unwrap();
    }
}
