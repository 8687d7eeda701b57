//! Which outcomes of a fetch are the backend's failure, and when a backend that failed again and again is left alone.

use super::Millis;
use crate::domain::breaker::{Breaker, Heard, Rules};
use crate::domain::provider::{FetchOutcome, Unavailable};

/// How long a backend is left alone, and how long apart the questions are that look whether it is back.
const OPEN: Millis = 10_000;

/// A fetch takes seconds at most, so that one that nobody heard of by then died.
const RULES: Rules = Rules {
    failures_max: 5,
    rate: None,
    open_millis: OPEN,
    probe_millis: OPEN,
};

/// What is known of one backend, as one organization may see it.
pub(super) const fn of_backend() -> Breaker {
    Breaker::new(RULES)
}

/// What asking a backend brought.
pub(super) const fn heard(outcome: FetchOutcome) -> Heard {
    if is_failure(outcome) {
        Heard::Failure
    } else {
        Heard::Answer
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
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::domain::time::Timestamp;

    const FAILED: FetchOutcome = FetchOutcome::Unavailable(Unavailable::ServerError);

    fn ask(breaker: &mut Breaker, outcome: FetchOutcome, now: Timestamp) {
        let (pass, _) = breaker.admit(now).unwrap();
        let _ = breaker.settle(pass, heard(outcome), now);
    }

    fn opened(now: Timestamp) -> Breaker {
        let mut breaker = of_backend();
        for n in 0..RULES.failures_max {
            assert!(!breaker.is_open(), "{n}");
            ask(&mut breaker, FAILED, now);
        }
        breaker
    }

    #[test]
    fn a_backend_that_fails_in_a_row_is_left_alone_and_then_asked_once() {
        let mut breaker = opened(Timestamp(0));
        assert!(breaker.is_open() && breaker.admit(Timestamp(OPEN - 1)).is_none());
        let (probe, _) = breaker.admit(Timestamp(OPEN)).unwrap();
        assert!(breaker.admit(Timestamp(OPEN)).is_none(), "one only");
        let _ = breaker.settle(probe, heard(FAILED), Timestamp(OPEN + 5));
        assert!(breaker.admit(Timestamp(2 * OPEN + 4)).is_none());
        ask(&mut breaker, FetchOutcome::Dangling, Timestamp(2 * OPEN + 5));
        assert!(!breaker.is_open());
    }

    #[test]
    fn a_question_whose_end_nobody_heard_does_not_leave_it_alone_for_ever() {
        let mut breaker = opened(Timestamp(0));
        assert!(breaker.admit(Timestamp(OPEN)).is_some());
        assert!(breaker.admit(Timestamp(2 * OPEN)).is_some());
    }

    #[test]
    fn what_a_backend_answers_is_no_failure_of_its() {
        for outcome in FetchOutcome::ALL {
            let mut breaker = of_backend();
            for _ in 0..RULES.failures_max - 1 {
                ask(&mut breaker, FAILED, Timestamp(0));
            }
            ask(&mut breaker, outcome, Timestamp(0));
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
