//! What goes over the wire about secrets: values come in, none goes out.

use secrecy::SecretString;
use serde::de::Deserializer;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{IdText, PageOf};
use crate::domain::scope::Owner;
use crate::domain::secret::SecretKind;
use crate::secrets::manage::Secret;

fn secret_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SecretString>, D::Error> {
    Option::<String>::deserialize(deserializer).map(|text| text.map(SecretString::from))
}

/// A secret to write.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::admin) struct SecretInput {
    /// `extension_installation`, `product_installation`, `extension`, `project` or `organization`.
    #[schema(
        pattern = "^(extension_installation|installation|product_installation|product|extension|project|organization)$"
    )]
    pub(in crate::admin) scope: String,
    /// What it is bound to; at scope `organization` the organization, where left out.
    pub(in crate::admin) id: Option<IdText>,
    #[schema(pattern = "^[A-Z][A-Z0-9_]{0,127}$")]
    pub(in crate::admin) key: String,
    /// 1 byte to 64 KiB. Never comes back.
    #[serde(default, deserialize_with = "secret_text")]
    #[schema(value_type = Option<String>, write_only, min_length = 1, max_length = 65536)]
    pub(in crate::admin) value: Option<SecretString>,
    /// Instead of a value: `vault:<mount>/<path>#<field>[@version]`,
    /// `gsm:projects/<p>/secrets/<s>[/versions/<v>]`, or a path for the organization's default provider.
    pub(in crate::admin) external_secret_name: Option<String>,
    pub(in crate::admin) organization_id: Option<IdText>,
    /// The partner's value for everyone who installs the extension. Operators only, scope `extension` only.
    #[serde(default)]
    pub(in crate::admin) partner_default: bool,
    /// RFC 3339.
    #[schema(format = DateTime)]
    pub(in crate::admin) expires_at: Option<String>,
    /// Whom to ask about it, 1 to 256 bytes; stays as it is where left out.
    #[schema(min_length = 1, max_length = 256)]
    pub(in crate::admin) owner: Option<String>,
}

/// One secret to write, or many: all or none.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::admin) struct SecretsInput {
    pub(in crate::admin) secrets: Vec<SecretInput>,
}

/// A value that replaces one.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::admin) struct RotateInput {
    #[schema(
        pattern = "^(extension_installation|installation|product_installation|product|extension|project|organization)$"
    )]
    pub(in crate::admin) scope: String,
    pub(in crate::admin) id: Option<IdText>,
    #[serde(default, deserialize_with = "secret_text")]
    #[schema(value_type = String, write_only, min_length = 1, max_length = 65536)]
    pub(in crate::admin) value: Option<SecretString>,
    pub(in crate::admin) organization_id: Option<IdText>,
    #[serde(default)]
    pub(in crate::admin) partner_default: bool,
    #[schema(format = DateTime)]
    pub(in crate::admin) expires_at: Option<String>,
    /// Whom to ask about it, 1 to 256 bytes; stays as it is where left out.
    #[schema(min_length = 1, max_length = 256)]
    pub(in crate::admin) owner: Option<String>,
    /// Whether the replaced value ends now instead of staying valid in signatures for a day.
    #[serde(default)]
    pub(in crate::admin) revoke_now: bool,
}

/// A reference that replaces what stands in the slot.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::admin) struct LinkInput {
    #[schema(
        pattern = "^(extension_installation|installation|product_installation|product|extension|project|organization)$"
    )]
    pub(in crate::admin) scope: String,
    pub(in crate::admin) id: Option<IdText>,
    /// As for [`SecretInput`].
    pub(in crate::admin) external_secret_name: String,
    pub(in crate::admin) organization_id: Option<IdText>,
    #[serde(default)]
    pub(in crate::admin) partner_default: bool,
    #[schema(format = DateTime)]
    pub(in crate::admin) expires_at: Option<String>,
    /// Whom to ask about it, 1 to 256 bytes; stays as it is where left out.
    #[schema(min_length = 1, max_length = 256)]
    pub(in crate::admin) owner: Option<String>,
}

/// Where a secret is.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::admin) struct PlaceInput {
    #[schema(
        pattern = "^(extension_installation|installation|product_installation|product|extension|project|organization)$"
    )]
    pub(in crate::admin) scope: String,
    pub(in crate::admin) id: Option<IdText>,
    pub(in crate::admin) organization_id: Option<IdText>,
    #[serde(default)]
    pub(in crate::admin) partner_default: bool,
}

/// What an SDK's secret manager sends: `{"value"}`, `{"key", "value"}` or `{"secret": {"key", "value"}}`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::admin) struct SdkSecretInput {
    #[schema(pattern = "^[A-Z][A-Z0-9_]{0,127}$")]
    pub(in crate::admin) key: Option<String>,
    #[serde(default, deserialize_with = "secret_text")]
    #[schema(value_type = Option<String>, write_only, min_length = 1, max_length = 65536)]
    pub(in crate::admin) value: Option<SecretString>,
    pub(in crate::admin) secret: Option<SdkSecret>,
}

/// The same, one level down.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::admin) struct SdkSecret {
    #[schema(pattern = "^[A-Z][A-Z0-9_]{0,127}$")]
    pub(in crate::admin) key: Option<String>,
    #[serde(default, deserialize_with = "secret_text")]
    #[schema(value_type = Option<String>, write_only, min_length = 1, max_length = 65536)]
    pub(in crate::admin) value: Option<SecretString>,
}

/// The keys of an extension that have a value.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::admin) struct KeysObject {
    pub(in crate::admin) keys: Vec<String>,
}

/// One secret to write, or many.
#[derive(Debug, ToSchema)]
#[expect(
    dead_code,
    reason = "describes what is read by hand, so that a mistake is told by its place"
)]
#[schema(as = SetInput)]
#[derive(Deserialize)]
#[serde(untagged)]
pub(in crate::admin) enum SetInput {
    One(SecretInput),
    Many(SecretsInput),
}

/// One secret as it was written, or many.
#[expect(clippy::large_enum_variant, reason = "one is made per answer")]
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(in crate::admin) enum WrittenObject {
    One(SecretObject),
    Many(PageOf<SecretObject>),
}

/// A secret without its value.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::admin) struct SecretObject {
    key: String,
    scope: &'static str,
    scope_id: String,
    /// `null` for a partner's default.
    organization_id: Option<String>,
    masked_value_present: bool,
    placeholder: bool,
    external: bool,
    external_secret_name: Option<String>,
    version: u64,
    rotation_count: u64,
    last_rotated_at: Option<String>,
    created_at: String,
    updated_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
    /// Whom to ask about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<String>,
    /// Whether this write was the first to name the organization or scope id: perhaps a typing error.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(in crate::admin) new_scope: bool,
}

impl From<&Secret> for SecretObject {
    fn from(secret: &Secret) -> Self {
        let meta = &secret.meta;
        Self {
            key: meta.slot.key.to_string(),
            scope: meta.slot.scope.name(),
            scope_id: meta.slot.scope_id.to_string(),
            organization_id: match &meta.slot.owner {
                Owner::Organization(organization) => Some(organization.to_string()),
                Owner::Partner => None,
            },
            masked_value_present: matches!(meta.kind, SecretKind::Value | SecretKind::Reference),
            placeholder: meta.kind == SecretKind::Placeholder,
            external: meta.kind == SecretKind::Reference,
            external_secret_name: secret.reference.as_ref().map(ToString::to_string),
            version: meta.version,
            rotation_count: meta.rotation_count,
            last_rotated_at: meta.last_rotated_at.map(|at| at.to_rfc3339()),
            created_at: meta.created_at.to_rfc3339(),
            updated_at: meta.updated_at.to_rfc3339(),
            expires_at: meta.expires_at.map(|at| at.to_rfc3339()),
            owner: meta.contact.clone(),
            new_scope: false,
        }
    }
}
