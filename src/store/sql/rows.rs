//! How records of the registry, secrets, tokens and policies are written, each within its change's transaction.

use super::super::row::signed;
use super::super::{ExtensionRow, InstallationRow, PolicyRow, Role, SecretRow, StoreError, TokenRow};
use super::{Connection, Database, dialect, failed, keys};
use crate::domain::id::InstallationId;
use crate::domain::scope::Slot;
use crate::domain::time::Timestamp;

pub(super) async fn extension(tx: &mut Connection, row: ExtensionRow, expected: Option<u64>) -> Result<(), StoreError> {
    let query = match expected {
        None => sqlx::query(
            "INSERT INTO extensions (id, document, version, mac, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6)",
        ),
        Some(_) => sqlx::query(
            "UPDATE extensions SET document = $2, version = $3, mac = $4, created_at = $5, updated_at = $6 \
             WHERE id = $1 AND version = $7",
        ),
    };
    let query = query
        .bind(row.id.as_str().to_owned())
        .bind(row.document)
        .bind(signed(row.version))
        .bind(row.mac)
        .bind(signed(row.created_at.0))
        .bind(signed(row.updated_at.0));
    one_row(
        match expected {
            None => query,
            Some(version) => query.bind(signed(version)),
        },
        tx,
    )
    .await
}

pub(super) async fn installation(
    tx: &mut Connection,
    row: InstallationRow,
    expected: Option<u64>,
) -> Result<(), StoreError> {
    let query = match expected {
        None => sqlx::query(
            "INSERT INTO installations (id, extension, organization, project, product_installation, state, callback_url, \
             version, created_at, updated_at, mac, consent) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
        ),
        Some(_) => sqlx::query(
            "UPDATE installations SET extension = $2, organization = $3, project = $4, product_installation = $5, \
             state = $6, callback_url = $7, version = $8, created_at = $9, updated_at = $10, mac = $11, consent = $12 \
             WHERE id = $1 AND version = $13",
        ),
    };
    let InstallationRow {
        installation,
        consent,
        mac,
    } = row;
    let query = query
        .bind(installation.id.as_str().to_owned())
        .bind(installation.extension.as_str().to_owned())
        .bind(installation.organization.as_str().to_owned())
        .bind(installation.project.as_str().to_owned())
        .bind(installation.product_installation.map(|id| id.as_str().to_owned()))
        .bind(installation.state.name())
        .bind(installation.callback_url)
        .bind(signed(installation.version))
        .bind(signed(installation.created_at.0))
        .bind(signed(installation.updated_at.0))
        .bind(mac)
        .bind(consent);
    one_row(
        match expected {
            None => query,
            Some(version) => query.bind(signed(version)),
        },
        tx,
    )
    .await
}

pub(super) async fn secret(tx: &mut Connection, row: SecretRow, expected: Option<u64>) -> Result<(), StoreError> {
    let query = match expected {
        None => sqlx::query(
            "INSERT INTO secrets (owner, scope, scope_id, key, kind, version, rotation_count, last_rotated_at, \
             created_at, updated_at, expires_at, sealed, predecessor_version, predecessor_sealed, \
             predecessor_valid_until, written_by, contact) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)",
        ),
        Some(_) => sqlx::query(
            "UPDATE secrets SET kind = $5, version = $6, rotation_count = $7, last_rotated_at = $8, created_at = $9, \
             updated_at = $10, expires_at = $11, sealed = $12, predecessor_version = $13, predecessor_sealed = $14, \
             predecessor_valid_until = $15, written_by = $16, contact = $17 \
             WHERE owner = $1 AND scope = $2 AND scope_id = $3 AND key = $4 AND version = $18",
        ),
    };
    let SecretRow {
        meta,
        sealed,
        predecessor,
    } = row;
    let old_sealed = predecessor.as_ref().map(|old| old.sealed.as_slice());
    if !sealed.is_empty() || old_sealed.is_some() {
        keys::must_not_be_retired(tx, Some(&sealed), old_sealed).await?;
    }
    let (old_version, old_sealed, old_valid_until) = match predecessor {
        None => (None, None, None),
        Some(old) => (
            Some(signed(old.version)),
            Some(old.sealed),
            Some(signed(old.valid_until.0)),
        ),
    };
    let query = query
        .bind(meta.slot.owner.as_str().to_owned())
        .bind(meta.slot.scope.name())
        .bind(meta.slot.scope_id.as_str().to_owned())
        .bind(meta.slot.key.as_str().to_owned())
        .bind(meta.kind.name())
        .bind(signed(meta.version))
        .bind(signed(meta.rotation_count))
        .bind(meta.last_rotated_at.map(|at| signed(at.0)))
        .bind(signed(meta.created_at.0))
        .bind(signed(meta.updated_at.0))
        .bind(meta.expires_at.map(|at| signed(at.0)))
        .bind(sealed)
        .bind(old_version)
        .bind(old_sealed)
        .bind(old_valid_until)
        .bind(meta.written_by)
        .bind(meta.contact);
    one_row(
        match expected {
            None => query,
            Some(version) => query.bind(signed(version)),
        },
        tx,
    )
    .await
}

pub(super) async fn token(tx: &mut Connection, row: TokenRow) -> Result<(), StoreError> {
    let query = sqlx::query(
        "INSERT INTO tokens (id, hash, name, role, organization, created_by, created_at, expires_at, mac) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    );
    let query = query
        .bind(row.id)
        .bind(row.hash.to_vec())
        .bind(row.name)
        .bind(row.role.name())
        .bind(row.organization.map(|id| id.as_str().to_owned()))
        .bind(row.created_by)
        .bind(signed(row.created_at.0))
        .bind(row.expires_at.map(|at| signed(at.0)))
        .bind(row.mac);
    one_row(query, tx).await
}

pub(super) async fn installation_gone(
    tx: &mut Connection,
    id: &InstallationId,
    expected: u64,
) -> Result<(), StoreError> {
    let query = sqlx::query("DELETE FROM installations WHERE id = $1 AND version = $2");
    one_row(query.bind(id.as_str().to_owned()).bind(signed(expected)), tx).await
}

pub(super) async fn secrets_used(tx: &mut Connection, slots: &[Slot], at: Timestamp) -> Result<(), StoreError> {
    for slot in slots {
        let query = sqlx::query(
            "UPDATE secrets SET last_used_at = $5 WHERE owner = $1 AND scope = $2 AND scope_id = $3 AND key = $4 \
             AND COALESCE(last_used_at, 0) < $5",
        );
        let query = query
            .bind(slot.owner.as_str())
            .bind(slot.scope.name())
            .bind(slot.scope_id.as_str())
            .bind(slot.key.as_str())
            .bind(signed(at.0));
        query.execute(&mut *tx).await.map_err(failed)?;
    }
    Ok(())
}

/// The last operator's token that does not end stays: without one nobody could make another.
pub(super) async fn token_gone(tx: &mut Connection, id: &str) -> Result<(), StoreError> {
    dialect::alone(tx, Role::PlatformOperator.name()).await?;
    let query = sqlx::query(
        "DELETE FROM tokens WHERE id = $1 \
         AND (role <> $2 OR expires_at IS NOT NULL \
         OR EXISTS (SELECT 1 FROM tokens WHERE role = $2 AND id <> $1 AND expires_at IS NULL))",
    );
    let operator = Role::PlatformOperator.name();
    one_row(query.bind(id.to_owned()).bind(operator), tx).await
}

pub(super) async fn token_used(tx: &mut Connection, id: &str, at: Timestamp) -> Result<(), StoreError> {
    let query = sqlx::query("UPDATE tokens SET last_used_at = $2 WHERE id = $1")
        .bind(id)
        .bind(signed(at.0));
    query.execute(&mut *tx).await.map(drop).map_err(failed)
}

pub(super) async fn policy(tx: &mut Connection, row: PolicyRow, expected: Option<u64>) -> Result<(), StoreError> {
    let query = match expected {
        None => sqlx::query(
            "INSERT INTO policies (organization, rotation_max_age_days, read_threshold, read_window_secs, \
             delivery_read_threshold, unused_days, retention_days, webhook_url, webhook_signing_key, emails, version, \
             updated_at, mac) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
        ),
        Some(_) => sqlx::query(
            "UPDATE policies SET rotation_max_age_days = $2, read_threshold = $3, read_window_secs = $4, \
             delivery_read_threshold = $5, unused_days = $6, retention_days = $7, webhook_url = $8, \
             webhook_signing_key = $9, emails = $10, version = $11, updated_at = $12, mac = $13 \
             WHERE organization = $1 AND version = $14",
        ),
    };
    let PolicyRow {
        organization,
        policy,
        version,
        updated_at,
        mac,
    } = row;
    let query = query
        .bind(organization.as_str().to_owned())
        .bind(i64::from(policy.rotation_max_age_days))
        .bind(i64::from(policy.read_threshold))
        .bind(i64::from(policy.read_window_secs))
        .bind(policy.delivery_read_threshold.map(i64::from))
        .bind(policy.unused_days.map(i64::from))
        .bind(policy.retention_days.map(i64::from))
        .bind(policy.webhook_url)
        .bind(policy.webhook_signing_key)
        .bind(policy.emails.join(" "))
        .bind(signed(version))
        .bind(signed(updated_at.0))
        .bind(mac);
    one_row(
        match expected {
            None => query,
            Some(version) => query.bind(signed(version)),
        },
        tx,
    )
    .await
}

pub(super) type Query<'a> = sqlx::query::Query<'a, Database, <Database as sqlx::Database>::Arguments>;

/// Runs a write that touches one row, or conflicts.
pub(super) async fn one_row(query: Query<'_>, tx: &mut Connection) -> Result<(), StoreError> {
    let done = query.execute(&mut *tx).await.map_err(failed)?;
    if done.rows_affected() == 1 {
        Ok(())
    } else {
        Err(StoreError::Conflict)
    }
}
