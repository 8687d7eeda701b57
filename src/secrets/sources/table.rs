//! Which sources are open and what is known of their targets: bounded, and consistent under one lock.

use std::collections::{HashMap, HashSet};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use tokio::sync::{Semaphore, watch};

use super::breaker;
use super::entry::{Answer, Entry, Flight, Times};
use super::{Asked, Freshness, Millis};
use crate::domain::breaker::{Breaker, Pass};
use crate::domain::change::Changed;
use crate::domain::id::OrganizationId;
use crate::domain::provider::{FetchOutcome, Provider, Target, Unavailable};
use crate::domain::scope::Slot;
use crate::domain::time::Timestamp;
use crate::external::{ExternalSource, Fetched};
use crate::telemetry::{Metrics, SourceBackend};

/// The most targets of all organizations that something is known of: past it, of a few, the one asked for longest ago
/// makes room.
const ENTRIES_MAX: usize = 20_000;

/// The most bytes of values.
const BYTES_MAX: usize = 64 * 1024 * 1024;

/// The most fetches of one provider at a time.
const FETCHES_MAX: usize = 16;

/// How long a source of which nothing is known is kept: it holds a credential.
const IDLE: Millis = 60_000;

/// Everything that decides what a source answers: whose it is, all of its settings, and which versions of which secrets
/// it is asked with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceKey {
    organization: OrganizationId,
    provider: Provider,
    stamp: Vec<(Slot, u64)>,
}

impl SourceKey {
    pub(in crate::secrets) const fn new(
        organization: OrganizationId,
        provider: Provider,
        stamp: Vec<(Slot, u64)>,
    ) -> Self {
        Self {
            organization,
            provider,
            stamp,
        }
    }

    pub(super) const fn provider(&self) -> &Provider {
        &self.provider
    }
}

/// What a batch of changes touched, of what sources hang on.
#[derive(Default)]
struct Changes<'a> {
    everything: bool,
    organizations: HashSet<&'a OrganizationId>,
    slots: HashSet<&'a Slot>,
}

impl<'a> Changes<'a> {
    fn of(changes: &'a [Changed]) -> Self {
        let mut touched = Self::default();
        for change in changes {
            match change {
                Changed::Everything => touched.everything = true,
                Changed::Providers(organization) => drop(touched.organizations.insert(organization)),
                Changed::Secret(slot) => drop(touched.slots.insert(slot)),
                Changed::Extension(_) | Changed::Installation(_) | Changed::Tokens | Changed::Keys => {}
            }
        }
        touched
    }

    /// Whether a source is not what it was.
    fn concern(&self, key: &SourceKey) -> bool {
        let is_asked_otherwise = key.stamp.iter().any(|(slot, _)| self.slots.contains(slot));
        self.everything || self.organizations.contains(&key.organization) || is_asked_otherwise
    }
}

impl Hash for SourceKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.organization.hash(state);
        self.provider.name.hash(state);
        self.stamp.hash(state);
    }
}

/// A source in use.
pub(super) struct Opened {
    source: Arc<dyn ExternalSource>,
    backend: SourceBackend,
    times: Times,
    permits: Arc<Semaphore>,
    breaker: Breaker,
    /// The fetch that looks whether a backend that was left alone is back.
    probe: Option<watch::Receiver<Option<Answer>>>,
    entries: HashMap<Target, Entry>,
    used_at: Timestamp,
    metrics: Arc<Metrics>,
}

/// A fetch to make.
pub(super) struct Flying {
    pub(super) source: Arc<dyn ExternalSource>,
    pub(super) permits: Arc<Semaphore>,
    pub(super) backend: SourceBackend,
    pub(super) target: Target,
    key: SourceKey,
    number: u64,
    pass: Pass,
    times: Times,
}

/// What whoever asks has to do.
pub(super) enum Step {
    /// Nothing: this is known.
    Answered(Answer),
    /// Wait for a fetch that is under way, and take its answer.
    Join(watch::Receiver<Option<Answer>>),
    /// Wait for a fetch whose answer is not to be taken, because it is too old or another's, and ask again.
    Wait(watch::Receiver<Option<Answer>>),
    /// Make a fetch.
    Begin(
        Box<Flying>,
        watch::Sender<Option<Answer>>,
        watch::Receiver<Option<Answer>>,
    ),
}

/// What a look found to be over, to be wiped outside the lock.
pub(super) struct Swept {
    _entries: Vec<(Target, Entry)>,
    _sources: Vec<(SourceKey, Opened)>,
}

/// Every source in use.
#[derive(Default)]
pub(super) struct Table {
    opened: HashMap<SourceKey, Opened>,
    /// How many fetches were begun.
    flights: u64,
    /// How often something changed.
    changes: u64,
    entries: usize,
    bytes: usize,
}

impl Opened {
    pub(super) fn new(
        source: Arc<dyn ExternalSource>,
        backend: SourceBackend,
        times: Times,
        metrics: Arc<Metrics>,
        now: Timestamp,
    ) -> Self {
        Self {
            source,
            backend,
            times,
            permits: Arc::new(Semaphore::new(FETCHES_MAX)),
            breaker: breaker::of_backend(),
            probe: None,
            entries: HashMap::new(),
            used_at: now,
            metrics,
        }
    }

    /// How asking the backend ended.
    fn settle(&mut self, pass: Pass, outcome: FetchOutcome, now: Timestamp) {
        self.probe = None;
        let was_open = self.breaker.is_open();
        let _ = self.breaker.settle(pass, breaker::heard(outcome), now); // the gauge tells
        let gauges = &self.metrics.sources.breakers_open;
        match (was_open, self.breaker.is_open()) {
            (false, true) => gauges.inc(self.backend),
            (true, false) => gauges.dec(self.backend),
            _ => {}
        }
    }

    fn counted(&self, answer: Answer) -> Answer {
        if matches!(&answer, Answer::Found(found) if found.stands_in_for.is_some()) {
            self.metrics.sources.stale_served.inc(self.backend);
        }
        answer
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        if self.breaker.is_open() {
            self.metrics.sources.breakers_open.dec(self.backend);
        }
    }
}

impl Table {
    /// How often something changed: what was read before may be old if this is not what it was then.
    pub(super) const fn changes(&self) -> u64 {
        self.changes
    }

    pub(super) fn has(&self, key: &SourceKey) -> bool {
        self.opened.contains_key(key)
    }

    /// Puts a source in, unless something changed since `changes`.
    pub(super) fn put(&mut self, key: SourceKey, opened: Opened, changes: u64) -> bool {
        let is_current = self.changes == changes;
        if is_current {
            self.opened.entry(key).or_insert(opened);
        }
        is_current
    }

    /// What is to be done for whoever asks. `newer_than`, empty at first, is for the next call: answers of fetches up to
    /// that number are too old for them.
    pub(super) fn step(
        &mut self,
        key: &SourceKey,
        target: &Target,
        asked: &Asked,
        freshness: Freshness,
        newer_than: &mut Option<u64>,
        now: Timestamp,
    ) -> Step {
        let Some(opened) = self.opened.get_mut(key) else {
            // It changed since it was opened, which whoever asks is about to hear.
            return Step::Answered(Answer::Unavailable(Unavailable::CredentialUnusable));
        };
        opened.used_at = now;
        if !opened.entries.contains_key(target) {
            opened.entries.insert(target.clone(), Entry::new(now));
            self.entries += 1;
        }
        let Some(entry) = opened.entries.get_mut(target) else {
            return Step::Answered(Answer::Unavailable(Unavailable::Protocol)); // it was just put in
        };
        let is_behind = entry.asked_by(asked, now);
        if is_behind || freshness == Freshness::Now {
            newer_than.get_or_insert(self.flights);
        }
        let is_new_enough = |number: u64| newer_than.is_none_or(|last| number > last);
        if let Some(flight) = entry.flight() {
            let done = flight.done.clone();
            return if is_new_enough(flight.number) {
                Step::Join(done)
            } else {
                Step::Wait(done)
            };
        }
        if is_new_enough(entry.settled())
            && let Some(answer) = entry.answer(opened.times, now)
        {
            return Step::Answered(opened.counted(answer));
        }
        let was_open = opened.breaker.is_open();
        let admitted = opened.breaker.admit(now).map(|(pass, _)| pass);
        let forced = (freshness == Freshness::Now).then(|| opened.breaker.force());
        let Some(pass) = admitted.or(forced) else {
            let probe = opened.probe.as_ref().filter(|probe| probe.has_changed().is_ok());
            let answer = match (entry.stale(opened.times, now), probe) {
                (Some(stale), _) => stale,
                (None, Some(probe)) => return Step::Wait(probe.clone()),
                (None, None) => Answer::Unavailable(Unavailable::CircuitOpen),
            };
            let outcome = FetchOutcome::Unavailable(Unavailable::CircuitOpen);
            opened.metrics.sources.fetched(opened.backend, outcome);
            return Step::Answered(opened.counted(answer));
        };
        self.flights += 1;
        let (sender, done) = watch::channel(None);
        entry.begin(Flight {
            number: self.flights,
            done: done.clone(),
        });
        opened.probe = was_open.then(|| done.clone());
        let flying = Flying {
            source: Arc::clone(&opened.source),
            permits: Arc::clone(&opened.permits),
            backend: opened.backend,
            target: target.clone(),
            key: key.clone(),
            number: self.flights,
            pass,
            times: opened.times,
        };
        self.make_room();
        Step::Begin(Box::new(flying), sender, done)
    }

    /// Takes over how a fetch ended, and says what whoever waits gets. What changed meanwhile keeps nothing of it.
    pub(super) fn settle(&mut self, flying: &Flying, fetched: Fetched, began_at: Timestamp, now: Timestamp) -> Answer {
        let Some(opened) = self.opened.get_mut(&flying.key) else {
            return Entry::new(now).settle(fetched, began_at, flying.times, now);
        };
        opened.settle(flying.pass, fetched.outcome(), now);
        let entry = opened.entries.get_mut(&flying.target);
        let Some(entry) = entry.filter(|entry| entry.is_waiting_for(flying.number)) else {
            return Entry::new(now).settle(fetched, began_at, flying.times, now);
        };
        let before = entry.bytes();
        let answer = entry.settle(fetched, began_at, flying.times, now);
        self.bytes = (self.bytes + entry.bytes()).saturating_sub(before);
        let answer = opened.counted(answer);
        self.make_room();
        answer
    }

    /// What was fetched for a reference is good for this version of it.
    pub(super) fn confirm(&mut self, slot: &Slot, version: u64) {
        let entries = self.opened.values_mut().flat_map(|opened| opened.entries.values_mut());
        entries.for_each(|entry| entry.confirm(slot, version));
    }

    /// Drops what hangs on any of the changes.
    pub(super) fn apply(&mut self, changes: &[Changed]) -> Vec<(SourceKey, Opened)> {
        self.changes += 1;
        let changes = Changes::of(changes);
        let gone = self.opened.extract_if(|key, opened| {
            let is_gone = changes.concern(key);
            if !is_gone && !changes.slots.is_empty() {
                opened
                    .entries
                    .values_mut()
                    .for_each(|entry| entry.doubt(&changes.slots));
            }
            is_gone
        });
        let gone = gone.collect();
        self.recount();
        gone
    }

    /// Drops what is too old or not referred to any more, and sources of which nothing is left.
    pub(super) fn sweep(&mut self, now: Timestamp) -> Swept {
        let mut entries = Vec::new();
        let idle = self.opened.extract_if(|_, opened| {
            let times = opened.times;
            entries.extend(opened.entries.extract_if(|_, entry| !entry.is_kept(times, now)));
            opened.entries.is_empty() && now.0.saturating_sub(opened.used_at.0) >= IDLE
        });
        let idle = idle.collect();
        self.recount();
        Swept {
            _entries: entries,
            _sources: idle,
        }
    }

    fn make_room(&mut self) {
        while self.entries > ENTRIES_MAX || self.bytes > BYTES_MAX {
            let places = self.opened.iter().flat_map(|(key, opened)| {
                let entries = opened.entries.iter().filter(|(_, entry)| entry.flight().is_none());
                entries.map(move |(target, entry)| (entry.asked_at(), key, target))
            });
            let oldest = places.take(16).min_by_key(|(asked_at, ..)| *asked_at);
            let Some((key, target)) = oldest.map(|(_, key, target)| (key.clone(), target.clone())) else {
                return; // all are being fetched
            };
            let entry = self
                .opened
                .get_mut(&key)
                .and_then(|opened| opened.entries.remove(&target));
            self.entries -= 1;
            self.bytes = self.bytes.saturating_sub(entry.map_or(0, |entry| entry.bytes()));
        }
    }

    fn recount(&mut self) {
        let entries = || self.opened.values().flat_map(|opened| opened.entries.values());
        (self.entries, self.bytes) = (entries().count(), entries().map(Entry::bytes).sum());
    }
}
