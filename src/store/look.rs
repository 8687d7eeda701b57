//! How a database stands, looked at without changing it: for whoever wants to know before a start.
//!
//! Nothing is created, migrated, locked or announced, so that a process that serves from it meanwhile notices nothing.

use std::path::PathBuf;

use sqlx::migrate::Migrator;

use super::{OpenError, Place, SharedStore, place, postgres, sqlite};
use crate::crypto::chain::ChainKey;
use crate::domain::time::Timestamp;

/// A database as it stands.
pub struct Look {
    /// What holds the rows.
    pub holder: Holder,
    /// Of which version they are.
    pub schema: Schema,
    /// The rows, where they are of this version: to be read; every write is refused.
    pub rows: Option<SharedStore>,
}

/// What holds rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holder {
    /// A SQLite file.
    File(FileFacts),
    /// A PostgreSQL server.
    Server(ServerFacts),
}

/// What is seen of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileFacts {
    /// Where it is, or would be.
    pub path: PathBuf,
    /// Its permissions; `None` where there is no file.
    pub mode: Option<u32>,
    /// Whether this process may write it and beside it.
    pub is_writable: bool,
    /// Whether a process serves from it.
    pub is_in_use: bool,
    /// Whether SQLite finds its pages whole; `None` where it is too long to be read in passing, or has no tables.
    pub is_whole: Option<bool>,
}

/// What is seen of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerFacts {
    /// Host and database.
    pub name: String,
    /// Its release.
    pub version: String,
    /// Whether the connection is encrypted; `None` over a Unix socket, where nobody listens in.
    pub is_encrypted: Option<bool>,
    /// What its clock says.
    pub now: Timestamp,
    /// Whether this user may make tables.
    pub may_create: bool,
    /// Tables that this user may not read.
    pub unreadable: Vec<String>,
    /// Tables to which this user may add no row.
    pub unwritable: Vec<String>,
}

/// Of which version a database's tables are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Schema {
    /// There are none: a start makes them.
    None,
    /// An older one: a start brings them up.
    Older,
    /// This one.
    Current,
    /// A later one, with all that this one has.
    Newer,
}

/// Looks at the database at a URL. `chain` is never used: nothing is written.
///
/// # Errors
/// [`OpenError`], as a start would meet it.
pub async fn look(url: &str, chain: ChainKey) -> Result<Look, OpenError> {
    match place(url)? {
        Place::File(path) => sqlite::look(path, chain).await,
        Place::Server(url) => postgres::look(url, chain).await,
    }
}

/// A migration that was run: its number, its text's hash, and whether it came to its end.
pub(super) type Applied = (i64, Vec<u8>, bool);

/// How the migrations that were run stand to those of this build.
pub(super) fn schema(applied: &[Applied], ours: &Migrator) -> Result<Schema, OpenError> {
    let mut known = ours.iter();
    let mut schema = Schema::Current;
    for (version, checksum, is_done) in applied {
        match known.next() {
            Some(ours) if ours.version == *version && *ours.checksum == **checksum && *is_done => {}
            None if *is_done => schema = Schema::Newer,
            _ => return Err(OpenError::Foreign),
        }
    }
    if known.next().is_some() {
        Ok(Schema::Older)
    } else {
        Ok(schema)
    }
}
