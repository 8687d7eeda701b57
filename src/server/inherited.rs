//! Listeners that whoever started the process opened for it (socket activation), told apart by their names.
//!
//! The protocol is systemd's: `LISTEN_FDS` sockets from descriptor 3 on, for the process `LISTEN_PID`, named in order by
//! `LISTEN_FDNAMES`. Such a listener outlives the process: connections that come while none serves wait in its queue
//! for the next one.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use listenfd::ListenFd;

use super::Listeners;
use super::listener::{Bound, Listener};

/// Listeners by what they are for.
#[derive(Debug, Default)]
pub struct Inherited {
    /// For deliveries: `proxy`, any number of TCP and Unix sockets.
    pub proxy: Listeners,
    /// For the REST API: `admin`, one TCP socket.
    pub admin: Option<Listener>,
    /// For metrics and health: `metrics`, one TCP socket.
    pub metrics: Option<Listener>,
}

/// Why a descriptor that was passed on cannot be served. Whoever starts the process has to change something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InheritError {
    /// There is nothing to tell what it is for.
    #[error("LISTEN_FDNAMES: descriptor {0} is named none of proxy, admin, metrics (FileDescriptorName= in a unit)")]
    Name(usize),
    /// It is not listened on, or is of another kind.
    #[error("LISTEN_FDS: descriptor {0} is no listening TCP or Unix stream socket")]
    NotListening(usize),
    /// The REST API, and metrics and health, are served on TCP.
    #[error("LISTEN_FDS: descriptor {0} is no TCP socket, which admin and metrics have to be")]
    NotTcp(usize),
    /// Only deliveries may come over several.
    #[error("LISTEN_FDNAMES: descriptor {0} has a name that an earlier one has; only proxy may have several")]
    Twice(usize),
}

impl Inherited {
    /// Takes over what was passed to this process, if anything was; `names` is what `LISTEN_FDNAMES` says. To be called
    /// before descriptors are opened, and once: the variables are gone afterwards.
    ///
    /// # Errors
    /// [`InheritError`] for the first descriptor that cannot be used.
    pub fn take(names: Option<&str>) -> Result<Self, InheritError> {
        let mut passed = ListenFd::from_env();
        let mut names = names.unwrap_or_default().split(':');
        let mut inherited = Self::default();
        for n in 0..passed.len() {
            let name = names.next().unwrap_or_default();
            inherited.add(n, name, &mut passed)?;
        }
        Ok(inherited)
    }

    fn add(&mut self, n: usize, name: &str, passed: &mut ListenFd) -> Result<(), InheritError> {
        let listener = listening(n, passed).map_err(|_| InheritError::NotListening(n))?;
        let only = match name {
            "proxy" => {
                self.proxy.0.push(listener);
                return Ok(());
            }
            "admin" => &mut self.admin,
            "metrics" => &mut self.metrics,
            _ => return Err(InheritError::Name(n)),
        };
        if listener.address().is_none() {
            return Err(InheritError::NotTcp(n));
        }
        match only.replace(listener) {
            None => Ok(()),
            Some(_) => Err(InheritError::Twice(n)),
        }
    }
}

fn listening(n: usize, passed: &mut ListenFd) -> io::Result<Listener> {
    let gone = || io::Error::from(io::ErrorKind::NotConnected);
    let socket = match passed.take_tcp_listener(n) {
        Ok(tcp) => Bound::Tcp(tcp.ok_or_else(gone)?),
        Err(_) => {
            let unix = passed.take_unix_listener(n)?.ok_or_else(gone)?;
            let path = path_of(&unix)?;
            Bound::Unix(unix, path)
        }
    };
    let listens = match &socket {
        Bound::Tcp(tcp) => is_listening(tcp.as_fd())?,
        Bound::Unix(unix, _) => is_listening(unix.as_fd())?,
    };
    if !listens {
        return Err(gone());
    }
    Listener::inherited(socket)
}

fn is_listening(socket: BorrowedFd<'_>) -> io::Result<bool> {
    Ok(rustix::net::sockopt::socket_acceptconn(socket)?)
}

/// Where clients find it, as operators write it: `@` before a name that is in no file system.
fn path_of(unix: &UnixListener) -> io::Result<PathBuf> {
    use std::os::linux::net::SocketAddrExt;

    let address = unix.local_addr()?;
    let named = address.as_abstract_name();
    let path = named.map(|name| PathBuf::from(format!("@{}", String::from_utf8_lossy(name))));
    Ok(path.unwrap_or_else(|| address.as_pathname().unwrap_or("".as_ref()).to_path_buf()))
}
