//! How a write that its client named is done once, however often it is sent (`Idempotency-Key`).
//!
//! The name is kept under a keyed hash of the token and the key, beside a keyed hash of the request, for a day. What
//! runs is not given up when its client hangs up: the client will ask again. An answer that says nothing happened for
//! good (5xx, 429) is not kept, and the name is free again.

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::header::{CONTENT_TYPE, ETAG, IF_MATCH};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::auth::Caller;
use super::error::{ApiError, ApiProblem};
use super::{BODY_BYTES_MAX, Control};
use crate::store::{Change, RequestRow, StoreError, Write};

/// How long an answer is kept.
const KEPT_MILLIS: u64 = 24 * 60 * 60 * 1_000;

/// How long a name is taken by a request whose answer never came: longer than an exchange can last.
const UNDER_WAY_MILLIS: u64 = 2 * 60 * 1_000;

/// The longest name, in bytes.
const NAME_BYTES_MAX: usize = 255;

/// The most bytes of an answer that is kept.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;

const NAME: HeaderName = HeaderName::from_static("idempotency-key");
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// What is kept of an answer instead of its body.
#[derive(Clone)]
pub(super) struct Kept(pub(super) Vec<u8>);

/// The name that a client gave to a write.
fn name(headers: &HeaderMap) -> Result<Option<&[u8]>, ApiError> {
    let mut all = headers.get_all(NAME).iter();
    let Some(only) = all.next() else { return Ok(None) };
    let bytes = only.as_bytes();
    let fits = (1..=NAME_BYTES_MAX).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_graphic);
    if fits && all.next().is_none() {
        Ok(Some(bytes))
    } else {
        let detail = "Idempotency-Key is one value of 1 to 255 visible ASCII characters";
        Err(ApiError::field("Idempotency-Key", detail))
    }
}

/// Runs a request; a named write at most once.
pub(super) async fn once(control: &Control, caller: &Caller, request: Request, next: Next) -> Response {
    let is_write = !matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    match name(request.headers()) {
        Ok(Some(name)) if is_write => {
            let id = control
                .keyring
                .row_mac("idempotency-key", &[caller.actor.id.as_bytes(), name]);
            named(control, id, request, next)
                .await
                .unwrap_or_else(IntoResponse::into_response)
        }
        Ok(_) => next.run(request).await,
        Err(refused) => refused.into_response(),
    }
}

async fn named(control: &Control, id: [u8; 32], request: Request, next: Next) -> Result<Response, ApiError> {
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(body, BODY_BYTES_MAX)
        .await
        .map_err(|_| ApiProblem::TooLarge)?;
    let target = head.uri.path_and_query().map_or("", |target| target.as_str());
    let field = |name: HeaderName| head.headers.get(name).map_or(&b""[..], HeaderValue::as_bytes);
    let asked = control.keyring.row_mac(
        "idempotent-request",
        &[
            head.method.as_str().as_bytes(),
            target.as_bytes(),
            field(CONTENT_TYPE),
            field(IF_MATCH),
            &body,
        ],
    );
    let now = control.clock.now();
    let row = RequestRow {
        id,
        asked,
        answer: None,
        created_at: now,
        expires_at: now.plus_millis(UNDER_WAY_MILLIS),
    };
    match commit(control, Write::Request(row.clone())).await {
        Ok(()) => {}
        Err(StoreError::Conflict) => return repeated(control, &row).await,
        Err(error) => return Err(error.into()),
    }
    let request = Request::from_parts(head, Body::from(body));
    let control = control.clone();
    let running = tokio::spawn(async move {
        let response = next.run(request).await;
        keep(&control, row, response).await
    });
    running.await.map_err(|_| ApiProblem::Internal.into())
}

/// What a name that is taken is answered.
async fn repeated(control: &Control, row: &RequestRow) -> Result<Response, ApiError> {
    let kept = control.store.request(&row.id, control.clock.now()).await?;
    // It was freed between the two looks: the client's to try again.
    let kept = kept.ok_or(ApiProblem::RequestUnderWay)?;
    if kept.asked != row.asked {
        let detail = "this Idempotency-Key was used for another request";
        return Err(ApiError::field("Idempotency-Key", detail));
    }
    let (status, answer) = kept.answer.ok_or(ApiProblem::RequestUnderWay)?;
    let mut response = read(status, &answer).ok_or(ApiProblem::Internal)?;
    response
        .headers_mut()
        .insert(REPLAYED, HeaderValue::from_static("true"));
    Ok(response)
}

/// Keeps an answer, or frees the name where the answer is none that stays.
async fn keep(control: &Control, mut row: RequestRow, response: Response) -> Response {
    let (head, body) = response.into_parts();
    let Ok(body) = axum::body::to_bytes(body, ANSWER_BYTES_MAX).await else {
        let _ = commit(control, Write::RequestGone { id: row.id }).await; // else it ends by itself
        return ApiError::from(ApiProblem::Internal).into_response();
    };
    let status = head.status;
    let passes = status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS;
    let write = if passes {
        Write::RequestGone { id: row.id }
    } else {
        let shown = head.extensions.get::<Kept>().map_or(&body[..], |kept| &kept.0);
        row.answer = Some((status.as_u16(), written(&head.headers, shown)));
        row.expires_at = control.clock.now().plus_millis(KEPT_MILLIS);
        Write::RequestAnswered(row)
    };
    if commit(control, write).await.is_err() {
        tracing::warn!("the answer of a named request could not be kept");
    }
    Response::from_parts(head, Body::from(body))
}

async fn commit(control: &Control, write: Write) -> Result<(), StoreError> {
    let change = Change {
        writes: vec![write],
        entries: Vec::new(),
    };
    control.store.commit(change).await
}

/// Content type and version on a line each, then the body.
fn written(headers: &HeaderMap, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(body.len().saturating_add(64));
    for name in [CONTENT_TYPE, ETAG] {
        bytes.extend_from_slice(headers.get(name).map_or(b"", |value| value.as_bytes()));
        bytes.push(b'\n');
    }
    bytes.extend_from_slice(body);
    bytes
}

fn read(status: u16, answer: &[u8]) -> Option<Response> {
    let mut parts = answer.splitn(3, |byte| *byte == b'\n');
    let (content_type, version, body) = (parts.next()?, parts.next()?, parts.next()?);
    let mut response = Response::new(Body::from(Bytes::copy_from_slice(body)));
    *response.status_mut() = StatusCode::from_u16(status).ok()?;
    for (name, value) in [(CONTENT_TYPE, content_type), (ETAG, version)] {
        if !value.is_empty() {
            response
                .headers_mut()
                .insert(name, HeaderValue::from_bytes(value).ok()?);
        }
    }
    Some(response)
}
