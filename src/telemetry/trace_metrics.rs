//! What is counted of traces: the spans that were exported, and those that were not, by why.

use prometheus::{IntCounter, Registry};

use super::labels::SpanOutcome;
use super::metrics::{ByLabel, counters};

/// The metrics of traces. All stay at zero where no collector is named.
#[derive(Debug)]
pub struct TraceMetrics {
    /// `kiket_trace_spans_total{outcome}`
    pub spans: ByLabel<SpanOutcome, IntCounter>,
}

impl TraceMetrics {
    pub(super) fn register(registry: &Registry) -> prometheus::Result<Self> {
        Ok(Self {
            spans: counters(
                registry,
                "kiket_trace_spans_total",
                "Spans of traced deliveries, by what became of them.",
                "outcome",
            )?,
        })
    }
}
