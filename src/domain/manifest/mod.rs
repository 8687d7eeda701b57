//! What an extension asks for: every accepted shape of a manifest, normalised to one type (contract, section 4).

mod document;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::consent::{KeyUse, UsedKey};
use super::destination::Destination;
use super::id::ExtensionId;
use super::key::SecretKey;
use document::Node;

/// The shortest timeout a manifest may ask for, in milliseconds.
const TIMEOUT_MILLIS_MIN: i64 = 100;
/// The longest.
const TIMEOUT_MILLIS_MAX: i64 = 60_000;
/// Where it asks for none.
const TIMEOUT_MILLIS_DEFAULT: u64 = 30_000;

/// A manifest, as far as the sidecar is concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// The extension.
    pub id: ExtensionId,
    /// The extension's own version, for people.
    pub version: Option<String>,
    /// Where and how invocations are delivered.
    pub callback: Option<Callback>,
    /// The secret entries of its configuration, in the manifest's order.
    pub configuration: Vec<Field>,
}

/// A secret that the extension is configured with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// Its name.
    pub key: SecretKey,
    /// Whether the extension cannot do without.
    pub required: bool,
    /// Where a wizard stores it. Resolution walks all scopes regardless.
    pub scope: FieldScope,
    /// What people call it.
    pub label: Option<String>,
}

/// Where a wizard stores a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldScope {
    /// For all of an organization's installations of the extension.
    Extension,
    /// For one installation.
    Installation,
}

impl FieldScope {
    /// The word in manifests and checklists.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Extension => "extension",
            Self::Installation => "installation",
        }
    }
}

/// Where and how invocations are delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Callback {
    /// Where to. `None` where the manifest has none or leaves a `${…}` in it: the installation has to say.
    pub url: Option<Destination>,
    /// The whole delivery.
    pub timeout: Duration,
    /// Keys to inject beside the configuration's.
    pub secret_keys: Vec<SecretKey>,
    /// Keys that sign, never in a payload.
    pub signing_secret_keys: Vec<SecretKey>,
    /// Keys for the handshake, never in a payload.
    pub mtls: Option<MtlsKeys>,
    /// What to do where a required key has no value.
    pub on_missing: OnMissing,
    /// Whether the endpoint wants to hear of rotations.
    pub rotation_webhook: bool,
}

/// The keys of a client certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MtlsKeys {
    /// The chain, PEM.
    pub certificate_key: SecretKey,
    /// Its private key, PEM.
    pub private_key_key: SecretKey,
    /// The CA that the endpoint is checked against, PEM.
    pub ca_key: Option<SecretKey>,
}

/// What to do where a required key has no value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnMissing {
    /// Deliver nothing.
    FailFast,
    /// Deliver, with the key in `missing`.
    Forward,
}

/// Everything that a delivery needs values for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Demand {
    /// Keys for the payload, sorted.
    pub payload: Vec<PayloadKey>,
    /// Keys for the handshake.
    pub handshake: Option<MtlsKeys>,
    /// Keys that sign, in the manifest's order.
    pub signing: Vec<SecretKey>,
    /// What to do where a required key has no value.
    pub on_missing: OnMissing,
    /// The whole delivery.
    pub timeout: Duration,
    /// What of it the organization has not accepted: it gets no value. Of a manifest alone nothing is known to be.
    pub withheld: BTreeSet<UsedKey>,
}

/// One key for the payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PayloadKey {
    /// Its name.
    pub key: SecretKey,
    /// Whether the extension cannot do without. A key that is only listed in `secret_keys` is not required.
    pub required: bool,
}

/// What is wrong with a manifest, and where. Carries nothing of its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{kind} (line {line}, column {column})")]
pub struct ManifestError {
    /// From 1.
    pub line: u64,
    /// From 1.
    pub column: u64,
    /// What.
    pub kind: ManifestErrorKind,
}

/// What can be wrong with a manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ManifestErrorKind {
    /// Neither YAML nor JSON, or a name twice.
    #[error("this is neither well-formed YAML nor JSON, or a name stands twice in one map")]
    Syntax,
    /// More than 256 KiB.
    #[error("a manifest has at most 256 KiB")]
    TooLarge,
    /// Something else where a map belongs.
    #[error("a map is expected here")]
    NotAMap,
    /// Something else where a text belongs.
    #[error("a text is expected here")]
    NotText,
    /// Something else where `true` or `false` belongs.
    #[error("true or false is expected here")]
    NotAFlag,
    /// No `id`.
    #[error("the manifest has no id")]
    NoId,
    /// An `id` that is none.
    #[error("an extension id is a reverse-DNS name of 1 to 128 of A-Z, a-z, 0-9 and . _ : -")]
    Id,
    /// A secret's name that is none.
    #[error("a secret key is 1 to 128 of A-Z, 0-9 and _, and starts with a letter")]
    Key,
    /// A delivery of another type.
    #[error("delivery is http")]
    Delivery,
    /// A callback URL that is none.
    #[error("a callback is an absolute http(s) URL without user name, query or fragment")]
    Url,
    /// A timeout out of range.
    #[error("timeout is 100 to 60000 milliseconds")]
    Timeout,
    /// `on_missing` of another kind.
    #[error("on_missing is fail_fast or forward")]
    OnMissing,
    /// `scope` of another kind.
    #[error("scope is extension or installation")]
    Scope,
    /// An mTLS block without certificate or key.
    #[error("mtls needs certificate_key and private_key_key")]
    Mtls,
    /// An mTLS or signing key among the keys to inject.
    #[error("a key for the handshake or for signing is never injected and cannot be in secret_keys")]
    NotInjectable,
    /// `callback.secret` of another form.
    #[error("callback.secret is env:NAME")]
    LegacySecret,
}

type Parsed<T> = Result<T, ManifestError>;

impl Manifest {
    /// Parses a manifest, YAML or JSON. Unknown members are ignored.
    ///
    /// # Errors
    /// [`ManifestError`] with the place.
    pub fn parse(document: &str) -> Parsed<Self> {
        let root = Node::parse(document)?;
        let body = root.member("extension").unwrap_or(&root);
        body.members()?;
        let id = body.member("id").ok_or(body.error(ManifestErrorKind::NoId))?;
        let id = ExtensionId::parse(&id.text()?).map_err(|_| id.error(ManifestErrorKind::Id))?;
        let version = body.member("version").map(Node::text).transpose()?;
        let callback = callback_node(body)?.map(callback).transpose()?;
        let configuration = body
            .member("configuration")
            .map(configuration)
            .transpose()?
            .unwrap_or_default();
        Ok(Self {
            id,
            version,
            callback,
            configuration,
        })
    }

    /// Whether deliveries present a client certificate: then they go over TLS or not at all.
    #[must_use]
    pub fn declares_mtls(&self) -> bool {
        self.callback.as_ref().is_some_and(|callback| callback.mtls.is_some())
    }

    /// What a delivery needs values for: secret configuration and `secret_keys`, less every key of the handshake and
    /// of signing.
    #[must_use]
    pub fn demand(&self) -> Demand {
        let callback = self.callback.as_ref();
        let mut payload: BTreeMap<SecretKey, bool> = self
            .configuration
            .iter()
            .map(|field| (field.key.clone(), field.required))
            .collect();
        for key in callback.iter().flat_map(|callback| &callback.secret_keys) {
            payload.entry(key.clone()).or_insert(false);
        }
        for key in callback.iter().flat_map(|callback| callback.reserved_keys()) {
            payload.remove(key);
        }
        Demand {
            payload: payload
                .into_iter()
                .map(|(key, required)| PayloadKey { key, required })
                .collect(),
            handshake: callback.and_then(|callback| callback.mtls.clone()),
            signing: callback
                .map(|callback| callback.signing_secret_keys.clone())
                .unwrap_or_default(),
            on_missing: callback.map_or(OnMissing::FailFast, |callback| callback.on_missing),
            timeout: callback.map_or(Duration::from_millis(TIMEOUT_MILLIS_DEFAULT), |callback| {
                callback.timeout
            }),
            withheld: BTreeSet::new(),
        }
    }
}

impl Demand {
    /// Every key with each of its uses.
    pub fn used_keys(&self) -> impl Iterator<Item = UsedKey> {
        let used = |key: &SecretKey, used_for| UsedKey {
            key: key.clone(),
            used_for,
        };
        let payload = self
            .payload
            .iter()
            .map(move |wanted| used(&wanted.key, KeyUse::Payload));
        let handshake = self.handshake.iter().flat_map(MtlsKeys::all);
        payload
            .chain(handshake.map(move |key| used(key, KeyUse::Handshake)))
            .chain(self.signing.iter().map(move |key| used(key, KeyUse::Signing)))
    }

    /// Whether a key gets no value for this use.
    #[must_use]
    pub fn is_withheld(&self, key: &SecretKey, used_for: KeyUse) -> bool {
        let used = UsedKey {
            key: key.clone(),
            used_for,
        };
        self.withheld.contains(&used)
    }
}

impl Callback {
    /// The keys that never enter a payload.
    fn reserved_keys(&self) -> impl Iterator<Item = &SecretKey> {
        let mtls = self.mtls.iter().flat_map(MtlsKeys::all);
        mtls.chain(&self.signing_secret_keys)
    }
}

impl MtlsKeys {
    /// Certificate, key and, where there is one, CA.
    pub fn all(&self) -> impl Iterator<Item = &SecretKey> {
        [
            Some(&self.certificate_key),
            Some(&self.private_key_key),
            self.ca_key.as_ref(),
        ]
        .into_iter()
        .flatten()
    }
}

/// The callback, wherever it stands: within `delivery`, or beside `delivery: http`.
fn callback_node(body: &Node) -> Parsed<Option<&Node>> {
    let Some(delivery) = body.member("delivery") else {
        return Ok(body.member("callback"));
    };
    let (kind, callback) = match delivery.text() {
        Ok(_) => (Some(delivery), body.member("callback")),
        Err(_) => {
            delivery.members()?;
            (
                delivery.member("type"),
                delivery.member("callback").or_else(|| body.member("callback")),
            )
        }
    };
    match kind {
        Some(kind) if kind.text()? != "http" => Err(kind.error(ManifestErrorKind::Delivery)),
        _ => Ok(callback),
    }
}

fn callback(node: &Node) -> Parsed<Callback> {
    node.members()?;
    let mtls = node.member("mtls").map(mtls).transpose()?;
    let signing_secret_keys = signing_keys(node)?;
    let mut secret_keys = Vec::new();
    for item in node.member("secret_keys").map_or(&[][..], Node::items) {
        let key = key(item)?;
        let is_reserved = mtls
            .iter()
            .flat_map(MtlsKeys::all)
            .chain(&signing_secret_keys)
            .any(|other| *other == key);
        if is_reserved {
            return Err(item.error(ManifestErrorKind::NotInjectable));
        }
        secret_keys.push(key);
    }
    Ok(Callback {
        url: node.member("url").map(url).transpose()?.flatten(),
        timeout: node
            .member("timeout")
            .map_or(Ok(Duration::from_millis(TIMEOUT_MILLIS_DEFAULT)), timeout)?,
        secret_keys,
        signing_secret_keys,
        mtls,
        on_missing: node.member("on_missing").map_or(Ok(OnMissing::FailFast), on_missing)?,
        rotation_webhook: node.member("rotation_webhook").map_or(Ok(false), Node::flag)?,
    })
}

fn url(node: &Node) -> Parsed<Option<Destination>> {
    let text = node.text()?;
    if text.contains("${") {
        return Ok(None); // never expanded: the installation says where
    }
    Destination::parse(&text)
        .map(Some)
        .map_err(|_| node.error(ManifestErrorKind::Url))
}

fn timeout(node: &Node) -> Parsed<Duration> {
    match node.value {
        document::Value::Whole(millis @ TIMEOUT_MILLIS_MIN..=TIMEOUT_MILLIS_MAX) => {
            Ok(Duration::from_millis(millis.unsigned_abs()))
        }
        _ => Err(node.error(ManifestErrorKind::Timeout)),
    }
}

fn on_missing(node: &Node) -> Parsed<OnMissing> {
    match node.text()?.as_str() {
        "fail_fast" => Ok(OnMissing::FailFast),
        "forward" => Ok(OnMissing::Forward),
        _ => Err(node.error(ManifestErrorKind::OnMissing)),
    }
}

fn mtls(node: &Node) -> Parsed<MtlsKeys> {
    node.members()?;
    let needed = |name| {
        node.member(name)
            .ok_or(node.error(ManifestErrorKind::Mtls))
            .and_then(key)
    };
    Ok(MtlsKeys {
        certificate_key: needed("certificate_key")?,
        private_key_key: needed("private_key_key")?,
        ca_key: node.member("ca_key").map(key).transpose()?,
    })
}

/// The signing keys: one or a list, or an older manifest's `secret: env:NAME`. The environment is never read.
fn signing_keys(callback: &Node) -> Parsed<Vec<SecretKey>> {
    if let Some(node) = callback.member("signing_secret_key") {
        return node.items().iter().map(key).collect();
    }
    let Some(legacy) = callback.member("secret") else {
        return Ok(Vec::new());
    };
    let text = legacy.text()?;
    let name = text
        .strip_prefix("env:")
        .ok_or(legacy.error(ManifestErrorKind::LegacySecret))?;
    Ok(vec![
        SecretKey::parse(name).map_err(|_| legacy.error(ManifestErrorKind::Key))?,
    ])
}

/// The secret entries; others are neither stored nor injected, and their names are free.
fn configuration(node: &Node) -> Parsed<Vec<Field>> {
    let entries = node
        .member("properties")
        .filter(|inner| matches!(inner.value, document::Value::Map(_)));
    let mut fields = Vec::new();
    for (name, entry) in entries.unwrap_or(node).members()? {
        if !entry.member("secret").map_or(Ok(false), Node::flag)? {
            continue;
        }
        let scope = match entry.member("scope") {
            None => FieldScope::Installation,
            Some(scope) => match scope.text()?.as_str() {
                "extension" => FieldScope::Extension,
                "installation" => FieldScope::Installation,
                _ => return Err(scope.error(ManifestErrorKind::Scope)),
            },
        };
        fields.push(Field {
            key: SecretKey::parse(name).map_err(|_| entry.error(ManifestErrorKind::Key))?,
            required: entry.member("required").map_or(Ok(false), Node::flag)?,
            scope,
            label: entry.member("label").map(Node::text).transpose()?,
        });
    }
    Ok(fields)
}

fn key(node: &Node) -> Parsed<SecretKey> {
    SecretKey::parse(&node.text()?).map_err(|_| node.error(ManifestErrorKind::Key))
}

#[cfg(test)]
mod tests;
