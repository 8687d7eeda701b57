//! What a payload's bytes are: one well-formed JSON object or not, where its last brace is, which ids it states.
//!
//! Two twins answer: a scalar one, whose verdict counts, and a fast one, which says of long payloads that all is well, and
//! leaves every other answer to the first.
#![cfg_attr(
    not(target_arch = "x86_64"),
    allow(dead_code, reason = "vector instructions are written for x86-64 alone")
)]

use std::borrow::Cow;

use crate::domain::runtime_token::PresentedToken;

mod classes;
mod grammar;
mod lanes;
mod member;
mod nesting;
mod planes;
mod scalar;
mod scalars;
mod strings;

/// The deepest nesting accepted; the outermost object is depth 1.
pub const DEPTH_MAX: u32 = 128;

/// The length from which the bit-parallel twin pays.
const PLANES_FROM: usize = 512;

/// What one pass over a payload found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scan<'a> {
    /// The offset of the object's closing brace.
    pub insert_at: usize,
    /// Whether the object has no members.
    pub is_empty: bool,
    /// The members that the sidecar reads.
    pub stated: Stated<'a>,
}

/// The top-level members that the sidecar reads. Integers are taken as text, null as not stated.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stated<'a> {
    /// The invocation's id.
    pub id: Option<Cow<'a, str>>,
    /// The installation it is addressed to.
    pub extension_installation_id: Option<Cow<'a, str>>,
    /// Ids that must agree with the registry's record.
    pub organization_id: Option<Cow<'a, str>>,
    /// As above.
    pub project_id: Option<Cow<'a, str>>,
    /// As above.
    pub extension_id: Option<Cow<'a, str>>,
    /// As above.
    pub product_installation_id: Option<Cow<'a, str>>,
    /// `authentication.runtime_token`, which [`scan_with_token`] alone reads.
    pub runtime_token: Option<PresentedToken<'a>>,
}

/// Why a payload is refused. Carries nothing of it; sending it again does not help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum ScanError {
    /// Not one JSON object in UTF-8 without a byte order mark.
    #[error("the payload is not one well-formed JSON object")]
    Malformed,
    /// Nested deeper than [`DEPTH_MAX`].
    #[error("the payload is nested too deeply")]
    TooDeep,
    /// A member that the sidecar reads stands twice: readers disagree about which one counts.
    #[error("a member that is read stands twice")]
    Duplicate,
    /// A top-level member that a receiver could take for an inserted one.
    #[error("the payload has a reserved member")]
    Reserved,
    /// A member that the sidecar reads is neither text, integer nor null.
    #[error("a member that is read is neither text nor integer")]
    WrongType,
}

impl ScanError {
    /// The word for logs and metrics.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::TooDeep => "too-deep",
            Self::Duplicate => "duplicate",
            Self::Reserved => "reserved",
            Self::WrongType => "wrong-type",
        }
    }
}

/// Reads a payload in one pass: strict grammar (RFC 8259), UTF-8, bounded depth.
///
/// Lone surrogates in escapes are accepted, as the RFC does. Only exact names are read; a name that merely folds to one
/// of them is data, because the sidecar decides by the exact one alone.
///
/// # Errors
/// [`ScanError`].
pub fn scan(body: &[u8]) -> Result<Scan<'_>, ScanError> {
    read(body, Reads::Ids)
}

/// The same, and in the same pass reads the text `runtime_token` of the object `authentication`: both become members
/// that the sidecar reads, with what that means for duplicates and types. Null is as good as not there, for either.
///
/// # Errors
/// [`ScanError`].
pub fn scan_with_token(body: &[u8]) -> Result<Scan<'_>, ScanError> {
    read(body, Reads::IdsAndToken)
}

/// Which members are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reads {
    Ids,
    IdsAndToken,
}

fn read(body: &[u8], reads: Reads) -> Result<Scan<'_>, ScanError> {
    if body.len() >= PLANES_FROM
        && let Some(found) = planes::scan(body, reads)
    {
        return Ok(found);
    }
    scalar::scan(body, reads)
}

#[cfg(test)]
mod tests;
