//! What SQLite says in its own way: many slots asked at once, the change feed, heads and leases under one writer.

use sqlx::sqlite::SqliteConnection;

use super::super::SecretRow;
use super::super::row::{self, Columns, signed};
use super::super::{FeedPosition, OutboxRow, StoreError};
use super::{Pool, failed};
use crate::domain::change::Changed;
use crate::domain::scope::Slot;
use crate::domain::time::Timestamp;

/// The most changes that one read of the feed returns.
const CHANGES_MAX: i64 = 10_000;

/// How many changes the feed keeps for those who read it late.
const FEED_KEPT: i64 = 100_000;

/// Begins reading so that all statements see the same rows.
pub(super) const SNAPSHOT: &str = "BEGIN";

/// Forgets named requests that have ended by `$1`.
pub(super) const FORGET_REQUESTS: &str = "DELETE FROM requests WHERE expires_at <= $1";

/// A call of the port that reads: it ends by itself, there is no network.
pub(super) async fn within<T>(call: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    call.await
}

/// Waits until nobody else decides about `what`, until the end of the transaction: there is one writer.
pub(super) async fn alone(_: &mut SqliteConnection, _what: &str) -> Result<(), StoreError> {
    Ok(())
}

/// Waits until nobody decides about `what` alone, and keeps them waiting until the end of the transaction.
pub(super) async fn beside(_: &mut SqliteConnection, _what: &str) -> Result<(), StoreError> {
    Ok(())
}

/// Lets the rest of the transaction take longer than other ones: nothing here ends a statement.
pub(super) async fn take_time(_: &mut SqliteConnection) -> Result<(), StoreError> {
    Ok(())
}

pub(super) async fn slots(pool: &Pool, slots: &[Slot]) -> Result<Vec<SecretRow>, StoreError> {
    let asked: Vec<[&str; 4]> = slots
        .iter()
        .map(|slot| {
            [
                slot.owner.as_str(),
                slot.scope.name(),
                slot.scope_id.as_str(),
                slot.key.as_str(),
            ]
        })
        .collect();
    let asked = serde_json::to_string(&asked).map_err(|_| StoreError::Damaged)?; // texts always serialize
    let rows = sqlx::query(
        "SELECT DISTINCT secrets.* FROM json_each($1) AS asked JOIN secrets \
         ON secrets.owner = asked.value ->> 0 AND secrets.scope = asked.value ->> 1 \
         AND secrets.scope_id = asked.value ->> 2 AND secrets.key = asked.value ->> 3",
    )
    .bind(asked)
    .fetch_all(pool)
    .await
    .map_err(failed)?;
    rows.iter().map(row::secret).collect()
}

pub(super) async fn changes(pool: &Pool, after: FeedPosition) -> Result<(Vec<Changed>, FeedPosition), StoreError> {
    let mut snapshot = pool.begin_with(SNAPSHOT).await.map_err(failed)?;
    let reach = "SELECT (SELECT MIN(position) FROM changes) AS first, \
                 COALESCE((SELECT seq FROM sqlite_sequence WHERE name = 'changes'), 0) AS last";
    let reach = sqlx::query(reach).fetch_one(&mut *snapshot).await.map_err(failed)?;
    let last = reach.count("last")?;
    let first = match reach.number_or_null("first")? {
        None => last.saturating_add(1),
        Some(_) => reach.count("first")?,
    };
    // Trimmed away, or another database's position.
    let is_lost = after.reached > last || after.reached.saturating_add(1) < first;
    if is_lost {
        return Ok((vec![Changed::Everything], FeedPosition::at(last)));
    }
    let rows = sqlx::query("SELECT * FROM changes WHERE position > $1 ORDER BY position LIMIT $2")
        .bind(signed(after.reached))
        .bind(CHANGES_MAX)
        .fetch_all(&mut *snapshot)
        .await
        .map_err(failed)?;
    let reached = rows.last().map_or(Ok(after.reached), |found| found.count("position"))?;
    let changes = rows.iter().map(row::changed).collect::<Result<_, _>>()?;
    Ok((changes, FeedPosition::at(reached)))
}

/// The last link of a chain; `None` before its first. There is one writer, so nobody moves it meanwhile.
pub(super) async fn head(tx: &mut SqliteConnection, chain: &str) -> Result<Option<(u64, [u8; 32])>, StoreError> {
    let last = sqlx::query("SELECT sequence, hash FROM chain_heads WHERE chain = $1")
        .bind(chain)
        .fetch_optional(&mut *tx)
        .await
        .map_err(failed)?;
    last.map(|last| Ok((last.count("sequence")?, last.hash("hash")?)))
        .transpose()
}

pub(super) async fn lease(
    tx: &mut SqliteConnection,
    now: Timestamp,
    until: Timestamp,
    limit: u32,
) -> Result<Vec<OutboxRow>, StoreError> {
    let rows = sqlx::query(
        "UPDATE outbox SET leased_until = $2, attempts = attempts + 1 WHERE id IN \
         (SELECT id FROM outbox WHERE due_at <= $1 AND leased_until <= $1 ORDER BY due_at, id LIMIT $3) RETURNING *",
    )
    .bind(signed(now.0))
    .bind(signed(until.0))
    .bind(i64::from(limit))
    .fetch_all(&mut *tx)
    .await
    .map_err(failed)?;
    rows.iter().map(row::outbox).collect()
}

pub(super) async fn feed(tx: &mut SqliteConnection, changed: &[Changed]) -> Result<(), StoreError> {
    for changed in changed {
        let id = match changed {
            Changed::Extension(id) => Some(id.as_str()),
            Changed::Installation(id) => Some(id.as_str()),
            Changed::Providers(id) => Some(id.as_str()),
            Changed::Everything | Changed::Secret(_) | Changed::Tokens | Changed::Keys => None,
        };
        let slot = match changed {
            Changed::Secret(slot) => Some(slot),
            Changed::Everything
            | Changed::Extension(_)
            | Changed::Installation(_)
            | Changed::Tokens
            | Changed::Providers(_)
            | Changed::Keys => None,
        };
        let query =
            sqlx::query("INSERT INTO changes (kind, id, owner, scope, scope_id, key) VALUES ($1, $2, $3, $4, $5, $6)");
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
        let trim = "DELETE FROM changes WHERE position <= (SELECT MAX(position) FROM changes) - $1";
        sqlx::query(trim)
            .bind(FEED_KEPT)
            .execute(&mut *tx)
            .await
            .map_err(failed)?;
    }
    Ok(())
}
