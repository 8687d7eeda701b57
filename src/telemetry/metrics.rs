//! What is counted: one registry, its handles held by position, so that a delivery looks no label up.

use std::marker::PhantomData;
use std::time::Duration;

use prometheus::core::{Atomic, GenericCounterVec, GenericGaugeVec};
use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

use super::labels::{AuditFailure, BundleLookup, Handshake, Label, Listener, NoticeKind, NoticeOutcome, Outcome};
use super::line_buffer::Drops;
use super::overload_metrics::OverloadMetrics;
use super::source_metrics::SourceMetrics;
use super::token_metrics::TokenMetrics;
use super::trace_metrics::TraceMetrics;
use crate::domain::alert::AlertKind;
use crate::domain::problem::Problem;
use crate::domain::time::Timestamp;

/// Upper bounds, in seconds, of what a delivery takes.
pub(super) const SECONDS: &[f64] = &[
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0,
];

/// The metrics cannot be registered: a name is taken twice or is none. A fault of the build.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a metric cannot be registered")]
pub struct MetricsError;

/// One handle for each word of a closed set.
#[derive(Debug)]
pub struct ByLabel<L, M> {
    handles: Vec<M>,
    label: PhantomData<L>,
}

impl<L: Label, M> ByLabel<L, M> {
    pub(super) fn each(mut handle: impl FnMut(&'static str) -> M) -> Self {
        Self {
            handles: L::ALL.iter().map(|label| handle(label.word())).collect(),
            label: PhantomData,
        }
    }

    /// The handle of one word (`None` never happens for a label whose positions are right).
    #[must_use]
    pub fn get(&self, label: L) -> Option<&M> {
        self.handles.get(label.position())
    }
}

impl<L: Label> ByLabel<L, IntCounter> {
    /// Counts one.
    pub fn inc(&self, label: L) {
        self.add(label, 1);
    }

    /// Counts so many.
    pub fn add(&self, label: L, count: u64) {
        if let Some(counter) = self.get(label) {
            counter.inc_by(count);
        }
    }
}

impl<L: Label> ByLabel<L, IntGauge> {
    /// One more.
    pub fn inc(&self, label: L) {
        if let Some(gauge) = self.get(label) {
            gauge.inc();
        }
    }

    /// One less.
    pub fn dec(&self, label: L) {
        if let Some(gauge) = self.get(label) {
            gauge.dec();
        }
    }
}

/// Every metric of the product. Shared; every operation is an atomic or two.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    drops: Drops,
    /// `kiket_deliveries_total{outcome}`
    pub deliveries: ByLabel<Outcome, IntCounter>,
    /// `kiket_refusals_total{problem}`
    pub refusals: ByLabel<Problem, IntCounter>,
    /// `kiket_bundle_lookups_total{result}`
    pub bundle_lookups: ByLabel<BundleLookup, IntCounter>,
    /// `kiket_delivery_duration_seconds`
    pub delivery_duration: Histogram,
    /// `kiket_upstream_duration_seconds`
    pub upstream_duration: Histogram,
    /// `kiket_resolve_duration_seconds`: cold deliveries only.
    pub resolve_duration: Histogram,
    /// `kiket_connections{listener}`
    pub connections: ByLabel<Listener, IntGauge>,
    /// `kiket_in_flight`
    pub in_flight: IntGauge,
    /// `kiket_buffered_bytes`
    pub buffered_bytes: IntGauge,
    /// `kiket_bundles`
    pub bundles: IntGauge,
    /// `kiket_echoes_total`
    pub echoes: IntCounter,
    /// `kiket_leaks_stopped_total`
    pub leaks_stopped: IntCounter,
    /// `kiket_store_up`
    pub store_up: IntGauge,
    /// `kiket_store_silent_seconds`
    pub store_silent_seconds: IntGauge,
    /// `kiket_retries_total`
    pub retries: IntCounter,
    /// `kiket_outbox_waiting`
    pub outbox_waiting: IntGauge,
    /// `kiket_notices_total{kind,outcome}`
    pub notices: ByLabel<NoticeKind, ByLabel<NoticeOutcome, IntCounter>>,
    /// `kiket_audit_failures_total{work}`
    pub audit_failures: ByLabel<AuditFailure, IntCounter>,
    /// `kiket_alerts_total{kind}`
    pub alerts: ByLabel<AlertKind, IntCounter>,
    /// What is fetched from other backends.
    pub sources: SourceMetrics,
    /// What was shed, and which endpoints are left alone.
    pub overload: OverloadMetrics,
    /// What is seen of runtime tokens.
    pub runtime_tokens: TokenMetrics,
    /// What became of spans.
    pub traces: TraceMetrics,
    upstream_connections: IntCounter,
    upstream_reused: IntCounter,
    upstream_handshakes: ByLabel<Handshake, IntCounter>,
    log_lines_dropped: IntCounter,
    guards: IntGaugeVec,
}

/// What the data plane's pools counted since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UpstreamTotals {
    /// Connections opened to endpoints.
    pub connections: u64,
    /// TLS handshakes with certificates.
    pub handshakes_full: u64,
    /// TLS handshakes from a ticket.
    pub handshakes_resumed: u64,
    /// Attempts that found an idle connection.
    pub reused: u64,
}

impl Metrics {
    /// All metrics at zero, for a process of this version that started then. `drops` is the log's count.
    ///
    /// # Errors
    /// [`MetricsError`] for a fault of the build.
    pub fn new(version: &str, started: Timestamp, drops: Drops) -> Result<Self, MetricsError> {
        let registry = Registry::new();
        Self::build(registry, version, started, drops).map_err(|_| MetricsError)
    }

    fn build(registry: Registry, version: &str, started: Timestamp, drops: Drops) -> prometheus::Result<Self> {
        let r = &registry;
        let info = gauge_vec(
            r,
            "kiket_build_info",
            "The running version, as a label; always 1.",
            "version",
        )?;
        info.with_label_values(&[version]).set(1);
        let process_start = gauge(
            r,
            "process_start_time_seconds",
            "When the process started, in seconds since the epoch.",
        )?;
        process_start.set(i64::try_from(started.as_secs()).unwrap_or(i64::MAX));
        Ok(Self {
            deliveries: counters(r, "kiket_deliveries_total", "Deliveries by how they ended.", "outcome")?,
            refusals: counters(
                r,
                "kiket_refusals_total",
                "Problems that dispatchers were given.",
                "problem",
            )?,
            bundle_lookups: counters(r, "kiket_bundle_lookups_total", "Lookups of bundles.", "result")?,
            delivery_duration: histogram(
                r,
                "kiket_delivery_duration_seconds",
                "From a request's head to the end of its answer.",
            )?,
            upstream_duration: histogram(
                r,
                "kiket_upstream_duration_seconds",
                "From the dial to the head of an endpoint's answer.",
            )?,
            resolve_duration: histogram(r, "kiket_resolve_duration_seconds", "Wait for a bundle not in memory.")?,
            connections: gauges(r, "kiket_connections", "Open inbound connections.", "listener")?,
            in_flight: gauge(r, "kiket_in_flight", "Deliveries under way.")?,
            buffered_bytes: gauge(r, "kiket_buffered_bytes", "Bytes of payloads held in memory.")?,
            bundles: gauge(r, "kiket_bundles", "Bundles in memory.")?,
            store_up: gauge(r, "kiket_store_up", "1 where the store answered last, else 0.")?,
            store_silent_seconds: gauge(
                r,
                "kiket_store_silent_seconds",
                "How long the store has not told of changes; deliveries end at max_stale.",
            )?,
            echoes: counter(r, "kiket_echoes_total", "Injected values that came back in answers.")?,
            leaks_stopped: counter(
                r,
                "kiket_leaks_stopped_total",
                "Deliveries stopped because a secret stood outside of its slot (leak_assertion).",
            )?,
            retries: counter(r, "kiket_retries_total", "Attempts after the first.")?,
            outbox_waiting: gauge(
                r,
                "kiket_outbox_waiting",
                "Notices that were not delivered yet, when last looked at.",
            )?,
            notices: notices(r)?,
            audit_failures: counters(
                r,
                "kiket_audit_failures_total",
                "Times that the audit log could not be kept up, or was found altered.",
                "work",
            )?,
            alerts: counters(
                r,
                "kiket_alerts_total",
                "Alerts that were raised and taken up here.",
                "kind",
            )?,
            sources: SourceMetrics::register(r)?,
            overload: OverloadMetrics::register(r)?,
            runtime_tokens: TokenMetrics::register(r)?,
            traces: TraceMetrics::register(r)?,
            upstream_connections: counter(
                r,
                "kiket_upstream_connections_total",
                "Connections opened to endpoints.",
            )?,
            upstream_reused: counter(r, "kiket_upstream_reused_total", "Attempts over an idle connection.")?,
            upstream_handshakes: counters(
                r,
                "kiket_upstream_tls_handshakes_total",
                "TLS handshakes with endpoints.",
                "kind",
            )?,
            log_lines_dropped: counter(
                r,
                "kiket_log_lines_dropped_total",
                "Log lines that nobody read in time.",
            )?,
            guards: gauge_vec(
                r,
                "kiket_guard_active",
                "1 where the guard is in force, else 0.",
                "guard",
            )?,
            drops,
            registry,
        })
    }

    /// Observes how long something took.
    pub fn observe(histogram: &Histogram, duration: Duration) {
        histogram.observe(duration.as_secs_f64());
    }

    /// States whether a guard is in force. `guard` is a word of the guards' closed set.
    pub fn set_guard(&self, guard: &'static str, active: bool) {
        self.guards.with_label_values(&[guard]).set(i64::from(active));
    }

    /// Takes over what the pools counted: before a scrape.
    pub fn set_upstream(&self, totals: UpstreamTotals) {
        raise(Some(&self.upstream_connections), totals.connections);
        raise(Some(&self.upstream_reused), totals.reused);
        raise(self.upstream_handshakes.get(Handshake::Full), totals.handshakes_full);
        raise(
            self.upstream_handshakes.get(Handshake::Resumed),
            totals.handshakes_resumed,
        );
    }

    /// All metrics in Prometheus's text format 0.0.4.
    #[must_use]
    pub fn render(&self) -> String {
        raise(Some(&self.log_lines_dropped), self.drops.count());
        let mut text = String::with_capacity(16 * 1024);
        let rendered = TextEncoder::new().encode_utf8(&self.registry.gather(), &mut text);
        if rendered.is_err() {
            tracing::error!("the metrics cannot be rendered");
        }
        text
    }
}

/// Brings a counter up to a total that is counted elsewhere.
fn raise(counter: Option<&IntCounter>, total: u64) {
    if let Some(counter) = counter {
        counter.inc_by(total.saturating_sub(counter.get()));
    }
}

fn counter(registry: &Registry, name: &str, help: &str) -> prometheus::Result<IntCounter> {
    let counter = IntCounter::new(name, help)?;
    registry.register(Box::new(counter.clone()))?;
    Ok(counter)
}

pub(super) fn gauge(registry: &Registry, name: &str, help: &str) -> prometheus::Result<IntGauge> {
    let gauge = IntGauge::new(name, help)?;
    registry.register(Box::new(gauge.clone()))?;
    Ok(gauge)
}

fn histogram(registry: &Registry, name: &str, help: &str) -> prometheus::Result<Histogram> {
    let histogram = Histogram::with_opts(HistogramOpts::new(name, help).buckets(SECONDS.to_vec()))?;
    registry.register(Box::new(histogram.clone()))?;
    Ok(histogram)
}

fn gauge_vec(registry: &Registry, name: &str, help: &str, label: &str) -> prometheus::Result<IntGaugeVec> {
    let family = GenericGaugeVec::new(Opts::new(name, help), &[label])?;
    registry.register(Box::new(family.clone()))?;
    Ok(family)
}

pub(super) fn gauges<L: Label>(
    registry: &Registry,
    name: &str,
    help: &str,
    label: &str,
) -> prometheus::Result<ByLabel<L, IntGauge>> {
    let family = gauge_vec(registry, name, help, label)?;
    Ok(ByLabel::each(|word| family.with_label_values(&[word])))
}

pub(super) fn counters<L: Label, P: Atomic + 'static>(
    registry: &Registry,
    name: &str,
    help: &str,
    label: &str,
) -> prometheus::Result<ByLabel<L, prometheus::core::GenericCounter<P>>> {
    let family = GenericCounterVec::<P>::new(Opts::new(name, help), &[label])?;
    registry.register(Box::new(family.clone()))?;
    Ok(ByLabel::each(|word| family.with_label_values(&[word])))
}

fn notices(registry: &Registry) -> prometheus::Result<ByLabel<NoticeKind, ByLabel<NoticeOutcome, IntCounter>>> {
    let opts = Opts::new(
        "kiket_notices_total",
        "Attempts to deliver a notice, by how they ended.",
    );
    let family = IntCounterVec::new(opts, &["kind", "outcome"])?;
    registry.register(Box::new(family.clone()))?;
    Ok(ByLabel::each(|kind| {
        ByLabel::each(|outcome| family.with_label_values(&[kind, outcome]))
    }))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};

    use super::*;

    fn metrics() -> Metrics {
        Metrics::new("0.1.0", Timestamp(1_795_537_500_000), Drops::default()).unwrap()
    }

    #[test]
    fn every_word_of_a_closed_set_is_there_from_the_start() {
        let text = metrics().render();
        for outcome in Outcome::ALL {
            assert!(text.contains(&format!("kiket_deliveries_total{{outcome=\"{}\"}} 0\n", outcome.name())));
        }
        for problem in Problem::ALL {
            assert!(text.contains(&format!("kiket_refusals_total{{problem=\"{}\"}} 0\n", problem.name())));
        }
        assert!(text.contains("kiket_build_info{version=\"0.1.0\"} 1\n"));
        assert!(text.contains("process_start_time_seconds 1795537500\n"));
    }

    #[test]
    fn totals_counted_elsewhere_are_taken_over_and_never_go_back() {
        let metrics = metrics();
        let totals = UpstreamTotals {
            connections: 3,
            handshakes_full: 2,
            handshakes_resumed: 1,
            reused: 40,
        };
        metrics.set_upstream(totals);
        metrics.set_upstream(UpstreamTotals {
            connections: 1,
            ..totals
        });
        metrics.deliveries.inc(Outcome::Refused);
        metrics.refusals.inc(Problem::Draining);
        Metrics::observe(&metrics.delivery_duration, Duration::from_millis(3));
        metrics.set_guard("landlock", false);
        let text = metrics.render();
        assert!(text.contains("kiket_upstream_connections_total 3\n"));
        assert!(text.contains("kiket_upstream_tls_handshakes_total{kind=\"resumed\"} 1\n"));
        assert!(text.contains("kiket_deliveries_total{outcome=\"refused\"} 1\n"));
        assert!(text.contains("kiket_refusals_total{problem=\"draining\"} 1\n"));
        assert!(text.contains("kiket_delivery_duration_seconds_bucket{le=\"0.005\"} 1\n"));
        assert!(text.contains("kiket_upstream_duration_seconds_count 0\n"));
        assert!(text.contains("kiket_guard_active{guard=\"landlock\"} 0\n"));
    }

    #[test]
    fn prometheus_own_checker_has_nothing_to_say() {
        let metrics = metrics();
        metrics.set_guard("landlock", false);
        let mut checker = Command::new("promtool")
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("promtool is installed by tests/run");
        checker
            .stdin
            .take()
            .unwrap()
            .write_all(metrics.render().as_bytes())
            .unwrap();
        let verdict = checker.wait_with_output().unwrap();
        let said = [verdict.stdout, verdict.stderr].concat();
        assert!(
            verdict.status.success() && said.is_empty(),
            "{}",
            String::from_utf8_lossy(&said)
        );
    }
}
