//! Can the addresses be listened on, or does a running kiket listen there already?

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{Access, access};

use super::check::Check;
use crate::config::{Config, Listen};

/// For a connection, and for each part of its answer.
const WAIT: Duration = Duration::from_secs(2);

/// So much of an answer tells who gives it.
const ANSWER_BYTES_MAX: u64 = 16 * 1024;

/// What stands in an answer of each listener, whoever asks.
const PROBLEM: &str = "urn:kiket:problem:";
const READY: &str = "\"guards\":";

pub(super) fn look(config: &Config) -> Vec<Check> {
    let mut checks = Vec::new();
    let ready = running(config.metrics_listen, "/readyz", READY);
    if config.role.delivers() {
        checks.extend(config.proxy_listen.iter().map(proxy));
    }
    if config.role.administers() {
        let has_tls = config.admin_tls_cert_file.is_some();
        // Over TLS nobody is asked: whoever has the metrics has this.
        let is_kikets = move |address| if has_tls { ready } else { running(address, "/", PROBLEM) };
        checks.push(tcp("admin_listen", config.admin_listen, is_kikets));
    }
    checks.push(tcp("metrics_listen", config.metrics_listen, |_| ready));
    checks
}

fn proxy(listen: &Listen) -> Check {
    match listen {
        Listen::Tcp(address) => tcp("proxy_listen", *address, |address| running(address, "/", PROBLEM)),
        Listen::Unix(path) => unix("proxy_listen", path),
    }
}

fn tcp(name: &'static str, address: SocketAddr, is_kikets: impl FnOnce(SocketAddr) -> bool) -> Check {
    match TcpListener::bind(address) {
        Ok(_) => Check::ok(name, format!("{address} is free")),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => taken(name, &address.to_string(), is_kikets(address)),
        Err(error) => Check::failed(
            name,
            format!("{address}: {}", error.kind()),
            "name an address of this host, and a port of 1024 or above unless the user may bind those below",
        ),
    }
}

/// As at a start: a socket's file that nobody listens on is replaced.
fn unix(name: &'static str, path: &Path) -> Check {
    let shown = format!("unix:{}", path.display());
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let is_writable = access(folder.unwrap_or(Path::new(".")), Access::WRITE_OK).is_ok();
    if let Ok(stream) = UnixStream::connect(path) {
        let timed = stream
            .set_read_timeout(Some(WAIT))
            .and(stream.set_write_timeout(Some(WAIT)));
        return taken(name, &shown, timed.is_ok() && says(stream, "/", PROBLEM));
    }
    match is_writable {
        true => Check::ok(name, format!("{shown} is free")),
        false => Check::failed(
            name,
            format!("{shown}: its folder is missing, or not to be written in"),
            "make the folder for the user that serves (RuntimeDirectory= of a unit), or name another path",
        ),
    }
}

fn taken(name: &'static str, address: &str, is_kikets: bool) -> Check {
    match is_kikets {
        true => Check::ok(name, format!("a running kiket listens on {address}")),
        false => Check::failed(
            name,
            format!("something else listens on {address}"),
            format!("stop it (`ss -lptn` shows who it is), or set {name} to another address"),
        ),
    }
}

/// Whether who listens there answers as a running kiket does.
fn running(address: SocketAddr, path: &str, mark: &str) -> bool {
    let Ok(stream) = TcpStream::connect_timeout(&address, WAIT) else {
        return false;
    };
    let timed = stream
        .set_read_timeout(Some(WAIT))
        .and(stream.set_write_timeout(Some(WAIT)));
    timed.is_ok() && says(stream, path, mark)
}

fn says(mut stream: impl Read + Write, path: &str, mark: &str) -> bool {
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    if stream.write_all(request.as_bytes()).is_err() {
        return false;
    }
    let mut answer = Vec::new();
    let _ = stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer); // what came in time is looked at
    String::from_utf8_lossy(&answer).contains(mark)
}
