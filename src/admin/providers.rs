//! `/organizations/{id}/providers`: where an organization's references are looked up.

use axum::Json;
use axum::extract::{FromRequestParts, Path, State};
use axum::http::header::ETAG;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};

use super::Control;
use super::auth::Caller;
use super::error::{ApiError, ApiProblem};
use super::wire::provider::{CheckObject, ProviderInput, ProviderObject, ProvidersObject};
use super::wire::{Body, Named, ProblemDocument, if_match};
use crate::domain::id::{OrganizationId, ScopeId};
use crate::domain::provider::{Provider, ProviderError, ProviderFields, ProviderName};
use crate::secrets::providers::{ProviderRecord, ProvidersError};

/// An organization and the name of one of its providers, as the path has them.
pub(super) struct Which {
    organization: String,
    name: String,
}

impl<S: Send + Sync> FromRequestParts<S> for Which {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let path = Path::<(String, String)>::from_request_parts(parts, state).await;
        let refused = |_| ApiError::with_detail(ApiProblem::Malformed, "the path is not UTF-8");
        path.map(|Path((organization, name))| Self { organization, name })
            .map_err(refused)
    }
}

impl Which {
    /// The two, for a caller that may see them. A foreign organization looks absent, and so does what is no name.
    fn of(&self, caller: &Caller) -> Result<(OrganizationId, ProviderName), ApiError> {
        let organization = organization(caller, &self.organization)?;
        let name = ProviderName::parse(&self.name).map_err(|_| ApiProblem::NotFound)?;
        Ok((organization, name))
    }

    fn tried_by(&self, caller: &Caller) {
        caller.attempt.about(None, ScopeId::parse(&self.name).ok(), None);
    }
}

#[utoipa::path(get, path = "/organizations/{id}/providers", operation_id = "list_providers",
    params(("id" = String, Path, description = "The organization")),
    security(("token" = [])), responses(
    (status = 200, description = "The organization's providers, by name", body = ProvidersObject),
    (status = "4XX", description = "A problem", body = ProblemDocument, content_type = "application/problem+json"),
))]
pub(super) async fn list(
    State(control): State<Control>,
    caller: Caller,
    Named(id): Named,
) -> Result<Json<ProvidersObject>, ApiError> {
    caller.must_read()?;
    let organization = organization(&caller, &id)?;
    let records = control.providers.list(&organization).await?;
    Ok(Json(ProvidersObject {
        data: records.iter().map(ProviderObject::from).collect(),
        next_cursor: None,
    }))
}

#[utoipa::path(get, path = "/organizations/{id}/providers/{name}", operation_id = "get_provider",
    params(("id" = String, Path, description = "The organization"), ("name" = String, Path, description = "The provider")),
    security(("token" = [])), responses(
    (status = 200, description = "The provider", body = ProviderObject),
    (status = "4XX", description = "A problem", body = ProblemDocument, content_type = "application/problem+json"),
))]
pub(super) async fn get(State(control): State<Control>, caller: Caller, which: Which) -> Result<Response, ApiError> {
    which.tried_by(&caller);
    caller.must_read()?;
    let (organization, name) = which.of(&caller)?;
    let record = control.providers.get(&organization, &name).await?;
    Ok(object(StatusCode::OK, &record))
}

#[utoipa::path(put, path = "/organizations/{id}/providers/{name}", operation_id = "put_provider",
    params(("id" = String, Path, description = "The organization"),
        ("name" = String, Path, description = "The provider", pattern = "^[a-z0-9][a-z0-9_-]{0,63}$")),
    request_body = ProviderInput, security(("token" = [])), responses(
    (status = 200, description = "Replaced", body = ProviderObject),
    (status = 201, description = "Configured", body = ProviderObject),
    (status = "4XX", description = "A problem", body = ProblemDocument, content_type = "application/problem+json"),
))]
pub(super) async fn put(
    State(control): State<Control>,
    caller: Caller,
    which: Which,
    headers: HeaderMap,
    Body(input): Body<ProviderInput>,
) -> Result<Response, ApiError> {
    which.tried_by(&caller);
    caller.must_administer()?;
    let organization = organization(&caller, &which.organization)?;
    let expected = if_match(&headers)?;
    let provider = Provider::parse(&which.name, &ProviderFields::from(input)).map_err(in_field)?;
    if provider.needs_operator() {
        caller.must_operate()?;
    }
    let configured = control
        .providers
        .put(&caller.asker(), &organization, &provider, expected)
        .await;
    let configured = configured.map_err(|error| told(error, expected))?;
    (control.on_committed)(&configured.changed);
    let status = if configured.created {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    Ok(object(status, &configured.record))
}

#[utoipa::path(delete, path = "/organizations/{id}/providers/{name}", operation_id = "delete_provider",
    params(("id" = String, Path, description = "The organization"), ("name" = String, Path, description = "The provider")),
    security(("token" = [])), responses(
    (status = 204, description = "Removed; references to it stay, and cannot be fetched"),
    (status = "4XX", description = "A problem", body = ProblemDocument, content_type = "application/problem+json"),
))]
pub(super) async fn delete(
    State(control): State<Control>,
    caller: Caller,
    which: Which,
    headers: HeaderMap,
) -> Result<StatusCode, ApiError> {
    which.tried_by(&caller);
    caller.must_administer()?;
    let (organization, name) = which.of(&caller)?;
    let expected = if_match(&headers)?;
    let asker = caller.asker();
    let changed = control.providers.delete(&asker, &organization, &name, expected).await;
    let changed = changed.map_err(|error| told(error, expected))?;
    (control.on_committed)(&changed);
    Ok(StatusCode::NO_CONTENT)
}

#[utoipa::path(post, path = "/organizations/{id}/providers/{name}/check", operation_id = "check_provider",
    params(("id" = String, Path, description = "The organization"), ("name" = String, Path, description = "The provider")),
    security(("token" = [])), responses(
    (status = 200, description = "Whether it can be reached and takes its credential; no secret is read", body = CheckObject),
    (status = "4XX", description = "A problem", body = ProblemDocument, content_type = "application/problem+json"),
))]
pub(super) async fn check(
    State(control): State<Control>,
    caller: Caller,
    which: Which,
) -> Result<Json<CheckObject>, ApiError> {
    which.tried_by(&caller);
    caller.must_administer()?;
    let (organization, name) = which.of(&caller)?;
    let check = control.providers.check(&caller.asker(), &organization, &name).await?;
    Ok(Json(check.into()))
}

/// A foreign organization looks absent, and so does what is no id.
fn organization(caller: &Caller, id: &str) -> Result<OrganizationId, ApiError> {
    let named = OrganizationId::parse(id).map_err(|_| ApiProblem::NotFound)?;
    caller
        .organization(Some(named))?
        .ok_or_else(|| ApiProblem::NotFound.into())
}

fn in_field(error: ProviderError) -> ApiError {
    ApiError::field(error.field, error)
}

fn told(error: ProvidersError, expected: Option<u64>) -> ApiError {
    match error {
        ProvidersError::Conflict => ApiError::conflict(expected),
        other => other.into(),
    }
}

fn object(status: StatusCode, record: &ProviderRecord) -> Response {
    let etag = format!("\"{}\"", record.version);
    (status, [(ETAG, etag)], Json(ProviderObject::from(record))).into_response()
}
