//! What is counted of overload: what was shed and why, and which endpoints are left alone.

use prometheus::{IntCounter, IntGauge, Registry};

use super::labels::{CircuitState, ShedReason};
use super::metrics::{ByLabel, counters, gauge};

/// The metrics of bounds and circuits. Labels are of closed sets: no organization, no host.
#[derive(Debug)]
pub struct OverloadMetrics {
    /// `kiket_sheds_total{reason}`
    pub sheds: ByLabel<ShedReason, IntCounter>,
    /// `kiket_circuit_changes_total{to}`
    pub circuit_changes: ByLabel<CircuitState, IntCounter>,
    /// `kiket_circuits_open`
    pub circuits_open: IntGauge,
}

impl OverloadMetrics {
    pub(super) fn register(registry: &Registry) -> prometheus::Result<Self> {
        Ok(Self {
            sheds: counters(
                registry,
                "kiket_sheds_total",
                "Deliveries answered 503 overloaded, by the bound that was reached.",
                "reason",
            )?,
            circuit_changes: counters(
                registry,
                "kiket_circuit_changes_total",
                "Changes of the circuits of endpoints, by what they became.",
                "to",
            )?,
            circuits_open: gauge(
                registry,
                "kiket_circuits_open",
                "Circuits, one for each organization and endpoint, that are open or half open.",
            )?,
        })
    }
}
