//! What every route is for: who is let in, what another tenant sees, and what is sent.

use kiket_sidecar::store::Role;
use serde_json::{Value, json};

use super::super::support::problem::CANARY;

/// Who is let in: the platform's operator, then the organization's admin and auditor, then a dispatcher.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Who {
    Operate,
    Administer,
    Read,
}

/// How another tenant's token is answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Foreign {
    /// As if it was not there.
    Absent,
    /// Its own list, without anything of this tenant.
    Empty,
    /// Everybody may see it, or nobody but the operator: tenants make no difference.
    Same,
}

/// A route, who is let in, what another tenant sees, and the body that is sent. `{scope}` in path and body is any scope,
/// `{id}` what it is bound to.
pub struct Row {
    pub method: &'static str,
    pub path: &'static str,
    pub query: &'static str,
    pub who: Who,
    pub foreign: Foreign,
    pub body: fn() -> Value,
}

const fn row(
    method: &'static str,
    path: &'static str,
    query: &'static str,
    who: Who,
    foreign: Foreign,
    body: fn() -> Value,
) -> Row {
    Row {
        method,
        path,
        query,
        who,
        foreign,
        body,
    }
}

fn none() -> Value {
    Value::Null
}

fn placed() -> Value {
    json!({"scope": "{scope}", "id": "{slot}", "organization_id": "org", "value": CANARY, "key": "KEY"})
}

fn rotated() -> Value {
    json!({"scope": "{scope}", "id": "{slot}", "organization_id": "org", "value": CANARY})
}

fn linked() -> Value {
    json!({"scope": "{scope}", "id": "{slot}", "organization_id": "org", "external_secret_name": "a/b"})
}

fn at_place() -> Value {
    json!({"scope": "{scope}", "id": "{slot}", "organization_id": "org"})
}

fn manifest() -> Value {
    json!({"id": "com.example.a", "delivery": {"type": "http", "callback": {"url": "https://example.com"}}})
}

fn install() -> Value {
    json!({"extension_id": "com.example.a", "organization_id": "org", "project_id": "proj"})
}

fn patch() -> Value {
    json!({"state": "disabled"})
}

fn token() -> Value {
    json!({"name": "n", "role": "auditor", "organization_id": "org"})
}

fn policy() -> Value {
    json!({"rotation_max_age_days": 30})
}

/// Its credential has no value, so that a check asks nobody.
pub fn provider() -> Value {
    let auth = json!({"method": "token", "credential_key": "NO_SUCH_KEY"});
    json!({"kind": "vault", "address": "https://vault.example.com", "auth": auth})
}

fn sdk() -> Value {
    json!({"key": "KEY", "value": CANARY})
}

const PLACE: &str = "?scope={scope}&id={slot}&organization_id=org";

pub const TABLE: &[Row] = {
    use Foreign::{Absent, Empty, Same};
    use Who::{Administer, Operate, Read};
    &[
        row("GET", "/extensions", "", Read, Same, none),
        row("GET", "/extensions/{id}", "", Read, Same, none),
        row("PUT", "/extensions/{id}", "", Operate, Same, manifest),
        row("GET", "/extensions/secrets", "", Read, Empty, none),
        row("GET", "/extensions/secrets", "?organization_id=org", Read, Absent, none),
        row("POST", "/extensions/secrets", "", Administer, Absent, placed),
        row("GET", "/extensions/secrets/{key}", PLACE, Read, Absent, none),
        row(
            "POST",
            "/extensions/secrets/{key}/rotate",
            "",
            Administer,
            Absent,
            rotated,
        ),
        row("POST", "/extensions/secrets/{key}/link", "", Administer, Absent, linked),
        row(
            "POST",
            "/extensions/secrets/{key}/refresh",
            "",
            Administer,
            Absent,
            at_place,
        ),
        row(
            "POST",
            "/extensions/secrets/{key}/rollback",
            "",
            Administer,
            Absent,
            at_place,
        ),
        row("DELETE", "/extensions/secrets/{key}", PLACE, Administer, Absent, none),
        row(
            "GET",
            "/extensions/secrets/explain",
            "?installation=ins",
            Read,
            Absent,
            none,
        ),
        row("GET", "/extensions/secrets/report", "", Read, Empty, none),
        row(
            "GET",
            "/extensions/secrets/report",
            "?organization_id=org",
            Read,
            Absent,
            none,
        ),
        row(
            "GET",
            "/extensions/{id}/secrets",
            "?organization_id=org",
            Read,
            Absent,
            none,
        ),
        row(
            "POST",
            "/extensions/{id}/secrets",
            "?organization_id=org",
            Administer,
            Absent,
            sdk,
        ),
        row(
            "POST",
            "/extensions/{id}/secrets/{key}",
            "?organization_id=org",
            Administer,
            Absent,
            sdk,
        ),
        row(
            "GET",
            "/extensions/{id}/secrets/{key}",
            "?organization_id=org",
            Read,
            Absent,
            none,
        ),
        row(
            "DELETE",
            "/extensions/{id}/secrets/{key}",
            "?organization_id=org",
            Administer,
            Absent,
            none,
        ),
        row("GET", "/marketplace/installations", "", Read, Empty, none),
        row(
            "GET",
            "/marketplace/installations",
            "?organization_id=org",
            Read,
            Absent,
            none,
        ),
        row("POST", "/marketplace/installations", "", Administer, Absent, install),
        row("GET", "/marketplace/installations/{id}", "", Read, Absent, none),
        row(
            "PATCH",
            "/marketplace/installations/{id}",
            "",
            Administer,
            Absent,
            patch,
        ),
        row(
            "DELETE",
            "/marketplace/installations/{id}",
            "",
            Administer,
            Absent,
            none,
        ),
        row(
            "POST",
            "/marketplace/installations/{id}/confirm-destination",
            "",
            Administer,
            Absent,
            none,
        ),
        row(
            "POST",
            "/marketplace/installations/{id}/accept-keys",
            "",
            Administer,
            Absent,
            none,
        ),
        row("GET", "/tokens", "", Read, Empty, none),
        row("GET", "/tokens", "?organization_id=org", Read, Absent, none),
        row("POST", "/tokens", "", Administer, Absent, token),
        row("DELETE", "/tokens/{id}", "", Administer, Absent, none),
        row("GET", "/secrets/audit", "", Read, Empty, none),
        row("GET", "/secrets/audit", "?organization_id=org", Read, Absent, none),
        row(
            "GET",
            "/secrets/audit/verify",
            "?organization_id=org",
            Read,
            Absent,
            none,
        ),
        row("GET", "/secrets/alerts", "", Read, Empty, none),
        row("GET", "/secrets/alerts", "?organization_id=org", Read, Absent, none),
        row("POST", "/secrets/alerts/{id}/acknowledge", "", Administer, Absent, none),
        row("GET", "/secrets/health", "?organization_id=org", Read, Absent, none),
        row("GET", "/organizations/{id}/policy", "", Read, Absent, none),
        row("PUT", "/organizations/{id}/policy", "", Administer, Absent, policy),
        row("GET", "/organizations/{id}/providers", "", Read, Absent, none),
        row(
            "PUT",
            "/organizations/{id}/providers/{name}",
            "",
            Administer,
            Absent,
            provider,
        ),
        row("GET", "/organizations/{id}/providers/{name}", "", Read, Absent, none),
        row(
            "POST",
            "/organizations/{id}/providers/{name}/check",
            "",
            Administer,
            Absent,
            none,
        ),
        row(
            "DELETE",
            "/organizations/{id}/providers/{name}",
            "",
            Administer,
            Absent,
            none,
        ),
        row("GET", "/keys", "", Operate, Same, none),
        row("POST", "/keys/{id}/promote", "", Operate, Same, none),
        row("DELETE", "/keys/{id}", "", Operate, Same, none),
    ]
};

/// Every scope with what it is bound to.
pub const SCOPES: [(&str, &str); 5] = [
    ("extension_installation", "ins"),
    ("product_installation", "prod"),
    ("extension", "com.example.a"),
    ("project", "proj"),
    ("organization", "org"),
];

impl Row {
    pub fn is_scoped(&self) -> bool {
        self.query.contains("{scope}") || (self.body)().to_string().contains("{scope}")
    }

    /// Path and body at a scope.
    pub fn at(&self, (scope, slot): (&str, &str)) -> (String, Value) {
        let id = match self.path {
            path if path.starts_with("/marketplace") => "ins",
            path if path.starts_with("/tokens") => "tok-victim",
            path if path.starts_with("/keys") => "kek-elsewhere",
            path if path.starts_with("/secrets/alerts") => "alert-victim",
            path if path.starts_with("/organizations") => "org",
            _ => "com.example.a",
        };
        let path = format!("{}{}", self.path, self.query);
        let path = path
            .replace("{id}", id)
            .replace("{key}", "KEY")
            .replace("{name}", "main");
        let fill = |text: &str| text.replace("{scope}", scope).replace("{slot}", slot);
        (
            fill(&path),
            serde_json::from_str(&fill(&(self.body)().to_string())).unwrap(),
        )
    }

    pub fn admits(&self, role: Role) -> bool {
        match role {
            Role::PlatformOperator => true,
            Role::OrgAdmin => self.who != Who::Operate,
            Role::Auditor => self.who == Who::Read,
            Role::Dispatcher => false,
        }
    }
}
