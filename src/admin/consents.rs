//! `/marketplace/installations/{id}/confirm-destination` and `/accept-keys`: what an organization's admin agrees to.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;

use super::Control;
use super::auth::Caller;
use super::error::{ApiError, ApiProblem};
use super::installations::object;
use super::wire::{AcceptInput, ConfirmInput, InstalledObject, MaybeBody, Named, ProblemDocument, if_match};
use crate::domain::id::{InstallationId, ScopeId};
use crate::registry::Seen;

#[utoipa::path(post, path = "/marketplace/installations/{id}/confirm-destination", operation_id = "confirm_destination",
    params(("id" = String, Path, description = "The installation")),
    request_body(content = Option<ConfirmInput>, content_type = "application/json"), security(("token" = [])), responses(
    (status = 200, description = "Secrets may go to the destination from now on", body = InstalledObject),
    (status = 409, description = "Another destination stands there than the one named", body = ProblemDocument, content_type = "application/problem+json"),
    (status = "4XX", description = "A problem", body = ProblemDocument, content_type = "application/problem+json"),
))]
pub(super) async fn confirm_destination(
    State(control): State<Control>,
    caller: Caller,
    Named(id): Named,
    headers: HeaderMap,
    MaybeBody(input): MaybeBody<ConfirmInput>,
) -> Result<Response, ApiError> {
    begin(&caller, &id)?;
    let seen = Seen::Destination(input.read()?);
    consent(&control, &caller, &id, &headers, seen).await
}

#[utoipa::path(post, path = "/marketplace/installations/{id}/accept-keys", operation_id = "accept_keys",
    params(("id" = String, Path, description = "The installation")),
    request_body(content = Option<AcceptInput>, content_type = "application/json"), security(("token" = [])), responses(
    (status = 200, description = "The extension gets the keys' values from now on", body = InstalledObject),
    (status = 409, description = "The manifest does not ask for a key that is named, or for another use", body = ProblemDocument, content_type = "application/problem+json"),
    (status = "4XX", description = "A problem", body = ProblemDocument, content_type = "application/problem+json"),
))]
pub(super) async fn accept_keys(
    State(control): State<Control>,
    caller: Caller,
    Named(id): Named,
    headers: HeaderMap,
    MaybeBody(input): MaybeBody<AcceptInput>,
) -> Result<Response, ApiError> {
    begin(&caller, &id)?;
    let seen = Seen::Keys(input.read()?);
    consent(&control, &caller, &id, &headers, seen).await
}

fn begin(caller: &Caller, id: &str) -> Result<(), ApiError> {
    caller.attempt.about(None, ScopeId::parse(id).ok(), None);
    caller.must_administer()
}

async fn consent(
    control: &Control,
    caller: &Caller,
    id: &str,
    headers: &HeaderMap,
    seen: Seen,
) -> Result<Response, ApiError> {
    let expected = if_match(headers)?;
    let id = InstallationId::parse(id).map_err(|_| ApiProblem::NotFound)?;
    let tenancy = caller.tenancy(None)?;
    let stored = control
        .registry
        .consent(&tenancy, &caller.asker(), &id, seen, expected)
        .await;
    let stored = ApiError::written(stored, expected)?;
    (control.on_committed)(&stored.changed);
    Ok(object(StatusCode::OK, &stored.record))
}
