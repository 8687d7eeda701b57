//! What an organization's provider looks like on the wire.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::domain::provider::ProviderFields;
use crate::secrets::providers::{ProviderCheck, ProviderRecord};

/// The version of a KV engine that is listed without one.
const KV_VERSION_DEFAULT: u64 = 2;

/// A provider, whole: what is left out has its default. What must be said and is not is told by its field, as what is
/// said wrong is.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::admin) struct ProviderInput {
    /// `vault` or `gsm`.
    #[serde(default)]
    #[schema(required = true)]
    kind: String,
    /// Where it is: `https://host[:port][/prefix]`. Google's own where left out for `gsm`.
    #[serde(default)]
    address: Option<String>,
    /// Vault's namespace.
    #[serde(default)]
    namespace: Option<String>,
    /// Vault's KV engines that references may name, with their versions; `{"secret": 2}` where left out.
    #[serde(default)]
    mounts: Option<MountsInput>,
    /// What references must stay within: a path below each mount of Vault; for `gsm`
    /// `projects/<project>[/secrets/<what names of secrets start with>]`.
    #[serde(default)]
    path_prefix: Option<String>,
    #[serde(default)]
    #[schema(required = true)]
    auth: AuthInput,
    /// The key of the organization's secret that holds the authorities (PEM) to check the backend's certificate against.
    #[serde(default)]
    ca_key: Option<String>,
    /// Whether bare paths are looked up here. It ends the default before.
    #[serde(default)]
    default: bool,
    /// How long a fetched value is used before it is looked at again, in seconds: 1 to 86400, default 60.
    #[serde(default)]
    ttl: Option<u64>,
}

/// KV engines by name with their versions, or a list of names, each of version 2.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(untagged)]
enum MountsInput {
    Versions(BTreeMap<String, u64>),
    Names(Vec<String>),
}

/// As whom a provider is asked.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct AuthInput {
    /// `token`, `approle`, `jwt` or `kubernetes` for Vault; `service_account` or `metadata` for GSM.
    #[serde(default)]
    #[schema(required = true)]
    method: String,
    /// Where Vault's method is mounted below `auth/`; under its own name where left out.
    #[serde(default)]
    mount: Option<String>,
    /// AppRole's `role_id`, or the role of a JWT or Kubernetes login.
    #[serde(default)]
    role: Option<String>,
    /// The key of the organization's secret that holds the token, `secret_id`, JWT or service account.
    #[serde(default)]
    credential_key: Option<String>,
}

impl From<ProviderInput> for ProviderFields {
    fn from(input: ProviderInput) -> Self {
        let mounts = match input.mounts {
            None => BTreeMap::new(),
            Some(MountsInput::Versions(versions)) => versions,
            Some(MountsInput::Names(names)) => names.into_iter().map(|name| (name, KV_VERSION_DEFAULT)).collect(),
        };
        Self {
            kind: input.kind,
            address: input.address.unwrap_or_default(),
            namespace: input.namespace.unwrap_or_default(),
            mounts,
            path_prefix: input.path_prefix.unwrap_or_default(),
            auth_method: input.auth.method,
            auth_mount: input.auth.mount.unwrap_or_default(),
            auth_role: input.auth.role.unwrap_or_default(),
            credential_key: input.auth.credential_key.unwrap_or_default(),
            ca_key: input.ca_key.unwrap_or_default(),
            default: input.default,
            ttl: input.ttl,
        }
    }
}

/// A provider. What does not concern its kind and method is `null`.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::admin) struct ProviderObject {
    organization_id: String,
    name: String,
    kind: String,
    address: String,
    namespace: Option<String>,
    mounts: Option<BTreeMap<String, u64>>,
    path_prefix: Option<String>,
    auth: AuthObject,
    ca_key: Option<String>,
    default: bool,
    ttl: Option<u64>,
    version: u64,
    created_at: String,
    updated_at: String,
}

/// As whom a provider is asked.
#[derive(Debug, Serialize, ToSchema)]
struct AuthObject {
    method: String,
    mount: Option<String>,
    role: Option<String>,
    credential_key: Option<String>,
}

impl From<&ProviderRecord> for ProviderObject {
    fn from(record: &ProviderRecord) -> Self {
        let said = |text: String| (!text.is_empty()).then_some(text);
        let fields = record.provider.fields();
        Self {
            organization_id: record.organization.to_string(),
            name: record.provider.name.to_string(),
            kind: fields.kind,
            address: fields.address,
            namespace: said(fields.namespace),
            mounts: (!fields.mounts.is_empty()).then_some(fields.mounts),
            path_prefix: said(fields.path_prefix),
            auth: AuthObject {
                method: fields.auth_method,
                mount: said(fields.auth_mount),
                role: said(fields.auth_role),
                credential_key: said(fields.credential_key),
            },
            ca_key: said(fields.ca_key),
            default: fields.default,
            ttl: fields.ttl,
            version: record.version,
            created_at: record.created_at.to_rfc3339(),
            updated_at: record.updated_at.to_rfc3339(),
        }
    }
}

/// All providers of an organization.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::admin) struct ProvidersObject {
    pub(in crate::admin) data: Vec<ProviderObject>,
    /// Always `null`: there are few, and they come at once.
    pub(in crate::admin) next_cursor: Option<String>,
}

/// How a check ended, in a word and in a sentence of the sidecar's own.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::admin) struct CheckObject {
    /// `usable`, or what is in the way.
    outcome: &'static str,
    detail: &'static str,
}

impl From<ProviderCheck> for CheckObject {
    fn from(check: ProviderCheck) -> Self {
        Self {
            outcome: check.name(),
            detail: check.detail(),
        }
    }
}
