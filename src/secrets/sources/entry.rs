//! What is known of one target: its last good value, how asking for it ended last, and who uses it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};
use tokio::sync::watch;

use super::{Asked, Millis};
use crate::domain::provider::{FetchOutcome, Unavailable};
use crate::domain::scope::Slot;
use crate::domain::time::Timestamp;
use crate::external::{ExternalValue, ExternalVersion, Fetched};

/// How long nothing, or a refusal, is taken to stay so.
pub(super) const NEGATIVE: Millis = 5_000;

/// How long a backend that did not answer is not asked again while its last value stands in.
pub(super) const RETRY: Millis = 5_000;

/// The same where there is none.
pub(super) const AGAIN: Millis = 1_000;

/// A bundle without a value looks again after this time at most.
const LOOK_AGAIN: Millis = 30_000;

/// A value whose references changed leaves with this look after it, unless one of them still asks for it.
const DOUBTS_MAX: u8 = 2;

/// How long values are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Times {
    /// Before it is looked at again.
    fresh: Millis,
    /// At all.
    usable: Millis,
    ttl: Millis,
}

impl Times {
    /// A provider's `ttl`, and how long a value may stand in for a backend that does not answer. One that is fresh for
    /// longer than that is looked at a little before its end, so that no delivery waits.
    pub(super) fn new(ttl_secs: u32, max_stale: Millis) -> Self {
        let ttl = Millis::from(ttl_secs) * 1_000;
        let usable = max_stale.max(ttl);
        Self {
            fresh: ttl.min(usable - usable / 10),
            usable,
            ttl,
        }
    }
}

/// A value as it was fetched.
pub struct Held {
    value: SecretString,
    version: ExternalVersion,
    /// When asking for it began.
    fetched_at: Timestamp,
}

impl Held {
    /// The value.
    #[must_use]
    pub const fn value(&self) -> &SecretString {
        &self.value
    }

    /// Which version of it the backend handed out.
    #[must_use]
    pub const fn version(&self) -> &ExternalVersion {
        &self.version
    }

    /// When it was fetched.
    #[must_use]
    pub const fn fetched_at(&self) -> Timestamp {
        self.fetched_at
    }

    pub(super) fn bytes(&self) -> usize {
        self.value.expose_secret().len()
    }
}

/// What a reference comes to at the moment.
#[derive(Clone)]
pub enum Answer {
    /// There is a value.
    Found(Usable),
    /// What it names does not exist.
    Dangling {
        /// When to look again.
        look_again_at: Timestamp,
    },
    /// It may not be used.
    Denied,
    /// It cannot be told, and there is no value that could stand in.
    Unavailable(Unavailable),
}

/// A value, and for how long.
#[derive(Clone)]
pub struct Usable {
    /// The value.
    pub held: Arc<Held>,
    /// When to look at it again. It may be used meanwhile.
    pub fresh_until: Timestamp,
    /// From when on it may not be used.
    pub usable_until: Timestamp,
    /// Why it stands in for an answer that its backend does not give, where it does.
    pub stands_in_for: Option<Unavailable>,
}

impl Answer {
    /// Whether there is something to use, whatever its backend says of it.
    #[must_use]
    pub const fn usability(&self) -> FetchOutcome {
        match self {
            Self::Found(_) => FetchOutcome::Found,
            Self::Dangling { .. } | Self::Denied | Self::Unavailable(_) => self.outcome(),
        }
    }

    /// How it ended, without the value: also where another value stands in.
    #[must_use]
    pub const fn outcome(&self) -> FetchOutcome {
        match self {
            Self::Found(Usable {
                stands_in_for: Some(why),
                ..
            }) => FetchOutcome::Unavailable(*why),
            Self::Found(_) => FetchOutcome::Found,
            Self::Dangling { .. } => FetchOutcome::Dangling,
            Self::Denied => FetchOutcome::Denied,
            Self::Unavailable(why) => FetchOutcome::Unavailable(*why),
        }
    }
}

/// A fetch under way.
#[derive(Clone)]
pub(super) struct Flight {
    pub(super) number: u64,
    pub(super) done: watch::Receiver<Option<Answer>>,
}

/// A reference that uses a target.
#[derive(Debug)]
struct User {
    /// The version of its row.
    version: u64,
    /// How many looks ago its row changed, if it has not asked since.
    doubts: Option<u8>,
}

/// What is known of one target.
pub(super) struct Entry {
    held: Option<Arc<Held>>,
    last: Option<(FetchOutcome, Timestamp)>,
    users: HashMap<Slot, User>,
    flight: Option<Flight>,
    /// The number of the fetch that ended last.
    settled: u64,
    asked_at: Timestamp,
}

impl Entry {
    pub(super) fn new(now: Timestamp) -> Self {
        Self {
            held: None,
            last: None,
            users: HashMap::new(),
            flight: None,
            settled: 0,
            asked_at: now,
        }
    }

    /// Notes that a reference asks. Whether its row changed since the last fetch: then somebody knows of another value,
    /// or wants it looked at.
    pub(super) fn asked_by(&mut self, asked: &Asked, now: Timestamp) -> bool {
        self.asked_at = now;
        let is_older = self.last.is_some_and(|(_, at)| at < asked.updated_at);
        let user = self.users.get(&asked.slot);
        let is_behind = user.map_or(is_older, |user| user.version < asked.version);
        let version = user.map_or(asked.version, |user| user.version.max(asked.version));
        let user = User { version, doubts: None };
        self.users.insert(asked.slot.clone(), user);
        is_behind
    }

    /// What can be said without asking the backend; `None` where it has to be asked.
    pub(super) fn answer(&self, times: Times, now: Timestamp) -> Option<Answer> {
        let (outcome, at) = self.last?;
        let is_recent = |millis| now < at.plus_millis(millis);
        match outcome {
            FetchOutcome::Found => {
                let found = self.usable(times, now)?;
                (now < found.fresh_until).then_some(Answer::Found(found))
            }
            FetchOutcome::Dangling => is_recent(NEGATIVE).then(|| nothing(times, at)),
            FetchOutcome::Denied => is_recent(NEGATIVE).then_some(Answer::Denied),
            FetchOutcome::Unavailable(why) => match self.stale(times, now) {
                Some(stale) => is_recent(RETRY).then_some(stale),
                None => is_recent(AGAIN).then_some(Answer::Unavailable(why)),
            },
        }
    }

    /// The last good value in place of an answer.
    pub(super) fn stale(&self, times: Times, now: Timestamp) -> Option<Answer> {
        let found = self.usable(times, now)?;
        let (FetchOutcome::Unavailable(why), asked_at) = self.last? else {
            return None;
        };
        Some(Answer::Found(Usable {
            fresh_until: asked_at.max(now).plus_millis(RETRY).min(found.usable_until),
            stands_in_for: Some(why),
            ..found
        }))
    }

    fn usable(&self, times: Times, now: Timestamp) -> Option<Usable> {
        let held = self.held.as_ref()?;
        let usable_until = held.fetched_at.plus_millis(times.usable);
        (now < usable_until).then(|| Usable {
            held: Arc::clone(held),
            fresh_until: held.fetched_at.plus_millis(times.fresh),
            usable_until,
            stands_in_for: None,
        })
    }

    /// The fetch that is under way, if whoever makes it is still there.
    pub(super) fn flight(&self) -> Option<&Flight> {
        self.flight.as_ref().filter(|flight| flight.done.has_changed().is_ok())
    }

    /// Whether the fetch of this number is the one under way.
    pub(super) fn is_waiting_for(&self, number: u64) -> bool {
        self.flight.as_ref().is_some_and(|flight| flight.number == number)
    }

    pub(super) const fn settled(&self) -> u64 {
        self.settled
    }

    pub(super) fn begin(&mut self, flight: Flight) {
        self.flight = Some(flight);
    }

    /// Takes over how a fetch ended that began then, and says what whoever waited for it gets. What a backend does not
    /// answer for stays; what it refuses or does not have any more is gone.
    pub(super) fn settle(&mut self, fetched: Fetched, began_at: Timestamp, times: Times, now: Timestamp) -> Answer {
        self.settled = self.flight.take().map_or(self.settled, |flight| flight.number);
        self.last = Some((fetched.outcome(), now));
        match fetched {
            Fetched::Found(ExternalValue { value, version }) => {
                let held = Arc::new(Held {
                    value,
                    version,
                    fetched_at: began_at,
                });
                self.held = Some(Arc::clone(&held));
                Answer::Found(Usable {
                    held,
                    fresh_until: began_at.plus_millis(times.fresh),
                    usable_until: began_at.plus_millis(times.usable),
                    stands_in_for: None,
                })
            }
            Fetched::Dangling => {
                self.held = None;
                nothing(times, now)
            }
            Fetched::Denied => {
                self.held = None;
                Answer::Denied
            }
            Fetched::Unavailable(why) => self.stale(times, now).unwrap_or(Answer::Unavailable(why)),
        }
    }

    /// The rows of references changed: unless they ask again, the value is not theirs any more.
    pub(super) fn doubt(&mut self, slots: &HashSet<&Slot>) {
        for (_, user) in self.users.iter_mut().filter(|(slot, _)| slots.contains(slot)) {
            user.doubts.get_or_insert(0);
        }
    }

    /// What is known is good for this version of a reference's row.
    pub(super) fn confirm(&mut self, slot: &Slot, version: u64) {
        if let Some(user) = self.users.get_mut(slot) {
            user.version = user.version.max(version);
        }
    }

    /// Looks after the entry; `false` where nothing is left to keep.
    pub(super) fn is_kept(&mut self, times: Times, now: Timestamp) -> bool {
        self.users.retain(|_, user| match &mut user.doubts {
            Some(doubts) => {
                *doubts += 1;
                *doubts < DOUBTS_MAX
            }
            None => true,
        });
        if self.flight().is_some() {
            return true;
        }
        if self.usable(times, now).is_none() {
            self.held = None;
        }
        let is_told = self.last.is_some_and(|(_, at)| now < at.plus_millis(NEGATIVE));
        !self.users.is_empty() && (self.held.is_some() || is_told)
    }

    pub(super) fn bytes(&self) -> usize {
        self.held.as_ref().map_or(0, |held| held.bytes())
    }

    pub(super) const fn asked_at(&self) -> Timestamp {
        self.asked_at
    }
}

const fn nothing(times: Times, at: Timestamp) -> Answer {
    let after = if times.ttl < LOOK_AGAIN { times.ttl } else { LOOK_AGAIN };
    Answer::Dangling {
        look_again_at: at.plus_millis(after),
    }
}
