//! `/extensions/{id}/secrets`: what the secret managers of the Kiket SDKs call: an organization's own values for an
//! extension. Nobody gets a value back.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use secrecy::SecretString;
use serde::Deserialize;
use utoipa::IntoParams;

use super::Control;
use super::auth::Caller;
use super::error::{ApiError, ApiProblem};
use super::page::Params;
use super::place::{key, organization};
use super::secrets::{object, value};
use super::wire::{Body, KeysObject, Named, ProblemDocument, SdkSecretInput, SecretObject};
use crate::domain::id::{ExtensionId, OrganizationId, ScopeId};
use crate::domain::key::SecretKey;
use crate::domain::scope::{Owner, Scope, Slot};
use crate::domain::secret::SecretKind;
use crate::secrets::manage::{Content, NewSecret};
use crate::store::{Page, SecretQuery, Tenancy};

/// Rows that are read at a time.
const PAGE_ROWS: u32 = 1_000;

/// Whose secrets.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct OrganizationParams {
    /// Implied by the token's organization; an operator has to say it.
    #[param(pattern = "^[A-Za-z0-9._:-]{1,128}$")]
    organization_id: Option<String>,
}

#[utoipa::path(get, path = "/extensions/{id}/secrets", operation_id = "list_extension_secrets",
    params(("id" = String, Path, description = "The extension"), OrganizationParams),
    security(("token" = [])), responses(
    (status = 200, description = "The keys that have a value", body = KeysObject),
    (status = "4XX", description = "A problem", body = ProblemDocument, content_type = "application/problem+json"),
))]
pub(super) async fn list(
    State(control): State<Control>,
    caller: Caller,
    Named(extension): Named,
    Params(params): Params<OrganizationParams>,
) -> Result<Json<KeysObject>, ApiError> {
    let caller = caller.by_sdk();
    caller.must_read()?;
    let tenancy = Tenancy::Organization(owner(&caller, &params)?);
    let query = SecretQuery {
        scope: Some(Scope::Extension),
        scope_id: Some((&extension_id(&extension)?).into()),
        key: None,
    };
    let mut keys = Vec::new();
    let mut page = Page {
        after: None,
        limit: PAGE_ROWS,
    };
    loop {
        let listed = control.secrets.list(&caller.asker(), &tenancy, &query, &page).await?;
        let has_value = listed
            .rows
            .iter()
            .filter(|secret| matches!(secret.meta.kind, SecretKind::Value | SecretKind::Reference));
        keys.extend(has_value.map(|secret| secret.meta.slot.key.to_string()));
        match listed.next {
            None => break,
            next => page.after = next,
        }
    }
    keys.sort_unstable();
    Ok(Json(KeysObject { keys }))
}

#[utoipa::path(post, path = "/extensions/{id}/secrets", operation_id = "set_extension_secret",
    params(("id" = String, Path, description = "The extension"), OrganizationParams),
    request_body = SdkSecretInput, security(("token" = [])), responses(
    (status = 200, description = "Replaced", body = SecretObject),
    (status = 201, description = "Created", body = SecretObject),
    (status = "4XX", description = "A problem", body = ProblemDocument, content_type = "application/problem+json"),
))]
pub(super) async fn set(
    State(control): State<Control>,
    caller: Caller,
    Named(extension): Named,
    Params(params): Params<OrganizationParams>,
    Body(input): Body<SdkSecretInput>,
) -> Result<Response, ApiError> {
    let caller = caller.by_sdk();
    caller.must_administer()?;
    let (named, given) = parts(input)?;
    let named = named.ok_or_else(|| ApiError::field("key", "key is missing"))?;
    write(&control, &caller, &extension, &named, &params, given).await
}

#[utoipa::path(post, path = "/extensions/{id}/secrets/{key}", operation_id = "set_extension_secret_by_key",
    params(("id" = String, Path, description = "The extension"), ("key" = String, Path, description = "The key"),
        OrganizationParams),
    request_body = SdkSecretInput, security(("token" = [])), responses(
    (status = 200, description = "Replaced", body = SecretObject),
    (status = 201, description = "Created", body = SecretObject),
    (status = "4XX", description = "A problem", body = ProblemDocument, content_type = "application/problem+json"),
))]
pub(super) async fn set_by_key(
    State(control): State<Control>,
    caller: Caller,
    path: Pair,
    Params(params): Params<OrganizationParams>,
    Body(input): Body<SdkSecretInput>,
) -> Result<Response, ApiError> {
    let caller = caller.by_sdk();
    path.tries(&caller);
    caller.must_administer()?;
    let (named, given) = parts(input)?;
    if named.is_some_and(|named| named != path.key) {
        return Err(ApiError::field("key", "the body names another key than the path"));
    }
    write(&control, &caller, &path.extension, &path.key, &params, given).await
}

#[utoipa::path(get, path = "/extensions/{id}/secrets/{key}", operation_id = "get_extension_secret",
    params(("id" = String, Path, description = "The extension"), ("key" = String, Path, description = "The key"),
        OrganizationParams),
    security(("token" = [])), responses(
    (status = 403, description = "It is there; values are never returned", body = ProblemDocument, content_type = "application/problem+json"),
    (status = 404, description = "It is not there", body = ProblemDocument, content_type = "application/problem+json"),
    (status = "4XX", description = "A problem", body = ProblemDocument, content_type = "application/problem+json"),
))]
pub(super) async fn get(
    State(control): State<Control>,
    caller: Caller,
    path: Pair,
    Params(params): Params<OrganizationParams>,
) -> Result<StatusCode, ApiError> {
    let caller = caller.by_sdk();
    path.tries(&caller);
    caller.must_read()?;
    let slot = slot(&caller, &path.extension, &path.key, &params)?;
    control.secrets.must_stand(&slot).await?; // the refusal is recorded as such: see `operations`
    Err(ApiProblem::PlaintextNeverReturned.into())
}

#[utoipa::path(delete, path = "/extensions/{id}/secrets/{key}", operation_id = "delete_extension_secret",
    params(("id" = String, Path, description = "The extension"), ("key" = String, Path, description = "The key"),
        OrganizationParams),
    security(("token" = [])), responses(
    (status = 204, description = "Deleted"),
    (status = "4XX", description = "A problem", body = ProblemDocument, content_type = "application/problem+json"),
))]
pub(super) async fn delete(
    State(control): State<Control>,
    caller: Caller,
    path: Pair,
    Params(params): Params<OrganizationParams>,
) -> Result<StatusCode, ApiError> {
    let caller = caller.by_sdk();
    path.tries(&caller);
    caller.must_administer()?;
    let slot = slot(&caller, &path.extension, &path.key, &params)?;
    let changed = control.secrets.delete(&caller.asker(), &slot, None).await?;
    (control.on_committed)(&changed);
    Ok(StatusCode::NO_CONTENT)
}

/// The two parameters of a path.
pub(super) struct Pair {
    extension: String,
    key: String,
}

impl<S: Send + Sync> axum::extract::FromRequestParts<S> for Pair {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut axum::http::request::Parts, state: &S) -> Result<Self, ApiError> {
        let names = Path::<(String, String)>::from_request_parts(parts, state).await;
        let refused = |_| ApiError::with_detail(ApiProblem::Malformed, "the path is not UTF-8");
        names
            .map(|Path((extension, key))| Self { extension, key })
            .map_err(refused)
    }
}

impl Pair {
    /// Tells the log what a refusal is about.
    fn tries(&self, caller: &Caller) {
        let subject = ScopeId::parse(&self.extension).ok();
        let key = SecretKey::parse(&self.key).ok();
        caller.attempt.about(Some(Scope::Extension), subject, key);
    }
}

async fn write(
    control: &Control,
    caller: &Caller,
    extension: &str,
    named: &str,
    params: &OrganizationParams,
    given: Option<SecretString>,
) -> Result<Response, ApiError> {
    let new = NewSecret {
        slot: slot(caller, extension, named, params)?,
        content: Content::Value(value(given)?),
        expires_at: None,
        contact: None,
    };
    let written = control.secrets.set(&caller.asker(), vec![new], None).await?;
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

/// Key and value of either form; both at once is none.
fn parts(input: SdkSecretInput) -> Result<(Option<String>, Option<SecretString>), ApiError> {
    match input.secret {
        None => Ok((input.key, input.value)),
        Some(secret) if input.key.is_none() && input.value.is_none() => Ok((secret.key, secret.value)),
        Some(_) => Err(ApiError::field(
            "secret",
            "key and value stand in secret or beside it, not both",
        )),
    }
}

fn slot(caller: &Caller, extension: &str, named: &str, params: &OrganizationParams) -> Result<Slot, ApiError> {
    Ok(Slot {
        owner: Owner::Organization(owner(caller, params)?),
        scope: Scope::Extension,
        scope_id: (&extension_id(extension)?).into(),
        key: key(named)?,
    })
}

fn owner(caller: &Caller, params: &OrganizationParams) -> Result<OrganizationId, ApiError> {
    let named = params.organization_id.as_deref().map(organization).transpose()?;
    caller
        .organization(named)?
        .ok_or_else(|| ApiError::field("organization_id", "organization_id is missing"))
}

fn extension_id(text: &str) -> Result<ExtensionId, ApiError> {
    ExtensionId::parse(text).map_err(|error| ApiError::field("id", error))
}
