//! What is counted of fetches from other backends: how they ended, how long they took, and what stood in for them.

use prometheus::{Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use super::labels::SourceBackend;
use super::metrics::{ByLabel, SECONDS, counters, gauges};
use crate::domain::provider::FetchOutcome;

/// The metrics of references. Labels are of closed sets: no organization, no provider, no host.
#[derive(Debug)]
pub struct SourceMetrics {
    /// `kiket_source_fetches_total{backend,outcome}`
    pub fetches: ByLabel<SourceBackend, ByLabel<FetchOutcome, IntCounter>>,
    /// `kiket_source_fetch_duration_seconds{backend}`
    pub fetch_duration: ByLabel<SourceBackend, Histogram>,
    /// `kiket_source_breakers_open{backend}`
    pub breakers_open: ByLabel<SourceBackend, IntGauge>,
    /// `kiket_source_stale_served_total{backend}`
    pub stale_served: ByLabel<SourceBackend, IntCounter>,
}

impl SourceMetrics {
    pub(super) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let opts = Opts::new(
            "kiket_source_fetches_total",
            "Fetches from a backend, by how they ended; circuit-open ones asked nobody.",
        );
        let fetches = IntCounterVec::new(opts, &["backend", "outcome"])?;
        registry.register(Box::new(fetches.clone()))?;
        let opts = HistogramOpts::new(
            "kiket_source_fetch_duration_seconds",
            "From a fetch's begin to its outcome, logins and tries included.",
        );
        let durations = HistogramVec::new(opts.buckets(SECONDS.to_vec()), &["backend"])?;
        registry.register(Box::new(durations.clone()))?;
        Ok(Self {
            fetches: ByLabel::each(|backend| ByLabel::each(|outcome| fetches.with_label_values(&[backend, outcome]))),
            fetch_duration: ByLabel::each(|backend| durations.with_label_values(&[backend])),
            breakers_open: gauges(
                registry,
                "kiket_source_breakers_open",
                "Backends, of any organization, that are left alone for a while.",
                "backend",
            )?,
            stale_served: counters(
                registry,
                "kiket_source_stale_served_total",
                "Times that the last good value was used because its backend did not answer.",
                "backend",
            )?,
        })
    }

    /// Counts a fetch.
    pub fn fetched(&self, backend: SourceBackend, outcome: FetchOutcome) {
        if let Some(outcomes) = self.fetches.get(backend) {
            outcomes.inc(outcome);
        }
    }
}
