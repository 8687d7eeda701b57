//! Which version of its value a reference had when this process last looked.

use std::collections::HashMap;

use crate::domain::reference::Reference;
use crate::domain::scope::Slot;
use crate::external::ExternalVersion;

/// The most references that are remembered; past it any one is forgotten, and its next rotation is noted only if its
/// row has the name of the version before.
const SEEN_MAX: usize = 50_000;

/// What was seen of a reference. Holds no value, and nothing of one that another process could make use of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
    /// What it named.
    pub reference: Reference,
    /// The version of its row.
    pub row_version: u64,
    /// The version of its value.
    pub version: ExternalVersion,
}

/// The last sighting of each reference.
#[derive(Debug, Default)]
pub(super) struct SeenVersions(HashMap<Slot, Sighting>);

impl SeenVersions {
    pub(super) fn of(&self, slot: &Slot) -> Option<Sighting> {
        self.0.get(slot).cloned()
    }

    pub(super) fn put(&mut self, slot: &Slot, sighting: Sighting) {
        if self.0.len() >= SEEN_MAX
            && !self.0.contains_key(slot)
            && let Some(any) = self.0.keys().next().cloned()
        {
            self.0.remove(&any);
        }
        self.0.insert(slot.clone(), sighting);
    }
}
