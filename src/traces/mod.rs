//! Which deliveries are traced, and how their spans get to a collector: OpenTelemetry's traces over OTLP/HTTP.
//!
//! Off unless the operator names a collector (`otlp_traces_url`). A traced delivery is two spans: the delivery itself
//! (server), whose parent is the dispatcher's, and what was sent to the endpoint (client), which the endpoint's
//! `traceparent` names.
//!
//! - Whether a delivery is traced is the dispatcher's to say; where its request has no `traceparent`, one in
//!   `otlp_traces_one_in` is. All others pass as if there were no collector.
//! - A span says what the canonical line says, and is made from it ([`DeliveryLine`]).
//! - The worker copies the line into a bounded queue, or counts that there was no room; all else is done by one task on
//!   the control runtime. A collector that is slow or away costs spans, no delivery.

mod collector;
mod exporter;
mod finished;
mod messages;
mod queue;
mod sampler;
mod spans;
mod tries;

use std::sync::Arc;
use std::time::Duration;

use crate::domain::destination::Destination;
use crate::domain::trace_context::TraceContext;
use crate::egress::{ExchangerError, Resolver, Trust};
use crate::telemetry::{DeliveryLine, Metrics, SpanOutcome};

use collector::Collector;
pub use exporter::{Exporter, FLUSH_WITHIN};
use finished::Finished;
pub use finished::{Sent, Traced, method_word};
use queue::{Full, Queue};
pub use sampler::DeliveryTrace;
use sampler::Sampler;
use spans::Sender;

/// Where spans go, and how many there are.
#[derive(Debug, Clone)]
pub struct TracesSettings {
    /// Where the collector takes traces.
    pub collector: Destination,
    /// Of so many deliveries whose dispatcher says nothing of a trace, one is traced; 0: none.
    pub one_in: u64,
    /// What this process is called among the others.
    pub instance: String,
    /// For one TCP connection to the collector.
    pub connect_timeout: Duration,
}

/// Decides which deliveries are traced, and takes what they leave behind.
pub struct Traces {
    sampler: Sampler,
    queue: Arc<Queue>,
    metrics: Arc<Metrics>,
}

impl Traces {
    /// Traces for a collector, and what exports them.
    ///
    /// # Errors
    /// [`ExchangerError`] where the collector cannot be spoken to.
    pub fn new(
        settings: &TracesSettings,
        resolver: Arc<dyn Resolver>,
        trust: &Trust,
        metrics: Arc<Metrics>,
    ) -> Result<(Self, Exporter), ExchangerError> {
        let collector = Collector::new(&settings.collector, resolver, trust, settings.connect_timeout)?;
        let (queue, sender) = (Arc::new(Queue::default()), Sender::new(&settings.instance));
        let traces = Self {
            sampler: Sampler::new(settings.one_in),
            queue: Arc::clone(&queue),
            metrics: Arc::clone(&metrics),
        };
        Ok((traces, Exporter::new(queue, collector, sender, metrics)))
    }

    /// The ids of a delivery that is to be traced; `None` for one that is not. `named` is what its request says.
    #[must_use]
    pub fn sample(&self, named: Option<TraceContext>) -> Option<DeliveryTrace> {
        self.sampler.sample(named)
    }

    /// Takes what a traced delivery leaves behind, or counts that there is no room for it. Never waits.
    pub fn ended(&self, line: &DeliveryLine<'_>, traced: Traced) {
        if let Err(Full) = self.queue.put(|| Finished::of(line, traced)) {
            self.metrics.traces.spans.add(SpanOutcome::QueueFull, traced.spans());
        }
    }
}
