//! How inbound connections are taken, bounded and served: one acceptor, N single-threaded workers.
//!
//! The acceptor runs on the control runtime, takes the connection permit and hands the socket to the worker with the
//! fewest connections (not `SO_REUSEPORT`: there is none for Unix sockets, it spreads unevenly, and any process of the
//! same user could join in). A worker is a thread with a current-thread runtime, so that a service needs no locks.

mod accept;
mod body;
mod connection;
mod exchange;
mod inherited;
mod listener;
mod load;
mod tls;
mod worker;

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;

pub use accept::{Acceptor, Listeners};
pub use body::{BodyError, declared_length, discard, read_body};
pub use exchange::{Peer, serve_exchanges};
pub use inherited::{InheritError, Inherited};
pub use listener::{BindError, Listener};
pub use load::{Admitted, Buffered, Load, TurnedAway};
pub use tls::{TlsFileError, server_tls};
pub use worker::{Closing, Pulse, WorkerError, Workers};

/// Bounds on what peers can make the process hold.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Open inbound connections; more wait in the kernel's queue.
    pub connections_max: usize,
    /// Requests being served at a time; more wait a moment for room, and are shed.
    pub in_flight_max: usize,
    /// Bytes of request bodies held at a time; more are shed.
    pub buffered_bytes_max: usize,
    /// Bytes of one body.
    pub body_bytes_max: usize,
    /// The longest that a request's head may take to arrive; an idle connection is closed after it as well.
    pub header_read_timeout: Duration,
    /// The longest that a body may take to arrive.
    pub body_read_timeout: Duration,
}

/// What a worker runs for every request. One instance per worker, on that worker's thread.
pub trait Service: 'static {
    /// The body of an answer.
    type Body: http_body::Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Unpin + 'static;

    /// Answers a request. Dropped at any await when the peer goes away.
    fn call(&self, request: Request<Incoming>) -> impl Future<Output = Response<Self::Body>>;

    /// Runs now and then on the worker, so that the service can let go of what it no longer needs.
    fn sweep(&self) {}
}
