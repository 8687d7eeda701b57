//! Whether an endpoint that failed again and again gets another delivery.
//!
//! A delivery counts once, however many attempts it took. What counts is that there was no connection, no TLS, or nothing
//! in time. An answer of any status, also one that is no HTTP, shows that the endpoint is there. A connection that breaks
//! shows neither: somebody took it, and what broke it may be this one payload, which others must not wait for.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::FailureKind;
use crate::domain::breaker::{Breaker, Change, Heard, Pass, Rate, Rules};
use crate::domain::time::Timestamp;
use crate::telemetry::{CircuitState, Metrics};

/// When a circuit opens (contract, section 5), and for how long. No delivery takes longer than a minute, so a probe that
/// nobody heard of in two is lost.
const RULES: Rules = Rules {
    failures_max: 10,
    rate: Some(Rate {
        millis: 30_000,
        calls_min: 20,
        failures_percent: 50,
    }),
    open_millis: 10_000,
    probe_millis: 120_000,
};

/// The circuit of one endpoint, as one organization reaches it. Its lock is held for a few instructions.
#[derive(Debug)]
pub struct Circuit {
    breaker: Mutex<Breaker>,
    metrics: Arc<Metrics>,
}

/// A delivery that was let through. Dropped before its outcome is known (the dispatcher is gone, a panic), it tells
/// nothing of the endpoint, and if it was the probe, the next one is.
#[derive(Debug)]
pub struct Passage<'a> {
    circuit: &'a Circuit,
    /// `None` once it is settled.
    pass: Option<Pass>,
}

/// The endpoint failed too often lately. Retry later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the endpoint's circuit is open")]
pub struct CircuitOpen;

impl Circuit {
    pub(super) const fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            breaker: Mutex::new(Breaker::new(RULES)),
            metrics,
        }
    }

    /// Lets a delivery through.
    ///
    /// # Errors
    /// [`CircuitOpen`].
    pub fn enter(&self, now: Timestamp) -> Result<Passage<'_>, CircuitOpen> {
        let admitted = self.breaker().admit(now);
        let (pass, change) = admitted.ok_or(CircuitOpen)?;
        self.tell(change, true);
        Ok(Passage {
            circuit: self,
            pass: Some(pass),
        })
    }

    /// Whether [`Self::enter`] would let nothing through. Changes nothing.
    #[must_use]
    pub fn refuses(&self, now: Timestamp) -> bool {
        self.breaker().refuses(now)
    }

    fn settle(&self, pass: Pass, heard: Heard, now: Timestamp) {
        let mut breaker = self.breaker();
        let was_open = breaker.is_open();
        let change = breaker.settle(pass, heard, now);
        drop(breaker);
        self.tell(change, was_open);
    }

    fn tell(&self, change: Option<Change>, was_open: bool) {
        let Some(change) = change else { return };
        let overload = &self.metrics.overload;
        match change {
            Change::Opened => {
                overload.circuit_changes.inc(CircuitState::Open);
                if !was_open {
                    overload.circuits_open.inc();
                }
            }
            Change::HalfOpened => overload.circuit_changes.inc(CircuitState::HalfOpen),
            Change::Closed => {
                overload.circuit_changes.inc(CircuitState::Closed);
                overload.circuits_open.dec();
            }
        }
    }

    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        // Each step leaves it whole, so a poisoned lock is still sound.
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Circuit {
    fn drop(&mut self) {
        if self.breaker().is_open() {
            self.metrics.overload.circuits_open.dec();
        }
    }
}

impl Passage<'_> {
    /// Tells how the delivery went: the endpoint answered, or what kept it from doing so.
    pub fn settle(mut self, failure: Option<FailureKind>, now: Timestamp) {
        if let Some(pass) = self.pass.take() {
            self.circuit.settle(pass, failure.map_or(Heard::Answer, heard), now);
        }
    }
}

impl Drop for Passage<'_> {
    fn drop(&mut self) {
        if let Some(pass) = self.pass.take() {
            self.circuit.settle(pass, Heard::Nothing, Timestamp(0)); // when nothing was heard makes no difference
        }
    }
}

/// What a failed delivery tells of the endpoint.
const fn heard(failure: FailureKind) -> Heard {
    match failure {
        FailureKind::Unreachable | FailureKind::TlsFailed | FailureKind::Timeout => Heard::Failure,
        FailureKind::Protocol | FailureKind::Redirected | FailureKind::ResponseTooLarge => Heard::Answer,
        // By the last two nobody was asked.
        FailureKind::Broken | FailureKind::Refused | FailureKind::Withheld => Heard::Nothing,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::telemetry::line_buffer::Drops;

    fn circuit() -> Circuit {
        let metrics = Metrics::new("0.1.0", Timestamp(0), Drops::default()).unwrap();
        Circuit::new(Arc::new(metrics))
    }

    #[test]
    fn only_what_the_endpoint_did_not_answer_opens() {
        for (failure, opens) in [
            (None, false),
            (Some(FailureKind::Unreachable), true),
            (Some(FailureKind::Broken), false),
            (Some(FailureKind::TlsFailed), true),
            (Some(FailureKind::Timeout), true),
            (Some(FailureKind::Protocol), false),
            (Some(FailureKind::Redirected), false),
            (Some(FailureKind::ResponseTooLarge), false),
            (Some(FailureKind::Refused), false),
            (Some(FailureKind::Withheld), false),
        ] {
            let circuit = circuit();
            for _ in 0..100 {
                if let Ok(passage) = circuit.enter(Timestamp(0)) {
                    passage.settle(failure, Timestamp(0));
                }
            }
            assert_eq!(circuit.enter(Timestamp(9_999)).is_err(), opens, "{failure:?}");
        }
    }

    #[test]
    fn the_gauge_counts_what_is_open_and_forgets_what_is_dropped() {
        let circuit = circuit();
        let metrics = Arc::clone(&circuit.metrics);
        let open = || metrics.overload.circuits_open.get();
        let fail = |now| circuit.enter(now).unwrap().settle(Some(FailureKind::Timeout), now);
        for _ in 0..10 {
            assert_eq!(open(), 0);
            fail(Timestamp(0));
        }
        assert_eq!(open(), 1);
        fail(Timestamp(10_000));
        assert_eq!(open(), 1, "opened again, it is still one");
        drop(circuit.enter(Timestamp(20_000)).unwrap());
        let probe = circuit.enter(Timestamp(20_000)).unwrap();
        assert!(circuit.enter(Timestamp(20_000)).is_err() && open() == 1);
        probe.settle(None, Timestamp(20_000));
        assert_eq!(open(), 0);
        for _ in 0..10 {
            fail(Timestamp(20_000));
        }
        assert_eq!(open(), 1);
        drop(circuit);
        assert_eq!(open(), 0);
    }
}
