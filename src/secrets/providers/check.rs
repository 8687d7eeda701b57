//! Whether a provider can be asked: it is reached and shown its credential, and no secret is read.
//!
//! What came of it is one word and one fixed sentence. Nothing that the backend said goes anywhere.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::{ProviderBook, ProvidersError};
use crate::domain::audit::{Action, Asker, AuditEntry, Outcome};
use crate::domain::id::OrganizationId;
use crate::domain::provider::{Provider, ProviderName, Unavailable};
use crate::egress::ExchangerError;
use crate::external::{Checked, OpenError};
use crate::secrets::resolve::{CredentialError, ResolveError};

/// The longest that a check takes, logging in and every try included.
const CHECK_WITHIN: Duration = Duration::from_secs(10);

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProviderCheck {
    /// The backend was asked.
    Asked(Checked),
    /// `auth.credential_key` names a secret without a value.
    CredentialMissing,
    /// `auth.credential_key` names a reference.
    CredentialExternal,
    /// The credential is not as its method needs it.
    CredentialMalformed,
    /// `ca_key` names a secret without a value.
    AuthorityMissing,
    /// `ca_key` names a reference.
    AuthorityExternal,
    /// What `ca_key` names is not PEM.
    AuthorityMalformed,
    /// The address cannot be spoken to.
    AddressUnusable,
    /// It is asked as the machine, and this process does not know which that is.
    NoMachine,
}

impl ProviderCheck {
    /// Whether references can be fetched through it.
    #[must_use]
    pub const fn is_usable(self) -> bool {
        matches!(self, Self::Asked(Checked::Usable))
    }

    /// The word in the API.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Asked(checked) => checked.name(),
            Self::CredentialMissing => "credential-missing",
            Self::CredentialExternal => "credential-external",
            Self::CredentialMalformed => "credential-malformed",
            Self::AuthorityMissing => "ca-missing",
            Self::AuthorityExternal => "ca-external",
            Self::AuthorityMalformed => "ca-malformed",
            Self::AddressUnusable => "address-unusable",
            Self::NoMachine => "machine-unknown",
        }
    }

    /// What that means, and who can change it.
    #[must_use]
    pub const fn detail(self) -> &'static str {
        match self {
            Self::Asked(Checked::Usable) => "The backend was reached and takes the credential.",
            Self::Asked(Checked::Denied) => {
                "The backend was reached and does not take the credential, or not for this role or namespace."
            }
            Self::Asked(Checked::Unavailable(why)) => unavailable(why),
            Self::CredentialMissing => "auth.credential_key names a secret that has no value at organization scope.",
            Self::CredentialExternal => {
                "auth.credential_key names a reference, which is never followed: set the secret to a value."
            }
            Self::CredentialMalformed => "What auth.credential_key names cannot be a credential of auth.method.",
            Self::AuthorityMissing => "ca_key names a secret that has no value at organization scope.",
            Self::AuthorityExternal => "ca_key names a reference, which is never followed: set the secret to a value.",
            Self::AuthorityMalformed => "What ca_key names is not a certificate authority in PEM.",
            Self::AddressUnusable => "The address cannot be spoken to over TLS.",
            Self::NoMachine => "This process has no identity of its machine.",
        }
    }
}

const fn unavailable(why: Unavailable) -> &'static str {
    match why {
        Unavailable::Sealed => "The backend says that it is sealed.",
        Unavailable::RateLimited => "The backend wants fewer requests.",
        Unavailable::NotCaughtUp => "The backend has not caught up with itself.",
        Unavailable::ServerError => "The backend failed.",
        Unavailable::Unreachable => "No connection to the address could be made, or it broke.",
        Unavailable::Refused => "The address is one that must not be reached from here.",
        Unavailable::TlsFailed => {
            "No TLS session with the address: its certificate does not check, or it speaks no TLS."
        }
        Unavailable::Timeout => "The backend did not answer in time.",
        Unavailable::Redirected => {
            "The backend points elsewhere, which is not followed: name the address that answers."
        }
        Unavailable::Protocol => "What answers at the address does not speak HTTP as the backend does.",
        Unavailable::WrongShape => "What answers at the address does not answer as this kind of backend does.",
        Unavailable::Corrupted => "What came does not match the checksum that came with it.",
        Unavailable::TooLarge => "The answer is larger than accepted.",
        Unavailable::LoginFailed => "There is no way to log in where auth.method and auth.mount say.",
        Unavailable::CircuitOpen => "The backend failed again and again, and is left alone for a while.",
        Unavailable::ProviderMissing => "No provider is configured that could be asked.",
        Unavailable::CredentialUnusable => "What the provider is asked with is missing, or cannot be used.",
    }
}

/// Whose providers are being checked: one at a time for each organization, so that nobody lets the sidecar wait for
/// many slow hosts at once.
#[derive(Debug, Default)]
pub(super) struct UnderWay(Mutex<HashSet<OrganizationId>>);

/// One check, until it is dropped.
struct Turn<'a> {
    under_way: &'a UnderWay,
    organization: &'a OrganizationId,
}

impl UnderWay {
    fn begin<'a>(&'a self, organization: &'a OrganizationId) -> Option<Turn<'a>> {
        let mut checked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Made only where it is one's turn: what is dropped ends the turn.
        checked.insert(organization.clone()).then(|| Turn {
            under_way: self,
            organization,
        })
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut checked = self.under_way.0.lock().unwrap_or_else(PoisonError::into_inner);
        checked.remove(self.organization);
    }
}

impl ProviderBook {
    /// Tries a provider. The credential's load and the check are in the audit log.
    ///
    /// # Errors
    /// [`ProvidersError`]: `Unknown` where there is none, `Busy` while another of the organization's is tried.
    pub async fn check(
        &self,
        asker: &Asker,
        organization: &OrganizationId,
        name: &ProviderName,
    ) -> Result<ProviderCheck, ProvidersError> {
        let provider = self.get(organization, name).await?.provider;
        let _turn = self.under_way.begin(organization).ok_or(ProvidersError::Busy)?;
        let check = self.ask(organization, &provider).await?;
        let entry = AuditEntry {
            outcome: if check.is_usable() {
                Outcome::Ok
            } else {
                Outcome::Failed
            },
            ..self.entry(asker, organization, name, Action::ProviderCheck)
        };
        self.store.record(vec![entry]).await?;
        Ok(check)
    }

    async fn ask(&self, organization: &OrganizationId, provider: &Provider) -> Result<ProviderCheck, ProvidersError> {
        let opened = match self.resolver.credentials(organization, provider).await {
            Ok(opened) => opened,
            Err(CredentialError::Missing("ca_key")) => return Ok(ProviderCheck::AuthorityMissing),
            Err(CredentialError::External("ca_key")) => return Ok(ProviderCheck::AuthorityExternal),
            Err(CredentialError::Missing(_)) => return Ok(ProviderCheck::CredentialMissing),
            Err(CredentialError::External(_)) => return Ok(ProviderCheck::CredentialExternal),
            Err(CredentialError::Resolve(ResolveError::Store(error))) => return Err(error.into()),
            Err(CredentialError::Resolve(error)) => return Err(ProvidersError::Credential(error)),
        };
        Ok(match self.external.open(provider, opened.credentials) {
            Ok(source) => ProviderCheck::Asked(source.check(CHECK_WITHIN).await),
            Err(OpenError::CredentialMissing) => ProviderCheck::CredentialMissing,
            Err(OpenError::CredentialMalformed) => ProviderCheck::CredentialMalformed,
            Err(OpenError::Address(ExchangerError::Authority(_))) => ProviderCheck::AuthorityMalformed,
            Err(OpenError::Address(ExchangerError::NotHttps | ExchangerError::Host)) => ProviderCheck::AddressUnusable,
            Err(OpenError::NoMachine) => ProviderCheck::NoMachine,
        })
    }
}
