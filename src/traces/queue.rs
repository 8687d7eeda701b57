//! Where traced deliveries wait for their export: bounded, and never waited for.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::finished::Finished;

/// Deliveries that may wait: some two thousand a second are exported as they come, and a burst of as many fits.
pub(super) const WAITING_MAX: usize = 2_048;

/// Deliveries that are exported at a time.
pub(super) const BATCH_MAX: usize = 512;

/// Traced deliveries that ended and were not exported yet.
#[derive(Default)]
pub(super) struct Queue {
    waiting: Mutex<VecDeque<Finished>>,
    /// Told when a batch is together: a worker wakes nobody for a single delivery.
    batch: Notify,
}

/// There is no room: what was to be put in is gone.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

impl Queue {
    /// Puts a delivery in, which is made only where there is room. Never waits for anything but another worker that does
    /// the same.
    pub(super) fn put(&self, finished: impl FnOnce() -> Finished) -> Result<(), Full> {
        if self.waiting().len() >= WAITING_MAX {
            return Err(Full);
        }
        let finished = finished(); // outside of the lock
        let mut waiting = self.waiting();
        if waiting.len() >= WAITING_MAX {
            return Err(Full);
        }
        waiting.push_back(finished);
        if waiting.len() == BATCH_MAX {
            self.batch.notify_one();
        }
        Ok(())
    }

    /// The next to be exported, at most a batch of them.
    pub(super) fn take(&self) -> Vec<Finished> {
        let mut waiting = self.waiting();
        let most = waiting.len().min(BATCH_MAX);
        waiting.drain(..most).collect()
    }

    /// Whether a whole batch waits.
    pub(super) fn has_batch(&self) -> bool {
        self.waiting().len() >= BATCH_MAX
    }

    /// Waits until a whole batch came together. Cancel safe.
    pub(super) async fn batch(&self) {
        self.batch.notified().await;
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<Finished>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner) // whole deliveries only
    }
}
