//! What goes over the wire about installations and what they still need.

use serde::de::Deserializer;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{AwaitingObject, IdText};
use crate::domain::checklist::ChecklistItem;
use crate::domain::consent::Awaiting;
use crate::domain::destination::Destination;
use crate::domain::installation::Installation;
use crate::domain::scope::Scope;
use crate::registry::{Installed, Registered};

/// What to install where.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::admin) struct InstallInput {
    pub(in crate::admin) id: Option<IdText>,
    pub(in crate::admin) extension_id: String,
    pub(in crate::admin) organization_id: Option<IdText>,
    pub(in crate::admin) project_id: IdText,
    pub(in crate::admin) product_installation_id: Option<IdText>,
    pub(in crate::admin) callback_url: Option<String>,
    /// Whether to leave a placeholder for every key that nothing satisfies.
    #[serde(default)]
    pub(in crate::admin) scaffold: bool,
}

/// What to change of an installation.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::admin) struct PatchInput {
    /// `enabled` or `disabled`.
    #[schema(pattern = "^(enabled|disabled)$")]
    pub(in crate::admin) state: Option<String>,
    /// A callback instead of the manifest's; `null` takes it back.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<String>)]
    pub(in crate::admin) callback_url: Option<Option<String>>,
}

/// Tells `null` from a field that is not there.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// An installation.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::admin) struct InstallationObject {
    id: String,
    extension_id: String,
    organization_id: String,
    project_id: String,
    product_installation_id: Option<String>,
    state: &'static str,
    callback_url: Option<String>,
    /// Where its deliveries go: its own callback, or its manifest's.
    destination: Option<String>,
    awaiting_consent: AwaitingObject,
    version: u64,
    created_at: String,
    updated_at: String,
}

impl From<&Registered> for InstallationObject {
    fn from(registered: &Registered) -> Self {
        let destination = registered.destination.as_ref();
        Self::of(&registered.installation, destination, &registered.awaiting())
    }
}

impl InstallationObject {
    fn of(record: &Installation, destination: Option<&Destination>, awaiting: &Awaiting) -> Self {
        Self {
            id: record.id.to_string(),
            extension_id: record.extension.to_string(),
            organization_id: record.organization.to_string(),
            project_id: record.project.to_string(),
            product_installation_id: record.product_installation.as_ref().map(ToString::to_string),
            state: record.state.name(),
            callback_url: record.callback_url.clone(),
            destination: destination.map(ToString::to_string),
            awaiting_consent: awaiting.into(),
            version: record.version,
            created_at: record.created_at.to_rfc3339(),
            updated_at: record.updated_at.to_rfc3339(),
        }
    }
}

/// One line of a checklist.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::admin) struct ChecklistObject {
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
pub(in crate::admin) struct InstalledObject {
    #[serde(flatten)]
    installation: InstallationObject,
    checklist: Vec<ChecklistObject>,
    missing_extension_secrets: Vec<String>,
    scaffolded_extension_secrets: Vec<String>,
}

impl From<&Installed> for InstalledObject {
    fn from(installed: &Installed) -> Self {
        Self {
            installation: InstallationObject::of(
                &installed.installation,
                installed.destination.as_ref(),
                &installed.awaiting,
            ),
            checklist: installed.checklist.iter().map(Into::into).collect(),
            missing_extension_secrets: installed.missing.iter().map(ToString::to_string).collect(),
            scaffolded_extension_secrets: installed.scaffolded.iter().map(ToString::to_string).collect(),
        }
    }
}
