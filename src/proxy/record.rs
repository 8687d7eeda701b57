//! What is known of one delivery at its end, however it ends: one canonical line, the counters, the room it took.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::HeaderName;
use http::request::Parts;
use http::{HeaderMap, HeaderValue};

use super::Shared;
use crate::bundles::{Bundle, Standing};
use crate::delivery::Place;
use crate::domain::destination::Destination;
use crate::domain::problem::Problem;
use crate::domain::runtime_token::TokenVerdict;
use crate::domain::trace_context::{TraceContext, TraceId, Written};
use crate::server::{Admitted, Buffered};
use crate::telemetry::{BundleLookup, DeliveryLine, Metrics, Outcome, ShedReason};
use crate::traces::{DeliveryTrace, Sent, Traced, method_word};

/// The length of a delivery id: `dlv_`, 16 digits of the process, 12 of the count.
const ID_LEN: usize = 32;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// A delivery's id, unique over all processes.
#[derive(Debug, Clone, Copy)]
pub(super) struct DeliveryId([u8; ID_LEN]);

/// A delivery under way. Dropped when the last byte of its answer is out, or when the dispatcher is gone.
pub(super) struct Record {
    shared: Arc<Shared>,
    /// When the request's head was there.
    started: Instant,
    pub(super) id: DeliveryId,
    trace_id: Option<TraceId>,
    /// Where the delivery is traced: its spans' ids, and the method's word.
    spans: Option<(DeliveryTrace, &'static str)>,
    pub(super) bundle: Option<Arc<Bundle>>,
    pub(super) token_check: Option<TokenVerdict>,
    resolve: Option<Duration>,
    sent: Option<Instant>,
    upstream: Option<Duration>,
    pub(super) attempts: u32,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
    status: Option<u16>,
    outcome: Outcome,
    problem: Option<Problem>,
    admitted: Option<Admitted>,
    pub(super) held: Option<Buffered>,
    pub(super) place: Option<Place>,
}

impl Record {
    pub(super) fn begin(shared: &Arc<Shared>) -> Self {
        Self {
            shared: Arc::clone(shared),
            started: Instant::now(),
            id: shared.ids.next(),
            trace_id: None,
            spans: None,
            bundle: None,
            token_check: None,
            resolve: None,
            sent: None,
            upstream: None,
            attempts: 0,
            bytes_in: 0,
            bytes_out: 0,
            status: None,
            outcome: Outcome::DispatcherGone,
            problem: None,
            admitted: None,
            held: None,
            place: None,
        }
    }

    /// Notes which trace the request is part of. Where deliveries are traced, this one may be: then in the dispatcher's
    /// trace, or in one that begins here.
    pub(super) fn take_up(&mut self, head: &Parts) {
        let named = named_trace(&head.headers);
        let traces = self.shared.traces.as_ref();
        let trace = traces.and_then(|traces| traces.sample(named));
        self.trace_id = trace.map(|trace| trace.trace).or(named.map(|named| named.trace));
        self.spans = trace.map(|trace| (trace, method_word(&head.method)));
    }

    /// The request goes out, with these header fields. The endpoint is told of its span, where there is one. A state
    /// that came without a trace is none of the trace's that begins here (W3C Trace Context, section 3.3).
    pub(super) fn send(&mut self, headers: &mut HeaderMap) -> Instant {
        if let Some((trace, _)) = &self.spans
            && let Ok(traceparent) = HeaderValue::from_str(trace.outbound().traceparent().as_str())
        {
            headers.insert(TRACEPARENT, traceparent);
            if trace.begins_here() {
                headers.remove(TRACESTATE);
            }
        }
        let now = Instant::now();
        self.sent = Some(now);
        self.attempts = 1; // also where it is given up halfway
        now
    }

    /// Keeps the room that the request takes until its end.
    pub(super) fn admit(&mut self, admitted: Admitted) {
        self.admitted = Some(admitted);
    }

    /// When a delivery that may take so long has to be over. The wait for room is none of the endpoint's time.
    pub(super) fn deadline(&self, timeout: Duration) -> Instant {
        let waited = self.admitted.as_ref().map_or(Duration::ZERO, Admitted::waited);
        self.started + waited + timeout
    }

    /// Keeps room for more bytes than the request's until its end.
    ///
    /// # Errors
    /// [`Problem::Overloaded`] where there is none.
    pub(super) fn hold(&mut self, bytes: usize) -> Result<(), Problem> {
        let has_room = self.held.as_mut().is_none_or(|held| held.grow(bytes));
        let shed = match &mut self.place {
            _ if !has_room => Err(ShedReason::BufferedBytes),
            Some(place) => place.grow(bytes),
            None => Ok(()),
        };
        shed.map_err(|reason| {
            self.shared.metrics.overload.sheds.inc(reason);
            Problem::Overloaded
        })
    }

    /// Notes how a lookup of the bundle went.
    pub(super) fn looked_up(&mut self, lookup: BundleLookup, took: Duration) {
        self.resolve = Some(took);
        let metrics = &self.shared.metrics;
        metrics.bundle_lookups.inc(lookup);
        if lookup != BundleLookup::Hit {
            Metrics::observe(&metrics.resolve_duration, took);
        }
    }

    /// The endpoint answered, or did not, after this long and so many attempts.
    pub(super) fn tried(&mut self, attempts: u32, took: Duration) {
        self.attempts = attempts;
        self.upstream = Some(took);
        let metrics = &self.shared.metrics;
        Metrics::observe(&metrics.upstream_duration, took);
        metrics.retries.inc_by(u64::from(attempts.saturating_sub(1)));
    }

    /// The endpoint's status goes to the dispatcher; the body follows.
    pub(super) fn answered(&mut self, status: u16) {
        self.status = Some(status);
    }

    /// The whole answer of the endpoint was passed on.
    pub(super) fn delivered(&mut self) {
        self.outcome = Outcome::Delivered;
    }

    /// The endpoint's answer broke off after its head was passed on.
    pub(super) fn interrupted(&mut self, problem: Problem) {
        self.outcome = Outcome::Interrupted;
        self.problem = Some(problem);
    }

    /// A problem was answered instead.
    pub(super) fn refused(&mut self, problem: Problem) {
        self.status = Some(problem.status());
        self.outcome = if self.attempts == 0 {
            Outcome::Refused
        } else {
            Outcome::Failed
        };
        self.problem = Some(problem);
        self.shared.metrics.refusals.inc(problem);
    }

    /// What its spans say beside the line, where the delivery is traced.
    fn traced(&self, to: Option<&Destination>, took: Duration) -> Option<Traced> {
        let (trace, method) = self.spans?;
        let sent = self.sent.zip(to).map(|(sent, to)| Sent {
            after: sent.duration_since(self.started),
            took: self.upstream,
            scheme: to.scheme,
            port: to.port,
        });
        Some(Traced {
            trace,
            method,
            took,
            sent,
        })
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let took = self.started.elapsed();
        let standing = self.bundle.as_deref().map(|bundle| &bundle.standing);
        let (installation, ready) = match standing {
            Some(Standing::Installed {
                installation,
                readiness,
            }) => (Some(installation), readiness.as_ref().ok()),
            Some(Standing::Unknown) | None => (None, None),
        };
        let trace_id = self.trace_id.map(TraceId::written);
        let line = DeliveryLine {
            at: self.shared.clock.now(),
            delivery_id: self.id.as_str(),
            installation_id: installation.map(|record| record.id.as_str()),
            organization_id: installation.map(|record| record.organization.as_str()),
            extension_id: installation.map(|record| record.extension.as_str()),
            host: ready.map(|ready| ready.route.host()),
            outcome: self.outcome,
            error: self.problem,
            token_check: self.token_check,
            status: self.status,
            keys_injected: ready.map_or(0, |ready| ready.keys_injected),
            keys_missing: ready.map_or(0, |ready| ready.keys_missing),
            scope_hits: ready.map(|ready| ready.scope_hits).unwrap_or_default(),
            mtls: ready.is_some_and(|ready| ready.mtls),
            attempts: self.attempts,
            resolve: self.resolve,
            upstream: self.upstream,
            bytes_in: self.bytes_in,
            bytes_out: self.bytes_out,
            trace_id: trace_id.as_ref().map(Written::as_str),
        };
        self.shared.log.delivery(&line);
        let to = ready.map(|ready| &ready.route.destination);
        if let (Some(traces), Some(traced)) = (&self.shared.traces, self.traced(to, took)) {
            traces.ended(&line, traced);
        }
        self.shared.metrics.deliveries.inc(self.outcome);
        Metrics::observe(&self.shared.metrics.delivery_duration, took);
    }
}

/// Makes delivery ids: a random part for the process, then a count.
#[derive(Debug)]
pub struct DeliveryIds {
    process: [u8; 20],
    count: std::sync::atomic::AtomicU64,
}

/// The system gave no random bytes.
#[derive(Debug, thiserror::Error)]
#[error("no random bytes")]
pub struct NoRandomness;

impl DeliveryIds {
    /// Ids that no other process makes.
    ///
    /// # Errors
    /// [`NoRandomness`].
    pub fn new() -> Result<Self, NoRandomness> {
        let mut random = [0_u8; 8];
        aws_lc_rs::rand::fill(&mut random).map_err(|_| NoRandomness)?;
        let mut process = *b"dlv_0000000000000000";
        let (_, digits) = process.split_at_mut(4);
        write_hex(u64::from_be_bytes(random), digits);
        Ok(Self {
            process,
            count: std::sync::atomic::AtomicU64::new(0),
        })
    }

    fn next(&self) -> DeliveryId {
        let count = self.count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let mut id = [b'0'; ID_LEN];
        let (process, digits) = id.split_at_mut(self.process.len());
        process.copy_from_slice(&self.process);
        write_hex(count, digits);
        DeliveryId(id)
    }
}

/// Writes the low digits of a number, as many as there is room for.
fn write_hex(mut number: u64, digits: &mut [u8]) {
    for digit in digits.iter_mut().rev() {
        let nibble = (number & 0xf) as u8;
        *digit = if nibble < 10 {
            b'0' + nibble
        } else {
            b'a' + (nibble - 10)
        };
        number >>= 4;
    }
}

impl DeliveryId {
    pub(super) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default() // it is ASCII
    }
}

/// What a request says of the trace that it is part of. Two that say so say nothing.
fn named_trace(headers: &HeaderMap) -> Option<TraceContext> {
    let mut values = headers.get_all(TRACEPARENT).iter();
    let named = values.next()?;
    match values.next() {
        None => TraceContext::parse(named.as_bytes()),
        Some(_) => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn delivery_ids_are_unique_within_and_between_processes() {
        let (one, other) = (DeliveryIds::new().unwrap(), DeliveryIds::new().unwrap());
        let ids = [one.next(), one.next(), other.next()].map(|id| id.as_str().to_owned());
        assert!(ids.iter().all(|id| id.len() == ID_LEN && id.starts_with("dlv_")));
        assert_ne!(ids.first(), ids.get(1));
        assert_ne!(ids.first(), ids.get(2));
        assert!(ids.first().unwrap().ends_with("000000000000"));
        assert!(ids.get(1).unwrap().ends_with("000000000001"));
    }

    #[test]
    fn a_trace_is_named_once_or_not_at_all() {
        let one = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let named = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(TRACEPARENT, value.parse().unwrap());
            }
            named_trace(&headers).map(|context| context.traceparent().as_str().to_owned())
        };
        assert_eq!(named(&[one]).as_deref(), Some(one));
        for none in [&["garbage"][..], &[one, one], &["", one], &[]] {
            assert_eq!(named(none), None, "{none:?}");
        }
    }
}
