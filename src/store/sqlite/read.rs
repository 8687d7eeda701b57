//! What is read, each call in one snapshot.

use sqlx::sqlite::{SqlitePool, SqliteRow};

use super::super::row::{self, Columns, signed};
use super::super::{
    ExtensionRow, FeedPosition, InstallationRow, InstallationSnapshot, Listed, Page, PolicyRow, SecretQuery, SecretRow,
    StoreError, Tenancy, TokenRow,
};
use super::failed;
use crate::domain::change::Changed;
use crate::domain::id::{ExtensionId, InstallationId, OrganizationId, ScopeId};
use crate::domain::scope::{Scope, Slot};
use crate::domain::secret::SecretKind;

/// The most changes that one read of the feed returns.
const CHANGES_MAX: i64 = 10_000;

pub(super) async fn installation(
    pool: &SqlitePool,
    id: &InstallationId,
) -> Result<Option<InstallationSnapshot>, StoreError> {
    let mut snapshot = pool.begin().await.map_err(failed)?;
    let found = sqlx::query("SELECT * FROM installations WHERE id = ?1")
        .bind(id.as_str())
        .fetch_optional(&mut *snapshot)
        .await
        .map_err(failed)?;
    let Some(found) = found else { return Ok(None) };
    let installation = row::installation(&found)?;
    let extension = sqlx::query("SELECT * FROM extensions WHERE id = ?1")
        .bind(installation.installation.extension.as_str())
        .fetch_one(&mut *snapshot)
        .await
        .map_err(failed)?;
    Ok(Some(InstallationSnapshot {
        installation,
        extension: row::extension(&extension)?,
    }))
}

pub(super) async fn extension(pool: &SqlitePool, id: &ExtensionId) -> Result<Option<ExtensionRow>, StoreError> {
    let query = sqlx::query("SELECT * FROM extensions WHERE id = ?1").bind(id.as_str());
    query
        .fetch_optional(pool)
        .await
        .map_err(failed)?
        .as_ref()
        .map(row::extension)
        .transpose()
}

pub(super) async fn installations(
    pool: &SqlitePool,
    tenancy: &Tenancy,
    page: &Page,
) -> Result<Listed<InstallationRow>, StoreError> {
    let rows = sqlx::query(
        "SELECT * FROM installations WHERE (?1 IS NULL OR organization = ?1) AND position > ?2 \
         ORDER BY position LIMIT ?3",
    )
    .bind(owner(tenancy))
    .bind(after(page))
    .bind(one_more(page))
    .fetch_all(pool)
    .await
    .map_err(failed)?;
    listed(&rows, page, row::installation)
}

pub(super) async fn slots(pool: &SqlitePool, slots: &[Slot]) -> Result<Vec<SecretRow>, StoreError> {
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
        "SELECT DISTINCT secrets.* FROM json_each(?1) AS asked JOIN secrets \
         ON secrets.owner = asked.value ->> 0 AND secrets.scope = asked.value ->> 1 \
         AND secrets.scope_id = asked.value ->> 2 AND secrets.key = asked.value ->> 3",
    )
    .bind(asked)
    .fetch_all(pool)
    .await
    .map_err(failed)?;
    rows.iter().map(row::secret).collect()
}

pub(super) async fn secrets(
    pool: &SqlitePool,
    tenancy: &Tenancy,
    query: &SecretQuery,
    page: &Page,
) -> Result<Listed<SecretRow>, StoreError> {
    let rows = sqlx::query(
        "SELECT * FROM secrets WHERE (?1 IS NULL OR owner = ?1) AND (?2 IS NULL OR scope = ?2) \
         AND (?3 IS NULL OR scope_id = ?3) AND (?4 IS NULL OR key = ?4) AND kind <> ?5 AND position > ?6 \
         ORDER BY position LIMIT ?7",
    )
    .bind(owner(tenancy))
    .bind(query.scope.map(Scope::name))
    .bind(query.scope_id.as_ref().map(ScopeId::as_str))
    .bind(query.key.as_ref().map(|key| key.as_str()))
    .bind(SecretKind::Tombstone.name())
    .bind(after(page))
    .bind(one_more(page))
    .fetch_all(pool)
    .await
    .map_err(failed)?;
    listed(&rows, page, |found| row::secret(found).map(without_value))
}

pub(super) async fn scope_known(
    pool: &SqlitePool,
    organization: &OrganizationId,
    scope: Scope,
    id: &ScopeId,
) -> Result<bool, StoreError> {
    let installed = match scope {
        Scope::ExtensionInstallation => "id",
        Scope::ProductInstallation => "product_installation",
        Scope::Extension => "extension",
        Scope::Project => "project",
        Scope::Organization => "organization",
    };
    sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM secrets WHERE owner = ?1 AND scope = ?2 AND scope_id = ?3) \
         OR EXISTS (SELECT 1 FROM installations WHERE organization = ?1 AND ?3 = CASE ?4 WHEN 'id' THEN id \
         WHEN 'product_installation' THEN product_installation WHEN 'extension' THEN extension \
         WHEN 'project' THEN project ELSE organization END) \
         OR (?4 = 'extension' AND EXISTS (SELECT 1 FROM extensions WHERE id = ?3)) \
         OR (?4 = 'organization' AND EXISTS (SELECT 1 FROM tokens WHERE organization = ?3)) \
         OR (?4 = 'organization' AND EXISTS (SELECT 1 FROM secrets WHERE owner = ?3))",
    )
    .bind(organization.as_str())
    .bind(scope.name())
    .bind(id.as_str())
    .bind(installed)
    .fetch_one(pool)
    .await
    .map_err(failed)
}

pub(super) async fn token(pool: &SqlitePool, hash: &[u8; 32]) -> Result<Option<TokenRow>, StoreError> {
    let query = sqlx::query("SELECT * FROM tokens WHERE hash = ?1").bind(&hash[..]);
    query
        .fetch_optional(pool)
        .await
        .map_err(failed)?
        .as_ref()
        .map(row::token)
        .transpose()
}

pub(super) async fn token_by_id(pool: &SqlitePool, id: &str) -> Result<Option<TokenRow>, StoreError> {
    let query = sqlx::query("SELECT * FROM tokens WHERE id = ?1").bind(id);
    query
        .fetch_optional(pool)
        .await
        .map_err(failed)?
        .as_ref()
        .map(row::token)
        .transpose()
}

pub(super) async fn has_operator_token(pool: &SqlitePool) -> Result<bool, StoreError> {
    sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM tokens WHERE role = ?1)")
        .bind(super::super::Role::PlatformOperator.name())
        .fetch_one(pool)
        .await
        .map_err(failed)
}

pub(super) async fn tokens(pool: &SqlitePool, tenancy: &Tenancy, page: &Page) -> Result<Listed<TokenRow>, StoreError> {
    let rows = sqlx::query(
        "SELECT * FROM tokens WHERE (?1 IS NULL OR organization = ?1) AND position > ?2 ORDER BY position LIMIT ?3",
    )
    .bind(owner(tenancy))
    .bind(after(page))
    .bind(one_more(page))
    .fetch_all(pool)
    .await
    .map_err(failed)?;
    listed(&rows, page, row::token)
}

pub(super) async fn extensions(pool: &SqlitePool, page: &Page) -> Result<Listed<ExtensionRow>, StoreError> {
    let rows = sqlx::query("SELECT * FROM extensions WHERE position > ?1 ORDER BY position LIMIT ?2")
        .bind(after(page))
        .bind(one_more(page))
        .fetch_all(pool)
        .await
        .map_err(failed)?;
    listed(&rows, page, row::extension)
}

pub(super) async fn organizations(pool: &SqlitePool) -> Result<Vec<OrganizationId>, StoreError> {
    let named: Vec<String> = sqlx::query_scalar(
        "SELECT organization FROM installations UNION SELECT owner FROM secrets WHERE owner <> '' \
         UNION SELECT organization FROM tokens WHERE organization IS NOT NULL UNION SELECT organization FROM policies \
         ORDER BY 1",
    )
    .fetch_all(pool)
    .await
    .map_err(failed)?;
    named.iter().map(|id| Ok(OrganizationId::parse(id)?)).collect()
}

pub(super) async fn policy(pool: &SqlitePool, id: &OrganizationId) -> Result<Option<PolicyRow>, StoreError> {
    let query = sqlx::query("SELECT * FROM policies WHERE organization = ?1").bind(id.as_str());
    query
        .fetch_optional(pool)
        .await
        .map_err(failed)?
        .as_ref()
        .map(row::policy)
        .transpose()
}

pub(super) async fn changes(
    pool: &SqlitePool,
    after: FeedPosition,
) -> Result<(Vec<Changed>, FeedPosition), StoreError> {
    let mut snapshot = pool.begin().await.map_err(failed)?;
    let reach = "SELECT (SELECT MIN(position) FROM changes) AS first, \
                 COALESCE((SELECT seq FROM sqlite_sequence WHERE name = 'changes'), 0) AS last";
    let reach = sqlx::query(reach).fetch_one(&mut *snapshot).await.map_err(failed)?;
    let last = reach.count("last")?;
    let first = match reach.number_or_null("first")? {
        None => last.saturating_add(1),
        Some(_) => reach.count("first")?,
    };
    // Trimmed away, or another database's position.
    let is_lost = after.0 > last || after.0.saturating_add(1) < first;
    if is_lost {
        return Ok((vec![Changed::Everything], FeedPosition(last)));
    }
    let rows = sqlx::query("SELECT * FROM changes WHERE position > ?1 ORDER BY position LIMIT ?2")
        .bind(signed(after.0))
        .bind(CHANGES_MAX)
        .fetch_all(&mut *snapshot)
        .await
        .map_err(failed)?;
    let reached = rows.last().map_or(Ok(after.0), |found| found.count("position"))?;
    let changes = rows.iter().map(row::changed).collect::<Result<_, _>>()?;
    Ok((changes, FeedPosition(reached)))
}

/// A list needs no values; references are shown.
fn without_value(row: SecretRow) -> SecretRow {
    let sealed = match row.meta.kind {
        SecretKind::Reference => row.sealed,
        SecretKind::Value | SecretKind::Placeholder | SecretKind::Tombstone => Vec::new(),
    };
    SecretRow {
        sealed,
        predecessor: None,
        ..row
    }
}

pub(super) fn owner(tenancy: &Tenancy) -> Option<&str> {
    match tenancy {
        Tenancy::Platform => None,
        Tenancy::Organization(organization) => Some(organization.as_str()),
    }
}

fn after(page: &Page) -> i64 {
    page.after.map_or(0, signed)
}

/// Where a list that goes back in time begins.
pub(super) fn before(page: &Page) -> i64 {
    page.after.map_or(i64::MAX, signed)
}

/// One row more than asked for tells whether there is a next page.
pub(super) fn one_more(page: &Page) -> i64 {
    i64::from(page.limit).saturating_add(1)
}

pub(super) fn listed<T>(
    rows: &[SqliteRow],
    page: &Page,
    read: impl Fn(&SqliteRow) -> Result<T, StoreError>,
) -> Result<Listed<T>, StoreError> {
    let limit = page.limit as usize;
    let shown = rows.get(..limit).unwrap_or(rows);
    let next = match shown.last() {
        Some(last) if rows.len() > limit => Some(last.count("position")?),
        _ => None,
    };
    Ok(Listed {
        rows: shown.iter().map(read).collect::<Result<_, _>>()?,
        next,
    })
}
