//! What stands in for systemd: it holds the listeners, passes them on, and is told how the process goes.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};

use super::captured::PATIENCE;
use super::process::{Home, Settings};

/// Moves standard input and output to where inherited listeners are expected, and says whose they are.
const PASS_ON: &str = "exec 3<&0 4<&1 </dev/null >/dev/null; LISTEN_PID=$$ exec \"$@\"";

/// `kiket serve` that inherits two sockets with these names.
pub fn serve_on(home: &Home, names: &str, first: OwnedFd, second: OwnedFd, settings: Settings<'_>) -> Command {
    let mut command = home.serve_under(&["sh", "-c", PASS_ON, "sh"], settings);
    command.env("LISTEN_FDS", "2").env("LISTEN_FDNAMES", names);
    command.stdin(Stdio::from(first)).stdout(Stdio::from(second));
    command
}

/// One more listener on loopback, and where it stands.
pub fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// Whoever is told how a process goes.
pub struct Told(UnixDatagram);

impl Told {
    /// Behind a name that is in no file system, or else a path in the home; and what `NOTIFY_SOCKET` says then.
    pub fn listen(home: &Home, is_abstract: bool) -> (Self, String) {
        use std::os::unix::net::SocketAddr;

        let path = home.path().join("notify").display().to_string();
        let (address, name) = match is_abstract {
            true => (SocketAddr::from_abstract_name(&path), format!("@{path}")),
            false => (SocketAddr::from_pathname(&path), path),
        };
        let socket = UnixDatagram::bind_addr(&address.unwrap()).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        (Self(socket), name)
    }

    /// The next that is told.
    pub fn next(&self) -> String {
        let mut bytes = [0; 1024];
        let length = self.0.recv(&mut bytes).expect("told in time");
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    }

    /// Waits until a line is told, with whatever else comes with it.
    pub fn until(&self, line: &str) -> String {
        loop {
            let told = self.next();
            if told.lines().any(|told| told == line) {
                return told;
            }
        }
    }
}
