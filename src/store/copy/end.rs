//! What an adapter has to bring so that its databases can be either end of a copy.

use std::fmt;

use async_trait::async_trait;
use futures_util::stream::BoxStream;

use super::super::{OpenError, SharedStore, StoreError};
use super::rows::{Cells, Column, Shape};
use crate::crypto::chain::ChainKey;

/// The table that stands in a database while a copy into it has not been confirmed. It has no rows, and belongs to no
/// migration: a database never has it but then.
pub(in crate::store) const UNFINISHED: &str = "unfinished_copy";

/// One end of a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Where rows are read.
    From,
    /// Where they are written.
    To,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::From => "from",
            Self::To => "to",
        })
    }
}

/// How a database stands to this build's migrations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) enum Standing {
    /// Nobody has used it yet.
    Untouched,
    /// Some of them were not run.
    Older,
    /// All of them were.
    Current,
}

/// A database, over one connection. Methods are called in the order in which they stand here.
#[async_trait]
pub(in crate::store) trait End: Send {
    /// What tells this database from every other one; `None` where there is none yet.
    async fn identity(&mut self) -> Result<Option<String>, OpenError>;

    /// Takes the database: nobody serves from it until this value is gone. What is no database of kiket's is refused.
    async fn take(&mut self) -> Result<(), OpenError>;

    /// How it stands to this build; a newer one's is refused.
    async fn standing(&mut self) -> Result<Standing, OpenError>;

    /// Every table in it, but for the database's own and that of the migrations.
    async fn tables(&mut self) -> Result<Vec<String>, StoreError>;

    /// Runs what migrations are missing.
    async fn migrate(&mut self) -> Result<(), OpenError>;

    /// A table's columns, in no particular order; `None` where one is of a type that is not copied.
    async fn columns(&mut self, table: &str) -> Result<Option<Vec<Column>>, StoreError>;

    /// Begins a transaction that reads what stands there now, or one that writes.
    async fn begin(&mut self) -> Result<(), StoreError>;

    /// Removes all rows of these tables within the transaction.
    async fn clear(&mut self, tables: &[String]) -> Result<(), StoreError>;

    /// Runs a statement that needs no answer.
    async fn run(&mut self, sql: &str) -> Result<(), StoreError>;

    /// The one number that a statement answers.
    async fn number(&mut self, sql: &str) -> Result<i64, StoreError>;

    /// All rows of a table, by its key, one after another.
    fn rows<'a>(&'a mut self, shape: &Shape) -> BoxStream<'a, Result<Cells, StoreError>>;

    /// Inserts rows.
    async fn write(&mut self, shape: &Shape, rows: &[Cells]) -> Result<(), StoreError>;

    /// The highest position that was ever given in a table.
    async fn counter(&mut self, table: &str) -> Result<i64, StoreError>;

    /// Lets a table count on from a position.
    async fn count_from(&mut self, table: &str, position: i64) -> Result<(), StoreError>;

    /// The port over the same database, for reading; of this value's lock.
    async fn store(&self, chain: ChainKey) -> Result<SharedStore, OpenError>;

    /// Gives the database back.
    async fn close(&mut self);
}
