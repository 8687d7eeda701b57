//! Which of an issuer's keys are at hand: fetched by one task, ahead of their time; a delivery at most waits for it.
//!
//! There is one flight at a time because only [`Keys::run`] fetches. A delivery whose token names an unknown key asks
//! for a fetch, if the schedule has one to give, and waits for its end; a thousand of them share it. While the issuer
//! does not answer, the last keys count until they are too old; then, as while there are none, nothing is verified.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jsonwebtoken::DecodingKey;
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::key_set::KeySet;
use super::publisher::Publisher;
use super::schedule::{Need, Schedule, Times};
use crate::clock::Clock;
use crate::domain::runtime_token::TokenVerdict;
use crate::domain::time::Timestamp;
use crate::telemetry::{KeyFetch, Metrics};

/// The longest that a delivery waits for a fetch.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// How often the task looks whether a fetch is due.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// An issuer's keys.
pub(super) struct Keys {
    publisher: Publisher,
    times: Times,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    state: Mutex<State>,
    /// Wakes the task.
    wanted: Notify,
    /// Grows with every fetch that ended.
    ended: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    held: Option<Held>,
    schedule: Schedule,
    is_wanted: bool,
    is_under_way: bool,
}

struct Held {
    set: Arc<KeySet>,
    fetched_at: Timestamp,
}

/// What is held of an issuer's keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeysHeld {
    /// How many can be used.
    pub count: usize,
    /// For how long they have not been fetched; `None` where they never were.
    pub age: Option<Duration>,
    /// Whether they may be used, or are too old.
    pub are_usable: bool,
    /// Whether the last fetch brought none.
    pub is_failing: bool,
}

impl Keys {
    pub(super) fn new(publisher: Publisher, times: Times, clock: Arc<dyn Clock>, metrics: Arc<Metrics>) -> Self {
        Self {
            publisher,
            times,
            clock,
            metrics,
            state: Mutex::default(),
            wanted: Notify::new(),
            ended: watch::Sender::new(0),
        }
    }

    /// The key that an id names, from memory or after a fetch that it may bring about or joins.
    ///
    /// # Errors
    /// [`TokenVerdict::UnknownKey`] where the issuer answered and there is none; [`TokenVerdict::KeysUnavailable`] where
    /// that is not known.
    pub(super) async fn find(&self, id: Option<&str>) -> Result<Arc<DecodingKey>, TokenVerdict> {
        let (verdict, round) = {
            let (mut state, now) = (self.state(), self.clock.now());
            match state.find(id, self.times, now) {
                Ok(key) => return Ok(key),
                Err(verdict) => (verdict, self.join(&mut state, now)),
            }
        };
        let Some(mut round) = round else {
            return Err(verdict);
        };
        match timeout(WAIT_MAX, round.changed()).await {
            Ok(Ok(())) => self.state().find(id, self.times, self.clock.now()),
            Ok(Err(_)) | Err(_) => Err(TokenVerdict::KeysUnavailable),
        }
    }

    /// A fetch to wait for: the one that is under way or wanted already, or one more if it is time for it.
    fn join(&self, state: &mut State, now: Timestamp) -> Option<watch::Receiver<u64>> {
        if !state.is_under_way && !state.is_wanted {
            if !state.schedule.is_due(Need::Wanted, self.times, now) {
                return None;
            }
            state.is_wanted = true;
            self.wanted.notify_one();
        }
        Some(self.ended.subscribe())
    }

    /// Fetches, now and whenever it is due, until `stop`.
    pub(super) async fn run(&self, stop: CancellationToken) {
        loop {
            if self.begin() {
                tokio::select! {
                    () = stop.cancelled() => return,
                    fetched = self.publisher.fetch() => self.end(fetched),
                }
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.wanted.notified() => {}
                () = sleep(LOOK_EVERY) => {}
            }
        }
    }

    fn begin(&self) -> bool {
        let (mut state, now) = (self.state(), self.clock.now());
        let need = if state.is_wanted { Need::Wanted } else { Need::Routine };
        state.is_under_way = state.schedule.is_due(need, self.times, now);
        if state.is_under_way {
            state.schedule.begin(now);
        }
        state.is_under_way
    }

    /// Takes in what a fetch brought. A set without a usable key is believed, too: its issuer withdrew the others.
    fn end(&self, fetched: Result<KeySet, KeyFetch>) {
        let outcome = fetched.as_ref().map_or_else(|fault| *fault, |_| KeyFetch::Fetched);
        self.metrics.runtime_tokens.fetches.inc(outcome);
        let mut state = self.state();
        self.tell(&state, outcome, fetched.as_ref().map_or(0, KeySet::len));
        state.schedule.end(fetched.is_ok());
        if let Ok(set) = fetched {
            state.held = Some(Held {
                set: Arc::new(set),
                fetched_at: self.clock.now(),
            });
        }
        (state.is_under_way, state.is_wanted) = (false, false);
        self.ended.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Tells of what changed, once.
    fn tell(&self, before: &State, outcome: KeyFetch, count: usize) {
        let was_failing = before.schedule.is_failing();
        let had = before.held.as_ref().map_or(0, |held| held.set.len());
        if outcome != KeyFetch::Fetched {
            if !was_failing {
                tracing::warn!(outcome = outcome.name(), "the keys of runtime tokens cannot be fetched");
            }
        } else if count == 0 && (had > 0 || before.held.is_none()) {
            tracing::warn!("the issuer of runtime tokens publishes no usable key: nothing is delivered");
        } else if was_failing || count != had {
            tracing::info!(count, "the keys of runtime tokens were fetched");
        }
    }

    pub(super) fn held(&self) -> KeysHeld {
        let (state, now) = (self.state(), self.clock.now());
        let held = state.held.as_ref();
        KeysHeld {
            count: held.map_or(0, |held| held.set.len()),
            age: held.map(|held| Duration::from_millis(now.0.saturating_sub(held.fetched_at.0))),
            are_usable: held.is_some_and(|held| held.may_be_used(self.times, now)),
            is_failing: state.schedule.is_failing(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner) // fields that stand for themselves
    }
}

impl Held {
    fn may_be_used(&self, times: Times, now: Timestamp) -> bool {
        !self.set.is_empty() && times.is_usable(self.fetched_at, now)
    }
}

impl State {
    fn find(&self, id: Option<&str>, times: Times, now: Timestamp) -> Result<Arc<DecodingKey>, TokenVerdict> {
        let held = self.held.as_ref().filter(|held| held.may_be_used(times, now));
        let held = held.ok_or(TokenVerdict::KeysUnavailable)?;
        held.set.find(id).ok_or(if self.schedule.is_failing() {
            TokenVerdict::KeysUnavailable // it may be one that could not be fetched
        } else {
            TokenVerdict::UnknownKey
        })
    }
}
