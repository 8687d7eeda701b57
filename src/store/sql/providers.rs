//! How an organization's providers are read and written.

use super::super::row::{self, signed};
use super::super::{PROVIDERS_MAX, ProviderRow, StoreError};
use super::rows::one_row;
use super::{Connection, Pool, failed};
use crate::domain::id::OrganizationId;
use crate::domain::provider::ProviderName;

/// More than there are: writers that did not see each other may have put in a few beyond the bound.
const READ_MAX: i64 = PROVIDERS_MAX * 2;

pub(super) async fn list(pool: &Pool, organization: &OrganizationId) -> Result<Vec<ProviderRow>, StoreError> {
    let rows = sqlx::query("SELECT * FROM providers WHERE organization = $1 ORDER BY name LIMIT $2")
        .bind(organization.as_str())
        .bind(READ_MAX)
        .fetch_all(pool)
        .await
        .map_err(failed)?;
    rows.iter().map(row::provider).collect()
}

/// One beyond the bound, or a second default, is a conflict.
pub(super) async fn put(tx: &mut Connection, row: ProviderRow, expected: Option<u64>) -> Result<(), StoreError> {
    let query = match expected {
        None => sqlx::query(
            "INSERT INTO providers (organization, name, document, is_default, version, created_at, updated_at, mac) \
             SELECT $1, $2, $3, $4, $5, $6, $7, $8 \
             WHERE (SELECT COUNT(*) FROM providers WHERE organization = $1) < $9",
        ),
        Some(_) => sqlx::query(
            "UPDATE providers SET document = $3, is_default = $4, version = $5, created_at = $6, updated_at = $7, \
             mac = $8 WHERE organization = $1 AND name = $2 AND version = $9",
        ),
    };
    let query = query
        .bind(row.organization.as_str().to_owned())
        .bind(row.name.as_str().to_owned())
        .bind(row.document)
        .bind(i64::from(row.is_default))
        .bind(signed(row.version))
        .bind(signed(row.created_at.0))
        .bind(signed(row.updated_at.0))
        .bind(row.mac);
    one_row(
        match expected {
            None => query.bind(PROVIDERS_MAX),
            Some(version) => query.bind(signed(version)),
        },
        tx,
    )
    .await
}

pub(super) async fn remove(
    tx: &mut Connection,
    organization: &OrganizationId,
    name: &ProviderName,
    expected: u64,
) -> Result<(), StoreError> {
    let query = sqlx::query("DELETE FROM providers WHERE organization = $1 AND name = $2 AND version = $3")
        .bind(organization.as_str().to_owned())
        .bind(name.as_str().to_owned())
        .bind(signed(expected));
    one_row(query, tx).await
}
