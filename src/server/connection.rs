//! How one inbound connection is served: HTTP/1.1, bounded heads, and an end that cuts nobody off.

use std::cell::Cell;
use std::convert::Infallible;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{CONNECTION, HeaderValue};
use http_body::{Body, Frame, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use super::accept::Socket;
use super::{Closing, Limits, Service};

/// The most header fields of a request.
const HEADERS_MAX: usize = 100;

/// The most bytes of a request's head; body data is read in pieces of at most this size as well.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// The longest that a request which has begun to arrive, or whose connection was opened for it, is waited for when
/// connections end.
pub(super) const LAST_CALL: Duration = Duration::from_secs(1);

/// How often is looked whether a connection is quiet. One turn is enough for all that had arrived to be read.
const LOOK_EVERY: Duration = Duration::from_millis(10);

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

/// Serves a connection until the peer is done, breaks a rule, or `closing` asks to end: then a request that has been
/// sent by that time is answered first.
pub(super) async fn serve<S: Service>(connection: Connection, service: Rc<S>, limits: Limits, closing: Closing) {
    match connection {
        Connection::Tcp(stream) => serve_stream(stream, service, limits, closing).await,
        Connection::Unix(stream) => serve_stream(stream, service, limits, closing).await,
    }
}

async fn serve_stream<S: Service>(
    stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
    service: Rc<S>,
    limits: Limits,
    closing: Closing,
) {
    let course = Rc::new(Course::opened());
    let stream = Heard {
        stream,
        course: Rc::clone(&course),
    };
    let answer = service_fn(|request| {
        let (service, serving, closing) = (Rc::clone(&service), Serving::begin(&course), &closing);
        async move {
            let mut response = service.call(request).await;
            if closing.has_begun() {
                let close = HeaderValue::from_static("close");
                response.headers_mut().insert(CONNECTION, close);
            }
            Ok::<_, Infallible>(response.map(|body| Answer { body, serving }))
        }
    });
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_read_timeout)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .half_close(false); // a dispatcher that hangs up ends its delivery
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), answer));
    let quiet = async {
        closing.graceful.cancelled().await;
        course.quiet().await;
    };
    // An error is the peer's: it hung up, was too slow, or does not speak HTTP/1.1. hyper answered where one can.
    tokio::select! {
        biased; // what can be read is read before anything is said about it
        _ = connection.as_mut() => {}
        () = quiet => {
            // Ends it with the answer under way; at once where there is none, whatever has been read of a request.
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}

/// What a connection is in the middle of.
struct Course {
    opened: Instant,
    /// Bytes came in after the last answer.
    heard: Cell<bool>,
    /// A request is being answered.
    serving: Cell<bool>,
    /// A request has been answered before.
    served: Cell<bool>,
}

impl Course {
    fn opened() -> Self {
        Self {
            opened: Instant::now(),
            heard: Cell::new(false),
            serving: Cell::new(false),
            served: Cell::new(false),
        }
    }

    /// Waits until the connection can be told to end: while a request is answered, or when none is on its way, as far
    /// as one can see. A connection is opened for a request.
    async fn quiet(&self) {
        let asked = Instant::now();
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let expected = !self.served.get() && self.opened.elapsed() < LAST_CALL;
            let arrives = (self.heard.get() || expected) && asked.elapsed() < LAST_CALL;
            if self.serving.get() || !arrives {
                return;
            }
        }
    }
}

/// A stream that notes when something came in.
struct Heard<I> {
    stream: I,
    course: Rc<Course>,
}

impl<I: AsyncRead + Unpin> AsyncRead for Heard<I> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.course.heard.set(true);
        }
        read
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Heard<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// A request that is being answered, until its answer's last byte has been handed on.
struct Serving(Rc<Course>);

impl Serving {
    fn begin(course: &Rc<Course>) -> Self {
        course.serving.set(true);
        Self(Rc::clone(course))
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.serving.set(false);
        self.0.served.set(true);
        self.0.heard.set(false);
    }
}

/// An answer's body.
struct Answer<B> {
    body: B,
    #[expect(dead_code, reason = "it ends with the body")]
    serving: Serving,
}

impl<B: Body<Data = Bytes> + Unpin> Body for Answer<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        Pin::new(&mut self.get_mut().body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::io::{Read, Write};

    use http::{Request, Response};
    use hyper::body::Incoming;
    use tokio::runtime::{LocalOptions, LocalRuntime};

    use super::*;

    const REQUEST: &[u8] = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n";

    /// Answers everything alike, and counts.
    #[derive(Default)]
    struct Counting(Cell<usize>);

    impl Service for Counting {
        type Body = http_body_util::Full<Bytes>;

        async fn call(&self, _: Request<Incoming>) -> Response<Self::Body> {
            self.0.set(self.0.get() + 1);
            Response::new(Bytes::from_static(b"ok").into())
        }
    }

    fn runtime() -> LocalRuntime {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().build_local(LocalOptions::default()).unwrap()
    }

    fn limits() -> Limits {
        Limits {
            connections_max: 1,
            in_flight_max: 1,
            buffered_bytes_max: 1,
            body_bytes_max: 1,
            header_read_timeout: Duration::from_secs(60),
            body_read_timeout: Duration::from_secs(60),
        }
    }

    /// A client, and the connection as a worker gets it.
    fn pair() -> (std::net::TcpStream, Socket) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let accepted = listener.accept().unwrap().0;
        accepted.set_nonblocking(true).unwrap();
        (client, Socket::Tcp(accepted))
    }

    /// Everything that comes until the close.
    fn read(mut client: std::net::TcpStream) -> String {
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        answer
    }

    #[test]
    fn a_request_that_was_sent_and_not_read_when_connections_end_is_answered() {
        let (mut client, socket) = pair();
        let service = Rc::new(Counting::default());
        let closing = Closing::default();
        client.write_all(REQUEST).unwrap();
        closing.begin();
        closing.graceful.cancel();
        runtime().block_on(async {
            let connection = Connection::new(socket).unwrap();
            serve(connection, Rc::clone(&service), limits(), closing).await;
        });
        let answer = read(client);
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer:?}");
        assert!(answer.contains("connection: close\r\n"), "{answer}");
        assert_eq!(service.0.get(), 1);
    }

    #[test]
    fn a_second_request_that_arrives_as_connections_end_is_answered_and_a_quiet_one_is_closed() {
        for sends in [true, false] {
            let (mut client, socket) = pair();
            let service = Rc::new(Counting::default());
            let closing = Closing::default();
            client.write_all(REQUEST).unwrap();
            runtime().block_on(async {
                let connection = Connection::new(socket).unwrap();
                let served =
                    tokio::task::spawn_local(serve(connection, Rc::clone(&service), limits(), closing.clone()));
                let client = &mut client;
                while service.0.get() == 0 {
                    tokio::task::yield_now().await;
                }
                let mut first = [0; 16];
                client.read_exact(&mut first).unwrap(); // it is written before anything else is done
                closing.begin();
                if sends {
                    client.write_all(REQUEST).unwrap();
                }
                closing.graceful.cancel();
                served.await.unwrap();
            });
            let answers = read(client);
            assert_eq!(
                answers.matches("HTTP/1.1 200 ").count(),
                usize::from(sends),
                "{answers:?}"
            );
            assert_eq!(service.0.get(), 1 + usize::from(sends));
        }
    }

    #[test]
    fn half_a_head_is_waited_for_when_connections_end() {
        let (mut client, socket) = pair();
        let service = Rc::new(Counting::default());
        let closing = Closing::default();
        let (head, rest) = REQUEST.split_at(20);
        client.write_all(head).unwrap();
        runtime().block_on(async {
            let connection = Connection::new(socket).unwrap();
            let served = tokio::task::spawn_local(serve(connection, Rc::clone(&service), limits(), closing.clone()));
            closing.graceful.cancel();
            tokio::time::timeout(LOOK_EVERY * 3, async { std::future::pending::<()>().await })
                .await
                .unwrap_err();
            client.write_all(rest).unwrap();
            served.await.unwrap();
        });
        assert!(read(client).starts_with("HTTP/1.1 200 "));
    }
}
