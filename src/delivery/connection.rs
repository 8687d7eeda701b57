//! What a connection to an endpoint is: dialled, greeted, and driven by whoever uses it.
//!
//! An HTTP/1.1 connection is polled inside the task of the request that uses it: no task of its own, no wake-ups
//! between two. An HTTP/2 connection is shared, so it has a task.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use http_body::{Body, Frame, SizeHint};
use hyper::client::conn::{http1, http2};
use hyper::rt::Executor;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::route::{Route, TlsRoute};
use super::{DeliveryCounts, FailureKind};
use crate::domain::payload::Enriched;
use crate::egress::{DialError, Egress};

/// The most header fields of an answer.
const HEADERS_MAX: usize = 100;
/// The most bytes of an answer's head; body data is read in pieces of at most this size as well.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// How much of an HTTP/2 answer an endpoint may send ahead.
const H2_WINDOW_BYTES: u32 = 256 * 1024;

/// The body of a request: one buffer of known length.
pub(super) struct RequestBody(Option<Enriched>);

impl RequestBody {
    pub(super) const fn new(body: Enriched) -> Self {
        Self(Some(body))
    }
}

impl Body for RequestBody {
    type Data = Enriched;
    type Error = std::convert::Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Enriched>, Self::Error>>> {
        Poll::Ready(self.0.take().map(|body| Ok(Frame::data(body))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        use bytes::Buf;
        SizeHint::with_exact(self.0.as_ref().map_or(0, Enriched::remaining) as u64)
    }
}

/// A new connection, by what was agreed on.
pub(super) enum Connected {
    H1(H1),
    H2(http2::SendRequest<RequestBody>),
}

/// An HTTP/1.1 connection with the future that drives it.
pub(super) struct H1 {
    pub(super) sender: http1::SendRequest<RequestBody>,
    connection: Pin<Box<http1::Connection<TokioIo<Stream>, RequestBody>>>,
    is_closed: bool,
}

impl H1 {
    /// Lets the connection do what it can. A closed one is not asked again.
    pub(super) fn drive(&mut self, cx: &mut Context<'_>) {
        if !self.is_closed {
            self.is_closed = self.connection.as_mut().poll(cx).is_ready();
        }
    }

    /// Whether another request can be sent: nothing is under way, and the peer has not closed.
    pub(super) fn is_reusable(&mut self, cx: &mut Context<'_>) -> bool {
        self.drive(cx);
        !self.is_closed && self.sender.is_ready()
    }
}

/// Why there is no connection, and whether trying again at once can help. Nothing was sent.
pub(super) struct ConnectError {
    pub(super) kind: FailureKind,
    pub(super) is_transient: bool,
}

/// Dials, greets and agrees on a protocol.
pub(super) async fn connect(
    egress: &Egress,
    route: &Route,
    counts: &DeliveryCounts,
) -> Result<Connected, ConnectError> {
    let tcp = egress.dial(&route.destination.host, route.destination.port).await?;
    counts.connections.fetch_add(1, Ordering::Relaxed);
    let Some(tls) = &route.tls else {
        return h1(Stream::Plain(tcp)).await.map(Connected::H1);
    };
    let stream = greet(tcp, tls, counts).await?;
    if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
        return h2(Stream::Tls(Box::new(stream))).await.map(Connected::H2);
    }
    h1(Stream::Tls(Box::new(stream))).await.map(Connected::H1)
}

async fn greet(tcp: TcpStream, tls: &TlsRoute, counts: &DeliveryCounts) -> Result<TlsStream<TcpStream>, ConnectError> {
    let failed = |is_transient| ConnectError {
        kind: FailureKind::TlsFailed,
        is_transient,
    };
    let name = tls.server_name.clone().ok_or(failed(false))?;
    let connector = TlsConnector::from(tls.config.clone());
    // A refusal of either side's certificate stays one; a connection that broke may not break again.
    let stream = connector
        .connect(name, tcp)
        .await
        .map_err(|error| failed(!is_tls(&error)))?;
    let counter = match stream.get_ref().1.handshake_kind() {
        Some(rustls::HandshakeKind::Resumed) => &counts.handshakes_resumed,
        _ => &counts.handshakes_full,
    };
    counter.fetch_add(1, Ordering::Relaxed);
    Ok(stream)
}

/// Whether an IO error is TLS's own: an alert, a certificate, a broken record. Told by its kind, which sockets do not
/// have: HTTP/2 keeps an error's kind and text, not the error.
pub(super) fn is_tls(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::InvalidData
}

async fn h1(stream: Stream) -> Result<H1, ConnectError> {
    let handshake = http1::Builder::new()
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .handshake::<_, RequestBody>(TokioIo::new(stream));
    let (sender, connection) = handshake.await.map_err(|_| ConnectError::BROKEN)?;
    Ok(H1 {
        sender,
        connection: Box::pin(connection),
        is_closed: false,
    })
}

async fn h2(stream: Stream) -> Result<http2::SendRequest<RequestBody>, ConnectError> {
    let handshake = http2::Builder::new(OnThisWorker)
        .timer(TokioTimer::new())
        .initial_stream_window_size(H2_WINDOW_BYTES)
        .initial_connection_window_size(H2_WINDOW_BYTES * 4)
        .max_header_list_size(HEAD_BYTES_MAX as u32)
        .handshake::<_, RequestBody>(TokioIo::new(stream));
    let (sender, connection) = handshake.await.map_err(|_| ConnectError::BROKEN)?;
    tokio::task::spawn_local(async move {
        let _ = connection.await; // its requests learn how it ended
    });
    Ok(sender)
}

impl ConnectError {
    const BROKEN: Self = Self {
        kind: FailureKind::Unreachable,
        is_transient: true,
    };
}

impl From<DialError> for ConnectError {
    fn from(error: DialError) -> Self {
        match error {
            DialError::Refused(_) => Self {
                kind: FailureKind::Refused,
                is_transient: false,
            },
            DialError::Unresolvable | DialError::Unreachable => Self::BROKEN,
            DialError::Timeout => Self {
                kind: FailureKind::Timeout,
                is_transient: true,
            },
        }
    }
}

/// Runs HTTP/2's tasks where their streams live.
#[derive(Clone)]
struct OnThisWorker;

impl<F: Future + 'static> Executor<F> for OnThisWorker {
    fn execute(&self, task: F) {
        tokio::task::spawn_local(async move {
            task.await;
        });
    }
}

/// A connected stream, plain or TLS.
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, into),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, into),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
