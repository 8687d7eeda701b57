//! What is listened on: bound here or inherited, and how it closes without losing whoever is in its queue.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use socket2::{SockFilter, SockRef};

use crate::config::Listen;

/// How long a handshake that was under way when a TCP listener closes may take to end.
pub(super) const SETTLE: Duration = Duration::from_millis(100);

/// Connections that wait to be accepted. The standard library asks for 128, and when dispatchers come back all at once
/// the kernel forgets those beyond; it cuts this down to `net.core.somaxconn`.
const QUEUE_MAX: i32 = 4096;

/// Why a listener could not be bound. Names the address; the operator has to change something.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {kind}")]
pub struct BindError {
    address: String,
    kind: io::ErrorKind,
}

/// One listening socket, not blocking and not yet served.
#[derive(Debug)]
pub struct Listener {
    pub(super) socket: Bound,
    origin: Origin,
}

#[derive(Debug)]
pub(super) enum Bound {
    Tcp(std::net::TcpListener),
    Unix(std::os::unix::net::UnixListener, PathBuf),
}

/// Whose a listening socket is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// This process bound it, and it closes with it.
    Own,
    /// Whoever started this process holds it, and gives it to the next one with all that waits in its queue.
    Inherited,
}

impl Listener {
    /// Binds a TCP address.
    ///
    /// # Errors
    /// What the system says.
    pub fn tcp(address: SocketAddr) -> io::Result<Self> {
        Ok(Self {
            socket: Bound::Tcp(bind_tcp(address)?),
            origin: Origin::Own,
        })
    }

    /// Where it stands, if that is a TCP address.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        match &self.socket {
            Bound::Tcp(tcp) => tcp.local_addr().ok(),
            Bound::Unix(..) => None,
        }
    }

    /// Binds an address.
    pub(super) fn bind(address: &Listen) -> Result<Self, BindError> {
        let bound = match address {
            Listen::Tcp(address) => bind_tcp(*address).map(Bound::Tcp),
            Listen::Unix(path) => bind_unix(path).map(|socket| Bound::Unix(socket, path.clone())),
        };
        let socket = bound.map_err(|error| BindError {
            address: address.to_string(),
            kind: error.kind(),
        })?;
        Ok(Self {
            socket,
            origin: Origin::Own,
        })
    }

    /// Takes over a socket that is listened on already.
    pub(super) fn inherited(socket: Bound) -> io::Result<Self> {
        match &socket {
            Bound::Tcp(tcp) => tcp.set_nonblocking(true)?,
            Bound::Unix(unix, _) => unix.set_nonblocking(true)?,
        }
        Ok(Self {
            socket,
            origin: Origin::Inherited,
        })
    }

    /// Where it stands, with the port that was taken.
    pub(super) fn bound(&self) -> Option<Listen> {
        match &self.socket {
            Bound::Tcp(tcp) => tcp.local_addr().ok().map(Listen::Tcp),
            Bound::Unix(_, path) => Some(Listen::Unix(path.clone())),
        }
    }

    /// From now on nobody joins the queue, and those who are in it can still be accepted; says whether they are this
    /// process's to accept. A closed listener resets whoever is in its queue, who may have sent a request already.
    ///
    /// TCP has no call for it. A filter drops the packets that would open a connection: whoever sends one sends it
    /// again within about a second, and is refused by then or welcomed by the next process.
    pub(super) fn close_the_queue(&self) -> bool {
        if self.origin == Origin::Inherited {
            return false;
        }
        // Where the kernel refuses, the few who come between the last accept and the close are reset.
        let _ = match &self.socket {
            Bound::Tcp(tcp) => SockRef::from(tcp).attach_filter(&NO_SYN),
            Bound::Unix(unix, _) => {
                rustix::net::shutdown(unix.as_fd(), rustix::net::Shutdown::Read).map_err(Into::into)
            }
        };
        true
    }

    /// Removes the file of a Unix socket that was bound here.
    pub(super) fn remove_file(&self) {
        // It may have been removed already; outside of the store's directory the process may remove nothing.
        if let (Origin::Own, Bound::Unix(_, path)) = (self.origin, &self.socket)
            && fs::remove_file(path).is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
        {
            tracing::info!("the Unix socket's file stays behind: it may not be removed; the next start replaces it");
        }
    }
}

/// Keeps every packet but those that open a connection: `SYN` without `ACK`. A filter on a TCP socket sees the packet
/// from the TCP header on, whose flags are its fourteenth byte.
const NO_SYN: [SockFilter; 5] = [
    SockFilter::new(0x30, 0, 0, 13),          // load the flags
    SockFilter::new(0x54, 0, 0, 0x12),        // of them SYN and ACK
    SockFilter::new(0x15, 0, 1, 0x02),        // only SYN?
    SockFilter::new(0x06, 0, 0, 0),           // drop
    SockFilter::new(0x06, 0, 0, 0xffff_ffff), // keep
];

fn bind_tcp(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let listener = std::net::TcpListener::bind(address)?; // std sets SO_REUSEADDR on Unix
    rustix::net::listen(&listener, QUEUE_MAX)?;
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
    rustix::net::listen(&listener, QUEUE_MAX)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_tcp_listener_that_closes_keeps_its_queue_and_takes_nobody_new() {
        let listener = Listener::bind(&Listen::Tcp("127.0.0.1:0".parse().unwrap())).unwrap();
        let Some(Listen::Tcp(address)) = listener.bound() else {
            return assert!(listener.bound().is_none(), "bound to TCP");
        };
        let mut waiting = TcpStream::connect(address).unwrap();
        assert!(listener.close_the_queue());
        let late = TcpStream::connect_timeout(&address, Duration::from_millis(100));
        assert_eq!(late.unwrap_err().kind(), io::ErrorKind::TimedOut);
        // Data and the end of a connection pass the filter.
        waiting.write_all(b"sent").unwrap();
        waiting.shutdown(std::net::Shutdown::Write).unwrap();
        let Bound::Tcp(tcp) = &listener.socket else { return };
        let mut accepted = tcp.accept().unwrap().0;
        accepted.set_nonblocking(false).unwrap();
        let mut heard = String::new();
        accepted.read_to_string(&mut heard).unwrap();
        assert_eq!(heard, "sent");
        assert_eq!(tcp.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn a_unix_listener_that_closes_keeps_its_queue_and_takes_nobody_new() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("listener");
        let listener = Listener::bind(&Listen::Unix(path.clone())).unwrap();
        let _waiting = UnixStream::connect(&path).unwrap();
        assert!(listener.close_the_queue());
        let late = UnixStream::connect(&path);
        assert_eq!(late.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        let Bound::Unix(unix, _) = &listener.socket else { return };
        assert!(unix.accept().is_ok());
        assert!(unix.accept().is_err());
        listener.remove_file();
        assert!(!path.exists());
    }

    #[test]
    fn an_inherited_listener_is_left_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("listener");
        let held = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let listener = Listener::inherited(Bound::Unix(held.try_clone().unwrap(), path.clone())).unwrap();
        assert!(!listener.close_the_queue(), "who waits is the next one's");
        listener.remove_file();
        drop(listener);
        let _late = UnixStream::connect(&path).unwrap();
        assert!(held.accept().is_ok());
    }
}
