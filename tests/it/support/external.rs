//! How a test asks another company's backend: a provider's settings, a source over them, and what comes of a fetch.

use std::sync::Arc;
use std::time::Duration;

use kiket_sidecar::clock::Clock;
use kiket_sidecar::domain::provider::{Provider, ProviderFields, TargetError};
use kiket_sidecar::domain::reference::Reference;
use kiket_sidecar::egress::{AllowList, Egress, Resolver, SystemResolver, Trust};
use kiket_sidecar::external::{Checked, Credentials, External, ExternalSource, ExternalVersion, Fetched, OpenError};
use rustls::RootCertStore;
use secrecy::{ExposeSecret, SecretString};

use super::instance::HandClock;
use super::tls_endpoint::finished;

/// Longer than anything takes; a test that hangs fails.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// What a source is opened with.
pub struct Asking {
    pub fields: ProviderFields,
    pub credential: Option<String>,
    /// PEM.
    pub authority: Option<String>,
    /// Which networks the way out is open to.
    pub allow: &'static str,
    pub allow_http: bool,
    pub clock: Arc<HandClock>,
}

/// A source, and the provider that makes its targets.
pub struct Asker {
    pub provider: Provider,
    pub source: Arc<dyn ExternalSource>,
}

impl Asking {
    /// With these settings and this credential, at a host of `authority` on loopback.
    pub fn new(fields: ProviderFields, credential: &str, authority: &str) -> Self {
        Self {
            fields,
            credential: Some(credential.into()),
            authority: Some(authority.into()),
            allow: "127.0.0.0/8",
            allow_http: false,
            clock: Arc::new(HandClock::at(1_800_000_000_000)),
        }
    }

    pub fn try_open(&self) -> Result<Asker, OpenError> {
        self.try_open_in(&self.external(RootCertStore::empty()))
    }

    /// What sources stand on, where the process itself trusts these roots.
    pub fn external(&self, roots: RootCertStore) -> External {
        let allow = AllowList::new(vec![self.allow.parse().unwrap()]);
        let egress = Arc::new(Egress::new(allow, resolver(), PATIENCE));
        let trust = Trust::new(Arc::new(roots));
        let clock = Arc::clone(&self.clock) as Arc<dyn Clock>;
        External::new(egress, trust, clock, self.allow_http).unwrap()
    }

    pub fn try_open_in(&self, external: &External) -> Result<Asker, OpenError> {
        let provider = Provider::parse("main", &self.fields).unwrap();
        let credentials = Credentials {
            credential: self.credential.clone().map(SecretString::from),
            authority: self.authority.clone().map(SecretString::from),
        };
        let source = external.open(&provider, credentials)?;
        Ok(Asker { provider, source })
    }

    pub fn open(&self) -> Asker {
        self.try_open().unwrap()
    }
}

/// One that nobody asks: the addresses of tests are literals.
pub fn resolver() -> Arc<dyn Resolver> {
    let control = tokio::runtime::Runtime::new().unwrap();
    let resolver = Arc::new(SystemResolver::new(control.handle().clone()));
    control.shutdown_background();
    resolver
}

impl Asker {
    /// Fetches a reference's target.
    pub fn fetch(&self, reference: &str) -> Fetched {
        self.fetch_within(reference, PATIENCE)
    }

    pub fn fetch_within(&self, reference: &str, within: Duration) -> Fetched {
        self.try_fetch(&Reference::parse(reference).unwrap(), within).unwrap()
    }

    /// The same, or why the provider is not asked.
    pub fn try_fetch(&self, reference: &Reference, within: Duration) -> Result<Fetched, TargetError> {
        let target = self.provider.target(reference)?;
        Ok(finished("a fetch", self.source.fetch(&target, within)))
    }

    /// A fetch's outcome, in a word.
    pub fn outcome(&self, reference: &str) -> &'static str {
        self.fetch(reference).name()
    }

    pub fn check(&self) -> Checked {
        finished("a check", self.source.check(PATIENCE))
    }
}

/// The value that a fetch found.
pub fn value(fetched: &Fetched) -> &str {
    match fetched {
        Fetched::Found(found) => found.value.expose_secret(),
        other => panic!("{}", other.name()),
    }
}

/// Which version a fetch found.
pub fn version(fetched: Fetched) -> ExternalVersion {
    match fetched {
        Fetched::Found(found) => found.version,
        other => panic!("{}", other.name()),
    }
}
