//! Who calls the control plane, what the role allows, and whose rows are seen. Deny by default.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use axum::extract::{FromRequestParts, Request, State};
use axum::http::header::{AUTHORIZATION, HOST, ORIGIN};
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use secrecy::SecretString;

use super::Control;
use super::error::{ApiError, ApiProblem};
use super::operations::Attempt;
use crate::audit::Stranger;
use crate::domain::audit::{Actor, Source};
use crate::domain::id::OrganizationId;
use crate::registry::token_is_authentic;
use crate::secrets::manage::Asker;
use crate::store::{Role, Tenancy};

/// An authenticated caller.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    pub(super) actor: Actor,
    /// What the log will say of this call where the handler does not record it itself: see `operations`.
    pub(super) attempt: Attempt,
    role: Role,
    organization: Option<OrganizationId>,
}

impl Caller {
    /// How the audit log calls the caller.
    pub(super) fn asker(&self) -> Asker {
        Asker {
            actor: self.actor.clone(),
            source: Source::Api,
        }
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

impl FromRequestParts<Control> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, control: &Control) -> Result<Self, ApiError> {
        let caller = identify(parts, control).await?;
        caller.attempt.by(&caller.asker(), caller.organization.as_ref());
        Ok(caller)
    }
}

async fn identify(parts: &Parts, control: &Control) -> Result<Caller, ApiError> {
    let turned_away = |reason| {
        control.recorder.turned_away(reason);
        ApiError::from(ApiProblem::Unauthenticated)
    };
    let header = parts.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let (scheme, token) = header
        .and_then(|value| value.split_once(' '))
        .ok_or_else(|| turned_away(Stranger::NoToken))?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(turned_away(Stranger::NoToken));
    }
    let attempt = parts.extensions.get::<Attempt>().cloned().unwrap_or_default();
    let hash = control.keyring.token_hash(&SecretString::from(token));
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
        });
    }
    let row = control.store.token(&hash).await?;
    let row = row.ok_or_else(|| turned_away(Stranger::UnknownToken))?;
    if !token_is_authentic(&control.keyring, &row) {
        return Err(turned_away(Stranger::ForgedToken));
    }
    if row.expires_at.is_some_and(|end| control.clock.now() >= end) {
        return Err(turned_away(Stranger::ExpiredToken));
    }
    Ok(Caller {
        actor: Actor {
            id: row.id,
            name: row.name,
        },
        attempt,
        role: row.role,
        organization: row.organization,
    })
}

/// A page in a browser on this host must not reach this plane: neither directly (it says `Origin`) nor by a name that
/// was made to point here (`Host`).
pub(super) async fn refuse_browsers(State(control): State<Control>, request: Request, next: Next) -> Response {
    let headers = request.headers();
    let host = headers
        .get(HOST)
        .and_then(|host| host.to_str().ok())
        .unwrap_or_default();
    if headers.contains_key(ORIGIN) || !is_this_host(host) {
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
