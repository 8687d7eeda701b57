//! How the audit log is written and read: entries in their chains, checkpoints, what was removed.

use std::collections::BTreeMap;

use sqlx::QueryBuilder;

use super::super::row::{self, Columns, chain_of, signed};
use super::super::{
    AuditQuery, ChainHead, CheckpointRow, LinkedEntry, Listed, Page, StoreError, Tenancy, UseCount, UseQuery,
};
use super::read::{before, listed, one_more, owner};
use super::{Connection, Database, Pool, dialect, failed};
use crate::crypto::chain::{ChainKey, GENESIS, Link};
use crate::domain::audit::{Action, AuditEntry, Outcome, Source};
use crate::domain::id::OrganizationId;
use crate::domain::time::Timestamp;

/// The most entries that one statement inserts: each has seventeen parameters, of which a statement may have so many.
const INSERTED_MAX: usize = 500;

/// Appends entries to their chains, each link over the one before. Belongs at the end of a transaction: the heads are
/// held from here on, in the order of their names, so that two writers never wait for each other.
pub(super) async fn append(tx: &mut Connection, key: &ChainKey, entries: Vec<AuditEntry>) -> Result<(), StoreError> {
    let mut heads: BTreeMap<String, (u64, [u8; 32])> = BTreeMap::new();
    for entry in &entries {
        heads
            .entry(chain_of(entry.organization.as_ref()).to_owned())
            .or_insert((0, GENESIS));
    }
    for (chain, head) in &mut heads {
        if let Some(standing) = dialect::head(tx, chain).await? {
            *head = standing;
        }
    }
    let mut links = Vec::with_capacity(entries.len());
    for entry in entries {
        let Some((sequence, hash)) = heads.get_mut(chain_of(entry.organization.as_ref())) else {
            continue; // every entry's chain was put in above
        };
        *sequence = sequence.checked_add(1).ok_or(StoreError::Damaged)?;
        let link = key.link(hash, *sequence, &entry);
        *hash = link.hash;
        links.push((*sequence, entry, link));
    }
    for together in links.chunks(INSERTED_MAX) {
        insert(tx, together).await?;
    }
    for (chain, (sequence, hash)) in heads {
        let query = sqlx::query(
            "INSERT INTO chain_heads (chain, sequence, hash) VALUES ($1, $2, $3) \
             ON CONFLICT (chain) DO UPDATE SET sequence = excluded.sequence, hash = excluded.hash",
        );
        let query = query.bind(chain).bind(signed(sequence)).bind(hash.to_vec());
        query.execute(&mut *tx).await.map_err(failed)?;
    }
    Ok(())
}

/// Inserts entries with one statement: while they are inserted, their chains are held.
async fn insert(tx: &mut Connection, links: &[(u64, AuditEntry, Link)]) -> Result<(), StoreError> {
    let mut query = QueryBuilder::<Database>::new(
        "INSERT INTO audit (chain, sequence, at, actor_id, actor_name, action, source, outcome, scope, subject, key, \
         version, external, destination, count, hash, mac) ",
    );
    query.push_values(links, |mut row, (sequence, entry, link)| {
        row.push_bind(chain_of(entry.organization.as_ref()))
            .push_bind(signed(*sequence))
            .push_bind(signed(entry.at.0))
            .push_bind(entry.actor.id.as_str())
            .push_bind(entry.actor.name.as_str())
            .push_bind(entry.action.name())
            .push_bind(entry.source.name())
            .push_bind(entry.outcome.name())
            .push_bind(entry.scope.map(|scope| scope.name()))
            .push_bind(entry.subject.as_ref().map(|id| id.as_str()))
            .push_bind(entry.key.as_ref().map(|key| key.as_str()))
            .push_bind(entry.version.map(signed))
            .push_bind(i64::from(entry.external))
            .push_bind(entry.delivered.as_ref().map(|delivered| delivered.destination.as_str()))
            .push_bind(entry.delivered.as_ref().map(|delivered| signed(delivered.count)))
            .push_bind(&link.hash[..])
            .push_bind(&link.mac[..]);
    });
    // The text for one entry is always the same, and worth keeping.
    let query = query.build().persistent(links.len() == 1);
    query.execute(&mut *tx).await.map(drop).map_err(failed)
}

pub(super) async fn keep_checkpoint(tx: &mut Connection, row: CheckpointRow) -> Result<(), StoreError> {
    let query = sqlx::query(
        "INSERT INTO checkpoints (chain, sequence, hash, at, signature) VALUES ($1, $2, $3, $4, $5) \
         ON CONFLICT (chain, sequence) DO NOTHING",
    );
    let CheckpointRow { checkpoint, signature } = row;
    let query = query
        .bind(chain_of(checkpoint.organization.as_ref()).to_owned())
        .bind(signed(checkpoint.sequence))
        .bind(checkpoint.hash.to_vec())
        .bind(signed(checkpoint.at.0))
        .bind(signature);
    query.execute(&mut *tx).await.map(drop).map_err(failed)
}

/// What goes must end at a checkpoint: the rest of the chain can then be verified from there.
pub(super) async fn prune(
    tx: &mut Connection,
    organization: Option<&OrganizationId>,
    up_to: u64,
) -> Result<(), StoreError> {
    let query = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM checkpoints WHERE chain = $1 AND sequence = $2)")
        .bind(chain_of(organization))
        .bind(signed(up_to));
    let is_checkpoint: bool = query.fetch_one(&mut *tx).await.map_err(failed)?;
    if !is_checkpoint {
        return Err(StoreError::Conflict);
    }
    dialect::take_time(tx).await?;
    let query = sqlx::query("DELETE FROM audit WHERE chain = $1 AND sequence <= $2")
        .bind(chain_of(organization))
        .bind(signed(up_to));
    query.execute(&mut *tx).await.map(drop).map_err(failed)
}

pub(super) async fn chain(
    pool: &Pool,
    organization: Option<&OrganizationId>,
    from: u64,
    limit: u32,
) -> Result<Vec<LinkedEntry>, StoreError> {
    let rows = sqlx::query("SELECT * FROM audit WHERE chain = $1 AND sequence >= $2 ORDER BY sequence LIMIT $3")
        .bind(chain_of(organization))
        .bind(signed(from))
        .bind(i64::from(limit))
        .fetch_all(pool)
        .await
        .map_err(failed)?;
    rows.iter().map(row::linked_entry).collect()
}

pub(super) async fn list(
    pool: &Pool,
    tenancy: &Tenancy,
    query: &AuditQuery,
    page: &Page,
) -> Result<Listed<LinkedEntry>, StoreError> {
    let rows = sqlx::query(
        "SELECT * FROM audit WHERE ($1 IS NULL OR chain = $1) AND ($2 IS NULL OR key = $2) \
         AND ($3 IS NULL OR action = $3) AND ($4 IS NULL OR source = $4) \
         AND ($5 IS NULL OR actor_id = $5 OR actor_name = $5) AND ($6 IS NULL OR at >= $6) AND ($7 IS NULL OR at < $7) \
         AND position < $8 ORDER BY position DESC LIMIT $9",
    )
    .bind(owner(tenancy))
    .bind(query.key.as_ref().map(|key| key.as_str()))
    .bind(query.action.map(Action::name))
    .bind(query.source.map(Source::name))
    .bind(query.actor.as_deref())
    .bind(query.since.map(|at| signed(at.0)))
    .bind(query.until.map(|at| signed(at.0)))
    .bind(before(page))
    .bind(one_more(page))
    .fetch_all(pool)
    .await
    .map_err(failed)?;
    listed(&rows, page, row::linked_entry)
}

pub(super) async fn uses(pool: &Pool, query: &UseQuery) -> Result<UseCount, StoreError> {
    let found = sqlx::query(
        "SELECT COUNT(*) FILTER (WHERE action = $6 OR (action = $7 AND source <> $8 AND outcome = $9)) AS reads, \
         CAST(COALESCE(SUM(CASE WHEN action = $10 THEN count ELSE 0 END), 0) AS BIGINT) AS deliveries, \
         MAX(at) AS last_at \
         FROM audit WHERE chain = $1 AND key = $2 AND at > $3 AND at <= $11 AND scope = $4 AND subject = $5",
    )
    .bind(query.organization.as_str())
    .bind(query.key.as_str())
    .bind(signed(query.after.0))
    .bind(query.scope.name())
    .bind(query.subject.as_str())
    .bind(Action::SecretGet.name())
    .bind(Action::SecretLoad.name())
    .bind(Source::Refresh.name())
    .bind(Outcome::Ok.name())
    .bind(Action::SecretDelivered.name())
    .bind(signed(query.up_to.0))
    .fetch_one(pool)
    .await
    .map_err(failed)?;
    Ok(UseCount {
        reads: found.count("reads")?,
        deliveries: found.count("deliveries")?,
        last_at: found.moment_or_null("last_at")?,
    })
}

pub(super) async fn chain_heads(pool: &Pool) -> Result<Vec<ChainHead>, StoreError> {
    let rows = sqlx::query("SELECT * FROM chain_heads ORDER BY chain")
        .fetch_all(pool)
        .await;
    rows.map_err(failed)?.iter().map(row::chain_head).collect()
}

pub(super) async fn chain_head(
    pool: &Pool,
    organization: Option<&OrganizationId>,
) -> Result<Option<ChainHead>, StoreError> {
    let query = sqlx::query("SELECT * FROM chain_heads WHERE chain = $1").bind(chain_of(organization));
    let row = query.fetch_optional(pool).await.map_err(failed)?;
    row.as_ref().map(row::chain_head).transpose()
}

pub(super) async fn chains(pool: &Pool) -> Result<Vec<Option<OrganizationId>>, StoreError> {
    let named: Vec<String> = sqlx::query_scalar(
        "SELECT chain FROM chain_heads UNION SELECT chain FROM checkpoints UNION SELECT chain FROM audit ORDER BY 1",
    )
    .fetch_all(pool)
    .await
    .map_err(failed)?;
    named.iter().map(|chain| row::organization(chain)).collect()
}

pub(super) async fn checkpoints(
    pool: &Pool,
    organization: Option<&OrganizationId>,
    from: u64,
    limit: u32,
) -> Result<Vec<CheckpointRow>, StoreError> {
    let rows = sqlx::query("SELECT * FROM checkpoints WHERE chain = $1 AND sequence >= $2 ORDER BY sequence LIMIT $3")
        .bind(chain_of(organization))
        .bind(signed(from))
        .bind(i64::from(limit))
        .fetch_all(pool)
        .await
        .map_err(failed)?;
    rows.iter().map(row::checkpoint).collect()
}

pub(super) async fn last_checkpoint(
    pool: &Pool,
    organization: Option<&OrganizationId>,
    before: Timestamp,
) -> Result<Option<CheckpointRow>, StoreError> {
    let query = sqlx::query("SELECT * FROM checkpoints WHERE chain = $1 AND at < $2 ORDER BY sequence DESC LIMIT 1")
        .bind(chain_of(organization))
        .bind(signed(before.0));
    let row = query.fetch_optional(pool).await.map_err(failed)?;
    row.as_ref().map(row::checkpoint).transpose()
}
