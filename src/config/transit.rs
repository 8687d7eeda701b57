//! Which Vault unwraps the keyring, as whom it is asked, and what cannot be set together.

use std::path::PathBuf;
use std::time::Duration;

use url::Host;

use super::layers::Layers;
use super::{ConfigError, values};
use crate::domain::destination::{Destination, Scheme};
use crate::domain::provider::{Backend, Provider, ProviderFields, VaultSettings};
use crate::domain::reference::is_segment;

/// The settings that say more of a Vault, and mean nothing without one.
const DEPENDENT: [&str; 5] = [
    "master_key_transit_namespace",
    "master_key_transit_key",
    "master_key_transit_auth_mount",
    "master_key_transit_role",
    "master_key_transit_credential_file",
];

/// A Transit key that the keys of `master_key_file` are wrapped with.
#[derive(Debug, Clone)]
pub struct TransitSettings {
    /// Where Vault is and how one logs in; its mounts and its credential's key are not looked at.
    pub vault: VaultSettings,
    /// Where the Transit engine is mounted.
    pub mount: String,
    /// The key's name there.
    pub key: String,
    /// What is logged in with: a token, a secret id, a service account's JWT.
    pub credential_file: PathBuf,
    /// How long a start waits for it.
    pub wait: Duration,
}

/// The settings `master_key_transit_…`; `None` where no URL is set.
pub(super) fn read(layers: &Layers) -> Result<Option<TransitSettings>, ConfigError> {
    let text = |setting| layers.optional(setting, values::text);
    let mount = layers.get("master_key_transit_mount", path)?;
    let auth_method = layers.get("master_key_transit_auth", values::text)?;
    let wait = layers.get("master_key_transit_wait", values::duration)?;
    let Some(url) = layers.optional("master_key_transit_url", values::destination)? else {
        for setting in DEPENDENT {
            if text(setting)?.is_some() {
                return Err(rule(
                    setting,
                    "means nothing without master_key_transit_url; set both, or neither",
                ));
            }
        }
        return Ok(None);
    };
    if url.scheme == Scheme::Http && !is_here(&url) {
        return Err(rule(
            "master_key_transit_url",
            "the keys would cross the network readable; name an https URL, or an agent on this host",
        ));
    }
    let missing = |setting| rule(setting, "needed with master_key_transit_url");
    let key = layers
        .optional("master_key_transit_key", segment)?
        .ok_or_else(|| missing("master_key_transit_key"))?;
    let credential_file = layers
        .optional("master_key_transit_credential_file", values::path)?
        .ok_or_else(|| missing("master_key_transit_credential_file"))?;
    let fields = ProviderFields {
        kind: String::from("vault"),
        address: String::from("https://vault.invalid"), // the URL takes its place
        namespace: text("master_key_transit_namespace")?.unwrap_or_default(),
        auth_method,
        auth_mount: text("master_key_transit_auth_mount")?.unwrap_or_default(),
        auth_role: text("master_key_transit_role")?.unwrap_or_default(),
        credential_key: String::from("CREDENTIAL"), // a file takes its place
        ..ProviderFields::default()
    };
    let provider = Provider::parse("transit", &fields).map_err(|error| {
        let setting = match error.field {
            "namespace" => "master_key_transit_namespace",
            "auth.mount" => "master_key_transit_auth_mount",
            "auth.role" => "master_key_transit_role",
            _ => "master_key_transit_auth",
        };
        rule(setting, error.expected)
    })?;
    let Backend::Vault(vault) = provider.backend else {
        return Err(rule("master_key_transit_auth", "token, approle, jwt or kubernetes")); // its kind says otherwise
    };
    Ok(Some(TransitSettings {
        vault: VaultSettings { address: url, ..vault },
        mount,
        key,
        credential_file,
        wait,
    }))
}

const fn rule(setting: &'static str, reason: &'static str) -> ConfigError {
    ConfigError::Rule { setting, reason }
}

/// Whether what is said there stays on this host.
fn is_here(address: &Destination) -> bool {
    match &address.host {
        Host::Domain(name) => name == "localhost",
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => address.is_loopback(),
    }
}

fn segment(text: &str) -> Result<String, &'static str> {
    let is_name = text.len() <= 256 && is_segment(text);
    is_name
        .then(|| text.to_owned())
        .ok_or("the name of a Transit key: A-Z, a-z, 0-9 and . _ -")
}

fn path(text: &str) -> Result<String, &'static str> {
    let is_path = text.len() <= 256 && text.split('/').all(is_segment);
    is_path
        .then(|| text.to_owned())
        .ok_or("where a Transit engine is mounted: parts of A-Z, a-z, 0-9 and . _ - between single slashes")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests {
    use super::super::Config;
    use super::*;
    use crate::domain::provider::VaultAuth;

    const URL: (&str, &str) = ("master_key_transit_url", "https://vault.example.com:8200/edge");
    const KEY: (&str, &str) = ("master_key_transit_key", "kiket");
    const FILE: (&str, &str) = ("master_key_transit_credential_file", "/t");

    fn refused(overrides: &[(&str, &str)]) -> &'static str {
        match Config::with(overrides) {
            Err(ConfigError::Rule { setting, .. } | ConfigError::Value { setting, .. }) => setting,
            Err(other) => panic!("{other}"),
            Ok(_) => "",
        }
    }

    fn read(overrides: &[(&str, &str)]) -> Option<TransitSettings> {
        Config::with(overrides).unwrap().master_key_transit
    }

    #[test]
    fn a_transit_key_is_read_with_a_way_to_log_in() {
        assert!(read(&[]).is_none());
        let token = read(&[URL, KEY, FILE]).unwrap();
        assert_eq!((token.mount.as_str(), token.key.as_str()), ("transit", "kiket"));
        assert_eq!(token.wait, Duration::from_secs(30));
        assert_eq!(token.vault.address.path_prefix, "/edge");
        assert!(matches!(token.vault.auth, VaultAuth::Token { .. }));
        let role = ("master_key_transit_role", "edge");
        for method in ["approle", "jwt", "kubernetes"] {
            let auth = ("master_key_transit_auth", method);
            let vault = read(&[URL, KEY, FILE, auth, role]).unwrap().vault;
            let mount = match &vault.auth {
                VaultAuth::AppRole { mount, .. }
                | VaultAuth::Jwt { mount, .. }
                | VaultAuth::Kubernetes { mount, .. } => mount,
                VaultAuth::Token { .. } => panic!("{method}"),
            };
            assert_eq!(mount, method);
        }
    }

    #[test]
    fn what_does_not_go_together_is_named() {
        let auth = |method| ("master_key_transit_auth", method);
        let role = ("master_key_transit_role", "edge");
        for (overrides, setting) in [
            (vec![URL], "master_key_transit_key"),
            (vec![URL, KEY], "master_key_transit_credential_file"),
            (vec![KEY], "master_key_transit_key"),
            (vec![FILE], "master_key_transit_credential_file"),
            (vec![role], "master_key_transit_role"),
            (
                vec![("master_key_transit_namespace", "a")],
                "master_key_transit_namespace",
            ),
            (
                vec![("master_key_transit_auth_mount", "a")],
                "master_key_transit_auth_mount",
            ),
            (vec![URL, KEY, FILE, role], "master_key_transit_role"),
            (vec![URL, KEY, FILE, auth("approle")], "master_key_transit_role"),
            (vec![URL, KEY, FILE, auth("ldap")], "master_key_transit_auth"),
            (
                vec![
                    URL,
                    KEY,
                    FILE,
                    auth("approle"),
                    role,
                    ("master_key_transit_auth_mount", "a/../b"),
                ],
                "master_key_transit_auth_mount",
            ),
            (
                vec![URL, KEY, FILE, ("master_key_transit_namespace", "a//b")],
                "master_key_transit_namespace",
            ),
            (
                vec![URL, KEY, FILE, ("master_key_transit_mount", "a/../b")],
                "master_key_transit_mount",
            ),
            (
                vec![URL, FILE, ("master_key_transit_key", "a/b")],
                "master_key_transit_key",
            ),
            (
                vec![URL, KEY, FILE, ("master_key_transit_wait", "0s")],
                "master_key_transit_wait",
            ),
            (vec![("master_key_transit_url", "vault")], "master_key_transit_url"),
        ] {
            assert_eq!(refused(&overrides), setting, "{overrides:?}");
        }
    }

    #[test]
    fn keys_cross_no_network_readable_whatever_else_may() {
        let at = |url| {
            refused(&[
                ("master_key_transit_url", url),
                KEY,
                FILE,
                ("dangerous_allow_http", "true"),
            ])
        };
        for here in [
            "http://127.0.0.1:8100",
            "http://[::1]:8100",
            "http://localhost:8100",
            "https://vault",
        ] {
            assert_eq!(at(here), "", "{here}");
        }
        for there in [
            "http://vault.example.com",
            "http://10.0.0.1",
            "http://localhost.example.com",
        ] {
            assert_eq!(at(there), "master_key_transit_url", "{there}");
        }
    }
}
