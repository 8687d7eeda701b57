//! How secrets are written, rotated, deleted and listed: sealed before they reach the store, recorded with the change.

use std::collections::HashMap;
use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};

use crate::clock::Clock;
use crate::crypto::keyring::Keyring;
use crate::domain::audit::{Action, Actor, AuditEntry, Source};
use crate::domain::change::Changed;
use crate::domain::id::{OrganizationId, ScopeId};
use crate::domain::scope::{Owner, Scope, Slot};
use crate::domain::secret::{SecretKind, SecretMeta, VALUE_BYTES_MAX};
use crate::domain::time::Timestamp;
use crate::store::{
    Change, Listed, Page, Predecessor, SecretQuery, SecretRow, SharedStore, StoreError, Tenancy, Write,
};

/// How long a replaced value stays valid in signatures.
const OVERLAP_MILLIS: u64 = 24 * 60 * 60 * 1_000;

/// How often a write is tried again that someone else overtook.
const OVERTAKEN_MAX: u32 = 8;

/// The most secrets of one write.
pub const SECRETS_PER_WRITE_MAX: usize = 200;

/// The use cases over secrets.
pub struct SecretManager {
    store: SharedStore,
    keyring: Arc<Keyring>,
    clock: Arc<dyn Clock>,
}

/// Who asks, and by which way: what the audit log says of it.
#[derive(Debug, Clone)]
pub struct Asker {
    /// Who.
    pub actor: Actor,
    /// By which way.
    pub source: Source,
}

impl Asker {
    /// What the audit log says of something that this asker did.
    #[must_use]
    pub fn entry(&self, organization: Option<OrganizationId>, at: Timestamp, action: Action) -> AuditEntry {
        AuditEntry::of(organization, at, self.actor.clone(), action, self.source)
    }
}

/// A value to write.
#[derive(Debug)]
pub struct NewValue {
    /// Where.
    pub slot: Slot,
    /// What.
    pub value: SecretString,
    /// When it ends, if its author says so.
    pub expires_at: Option<Timestamp>,
    /// Whom to ask about it; stays as it is where `None`.
    pub contact: Option<String>,
}

/// What becomes of the value that a rotation replaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overlap {
    /// It stays valid in signatures for a day.
    Keep,
    /// It ends now.
    Revoke,
}

/// What a write must find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Must {
    /// Whatever there is.
    Anything,
    /// A value or placeholder to replace.
    Value,
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The secrets as they now stand, in the order given.
    pub secrets: Vec<SecretMeta>,
    /// Whether each named an organization or scope id never seen before.
    pub new_scopes: Vec<bool>,
    /// Whether any slot had no value before.
    pub created: bool,
    /// What caches have to drop.
    pub changed: Vec<Changed>,
}

/// Why a secret was not written or read. Carries nothing of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ManageError {
    /// The store's fault. Retry as the store's error says.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Not 1 byte to 64 KiB.
    #[error("a value has 1 to 65536 bytes of UTF-8")]
    Value,
    /// Nothing, or the same slot twice, or too many at once.
    #[error("one write has 1 to 200 secrets, each slot once")]
    Count,
    /// No such secret, as far as the caller may see.
    #[error("there is no such secret")]
    Unknown,
    /// The secret is not at the version that the caller expected. Read it again.
    #[error("the secret was changed by someone else")]
    Conflict,
    /// It could not be sealed: the system's fault.
    #[error("the value could not be sealed")]
    Seal,
}

impl SecretManager {
    /// A manager over these sources.
    #[must_use]
    pub fn new(store: SharedStore, keyring: Arc<Keyring>, clock: Arc<dyn Clock>) -> Self {
        Self { store, keyring, clock }
    }

    /// Creates or replaces values, all or none. `expected` is the version of the only one, if the caller insists.
    ///
    /// # Errors
    /// [`ManageError`].
    pub async fn set(
        &self,
        asker: &Asker,
        values: Vec<NewValue>,
        expected: Option<u64>,
    ) -> Result<Written, ManageError> {
        self.write(asker, values, expected, Must::Anything, Overlap::Keep).await
    }

    /// Replaces what is there; a placeholder gets its first value.
    ///
    /// # Errors
    /// [`ManageError`]; `Unknown` where nothing stands in the slot, not even a placeholder.
    pub async fn rotate(
        &self,
        asker: &Asker,
        value: NewValue,
        overlap: Overlap,
        expected: Option<u64>,
    ) -> Result<Written, ManageError> {
        self.write(asker, vec![value], expected, Must::Value, overlap).await
    }

    async fn write(
        &self,
        asker: &Asker,
        values: Vec<NewValue>,
        expected: Option<u64>,
        must: Must,
        overlap: Overlap,
    ) -> Result<Written, ManageError> {
        let slots: Vec<Slot> = values.iter().map(|new| new.slot.clone()).collect();
        check(&values, &slots)?;
        let new_scopes = self.new_scopes(&slots).await?;
        for _ in 0..OVERTAKEN_MAX {
            let standing = self.store.slots(&slots).await?;
            let mut written = Written {
                secrets: Vec::new(),
                new_scopes: new_scopes.clone(),
                created: false,
                changed: Vec::new(),
            };
            let mut change = Change::default();
            for new in &values {
                let before = standing.iter().find(|row| row.meta.slot == new.slot);
                expect(before, expected, must)?;
                let row = self.replacing(asker, before, new, overlap)?;
                let is_first = before.is_none_or(|row| row.meta.kind != SecretKind::Value);
                let action = if is_first {
                    Action::SecretCreate
                } else {
                    Action::SecretRotate
                };
                written.created |= is_first;
                written.changed.push(Changed::Secret(new.slot.clone()));
                written.secrets.push(row.meta.clone());
                change.entries.push(entry(asker, &row.meta, action, self.clock.now()));
                change.writes.push(Write::Secret {
                    row,
                    expected: before.map(|row| row.meta.version),
                });
            }
            match self.store.commit(change).await {
                Ok(()) => return Ok(written),
                Err(StoreError::Conflict) if expected.is_none() => {}
                Err(StoreError::Conflict) => break,
                Err(error) => return Err(error.into()),
            }
        }
        Err(ManageError::Conflict)
    }

    /// The row that takes a slot over: versions and counts go on, a first value is no rotation.
    fn replacing(
        &self,
        asker: &Asker,
        before: Option<&SecretRow>,
        new: &NewValue,
        overlap: Overlap,
    ) -> Result<SecretRow, ManageError> {
        let now = self.clock.now();
        let version = before.map_or(1, |row| row.meta.version.saturating_add(1));
        let sealed = self
            .keyring
            .seal(
                &new.slot,
                SecretKind::Value,
                version,
                new.value.expose_secret().as_bytes(),
            )
            .map_err(|_| ManageError::Seal)?;
        let replaced = before.filter(|row| row.meta.kind == SecretKind::Value);
        let predecessor = replaced.filter(|_| overlap == Overlap::Keep).map(|row| Predecessor {
            version: row.meta.version,
            sealed: row.sealed.clone(),
            valid_until: now.plus_millis(OVERLAP_MILLIS),
        });
        let rotations = before.map_or(0, |row| row.meta.rotation_count);
        let meta = SecretMeta {
            slot: new.slot.clone(),
            kind: SecretKind::Value,
            version,
            rotation_count: if replaced.is_some() {
                rotations.saturating_add(1)
            } else {
                rotations
            },
            last_rotated_at: if replaced.is_some() {
                Some(now)
            } else {
                before.and_then(|row| row.meta.last_rotated_at)
            },
            created_at: before.map_or(now, |row| row.meta.created_at),
            updated_at: now,
            expires_at: new.expires_at,
            written_by: asker.actor.name.clone(),
            contact: new
                .contact
                .clone()
                .or_else(|| before.and_then(|row| row.meta.contact.clone())),
            last_used_at: before.and_then(|row| row.meta.last_used_at),
        };
        Ok(SecretRow {
            meta,
            sealed,
            predecessor,
        })
    }

    /// Deletes a secret. A tombstone keeps its version and counts; its values are gone.
    ///
    /// # Errors
    /// [`ManageError`]; `Unknown` where there is none.
    pub async fn delete(&self, asker: &Asker, slot: &Slot, expected: Option<u64>) -> Result<Vec<Changed>, ManageError> {
        for _ in 0..OVERTAKEN_MAX {
            let before = self.standing(slot).await?;
            expect(Some(&before), expected, Must::Anything)?;
            let now = self.clock.now();
            let replaced = before.meta.version;
            let meta = SecretMeta {
                kind: SecretKind::Tombstone,
                version: replaced.saturating_add(1),
                updated_at: now,
                expires_at: None,
                written_by: asker.actor.name.clone(),
                ..before.meta
            };
            let entries = vec![entry(asker, &meta, Action::SecretDelete, now)];
            let row = SecretRow {
                meta,
                sealed: Vec::new(),
                predecessor: None,
            };
            let writes = vec![Write::Secret {
                row,
                expected: Some(replaced),
            }];
            match self.store.commit(Change { writes, entries }).await {
                Ok(()) => return Ok(vec![Changed::Secret(slot.clone())]),
                Err(StoreError::Conflict) if expected.is_none() => {}
                Err(StoreError::Conflict) => break,
                Err(error) => return Err(error.into()),
            }
        }
        Err(ManageError::Conflict)
    }

    /// A secret without its value.
    ///
    /// # Errors
    /// [`ManageError`].
    pub async fn get(&self, asker: &Asker, slot: &Slot) -> Result<SecretMeta, ManageError> {
        let row = self.standing(slot).await?;
        self.store
            .record(vec![entry(asker, &row.meta, Action::SecretGet, self.clock.now())])
            .await?;
        Ok(row.meta)
    }

    /// The secrets that a tenancy may see, without their values.
    ///
    /// # Errors
    /// [`ManageError`].
    pub async fn list(
        &self,
        asker: &Asker,
        tenancy: &Tenancy,
        query: &SecretQuery,
        page: &Page,
    ) -> Result<Listed<SecretRow>, ManageError> {
        let listed = self.store.secrets(tenancy, query, page).await?;
        let organization = match tenancy {
            Tenancy::Platform => None,
            Tenancy::Organization(organization) => Some(organization.clone()),
        };
        let entry = AuditEntry {
            scope: query.scope,
            subject: query.scope_id.clone(),
            key: query.key.clone(),
            ..asker.entry(organization, self.clock.now(), Action::SecretList)
        };
        self.store.record(vec![entry]).await?;
        Ok(listed)
    }

    async fn standing(&self, slot: &Slot) -> Result<SecretRow, ManageError> {
        let rows = self.store.slots(std::slice::from_ref(slot)).await?;
        rows.into_iter()
            .find(|row| row.meta.kind != SecretKind::Tombstone)
            .ok_or(ManageError::Unknown)
    }

    /// For each slot, whether nothing of its organization named its scope id before. A partner's is not asked for.
    async fn new_scopes(&self, slots: &[Slot]) -> Result<Vec<bool>, ManageError> {
        let mut asked: HashMap<(&OrganizationId, Scope, &ScopeId), bool> = HashMap::new();
        let mut new_scopes = Vec::with_capacity(slots.len());
        for slot in slots {
            let Owner::Organization(organization) = &slot.owner else {
                new_scopes.push(false);
                continue;
            };
            let place = (organization, slot.scope, &slot.scope_id);
            let is_new = match asked.get(&place) {
                Some(is_new) => *is_new,
                None => !self.store.scope_known(organization, slot.scope, &slot.scope_id).await?,
            };
            asked.insert(place, is_new);
            new_scopes.push(is_new);
        }
        Ok(new_scopes)
    }
}

fn check(values: &[NewValue], slots: &[Slot]) -> Result<(), ManageError> {
    let all_differ = slots
        .iter()
        .enumerate()
        .all(|(n, slot)| !slots.iter().skip(n + 1).any(|other| other == slot));
    if slots.is_empty() || slots.len() > SECRETS_PER_WRITE_MAX || !all_differ {
        return Err(ManageError::Count);
    }
    let fits = |new: &NewValue| (1..=VALUE_BYTES_MAX).contains(&new.value.expose_secret().len());
    if values.iter().all(fits) {
        Ok(())
    } else {
        Err(ManageError::Value)
    }
}

fn expect(before: Option<&SecretRow>, expected: Option<u64>, must: Must) -> Result<(), ManageError> {
    let standing = before
        .map(|row| &row.meta)
        .filter(|meta| meta.kind != SecretKind::Tombstone);
    if must == Must::Value && standing.is_none() {
        return Err(ManageError::Unknown);
    }
    if expected.is_some() && expected != standing.map(|meta| meta.version) {
        return Err(ManageError::Conflict);
    }
    Ok(())
}

fn entry(asker: &Asker, meta: &SecretMeta, action: Action, at: Timestamp) -> AuditEntry {
    let organization = match &meta.slot.owner {
        Owner::Organization(organization) => Some(organization.clone()),
        Owner::Partner => None,
    };
    let is_external = meta.kind == SecretKind::Reference;
    asker
        .entry(organization, at, action)
        .about(&meta.slot, meta.version, is_external)
}
