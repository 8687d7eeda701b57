//! Where a target stands in Vault's API, and what its answer says: a value, nothing, or something else.

use std::collections::HashMap;

use http::StatusCode;
use serde::Deserialize;
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use super::super::value::Marks;
use super::super::{ExternalValue, ExternalVersion, Fetched};
use crate::domain::provider::{KvVersion, Unavailable, VaultTarget};
use crate::egress::Answer;

/// Longest accepted time of a version, in bytes: RFC 3339 with nanoseconds and an offset.
const TIME_BYTES_MAX: usize = 40;

/// The path below `/v1/`. A target's parts need no escapes.
pub(super) fn path(target: &VaultTarget) -> String {
    let (mount, path) = (target.mount(), target.path());
    match (target.kv(), target.version()) {
        (KvVersion::V1, _) => format!("{mount}/{path}"),
        (KvVersion::V2, None) => format!("{mount}/data/{path}"),
        (KvVersion::V2, Some(version)) => format!("{mount}/data/{path}?version={version}"),
    }
}

/// The fields of a secret, as they are written.
type Fields<'a> = HashMap<String, &'a RawValue>;

#[derive(Deserialize)]
struct V1<'a> {
    #[serde(borrow)]
    data: Fields<'a>,
}

#[derive(Deserialize)]
struct V2<'a> {
    #[serde(borrow)]
    data: V2Data<'a>,
}

/// Of a version that was deleted or destroyed, the metadata is there alone.
#[derive(Deserialize)]
struct V2Data<'a> {
    #[serde(borrow)]
    data: Option<Fields<'a>>,
    metadata: Metadata,
}

#[derive(Deserialize)]
struct Metadata {
    version: u64,
    #[serde(default)]
    created_time: String,
}

/// What Vault answers where nothing is: no handler, no secret, or a version that is gone.
#[derive(Deserialize)]
struct Nothing {
    errors: Option<Vec<serde::de::IgnoredAny>>,
    data: Option<serde::de::IgnoredAny>,
}

/// What an answer says of a target.
pub(super) fn judge(target: &VaultTarget, answer: &Answer, marks: &Marks) -> Fetched {
    match answer.status {
        StatusCode::OK => found(target, answer, marks).unwrap_or_else(Fetched::Unavailable),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Fetched::Denied,
        // Something between here and Vault knows no path at all: that does not make a secret missing.
        StatusCode::NOT_FOUND if !is_vaults(answer) => Fetched::Unavailable(Unavailable::WrongShape),
        StatusCode::NOT_FOUND => Fetched::Dangling,
        _ => Fetched::Unavailable(Unavailable::WrongShape),
    }
}

fn is_vaults(answer: &Answer) -> bool {
    serde_json::from_slice(&answer.body)
        .is_ok_and(|nothing: Nothing| nothing.errors.is_some() || nothing.data.is_some())
}

fn found(target: &VaultTarget, answer: &Answer, marks: &Marks) -> Result<Fetched, Unavailable> {
    const NOT_AS_ASKED: Unavailable = Unavailable::WrongShape;
    let (fields, named) = match target.kv() {
        KvVersion::V1 => {
            let V1 { data } = serde_json::from_slice(&answer.body).map_err(|_| NOT_AS_ASKED)?;
            (data, None)
        }
        KvVersion::V2 => {
            let V2 { data } = serde_json::from_slice(&answer.body).map_err(|_| NOT_AS_ASKED)?;
            if target.version().is_some_and(|pinned| pinned != data.metadata.version) {
                return Err(NOT_AS_ASKED);
            }
            let Some(fields) = data.data else {
                return Ok(Fetched::Dangling);
            };
            (fields, Some(name(&data.metadata)))
        }
    };
    let Some(field) = fields.get(target.field()) else {
        return Ok(Fetched::Dangling);
    };
    let text: String = serde_json::from_str(field.get()).map_err(|_| NOT_AS_ASKED)?;
    let bytes = Zeroizing::new(text.into_bytes());
    let version = named.unwrap_or_else(|| marks.version_of(&bytes));
    ExternalValue::accept(bytes, version).map(Fetched::Found)
}

/// A version's number, and when it was written: a secret that was removed with its history and written again starts
/// at 1 once more.
fn name(metadata: &Metadata) -> ExternalVersion {
    let time = &metadata.created_time;
    let is_in_time = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b':' | b'.' | b'+' | b'-');
    let is_time = (1..=TIME_BYTES_MAX).contains(&time.len()) && time.bytes().all(is_in_time);
    ExternalVersion::Named(if is_time {
        format!("{}@{time}", metadata.version)
    } else {
        metadata.version.to_string()
    })
}
