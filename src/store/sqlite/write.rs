//! What is written, by one task over one connection: a change with its audit entries and its feed entries, or nothing.
//!
//! A caller that goes away changes nothing about what it asked for. Audit entries that wait together go into one
//! transaction: with `synchronous=FULL` each of those costs a flush of the disk.

use std::collections::HashMap;
use std::fs::File;
use std::sync::Arc;

use sqlx::sqlite::SqliteConnection;
use sqlx::{Connection, Sqlite};
use tokio::sync::{mpsc, oneshot, watch};

use super::super::row::{self, Columns, signed};
use super::super::{Change, ExtensionRow, InstallationRow, SecretRow, StoreError, TokenRow, Write};
use super::failed;
use crate::crypto::chain::{ChainKey, GENESIS};
use crate::domain::audit::AuditEntry;
use crate::domain::change::Changed;

/// The most writes that wait; more are refused.
const QUEUE_MAX: usize = 1024;

/// The most waiting writes that are looked at together.
const TOGETHER_MAX: usize = 256;

/// How many changes the feed keeps for those who read it late.
const FEED_KEPT: i64 = 100_000;

/// The way to the writing task.
pub(super) struct Writer(mpsc::Sender<Order>);

type Done = oneshot::Sender<Result<(), StoreError>>;

struct Order {
    change: Change,
    done: Done,
}

impl Writer {
    /// Starts the task. It ends, and gives up the lock, when the last writer is gone.
    pub(super) fn start(
        connection: SqliteConnection,
        chain: ChainKey,
        wake: watch::Sender<u64>,
        lock: Arc<File>,
    ) -> Self {
        let (orders, waiting) = mpsc::channel(QUEUE_MAX);
        tokio::spawn(async move {
            Task {
                connection,
                chain,
                wake,
            }
            .run(waiting)
            .await;
            drop(lock);
        });
        Self(orders)
    }

    pub(super) async fn commit(&self, change: Change) -> Result<(), StoreError> {
        let (done, answer) = oneshot::channel();
        self.0
            .send(Order { change, done })
            .await
            .map_err(|_| StoreError::Unavailable)?;
        answer.await.unwrap_or(Err(StoreError::Unavailable))
    }

    pub(super) async fn record(&self, entries: Vec<AuditEntry>) -> Result<(), StoreError> {
        self.commit(Change {
            writes: Vec::new(),
            entries,
        })
        .await
    }
}

struct Task {
    connection: SqliteConnection,
    chain: ChainKey,
    wake: watch::Sender<u64>,
}

impl Task {
    async fn run(mut self, mut waiting: mpsc::Receiver<Order>) {
        let mut orders = Vec::new();
        while waiting.recv_many(&mut orders, TOGETHER_MAX).await > 0 {
            let mut together = Change::default();
            let mut records: Vec<Done> = Vec::new();
            for Order { change, done } in orders.drain(..) {
                if change.writes.is_empty() {
                    together.entries.extend(change.entries);
                    records.push(done);
                } else {
                    let result = self.write(change).await;
                    let _ = done.send(result); // nobody waits any more
                }
            }
            if !records.is_empty() {
                let result = self.write(together).await;
                for done in records {
                    let _ = done.send(result);
                }
            }
        }
        let _ = self.connection.close().await; // checkpoints; the rows are safe without
    }

    /// One transaction, by statements: after an error that made SQLite roll back by itself, a full disk for one, the
    /// driver's own transactions would take it for still open and refuse all that follow.
    async fn write(&mut self, change: Change) -> Result<(), StoreError> {
        let changed = changed(&change);
        self.statement("BEGIN IMMEDIATE").await?;
        let mut result = self.apply(change, &changed).await;
        if result.is_ok() {
            result = self.statement("COMMIT").await;
        }
        if result.is_err() {
            let _ = self.statement("ROLLBACK").await; // fails where SQLite did it by itself
            return result;
        }
        if !changed.is_empty() {
            self.wake.send_modify(|count| *count = count.wrapping_add(1));
        }
        Ok(())
    }

    async fn apply(&mut self, change: Change, changed: &[Changed]) -> Result<(), StoreError> {
        let transaction = &mut self.connection;
        for write in change.writes {
            match write {
                Write::Extension { row, expected } => extension(transaction, row, expected).await?,
                Write::Installation { row, expected } => installation(transaction, row, expected).await?,
                Write::Secret { row, expected } => secret(transaction, row, expected).await?,
                Write::Token(row) => token(transaction, row).await?,
            }
        }
        feed(transaction, changed).await?;
        entries(transaction, &self.chain, change.entries).await
    }

    async fn statement(&mut self, sql: &'static str) -> Result<(), StoreError> {
        let done = sqlx::query(sql).execute(&mut self.connection).await;
        done.map(drop).map_err(failed)
    }
}

fn changed(change: &Change) -> Vec<Changed> {
    let touched = |write: &Write| match write {
        Write::Extension { row, .. } => Changed::Extension(row.id.clone()),
        Write::Installation { row, .. } => Changed::Installation(row.installation.id.clone()),
        Write::Secret { row, .. } => Changed::Secret(row.meta.slot.clone()),
        Write::Token(_) => Changed::Tokens,
    };
    change.writes.iter().map(touched).collect()
}

async fn extension(tx: &mut SqliteConnection, row: ExtensionRow, expected: Option<u64>) -> Result<(), StoreError> {
    let query = match expected {
        None => sqlx::query(
            "INSERT INTO extensions (id, document, version, mac, created_at, updated_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        ),
        Some(_) => sqlx::query(
            "UPDATE extensions SET document = ?2, version = ?3, mac = ?4, created_at = ?5, updated_at = ?6 \
             WHERE id = ?1 AND version = ?7",
        ),
    };
    let query = query
        .bind(row.id.as_str().to_owned())
        .bind(row.document)
        .bind(signed(row.version))
        .bind(row.mac)
        .bind(signed(row.created_at.0))
        .bind(signed(row.updated_at.0));
    one_row(
        match expected {
            None => query,
            Some(version) => query.bind(signed(version)),
        },
        tx,
    )
    .await
}

async fn installation(
    tx: &mut SqliteConnection,
    row: InstallationRow,
    expected: Option<u64>,
) -> Result<(), StoreError> {
    let query = match expected {
        None => sqlx::query(
            "INSERT INTO installations (id, extension, organization, project, product_installation, state, callback_url, \
             version, created_at, updated_at, mac) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        ),
        Some(_) => sqlx::query(
            "UPDATE installations SET extension = ?2, organization = ?3, project = ?4, product_installation = ?5, \
             state = ?6, callback_url = ?7, version = ?8, created_at = ?9, updated_at = ?10, mac = ?11 \
             WHERE id = ?1 AND version = ?12",
        ),
    };
    let InstallationRow { installation, mac } = row;
    let query = query
        .bind(installation.id.as_str().to_owned())
        .bind(installation.extension.as_str().to_owned())
        .bind(installation.organization.as_str().to_owned())
        .bind(installation.project.as_str().to_owned())
        .bind(installation.product_installation.map(|id| id.as_str().to_owned()))
        .bind(installation.state.name())
        .bind(installation.callback_url)
        .bind(signed(installation.version))
        .bind(signed(installation.created_at.0))
        .bind(signed(installation.updated_at.0))
        .bind(mac);
    one_row(
        match expected {
            None => query,
            Some(version) => query.bind(signed(version)),
        },
        tx,
    )
    .await
}

async fn secret(tx: &mut SqliteConnection, row: SecretRow, expected: Option<u64>) -> Result<(), StoreError> {
    let query = match expected {
        None => sqlx::query(
            "INSERT INTO secrets (owner, scope, scope_id, key, kind, version, rotation_count, last_rotated_at, \
             created_at, updated_at, expires_at, sealed, predecessor_version, predecessor_sealed, \
             predecessor_valid_until) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)",
        ),
        Some(_) => sqlx::query(
            "UPDATE secrets SET kind = ?5, version = ?6, rotation_count = ?7, last_rotated_at = ?8, created_at = ?9, \
             updated_at = ?10, expires_at = ?11, sealed = ?12, predecessor_version = ?13, predecessor_sealed = ?14, \
             predecessor_valid_until = ?15 \
             WHERE owner = ?1 AND scope = ?2 AND scope_id = ?3 AND key = ?4 AND version = ?16",
        ),
    };
    let SecretRow {
        meta,
        sealed,
        predecessor,
    } = row;
    let (old_version, old_sealed, old_valid_until) = match predecessor {
        None => (None, None, None),
        Some(old) => (
            Some(signed(old.version)),
            Some(old.sealed),
            Some(signed(old.valid_until.0)),
        ),
    };
    let query = query
        .bind(meta.slot.owner.as_str().to_owned())
        .bind(meta.slot.scope.name())
        .bind(meta.slot.scope_id.as_str().to_owned())
        .bind(meta.slot.key.as_str().to_owned())
        .bind(meta.kind.name())
        .bind(signed(meta.version))
        .bind(signed(meta.rotation_count))
        .bind(meta.last_rotated_at.map(|at| signed(at.0)))
        .bind(signed(meta.created_at.0))
        .bind(signed(meta.updated_at.0))
        .bind(meta.expires_at.map(|at| signed(at.0)))
        .bind(sealed)
        .bind(old_version)
        .bind(old_sealed)
        .bind(old_valid_until);
    one_row(
        match expected {
            None => query,
            Some(version) => query.bind(signed(version)),
        },
        tx,
    )
    .await
}

async fn token(tx: &mut SqliteConnection, row: TokenRow) -> Result<(), StoreError> {
    let query = sqlx::query(
        "INSERT INTO tokens (id, hash, name, role, organization, created_by, created_at, expires_at, mac) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
    );
    let query = query
        .bind(row.id)
        .bind(row.hash.to_vec())
        .bind(row.name)
        .bind(row.role.name())
        .bind(row.organization.map(|id| id.as_str().to_owned()))
        .bind(row.created_by)
        .bind(signed(row.created_at.0))
        .bind(row.expires_at.map(|at| signed(at.0)))
        .bind(row.mac);
    one_row(query, tx).await
}

type Query<'a> = sqlx::query::Query<'a, Sqlite, <Sqlite as sqlx::Database>::Arguments>;

/// Runs a write that touches one row, or conflicts.
async fn one_row(query: Query<'_>, tx: &mut SqliteConnection) -> Result<(), StoreError> {
    let done = query.execute(&mut *tx).await.map_err(failed)?;
    if done.rows_affected() == 1 {
        Ok(())
    } else {
        Err(StoreError::Conflict)
    }
}

async fn feed(tx: &mut SqliteConnection, changed: &[Changed]) -> Result<(), StoreError> {
    for changed in changed {
        let id = match changed {
            Changed::Extension(id) => Some(id.as_str()),
            Changed::Installation(id) => Some(id.as_str()),
            Changed::Everything | Changed::Secret(_) | Changed::Tokens => None,
        };
        let slot = match changed {
            Changed::Secret(slot) => Some(slot),
            Changed::Everything | Changed::Extension(_) | Changed::Installation(_) | Changed::Tokens => None,
        };
        let query =
            sqlx::query("INSERT INTO changes (kind, id, owner, scope, scope_id, key) VALUES (?1, ?2, ?3, ?4, ?5, ?6)");
        let query = query
            .bind(row::changed_kind(changed))
            .bind(id)
            .bind(slot.map(|slot| slot.owner.as_str()))
            .bind(slot.map(|slot| slot.scope.name()))
            .bind(slot.map(|slot| slot.scope_id.as_str()))
            .bind(slot.map(|slot| slot.key.as_str()));
        query.execute(&mut *tx).await.map_err(failed)?;
    }
    if !changed.is_empty() {
        let trim = "DELETE FROM changes WHERE position <= (SELECT MAX(position) FROM changes) - ?1";
        sqlx::query(trim)
            .bind(FEED_KEPT)
            .execute(&mut *tx)
            .await
            .map_err(failed)?;
    }
    Ok(())
}

/// Appends entries to their chains, each link over the one before.
async fn entries(tx: &mut SqliteConnection, key: &ChainKey, entries: Vec<AuditEntry>) -> Result<(), StoreError> {
    let mut heads: HashMap<String, (u64, [u8; 32])> = HashMap::new();
    for entry in entries {
        let chain = row::chain_of(entry.organization.as_ref()).to_owned();
        let (sequence, previous) = match heads.get(&chain) {
            Some(head) => *head,
            None => head(tx, &chain).await?,
        };
        let sequence = sequence.checked_add(1).ok_or(StoreError::Damaged)?;
        let mac = key.link(&previous, sequence, &entry);
        append(tx, &chain, sequence, &entry, &mac).await?;
        heads.insert(chain, (sequence, mac));
    }
    Ok(())
}

/// The last link of a chain, or where a chain begins.
async fn head(tx: &mut SqliteConnection, chain: &str) -> Result<(u64, [u8; 32]), StoreError> {
    let last = sqlx::query("SELECT sequence, mac FROM audit WHERE chain = ?1 ORDER BY sequence DESC LIMIT 1")
        .bind(chain)
        .fetch_optional(&mut *tx)
        .await
        .map_err(failed)?;
    last.map_or(Ok((0, GENESIS)), |last| {
        Ok((last.count("sequence")?, last.hash("mac")?))
    })
}

async fn append(
    tx: &mut SqliteConnection,
    chain: &str,
    sequence: u64,
    entry: &AuditEntry,
    mac: &[u8; 32],
) -> Result<(), StoreError> {
    let query = sqlx::query(
        "INSERT INTO audit (chain, sequence, at, actor_id, actor_name, action, source, outcome, scope, subject, key, \
         version, external, mac) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
    );
    let query = query
        .bind(chain)
        .bind(signed(sequence))
        .bind(signed(entry.at.0))
        .bind(entry.actor.id.as_str())
        .bind(entry.actor.name.as_str())
        .bind(entry.action.name())
        .bind(entry.source.name())
        .bind(entry.outcome.name())
        .bind(entry.scope.map(|scope| scope.name()))
        .bind(entry.subject.as_ref().map(|id| id.as_str()))
        .bind(entry.key.as_ref().map(|key| key.as_str()))
        .bind(entry.version.map(signed))
        .bind(i64::from(entry.external))
        .bind(&mac[..]);
    query.execute(&mut *tx).await.map(drop).map_err(failed)
}
