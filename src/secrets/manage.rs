//! How secrets are written, linked, rotated, rolled back, deleted and listed: sealed before they reach the store,
//! recorded with the change.

mod versions;

use std::collections::HashMap;
use std::sync::Arc;

use secrecy::SecretString;

use crate::clock::Clock;
use crate::crypto::keyring::Keyring;
pub use crate::domain::audit::Asker;
use crate::domain::audit::{Action, AuditEntry};
use crate::domain::change::Changed;
use crate::domain::id::{OrganizationId, ScopeId};
use crate::domain::reference::Reference;
use crate::domain::scope::{Owner, Scope, Slot};
use crate::domain::secret::{SecretKind, SecretMeta};
use crate::domain::time::Timestamp;
use crate::keys::{self, KeksError};
use crate::store::{Change, Listed, Page, SecretQuery, SecretRow, SharedStore, StoreError, Tenancy, Write, rotated};
use versions::Planned;

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

/// What a secret consists of.
#[derive(Debug)]
pub enum Content {
    /// A value, to be sealed here.
    Value(SecretString),
    /// The name of a value that stands elsewhere.
    Reference(Reference),
}

/// A secret to write.
#[derive(Debug)]
pub struct NewSecret {
    /// Where.
    pub slot: Slot,
    /// What.
    pub content: Content,
    /// When it ends, if its author says so.
    pub expires_at: Option<Timestamp>,
    /// Whom to ask about it; stays as it is where `None`.
    pub contact: Option<String>,
}

/// A secret as it may be shown: all but its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secret {
    /// What stands in the slot.
    pub meta: SecretMeta,
    /// What it refers to, where it is a reference.
    pub reference: Option<Reference>,
}

/// What becomes of the value that a rotation replaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overlap {
    /// It stays valid in signatures for a day.
    Keep,
    /// It ends now, and cannot be rolled back to.
    Revoke,
}

/// What a write must find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Must {
    /// Whatever there is.
    Anything,
    /// Something to replace: a value, a reference or a placeholder.
    Something,
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The secrets as they now stand, in the order given.
    pub secrets: Vec<Secret>,
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
    /// Nothing was replaced yet, or what was is gone: a rollback has nothing to bring back.
    #[error("there is no previous version to go back to")]
    NoPredecessor,
    /// A partner's default that is a reference: every tenant would fetch it with its own credentials.
    #[error("a partner's default cannot be a reference")]
    PartnerReference,
    /// Its version or count is at its limit. The slot cannot be written any more.
    #[error("the secret's version is at its limit")]
    Exhausted,
    /// It could not be sealed, or what stands there does not open: the system's fault.
    #[error("the value could not be sealed or opened")]
    Seal,
}

impl SecretManager {
    /// A manager over these sources.
    #[must_use]
    pub fn new(store: SharedStore, keyring: Arc<Keyring>, clock: Arc<dyn Clock>) -> Self {
        Self { store, keyring, clock }
    }

    /// Creates or replaces secrets, all or none. `expected` is the version of the only one, if the caller insists.
    ///
    /// # Errors
    /// [`ManageError`].
    pub async fn set(
        &self,
        asker: &Asker,
        secrets: Vec<NewSecret>,
        expected: Option<u64>,
    ) -> Result<Written, ManageError> {
        self.write(asker, secrets, expected, Must::Anything, Overlap::Keep)
            .await
    }

    /// Replaces what is there; a placeholder gets its first value.
    ///
    /// # Errors
    /// [`ManageError`]; `Unknown` where nothing stands in the slot, not even a placeholder.
    pub async fn rotate(
        &self,
        asker: &Asker,
        secret: NewSecret,
        overlap: Overlap,
        expected: Option<u64>,
    ) -> Result<Written, ManageError> {
        self.write(asker, vec![secret], expected, Must::Something, overlap)
            .await
    }

    async fn write(
        &self,
        asker: &Asker,
        secrets: Vec<NewSecret>,
        expected: Option<u64>,
        must: Must,
        overlap: Overlap,
    ) -> Result<Written, ManageError> {
        let slots: Vec<Slot> = secrets.iter().map(|new| new.slot.clone()).collect();
        versions::check(&secrets, &slots)?;
        let new_scopes = self.new_scopes(&slots).await?;
        let plan = |standing: &[SecretRow], now| {
            let planned = secrets.iter().map(|new| {
                let before = standing.iter().find(|row| row.meta.slot == new.slot);
                expect(before, expected, must)?;
                versions::replacing(&self.keyring, asker, before, new, overlap, now)
            });
            planned.collect()
        };
        let planned = self.overtaking(asker, &slots, plan).await?;
        Ok(Written {
            new_scopes,
            created: planned.iter().any(|planned| planned.is_first),
            changed: slots.into_iter().map(Changed::Secret).collect(),
            secrets: planned.into_iter().map(|planned| self.shown(&planned.row)).collect(),
        })
    }

    /// Brings back what the last write replaced, as a new version; the current value becomes the previous one.
    ///
    /// # Errors
    /// [`ManageError`]; `Unknown` where there is no secret, `NoPredecessor` where it replaced none.
    pub async fn rollback(&self, asker: &Asker, slot: &Slot, expected: Option<u64>) -> Result<Written, ManageError> {
        let slots = std::slice::from_ref(slot);
        let plan = |standing: &[SecretRow], now| {
            let before = standing.first();
            expect(before, expected, Must::Something)?;
            let before = before.ok_or(ManageError::Unknown)?;
            Ok(vec![versions::returning(&self.keyring, asker, before, now)?])
        };
        let planned = self.overtaking(asker, slots, plan).await?;
        Ok(Written {
            secrets: planned.into_iter().map(|planned| self.shown(&planned.row)).collect(),
            new_scopes: vec![false],
            created: false,
            changed: vec![Changed::Secret(slot.clone())],
        })
    }

    /// Deletes a secret. A tombstone keeps its version and counts; its values are gone.
    ///
    /// # Errors
    /// [`ManageError`]; `Unknown` where there is none.
    pub async fn delete(&self, asker: &Asker, slot: &Slot, expected: Option<u64>) -> Result<Vec<Changed>, ManageError> {
        let plan = |standing: &[SecretRow], now| {
            let before = standing.first();
            expect(before, expected, Must::Something)?;
            let before = before.ok_or(ManageError::Unknown)?;
            Ok(vec![versions::burying(asker, before, now)?])
        };
        self.overtaking(asker, std::slice::from_ref(slot), plan).await?;
        Ok(vec![Changed::Secret(slot.clone())])
    }

    /// Commits what `plan` makes of the rows that stand, and plans again where someone else was faster: where the caller
    /// insists on a version, the next plan finds another one. Where the key was retired under which a value was sealed,
    /// the next plan seals under another.
    async fn overtaking(
        &self,
        asker: &Asker,
        slots: &[Slot],
        plan: impl Fn(&[SecretRow], Timestamp) -> Result<Vec<Planned>, ManageError> + Send + Sync,
    ) -> Result<Vec<Planned>, ManageError> {
        for _ in 0..OVERTAKEN_MAX {
            let standing = self.store.slots(slots).await?;
            let now = self.clock.now();
            let planned = plan(&standing, now)?;
            let mut change = Change::default();
            for one in &planned {
                change.entries.push(entry(asker, &one.row.meta, one.action, now));
                if one.replaces_value() {
                    change.writes.push(rotated(&one.row.meta));
                }
                change.writes.push(Write::Secret {
                    row: one.row.clone(),
                    expected: one.replaces,
                });
            }
            match self.store.commit(change).await {
                Ok(()) => return Ok(planned),
                Err(StoreError::Conflict) => self.learn_keys().await?,
                Err(error) => return Err(error.into()),
            }
        }
        Err(ManageError::Conflict)
    }

    /// Which key seals may have changed without this instance having learnt of it yet.
    async fn learn_keys(&self) -> Result<(), ManageError> {
        match keys::follow(&self.store, &self.keyring).await {
            Err(KeksError::Store(error)) => Err(error.into()),
            Err(error) => {
                tracing::error!(%error, "a write was overtaken, and the active key-encryption key cannot be followed");
                Ok(())
            }
            Ok(_) => Ok(()),
        }
    }

    /// A secret without its value.
    ///
    /// # Errors
    /// [`ManageError`].
    pub async fn get(&self, asker: &Asker, slot: &Slot) -> Result<Secret, ManageError> {
        let row = self.standing(slot).await?;
        self.store
            .record(vec![entry(asker, &row.meta, Action::SecretGet, self.clock.now())])
            .await?;
        Ok(self.shown(&row))
    }

    /// Whether there is such a secret. For those who are then refused its value.
    ///
    /// # Errors
    /// [`ManageError`]; `Unknown` where there is none.
    pub async fn must_stand(&self, slot: &Slot) -> Result<(), ManageError> {
        self.standing(slot).await.map(drop)
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
    ) -> Result<Listed<Secret>, ManageError> {
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
        Ok(Listed {
            rows: listed.rows.iter().map(|row| self.shown(row)).collect(),
            next: listed.next,
        })
    }

    /// A row as it may be shown. A reference that does not open is not shown: somebody moved or altered it.
    fn shown(&self, row: &SecretRow) -> Secret {
        let reference = (row.meta.kind == SecretKind::Reference)
            .then(|| versions::opened_reference(&self.keyring, row))
            .flatten();
        if row.meta.kind == SecretKind::Reference && reference.is_none() {
            tracing::error!("a stored reference does not authenticate");
        }
        Secret {
            meta: row.meta.clone(),
            reference,
        }
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

fn expect(before: Option<&SecretRow>, expected: Option<u64>, must: Must) -> Result<(), ManageError> {
    let standing = before
        .map(|row| &row.meta)
        .filter(|meta| meta.kind != SecretKind::Tombstone);
    if must == Must::Something && standing.is_none() {
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
