//! How one inbound connection is served: HTTP/1.1, bounded heads, graceful end.

use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::rc::Rc;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_util::sync::CancellationToken;

use super::accept::Socket;
use super::{Limits, Service};

/// The most header fields of a request.
const HEADERS_MAX: usize = 100;

/// The most bytes of a request's head; body data is read in pieces of at most this size as well.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// A stream that belongs to the current worker's runtime.
pub(super) enum Connection {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Connection {
    pub(super) fn new(socket: Socket) -> io::Result<Self> {
        match socket {
            Socket::Tcp(stream) => TcpStream::from_std(stream).map(Self::Tcp),
            Socket::Unix(stream) => UnixStream::from_std(stream).map(Self::Unix),
        }
    }
}

/// Serves a connection until the peer is done, breaks a rule, or `graceful` asks to end after the current request.
pub(super) async fn serve<S: Service>(
    connection: Connection,
    service: Rc<S>,
    limits: Limits,
    graceful: CancellationToken,
) {
    match connection {
        Connection::Tcp(stream) => serve_stream(stream, service, limits, graceful).await,
        Connection::Unix(stream) => serve_stream(stream, service, limits, graceful).await,
    }
}

async fn serve_stream<S: Service>(
    stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
    service: Rc<S>,
    limits: Limits,
    graceful: CancellationToken,
) {
    let answer = service_fn(|request| {
        let service = Rc::clone(&service);
        async move { Ok::<_, Infallible>(service.call(request).await) }
    });
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_read_timeout)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .half_close(false); // a dispatcher that hangs up ends its delivery
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), answer));
    // An error is the peer's: it hung up, was too slow, or does not speak HTTP/1.1. hyper answered where one can.
    tokio::select! {
        _ = connection.as_mut() => {}
        () = graceful.cancelled() => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}
