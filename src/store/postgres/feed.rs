//! What commits touched, told to readers who stand at different places: may repeat, never misses.
//!
//! Rows become visible in the order of commits, not of their positions. A reader therefore stands at a transaction id
//! below which nothing is under way any more (`pg_snapshot_xmin` of the very query that read), and remembers what it
//! was told beyond that: a dump that runs for hours holds that id back, and would have every row told again and again.

use std::sync::Arc;

use sqlx::postgres::PgRow;

use super::super::position::Told;
use super::super::row::{self, Columns};
use super::super::{FeedPosition, StoreError};
use super::{Connection, Pool, failed};
use crate::domain::change::Changed;
use crate::domain::scope::Slot;

/// The channel of hints.
pub(super) const CHANNEL: &str = "kiket_changes";

/// The most changes that one read returns.
const CHANGES_MAX: i64 = 10_000;

/// How many changes are kept for those who read late. Who reads every second never comes too late.
const KEPT: i64 = 20_000;

/// The most gaps that a reader remembers; one with more is told again what it was told. Only what was rolled back, or
/// is under way, leaves a gap.
const GAPS_MAX: usize = 1_000;

pub(super) async fn read(pool: &Pool, after: FeedPosition) -> Result<(Vec<Changed>, FeedPosition), StoreError> {
    // Who is told again what it was told must still get to the end.
    let count_max = if after.told.len() < GAPS_MAX {
        CHANGES_MAX
    } else {
        i64::MAX
    };
    let (first, last): (Vec<i64>, Vec<i64>) = after.told.iter().map(|told| (told.first, told.last)).unzip();
    // One statement, so that the snapshot that it tells of is its own.
    let rows = sqlx::query(
        "SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS settled, \
         pg_snapshot_xmax(pg_current_snapshot())::text::bigint AS ahead, \
         (EXTRACT(EPOCH FROM pg_postmaster_start_time()) * 1000000)::bigint AS server, told.* \
         FROM (SELECT) AS one LEFT JOIN LATERAL \
         (SELECT position, written_by::text::bigint AS written_by, kind, id, owner, scope, scope_id, key FROM changes \
         WHERE changes.written_by >= $1::text::xid8 AND NOT EXISTS \
         (SELECT 1 FROM unnest($2, $3) AS known (first, last) WHERE position BETWEEN first AND last) \
         ORDER BY changes.written_by, position LIMIT $4) AS told ON TRUE ORDER BY told.written_by, told.position",
    )
    .bind(after.reached.to_string())
    .bind(first)
    .bind(last)
    .bind(count_max)
    .fetch_all(pool)
    .await
    .map_err(failed)?;
    let seen = rows.first().ok_or(StoreError::Damaged)?; // one row at least, by the join
    let (settled, ahead, server) = (seen.count("settled")?, seen.count("ahead")?, seen.number("server")?);
    let read = rows.iter().map(read_row).collect::<Result<Vec<_>, _>>()?;
    let read: Vec<_> = read.into_iter().flatten().collect();
    // A server that was started anew may have lost what it had not written yet, or be another one that had not heard
    // of it: ids of transactions that this reader knows are then given once more.
    let is_another = after.server.is_some_and(|known| known != server) || after.reached > ahead;
    if is_another {
        let now = FeedPosition {
            reached: settled,
            server: Some(server),
            told: Arc::default(),
        };
        return Ok((vec![Changed::Everything], now));
    }
    let newest = read.last().map(|(_, written_by, _)| *written_by);
    let is_page = i64::try_from(read.len()).is_ok_and(|count| count >= count_max);
    let reached = match newest {
        Some(newest) if is_page => settled.min(newest),
        _ => settled,
    };
    let rows = read.iter().map(|(position, written_by, _)| (*position, *written_by));
    let told = Told::with(&after.told, rows);
    let mut told: Vec<Told> = told.into_iter().filter(|told| told.newest >= reached).collect();
    told.truncate(GAPS_MAX);
    let position = FeedPosition {
        reached,
        server: Some(server),
        told: told.into(),
    };
    Ok((read.into_iter().map(|(_, _, changed)| changed).collect(), position))
}

/// A row's position, its transaction and what it says; `None` where the join found no row.
fn read_row(found: &PgRow) -> Result<Option<(i64, u64, Changed)>, StoreError> {
    let Some(position) = found.number_or_null("position")? else {
        return Ok(None);
    };
    Ok(Some((position, found.count("written_by")?, row::changed(found)?)))
}

/// Tells of changes with the transaction that makes them. The hint goes out when it commits, and only for changes:
/// all who hint wait for each other at their commits.
pub(super) async fn write(tx: &mut Connection, changed: &[Changed]) -> Result<(), StoreError> {
    if changed.is_empty() {
        return Ok(());
    }
    let id = |changed: &Changed| match changed {
        Changed::Extension(id) => Some(id.as_str().to_owned()),
        Changed::Installation(id) => Some(id.as_str().to_owned()),
        Changed::Providers(id) => Some(id.as_str().to_owned()),
        Changed::Everything | Changed::Secret(_) | Changed::Tokens | Changed::Keys => None,
    };
    let slot = |part: fn(&Slot) -> &str| -> Vec<Option<String>> {
        let of = |changed: &'_ Changed| match changed {
            Changed::Secret(slot) => Some(part(slot).to_owned()),
            Changed::Everything
            | Changed::Extension(_)
            | Changed::Installation(_)
            | Changed::Tokens
            | Changed::Providers(_)
            | Changed::Keys => None,
        };
        changed.iter().map(of).collect()
    };
    let query = sqlx::query(
        "WITH told AS (INSERT INTO changes (kind, id, owner, scope, scope_id, key) \
         SELECT * FROM unnest($1, $2, $3, $4, $5, $6)) SELECT pg_notify($7, '')",
    );
    let query = query
        .bind(changed.iter().map(row::changed_kind).collect::<Vec<_>>())
        .bind(changed.iter().map(id).collect::<Vec<_>>())
        .bind(slot(|slot| slot.owner.as_str()))
        .bind(slot(|slot| slot.scope.name()))
        .bind(slot(|slot| slot.scope_id.as_str()))
        .bind(slot(|slot| slot.key.as_str()))
        .bind(CHANNEL);
    query.execute(tx).await.map(drop).map_err(failed)
}

/// Removes old rows, of transactions only that nothing under way can still hide. In their place stands one row that
/// says `everything`, by the newest of their transactions: whoever has not read beyond it is told so.
pub(super) async fn trim(pool: &Pool) -> Result<(), StoreError> {
    let query = sqlx::query(
        "WITH gone AS (DELETE FROM changes WHERE position <= (SELECT MAX(position) FROM changes) - $1 \
         AND written_by < pg_snapshot_xmin(pg_current_snapshot()) RETURNING written_by::text::bigint AS written_by) \
         INSERT INTO changes (kind, written_by) SELECT $2, MAX(written_by)::text::xid8 FROM gone HAVING COUNT(*) > 0",
    );
    let query = query.bind(KEPT).bind(row::changed_kind(&Changed::Everything));
    query.execute(pool).await.map(drop).map_err(failed)
}
