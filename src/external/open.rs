//! How a provider's settings and an organization's credentials become a source.

use std::sync::Arc;

use secrecy::SecretString;

use super::ExternalSource;
use super::gsm::{GsmSource, Machine};
use super::value::Marks;
use super::vault::VaultSource;
use crate::clock::Clock;
use crate::domain::destination::Destination;
use crate::domain::provider::{Backend, GsmAuth, GsmSettings, Provider};
use crate::egress::{Egress, Exchanger, ExchangerError, Trust};

/// What every source stands on.
pub struct External {
    egress: Arc<Egress>,
    trust: Trust,
    clock: Arc<dyn Clock>,
    marks: Marks,
    allow_http: bool,
    machine: Option<Machine>,
}

/// An organization's secrets that a provider's settings name, opened.
pub struct Credentials {
    /// What stands under `auth.credential_key`; `None` where the settings name none.
    pub credential: Option<SecretString>,
    /// What stands under `ca_key`; `None` where the settings name none.
    pub authority: Option<SecretString>,
}

/// Why a provider cannot be asked. Somebody has to change its settings or secrets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// It is asked as the machine, and nobody said which that is.
    #[error("this process has no identity of its machine")]
    NoMachine,
    /// Its address cannot be spoken to.
    #[error("the provider's address: {0}")]
    Address(#[from] ExchangerError),
    /// The secret that it is asked with is missing.
    #[error("the provider's credential is missing")]
    CredentialMissing,
    /// The secret that it is asked with is not as its method needs it.
    #[error("the provider's credential cannot be used")]
    CredentialMalformed,
}

/// The system gives no randomness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the system gives no randomness")]
pub struct NoRandomness;

impl External {
    /// Sources that go out through `egress`, trust `trust` unless they name an authority, and read leases by `clock`.
    ///
    /// # Errors
    /// [`NoRandomness`].
    pub fn new(
        egress: Arc<Egress>,
        trust: Trust,
        clock: Arc<dyn Clock>,
        allow_http: bool,
    ) -> Result<Self, NoRandomness> {
        Ok(Self {
            egress,
            trust,
            clock,
            marks: Marks::draw()?,
            allow_http,
            machine: None,
        })
    }

    /// The same, with the identity of the machine for providers that an operator set up to use it.
    #[must_use]
    pub fn with_machine(self, machine: Machine) -> Self {
        Self {
            machine: Some(machine),
            ..self
        }
    }

    /// The source of a provider. Asks nobody yet.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(&self, provider: &Provider, credentials: Credentials) -> Result<Arc<dyn ExternalSource>, OpenError> {
        match &provider.backend {
            Backend::Vault(settings) => {
                let exchanger = self.exchanger(&settings.address, credentials.authority.as_ref())?;
                let credential = credentials.credential.ok_or(OpenError::CredentialMissing)?;
                let clock = Arc::clone(&self.clock);
                let source = VaultSource::new(settings, exchanger, credential, clock, self.marks.clone())?;
                Ok(Arc::new(source))
            }
            Backend::Gsm(settings) => Ok(Arc::new(self.gsm(settings, credentials)?)),
        }
    }

    fn gsm(&self, settings: &GsmSettings, credentials: Credentials) -> Result<GsmSource, OpenError> {
        match &settings.auth {
            GsmAuth::ServiceAccount { .. } => {
                let exchanger = self.exchanger(&settings.address, credentials.authority.as_ref())?;
                let credential = credentials.credential.ok_or(OpenError::CredentialMissing)?;
                GsmSource::with_account(settings, exchanger, &credential, Arc::clone(&self.clock))
            }
            // Neither the address nor the authority is the tenant's: the machine's token would be shown to it.
            GsmAuth::Metadata => {
                let machine = self.machine.as_ref().ok_or(OpenError::NoMachine)?;
                let exchanger = self.exchanger(machine.address(), None)?;
                Ok(GsmSource::with_machine(settings, exchanger, machine))
            }
        }
    }

    fn exchanger(&self, address: &Destination, authority: Option<&SecretString>) -> Result<Exchanger, ExchangerError> {
        let egress = Arc::clone(&self.egress);
        Exchanger::new(egress, &self.trust, address.origin(), authority, self.allow_http)
    }
}
