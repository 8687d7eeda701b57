//! How much is being held at the moment, and when there is no room for more.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Limits;

/// The server's load, counted for all workers. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Load(Arc<Counts>);

#[derive(Debug)]
struct Counts {
    limits: Limits,
    connections: Arc<Semaphore>,
    admitted: AtomicU64,
    in_flight: AtomicUsize,
    buffered_bytes: AtomicUsize,
    refusing: AtomicBool,
}

/// A request that was let in; dropping it makes room.
#[derive(Debug)]
pub struct Admitted(Load);

/// Body bytes that are being held; dropping it makes room.
#[derive(Debug)]
pub struct Buffered {
    load: Load,
    bytes: usize,
}

impl Load {
    /// No load yet.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self(Arc::new(Counts {
            limits,
            connections: Arc::new(Semaphore::new(limits.connections_max)),
            admitted: AtomicU64::new(0),
            in_flight: AtomicUsize::new(0),
            buffered_bytes: AtomicUsize::new(0),
            refusing: AtomicBool::new(false),
        }))
    }

    /// The bounds.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.0.limits
    }

    /// Lets a request in, unless too many are being served.
    #[must_use]
    pub fn admit(&self) -> Option<Admitted> {
        let admitted = Admitted(self.clone());
        self.0.admitted.fetch_add(1, Ordering::Relaxed);
        let before = self.0.in_flight.fetch_add(1, Ordering::Relaxed);
        (before < self.0.limits.in_flight_max).then_some(admitted)
    }

    /// Makes room for body bytes, unless too many are held.
    #[must_use]
    pub fn buffer(&self, bytes: usize) -> Option<Buffered> {
        let buffered = Buffered {
            load: self.clone(),
            bytes,
        };
        let before = self.0.buffered_bytes.fetch_add(bytes, Ordering::Relaxed);
        (before.saturating_add(bytes) <= self.0.limits.buffered_bytes_max).then_some(buffered)
    }

    /// Waits for room for another connection. Cancel safe.
    pub(super) async fn connection(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.0.connections).acquire_owned().await.ok()
    }

    /// From now on every new request is refused: the grace of a drain is over.
    pub fn refuse_new(&self) {
        self.0.refusing.store(true, Ordering::Relaxed);
    }

    /// Whether new requests are refused.
    #[must_use]
    pub fn refuses_new(&self) -> bool {
        self.0.refusing.load(Ordering::Relaxed)
    }

    /// Open inbound connections.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.0
            .limits
            .connections_max
            .saturating_sub(self.0.connections.available_permits())
    }

    /// Requests that asked to be let in so far.
    #[must_use]
    pub fn admitted(&self) -> u64 {
        self.0.admitted.load(Ordering::Relaxed)
    }

    /// Requests being served.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.0.in_flight.load(Ordering::Relaxed)
    }

    /// Body bytes being held.
    #[must_use]
    pub fn buffered_bytes(&self) -> usize {
        self.0.buffered_bytes.load(Ordering::Relaxed)
    }
}

impl Buffered {
    /// How many bytes it makes room for.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Makes room for more bytes, unless too many are held. They are counted either way.
    #[must_use]
    pub fn grow(&mut self, bytes: usize) -> bool {
        let counts = &self.load.0;
        let before = counts.buffered_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.bytes += bytes;
        before.saturating_add(bytes) <= counts.limits.buffered_bytes_max
    }

    /// Fewer bytes came than there is room for.
    pub(super) fn shrink(&mut self, bytes: usize) {
        let excess = self.bytes.saturating_sub(bytes);
        self.load.0.buffered_bytes.fetch_sub(excess, Ordering::Relaxed);
        self.bytes -= excess;
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.0.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Buffered {
    fn drop(&mut self) {
        self.load.0.buffered_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::time::Duration;

    use super::*;

    fn load() -> Load {
        Load::new(Limits {
            connections_max: 2,
            in_flight_max: 2,
            buffered_bytes_max: 100,
            body_bytes_max: 100,
            header_read_timeout: Duration::from_secs(1),
            body_read_timeout: Duration::from_secs(1),
        })
    }

    #[test]
    fn requests_are_let_in_up_to_the_bound_and_again_when_one_ends() {
        let load = load();
        let first = load.admit().unwrap();
        let _second = load.admit().unwrap();
        assert!(load.admit().is_none());
        assert_eq!(load.in_flight(), 2);
        drop(first);
        assert!(load.admit().is_some());
    }

    #[test]
    fn body_bytes_are_held_up_to_the_bound_and_a_refusal_holds_none() {
        let load = load();
        let held = load.buffer(60).unwrap();
        assert!(load.buffer(41).is_none());
        assert_eq!(load.buffered_bytes(), 60);
        let mut rest = load.buffer(40).unwrap();
        drop(held);
        assert_eq!(load.buffered_bytes(), 40);
        assert!(rest.grow(60) && !rest.grow(1));
        rest.shrink(10);
        rest.shrink(20);
        assert_eq!((load.buffered_bytes(), rest.bytes()), (10, 10));
        drop(rest);
        assert_eq!(load.buffered_bytes(), 0);
    }
}
