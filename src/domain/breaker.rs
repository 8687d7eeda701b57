//! When something that fails again and again is left alone, and when it is tried once more: one state machine for
//! endpoints and for the backends of references.
//!
//! It opens after so many failures in a row, or where so large a part of the last calls failed. Open, it lets nothing
//! through for a while; then one probe, whose outcome closes it or opens it again. Time is an argument, and wall time:
//! a clock that is set back makes nobody wait longer than the rules say.

use super::time::Timestamp;

/// Slots of a rate's time.
const SLOTS: usize = 10;

/// When a breaker opens, and for how long. In milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// So many failures in a row open it.
    pub failures_max: u32,
    /// So large a part of the last calls, too.
    pub rate: Option<Rate>,
    /// So long nothing passes once it is open.
    pub open_millis: u64,
    /// A probe that nobody heard of for so long is given up, and another one passes.
    pub probe_millis: u64,
}

/// How many of the last calls may fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Calls that ended so long ago or less are looked at, to a tenth of it.
    pub millis: u64,
    /// Fewer calls say nothing.
    pub calls_min: u32,
    /// So many of a hundred failures open it.
    pub failures_percent: u32,
}

/// What a call brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// An answer, whatever it said.
    Answer,
    /// None: the other side failed.
    Failure,
    /// Nothing that tells anything of the other side.
    Nothing,
}

/// What lets a call through; goes back with its outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a probe that nobody settles keeps others out"]
pub struct Pass(u64);

/// How a breaker changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// From now on nothing passes.
    Opened,
    /// A probe passed.
    HalfOpened,
    /// From now on everything passes.
    Closed,
}

/// What is known of one other side.
#[derive(Debug)]
pub struct Breaker {
    rules: Rules,
    state: State,
    /// Grows with every change, so that what was let through before one does not count after it.
    changes: u64,
    failures: u32,
    recent: [Slot; SLOTS],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed,
    Open { since: Timestamp },
    HalfOpen { probe: Option<Timestamp> },
}

/// Calls that ended within one part of a rate's time.
#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    number: u64,
    calls: u32,
    failures: u32,
}

impl Breaker {
    /// A closed one.
    #[must_use]
    pub const fn new(rules: Rules) -> Self {
        let nothing = Slot {
            number: 0,
            calls: 0,
            failures: 0,
        };
        Self {
            rules,
            state: State::Closed,
            changes: 0,
            failures: 0,
            recent: [nothing; SLOTS],
        }
    }

    /// Lets a call through, or not. Every pass is to be settled.
    pub fn admit(&mut self, now: Timestamp) -> Option<(Pass, Option<Change>)> {
        match &mut self.state {
            State::Closed => return Some((Pass(self.changes), None)),
            State::Open { since } => {
                *since = (*since).min(now);
                if now.0 - since.0 < self.rules.open_millis {
                    return None;
                }
            }
            State::HalfOpen { probe: Some(probe) } => {
                *probe = (*probe).min(now);
                if now.0 - probe.0 < self.rules.probe_millis {
                    return None;
                }
            }
            State::HalfOpen { probe: None } => {}
        }
        let change = matches!(self.state, State::Open { .. }).then_some(Change::HalfOpened);
        self.state = State::HalfOpen { probe: Some(now) };
        self.changes = self.changes.wrapping_add(1);
        Some((Pass(self.changes), change))
    }

    /// A pass for a call that is made whatever is known. Its outcome counts like a probe's while the breaker is open.
    pub const fn force(&self) -> Pass {
        Pass(self.changes)
    }

    /// Whether [`Self::admit`] would let nothing through.
    #[must_use]
    pub const fn refuses(&self, now: Timestamp) -> bool {
        match self.state {
            State::Closed | State::HalfOpen { probe: None } => false,
            State::Open { since } => now.0.saturating_sub(since.0) < self.rules.open_millis,
            State::HalfOpen { probe: Some(probe) } => now.0.saturating_sub(probe.0) < self.rules.probe_millis,
        }
    }

    /// Takes over what a call brought. One that was let through before the last change says nothing of now.
    pub fn settle(&mut self, pass: Pass, heard: Heard, now: Timestamp) -> Option<Change> {
        if pass.0 != self.changes {
            return None;
        }
        match (self.state, heard) {
            (State::Closed, Heard::Answer) => {
                self.failures = 0;
                self.count(now, 0);
                None
            }
            (State::Closed, Heard::Failure) => {
                self.failures = self.failures.saturating_add(1);
                self.count(now, 1);
                let too_many = self.failures >= self.rules.failures_max || self.fails_too_often(now);
                too_many.then(|| self.open(now))
            }
            (State::HalfOpen { .. }, Heard::Nothing) => {
                self.state = State::HalfOpen { probe: None };
                None
            }
            (State::Closed | State::Open { .. }, Heard::Nothing) => None,
            (State::Open { .. } | State::HalfOpen { .. }, Heard::Answer) => {
                *self = Self {
                    changes: self.changes.wrapping_add(1),
                    ..Self::new(self.rules)
                };
                Some(Change::Closed)
            }
            (State::Open { .. } | State::HalfOpen { .. }, Heard::Failure) => Some(self.open(now)),
        }
    }

    /// Whether it is open, or looks whether the other side is back.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        !matches!(self.state, State::Closed)
    }

    fn open(&mut self, now: Timestamp) -> Change {
        self.state = State::Open { since: now };
        self.changes = self.changes.wrapping_add(1);
        Change::Opened
    }

    fn count(&mut self, now: Timestamp, failures: u32) {
        let Some(rate) = self.rules.rate else { return };
        let number = rate.slot(now);
        let Some(slot) = self.recent.get_mut(usize::try_from(number % SLOTS as u64).unwrap_or(0)) else {
            return; // there is one for each rest
        };
        if slot.number != number {
            *slot = Slot {
                number,
                ..Slot::default()
            };
        }
        slot.calls = slot.calls.saturating_add(1);
        slot.failures = slot.failures.saturating_add(failures);
    }

    fn fails_too_often(&self, now: Timestamp) -> bool {
        let Some(rate) = self.rules.rate else { return false };
        let current = rate.slot(now);
        let is_recent = |slot: &&Slot| current.checked_sub(slot.number).is_some_and(|age| age < SLOTS as u64);
        let (mut calls, mut failures) = (0_u64, 0_u64);
        for slot in self.recent.iter().filter(is_recent) {
            calls = calls.saturating_add(slot.calls.into());
            failures = failures.saturating_add(slot.failures.into());
        }
        let share = failures.saturating_mul(100);
        calls >= rate.calls_min.into() && share >= calls.saturating_mul(rate.failures_percent.into())
    }
}

impl Rate {
    /// Which part of time a moment lies in.
    const fn slot(&self, now: Timestamp) -> u64 {
        let length = self.millis / SLOTS as u64;
        now.0 / if length == 0 { 1 } else { length }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use proptest::prelude::*;

    use super::*;

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

    /// A breaker with a clock that is moved by hand.
    struct Bench(Breaker, Timestamp);

    impl Bench {
        fn closed() -> Self {
            Self(Breaker::new(RULES), Timestamp(1_000_000))
        }

        fn opened() -> Self {
            let mut bench = Self::closed();
            for _ in 0..RULES.failures_max {
                bench.call(Heard::Failure).unwrap();
            }
            assert!(bench.0.is_open());
            bench
        }

        fn call(&mut self, heard: Heard) -> Option<Option<Change>> {
            let (pass, _) = self.0.admit(self.1)?;
            Some(self.0.settle(pass, heard, self.1))
        }

        fn move_on(&mut self, millis: u64) {
            self.1 = self.1.plus_millis(millis);
        }
    }

    #[test]
    fn the_tenth_failure_in_a_row_opens_and_an_answer_between_starts_the_count_anew() {
        let mut bench = Bench::closed();
        for _ in 0..9 {
            assert_eq!(bench.call(Heard::Failure), Some(None));
        }
        assert_eq!(bench.call(Heard::Nothing), Some(None), "says nothing, either way");
        assert_eq!(bench.call(Heard::Answer), Some(None));
        for _ in 0..9 {
            bench.move_on(30_000); // the rate is another test's
            assert_eq!(bench.call(Heard::Failure), Some(None));
        }
        assert_eq!(bench.call(Heard::Failure), Some(Some(Change::Opened)));
        assert_eq!(bench.call(Heard::Answer), None);
    }

    #[test]
    fn half_of_twenty_calls_within_the_time_open_and_less_of_either_does_not() {
        // Failures and answers take turns, so that there are never ten in a row.
        let run = |calls: u32, answers_first: u32, apart: u64| {
            let mut bench = Bench::closed();
            for n in 0..calls {
                let is_answer = n < answers_first || (n - answers_first).is_multiple_of(2);
                let _ = bench.call(if is_answer { Heard::Answer } else { Heard::Failure });
                bench.move_on(apart);
            }
            bench.0.is_open()
        };
        assert!(!run(19, 0, 1) && run(20, 0, 1), "twenty calls");
        assert!(!run(20, 1, 1) && !run(21, 1, 1), "less than half");
        assert!(run(40, 0, 1_000) && !run(400, 0, 1_600), "twenty within thirty seconds");
    }

    #[test]
    fn open_it_lets_nothing_through_for_its_time_then_one_probe() {
        let mut bench = Bench::opened();
        bench.move_on(9_999);
        assert!(bench.0.admit(bench.1).is_none());
        bench.move_on(1);
        let (probe, change) = bench.0.admit(bench.1).unwrap();
        assert_eq!(change, Some(Change::HalfOpened));
        bench.move_on(119_999);
        assert!(bench.0.refuses(bench.1) && bench.0.admit(bench.1).is_none(), "one only");
        assert_eq!(
            bench.0.settle(probe, Heard::Failure, bench.1),
            Some(Change::Opened),
            "and for its time again"
        );
        bench.move_on(9_999);
        assert!(bench.0.admit(bench.1).is_none());
        bench.move_on(1);
        assert_eq!(bench.call(Heard::Answer), Some(Some(Change::Closed)));
        for _ in 0..9 {
            assert_eq!(bench.call(Heard::Failure), Some(None), "nothing is left of before");
        }
    }

    #[test]
    fn a_probe_that_says_nothing_makes_room_for_the_next_and_one_that_nobody_hears_of_does_not_last() {
        let mut bench = Bench::opened();
        bench.move_on(10_000);
        assert_eq!(bench.call(Heard::Nothing), Some(None));
        let (lost, change) = bench.0.admit(bench.1).unwrap();
        assert_eq!(change, None, "it was half open");
        bench.move_on(120_000);
        let (probe, _) = bench.0.admit(bench.1).unwrap();
        assert_eq!(bench.0.settle(lost, Heard::Answer, bench.1), None, "it was given up");
        assert_eq!(bench.0.settle(probe, Heard::Answer, bench.1), Some(Change::Closed));
    }

    #[test]
    fn what_was_let_through_before_a_change_says_nothing_after_it() {
        let mut bench = Bench::closed();
        let early: Vec<_> = (0..12).map(|_| bench.0.admit(bench.1).unwrap().0).collect();
        for pass in &early[..10] {
            let _ = bench.0.settle(*pass, Heard::Failure, bench.1);
        }
        assert!(bench.0.is_open());
        bench.move_on(9_000);
        assert_eq!(bench.0.settle(early[10], Heard::Failure, bench.1), None);
        assert_eq!(bench.0.settle(early[11], Heard::Answer, bench.1), None);
        bench.move_on(1_000);
        assert!(bench.0.admit(bench.1).is_some(), "its time was not made longer");
    }

    #[test]
    fn a_call_that_is_made_all_the_same_counts_like_a_probe() {
        let mut bench = Bench::opened();
        let forced = bench.0.force();
        assert_eq!(bench.0.settle(forced, Heard::Answer, bench.1), Some(Change::Closed));
        let mut bench = Bench::opened();
        bench.move_on(9_000);
        let forced = bench.0.force();
        assert_eq!(bench.0.settle(forced, Heard::Failure, bench.1), Some(Change::Opened));
        bench.move_on(9_000);
        assert!(bench.0.refuses(bench.1));
    }

    #[test]
    fn a_clock_that_is_set_back_makes_nobody_wait_longer() {
        let mut bench = Bench::opened();
        bench.1 = Timestamp(5);
        assert!(bench.0.admit(bench.1).is_none());
        bench.move_on(10_000);
        assert!(bench.0.admit(bench.1).is_some());
    }

    /// What can happen to a breaker.
    #[derive(Debug, Clone, Copy)]
    enum Step {
        Ask,
        End(usize, u8),
        Pass(u64),
        Back(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => Just(Step::Ask),
            4 => (0..8_usize, 0..4_u8).prop_map(|(which, how)| Step::End(which, how)),
            2 => (0..12_000_u64).prop_map(Step::Pass),
            1 => (0..40_000_u64).prop_map(Step::Back),
        ]
    }

    proptest! {
        /// Whatever happens: closed it lets all through, there is never a second probe while one is out and heard of,
        /// what was let through before a change changes nothing, and a wait is never longer than the rules' longest.
        #[test]
        fn one_probe_at_a_time_and_no_wait_without_end(steps in proptest::collection::vec(step(), 1..200)) {
            let (mut breaker, mut now) = (Breaker::new(RULES), Timestamp(100_000));
            let mut out: Vec<Pass> = Vec::new();
            for step in steps {
                match step {
                    Step::Ask => {
                        let (was_open, refuses) = (breaker.is_open(), breaker.refuses(now));
                        let admitted = breaker.admit(now);
                        prop_assert!(was_open || admitted.is_some());
                        prop_assert!(!refuses || admitted.is_none());
                        if let Some((pass, _)) = admitted {
                            prop_assert!(!was_open || breaker.admit(now).is_none(), "a second probe");
                            out.push(pass);
                        }
                    }
                    Step::End(which, how) if !out.is_empty() => {
                        let pass = out.swap_remove(which % out.len());
                        let heard = [Heard::Answer, Heard::Failure, Heard::Failure, Heard::Nothing][usize::from(how)];
                        let (is_current, was_open) = (pass == breaker.force(), breaker.is_open());
                        let change = breaker.settle(pass, heard, now);
                        prop_assert!(is_current || change.is_none());
                        prop_assert_eq!(breaker.is_open(), match change {
                            Some(change) => change != Change::Closed,
                            None => was_open,
                        });
                    }
                    Step::End(..) => {}
                    Step::Pass(millis) => now = now.plus_millis(millis),
                    Step::Back(millis) => now = Timestamp(now.0.saturating_sub(millis)),
                }
            }
            let _ = breaker.admit(now); // a clock that was set back is noticed here
            let longest = now.plus_millis(RULES.open_millis.max(RULES.probe_millis));
            prop_assert!(breaker.admit(longest).is_some());
        }
    }
}
