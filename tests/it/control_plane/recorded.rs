//! Whether every write stands in the audit log, with who did it, and none does that was refused.

use kiket_sidecar::clock::Clock;
use kiket_sidecar::domain::audit::{Actor, AuditEntry, Outcome, Source};
use kiket_sidecar::store::{Role, StoreError};
use serde_json::{Value, json};

use super::super::support::api::{Api, audit};
use super::super::support::gated_store::Gated;
use super::super::support::problem::CANARY;
use super::secrets::{at, secret};
use super::{refusal, refused};

const SECRETS: &str = "/extensions/secrets";

/// Action, scope, subject, key and version.
fn told(entry: &AuditEntry) -> Value {
    json!([
        entry.action.name(),
        entry.scope.map(|scope| scope.name()),
        entry.subject.as_ref().map(ToString::to_string),
        entry.key.as_ref().map(ToString::to_string),
        entry.version,
    ])
}

#[test]
fn every_write_and_every_read_of_a_secret_has_its_entry() {
    let gated = Gated::open();
    let instance = gated.start(&[]);
    let operator = Api::with(&instance, &gated, Role::PlatformOperator, None);
    let manifest = json!({"id": "com.example.a", "configuration": {"NEED": {"secret": true}}});
    operator.json("PUT", "/extensions/com.example.a", &manifest);
    let admin = Api::with(&instance, &gated, Role::OrgAdmin, Some("org"));
    let install = json!({"id": "ins", "extension_id": "com.example.a", "project_id": "proj", "scaffold": true});
    admin.json("POST", "/marketplace/installations", &install);
    admin.json("PATCH", "/marketplace/installations/ins", &json!({"state": "enabled"}));
    admin.json("POST", SECRETS, &secret("KEY", CANARY));
    admin.json("POST", SECRETS, &secret("KEY", CANARY));
    let rotation = json!({"scope": "project", "id": "proj", "value": CANARY});
    admin.json("POST", &format!("{SECRETS}/KEY/rotate"), &rotation);
    admin.get(&at("KEY"));
    admin.get(&format!("{SECRETS}?scope=project"));
    admin.delete(&at("KEY"));
    admin.json(
        "POST",
        SECRETS,
        &json!({"secrets": [secret("KEY", CANARY), secret("KEY2", CANARY)]}),
    );
    let partner =
        json!({"scope": "extension", "id": "com.example.a", "key": "P", "value": CANARY, "partner_default": true});
    operator.json("POST", SECRETS, &partner);
    operator.get(SECRETS);

    let tenants = audit(&gated, Some("org"));
    let expected = [
        json!(["installation.create", null, "ins", null, 1]),
        json!(["secret.scaffold", "extension_installation", "ins", "NEED", 1]),
        json!(["installation.update", null, "ins", null, 2]),
        json!(["secret.create", "project", "proj", "KEY", 1]),
        json!(["secret.rotate", "project", "proj", "KEY", 2]),
        json!(["secret.rotate", "project", "proj", "KEY", 3]),
        json!(["secret.get", "project", "proj", "KEY", 3]),
        json!(["secret.list", "project", null, null, null]),
        json!(["secret.delete", "project", "proj", "KEY", 4]),
        json!(["secret.create", "project", "proj", "KEY", 5]),
        json!(["secret.create", "project", "proj", "KEY2", 1]),
    ];
    assert_eq!(tenants.iter().map(told).collect::<Vec<_>>(), expected);
    let platform = audit(&gated, None);
    let expected = [
        json!(["instance.start", null, null, null, null]),
        json!(["extension.put", null, "com.example.a", null, 1]),
        json!(["secret.create", "extension", "com.example.a", "P", 1]),
        json!(["secret.list", null, null, null, null]),
    ];
    assert_eq!(platform.iter().map(told).collect::<Vec<_>>(), expected);
    let actor = |api: &Api<'_>| Actor {
        id: format!("tok-{}", api.token),
        name: format!("name of {}", api.token),
    };
    let by_operator = platform.iter().skip(1).map(|entry| (entry, actor(&operator)));
    for (entry, actor) in tenants.iter().map(|entry| (entry, actor(&admin))).chain(by_operator) {
        assert_eq!(
            (&entry.actor, entry.source, entry.outcome),
            (&actor, Source::Api, Outcome::Ok),
            "{entry:?}"
        );
        assert_eq!(entry.at, instance.clock.now());
        assert!(!format!("{entry:?}").contains(CANARY));
    }
}

#[test]
fn a_write_that_was_refused_leaves_no_entry_of_a_write() {
    let gated = Gated::open();
    let instance = gated.start(&[]);
    let api = Api::bootstrap(&instance);
    api.json("POST", SECRETS, &secret("KEY", CANARY));
    let done = || {
        let entries = audit(&gated, Some("org")).into_iter();
        entries
            .filter(|entry| entry.outcome != Outcome::Refused)
            .collect::<Vec<_>>()
    };
    let before = done();
    api.json("POST", SECRETS, &secret("lower", CANARY));
    api.json_at("\"7\"", "POST", SECRETS, &secret("KEY", CANARY));
    api.json(
        "POST",
        SECRETS,
        &json!({"secrets": [secret("KEY", CANARY), secret("KEY2", "")]}),
    );
    api.delete(&at("OTHER"));
    assert_eq!(done(), before);
}

#[test]
fn a_store_that_fails_is_told_as_what_it_is_and_nothing_half_done_stays() {
    let gated = Gated::open();
    let (instance, _feed) = gated.start_without_feed(&[]);
    let api = Api::bootstrap(&instance);
    api.json("POST", SECRETS, &secret("KEY", CANARY));
    let before = audit(&gated, Some("org"));
    for (error, status, problem) in [
        (StoreError::Unavailable, 503, "store-unavailable"),
        (StoreError::Full, 507, "store-full"),
        (StoreError::Damaged, 500, "internal"),
        (StoreError::Conflict, 409, "conflict"), // overtaken every time
    ] {
        gated.store.fail("commit", error);
        gated.store.fail("record", error);
        let expected = refused(status, problem, "");
        assert_eq!(
            refusal(&api.json("POST", SECRETS, &secret("KEY", CANARY))),
            expected,
            "set"
        );
        assert_eq!(refusal(&api.delete(&at("KEY"))), expected, "delete");
        assert_eq!(
            refusal(&api.json("PUT", "/extensions/com.a", &json!({"id": "com.a"}))),
            expected,
            "put"
        );
        // A read that cannot be recorded is not answered.
        assert_eq!(refusal(&api.get(&at("KEY"))), expected, "get");
        assert_eq!(refusal(&api.get(SECRETS)), expected, "list");
        gated.store.mend();
    }
    for method in ["token", "has_operator_token", "slots", "scope_known"] {
        gated.store.fail(method, StoreError::Unavailable);
        let answer = api.json("POST", SECRETS, &secret("KEY", CANARY));
        let expected = if method == "token" { 200 } else { 503 }; // the bootstrap token is no row
        assert_eq!(answer.status, expected, "{method}");
        gated.store.mend();
    }
    assert_eq!(audit(&gated, Some("org")).len(), before.len() + 1);
    assert_eq!(api.get(&at("KEY")).json()["version"], 2);
}
