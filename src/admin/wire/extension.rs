//! What goes over the wire about extensions.

use serde::Serialize;
use utoipa::ToSchema;

use crate::registry::ExtensionRecord;

/// A registered extension.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::admin) struct ExtensionObject {
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
