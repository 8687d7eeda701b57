//! The story that `kiket demo` tells: the main job on the embedded default, nothing to configure, no network.
//!
//! Everything is real but short-lived: the product as `kiket serve` runs it, on a throw-away store with keys that
//! exist in memory only, and an extension's endpoint that demands a client certificate. Every line that is printed
//! comes from an observation: of what the endpoint received, of the API's answers, of the process itself.

mod client;
mod endpoint;
mod pki;
mod scene;
mod story;
mod writes;

use std::io::{self, IsTerminal, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;

use crate::app::{self, Running, Setup, StartError};
use crate::clock::{Clock, SystemClock};
use crate::config::{Config, ConfigError, Listen};
use crate::crypto::keyring::{Keyring, KeyringError};
use crate::egress::Resolver;
use crate::guard;
use crate::telemetry::{LogFormat, LogHandle};
use endpoint::Endpoint;
use scene::Scene;

/// Why the story could not be told. What was not as it should be is no error: the story says so.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// Files or sockets of this machine.
    #[error("{0}: {1}")]
    Machine(&'static str, io::ErrorKind),
    /// The settings of the demo are not accepted: a fault of the build.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// No keys can be made.
    #[error(transparent)]
    Keys(#[from] KeyringError),
    /// The product does not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// No certificates can be made.
    #[error("the development certificates cannot be made")]
    Certificates,
    /// A request that has to succeed did not.
    #[error("{0}: {1}")]
    Request(&'static str, String),
}

/// Tells the story on stdout; `false` where anything was not as it should be. Without `once` it then stays up for
/// the reader's own requests until SIGINT or SIGTERM. Blocks.
///
/// # Errors
/// [`DemoError`] where the story could not be told.
pub fn run(once: bool) -> Result<bool, DemoError> {
    let folder = tempfile::Builder::new()
        .prefix("kiket-demo-")
        .tempdir()
        .map_err(|error| DemoError::Machine("a folder for the throw-away store", error.kind()))?;
    let keyring = Keyring::generate(SystemClock.now())?;
    guard_process(folder.path(), &keyring);
    let scene = Scene::new()?;
    let endpoint = Endpoint::start(&scene.pki)?;
    let log = Log::new()?;
    let running = start(folder.path(), keyring, &scene, &log)?;
    let places = Places {
        folder: folder.path(),
        proxy: proxy_address(&running)?,
        api: running.admin().ok_or(NO_LISTENER)?,
        running: &running,
        log: &log,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| DemoError::Machine("a runtime", error.kind()))?;
    let mut page = Page::stdout();
    let all_as_it_should_be = runtime.block_on(story::tell(&places, &scene, &endpoint, &mut page))?;
    if once {
        running.drain();
    } else {
        running
            .on_signals()
            .map_err(|error| DemoError::Machine("signals", error.kind()))?;
        story::try_next(&places, &scene, &mut page);
        endpoint.announce(page);
    }
    running.wait();
    Ok(all_as_it_should_be)
}

/// As `kiket serve` guards itself, with two exceptions: the throw-away folder goes away at the end, and an ordinary
/// user's process stays dumpable, for the story counts its own write calls in `/proc`, which would belong to root.
fn guard_process(folder: &Path, keyring: &Keyring) {
    guard::apply(&guard::Plan {
        writable: vec![folder.to_path_buf()],
        emptied: folder.parent().map(Path::to_path_buf).into_iter().collect(),
        keys: keyring.addresses(),
        hide: rustix::process::geteuid().is_root(),
    });
}

/// Where everything is.
struct Places<'a> {
    folder: &'a Path,
    proxy: SocketAddr,
    api: SocketAddr,
    running: &'a Running,
    log: &'a Log,
}

fn start(folder: &Path, keyring: Keyring, scene: &Scene, log: &Log) -> Result<Running, DemoError> {
    let token_file = folder.join("operator.token");
    write_private(&token_file, &scene.operator_token)
        .map_err(|error| DemoError::Machine("the operator's token", error.kind()))?;
    let database = format!("sqlite:{}", folder.join("kiket.db").display());
    let config = Config::with(&[
        ("proxy_listen", "127.0.0.1:0"),
        ("admin_listen", "127.0.0.1:0"),
        ("metrics_listen", "127.0.0.1:0"),
        ("database_url", &database),
        ("bootstrap_token_file", &token_file.to_string_lossy()),
        ("egress_allow_cidrs", "127.0.0.0/8"),
        ("dangerous_allow_http", "true"), // so that a reader can try an endpoint of their own on this machine
        ("drain_grace", "1s"),
    ])?;
    let setup = Setup {
        config,
        keyring,
        clock: Arc::new(SystemClock),
        log: log.handle.clone(),
        resolver: Some(Arc::new(ThisMachine)),
        store: None,
        supervisor: Default::default(),
    };
    Ok(app::start(setup)?)
}

fn write_private(path: &Path, text: &str) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;

    let mut file = std::fs::OpenOptions::new()
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(text.as_bytes())
}

/// The demo serves both planes.
const NO_LISTENER: DemoError = DemoError::Machine("the listener", io::ErrorKind::NotFound);

fn proxy_address(running: &Running) -> Result<SocketAddr, DemoError> {
    let tcp = running.proxy().iter().find_map(|listen| match listen {
        Listen::Tcp(address) => Some(*address),
        Listen::Unix(_) => None,
    });
    tcp.ok_or(NO_LISTENER)
}

/// Every name is this machine: the demo needs no network.
struct ThisMachine;

#[async_trait]
impl Resolver for ThisMachine {
    async fn lookup(&self, _: &str) -> io::Result<Vec<IpAddr>> {
        Ok(vec![IpAddr::V4(Ipv4Addr::LOCALHOST)])
    }
}

/// The log, kept to be shown.
struct Log {
    handle: LogHandle,
    lines: Lines,
}

impl Log {
    fn new() -> Result<Self, DemoError> {
        let lines = Lines::default();
        let handle = LogHandle::new(LogFormat::Text, Box::new(lines.clone()))
            .map_err(|_| DemoError::Machine("the log's thread", io::ErrorKind::Other))?;
        Ok(Self { handle, lines })
    }

    /// The line of the first delivery.
    fn first(&self) -> String {
        self.handle.flush();
        let bytes = self.lines.0.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(&bytes);
        text.lines().next().unwrap_or_default().to_owned()
    }
}

/// The bytes of the log's beginning.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.is_empty() {
            kept.extend_from_slice(bytes);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What is written on: stdout, with some colour where a person reads it. A reader that went away is no fault of ours.
#[derive(Clone, Copy)]
struct Page {
    is_coloured: bool,
}

impl Page {
    fn stdout() -> Self {
        Self {
            is_coloured: io::stdout().is_terminal(),
        }
    }

    fn line(self, text: &str) {
        let _ = writeln!(io::stdout().lock(), "{text}");
    }

    fn heading(self, text: &str) {
        self.line("");
        self.line(&self.paint("1", text));
    }

    /// One thing that was looked at, and whether it is so.
    fn check(self, is_so: bool, what: &str) {
        let mark = if is_so {
            self.paint("32", "ok")
        } else {
            self.paint("1;31", "NO")
        };
        self.line(&format!("  {mark}  {what}"));
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.is_coloured {
            format!("\u{1b}[{code}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }
}
