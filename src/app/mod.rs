//! How the parts become a running process: bound before anything is served, served until drained.
//!
//! Two runtimes: *control* (two threads) has the acceptor, the store, DNS, cold builds, the control plane and health;
//! each *worker* is a thread with a current-thread runtime that serves deliveries (`server`). An administrator's
//! export never delays a delivery.

mod drain;
mod feed;
mod ground;
mod health;
mod keyring;
mod keys;
mod notices;
mod planes;
mod sockets;
mod supervisor;
mod traces;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::Runtime;

pub use self::keyring::{KeysUnread, read_keys, wrapping};
pub use self::keys::keks_advice;

use crate::audit::{LogDuty, Recorder};
use crate::clock::Clock;
use crate::config::{Config, Listen, SecretFileError};
use crate::crypto::keyring::{Keyring, KeyringError};
use crate::delivery::identity::IdentityError;
use crate::domain::audit::{Action, Actor, AuditEntry, Source};
use crate::egress::{ExchangerError, Resolver, RootsError, SharedLookups, SystemResolver};
use crate::external;
use crate::keys::{Keks, KeksError};
use crate::notify::mail::MailSettingsError;
use crate::proxy::NoRandomness;
use crate::registry;
use crate::server::{BindError, Closing, TlsFileError, WorkerError};
use crate::shutdown::Shutdown;
use crate::store::{self, OpenError, SharedStore, StoreError, Watched};
use crate::telemetry::LogHandle;
use crate::telemetry::metrics::MetricsError;

pub use sockets::{Sockets, adopt};
pub use supervisor::Supervisor;

/// The control runtime's threads.
const CONTROL_THREADS: usize = 2;

/// The most threads that block at a time, for DNS and the store.
const BLOCKING_THREADS_MAX: usize = 16;

/// The longest that the end waits for notices under way. They are in the outbox and lose nothing.
const TOLD_WAIT: Duration = Duration::from_secs(2);

/// The longest that the end waits for a store that is to record what was counted, and the stop.
const RECORD_WAIT: Duration = Duration::from_secs(10);

/// The longest that each of these may take once the end is to come at once.
const AT_ONCE: Duration = Duration::from_millis(250);

/// All that a start needs from outside.
pub struct Setup {
    /// The settings.
    pub config: Config,
    /// The keys. Without them there is no start.
    pub keyring: Keyring,
    /// Wall time.
    pub clock: Arc<dyn Clock>,
    /// Where lines go.
    pub log: LogHandle,
    /// How names become addresses; the system's way where `None`.
    pub resolver: Option<Arc<dyn Resolver>>,
    /// How rows are kept; opened from `database_url` where `None`.
    pub store: Option<SharedStore>,
    /// Who is told how it goes.
    pub supervisor: Supervisor,
}

/// Why the process did not start. Each names what an operator can change.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address is taken or not allowed.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The control plane's or the metrics' address is taken or not allowed.
    #[error("cannot listen on {address} ({setting}): {kind}")]
    Listen {
        /// The setting that names it.
        setting: &'static str,
        /// The address.
        address: SocketAddr,
        /// Why.
        kind: io::ErrorKind,
    },
    /// A token's file cannot be used.
    #[error("{0}: {1}")]
    SecretFile(&'static str, SecretFileError),
    /// The store cannot be opened.
    #[error("database_url: {0}")]
    Open(#[from] OpenError),
    /// The store was opened and does not answer.
    #[error("the store does not answer: {0}")]
    Store(#[from] StoreError),
    /// No usable TLS roots.
    #[error(transparent)]
    Roots(#[from] RootsError),
    /// No TLS client can be made.
    #[error("no TLS client can be made: {0}")]
    Tls(#[from] IdentityError),
    /// A key of the keyring cannot be used.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    /// The keyring and what the store says of keys do not go together.
    #[error("{error}: {advice}")]
    Keks {
        /// How they do not.
        error: KeksError,
        /// What to do about it.
        advice: String,
    },
    /// The REST API's certificate or key cannot be used.
    #[error(transparent)]
    AdminTls(#[from] TlsFileError),
    /// The keys of runtime tokens can never be fetched.
    #[error("runtime_token_jwks_url: {0}")]
    Issuer(#[from] ExchangerError),
    /// The settings for mail cannot be used.
    #[error(transparent)]
    Mail(#[from] MailSettingsError),
    /// No thread could be started.
    #[error(transparent)]
    Worker(#[from] WorkerError),
    /// No runtime could be started.
    #[error("cannot start a runtime: {0}")]
    Runtime(io::ErrorKind),
    /// No random bytes.
    #[error(transparent)]
    Randomness(#[from] NoRandomness),
    /// No random bytes for what is fetched from other backends.
    #[error(transparent)]
    External(#[from] external::NoRandomness),
    /// The metadata server cannot be spoken to.
    #[error("gsm_metadata_url: {0}")]
    Machine(ExchangerError),
    /// The collector of traces cannot be spoken to.
    #[error("otlp_traces_url: {0}")]
    Traces(ExchangerError),
    /// The metrics contradict each other: a fault of the build.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
}

/// A running process. Dropping it stops everything at once.
pub struct Running {
    proxy: Vec<Listen>,
    admin: Option<SocketAddr>,
    metrics: SocketAddr,
    shutdown: Shutdown,
    parts: Option<Parts>,
}

/// What has to be ended, in order.
struct Parts {
    control: Runtime,
    workers: Vec<JoinHandle<()>>,
    drained: tokio::task::JoinHandle<drain::End>,
    /// Ends when no worker is left and what they saw is written down.
    sighting_log: tokio::task::JoinHandle<()>,
    /// Ends when no notice is under way any more.
    told: tokio::task::JoinHandle<()>,
    /// Exports spans, where deliveries are traced.
    export: Option<traces::Export>,
    closing: Closing,
    store: SharedStore,
    keks: Arc<Keks>,
    recorder: Arc<Recorder>,
    duty: LogDuty,
    clock: Arc<dyn Clock>,
    actor: Actor,
    log: LogHandle,
}

/// Starts everything and returns once all listeners accept. Blocks; must not be called within a runtime.
///
/// # Errors
/// [`StartError`]; then nothing is left running.
pub fn start(setup: Setup) -> Result<Running, StartError> {
    let sockets = Sockets::bind(&setup.config)?;
    start_on(sockets, setup)
}

/// The same on sockets that were bound before: by whoever has something to do in between that needs a process with one
/// thread (`guard`). The settings must be those that they were bound by.
///
/// # Errors
/// [`StartError`]; then nothing is left running.
pub fn start_on(sockets: Sockets, setup: Setup) -> Result<Running, StartError> {
    let config = &setup.config;
    let role = config.role;
    let (proxy, admin, metrics) = sockets.bound();
    let control = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(CONTROL_THREADS)
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .thread_name("kiket-control")
        .enable_all()
        .build()
        .map_err(|error| StartError::Runtime(error.kind()))?;
    let store = match setup.store.clone() {
        Some(store) => store,
        None => {
            let (url, chain) = (&config.database_url, setup.keyring.chain_key());
            match role.administers() {
                true => control.block_on(store::open(url, chain))?,
                false => control.block_on(store::join(url, chain))?,
            }
        }
    };
    keys::vet(config, &store, &setup.keyring, control.handle())?;
    let (store, sightings) = Watched::around(store);
    let position = control.block_on(feed::position(&store))?;
    let actor = instance();
    control.block_on(store.record(vec![lifecycle(&actor, &*setup.clock, Action::InstanceStart)]))?;
    if role.administers() {
        let now = setup.clock.now();
        control.block_on(registry::adopt_consents(&store, &setup.keyring, &actor, now))?;
    }
    let (clock, log) = (Arc::clone(&setup.clock), setup.log.clone());
    let supervisor = setup.supervisor.clone();
    let shutdown = Shutdown::new();
    let closing = Closing::ending_with(shutdown.hard().clone());
    let resolver = setup.resolver.clone().unwrap_or_else(|| {
        let system = Arc::new(SystemResolver::new(control.handle().clone()));
        Arc::new(SharedLookups::new(system, control.handle().clone()))
    });
    let (planes, notices, exporter) =
        planes::build(setup, Arc::clone(&store), actor.clone(), resolver, control.handle())?;
    let (workers, pulse) = planes.serve(sockets, &closing, shutdown.tasks(), control.handle())?;
    control.spawn(feed::follow(
        Arc::clone(&store),
        position,
        planes.followers(),
        shutdown.hard().clone(),
    ));
    let keks = planes.keks();
    keys::run(&keks, role.administers(), &closing.graceful, control.handle());
    let recorder = planes.recorder();
    let duty = planes::log_duty(role);
    control.spawn(Arc::clone(&recorder).run(duty, Arc::clone(&clock), shutdown.hard().clone()));
    let told = notices.run(&sightings, &closing.graceful, control.handle());
    let export = exporter.map(|exporter| traces::Export::run(exporter, control.handle()));
    control.spawn(supervisor.clone().keep_telling(pulse, planes.health()));
    let drained = control.spawn(drain::watch(
        planes.health(),
        planes.drain_grace(),
        shutdown.clone(),
        closing.clone(),
        supervisor,
    ));
    let sighting_log = control.spawn(planes.into_sighting_log().run());
    let parts = Parts {
        control,
        sighting_log,
        workers,
        drained,
        told,
        export,
        closing,
        store,
        keks,
        recorder,
        duty,
        clock,
        actor,
        log,
    };
    Ok(Running {
        proxy,
        admin,
        metrics,
        shutdown,
        parts: Some(parts),
    })
}

impl Running {
    /// Where deliveries are taken, with the ports that were taken.
    #[must_use]
    pub fn proxy(&self) -> &[Listen] {
        &self.proxy
    }

    /// Where the control plane is, where the role has one.
    #[must_use]
    pub const fn admin(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// Where metrics and health are.
    #[must_use]
    pub const fn metrics(&self) -> SocketAddr {
        self.metrics
    }

    /// How to end it from elsewhere, and what signals do.
    #[must_use]
    pub const fn shutdown(&self) -> &Shutdown {
        &self.shutdown
    }

    /// From now on SIGTERM and SIGINT drain, and a second one stops at once.
    ///
    /// # Errors
    /// Where the handlers cannot be installed.
    pub fn on_signals(&self) -> io::Result<()> {
        let Some(parts) = &self.parts else { return Ok(()) };
        let _within = parts.control.enter();
        self.shutdown.on_signals().map(drop)
    }

    /// Asks for the end: serves on until no delivery comes any more or the grace is over, and finishes what is under
    /// way. Returns at once; see [`Self::wait`].
    pub fn drain(&self) {
        self.shutdown.drain();
    }

    /// Ends everything now.
    pub fn stop_now(&self) {
        self.shutdown.stop_now();
    }

    /// Waits for the end that a drain, a stop or a signal brings. Blocks.
    pub fn wait(mut self) {
        if let Some(parts) = self.parts.take() {
            let Parts {
                control,
                sighting_log,
                workers,
                drained,
                told,
                export,
                closing,
                store,
                keks,
                recorder,
                duty,
                clock,
                actor,
                log,
            } = parts;
            let end = control.block_on(drained).unwrap_or(drain::End::AtOnce); // it only fails with the runtime
            closing.graceful.cancel();
            let at_most = |usual: Duration| match end {
                drain::End::Drained => usual,
                drain::End::AtOnce => AT_ONCE,
            };
            for worker in workers {
                let _ = worker.join(); // a worker that panicked is gone as well
            }
            if control
                .block_on(async { tokio::time::timeout(at_most(TOLD_WAIT), sighting_log).await })
                .is_err()
            {
                tracing::warn!("values that came back in answers could not all be written to the audit log");
            }
            let told = control.block_on(async { tokio::time::timeout(at_most(TOLD_WAIT), told).await });
            if told.is_err() {
                tracing::warn!("a notice under way did not end in time; it is tried again after the next start");
            }
            let recorded = async {
                let last = finish(&store, &recorder, duty, &actor, &*clock);
                tokio::time::timeout(at_most(RECORD_WAIT), last).await
            };
            if !matches!(control.block_on(recorded), Ok(Ok(()))) {
                tracing::error!("the stop, or what was counted last, could not be recorded in the audit log");
            }
            let left = control.block_on(async { tokio::time::timeout(at_most(RECORD_WAIT), keks.leave()).await });
            if !matches!(left, Ok(Ok(()))) {
                tracing::warn!("other instances take this one for running until a minute from now");
            }
            if let Some(export) = export {
                control.block_on(export.finish((end == drain::End::AtOnce).then_some(AT_ONCE)));
            }
            self.shutdown.stop_now();
            drop((store, keks, recorder));
            // A name that is being looked up blocks a thread for as long as the system likes.
            control.shutdown_timeout(AT_ONCE);
            log.flush();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shutdown.stop_now();
        if let Some(parts) = self.parts.take() {
            parts.closing.graceful.cancel();
            for worker in parts.workers {
                let _ = worker.join();
            }
        }
    }
}

/// The last that the audit log is told: what was counted, the stop, and, where that is this instance's duty, the signed
/// heads of all that grew.
async fn finish(
    store: &SharedStore,
    recorder: &Recorder,
    duty: LogDuty,
    actor: &Actor,
    clock: &dyn Clock,
) -> Result<(), StoreError> {
    let flushed = recorder.flush(clock.now()).await;
    store
        .record(vec![lifecycle(actor, clock, Action::InstanceStop)])
        .await?;
    match duty {
        LogDuty::Counts => flushed,
        LogDuty::Whole => recorder.checkpoint(clock.now()).await.and(flushed),
    }
}

/// Who this process is in the audit log.
fn instance() -> Actor {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let name = format!("{host}-{}", std::process::id());
    Actor {
        id: format!("sidecar:{name}"),
        name,
    }
}

fn lifecycle(actor: &Actor, clock: &dyn Clock, action: Action) -> AuditEntry {
    AuditEntry::of(None, clock.now(), actor.clone(), action, Source::Api)
}
