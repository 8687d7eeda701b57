//! Which value an installation gets for a key: the five scopes in order, and what an unclear answer means.
//!
//! Only [`Lookup::Absent`] falls through to the next scope. Everything else ends the search, so that an error at
//! a specific scope never hands out a wider one.

use std::collections::BTreeMap;

use secrecy::SecretString;

use super::id::ScopeId;
use super::installation::Installation;
use super::key::SecretKey;
use super::scope::{Owner, Scope, Slot};
use super::time::Timestamp;

/// What one slot answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lookup<T> {
    /// It holds a value.
    Found(T),
    /// It holds none: no row, a placeholder, or a deleted secret.
    Absent,
    /// It holds a reference whose target does not exist: missing here, without falling through.
    Dangling,
    /// The value is there and may not be used.
    Denied,
    /// Whether there is a value cannot be told at the moment.
    Unavailable,
}

/// What the scopes together answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resolved<T> {
    /// The first slot that has a value.
    Found(T),
    /// No slot has one, or the first that should have points nowhere.
    Missing,
    /// The deciding slot may not be used.
    Denied,
    /// The deciding slot cannot be told.
    Unavailable,
}

/// Takes the first answer that is not [`Lookup::Absent`].
pub fn first_match<T>(lookups: impl IntoIterator<Item = Lookup<T>>) -> Resolved<T> {
    for lookup in lookups {
        match lookup {
            Lookup::Found(value) => return Resolved::Found(value),
            Lookup::Absent => {}
            Lookup::Dangling => return Resolved::Missing,
            Lookup::Denied => return Resolved::Denied,
            Lookup::Unavailable => return Resolved::Unavailable,
        }
    }
    Resolved::Missing
}

/// Whether an installation may use the partner's defaults of its extension. One whose callback is overridden away
/// from the manifest's destination may not: a tenant could collect them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartnerDefaults {
    /// They are the last layer of the extension scope.
    Offered,
    /// They are not asked for at all.
    Withheld,
}

/// The slots to ask for a key, in precedence order. The extension scope has two layers: the organization's own
/// value, then the partner's default.
#[must_use]
pub fn slots(installation: &Installation, partner: PartnerDefaults, key: &SecretKey) -> Vec<Slot> {
    let tenant = Owner::Organization(installation.organization.clone());
    let slot = |owner: &Owner, scope: Scope, scope_id: ScopeId| Slot {
        owner: owner.clone(),
        scope,
        scope_id,
        key: key.clone(),
    };
    let mut slots = Vec::with_capacity(6);
    for scope in Scope::ALL {
        match scope {
            Scope::ExtensionInstallation => slots.push(slot(&tenant, scope, (&installation.id).into())),
            Scope::ProductInstallation => {
                if let Some(product) = &installation.product_installation {
                    slots.push(slot(&tenant, scope, product.into()));
                }
            }
            Scope::Extension => {
                slots.push(slot(&tenant, scope, (&installation.extension).into()));
                if partner == PartnerDefaults::Offered {
                    slots.push(slot(&Owner::Partner, scope, (&installation.extension).into()));
                }
            }
            Scope::Project => slots.push(slot(&tenant, scope, (&installation.project).into())),
            Scope::Organization => slots.push(slot(&tenant, scope, (&installation.organization).into())),
        }
    }
    slots
}

/// The values that go into a payload, by key. Nothing else can be put in: handshake and signing secrets are
/// other types.
///
/// ```compile_fail
/// # use kiket_sidecar::domain::resolution::{HandshakeSecrets, PayloadSecrets};
/// fn smuggle(payload: &mut PayloadSecrets, handshake: HandshakeSecrets) {
///     payload.insert(handshake.certificate); // a handshake secret is no payload secret
/// }
/// ```
/// ```compile_fail
/// # use kiket_sidecar::domain::resolution::{PayloadSecrets, SigningSecret};
/// fn smuggle(payload: &mut PayloadSecrets, signing: SigningSecret) {
///     payload.insert(signing); // nor is a signing secret
/// }
/// ```
#[derive(Debug, Default)]
pub struct PayloadSecrets(BTreeMap<SecretKey, SecretString>);

/// One value for a payload.
#[derive(Debug)]
pub struct PayloadSecret {
    /// Its name in the payload.
    pub key: SecretKey,
    /// Its value.
    pub value: SecretString,
}

impl PayloadSecrets {
    /// Adds a value under its key.
    pub fn insert(&mut self, secret: PayloadSecret) {
        self.0.insert(secret.key, secret.value);
    }

    /// The values, sorted by key.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&SecretKey, &SecretString)> {
        self.0.iter()
    }
}

/// A certificate or key for an outbound handshake. Never enters a payload.
#[derive(Debug)]
pub struct HandshakeSecret(pub SecretString);

/// What an outbound handshake uses.
#[derive(Debug)]
pub struct HandshakeSecrets {
    /// The client certificate chain, PEM.
    pub certificate: HandshakeSecret,
    /// Its private key, PEM.
    pub private_key: HandshakeSecret,
    /// The CA that the endpoint is checked against, PEM; the system's roots where absent.
    pub ca: Option<HandshakeSecret>,
}

/// A secret that signs. Never enters a payload.
#[derive(Debug)]
pub struct SigningSecret {
    /// The value in force.
    pub current: SecretString,
    /// What a rotation replaced, and until when it stays valid in signatures.
    pub predecessor: Option<(SecretString, Timestamp)>,
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::super::id::{ExtensionId, InstallationId, OrganizationId, ProductInstallationId, ProjectId};
    use super::super::installation::InstallationState;
    use super::*;

    fn installation() -> Installation {
        Installation {
            id: InstallationId::parse("ins").unwrap(),
            extension: ExtensionId::parse("com.example").unwrap(),
            organization: OrganizationId::parse("org").unwrap(),
            project: ProjectId::parse("proj").unwrap(),
            product_installation: Some(ProductInstallationId::parse("prod").unwrap()),
            state: InstallationState::Enabled,
            callback_url: None,
            version: 1,
            created_at: Timestamp(0),
            updated_at: Timestamp(0),
        }
    }

    fn described(slots: &[Slot]) -> Vec<String> {
        slots
            .iter()
            .map(|s| format!("{}/{}/{}", s.owner.as_str(), s.scope, s.scope_id))
            .collect()
    }

    #[test]
    fn slots_are_asked_narrowest_first_with_two_layers_at_the_extension_scope() {
        let key = SecretKey::parse("K").unwrap();
        assert_eq!(
            described(&slots(&installation(), PartnerDefaults::Offered, &key)),
            [
                "org/extension_installation/ins",
                "org/product_installation/prod",
                "org/extension/com.example",
                "/extension/com.example",
                "org/project/proj",
                "org/organization/org",
            ]
        );
    }

    #[test]
    fn an_installation_without_product_or_partner_defaults_skips_those_slots() {
        let key = SecretKey::parse("K").unwrap();
        let mut bare = installation();
        bare.product_installation = None;
        assert_eq!(
            described(&slots(&bare, PartnerDefaults::Withheld, &key)),
            [
                "org/extension_installation/ins",
                "org/extension/com.example",
                "org/project/proj",
                "org/organization/org",
            ]
        );
    }

    #[test]
    fn only_absent_falls_through() {
        use Lookup::{Absent, Dangling, Denied, Found, Unavailable};
        for position in 0..5 {
            let at = |lookup: Lookup<usize>| {
                (0..5).map(move |n| match n {
                    n if n < position => Absent,
                    n if n == position => lookup,
                    n => Found(n),
                })
            };
            assert_eq!(first_match(at(Found(position))), Resolved::Found(position));
            assert_eq!(first_match(at(Dangling)), Resolved::Missing);
            assert_eq!(first_match(at(Denied)), Resolved::Denied);
            assert_eq!(first_match(at(Unavailable)), Resolved::Unavailable);
        }
        assert_eq!(first_match([Absent::<u8>; 5]), Resolved::Missing);
    }
}
