//! Every change that the control plane makes, as a request.

use serde_json::{Value, json};

/// A change of the control plane. `{token}`, `{alert}`, `{first}` and `{third}` stand for what was made before.
pub(super) type Write = (&'static str, &'static str, &'static str, fn() -> Value);

pub(super) const SECRETS: &str = "/extensions/secrets";
pub(super) const OF_EXTENSION: &str = "/extensions/com.example.simple/secrets?organization_id=org";
pub(super) const OF_SPARE: &str = "/extensions/secrets/SPARE?scope=project&id=proj&organization_id=org";
pub(super) const INSTALLED: &str = "/marketplace/installations/ins";
pub(super) const OF_SDK: &str = "/extensions/com.example.simple/secrets/SDK?organization_id=org";
const CONFIRM: &str = "/marketplace/installations/waiting/confirm-destination";
const ACCEPT: &str = "/marketplace/installations/waiting/accept-keys";
pub(super) const PROVIDER: &str = "/organizations/org/providers/other";

/// Every one there is.
pub(super) const WRITES: &[Write] = &[
    ("set a new secret", "POST", SECRETS, || secret("NEW", "value")),
    ("set one that is there", "POST", SECRETS, || {
        secret("KEY", "another value")
    }),
    ("set many", "POST", SECRETS, || many()),
    ("rotate", "POST", "/extensions/secrets/KEY/rotate", || {
        at(json!({"value": "rotated"}))
    }),
    ("link", "POST", "/extensions/secrets/SPARE/link", || {
        at(json!({"external_secret_name": "secret/a"}))
    }),
    ("roll back", "POST", "/extensions/secrets/SPARE/rollback", || {
        at(json!({}))
    }),
    ("delete", "DELETE", OF_SPARE, || Value::Null),
    (
        "set as the SDK does",
        "POST",
        OF_EXTENSION,
        || json!({"secret": {"key": "SDK_NEW", "value": "value"}}),
    ),
    ("delete as the SDK does", "DELETE", OF_SDK, || Value::Null),
    ("register a manifest", "PUT", "/extensions/com.example.simple", || {
        manifest("com.example.simple", "http://127.0.0.1:9", "2.0.0")
    }),
    ("install", "POST", "/marketplace/installations", || {
        installation("ins-2", "com.example.simple")
    }),
    ("confirm a destination", "POST", CONFIRM, || Value::Null),
    ("accept keys", "POST", ACCEPT, || Value::Null),
    ("disable", "PATCH", INSTALLED, || json!({"state": "disabled"})),
    ("uninstall", "DELETE", INSTALLED, || Value::Null),
    (
        "make a token",
        "POST",
        "/tokens",
        || json!({"name": "late", "role": "auditor", "organization_id": "org"}),
    ),
    ("delete a token", "DELETE", "/tokens/{token}", || Value::Null),
    (
        "put a policy",
        "PUT",
        "/organizations/org/policy",
        || json!({"read_threshold": 7}),
    ),
    ("put a provider", "PUT", "/organizations/org/providers/new", provider),
    ("delete a provider", "DELETE", PROVIDER, || Value::Null),
    (
        "acknowledge an alert",
        "POST",
        "/secrets/alerts/{alert}/acknowledge",
        || Value::Null,
    ),
    ("promote a key", "POST", "/keys/{third}/promote", || Value::Null),
    ("retire a key", "DELETE", "/keys/{first}", || Value::Null),
];

pub(super) fn at(mut what: Value) -> Value {
    what["scope"] = "project".into();
    what["id"] = "proj".into();
    what["organization_id"] = "org".into();
    what
}

pub(super) fn secret(key: &str, value: &str) -> Value {
    at(json!({"key": key, "value": value}))
}

pub(super) fn many() -> Value {
    let secrets = ["A", "B", "KEY"].map(|key| secret(key, "one of many"));
    json!({"secrets": secrets})
}

pub(super) fn provider() -> Value {
    let auth = json!({"method": "token", "credential_key": "VAULT_TOKEN"});
    json!({"kind": "vault", "address": "https://vault.example.com", "auth": auth})
}

pub(super) fn manifest(extension: &str, url: &str, version: &str) -> Value {
    let delivery = json!({"type": "http", "callback": {"url": url}});
    let configuration = json!({"KEY": {"secret": true}});
    json!({"extension": {
        "id": extension, "version": version, "delivery": delivery, "configuration": configuration,
    }})
}

pub(super) fn installation(id: &str, extension: &str) -> Value {
    json!({
        "id": id, "extension_id": extension, "organization_id": "org", "project_id": "proj", "scaffold": true,
    })
}
