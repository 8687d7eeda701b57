//! Who holds which bundle, and how it is never stale: a change drops what depends on it, and a build that was under
//! way when the change came is thrown away and made again.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::watch;

use super::absence::Absences;
use super::build::{BuildError, Builder};
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
}

enum Slot {
    Kept(Kept),
    Building(Building),
}

struct Kept {
    bundle: Arc<Bundle>,
    built_at: Timestamp,
    used_at: AtomicU64,
}

struct Building {
    /// What changed since the build began.
    overtaken_by: Vec<Changed>,
    /// When the bundle was last asked for; a build that nobody asked for leaves it as it was.
    used_at: u64,
    done: watch::Receiver<Option<Built>>,
}

type Built = Result<Arc<Bundle>, BuildError>;

impl Bundles {
    /// An empty cache. Builds run on `control`; a bundle that nobody used for `idle_max` is dropped by [`Self::sweep`].
    #[must_use]
    pub fn new(builder: Builder, clock: Arc<dyn Clock>, control: Handle, idle_max: Duration) -> Self {
        Self {
            shared: Arc::new(Shared {
                slots: Mutex::new(HashMap::new()),
                absences: Mutex::default(),
                builder,
                clock,
                control,
                idle_max,
            }),
        }
    }

    /// The bundle of an installation: from memory, or built once for all who wait. Cancel safe: a caller that goes
    /// away cancels nothing that others wait for.
    ///
    /// # Errors
    /// [`BuildError`] where a source did not answer clearly. Such an answer is not kept.
    pub async fn get(&self, id: &InstallationId) -> Result<Found, BuildError> {
        if let Some(bundle) = self.shared.kept(id) {
            return Ok(Found {
                bundle,
                lookup: BundleLookup::Hit,
            });
        }
        let mut done = self.shared.join_build(id, self.shared.clock.now().0);
        let built = match done.wait_for(Option::is_some).await {
            Ok(built) => built.clone(),
            Err(_) => None, // the build died
        };
        let bundle = built.unwrap_or(Err(BuildError::Internal))?;
        Ok(Found {
            bundle,
            lookup: BundleLookup::Miss,
        })
    }

    /// Drops what depends on any of the changes. A bundle being built learns of them and is built again. When this
    /// returns, no later [`Self::get`] sees anything older. A bundle with a client certificate is built anew at once,
    /// so that a key that was replaced or deleted leaves memory although nobody delivers.
    pub fn apply(&self, changes: &[Changed]) {
        if changes.is_empty() {
            return;
        }
        let mut dropped = Vec::new(); // wiped outside the lock
        let mut slots = self.shared.lock();
        slots.retain(|id, slot| match slot {
            Slot::Kept(kept) => {
                let stale = changes.iter().any(|change| kept.bundle.depends_on(change));
                if stale {
                    dropped.push((id.clone(), kept.used_at(), Arc::clone(&kept.bundle)));
                }
                !stale
            }
            Slot::Building(building) => {
                building.overtaken_by.extend_from_slice(changes);
                true
            }
        });
        let mut absences = self.shared.absences();
        absences.apply(changes);
        for (id, _, bundle) in &dropped {
            absences.changed(id, bundle);
        }
        drop(absences);
        drop(slots);
        for (id, used_at, bundle) in dropped {
            drop(bundle);
            if self.shared.builder.holds_identity(&id) {
                self.shared.join_build(&id, used_at);
            }
        }
    }

    /// Drops what is past its time or was not used for long. Meant to run every half second. What is past its time
    /// and has a client certificate is built anew at once: dropped with it, the last pair that matched could not
    /// outlast a rotation that is half done.
    pub fn sweep(&self) {
        let now = self.shared.clock.now();
        let mut dropped = Vec::new();
        let mut slots = self.shared.lock();
        slots.retain(|id, slot| match slot {
            Slot::Kept(kept) => {
                let idle = kept.idle(now, self.shared.idle_max);
                let stays = kept.fresh(now) && !idle;
                if !stays {
                    dropped.push((id.clone(), kept.used_at(), idle, Arc::clone(&kept.bundle)));
                }
                stays
            }
            Slot::Building(_) => true,
        });
        let mut absences = self.shared.absences();
        for (id, _, idle, bundle) in &dropped {
            if *idle {
                absences.unused(id, bundle);
            } else {
                absences.past_its_time(id, bundle);
            }
        }
        drop(absences);
        drop(slots);
        for (id, used_at, idle, bundle) in dropped {
            drop(bundle);
            if idle {
                self.shared.builder.forget_identity(&id);
            } else if self.shared.builder.holds_identity(&id) {
                self.shared.join_build(&id, used_at);
            }
        }
    }

    /// How long ago the bundle that is kept of an installation was built, in milliseconds.
    #[must_use]
    pub fn age_millis(&self, id: &InstallationId) -> Option<u64> {
        match self.shared.lock().get(id) {
            Some(Slot::Kept(kept)) => Some(self.shared.clock.now().0.saturating_sub(kept.built_at.0)),
            Some(Slot::Building(_)) | None => None,
        }
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

impl Kept {
    fn used_at(&self) -> u64 {
        self.used_at.load(Ordering::Relaxed)
    }

    fn fresh(&self, now: Timestamp) -> bool {
        self.bundle.fresh_until.is_none_or(|until| now < until)
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

    fn kept(&self, id: &InstallationId) -> Option<Arc<Bundle>> {
        let now = self.clock.now();
        match self.lock().get(id) {
            Some(Slot::Kept(kept)) if kept.fresh(now) => {
                kept.used_at.store(now.0, Ordering::Relaxed);
                Some(Arc::clone(&kept.bundle))
            }
            _ => None,
        }
    }

    /// Joins the build that is under way, or starts one.
    fn join_build(self: &Arc<Self>, id: &InstallationId, used_at: u64) -> watch::Receiver<Option<Built>> {
        let now = self.clock.now();
        let mut slots = self.lock();
        let reason = match slots.get_mut(id) {
            Some(Slot::Building(building)) => {
                building.used_at = building.used_at.max(used_at);
                return building.done.clone();
            }
            Some(Slot::Kept(kept)) if kept.fresh(now) => {
                return watch::channel(Some(Ok(Arc::clone(&kept.bundle)))).1;
            }
            Some(Slot::Kept(_)) => LoadReason::Refresh,
            None => self.absences().reason(id),
        };
        let evicted = if slots.len() >= BUNDLES_MAX {
            evict(&mut slots)
        } else {
            None
        };
        let (sender, done) = watch::channel(None);
        slots.insert(
            id.clone(),
            Slot::Building(Building {
                overtaken_by: Vec::new(),
                used_at,
                done: done.clone(),
            }),
        );
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
            Slot::Kept(kept) => Some((kept.used_at(), id)),
            Slot::Building(_) => None,
        })
        .take(16)
        .min()?;
    let oldest = oldest.clone();
    match slots.remove(&oldest)? {
        Slot::Kept(kept) => Some((oldest, kept.bundle)),
        Slot::Building(_) => None, // only kept ones were looked at
    }
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
        let mut slots = self.shared.lock();
        let Some(Slot::Building(building)) = slots.get_mut(&self.id) else {
            self.finished = true;
            return Some(Err(BuildError::Internal));
        };
        let overtaken_by = std::mem::take(&mut building.overtaken_by);
        match &built {
            Ok(bundle) => {
                if overtaken_by.iter().any(|change| bundle.depends_on(change)) {
                    return None;
                }
                let built_at = self.shared.clock.now();
                let used_at = AtomicU64::new(building.used_at);
                slots.insert(
                    self.id.clone(),
                    Slot::Kept(Kept {
                        bundle: Arc::clone(bundle),
                        built_at,
                        used_at,
                    }),
                );
            }
            // What failed while something changed may succeed now.
            Err(_) if !overtaken_by.is_empty() => return None,
            Err(error) => {
                if *error == BuildError::Source {
                    self.shared.absences().failed(&self.id);
                }
                slots.remove(&self.id);
            }
        }
        self.finished = true;
        Some(built)
    }

    fn give_back(&mut self) {
        self.shared.lock().remove(&self.id);
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
