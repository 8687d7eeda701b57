//! What the secret managers of the Kiket SDKs call, and how it is answered and recorded.

use kiket_sidecar::domain::audit::{Outcome, Source};
use kiket_sidecar::store::Role;
use serde_json::{Value, json};

use super::super::support::api::{Api, audit};
use super::super::support::endpoint::Endpoint;
use super::super::support::gated_store::Gated;
use super::super::support::problem::CANARY;
use super::{refusal, refused};

const PATH: &str = "/extensions/com.example.simple/secrets";

#[test]
fn an_sdk_sets_lists_and_deletes_and_gets_no_value() {
    let (gated, endpoint) = (Gated::open(), Endpoint::start());
    let instance = gated.start(&[]);
    instance.simple(&endpoint.url());
    let admin = Api::with(&instance, &gated, Role::OrgAdmin, Some("org"));
    let keys = || admin.get(PATH).json();
    assert_eq!(keys(), json!({"keys": []}));
    let absent = admin.get(&format!("{PATH}/KEY"));
    assert_eq!(refusal(&absent), refused(404, "not-found", ""));

    let by_key = admin.json("POST", &format!("{PATH}/KEY"), &json!({"value": CANARY}));
    assert_eq!(
        (by_key.status, by_key.json()["scope"].clone()),
        (201, json!("extension"))
    );
    let replaced = admin.json(
        "POST",
        &format!("{PATH}/KEY"),
        &json!({"secret": {"key": "KEY", "value": "sdk"}}),
    );
    assert_eq!(
        (replaced.status, replaced.json()["rotation_count"].clone()),
        (200, json!(1))
    );
    let named = admin.json("POST", PATH, &json!({"secret": {"key": "ANOTHER", "value": CANARY}}));
    assert_eq!((named.status, named.json()["key"].clone()), (201, json!("ANOTHER")));
    assert_eq!(
        admin
            .json("POST", PATH, &json!({"key": "THIRD", "value": CANARY}))
            .status,
        201
    );
    assert_eq!(keys(), json!({"keys": ["ANOTHER", "KEY", "THIRD"]}));
    assert_eq!(instance.deliver("ins", b"{}").status, 200);
    assert_eq!(endpoint.last().secret("KEY").as_deref(), Some("sdk"));

    let asked = admin.get(&format!("{PATH}/KEY"));
    assert_eq!(refusal(&asked), refused(403, "plaintext-never-returned", ""));
    assert_eq!(admin.delete(&format!("{PATH}/KEY")).status, 204);
    assert_eq!(
        refusal(&admin.delete(&format!("{PATH}/KEY"))),
        refused(404, "not-found", "")
    );
    assert_eq!(keys(), json!({"keys": ["ANOTHER", "THIRD"]}));
    // SDK managers rotate by DELETE and POST: the count goes on.
    let again = admin.json("POST", &format!("{PATH}/KEY"), &json!({"value": "v"}));
    assert_eq!((again.status, again.json()["version"].clone()), (201, json!(4)));

    let entries = audit(&gated, Some("org"));
    let by_sdk: Vec<_> = entries.iter().filter(|entry| entry.source == Source::Sdk).collect();
    let refused_reads: Vec<_> = by_sdk
        .iter()
        .filter(|entry| entry.action.name() == "secret.get" && entry.outcome == Outcome::Refused)
        .collect();
    assert_eq!(refused_reads.len(), 2, "of what is there and of what is not");
    assert_eq!(
        refused_reads[0].key.as_ref().map(ToString::to_string).as_deref(),
        Some("KEY")
    );
    assert_eq!(
        by_sdk
            .iter()
            .filter(|entry| entry.action.name() == "secret.create")
            .count(),
        4
    );
}

#[test]
fn an_sdk_reaches_its_own_organizations_values_only() {
    let gated = Gated::open();
    let instance = gated.start(&[]);
    let owner = Api::with(&instance, &gated, Role::OrgAdmin, Some("org"));
    let other = Api::with(&instance, &gated, Role::OrgAdmin, Some("org2"));
    let operator = Api::with(&instance, &gated, Role::PlatformOperator, None);
    owner.json("POST", &format!("{PATH}/KEY"), &json!({"value": CANARY}));
    assert_eq!(other.get(PATH).json(), json!({"keys": []}));
    assert_eq!(
        refusal(&other.get(&format!("{PATH}/KEY"))),
        refused(404, "not-found", "")
    );
    assert_eq!(
        refusal(&other.get(&format!("{PATH}?organization_id=org"))),
        refused(404, "not-found", "")
    );
    let missing = refused(422, "invalid-field", "organization_id");
    assert_eq!(refusal(&operator.get(PATH)), missing);
    assert_eq!(
        refusal(&operator.json("POST", &format!("{PATH}/KEY"), &json!({"value": CANARY}))),
        missing
    );
    let of_org = operator.get(&format!("{PATH}?organization_id=org"));
    assert_eq!(of_org.json(), json!({"keys": ["KEY"]}));
}

#[test]
fn what_an_sdk_sends_wrong_is_told_without_quoting_it() {
    let gated = Gated::open();
    let instance = gated.start(&[]);
    let admin = Api::with(&instance, &gated, Role::OrgAdmin, Some("org"));
    let one = format!("{PATH}/KEY");
    for (path, body, field) in [
        (PATH, json!({"value": CANARY}), "key"),
        (PATH, json!({"key": "lower", "value": CANARY}), "key"),
        (PATH, json!({"key": "KEY"}), "value"),
        (
            PATH,
            json!({"secret": {"key": "KEY", "value": CANARY}, "value": CANARY}),
            "secret",
        ),
        (&one, json!({"key": "OTHER", "value": CANARY}), "key"),
        (&one, json!({"value": ""}), "value"),
        (&one, json!({}), "value"),
        (&one, json!({"value": [CANARY]}), ""),
        (&one, Value::Null, ""),
        (
            "/extensions/nodot/secrets",
            json!({"key": "KEY", "value": CANARY}),
            "id",
        ),
        (&format!("{PATH}/lower"), json!({"value": CANARY}), "key"),
    ] {
        let answer = admin.json("POST", path, &body);
        assert_eq!(refusal(&answer), refused(422, "invalid-field", field), "{path} {body}");
    }
}
