//! What PostgreSQL says in its own way: many slots asked at once, what feed and heads and leases do among many writers.

use tokio::time::timeout;

use super::super::SecretRow;
use super::super::row::{self, Columns, signed};
use super::super::{FeedPosition, OutboxRow, StoreError};
use super::{Connection, Pool, SILENT_MAX, failed, feed};
use crate::crypto::chain::GENESIS;
use crate::domain::change::Changed;
use crate::domain::scope::Slot;
use crate::domain::time::Timestamp;

/// Begins reading so that all statements see the same rows.
pub(super) const SNAPSHOT: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// Forgets named requests that have ended by `$1`, but for those that somebody else is forgetting.
pub(super) const FORGET_REQUESTS: &str = "DELETE FROM requests WHERE id IN \
     (SELECT id FROM requests WHERE expires_at <= $1 FOR UPDATE SKIP LOCKED)";

pub(super) async fn slots(pool: &Pool, slots: &[Slot]) -> Result<Vec<SecretRow>, StoreError> {
    let column = |part: fn(&Slot) -> &str| slots.iter().map(part).collect::<Vec<&str>>();
    let rows = sqlx::query(
        "SELECT secrets.* FROM (SELECT DISTINCT * FROM unnest($1, $2, $3, $4) AS asked (owner, scope, scope_id, key)) \
         AS asked JOIN secrets ON secrets.owner = asked.owner AND secrets.scope = asked.scope \
         AND secrets.scope_id = asked.scope_id AND secrets.key = asked.key",
    )
    .bind(column(|slot| slot.owner.as_str()))
    .bind(column(|slot| slot.scope.name()))
    .bind(column(|slot| slot.scope_id.as_str()))
    .bind(column(|slot| slot.key.as_str()))
    .fetch_all(pool)
    .await
    .map_err(failed)?;
    rows.iter().map(row::secret).collect()
}

pub(super) async fn changes(pool: &Pool, after: FeedPosition) -> Result<(Vec<Changed>, FeedPosition), StoreError> {
    feed::read(pool, after).await
}

pub(super) async fn feed(tx: &mut Connection, changed: &[Changed]) -> Result<(), StoreError> {
    feed::write(tx, changed).await
}

/// A call of the port that reads, with an end: a server that fell silent does not end its own statements.
pub(super) async fn within<T>(call: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    timeout(SILENT_MAX, call).await.unwrap_or(Err(StoreError::Unavailable))
}

/// Waits until nobody else decides about `what`, until the end of the transaction. The next statement sees what they
/// decided.
pub(super) async fn alone(tx: &mut Connection, what: &str) -> Result<(), StoreError> {
    let query = sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))").bind(what);
    query.execute(tx).await.map(drop).map_err(failed)
}

/// Waits until nobody decides about `what` alone, and keeps them waiting until the end of the transaction. The next
/// statement sees what they decided.
pub(super) async fn beside(tx: &mut Connection, what: &str) -> Result<(), StoreError> {
    let query = sqlx::query("SELECT pg_advisory_xact_lock_shared(hashtextextended($1, 0))").bind(what);
    query.execute(tx).await.map(drop).map_err(failed)
}

/// Lets the rest of the transaction take longer than other ones: it may touch millions of rows.
pub(super) async fn take_time(tx: &mut Connection) -> Result<(), StoreError> {
    let query = sqlx::query("SET LOCAL statement_timeout = '60s'");
    query.execute(tx).await.map(drop).map_err(failed)
}

/// The last link of a chain, held until the end of the transaction; `None` before its first.
pub(super) async fn head(tx: &mut Connection, chain: &str) -> Result<Option<(u64, [u8; 32])>, StoreError> {
    if let Some(standing) = held(tx, chain).await? {
        return Ok(Some(standing));
    }
    // A row that is not there cannot be held: of those who begin a chain together, one puts it there, and the others
    // wait for that one here.
    let begin = "INSERT INTO chain_heads (chain, sequence, hash) VALUES ($1, 0, $2) ON CONFLICT (chain) DO NOTHING";
    let begin = sqlx::query(begin).bind(chain).bind(&GENESIS[..]);
    begin.execute(&mut *tx).await.map_err(failed)?;
    held(tx, chain).await
}

async fn held(tx: &mut Connection, chain: &str) -> Result<Option<(u64, [u8; 32])>, StoreError> {
    let last = sqlx::query("SELECT sequence, hash FROM chain_heads WHERE chain = $1 FOR UPDATE")
        .bind(chain)
        .fetch_optional(&mut *tx)
        .await
        .map_err(failed)?;
    last.map(|last| Ok((last.count("sequence")?, last.hash("hash")?)))
        .transpose()
}

/// Notices that somebody else is taking are passed over.
pub(super) async fn lease(
    tx: &mut Connection,
    now: Timestamp,
    until: Timestamp,
    limit: u32,
) -> Result<Vec<OutboxRow>, StoreError> {
    let rows = sqlx::query(
        "WITH due AS MATERIALIZED (SELECT id FROM outbox WHERE due_at <= $1 AND leased_until <= $1 \
         ORDER BY due_at, id LIMIT $3 FOR UPDATE SKIP LOCKED) \
         UPDATE outbox SET leased_until = $2, attempts = attempts + 1 FROM due WHERE outbox.id = due.id \
         RETURNING outbox.*",
    )
    .bind(signed(now.0))
    .bind(signed(until.0))
    .bind(i64::from(limit))
    .fetch_all(&mut *tx)
    .await
    .map_err(failed)?;
    rows.iter().map(row::outbox).collect()
}
