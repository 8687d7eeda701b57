//! How alerts, the outbox and named requests are kept.

use super::super::row::{self, Columns, chain_of, signed};
use super::super::{Listed, OutboxDepth, OutboxRow, Page, RequestRow, StoreError, Tenancy};
use super::read::{before, listed, one_more, owner};
use super::rows::one_row;
use super::{Connection, Pool, dialect, failed};
use crate::domain::alert::Alert;
use crate::domain::time::Timestamp;

/// Whether the alert was raised: not where one that says the same was lately.
pub(super) async fn raise(tx: &mut Connection, alert: Alert, quiet_since: Timestamp) -> Result<bool, StoreError> {
    dialect::alone(tx, &alert.dedup).await?;
    let query = sqlx::query(
        "INSERT INTO alerts (id, organization, kind, scope, subject, key, detail, dedup, raised_at) \
         SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9 WHERE NOT EXISTS \
         (SELECT 1 FROM alerts WHERE organization = $2 AND dedup = $8 AND raised_at > $10)",
    );
    let query = query
        .bind(alert.id)
        .bind(chain_of(alert.organization.as_ref()).to_owned())
        .bind(alert.kind.name())
        .bind(alert.scope.map(|scope| scope.name()))
        .bind(alert.subject.map(|id| id.as_str().to_owned()))
        .bind(alert.key.map(|key| key.as_str().to_owned()))
        .bind(alert.detail)
        .bind(alert.dedup)
        .bind(signed(alert.raised_at.0))
        .bind(signed(quiet_since.0));
    let done = query.execute(&mut *tx).await.map_err(failed)?;
    Ok(done.rows_affected() == 1)
}

pub(super) async fn acknowledge(tx: &mut Connection, id: String, by: String, at: Timestamp) -> Result<(), StoreError> {
    let query = sqlx::query(
        "UPDATE alerts SET acknowledged_at = $2, acknowledged_by = $3 WHERE id = $1 AND acknowledged_at IS NULL",
    );
    one_row(query.bind(id).bind(signed(at.0)).bind(by), tx).await
}

pub(super) async fn put_out(tx: &mut Connection, row: OutboxRow) -> Result<(), StoreError> {
    let query = sqlx::query(
        "INSERT INTO outbox (id, kind, organization, payload, created_at, due_at, attempts, leased_until) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, 0) ON CONFLICT (id) DO NOTHING",
    );
    let query = query
        .bind(row.id)
        .bind(row.kind)
        .bind(chain_of(row.organization.as_ref()).to_owned())
        .bind(row.payload)
        .bind(signed(row.created_at.0))
        .bind(signed(row.due_at.0))
        .bind(i64::from(row.attempts));
    query.execute(&mut *tx).await.map(drop).map_err(failed)
}

pub(super) async fn outbox_done(tx: &mut Connection, id: &str) -> Result<(), StoreError> {
    let query = sqlx::query("DELETE FROM outbox WHERE id = $1").bind(id);
    query.execute(&mut *tx).await.map(drop).map_err(failed)
}

pub(super) async fn outbox_later(tx: &mut Connection, id: &str, due_at: Timestamp) -> Result<(), StoreError> {
    let query = sqlx::query("UPDATE outbox SET due_at = $2, leased_until = 0 WHERE id = $1");
    let query = query.bind(id).bind(signed(due_at.0));
    query.execute(&mut *tx).await.map(drop).map_err(failed)
}

pub(super) async fn depth(pool: &Pool) -> Result<OutboxDepth, StoreError> {
    let found = sqlx::query("SELECT COUNT(*) AS waiting, MIN(created_at) AS oldest FROM outbox")
        .fetch_one(pool)
        .await
        .map_err(failed)?;
    Ok(OutboxDepth {
        waiting: found.count("waiting")?,
        oldest: found.moment_or_null("oldest")?,
    })
}

pub(super) async fn alerts(
    pool: &Pool,
    tenancy: &Tenancy,
    open_only: bool,
    page: &Page,
) -> Result<Listed<Alert>, StoreError> {
    let rows = sqlx::query(
        "SELECT * FROM alerts WHERE ($1 IS NULL OR organization = $1) AND ($2 = 0 OR acknowledged_at IS NULL) \
         AND position < $3 ORDER BY position DESC LIMIT $4",
    )
    .bind(owner(tenancy))
    .bind(i64::from(open_only))
    .bind(before(page))
    .bind(one_more(page))
    .fetch_all(pool)
    .await
    .map_err(failed)?;
    listed(&rows, page, row::alert)
}

pub(super) async fn alert(pool: &Pool, id: &str) -> Result<Option<Alert>, StoreError> {
    let query = sqlx::query("SELECT * FROM alerts WHERE id = $1").bind(id);
    query
        .fetch_optional(pool)
        .await
        .map_err(failed)?
        .as_ref()
        .map(row::alert)
        .transpose()
}

pub(super) async fn keep_request(tx: &mut Connection, row: RequestRow) -> Result<(), StoreError> {
    let forget = sqlx::query(dialect::FORGET_REQUESTS).bind(signed(row.created_at.0));
    forget.execute(&mut *tx).await.map_err(failed)?;
    let (status, body) = row
        .answer
        .map_or((None, None), |(status, body)| (Some(i64::from(status)), Some(body)));
    let query = sqlx::query(
        "INSERT INTO requests (id, asked, status, body, created_at, expires_at) VALUES ($1, $2, $3, $4, $5, $6)",
    );
    let query = query
        .bind(row.id.to_vec())
        .bind(row.asked.to_vec())
        .bind(status)
        .bind(body)
        .bind(signed(row.created_at.0))
        .bind(signed(row.expires_at.0));
    one_row(query, tx).await
}

pub(super) async fn answer_request(tx: &mut Connection, row: RequestRow) -> Result<(), StoreError> {
    let (status, body) = row
        .answer
        .map_or((None, None), |(status, body)| (Some(i64::from(status)), Some(body)));
    let query = sqlx::query("UPDATE requests SET status = $2, body = $3, expires_at = $4 WHERE id = $1");
    let query = query.bind(row.id.to_vec()).bind(status).bind(body);
    one_row(query.bind(signed(row.expires_at.0)), tx).await
}

pub(super) async fn forget_request(tx: &mut Connection, id: &[u8; 32]) -> Result<(), StoreError> {
    let query = sqlx::query("DELETE FROM requests WHERE id = $1").bind(id.to_vec());
    query.execute(&mut *tx).await.map(drop).map_err(failed)
}

pub(super) async fn request(pool: &Pool, id: &[u8; 32], now: Timestamp) -> Result<Option<RequestRow>, StoreError> {
    let query = sqlx::query("SELECT * FROM requests WHERE id = $1 AND expires_at > $2");
    let query = query.bind(&id[..]).bind(signed(now.0));
    query
        .fetch_optional(pool)
        .await
        .map_err(failed)?
        .as_ref()
        .map(row::request)
        .transpose()
}
