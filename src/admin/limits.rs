//! How much one token may ask for, and how long whoever shows wrong tokens has to wait.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};

use crate::domain::time::Timestamp;

/// The most callers that are remembered at a time; past it those that owe nothing are forgotten.
const REMEMBERED_MAX: usize = 10_000;

/// Wrong tokens of one peer that cost it nothing.
const WRONG_FREE: u32 = 20;

/// The longest that a peer waits, in milliseconds.
const WAIT_MILLIS_MAX: u64 = 60_000;

/// After this long without a wrong token a peer's are forgotten.
const FORGOTTEN_MILLIS: u64 = 15 * 60_000;

/// A rate with a burst for each caller, by the moment at which its burst would be whole again (GCRA).
pub(super) struct RateLimit<K> {
    /// Microseconds between two requests at the rate.
    interval: u64,
    /// How far the moment may lie ahead.
    burst: u64,
    whole_at: Mutex<HashMap<K, u64>>,
}

impl<K: Eq + Hash> RateLimit<K> {
    pub(super) fn new(per_second: usize, burst: usize) -> Self {
        let interval = 1_000_000 / u64::try_from(per_second).unwrap_or(u64::MAX).max(1);
        let burst = u64::try_from(burst).unwrap_or(u64::MAX).max(1);
        Self {
            interval: interval.max(1),
            burst: interval.max(1).saturating_mul(burst),
            whole_at: Mutex::default(),
        }
    }

    /// Takes a request on.
    ///
    /// # Errors
    /// After how many whole seconds it can be, where it is one too many.
    pub(super) fn take(&self, caller: K, now: Timestamp) -> Result<(), u64> {
        let now = now.0.saturating_mul(1_000);
        let mut whole_at = self.whole_at.lock().unwrap_or_else(PoisonError::into_inner);
        if whole_at.len() >= REMEMBERED_MAX {
            whole_at.retain(|_, at| *at > now);
        }
        let entry = whole_at.entry(caller).or_insert(now);
        // A clock that was set back does not lock anybody out for longer than the burst is worth.
        let next = (*entry)
            .clamp(now, now.saturating_add(self.burst))
            .saturating_add(self.interval);
        let limit = now.saturating_add(self.burst);
        if next > limit {
            return Err(next.saturating_sub(limit).div_ceil(1_000_000).max(1));
        }
        *entry = next;
        Ok(())
    }
}

/// What peers owe for wrong tokens.
#[derive(Default)]
pub(super) struct WrongTokens(Mutex<HashMap<IpAddr, Wrong>>);

#[derive(Clone, Copy)]
struct Wrong {
    count: u32,
    last: Timestamp,
}

impl WrongTokens {
    /// How many whole seconds a peer still has to wait; `None` where it may try.
    pub(super) fn wait(&self, peer: IpAddr, now: Timestamp) -> Option<u64> {
        let wrong = self.lock().get(&network(peer)).copied()?;
        let until = wrong.last.plus_millis(wait_millis(wrong.count));
        (now < until).then(|| until.0.saturating_sub(now.0).div_ceil(1_000).max(1))
    }

    /// Counts a wrong token.
    pub(super) fn count(&self, peer: IpAddr, now: Timestamp) {
        let mut peers = self.lock();
        let is_forgotten = |wrong: &Wrong| wrong.last.plus_millis(FORGOTTEN_MILLIS) <= now;
        if peers.len() >= REMEMBERED_MAX {
            peers.retain(|_, wrong| !is_forgotten(wrong));
        }
        if peers.len() >= REMEMBERED_MAX {
            return; // the bound on unknown tokens of all peers together still holds
        }
        let wrong = peers.entry(network(peer)).or_insert(Wrong { count: 0, last: now });
        if is_forgotten(wrong) {
            wrong.count = 0;
        }
        *wrong = Wrong {
            count: wrong.count.saturating_add(1),
            last: now,
        };
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<IpAddr, Wrong>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One second, doubled with each wrong token past the free ones.
fn wait_millis(count: u32) -> u64 {
    match count.checked_sub(WRONG_FREE) {
        None => 0,
        Some(past) => 1_000_u64
            .checked_shl(past)
            .map_or(WAIT_MILLIS_MAX, |wait| wait.min(WAIT_MILLIS_MAX)),
    }
}

/// Whoever has one address of a network of IPv6 has all of them.
fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_the_rate_of_each_caller() {
        let limit = RateLimit::new(2, 3);
        let at = |millis: u64| Timestamp(1_000_000 + millis);
        for n in 0..3 {
            assert_eq!(limit.take("a", at(0)), Ok(()), "{n}");
        }
        assert_eq!(limit.take("a", at(0)), Err(1));
        assert_eq!(limit.take("b", at(0)), Ok(()), "another caller");
        assert_eq!(limit.take("a", at(499)), Err(1));
        assert_eq!(limit.take("a", at(500)), Ok(()));
        assert_eq!(limit.take("a", at(500)), Err(1));
        for n in 0..3 {
            assert_eq!(limit.take("a", at(10_000)), Ok(()), "{n} after a pause");
        }
        assert_eq!(
            limit.take("a", at(10_000)),
            Err(1),
            "a pause earns no more than a burst"
        );
        let slow = RateLimit::new(1, 1);
        assert_eq!(slow.take("a", at(50_000)), Ok(()));
        assert_eq!(slow.take("a", at(0)), Err(1), "a clock that was set back");
    }

    #[test]
    fn wrong_tokens_cost_nothing_at_first_and_then_more_and_more() {
        let wrong = WrongTokens::default();
        let peer = IpAddr::from([192, 0, 2, 1]);
        let now = Timestamp(1_000_000);
        for n in 1..WRONG_FREE {
            wrong.count(peer, now);
            assert_eq!(wrong.wait(peer, now), None, "{n}");
        }
        for expected in [1, 2, 4, 8, 16, 32, 60, 60] {
            wrong.count(peer, now);
            assert_eq!(wrong.wait(peer, now), Some(expected));
            assert_eq!(wrong.wait(peer, now.plus_millis(expected * 1_000)), None);
        }
        assert_eq!(wrong.wait(IpAddr::from([192, 0, 2, 2]), now), None, "another peer");
        let later = now.plus_millis(FORGOTTEN_MILLIS);
        wrong.count(peer, later);
        assert_eq!(wrong.wait(peer, later), None, "forgotten");
    }

    #[test]
    fn a_network_of_ipv6_is_one_peer() {
        let one: IpAddr = "2001:db8::1".parse().unwrap_or(IpAddr::from([0, 0, 0, 0]));
        let other: IpAddr = "2001:db8::ffff:1".parse().unwrap_or(IpAddr::from([0, 0, 0, 0]));
        let foreign: IpAddr = "2001:db8:0:1::1".parse().unwrap_or(IpAddr::from([0, 0, 0, 0]));
        assert_eq!(network(one), network(other));
        assert_ne!(network(one), network(foreign));
    }
}
