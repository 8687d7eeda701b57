//! In which order a transaction touches rows that are there: the same for all, so that no two ever hold what the other
//! waits for.
//!
//! The server would find such a pair after a second and end one of them. What is new comes before, in the order in
//! which it was given: lists show it so, and others may refer to it.

use super::super::{KeyWrite, Write};
use crate::domain::id::OrganizationId;
use crate::domain::provider::ProviderName;
use crate::domain::scope::Slot;

pub(super) fn sort(writes: &mut [Write]) {
    for write in &mut *writes {
        if let Write::SecretsUsed { slots, .. } = write {
            slots.sort_by_cached_key(secret);
        }
    }
    writes.sort_by_cached_key(place);
}

/// The table and the row in it; nothing for what is new.
fn place(write: &Write) -> (u8, Vec<u8>) {
    const NEW: (u8, Vec<u8>) = (0, Vec::new());
    match write {
        Write::Extension { expected: None, .. }
        | Write::Installation { expected: None, .. }
        | Write::Secret { expected: None, .. }
        | Write::Policy { expected: None, .. }
        | Write::Token(_)
        | Write::Outbox(_)
        | Write::Request(_)
        | Write::Checkpoint(_) => NEW,
        Write::Extension { row, .. } => (1, row.id.as_str().into()),
        Write::Installation { row, .. } => (2, row.installation.id.as_str().into()),
        Write::InstallationGone { id, .. } => (2, id.as_str().into()),
        Write::Secret { row, .. } => (3, secret(&row.meta.slot)),
        Write::SecretsUsed { slots, .. } => (3, slots.first().map(secret).unwrap_or_default()),
        Write::TokenGone { id } => (4, id.as_str().into()),
        Write::TokenUsed { id, .. } => (5, id.as_str().into()),
        Write::Policy { row, .. } => (6, row.organization.as_str().into()),
        Write::Alert { alert, .. } => (7, alert.dedup.as_str().into()),
        Write::AlertAcknowledged { id, .. } => (8, id.as_str().into()),
        Write::OutboxDone { id } | Write::OutboxLater { id, .. } => (9, id.as_str().into()),
        Write::RequestAnswered(row) => (10, row.id.into()),
        Write::RequestGone { id } => (10, id.into()),
        // Also where they are new: what goes makes room for what comes, and there is one default at any moment.
        Write::ProviderGone { organization, name, .. } => (12, provider(organization, "0", name)),
        Write::Provider { row, .. } if !row.is_default => (12, provider(&row.organization, "1", &row.name)),
        Write::Provider { row, .. } => (12, provider(&row.organization, "2", &row.name)),
        Write::AuditPruned { organization, .. } => {
            let chain = organization.as_ref().map(|id| id.as_str().into());
            (11, chain.unwrap_or_default())
        }
        Write::Keys(write) => match &**write {
            KeyWrite::Rewrapped { slot, .. } => (3, secret(slot)),
            KeyWrite::Promoted { row, .. } | KeyWrite::Retired { row } => (15, row.id.as_str().into()),
            KeyWrite::Unreadable { id, .. } => (15, id.as_str().into()),
            KeyWrite::InstanceSeen { row, .. } => (13, row.id.as_str().into()),
            KeyWrite::InstanceGone { id } => (13, id.as_str().into()),
            KeyWrite::Leased { name, .. } => (14, name.as_str().into()),
        },
    }
}

fn provider(organization: &OrganizationId, rank: &str, name: &ProviderName) -> Vec<u8> {
    [organization.as_str(), rank, name.as_str()].join("\0").into()
}

fn secret(slot: &Slot) -> Vec<u8> {
    let parts = [
        slot.owner.as_str(),
        slot.scope.name(),
        slot.scope_id.as_str(),
        slot.key.as_str(),
    ];
    parts.join("\0").into()
}
