//! How both planes are put together from their parts: the one place where a port meets its adapter.

use std::sync::Arc;
use std::sync::atomic::AtomicU8;
use std::thread::JoinHandle;
use std::time::Duration;

use hyper_util::service::TowerToHyperService;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::feed::Followers;
use super::ground::{Ground, WayOut, limits};
use super::health::{self, Health, Phase};
use super::notices::{self, Notices};
use super::{Setup, Sockets, StartError, keys, traces};
use crate::admin::{self, Control};
use crate::audit::{LogDuty, Recorder, SightingLog, Sightings};
use crate::bundles::Bundles;
use crate::config::{self, Role};
use crate::delivery::{Deliverer, DeliveryCounts, DeliveryLimits};
use crate::domain::audit::Actor;
use crate::egress::{AllowList, Egress, Resolver};
use crate::issuer::Issuer;
use crate::keys::Keks;
use crate::proxy::{self, Proxy};
use crate::registry::Tokens;
use crate::secrets::resolve::RotationDuty;
use crate::server::{Acceptor, Closing, Listeners, Load, Pulse, Workers, serve_exchanges};
use crate::store::SharedStore;
use crate::telemetry::Metrics;
use crate::traces::Exporter;

/// The most connections of the control plane, and of metrics and health, at a time.
const CONTROL_CONNECTIONS_MAX: usize = 256;

/// How often bundles that are past their time, or that nobody uses, are dropped.
const SWEEP_EVERY: Duration = Duration::from_millis(500);

/// Everything built, nothing served yet.
pub(super) struct Planes {
    data: Option<DataPlane>,
    control: Option<ControlPlane>,
    bundles: Bundles,
    tokens: Arc<Tokens>,
    keks: Arc<Keks>,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    recorder: Arc<Recorder>,
    sighting_log: SightingLog,
    issuer: Option<Arc<Issuer>>,
    drain_grace: Duration,
}

struct DataPlane {
    shared: Arc<proxy::Shared>,
    egress: Arc<Egress>,
    limits: DeliveryLimits,
    counts: Arc<DeliveryCounts>,
    workers: usize,
}

pub(super) struct ControlPlane {
    pub(super) control: Control,
    pub(super) tls: Option<Arc<rustls::ServerConfig>>,
}

/// What an instance of a role does for the audit log: whoever administers keeps it whole.
pub(super) const fn log_duty(role: Role) -> LogDuty {
    if role.administers() {
        LogDuty::Whole
    } else {
        LogDuty::Counts
    }
}

/// Whether an instance of a role writes down rotations that it sees in other backends: proxies write nothing but the
/// audit log and counters.
pub(super) const fn rotation_duty(role: Role) -> RotationDuty {
    if role.administers() {
        RotationDuty::Note
    } else {
        RotationDuty::LeaveToOthers
    }
}

/// Builds the planes of the role over an open store.
pub(super) fn build(
    setup: Setup,
    store: SharedStore,
    actor: Actor,
    resolver: Arc<dyn Resolver>,
    runtime: &Handle,
) -> Result<(Planes, Notices, Option<Exporter>), StartError> {
    let Setup {
        config,
        keyring,
        clock,
        log,
        ..
    } = setup;
    let metrics = Metrics::new(env!("CARGO_PKG_VERSION"), clock.now(), log.drops())?;
    let allow = AllowList::new(config.egress_allow_cidrs.clone());
    let egress = Arc::new(Egress::new(allow, Arc::clone(&resolver), config.connect_timeout));
    let out = WayOut {
        egress: Arc::clone(&egress),
        resolver: Arc::clone(&resolver),
    };
    let ground = Ground::lay(&config, store, keyring, clock, actor, metrics, out)?;
    let keks = keys::enter(
        &config,
        &ground.store,
        &ground.keyring,
        &ground.clock,
        &ground.actor,
        runtime,
    )?;
    let load = Load::new(limits(&config));
    let bundles = ground.bundles(&config, &load, runtime)?;
    let counts = Arc::new(DeliveryCounts::default());
    let tokens = Arc::new(Tokens::new(
        Arc::clone(&ground.store),
        Arc::clone(&ground.keyring),
        Arc::clone(&ground.clock),
    ));
    let issuer = match config.role.delivers() {
        true => ground.issuer(&config, &egress)?,
        false => None,
    };
    let health = Arc::new(Health {
        phase: AtomicU8::new(Phase::Starting as u8),
        role: config.role,
        metrics: Arc::clone(&ground.metrics),
        load: load.clone(),
        bundles: bundles.clone(),
        upstream: Arc::clone(&counts),
        contact: Arc::clone(&ground.contact),
        issuer: issuer.clone(),
    });
    let notices = if config.role.administers() {
        notices::build(&config, ground.shared_with_notices(&bundles, &egress, &counts))?
    } else {
        notices::watch_only(ground.sources())
    };
    let control = match config.role.administers() {
        true => Some(ground.control_plane(&config, &bundles, &tokens, &keks)?),
        false => None,
    };
    let (sightings, sighting_log) = Sightings::new(
        Arc::clone(&ground.store),
        Arc::clone(&ground.clock),
        ground.actor.clone(),
    );
    let (traces, exporter) = traces::build(&config, &ground, resolver)?.unzip();
    let data = match config.role.delivers() {
        true => Some(DataPlane {
            shared: ground.data_plane(
                &config,
                &bundles,
                &tokens,
                issuer.clone(),
                (load, log, sightings, traces),
                runtime,
            )?,
            egress,
            limits: DeliveryLimits {
                response_bytes_max: config.response_bytes_max,
                encoded_answers: config.echo_policy == config::EchoPolicy::Off,
                ..DeliveryLimits::default()
            },
            counts,
            workers: config.workers,
        }),
        false => None,
    };
    let planes = Planes {
        data,
        control,
        bundles,
        tokens,
        keks,
        metrics: ground.metrics,
        health,
        recorder: ground.recorder,
        sighting_log,
        issuer,
        drain_grace: config.drain_grace,
    };
    Ok((planes, notices, exporter))
}

impl Planes {
    /// Serves deliveries and the control plane until connections are to end, which `serving` waits for, and metrics and
    /// health until the very end; each where the role has it. Returns the workers and how to see that they live.
    pub(super) fn serve(
        &self,
        sockets: Sockets,
        closing: &Closing,
        serving: &TaskTracker,
        runtime: &Handle,
    ) -> Result<(Vec<JoinHandle<()>>, Pulse), StartError> {
        let (workers, pulse) = match (&self.data, sockets.proxy) {
            (Some(data), Some(listeners)) => data.start_workers(listeners, closing, serving, runtime)?,
            _ => (Vec::new(), Pulse::of_none()),
        };
        if let (Some(plane), Some((listener, _))) = (&self.control, sockets.admin) {
            let admin = TowerToHyperService::new(admin::router(plane.control.clone()));
            let tls = plane.tls.clone();
            let end = closing.graceful.clone();
            let exchanges = serve_exchanges(listener, tls, admin, CONTROL_CONNECTIONS_MAX, end);
            serving.spawn_on(exchanges, runtime);
        }
        let health = TowerToHyperService::new(health::router(Arc::clone(&self.health)));
        let (listener, end) = (sockets.metrics.0, closing.immediate.clone());
        runtime.spawn(serve_exchanges(listener, None, health, CONTROL_CONNECTIONS_MAX, end));
        if let Some(issuer) = &self.issuer {
            runtime.spawn(Arc::clone(issuer).run(closing.immediate.clone()));
        }
        runtime.spawn(sweep(
            self.bundles.clone(),
            Arc::clone(&self.tokens),
            closing.immediate.clone(),
        ));
        self.health.enter(Phase::Serving);
        Ok((workers, pulse))
    }

    /// What has to hear of the feed.
    pub(super) fn followers(&self) -> Followers {
        Followers {
            bundles: self.bundles.clone(),
            tokens: Arc::clone(&self.tokens),
            keks: Arc::clone(&self.keks),
            contact: Arc::clone(&self.health.contact),
            metrics: Arc::clone(&self.metrics),
        }
    }

    /// What writes down where values were seen, once; it ends with the workers. Lets go of all that is served already.
    pub(super) fn into_sighting_log(self) -> SightingLog {
        self.sighting_log
    }

    pub(super) fn keks(&self) -> Arc<Keks> {
        Arc::clone(&self.keks)
    }

    pub(super) fn recorder(&self) -> Arc<Recorder> {
        Arc::clone(&self.recorder)
    }

    pub(super) fn health(&self) -> Arc<Health> {
        Arc::clone(&self.health)
    }

    pub(super) const fn drain_grace(&self) -> Duration {
        self.drain_grace
    }
}

impl DataPlane {
    /// Starts the workers and the acceptor.
    fn start_workers(
        &self,
        listeners: Listeners,
        closing: &Closing,
        serving: &TaskTracker,
        runtime: &Handle,
    ) -> Result<(Vec<JoinHandle<()>>, Pulse), StartError> {
        let (shared, egress) = (Arc::clone(&self.shared), Arc::clone(&self.egress));
        let (limits, counts) = (self.limits, Arc::clone(&self.counts));
        let make = move || {
            let deliverer = Deliverer::new(Arc::clone(&egress), limits, Arc::clone(&counts));
            Proxy::new(Arc::clone(&shared), deliverer)
        };
        let (workers, threads) = Workers::start(self.workers, *self.shared.load.limits(), closing, make)?;
        let pulse = workers.pulse();
        let acceptor = Acceptor::new(listeners, self.shared.load.clone(), workers);
        serving.spawn_on(acceptor.run(closing.graceful.clone()), runtime);
        Ok((threads, pulse))
    }
}

/// Keeps what is in memory fresh, and no longer than it may be.
async fn sweep(bundles: Bundles, tokens: Arc<Tokens>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(SWEEP_EVERY) => {
                bundles.sweep();
                tokens.note_uses().await;
            }
        }
    }
}
