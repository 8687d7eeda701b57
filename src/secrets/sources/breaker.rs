//! Whether a backend that failed again and again is asked once more.

use super::Millis;
use crate::domain::provider::{FetchOutcome, Unavailable};
use crate::domain::time::Timestamp;

/// How often in a row a backend fails before it is left alone.
const FAILURES_MAX: u32 = 5;

/// How long it is left alone, and how long apart the questions are that look whether it is back.
const OPEN: Millis = 10_000;

/// What is known of one backend, as one organization may see it.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    failures: u32,
    /// Not before this moment is it asked again.
    closed_until: Option<Timestamp>,
}

impl Breaker {
    /// Whether it may be asked now. While it is left alone one question passes every so often: it closes the breaker
    /// if it is answered.
    pub(super) fn admits(&mut self, now: Timestamp) -> bool {
        match self.closed_until {
            None => true,
            Some(until) if now < until => false,
            Some(_) => {
                self.closed_until = Some(now.plus_millis(OPEN));
                true
            }
        }
    }

    /// How asking it ended.
    pub(super) fn settle(&mut self, outcome: FetchOutcome, now: Timestamp) {
        if !is_failure(outcome) {
            *self = Self::default();
            return;
        }
        self.failures = self.failures.saturating_add(1);
        if self.failures >= FAILURES_MAX {
            self.closed_until = Some(now.plus_millis(OPEN));
        }
    }

    /// Whether it is left alone.
    pub(super) const fn is_open(&self) -> bool {
        self.closed_until.is_some()
    }
}

/// Whether the backend failed, and not only this one value.
const fn is_failure(outcome: FetchOutcome) -> bool {
    match outcome {
        FetchOutcome::Found | FetchOutcome::Dangling | FetchOutcome::Denied => false,
        FetchOutcome::Unavailable(why) => match why {
            Unavailable::Sealed
            | Unavailable::RateLimited
            | Unavailable::NotCaughtUp
            | Unavailable::ServerError
            | Unavailable::Unreachable
            | Unavailable::Refused
            | Unavailable::TlsFailed
            | Unavailable::Timeout
            | Unavailable::Redirected
            | Unavailable::Protocol
            | Unavailable::LoginFailed => true,
            Unavailable::WrongShape
            | Unavailable::Corrupted
            | Unavailable::TooLarge
            | Unavailable::CircuitOpen
            | Unavailable::ProviderMissing
            | Unavailable::CredentialUnusable => false,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAILED: FetchOutcome = FetchOutcome::Unavailable(Unavailable::ServerError);

    fn opened(now: Timestamp) -> Breaker {
        let mut breaker = Breaker::default();
        for n in 0..FAILURES_MAX {
            assert!(breaker.admits(now) && !breaker.is_open(), "{n}");
            breaker.settle(FAILED, now);
        }
        breaker
    }

    #[test]
    fn a_backend_that_fails_in_a_row_is_left_alone_and_then_asked_once() {
        let mut breaker = opened(Timestamp(0));
        assert!(breaker.is_open() && !breaker.admits(Timestamp(OPEN - 1)));
        assert!(breaker.admits(Timestamp(OPEN)), "one looks whether it is back");
        assert!(!breaker.admits(Timestamp(OPEN)), "and one only");
        breaker.settle(FAILED, Timestamp(OPEN + 5));
        assert!(!breaker.admits(Timestamp(2 * OPEN + 4)));
        assert!(breaker.admits(Timestamp(2 * OPEN + 5)));
        breaker.settle(FetchOutcome::Dangling, Timestamp(2 * OPEN + 6));
        assert!(!breaker.is_open() && breaker.admits(Timestamp(2 * OPEN + 6)));
    }

    #[test]
    fn a_question_whose_end_nobody_heard_does_not_leave_it_alone_for_ever() {
        let mut breaker = opened(Timestamp(0));
        assert!(breaker.admits(Timestamp(OPEN)));
        assert!(breaker.admits(Timestamp(2 * OPEN)));
    }

    #[test]
    fn what_a_backend_answers_is_no_failure_of_its() {
        for outcome in FetchOutcome::ALL {
            let mut breaker = Breaker::default();
            for _ in 0..FAILURES_MAX - 1 {
                breaker.settle(FAILED, Timestamp(0));
            }
            breaker.settle(outcome, Timestamp(0));
            let is_answer = match outcome {
                FetchOutcome::Unavailable(why) => matches!(
                    why.name(),
                    "wrong-shape"
                        | "corrupted"
                        | "too-large"
                        | "circuit-open"
                        | "provider-missing"
                        | "credential-unusable"
                ),
                _ => true,
            };
            assert_eq!(breaker.is_open(), !is_answer, "{}", outcome.name());
        }
    }
}
