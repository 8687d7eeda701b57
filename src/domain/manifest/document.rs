//! A manifest's text as a tree that knows where each of its nodes stands.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Location, Spanned};

use super::{ManifestError, ManifestErrorKind};

/// The largest manifest, in bytes.
const DOCUMENT_BYTES_MAX: usize = 256 * 1024;

/// A node and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Node {
    line: u64,
    column: u64,
    pub(super) value: Value,
}

/// What a node is. Numbers other than whole ones have no use in a manifest.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Null,
    Flag(bool),
    Whole(i64),
    Fraction,
    Text(String),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
}

impl PartialEq for Node {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl Node {
    /// Parses YAML or JSON. Aliases, nesting and size are bounded.
    pub(super) fn parse(document: &str) -> Result<Self, ManifestError> {
        let refused = |line, column| ManifestError {
            line,
            column,
            kind: ManifestErrorKind::Syntax,
        };
        if document.len() > DOCUMENT_BYTES_MAX {
            return Err(ManifestError {
                line: 1,
                column: 1,
                kind: ManifestErrorKind::TooLarge,
            });
        }
        let options = serde_saphyr::options! {
            budget: serde_saphyr::budget! {
                max_aliases: 100,
                max_anchors: 50,
                max_depth: 32,
                max_documents: 1,
                max_nodes: 20_000,
            },
        };
        // The parser's own text may quote the document: only the place is kept.
        serde_saphyr::from_str_with_options::<Spanned<Value>>(document, options)
            .map(Self::from)
            .map_err(|error| {
                let place = error.location();
                refused(place.map_or(1, |at| at.line()), place.map_or(1, |at| at.column()))
            })
    }

    /// An error that points here.
    pub(super) const fn error(&self, kind: ManifestErrorKind) -> ManifestError {
        ManifestError {
            line: self.line,
            column: self.column,
            kind,
        }
    }

    /// The members of a map.
    pub(super) fn members(&self) -> Result<&[(String, Self)], ManifestError> {
        match &self.value {
            Value::Map(members) => Ok(members),
            Value::Null => Ok(&[]),
            _ => Err(self.error(ManifestErrorKind::NotAMap)),
        }
    }

    /// A member of a map; one that is null is not there.
    pub(super) fn member(&self, name: &str) -> Option<&Self> {
        match &self.value {
            Value::Map(members) => members
                .iter()
                .find(|(candidate, node)| candidate == name && node.value != Value::Null)
                .map(|(_, node)| node),
            _ => None,
        }
    }

    /// The text of a scalar; numbers are taken as they would be written.
    pub(super) fn text(&self) -> Result<String, ManifestError> {
        match &self.value {
            Value::Text(text) => Ok(text.clone()),
            Value::Whole(number) => Ok(number.to_string()),
            _ => Err(self.error(ManifestErrorKind::NotText)),
        }
    }

    /// A flag.
    pub(super) fn flag(&self) -> Result<bool, ManifestError> {
        match self.value {
            Value::Flag(flag) => Ok(flag),
            _ => Err(self.error(ManifestErrorKind::NotAFlag)),
        }
    }

    /// The items of a list, or the one item that stands in its place.
    pub(super) fn items(&self) -> &[Self] {
        match &self.value {
            Value::List(items) => items,
            _ => std::slice::from_ref(self),
        }
    }
}

impl From<Spanned<Value>> for Node {
    fn from(spanned: Spanned<Value>) -> Self {
        let at: Location = spanned.referenced;
        Self {
            line: at.line().max(1),
            column: at.column().max(1),
            value: spanned.value,
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a manifest")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        Value::deserialize(deserializer)
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Value, E> {
        Ok(Value::Flag(flag))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(Value::Whole(number))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(i64::try_from(number).map_or(Value::Fraction, Value::Whole))
    }

    fn visit_f64<E>(self, _number: f64) -> Result<Value, E> {
        Ok(Value::Fraction)
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element::<Spanned<Value>>()? {
            list.push(item.into());
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut map = Vec::new();
        while let Some((name, value)) = members.next_entry::<String, Spanned<Value>>()? {
            map.push((name, value.into()));
        }
        Ok(Value::Map(map))
    }
}
