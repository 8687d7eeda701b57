//! How often an endpoint is tried, and when not again: only where nothing of the request can have been processed.

use std::error::Error;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, HOST};
use http::response::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Request, Response, Uri};
use hyper::body::Incoming;
use tokio::time::{Instant, sleep, timeout_at};

use super::answer::{AnswerBody, Carrier, advertised_life};
use super::connection::{ConnectError, H1, RequestBody, is_tls};
use super::pool::{H2, Lent, Pools};
use super::route::Route;
use super::{DeliveryCounts, DeliveryFailure, DeliveryLimits, FailureKind};
use crate::domain::payload::Enriched;
use crate::egress::Egress;

/// The first attempt and at most two more.
const ATTEMPTS_MAX: u32 = 3;

/// The wait before another attempt to connect, times the attempts so far.
const CONNECT_AGAIN: Duration = Duration::from_millis(50);

/// A request to an endpoint.
pub struct Outbound<'a> {
    /// The way.
    pub route: Arc<Route>,
    /// Path and query.
    pub target: PathAndQuery,
    /// The header fields, without framing and `Host`.
    pub headers: HeaderMap,
    /// The body.
    pub body: Enriched,
    /// When the whole delivery, answer included, has to be over.
    pub deadline: Instant,
    /// Signs, fresh at every attempt. Called when there is a connection, right before the request goes out over it; may
    /// say that it must not.
    pub sign: &'a dyn Fn(&mut HeaderMap) -> Result<(), Withheld>,
}

/// A request must not be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Withheld;

/// An endpoint's answer.
pub struct Delivered {
    /// Status and header fields.
    pub head: Parts,
    /// The body, as it arrives.
    pub body: AnswerBody,
    /// How often the endpoint was tried.
    pub attempts: u32,
}

/// One worker's way to all endpoints. Lives on the worker's thread; its tasks run on the worker's runtime.
pub struct Deliverer {
    egress: Arc<Egress>,
    limits: DeliveryLimits,
    counts: Arc<DeliveryCounts>,
    pools: Rc<Pools>,
}

/// How one attempt failed.
struct Failed {
    kind: FailureKind,
    again: Again,
}

/// What may follow a failed attempt.
enum Again {
    /// Nothing: the request may have been processed, or it cannot help.
    No,
    /// Another, at once: an idle connection had been closed.
    AtOnce,
    /// Another, after a moment: the endpoint did not accept.
    Later,
}

impl Deliverer {
    /// A deliverer for the current worker.
    #[must_use]
    pub fn new(egress: Arc<Egress>, limits: DeliveryLimits, counts: Arc<DeliveryCounts>) -> Self {
        Self {
            egress,
            limits,
            counts,
            pools: Rc::new(Pools::new(limits.idle_connections_max)),
        }
    }

    /// Delivers a request within its deadline. Cancelled, it closes the connection it used.
    ///
    /// # Errors
    /// [`DeliveryFailure`].
    pub async fn deliver(&self, mut outbound: Outbound<'_>) -> Result<Delivered, DeliveryFailure> {
        let mut attempts = 0;
        let deadline = outbound.deadline;
        match timeout_at(deadline, self.try_all(&mut outbound, &mut attempts)).await {
            Ok(Ok((head, body))) => Ok(Delivered { head, body, attempts }),
            Ok(Err(kind)) => Err(DeliveryFailure { kind, attempts }),
            Err(_) => Err(DeliveryFailure {
                kind: FailureKind::Timeout,
                attempts,
            }),
        }
    }

    /// Closes connections that were idle for too long.
    pub fn sweep(&self) {
        self.pools.sweep();
    }

    async fn try_all(
        &self,
        outbound: &mut Outbound<'_>,
        attempts: &mut u32,
    ) -> Result<(Parts, AnswerBody), FailureKind> {
        loop {
            *attempts += 1;
            match self.attempt(outbound).await {
                Ok(answer) => return Ok(answer),
                Err(Failed {
                    again: Again::AtOnce, ..
                }) if *attempts < ATTEMPTS_MAX => {}
                Err(Failed {
                    again: Again::Later, ..
                }) if *attempts < ATTEMPTS_MAX => {
                    sleep(CONNECT_AGAIN * *attempts).await;
                }
                Err(Failed { kind, .. }) => return Err(kind),
            }
        }
    }

    async fn attempt(&self, outbound: &mut Outbound<'_>) -> Result<(Parts, AnswerBody), Failed> {
        match self
            .pools
            .connection(&outbound.route, &self.egress, &self.counts)
            .await?
        {
            Lent::H1(connection) => self.over_h1(connection, outbound).await,
            Lent::H2(shared) => self.over_h2(shared, outbound).await,
        }
    }

    async fn over_h1(&self, mut connection: H1, outbound: &mut Outbound<'_>) -> Result<(Parts, AnswerBody), Failed> {
        let headers = std::mem::take(&mut outbound.headers);
        let mut request = request(outbound, Uri::from(outbound.target.clone()), headers)?;
        if let Some(host) = outbound.route.host_header() {
            request.headers_mut().insert(HOST, host);
        }
        let mut answer = pin!(connection.sender.try_send_request(request));
        // Only the connection has to be heard: whatever it brings is looked at right after it ran.
        let mut unheard = Context::from_waker(Waker::noop());
        let result = poll_fn(|cx| {
            connection.drive(cx);
            answer.as_mut().poll(&mut unheard)
        })
        .await;
        match result {
            Ok(response) => {
                let life = advertised_life(response.headers());
                let (pools, key) = (Rc::clone(&self.pools), Arc::clone(&outbound.route.pool));
                self.accept(
                    response,
                    Carrier::H1 {
                        connection,
                        pools,
                        key,
                        life,
                    },
                    outbound.deadline,
                )
            }
            Err(mut error) => Err(match error.take_message() {
                Some(unsent) => {
                    outbound.headers = unsent.into_parts().0.headers;
                    Failed {
                        kind: h1_failure(error.error()),
                        again: Again::AtOnce,
                    }
                }
                None => Failed {
                    kind: h1_failure(error.error()),
                    again: Again::No,
                },
            }),
        }
    }

    async fn over_h2(&self, shared: Rc<H2>, outbound: &mut Outbound<'_>) -> Result<(Parts, AnswerBody), Failed> {
        let uri = outbound.route.absolute(outbound.target.clone());
        let request = request(outbound, uri, outbound.headers.clone())?;
        match shared.sender.clone().try_send_request(request).await {
            Ok(response) => self.accept(response, Carrier::H2(shared), outbound.deadline),
            Err(mut error) => {
                let is_unsent = error.take_message().is_some() || is_unprocessed(error.error());
                let kind = match h2_failure(error.error()) {
                    // What was not processed may be sent again later, whatever word the endpoint used.
                    FailureKind::Protocol if is_unsent => FailureKind::Broken,
                    kind => kind,
                };
                let again = if is_unsent { Again::AtOnce } else { Again::No };
                Err(Failed { kind, again })
            }
        }
    }

    /// Checks an answer's head before any of it is passed on.
    fn accept(
        &self,
        response: Response<Incoming>,
        carrier: Carrier,
        deadline: Instant,
    ) -> Result<(Parts, AnswerBody), Failed> {
        let (head, incoming) = response.into_parts();
        let bytes_max = self.limits.response_bytes_max;
        match refused_head(&head, &self.limits) {
            Some(kind) => Err(Failed { kind, again: Again::No }),
            None => Ok((head, AnswerBody::new(incoming, carrier, bytes_max, deadline))),
        }
    }
}

fn request(outbound: &Outbound<'_>, uri: Uri, mut headers: HeaderMap) -> Result<Request<RequestBody>, Withheld> {
    (outbound.sign)(&mut headers)?;
    let mut request = Request::new(RequestBody::new(outbound.body.clone()));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = uri;
    *request.headers_mut() = headers;
    Ok(request)
}

fn refused_head(head: &Parts, limits: &DeliveryLimits) -> Option<FailureKind> {
    if head.status.is_redirection() {
        return Some(FailureKind::Redirected);
    }
    let is_identity = |value: &http::HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"identity");
    let is_plain = limits.encoded_answers || head.headers.get_all(CONTENT_ENCODING).iter().all(is_identity);
    if head.status.is_informational() || !is_plain {
        return Some(FailureKind::Protocol);
    }
    let length = head
        .headers
        .get(CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    length
        .filter(|length| *length > limits.response_bytes_max as u64)
        .map(|_| FailureKind::ResponseTooLarge)
}

/// Whose fault a failed exchange over HTTP/1.1 is.
pub(super) fn h1_failure(error: &hyper::Error) -> FailureKind {
    match io_error(error) {
        Some(io) if wraps_tls(io) => FailureKind::TlsFailed,
        // So hyper calls chunks and trailers that are none.
        Some(io) if matches!(io.kind(), io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput) => {
            FailureKind::Protocol
        }
        io => other_failure(error, io),
    }
}

/// Whose fault a failed exchange over HTTP/2 is. Of an error below it, HTTP/2 keeps the kind and the text.
pub(super) fn h2_failure(error: &hyper::Error) -> FailureKind {
    match io_error(error) {
        Some(io) if is_tls(io) => FailureKind::TlsFailed,
        io => other_failure(error, io),
    }
}

fn other_failure(error: &hyper::Error, io: Option<&io::Error>) -> FailureKind {
    if error.is_parse() {
        FailureKind::Protocol
    } else if io.is_some() || error.is_incomplete_message() || error.is_canceled() || error.is_closed() {
        FailureKind::Broken
    } else {
        FailureKind::Protocol
    }
}

fn io_error(error: &hyper::Error) -> Option<&io::Error> {
    sources(error).find_map(|source| source.downcast_ref::<io::Error>())
}

/// Whether an IO error is one of TLS, by what it wraps.
fn wraps_tls(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>())
}

/// Whether an HTTP/2 endpoint said that it did not process the request: REFUSED_STREAM, or GOAWAY before it
/// (RFC 9113, sections 6.8 and 8.7).
fn is_unprocessed(error: &hyper::Error) -> bool {
    sources(error)
        .find_map(|source| source.downcast_ref::<h2::Error>())
        .is_some_and(|error| {
            let is_refused = error.reason() == Some(h2::Reason::REFUSED_STREAM);
            error.is_remote() && (is_refused || error.is_go_away())
        })
}

fn sources<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    let first: Option<&'a (dyn Error + 'static)> = Some(error);
    std::iter::successors(first, |error: &&'a (dyn Error + 'static)| (**error).source())
}

impl From<Withheld> for Failed {
    fn from(_: Withheld) -> Self {
        Self {
            kind: FailureKind::Withheld,
            again: Again::No,
        }
    }
}

impl From<ConnectError> for Failed {
    fn from(error: ConnectError) -> Self {
        let again = if error.is_transient { Again::Later } else { Again::No };
        Self {
            kind: error.kind,
            again,
        }
    }
}
