//! What both planes stand on, and how each part of them is made from it.

use super::notices::{self};
use super::{StartError, feed};
use crate::admin::{ApiRateLimit, Control, WrongTokenCounts};
use crate::audit::{PolicyIsAuthentic, Recorder, Sightings};
use crate::bundles::{Builder, Bundles, StoreContact, Ways};
use crate::clock::Clock;
use crate::config::{self, Config};
use crate::crypto::keyring::Keyring;
use crate::crypto::signature::SignaturePrefix;
use crate::crypto::token::TokenDigest;
use crate::delivery::identity::TlsClients;
use crate::delivery::{DeliveryCounts, Lanes, Shares};
use crate::domain::audit::Actor;
use crate::egress::{AllowList, DestinationPolicy, Egress, Resolver, Trust, roots};
use crate::external::{External, Machine};
use crate::guard;
use crate::issuer::{Issuer, IssuerSettings};
use crate::keys::Keks;
use crate::notify::Sources;
use crate::proxy::{self, DeliveryIds, DispatcherAuth, EchoPolicy, StoredTokens};
use crate::registry::{self, Registry, Tokens};
use crate::secrets::explain::SecretExplainer;
use crate::secrets::manage::SecretManager;
use crate::secrets::providers::ProviderBook;
use crate::secrets::refresh::SecretRefresher;
use crate::secrets::resolve::SecretResolver;
use crate::secrets::sources;
use crate::server::{Limits, Load, server_tls};
use crate::store::SharedStore;
use crate::telemetry::{LogHandle, Metrics};
use crate::traces::Traces;
use rustls::RootCertStore;
use std::sync::Arc;
use tokio::runtime::Handle;

use super::planes::{ControlPlane, rotation_duty};

/// What both planes stand on.
pub(super) struct Ground {
    pub(super) store: SharedStore,
    pub(super) keyring: Arc<Keyring>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) actor: Actor,
    pub(super) metrics: Arc<Metrics>,
    pub(super) recorder: Arc<Recorder>,
    pub(super) allow: AllowList,
    pub(super) roots: Arc<RootCertStore>,
    pub(super) prefix: SignaturePrefix,
    pub(super) contact: Arc<StoreContact>,
    /// What secrets in other backends are fetched through.
    pub(super) external: Arc<External>,
    /// Resolves secrets, with what stands in other backends.
    pub(super) secrets: SecretResolver,
}

/// How this process reaches others: through the guard, by names that are looked up.
pub(super) struct WayOut {
    pub(super) egress: Arc<Egress>,
    pub(super) resolver: Arc<dyn Resolver>,
}

impl Ground {
    pub(super) fn lay(
        config: &Config,
        store: SharedStore,
        keyring: Keyring,
        clock: Arc<dyn Clock>,
        actor: Actor,
        metrics: Metrics,
        out: WayOut,
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
            Arc::clone(&metrics),
        )?;
        let roots = roots::load(config.egress_ca_file.as_deref())?;
        let trust = Trust::new(Arc::clone(&roots));
        let machine = machine(config, out.resolver, &trust, &clock)?;
        let external = External::new(out.egress, trust, Arc::clone(&clock), config.dangerous_allow_http)?;
        let external = Arc::new(external.with_machine(machine));
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
    pub(super) fn bundles(&self, config: &Config, load: &Load, control: &Handle) -> Result<Bundles, StartError> {
        let shares = Shares {
            organization: config.organization_share_percent,
            destination: config.destination_share_percent,
        };
        let builder = Builder::new(
            Arc::clone(&self.store),
            Arc::clone(&self.keyring),
            self.secrets.clone(),
            Ways {
                tls: TlsClients::new(Arc::clone(&self.roots)),
                lanes: Lanes::new(load.clone(), shares, Arc::clone(&self.metrics)),
            },
            self.prefix,
            self.recorder.deliveries().clone(),
            Arc::clone(&self.clock),
        )?;
        let builder = builder.asserting_no_leak(config.leak_assertion);
        Ok(Bundles::new(
            builder,
            Arc::clone(&self.clock),
            control.clone(),
            config.bundle_idle,
            Arc::clone(&self.contact),
        ))
    }

    pub(super) fn sources(&self) -> Sources {
        Sources {
            store: Arc::clone(&self.store),
            keyring: Arc::clone(&self.keyring),
            clock: Arc::clone(&self.clock),
            actor: self.actor.clone(),
        }
    }

    pub(super) fn shared_with_notices(
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

    /// Who has to vouch for invocations, where the settings ask for that.
    pub(super) fn issuer(&self, config: &Config, egress: &Arc<Egress>) -> Result<Option<Arc<Issuer>>, StartError> {
        let Some(url) = &config.runtime_token_jwks_url else {
            return Ok(None);
        };
        let settings = IssuerSettings {
            name: config.runtime_token_issuer.clone(),
            jwks_url: url.clone(),
            max_stale: config.max_stale,
            allow_http: config.dangerous_allow_http,
        };
        let (trust, clock) = (Trust::new(Arc::clone(&self.roots)), Arc::clone(&self.clock));
        let issuer = Issuer::new(&settings, Arc::clone(egress), &trust, clock, Arc::clone(&self.metrics))?;
        Ok(Some(Arc::new(issuer)))
    }

    /// What all workers share.
    pub(super) fn data_plane(
        &self,
        config: &Config,
        bundles: &Bundles,
        tokens: &Arc<Tokens>,
        issuer: Option<Arc<Issuer>>,
        (load, log, sightings, traces): (Load, LogHandle, Sightings, Option<Arc<Traces>>),
        runtime: &Handle,
    ) -> Result<Arc<proxy::Shared>, StartError> {
        Ok(Arc::new(proxy::Shared {
            auth: dispatcher_auth(config, &self.keyring, tokens, runtime)?,
            issuer,
            bundles: bundles.clone(),
            clock: Arc::clone(&self.clock),
            load,
            log,
            metrics: Arc::clone(&self.metrics),
            recorder: Arc::clone(&self.recorder),
            echo_policy: match config.echo_policy {
                config::EchoPolicy::Redact => EchoPolicy::Redact,
                config::EchoPolicy::Block => EchoPolicy::Block,
                config::EchoPolicy::Off => EchoPolicy::Off,
            },
            sightings,
            traces,
            ids: DeliveryIds::new()?,
        }))
    }

    /// What the control plane works on.
    pub(super) fn control_plane(
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

/// The machine's identity at Google, for providers that a platform operator set up to use it. Nobody is asked until one
/// is used: off Google's cloud there is no metadata server, and none is missed.
fn machine(
    config: &Config,
    resolver: Arc<dyn Resolver>,
    trust: &Trust,
    clock: &Arc<dyn Clock>,
) -> Result<Machine, StartError> {
    let machine = Machine::new(
        &config.gsm_metadata_url,
        config.gsm_url.clone(),
        resolver,
        trust,
        Arc::clone(clock),
        config.connect_timeout,
    );
    machine.map_err(StartError::Machine)
}

pub(super) fn limits(config: &Config) -> Limits {
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
