//! `/extensions`: list them, register a manifest, read what is registered.

use axum::Json;
use axum::extract::{Request, State};
use axum::http::header::ETAG;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use utoipa::IntoParams;

use super::Control;
use super::auth::Caller;
use super::error::{ApiError, ApiProblem};
use super::page::{Params, cursor, page};
use super::wire::{ExtensionObject, Named, PageOf, ProblemDocument, body, if_match, media_type};
use crate::domain::id::{ExtensionId, ScopeId};
use crate::registry::ExtensionRecord;

/// Which extensions to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListParams {
    /// `next_cursor` of the page before.
    cursor: Option<String>,
    /// Rows of a page, 1 to 1000.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
}

#[utoipa::path(get, path = "/extensions", operation_id = "list_extensions",
    params(ListParams), security(("token" = [])), responses(
    (status = 200, description = "The registered extensions", body = PageOf<ExtensionObject>),
    (status = "4XX", description = "A problem", body = ProblemDocument, content_type = "application/problem+json"),
))]
pub(super) async fn list(
    State(control): State<Control>,
    caller: Caller,
    Params(params): Params<ListParams>,
) -> Result<Json<PageOf<ExtensionObject>>, ApiError> {
    caller.must_read()?;
    let page = page(&control.keyring, params.cursor.as_deref(), params.limit)?;
    let listed = control.registry.extensions(&page).await?;
    Ok(Json(PageOf {
        data: listed.rows.iter().map(ExtensionObject::from).collect(),
        next_cursor: cursor(&control.keyring, listed.next),
    }))
}

#[utoipa::path(put, path = "/extensions/{id}", operation_id = "put_extension",
    params(("id" = String, Path, description = "The extension's reverse-DNS id")),
    request_body(description = "The manifest", content((String = "application/json"), (String = "application/yaml"))),
    security(("token" = [])), responses(
    (status = 200, description = "Replaced", body = ExtensionObject),
    (status = 201, description = "Registered", body = ExtensionObject),
    (status = "4XX", description = "A problem", body = ProblemDocument, content_type = "application/problem+json"),
))]
pub(super) async fn put(
    State(control): State<Control>,
    caller: Caller,
    Named(id): Named,
    headers: HeaderMap,
    request: Request,
) -> Result<Response, ApiError> {
    caller.attempt.about(None, ScopeId::parse(&id).ok(), None);
    caller.must_operate()?;
    let types = [
        "application/json",
        "application/yaml",
        "application/x-yaml",
        "text/yaml",
    ];
    if !types.contains(&media_type(&headers).as_str()) {
        let detail = "Content-Type is application/json or application/yaml";
        return Err(ApiError::with_detail(ApiProblem::MediaType, detail));
    }
    let expected = if_match(&headers)?;
    let id = extension_id(&id)?;
    let bytes = body(request, &control).await?;
    let document = std::str::from_utf8(&bytes).map_err(|_| ApiProblem::Malformed)?;
    let stored = control
        .registry
        .put_extension(&caller.actor, caller.source, &id, document, expected)
        .await;
    let stored = ApiError::written(stored, expected)?;
    (control.on_committed)(&stored.changed);
    let status = if stored.created {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    Ok(object(status, &stored.record))
}

#[utoipa::path(get, path = "/extensions/{id}", operation_id = "get_extension",
    params(("id" = String, Path, description = "The extension's reverse-DNS id")),
    security(("token" = [])), responses(
    (status = 200, description = "What is registered", body = ExtensionObject),
    (status = "4XX", description = "A problem", body = ProblemDocument, content_type = "application/problem+json"),
))]
pub(super) async fn get(
    State(control): State<Control>,
    caller: Caller,
    Named(id): Named,
) -> Result<Response, ApiError> {
    caller.attempt.about(None, ScopeId::parse(&id).ok(), None);
    caller.must_read()?;
    let record = control
        .registry
        .extension(&extension_id(&id)?)
        .await?
        .ok_or(ApiProblem::NotFound)?;
    Ok(object(StatusCode::OK, &record))
}

fn extension_id(text: &str) -> Result<ExtensionId, ApiError> {
    ExtensionId::parse(text).map_err(|error| ApiError::field("id", error))
}

fn object(status: StatusCode, record: &ExtensionRecord) -> Response {
    (
        status,
        [(ETAG, format!("\"{}\"", record.row.version))],
        Json(ExtensionObject::from(record)),
    )
        .into_response()
}
