//! How a change is applied within its transaction: its rows, what caches have to hear of, its audit entries.

use super::super::{Change, KeyWrite, StoreError, Write};
use super::{Connection, audit, dialect, keys, notices, providers, rows};
use crate::crypto::chain::ChainKey;
use crate::domain::audit::AuditEntry;
use crate::domain::change::Changed;

/// Applies a change that touches `changed`.
pub(super) async fn apply(
    tx: &mut Connection,
    chain: &ChainKey,
    change: Change,
    changed: &[Changed],
) -> Result<(), StoreError> {
    let Change { writes, mut entries } = change;
    for write in writes {
        apply_one(tx, write, &mut entries).await?;
    }
    dialect::feed(tx, changed).await?;
    audit::append(tx, chain, entries).await
}

/// A write of a change; one that brings an entry of its own adds it.
async fn apply_one(tx: &mut Connection, write: Write, entries: &mut Vec<AuditEntry>) -> Result<(), StoreError> {
    match write {
        Write::Extension { row, expected } => rows::extension(tx, row, expected).await,
        Write::Installation { row, expected } => rows::installation(tx, row, expected).await,
        Write::InstallationGone { id, expected } => rows::installation_gone(tx, &id, expected).await,
        Write::Secret { row, expected } => rows::secret(tx, row, expected).await,
        Write::SecretsUsed { slots, at } => rows::secrets_used(tx, &slots, at).await,
        Write::Token(row) => rows::token(tx, row).await,
        Write::TokenGone { id } => rows::token_gone(tx, &id).await,
        Write::TokenUsed { id, at } => rows::token_used(tx, &id, at).await,
        Write::Policy { row, expected } => rows::policy(tx, row, expected).await,
        Write::Provider { row, expected } => providers::put(tx, row, expected).await,
        Write::ProviderGone {
            organization,
            name,
            expected,
        } => providers::remove(tx, &organization, &name, expected).await,
        Write::Alert {
            alert,
            quiet_since,
            notices,
            entry,
        } => {
            if notices::raise(tx, alert, quiet_since).await? {
                for notice in notices {
                    notices::put_out(tx, notice).await?;
                }
                entries.push(entry);
            }
            Ok(())
        }
        Write::AlertAcknowledged { id, by, at } => notices::acknowledge(tx, id, by, at).await,
        Write::Outbox(row) => notices::put_out(tx, row).await,
        Write::OutboxDone { id } => notices::outbox_done(tx, &id).await,
        Write::OutboxLater { id, due_at } => notices::outbox_later(tx, &id, due_at).await,
        Write::Request(row) => notices::keep_request(tx, row).await,
        Write::RequestAnswered(row) => notices::answer_request(tx, row).await,
        Write::RequestGone { id } => notices::forget_request(tx, &id).await,
        Write::Keys(write) => keys::write(tx, *write).await,
        Write::Checkpoint(row) => audit::keep_checkpoint(tx, row).await,
        Write::AuditPruned { organization, up_to } => audit::prune(tx, organization.as_ref(), up_to).await,
    }
}

/// What caches have to hear of.
pub(super) fn changed(change: &Change) -> Vec<Changed> {
    let touched = |write: &Write| match write {
        Write::Extension { row, .. } => Some(Changed::Extension(row.id.clone())),
        Write::Installation { row, .. } => Some(Changed::Installation(row.installation.id.clone())),
        Write::InstallationGone { id, .. } => Some(Changed::Installation(id.clone())),
        Write::Secret { row, .. } => Some(Changed::Secret(row.meta.slot.clone())),
        Write::Token(_) | Write::TokenGone { .. } => Some(Changed::Tokens),
        Write::Provider { row, .. } => Some(Changed::Providers(row.organization.clone())),
        Write::ProviderGone { organization, .. } => Some(Changed::Providers(organization.clone())),
        Write::Keys(write) => match &**write {
            KeyWrite::Promoted { .. } | KeyWrite::Retired { .. } => Some(Changed::Keys),
            KeyWrite::InstanceSeen { .. }
            | KeyWrite::InstanceGone { .. }
            | KeyWrite::Rewrapped { .. }
            | KeyWrite::Unreadable { .. }
            | KeyWrite::Leased { .. } => None,
        },
        Write::SecretsUsed { .. }
        | Write::TokenUsed { .. }
        | Write::Policy { .. }
        | Write::Alert { .. }
        | Write::AlertAcknowledged { .. }
        | Write::Outbox(_)
        | Write::OutboxDone { .. }
        | Write::OutboxLater { .. }
        | Write::Request(_)
        | Write::RequestAnswered(_)
        | Write::RequestGone { .. }
        | Write::Checkpoint(_)
        | Write::AuditPruned { .. } => None,
    };
    change.writes.iter().filter_map(touched).collect()
}
