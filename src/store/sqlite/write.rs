//! What is written, by one task over one connection: a change with its audit entries and its feed entries, or nothing.
//!
//! A caller that goes away changes nothing about what it asked for. Audit entries that wait together go into one
//! transaction: with `synchronous=FULL` each of those costs a flush of the disk.

use std::fs::File;
use std::sync::Arc;

use sqlx::Connection;
use sqlx::sqlite::SqliteConnection;
use tokio::sync::{mpsc, oneshot, watch};

use super::super::{Change, OutboxRow, StoreError};
use super::{change, dialect, failed};
use crate::crypto::chain::ChainKey;
use crate::domain::audit::AuditEntry;
use crate::domain::time::Timestamp;

/// The most writes that wait; more are refused.
const QUEUE_MAX: usize = 1024;

/// The most waiting writes that are looked at together.
const TOGETHER_MAX: usize = 256;

/// The way to the writing task.
pub(super) struct Writer(mpsc::Sender<Order>);

type Done = oneshot::Sender<Result<(), StoreError>>;

enum Order {
    /// Writes, all or none.
    Commit { change: Change, done: Done },
    /// Takes due notices.
    Lease {
        now: Timestamp,
        until: Timestamp,
        limit: u32,
        leased: oneshot::Sender<Result<Vec<OutboxRow>, StoreError>>,
    },
}

impl Writer {
    /// Starts the task. It ends, and gives up the lock, when the last writer is gone. Over a connection that may only
    /// read there is no lock, and every write is refused.
    pub(super) fn start(
        connection: SqliteConnection,
        chain: ChainKey,
        wake: watch::Sender<u64>,
        lock: Option<Arc<File>>,
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
            .send(Order::Commit { change, done })
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

    pub(super) async fn lease(
        &self,
        now: Timestamp,
        until: Timestamp,
        limit: u32,
    ) -> Result<Vec<OutboxRow>, StoreError> {
        let (leased, answer) = oneshot::channel();
        let order = Order::Lease {
            now,
            until,
            limit,
            leased,
        };
        self.0.send(order).await.map_err(|_| StoreError::Unavailable)?;
        answer.await.unwrap_or(Err(StoreError::Unavailable))
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
            for order in orders.drain(..) {
                match order {
                    Order::Commit { change, done } if change.writes.is_empty() => {
                        together.entries.extend(change.entries);
                        records.push(done);
                    }
                    Order::Commit { change, done } => {
                        let result = self.write(change).await;
                        let _ = done.send(result); // nobody waits any more
                    }
                    Order::Lease {
                        now,
                        until,
                        limit,
                        leased,
                    } => {
                        let result = dialect::lease(&mut self.connection, now, until, limit).await;
                        let _ = leased.send(result); // not told to anyone, it is due again later
                    }
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
        let changed = change::changed(&change);
        self.statement("BEGIN IMMEDIATE").await?;
        let mut result = change::apply(&mut self.connection, &self.chain, change, &changed).await;
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

    async fn statement(&mut self, sql: &'static str) -> Result<(), StoreError> {
        let done = sqlx::query(sql).execute(&mut self.connection).await;
        done.map(drop).map_err(failed)
    }
}
