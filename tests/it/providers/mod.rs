//! How an organization's providers are configured over the REST API, checked, and kept from whoever edits the database.

mod checks;
mod settings;
mod tampered;

use serde_json::{Value, json};

const PROVIDERS: &str = "/organizations/org/providers";
const MAIN: &str = "/organizations/org/providers/main";

/// A Vault as people write it, with every field.
fn vault() -> Value {
    json!({
        "kind": "vault", "address": "https://vault.example.com:8200/edge", "namespace": "team/a",
        "mounts": {"secret": 2, "kv": 1}, "path_prefix": "kiket/org",
        "auth": {"method": "approle", "mount": "sso/approle", "role": "r-1", "credential_key": "VAULT_SECRET_ID"},
        "ca_key": "VAULT_CA", "default": true, "ttl": 120,
    })
}

/// A Vault with nothing optional.
fn bare() -> Value {
    json!({
        "kind": "vault", "address": "https://vault.example.com",
        "auth": {"method": "token", "credential_key": "VAULT_TOKEN"},
    })
}

fn with(mut document: Value, pointer: &str, value: Value) -> Value {
    let (parent, member) = pointer.rsplit_once('/').unwrap();
    document.pointer_mut(parent).unwrap()[member] = value;
    document
}

fn without(mut document: Value, member: &str) -> Value {
    document.as_object_mut().unwrap().remove(member);
    document
}
