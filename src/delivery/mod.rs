//! How a request reaches an endpoint and its answer comes back: lane and circuit, identity, route, pool, attempts.

mod answer;
mod attempt;
mod circuit;
mod connection;
pub mod identity;
mod lane;
mod pool;
mod route;

use std::sync::atomic::{AtomicU64, Ordering};

pub use answer::{AnswerBody, AnswerError};
pub use attempt::{Delivered, Deliverer, Outbound, Withheld};
pub use circuit::{Circuit, CircuitOpen, Passage};
pub use lane::{Lane, Lanes, Place, Shares};
pub use route::{PoolKey, Route};

/// Bounds on what an endpoint can make the process hold or do.
#[derive(Debug, Clone, Copy)]
pub struct DeliveryLimits {
    /// Bytes of one answer's body.
    pub response_bytes_max: usize,
    /// Idle connections kept per pool and worker.
    pub idle_connections_max: usize,
    /// Whether an answer may have an encoding, although none was asked for: nobody looks into it then.
    pub encoded_answers: bool,
}

impl Default for DeliveryLimits {
    fn default() -> Self {
        Self {
            response_bytes_max: 8 * 1024 * 1024,
            idle_connections_max: 256,
            encoded_answers: false,
        }
    }
}

/// Why a delivery did not succeed, and after how many attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{} after {attempts} attempts", .kind.name())]
pub struct DeliveryFailure {
    /// Whose fault it is.
    pub kind: FailureKind,
    /// How often the endpoint was tried.
    pub attempts: u32,
}

/// What can go wrong between the sidecar and an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FailureKind {
    /// No connection. Retry later.
    Unreachable,
    /// The connection broke before an answer, or within it. Retry later.
    Broken,
    /// No TLS session. Retrying helps once a certificate is fixed.
    TlsFailed,
    /// An answer that is not HTTP, or not one that was asked for.
    Protocol,
    /// A redirect, which is never followed.
    Redirected,
    /// An address that deliveries must not reach.
    Refused,
    /// No answer in time. Retry later.
    Timeout,
    /// An answer larger than allowed.
    ResponseTooLarge,
    /// A request that must not be sent. It was not.
    Withheld,
}

impl FailureKind {
    /// The word in logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Broken => "broken",
            Self::TlsFailed => "tls-failed",
            Self::Protocol => "protocol",
            Self::Redirected => "redirected",
            Self::Refused => "refused",
            Self::Timeout => "timeout",
            Self::ResponseTooLarge => "response-too-large",
            Self::Withheld => "withheld",
        }
    }
}

/// What the workers' pools did since the start.
#[derive(Debug, Default)]
pub struct DeliveryCounts {
    connections: AtomicU64,
    handshakes_full: AtomicU64,
    handshakes_resumed: AtomicU64,
    reused: AtomicU64,
}

/// A reading of [`DeliveryCounts`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DeliveryTotals {
    /// Connections opened.
    pub connections: u64,
    /// TLS handshakes with certificates.
    pub handshakes_full: u64,
    /// TLS handshakes from a ticket.
    pub handshakes_resumed: u64,
    /// Attempts over a connection that was there.
    pub reused: u64,
}

impl DeliveryCounts {
    /// What was counted so far.
    #[must_use]
    pub fn totals(&self) -> DeliveryTotals {
        DeliveryTotals {
            connections: self.connections.load(Ordering::Relaxed),
            handshakes_full: self.handshakes_full.load(Ordering::Relaxed),
            handshakes_resumed: self.handshakes_resumed.load(Ordering::Relaxed),
            reused: self.reused.load(Ordering::Relaxed),
        }
    }
}
