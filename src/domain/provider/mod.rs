//! What an organization says of a backend that its secrets stand in: its settings, parsed.
//!
//! A tenant names the host, so a provider's credentials are always secrets of that organization, at organization scope
//! and never references themselves: a token of the process would be handed to whoever the tenant names. The one
//! exception, [`GsmAuth::Metadata`], goes to Google's own address or the operator's only, and needs an operator
//! ([`Provider::needs_operator`]).

mod outcome;
mod settings;
mod target;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::destination::Destination;
use super::key::SecretKey;

pub use outcome::{FetchOutcome, Unavailable};
pub use target::{GsmTarget, Target, TargetError, VaultTarget};

/// Longest accepted name of a provider, in bytes.
pub const PROVIDER_NAME_BYTES_MAX: usize = 64;

/// How long a fetched value is used before it is looked at again where the provider does not say, in seconds.
pub const TTL_SECS_DEFAULT: u32 = 60;

/// The most mounts that one provider lists.
pub const MOUNTS_MAX: usize = 32;

/// Where Google Secret Manager is asked, unless the provider says otherwise.
pub const GSM_ADDRESS: &str = "https://secretmanager.googleapis.com";

/// What an organization calls a provider: `^[a-z0-9][a-z0-9_-]{0,63}$`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProviderName(Arc<str>);

impl ProviderName {
    /// Parses a name.
    ///
    /// # Errors
    /// [`ProviderError`] of the field `name`.
    pub fn parse(text: &str) -> Result<Self, ProviderError> {
        let starts = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let follows = |b: u8| starts(&b) || matches!(b, b'_' | b'-');
        let is_name = text.len() <= PROVIDER_NAME_BYTES_MAX
            && text.as_bytes().first().is_some_and(starts)
            && text.bytes().all(follows);
        is_name
            .then(|| Self(text.into()))
            .ok_or(ProviderError::new("name", "1 to 64 of a-z, 0-9, _ and -"))
    }

    /// The name's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ProviderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ProviderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What cannot stand in a provider's settings. Carries nothing of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{field} is {expected}")]
pub struct ProviderError {
    /// The field, as the API names it.
    pub field: &'static str,
    /// What it should be.
    pub expected: &'static str,
}

impl ProviderError {
    const fn new(field: &'static str, expected: &'static str) -> Self {
        Self { field, expected }
    }
}

/// A provider's settings as the API and a stored row write them, before anything of them is judged. Empty where not
/// said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProviderFields {
    /// `kind`: `vault` or `gsm`.
    pub kind: String,
    /// `address`: where the backend is, `https://host[:port][/prefix]`.
    pub address: String,
    /// `namespace`: Vault's.
    pub namespace: String,
    /// `mounts`: Vault's KV engines and their versions.
    pub mounts: BTreeMap<String, u64>,
    /// `path_prefix`: what references must stay within.
    pub path_prefix: String,
    /// `auth.method`: `token`, `approle`, `jwt` or `kubernetes` for Vault, `service_account` or `metadata` for GSM.
    pub auth_method: String,
    /// `auth.mount`: where Vault's login method is mounted, where it is not under its own name.
    pub auth_mount: String,
    /// `auth.role`: AppRole's `role_id`, or the role of a JWT or Kubernetes login.
    pub auth_role: String,
    /// `auth.credential_key`: the secret that holds the token, `secret_id`, JWT or service account.
    pub credential_key: String,
    /// `ca_key`: the secret that holds the authorities in PEM that the backend's certificate is checked against.
    pub ca_key: String,
    /// `default`: whether bare paths are looked up here.
    pub default: bool,
    /// `ttl`: in seconds.
    pub ttl: Option<u64>,
}

/// A backend that an organization's references point into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provider {
    /// What the organization calls it.
    pub name: ProviderName,
    /// Whether bare paths are looked up here.
    pub default: bool,
    /// How long a fetched value is used before it is looked at again, in seconds: 1 to 86400.
    pub ttl_secs: u32,
    /// The organization's secret that holds the authorities (PEM) to check the backend's certificate against; the
    /// system's roots where `None`.
    pub ca_key: Option<SecretKey>,
    /// What it is and how it is asked.
    pub backend: Backend,
}

/// What a provider is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Backend {
    /// HashiCorp Vault, or what speaks its API.
    Vault(VaultSettings),
    /// Google Secret Manager.
    Gsm(GsmSettings),
}

impl Backend {
    /// The word in the API, in logs and on metrics.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Vault(_) => "vault",
            Self::Gsm(_) => "gsm",
        }
    }

    /// Where it is asked.
    #[must_use]
    pub const fn address(&self) -> &Destination {
        match self {
            Self::Vault(settings) => &settings.address,
            Self::Gsm(settings) => &settings.address,
        }
    }
}

/// Which API a KV engine of Vault has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KvVersion {
    /// One value per path.
    V1,
    /// Versions, of which one can be pinned.
    V2,
}

/// How a Vault is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VaultSettings {
    /// Where.
    pub address: Destination,
    /// In which namespace (`X-Vault-Namespace`), without slashes at its ends.
    pub namespace: Option<String>,
    /// The KV engines that references may name, one path segment each.
    pub mounts: BTreeMap<String, KvVersion>,
    /// What paths below a mount must be or start with, segment by segment; the whole mount where empty.
    pub path_prefix: String,
    /// As whom.
    pub auth: VaultAuth,
}

/// As whom a Vault is asked. Every credential is a secret of the organization.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VaultAuth {
    /// With a token that was made elsewhere.
    Token {
        /// The secret that holds the token.
        credential_key: SecretKey,
    },
    /// Logs in with a role and a secret id.
    AppRole {
        /// Where the method is mounted, below `auth/`.
        mount: String,
        /// The `role_id`.
        role: String,
        /// The secret that holds the `secret_id`.
        credential_key: SecretKey,
    },
    /// Logs in with a JWT.
    Jwt {
        /// Where the method is mounted, below `auth/`.
        mount: String,
        /// The role.
        role: String,
        /// The secret that holds the JWT.
        credential_key: SecretKey,
    },
    /// Logs in with a Kubernetes service account's token.
    Kubernetes {
        /// Where the method is mounted, below `auth/`.
        mount: String,
        /// The role.
        role: String,
        /// The secret that holds the service account's token.
        credential_key: SecretKey,
    },
}

/// How Google Secret Manager is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GsmSettings {
    /// Where.
    pub address: Destination,
    /// The one project that references may name.
    pub project: String,
    /// What the names of secrets must start with; all of the project where empty.
    pub secret_prefix: String,
    /// As whom.
    pub auth: GsmAuth,
}

/// As whom Google Secret Manager is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GsmAuth {
    /// As a service account of the tenant.
    ServiceAccount {
        /// The secret that holds the account's JSON.
        credential_key: SecretKey,
    },
    /// As the machine that the sidecar runs on: the operator's identity, never a tenant's to use.
    Metadata,
}

impl Provider {
    /// Parses settings.
    ///
    /// # Errors
    /// [`ProviderError`] for the first field that cannot stand.
    pub fn parse(name: &str, fields: &ProviderFields) -> Result<Self, ProviderError> {
        settings::parse(ProviderName::parse(name)?, fields)
    }

    /// The settings as the API and a stored row write them: parsing them gives the same provider.
    #[must_use]
    pub fn fields(&self) -> ProviderFields {
        settings::fields(self)
    }

    /// The organization's secret that it is asked with; `None` where the machine's identity is.
    #[must_use]
    pub const fn credential_key(&self) -> Option<&SecretKey> {
        match &self.backend {
            Backend::Vault(VaultSettings { auth, .. }) => Some(match auth {
                VaultAuth::Token { credential_key }
                | VaultAuth::AppRole { credential_key, .. }
                | VaultAuth::Jwt { credential_key, .. }
                | VaultAuth::Kubernetes { credential_key, .. } => credential_key,
            }),
            Backend::Gsm(GsmSettings { auth, .. }) => match auth {
                GsmAuth::ServiceAccount { credential_key } => Some(credential_key),
                GsmAuth::Metadata => None,
            },
        }
    }

    /// Whether only a platform operator may set it up: it is asked as the machine, which all tenants share.
    ///
    /// Whoever writes a provider asks this of the settings that are to stand, so an org admin can change nothing of one
    /// that an operator set up, its `path_prefix` above all. Replacing it by one with a credential of the organization's
    /// own takes no operator, nor does deleting it: neither reads as the machine.
    #[must_use]
    pub const fn needs_operator(&self) -> bool {
        self.credential_key().is_none()
    }
}
