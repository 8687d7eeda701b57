//! A Vault with something in it, and a provider that asks it.

use std::collections::BTreeMap;

use kiket_sidecar::domain::provider::ProviderFields;
use serde_json::{Value, json};

use super::super::external::Asking;
use super::super::pki::Authority;
use super::{FakeVault, Grant, Namespace};

/// Settings of a provider at this Vault, asked with a token.
pub fn fields(vault: &FakeVault) -> ProviderFields {
    ProviderFields {
        kind: "vault".into(),
        address: vault.url(),
        mounts: BTreeMap::from([("secret".into(), 2), ("kv".into(), 1), ("none".into(), 2)]),
        auth_method: "token".into(),
        credential_key: "VAULT_TOKEN".into(),
        ca_key: "VAULT_CA".into(),
        ..ProviderFields::default()
    }
}

/// A Vault with `a/b` in both engines, and who may read it with the token `reader`.
pub fn furnished(authority: &Authority) -> (FakeVault, Asking) {
    let vault = FakeVault::start(authority);
    vault.root(|root| {
        let paths = vec!["secret/".into(), "kv/".into(), "none/".into()];
        root.token(
            "reader",
            0,
            Grant {
                paths,
                ..Grant::default()
            },
        );
        root.token(
            "stranger",
            0,
            Grant {
                paths: Vec::new(),
                ..Grant::default()
            },
        );
        put(root, json!({"f": "first"}));
        put(root, json!({"f": "value", "g": "other"}));
    });
    let asking = Asking::new(fields(&vault), "reader", &authority.pem());
    (vault, asking)
}

/// Writes `a/b` to both engines.
pub fn put(root: &mut Namespace, data: Value) {
    root.put("secret", "a/b", data.clone());
    root.put("kv", "a/b", data);
}
