//! Whether a manifest means one thing, also as JSON, and no key that signs or shakes hands is ever to be injected.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::domain::key::SecretKey;
use crate::domain::manifest::{Manifest, ManifestError};

/// Deeper documents, and larger ones, run into bounds that the writing of JSON moves.
const DEPTH_MAX: usize = 16;

/// Reads: a manifest.
pub fn hold(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let parsed = Manifest::parse(text);
    match &parsed {
        Ok(manifest) => keeps_apart(manifest),
        Err(error) => points_into(text, *error),
    }
    let Ok(tree) = serde_json::from_str::<Tree>(text) else {
        return;
    };
    if tree.depth() <= DEPTH_MAX && text.len() <= 4096 {
        let kind = |parsed: &Result<Manifest, ManifestError>| parsed.clone().map_err(|error| error.kind);
        assert_eq!(
            kind(&parsed),
            kind(&Manifest::parse(&tree.written())),
            "JSON read as YAML"
        );
        if let Ok(manifest) = &parsed {
            asks_for_what_it_names(&tree, manifest);
        }
    }
}

fn keeps_apart(manifest: &Manifest) {
    let demand = manifest.demand();
    let injected: Vec<&SecretKey> = demand.payload.iter().map(|one| &one.key).collect();
    assert!(injected.is_sorted_by(|one, next| one < next), "sorted, each once");
    let handshake = demand.handshake.iter().flat_map(|keys| keys.all());
    let mut reserved = handshake.chain(&demand.signing);
    assert!(
        !reserved.any(|key| injected.contains(&key)),
        "a reserved key is to be injected"
    );
    assert!((100..=60_000).contains(&demand.timeout.as_millis()));
    assert!(manifest.id.as_str().contains('.'));
    assert_eq!(manifest.declares_mtls(), demand.handshake.is_some());
}

fn points_into(text: &str, error: ManifestError) {
    let lines = text.split(['\n', '\r']).count() as u64;
    let longest = text
        .split(['\n', '\r'])
        .map(|line| line.chars().count())
        .max()
        .unwrap_or(0) as u64;
    assert!((1..=lines + 1).contains(&error.line), "{error:?}");
    assert!((1..=longest + 2).contains(&error.column), "{error:?}");
}

/// The keys that a manifest in JSON names, looked for by hand.
fn asks_for_what_it_names(root: &Tree, manifest: &Manifest) {
    let body = root.member("extension").unwrap_or(root);
    let callback = match body.member("delivery") {
        Some(delivery @ Tree::Map(_)) => delivery.member("callback").or(body.member("callback")),
        _ => body.member("callback"),
    };
    let named = |node: Option<&Tree>| node.map(Tree::texts).unwrap_or_default();
    let configuration = body.member("configuration");
    let properties = configuration
        .and_then(|all| all.member("properties"))
        .filter(|inner| matches!(inner, Tree::Map(_)));
    let mut injected: BTreeMap<String, bool> = BTreeMap::new();
    if let Some(Tree::Map(entries)) = properties.or(configuration) {
        for (name, entry) in entries {
            if matches!(entry.member("secret"), Some(Tree::Flag(true))) {
                injected.insert(name.clone(), matches!(entry.member("required"), Some(Tree::Flag(true))));
            }
        }
    }
    for key in named(callback.and_then(|callback| callback.member("secret_keys"))) {
        injected.entry(key).or_insert(false);
    }
    let signing = match callback.and_then(|callback| callback.member("signing_secret_key")) {
        Some(keys) => keys.texts(),
        None => {
            let legacy = named(callback.and_then(|callback| callback.member("secret")));
            legacy
                .iter()
                .filter_map(|text| text.strip_prefix("env:"))
                .map(str::to_owned)
                .collect()
        }
    };
    let mtls = callback.and_then(|callback| callback.member("mtls"));
    let parts = ["certificate_key", "private_key_key", "ca_key"];
    let handshake: Vec<_> = parts
        .iter()
        .flat_map(|part| named(mtls.and_then(|mtls| mtls.member(part))))
        .collect();
    let reserved: BTreeSet<_> = signing.iter().chain(&handshake).cloned().collect();
    injected.retain(|key, _| !reserved.contains(key));

    let demand = manifest.demand();
    let asked: Vec<_> = demand
        .payload
        .into_iter()
        .map(|one| (one.key.to_string(), one.required))
        .collect();
    assert_eq!(asked, injected.into_iter().collect::<Vec<_>>());
    assert_eq!(
        demand.signing.iter().map(ToString::to_string).collect::<Vec<_>>(),
        signing
    );
    let shaken: Vec<_> = demand
        .handshake
        .iter()
        .flat_map(|keys| keys.all())
        .map(ToString::to_string)
        .collect();
    assert_eq!(shaken, handshake);
}

/// A JSON document in which no name stands twice in one object.
enum Tree {
    Null,
    Flag(bool),
    Whole(i64),
    Fraction,
    Text(String),
    List(Vec<Self>),
    Map(Vec<(String, Self)>),
}

impl Tree {
    fn member(&self, name: &str) -> Option<&Self> {
        let Self::Map(members) = self else {
            return None;
        };
        let found = members.iter().find(|(candidate, _)| candidate == name);
        found
            .map(|(_, value)| value)
            .filter(|value| !matches!(value, Self::Null))
    }

    /// A text, or those of a list.
    fn texts(&self) -> Vec<String> {
        match self {
            Self::Text(text) => vec![text.clone()],
            Self::List(items) => items.iter().flat_map(Self::texts).collect(),
            _ => Vec::new(),
        }
    }

    fn depth(&self) -> usize {
        1 + match self {
            Self::List(items) => items.iter().map(Self::depth).max().unwrap_or(0),
            Self::Map(members) => members.iter().map(|(_, value)| value.depth()).max().unwrap_or(0),
            _ => 0,
        }
    }

    /// As JSON once more: one line, no spaces, nothing escaped that needs not be.
    fn written(&self) -> String {
        match self {
            Self::Null => "null".to_owned(),
            Self::Flag(flag) => flag.to_string(),
            Self::Whole(number) => number.to_string(),
            Self::Fraction => "0.5".to_owned(),
            Self::Text(text) => serde_json::to_string(text).expect("text is JSON"),
            Self::List(items) => format!("[{}]", items.iter().map(Self::written).collect::<Vec<_>>().join(",")),
            Self::Map(members) => {
                let member = |(name, value): &(String, Self)| {
                    format!(
                        "{}:{}",
                        serde_json::to_string(name).expect("text is JSON"),
                        value.written()
                    )
                };
                format!("{{{}}}", members.iter().map(member).collect::<Vec<_>>().join(","))
            }
        }
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Nodes)
    }
}

struct Nodes;

impl<'de> Visitor<'de> for Nodes {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Null)
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Tree, E> {
        Ok(Tree::Flag(flag))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Tree, E> {
        Ok(Tree::Whole(number))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Tree, E> {
        Ok(i64::try_from(number).map_or(Tree::Fraction, Tree::Whole))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Tree, E> {
        Ok(Tree::Fraction)
    }

    fn visit_str<E>(self, text: &str) -> Result<Tree, E> {
        Ok(Tree::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Tree, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Tree::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Tree, A::Error> {
        let mut map: Vec<(String, Tree)> = Vec::new();
        while let Some((name, value)) = members.next_entry::<String, Tree>()? {
            if map.iter().any(|(other, _)| *other == name) {
                return Err(de::Error::custom("a name stands twice"));
            }
            map.push((name, value));
        }
        Ok(Tree::Map(map))
    }
}
