//! How keys, instances and leases are kept, and rows put under another key.
//!
//! Who seals into a row and who retires a key wait for each other: whoever comes second sees what the first one did.
//!
//! What is under a key is found by how it begins, without an index: to look all of 100,000 rows over takes 20 ms, and is
//! done while keys rotate. An index would make the file a third longer, and every write of a value several times slower.

use super::super::row::{self, signed};
use super::super::{InstanceRow, KekRow, KeyWrite, Listed, Page, Rewrap, SecretRow, StoreError, loaded};
use super::read::{after, listed, one_more};
use super::rows::{Query, one_row};
use super::{Connection, Pool, dialect, failed};
use crate::domain::scope::Slot;
use crate::domain::time::Timestamp;

/// A key's row; behind it stands what happens where there is one.
macro_rules! INSERT {
    () => {
        "INSERT INTO keks (id, head, tag, created_at, promotion, promoted_at, retired_at, unreadable, mac) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (id)"
    };
}

/// What those decide about who promote, retire, start with their keys or seal into rows.
const KEKS: &str = "keks";

pub(super) async fn write(tx: &mut Connection, write: KeyWrite) -> Result<(), StoreError> {
    match write {
        KeyWrite::InstanceSeen { row, gone_before } => instance_seen(tx, row, gone_before).await,
        KeyWrite::InstanceGone { id } => {
            let query = sqlx::query("DELETE FROM instances WHERE id = $1").bind(id);
            query.execute(tx).await.map(drop).map_err(failed)
        }
        KeyWrite::Promoted {
            row,
            others,
            after,
            alive_since,
        } => promote(tx, row, others, after, alive_since).await,
        KeyWrite::Retired { row } => retire(tx, row).await,
        KeyWrite::Rewrapped {
            slot,
            version,
            sealed,
            predecessor,
        } => rewrap(tx, &slot, version, sealed, predecessor).await,
        KeyWrite::Unreadable { id, rows } => {
            let query = sqlx::query("UPDATE keks SET unreadable = $2 WHERE id = $1");
            let query = query.bind(id).bind(signed(rows));
            query.execute(tx).await.map(drop).map_err(failed)
        }
        KeyWrite::Leased {
            name,
            holder,
            now,
            until,
        } => lease(tx, name, holder, now, until).await,
    }
}

/// Whoever starts with its keys says so before it looks which one is active: a promotion sees it, or is seen by it.
async fn instance_seen(tx: &mut Connection, row: InstanceRow, gone_before: Timestamp) -> Result<(), StoreError> {
    dialect::beside(tx, KEKS).await?;
    let forget = sqlx::query("DELETE FROM instances WHERE seen_at < $1 AND id <> $2");
    let forget = forget.bind(signed(gone_before.0)).bind(row.id.clone());
    forget.execute(&mut *tx).await.map_err(failed)?;
    let query = sqlx::query(
        "INSERT INTO instances (id, role, release, keks, started_at, seen_at) VALUES ($1, $2, $3, $4, $5, $6) \
         ON CONFLICT (id) DO UPDATE SET keks = excluded.keks, seen_at = excluded.seen_at",
    );
    let query = query
        .bind(row.id)
        .bind(row.role)
        .bind(row.release)
        .bind(row.keks.join(" "))
        .bind(signed(row.started_at.0))
        .bind(signed(row.seen_at.0));
    query.execute(&mut *tx).await.map(drop).map_err(failed)
}

async fn promote(
    tx: &mut Connection,
    row: KekRow,
    others: Vec<KekRow>,
    after: u64,
    alive_since: Timestamp,
) -> Result<(), StoreError> {
    dialect::alone(tx, KEKS).await?;
    if last_promotion(tx).await? != signed(after) {
        return Err(StoreError::Conflict);
    }
    let alive = sqlx::query("SELECT * FROM instances WHERE seen_at >= $1").bind(signed(alive_since.0));
    let alive = alive.fetch_all(&mut *tx).await.map_err(failed)?;
    let needed = loaded(&row.id, &row.tag);
    for instance in &alive {
        if !row::instance(instance)?.keks.contains(&needed) {
            return Err(StoreError::Conflict);
        }
    }
    for other in others {
        let query = insert(concat!(INSERT!(), " DO NOTHING"), other);
        query.execute(&mut *tx).await.map_err(failed)?;
    }
    let promoted = concat!(
        INSERT!(),
        " DO UPDATE SET promotion = excluded.promotion, promoted_at = excluded.promoted_at, mac = excluded.mac \
         WHERE keks.retired_at IS NULL AND keks.tag = excluded.tag"
    );
    one_row(insert(promoted, row), tx).await
}

async fn retire(tx: &mut Connection, row: KekRow) -> Result<(), StoreError> {
    dialect::alone(tx, KEKS).await?;
    let last = last_promotion(tx).await?;
    let is_used: bool = sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM secrets WHERE substr(sealed, 1, length($1)) = $1 \
         OR substr(predecessor_sealed, 1, length($1)) = $1)",
    )
    .bind(row.head.clone())
    .fetch_one(&mut *tx)
    .await
    .map_err(failed)?;
    // While nothing was promoted, each instance seals under what its own file says.
    if is_used || last == 0 || last == signed(row.promotion) {
        return Err(StoreError::Conflict);
    }
    let retired = concat!(
        INSERT!(),
        " DO UPDATE SET retired_at = excluded.retired_at, mac = excluded.mac, unreadable = 0 \
         WHERE keks.retired_at IS NULL AND keks.promotion = excluded.promotion"
    );
    one_row(insert(retired, row), tx).await
}

async fn last_promotion(tx: &mut Connection) -> Result<i64, StoreError> {
    sqlx::query_scalar("SELECT COALESCE(MAX(promotion), 0) FROM keks")
        .fetch_one(tx)
        .await
        .map_err(failed)
}

fn insert(sql: &'static str, row: KekRow) -> Query<'static> {
    sqlx::query(sql)
        .bind(row.id)
        .bind(row.head)
        .bind(row.tag)
        .bind(signed(row.created_at.0))
        .bind(signed(row.promotion))
        .bind(row.promoted_at.map(|at| signed(at.0)))
        .bind(row.retired_at.map(|at| signed(at.0)))
        .bind(signed(row.unreadable))
        .bind(row.mac)
}

/// Refuses what is sealed under a key that was retired, with a conflict: who sealed it did not know. To be asked before
/// the row is written, in its transaction.
pub(super) async fn must_not_be_retired(
    tx: &mut Connection,
    sealed: Option<&[u8]>,
    predecessor: Option<&[u8]>,
) -> Result<(), StoreError> {
    dialect::beside(tx, KEKS).await?;
    let is_retired: bool = sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM keks WHERE retired_at IS NOT NULL \
         AND (substr($1, 1, length(head)) = head OR substr($2, 1, length(head)) = head))",
    )
    .bind(sealed.map(<[u8]>::to_vec))
    .bind(predecessor.map(<[u8]>::to_vec))
    .fetch_one(tx)
    .await
    .map_err(failed)?;
    if is_retired { Err(StoreError::Conflict) } else { Ok(()) }
}

async fn rewrap(
    tx: &mut Connection,
    slot: &Slot,
    version: u64,
    sealed: Option<Rewrap>,
    predecessor: Option<Rewrap>,
) -> Result<(), StoreError> {
    let to = |rewrap: &Option<Rewrap>| rewrap.as_ref().map(|rewrap| rewrap.to.clone());
    let from = |rewrap: &Option<Rewrap>| rewrap.as_ref().map(|rewrap| rewrap.from.clone());
    must_not_be_retired(tx, to(&sealed).as_deref(), to(&predecessor).as_deref()).await?;
    let query = sqlx::query(
        "UPDATE secrets SET sealed = COALESCE($6, sealed), predecessor_sealed = COALESCE($8, predecessor_sealed) \
         WHERE owner = $1 AND scope = $2 AND scope_id = $3 AND key = $4 AND version = $5 \
         AND sealed = COALESCE($7, sealed) AND ($9 IS NULL OR predecessor_sealed = $9)",
    );
    let query = query
        .bind(slot.owner.as_str().to_owned())
        .bind(slot.scope.name())
        .bind(slot.scope_id.as_str().to_owned())
        .bind(slot.key.as_str().to_owned())
        .bind(signed(version))
        .bind(to(&sealed))
        .bind(from(&sealed))
        .bind(to(&predecessor))
        .bind(from(&predecessor));
    query.execute(tx).await.map(drop).map_err(failed)
}

async fn lease(
    tx: &mut Connection,
    name: String,
    holder: String,
    now: Timestamp,
    until: Timestamp,
) -> Result<(), StoreError> {
    let query = sqlx::query(
        "INSERT INTO leases (name, holder, held_until) VALUES ($1, $2, $4) ON CONFLICT (name) \
         DO UPDATE SET holder = excluded.holder, held_until = excluded.held_until \
         WHERE leases.holder = excluded.holder OR leases.held_until <= $3",
    );
    let query = query.bind(name).bind(holder).bind(signed(now.0)).bind(signed(until.0));
    one_row(query, tx).await
}

pub(super) async fn keks(pool: &Pool) -> Result<Vec<KekRow>, StoreError> {
    let rows = sqlx::query("SELECT * FROM keks ORDER BY created_at, id");
    let rows = rows.fetch_all(pool).await.map_err(failed)?;
    rows.iter().map(row::kek).collect()
}

pub(super) async fn instances(pool: &Pool) -> Result<Vec<InstanceRow>, StoreError> {
    let rows = sqlx::query("SELECT * FROM instances ORDER BY id");
    let rows = rows.fetch_all(pool).await.map_err(failed)?;
    rows.iter().map(row::instance).collect()
}

pub(super) async fn wrapped(pool: &Pool, head: &[u8], page: &Page) -> Result<Listed<SecretRow>, StoreError> {
    let rows = sqlx::query(
        "SELECT * FROM secrets WHERE position > $2 AND (substr(sealed, 1, length($1)) = $1 \
         OR substr(predecessor_sealed, 1, length($1)) = $1) ORDER BY position LIMIT $3",
    )
    .bind(head)
    .bind(after(page))
    .bind(one_more(page))
    .fetch_all(pool)
    .await
    .map_err(failed)?;
    listed(&rows, page, row::secret)
}

pub(super) async fn wrapped_count(pool: &Pool, head: &[u8]) -> Result<u64, StoreError> {
    let count: i64 = sqlx::query_scalar(
        "SELECT COUNT(*) FROM secrets WHERE substr(sealed, 1, length($1)) = $1 \
         OR substr(predecessor_sealed, 1, length($1)) = $1",
    )
    .bind(head)
    .fetch_one(pool)
    .await
    .map_err(failed)?;
    u64::try_from(count).map_err(|_| StoreError::Damaged)
}
