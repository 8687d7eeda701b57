//! Whether a payload is read as a full JSON parser reads it, and comes out as it went in but for what is inserted.

use std::borrow::Cow;
use std::fmt;
use std::sync::LazyLock;

use bytes::Bytes;
use secrecy::SecretString;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::domain::key::SecretKey;
use crate::domain::payload::{DEPTH_MAX, Scan, ScanError, Stated, fragment, scan, scan_with_token, splice};
use crate::domain::resolution::{PayloadSecret, PayloadSecrets};

const READ: [&str; 6] = [
    "id",
    "extension_installation_id",
    "organization_id",
    "project_id",
    "extension_id",
    "product_installation_id",
];

/// The six in the order of [`READ`], and the runtime token.
type Read = [Option<String>; 7];

static FRAGMENT: LazyLock<Bytes> = LazyLock::new(|| {
    let key = |text| SecretKey::parse(text).expect("a key");
    let mut secrets = PayloadSecrets::default();
    secrets.insert(PayloadSecret {
        key: key("TOKEN"),
        value: SecretString::from("a \"value\"\\\n\u{1}\u{e9}\u{1f511}"),
    });
    Bytes::copy_from_slice(&fragment(&secrets, &[key("MISSING")]))
});

/// Reads: a payload.
pub fn hold(data: &[u8]) {
    for is_token_read in [false, true] {
        let scan = if is_token_read { scan_with_token } else { scan };
        let found = scan(data);
        match judge(data, is_token_read) {
            Judgement::Refused => assert!(found.is_err(), "accepted what is no JSON object of bounded depth"),
            Judgement::Json(expected) => assert_eq!(found.as_ref().map(read).map_err(|error| *error), expected),
        }
        surrounded(data, scan, &found);
    }
    if let Ok(found) = scan(data) {
        spliced(data, &found);
    }
}

/// White space around a payload makes it long enough for the fast twin, at any alignment, and changes nothing.
fn surrounded(
    data: &[u8],
    scan: for<'a> fn(&'a [u8]) -> Result<Scan<'a>, ScanError>,
    found: &Result<Scan<'_>, ScanError>,
) {
    let before = data.len() % 67;
    let long = [&vec![b' '; before], data, &[b'\n'; 520]].concat();
    let again = scan(&long);
    let moved = found
        .as_ref()
        .map(|found| (found.insert_at + before, found.is_empty, read(found)));
    assert_eq!(
        again
            .as_ref()
            .map(|found| (found.insert_at, found.is_empty, read(found))),
        moved
    );
}

/// What is inserted can be taken out again, and what a receiver parses are the members that were there and two more.
fn spliced(data: &[u8], found: &Scan<'_>) {
    let fragment = FRAGMENT.clone();
    let pieces = splice(
        Bytes::copy_from_slice(data),
        found.insert_at,
        found.is_empty,
        fragment.clone(),
    );
    let sent = pieces.pieces().concat();
    let inserted = fragment.len() - usize::from(found.is_empty);
    let mut without = sent.clone();
    without.drain(found.insert_at..found.insert_at + inserted);
    assert_eq!(without, data);

    let before: Members<'_> = serde_json::from_slice(data).expect("it was accepted");
    let after: Members<'_> = serde_json::from_slice(&sent).expect("what is sent is JSON");
    let (kept, added) = after.0.split_at(before.0.len());
    let same =
        |one: &(Name, &RawValue), other: &(Name, &RawValue)| one.0.0 == other.0.0 && one.1.get() == other.1.get();
    assert!(kept.iter().zip(&before.0).all(|(one, other)| same(one, other)));
    let names: Vec<_> = added.iter().map(|(name, _)| name.0.as_slice()).collect();
    assert_eq!(names, [&b"secrets"[..], b"secret_status"]);
    assert_eq!(
        scan(&sent),
        Err(ScanError::Reserved),
        "what is enriched is not enriched again"
    );
}

/// What a full parser says.
enum Judgement {
    /// No JSON object, or one that is nested too deeply.
    Refused,
    /// What is read of it, or why it is refused all the same.
    Json(Result<Read, ScanError>),
}

fn judge(data: &[u8], is_token_read: bool) -> Judgement {
    let Ok(text) = std::str::from_utf8(data) else {
        return Judgement::Refused;
    };
    let is_object = text.trim_ascii_start().starts_with('{');
    if !is_object || serde_json::from_str::<IgnoredAny>(text).is_err() || depth(data) > DEPTH_MAX {
        return Judgement::Refused;
    }
    let members: Members<'_> = serde_json::from_str(text).expect("it parsed before");
    Judgement::Json(judge_members(&members, is_token_read))
}

fn judge_members(members: &Members<'_>, is_token_read: bool) -> Result<Read, ScanError> {
    let mut read: [Option<Option<String>>; 7] = Default::default();
    for (name, value) in &members.0 {
        // A lone surrogate leaves a name that is no text.
        let Ok(name) = std::str::from_utf8(&name.0) else {
            continue;
        };
        if ["secrets", "secret_status"].contains(&folded(name).as_str()) {
            return Err(ScanError::Reserved);
        }
        let which = match READ.iter().position(|known| *known == name) {
            Some(which) => which,
            None if is_token_read && name == "authentication" => READ.len(),
            None => continue,
        };
        if read[which].is_some() {
            return Err(ScanError::Duplicate);
        }
        read[which] = Some(if which < READ.len() {
            id(value.get())?
        } else {
            token(value.get())?
        });
    }
    Ok(read.map(Option::flatten))
}

/// The text of a string or an integer, nothing for null.
fn id(raw: &str) -> Result<Option<String>, ScanError> {
    match raw.as_bytes() {
        [b'-' | b'0'..=b'9', ..] if !raw.contains(['.', 'e', 'E']) => Ok(Some(raw.to_owned())),
        _ => text_or_null(raw),
    }
}

/// The text `runtime_token` of an object; nothing where it, or the object, is null or not there.
fn token(raw: &str) -> Result<Option<String>, ScanError> {
    if raw == "null" {
        return Ok(None);
    }
    let members: Members<'_> = serde_json::from_str(raw).map_err(|_| ScanError::WrongType)?;
    let mut tokens = members
        .0
        .iter()
        .filter(|(name, _)| name.0 == b"runtime_token")
        .map(|(_, value)| value.get());
    let first = tokens.next().map_or(Ok(None), text_or_null)?;
    if tokens.next().is_some() {
        Err(ScanError::Duplicate)
    } else {
        Ok(first)
    }
}

fn text_or_null(raw: &str) -> Result<Option<String>, ScanError> {
    match raw.as_bytes() {
        b"null" => Ok(None),
        [b'"', ..] => serde_json::from_str(raw).map(Some).map_err(|_| ScanError::WrongType),
        _ => Err(ScanError::WrongType),
    }
}

/// A name under simple case folding: where a character has one capital, that one's small letter.
fn folded(name: &str) -> String {
    let one = |character: char| {
        let mut capitals = character.to_uppercase();
        let capital = capitals
            .next()
            .filter(|_| capitals.next().is_none())
            .unwrap_or(character);
        let mut small = capital.to_lowercase();
        small.next().filter(|_| small.next().is_none()).unwrap_or(character)
    };
    name.chars().map(one).collect()
}

/// How deep well-formed JSON is nested.
fn depth(json: &[u8]) -> u32 {
    let (mut depth, mut deepest, mut in_string, mut is_escaped) = (0, 0, false, false);
    for byte in json {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => depth += 1,
            b'}' | b']' if !in_string => depth -= 1,
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

fn read(scan: &Scan<'_>) -> Read {
    let Stated {
        id,
        extension_installation_id,
        organization_id,
        project_id,
        extension_id,
        product_installation_id,
        runtime_token,
    } = &scan.stated;
    let ids = [
        id,
        extension_installation_id,
        organization_id,
        project_id,
        extension_id,
        product_installation_id,
    ]
    .map(|id| id.as_ref().map(|text: &Cow<'_, str>| text.clone().into_owned()));
    let token = runtime_token.as_ref().map(|token| token.as_str().to_owned());
    let [a, b, c, d, e, f] = ids;
    [a, b, c, d, e, f, token]
}

/// An object's members in order, each as often as it stands there.
struct Members<'a>(Vec<(Name, &'a RawValue)>);

/// A member's name, unescaped; a lone surrogate as three bytes that are no UTF-8.
struct Name(Vec<u8>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;

        impl<'de> Visitor<'de> for InOrder {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(InOrder)
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Unescaped;

        impl Visitor<'_> for Unescaped {
            type Value = Name;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Name, E> {
                Ok(Name(bytes.to_vec()))
            }
        }

        deserializer.deserialize_bytes(Unescaped)
    }
}
