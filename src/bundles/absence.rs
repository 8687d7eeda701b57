//! Why a bundle has to be built: what became of the one before.
//!
//! The audit log tells loads that a delivery brought about from those that a start, a change or the time did. A bundle
//! that nobody used for long leaves a trace of what it depended on, without any value, so that a change that comes
//! while it is away is known when it is built again.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use super::{Bundle, Standing};
use crate::domain::change::Changed;
use crate::domain::id::InstallationId;
use crate::secrets::resolve::LoadReason;

/// What became of the bundles that are not in memory any more. At most one entry for each installation.
#[derive(Debug, Default)]
pub(super) struct Absences {
    gone: HashMap<InstallationId, Absence>,
    hasher: RandomState,
}

#[derive(Debug)]
enum Absence {
    /// Something it depended on changed.
    Changed,
    /// It was past its time.
    PastItsTime,
    /// It had to make room, or nobody used it: hashes of the changes that would concern it.
    Unused(Box<[u64]>),
    /// Its values were loaded and could not be opened.
    Failed,
}

impl Absences {
    /// Why the next build of an installation's bundle loads its values.
    pub(super) fn reason(&self, id: &InstallationId) -> LoadReason {
        match self.gone.get(id) {
            None => LoadReason::Start,
            Some(Absence::Changed) => LoadReason::Change,
            Some(Absence::PastItsTime) => LoadReason::Refresh,
            Some(Absence::Unused(_) | Absence::Failed) => LoadReason::Delivery,
        }
    }

    pub(super) fn changed(&mut self, id: &InstallationId, bundle: &Bundle) {
        self.note(id, bundle, Absence::Changed);
    }

    pub(super) fn past_its_time(&mut self, id: &InstallationId, bundle: &Bundle) {
        self.note(id, bundle, Absence::PastItsTime);
    }

    pub(super) fn unused(&mut self, id: &InstallationId, bundle: &Bundle) {
        let concerns = bundle.depends_on.changes().map(|change| self.hasher.hash_one(change));
        let trace = Absence::Unused(concerns.collect());
        self.note(id, bundle, trace);
    }

    pub(super) fn failed(&mut self, id: &InstallationId) {
        self.gone.insert(id.clone(), Absence::Failed);
    }

    /// There is no such installation.
    pub(super) fn forget(&mut self, id: &InstallationId) {
        self.gone.remove(id);
    }

    /// What a change concerns will be built because of it.
    pub(super) fn apply(&mut self, changes: &[Changed]) {
        let is_everything = changes.contains(&Changed::Everything);
        let hashes: Vec<u64> = changes.iter().map(|change| self.hasher.hash_one(change)).collect();
        for absence in self.gone.values_mut() {
            let is_concerned = match absence {
                Absence::Unused(concerns) => is_everything || hashes.iter().any(|hash| concerns.contains(hash)),
                Absence::Failed => true,
                Absence::Changed | Absence::PastItsTime => false,
            };
            if is_concerned {
                *absence = Absence::Changed;
            }
        }
    }

    fn note(&mut self, id: &InstallationId, bundle: &Bundle, absence: Absence) {
        match bundle.standing {
            Standing::Installed { .. } => drop(self.gone.insert(id.clone(), absence)),
            Standing::Unknown => self.forget(id),
        }
    }
}
