//! Which operation a route is, and how it gets into the audit log although its handler does not record it: refused
//! attempts always, and reads that no use case records.
//!
//! **A new route needs one row here** (a test holds the table against the OpenAPI document), and nothing else: whatever
//! answers 403 or 404 to somebody who showed a valid token leaves an entry of its action with outcome `refused`, in the
//! caller's own chain (an operator's: the platform's). A handler that knows more of what is tried says so with
//! [`Attempt::about`] *before* it refuses; one that reads a tenant's things for an operator says whose with
//! [`Attempt::within`].

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::{MatchedPath, Request, State};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::Control;
use super::error::ApiError;
use crate::domain::audit::{Action, AuditEntry, Outcome};
use crate::domain::id::{OrganizationId, ScopeId};
use crate::domain::key::SecretKey;
use crate::domain::scope::Scope;
use crate::domain::time::Timestamp;
use crate::secrets::manage::Asker;

/// Who records that an operation succeeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Success {
    /// What does it: in the same transaction, or before anything is answered.
    ByUseCase,
    /// This file, before the answer leaves.
    Here,
}

/// Every route: method, path below `/api/v1`, what it is, who records its success.
const OPERATIONS: &[(&str, &str, Action, Success)] = &[
    ("GET", "/extensions/secrets", Action::SecretList, Success::ByUseCase),
    ("POST", "/extensions/secrets", Action::SecretCreate, Success::ByUseCase),
    (
        "GET",
        "/extensions/secrets/{key}",
        Action::SecretGet,
        Success::ByUseCase,
    ),
    (
        "DELETE",
        "/extensions/secrets/{key}",
        Action::SecretDelete,
        Success::ByUseCase,
    ),
    (
        "POST",
        "/extensions/secrets/{key}/rotate",
        Action::SecretRotate,
        Success::ByUseCase,
    ),
    ("PUT", "/extensions/{id}", Action::ExtensionPut, Success::ByUseCase),
    ("GET", "/extensions/{id}", Action::ExtensionGet, Success::Here),
    (
        "POST",
        "/marketplace/installations",
        Action::InstallationCreate,
        Success::ByUseCase,
    ),
    (
        "GET",
        "/marketplace/installations",
        Action::InstallationList,
        Success::Here,
    ),
    (
        "GET",
        "/marketplace/installations/{id}",
        Action::InstallationGet,
        Success::Here,
    ),
    (
        "PATCH",
        "/marketplace/installations/{id}",
        Action::InstallationUpdate,
        Success::ByUseCase,
    ),
    (
        "POST",
        "/extensions/secrets/{key}/link",
        Action::SecretLink,
        Success::ByUseCase,
    ),
    (
        "POST",
        "/extensions/secrets/{key}/refresh",
        Action::SecretRefresh,
        Success::ByUseCase,
    ),
    (
        "POST",
        "/extensions/secrets/{key}/rollback",
        Action::SecretRollback,
        Success::ByUseCase,
    ),
    (
        "GET",
        "/extensions/secrets/explain",
        Action::SecretExplain,
        Success::ByUseCase,
    ),
    (
        "GET",
        "/extensions/secrets/report",
        Action::ReportExport,
        Success::ByUseCase,
    ),
    ("GET", "/extensions", Action::ExtensionList, Success::Here),
    (
        "GET",
        "/extensions/{id}/secrets",
        Action::SecretList,
        Success::ByUseCase,
    ),
    (
        "POST",
        "/extensions/{id}/secrets",
        Action::SecretCreate,
        Success::ByUseCase,
    ),
    (
        "GET",
        "/extensions/{id}/secrets/{key}",
        Action::SecretGet,
        Success::ByUseCase,
    ),
    (
        "POST",
        "/extensions/{id}/secrets/{key}",
        Action::SecretCreate,
        Success::ByUseCase,
    ),
    (
        "DELETE",
        "/extensions/{id}/secrets/{key}",
        Action::SecretDelete,
        Success::ByUseCase,
    ),
    (
        "DELETE",
        "/marketplace/installations/{id}",
        Action::InstallationDelete,
        Success::ByUseCase,
    ),
    (
        "POST",
        "/marketplace/installations/{id}/confirm-destination",
        Action::DestinationConfirm,
        Success::ByUseCase,
    ),
    (
        "POST",
        "/marketplace/installations/{id}/accept-keys",
        Action::KeyAccept,
        Success::ByUseCase,
    ),
    ("GET", "/tokens", Action::TokenList, Success::Here),
    ("POST", "/tokens", Action::TokenCreate, Success::ByUseCase),
    ("DELETE", "/tokens/{id}", Action::TokenDelete, Success::ByUseCase),
    ("GET", "/keys", Action::KeyList, Success::Here),
    ("POST", "/keys/{id}/promote", Action::KeyPromote, Success::ByUseCase),
    ("DELETE", "/keys/{id}", Action::KeyRetire, Success::ByUseCase),
    ("GET", "/organizations/{id}/policy", Action::PolicyGet, Success::Here),
    (
        "PUT",
        "/organizations/{id}/policy",
        Action::PolicyPut,
        Success::ByUseCase,
    ),
    (
        "GET",
        "/organizations/{id}/providers",
        Action::ProviderList,
        Success::Here,
    ),
    (
        "GET",
        "/organizations/{id}/providers/{name}",
        Action::ProviderGet,
        Success::Here,
    ),
    (
        "PUT",
        "/organizations/{id}/providers/{name}",
        Action::ProviderPut,
        Success::ByUseCase,
    ),
    (
        "DELETE",
        "/organizations/{id}/providers/{name}",
        Action::ProviderDelete,
        Success::ByUseCase,
    ),
    (
        "POST",
        "/organizations/{id}/providers/{name}/check",
        Action::ProviderCheck,
        Success::ByUseCase,
    ),
    ("GET", "/secrets/alerts", Action::AlertList, Success::Here),
    (
        "POST",
        "/secrets/alerts/{id}/acknowledge",
        Action::AlertAcknowledge,
        Success::ByUseCase,
    ),
    ("GET", "/secrets/health", Action::SecretHealth, Success::Here),
    ("GET", "/secrets/audit", Action::AuditExport, Success::ByUseCase),
    ("GET", "/secrets/audit/verify", Action::AuditVerify, Success::ByUseCase),
];

/// What is being tried, as far as it is known. Clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Attempt(Arc<Mutex<Tried>>);

#[derive(Debug, Default)]
struct Tried {
    by: Option<Asker>,
    organization: Option<OrganizationId>,
    scope: Option<Scope>,
    subject: Option<ScopeId>,
    key: Option<SecretKey>,
}

impl Attempt {
    /// Whose attempt it is, and of which organization its token is.
    pub(super) fn by(&self, asker: &Asker, organization: Option<&OrganizationId>) {
        let mut tried = self.lock();
        tried.by = Some(asker.clone());
        tried.organization = organization.cloned();
    }

    /// Whose things it is about: an operator's attempt then stands in that organization's chain. For what the caller
    /// may see only.
    pub(super) fn within(&self, organization: Option<&OrganizationId>) {
        if let Some(organization) = organization {
            self.lock().organization = Some(organization.clone());
        }
    }

    /// What it is about.
    pub(super) fn about(&self, scope: Option<Scope>, subject: Option<ScopeId>, key: Option<SecretKey>) {
        let mut tried = self.lock();
        (tried.scope, tried.subject, tried.key) = (scope, subject, key);
    }

    /// What the log says of it; nothing where nobody in particular tried.
    fn entry(&self, at: Timestamp, action: Action, outcome: Outcome) -> Option<AuditEntry> {
        let tried = self.lock();
        let by = tried.by.as_ref()?;
        Some(AuditEntry {
            outcome,
            scope: tried.scope,
            subject: tried.subject.clone(),
            key: tried.key.clone(),
            ..by.entry(tried.organization.clone(), at, action)
        })
    }

    fn lock(&self) -> MutexGuard<'_, Tried> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner) // fields that stand for themselves
    }
}

/// Records what a handler does not: see the file's head. What cannot be recorded is not answered.
pub(super) async fn record(State(control): State<Control>, mut request: Request, next: Next) -> Response {
    let path = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    let Some((action, success)) = path.and_then(|path| operation(request.method(), path)) else {
        return next.run(request).await;
    };
    let attempt = Attempt::default();
    request.extensions_mut().insert(attempt.clone());
    let response = next.run(request).await;
    let outcome = match response.status() {
        StatusCode::FORBIDDEN | StatusCode::NOT_FOUND => Outcome::Refused,
        status if status.is_success() && success == Success::Here => Outcome::Ok,
        _ => return response,
    };
    let Some(entry) = attempt.entry(control.clock.now(), action, outcome) else {
        return response;
    };
    match control.store.record(vec![entry]).await {
        Ok(()) => response,
        Err(error) => ApiError::from(error).into_response(),
    }
}

fn operation(method: &Method, path: &str) -> Option<(Action, Success)> {
    let method = if method == Method::HEAD { &Method::GET } else { method };
    let path = path.strip_prefix("/api/v1")?;
    let mut rows = OPERATIONS.iter();
    rows.find(|(of, at, ..)| *of == method.as_str() && *at == path)
        .map(|(.., action, success)| (*action, *success))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_route_of_the_document_is_one_operation_and_no_operation_is_without_a_route() {
        let document: serde_json::Value = serde_json::from_str(&super::super::openapi()).unwrap();
        let routes: BTreeSet<(String, String)> = document["paths"]
            .as_object()
            .unwrap()
            .iter()
            .flat_map(|(path, methods)| {
                let methods = methods.as_object().unwrap().keys();
                let path = path.strip_prefix("/api/v1").unwrap();
                methods.map(move |method| (method.to_uppercase(), path.to_owned()))
            })
            .collect();
        let rows: Vec<(String, String)> = OPERATIONS
            .iter()
            .map(|(method, path, ..)| ((*method).to_owned(), (*path).to_owned()))
            .collect();
        assert_eq!(rows.iter().cloned().collect::<BTreeSet<_>>(), routes);
        assert_eq!(rows.len(), routes.len(), "each once");
    }
}
