//! `/extensions/secrets/explain`: why an installation gets the value that it gets; never the value.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use utoipa::IntoParams;

use super::Control;
use super::auth::Caller;
use super::error::{ApiError, ApiProblem};
use super::page::Params;
use super::place::{key, organization};
use super::wire::{ExplanationObject, ExplanationsObject, ProblemDocument};
use crate::domain::id::InstallationId;

/// What to explain.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ExplainParams {
    /// The installation whose deliveries are explained.
    #[param(pattern = "^[A-Za-z0-9._:-]{1,128}$")]
    installation: String,
    /// This key only, also one that the manifest does not ask for.
    #[param(pattern = "^[A-Z][A-Z0-9_]{0,127}$")]
    key: Option<String>,
    /// Implied by the installation.
    #[param(pattern = "^[A-Za-z0-9._:-]{1,128}$")]
    organization_id: Option<String>,
}

#[utoipa::path(get, path = "/extensions/secrets/explain", operation_id = "explain_secrets",
    params(ExplainParams), security(("token" = [])), responses(
    (status = 200, description = "Every scope tried for every key", body = ExplanationsObject),
    (status = "4XX", description = "A problem", body = ProblemDocument, content_type = "application/problem+json"),
))]
pub(super) async fn explain(
    State(control): State<Control>,
    caller: Caller,
    Params(params): Params<ExplainParams>,
) -> Result<Json<ExplanationsObject>, ApiError> {
    caller.must_read()?;
    let tenancy = caller.tenancy(params.organization_id.as_deref().map(organization).transpose()?)?;
    let id = InstallationId::parse(&params.installation).map_err(|error| ApiError::field("installation", error))?;
    let only = params.key.as_deref().map(key).transpose()?;
    let registered = control
        .registry
        .registered(&tenancy, &id)
        .await?
        .ok_or(ApiProblem::NotFound)?;
    let explanations = control
        .explainer
        .explain(
            &caller.asker(),
            &registered.installation,
            registered.partner_defaults,
            &registered.demand(),
            only.as_ref(),
        )
        .await?;
    let now = control.clock.now();
    Ok(Json(ExplanationsObject {
        installation_id: id.to_string(),
        organization_id: registered.installation.organization.to_string(),
        cache_age_ms: control.bundles.age_millis(&id),
        awaiting_consent: (&registered.awaiting()).into(),
        data: explanations
            .iter()
            .map(|explanation| ExplanationObject::at(explanation, now))
            .collect(),
    }))
}
