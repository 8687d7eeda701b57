//! When an issuer's keys are fetched, and for how long they count. Pure: the moment is an argument.

use std::time::Duration;

use crate::domain::time::Timestamp;

/// Keys of this age are fetched anew, in milliseconds. A key that its issuer withdrew is used no longer than this.
const FETCH_EVERY_MILLIS: u64 = 5 * 60 * 1_000;

/// The least time between two fetches that a token with an unknown key brings about, in milliseconds: whoever makes
/// such tokens up makes the sidecar ask six times a minute, whatever their number.
const FETCH_WANTED_EVERY_MILLIS: u64 = 10 * 1_000;

/// The pause after the first fetch that failed; it doubles with every one, in milliseconds.
const PAUSE_FIRST_MILLIS: u64 = 1_000;

/// The longest pause after a fetch that failed, in milliseconds.
const PAUSE_MILLIS_MAX: u64 = 30 * 1_000;

/// For how long keys count.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    fetch_every: u64,
    usable: u64,
}

/// Why a fetch would be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    /// Keys grow old.
    Routine,
    /// A token cannot be verified with what is held.
    Wanted,
}

/// What is known of fetches so far.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Schedule {
    started_at: Option<Timestamp>,
    failures: u32,
}

impl Times {
    /// Keys that cannot be fetched anew are used until they are `max_stale` old; where that is short, they are fetched
    /// well before.
    pub(super) fn new(max_stale: Duration) -> Self {
        let usable = u64::try_from(max_stale.as_millis()).unwrap_or(u64::MAX);
        Self {
            fetch_every: (usable / 2).clamp(PAUSE_FIRST_MILLIS, FETCH_EVERY_MILLIS),
            usable,
        }
    }

    /// Whether keys that were fetched then may be used.
    pub(super) const fn is_usable(self, fetched_at: Timestamp, now: Timestamp) -> bool {
        now.0.saturating_sub(fetched_at.0) <= self.usable
    }
}

impl Schedule {
    /// Whether a fetch is to begin. A clock that was set back is no reason to wait until it has caught up.
    pub(super) fn is_due(self, need: Need, times: Times, now: Timestamp) -> bool {
        let Some(started_at) = self.started_at.filter(|at| *at <= now) else {
            return true;
        };
        let pause = match (self.failures, need) {
            (0, Need::Routine) => times.fetch_every,
            (0, Need::Wanted) => FETCH_WANTED_EVERY_MILLIS,
            (failures, Need::Routine | Need::Wanted) => {
                let doubled = PAUSE_FIRST_MILLIS << failures.saturating_sub(1).min(10);
                doubled.min(PAUSE_MILLIS_MAX)
            }
        };
        now.0.saturating_sub(started_at.0) >= pause
    }

    pub(super) const fn begin(&mut self, now: Timestamp) {
        self.started_at = Some(now);
    }

    pub(super) const fn end(&mut self, succeeded: bool) {
        self.failures = if succeeded { 0 } else { self.failures.saturating_add(1) };
    }

    /// Whether the last fetch that ended brought no keys.
    pub(super) const fn is_failing(self) -> bool {
        self.failures > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(started_at: Option<u64>, failures: u32) -> Schedule {
        Schedule {
            started_at: started_at.map(Timestamp),
            failures,
        }
    }

    #[test]
    fn a_fetch_is_due_when_its_pause_is_over_and_not_before() {
        let times = Times::new(Duration::from_secs(900));
        let (start, routine, wanted) = (1_000_000, Need::Routine, Need::Wanted);
        for (what, failures, need, pause) in [
            ("keys grow old", 0, routine, 300_000),
            ("an unknown key", 0, wanted, 10_000),
            ("a first failure", 1, routine, 1_000),
            ("a first failure, and a token waits", 1, wanted, 1_000),
            ("a third", 3, routine, 4_000),
            ("a fifth", 5, wanted, 16_000),
            ("a sixth", 6, wanted, 30_000),
            ("very many", u32::MAX, routine, 30_000),
        ] {
            let schedule = schedule(Some(start), failures);
            assert!(!schedule.is_due(need, times, Timestamp(start + pause - 1)), "{what}");
            assert!(schedule.is_due(need, times, Timestamp(start + pause)), "{what}");
        }
        assert!(schedule(None, 0).is_due(routine, times, Timestamp(0)));
        assert!(
            schedule(Some(start), 0).is_due(routine, times, Timestamp(start - 1)),
            "set back"
        );
    }

    #[test]
    fn keys_count_until_they_are_as_old_as_allowed_and_are_fetched_before() {
        for (max_stale, fetch_every) in [(900, 300_000), (600, 300_000), (60, 30_000)] {
            let times = Times::new(Duration::from_secs(max_stale));
            assert_eq!(times.fetch_every, fetch_every);
            let fetched_at = Timestamp(5_000);
            assert!(times.is_usable(fetched_at, Timestamp(5_000 + max_stale * 1_000)));
            assert!(!times.is_usable(fetched_at, Timestamp(5_001 + max_stale * 1_000)));
            assert!(times.is_usable(fetched_at, Timestamp(0)));
        }
    }
}
