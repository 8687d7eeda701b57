//! What goes over the wire of the control plane: the only types that are serialized.
//!
//! Values come in as `SecretString` and there is no type that could carry one out. What a client sent wrong is told by
//! kind and place, never quoted.

pub(super) mod alerts;
pub(super) mod audit;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use secrecy::SecretString;
use serde::de::{DeserializeOwned, Deserializer, Visitor};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::error::{ApiError, ApiProblem};
use crate::domain::checklist::ChecklistItem;
use crate::domain::installation::Installation;
use crate::domain::scope::{Owner, Scope};
use crate::domain::secret::{SecretKind, SecretMeta};
use crate::registry::{ExtensionRecord, Installed};

/// A problem document (RFC 9457).
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ProblemDocument {
    /// `urn:kiket:problem:<name>`
    pub(super) r#type: String,
    pub(super) title: &'static str,
    pub(super) status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) detail: Option<String>,
    /// The field that cannot be accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) field: Option<&'static str>,
    /// Required keys without a value.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) missing: Vec<String>,
}

/// An id: a text, or an integer that becomes one.
#[derive(Debug, Clone, ToSchema)]
#[schema(value_type = String)]
pub(super) struct IdText(pub(super) String);

impl<'de> Deserialize<'de> for IdText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextOrInteger;
        impl Visitor<'_> for TextOrInteger {
            type Value = IdText;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an id")
            }
            fn visit_str<E>(self, text: &str) -> Result<IdText, E> {
                Ok(IdText(text.to_owned()))
            }
            fn visit_u64<E>(self, number: u64) -> Result<IdText, E> {
                Ok(IdText(number.to_string()))
            }
            fn visit_i64<E>(self, number: i64) -> Result<IdText, E> {
                Ok(IdText(number.to_string()))
            }
        }
        deserializer.deserialize_any(TextOrInteger)
    }
}

fn secret_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SecretString>, D::Error> {
    Option::<String>::deserialize(deserializer).map(|text| text.map(SecretString::from))
}

/// A secret to write.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SecretInput {
    /// `extension_installation`, `product_installation`, `extension`, `project` or `organization`.
    pub(super) scope: String,
    /// What it is bound to; at scope `organization` the organization, where left out.
    pub(super) id: Option<IdText>,
    pub(super) key: String,
    /// 1 byte to 64 KiB. Never comes back.
    #[serde(default, deserialize_with = "secret_text")]
    #[schema(value_type = Option<String>, write_only)]
    pub(super) value: Option<SecretString>,
    /// A reference to an external secret: not accepted by this version.
    pub(super) external_secret_name: Option<String>,
    pub(super) organization_id: Option<IdText>,
    /// The partner's value for everyone who installs the extension. Operators only, scope `extension` only.
    #[serde(default)]
    pub(super) partner_default: bool,
    /// RFC 3339.
    pub(super) expires_at: Option<String>,
}

/// One secret to write, or many: all or none.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SecretsInput {
    pub(super) secrets: Vec<SecretInput>,
}

/// A value that replaces one.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RotateInput {
    pub(super) scope: String,
    pub(super) id: Option<IdText>,
    #[serde(default, deserialize_with = "secret_text")]
    #[schema(value_type = String, write_only)]
    pub(super) value: Option<SecretString>,
    pub(super) organization_id: Option<IdText>,
    #[serde(default)]
    pub(super) partner_default: bool,
    pub(super) expires_at: Option<String>,
    /// Whether the replaced value ends now instead of staying valid in signatures for a day.
    #[serde(default)]
    pub(super) revoke_now: bool,
}

/// A secret without its value.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SecretObject {
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
    /// Whether this write was the first to name the organization or scope id: perhaps a typing error.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) new_scope: bool,
}

impl From<&SecretMeta> for SecretObject {
    fn from(meta: &SecretMeta) -> Self {
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
            external_secret_name: None,
            version: meta.version,
            rotation_count: meta.rotation_count,
            last_rotated_at: meta.last_rotated_at.map(|at| at.to_rfc3339()),
            created_at: meta.created_at.to_rfc3339(),
            updated_at: meta.updated_at.to_rfc3339(),
            expires_at: meta.expires_at.map(|at| at.to_rfc3339()),
            new_scope: false,
        }
    }
}

/// A page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PageOf<T> {
    pub(super) data: Vec<T>,
    /// What `cursor` of the next page is.
    pub(super) next_cursor: Option<String>,
}

/// A registered extension.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ExtensionObject {
    id: String,
    /// Counts registrations.
    version: u64,
    /// What the manifest says.
    manifest_version: Option<String>,
    created_at: String,
    updated_at: String,
}

impl From<&ExtensionRecord> for ExtensionObject {
    fn from(record: &ExtensionRecord) -> Self {
        Self {
            id: record.row.id.to_string(),
            version: record.row.version,
            manifest_version: record.manifest.version.clone(),
            created_at: record.row.created_at.to_rfc3339(),
            updated_at: record.row.updated_at.to_rfc3339(),
        }
    }
}

/// What to install where.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct InstallInput {
    pub(super) id: Option<IdText>,
    pub(super) extension_id: String,
    pub(super) organization_id: Option<IdText>,
    pub(super) project_id: IdText,
    pub(super) product_installation_id: Option<IdText>,
    pub(super) callback_url: Option<String>,
    /// Whether to leave a placeholder for every key that nothing satisfies.
    #[serde(default)]
    pub(super) scaffold: bool,
}

/// What to change of an installation.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PatchInput {
    /// `enabled` or `disabled`.
    pub(super) state: Option<String>,
    /// A callback instead of the manifest's; `null` takes it back.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<String>)]
    pub(super) callback_url: Option<Option<String>>,
}

/// Tells `null` from a field that is not there.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// An installation.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct InstallationObject {
    id: String,
    extension_id: String,
    organization_id: String,
    project_id: String,
    product_installation_id: Option<String>,
    state: &'static str,
    callback_url: Option<String>,
    version: u64,
    created_at: String,
    updated_at: String,
}

impl From<&Installation> for InstallationObject {
    fn from(record: &Installation) -> Self {
        Self {
            id: record.id.to_string(),
            extension_id: record.extension.to_string(),
            organization_id: record.organization.to_string(),
            project_id: record.project.to_string(),
            product_installation_id: record.product_installation.as_ref().map(ToString::to_string),
            state: record.state.name(),
            callback_url: record.callback_url.clone(),
            version: record.version,
            created_at: record.created_at.to_rfc3339(),
            updated_at: record.updated_at.to_rfc3339(),
        }
    }
}

/// One line of a checklist.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ChecklistObject {
    key: String,
    label: Option<String>,
    required: bool,
    scope: &'static str,
    /// The scope whose value is used.
    satisfied_by: Option<&'static str>,
    placeholder: bool,
}

impl From<&ChecklistItem> for ChecklistObject {
    fn from(item: &ChecklistItem) -> Self {
        Self {
            key: item.key.to_string(),
            label: item.label.clone(),
            required: item.required,
            scope: item.scope.name(),
            satisfied_by: item.satisfied_by.map(Scope::name),
            placeholder: item.placeholder,
        }
    }
}

/// An installation with what it still needs.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct InstalledObject {
    #[serde(flatten)]
    installation: InstallationObject,
    checklist: Vec<ChecklistObject>,
    missing_extension_secrets: Vec<String>,
    scaffolded_extension_secrets: Vec<String>,
}

impl From<&Installed> for InstalledObject {
    fn from(installed: &Installed) -> Self {
        Self {
            installation: (&installed.installation).into(),
            checklist: installed.checklist.iter().map(Into::into).collect(),
            missing_extension_secrets: installed.missing.iter().map(ToString::to_string).collect(),
            scaffolded_extension_secrets: installed.scaffolded.iter().map(ToString::to_string).collect(),
        }
    }
}

/// The one parameter of a path. What is no text is told as any other problem is.
pub(super) struct Named(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let name = Path::<String>::from_request_parts(parts, state).await;
        let refused = |_| ApiError::with_detail(ApiProblem::Malformed, "the path is not UTF-8");
        name.map(|Path(name)| Self(name)).map_err(refused)
    }
}

/// A JSON body. What does not fit is told by kind and place.
pub(super) struct Body<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        if media_type(request.headers()) != "application/json" {
            return Err(ApiError::with_detail(
                ApiProblem::MediaType,
                "Content-Type is application/json",
            ));
        }
        let bytes = body(request, state).await?;
        parse(&bytes).map(Body)
    }
}

/// The bytes of a body within the limit.
pub(super) async fn body<S: Send + Sync>(request: Request, state: &S) -> Result<Bytes, ApiError> {
    Bytes::from_request(request, state).await.map_err(|rejection| {
        let is_too_large = rejection.status() == axum::http::StatusCode::PAYLOAD_TOO_LARGE;
        if is_too_large {
            ApiProblem::TooLarge.into()
        } else {
            ApiProblem::Malformed.into()
        }
    })
}

/// Parses JSON; the parser's own text, which quotes values, is dropped.
pub(super) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(bytes).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        if error.is_data() {
            let detail = format!("a field is missing, unknown or of the wrong type (line {line}, column {column})");
            ApiError::with_detail(ApiProblem::InvalidField, detail)
        } else {
            ApiError::with_detail(
                ApiProblem::Malformed,
                format!("not JSON (line {line}, column {column})"),
            )
        }
    })
}

/// A body's media type without parameters, in lower case.
pub(super) fn media_type(headers: &HeaderMap) -> String {
    let value = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// The version that `If-Match` insists on.
pub(super) fn if_match(headers: &HeaderMap) -> Result<Option<u64>, ApiError> {
    let Some(value) = headers.get(header::IF_MATCH) else {
        return Ok(None);
    };
    let version = value.to_str().ok().and_then(|text| text.trim_matches('"').parse().ok());
    version
        .map(Some)
        .ok_or_else(|| ApiError::field("If-Match", "If-Match is a version in quotes, for example \"3\""))
}
