//! What stands in a row's columns, from the record that was read: written by hand, once more, as a judge.

use std::collections::BTreeMap;

use super::{
    Cell, ChainHead, CheckpointRow, ExtensionRow, InstallationRow, InstanceRow, KekRow, LinkedEntry, OutboxRow,
    PolicyRow, ProviderRow, RequestRow, SecretRow, TokenRow,
};
use crate::domain::alert::Alert;
use crate::domain::id::OrganizationId;
use crate::domain::time::Timestamp;

/// A row by its columns.
pub(super) type Row = BTreeMap<&'static str, Cell>;

/// A row as it was asked for, less what may be written in several ways or says nothing.
pub(super) fn told(mut row: Row) -> Row {
    for list in ["emails", "keks"] {
        if let Some(Cell::Text(text)) = row.get_mut(list) {
            *text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        }
    }
    // An answer has both or is under way.
    if row.contains_key("asked") && (row["status"] == Cell::Null || row["body"] == Cell::Null) {
        row.extend([("status", Cell::Null), ("body", Cell::Null)]);
    }
    row
}

fn text(text: impl ToString) -> Cell {
    Cell::Text(text.to_string())
}

fn text_or_null(text: Option<impl ToString>) -> Cell {
    text.map_or(Cell::Null, self::text)
}

fn count(count: u64) -> Cell {
    Cell::Number(i64::try_from(count).expect("it came from one"))
}

fn moment(moment: Timestamp) -> Cell {
    count(moment.0)
}

fn moment_or_null(at: Option<Timestamp>) -> Cell {
    at.map_or(Cell::Null, moment)
}

/// An organization, or nobody in particular.
fn whose(organization: Option<&OrganizationId>) -> Cell {
    text(organization.map_or("", OrganizationId::as_str))
}

pub(super) fn extension(row: ExtensionRow) -> Row {
    Row::from([
        ("id", text(row.id)),
        ("document", text(row.document)),
        ("version", count(row.version)),
        ("mac", Cell::Bytes(row.mac)),
        ("created_at", moment(row.created_at)),
        ("updated_at", moment(row.updated_at)),
    ])
}

pub(super) fn installation(row: InstallationRow) -> Row {
    let record = row.installation;
    Row::from([
        ("id", text(record.id)),
        ("extension", text(record.extension)),
        ("organization", text(record.organization)),
        ("project", text(record.project)),
        ("product_installation", text_or_null(record.product_installation)),
        ("state", text(record.state.name())),
        ("callback_url", text_or_null(record.callback_url)),
        ("version", count(record.version)),
        ("created_at", moment(record.created_at)),
        ("updated_at", moment(record.updated_at)),
        ("consent", text_or_null(row.consent)),
        ("mac", Cell::Bytes(row.mac)),
    ])
}

pub(super) fn secret(row: SecretRow) -> Row {
    let (meta, slot) = (row.meta.clone(), row.meta.slot);
    let mut columns = Row::from([
        ("owner", text(slot.owner.as_str())),
        ("scope", text(slot.scope)),
        ("scope_id", text(slot.scope_id)),
        ("key", text(slot.key)),
        ("kind", text(meta.kind.name())),
        ("version", count(meta.version)),
        ("rotation_count", count(meta.rotation_count)),
        ("last_rotated_at", moment_or_null(meta.last_rotated_at)),
        ("created_at", moment(meta.created_at)),
        ("updated_at", moment(meta.updated_at)),
        ("expires_at", moment_or_null(meta.expires_at)),
        ("written_by", text(meta.written_by)),
        ("contact", text_or_null(meta.contact)),
        ("last_used_at", moment_or_null(meta.last_used_at)),
        ("sealed", Cell::Bytes(row.sealed)),
        ("predecessor_sealed", Cell::Null),
    ]);
    if let Some(predecessor) = row.predecessor {
        columns.extend([
            ("predecessor_sealed", Cell::Bytes(predecessor.sealed)),
            ("predecessor_version", count(predecessor.version)),
            ("predecessor_valid_until", moment(predecessor.valid_until)),
        ]);
    }
    columns
}

pub(super) fn token(row: TokenRow) -> Row {
    Row::from([
        ("id", text(row.id)),
        ("hash", Cell::Bytes(row.hash.to_vec())),
        ("name", text(row.name)),
        ("role", text(row.role.name())),
        ("organization", text_or_null(row.organization)),
        ("created_by", text(row.created_by)),
        ("created_at", moment(row.created_at)),
        ("expires_at", moment_or_null(row.expires_at)),
        ("last_used_at", moment_or_null(row.last_used_at)),
        ("mac", Cell::Bytes(row.mac)),
    ])
}

pub(super) fn policy(row: PolicyRow) -> Row {
    let policy = row.policy;
    let small = |number: u32| count(number.into());
    let small_or_null = |number: Option<u32>| number.map_or(Cell::Null, small);
    Row::from([
        ("organization", text(row.organization)),
        ("rotation_max_age_days", small(policy.rotation_max_age_days)),
        ("read_threshold", small(policy.read_threshold)),
        ("read_window_secs", small(policy.read_window_secs)),
        ("delivery_read_threshold", small_or_null(policy.delivery_read_threshold)),
        ("unused_days", small_or_null(policy.unused_days)),
        ("retention_days", small_or_null(policy.retention_days)),
        ("webhook_url", text_or_null(policy.webhook_url)),
        ("webhook_signing_key", text_or_null(policy.webhook_signing_key)),
        ("emails", text(policy.emails.join(" "))),
        ("version", count(row.version)),
        ("updated_at", moment(row.updated_at)),
        ("mac", Cell::Bytes(row.mac)),
    ])
}

pub(super) fn provider(row: ProviderRow) -> Row {
    Row::from([
        ("organization", text(row.organization)),
        ("name", text(row.name)),
        ("document", text(row.document)),
        ("is_default", Cell::Number(row.is_default.into())),
        ("version", count(row.version)),
        ("created_at", moment(row.created_at)),
        ("updated_at", moment(row.updated_at)),
        ("mac", Cell::Bytes(row.mac)),
    ])
}

pub(super) fn alert(alert: Alert) -> Row {
    Row::from([
        ("id", text(alert.id)),
        ("organization", whose(alert.organization.as_ref())),
        ("kind", text(alert.kind.name())),
        ("scope", text_or_null(alert.scope)),
        ("subject", text_or_null(alert.subject)),
        ("key", text_or_null(alert.key)),
        ("detail", text(alert.detail)),
        ("dedup", text(alert.dedup)),
        ("raised_at", moment(alert.raised_at)),
        ("acknowledged_at", moment_or_null(alert.acknowledged_at)),
        ("acknowledged_by", text_or_null(alert.acknowledged_by)),
    ])
}

pub(super) fn outbox(row: OutboxRow) -> Row {
    Row::from([
        ("id", text(row.id)),
        ("kind", text(row.kind)),
        ("organization", whose(row.organization.as_ref())),
        ("payload", text(row.payload)),
        ("created_at", moment(row.created_at)),
        ("due_at", moment(row.due_at)),
        ("attempts", count(row.attempts.into())),
    ])
}

pub(super) fn request(row: RequestRow) -> Row {
    let (status, body) = row.answer.map_or((Cell::Null, Cell::Null), |(status, body)| {
        (Cell::Number(status.into()), Cell::Bytes(body))
    });
    Row::from([
        ("id", Cell::Bytes(row.id.to_vec())),
        ("asked", Cell::Bytes(row.asked.to_vec())),
        ("status", status),
        ("body", body),
        ("created_at", moment(row.created_at)),
        ("expires_at", moment(row.expires_at)),
    ])
}

pub(super) fn kek(row: KekRow) -> Row {
    Row::from([
        ("id", text(row.id)),
        ("head", Cell::Bytes(row.head)),
        ("tag", Cell::Bytes(row.tag)),
        ("created_at", moment(row.created_at)),
        ("promotion", count(row.promotion)),
        ("promoted_at", moment_or_null(row.promoted_at)),
        ("retired_at", moment_or_null(row.retired_at)),
        ("unreadable", count(row.unreadable)),
        ("mac", Cell::Bytes(row.mac)),
    ])
}

pub(super) fn instance(row: InstanceRow) -> Row {
    Row::from([
        ("id", text(row.id)),
        ("role", text(row.role)),
        ("release", text(row.release)),
        ("keks", text(row.keks.join(" "))),
        ("started_at", moment(row.started_at)),
        ("seen_at", moment(row.seen_at)),
    ])
}

pub(super) fn checkpoint(row: CheckpointRow) -> Row {
    Row::from([
        ("chain", whose(row.checkpoint.organization.as_ref())),
        ("sequence", count(row.checkpoint.sequence)),
        ("hash", Cell::Bytes(row.checkpoint.hash.to_vec())),
        ("at", moment(row.checkpoint.at)),
        ("signature", Cell::Bytes(row.signature)),
    ])
}

pub(super) fn chain_head(head: ChainHead) -> Row {
    Row::from([
        ("chain", whose(head.organization.as_ref())),
        ("sequence", count(head.sequence)),
        ("hash", Cell::Bytes(head.hash.to_vec())),
    ])
}

pub(super) fn linked_entry(linked: LinkedEntry) -> Row {
    let entry = linked.entry;
    let (destination, times) = entry.delivered.map_or((Cell::Null, Cell::Null), |delivered| {
        (text(delivered.destination), count(delivered.count))
    });
    Row::from([
        ("position", count(linked.position)),
        ("sequence", count(linked.sequence)),
        ("hash", Cell::Bytes(linked.link.hash.to_vec())),
        ("mac", Cell::Bytes(linked.link.mac.to_vec())),
        ("chain", whose(entry.organization.as_ref())),
        ("at", moment(entry.at)),
        ("actor_id", text(entry.actor.id)),
        ("actor_name", text(entry.actor.name)),
        ("action", text(entry.action.name())),
        ("source", text(entry.source.name())),
        ("outcome", text(entry.outcome.name())),
        ("scope", text_or_null(entry.scope)),
        ("subject", text_or_null(entry.subject)),
        ("key", text_or_null(entry.key)),
        ("version", entry.version.map_or(Cell::Null, count)),
        ("external", Cell::Number(entry.external.into())),
        ("destination", destination),
        ("count", times),
    ])
}
