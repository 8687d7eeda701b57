//! How both planes are put together from their parts: the one place where a port meets its adapter.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::AtomicU8;
use std::thread::JoinHandle;
use std::time::Duration;

use hyper_util::service::TowerToHyperService;
use rustls::RootCertStore;
use tokio::runtime::Handle;

use super::health::{self, Health, Phase};
use super::notices::{self, Notices};
use super::{Setup, StartError, feed};
use crate::admin::{self, ApiRateLimit, Control, WrongTokenCounts};
use crate::audit::{PolicyIsAuthentic, Recorder};
use crate::bundles::{Builder, Bundles, StoreContact};
use crate::clock::Clock;
use crate::config::{self, Config};
use crate::crypto::keyring::Keyring;
use crate::crypto::signature::SignaturePrefix;
use crate::crypto::token::TokenDigest;
use crate::delivery::identity::TlsClients;
use crate::delivery::{Deliverer, DeliveryCounts, DeliveryLimits};
use crate::domain::audit::Actor;
use crate::egress::{AllowList, Egress, Resolver, roots};
use crate::guard;
use crate::notify::Sources;
use crate::proxy::{self, DeliveryIds, DispatcherAuth, Proxy, StoredTokens};
use crate::registry::{self, DestinationPolicy, Registry, Tokens};
use crate::secrets::explain::SecretExplainer;
use crate::secrets::manage::SecretManager;
use crate::secrets::resolve::SecretResolver;
use crate::server::{Acceptor, Closing, Limits, Listeners, Load, Workers, serve_exchanges, server_tls};
use crate::store::SharedStore;
use crate::telemetry::Metrics;

/// The most connections of the control plane, and of metrics and health, at a time.
const CONTROL_CONNECTIONS_MAX: usize = 256;

/// How often bundles that are past their time, or that nobody uses, are dropped.
const SWEEP_EVERY: Duration = Duration::from_millis(500);

/// Everything built, nothing served yet.
pub(super) struct Planes {
    data: Arc<proxy::Shared>,
    egress: Arc<Egress>,
    delivery: DeliveryLimits,
    counts: Arc<DeliveryCounts>,
    control: Control,
    admin_tls: Option<Arc<rustls::ServerConfig>>,
    health: Arc<Health>,
    recorder: Arc<Recorder>,
    drain_grace: Duration,
    workers: usize,
}

/// Builds both planes over an open store.
pub(super) fn build(
    setup: Setup,
    store: SharedStore,
    actor: Actor,
    resolver: Arc<dyn Resolver>,
    control: &Handle,
) -> Result<(Planes, Notices), StartError> {
    let Setup {
        config,
        keyring,
        clock,
        log,
        ..
    } = setup;
    let metrics = Metrics::new(env!("CARGO_PKG_VERSION"), clock.now(), log.drops())?;
    let ground = Ground::lay(&config, store, keyring, clock, actor, metrics)?;
    let bundles = ground.bundles(&config, control)?;
    let load = Load::new(limits(&config));
    let counts = Arc::new(DeliveryCounts::default());
    let tokens = Arc::new(Tokens::new(
        Arc::clone(&ground.store),
        Arc::clone(&ground.keyring),
        Arc::clone(&ground.clock),
    ));
    let admin_tls = match (&config.admin_tls_cert_file, &config.admin_tls_key_file) {
        (Some(certificate), Some(key)) => Some(server_tls(certificate, key)?),
        _ => None,
    };
    let auth = dispatcher_auth(&config, &ground.keyring, &tokens, control)?;
    let egress = Arc::new(Egress::new(ground.allow.clone(), resolver, config.connect_timeout));
    let notices = notices::build(&config, ground.shared_with_notices(&bundles, &egress, &counts))?;
    let health = Arc::new(Health {
        phase: AtomicU8::new(Phase::Starting as u8),
        metrics: Arc::clone(&ground.metrics),
        load: load.clone(),
        bundles: bundles.clone(),
        upstream: Arc::clone(&counts),
        contact: Arc::clone(&ground.contact),
    });
    let control = ground.control(&config, &bundles, tokens, admin_tls.is_some())?;
    let data = Arc::new(proxy::Shared {
        auth,
        bundles,
        clock: ground.clock,
        load,
        log,
        metrics: ground.metrics,
        recorder: Arc::clone(&ground.recorder),
        ids: DeliveryIds::new()?,
    });
    let planes = Planes {
        data,
        egress,
        delivery: DeliveryLimits {
            response_bytes_max: config.response_bytes_max,
            ..DeliveryLimits::default()
        },
        counts,
        control,
        admin_tls,
        health,
        recorder: ground.recorder,
        drain_grace: config.drain_grace,
        workers: config.workers,
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
}

impl Ground {
    fn lay(
        config: &Config,
        store: SharedStore,
        keyring: Keyring,
        clock: Arc<dyn Clock>,
        actor: Actor,
        metrics: Metrics,
    ) -> Result<Self, StartError> {
        let keyring = Arc::new(keyring);
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
        Ok(Self {
            store,
            keyring,
            clock,
            actor,
            metrics: Arc::new(metrics),
            recorder: Arc::new(recorder),
            allow: AllowList::new(config.egress_allow_cidrs.clone()),
            roots: roots::load(config.egress_ca_file.as_deref())?,
            prefix: match config.signature_prefix {
                config::SignaturePrefix::Bare => SignaturePrefix::Bare,
                config::SignaturePrefix::Sha256 => SignaturePrefix::Sha256,
            },
            contact: Arc::new(StoreContact::begin(config.max_stale)),
        })
    }

    /// The cache of bundles, which builds on `control`.
    fn bundles(&self, config: &Config, control: &Handle) -> Result<Bundles, StartError> {
        let secrets = SecretResolver::new(
            Arc::clone(&self.store),
            Arc::clone(&self.keyring),
            Arc::clone(&self.clock),
            self.actor.clone(),
        );
        let builder = Builder::new(
            Arc::clone(&self.store),
            Arc::clone(&self.keyring),
            secrets,
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

    fn shared_with_notices(
        &self,
        bundles: &Bundles,
        egress: &Arc<Egress>,
        counts: &Arc<DeliveryCounts>,
    ) -> notices::Shared {
        notices::Shared {
            sources: Sources {
                store: Arc::clone(&self.store),
                keyring: Arc::clone(&self.keyring),
                clock: Arc::clone(&self.clock),
                actor: self.actor.clone(),
            },
            bundles: bundles.clone(),
            tls: TlsClients::new(Arc::clone(&self.roots)),
            egress: Arc::clone(egress),
            counts: Arc::clone(counts),
            prefix: self.prefix,
            metrics: Arc::clone(&self.metrics),
        }
    }

    /// What the control plane works on.
    fn control(
        &self,
        config: &Config,
        bundles: &Bundles,
        tokens: Arc<Tokens>,
        is_tls: bool,
    ) -> Result<Control, StartError> {
        let (store, keyring, clock) = (&self.store, &self.keyring, &self.clock);
        let policy = DestinationPolicy {
            allow_http: config.dangerous_allow_http,
            allow: self.allow.clone(),
        };
        let registry = Registry::new(Arc::clone(store), Arc::clone(keyring), Arc::clone(clock), policy);
        let manager = SecretManager::new(Arc::clone(store), Arc::clone(keyring), Arc::clone(clock));
        let explainer = SecretExplainer::new(Arc::clone(store), Arc::clone(clock));
        Ok(Control {
            bootstrap_token_hash: bootstrap_token(config, keyring)?,
            store: Arc::clone(store),
            keyring: Arc::clone(keyring),
            clock: Arc::clone(clock),
            registry: Arc::new(registry),
            secrets: Arc::new(manager),
            recorder: Arc::clone(&self.recorder),
            explainer: Arc::new(explainer),
            tokens: Arc::clone(&tokens),
            bundles: bundles.clone(),
            rate_limit: Arc::new(ApiRateLimit::new(config.api_rate_per_second, config.api_burst)),
            wrong_tokens: Arc::new(WrongTokenCounts::default()),
            is_tls,
            on_committed: feed::on_committed(bundles.clone(), tokens),
        })
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
    /// Starts the workers and the acceptor of the data plane.
    pub(super) fn start_workers(
        &self,
        listeners: Listeners,
        closing: &Closing,
        control: &Handle,
    ) -> Result<Vec<JoinHandle<()>>, StartError> {
        let (shared, egress) = (Arc::clone(&self.data), Arc::clone(&self.egress));
        let (limits, counts) = (self.delivery, Arc::clone(&self.counts));
        let make = move || {
            let deliverer = Deliverer::new(Arc::clone(&egress), limits, Arc::clone(&counts));
            Proxy::new(Arc::clone(&shared), deliverer)
        };
        let (workers, threads) = Workers::start(self.workers, *self.data.load.limits(), closing, make)?;
        let acceptor = Acceptor::new(listeners, self.data.load.clone(), workers);
        control.spawn(acceptor.run(closing.graceful.clone()));
        self.health.enter(Phase::Serving);
        Ok(threads)
    }

    /// Serves the control plane until connections are to end, metrics and health until the very end.
    pub(super) fn serve_control(
        &self,
        admin_listener: TcpListener,
        metrics_listener: TcpListener,
        closing: &Closing,
        control: &Handle,
    ) {
        let admin = TowerToHyperService::new(admin::router(self.control.clone()));
        let health = TowerToHyperService::new(health::router(Arc::clone(&self.health)));
        control.spawn(serve_exchanges(
            admin_listener,
            self.admin_tls.clone(),
            admin,
            CONTROL_CONNECTIONS_MAX,
            closing.graceful.clone(),
        ));
        control.spawn(serve_exchanges(
            metrics_listener,
            None,
            health,
            CONTROL_CONNECTIONS_MAX,
            closing.immediate.clone(),
        ));
        let (bundles, tokens) = (self.data.bundles.clone(), Arc::clone(&self.control.tokens));
        let stop = closing.immediate.clone();
        control.spawn(async move {
            loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(SWEEP_EVERY) => {
                        bundles.sweep();
                        tokens.note_uses().await;
                    }
                }
            }
        });
    }

    pub(super) fn bundles(&self) -> Bundles {
        self.data.bundles.clone()
    }

    pub(super) fn recorder(&self) -> Arc<Recorder> {
        Arc::clone(&self.recorder)
    }

    pub(super) fn tokens(&self) -> Arc<Tokens> {
        Arc::clone(&self.control.tokens)
    }

    pub(super) fn metrics(&self) -> Arc<Metrics> {
        Arc::clone(&self.data.metrics)
    }

    pub(super) fn contact(&self) -> Arc<StoreContact> {
        Arc::clone(&self.health.contact)
    }

    pub(super) fn health(&self) -> Arc<Health> {
        Arc::clone(&self.health)
    }

    pub(super) const fn drain_grace(&self) -> Duration {
        self.drain_grace
    }
}
