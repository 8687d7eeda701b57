//! When a collector that did not take spans is asked again: further and further apart, and not for long. Pure.

use std::time::Duration;

/// How often the same spans are sent, the first time included.
const TRIES_MAX: u32 = 5;

/// The wait after the first try; it doubles with every one.
const WAIT_FIRST: Duration = Duration::from_millis(500);

/// What all waits together may come to, those that the collector names among them.
const WAITS_MAX: Duration = Duration::from_secs(30);

/// How often a collector was asked to take the same spans, and for how long that was waited.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Tries {
    made: u32,
    waited: Duration,
}

impl Tries {
    /// How long to wait after one more try that failed, with up to as much again, so that those who failed together do
    /// not come back together. A wait that the collector names is not shortened. `None` where no other try is to be made.
    pub(super) fn wait(&mut self, named: Option<Duration>, random: u8) -> Option<Duration> {
        self.made = self.made.saturating_add(1);
        if self.made >= TRIES_MAX {
            return None;
        }
        let own = WAIT_FIRST * (1 << self.made.saturating_sub(1));
        let jittered = own + own * u32::from(random) / 256;
        let wait = jittered.max(named.unwrap_or_default());
        self.waited = self.waited.saturating_add(wait);
        (self.waited <= WAITS_MAX).then_some(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits(random: u8, named: &[Option<u64>]) -> Vec<Option<u128>> {
        let mut tries = Tries::default();
        let named = named.iter().map(|named| named.map(Duration::from_millis));
        named
            .map(|named| tries.wait(named, random).map(|wait| wait.as_millis()))
            .collect()
    }

    #[test]
    fn tries_are_few_and_further_and_further_apart() {
        let none = [None; 6];
        let bare = [Some(500), Some(1_000), Some(2_000), Some(4_000), None, None];
        assert_eq!(waits(0, &none), bare);
        let jittered = [Some(750), Some(1_500), Some(3_000), Some(6_000), None, None];
        assert_eq!(waits(128, &none), jittered);
    }

    #[test]
    fn a_wait_that_is_named_is_kept_as_long_as_all_of_them_are_within_bounds() {
        for (named, waited) in [
            (vec![Some(2_000)], vec![Some(2_000)]),
            (vec![Some(0)], vec![Some(500)]),
            (vec![Some(30_000)], vec![Some(30_000)]),
            (vec![Some(30_001)], vec![None]),
            (vec![Some(15_000), Some(15_000)], vec![Some(15_000), Some(15_000)]),
            (vec![Some(15_000), Some(15_001)], vec![Some(15_000), None]),
            (vec![Some(u64::MAX)], vec![None]),
        ] {
            assert_eq!(waits(0, &named), waited, "{named:?}");
        }
    }
}
