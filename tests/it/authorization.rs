//! Who may do what: every role on every route, at every scope, on its own tenant and on another's, held against a table.
//!
//! The routes come from the OpenAPI document: one without a row here fails the test.

mod table;

use std::collections::BTreeSet;

use kiket_sidecar::clock::Clock;
use kiket_sidecar::store::Role;
use serde_json::{Value, json};

use super::support::gated_store::Gated;
use super::support::http::Answer;
use super::support::instance::Instance;
use super::support::problem::CANARY;
use super::support::{api::Api, elsewhere};
pub use table::SCOPES;
use table::{Foreign, Row, TABLE, provider};

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
