//! How a secret becomes a reference to an external one, and how a previous version comes back.

use kiket_sidecar::domain::id::{OrganizationId, ScopeId};
use kiket_sidecar::domain::key::SecretKey;
use kiket_sidecar::domain::scope::{Owner, Scope, Slot};
use kiket_sidecar::store::{Change, Store, Write};
use serde_json::{Value, json};

use super::super::support::api::{Api, audit};
use super::super::support::endpoint::Endpoint;
use super::super::support::gated_store::Gated;
use super::super::support::instance::Instance;
use super::super::support::problem::CANARY;
use super::secrets::{at, secret};
use super::{refusal, refused};

const SECRETS: &str = "/extensions/secrets";
const NAME: &str = "secrets/kiket/projects/project_key/crm_webhook";

fn place() -> Value {
    json!({"scope": "project", "id": "proj", "organization_id": "org"})
}

fn link(name: &str) -> Value {
    let mut body = place();
    body["external_secret_name"] = json!(name);
    body
}

fn call(api: &Api<'_>, verb: &str, body: &Value) -> super::Answer {
    api.json("POST", &format!("{SECRETS}/KEY/{verb}"), body)
}

#[test]
fn a_link_is_shown_as_what_it_refers_to_and_counts_as_a_rotation_of_what_it_replaces() {
    let instance = Instance::start();
    let api = Api::bootstrap(&instance);
    let linked = call(&api, "link", &link(NAME));
    assert_eq!((linked.status, linked.header("etag")), (201, Some("\"1\"")));
    let told = |answer: &Value| {
        json!([
            answer["external"],
            answer["external_secret_name"],
            answer["masked_value_present"],
            answer["version"],
            answer["rotation_count"],
        ])
    };
    assert_eq!(told(&linked.json()), json!([true, NAME, true, 1, 0]));
    assert_eq!(told(&api.get(&at("KEY")).json()), json!([true, NAME, true, 1, 0]));
    let listed = api.get(&format!("{SECRETS}?organization_id=org")).json();
    assert_eq!(told(&listed["data"][0]), json!([true, NAME, true, 1, 0]));

    let value = api.json("POST", SECRETS, &secret("KEY", CANARY));
    assert_eq!(
        (value.status, told(&value.json())),
        (200, json!([false, null, true, 2, 1]))
    );
    // The write of the object, with the canonical form told back.
    let mut again = secret("KEY", "");
    again.as_object_mut().unwrap().remove("value");
    again["external_secret_name"] = json!("gsm:projects/p/secrets/s/versions/latest-enabled");
    let again = api.json("POST", SECRETS, &again);
    assert_eq!(
        (again.status, told(&again.json())),
        (200, json!([true, "gsm:projects/p/secrets/s", true, 3, 2]))
    );
    for (name, _) in [("vault:kv/app#token@3", ()), ("vault:kv/app#token", ())] {
        assert_eq!(call(&api, "link", &link(name)).json()["external_secret_name"], name);
    }
}

#[test]
fn what_is_no_reference_is_refused_without_quoting_it() {
    let instance = Instance::start();
    let api = Api::bootstrap(&instance);
    for name in [
        "",
        "one",
        "/a/b",
        "a/../b",
        "a b/c",
        "vault:a/b",
        "gsm:projects/p",
        CANARY,
        &format!("{CANARY}/{CANARY} "),
    ] {
        let expected = refused(422, "invalid-field", "external_secret_name");
        assert_eq!(refusal(&call(&api, "link", &link(name))), expected, "{name:?}");
    }
    let mut both = secret("KEY", CANARY);
    both["external_secret_name"] = json!(NAME);
    assert_eq!(
        refusal(&api.json("POST", SECRETS, &both)),
        refused(422, "invalid-field", "external_secret_name")
    );
    assert_eq!(
        refusal(&call(&api, "link", &place())),
        refused(422, "invalid-field", "")
    );
    assert_eq!(refusal(&api.get(&at("KEY"))), refused(404, "not-found", ""));
}

#[test]
fn a_reference_without_a_provider_is_unavailable_and_never_missing() {
    let (instance, endpoint) = (Instance::start(), Endpoint::start());
    let api = Api::bootstrap(&instance);
    instance.simple(&endpoint.url());
    instance.set("organization", "org", "KEY", "a wider value");
    assert_eq!(instance.deliver("ins", b"{}").status, 200);
    assert_eq!(call(&api, "link", &link(NAME)).status, 201);
    let answer = instance.deliver("ins", b"{}");
    assert_eq!(
        (answer.status, answer.problem().as_str()),
        (503, "secret-source-unavailable")
    );
    assert_eq!(endpoint.received().len(), 1, "nothing is sent, and no wider value used");
    let refreshed = call(&api, "refresh", &place());
    assert_eq!(refusal(&refreshed), refused(409, "provider-missing", ""));
    api.json("POST", SECRETS, &secret("KEY", "v"));
    assert_eq!(
        refusal(&call(&api, "refresh", &place())),
        refused(409, "not-external", "")
    );
    assert_eq!(instance.deliver("ins", b"{}").status, 200);
    api.delete(&at("KEY"));
    assert_eq!(refusal(&call(&api, "refresh", &place())), refused(404, "not-found", ""));
}

#[test]
fn a_rollback_brings_the_previous_value_back_as_a_new_version() {
    let (instance, endpoint) = (Instance::start(), Endpoint::start());
    let api = Api::bootstrap(&instance);
    instance.simple(&endpoint.url());
    let delivered = || {
        assert_eq!(instance.deliver("ins", b"{}").status, 200);
        endpoint.last().secret("KEY")
    };
    assert_eq!(
        refusal(&call(&api, "rollback", &place())),
        refused(404, "not-found", "")
    );
    api.json("POST", SECRETS, &secret("KEY", "first"));
    assert_eq!(
        refusal(&call(&api, "rollback", &place())),
        refused(409, "no-previous-version", "")
    );
    api.json("POST", SECRETS, &secret("KEY", "second"));
    assert_eq!(delivered().as_deref(), Some("second"));
    for (version, value) in [(3, "first"), (4, "second"), (5, "first")] {
        let back = call(&api, "rollback", &place());
        assert_eq!((back.status, back.json()["version"].clone()), (200, json!(version)));
        assert_eq!(back.json()["rotation_count"], version - 1);
        assert_eq!(delivered().as_deref(), Some(value), "{version}");
    }
    // A reference comes back as well.
    call(&api, "link", &link(NAME));
    api.json("POST", SECRETS, &secret("KEY", "third"));
    assert_eq!(call(&api, "rollback", &place()).json()["external_secret_name"], NAME);
    assert_eq!(call(&api, "rollback", &place()).json()["external"], false);
    assert_eq!(delivered().as_deref(), Some("third"));
    // What was revoked does not, nor what was deleted.
    let mut rotation = place();
    rotation["value"] = json!("fourth");
    rotation["revoke_now"] = json!(true);
    assert_eq!(call(&api, "rotate", &rotation).status, 200);
    assert_eq!(
        refusal(&call(&api, "rollback", &place())),
        refused(409, "no-previous-version", "")
    );
    api.delete(&at("KEY"));
    api.json("POST", SECRETS, &secret("KEY", "fifth"));
    assert_eq!(
        refusal(&call(&api, "rollback", &place())),
        refused(409, "no-previous-version", "")
    );
}

#[test]
fn every_new_version_is_recorded_as_what_it_was() {
    let gated = Gated::open();
    let instance = gated.start(&[]);
    let api = Api::bootstrap(&instance);
    call(&api, "link", &link(NAME));
    call(&api, "refresh", &place());
    api.json("POST", SECRETS, &secret("KEY", CANARY));
    call(&api, "rollback", &place());
    call(&api, "rollback", &place());
    let told: Vec<Value> = audit(&gated, Some("org"))
        .iter()
        .map(|entry| json!([entry.action.name(), entry.version, entry.external, entry.outcome.name()]))
        .collect();
    assert_eq!(
        told,
        [
            json!(["secret.link", 1, true, "ok"]),
            json!(["secret.refresh", 1, true, "failed"]),
            json!(["secret.rotate", 2, false, "ok"]),
            json!(["secret.rollback", 3, true, "ok"]),
            json!(["secret.rollback", 4, false, "ok"]),
        ]
    );
}

#[test]
fn a_reference_that_somebody_moved_is_not_shown() {
    let gated = Gated::open();
    let instance = gated.start(&[]);
    let api = Api::bootstrap(&instance);
    call(&api, "link", &link(NAME));
    let mut elsewhere = link("c/d");
    elsewhere["id"] = json!("proj2");
    call(&api, "link", &elsewhere);
    let slot = |id: &str| Slot {
        owner: Owner::Organization(OrganizationId::parse("org").unwrap()),
        scope: Scope::Project,
        scope_id: ScopeId::parse(id).unwrap(),
        key: SecretKey::parse("KEY").unwrap(),
    };
    let row = |id: &str| gated.block_on(gated.store.slots(&[slot(id)])).unwrap().remove(0);
    let mut repointed = row("proj");
    repointed.sealed = row("proj2").sealed;
    let change = Change {
        writes: vec![Write::Secret {
            row: repointed,
            expected: Some(1),
        }],
        entries: Vec::new(),
    };
    gated.block_on(gated.store.commit(change)).unwrap();
    let shown = api.get(&at("KEY")).json();
    assert_eq!(
        json!([shown["external"], shown["external_secret_name"]]),
        json!([true, null])
    );
}

#[test]
fn an_owner_is_kept_until_another_is_named() {
    let instance = Instance::start();
    let api = Api::bootstrap(&instance);
    let owned = |owner: Value| {
        let mut body = secret("KEY", "v");
        body["owner"] = owner;
        api.json("POST", SECRETS, &body)
    };
    assert_eq!(owned(json!("ops@example.com")).json()["owner"], "ops@example.com");
    assert_eq!(
        api.json("POST", SECRETS, &secret("KEY", "v")).json()["owner"],
        "ops@example.com"
    );
    let mut relinked = link(NAME);
    relinked["owner"] = json!("o".repeat(256));
    assert_eq!(call(&api, "link", &relinked).json()["owner"], "o".repeat(256));
    for bad in ["", "a\nb", &"o".repeat(257)] {
        assert_eq!(
            refusal(&owned(json!(bad))),
            refused(422, "invalid-field", "owner"),
            "{bad:?}"
        );
    }
}
