//! `/organizations/{id}/policy`: what an organization wants to be told, and how long things may last.

use axum::Json;
use axum::extract::State;
use axum::http::header::ETAG;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};

use super::Control;
use super::auth::Caller;
use super::error::{ApiError, ApiProblem};
use super::wire::policies::{PolicyInput, PolicyObject};
use super::wire::{Body, Named, ProblemDocument, if_match};
use crate::domain::id::{OrganizationId, ScopeId};
use crate::registry::PolicyRecord;

#[utoipa::path(get, path = "/organizations/{id}/policy", operation_id = "get_policy",
    params(("id" = String, Path, description = "The organization")),
    security(("token" = [])), responses(
    (status = 200, description = "The policy; the defaults at version 0 where none was written", body = PolicyObject),
    (status = "4XX", description = "A problem", body = ProblemDocument, content_type = "application/problem+json"),
))]
pub(super) async fn get(
    State(control): State<Control>,
    caller: Caller,
    Named(id): Named,
) -> Result<Response, ApiError> {
    caller.attempt.about(None, ScopeId::parse(&id).ok(), None);
    caller.must_read()?;
    let organization = organization(&caller, &id)?;
    caller.attempt.within(Some(&organization));
    let record = control.registry.policy(&organization).await?;
    Ok(object(StatusCode::OK, &record))
}

#[utoipa::path(put, path = "/organizations/{id}/policy", operation_id = "put_policy",
    params(("id" = String, Path, description = "The organization")),
    request_body = PolicyInput, security(("token" = [])), responses(
    (status = 200, description = "Replaced", body = PolicyObject),
    (status = 201, description = "Written for the first time", body = PolicyObject),
    (status = "4XX", description = "A problem", body = ProblemDocument, content_type = "application/problem+json"),
))]
pub(super) async fn put(
    State(control): State<Control>,
    caller: Caller,
    Named(id): Named,
    headers: HeaderMap,
    Body(input): Body<PolicyInput>,
) -> Result<Response, ApiError> {
    caller.attempt.about(None, ScopeId::parse(&id).ok(), None);
    caller.must_administer()?;
    let organization = organization(&caller, &id)?;
    let expected = if_match(&headers)?;
    let stored = control
        .registry
        .put_policy(&caller.actor, caller.source, &organization, input.into(), expected)
        .await;
    let stored = ApiError::written(stored, expected)?;
    let status = if stored.created {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    Ok(object(status, &stored.record))
}

/// A foreign organization looks absent, and so does what is no id.
fn organization(caller: &Caller, id: &str) -> Result<OrganizationId, ApiError> {
    let named = OrganizationId::parse(id).map_err(|_| ApiProblem::NotFound)?;
    caller
        .organization(Some(named))?
        .ok_or_else(|| ApiProblem::NotFound.into())
}

fn object(status: StatusCode, record: &PolicyRecord) -> Response {
    let etag = format!("\"{}\"", record.version);
    (status, [(ETAG, etag)], Json(PolicyObject::from(record))).into_response()
}
