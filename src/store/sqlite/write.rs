//! What is written, by one task over one connection: a change with its audit entries and its feed entries, or nothing.
//!
//! A caller that goes away changes nothing about what it asked for. Audit entries that wait together go into one
//! transaction: with `synchronous=FULL` each of those costs a flush of the disk.

use std::fs::File;
use std::sync::Arc;

use sqlx::Connection;
use sqlx::sqlite::SqliteConnection;
use tokio::sync::{mpsc, oneshot, watch};

use super::super::row;
use super::super::{Change, OutboxRow, StoreError, Write};
use super::{audit, failed, notices, rows};
use crate::crypto::chain::ChainKey;
use crate::domain::audit::AuditEntry;
use crate::domain::change::Changed;
use crate::domain::time::Timestamp;

/// The most writes that wait; more are refused.
const QUEUE_MAX: usize = 1024;

/// The most waiting writes that are looked at together.
const TOGETHER_MAX: usize = 256;

/// How many changes the feed keeps for those who read it late.
const FEED_KEPT: i64 = 100_000;

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
                        let result = notices::lease(&mut self.connection, now, until, limit).await;
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
        let Change { writes, mut entries } = change;
        for write in writes {
            self.apply_one(write, &mut entries).await?;
        }
        feed(&mut self.connection, changed).await?;
        audit::append(&mut self.connection, &self.chain, entries).await
    }

    /// A write of a change; one that brings an entry of its own adds it.
    async fn apply_one(&mut self, write: Write, entries: &mut Vec<AuditEntry>) -> Result<(), StoreError> {
        let tx = &mut self.connection;
        match write {
            Write::Extension { row, expected } => rows::extension(tx, row, expected).await,
            Write::Installation { row, expected } => rows::installation(tx, row, expected).await,
            Write::InstallationGone { id, expected } => rows::installation_gone(tx, &id, expected).await,
            Write::Secret { row, expected } => rows::secret(tx, row, expected).await,
            Write::SecretsUsed { slots, at } => rows::secrets_used(tx, &slots, at).await,
            Write::Token(row) => rows::token(tx, row).await,
            Write::TokenGone { id } => rows::token_gone(tx, &id).await,
            Write::TokenUsed { id, at } => rows::token_used(tx, &id, at).await,
            Write::Policy { row, expected } => rows::policy(tx, row, expected).await,
            Write::Alert {
                alert,
                quiet_since,
                notices,
                entry,
            } => {
                if notices::raise(tx, alert, quiet_since).await? {
                    for notice in notices {
                        notices::put_out(tx, notice).await?;
                    }
                    entries.push(entry);
                }
                Ok(())
            }
            Write::AlertAcknowledged { id, by, at } => notices::acknowledge(tx, id, by, at).await,
            Write::Outbox(row) => notices::put_out(tx, row).await,
            Write::OutboxDone { id } => notices::outbox_done(tx, &id).await,
            Write::OutboxLater { id, due_at } => notices::outbox_later(tx, &id, due_at).await,
            Write::Request(row) => notices::keep_request(tx, row).await,
            Write::RequestAnswered(row) => notices::answer_request(tx, row).await,
            Write::RequestGone { id } => notices::forget_request(tx, &id).await,
            Write::Checkpoint(row) => audit::keep_checkpoint(tx, row).await,
            Write::AuditPruned { organization, up_to } => audit::prune(tx, organization.as_ref(), up_to).await,
        }
    }

    async fn statement(&mut self, sql: &'static str) -> Result<(), StoreError> {
        let done = sqlx::query(sql).execute(&mut self.connection).await;
        done.map(drop).map_err(failed)
    }
}

/// What caches have to hear of.
fn changed(change: &Change) -> Vec<Changed> {
    let touched = |write: &Write| match write {
        Write::Extension { row, .. } => Some(Changed::Extension(row.id.clone())),
        Write::Installation { row, .. } => Some(Changed::Installation(row.installation.id.clone())),
        Write::InstallationGone { id, .. } => Some(Changed::Installation(id.clone())),
        Write::Secret { row, .. } => Some(Changed::Secret(row.meta.slot.clone())),
        Write::Token(_) | Write::TokenGone { .. } => Some(Changed::Tokens),
        Write::SecretsUsed { .. }
        | Write::TokenUsed { .. }
        | Write::Policy { .. }
        | Write::Alert { .. }
        | Write::AlertAcknowledged { .. }
        | Write::Outbox(_)
        | Write::OutboxDone { .. }
        | Write::OutboxLater { .. }
        | Write::Request(_)
        | Write::RequestAnswered(_)
        | Write::RequestGone { .. }
        | Write::Checkpoint(_)
        | Write::AuditPruned { .. } => None,
    };
    change.writes.iter().filter_map(touched).collect()
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
