//! What goes over the wire in a rotation report.

use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::scope::Owner;
use crate::secrets::report::{ReportLine, Totals};

/// A rotation report.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::admin) struct ReportObject {
    /// When it was made.
    pub(in crate::admin) generated_at: String,
    /// Whose; `null` for all organizations.
    pub(in crate::admin) organization_id: Option<String>,
    pub(in crate::admin) data: Vec<ReportRow>,
    pub(in crate::admin) totals: ReportTotals,
}

/// One secret of a rotation report. The fields are the CSV's columns, in this order.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::admin) struct ReportRow {
    pub(in crate::admin) organization_id: Option<String>,
    pub(in crate::admin) key: String,
    pub(in crate::admin) scope: &'static str,
    pub(in crate::admin) scope_id: String,
    /// `value`, `external` or `placeholder`.
    pub(in crate::admin) source: &'static str,
    pub(in crate::admin) version: u64,
    pub(in crate::admin) rotation_count: u64,
    pub(in crate::admin) created_at: String,
    pub(in crate::admin) last_rotated_at: Option<String>,
    /// Whole days since the current value was written.
    pub(in crate::admin) age_days: Option<u64>,
    /// The policy's limit.
    pub(in crate::admin) max_age_days: u32,
    pub(in crate::admin) overdue: bool,
    pub(in crate::admin) expires_at: Option<String>,
    /// Whom to ask about it.
    pub(in crate::admin) owner: Option<String>,
    /// Who wrote the current version: a token's name.
    pub(in crate::admin) written_by: String,
}

/// What a report adds up to.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::admin) struct ReportTotals {
    secrets: u64,
    overdue: u64,
    external: u64,
    placeholders: u64,
    never_rotated: u64,
}

impl From<&ReportLine> for ReportRow {
    fn from(line: &ReportLine) -> Self {
        let meta = &line.meta;
        Self {
            organization_id: match &meta.slot.owner {
                Owner::Organization(organization) => Some(organization.to_string()),
                Owner::Partner => None,
            },
            key: meta.slot.key.to_string(),
            scope: meta.slot.scope.name(),
            scope_id: meta.slot.scope_id.to_string(),
            source: line.source.name(),
            version: meta.version,
            rotation_count: meta.rotation_count,
            created_at: meta.created_at.to_rfc3339(),
            last_rotated_at: meta.last_rotated_at.map(|at| at.to_rfc3339()),
            age_days: line.age.map(|age| age.days),
            max_age_days: line.max_age_days,
            overdue: line.age.is_some_and(|age| age.is_overdue),
            expires_at: meta.expires_at.map(|at| at.to_rfc3339()),
            owner: meta.contact.clone(),
            written_by: meta.written_by.clone(),
        }
    }
}

impl From<Totals> for ReportTotals {
    fn from(totals: Totals) -> Self {
        Self {
            secrets: totals.secrets,
            overdue: totals.overdue,
            external: totals.external,
            placeholders: totals.placeholders,
            never_rotated: totals.never_rotated,
        }
    }
}
