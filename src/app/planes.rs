//! How both planes are put together from their parts: the one place where a port meets its adapter.

use std::sync::Arc;
use std::sync::atomic::AtomicU8;
use std::thread::JoinHandle;
use std::time::Duration;

use hyper_util::service::TowerToHyperService;
use rustls::RootCertStore;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::feed::Followers;
use super::health::{self, Health, Phase};
use super::notices::{self, Notices};
use super::{Setup, Sockets, StartError, feed, keys};
use crate::admin::{self, ApiRateLimit, Control, WrongTokenCounts};
use crate::audit::{LogDuty, PolicyIsAuthentic, Recorder};
use crate::bundles::{Builder, Bundles, StoreContact};
use crate::clock::Clock;
use crate::config::{self, Config, Role};
use crate::crypto::keyring::Keyring;
use crate::crypto::signature::SignaturePrefix;
use crate::crypto::token::TokenDigest;
use crate::delivery::identity::TlsClients;
use crate::delivery::{Deliverer, DeliveryCounts, DeliveryLimits};
use crate::domain::audit::Actor;
use crate::egress::{AllowList, DestinationPolicy, Egress, Resolver, Trust, roots};
use crate::external::External;
use crate::guard;
use crate::keys::Keks;
use crate::notify::Sources;
use crate::proxy::{self, DeliveryIds, DispatcherAuth, Proxy, StoredTokens};
use crate::registry::{self, Registry, Tokens};
use crate::secrets::explain::SecretExplainer;
use crate::secrets::manage::SecretManager;
use crate::secrets::providers::ProviderBook;
use crate::secrets::refresh::SecretRefresher;
use crate::secrets::resolve::{RotationDuty, SecretResolver};
use crate::secrets::sources;
use crate::server::{Acceptor, Closing, Limits, Listeners, Load, Workers, serve_exchanges, server_tls};
use crate::store::SharedStore;
use crate::telemetry::{LogHandle, Metrics};

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
    drain_grace: Duration,
}

struct DataPlane {
    shared: Arc<proxy::Shared>,
    egress: Arc<Egress>,
    limits: DeliveryLimits,
    counts: Arc<DeliveryCounts>,
    workers: usize,
}

struct ControlPlane {
    control: Control,
    tls: Option<Arc<rustls::ServerConfig>>,
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
const fn rotation_duty(role: Role) -> RotationDuty {
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
) -> Result<(Planes, Notices), StartError> {
    let Setup {
        config,
        keyring,
        clock,
        log,
        ..
    } = setup;
    let metrics = Metrics::new(env!("CARGO_PKG_VERSION"), clock.now(), log.drops())?;
    let allow = AllowList::new(config.egress_allow_cidrs.clone());
    let egress = Arc::new(Egress::new(allow, resolver, config.connect_timeout));
    let ground = Ground::lay(&config, store, keyring, clock, actor, metrics, Arc::clone(&egress))?;
    let keks = keys::enter(
        &config,
        &ground.store,
        &ground.keyring,
        &ground.clock,
        &ground.actor,
        runtime,
    )?;
    let bundles = ground.bundles(&config, runtime)?;
    let load = Load::new(limits(&config));
    let counts = Arc::new(DeliveryCounts::default());
    let tokens = Arc::new(Tokens::new(
        Arc::clone(&ground.store),
        Arc::clone(&ground.keyring),
        Arc::clone(&ground.clock),
    ));
    let health = Arc::new(Health {
        phase: AtomicU8::new(Phase::Starting as u8),
        role: config.role,
        metrics: Arc::clone(&ground.metrics),
        load: load.clone(),
        bundles: bundles.clone(),
        upstream: Arc::clone(&counts),
        contact: Arc::clone(&ground.contact),
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
    let data = match config.role.delivers() {
        true => Some(DataPlane {
            shared: ground.data_plane(&config, &bundles, &tokens, load, log, runtime)?,
            egress,
            limits: DeliveryLimits {
                response_bytes_max: config.response_bytes_max,
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
        drain_grace: config.drain_grace,
    };
    Ok((planes, notices))
}

/// What both planes stand on.
struct Ground {
    store: SharedStore,
    keyring: Arc<Keyring>,
    clock: Arc<dyn Clock>,
    actor: Actor,
    metrics: Arc<Metrics>,
    recorder: Arc<Recorder>,
    allow: AllowList,
    roots: Arc<RootCertStore>,
    prefix: SignaturePrefix,
    contact: Arc<StoreContact>,
    /// What secrets in other backends are fetched through.
    external: Arc<External>,
    /// Resolves secrets, with what stands in other backends.
    secrets: SecretResolver,
}

impl Ground {
    fn lay(
        config: &Config,
        store: SharedStore,
        keyring: Keyring,
        clock: Arc<dyn Clock>,
        actor: Actor,
        metrics: Metrics,
        egress: Arc<Egress>,
    ) -> Result<Self, StartError> {
        let (keyring, metrics) = (Arc::new(keyring), Arc::new(metrics));
        for (guard, state) in guard::report() {
            metrics.set_guard(guard.name(), state.is_active());
        }
        metrics.store_up.set(1);
        let recorder = Recorder::new(
            Arc::clone(&store),
            &keyring,
            actor.clone(),
            policy_is_authentic(&keyring),
        )?;
        let roots = roots::load(config.egress_ca_file.as_deref())?;
        let trust = Trust::new(Arc::clone(&roots));
        let external = External::new(egress, trust, Arc::clone(&clock), config.dangerous_allow_http)?;
        let external = Arc::new(external);
        let fetched = sources::Sources::new(
            Arc::clone(&external),
            Arc::clone(&clock),
            Arc::clone(&metrics),
            config.max_stale,
        );
        let secrets = SecretResolver::new(
            Arc::clone(&store),
            Arc::clone(&keyring),
            Arc::clone(&clock),
            actor.clone(),
        );
        Ok(Self {
            external,
            secrets: secrets.fetching(Arc::new(fetched), rotation_duty(config.role)),
            store,
            keyring,
            clock,
            actor,
            metrics,
            recorder: Arc::new(recorder),
            allow: AllowList::new(config.egress_allow_cidrs.clone()),
            roots,
            prefix: match config.signature_prefix {
                config::SignaturePrefix::Bare => SignaturePrefix::Bare,
                config::SignaturePrefix::Sha256 => SignaturePrefix::Sha256,
            },
            contact: Arc::new(StoreContact::begin(config.max_stale)),
        })
    }

    /// The cache of bundles, which builds on `control`.
    fn bundles(&self, config: &Config, control: &Handle) -> Result<Bundles, StartError> {
        let builder = Builder::new(
            Arc::clone(&self.store),
            Arc::clone(&self.keyring),
            self.secrets.clone(),
            TlsClients::new(Arc::clone(&self.roots)),
            self.prefix,
            self.recorder.deliveries().clone(),
            Arc::clone(&self.clock),
        )?;
        Ok(Bundles::new(
            builder,
            Arc::clone(&self.clock),
            control.clone(),
            config.bundle_idle,
            Arc::clone(&self.contact),
        ))
    }

    fn sources(&self) -> Sources {
        Sources {
            store: Arc::clone(&self.store),
            keyring: Arc::clone(&self.keyring),
            clock: Arc::clone(&self.clock),
            actor: self.actor.clone(),
        }
    }

    fn shared_with_notices(
        &self,
        bundles: &Bundles,
        egress: &Arc<Egress>,
        counts: &Arc<DeliveryCounts>,
    ) -> notices::Shared {
        notices::Shared {
            sources: self.sources(),
            secrets: self.secrets.clone(),
            bundles: bundles.clone(),
            tls: TlsClients::new(Arc::clone(&self.roots)),
            egress: Arc::clone(egress),
            counts: Arc::clone(counts),
            prefix: self.prefix,
            metrics: Arc::clone(&self.metrics),
        }
    }

    /// What all workers share.
    fn data_plane(
        &self,
        config: &Config,
        bundles: &Bundles,
        tokens: &Arc<Tokens>,
        load: Load,
        log: LogHandle,
        runtime: &Handle,
    ) -> Result<Arc<proxy::Shared>, StartError> {
        Ok(Arc::new(proxy::Shared {
            auth: dispatcher_auth(config, &self.keyring, tokens, runtime)?,
            bundles: bundles.clone(),
            clock: Arc::clone(&self.clock),
            load,
            log,
            metrics: Arc::clone(&self.metrics),
            recorder: Arc::clone(&self.recorder),
            ids: DeliveryIds::new()?,
        }))
    }

    /// What the control plane works on.
    fn control_plane(
        &self,
        config: &Config,
        bundles: &Bundles,
        tokens: &Arc<Tokens>,
        keks: &Arc<Keks>,
    ) -> Result<ControlPlane, StartError> {
        let tls = match (&config.admin_tls_cert_file, &config.admin_tls_key_file) {
            (Some(certificate), Some(key)) => Some(server_tls(certificate, key)?),
            _ => None,
        };
        let (store, keyring, clock) = (&self.store, &self.keyring, &self.clock);
        let policy = DestinationPolicy {
            allow_http: config.dangerous_allow_http,
            allow: self.allow.clone(),
        };
        let providers = ProviderBook::new(
            Arc::clone(store),
            Arc::clone(keyring),
            Arc::clone(clock),
            self.secrets.clone(),
            policy.clone(),
            Arc::clone(&self.external),
        );
        let registry = Registry::new(Arc::clone(store), Arc::clone(keyring), Arc::clone(clock), policy);
        let manager = SecretManager::new(Arc::clone(store), Arc::clone(keyring), Arc::clone(clock));
        let explainer = SecretExplainer::new(Arc::clone(store), Arc::clone(clock), self.secrets.clone());
        let refresher = SecretRefresher::new(Arc::clone(store), Arc::clone(clock), self.secrets.clone());
        let control = Control {
            bootstrap_token_hash: bootstrap_token(config, keyring)?,
            store: Arc::clone(store),
            keyring: Arc::clone(keyring),
            clock: Arc::clone(clock),
            registry: Arc::new(registry),
            providers: Arc::new(providers),
            secrets: Arc::new(manager),
            recorder: Arc::clone(&self.recorder),
            explainer: Arc::new(explainer),
            refresher: Arc::new(refresher),
            tokens: Arc::clone(tokens),
            keks: Arc::clone(keks),
            bundles: bundles.clone(),
            rate_limit: Arc::new(ApiRateLimit::new(config.api_rate_per_second, config.api_burst)),
            wrong_tokens: Arc::new(WrongTokenCounts::default()),
            is_tls: tls.is_some(),
            on_committed: feed::on_committed(bundles.clone(), Arc::clone(tokens)),
        };
        Ok(ControlPlane { control, tls })
    }
}

fn limits(config: &Config) -> Limits {
    Limits {
        connections_max: config.connections_max,
        in_flight_max: config.in_flight_max,
        buffered_bytes_max: config.buffered_bytes_max,
        body_bytes_max: config.payload_bytes_max,
        header_read_timeout: config.header_read_timeout,
        body_read_timeout: config.body_read_timeout,
    }
}

fn policy_is_authentic(keyring: &Arc<Keyring>) -> PolicyIsAuthentic {
    let keyring = Arc::clone(keyring);
    Arc::new(move |row| registry::policy_is_authentic(&keyring, row))
}

fn bootstrap_token(config: &Config, keyring: &Keyring) -> Result<Option<[u8; 32]>, StartError> {
    let Some(path) = &config.bootstrap_token_file else {
        return Ok(None);
    };
    let token = config::secret_file(path).map_err(|error| StartError::SecretFile("bootstrap_token_file", error))?;
    Ok(Some(keyring.token_hash(&token)))
}

/// Tokens that the API made are good where a token is asked for.
fn dispatcher_auth(
    config: &Config,
    keyring: &Arc<Keyring>,
    tokens: &Arc<Tokens>,
    control: &Handle,
) -> Result<DispatcherAuth, StartError> {
    let Some(path) = &config.dispatcher_token_file else {
        return Ok(DispatcherAuth::Local);
    };
    let token = config::secret_file(path).map_err(|error| StartError::SecretFile("dispatcher_token_file", error))?;
    Ok(DispatcherAuth::Token {
        file: TokenDigest::of_secret(&token),
        stored: StoredTokens::new(Arc::clone(tokens), Arc::clone(keyring), control.clone()),
    })
}

impl Planes {
    /// Serves deliveries, the control plane until connections are to end, and metrics and health until the very end;
    /// each where the role has it. Returns the workers.
    pub(super) fn serve(
        &self,
        sockets: Sockets,
        closing: &Closing,
        runtime: &Handle,
    ) -> Result<Vec<JoinHandle<()>>, StartError> {
        let workers = match (&self.data, sockets.proxy) {
            (Some(data), Some(listeners)) => data.start_workers(listeners, closing, runtime)?,
            _ => Vec::new(),
        };
        if let (Some(plane), Some((listener, _))) = (&self.control, sockets.admin) {
            let admin = TowerToHyperService::new(admin::router(plane.control.clone()));
            let tls = plane.tls.clone();
            let end = closing.graceful.clone();
            runtime.spawn(serve_exchanges(listener, tls, admin, CONTROL_CONNECTIONS_MAX, end));
        }
        let health = TowerToHyperService::new(health::router(Arc::clone(&self.health)));
        let (listener, end) = (sockets.metrics.0, closing.immediate.clone());
        runtime.spawn(serve_exchanges(listener, None, health, CONTROL_CONNECTIONS_MAX, end));
        runtime.spawn(sweep(
            self.bundles.clone(),
            Arc::clone(&self.tokens),
            closing.immediate.clone(),
        ));
        self.health.enter(Phase::Serving);
        Ok(workers)
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
        runtime: &Handle,
    ) -> Result<Vec<JoinHandle<()>>, StartError> {
        let (shared, egress) = (Arc::clone(&self.shared), Arc::clone(&self.egress));
        let (limits, counts) = (self.limits, Arc::clone(&self.counts));
        let make = move || {
            let deliverer = Deliverer::new(Arc::clone(&egress), limits, Arc::clone(&counts));
            Proxy::new(Arc::clone(&shared), deliverer)
        };
        let (workers, threads) = Workers::start(self.workers, *self.shared.load.limits(), closing, make)?;
        let acceptor = Acceptor::new(listeners, self.shared.load.clone(), workers);
        runtime.spawn(acceptor.run(closing.graceful.clone()));
        Ok(threads)
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
