//! How a bundle is made: registry and secrets read, values opened, fragment rendered, identity and signers prepared.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use super::{Bundle, Dependencies, Echo, Obstacle, Ready, Standing};
use crate::audit::Deliveries;
use crate::clock::Clock;
use crate::crypto::keyring::Keyring;
use crate::crypto::signature::{SignaturePrefix, Signers};
use crate::delivery::identity::{IdentityError, TlsClient, TlsClients};
use crate::delivery::{Lanes, Route};
use crate::domain::alert::AlertKind;
use crate::domain::change::Changed;
use crate::domain::destination::{Destination, Scheme};
use crate::domain::echo::EchoPatterns;
use crate::domain::id::InstallationId;
use crate::domain::installation::{Installation, InstallationState};
use crate::domain::leak::LeakPatterns;
use crate::domain::manifest::Demand;
use crate::domain::payload::fragment;
use crate::domain::policy::DAY_MILLIS;
use crate::domain::resolution::{self, HandshakeSecrets};
use crate::domain::scope::Scope;
use crate::domain::time::Timestamp;
use crate::registry::{self, Registered, RegistryError};
use crate::secrets::resolve::{Blocked, LoadReason, Opened, ResolveError, SecretResolver, Stamp, with_predecessors};
use crate::store::{Finding, SharedStore};

/// How long the last matching certificate and key stay in use while the stored two do not match each other: they are
/// two secrets, written one after the other (contract, section 5).
const MISMATCH_GRACE_MILLIS: u64 = 10 * 60 * 1_000;

/// How long a certificate that is not valid yet is taken to stay so.
const NOT_YET_VALID_MILLIS: u64 = 1_000;

/// Makes bundles. Reads, opens and parses: belongs on the control runtime.
pub struct Builder {
    store: SharedStore,
    keyring: Arc<Keyring>,
    secrets: SecretResolver,
    tls: TlsClients,
    lanes: Lanes,
    plain: TlsClient,
    prefix: SignaturePrefix,
    deliveries: Deliveries,
    clock: Arc<dyn Clock>,
    identities: Mutex<HashMap<InstallationId, LastIdentity>>,
    asserts_no_leak: bool,
}

/// What the ways to endpoints are made of.
pub struct Ways {
    /// Identities for the handshake.
    pub tls: TlsClients,
    /// Shares of the instance.
    pub lanes: Lanes,
}

/// Why no bundle could be made. Not kept: the next delivery tries again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// The store did not answer, or did not take the audit entry of a load.
    #[error("the store is unavailable")]
    Store,
    /// A secret's source did not answer, or a value could not be opened.
    #[error("a secret's source is unavailable")]
    Source,
    /// Changes came faster than a build takes.
    #[error("changes overtook every attempt")]
    Overtaken,
    /// A record that only we write cannot be trusted or read, or a build died.
    #[error("a bundle could not be built")]
    Internal,
}

/// The identity that an installation's last matching certificate and key made.
struct LastIdentity {
    /// The rows it came from.
    stamp: Vec<Stamp>,
    client: TlsClient,
    mismatched_since: Option<Timestamp>,
}

/// When a bundle ends by itself.
#[derive(Default)]
struct Ends {
    /// When it is to be built anew.
    fresh_until: Option<Timestamp>,
    /// When it may not be used any more.
    usable_until: Option<Timestamp>,
}

impl Builder {
    /// A builder over these sources.
    ///
    /// # Errors
    /// [`IdentityError`] where no TLS client can be made from the roots alone.
    pub fn new(
        store: SharedStore,
        keyring: Arc<Keyring>,
        secrets: SecretResolver,
        Ways { tls, lanes }: Ways,
        prefix: SignaturePrefix,
        deliveries: Deliveries,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, IdentityError> {
        let plain = tls.plain(None)?;
        let identities = Mutex::new(HashMap::new());
        Ok(Self {
            store,
            keyring,
            secrets,
            tls,
            lanes,
            plain,
            prefix,
            deliveries,
            clock,
            identities,
            asserts_no_leak: false,
        })
    }

    /// The same, with bundles that know what must not be seen in a request.
    #[must_use]
    pub fn asserting_no_leak(self, asserts_no_leak: bool) -> Self {
        Self {
            asserts_no_leak,
            ..self
        }
    }

    /// Builds the bundle of an id from what the sources say now.
    ///
    /// # Errors
    /// [`BuildError`] where a source did not answer clearly.
    pub async fn build(&self, id: &InstallationId, reason: LoadReason) -> Result<Bundle, BuildError> {
        let mut depends_on = Dependencies {
            installation: Some(id.clone()),
            ..Dependencies::default()
        };
        let loaded = registry::load(&self.store, &self.keyring, id).await;
        if loaded == Err(RegistryError::Tampered) {
            self.secrets.raise(registry::tampered(id.into()), DAY_MILLIS);
        }
        let Some(registered) = loaded? else {
            self.forget_identity(id);
            return Ok(Bundle {
                standing: Standing::Unknown,
                fresh_until: None,
                usable_until: None,
                depends_on,
            });
        };
        depends_on.extension = Some(registered.installation.extension.clone());
        let mut ends = Ends::default();
        let readiness = self.readiness(&registered, reason, &mut depends_on, &mut ends).await?;
        if readiness.is_err() && ends.usable_until.is_none() {
            self.forget_identity(id);
        }
        let standing = Standing::Installed {
            installation: registered.installation,
            readiness,
        };
        Ok(Bundle {
            standing,
            fresh_until: earliest(ends.fresh_until, ends.usable_until),
            usable_until: ends.usable_until,
            depends_on,
        })
    }

    async fn readiness(
        &self,
        registered: &Registered,
        reason: LoadReason,
        depends_on: &mut Dependencies,
        ends: &mut Ends,
    ) -> Result<Result<Ready, Obstacle>, BuildError> {
        if registered.installation.state != InstallationState::Enabled {
            return Ok(Err(Obstacle::NotEnabled));
        }
        let Some(destination) = &registered.destination else {
            return Ok(Err(Obstacle::NoDestination));
        };
        let awaiting = registered.awaiting();
        for finding in registry::findings(registered, &awaiting) {
            self.secrets.raise(finding, self.clock.now().0); // once; most were raised by what changed
        }
        if awaiting.destination.is_some() {
            return Ok(Err(Obstacle::DestinationUnconfirmed));
        }
        let demand = registered.demand();
        if demand.handshake.is_some() && destination.scheme == Scheme::Http {
            return Ok(Err(Obstacle::PlainDestination)); // a manifest can declare it after a callback was overridden
        }
        let resolution = self
            .secrets
            .resolve(&registered.installation, registered.partner_defaults, &demand, reason)
            .await?;
        depends_on.slots = resolution.probed;
        depends_on.providers = resolution
            .is_external
            .then(|| registered.installation.organization.clone());
        ends.fresh_until = resolution.fresh_until;
        ends.usable_until = resolution.usable_until;
        let opened = match resolution.outcome {
            Ok(opened) => opened,
            Err(blocked) => return Ok(Err(blocked.into())),
        };
        let client = match self.identity(&registered.installation, &demand, &opened, ends) {
            Ok(client) => client,
            Err(obstacle) => return Ok(Err(obstacle)),
        };
        let mtls = client.certificate.is_some();
        let identity_until = client.not_after;
        let route = route(destination, &demand, client);
        let keys_injected = count(opened.payload.iter().len());
        let patterns = EchoPatterns::new(&opened.payload).map(Arc::new);
        let rendered = fragment(&opened.payload, &resolution.missing);
        let leaks = self
            .asserts_no_leak
            .then(|| leaks(&patterns, &demand, &opened))
            .flatten();
        // A replaced signing secret leaves memory when its overlap ends.
        ends.fresh_until = earliest(ends.fresh_until, overlap_end(&opened.signing));
        let signers = match self.signers(opened.signing) {
            Ok(signers) => signers,
            Err(obstacle) => return Ok(Err(obstacle)),
        };
        let organization = registered.installation.organization.clone();
        let lane = self.lanes.of(&organization, destination);
        let origin = destination.origin().to_string();
        let uses = self.deliveries.counter(organization, origin, opened.uses);
        let echo = patterns.map(|patterns| {
            let uses = Arc::clone(&uses);
            Arc::new(Echo { patterns, uses })
        });
        Ok(Ok(Ready {
            uses,
            echo,
            leaks,
            route: Arc::new(route),
            lane,
            fragment: Bytes::from_owner(rendered),
            keys_injected,
            keys_missing: count(resolution.missing.len()),
            scope_hits: opened.scope_hits,
            signers,
            mtls,
            identity_until,
        }))
    }

    /// The identity for the handshake: the system's roots alone, or the client certificate that the manifest
    /// declares. Never the former where the latter is declared.
    fn identity(
        &self,
        installation: &Installation,
        demand: &Demand,
        opened: &Opened,
        ends: &mut Ends,
    ) -> Result<TlsClient, Obstacle> {
        let id = &installation.id;
        if demand.handshake.is_none() {
            self.forget_identity(id);
            return Ok(self.plain.clone());
        }
        let secrets = opened.handshake.as_ref().ok_or(Obstacle::IdentityMissing)?;
        let now = self.clock.now();
        let mut identities = self.identities.lock().unwrap_or_else(PoisonError::into_inner);
        let last = identities.get_mut(id);
        if let Some(last) = &last
            && last.stamp == opened.handshake_stamp
            && last.client.not_after.is_none_or(|end| now < end)
        {
            return Ok(last.client.clone());
        }
        match (self.mutual(secrets, now), last) {
            (Ok(client), _) => {
                let stamp = opened.handshake_stamp.clone();
                identities.insert(
                    id.clone(),
                    LastIdentity {
                        stamp,
                        client: client.clone(),
                        mismatched_since: None,
                    },
                );
                Ok(client)
            }
            (Err(IdentityError::Mismatched), Some(last)) => {
                let since = *last.mismatched_since.get_or_insert(now);
                let until = since.plus_millis(MISMATCH_GRACE_MILLIS);
                if now >= until {
                    return Err(Obstacle::IdentityInvalid);
                }
                tracing::warn!(installation_id = %id, "client certificate and key do not match: the last matching pair stays in use");
                self.secrets
                    .raise(mismatched(installation, &opened.handshake_stamp, until), now.0);
                ends.usable_until = earliest(ends.usable_until, Some(until));
                Ok(last.client.clone())
            }
            (Err(IdentityError::NotYetValid), _) => {
                let soon = now.plus_millis(NOT_YET_VALID_MILLIS);
                ends.usable_until = earliest(ends.usable_until, Some(soon));
                Err(Obstacle::IdentityInvalid)
            }
            (Err(_), _) => Err(Obstacle::IdentityInvalid),
        }
    }

    fn mutual(&self, secrets: &HandshakeSecrets, now: Timestamp) -> Result<TlsClient, IdentityError> {
        let ca = secrets.ca.as_ref().map(|ca| &ca.0);
        self.tls.mutual(&secrets.certificate.0, &secrets.private_key.0, ca, now)
    }

    /// Takes changes over into what values are fetched with and kept for.
    pub(super) fn apply(&self, changes: &[Changed]) {
        self.secrets.apply(changes);
    }

    /// Lets go of fetched values that are too old, or not referred to any more, and of lanes that nobody uses.
    pub(super) fn sweep(&self) {
        self.secrets.sweep();
        self.lanes.sweep(self.clock.now());
    }

    /// Whether a client certificate and key of this installation are in memory.
    pub(super) fn holds_identity(&self, id: &InstallationId) -> bool {
        self.identities
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .contains_key(id)
    }

    /// Lets go of an installation's client certificate and key.
    pub(super) fn forget_identity(&self, id: &InstallationId) {
        self.identities
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(id);
    }

    fn signers(&self, secrets: Vec<resolution::SigningSecret>) -> Result<Option<Signers>, Obstacle> {
        if secrets.is_empty() {
            return Ok(None);
        }
        Signers::new(with_predecessors(secrets), self.prefix)
            .map(Some)
            .map_err(|_| Obstacle::IdentityInvalid)
    }
}

/// What a request must not carry: injected values outside of their member; what is for handshakes and signatures nowhere.
fn leaks(injected: &Option<Arc<EchoPatterns>>, demand: &Demand, opened: &Opened) -> Option<LeakPatterns> {
    let handshake = demand
        .handshake
        .iter()
        .zip(&opened.handshake)
        .flat_map(|(keys, secrets)| {
            [
                (&keys.certificate_key, &secrets.certificate.0),
                (&keys.private_key_key, &secrets.private_key.0),
            ]
        });
    let signing = demand.signing.iter().zip(&opened.signing).flat_map(|(key, secret)| {
        let predecessor = secret.predecessor.iter().map(|(text, _)| text);
        std::iter::once(&secret.current)
            .chain(predecessor)
            .map(move |text| (key, text))
    });
    LeakPatterns::new(injected.clone(), EchoPatterns::of(handshake.chain(signing)))
}

/// Raised once for each pair that does not match.
fn mismatched(installation: &Installation, stamp: &[Stamp], until: Timestamp) -> Finding {
    let versions = stamp.iter().map(|(slot, version, _)| format!("{}:{version}", slot.key));
    Finding {
        kind: AlertKind::IdentityMismatched,
        organization: Some(installation.organization.clone()),
        scope: Some(Scope::ExtensionInstallation),
        subject: Some((&installation.id).into()),
        key: stamp.first().map(|(slot, ..)| slot.key.clone()),
        detail: format!(
            "the client certificate and its key do not match; the last matching pair is in use until {}",
            until.to_rfc3339()
        ),
        occasion: versions.collect::<Vec<_>>().join(" "),
    }
}

fn route(destination: &Destination, demand: &Demand, client: TlsClient) -> Route {
    let client = match destination.scheme {
        Scheme::Https => Some(client),
        Scheme::Http => None,
    };
    Route::new(destination.clone(), demand.timeout, client)
}

/// When the first of the replaced signing secrets ends.
fn overlap_end(secrets: &[resolution::SigningSecret]) -> Option<Timestamp> {
    let replaced = secrets.iter().filter_map(|secret| secret.predecessor.as_ref());
    replaced.map(|(_, until)| *until).min()
}

fn earliest(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    one.into_iter().chain(other).min()
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

impl From<Blocked> for Obstacle {
    fn from(blocked: Blocked) -> Self {
        match blocked {
            Blocked::RequiredMissing(keys) => Self::RequiredMissing(keys),
            Blocked::SigningMissing(_) => Self::SigningKeyMissing,
            Blocked::HandshakeMissing(_) => Self::IdentityMissing,
        }
    }
}

impl From<ResolveError> for BuildError {
    fn from(error: ResolveError) -> Self {
        match error {
            ResolveError::Store(_) | ResolveError::Unrecorded => Self::Store,
            ResolveError::Source => Self::Source,
        }
    }
}

impl From<RegistryError> for BuildError {
    fn from(error: RegistryError) -> Self {
        match error {
            RegistryError::Store(_) => Self::Store,
            _ => Self::Internal,
        }
    }
}
