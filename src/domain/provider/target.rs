//! What of a backend a reference may ask for: within the provider's mounts and prefix, or nothing.

use super::{Backend, GsmSettings, KvVersion, Provider, VaultSettings};
use crate::domain::reference::{BARE_PATH_FIELD, Reference};

/// What a provider's backend is asked for. Only [`Provider::target`] makes one, so it is within the provider's prefix
/// and its parts hold nothing that a URL reads in two ways.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Target {
    /// A field of a secret of a KV engine.
    Vault(VaultTarget),
    /// A version of a secret of a project.
    Gsm(GsmTarget),
}

/// A field of a secret of a KV engine of Vault.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct VaultTarget {
    mount: String,
    kv: KvVersion,
    path: String,
    field: String,
    version: Option<u64>,
}

impl VaultTarget {
    /// The engine: one path segment.
    #[must_use]
    pub fn mount(&self) -> &str {
        &self.mount
    }

    /// Which API the engine has.
    #[must_use]
    pub const fn kv(&self) -> KvVersion {
        self.kv
    }

    /// The path below the engine: segments between single slashes.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The field.
    #[must_use]
    pub fn field(&self) -> &str {
        &self.field
    }

    /// The pinned version; the current one where `None`.
    #[must_use]
    pub const fn version(&self) -> Option<u64> {
        self.version
    }
}

/// A version of a secret of Google Secret Manager.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct GsmTarget {
    project: String,
    secret: String,
    version: Option<u64>,
}

impl GsmTarget {
    /// The project's id or number.
    #[must_use]
    pub fn project(&self) -> &str {
        &self.project
    }

    /// The secret's name.
    #[must_use]
    pub fn secret(&self) -> &str {
        &self.secret
    }

    /// The pinned version; the latest that is enabled where `None`.
    #[must_use]
    pub const fn version(&self) -> Option<u64> {
        self.version
    }
}

/// Why a provider is not asked for a reference. Nothing is sent to the backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum TargetError {
    /// The reference is another kind of backend's.
    #[error("the reference is not of the provider's kind")]
    OtherKind,
    /// It is not as references are written, or a bare path that this kind cannot look up.
    #[error("the reference names nothing that the provider could hold")]
    Malformed,
    /// Its mount is not one of the provider's.
    #[error("the reference's mount is not listed by the provider")]
    Mount,
    /// It leaves what the provider's `path_prefix` allows.
    #[error("the reference is outside the provider's path_prefix")]
    OutsidePrefix,
    /// It pins a version of an engine that keeps none.
    #[error("the reference pins a version, and a KV engine of version 1 keeps none")]
    Unversioned,
}

impl TargetError {
    /// The word in logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::OtherKind => "other-kind",
            Self::Malformed => "malformed",
            Self::Mount => "mount-not-listed",
            Self::OutsidePrefix => "outside-prefix",
            Self::Unversioned => "unversioned",
        }
    }
}

impl Provider {
    /// What this provider's backend is asked for to resolve a reference. A bare path is Vault's mount and path with
    /// the field `value`, or what follows `gsm:`; whether this is the provider that bare paths are looked up in is
    /// for whoever has all of an organization's. A refusal at the time of a delivery is as good as
    /// [`Denied`](super::FetchOutcome::Denied).
    ///
    /// # Errors
    /// [`TargetError`].
    pub fn target(&self, reference: &Reference) -> Result<Target, TargetError> {
        // Whoever made it: what comes from here on is canonical.
        if Reference::parse(&reference.to_string()).as_ref() != Ok(reference) {
            return Err(TargetError::Malformed);
        }
        match &self.backend {
            Backend::Vault(settings) => settings.target(reference).map(Target::Vault),
            Backend::Gsm(settings) => settings.target(reference).map(Target::Gsm),
        }
    }
}

impl VaultSettings {
    fn target(&self, reference: &Reference) -> Result<VaultTarget, TargetError> {
        let (mount, path, field, version) = match reference {
            Reference::Vault {
                mount,
                path,
                field,
                version,
            } => (mount.as_str(), path.as_str(), field.as_str(), *version),
            Reference::Path(whole) => {
                let (mount, path) = whole.split_once('/').ok_or(TargetError::Malformed)?;
                (mount, path, BARE_PATH_FIELD, None)
            }
            Reference::Gsm { .. } => return Err(TargetError::OtherKind),
        };
        let kv = *self.mounts.get(mount).ok_or(TargetError::Mount)?;
        if !is_within(path, &self.path_prefix) {
            return Err(TargetError::OutsidePrefix);
        }
        if kv == KvVersion::V1 && version.is_some() {
            return Err(TargetError::Unversioned);
        }
        Ok(VaultTarget {
            mount: mount.to_owned(),
            kv,
            path: path.to_owned(),
            field: field.to_owned(),
            version,
        })
    }
}

impl GsmSettings {
    fn target(&self, reference: &Reference) -> Result<GsmTarget, TargetError> {
        let read;
        let reference = match reference {
            Reference::Path(path) => {
                read = Reference::parse(&format!("gsm:{path}")).map_err(|_| TargetError::Malformed)?;
                &read
            }
            other => other,
        };
        let Reference::Gsm {
            project,
            secret,
            version,
        } = reference
        else {
            return Err(TargetError::OtherKind);
        };
        if *project != self.project || !secret.starts_with(&self.secret_prefix) {
            return Err(TargetError::OutsidePrefix);
        }
        Ok(GsmTarget {
            project: project.clone(),
            secret: secret.clone(),
            version: *version,
        })
    }
}

/// Whether a path is the prefix or below it, segment by segment.
fn is_within(path: &str, prefix: &str) -> bool {
    match path.strip_prefix(prefix) {
        Some(rest) => prefix.is_empty() || rest.is_empty() || rest.starts_with('/'),
        None => false,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::collections::BTreeMap;

    use super::super::ProviderFields;
    use super::*;

    fn vault(prefix: &str) -> Provider {
        let fields = ProviderFields {
            kind: "vault".into(),
            address: "https://vault.acme.example".into(),
            mounts: BTreeMap::from([("secret".into(), 2), ("old".into(), 1)]),
            path_prefix: prefix.into(),
            auth_method: "token".into(),
            credential_key: "VAULT_TOKEN".into(),
            ..ProviderFields::default()
        };
        Provider::parse("main", &fields).unwrap()
    }

    fn gsm(prefix: &str) -> Provider {
        let fields = ProviderFields {
            kind: "gsm".into(),
            path_prefix: prefix.into(),
            auth_method: "service_account".into(),
            credential_key: "GOOGLE_ACCOUNT".into(),
            ..ProviderFields::default()
        };
        Provider::parse("main", &fields).unwrap()
    }

    /// A target, in one line.
    fn line(provider: &Provider, text: &str) -> Result<String, TargetError> {
        let target = provider.target(&Reference::parse(text).map_err(|_| TargetError::Malformed)?)?;
        Ok(match target {
            Target::Vault(t) => format!(
                "{}:{:?} {} {} {:?}",
                t.mount(),
                t.kv(),
                t.path(),
                t.field(),
                t.version()
            ),
            Target::Gsm(t) => format!("{} {} {:?}", t.project(), t.secret(), t.version()),
        })
    }

    #[test]
    fn what_is_within_a_provider_has_one_target() {
        for (prefix, text, target) in [
            ("", "vault:secret/any/where#f@7", "secret:V2 any/where f Some(7)"),
            ("", "secret/kiket/crm_webhook", "secret:V2 kiket/crm_webhook value None"),
            ("", "vault:old/x#f", "old:V1 x f None"),
            ("kiket/a", "vault:secret/kiket/a/b#f", "secret:V2 kiket/a/b f None"),
            ("kiket/a", "vault:secret/kiket/a#f", "secret:V2 kiket/a f None"),
            ("kiket/a", "old/kiket/a/b", "old:V1 kiket/a/b value None"),
        ] {
            assert_eq!(line(&vault(prefix), text).as_deref(), Ok(target), "{text}");
        }
        for (prefix, text, target) in [
            ("projects/p", "gsm:projects/p/secrets/s", "p s None"),
            ("projects/p", "projects/p/secrets/s/versions/3", "p s Some(3)"),
            (
                "projects/p/secrets/acme-",
                "gsm:projects/p/secrets/acme-x/versions/12",
                "p acme-x Some(12)",
            ),
            (
                "projects/p/secrets/acme-",
                "gsm:projects/p/secrets/acme-",
                "p acme- None",
            ),
        ] {
            assert_eq!(line(&gsm(prefix), text).as_deref(), Ok(target), "{text}");
        }
    }

    #[test]
    fn what_leaves_a_providers_prefix_is_refused() {
        use TargetError::{Malformed, Mount, OtherKind, OutsidePrefix, Unversioned};
        for (text, why) in [
            ("vault:secret/kiket/ab#f", OutsidePrefix),
            ("vault:secret/kiket/ab/c#f", OutsidePrefix),
            ("vault:secret/kiket#f", OutsidePrefix),
            ("vault:secret/Kiket/a/b#f", OutsidePrefix),
            ("vault:secret/other/kiket/a#f", OutsidePrefix),
            ("secret/kiket/b", OutsidePrefix),
            ("vault:secret/kiket/a/../b#f", Malformed),
            ("vault:secret/kiket/a/..%2fb#f", Malformed),
            ("vault:secret/kiket/a/%2e%2e/b#f", Malformed),
            ("vault:secret/kiket/a/%2E%2E/b#f", Malformed),
            ("vault:secret/kiket/a/.%2e/b#f", Malformed),
            ("vault:secret/kiket/a/./b#f", Malformed),
            ("vault:secret/kiket/a//b#f", Malformed),
            ("vault:secret//kiket/a#f", Malformed),
            ("vault:secret/kiket/a\\..\\b#f", Malformed),
            ("vault:secret/kiket/a/b?version=1#f", Malformed),
            ("vault:secret/kiket/a/\u{ff0e}\u{ff0e}/b#f", Malformed),
            ("secret/kiket/a/../b", Malformed),
            ("vault:other/kiket/a/b#f", Mount),
            ("other/kiket/a/b", Mount),
            ("vault:sys/kiket/a/b#f", Mount),
            ("vault:Secret/kiket/a/b#f", Mount),
            ("vault:old/kiket/a/b#f@1", Unversioned),
            ("gsm:projects/kiket/secrets/a", OtherKind),
        ] {
            assert_eq!(line(&vault("kiket/a"), text), Err(why), "{text}");
        }
        for (text, why) in [
            ("gsm:projects/q/secrets/acme-x", OutsidePrefix),
            ("gsm:projects/pp/secrets/acme-x", OutsidePrefix),
            ("gsm:projects/p/secrets/acme", OutsidePrefix),
            ("gsm:projects/p/secrets/other", OutsidePrefix),
            ("gsm:projects/p/secrets/Acme-x", OutsidePrefix),
            ("projects/q/secrets/acme-x", OutsidePrefix),
            ("gsm:projects/p/secrets/acme-x/../other", Malformed),
            ("gsm:projects/p/secrets/acme-%2e%2e", Malformed),
            ("gsm:projects/p//secrets/acme-x", Malformed),
            ("gsm:projects/../secrets/acme-x", Malformed),
            ("secret/kiket/a", Malformed),
            ("projects/p/secrets/acme-x/versions/latest", Malformed),
            ("vault:projects/p/secrets/acme-x#value", OtherKind),
        ] {
            assert_eq!(line(&gsm("projects/p/secrets/acme-"), text), Err(why), "{text}");
        }
    }

    #[test]
    fn a_reference_that_nobody_parsed_is_judged_as_well() {
        let made = |mount: &str, path: &str, field: &str| Reference::Vault {
            mount: mount.into(),
            path: path.into(),
            field: field.into(),
            version: None,
        };
        let provider = vault("kiket/a");
        assert!(provider.target(&made("secret", "kiket/a/b", "f")).is_ok());
        for escape in [
            made("secret", "kiket/a/../../b", "f"),
            made("secret", "kiket/a/%2e%2e/b", "f"),
            made("secret", "kiket/a//b", "f"),
            made("secret", "kiket/a/b?version=1", "f"),
            made("secret", "kiket/a/b#g", "f"),
            made("secret/kiket", "a/b", "f"),
            made("secret", "kiket/a/b", "f@1"),
            Reference::Path("secret/kiket/a/../b".into()),
        ] {
            let refused = provider.target(&escape);
            assert_eq!(refused, Err(TargetError::Malformed), "{escape:?}");
        }
        let escape = Reference::Gsm {
            project: "p".into(),
            secret: "acme-x/../other".into(),
            version: None,
        };
        let refused = gsm("projects/p/secrets/acme-").target(&escape);
        assert_eq!(refused, Err(TargetError::Malformed));
    }
}
