//! What goes over the wire about where a key's value comes from; never the value.

use serde::Serialize;
use utoipa::ToSchema;

use super::AwaitingObject;
use crate::domain::scope::Owner;
use crate::domain::time::Timestamp;
use crate::secrets::explain::{Explanation, Tried};

/// Where the values of an installation's keys come from.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::admin) struct ExplanationsObject {
    pub(in crate::admin) installation_id: String,
    pub(in crate::admin) organization_id: String,
    /// How long ago this instance read what it delivers, in milliseconds; `null` while it holds nothing.
    pub(in crate::admin) cache_age_ms: Option<u64>,
    /// While a destination waits in it, deliveries are refused whatever the keys' outcomes.
    pub(in crate::admin) awaiting_consent: AwaitingObject,
    pub(in crate::admin) data: Vec<ExplanationObject>,
}

/// Where one key's value comes from.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::admin) struct ExplanationObject {
    key: String,
    /// `payload`, `handshake`, `signing`, or `none` where the manifest does not ask for the key.
    used_for: &'static str,
    required: bool,
    /// What a delivery gets: `found`, `missing`, `unavailable`, `denied`, or `not-consented` where it is withheld.
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
    /// `found`, `absent`, `placeholder`, `deleted`, `not-asked`, `unavailable`, `denied`, `dangling` or
    /// `withheld`. A reference is asked for where it decides.
    outcome: &'static str,
    /// Whether a narrower scope was decisive, so that this one does not count.
    hidden: bool,
    version: Option<u64>,
    /// `value` or `external`.
    source: Option<&'static str>,
    updated_at: Option<String>,
    /// What came of asking for the reference that decides; `null` elsewhere.
    fetched: Option<FetchedObject>,
}

/// What is known of a reference's value.
#[derive(Debug, Clone, Serialize, ToSchema)]
struct FetchedObject {
    /// `found`, `dangling`, `denied`, or why it is unavailable: `sealed`, `rate-limited`, `server-error`, `timeout`, …
    outcome: &'static str,
    /// Whether an earlier value stands in.
    stale: bool,
    /// The backend's name of the version, where it names versions.
    version: Option<String>,
    /// When the value was fetched.
    fetched_at: Option<String>,
    /// How long ago this instance fetched it, in milliseconds.
    cache_age_ms: Option<u64>,
}

impl ExplanationObject {
    /// As it is at a moment.
    pub(in crate::admin) fn at(explanation: &Explanation, now: Timestamp) -> Self {
        Self {
            key: explanation.key.to_string(),
            used_for: explanation.used_for.name(),
            required: explanation.is_required,
            outcome: explanation.outcome.name(),
            winner: explanation.winner().map(|tried| TriedObject::at(tried, now)),
            tried: explanation
                .tried
                .iter()
                .map(|tried| TriedObject::at(tried, now))
                .collect(),
            says: explanation.says(),
        }
    }
}

impl TriedObject {
    fn at(tried: &Tried, now: Timestamp) -> Self {
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
            fetched: tried.fetched.as_ref().map(|state| FetchedObject {
                outcome: state.outcome.name(),
                stale: state.is_stale(),
                version: state.version.clone(),
                fetched_at: state.fetched_at.map(|at| at.to_rfc3339()),
                cache_age_ms: state.fetched_at.map(|at| now.0.saturating_sub(at.0)),
            }),
        }
    }
}
