//! How each key-encryption key stands: who has loaded it, who lacks it, how many rows are under it.

use std::collections::BTreeMap;

use super::{InstanceRow, KekRow, Keks, KeksError, active, authentic};
use crate::crypto::envelope;
use crate::crypto::keyring::{KekInfo, KeyId};
use crate::domain::time::Timestamp;
use crate::store::loaded;

/// How a key stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KekState {
    /// It seals.
    Active,
    /// It does not seal, and nothing is under it: it can be promoted, or retired.
    Idle,
    /// It does not seal, and rows under it are being put under the active one.
    Rewrapping,
    /// It was retired: nothing is stored under it any more.
    Retired,
}

impl KekState {
    /// The word in answers.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Idle => "idle",
            Self::Rewrapping => "re-wrapping",
            Self::Retired => "retired",
        }
    }
}

/// A key-encryption key as the fleet has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KekStatus {
    /// Its name.
    pub id: String,
    /// How it stands.
    pub state: KekState,
    /// When it was made; unknown where only others have loaded it.
    pub created_at: Option<Timestamp>,
    /// When it was last promoted.
    pub promoted_at: Option<Timestamp>,
    /// When it was retired.
    pub retired_at: Option<Timestamp>,
    /// The live instances that have loaded it.
    pub loaded_by: Vec<String>,
    /// The live instances that lack it, or have another one of this name.
    pub missing_on: Vec<String>,
    /// How many rows are under it: values, references, and what their last rotations replaced.
    pub rows_wrapped: u64,
    /// How many of these did not open when they were last to be put under another key.
    pub unreadable: u64,
}

/// What is known of one key.
#[derive(Default)]
pub(super) struct Known {
    pub(super) row: Option<KekRow>,
    pub(super) info: Option<KekInfo>,
    /// As instances announce it.
    announced: Option<String>,
}

impl Known {
    /// How an instance says that it has loaded this very key.
    pub(super) fn word(&self, id: &str) -> Option<String> {
        let row = self.row.as_ref().map(|row| loaded(id, &row.tag));
        let info = || self.info.as_ref().map(|info| loaded(id, &info.tag.0));
        row.or_else(info).or_else(|| self.announced.clone())
    }
}

/// Every key that anybody knows, by its name.
pub(super) fn known(rows: Vec<KekRow>, infos: Vec<KekInfo>, alive: &[InstanceRow]) -> BTreeMap<String, Known> {
    let mut all: BTreeMap<String, Known> = BTreeMap::new();
    for row in rows {
        let id = row.id.clone();
        all.entry(id).or_default().row = Some(row);
    }
    for info in infos {
        let id = info.id.to_string();
        all.entry(id).or_default().info = Some(info);
    }
    for word in alive.iter().flat_map(|instance| &instance.keks) {
        if let Some(id) = word.split('=').next().and_then(KeyId::parse) {
            all.entry(id.to_string()).or_default().announced = Some(word.clone());
        }
    }
    all
}

impl Keks {
    /// Every key that the store, this instance or another one knows, the active one first, then by age.
    ///
    /// # Errors
    /// [`KeksError`].
    pub async fn status(&self) -> Result<Vec<KekStatus>, KeksError> {
        let rows = authentic(&self.store, &self.keyring).await?;
        let infos = self.keyring.kek_infos();
        let by_file = infos.iter().find(|info| info.is_active).map(|info| info.id.to_string());
        let active = active(&rows).map(|row| row.id.clone()).or(by_file);
        let alive = self.alive().await?;
        let mut all = Vec::new();
        for (id, known) in known(rows, infos, &alive) {
            all.push(self.status_of(id, &known, active.as_deref(), &alive).await?);
        }
        all.sort_by_key(|status| (status.state != KekState::Active, status.created_at, status.id.clone()));
        Ok(all)
    }

    async fn status_of(
        &self,
        id: String,
        known: &Known,
        active: Option<&str>,
        alive: &[InstanceRow],
    ) -> Result<KekStatus, KeksError> {
        let word = known.word(&id);
        let has = |instance: &&InstanceRow| word.as_ref().is_some_and(|word| instance.keks.contains(word));
        let (loaded_by, missing_on): (Vec<_>, Vec<_>) = alive.iter().partition(has);
        let names = |instances: Vec<&InstanceRow>| instances.into_iter().map(|row| row.id.clone()).collect();
        let rows_wrapped = match KeyId::parse(&id) {
            Some(id) => self.store.wrapped_count(&envelope::head(&id)).await?,
            None => 0, // every name was parsed before
        };
        let row = known.row.as_ref();
        let retired_at = row.and_then(|row| row.retired_at);
        let state = if retired_at.is_some() {
            KekState::Retired
        } else if active == Some(id.as_str()) {
            KekState::Active
        } else if rows_wrapped > 0 {
            KekState::Rewrapping
        } else {
            KekState::Idle
        };
        Ok(KekStatus {
            state,
            created_at: row
                .map(|row| row.created_at)
                .or_else(|| known.info.as_ref().map(|info| info.created_at)),
            promoted_at: row.and_then(|row| row.promoted_at),
            retired_at,
            loaded_by: names(loaded_by),
            missing_on: names(missing_on),
            unreadable: row.map_or(0, |row| row.unreadable).min(rows_wrapped),
            rows_wrapped,
            id,
        })
    }
}
