//! `/tokens`: make, list and remove API tokens. A token's text is in one answer, once; only its hash is stored.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use utoipa::IntoParams;

use super::Control;
use super::auth::Caller;
use super::error::{ApiError, ApiProblem};
use super::idempotency::Kept;
use super::page::{Params, cursor, page};
use super::place::{moment, named_organization, organization};
use super::wire::{Body, MadeTokenObject, Named, PageOf, ProblemDocument, TokenInput, TokenObject};
use crate::registry::{NewToken, TokenError};
use crate::store::Role;

/// Which tokens to list.
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

#[utoipa::path(get, path = "/tokens", operation_id = "list_tokens",
    params(ListParams), security(("token" = [])), responses(
    (status = 200, description = "The tokens, without their texts", body = PageOf<TokenObject>),
    (status = "4XX", description = "A problem", body = ProblemDocument, content_type = "application/problem+json"),
))]
pub(super) async fn list(
    State(control): State<Control>,
    caller: Caller,
    Params(params): Params<ListParams>,
) -> Result<Json<PageOf<TokenObject>>, ApiError> {
    caller.must_read()?;
    let tenancy = caller.tenancy(params.organization_id.as_deref().map(organization).transpose()?)?;
    let page = page(&control.keyring, params.cursor.as_deref(), params.limit)?;
    let listed = control.store.tokens(&tenancy, &page).await?;
    Ok(Json(PageOf {
        data: listed.rows.iter().map(TokenObject::from).collect(),
        next_cursor: cursor(&control.keyring, listed.next),
    }))
}

#[utoipa::path(post, path = "/tokens", operation_id = "make_token",
    request_body = TokenInput, security(("token" = [])), responses(
    (status = 201, description = "Made; the text is shown this once", body = MadeTokenObject),
    (status = "4XX", description = "A problem", body = ProblemDocument, content_type = "application/problem+json"),
))]
pub(super) async fn make(
    State(control): State<Control>,
    caller: Caller,
    Body(input): Body<TokenInput>,
) -> Result<Response, ApiError> {
    caller.must_administer()?;
    let roles = "role is platform_operator, org_admin, auditor or dispatcher";
    let role = Role::parse(&input.role).ok_or_else(|| ApiError::field("role", roles))?;
    if matches!(role, Role::PlatformOperator | Role::Dispatcher) {
        caller.must_operate()?;
    }
    let named = named_organization(input.organization_id.as_ref())?;
    let new = NewToken {
        name: input.name,
        role,
        organization: caller.organization(named)?,
        expires_at: moment(input.expires_at.as_deref())?,
    };
    let made = control.tokens.make(&caller.asker(), new).await.map_err(told)?;
    (control.on_committed)(&made.changed);
    let object = |token| MadeTokenObject {
        made: TokenObject::from(&made.row),
        token,
    };
    let mut response = (StatusCode::CREATED, Json(object(Some(made.text.clone())))).into_response();
    // An answer that is kept to be repeated must not hold the text.
    let without_text = serde_json::to_vec(&object(None)).unwrap_or_default(); // texts always serialize
    response.extensions_mut().insert(Kept(without_text));
    Ok(response)
}

#[utoipa::path(delete, path = "/tokens/{id}", operation_id = "remove_token",
    params(("id" = String, Path, description = "The token's id")),
    security(("token" = [])), responses(
    (status = 204, description = "Removed; it is refused from now on"),
    (status = 409, description = "The last operator token without an end stays", body = ProblemDocument, content_type = "application/problem+json"),
    (status = "4XX", description = "A problem", body = ProblemDocument, content_type = "application/problem+json"),
))]
pub(super) async fn remove(
    State(control): State<Control>,
    caller: Caller,
    Named(id): Named,
) -> Result<StatusCode, ApiError> {
    caller.must_administer()?;
    let tenancy = caller.tenancy(None)?;
    let row = control
        .tokens
        .named(&tenancy, &id)
        .await
        .map_err(told)?
        .ok_or(ApiProblem::NotFound)?;
    if matches!(row.role, Role::PlatformOperator | Role::Dispatcher) {
        caller.must_operate()?;
    }
    let changed = control.tokens.remove(&caller.asker(), &row).await.map_err(told)?;
    (control.on_committed)(&changed);
    Ok(StatusCode::NO_CONTENT)
}

fn told(error: TokenError) -> ApiError {
    match error {
        TokenError::Store(error) => error.into(),
        TokenError::Name => ApiError::field("name", error),
        TokenError::Unbound | TokenError::Bound => ApiError::field("organization_id", error),
        TokenError::Past | TokenError::OnlyOperatorEnds => ApiError::field("expires_at", error),
        TokenError::LastOperator => ApiProblem::LastOperatorToken.into(),
        TokenError::Gone => ApiProblem::NotFound.into(),
        TokenError::TooMany => ApiError::from(ApiProblem::RateLimited),
        TokenError::Forged | TokenError::Internal => ApiProblem::Internal.into(),
    }
}
