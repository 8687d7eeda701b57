//! How values travel to the server: written into one request body that is wiped, and into nothing else.

use hyper::body::Bytes;
use secrecy::{ExposeSecret, SecretString};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::{Map, Value};
use zeroize::Zeroizing;

/// Where a secret stands.
#[derive(Debug, Clone, Default)]
pub struct Place {
    /// The scope's name; the server reads aliases too.
    pub scope: String,
    /// What it is bound to; at scope `organization` the current one, where left out.
    pub id: Option<String>,
    /// Whose, where the token does not say.
    pub organization: Option<String>,
    /// Whether it is the partner's default for everybody.
    pub partner_default: bool,
}

impl Place {
    /// The members that name it.
    #[must_use]
    pub fn members(&self) -> Map<String, Value> {
        let mut members = Map::new();
        members.insert("scope".into(), self.scope.clone().into());
        let texts = [("id", &self.id), ("organization_id", &self.organization)];
        for (name, text) in texts {
            members.extend(text.clone().map(|text| (name.to_owned(), text.into())));
        }
        if self.partner_default {
            members.insert("partner_default".into(), true.into());
        }
        members
    }
}

/// A request body with values in it. Says nothing of them in `Debug`.
pub struct SecretBody(Zeroizing<Vec<u8>>);

/// Members that may be shown, and the one that may not.
struct WithValue<'a> {
    members: &'a Map<String, Value>,
    value: &'a SecretString,
}

impl Serialize for WithValue<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.members.len().saturating_add(1)))?;
        for (name, member) in self.members {
            map.serialize_entry(name, member)?;
        }
        map.serialize_entry("value", self.value.expose_secret())?;
        map.end()
    }
}

impl SecretBody {
    /// One value, with the other members of the request.
    #[must_use]
    pub fn one(members: &Map<String, Value>, value: &SecretString) -> Self {
        Self::of(&WithValue { members, value })
    }

    /// Many values, written all or none.
    #[must_use]
    pub fn many(secrets: &[(Map<String, Value>, &SecretString)]) -> Self {
        let secrets = secrets.iter().map(|(members, value)| WithValue { members, value });
        let secrets: Vec<_> = secrets.collect();
        Self::of(&std::collections::BTreeMap::from([("secrets", secrets)]))
    }

    fn of(document: &impl Serialize) -> Self {
        let mut bytes = Zeroizing::new(Vec::with_capacity(4 * 1024));
        let _ = serde_json::to_writer(&mut *bytes, document); // texts into memory: cannot fail
        Self(bytes)
    }

    pub(super) fn into_bytes(self) -> Bytes {
        Bytes::from_owner(self.0)
    }

    /// How long it is, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.0.len()
    }
}

impl std::fmt::Debug for SecretBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretBody(..)")
    }
}
