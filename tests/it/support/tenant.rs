//! A tenant that delivers over mutual TLS: its extension's callback, its installation, its certificate and key.

use serde_json::{Value, json};

use super::instance::{Instance, Options};
use super::pki::{Authority, Identity};

pub const CERTIFICATE: &str = "CLIENT_CERT";
pub const PRIVATE_KEY: &str = "CLIENT_KEY";
pub const CA: &str = "SERVER_CA";

/// An installation of an organization.
pub struct Tenant<'a> {
    pub instance: &'a Instance,
    pub organization: &'a str,
    pub installation: &'a str,
}

/// A callback that declares mTLS.
pub fn mutual_callback(url: &str) -> Value {
    json!({"url": url, "timeout": 20_000, "mtls": {
        "certificate_key": CERTIFICATE, "private_key_key": PRIVATE_KEY, "ca_key": CA,
    }})
}

/// An instance that trusts an authority beside the system's.
pub fn trusting(authority: &Authority, settings: &[(&str, &str)]) -> Instance {
    let file = authority.file();
    let mut all = vec![("egress_ca_file", file.path().to_str().unwrap())];
    all.extend_from_slice(settings);
    Instance::with(Options {
        settings: &all,
        ..Default::default()
    })
}

impl<'a> Tenant<'a> {
    /// An enabled installation of `extension` in an organization, with this identity.
    pub fn enabled(
        instance: &'a Instance,
        extension: &str,
        [organization, installation]: [&'a str; 2],
        identity: &Identity,
        authority: &Authority,
    ) -> Self {
        let new = json!({
            "id": installation, "extension_id": extension, "organization_id": organization, "project_id": "proj",
        });
        instance.must("POST", "/marketplace/installations", &new);
        let tenant = Self {
            instance,
            organization,
            installation,
        };
        tenant.set_identity(identity, authority);
        instance.enable(installation);
        tenant
    }

    /// Writes one of the installation's secrets.
    pub fn set(&self, key: &str, value: &str) {
        let secret = json!({
            "scope": "extension_installation", "id": self.installation, "organization_id": self.organization,
            "key": key, "value": value,
        });
        self.instance.must("POST", "/extensions/secrets", &secret);
    }

    /// Deletes one of the installation's secrets.
    pub fn delete(&self, key: &str) {
        let place = format!(
            "scope=extension_installation&id={}&organization_id={}",
            self.installation, self.organization
        );
        let path = format!("/extensions/secrets/{key}?{place}");
        self.instance.must("DELETE", &path, &Value::Null);
    }

    /// Writes certificate, key and CA.
    pub fn set_identity(&self, identity: &Identity, authority: &Authority) {
        self.set(CERTIFICATE, &identity.certificate_pem());
        self.set(PRIVATE_KEY, &identity.key_pem());
        self.set(CA, &authority.pem());
    }
}
