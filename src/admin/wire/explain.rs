//! What goes over the wire about where a key's value comes from; never the value.

use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::scope::Owner;
use crate::secrets::explain::{Explanation, Tried};

/// Where the values of an installation's keys come from.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::admin) struct ExplanationsObject {
    pub(in crate::admin) installation_id: String,
    pub(in crate::admin) organization_id: String,
    /// How long ago this instance read what it delivers, in milliseconds; `null` while it holds nothing.
    pub(in crate::admin) cache_age_ms: Option<u64>,
    pub(in crate::admin) data: Vec<ExplanationObject>,
}

/// Where one key's value comes from.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::admin) struct ExplanationObject {
    key: String,
    /// `payload`, `handshake`, `signing`, or `none` where the manifest does not ask for the key.
    used_for: &'static str,
    required: bool,
    /// What a delivery gets: `found`, `missing`, `unavailable` or `denied`.
    outcome: &'static str,
    winner: Option<TriedObject>,
    /// Every slot in the order of precedence, also those behind the winner.
    tried: Vec<TriedObject>,
    /// The same in one sentence.
    says: String,
}

/// What one slot answered.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(in crate::admin) struct TriedObject {
    scope: &'static str,
    scope_id: String,
    /// Whether it is the partner's layer of the extension scope.
    partner_default: bool,
    /// `found`, `absent`, `placeholder`, `deleted`, `unavailable`, `denied`, `dangling` or `withheld`.
    outcome: &'static str,
    /// Whether a narrower scope was decisive, so that this one does not count.
    hidden: bool,
    version: Option<u64>,
    /// `value` or `external`.
    source: Option<&'static str>,
    updated_at: Option<String>,
}

impl From<&Explanation> for ExplanationObject {
    fn from(explanation: &Explanation) -> Self {
        Self {
            key: explanation.key.to_string(),
            used_for: explanation.used_for.name(),
            required: explanation.is_required,
            outcome: explanation.outcome.name(),
            winner: explanation.winner().map(Into::into),
            tried: explanation.tried.iter().map(Into::into).collect(),
            says: explanation.says(),
        }
    }
}

impl From<&Tried> for TriedObject {
    fn from(tried: &Tried) -> Self {
        Self {
            scope: tried.slot.scope.name(),
            scope_id: tried.slot.scope_id.to_string(),
            partner_default: tried.slot.owner == Owner::Partner,
            outcome: tried.outcome.name(),
            hidden: tried.is_hidden,
            version: tried.version,
            source: tried
                .is_external
                .map(|is_external| if is_external { "external" } else { "value" }),
            updated_at: tried.updated_at.map(|at| at.to_rfc3339()),
        }
    }
}
