//! How a provider's settings are read, and how they are written down again.

use std::collections::BTreeMap;

use super::{
    Backend, GSM_ADDRESS, GsmAuth, GsmSettings, KvVersion, MOUNTS_MAX, Provider, ProviderError, ProviderFields,
    ProviderName, TTL_SECS_DEFAULT, VaultAuth, VaultSettings,
};
use crate::domain::destination::{Destination, Scheme};
use crate::domain::key::SecretKey;
use crate::domain::reference::{is_gsm_project, is_gsm_secret, is_segment};

/// Longest accepted role, namespace or prefix, in bytes.
const TEXT_BYTES_MAX: usize = 256;

/// Where Vault mounts what is no KV engine: nothing there is a tenant's secret.
const VAULT_OWN_MOUNTS: [&str; 4] = ["auth", "cubbyhole", "identity", "sys"];

pub(super) fn parse(name: ProviderName, fields: &ProviderFields) -> Result<Provider, ProviderError> {
    let backend = match fields.kind.as_str() {
        "vault" => Backend::Vault(vault(fields)?),
        "gsm" => Backend::Gsm(gsm(fields)?),
        _ => return Err(ProviderError::new("kind", "vault or gsm")),
    };
    let ttl_secs = match fields.ttl {
        None => Some(TTL_SECS_DEFAULT),
        Some(secs) => u32::try_from(secs).ok().filter(|secs| (1..=86_400).contains(secs)),
    };
    Ok(Provider {
        name,
        default: fields.default,
        ttl_secs: ttl_secs.ok_or(ProviderError::new("ttl", "1 to 86400 seconds"))?,
        ca_key: optional(&fields.ca_key).map(|text| key("ca_key", text)).transpose()?,
        backend,
    })
}

fn vault(fields: &ProviderFields) -> Result<VaultSettings, ProviderError> {
    let namespace = fields.namespace.trim_matches('/');
    if !namespace.is_empty() && !is_path(namespace) {
        let expected = "a Vault namespace: parts of A-Z, a-z, 0-9 and . _ - between single slashes";
        return Err(ProviderError::new("namespace", expected));
    }
    if !fields.path_prefix.is_empty() && !is_path(&fields.path_prefix) {
        let expected = "a path below the mount: parts of A-Z, a-z, 0-9 and . _ - between single slashes, none . or ..";
        return Err(ProviderError::new("path_prefix", expected));
    }
    Ok(VaultSettings {
        address: address(&fields.address)?,
        namespace: optional(namespace).map(String::from),
        mounts: mounts(&fields.mounts)?,
        path_prefix: fields.path_prefix.clone(),
        auth: vault_auth(fields)?,
    })
}

fn mounts(fields: &BTreeMap<String, u64>) -> Result<BTreeMap<String, KvVersion>, ProviderError> {
    const WRONG: ProviderError = ProviderError::new(
        "mounts",
        "at most 32 KV engines of one path segment each, every one with its version, 1 or 2",
    );
    if fields.is_empty() {
        return Ok(BTreeMap::from([(String::from("secret"), KvVersion::V2)]));
    }
    if fields.len() > MOUNTS_MAX {
        return Err(WRONG);
    }
    let parsed = fields.iter().map(|(mount, version)| {
        let version = match version {
            1 => KvVersion::V1,
            2 => KvVersion::V2,
            _ => return Err(WRONG),
        };
        let is_mount = is_segment(mount) && mount.len() <= TEXT_BYTES_MAX;
        if is_mount && !VAULT_OWN_MOUNTS.contains(&mount.as_str()) {
            Ok((mount.clone(), version))
        } else {
            Err(WRONG)
        }
    });
    parsed.collect()
}

fn vault_auth(fields: &ProviderFields) -> Result<VaultAuth, ProviderError> {
    let credential_key = || key("auth.credential_key", &fields.credential_key);
    let mount = |name: &str| match fields.auth_mount.as_str() {
        "" => Ok(name.to_owned()),
        mount if is_path(mount) => Ok(mount.to_owned()),
        _ => Err(ProviderError::new(
            "auth.mount",
            "where the login method is mounted below auth/: parts of A-Z, a-z, 0-9 and . _ - between single slashes",
        )),
    };
    let role = || {
        let is_role = (1..=TEXT_BYTES_MAX).contains(&fields.auth_role.len());
        let is_text = !fields.auth_role.chars().any(char::is_control);
        (is_role && is_text)
            .then(|| fields.auth_role.clone())
            .ok_or(ProviderError::new("auth.role", "1 to 256 bytes of text"))
    };
    Ok(match fields.auth_method.as_str() {
        "token" => {
            unsaid("auth.role", &fields.auth_role)?;
            unsaid("auth.mount", &fields.auth_mount)?;
            VaultAuth::Token {
                credential_key: credential_key()?,
            }
        }
        "approle" => VaultAuth::AppRole {
            mount: mount("approle")?,
            role: role()?,
            credential_key: credential_key()?,
        },
        "jwt" => VaultAuth::Jwt {
            mount: mount("jwt")?,
            role: role()?,
            credential_key: credential_key()?,
        },
        "kubernetes" => VaultAuth::Kubernetes {
            mount: mount("kubernetes")?,
            role: role()?,
            credential_key: credential_key()?,
        },
        _ => {
            let expected = "token, approle, jwt or kubernetes";
            return Err(ProviderError::new("auth.method", expected));
        }
    })
}

fn gsm(fields: &ProviderFields) -> Result<GsmSettings, ProviderError> {
    const PREFIX: ProviderError = ProviderError::new(
        "path_prefix",
        "projects/<project>, or projects/<project>/secrets/<what names of secrets start with>",
    );
    unsaid("namespace", &fields.namespace)?;
    if !fields.mounts.is_empty() {
        return Err(ProviderError::new("mounts", "for Vault only"));
    }
    let rest = fields.path_prefix.strip_prefix("projects/").ok_or(PREFIX)?;
    let (project, secret_prefix) = match rest.split_once('/') {
        None => (rest, ""),
        Some((project, below)) => {
            let prefix = below.strip_prefix("secrets/").filter(|prefix| is_gsm_secret(prefix));
            (project, prefix.ok_or(PREFIX)?)
        }
    };
    if !is_gsm_project(project) {
        return Err(PREFIX);
    }
    unsaid("auth.role", &fields.auth_role)?;
    unsaid("auth.mount", &fields.auth_mount)?;
    let settings = GsmSettings {
        address: address(optional(&fields.address).unwrap_or(GSM_ADDRESS))?,
        project: project.to_owned(),
        secret_prefix: secret_prefix.to_owned(),
        auth: gsm_auth(fields)?,
    };
    // The machine's token must not be carried to a host that somebody named, nor to one that somebody vouches for. An
    // operator whose Google is elsewhere says so to the process (`gsm_url`).
    if settings.auth == GsmAuth::Metadata {
        unsaid("ca_key", &fields.ca_key)?;
        if settings.address != address(GSM_ADDRESS)? {
            return Err(ProviderError::new(
                "address",
                "Google's own where the method is metadata",
            ));
        }
    }
    Ok(settings)
}

fn gsm_auth(fields: &ProviderFields) -> Result<GsmAuth, ProviderError> {
    match fields.auth_method.as_str() {
        "service_account" => Ok(GsmAuth::ServiceAccount {
            credential_key: key("auth.credential_key", &fields.credential_key)?,
        }),
        "metadata" => {
            unsaid("auth.credential_key", &fields.credential_key)?;
            Ok(GsmAuth::Metadata)
        }
        _ => Err(ProviderError::new("auth.method", "service_account or metadata")),
    }
}

/// Whether http is allowed, and the host is a public one, is for whoever dials.
fn address(text: &str) -> Result<Destination, ProviderError> {
    let expected = "an https URL without user name, query and fragment";
    Destination::parse(text).map_err(|_| ProviderError::new("address", expected))
}

fn key(field: &'static str, text: &str) -> Result<SecretKey, ProviderError> {
    SecretKey::parse(text).map_err(|_| ProviderError::new(field, "the key of a secret of the organization"))
}

/// A field that means nothing here is an error: whoever wrote it expects something of it.
fn unsaid(field: &'static str, text: &str) -> Result<(), ProviderError> {
    if text.is_empty() {
        Ok(())
    } else {
        Err(ProviderError::new(field, "not for this kind of provider and method"))
    }
}

fn optional(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

/// One segment or more.
fn is_path(text: &str) -> bool {
    text.len() <= TEXT_BYTES_MAX && text.split('/').all(is_segment)
}

pub(super) fn fields(provider: &Provider) -> ProviderFields {
    let common = ProviderFields {
        kind: provider.backend.kind().to_owned(),
        address: address_text(provider.backend.address()),
        ca_key: provider.ca_key.as_ref().map(ToString::to_string).unwrap_or_default(),
        credential_key: provider.credential_key().map(ToString::to_string).unwrap_or_default(),
        default: provider.default,
        ttl: Some(u64::from(provider.ttl_secs)),
        ..ProviderFields::default()
    };
    match &provider.backend {
        Backend::Vault(settings) => vault_fields(settings, common),
        Backend::Gsm(settings) => gsm_fields(settings, common),
    }
}

fn vault_fields(settings: &VaultSettings, common: ProviderFields) -> ProviderFields {
    let (auth_method, auth_mount, auth_role) = match &settings.auth {
        VaultAuth::Token { .. } => ("token", "", ""),
        VaultAuth::AppRole { mount, role, .. } => ("approle", mount.as_str(), role.as_str()),
        VaultAuth::Jwt { mount, role, .. } => ("jwt", mount.as_str(), role.as_str()),
        VaultAuth::Kubernetes { mount, role, .. } => ("kubernetes", mount.as_str(), role.as_str()),
    };
    let mounts = settings.mounts.iter().map(|(mount, version)| {
        let version = match version {
            KvVersion::V1 => 1,
            KvVersion::V2 => 2,
        };
        (mount.clone(), version)
    });
    ProviderFields {
        namespace: settings.namespace.clone().unwrap_or_default(),
        mounts: mounts.collect(),
        path_prefix: settings.path_prefix.clone(),
        auth_method: auth_method.to_owned(),
        auth_mount: auth_mount.to_owned(),
        auth_role: auth_role.to_owned(),
        ..common
    }
}

fn gsm_fields(settings: &GsmSettings, common: ProviderFields) -> ProviderFields {
    let auth_method = match settings.auth {
        GsmAuth::ServiceAccount { .. } => "service_account",
        GsmAuth::Metadata => "metadata",
    };
    let mut path_prefix = format!("projects/{}", settings.project);
    if !settings.secret_prefix.is_empty() {
        path_prefix = format!("{path_prefix}/secrets/{}", settings.secret_prefix);
    }
    ProviderFields {
        path_prefix,
        auth_method: auth_method.to_owned(),
        ..common
    }
}

/// An address as people write it: without the port that goes without saying.
fn address_text(address: &Destination) -> String {
    let unsaid = match address.scheme {
        Scheme::Http => 80,
        Scheme::Https => 443,
    };
    let origin = format!("{}://{}", address.scheme.name(), address.host);
    if address.port == unsaid {
        format!("{origin}{}", address.path_prefix)
    } else {
        format!("{origin}:{}{}", address.port, address.path_prefix)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn vault() -> ProviderFields {
        ProviderFields {
            kind: "vault".into(),
            address: "https://vault.acme.example:8200".into(),
            namespace: "team/a".into(),
            mounts: BTreeMap::from([("secrets".into(), 2), ("old".into(), 1)]),
            path_prefix: "kiket/acme".into(),
            auth_method: "approle".into(),
            auth_mount: "approle".into(),
            auth_role: "f1a5c6d2-role".into(),
            credential_key: "VAULT_SECRET_ID".into(),
            ca_key: "VAULT_CA".into(),
            default: true,
            ttl: Some(60),
        }
    }

    fn gsm() -> ProviderFields {
        ProviderFields {
            kind: "gsm".into(),
            address: GSM_ADDRESS.into(),
            path_prefix: "projects/acme-prod/secrets/kiket-".into(),
            auth_method: "service_account".into(),
            credential_key: "GOOGLE_ACCOUNT".into(),
            ttl: Some(86_400),
            ..ProviderFields::default()
        }
    }

    /// A change to fields.
    type Edit = fn(&mut ProviderFields);

    fn edited(mut fields: ProviderFields, edit: Edit) -> ProviderFields {
        edit(&mut fields);
        fields
    }

    #[test]
    fn settings_are_written_as_they_are_read() {
        let token: Edit = |f| {
            f.auth_method = "token".into();
            (f.auth_role, f.auth_mount) = (String::new(), String::new());
        };
        let jwt: Edit = |f| (f.auth_method, f.auth_mount) = ("jwt".into(), "sso/jwt".into());
        let kubernetes: Edit = |f| (f.auth_method, f.auth_mount) = ("kubernetes".into(), "k8s".into());
        let metadata: Edit = |f| (f.auth_method, f.credential_key) = ("metadata".into(), String::new());
        for fields in [
            vault(),
            edited(vault(), token),
            edited(vault(), jwt),
            edited(vault(), kubernetes),
            edited(vault(), |f| f.address = "https://acme.example/vault".into()),
            edited(vault(), |f| f.address = "http://10.0.0.1:8200".into()),
            gsm(),
            edited(gsm(), |f| f.path_prefix = "projects/example.com:acme".into()),
            edited(gsm(), metadata),
        ] {
            let provider = Provider::parse("main", &fields).unwrap();
            assert_eq!(provider.fields(), fields);
            assert_eq!(provider.needs_operator(), fields.auth_method == "metadata");
        }
    }

    #[test]
    fn what_is_not_said_has_its_default() {
        let silent: Edit = |f| {
            (f.namespace, f.path_prefix, f.ca_key) = Default::default();
            (f.mounts, f.auth_mount, f.ttl) = Default::default();
        };
        let full = Provider::parse("main", &edited(vault(), silent)).unwrap().fields();
        assert_eq!(full.mounts, BTreeMap::from([("secret".into(), 2)]));
        assert_eq!((full.ttl, full.auth_mount.as_str()), (Some(60), "approle"));
        let full = Provider::parse("main", &edited(gsm(), |f| f.address = String::new())).unwrap();
        assert_eq!(full.fields().address, GSM_ADDRESS);
        let slashed = edited(vault(), |f| f.namespace = "/team/a/".into());
        assert_eq!(Provider::parse("main", &slashed).unwrap().fields().namespace, "team/a");
    }

    #[test]
    fn the_field_that_cannot_stand_is_named() {
        let both: &[(&str, Edit)] = &[
            ("kind", |f| f.kind = "aws".into()),
            ("kind", |f| f.kind = String::new()),
            ("address", |f| f.address = "vault.acme.example".into()),
            ("address", |f| f.address = "ftp://vault.acme.example".into()),
            ("address", |f| f.address = "https://u:p@vault.acme.example".into()),
            ("address", |f| f.address = "https://vault.acme.example/?a=b".into()),
            ("auth.method", |f| f.auth_method = String::new()),
            ("auth.method", |f| f.auth_method = "Token".into()),
            ("auth.credential_key", |f| f.credential_key = String::new()),
            ("auth.credential_key", |f| f.credential_key = "vault:a/b#c".into()),
            ("ca_key", |f| f.ca_key = "-----BEGIN CERTIFICATE-----".into()),
            ("ttl", |f| f.ttl = Some(0)),
            ("ttl", |f| f.ttl = Some(86_401)),
            ("ttl", |f| f.ttl = Some(u64::MAX)),
            ("path_prefix", |f| f.path_prefix = "/a".into()),
            ("path_prefix", |f| f.path_prefix = "projects/p/".into()),
            ("path_prefix", |f| f.path_prefix = "projects/p/secrets/".into()),
            ("path_prefix", |f| f.path_prefix = "projects/../secrets/s".into()),
            ("path_prefix", |f| f.path_prefix = "projects/p//s".into()),
            ("path_prefix", |f| f.path_prefix = "projects/%2e%2e".into()),
        ];
        let vault_only: &[(&str, Edit)] = &[
            ("address", |f| f.address = String::new()),
            ("namespace", |f| f.namespace = "a//b".into()),
            ("namespace", |f| f.namespace = "a\r\nX-Vault-Token: b".into()),
            ("namespace", |f| f.namespace = "a/../b".into()),
            ("mounts", |f| f.mounts = BTreeMap::from([("a/b".into(), 2)])),
            ("mounts", |f| f.mounts = BTreeMap::from([("..".into(), 2)])),
            ("mounts", |f| f.mounts = BTreeMap::from([("kv".into(), 0)])),
            ("mounts", |f| f.mounts = BTreeMap::from([("kv".into(), 3)])),
            ("mounts", |f| f.mounts = BTreeMap::from([("sys".into(), 1)])),
            ("mounts", |f| f.mounts = BTreeMap::from([("auth".into(), 1)])),
            ("mounts", |f| f.mounts = (0..33).map(|n| (format!("m{n}"), 2)).collect()),
            ("auth.role", |f| f.auth_role = String::new()),
            ("auth.role", |f| f.auth_role = "x".repeat(257)),
            ("auth.role", |f| f.auth_role = "a\nb".into()),
            ("auth.mount", |f| f.auth_mount = "../sys".into()),
            ("auth.role", |f| f.auth_method = "token".into()),
        ];
        let gsm_only: &[(&str, Edit)] = &[
            ("path_prefix", |f| f.path_prefix = String::new()),
            ("path_prefix", |f| f.path_prefix = "projects/P".into()),
            ("path_prefix", |f| f.path_prefix = "projects/p/locations/x".into()),
            ("path_prefix", |f| {
                f.path_prefix = "projects/p/secrets/s/versions/1".into()
            }),
            ("namespace", |f| f.namespace = "a".into()),
            ("mounts", |f| f.mounts = BTreeMap::from([("kv".into(), 2)])),
            ("auth.role", |f| f.auth_role = "a".into()),
            ("auth.mount", |f| f.auth_mount = "a".into()),
            ("auth.credential_key", |f| f.auth_method = "metadata".into()),
            ("address", |f| {
                (f.auth_method, f.credential_key) = ("metadata".into(), String::new());
                f.address = "https://collector.example".into();
            }),
            ("ca_key", |f| {
                (f.auth_method, f.credential_key) = ("metadata".into(), String::new());
                f.ca_key = "GOOGLE_CA".into();
            }),
        ];
        let vault_rows = both.iter().filter(|row| row.0 != "path_prefix").chain(vault_only);
        let rows = vault_rows.map(|row| (vault(), row));
        let rows = rows.chain(both.iter().chain(gsm_only).map(|row| (gsm(), row)));
        for (fields, (field, edit)) in rows {
            let fields = edited(fields, *edit);
            let refused = Provider::parse("main", &fields).unwrap_err();
            assert_eq!(refused.field, *field, "{fields:?}");
        }
        for prefix in ["/a", "a/", "a//b", "a/../b", ".", "%2e%2e/a", "a b", "a\\b"] {
            let mut fields = vault();
            fields.path_prefix = prefix.into();
            assert_eq!(Provider::parse("main", &fields).unwrap_err().field, "path_prefix");
        }
    }

    #[test]
    fn limits_hold_on_both_sides() {
        for good in [
            edited(vault(), |f| f.ttl = Some(1)),
            edited(vault(), |f| f.ttl = Some(86_400)),
            edited(vault(), |f| f.auth_role = "x".repeat(256)),
            edited(vault(), |f| f.mounts = (0..32).map(|n| (format!("m{n}"), 2)).collect()),
            edited(vault(), |f| f.path_prefix = "x".repeat(256)),
        ] {
            assert!(Provider::parse("main", &good).is_ok(), "{good:?}");
        }
        let long = edited(vault(), |f| f.path_prefix = "x".repeat(257));
        assert_eq!(Provider::parse("main", &long).unwrap_err().field, "path_prefix");
        for name in ["a", "0-vault_1", &"x".repeat(64)] {
            assert!(Provider::parse(name, &vault()).is_ok(), "{name}");
        }
        for name in ["", "-a", "A", "a b", "a/b", "\u{e4}", &"x".repeat(65)] {
            assert_eq!(Provider::parse(name, &vault()).unwrap_err().field, "name", "{name}");
        }
    }
}
