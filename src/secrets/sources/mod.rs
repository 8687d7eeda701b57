//! What stands between deliveries and the backends that their references point to: one fetch for all who ask, a value
//! for as long as it is fresh, and the last good one for as long as it may stand in.
//!
//! A value is kept under everything that decides it: the organization, its provider and the version of that row, the
//! credential and authority that it is asked with, the target. It leaves memory with the second look ([`Sources::sweep`],
//! twice a second) after the last reference to it changed or was deleted, at once with its provider or credential, and
//! otherwise once it is older than `max_stale` (or than the provider's `ttl`, where that is longer), whether a bundle
//! uses it or not: a delivery that comes after a quiet time should not fail because its backend does at that moment.

mod breaker;
mod entry;
mod seen;
mod table;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use self::seen::SeenVersions;
use self::table::{Flying, Opened, Step, Table};
use crate::clock::Clock;
use crate::domain::change::Changed;
use crate::domain::provider::{Backend, Target, Unavailable};
use crate::domain::scope::Slot;
use crate::domain::time::Timestamp;
use crate::external::{Credentials, External, Fetched, OpenError};
use crate::telemetry::{Metrics, SourceBackend};

pub use entry::{Answer, Held, Usable};
pub use seen::Sighting;
pub use table::SourceKey;

/// Milliseconds by the clock that tests move.
type Millis = u64;

/// How long a fetch may take, the wait for its turn included: a delivery has five seconds for all of its bundle.
const FETCH_WITHIN: Duration = Duration::from_secs(3);

/// A reference that is looked up.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Where it stands.
    pub slot: Slot,
    /// The version of its row.
    pub version: u64,
    /// When that version was written.
    pub updated_at: Timestamp,
}

/// How a reference is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// What is known and fresh will do.
    Fresh,
    /// The backend is asked now, whatever is known of it, and also if it is left alone.
    Now,
}

/// The cache around all sources of all organizations. Shared by all who resolve.
pub struct Sources {
    external: Arc<External>,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    max_stale: Millis,
    table: Mutex<Table>,
    seen: Mutex<SeenVersions>,
}

impl Sources {
    /// A cache in which a value may stand in for a backend that does not answer until it is older than `max_stale`.
    #[must_use]
    pub fn new(external: Arc<External>, clock: Arc<dyn Clock>, metrics: Arc<Metrics>, max_stale: Duration) -> Self {
        Self {
            external,
            clock,
            metrics,
            max_stale: Millis::try_from(max_stale.as_millis()).unwrap_or(Millis::MAX),
            table: Mutex::default(),
            seen: Mutex::default(),
        }
    }

    /// How often something changed so far. What is read before this is asked may be old.
    pub(super) fn changes(&self) -> u64 {
        self.table().changes()
    }

    /// Whether the source is open.
    pub(super) fn has(&self, key: &SourceKey) -> bool {
        self.table().has(key)
    }

    /// Opens a source. `false` where something changed since `changes`: what it is opened with may be old, and has to
    /// be read again.
    ///
    /// # Errors
    /// [`OpenError`].
    pub(super) fn open(&self, key: SourceKey, credentials: Credentials, changes: u64) -> Result<bool, OpenError> {
        let provider = key.provider();
        let source = self.external.open(provider, credentials)?;
        let backend = match &provider.backend {
            Backend::Vault(_) => SourceBackend::Vault,
            Backend::Gsm(_) => SourceBackend::Gsm,
        };
        let times = entry::Times::new(provider.ttl_secs, self.max_stale);
        let opened = Opened::new(source, backend, times, Arc::clone(&self.metrics), self.clock.now());
        Ok(self.table().put(key, opened, changes))
    }

    /// Looks targets of open sources up, all at a time and within about three seconds; one that is to be fetched newly
    /// although it is being fetched takes as long again. Cancel safe: a fetch goes on for whoever else waits for it.
    pub(super) async fn ask(
        self: &Arc<Self>,
        asked: &[(Asked, SourceKey, Target)],
        freshness: Freshness,
    ) -> Vec<Answer> {
        let answers = asked
            .iter()
            .map(|(asked, key, target)| self.look_up(key, target, asked, freshness));
        join_all(answers).await
    }

    async fn look_up(
        self: &Arc<Self>,
        key: &SourceKey,
        target: &Target,
        asked: &Asked,
        freshness: Freshness,
    ) -> Answer {
        let mut newer_than = None;
        loop {
            let now = self.clock.now();
            let step = self.table().step(key, target, asked, freshness, &mut newer_than, now);
            let (mut done, is_taken) = match step {
                Step::Answered(answer) => return answer,
                Step::Join(done) => (done, true),
                Step::Wait(done) => (done, false),
                Step::Begin(flying, sender, done) => {
                    tokio::spawn(Arc::clone(self).fly(*flying, sender));
                    (done, true)
                }
            };
            let answer = match done.wait_for(Option::is_some).await {
                Ok(answer) => answer.clone(),
                Err(_) => None, // it died
            };
            if is_taken {
                return answer.unwrap_or(Answer::Unavailable(Unavailable::Protocol));
            }
        }
    }

    /// One fetch, for all who wait for it.
    async fn fly(self: Arc<Self>, flying: Flying, sender: watch::Sender<Option<Answer>>) {
        let (began, began_at) = (Instant::now(), self.clock.now());
        let fetch = async {
            let _turn = flying.permits.acquire().await;
            let left = FETCH_WITHIN.saturating_sub(began.elapsed());
            flying.source.fetch(&flying.target, left).await
        };
        let fetched = match timeout(FETCH_WITHIN, fetch).await {
            Ok(fetched) => fetched,
            Err(_) => Fetched::Unavailable(Unavailable::Timeout),
        };
        let counts = &self.metrics.sources;
        counts.fetched(flying.backend, fetched.outcome());
        if let Some(histogram) = counts.fetch_duration.get(flying.backend) {
            Metrics::observe(histogram, began.elapsed());
        }
        let answer = self.table().settle(&flying, fetched, began_at, self.clock.now());
        sender.send_replace(Some(answer));
    }

    /// What is known of a reference is good for a newer version of its row, too: whoever says so wrote that version
    /// because of what was fetched.
    pub(super) fn confirm(&self, slot: &Slot, version: u64) {
        self.table().confirm(slot, version);
    }

    /// Drops what hangs on a provider or a credential that changed. A value whose reference changed is fetched anew by
    /// whoever asks with the reference's new version, and gone if nobody does.
    pub fn apply(&self, changes: &[Changed]) {
        if changes.is_empty() {
            return;
        }
        let dropped = self.table().apply(changes);
        drop(dropped); // wiped outside the lock
    }

    /// Drops what is too old, or whose references are gone. Meant to run every half second.
    pub fn sweep(&self) {
        let dropped = self.table().sweep(self.clock.now());
        drop(dropped);
    }

    /// What was seen of a reference before.
    pub(super) fn seen(&self, slot: &Slot) -> Option<Sighting> {
        self.seen_versions().of(slot)
    }

    /// Remembers what was seen of a reference.
    pub(super) fn saw(&self, slot: &Slot, sighting: Sighting) {
        self.seen_versions().put(slot, sighting);
    }

    fn seen_versions(&self) -> MutexGuard<'_, SeenVersions> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // Every critical section leaves the table consistent at each step, so a poisoned lock is still sound.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
