//! `/extensions/secrets/{key}/…`: a new version of a secret: rotated, linked, fetched anew or rolled back.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;

use super::Control;
use super::auth::Caller;
use super::error::{ApiError, ApiProblem};
use super::place::{Place, contact, moment, reference, slot, tries};
use super::secrets::{conflict, object, value};
use super::wire::{Body, LinkInput, Named, PlaceInput, ProblemDocument, RotateInput, SecretObject, if_match};
use crate::secrets::manage::{Content, ManageError, NewSecret, Overlap, Written};

#[utoipa::path(post, path = "/extensions/secrets/{key}/rotate", operation_id = "rotate_secret",
    params(("key" = String, Path, description = "The key")),
    request_body = RotateInput, security(("token" = [])), responses(
    (status = 200, description = "Rotated", body = SecretObject),
    (status = "4XX", description = "A problem", body = ProblemDocument, content_type = "application/problem+json"),
))]
pub(super) async fn rotate(
    State(control): State<Control>,
    caller: Caller,
    Named(name): Named,
    headers: HeaderMap,
    Body(input): Body<RotateInput>,
) -> Result<Response, ApiError> {
    let place = Place::stated(
        &input.scope,
        input.id.as_ref(),
        &name,
        input.organization_id.as_ref(),
        input.partner_default,
    );
    tries(&caller, &place);
    caller.must_administer()?;
    let expected = if_match(&headers)?;
    let slot = slot(&control, &caller, place).await?;
    let new = NewSecret {
        slot,
        content: Content::Value(value(input.value)?),
        expires_at: moment(input.expires_at.as_deref())?,
        contact: contact(input.owner)?,
    };
    let overlap = if input.revoke_now {
        Overlap::Revoke
    } else {
        Overlap::Keep
    };
    let written = control.secrets.rotate(&caller.asker(), new, overlap, expected).await;
    told(&control, written, expected)
}

#[utoipa::path(post, path = "/extensions/secrets/{key}/link", operation_id = "link_secret",
    params(("key" = String, Path, description = "The key")),
    request_body = LinkInput, security(("token" = [])), responses(
    (status = 200, description = "The secret is a reference now", body = SecretObject),
    (status = 201, description = "Created", body = SecretObject),
    (status = "4XX", description = "A problem", body = ProblemDocument, content_type = "application/problem+json"),
))]
pub(super) async fn link(
    State(control): State<Control>,
    caller: Caller,
    Named(name): Named,
    headers: HeaderMap,
    Body(input): Body<LinkInput>,
) -> Result<Response, ApiError> {
    let place = Place::stated(
        &input.scope,
        input.id.as_ref(),
        &name,
        input.organization_id.as_ref(),
        input.partner_default,
    );
    tries(&caller, &place);
    caller.must_administer()?;
    let expected = if_match(&headers)?;
    let slot = slot(&control, &caller, place).await?;
    let new = NewSecret {
        slot,
        content: Content::Reference(reference(&input.external_secret_name)?),
        expires_at: moment(input.expires_at.as_deref())?,
        contact: contact(input.owner)?,
    };
    let written = control.secrets.set(&caller.asker(), vec![new], expected).await;
    told(&control, written, expected)
}

#[utoipa::path(post, path = "/extensions/secrets/{key}/refresh", operation_id = "refresh_secret",
    params(("key" = String, Path, description = "The key")),
    request_body = PlaceInput, security(("token" = [])), responses(
    (status = 200, description = "Fetched", body = SecretObject),
    (status = "4XX", description = "A problem", body = ProblemDocument, content_type = "application/problem+json"),
    (status = "5XX", description = "A problem", body = ProblemDocument, content_type = "application/problem+json"),
))]
pub(super) async fn refresh(
    State(control): State<Control>,
    caller: Caller,
    Named(name): Named,
    Body(input): Body<PlaceInput>,
) -> Result<Response, ApiError> {
    tries(&caller, &input.place(&name));
    caller.must_administer()?;
    let slot = slot(&control, &caller, input.place(&name)).await?;
    let refreshed = control.refresher.refresh(&caller.asker(), &slot).await?;
    (control.on_committed)(&refreshed.changed);
    Ok(object(StatusCode::OK, &refreshed.result?, false))
}

#[utoipa::path(post, path = "/extensions/secrets/{key}/rollback", operation_id = "rollback_secret",
    params(("key" = String, Path, description = "The key")),
    request_body = PlaceInput, security(("token" = [])), responses(
    (status = 200, description = "The previous value is a new version now", body = SecretObject),
    (status = "4XX", description = "A problem", body = ProblemDocument, content_type = "application/problem+json"),
))]
pub(super) async fn rollback(
    State(control): State<Control>,
    caller: Caller,
    Named(name): Named,
    headers: HeaderMap,
    Body(input): Body<PlaceInput>,
) -> Result<Response, ApiError> {
    tries(&caller, &input.place(&name));
    caller.must_administer()?;
    let expected = if_match(&headers)?;
    let slot = slot(&control, &caller, input.place(&name)).await?;
    let written = control.secrets.rollback(&caller.asker(), &slot, expected).await;
    told(&control, written, expected)
}

/// The one secret that was written, once caches have heard of it.
fn told(control: &Control, written: Result<Written, ManageError>, expected: Option<u64>) -> Result<Response, ApiError> {
    let written = written.map_err(|error| conflict(error, expected))?;
    (control.on_committed)(&written.changed);
    let secret = written.secrets.first().ok_or(ApiProblem::Internal)?;
    let new_scope = written.new_scopes.first().is_some_and(|is_new| *is_new);
    let status = if written.created {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    Ok(object(status, secret, new_scope))
}
