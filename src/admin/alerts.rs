//! `/secrets/alerts` and `/secrets/health`: what admins are alerted to, who has seen it, how the secrets are.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use utoipa::IntoParams;

use super::Control;
use super::auth::Caller;
use super::error::ApiError;
use super::page::{Params, cursor, page};
use super::place::organization;
use super::wire::alerts::{AlertObject, HealthObject};
use super::wire::{Named, PageOf, ProblemDocument};
use crate::domain::id::ScopeId;
use crate::registry::AlertFilter;

/// Which alerts to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListParams {
    /// `open` (default), `acknowledged` or `all`.
    status: Option<String>,
    /// Of this organization only.
    organization_id: Option<String>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
    /// Rows of a page, 1 to 1000.
    limit: Option<u32>,
}

/// Whose secrets are looked at.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct HealthParams {
    /// Of this organization only.
    organization_id: Option<String>,
}

#[utoipa::path(get, path = "/secrets/alerts", operation_id = "list_alerts",
    params(ListParams), security(("token" = [])), responses(
    (status = 200, description = "The alerts, newest first", body = PageOf<AlertObject>),
    (status = "4XX", description = "A problem", body = ProblemDocument, content_type = "application/problem+json"),
))]
pub(super) async fn list(
    State(control): State<Control>,
    caller: Caller,
    Params(params): Params<ListParams>,
) -> Result<Json<PageOf<AlertObject>>, ApiError> {
    caller.must_read()?;
    let filter = match params.status.as_deref() {
        None | Some("open") => AlertFilter::Open,
        Some("acknowledged") => AlertFilter::Acknowledged,
        Some("all") => AlertFilter::All,
        Some(_) => return Err(ApiError::field("status", "status is open, acknowledged or all")),
    };
    let tenancy = caller.tenancy(params.organization_id.as_deref().map(organization).transpose()?)?;
    let page = page(&control.keyring, params.cursor.as_deref(), params.limit)?;
    let listed = control.registry.alerts(&tenancy, filter, &page).await?;
    Ok(Json(PageOf {
        data: listed.rows.iter().map(AlertObject::from).collect(),
        next_cursor: cursor(&control.keyring, listed.next),
    }))
}

#[utoipa::path(post, path = "/secrets/alerts/{id}/acknowledge", operation_id = "acknowledge_alert",
    params(("id" = String, Path, description = "The alert")),
    security(("token" = [])), responses(
    (status = 200, description = "Acknowledged, now or before", body = AlertObject),
    (status = "4XX", description = "A problem", body = ProblemDocument, content_type = "application/problem+json"),
))]
pub(super) async fn acknowledge(
    State(control): State<Control>,
    caller: Caller,
    Named(id): Named,
) -> Result<Json<AlertObject>, ApiError> {
    caller.attempt.about(None, ScopeId::parse(&id).ok(), None);
    caller.must_administer()?;
    let tenancy = caller.tenancy(None)?;
    let alert = control
        .registry
        .acknowledge_alert(&tenancy, &caller.actor, caller.source, &id)
        .await?;
    Ok(Json(AlertObject::from(&alert)))
}

#[utoipa::path(get, path = "/secrets/health", operation_id = "secrets_health",
    params(HealthParams), security(("token" = [])), responses(
    (status = 200, description = "The secrets, counted", body = HealthObject),
    (status = "4XX", description = "A problem", body = ProblemDocument, content_type = "application/problem+json"),
))]
pub(super) async fn health(
    State(control): State<Control>,
    caller: Caller,
    Params(params): Params<HealthParams>,
) -> Result<Json<HealthObject>, ApiError> {
    caller.must_read()?;
    let tenancy = caller.tenancy(params.organization_id.as_deref().map(organization).transpose()?)?;
    Ok(Json(control.registry.health(&tenancy).await?.into()))
}
