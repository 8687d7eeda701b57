//! How a key becomes the active one, and how one is given up.

use super::status::{Known, known};
use super::{KekRow, Keks, KeksError, KeyWrite, active, authentic, fresh, sealed};
use crate::crypto::envelope;
use crate::crypto::keyring::KeyId;
use crate::domain::audit::{Action, Asker, AuditEntry};
use crate::domain::change::Changed;
use crate::domain::id::ScopeId;
use crate::domain::time::Timestamp;
use crate::store::{Change, StoreError, Write, loaded};

/// How often a change is tried again that somebody else overtook.
const OVERTAKEN_MAX: u32 = 4;

/// What was done about a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyChange {
    /// What caches have to hear of; nothing where it was so before.
    pub changed: Vec<Changed>,
}

/// Why nothing was done about a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyChangeError {
    /// What the store says of keys cannot be used.
    #[error(transparent)]
    Keks(#[from] KeksError),
    /// Nobody knows such a key.
    #[error("there is no such key-encryption key")]
    Unknown,
    /// These live instances have not loaded it. Their keyring files have to get it first.
    #[error("these live instances have not loaded the key: {}", .0.join(", "))]
    NotLoaded(Vec<String>),
    /// A retired key does not come back.
    #[error("the key was retired: add a new one")]
    Retired,
    /// It seals.
    #[error("the key is the active one: promote another one first")]
    Active,
    /// As long as nothing was promoted, every instance seals under what its own file says.
    #[error("no key was promoted yet: promote the one that is to stay first")]
    NonePromoted,
    /// Rows are under it.
    #[error(
        "{rows} rows are still under the key{}",
        if *.unreadable > 0 {
            format!("; {} of them do not open and stay: replace them with `rotate --revoke-now`, or delete them", .unreadable)
        } else {
            String::from(", and are being put under the active one")
        }
    )]
    InUse {
        /// How many.
        rows: u64,
        /// How many of them do not open.
        unreadable: u64,
    },
    /// Others were faster again and again. Try again.
    #[error("the keys were changed by someone else")]
    Overtaken,
}

impl From<StoreError> for KeyChangeError {
    fn from(error: StoreError) -> Self {
        Self::Keks(error.into())
    }
}

impl Keks {
    /// Makes a key the one that seals, here at once and elsewhere as soon as the store tells of it. What others seal
    /// meanwhile under the former one is put under this one later.
    ///
    /// # Errors
    /// [`KeyChangeError`]; `NotLoaded` names the live instances that lack it.
    pub async fn promote(&self, asker: &Asker, id: &str) -> Result<KeyChange, KeyChangeError> {
        for _ in 0..OVERTAKEN_MAX {
            let rows = authentic(&self.store, &self.keyring).await?;
            let alive = self.alive().await?;
            let infos = self.keyring.kek_infos();
            let all = known(rows.clone(), infos.clone(), &alive);
            let known = all.get(id).ok_or(KeyChangeError::Unknown)?;
            if known.row.as_ref().is_some_and(|row| row.retired_at.is_some()) {
                return Err(KeyChangeError::Retired);
            }
            if active(&rows).is_some_and(|row| row.id == id) {
                return Ok(KeyChange { changed: Vec::new() });
            }
            let word = known.word(id);
            let has = |keks: &[String]| word.as_ref().is_some_and(|word| keks.contains(word));
            let mut lacking: Vec<String> = alive
                .iter()
                .filter(|instance| !has(&instance.keks))
                .map(|instance| instance.id.clone())
                .collect();
            let own = infos.iter().find(|info| info.id.as_str() == id);
            let Some(own) = own.filter(|own| word == Some(loaded(id, &own.tag.0))) else {
                if !lacking.contains(&self.instance) {
                    lacking.push(self.instance.clone());
                }
                return Err(KeyChangeError::NotLoaded(lacking));
            };
            if !lacking.is_empty() {
                return Err(KeyChangeError::NotLoaded(lacking));
            }
            let (now, after) = (self.clock.now(), active(&rows).map_or(0, |row| row.promotion));
            let row = KekRow {
                promotion: after.saturating_add(1),
                promoted_at: Some(now),
                ..known.row.clone().unwrap_or_else(|| fresh(&self.keyring, own))
            };
            let others = infos.iter().filter(|info| info.id != own.id);
            let promoted = KeyWrite::Promoted {
                row: sealed(&self.keyring, row),
                others: others.map(|info| fresh(&self.keyring, info)).collect(),
                after,
                alive_since: self.alive_since(),
            };
            if self.commit(asker, Action::KeyPromote, id, promoted, now).await? {
                let _ = self.keyring.activate(id, after.saturating_add(1)); // it is loaded, and a later promotion stays
                self.learnt.notify_one();
                return Ok(KeyChange {
                    changed: vec![Changed::Keys],
                });
            }
        }
        Err(KeyChangeError::Overtaken)
    }

    /// Gives a key up: from now on the store takes nothing that is sealed under it, and no instance needs it.
    ///
    /// # Errors
    /// [`KeyChangeError`].
    pub async fn retire(&self, asker: &Asker, id: &str) -> Result<KeyChange, KeyChangeError> {
        for _ in 0..OVERTAKEN_MAX {
            let rows = authentic(&self.store, &self.keyring).await?;
            let alive = self.alive().await?;
            let mut all = known(rows.clone(), self.keyring.kek_infos(), &alive);
            let known = all.remove(id).ok_or(KeyChangeError::Unknown)?;
            if known.row.as_ref().is_some_and(|row| row.retired_at.is_some()) {
                return Ok(KeyChange { changed: Vec::new() });
            }
            let now = self.clock.now();
            let row = self.to_retire(id, known, now).ok_or(KeyChangeError::Unknown)?;
            match active(&rows) {
                None => return Err(KeyChangeError::NonePromoted),
                Some(active) if active.id == id => return Err(KeyChangeError::Active),
                Some(_) => {}
            }
            let in_use = self.store.wrapped_count(&row.head).await?;
            if in_use > 0 {
                return Err(KeyChangeError::InUse {
                    rows: in_use,
                    unreadable: row.unreadable.min(in_use),
                });
            }
            let retired = KeyWrite::Retired {
                row: sealed(&self.keyring, row),
            };
            if self.commit(asker, Action::KeyRetire, id, retired, now).await? {
                return Ok(KeyChange {
                    changed: vec![Changed::Keys],
                });
            }
        }
        Err(KeyChangeError::Overtaken)
    }

    /// The row of a key with the moment of its end.
    fn to_retire(&self, id: &str, known: Known, now: Timestamp) -> Option<KekRow> {
        let row = match (known.row, known.info) {
            (Some(row), _) => row,
            (None, Some(info)) => fresh(&self.keyring, &info),
            // Only others have loaded it: nothing is known but its name, and nothing more is needed.
            (None, None) => KekRow {
                id: id.to_owned(),
                head: envelope::head(&KeyId::parse(id)?),
                tag: Vec::new(),
                created_at: now,
                promotion: 0,
                promoted_at: None,
                retired_at: None,
                unreadable: 0,
                mac: Vec::new(),
            },
        };
        Some(KekRow {
            retired_at: Some(now),
            ..row
        })
    }

    /// Whether the change happened; not where somebody else was faster.
    async fn commit(
        &self,
        asker: &Asker,
        action: Action,
        id: &str,
        write: KeyWrite,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let entry = AuditEntry {
            subject: ScopeId::parse(id).ok(),
            ..asker.entry(None, now, action)
        };
        let change = Change {
            writes: vec![Write::Keys(Box::new(write))],
            entries: vec![entry],
        };
        match self.store.commit(change).await {
            Ok(()) => Ok(true),
            Err(StoreError::Conflict) => Ok(false),
            Err(error) => Err(error),
        }
    }
}
