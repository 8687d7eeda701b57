//! Who may do what: every role on every route, at every scope, on its own tenant and on another's, held against a table.
//!
//! The routes come from the OpenAPI document: one without a row here fails the test.

use std::collections::BTreeSet;

use kiket_sidecar::clock::Clock;
use kiket_sidecar::store::Role;
use serde_json::{Value, json};

use super::support::gated_store::Gated;
use super::support::http::Answer;
use super::support::instance::Instance;
use super::support::problem::CANARY;
use super::support::{api::Api, elsewhere};

/// Who is let in: the platform's operator, then the organization's admin and auditor, then a dispatcher.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Who {
    Operate,
    Administer,
    Read,
}

/// How another tenant's token is answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Foreign {
    /// As if it was not there.
    Absent,
    /// Its own list, without anything of this tenant.
    Empty,
    /// Everybody may see it, or nobody but the operator: tenants make no difference.
    Same,
}

/// A route, who is let in, what another tenant sees, and the body that is sent. `{scope}` in path and body is any scope,
/// `{id}` what it is bound to.
struct Row {
    method: &'static str,
    path: &'static str,
    query: &'static str,
    who: Who,
    foreign: Foreign,
    body: fn() -> Value,
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
fn provider() -> Value {
    let auth = json!({"method": "token", "credential_key": "NO_SUCH_KEY"});
    json!({"kind": "vault", "address": "https://vault.example.com", "auth": auth})
}

fn sdk() -> Value {
    json!({"key": "KEY", "value": CANARY})
}

const PLACE: &str = "?scope={scope}&id={slot}&organization_id=org";

const TABLE: &[Row] = {
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
    fn is_scoped(&self) -> bool {
        self.query.contains("{scope}") || (self.body)().to_string().contains("{scope}")
    }

    /// Path and body at a scope.
    fn at(&self, (scope, slot): (&str, &str)) -> (String, Value) {
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

    fn admits(&self, role: Role) -> bool {
        match role {
            Role::PlatformOperator => true,
            Role::OrgAdmin => self.who != Who::Operate,
            Role::Auditor => self.who == Who::Read,
            Role::Dispatcher => false,
        }
    }
}

/// Method, path and body of a call of every row at a scope.
pub fn calls(scope: (&str, &str)) -> Vec<(&'static str, String, Value)> {
    let call = |row: &Row| {
        let (path, body) = row.at(scope);
        (row.method, path, body)
    };
    TABLE.iter().map(call).collect()
}

/// Everything that the rows name, of `org`: made again before each call, because the call may take it away.
fn furnish(gated: &Gated, instance: &Instance, operator: &Api<'_>, scope: (&str, &str)) {
    let install = json!({
        "id": "ins", "extension_id": "com.example.a", "organization_id": "org", "project_id": "proj",
        "product_installation_id": "prod",
    });
    operator.json("POST", "/marketplace/installations", &install);
    for (scope, id) in [scope, ("extension", "com.example.a")] {
        let body = json!({"scope": scope, "id": id, "organization_id": "org", "key": "KEY", "value": CANARY});
        for _ in 0..2 {
            assert!(operator.json("POST", "/extensions/secrets", &body).status < 300); // the second has a predecessor
        }
    }
    operator.json("PUT", "/organizations/org/providers/main", &provider());
    elsewhere::raises_alert(gated);
    elsewhere::loads(gated, instance.clock.now(), "kek-elsewhere");
    if operator.delete("/tokens/tok-victim").status != 409 {
        Api::named(instance, gated, "victim", Role::Auditor, Some("org"));
    }
}

/// Whether a call was let in. A read of a value is refused to whoever is let in, too.
fn is_let_in(answer: &Answer) -> bool {
    let cannot = ["not-external", "provider-missing", "key-not-loaded", "key-active"];
    let is_for_other_reasons = answer.status == 409 && cannot.contains(&&*answer.problem());
    answer.status < 300
        || is_for_other_reasons
        || (answer.status == 403 && answer.problem() == "plaintext-never-returned")
}

fn document() -> Value {
    serde_json::from_str(&kiket_sidecar::admin::openapi()).unwrap()
}

#[test]
fn every_route_of_the_api_has_a_row() {
    let rows: BTreeSet<(String, String)> = TABLE
        .iter()
        .map(|row| (row.method.to_owned(), row.path.to_owned()))
        .collect();
    let document = document();
    let mut routes = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        let path = path.strip_prefix("/api/v1").unwrap();
        for method in methods.as_object().unwrap().keys() {
            routes.insert((method.to_ascii_uppercase(), path.to_owned()));
        }
    }
    assert_eq!(rows, routes, "rows of the table, routes of the document");
}

#[test]
fn every_role_is_let_in_on_its_own_tenant_as_the_table_says() {
    let gated = Gated::open();
    let instance = gated.start(&[]);
    instance.register("com.example.a", json!({"url": "https://example.com"}), json!({}));
    let operator = Api::with(&instance, &gated, Role::PlatformOperator, None);
    let roles = [
        (Role::Dispatcher, Some("org")),
        (Role::Auditor, Some("org")),
        (Role::OrgAdmin, Some("org")),
        (Role::PlatformOperator, None),
    ];
    let own = |role: Role, org| Api::named(&instance, &gated, &format!("own-{}", role.name()), role, org);
    let callers = roles.map(|(role, org)| (role, own(role, org)));
    for row in TABLE {
        let scopes = if row.is_scoped() { &SCOPES[..] } else { &SCOPES[..1] };
        for scope in scopes {
            for (role, api) in &callers {
                furnish(&gated, &instance, &operator, *scope);
                let (path, body) = row.at(*scope);
                let answer = api.json(row.method, &path, &body);
                let what = format!("{} {} {path} {body}", role.name(), row.method);
                if row.admits(*role) {
                    assert!(is_let_in(&answer), "{what}: {} {}", answer.status, answer.json());
                } else {
                    assert_eq!((answer.status, answer.problem().as_str()), (403, "forbidden"), "{what}");
                }
            }
        }
    }
}

#[test]
fn every_role_of_another_tenant_is_answered_as_the_table_says() {
    let gated = Gated::open();
    let instance = gated.start(&[]);
    instance.register("com.example.a", json!({"url": "https://example.com"}), json!({}));
    let operator = Api::with(&instance, &gated, Role::PlatformOperator, None);
    let roles = [Role::Dispatcher, Role::Auditor, Role::OrgAdmin];
    let callers = roles.map(|role| {
        (
            role,
            Api::named(
                &instance,
                &gated,
                &format!("foreign-{}", role.name()),
                role,
                Some("org2"),
            ),
        )
    });
    for row in TABLE {
        let scopes = if row.is_scoped() { &SCOPES[..] } else { &SCOPES[..1] };
        for scope in scopes {
            furnish(&gated, &instance, &operator, *scope);
            for (role, api) in &callers {
                let (path, body) = row.at(*scope);
                let answer = api.json(row.method, &path, &body);
                let what = format!("{} {} {path} {body}", role.name(), row.method);
                if !row.admits(*role) {
                    assert_eq!((answer.status, answer.problem().as_str()), (403, "forbidden"), "{what}");
                    continue;
                }
                match row.foreign {
                    Foreign::Absent => {
                        assert_eq!((answer.status, answer.problem().as_str()), (404, "not-found"), "{what}");
                        // Not to be told from what nobody has.
                        let (nowhere, nothing) = nobodys(&path, &body);
                        let unknown = api.json(row.method, &nowhere, &nothing);
                        assert_eq!(answer.json(), unknown.json(), "{what} beside {nowhere}");
                    }
                    Foreign::Empty => {
                        assert_eq!(answer.status, 200, "{what}");
                        let data = answer.json()["data"].clone();
                        let of_org = data
                            .as_array()
                            .unwrap()
                            .iter()
                            .filter(|one| one["organization_id"] == "org");
                        assert_eq!(of_org.count(), 0, "{what}: {data}");
                    }
                    Foreign::Same => assert!(is_let_in(&answer), "{what}: {}", answer.status),
                }
            }
        }
    }
}

/// The same call about an organization that nobody has.
fn nobodys(path: &str, body: &Value) -> (String, Value) {
    let path = path
        .replace("organization_id=org", "organization_id=nobody")
        .replace("-victim", "-none")
        .replace("/organizations/org/", "/organizations/nobody/")
        .replace("/installations/ins", "/installations/none")
        .replace("installation=ins", "installation=none");
    let mut body = body.clone();
    if body.get("organization_id").is_some() {
        body["organization_id"] = json!("nobody");
    }
    (path, body)
}
