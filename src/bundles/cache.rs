//! Who holds which bundle, and how it is never stale: a change drops what depends on it, and a build that was under
//! way when the change came is thrown away and made again.
//!
//! A bundle past its fresh time is used on while the next one is built beside it, so that no delivery waits for a
//! refresh. While the store is away it is used until the store was silent for too long: changes are not heard of then.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::watch;

use super::absence::Absences;
use super::build::{BuildError, Builder};
use super::contact::StoreContact;
use super::{Bundle, Standing};
use crate::clock::Clock;
use crate::domain::change::Changed;
use crate::domain::id::InstallationId;
use crate::domain::time::Timestamp;
use crate::secrets::resolve::LoadReason;
use crate::telemetry::BundleLookup;

/// The most bundles kept, unknown ids included: past it the ones used longest ago make room.
const BUNDLES_MAX: usize = 20_000;

/// How long an unknown id is remembered without being asked for.
const UNKNOWN_IDLE: Duration = Duration::from_secs(60);

/// How long after a refresh that failed the next one begins.
const REFRESH_AGAIN_MILLIS: u64 = 1_000;

/// How often one lookup builds anew because of changes that overtake it, before it gives up.
const BUILD_ATTEMPTS_MAX: u32 = 16;

/// A bundle, and whether it was there already.
#[derive(Debug, Clone)]
pub struct Found {
    /// The bundle.
    pub bundle: Arc<Bundle>,
    /// How it was come by.
    pub lookup: BundleLookup,
}

/// The cache of bundles. Shared by all workers; its lock is held for map operations only, never over an await.
#[derive(Clone)]
pub struct Bundles {
    shared: Arc<Shared>,
}

struct Shared {
    slots: Mutex<HashMap<InstallationId, Slot>>,
    /// Taken after `slots`, where both are.
    absences: Mutex<Absences>,
    builder: Builder,
    clock: Arc<dyn Clock>,
    control: Handle,
    idle_max: Duration,
    contact: Arc<StoreContact>,
}

/// What is held of an installation: a bundle, the build of one, or both.
#[derive(Default)]
struct Slot {
    kept: Option<Kept>,
    building: Option<Building>,
}

struct Kept {
    bundle: Arc<Bundle>,
    built_at: Timestamp,
    used_at: AtomicU64,
    /// Not before this moment is it refreshed again.
    refresh_at: Timestamp,
}

struct Building {
    began_at: Timestamp,
    /// What changed since the build began.
    overtaken_by: Vec<Changed>,
    /// When the bundle was last asked for; a build that nobody asked for leaves it as it was.
    used_at: u64,
    done: watch::Receiver<Option<Built>>,
}

type Built = Result<Arc<Bundle>, BuildError>;

/// What became of a bundle that is kept no longer.
enum Dropped {
    Idle,
    PastItsTime,
    /// The store was silent for too long.
    Lost,
}

impl Bundles {
    /// An empty cache. Builds run on `control`; a bundle that nobody used for `idle_max` is dropped by [`Self::sweep`].
    #[must_use]
    pub fn new(
        builder: Builder,
        clock: Arc<dyn Clock>,
        control: Handle,
        idle_max: Duration,
        contact: Arc<StoreContact>,
    ) -> Self {
        Self {
            shared: Arc::new(Shared {
                slots: Mutex::new(HashMap::new()),
                absences: Mutex::default(),
                builder,
                clock,
                control,
                idle_max,
                contact,
            }),
        }
    }

    /// The bundle of an installation, where one is in memory and may be used.
    #[must_use]
    pub fn in_memory(&self, id: &InstallationId) -> Option<Arc<Bundle>> {
        self.shared.kept(id)
    }

    /// The bundle of an installation: from memory, or built once for all who wait. Cancel safe: a caller that goes
    /// away cancels nothing that others wait for.
    ///
    /// # Errors
    /// [`BuildError`] where a source did not answer clearly. Such an answer is not kept.
    pub async fn get(&self, id: &InstallationId) -> Result<Found, BuildError> {
        if let Some(bundle) = self.in_memory(id) {
            let lookup = BundleLookup::Hit;
            return Ok(Found { bundle, lookup });
        }
        let mut done = self.shared.join_build(id, self.shared.clock.now().0);
        let built = match done.wait_for(Option::is_some).await {
            Ok(built) => built.clone(),
            Err(_) => None, // the build died
        };
        let (bundle, lookup) = (built.unwrap_or(Err(BuildError::Internal))?, BundleLookup::Miss);
        Ok(Found { bundle, lookup })
    }

    /// Drops what depends on any of the changes. A bundle being built learns of them and is built again. When this
    /// returns, no later [`Self::get`] sees anything older. A bundle with a client certificate is built anew at once,
    /// so that a key that was replaced or deleted leaves memory although nobody delivers; and one with fetched values,
    /// so that a delivery need not wait for a backend because a rotation was noted.
    pub fn apply(&self, changes: &[Changed]) {
        if changes.is_empty() {
            return;
        }
        self.shared.builder.apply(changes);
        let mut dropped = Vec::new(); // wiped outside the lock
        let mut slots = self.shared.lock();
        slots.retain(|id, slot| {
            if let Some(building) = &mut slot.building {
                building.overtaken_by.extend_from_slice(changes);
            }
            let is_stale = |kept: &mut Kept| changes.iter().any(|change| kept.bundle.depends_on(change));
            if let Some(kept) = slot.kept.take_if(is_stale) {
                dropped.push((id.clone(), kept));
            }
            slot.is_used()
        });
        let mut absences = self.shared.absences();
        absences.apply(changes);
        for (id, kept) in &dropped {
            absences.changed(id, &kept.bundle);
        }
        drop(absences);
        drop(slots);
        for (id, kept) in dropped {
            let (used_at, is_external) = (kept.used_at(), kept.bundle.is_external());
            drop(kept);
            if is_external || self.shared.builder.holds_identity(&id) {
                self.shared.join_build(&id, used_at);
            }
        }
    }

    /// Drops what is past its time or was not used for long, and refreshes what is in use. Meant to run every half
    /// second. What has a client certificate is built anew although nobody used it: dropped with it, the last pair
    /// that matched could not outlast a rotation that is half done.
    pub fn sweep(&self) {
        self.shared.contact.observe();
        self.shared.builder.sweep();
        let now = self.shared.clock.now();
        let (mut dropped, mut due) = (Vec::new(), Vec::new());
        let mut slots = self.shared.lock();
        slots.retain(|id, slot| {
            let (shared, is_building) = (&self.shared, slot.building.is_some());
            if let Some(kept) = &slot.kept {
                let refresh = kept.is_due(now) && !is_building;
                if let Some(reason) = shared.past(id, kept, now) {
                    dropped.extend(slot.kept.take().map(|kept| (id.clone(), kept, reason)));
                } else if refresh {
                    due.push((id.clone(), kept.used_at()));
                }
            }
            slot.is_used()
        });
        let mut absences = self.shared.absences();
        for (id, kept, reason) in &dropped {
            match reason {
                Dropped::Idle => absences.unused(id, &kept.bundle),
                Dropped::PastItsTime | Dropped::Lost => absences.past_its_time(id, &kept.bundle),
            }
        }
        drop(absences);
        drop(slots);
        for (id, kept, reason) in dropped {
            match reason {
                Dropped::Idle | Dropped::Lost => self.shared.builder.forget_identity(&id),
                Dropped::PastItsTime if self.shared.builder.holds_identity(&id) => due.push((id, kept.used_at())),
                Dropped::PastItsTime => {}
            }
        }
        for (id, used_at) in due {
            self.shared.join_build(&id, used_at);
        }
    }

    /// How long ago the bundle that is kept of an installation was built, in milliseconds.
    #[must_use]
    pub fn age_millis(&self, id: &InstallationId) -> Option<u64> {
        let slots = self.shared.lock();
        let kept = slots.get(id)?.kept.as_ref()?;
        Some(self.shared.clock.now().0.saturating_sub(kept.built_at.0))
    }

    /// How many bundles are kept, unknown ids included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shared.lock().len()
    }

    /// Whether none is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Slot {
    /// One that holds nothing any more goes.
    const fn is_used(&self) -> bool {
        self.kept.is_some() || self.building.is_some()
    }
}

impl Kept {
    fn used_at(&self) -> u64 {
        self.used_at.load(Ordering::Relaxed)
    }

    fn fresh(&self, now: Timestamp) -> bool {
        self.bundle.fresh_until.is_none_or(|until| now < until)
    }

    /// Whether it may be used, fresh or not.
    fn usable(&self, now: Timestamp) -> bool {
        self.bundle.usable_until.is_none_or(|until| now < until)
    }

    /// Whether it is to be built anew.
    fn is_due(&self, now: Timestamp) -> bool {
        !self.fresh(now) && now >= self.refresh_at
    }

    /// Whether anybody used it since it was built.
    fn is_in_use(&self) -> bool {
        self.used_at() > self.built_at.0
    }

    fn idle(&self, now: Timestamp, idle_max: Duration) -> bool {
        let limit = match self.bundle.standing {
            Standing::Unknown => UNKNOWN_IDLE.min(idle_max),
            Standing::Installed { .. } => idle_max,
        };
        let idle_millis = now.0.saturating_sub(self.used_at());
        u128::from(idle_millis) > limit.as_millis()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, HashMap<InstallationId, Slot>> {
        // Every critical section leaves the map consistent at each step, so a poisoned lock is still sound.
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn absences(&self) -> MutexGuard<'_, Absences> {
        self.absences.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a bundle's time is over. While the store is away nothing could take its place, so it may be idle.
    fn past(&self, id: &InstallationId, kept: &Kept, now: Timestamp) -> Option<Dropped> {
        if self.contact.is_lost() {
            return Some(Dropped::Lost);
        }
        if kept.idle(now, self.idle_max) && !self.contact.is_away() {
            return Some(Dropped::Idle);
        }
        let is_wanted = kept.is_in_use() || self.builder.holds_identity(id) || self.contact.is_away();
        let is_over = !kept.usable(now) || (!kept.fresh(now) && !is_wanted);
        is_over.then_some(Dropped::PastItsTime)
    }

    /// The bundle, where one may be used. One that is not fresh any more is refreshed beside it.
    fn kept(self: &Arc<Self>, id: &InstallationId) -> Option<Arc<Bundle>> {
        let now = self.clock.now();
        let slots = self.lock();
        let slot = slots.get(id)?;
        let kept = slot.kept.as_ref()?;
        if self.contact.is_lost() || !kept.usable(now) {
            return None;
        }
        kept.used_at.store(now.0, Ordering::Relaxed);
        let bundle = Arc::clone(&kept.bundle);
        let refresh = kept.is_due(now) && slot.building.is_none();
        drop(slots);
        if refresh {
            self.join_build(id, now.0);
        }
        Some(bundle)
    }

    /// Joins the build that is under way, or starts one.
    fn join_build(self: &Arc<Self>, id: &InstallationId, used_at: u64) -> watch::Receiver<Option<Built>> {
        let now = self.clock.now();
        let mut slots = self.lock();
        let slot = slots.get_mut(id);
        let reason = match slot {
            Some(Slot {
                building: Some(building),
                ..
            }) => {
                building.used_at = building.used_at.max(used_at);
                return building.done.clone();
            }
            Some(Slot { kept: Some(kept), .. }) if kept.fresh(now) && !self.contact.is_lost() => {
                return watch::channel(Some(Ok(Arc::clone(&kept.bundle)))).1;
            }
            Some(Slot { kept: Some(_), .. }) => LoadReason::Refresh,
            Some(_) | None => self.absences().reason(id),
        };
        let evicted = if slots.len() >= BUNDLES_MAX && !slots.contains_key(id) {
            evict(&mut slots)
        } else {
            None
        };
        let (sender, done) = watch::channel(None);
        slots.entry(id.clone()).or_default().building = Some(Building {
            began_at: now,
            overtaken_by: Vec::new(),
            used_at,
            done: done.clone(),
        });
        drop(slots);
        if let Some((evicted, bundle)) = evicted {
            self.absences().unused(&evicted, &bundle);
            self.builder.forget_identity(&evicted);
        }
        let run = Run {
            shared: Arc::clone(self),
            id: id.clone(),
            reason,
            finished: false,
        };
        self.control.spawn(run.finish(sender));
        done
    }
}

/// Makes room: among some kept entries, the one used longest ago goes.
fn evict(slots: &mut HashMap<InstallationId, Slot>) -> Option<(InstallationId, Arc<Bundle>)> {
    let (_, oldest) = slots
        .iter()
        .filter_map(|(id, slot)| match slot {
            Slot {
                kept: Some(kept),
                building: None,
            } => Some((kept.used_at(), id)),
            _ => None,
        })
        .take(16)
        .min()?;
    let oldest = oldest.clone();
    let kept = slots.remove(&oldest)?.kept?;
    Some((oldest, kept.bundle))
}

/// One build under way. Its place in the map is given back even if it dies.
struct Run {
    shared: Arc<Shared>,
    id: InstallationId,
    reason: LoadReason,
    finished: bool,
}

impl Run {
    async fn finish(mut self, sender: watch::Sender<Option<Built>>) {
        for _ in 0..BUILD_ATTEMPTS_MAX {
            let built = self.shared.builder.build(&self.id, self.reason).await.map(Arc::new);
            if let Some(settled) = self.settle(built) {
                sender.send_replace(Some(settled));
                return;
            }
            self.reason = LoadReason::Change;
        }
        self.give_back();
        sender.send_replace(Some(Err(BuildError::Overtaken)));
    }

    /// Puts the result in, unless a change overtook it: then there is none yet.
    fn settle(&mut self, built: Built) -> Option<Built> {
        let now = self.shared.clock.now();
        let mut slots = self.shared.lock();
        let Some(slot) = slots.get_mut(&self.id) else {
            self.finished = true;
            return Some(Err(BuildError::Internal));
        };
        let overtaken_by = slot
            .building
            .as_mut()
            .map(|building| std::mem::take(&mut building.overtaken_by))
            .unwrap_or_default();
        let is_overtaken = match &built {
            Ok(bundle) => overtaken_by.iter().any(|change| bundle.depends_on(change)),
            Err(_) => !overtaken_by.is_empty(), // what failed while something changed may succeed now
        };
        if is_overtaken {
            return None;
        }
        let (began_at, asked_at) = slot
            .building
            .take()
            .map_or((now, 0), |building| (building.began_at, building.used_at));
        let before = slot.kept.take();
        let (settled, wiped) = match built {
            Ok(bundle) => {
                let used_at = before.as_ref().map_or(0, Kept::used_at).max(asked_at);
                slot.kept = Some(Kept {
                    bundle: Arc::clone(&bundle),
                    built_at: began_at,
                    used_at: AtomicU64::new(used_at),
                    refresh_at: now,
                });
                (Ok(bundle), before)
            }
            Err(error) => match before {
                // Nothing is known to be wrong with it: the store, or the log, did not answer.
                Some(mut kept) if error == BuildError::Store && kept.usable(now) && !self.shared.contact.is_lost() => {
                    kept.refresh_at = now.plus_millis(REFRESH_AGAIN_MILLIS);
                    let bundle = Arc::clone(&kept.bundle);
                    slot.kept = Some(kept);
                    (Ok(bundle), None)
                }
                before => (Err(error), before),
            },
        };
        if matches!(settled, Err(BuildError::Source)) {
            self.shared.absences().failed(&self.id);
        }
        if let Entry::Occupied(entry) = slots.entry(self.id.clone())
            && !entry.get().is_used()
        {
            entry.remove();
        }
        drop(slots);
        drop(wiped);
        self.finished = true;
        Some(settled)
    }

    fn give_back(&mut self) {
        let mut slots = self.shared.lock();
        if let Entry::Occupied(mut entry) = slots.entry(self.id.clone()) {
            entry.get_mut().building = None;
            if !entry.get().is_used() {
                entry.remove();
            }
        }
        self.finished = true;
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if !self.finished {
            self.give_back();
        }
    }
}
