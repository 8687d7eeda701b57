//! How much is being held at the moment, and when there is no room for more.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError};
use tokio::time::timeout;

use super::Limits;

/// How long a request waits for room before it is turned away, where the worker keeps up.
const WAIT: Duration = Duration::from_millis(4);

/// A wait that took as long as this: the worker is behind, and comes to each request late.
const BEHIND: Duration = Duration::from_millis(6);

/// How much longer it waits where the worker is behind.
const WAIT_MORE: Duration = Duration::from_millis(250);

/// The server's load, counted for all workers. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Load(Arc<Counts>);

#[derive(Debug)]
struct Counts {
    limits: Limits,
    connections: Arc<Semaphore>,
    admitted: AtomicU64,
    in_flight: Arc<Semaphore>,
    buffered_bytes: AtomicUsize,
}

/// A request that was let in; dropping it makes room.
#[derive(Debug)]
pub struct Admitted {
    #[expect(dead_code, reason = "what it takes ends with it")]
    room: OwnedSemaphorePermit,
    waited: Duration,
}

/// Why a request is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TurnedAway {
    /// Too many are being served.
    Full,
    /// New requests are refused.
    Closed,
}

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
            in_flight: Arc::new(Semaphore::new(limits.in_flight_max)),
            buffered_bytes: AtomicUsize::new(0),
        }))
    }

    /// The bounds.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.0.limits
    }

    /// Lets a request in. Where too many are being served, it waits for room, first come first served: for 4 ms, so
    /// that a burst is not refused; and for 250 ms more where its worker is behind. Then every refusal would cost time
    /// that deliveries need, and a dispatcher that comes back at once would take more and more of it.
    ///
    /// Cancel safe: whoever goes gives up the turn.
    ///
    /// # Errors
    /// [`TurnedAway`].
    pub async fn admit(&self) -> Result<Admitted, TurnedAway> {
        self.0.admitted.fetch_add(1, Ordering::Relaxed);
        match Arc::clone(&self.0.in_flight).try_acquire_owned() {
            Ok(room) => Ok(Admitted {
                room,
                waited: Duration::ZERO,
            }),
            Err(TryAcquireError::Closed) => Err(TurnedAway::Closed),
            Err(TryAcquireError::NoPermits) => self.wait_for_room().await,
        }
    }

    async fn wait_for_room(&self) -> Result<Admitted, TurnedAway> {
        let mut room = pin!(Arc::clone(&self.0.in_flight).acquire_owned());
        let asked = Instant::now();
        let room = match timeout(WAIT, &mut room).await {
            Err(_) if asked.elapsed() >= BEHIND => timeout(WAIT_MORE, &mut room).await,
            soon => soon,
        };
        let room = room.map_err(|_| TurnedAway::Full)?;
        Ok(Admitted {
            room: room.map_err(|_| TurnedAway::Closed)?,
            waited: asked.elapsed(),
        })
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

    /// From now on every new request is refused, and whoever waits as well: the grace of a drain is over.
    pub fn refuse_new(&self) {
        self.0.in_flight.close();
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
        self.0
            .limits
            .in_flight_max
            .saturating_sub(self.0.in_flight.available_permits())
    }

    /// Body bytes being held.
    #[must_use]
    pub fn buffered_bytes(&self) -> usize {
        self.0.buffered_bytes.load(Ordering::Relaxed)
    }
}

impl Admitted {
    /// How long the request had to wait for room.
    #[must_use]
    pub const fn waited(&self) -> Duration {
        self.waited
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

impl Drop for Buffered {
    fn drop(&mut self) {
        self.load.0.buffered_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use futures_util::FutureExt;

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

    fn runtime() -> tokio::runtime::Runtime {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_time().build().unwrap()
    }

    #[test]
    fn requests_are_let_in_up_to_the_bound_and_again_when_one_ends() {
        runtime().block_on(async {
            let load = load();
            let first = load.admit().await.unwrap();
            let second = load.admit().await.unwrap();
            assert_eq!((first.waited(), second.waited()), (Duration::ZERO, Duration::ZERO));
            let asked = Instant::now();
            assert_eq!(load.admit().await.unwrap_err(), TurnedAway::Full);
            assert!(asked.elapsed() >= WAIT);
            assert_eq!((load.in_flight(), load.admitted()), (2, 3));
            drop(first);
            assert_eq!(load.admit().await.unwrap().waited(), Duration::ZERO);
        });
    }

    #[test]
    fn room_goes_to_who_waits_for_it_in_their_order() {
        runtime().block_on(async {
            let load = load();
            let held = [load.admit().await.unwrap(), load.admit().await.unwrap()];
            let (first, second) = (load.admit(), load.admit());
            tokio::pin!(first, second);
            assert!(first.as_mut().now_or_never().is_none());
            assert!(second.as_mut().now_or_never().is_none());
            let [one, _other] = held;
            drop(one);
            // It is not anybody else's, who comes now.
            assert!(second.as_mut().now_or_never().is_none());
            assert!(load.admit().now_or_never().is_none());
            let first = first.now_or_never().unwrap().unwrap();
            assert!(first.waited() > Duration::ZERO);
            drop(first);
            assert!(second.now_or_never().unwrap().is_ok());
        });
    }

    #[test]
    fn one_that_goes_while_it_waits_leaves_its_turn_to_the_next() {
        runtime().block_on(async {
            let load = load();
            let [one, _other] = [load.admit().await.unwrap(), load.admit().await.unwrap()];
            let mut goes = Box::pin(load.admit());
            let stays = load.admit();
            tokio::pin!(stays);
            assert!(goes.as_mut().now_or_never().is_none());
            assert!(stays.as_mut().now_or_never().is_none());
            drop(one); // the room is for the one that goes
            drop(goes);
            assert!(stays.now_or_never().unwrap().is_ok());
            assert_eq!(load.in_flight(), 1);
        });
    }

    #[test]
    fn while_the_worker_is_behind_requests_wait_on_and_not_for_ever() {
        runtime().block_on(async {
            let load = load();
            let [one, _other] = [load.admit().await.unwrap(), load.admit().await.unwrap()];
            let (first, second) = (load.admit(), load.admit());
            tokio::pin!(first, second);
            for _ in 0..5 {
                assert!(first.as_mut().now_or_never().is_none());
                assert!(second.as_mut().now_or_never().is_none());
                let busy = Instant::now();
                while busy.elapsed() < BEHIND {} // the worker does something else
                tokio::task::yield_now().await; // and sees how late it is
            }
            drop(one);
            let first = first.await.unwrap();
            assert!(first.waited() > BEHIND);
            assert_eq!(second.await.unwrap_err(), TurnedAway::Full);
        });
    }

    #[test]
    fn once_new_requests_are_refused_nobody_waits() {
        runtime().block_on(async {
            let load = load();
            let held = [load.admit().await.unwrap(), load.admit().await.unwrap()];
            let waits = load.admit();
            tokio::pin!(waits);
            assert!(waits.as_mut().now_or_never().is_none());
            load.refuse_new();
            assert_eq!(waits.now_or_never().unwrap().unwrap_err(), TurnedAway::Closed);
            assert_eq!(load.admit().await.unwrap_err(), TurnedAway::Closed);
            assert_eq!(load.in_flight(), 2);
            drop(held);
            assert_eq!(load.in_flight(), 0);
        });
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
