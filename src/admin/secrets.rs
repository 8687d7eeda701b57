//! `/extensions/secrets`: list, write, read and delete secrets; never their values.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::header::ETAG;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use secrecy::SecretString;
use serde::Deserialize;
use serde::de::IgnoredAny;
use utoipa::IntoParams;

use super::Control;
use super::auth::Caller;
use super::error::{ApiError, ApiProblem};
use super::page::{Params, cursor, page};
use super::place::{Place, SlotParams, contact, key, moment, organization, reference, scope, scope_id, slot, tries};
use super::wire::{
    Named, PageOf, ProblemDocument, SecretInput, SecretObject, SecretsInput, SetInput, WrittenObject, body, if_match,
    media_type, parse,
};
use crate::secrets::manage::{Content, ManageError, NewSecret, Secret};
use crate::store::SecretQuery;

/// Which secrets to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListParams {
    /// At this scope only.
    #[param(
        pattern = "^(extension_installation|installation|product_installation|product|extension|project|organization)$"
    )]
    scope: Option<String>,
    /// Bound to this only.
    #[param(pattern = "^[A-Za-z0-9._:-]{1,128}$")]
    id: Option<String>,
    /// Under this key only.
    #[param(pattern = "^[A-Z][A-Z0-9_]{0,127}$")]
    key: Option<String>,
    /// Of this organization only.
    #[param(pattern = "^[A-Za-z0-9._:-]{1,128}$")]
    organization_id: Option<String>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
    /// Rows of a page, 1 to 1000.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
}

#[utoipa::path(get, path = "/extensions/secrets", operation_id = "list_secrets",
    params(ListParams), security(("token" = [])), responses(
    (status = 200, description = "The secrets, without their values", body = PageOf<SecretObject>),
    (status = "4XX", description = "A problem", body = ProblemDocument, content_type = "application/problem+json"),
))]
pub(super) async fn list(
    State(control): State<Control>,
    caller: Caller,
    Params(params): Params<ListParams>,
) -> Result<Json<PageOf<SecretObject>>, ApiError> {
    caller.must_read()?;
    let tenancy = caller.tenancy(params.organization_id.as_deref().map(organization).transpose()?)?;
    let query = SecretQuery {
        scope: params.scope.as_deref().map(scope).transpose()?,
        scope_id: params.id.as_deref().map(scope_id).transpose()?,
        key: params.key.as_deref().map(key).transpose()?,
    };
    let page = page(&control.keyring, params.cursor.as_deref(), params.limit)?;
    let listed = control.secrets.list(&caller.asker(), &tenancy, &query, &page).await?;
    let data = listed.rows.iter().map(SecretObject::from).collect();
    Ok(Json(PageOf {
        data,
        next_cursor: cursor(&control.keyring, listed.next),
    }))
}

#[utoipa::path(post, path = "/extensions/secrets", operation_id = "set_secrets",
    request_body = SetInput, security(("token" = [])), responses(
    (status = 200, description = "Replaced; with `secrets` in the request: a list", body = WrittenObject),
    (status = 201, description = "Created", body = WrittenObject),
    (status = "4XX", description = "A problem", body = ProblemDocument, content_type = "application/problem+json"),
))]
pub(super) async fn set(
    State(control): State<Control>,
    caller: Caller,
    headers: HeaderMap,
    request: Request,
) -> Result<Response, ApiError> {
    caller.must_administer()?;
    if media_type(&headers) != "application/json" {
        return Err(ApiError::with_detail(
            ApiProblem::MediaType,
            "Content-Type is application/json",
        ));
    }
    let expected = if_match(&headers)?;
    let (inputs, is_many) = inputs(&body(request, &control).await?)?;
    if is_many && expected.is_some() {
        return Err(ApiError::field("If-Match", "If-Match needs a single secret"));
    }
    let mut secrets = Vec::with_capacity(inputs.len());
    for input in inputs {
        secrets.push(new_secret(&control, &caller, input).await?);
    }
    let written = control.secrets.set(&caller.asker(), secrets, expected).await;
    let written = written.map_err(|error| conflict(error, expected))?;
    (control.on_committed)(&written.changed);
    let status = if written.created {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    if is_many {
        let with_notes = written.secrets.iter().zip(&written.new_scopes);
        let data = with_notes.map(|(secret, is_new)| noted(secret, *is_new)).collect();
        let many = WrittenObject::Many(PageOf {
            data,
            next_cursor: None,
        });
        return Ok((status, Json(many)).into_response());
    }
    let secret = written.secrets.first().ok_or(ApiProblem::Internal)?;
    let new_scope = written.new_scopes.first().is_some_and(|is_new| *is_new);
    let version = [(ETAG, format!("\"{}\"", secret.meta.version))];
    Ok((status, version, Json(WrittenObject::One(noted(secret, new_scope)))).into_response())
}

#[utoipa::path(get, path = "/extensions/secrets/{key}", operation_id = "get_secret",
    params(("key" = String, Path, description = "The key"), SlotParams),
    security(("token" = [])), responses(
    (status = 200, description = "The secret, without its value", body = SecretObject),
    (status = "4XX", description = "A problem", body = ProblemDocument, content_type = "application/problem+json"),
))]
pub(super) async fn get(
    State(control): State<Control>,
    caller: Caller,
    Named(name): Named,
    Params(params): Params<SlotParams>,
) -> Result<Response, ApiError> {
    tries(&caller, &params.place(&name));
    caller.must_read()?;
    let slot = slot(&control, &caller, params.place(&name)).await?;
    let secret = control.secrets.get(&caller.asker(), &slot).await?;
    Ok(object(StatusCode::OK, &secret, false))
}

#[utoipa::path(delete, path = "/extensions/secrets/{key}", operation_id = "delete_secret",
    params(("key" = String, Path, description = "The key"), SlotParams),
    security(("token" = [])), responses(
    (status = 204, description = "Deleted; its version and counts go on"),
    (status = "4XX", description = "A problem", body = ProblemDocument, content_type = "application/problem+json"),
))]
pub(super) async fn delete(
    State(control): State<Control>,
    caller: Caller,
    Named(name): Named,
    Params(params): Params<SlotParams>,
    headers: HeaderMap,
) -> Result<StatusCode, ApiError> {
    tries(&caller, &params.place(&name));
    caller.must_administer()?;
    let expected = if_match(&headers)?;
    let slot = slot(&control, &caller, params.place(&name)).await?;
    let changed = control.secrets.delete(&caller.asker(), &slot, expected).await;
    (control.on_committed)(&changed.map_err(|error| conflict(error, expected))?);
    Ok(StatusCode::NO_CONTENT)
}

/// One secret, or the list under `secrets`.
fn inputs(bytes: &Bytes) -> Result<(Vec<SecretInput>, bool), ApiError> {
    #[derive(Deserialize)]
    struct Shape {
        secrets: Option<IgnoredAny>,
    }
    if parse::<Shape>(bytes)?.secrets.is_some() {
        return Ok((parse::<SecretsInput>(bytes)?.secrets, true));
    }
    Ok((vec![parse(bytes)?], false))
}

async fn new_secret(control: &Control, caller: &Caller, input: SecretInput) -> Result<NewSecret, ApiError> {
    let place = Place::stated(
        &input.scope,
        input.id.as_ref(),
        &input.key,
        input.organization_id.as_ref(),
        input.partner_default,
    );
    let slot = slot(control, caller, place).await?;
    let content = match (input.value, input.external_secret_name) {
        (given, None) => Content::Value(value(given)?),
        (None, Some(name)) => Content::Reference(reference(&name)?),
        (Some(_), Some(_)) => {
            return Err(ApiError::field(
                "external_secret_name",
                "a secret has a value or an external_secret_name, not both",
            ));
        }
    };
    Ok(NewSecret {
        slot,
        content,
        expires_at: moment(input.expires_at.as_deref())?,
        contact: contact(input.owner)?,
    })
}

/// The value, which must be there.
pub(super) fn value(given: Option<SecretString>) -> Result<SecretString, ApiError> {
    given.ok_or_else(|| ApiError::field("value", "value is missing"))
}

/// An overtaken write: the client's own `If-Match` lost, or not.
pub(super) fn conflict(error: ManageError, expected: Option<u64>) -> ApiError {
    match error {
        ManageError::Conflict => ApiError::conflict(expected),
        other => other.into(),
    }
}

fn noted(secret: &Secret, new_scope: bool) -> SecretObject {
    let mut object = SecretObject::from(secret);
    object.new_scope = new_scope;
    object
}

/// The secret's object under its version.
pub(super) fn object(status: StatusCode, secret: &Secret, new_scope: bool) -> Response {
    let object = noted(secret, new_scope);
    (status, [(ETAG, format!("\"{}\"", secret.meta.version))], Json(object)).into_response()
}
