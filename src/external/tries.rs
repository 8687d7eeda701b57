//! When a backend is asked again: a few times, further and further apart, and never past the time that the caller has.

use std::time::Duration;

use aws_lc_rs::rand;
use tokio::time::{Instant, sleep};

/// How often one question is put, the first time included.
const TRIES_MAX: u32 = 4;

/// The wait after the first try; it doubles with every one.
const WAIT_FIRST: Duration = Duration::from_millis(100);

/// The time that a caller has, and what of it may be waited.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tries {
    deadline: Instant,
}

impl Tries {
    /// Everything within this time.
    pub(super) fn within(time: Duration) -> Self {
        Self {
            deadline: Instant::now() + time,
        }
    }

    /// When the caller's time is over.
    pub(super) const fn deadline(self) -> Instant {
        self.deadline
    }

    /// Waits after the try of this number, from 1. `false`, at once, where another one is not to be made.
    pub(super) async fn again(self, tried: u32, named: Option<Duration>) -> bool {
        let mut random = [0];
        let _ = rand::fill(&mut random); // without randomness it is less polite, not wrong
        match self.wait(tried, named, u8::from_be_bytes(random), Instant::now()) {
            Some(wait) => {
                sleep(wait).await;
                true
            }
            None => false,
        }
    }

    /// How long to wait before the next try, with up to as much again, so that those who failed together do not come
    /// back together. A wait that the backend names is not shortened. `None` where the next try would be one too many,
    /// or begin too late.
    fn wait(self, tried: u32, named: Option<Duration>, random: u8, now: Instant) -> Option<Duration> {
        let own = WAIT_FIRST * (1 << tried.clamp(1, TRIES_MAX).saturating_sub(1));
        let jittered = own + own * u32::from(random) / 256;
        let wait = jittered.max(named.unwrap_or_default());
        (tried < TRIES_MAX && now + wait < self.deadline).then_some(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tries_are_few_further_and_further_apart_and_within_the_time() {
        let now = Instant::now();
        let within = |millis| Tries {
            deadline: now + Duration::from_millis(millis),
        };
        let named = |secs| Some(Duration::from_secs(secs));
        for (what, tries, tried, named_wait, random, wait) in [
            ("first", within(60_000), 1, None, 0, Some(100)),
            ("first, jittered", within(60_000), 1, None, 255, Some(199)),
            ("second", within(60_000), 2, None, 0, Some(200)),
            ("third", within(60_000), 3, None, 128, Some(600)),
            ("one too many", within(60_000), 4, None, 0, None),
            ("begins in time", within(101), 1, None, 0, Some(100)),
            ("begins at the end", within(100), 1, None, 0, None),
            ("named", within(5_001), 1, named(5), 255, Some(5_000)),
            ("named, and too late", within(5_000), 1, named(5), 0, None),
            ("named, and shorter", within(60_000), 3, named(0), 0, Some(400)),
        ] {
            let waited = tries.wait(tried, named_wait, random, now).map(|wait| wait.as_millis());
            assert_eq!(waited, wait, "{what}");
        }
    }
}
