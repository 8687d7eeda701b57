//! What the process tells its operators: log lines and counters, never a payload, a header, a value or a query.
//!
//! Labels come from closed sets only; the same word stands in the log and in the metric.

pub mod delivery_line;
pub mod labels;
pub mod line_buffer;
pub mod logging;
pub mod metrics;
pub mod overload_metrics;
pub mod source_metrics;
pub mod token_metrics;
pub mod trace_metrics;

pub use delivery_line::DeliveryLine;
pub use labels::{
    AuditFailure, BundleLookup, CircuitState, Handshake, KeyFetch, Listener, NoticeKind, NoticeOutcome, Outcome,
    ShedReason, SourceBackend, SpanOutcome,
};
pub use logging::{LogFormat, LogHandle};
pub use metrics::Metrics;
