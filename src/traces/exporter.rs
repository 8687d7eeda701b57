//! When spans are exported: a batch at a time, in the background, and what is left once the last delivery ended.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand;
use prost::Message;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::collector::{Collector, NotTaken, Taken};
use super::finished::Finished;
use super::queue::Queue;
use super::spans::Sender;
use super::tries::Tries;
use crate::telemetry::{Metrics, SpanOutcome};

/// The longest that a delivery waits for others to be exported with.
const EXPORT_EVERY: Duration = Duration::from_secs(1);

/// The longest that the export of what is left may take at the end.
pub const FLUSH_WITHIN: Duration = Duration::from_secs(2);

/// Exports what deliveries leave behind. Nothing is exported before [`Self::run`].
pub struct Exporter {
    queue: Arc<Queue>,
    collector: Collector,
    sender: Sender,
    metrics: Arc<Metrics>,
    /// Spans of which it is not known yet what becomes of them.
    under_way: u64,
    is_failing: bool,
}

impl Exporter {
    pub(super) const fn new(queue: Arc<Queue>, collector: Collector, sender: Sender, metrics: Arc<Metrics>) -> Self {
        Self {
            queue,
            collector,
            sender,
            metrics,
            under_way: 0,
            is_failing: false,
        }
    }

    /// Exports until `end`, which comes after the last delivery; then what is left, each span once more at the most, and
    /// no longer than [`FLUSH_WITHIN`].
    pub async fn run(mut self, end: CancellationToken) {
        let too_late = async {
            end.cancelled().await;
            sleep(FLUSH_WITHIN).await;
        };
        let is_whole = tokio::select! {
            biased;
            () = self.export_all(&end) => true,
            () = too_late => false,
        };
        if !is_whole {
            self.give_up();
        }
    }

    async fn export_all(&mut self, end: &CancellationToken) {
        loop {
            let is_last = end.is_cancelled(); // what came before that is in the queue by now
            loop {
                let batch = self.queue.take();
                if batch.is_empty() {
                    break;
                }
                self.export(&batch, end).await;
                if !is_last && !self.queue.has_batch() {
                    break; // others come together first
                }
            }
            if is_last {
                return;
            }
            tokio::select! {
                () = end.cancelled() => {}
                () = self.queue.batch() => {}
                () = sleep(EXPORT_EVERY) => {}
            }
        }
    }

    async fn export(&mut self, batch: &[Finished], end: &CancellationToken) {
        let spans = spans(batch);
        self.under_way = spans;
        let request = self.sender.request(batch).encode_to_vec();
        let sent = self.send(&request, end).await;
        self.under_way = 0;
        let counts = &self.metrics.traces.spans;
        match sent {
            Ok(Taken { rejected }) => {
                let rejected = rejected.min(spans);
                counts.add(SpanOutcome::Exported, spans.saturating_sub(rejected));
                counts.add(SpanOutcome::Rejected, rejected);
            }
            Err(not_taken) if not_taken.is_final() => counts.add(SpanOutcome::Rejected, spans),
            Err(_) => counts.add(SpanOutcome::GivenUp, spans),
        }
    }

    /// Sends a request until it is taken, or will not be. Once the end came, it is sent once more at the most.
    async fn send(&mut self, request: &[u8], end: &CancellationToken) -> Result<Taken, NotTaken> {
        let mut tries = Tries::default();
        loop {
            let is_last = end.is_cancelled();
            let sent = self.collector.send(request).await;
            self.tell(&sent);
            let not_taken = match sent {
                Ok(taken) => return Ok(taken),
                Err(not_taken) => not_taken,
            };
            let mut random = [0];
            let _ = rand::fill(&mut random); // without randomness it is less polite, not wrong
            let wait = tries.wait(not_taken.named_wait(), u8::from_be_bytes(random));
            match wait.filter(|_| not_taken.may_pass() && !is_last) {
                None => return Err(not_taken),
                Some(wait) => tokio::select! {
                    () = end.cancelled() => {}
                    () = sleep(wait) => {}
                },
            }
        }
    }

    /// Tells of what changed, once.
    fn tell(&mut self, sent: &Result<Taken, NotTaken>) {
        let was_failing = std::mem::replace(&mut self.is_failing, sent.is_err());
        match sent {
            Err(why) if !was_failing => {
                tracing::warn!(%why, "spans cannot be exported; they are tried again, and dropped where that does not help")
            }
            Ok(_) if was_failing => tracing::info!("spans are exported again"),
            Ok(_) | Err(_) => {}
        }
    }

    fn give_up(&mut self) {
        let mut lost = self.under_way;
        loop {
            let batch = self.queue.take();
            if batch.is_empty() {
                break;
            }
            lost = lost.saturating_add(spans(&batch));
        }
        self.metrics.traces.spans.add(SpanOutcome::Ended, lost);
        tracing::warn!(spans = lost, "spans could not be exported before the end");
    }
}

fn spans(batch: &[Finished]) -> u64 {
    batch.iter().map(|finished| finished.traced.spans()).sum()
}
