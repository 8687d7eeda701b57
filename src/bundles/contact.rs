//! Whether the store tells of changes: while it is silent, what is in memory may be used for a bounded time only.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// When the store's feed was last read. Its time is the monotonic clock's: a wall clock that jumps loses nothing.
#[derive(Debug)]
pub struct StoreContact {
    last: Mutex<Instant>,
    away: AtomicBool,
    lost: AtomicBool,
    max_stale: Duration,
}

impl StoreContact {
    /// One that begins now. What is in memory may be used for `max_stale` after the last contact.
    #[must_use]
    pub fn begin(max_stale: Duration) -> Self {
        Self {
            last: Mutex::new(Instant::now()),
            away: AtomicBool::new(false),
            lost: AtomicBool::new(false),
            max_stale,
        }
    }

    /// The feed was read: everything that changed is known.
    pub fn made(&self) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        self.away.store(false, Ordering::Relaxed);
        self.lost.store(false, Ordering::Relaxed);
    }

    /// The feed could not be read.
    pub fn failed(&self) {
        self.away.store(true, Ordering::Relaxed);
    }

    /// Looks at the clock. To be called about twice a second.
    pub fn observe(&self) {
        self.lost.store(self.silence() >= self.max_stale, Ordering::Relaxed);
    }

    /// How long the feed has not been read.
    #[must_use]
    pub fn silence(&self) -> Duration {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }

    /// Whether the feed could not be read the last time.
    #[must_use]
    pub fn is_away(&self) -> bool {
        self.away.load(Ordering::Relaxed)
    }

    /// Whether the feed has not been read for too long: what is in memory is not used any more.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Relaxed)
    }
}
