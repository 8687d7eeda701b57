//! What an organization's policy looks like on the wire.

use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use crate::domain::policy::Policy;
use crate::registry::PolicyRecord;

/// A policy, whole: a rule that is left out has its default, one that is `null` is off.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::admin) struct PolicyInput {
    /// After this many days without a rotation a value is overdue: 1 to 3650, default 90.
    rotation_max_age_days: Option<u32>,
    /// More counted reads of one key within the window raise an alert: 1 to 1000000, default 25.
    read_threshold: Option<u32>,
    /// The window, in seconds: 60 to 86400, default 900.
    read_window_secs: Option<u32>,
    /// More deliveries of one key within the window raise an alert: 1 to 1000000000; off by default.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<u32>)]
    delivery_read_threshold: Option<Option<u32>>,
    /// After this many days without a use a value is unused: 1 to 3650, default 90.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<u32>)]
    unused_days: Option<Option<u32>>,
    /// Audit entries older than this many days may be removed: 1 to 36500; by default none are.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<u32>)]
    retention_days: Option<Option<u32>>,
    /// Where alerts are posted: an https URL to a public host.
    webhook_url: Option<String>,
    /// The key of the organization's secret that signs these posts. Needed with `webhook_url`.
    webhook_signing_key: Option<String>,
    /// Whom alerts are mailed to: at most 20 addresses.
    #[serde(default)]
    emails: Vec<String>,
}

/// Tells `null` from a field that is not there.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<u32>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

impl From<PolicyInput> for Policy {
    fn from(input: PolicyInput) -> Self {
        let default = Self::default();
        Self {
            rotation_max_age_days: input.rotation_max_age_days.unwrap_or(default.rotation_max_age_days),
            read_threshold: input.read_threshold.unwrap_or(default.read_threshold),
            read_window_secs: input.read_window_secs.unwrap_or(default.read_window_secs),
            delivery_read_threshold: input.delivery_read_threshold.unwrap_or(default.delivery_read_threshold),
            unused_days: input.unused_days.unwrap_or(default.unused_days),
            retention_days: input.retention_days.unwrap_or(default.retention_days),
            webhook_url: input.webhook_url,
            webhook_signing_key: input.webhook_signing_key,
            emails: input.emails,
        }
    }
}

/// An organization's policy.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::admin) struct PolicyObject {
    organization_id: String,
    rotation_max_age_days: u32,
    read_threshold: u32,
    read_window_secs: u32,
    delivery_read_threshold: Option<u32>,
    unused_days: Option<u32>,
    retention_days: Option<u32>,
    webhook_url: Option<String>,
    webhook_signing_key: Option<String>,
    emails: Vec<String>,
    /// 0 while the organization has written none and the defaults hold.
    version: u64,
    updated_at: Option<String>,
}

impl From<&PolicyRecord> for PolicyObject {
    fn from(record: &PolicyRecord) -> Self {
        let policy = &record.policy;
        Self {
            organization_id: record.organization.to_string(),
            rotation_max_age_days: policy.rotation_max_age_days,
            read_threshold: policy.read_threshold,
            read_window_secs: policy.read_window_secs,
            delivery_read_threshold: policy.delivery_read_threshold,
            unused_days: policy.unused_days,
            retention_days: policy.retention_days,
            webhook_url: policy.webhook_url.clone(),
            webhook_signing_key: policy.webhook_signing_key.clone(),
            emails: policy.emails.clone(),
            version: record.version,
            updated_at: record.updated_at.map(|at| at.to_rfc3339()),
        }
    }
}
