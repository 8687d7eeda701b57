//! What whoever started the process is told of it, in the protocol of `sd_notify(3)`: that it serves, that it lives,
//! that it ends.
//!
//! A sign of life (`WATCHDOG=1`) is given only after every worker took a turn, and by the control runtime, so that each
//! part that can be stuck withholds it. A store or an endpoint that is away withholds nothing: a restart cures neither.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use std::{fmt, io};

use tokio::time::timeout;

use super::health::Health;
use crate::server::Pulse;

/// What the end may take beside twice the grace.
const EPILOGUE: Duration = Duration::from_secs(30);

/// Whom to tell; cheap to clone. By default nobody.
#[derive(Debug, Clone, Default)]
pub struct Supervisor {
    socket: Option<Arc<UnixDatagram>>,
    /// Within which it wants a sign of life each time.
    watchdog: Option<Duration>,
}

/// Why a supervisor that asked to be told cannot be.
#[derive(Debug, thiserror::Error)]
#[error("NOTIFY_SOCKET: {0}")]
pub struct SupervisorError(io::ErrorKind);

impl Supervisor {
    /// The one behind `NOTIFY_SOCKET`: a path, or a name in no file system after `@`. Signs of life are wanted within
    /// `WATCHDOG_USEC` microseconds, if `WATCHDOG_PID` is this process or absent. To be connected before the guards
    /// are put in force: from then on no name in no file system is reached that was not by then.
    ///
    /// # Errors
    /// Where there is a name and nobody behind it.
    pub fn connect(env: impl Fn(&str) -> Option<String>) -> Result<Self, SupervisorError> {
        let Some(name) = env("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
            return Ok(Self::default());
        };
        let socket = connected(&name).map_err(|error| SupervisorError(error.kind()))?;
        let is_ours = env("WATCHDOG_PID").is_none_or(|pid| pid.parse() == Ok(std::process::id()));
        let micros = env("WATCHDOG_USEC").and_then(|micros| micros.parse().ok());
        Ok(Self {
            socket: Some(Arc::new(socket)),
            watchdog: micros
                .filter(|micros| is_ours && *micros > 0)
                .map(Duration::from_micros),
        })
    }

    /// Says that everything is served.
    pub fn ready(&self) {
        self.tell(format_args!("READY=1\nSTATUS=ready"));
    }

    /// Says that the end has begun, and how long it may take at the most.
    pub(super) fn stopping(&self, in_flight: usize, grace: Duration) {
        let most = grace.saturating_mul(2).saturating_add(EPILOGUE).as_micros();
        let most = u64::try_from(most).unwrap_or(u64::MAX);
        self.tell(format_args!(
            "STOPPING=1\nSTATUS=draining, {in_flight} deliveries under way\nEXTEND_TIMEOUT_USEC={most}"
        ));
    }

    /// Gives signs of life where they are wanted, until the runtime ends.
    pub(super) async fn keep_telling(self, pulse: Pulse, health: Arc<Health>) {
        let Some(within) = self.watchdog else { return };
        let every = within / 3; // so that one that is late is not missed
        loop {
            tokio::time::sleep(every).await;
            if timeout(every, pulse.felt()).await.is_ok() {
                self.alive(health.status(), health.load.in_flight());
            } else {
                tracing::error!("a worker is stuck; the supervisor gets no sign of life");
            }
        }
    }

    fn alive(&self, status: &str, in_flight: usize) {
        // While it drains, the status is what was said then.
        if status == "draining" {
            self.tell(format_args!("WATCHDOG=1"));
        } else {
            self.tell(format_args!(
                "WATCHDOG=1\nSTATUS={status}, {in_flight} deliveries under way"
            ));
        }
    }

    /// One datagram. A supervisor that does not listen is not worth a delivery's time.
    fn tell(&self, what: fmt::Arguments<'_>) {
        if let Some(socket) = &self.socket {
            let _ = socket.send(what.to_string().as_bytes());
        }
    }
}

fn connected(name: &str) -> io::Result<UnixDatagram> {
    let address = match name.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(Path::new(name))?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.connect_addr(&address)?;
    Ok(socket)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn wanted(env: &[(&str, &str)]) -> Option<Duration> {
        let of = |name: &str| {
            let found = env.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        Supervisor::connect(of).unwrap().watchdog
    }

    #[test]
    fn signs_of_life_are_given_where_they_are_wanted_of_this_process() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let _listening = UnixDatagram::bind(&path).unwrap();
        let (socket, own) = (path.to_str().unwrap(), std::process::id().to_string());
        let with = |more: &[(&str, &str)]| wanted(&[&[("NOTIFY_SOCKET", socket)], more].concat());
        let five = Some(Duration::from_secs(5));
        assert_eq!(with(&[("WATCHDOG_USEC", "5000000")]), five);
        assert_eq!(with(&[("WATCHDOG_USEC", "5000000"), ("WATCHDOG_PID", &own)]), five);
        assert_eq!(with(&[("WATCHDOG_USEC", "5000000"), ("WATCHDOG_PID", "1")]), None);
        assert_eq!(with(&[("WATCHDOG_USEC", "0")]), None);
        assert_eq!(with(&[("WATCHDOG_USEC", "soon")]), None);
        assert_eq!(with(&[]), None);
        assert_eq!(wanted(&[("WATCHDOG_USEC", "5000000")]), None, "nobody to tell");
    }

    #[test]
    fn a_supervisor_that_cannot_be_told_is_named_by_the_variable() {
        let nobody = |name: &str| (name == "NOTIFY_SOCKET").then(|| String::from("/nonesuch-canary/notify"));
        let error = Supervisor::connect(nobody).unwrap_err().to_string();
        assert!(
            error.starts_with("NOTIFY_SOCKET: ") && !error.contains("canary"),
            "{error}"
        );
    }
}
