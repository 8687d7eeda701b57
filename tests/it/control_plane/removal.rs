//! What goes when an installation is removed, and what stays.

use kiket_sidecar::store::Role;
use serde_json::{Value, json};

use super::super::support::api::{Api, audit};
use super::super::support::endpoint::Endpoint;
use super::super::support::gated_store::Gated;
use super::super::support::problem::CANARY;
use super::{refusal, refused};

const PATH: &str = "/marketplace/installations/ins";

#[test]
fn an_installation_goes_with_the_secrets_of_its_own_scope_and_no_other() {
    let (gated, endpoint) = (Gated::open(), Endpoint::start());
    let instance = gated.start(&[]);
    let api = Api::bootstrap(&instance);
    instance.simple(&endpoint.url());
    instance.install("ins2", "com.example.simple");
    for (scope, id) in [("installation", "ins"), ("installation", "ins2"), ("project", "proj")] {
        instance.set(scope, id, "KEY", CANARY);
    }
    instance.set("installation", "ins", "OTHER", CANARY);
    assert_eq!(instance.deliver("ins", b"{}").status, 200);
    let insisting = |version: &str| api.send("DELETE", PATH, &[("If-Match", version)], b"");
    assert_eq!(refusal(&insisting("\"7\"")), refused(412, "version-mismatch", ""));
    assert_eq!(insisting("\"2\"").status, 204);
    let gone = instance.deliver("ins", b"{}");
    assert_eq!((gone.status, gone.problem().as_str()), (404, "installation-unknown"));
    assert_eq!(refusal(&api.get(PATH)), refused(404, "not-found", ""));
    assert_eq!(refusal(&api.delete(PATH)), refused(404, "not-found", ""));
    let left = api.get("/extensions/secrets?organization_id=org").json();
    let left: Vec<Value> = left["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|secret| json!([secret["scope_id"], secret["key"]]))
        .collect();
    assert_eq!(left, [json!(["ins2", "KEY"]), json!(["proj", "KEY"])]);
    let entries = audit(&gated, Some("org"));
    let last: Vec<_> = entries.iter().rev().map(|entry| entry.action.name()).collect();
    let at = last.iter().position(|action| *action == "installation.delete").unwrap();
    assert_eq!(last[at + 1..at + 3], ["secret.delete", "secret.delete"]);
    // Installed again, it begins without values; versions go on.
    instance.install("ins", "com.example.simple");
    assert_eq!(instance.set("installation", "ins", "KEY", CANARY)["version"], 3);
}

#[test]
fn a_removal_that_fails_removes_nothing_and_a_foreign_one_finds_nothing() {
    let gated = Gated::open();
    let instance = gated.start(&[]);
    let api = Api::bootstrap(&instance);
    instance.simple("http://127.0.0.1:1");
    instance.set("installation", "ins", "KEY", CANARY);
    gated
        .store
        .fail("commit", kiket_sidecar::store::StoreError::Unavailable);
    assert_eq!(refusal(&api.delete(PATH)), refused(503, "store-unavailable", ""));
    gated.store.mend();
    let foreign = Api::with(&instance, &gated, Role::OrgAdmin, Some("org2"));
    assert_eq!(refusal(&foreign.delete(PATH)), refused(404, "not-found", ""));
    let auditor = Api::with(&instance, &gated, Role::Auditor, Some("org"));
    assert_eq!(refusal(&auditor.delete(PATH)), refused(403, "forbidden", ""));
    assert_eq!(api.get(PATH).status, 200);
    let secret = "/extensions/secrets/KEY?scope=installation&id=ins";
    assert_eq!(api.get(secret).json()["version"], 1);
}

#[test]
fn extensions_are_listed_page_by_page() {
    let gated = Gated::open();
    let instance = gated.start(&[]);
    let api = Api::bootstrap(&instance);
    for id in ["com.a", "com.b", "com.c"] {
        instance.register(id, json!({"url": "https://example.com"}), json!({}));
    }
    let first = api.get("/extensions?limit=2").json();
    let next = first["next_cursor"].as_str().unwrap();
    let second = api.get(&format!("/extensions?limit=2&cursor={next}")).json();
    let ids = |page: &Value| {
        page["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["id"].clone())
            .collect::<Vec<_>>()
    };
    assert_eq!([ids(&first), ids(&second)].concat(), ["com.a", "com.b", "com.c"]);
    assert_eq!(second["next_cursor"], Value::Null);
    let forged = api.get(&format!("/extensions?cursor={next}0"));
    assert_eq!(refusal(&forged), refused(422, "invalid-field", "cursor"));
}
