//! Whether what was refused stands in the log: by role, for foreign ids, and without a valid token.

use std::time::{Duration, Instant};

use kiket_sidecar::domain::audit::{Action, AuditEntry, Outcome};
use kiket_sidecar::domain::time::Timestamp;
use kiket_sidecar::store::{Role, StoreError};
use serde_json::{Value, json};

use super::super::support::api::{Api, audit, row, store_token};
use super::super::support::gated_store::Gated;
use super::super::support::http::{once, request};
use super::super::support::instance::{Instance, Options};

const SECRETS: &str = "/extensions/secrets";
const INSTALLATIONS: &str = "/marketplace/installations";

/// Longer than anything takes; a test that hangs fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// Action, outcome, scope, subject and key.
fn told(entry: &AuditEntry) -> Value {
    json!([
        entry.action.name(),
        entry.outcome.name(),
        entry.scope.map(|scope| scope.name()),
        entry.subject.as_ref().map(ToString::to_string),
        entry.key.as_ref().map(ToString::to_string),
    ])
}

fn furnished(gated: &Gated) -> Instance {
    let instance = gated.start(&[]);
    instance.register("com.example.a", json!({"url": "https://example.com"}), json!({}));
    instance.install("ins", "com.example.a");
    instance.set("project", "proj", "KEY", "a value");
    instance
}

/// What a call adds to a chain.
fn added(gated: &Gated, of: Option<&str>, call: impl FnOnce()) -> Vec<AuditEntry> {
    let before = audit(gated, of).len();
    call();
    audit(gated, of).split_off(before)
}

#[test]
fn every_call_that_a_role_does_not_allow_is_recorded_with_what_it_was_about() {
    let gated = Gated::open();
    let instance = furnished(&gated);
    let dispatcher = Api::with(&instance, &gated, Role::Dispatcher, Some("org"));
    let place = format!("{SECRETS}/KEY?scope=project&id=proj");
    let value = json!({"scope": "project", "id": "proj", "key": "KEY", "value": "v"});
    let rotation = json!({"scope": "project", "id": "proj", "value": "v"});
    let install = json!({"extension_id": "com.example.a", "project_id": "proj"});
    let about = |scope: &str| json!([scope, "proj", "KEY"]);
    let nothing = json!([null, null, null]);
    let id = |id: &str| json!([null, id, null]);
    for (method, path, body, action, expected) in [
        ("GET", SECRETS.to_owned(), Value::Null, "secret.list", nothing.clone()),
        ("POST", SECRETS.to_owned(), value, "secret.create", nothing.clone()),
        ("GET", place.clone(), Value::Null, "secret.get", about("project")),
        ("DELETE", place, Value::Null, "secret.delete", about("project")),
        (
            "POST",
            format!("{SECRETS}/KEY/rotate"),
            rotation,
            "secret.rotate",
            about("project"),
        ),
        (
            "PUT",
            "/extensions/com.example.a".to_owned(),
            json!({"id": "com.example.a"}),
            "extension.put",
            id("com.example.a"),
        ),
        (
            "GET",
            "/extensions/com.example.a".to_owned(),
            Value::Null,
            "extension.get",
            id("com.example.a"),
        ),
        (
            "POST",
            INSTALLATIONS.to_owned(),
            install,
            "installation.create",
            nothing.clone(),
        ),
        (
            "GET",
            INSTALLATIONS.to_owned(),
            Value::Null,
            "installation.list",
            nothing.clone(),
        ),
        (
            "GET",
            format!("{INSTALLATIONS}/ins"),
            Value::Null,
            "installation.get",
            id("ins"),
        ),
        (
            "PATCH",
            format!("{INSTALLATIONS}/ins"),
            json!({}),
            "installation.update",
            id("ins"),
        ),
        (
            "GET",
            "/secrets/audit".to_owned(),
            Value::Null,
            "audit.export",
            nothing.clone(),
        ),
        (
            "GET",
            "/secrets/audit?format=csv".to_owned(),
            Value::Null,
            "audit.export",
            nothing.clone(),
        ),
        (
            "GET",
            "/secrets/audit/verify".to_owned(),
            Value::Null,
            "audit.verify",
            nothing.clone(),
        ),
    ] {
        let entries = added(&gated, Some("org"), || {
            assert_eq!(dispatcher.json(method, &path, &body).status, 403, "{method} {path}");
        });
        let row = json!([action, "refused", expected[0], expected[1], expected[2]]);
        assert_eq!(entries.iter().map(told).collect::<Vec<_>>(), [row], "{method} {path}");
        assert_eq!(entries[0].actor.id, format!("tok-{}", dispatcher.token));
    }
}

#[test]
fn a_look_at_another_tenants_things_stands_in_the_lookers_chain_and_not_in_theirs() {
    let gated = Gated::open();
    let instance = furnished(&gated);
    let thief = Api::with(&instance, &gated, Role::OrgAdmin, Some("org2"));
    let theirs = audit(&gated, Some("org"));
    for (path, expected) in [
        (
            format!("{SECRETS}/KEY?scope=project&id=proj&organization_id=org"),
            json!(["secret.get", "refused", "project", "proj", "KEY"]),
        ),
        (
            format!("{SECRETS}/KEY?scope=installation&id=ins"),
            json!(["secret.get", "refused", "extension_installation", "ins", "KEY"]),
        ),
        (
            format!("{SECRETS}?organization_id=org"),
            json!(["secret.list", "refused", null, null, null]),
        ),
        (
            format!("{INSTALLATIONS}/ins"),
            json!(["installation.get", "refused", null, "ins", null]),
        ),
        (
            "/secrets/audit?organization_id=org".to_owned(),
            json!(["audit.export", "refused", null, null, null]),
        ),
        (
            "/secrets/audit/verify?organization_id=org".to_owned(),
            json!(["audit.verify", "refused", null, null, null]),
        ),
    ] {
        let entries = added(&gated, Some("org2"), || {
            assert_eq!(thief.get(&path).status, 404, "{path}")
        });
        assert_eq!(entries.iter().map(told).collect::<Vec<_>>(), [expected], "{path}");
    }
    assert_eq!(audit(&gated, Some("org")), theirs);
}

#[test]
fn reads_of_the_registry_are_recorded_where_the_things_belong() {
    let gated = Gated::open();
    let instance = furnished(&gated);
    let operator = Api::with(&instance, &gated, Role::PlatformOperator, None);
    let auditor = Api::with(&instance, &gated, Role::Auditor, Some("org"));
    let one = json!(["installation.get", "ok", null, "ins", null]);
    let list = json!(["installation.list", "ok", null, null, null]);
    let extension = json!(["extension.get", "ok", null, "com.example.a", null]);
    for (api, path, of, expected) in [
        (&auditor, format!("{INSTALLATIONS}/ins"), Some("org"), &one),
        (&operator, format!("{INSTALLATIONS}/ins"), Some("org"), &one),
        (&auditor, INSTALLATIONS.to_owned(), Some("org"), &list),
        (&operator, INSTALLATIONS.to_owned(), None, &list),
        (
            &operator,
            format!("{INSTALLATIONS}?organization_id=org"),
            Some("org"),
            &list,
        ),
        (
            &auditor,
            "/extensions/com.example.a".to_owned(),
            Some("org"),
            &extension,
        ),
        (&operator, "/extensions/com.example.a".to_owned(), None, &extension),
    ] {
        let entries = added(&gated, of, || assert_eq!(api.get(&path).status, 200, "{path}"));
        assert_eq!(
            entries.iter().map(told).collect::<Vec<_>>(),
            std::slice::from_ref(expected),
            "{path}"
        );
        assert_eq!(entries[0].actor.id, format!("tok-{}", api.token));
    }
    // What cannot be recorded is neither shown nor refused.
    let dispatcher = Api::with(&instance, &gated, Role::Dispatcher, Some("org"));
    gated.store.fail("record", StoreError::Unavailable);
    for api in [&auditor, &dispatcher] {
        assert_eq!(api.get(&format!("{INSTALLATIONS}/ins")).status, 503);
    }
}

/// Who was turned away, by reason, with the counts and the planes.
fn strangers(gated: &Gated) -> Vec<(String, String, u64)> {
    let entries = audit(gated, None).into_iter();
    let refused = entries.filter(|entry| entry.action == Action::AuthRefuse);
    refused
        .map(|entry| {
            assert_eq!(
                (entry.outcome, entry.actor.id.as_str()),
                (Outcome::Refused, "unauthenticated")
            );
            let delivered = entry.delivered.unwrap();
            (entry.actor.name, delivered.destination, delivered.count)
        })
        .collect()
}

fn after_a_minute(gated: &Gated, instance: &Instance, entries: usize) -> Vec<(String, String, u64)> {
    instance.clock.advance(60_000);
    let asked = Instant::now();
    loop {
        let told = strangers(gated);
        if told.len() >= entries {
            return told;
        }
        assert!(asked.elapsed() < PATIENCE, "{told:?}");
        instance.metrics(); // takes its time, and lets others have theirs
    }
}

#[test]
fn callers_without_a_valid_token_are_one_entry_a_reason_and_minute_however_often_they_come() {
    let gated = Gated::open();
    let token = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(token.path(), "the dispatcher's own token").unwrap();
    super::super::support::instance::set_mode(token.path(), 0o600);
    let instance = Instance::with(Options {
        settings: &[("dispatcher_token_file", token.path().to_str().unwrap())],
        store: Some(super::shared(&gated)),
        keyring: Some(kiket_sidecar::crypto::keyring::Keyring::parse(&gated.keyring.to_toml()).unwrap()),
        ..Options::default()
    });
    let mut over = row(&gated, "over", Role::Auditor, Some("org"));
    over.expires_at = Some(Timestamp(1));
    store_token(&gated, over);
    let mut forged = kiket_sidecar::registry::sealed_token(&gated.keyring, row(&gated, "forged", Role::Auditor, None));
    forged.role = Role::PlatformOperator;
    gated
        .block_on(kiket_sidecar::store::Store::commit(
            &*gated.store,
            kiket_sidecar::store::Change {
                writes: vec![kiket_sidecar::store::Write::Token(forged)],
                entries: Vec::new(),
            },
        ))
        .unwrap();
    let call = |headers: &[(&str, &str)]| {
        once(
            instance.running.admin().unwrap(),
            &request("GET", "/api/v1/secrets/audit", headers, b""),
        )
    };
    let records = gated.store.calls("record");
    assert_eq!(call(&[]).status, 401);
    assert_eq!(call(&[("Authorization", "Basic abc")]).status, 401);
    assert_eq!(call(&[("Authorization", "Bearer over")]).status, 401);
    // A forged operator's token also takes the bootstrap token's place: it is a row. It lets nobody in.
    assert_eq!(call(&[("Authorization", "Bearer forged")]).status, 401);
    for n in 0..200 {
        let expected = if n < 18 { 401 } else { 429 }; // whoever goes on guessing has to wait
        assert_eq!(call(&[("Authorization", "Bearer guessed")]).status, expected, "{n}");
    }
    assert_eq!(call(&[("Origin", "https://evil.example")]).status, 403);
    assert_eq!(instance.deliver("ins", b"{}").status, 401);
    assert_eq!(
        gated.store.calls("record"),
        records,
        "nobody fills the disk by guessing"
    );
    let told = after_a_minute(&gated, &instance, 6);
    let row = |reason: &str, plane: &str, count| (reason.to_owned(), plane.to_owned(), count);
    let expected = [
        row("no-token", "control-plane", 2),
        row("unknown-token", "control-plane", 200),
        row("expired-token", "control-plane", 1),
        row("forged-token", "control-plane", 1),
        row("browser", "control-plane", 1),
        row("no-dispatcher", "data-plane", 1),
    ];
    assert_eq!(told, expected);
    assert_eq!(call(&[]).status, 401);
    let told = after_a_minute(&gated, &instance, 7);
    assert_eq!(told[6..], [row("no-token", "control-plane", 1)]);
}
