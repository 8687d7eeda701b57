//! What the next version of a secret is: sealed anew, counts gone on, the replaced one kept where it may come back.

use secrecy::{ExposeSecret, SecretString};

use super::{Asker, Content, ManageError, NewSecret, Overlap, SECRETS_PER_WRITE_MAX};
use crate::crypto::keyring::Keyring;
use crate::domain::audit::Action;
use crate::domain::reference::Reference;
use crate::domain::scope::{Owner, Slot};
use crate::domain::secret::{SecretKind, SecretMeta, VALUE_BYTES_MAX, successor};
use crate::domain::time::Timestamp;
use crate::secrets::linked::Linked;
use crate::store::{Predecessor, SecretRow};

/// How long a replaced value stays valid in signatures.
const OVERLAP_MILLIS: u64 = 24 * 60 * 60 * 1_000;

/// A row to write.
pub(super) struct Planned {
    pub(super) row: SecretRow,
    /// The version it replaces.
    pub(super) replaces: Option<u64>,
    pub(super) action: Action,
    /// Whether the slot had no value before.
    pub(super) is_first: bool,
}

impl Planned {
    /// Whether whoever uses the key has to hear of another value.
    pub(super) fn replaces_value(&self) -> bool {
        !self.is_first && self.action != Action::SecretDelete
    }
}

/// Whether so many secrets, of these sizes and at these slots, make one write.
pub(super) fn check(secrets: &[NewSecret], slots: &[Slot]) -> Result<(), ManageError> {
    let all_differ = slots
        .iter()
        .enumerate()
        .all(|(n, slot)| !slots.iter().skip(n + 1).any(|other| other == slot));
    if slots.is_empty() || slots.len() > SECRETS_PER_WRITE_MAX || !all_differ {
        return Err(ManageError::Count);
    }
    let is_partners =
        |new: &NewSecret| matches!((&new.slot.owner, &new.content), (Owner::Partner, Content::Reference(_)));
    if secrets.iter().any(is_partners) {
        return Err(ManageError::PartnerReference);
    }
    let fits = |new: &NewSecret| match &new.content {
        Content::Value(value) => (1..=VALUE_BYTES_MAX).contains(&value.expose_secret().len()),
        Content::Reference(_) => true,
    };
    if secrets.iter().all(fits) {
        Ok(())
    } else {
        Err(ManageError::Value)
    }
}

/// The row that takes a slot over.
pub(super) fn replacing(
    keyring: &Keyring,
    asker: &Asker,
    before: Option<&SecretRow>,
    new: &NewSecret,
    overlap: Overlap,
    now: Timestamp,
) -> Result<Planned, ManageError> {
    let is_first = before.is_none_or(|row| !has_value(row));
    let (kind, action) = match &new.content {
        Content::Reference(_) => (SecretKind::Reference, Action::SecretLink),
        Content::Value(_) if is_first => (SecretKind::Value, Action::SecretCreate),
        Content::Value(_) => (SecretKind::Value, Action::SecretRotate),
    };
    let meta = SecretMeta {
        expires_at: new.expires_at,
        contact: new
            .contact
            .clone()
            .or_else(|| before.and_then(|row| row.meta.contact.clone())),
        ..next(asker, before, &new.slot, kind, now)?
    };
    let sealed = match &new.content {
        Content::Value(value) => keyring.seal(&new.slot, kind, meta.version, value.expose_secret().as_bytes()),
        Content::Reference(reference) => {
            let text = Linked::new(reference.clone()).text();
            keyring.seal(&new.slot, kind, meta.version, text.as_bytes())
        }
    };
    let sealed = sealed.map_err(|_| ManageError::Seal)?;
    let predecessor = match overlap {
        Overlap::Keep => before.and_then(|row| predecessor(row, now)),
        Overlap::Revoke => None,
    };
    Ok(Planned {
        row: SecretRow {
            meta,
            sealed,
            predecessor,
        },
        replaces: before.map(|row| row.meta.version),
        action,
        is_first,
    })
}

/// The row that brings back what `before` replaced.
pub(super) fn returning(
    keyring: &Keyring,
    asker: &Asker,
    before: &SecretRow,
    now: Timestamp,
) -> Result<Planned, ManageError> {
    let old = before.predecessor.as_ref().ok_or(ManageError::NoPredecessor)?;
    let slot = &before.meta.slot;
    // Which kind it was is authenticated with it.
    let opened = [SecretKind::Value, SecretKind::Reference]
        .into_iter()
        .find_map(|kind| Some((kind, keyring.open(slot, kind, old.version, &old.sealed).ok()?)));
    let (kind, mut plaintext) = opened.ok_or(ManageError::Seal)?;
    if kind == SecretKind::Reference {
        // What was noted of its value then is not what stands there now.
        let linked = Linked::read(plaintext.expose_secret()).ok_or(ManageError::Seal)?;
        plaintext = SecretString::from(Linked::new(linked.reference).text());
    }
    let meta = next(asker, Some(before), slot, kind, now)?;
    let sealed = keyring.seal(slot, kind, meta.version, plaintext.expose_secret().as_bytes());
    Ok(Planned {
        row: SecretRow {
            meta,
            sealed: sealed.map_err(|_| ManageError::Seal)?,
            predecessor: predecessor(before, now),
        },
        replaces: Some(before.meta.version),
        action: Action::SecretRollback,
        is_first: false,
    })
}

/// The tombstone of a secret.
pub(super) fn burying(asker: &Asker, before: &SecretRow, now: Timestamp) -> Result<Planned, ManageError> {
    let meta = SecretMeta {
        kind: SecretKind::Tombstone,
        version: successor(before.meta.version).ok_or(ManageError::Exhausted)?,
        updated_at: now,
        expires_at: None,
        written_by: asker.actor.name.clone(),
        ..before.meta.clone()
    };
    Ok(Planned {
        row: SecretRow {
            meta,
            sealed: Vec::new(),
            predecessor: None,
        },
        replaces: Some(before.meta.version),
        action: Action::SecretDelete,
        is_first: false,
    })
}

/// What a row refers to, if it is as it was sealed.
pub(super) fn opened_reference(keyring: &Keyring, row: &SecretRow) -> Option<Reference> {
    let meta = &row.meta;
    let text = keyring.open(&meta.slot, meta.kind, meta.version, &row.sealed).ok()?;
    Linked::read(text.expose_secret()).map(|linked| linked.reference)
}

/// Versions and counts go on, tombstones' too; only what replaces a value is a rotation.
fn next(
    asker: &Asker,
    before: Option<&SecretRow>,
    slot: &Slot,
    kind: SecretKind,
    now: Timestamp,
) -> Result<SecretMeta, ManageError> {
    let version = before.map_or(Some(1), |row| successor(row.meta.version));
    let rotations = before.map_or(0, |row| row.meta.rotation_count);
    let is_rotation = before.is_some_and(has_value);
    let rotation_count = if is_rotation {
        successor(rotations)
    } else {
        Some(rotations)
    };
    Ok(SecretMeta {
        slot: slot.clone(),
        kind,
        version: version.ok_or(ManageError::Exhausted)?,
        rotation_count: rotation_count.ok_or(ManageError::Exhausted)?,
        last_rotated_at: if is_rotation {
            Some(now)
        } else {
            before.and_then(|row| row.meta.last_rotated_at)
        },
        created_at: before.map_or(now, |row| row.meta.created_at),
        updated_at: now,
        expires_at: None,
        written_by: asker.actor.name.clone(),
        contact: before.and_then(|row| row.meta.contact.clone()),
        last_used_at: before.and_then(|row| row.meta.last_used_at),
    })
}

/// What stays of a replaced secret. A reference can be gone back to, and was never what signed.
fn predecessor(row: &SecretRow, now: Timestamp) -> Option<Predecessor> {
    let valid_until = match row.meta.kind {
        SecretKind::Value => now.plus_millis(OVERLAP_MILLIS),
        SecretKind::Reference => now,
        SecretKind::Placeholder | SecretKind::Tombstone => return None,
    };
    Some(Predecessor {
        version: row.meta.version,
        sealed: row.sealed.clone(),
        valid_until,
    })
}

const fn has_value(row: &SecretRow) -> bool {
    matches!(row.meta.kind, SecretKind::Value | SecretKind::Reference)
}
