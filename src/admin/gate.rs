//! What every request of the control plane passes: who calls, how often, and once or again.

use std::net::{IpAddr, Ipv4Addr};

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::auth::authenticate;
use super::error::{ApiError, ApiProblem};
use super::operations::Attempt;
use super::{Control, idempotency};
use crate::server::Peer;

/// Lets a request in, or answers it.
pub(super) async fn pass(State(control): State<Control>, mut request: Request, next: Next) -> Response {
    let peer = request
        .extensions()
        .get::<Peer>()
        .map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.0.ip());
    let attempt = request.extensions().get::<Attempt>().cloned().unwrap_or_default();
    let caller = match authenticate(&control, request.headers(), peer, attempt).await {
        Ok(caller) => caller,
        Err(refused) => return refused.into_response(),
    };
    caller.attempt_begins();
    // No id and no name has it, and not every store can be asked for it.
    let has_nul = |part: &str| part.contains("%00");
    if has_nul(request.uri().path()) || request.uri().query().is_some_and(has_nul) {
        return ApiError::from(ApiProblem::Malformed).into_response();
    }
    if let Err(seconds) = control.rate_limit.0.take(caller.actor.id.clone(), control.clock.now()) {
        return ApiError::later(seconds).into_response();
    }
    request.extensions_mut().insert(caller.clone());
    idempotency::once(&control, &caller, request, next).await
}
