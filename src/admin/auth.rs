//! Who calls the control plane, what the role allows, and whose rows are seen. Deny by default.

use std::net::IpAddr;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use axum::extract::{FromRequestParts, Request, State};
use axum::http::HeaderMap;
use axum::http::header::{AUTHORIZATION, HOST, ORIGIN};
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use secrecy::SecretString;

use super::Control;
use super::error::{ApiError, ApiProblem};
use super::operations::Attempt;
use crate::audit::Stranger;
use crate::domain::audit::{Actor, Asker, Source};
use crate::domain::id::OrganizationId;
use crate::registry::TokenError;
use crate::store::{Role, Tenancy};

/// How long to wait where all peers together showed too many unknown tokens.
const WAIT_SECONDS: u64 = 30;

/// An authenticated caller.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    pub(super) actor: Actor,
    /// What the log will say of this call where the handler does not record it itself: see `operations`.
    pub(super) attempt: Attempt,
    role: Role,
    organization: Option<OrganizationId>,
    /// By which way it says to come: a label for the audit log, not a right.
    pub(super) source: Source,
}

impl Caller {
    /// How the audit log calls the caller.
    pub(super) fn asker(&self) -> Asker {
        Asker {
            actor: self.actor.clone(),
            source: self.source,
        }
    }

    /// Tells the log who tries.
    pub(super) fn attempt_begins(&self) {
        self.attempt.by(&self.asker(), self.organization.as_ref());
    }

    /// The same caller as what an SDK's secret manager calls.
    pub(super) fn by_sdk(self) -> Self {
        let caller = Self {
            source: Source::Sdk,
            ..self
        };
        caller.attempt_begins();
        caller
    }

    /// Only the platform's operators.
    pub(super) fn must_operate(&self) -> Result<(), ApiError> {
        match self.role {
            Role::PlatformOperator => Ok(()),
            Role::OrgAdmin | Role::Auditor | Role::Dispatcher => Err(ApiProblem::Forbidden.into()),
        }
    }

    /// Whoever may change an organization's things.
    pub(super) fn must_administer(&self) -> Result<(), ApiError> {
        match self.role {
            Role::PlatformOperator | Role::OrgAdmin => Ok(()),
            Role::Auditor | Role::Dispatcher => Err(ApiProblem::Forbidden.into()),
        }
    }

    /// Whoever may read an organization's things.
    pub(super) fn must_read(&self) -> Result<(), ApiError> {
        match self.role {
            Role::PlatformOperator | Role::OrgAdmin | Role::Auditor => Ok(()),
            Role::Dispatcher => Err(ApiProblem::Forbidden.into()),
        }
    }

    /// The organization that a call is about: the token's, or the one it names. A foreign one looks absent.
    pub(super) fn organization(&self, named: Option<OrganizationId>) -> Result<Option<OrganizationId>, ApiError> {
        match (&self.organization, named) {
            (Some(own), Some(named)) if *own != named => Err(ApiProblem::NotFound.into()),
            (Some(own), _) => Ok(Some(own.clone())),
            (None, named) if self.role == Role::PlatformOperator => {
                self.attempt.within(named.as_ref());
                Ok(named)
            }
            (None, _) => Err(ApiProblem::Forbidden.into()), // an admin of nothing
        }
    }

    /// Whose rows a call sees: an operator that names no organization sees all.
    pub(super) fn tenancy(&self, named: Option<OrganizationId>) -> Result<Tenancy, ApiError> {
        Ok(self
            .organization(named)?
            .map_or(Tenancy::Platform, Tenancy::Organization))
    }
}

/// The caller that the gate let in.
impl FromRequestParts<Control> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &Control) -> Result<Self, ApiError> {
        let caller = parts.extensions.get::<Self>().cloned();
        caller.ok_or_else(|| ApiProblem::Unauthenticated.into())
    }
}

/// Finds out who calls. A peer that showed too many wrong tokens waits, unless its token was seen to be right before.
pub(super) async fn authenticate(
    control: &Control,
    headers: &HeaderMap,
    peer: IpAddr,
    attempt: Attempt,
) -> Result<Caller, ApiError> {
    let turned_away = |reason| {
        control.recorder.turned_away(reason);
        ApiError::from(ApiProblem::Unauthenticated)
    };
    let token = bearer(headers).ok_or_else(|| turned_away(Stranger::NoToken))?;
    let hash = control.keyring.token_hash(&token);
    let now = control.clock.now();
    let source = source(headers);
    let is_bootstrap = control
        .bootstrap_token_hash
        .is_some_and(|expected| verify_slices_are_equal(&expected, &hash).is_ok());
    if is_bootstrap && !control.store.has_operator_token().await? {
        let actor = Actor {
            id: "bootstrap".into(),
            name: "bootstrap".into(),
        };
        return Ok(Caller {
            actor,
            attempt,
            role: Role::PlatformOperator,
            organization: None,
            source,
        });
    }
    let known = match control.tokens.known(&hash) {
        Some(known) => Some(known),
        None => {
            if let Some(seconds) = control.wrong_tokens.0.wait(peer, now) {
                control.recorder.turned_away(Stranger::UnknownToken);
                return Err(ApiError::later(seconds));
            }
            control.tokens.find(&hash).await.map_err(|error| match error {
                TokenError::Store(error) => error.into(),
                TokenError::TooMany => ApiError::later(WAIT_SECONDS),
                TokenError::Forged => {
                    control.wrong_tokens.0.count(peer, now);
                    turned_away(Stranger::ForgedToken)
                }
                _ => ApiError::from(ApiProblem::Internal),
            })?
        }
    };
    let reason = match &known {
        None => Some(Stranger::UnknownToken),
        Some(known) => (!known.is_valid(now)).then_some(Stranger::ExpiredToken),
    };
    let (Some(known), None) = (known, reason) else {
        control.wrong_tokens.0.count(peer, now);
        return Err(turned_away(reason.unwrap_or(Stranger::UnknownToken)));
    };
    known.used(now);
    Ok(Caller {
        actor: Actor {
            id: known.row.id.clone(),
            name: known.row.name.clone(),
        },
        attempt,
        role: known.row.role,
        organization: known.row.organization.clone(),
        source,
    })
}

/// The token of the one `Authorization: Bearer` header (RFC 6750, section 2.1).
fn bearer(headers: &HeaderMap) -> Option<SecretString> {
    let mut all = headers.get_all(AUTHORIZATION).iter();
    let only = all.next()?;
    if all.next().is_some() {
        return None;
    }
    let (scheme, token) = only.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| SecretString::from(token))
}

/// The command line says that it is one (`X-Kiket-Source: cli`); whatever else calls is a client of the API.
fn source(headers: &HeaderMap) -> Source {
    let says_cli = headers
        .get("x-kiket-source")
        .is_some_and(|value| value == Source::Cli.name());
    if says_cli { Source::Cli } else { Source::Api }
}

/// A page in a browser on this host must not reach this plane: neither directly (it says `Origin`) nor by a name that
/// was made to point here (`Host`).
pub(super) async fn refuse_browsers(State(control): State<Control>, request: Request, next: Next) -> Response {
    let headers = request.headers();
    let host = headers
        .get(HOST)
        .and_then(|host| host.to_str().ok())
        .unwrap_or_default();
    // Over TLS a name that was made to point here fails at its certificate.
    if headers.contains_key(ORIGIN) || !(control.is_tls || is_this_host(host)) {
        control.recorder.turned_away(Stranger::Browser);
        let detail = "requests from web pages, or to another name than this host's, are refused";
        return ApiError::with_detail(ApiProblem::Forbidden, detail).into_response();
    }
    next.run(request).await
}

fn is_this_host(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let literal = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || literal.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::is_this_host;

    #[test]
    fn only_names_of_this_host_are_answered() {
        for own in [
            "localhost",
            "localhost:8081",
            "127.0.0.1:8081",
            "127.0.0.1",
            "[::1]:8081",
            "[::1]",
        ] {
            assert!(is_this_host(own), "{own}");
        }
        for foreign in [
            "",
            "evil.example",
            "evil.example:8081",
            "10.0.0.1:8081",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
        ] {
            assert!(!is_this_host(foreign), "{foreign}");
        }
    }
}
