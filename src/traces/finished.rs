//! What is kept of a traced delivery between its end and its export: its canonical line, its ids and its times.
//!
//! There is no other way for anything of a delivery to get into a span, and the line holds no body, header, path, query
//! or value. It is all copied: what waits here keeps nothing of a bundle alive.

use std::time::Duration;

use http::Method;

use super::sampler::DeliveryTrace;
use crate::domain::destination::Scheme;
use crate::domain::problem::Problem;
use crate::domain::runtime_token::TokenVerdict;
use crate::domain::scope::ScopeHits;
use crate::domain::time::Timestamp;
use crate::telemetry::{DeliveryLine, Outcome};

/// What the spans of a delivery say beside its canonical line.
#[derive(Debug, Clone, Copy)]
pub struct Traced {
    /// The ids.
    pub trace: DeliveryTrace,
    /// The request's method, as a word of a closed set: [`method_word`].
    pub method: &'static str,
    /// From the request's head to the end of its answer.
    pub took: Duration,
    /// What was sent to the endpoint; `None` where nothing was.
    pub sent: Option<Sent>,
}

/// What was sent to an endpoint.
#[derive(Debug, Clone, Copy)]
pub struct Sent {
    /// How long after the request's head that began.
    pub after: Duration,
    /// How long the endpoint took until its answer's head; `None` where it was not waited for.
    pub took: Option<Duration>,
    /// How the endpoint is spoken to.
    pub scheme: Scheme,
    /// At which port.
    pub port: u16,
}

/// A traced delivery that ended. See [`DeliveryLine`] for what is not explained here.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) traced: Traced,
    pub(super) at: Timestamp,
    pub(super) delivery_id: String,
    pub(super) installation_id: Option<String>,
    pub(super) organization_id: Option<String>,
    pub(super) extension_id: Option<String>,
    pub(super) host: Option<String>,
    pub(super) outcome: Outcome,
    pub(super) error: Option<Problem>,
    pub(super) token_check: Option<TokenVerdict>,
    pub(super) status: Option<u16>,
    pub(super) keys_injected: u32,
    pub(super) keys_missing: u32,
    pub(super) scope_hits: ScopeHits,
    pub(super) mtls: bool,
    pub(super) attempts: u32,
    pub(super) resolve: Option<Duration>,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
}

impl Traced {
    /// How many spans it is.
    pub(super) const fn spans(&self) -> u64 {
        match self.sent {
            Some(_) => 2,
            None => 1,
        }
    }
}

impl Finished {
    pub(super) fn of(line: &DeliveryLine<'_>, traced: Traced) -> Self {
        Self {
            traced,
            at: line.at,
            delivery_id: line.delivery_id.to_owned(),
            installation_id: line.installation_id.map(str::to_owned),
            organization_id: line.organization_id.map(str::to_owned),
            extension_id: line.extension_id.map(str::to_owned),
            host: line.host.map(str::to_owned),
            outcome: line.outcome,
            error: line.error,
            token_check: line.token_check,
            status: line.status,
            keys_injected: line.keys_injected,
            keys_missing: line.keys_missing,
            scope_hits: line.scope_hits,
            mtls: line.mtls,
            attempts: line.attempts,
            resolve: line.resolve,
            bytes_in: line.bytes_in,
            bytes_out: line.bytes_out,
        }
    }

    /// The status that the endpoint answered, where that is what the dispatcher was given.
    pub(super) fn endpoints_status(&self) -> Option<u16> {
        match self.outcome {
            Outcome::Delivered | Outcome::Interrupted | Outcome::DispatcherGone => self.status,
            Outcome::Refused | Outcome::Failed => None,
        }
    }
}

/// The method as spans have it: one that is registered, or `_OTHER`, so that no byte of the request gets there.
#[must_use]
pub fn method_word(method: &Method) -> &'static str {
    const KNOWN: [&str; 9] = [
        "POST", "GET", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "CONNECT", "TRACE",
    ];
    let known = KNOWN.into_iter().find(|known| *known == method.as_str());
    known.unwrap_or(OTHER_METHOD)
}

/// What stands for a method that is not registered.
pub(super) const OTHER_METHOD: &str = "_OTHER";
