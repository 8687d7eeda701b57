//! To which worker a connection goes, and who is still taken when the listeners close.

use std::io;
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, UnixListener};
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;

use super::listener::{BindError, Bound, Listener, SETTLE};
use super::{Load, Workers};
use crate::config::Listen;

/// How long to wait after an accept failed for want of descriptors or memory.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

/// How often a queue that closes is looked into while handshakes settle.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Bound listeners, not yet served.
#[derive(Debug, Default)]
pub struct Listeners(pub(super) Vec<Listener>);

/// A socket on its way to a worker, with its permit.
pub(super) struct Accepted {
    pub(super) socket: Socket,
    pub(super) permit: OwnedSemaphorePermit,
}

/// A connected stream that belongs to no runtime yet.
pub(super) enum Socket {
    Tcp(std::net::TcpStream),
    Unix(std::os::unix::net::UnixStream),
}

/// Accepts on all listeners until told to stop.
pub struct Acceptor {
    listeners: Listeners,
    load: Load,
    workers: Workers,
}

impl Listeners {
    /// Binds every address, or none. Needs no runtime.
    ///
    /// # Errors
    /// [`BindError`] for the first address that cannot be bound.
    pub fn bind(addresses: &[Listen]) -> Result<Self, BindError> {
        addresses.iter().map(Listener::bind).collect::<Result<_, _>>().map(Self)
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Where the listeners stand, with the ports that were taken.
    #[must_use]
    pub fn bound(&self) -> Vec<Listen> {
        self.0.iter().filter_map(Listener::bound).collect()
    }
}

impl Acceptor {
    /// An acceptor that hands what it accepts to `workers`.
    #[must_use]
    pub fn new(listeners: Listeners, load: Load, workers: Workers) -> Self {
        Self {
            listeners,
            load,
            workers,
        }
    }

    /// Accepts until `stop`, and then whoever is in the queues of its own listeners by then; their sockets close, and
    /// Unix socket files are removed where the process may (`guard`). Who waits on an inherited listener waits for the
    /// next process. Runs on the control runtime.
    pub async fn run(self, stop: CancellationToken) {
        let mut loops = tokio::task::JoinSet::new();
        for listener in self.listeners.0 {
            let (load, workers, stop) = (self.load.clone(), self.workers.clone(), stop.clone());
            loops.spawn(async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = listener.accept_all(&load, &workers) => {}
                }
                if listener.close_the_queue() {
                    listener.accept_the_last(&load, &workers).await;
                }
                listener.remove_file();
            });
        }
        drop(self.workers); // they end with their last connection once nobody can hand them another
        while loops.join_next().await.is_some() {}
    }
}

impl Listener {
    async fn accept_all(&self, load: &Load, workers: &Workers) {
        match &self.socket {
            Bound::Tcp(listener) => {
                let Ok(listener) = listener.try_clone().and_then(TcpListener::from_std) else {
                    return;
                };
                hand_out(load, workers, || async {
                    let (stream, _) = listener.accept().await?;
                    stream.set_nodelay(true)?;
                    stream.into_std().map(Socket::Tcp)
                })
                .await;
            }
            Bound::Unix(listener, _) => {
                let Ok(listener) = listener.try_clone().and_then(UnixListener::from_std) else {
                    return;
                };
                hand_out(load, workers, || async {
                    let (stream, _) = listener.accept().await?;
                    stream.into_std().map(Socket::Unix)
                })
                .await;
            }
        }
    }

    /// Hands out what is in the queue, each with its permit, until it is empty and handshakes had time to end.
    async fn accept_the_last(&self, load: &Load, workers: &Workers) {
        let closed = Instant::now();
        while let Some(permit) = load.connection().await {
            match self.accept_now() {
                Ok(socket) => workers.hand_over(Accepted { socket, permit }),
                Err(error) if is_the_peers(&error) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && closed.elapsed() < SETTLE => {
                    drop(permit);
                    tokio::time::sleep(LOOK_EVERY).await;
                }
                Err(_) => return,
            }
        }
    }

    fn accept_now(&self) -> io::Result<Socket> {
        match &self.socket {
            Bound::Tcp(listener) => {
                let (stream, _) = listener.accept()?;
                stream.set_nonblocking(true)?;
                stream.set_nodelay(true)?;
                Ok(Socket::Tcp(stream))
            }
            Bound::Unix(listener, _) => {
                let (stream, _) = listener.accept()?;
                stream.set_nonblocking(true)?;
                Ok(Socket::Unix(stream))
            }
        }
    }
}

/// Accepts one socket after another, each with its permit, and hands it to a worker.
async fn hand_out<F: Future<Output = io::Result<Socket>>>(load: &Load, workers: &Workers, accept: impl Fn() -> F) {
    while let Some(permit) = load.connection().await {
        match accept().await {
            Ok(socket) => workers.hand_over(Accepted { socket, permit }),
            Err(error) if is_the_peers(&error) => {}
            Err(_) => tokio::time::sleep(ACCEPT_RETRY).await,
        }
    }
}

/// Whether only the connection failed, not the listener.
fn is_the_peers(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
    )
}
