//! What alerts and the health of secrets look like on the wire.

use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::alert::Alert;
use crate::registry::Health;

/// An alert to an organization's admins.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::admin) struct AlertObject {
    id: String,
    /// `null` for the platform's operators.
    organization_id: Option<String>,
    /// `read-anomaly`, `rotation-overdue`, `expiring`, `certificate-expiring`, `unused`, `dangling-reference`,
    /// `identity-mismatched`, `secret-echoed`, `secret-misplaced`, `destination-unconfirmed`, `keys-not-accepted` or
    /// `integrity-failure`.
    kind: &'static str,
    /// `high`, `medium` or `low`.
    severity: &'static str,
    scope: Option<&'static str>,
    scope_id: Option<String>,
    key: Option<String>,
    /// One sentence.
    detail: String,
    raised_at: String,
    acknowledged_at: Option<String>,
    /// The name of the token that acknowledged it.
    acknowledged_by: Option<String>,
}

impl From<&Alert> for AlertObject {
    fn from(alert: &Alert) -> Self {
        Self {
            id: alert.id.clone(),
            organization_id: alert.organization.as_ref().map(ToString::to_string),
            kind: alert.kind.name(),
            severity: alert.kind.severity().name(),
            scope: alert.scope.map(|scope| scope.name()),
            scope_id: alert.subject.as_ref().map(ToString::to_string),
            key: alert.key.as_ref().map(ToString::to_string),
            detail: alert.detail.clone(),
            raised_at: alert.raised_at.to_rfc3339(),
            acknowledged_at: alert.acknowledged_at.map(|at| at.to_rfc3339()),
            acknowledged_by: alert.acknowledged_by.clone(),
        }
    }
}

/// How an organization's secrets are, by count.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::admin) struct HealthObject {
    /// Values and references.
    secret_count: u64,
    /// Of these, those that end within 30 days.
    expiring_soon: u64,
    /// Of these, those older than the policy allows.
    overdue: u64,
    /// Of these, those that have ended, dangle, or are not as they were written.
    invalid: u64,
}

impl From<Health> for HealthObject {
    fn from(health: Health) -> Self {
        Self {
            secret_count: health.secret_count,
            expiring_soon: health.expiring_soon,
            overdue: health.overdue,
            invalid: health.invalid,
        }
    }
}
