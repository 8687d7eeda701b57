//! What is read, each call in one snapshot.

use super::super::row::{self, Columns, signed};
use super::super::{
    ExtensionRow, InstallationRow, InstallationSnapshot, Listed, Page, PolicyRow, SecretQuery, SecretRow, StoreError,
    Tenancy, TokenRow,
};
use super::{Pool, Row, dialect, failed};
use crate::domain::id::{ExtensionId, InstallationId, OrganizationId, ScopeId};
use crate::domain::scope::Scope;
use crate::domain::secret::SecretKind;

/// Whether anything can be read.
pub(super) async fn anything(pool: &Pool) -> Result<(), StoreError> {
    sqlx::query("SELECT 1").execute(pool).await.map(drop).map_err(failed)
}

pub(super) async fn installation(pool: &Pool, id: &InstallationId) -> Result<Option<InstallationSnapshot>, StoreError> {
    let mut snapshot = pool.begin_with(dialect::SNAPSHOT).await.map_err(failed)?;
    let found = sqlx::query("SELECT * FROM installations WHERE id = $1")
        .bind(id.as_str())
        .fetch_optional(&mut *snapshot)
        .await
        .map_err(failed)?;
    let Some(found) = found else { return Ok(None) };
    let installation = row::installation(&found)?;
    let extension = sqlx::query("SELECT * FROM extensions WHERE id = $1")
        .bind(installation.installation.extension.as_str())
        .fetch_one(&mut *snapshot)
        .await
        .map_err(failed)?;
    Ok(Some(InstallationSnapshot {
        installation,
        extension: row::extension(&extension)?,
    }))
}

pub(super) async fn extension(pool: &Pool, id: &ExtensionId) -> Result<Option<ExtensionRow>, StoreError> {
    let query = sqlx::query("SELECT * FROM extensions WHERE id = $1").bind(id.as_str());
    query
        .fetch_optional(pool)
        .await
        .map_err(failed)?
        .as_ref()
        .map(row::extension)
        .transpose()
}

pub(super) async fn installations(
    pool: &Pool,
    tenancy: &Tenancy,
    page: &Page,
) -> Result<Listed<InstallationRow>, StoreError> {
    let rows = sqlx::query(
        "SELECT * FROM installations WHERE ($1 IS NULL OR organization = $1) AND position > $2 \
         ORDER BY position LIMIT $3",
    )
    .bind(owner(tenancy))
    .bind(after(page))
    .bind(one_more(page))
    .fetch_all(pool)
    .await
    .map_err(failed)?;
    listed(&rows, page, row::installation)
}

pub(super) async fn secrets(
    pool: &Pool,
    tenancy: &Tenancy,
    query: &SecretQuery,
    page: &Page,
) -> Result<Listed<SecretRow>, StoreError> {
    let rows = sqlx::query(
        "SELECT * FROM secrets WHERE ($1 IS NULL OR owner = $1) AND ($2 IS NULL OR scope = $2) \
         AND ($3 IS NULL OR scope_id = $3) AND ($4 IS NULL OR key = $4) AND kind <> $5 AND position > $6 \
         ORDER BY position LIMIT $7",
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
    pool: &Pool,
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
        "SELECT EXISTS (SELECT 1 FROM secrets WHERE owner = $1 AND scope = $2 AND scope_id = $3) \
         OR EXISTS (SELECT 1 FROM installations WHERE organization = $1 AND $3 = CASE $4 WHEN 'id' THEN id \
         WHEN 'product_installation' THEN product_installation WHEN 'extension' THEN extension \
         WHEN 'project' THEN project ELSE organization END) \
         OR ($4 = 'extension' AND EXISTS (SELECT 1 FROM extensions WHERE id = $3)) \
         OR ($4 = 'organization' AND EXISTS (SELECT 1 FROM tokens WHERE organization = $3)) \
         OR ($4 = 'organization' AND EXISTS (SELECT 1 FROM secrets WHERE owner = $3)) \
         OR ($4 = 'organization' AND EXISTS (SELECT 1 FROM providers WHERE organization = $3))",
    )
    .bind(organization.as_str())
    .bind(scope.name())
    .bind(id.as_str())
    .bind(installed)
    .fetch_one(pool)
    .await
    .map_err(failed)
}

pub(super) async fn token(pool: &Pool, hash: &[u8; 32]) -> Result<Option<TokenRow>, StoreError> {
    let query = sqlx::query("SELECT * FROM tokens WHERE hash = $1").bind(&hash[..]);
    query
        .fetch_optional(pool)
        .await
        .map_err(failed)?
        .as_ref()
        .map(row::token)
        .transpose()
}

pub(super) async fn token_by_id(pool: &Pool, id: &str) -> Result<Option<TokenRow>, StoreError> {
    let query = sqlx::query("SELECT * FROM tokens WHERE id = $1").bind(id);
    query
        .fetch_optional(pool)
        .await
        .map_err(failed)?
        .as_ref()
        .map(row::token)
        .transpose()
}

pub(super) async fn has_operator_token(pool: &Pool) -> Result<bool, StoreError> {
    sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM tokens WHERE role = $1)")
        .bind(super::super::Role::PlatformOperator.name())
        .fetch_one(pool)
        .await
        .map_err(failed)
}

pub(super) async fn tokens(pool: &Pool, tenancy: &Tenancy, page: &Page) -> Result<Listed<TokenRow>, StoreError> {
    let rows = sqlx::query(
        "SELECT * FROM tokens WHERE ($1 IS NULL OR organization = $1) AND position > $2 ORDER BY position LIMIT $3",
    )
    .bind(owner(tenancy))
    .bind(after(page))
    .bind(one_more(page))
    .fetch_all(pool)
    .await
    .map_err(failed)?;
    listed(&rows, page, row::token)
}

pub(super) async fn extensions(pool: &Pool, page: &Page) -> Result<Listed<ExtensionRow>, StoreError> {
    let rows = sqlx::query("SELECT * FROM extensions WHERE position > $1 ORDER BY position LIMIT $2")
        .bind(after(page))
        .bind(one_more(page))
        .fetch_all(pool)
        .await
        .map_err(failed)?;
    listed(&rows, page, row::extension)
}

pub(super) async fn organizations(pool: &Pool) -> Result<Vec<OrganizationId>, StoreError> {
    let named: Vec<String> = sqlx::query_scalar(
        "SELECT organization FROM installations UNION SELECT owner FROM secrets WHERE owner <> '' \
         UNION SELECT organization FROM tokens WHERE organization IS NOT NULL UNION SELECT organization FROM policies \
         UNION SELECT organization FROM providers ORDER BY 1",
    )
    .fetch_all(pool)
    .await
    .map_err(failed)?;
    named.iter().map(|id| Ok(OrganizationId::parse(id)?)).collect()
}

pub(super) async fn policy(pool: &Pool, id: &OrganizationId) -> Result<Option<PolicyRow>, StoreError> {
    let query = sqlx::query("SELECT * FROM policies WHERE organization = $1").bind(id.as_str());
    query
        .fetch_optional(pool)
        .await
        .map_err(failed)?
        .as_ref()
        .map(row::policy)
        .transpose()
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

pub(super) fn after(page: &Page) -> i64 {
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
    rows: &[Row],
    page: &Page,
    read: impl Fn(&Row) -> Result<T, StoreError>,
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
