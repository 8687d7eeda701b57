//! `/marketplace/installations`: install an extension, see what it still needs, enable it.

use axum::Json;
use axum::extract::State;
use axum::http::header::ETAG;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use utoipa::IntoParams;

use super::Control;
use super::auth::Caller;
use super::error::{ApiError, ApiProblem};
use super::page::{Params, cursor, page};
use super::place::{named_organization, organization};
use super::wire::{
    Body, InstallInput, InstallationObject, InstalledObject, Named, PageOf, PatchInput, ProblemDocument, if_match,
};
use crate::domain::id::{ExtensionId, IdError, InstallationId, ProductInstallationId, ProjectId, ScopeId};
use crate::domain::installation::InstallationState;
use crate::registry::{InstallationPatch, Installed, NewInstallation, RegistryError};

/// Which installations to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListParams {
    /// Of this organization only.
    #[param(pattern = "^[A-Za-z0-9._:-]{1,128}$")]
    organization_id: Option<String>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
    /// Rows of a page, 1 to 1000.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
}

#[utoipa::path(get, path = "/marketplace/installations", operation_id = "list_installations",
    params(ListParams), security(("token" = [])), responses(
    (status = 200, description = "The installations", body = PageOf<InstallationObject>),
    (status = "4XX", description = "A problem", body = ProblemDocument, content_type = "application/problem+json"),
))]
pub(super) async fn list(
    State(control): State<Control>,
    caller: Caller,
    Params(params): Params<ListParams>,
) -> Result<Json<PageOf<InstallationObject>>, ApiError> {
    caller.must_read()?;
    let tenancy = caller.tenancy(params.organization_id.as_deref().map(organization).transpose()?)?;
    let page = page(&control.keyring, params.cursor.as_deref(), params.limit)?;
    let listed = control.registry.installations(&tenancy, &page).await?;
    let data = listed.rows.iter().map(InstallationObject::from).collect();
    Ok(Json(PageOf {
        data,
        next_cursor: cursor(&control.keyring, listed.next),
    }))
}

#[utoipa::path(post, path = "/marketplace/installations", operation_id = "install_extension",
    request_body = InstallInput, security(("token" = [])), responses(
    (status = 201, description = "Installed, pending", body = InstalledObject),
    (status = "4XX", description = "A problem", body = ProblemDocument, content_type = "application/problem+json"),
))]
pub(super) async fn install(
    State(control): State<Control>,
    caller: Caller,
    Body(input): Body<InstallInput>,
) -> Result<Response, ApiError> {
    caller.must_administer()?;
    let organization = caller
        .organization(named_organization(input.organization_id.as_ref())?)?
        .ok_or_else(|| ApiError::field("organization_id", "organization_id is missing"))?;
    let product = input
        .product_installation_id
        .map(|id| ProductInstallationId::parse(&id.0));
    let new = NewInstallation {
        id: input
            .id
            .map(|id| InstallationId::parse(&id.0))
            .transpose()
            .map_err(in_field("id"))?,
        extension: ExtensionId::parse(&input.extension_id).map_err(in_field("extension_id"))?,
        organization,
        project: ProjectId::parse(&input.project_id.0).map_err(in_field("project_id"))?,
        product_installation: product.transpose().map_err(in_field("product_installation_id"))?,
        callback_url: input.callback_url,
        scaffold: input.scaffold,
    };
    let stored = control
        .registry
        .install(&caller.actor, caller.source, new)
        .await
        .map_err(|error| match error {
            RegistryError::Unknown => ApiError::field("extension_id", "there is no such extension"),
            other => other.into(),
        })?;
    (control.on_committed)(&stored.changed);
    Ok(object(StatusCode::CREATED, &stored.record))
}

#[utoipa::path(get, path = "/marketplace/installations/{id}", operation_id = "get_installation",
    params(("id" = String, Path, description = "The installation")),
    security(("token" = [])), responses(
    (status = 200, description = "The installation and what it still needs", body = InstalledObject),
    (status = "4XX", description = "A problem", body = ProblemDocument, content_type = "application/problem+json"),
))]
pub(super) async fn get(
    State(control): State<Control>,
    caller: Caller,
    Named(id): Named,
) -> Result<Response, ApiError> {
    caller.attempt.about(None, ScopeId::parse(&id).ok(), None);
    caller.must_read()?;
    let id = InstallationId::parse(&id).map_err(|_| ApiProblem::NotFound)?;
    let installed = control
        .registry
        .installation(&caller.tenancy(None)?, &id)
        .await?
        .ok_or(ApiProblem::NotFound)?;
    caller.attempt.within(Some(&installed.installation.organization));
    Ok(object(StatusCode::OK, &installed))
}

#[utoipa::path(patch, path = "/marketplace/installations/{id}", operation_id = "patch_installation",
    params(("id" = String, Path, description = "The installation")),
    request_body = PatchInput, security(("token" = [])), responses(
    (status = 200, description = "Changed", body = InstalledObject),
    (status = 409, description = "Required keys have no value: see `missing`", body = ProblemDocument, content_type = "application/problem+json"),
    (status = "4XX", description = "A problem", body = ProblemDocument, content_type = "application/problem+json"),
))]
pub(super) async fn patch(
    State(control): State<Control>,
    caller: Caller,
    Named(id): Named,
    headers: HeaderMap,
    Body(input): Body<PatchInput>,
) -> Result<Response, ApiError> {
    caller.attempt.about(None, ScopeId::parse(&id).ok(), None);
    caller.must_administer()?;
    let expected = if_match(&headers)?;
    let id = InstallationId::parse(&id).map_err(|_| ApiProblem::NotFound)?;
    let state = match input.state.as_deref() {
        None => None,
        Some("enabled") => Some(InstallationState::Enabled),
        Some("disabled") => Some(InstallationState::Disabled),
        Some(_) => return Err(ApiError::field("state", "state is enabled or disabled")),
    };
    let patch = InstallationPatch {
        state,
        callback_url: input.callback_url,
    };
    let tenancy = caller.tenancy(None)?;
    let stored = control
        .registry
        .patch_installation(&tenancy, &caller.actor, caller.source, &id, patch, expected)
        .await;
    let stored = ApiError::written(stored, expected)?;
    (control.on_committed)(&stored.changed);
    Ok(object(StatusCode::OK, &stored.record))
}

#[utoipa::path(delete, path = "/marketplace/installations/{id}", operation_id = "uninstall_extension",
    params(("id" = String, Path, description = "The installation")),
    security(("token" = [])), responses(
    (status = 204, description = "Removed, with the secrets of its own scope"),
    (status = "4XX", description = "A problem", body = ProblemDocument, content_type = "application/problem+json"),
))]
pub(super) async fn uninstall(
    State(control): State<Control>,
    caller: Caller,
    Named(id): Named,
    headers: HeaderMap,
) -> Result<StatusCode, ApiError> {
    caller.must_administer()?;
    let expected = if_match(&headers)?;
    let id = InstallationId::parse(&id).map_err(|_| ApiProblem::NotFound)?;
    let tenancy = caller.tenancy(None)?;
    let changed = control
        .registry
        .uninstall(&tenancy, &caller.asker(), &id, expected)
        .await;
    let changed = ApiError::written(changed, expected)?;
    (control.on_committed)(&changed);
    Ok(StatusCode::NO_CONTENT)
}

fn in_field(field: &'static str) -> impl Fn(IdError) -> ApiError {
    move |error| ApiError::field(field, error)
}

pub(super) fn object(status: StatusCode, installed: &Installed) -> Response {
    let version = installed.installation.version;
    (
        status,
        [(ETAG, format!("\"{version}\""))],
        Json(InstalledObject::from(installed)),
    )
        .into_response()
}
