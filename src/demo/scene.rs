//! What the story is set in: one extension, one installation, values at all five scopes and one key without any.

use data_encoding::BASE32_NOPAD;
use http::Method;
use serde_json::{Value, json};

use super::DemoError;
use super::client::Administrator;
use super::pki::Pki;

pub(super) const EXTENSION: &str = "com.example.mailchimp";
pub(super) const INSTALLATION: &str = "ins_demo";
pub(super) const HOST: &str = "mailchimp.dev.example";

/// The key that nobody gave a value.
pub(super) const MISSING: &str = "SMTP_PASSWORD";
pub(super) const SIGNING_KEY: &str = "KIKET_WEBHOOK_SECRET";

/// Everything that is put into the store, and what a delivery should make of it.
pub(super) struct Scene {
    pub(super) pki: Pki,
    pub(super) operator_token: String,
    pub(super) signing_secret: String,
    /// Values for the payload, the wider ones of a key first.
    pub(super) placed: Vec<Placed>,
}

/// A value and where it was put. Every value is another one, so that it tells where it came from.
pub(super) struct Placed {
    pub(super) key: &'static str,
    pub(super) scope: &'static str,
    pub(super) id: &'static str,
    pub(super) is_partner_default: bool,
    pub(super) value: String,
}

impl Placed {
    /// The place as a reader should see it.
    pub(super) fn place(&self) -> String {
        if self.is_partner_default {
            format!("{} (partner's default)", self.scope)
        } else {
            self.scope.to_owned()
        }
    }
}

impl Scene {
    pub(super) fn new() -> Result<Self, DemoError> {
        let place = |key, scope, id| placed(key, scope, id, false);
        let default = |key| placed(key, "extension", EXTENSION, true);
        Ok(Self {
            pki: Pki::new(HOST)?,
            operator_token: random()?,
            signing_secret: random()?,
            placed: vec![
                place("MAILCHIMP_API_KEY", "organization", "acme")?,
                place("MAILCHIMP_API_KEY", "extension_installation", INSTALLATION)?,
                place("MAILCHIMP_AUDIENCE", "product_installation", "prod_demo")?,
                default("OAUTH_CLIENT_ID")?,
                place("OAUTH_CLIENT_ID", "extension", EXTENSION)?,
                default("OAUTH_CLIENT_SECRET")?,
                place("CRM_TOKEN", "project", "web")?,
                place("SMTP_HOST", "organization", "acme")?,
            ],
        })
    }

    /// Registers, installs, fills and enables, as an administrator would.
    pub(super) async fn set_up(&self, admin: &Administrator<'_>, port: u16) -> Result<(), DemoError> {
        let secret = |required: bool, scope: &str| json!({"type": "string", "secret": true, "required": required, "scope": scope});
        let manifest = json!({"extension": {
            "id": EXTENSION,
            "version": "1.4.0",
            "delivery": {"type": "http", "callback": {
                "url": format!("https://{HOST}:{port}/kiket"),
                "secret_keys": ["CRM_TOKEN"],
                "signing_secret_key": SIGNING_KEY,
                "mtls": {"certificate_key": "CLIENT_CERT", "private_key_key": "CLIENT_KEY", "ca_key": "SERVER_CA"},
            }},
            "configuration": {
                "MAILCHIMP_API_KEY": secret(true, "installation"),
                "MAILCHIMP_AUDIENCE": secret(false, "installation"),
                "OAUTH_CLIENT_ID": secret(true, "extension"),
                "OAUTH_CLIENT_SECRET": secret(true, "extension"),
                "SMTP_HOST": secret(false, "installation"),
                MISSING: secret(false, "installation"),
            },
        }});
        let path = format!("/extensions/{EXTENSION}");
        admin.call(Method::PUT, &path, &manifest).await?;
        let installation = json!({
            "id": INSTALLATION, "extension_id": EXTENSION, "organization_id": "acme", "project_id": "web",
            "product_installation_id": "prod_demo",
        });
        let installations = "/marketplace/installations";
        admin.call(Method::POST, installations, &installation).await?;
        admin
            .call(Method::POST, "/extensions/secrets", &json!({"secrets": self.all()}))
            .await?;
        let path = format!("{installations}/{INSTALLATION}");
        let enabled = json!({"state": "enabled"});
        admin.call(Method::PATCH, &path, &enabled).await.map(drop)
    }

    /// Every value, as the REST API takes it. One write takes a key once per place.
    fn all(&self) -> Vec<Value> {
        let of_payload = self.placed.iter().map(|placed| {
            json!({
                "scope": placed.scope, "id": placed.id, "key": placed.key, "value": placed.value,
                "organization_id": (!placed.is_partner_default).then_some("acme"),
                "partner_default": placed.is_partner_default,
            })
        });
        let own = |key: &str, value: &str| json!({"scope": "extension", "id": EXTENSION, "organization_id": "acme", "key": key, "value": value});
        of_payload
            .chain([
                own(SIGNING_KEY, &self.signing_secret),
                own("CLIENT_CERT", &self.pki.client.certificate),
                own("CLIENT_KEY", &self.pki.client.key),
                own("SERVER_CA", &self.pki.ca),
            ])
            .collect()
    }
}

fn placed(
    key: &'static str,
    scope: &'static str,
    id: &'static str,
    is_partner_default: bool,
) -> Result<Placed, DemoError> {
    let value = random()?;
    Ok(Placed {
        key,
        scope,
        id,
        is_partner_default,
        value,
    })
}

fn random() -> Result<String, DemoError> {
    let mut bytes = [0_u8; 20];
    aws_lc_rs::rand::fill(&mut bytes)
        .map_err(|_| DemoError::Machine("random bytes", std::io::ErrorKind::Unsupported))?;
    Ok(BASE32_NOPAD.encode(&bytes).to_lowercase())
}
