//! Who may connect and to which worker a connection goes.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::{TcpListener, UnixListener};
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;

use super::{Load, Workers};
use crate::config::Listen;

/// How long to wait after an accept failed for want of descriptors or memory.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

/// Why a listener could not be bound. Names the address; the operator has to change something.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {kind}")]
pub struct BindError {
    address: String,
    kind: io::ErrorKind,
}

/// Bound listeners, not yet served.
#[derive(Debug)]
pub struct Listeners(Vec<Listener>);

#[derive(Debug)]
enum Listener {
    Tcp(std::net::TcpListener),
    Unix(std::os::unix::net::UnixListener, PathBuf),
}

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

    /// Where the listeners stand, with the ports that were taken.
    #[must_use]
    pub fn bound(&self) -> Vec<Listen> {
        self.0
            .iter()
            .filter_map(|listener| match listener {
                Listener::Tcp(tcp) => tcp.local_addr().ok().map(Listen::Tcp),
                Listener::Unix(_, path) => Some(Listen::Unix(path.clone())),
            })
            .collect()
    }
}

impl Listener {
    fn bind(address: &Listen) -> Result<Self, BindError> {
        let failed = |error: &io::Error| BindError {
            address: address.to_string(),
            kind: error.kind(),
        };
        match address {
            Listen::Tcp(address) => bind_tcp(*address).map(Self::Tcp).map_err(|error| failed(&error)),
            Listen::Unix(path) => bind_unix(path)
                .map(|listener| Self::Unix(listener, path.clone()))
                .map_err(|error| failed(&error)),
        }
    }
}

fn bind_tcp(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let listener = std::net::TcpListener::bind(address)?; // std sets SO_REUSEADDR on Unix
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Binds a Unix socket that its owner and group may use. A socket file that nobody listens on any more is replaced.
fn bind_unix(path: &Path) -> io::Result<std::os::unix::net::UnixListener> {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::{UnixListener, UnixStream};

    let is_stale =
        fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket()) && UnixStream::connect(path).is_err();
    if is_stale {
        fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o660))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
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

    /// Accepts until `stop`; then the listeners close, and Unix socket files are removed where the
    /// process may (`guard`). Runs on the control runtime.
    pub async fn run(self, stop: CancellationToken) {
        let mut loops = tokio::task::JoinSet::new();
        for listener in self.listeners.0 {
            let (load, workers, stop) = (self.load.clone(), self.workers.clone(), stop.clone());
            loops.spawn(async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = listener.accept_all(&load, &workers) => {}
                }
                listener.remove_file();
            });
        }
        while loops.join_next().await.is_some() {}
    }
}

impl Listener {
    async fn accept_all(&self, load: &Load, workers: &Workers) {
        match self {
            Self::Tcp(listener) => {
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
            Self::Unix(listener, _) => {
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

    fn remove_file(&self) {
        // It may have been removed already; outside of the store's directory the process may remove nothing.
        if let Self::Unix(_, path) = self
            && fs::remove_file(path).is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
        {
            tracing::info!("the Unix socket's file stays behind: it may not be removed; the next start replaces it");
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
