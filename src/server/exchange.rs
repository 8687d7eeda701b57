//! How the control plane and the metrics listener are served: one exchange per connection, on the control runtime,
//! over TLS where that is set.
//!
//! A connection ends with its answer, because what it read may have held a value and hyper keeps its buffers as long
//! as the connection lives.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connection::LAST_CALL;
use super::listener::{Bound, Listener, SETTLE};

/// The longest that a head may take to arrive.
const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(10);

/// The longest that a whole exchange may take.
const EXCHANGE_MAX: Duration = Duration::from_secs(60);

/// How long to wait after an accept failed for want of descriptors or memory.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

/// Who is on the other end of a connection; with every request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer(pub SocketAddr);

/// Serves `service` on a TCP listener until `stop`, then whoever is in the queue of a listener of its own, until the
/// exchanges under way are done; over TLS where it is given.
///
/// # Errors
/// Where the listener cannot be registered with the runtime.
pub async fn serve_exchanges<S, B>(
    listener: Listener,
    tls: Option<Arc<ServerConfig>>,
    service: S,
    connections_max: usize,
    stop: CancellationToken,
) -> io::Result<()>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible, Future: Send> + Clone + Send + 'static,
    B: http_body::Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + 'static,
{
    let Bound::Tcp(socket) = &listener.socket else {
        return Err(io::ErrorKind::Unsupported.into());
    };
    let socket = TcpListener::from_std(socket.try_clone()?)?;
    let room = Arc::new(Semaphore::new(connections_max));
    let exchanges = TaskTracker::new();
    let mut closed: Option<Instant> = None;
    while let Ok(permit) = Arc::clone(&room).acquire_owned().await {
        let accepted = match closed {
            None => tokio::select! {
                () = stop.cancelled() => {
                    if !listener.close_the_queue() {
                        break;
                    }
                    closed = Some(Instant::now());
                    continue;
                }
                accepted = socket.accept() => accepted,
            },
            Some(closed) => match tokio::time::timeout_at((closed + SETTLE).into(), socket.accept()).await {
                Ok(accepted) => accepted,
                Err(_) => break,
            },
        };
        match accepted {
            Ok((stream, peer)) => {
                let exchange = exchange_with(stream, peer, tls.clone(), service.clone(), stop.clone());
                exchanges.spawn(async move {
                    // A peer that breaks a rule or the time is of no interest.
                    let _ = tokio::time::timeout(EXCHANGE_MAX, exchange).await;
                    drop(permit);
                });
            }
            Err(_) => tokio::time::sleep(ACCEPT_RETRY).await,
        }
    }
    drop((socket, listener));
    exchanges.close();
    exchanges.wait().await;
    Ok(())
}

async fn exchange_with<S, B>(
    stream: TcpStream,
    peer: SocketAddr,
    tls: Option<Arc<ServerConfig>>,
    service: S,
    stop: CancellationToken,
) where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    B: http_body::Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + 'static,
{
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(Peer(peer));
        service.call(request)
    });
    match tls.map(TlsAcceptor::from) {
        None => exchange(stream, service, stop).await,
        Some(tls) => {
            let shaken = tokio::time::timeout(HEADER_READ_TIMEOUT, tls.accept(stream)).await;
            if let Ok(Ok(stream)) = shaken {
                exchange(stream, service, stop).await;
            }
        }
    }
}

async fn exchange<I, S, B>(stream: I, service: S, stop: CancellationToken)
where
    I: AsyncRead + AsyncWrite + Unpin,
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    B: http_body::Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + 'static,
{
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_READ_TIMEOUT)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    // Whoever connected is about to ask. What was asked is answered, however long that takes.
    let patience = async {
        stop.cancelled().await;
        tokio::time::sleep(LAST_CALL).await;
    };
    tokio::select! {
        _ = connection.as_mut() => {}
        () = patience => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}
