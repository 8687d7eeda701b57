//! `/extensions/secrets`: list, write, read, delete and rotate secrets; never their values.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::header::ETAG;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use secrecy::SecretString;
use serde::Deserialize;
use serde::de::IgnoredAny;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use utoipa::IntoParams;

use super::Control;
use super::auth::Caller;
use super::error::{ApiError, ApiProblem};
use super::page::{Params, cursor, page};
use super::wire::{
    Body, IdText, Named, PageOf, ProblemDocument, RotateInput, SecretInput, SecretObject, SecretsInput, body, if_match,
    media_type, parse,
};
use crate::domain::id::{ExtensionId, InstallationId, OrganizationId, ScopeId};
use crate::domain::key::SecretKey;
use crate::domain::scope::{Owner, Scope, Slot};
use crate::domain::secret::SecretMeta;
use crate::domain::time::Timestamp;
use crate::secrets::manage::{ManageError, NewValue, Overlap};
use crate::store::{SecretQuery, Tenancy};

/// Which secrets to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListParams {
    /// At this scope only.
    scope: Option<String>,
    /// Bound to this only.
    id: Option<String>,
    /// Under this key only.
    key: Option<String>,
    /// Of this organization only.
    organization_id: Option<String>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
    /// Rows of a page, 1 to 1000.
    limit: Option<u32>,
}

/// Where a secret is.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct SlotParams {
    /// The scope.
    scope: String,
    /// What it is bound to.
    id: Option<String>,
    /// Whose.
    organization_id: Option<String>,
    /// The partner's value. Operators only.
    #[serde(default)]
    partner_default: bool,
}

/// Where a client says a secret is.
struct Place<'a> {
    scope: &'a str,
    id: Option<&'a str>,
    key: &'a str,
    organization: Option<&'a str>,
    is_partner_default: bool,
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
    let data = listed.rows.iter().map(|row| SecretObject::from(&row.meta)).collect();
    Ok(Json(PageOf {
        data,
        next_cursor: cursor(&control.keyring, listed.next),
    }))
}

#[utoipa::path(post, path = "/extensions/secrets", operation_id = "set_secrets",
    request_body = SecretInput, security(("token" = [])), responses(
    (status = 200, description = "Replaced; with `secrets` in the request: a list", body = SecretObject),
    (status = 201, description = "Created", body = SecretObject),
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
    let mut values = Vec::with_capacity(inputs.len());
    for input in inputs {
        values.push(new_value(&control, &caller, input).await?);
    }
    let written = control.secrets.set(&caller.asker(), values, expected).await;
    let written = written.map_err(|error| conflict(error, expected))?;
    (control.on_committed)(&written.changed);
    let status = if written.created {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    if is_many {
        let with_notes = written.secrets.iter().zip(&written.new_scopes);
        let data = with_notes.map(|(meta, is_new)| noted(meta, *is_new)).collect();
        return Ok((
            status,
            Json(PageOf {
                data,
                next_cursor: None,
            }),
        )
            .into_response());
    }
    let meta = written.secrets.first().ok_or(ApiProblem::Internal)?;
    let new_scope = written.new_scopes.first().is_some_and(|is_new| *is_new);
    Ok(object(status, meta, new_scope))
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
    let meta = control.secrets.get(&caller.asker(), &slot).await?;
    Ok(object(StatusCode::OK, &meta, false))
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
    let place = Place {
        scope: &input.scope,
        id: input.id.as_ref().map(|id| id.0.as_str()),
        key: &name,
        organization: input.organization_id.as_ref().map(|id| id.0.as_str()),
        is_partner_default: input.partner_default,
    };
    tries(&caller, &place);
    caller.must_administer()?;
    let expected = if_match(&headers)?;
    let slot = slot(&control, &caller, place).await?;
    let new = NewValue {
        slot,
        value: value(input.value)?,
        expires_at: moment(input.expires_at.as_deref())?,
        contact: None,
    };
    let overlap = if input.revoke_now {
        Overlap::Revoke
    } else {
        Overlap::Keep
    };
    let written = control.secrets.rotate(&caller.asker(), new, overlap, expected).await;
    let written = written.map_err(|error| conflict(error, expected))?;
    (control.on_committed)(&written.changed);
    let meta = written.secrets.first().ok_or(ApiProblem::Internal)?;
    Ok(object(StatusCode::OK, meta, false))
}

impl SlotParams {
    fn place<'a>(&'a self, name: &'a str) -> Place<'a> {
        Place {
            scope: &self.scope,
            id: self.id.as_deref(),
            key: name,
            organization: self.organization_id.as_deref(),
            is_partner_default: self.partner_default,
        }
    }
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

async fn new_value(control: &Control, caller: &Caller, input: SecretInput) -> Result<NewValue, ApiError> {
    if input.external_secret_name.is_some() {
        return Err(ApiError::field(
            "external_secret_name",
            "this version keeps values only, no external references",
        ));
    }
    let place = Place {
        scope: &input.scope,
        id: input.id.as_ref().map(|id| id.0.as_str()),
        key: &input.key,
        organization: input.organization_id.as_ref().map(|id| id.0.as_str()),
        is_partner_default: input.partner_default,
    };
    let slot = slot(control, caller, place).await?;
    Ok(NewValue {
        slot,
        value: value(input.value)?,
        expires_at: moment(input.expires_at.as_deref())?,
        contact: None,
    })
}

fn value(given: Option<SecretString>) -> Result<SecretString, ApiError> {
    given.ok_or_else(|| ApiError::field("value", "value is missing"))
}

/// Tells the log what a refusal is about.
fn tries(caller: &Caller, place: &Place<'_>) {
    let subject = place.id.and_then(|id| ScopeId::parse(id).ok());
    let key = SecretKey::parse(place.key).ok();
    caller.attempt.about(Scope::parse(place.scope), subject, key);
}

/// The slot that a client means, if it may: a foreign one looks absent.
async fn slot(control: &Control, caller: &Caller, place: Place<'_>) -> Result<Slot, ApiError> {
    let scope = scope(place.scope)?;
    let key = key(place.key)?;
    tries(caller, &place);
    let named = place.organization.map(organization).transpose()?;
    if place.is_partner_default {
        caller.must_operate()?;
        if scope != Scope::Extension || named.is_some() {
            return Err(ApiError::field(
                "partner_default",
                "a partner's default is at scope extension and belongs to no organization",
            ));
        }
        return Ok(Slot {
            owner: Owner::Partner,
            scope,
            scope_id: extension_id(place.id)?,
            key,
        });
    }
    let organization = match caller.organization(named)? {
        Some(organization) => organization,
        None => implied_organization(control, scope, place.id).await?,
    };
    let scope_id = match (scope, place.id) {
        (Scope::Organization, None) => (&organization).into(),
        (Scope::Organization, Some(id)) if id != organization.as_str() => return Err(ApiProblem::NotFound.into()),
        (Scope::Extension, id) => extension_id(id)?,
        (_, Some(id)) => scope_id(id)?,
        (_, None) => return Err(ApiError::field("id", "id is missing")),
    };
    if scope == Scope::ExtensionInstallation {
        must_be_own(control, &organization, &scope_id).await?;
    }
    Ok(Slot {
        owner: Owner::Organization(organization),
        scope,
        scope_id,
        key,
    })
}

/// An operator may leave the organization out where scope and id imply it.
async fn implied_organization(control: &Control, scope: Scope, id: Option<&str>) -> Result<OrganizationId, ApiError> {
    let missing = || ApiError::field("organization_id", "organization_id is missing");
    match (scope, id) {
        (Scope::Organization, Some(id)) => organization(id),
        (Scope::ExtensionInstallation, Some(id)) => {
            let id = InstallationId::parse(id).map_err(|error| ApiError::field("id", error))?;
            let installed = control.registry.installation(&Tenancy::Platform, &id).await?;
            installed
                .map(|installed| installed.installation.organization)
                .ok_or_else(missing)
        }
        _ => Err(missing()),
    }
}

/// An installation of another organization is none. One that is not there yet may be written ahead.
async fn must_be_own(control: &Control, organization: &OrganizationId, id: &ScopeId) -> Result<(), ApiError> {
    let id = InstallationId::parse(id.as_str()).map_err(|error| ApiError::field("id", error))?;
    let installed = control.registry.installation(&Tenancy::Platform, &id).await?;
    match installed {
        Some(installed) if installed.installation.organization != *organization => Err(ApiProblem::NotFound.into()),
        _ => Ok(()),
    }
}

fn scope(text: &str) -> Result<Scope, ApiError> {
    let names = "scope is extension_installation, product_installation, extension, project or organization";
    Scope::parse(text).ok_or_else(|| ApiError::field("scope", names))
}

fn key(text: &str) -> Result<SecretKey, ApiError> {
    SecretKey::parse(text).map_err(|error| ApiError::field("key", error))
}

fn scope_id(text: &str) -> Result<ScopeId, ApiError> {
    ScopeId::parse(text).map_err(|error| ApiError::field("id", error))
}

fn extension_id(text: Option<&str>) -> Result<ScopeId, ApiError> {
    let text = text.ok_or_else(|| ApiError::field("id", "id is missing"))?;
    ExtensionId::parse(text)
        .map(|id| (&id).into())
        .map_err(|error| ApiError::field("id", error))
}

/// Reads an organization's id.
pub(super) fn organization(text: &str) -> Result<OrganizationId, ApiError> {
    OrganizationId::parse(text).map_err(|error| ApiError::field("organization_id", error))
}

/// Reads an optional organization's id of a body.
pub(super) fn named_organization(named: Option<&IdText>) -> Result<Option<OrganizationId>, ApiError> {
    named.map(|id| organization(&id.0)).transpose()
}

fn moment(text: Option<&str>) -> Result<Option<Timestamp>, ApiError> {
    let Some(text) = text else { return Ok(None) };
    let parsed = OffsetDateTime::parse(text, &Rfc3339).ok();
    let millis = parsed.and_then(|at| u64::try_from(at.unix_timestamp_nanos() / 1_000_000).ok());
    let refused = || ApiError::field("expires_at", "expires_at is a moment as in RFC 3339");
    millis.map(|millis| Some(Timestamp(millis))).ok_or_else(refused)
}

fn conflict(error: ManageError, expected: Option<u64>) -> ApiError {
    match error {
        ManageError::Conflict => ApiError::conflict(expected),
        other => other.into(),
    }
}

fn noted(meta: &SecretMeta, new_scope: bool) -> SecretObject {
    let mut object = SecretObject::from(meta);
    object.new_scope = new_scope;
    object
}

fn object(status: StatusCode, meta: &SecretMeta, new_scope: bool) -> Response {
    let object = noted(meta, new_scope);
    (status, [(ETAG, format!("\"{}\"", meta.version))], Json(object)).into_response()
}
