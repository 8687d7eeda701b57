//! What Secret Manager is asked for, and what its answers say of it.

use std::borrow::Cow;
use std::fmt::Write;

use crc::{CRC_32_ISCSI, Crc};
use data_encoding::BASE64;
use http::StatusCode;
use serde::Deserialize;
use serde::de::IgnoredAny;
use url::form_urlencoded;
use zeroize::Zeroizing;

use super::super::failed::Failed;
use super::super::{ExternalValue, ExternalVersion, Fetched};
use crate::domain::provider::{GsmTarget, Unavailable};
use crate::egress::Answer;

/// The polynomial of Castagnoli, as in RFC 3720.
const CRC32C: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);

/// How many versions a page of a list has.
const PAGE: usize = 20;

/// Longest accepted token of a list's next page, in bytes.
const PAGE_TOKEN_BYTES_MAX: usize = 2_048;

/// What is not as the API says it is.
const NOT_AS_ASKED: Unavailable = Unavailable::WrongShape;

/// What an answer to a reading says.
pub(super) enum Read {
    Fetched(Fetched),
    /// There is a version, which cannot be read in its state, where that is said.
    NotEnabled(Option<State>),
}

/// What became of a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(super) enum State {
    Enabled,
    Disabled,
    Destroyed,
}

impl State {
    const fn filter(self) -> &'static str {
        match self {
            Self::Enabled => "state:ENABLED",
            Self::Disabled => "state:DISABLED",
            Self::Destroyed => "state:DESTROYED",
        }
    }
}

/// What a page of a list says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Listed {
    Newest(u64),
    Nothing,
    /// Nothing here, but there is another page.
    More(String),
}

/// Below `/v1/`. A target's parts need no escapes.
fn secret_path(target: &GsmTarget) -> String {
    format!("projects/{}/secrets/{}", target.project(), target.secret())
}

/// Where a version's value is read, or the newest version's.
pub(super) fn access_path(target: &GsmTarget, version: Option<u64>) -> String {
    match version {
        None => format!("{}/versions/latest:access", secret_path(target)),
        Some(version) => format!("{}/versions/{version}:access", secret_path(target)),
    }
}

/// Where a version's state is read.
pub(super) fn version_path(target: &GsmTarget, version: u64) -> String {
    format!("{}/versions/{version}", secret_path(target))
}

/// Where the versions in a state are listed, the newest first.
pub(super) fn list_path(target: &GsmTarget, state: State, page_token: Option<&str>) -> String {
    let mut path = format!(
        "{}/versions?filter={}&pageSize={PAGE}",
        secret_path(target),
        state.filter()
    );
    if let Some(token) = page_token {
        let encoded: String = form_urlencoded::byte_serialize(token.as_bytes()).collect();
        let _ = write!(path, "&pageToken={encoded}"); // a String takes all
    }
    path
}

/// What Google says of a failure.
#[derive(Deserialize)]
struct Failure {
    error: Reason,
}

#[derive(Deserialize)]
struct Reason {
    #[serde(default)]
    status: String,
    #[serde(default)]
    message: String,
}

/// `None` where the answer is not Google's: something in between knows no such path, or has an opinion of its own.
fn reason(answer: &Answer) -> Option<Reason> {
    let failure: Option<Failure> = serde_json::from_slice(&answer.body).ok();
    failure.map(|failure| failure.error)
}

#[derive(Deserialize)]
struct Accessed<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow)]
    payload: Payload<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Payload<'a> {
    /// Not written where it is empty.
    #[serde(default, borrow)]
    data: Cow<'a, str>,
    #[serde(borrow)]
    data_crc32c: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Version<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    state: State,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page<'a> {
    #[serde(default, borrow)]
    versions: Vec<Version<'a>>,
    #[serde(default)]
    next_page_token: String,
}

#[derive(Deserialize)]
struct Rights {
    #[serde(default, rename = "permissions")]
    _permissions: Vec<IgnoredAny>,
}

/// What an answer to a reading of a version, or the newest one, says.
pub(super) fn judge(target: &GsmTarget, version: Option<u64>, answer: &Answer) -> Read {
    Read::Fetched(match answer.status {
        StatusCode::OK => found(target, version, answer).map_or_else(Fetched::Unavailable, Fetched::Found),
        StatusCode::FORBIDDEN => Fetched::Denied,
        StatusCode::NOT_FOUND if reason(answer).is_some() => Fetched::Dangling,
        StatusCode::BAD_REQUEST => match reason(answer) {
            Some(reason) if reason.status == "FAILED_PRECONDITION" => return Read::NotEnabled(named(&reason)),
            _ => NOT_AS_ASKED.into(),
        },
        _ => NOT_AS_ASKED.into(),
    })
}

/// The state that a failure names. Reading it there takes no more rights than the value itself; the wording is not
/// promised, so where it is another the version is asked for its state.
fn named(reason: &Reason) -> Option<State> {
    let is_in = |words| reason.message.ends_with(words);
    match () {
        () if is_in(" is in DISABLED state.") => Some(State::Disabled),
        () if is_in(" is in DESTROYED state.") => Some(State::Destroyed),
        () => None,
    }
}

fn found(target: &GsmTarget, asked: Option<u64>, answer: &Answer) -> Result<ExternalValue, Unavailable> {
    let accessed: Accessed<'_> = serde_json::from_slice(&answer.body).map_err(|_| NOT_AS_ASKED)?;
    let version = version_of(target, &accessed.name).ok_or(NOT_AS_ASKED)?;
    if asked.is_some_and(|asked| asked != version) {
        return Err(NOT_AS_ASKED);
    }
    let bytes = BASE64
        .decode(accessed.payload.data.as_bytes())
        .map_err(|_| NOT_AS_ASKED)?;
    let bytes = Zeroizing::new(bytes);
    // Google makes a checksum where whoever wrote the version gave none: one that is missing was lost, like the rest
    // of a damaged answer. It is a 32-bit number in the decimal text that JSON has for 64-bit ones.
    let checksum: u32 = accessed.payload.data_crc32c.parse().map_err(|_| NOT_AS_ASKED)?;
    if CRC32C.checksum(&bytes) != checksum {
        return Err(Unavailable::Corrupted);
    }
    ExternalValue::accept(bytes, ExternalVersion::Named(version.to_string()))
}

/// The number of a version of the target's secret. In answers a project stands by its number, so it is not compared.
fn version_of(target: &GsmTarget, name: &str) -> Option<u64> {
    let (_, below) = name.strip_prefix("projects/")?.split_once('/')?;
    let below = below.strip_prefix("secrets/")?.strip_prefix(target.secret())?;
    below.strip_prefix("/versions/")?.parse().ok()
}

/// The state of a version; `None` where there is no such version.
pub(super) fn state(answer: &Answer) -> Result<Option<State>, Failed> {
    match answer.status {
        StatusCode::OK => {
            let version: Version<'_> = serde_json::from_slice(&answer.body).map_err(|_| NOT_AS_ASKED)?;
            Ok(Some(version.state))
        }
        StatusCode::FORBIDDEN => Err(Failed::Denied),
        StatusCode::NOT_FOUND if reason(answer).is_some() => Ok(None),
        _ => Err(NOT_AS_ASKED.into()),
    }
}

/// What a page of a list says. The list is sorted, so the first is the newest.
pub(super) fn listed(target: &GsmTarget, answer: &Answer) -> Result<Listed, Failed> {
    match answer.status {
        StatusCode::OK => {}
        StatusCode::FORBIDDEN => return Err(Failed::Denied),
        StatusCode::NOT_FOUND if reason(answer).is_some() => return Ok(Listed::Nothing),
        _ => return Err(NOT_AS_ASKED.into()),
    }
    let page: Page<'_> = serde_json::from_slice(&answer.body).map_err(|_| NOT_AS_ASKED)?;
    match page.versions.first() {
        Some(version) => {
            let number = version_of(target, &version.name).ok_or(NOT_AS_ASKED)?;
            Ok(Listed::Newest(number))
        }
        None if page.next_page_token.is_empty() => Ok(Listed::Nothing),
        None if page.next_page_token.len() > PAGE_TOKEN_BYTES_MAX => Err(NOT_AS_ASKED.into()),
        None => Ok(Listed::More(page.next_page_token)),
    }
}

/// Whether an answer says which rights there are.
pub(super) fn is_rights(answer: &Answer) -> bool {
    serde_json::from_slice::<Rights>(&answer.body).is_ok()
}
