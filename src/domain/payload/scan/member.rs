//! Which top-level members the sidecar reads, and which names are reserved.

use std::borrow::Cow;

use super::{Reads, ScanError, Stated};

/// A string as it stands between its quotes.
pub(super) struct RawString<'a> {
    pub(super) raw: &'a str,
    pub(super) is_escaped: bool,
}

impl<'a> RawString<'a> {
    /// The text that it stands for; `None` with a lone surrogate, which is no text.
    pub(super) fn text(&self) -> Option<Cow<'a, str>> {
        if self.is_escaped {
            unescape(self.raw).map(Cow::Owned)
        } else {
            Some(Cow::Borrowed(self.raw))
        }
    }
}

/// What a top-level member is to the sidecar.
pub(super) enum Member {
    /// Nothing.
    Data,
    /// An id that it reads.
    Read(Read),
    /// The object that holds the runtime token.
    Authentication,
}

/// The ids that the sidecar reads.
#[derive(Clone, Copy)]
pub(super) enum Read {
    Id,
    Installation,
    Organization,
    Project,
    Extension,
    Product,
}

impl Member {
    pub(super) fn named(name: &RawString<'_>, reads: Reads) -> Result<Self, ScanError> {
        if !may_matter(name.raw.as_bytes(), reads) {
            return Ok(Self::Data);
        }
        // A name with a lone surrogate equals no name that matters.
        let Some(name) = name.text() else {
            return Ok(Self::Data);
        };
        let name = &*name;
        if folds_to(name, "secrets") || folds_to(name, "secret_status") {
            return Err(ScanError::Reserved);
        }
        Ok(match name {
            "id" => Self::Read(Read::Id),
            "extension_installation_id" => Self::Read(Read::Installation),
            "organization_id" => Self::Read(Read::Organization),
            "project_id" => Self::Read(Read::Project),
            "extension_id" => Self::Read(Read::Extension),
            "product_installation_id" => Self::Read(Read::Product),
            "authentication" if reads == Reads::IdsAndToken => Self::Authentication,
            _ => Self::Data,
        })
    }
}

impl Read {
    pub(super) fn of<'s, 'a>(self, stated: &'s mut Stated<'a>) -> &'s mut Option<Cow<'a, str>> {
        match self {
            Self::Id => &mut stated.id,
            Self::Installation => &mut stated.extension_installation_id,
            Self::Organization => &mut stated.organization_id,
            Self::Project => &mut stated.project_id,
            Self::Extension => &mut stated.extension_id,
            Self::Product => &mut stated.product_installation_id,
        }
    }
}

/// What was read of a payload's top level so far.
pub(super) struct ReadMembers<'a> {
    pub(super) reads: Reads,
    pub(super) seen: Seen,
    pub(super) stated: Stated<'a>,
}

impl ReadMembers<'_> {
    pub(super) fn none(reads: Reads) -> Self {
        Self {
            reads,
            seen: Seen::default(),
            stated: Stated::default(),
        }
    }
}

/// Which members were read already, also those that were null.
#[derive(Default)]
pub(super) struct Seen(u8);

impl Seen {
    pub(super) fn first(&mut self, read: Read) -> bool {
        self.first_bit(1 << read as u8)
    }

    pub(super) fn first_authentication(&mut self) -> bool {
        self.first_bit(1 << 7)
    }

    fn first_bit(&mut self, bit: u8) -> bool {
        let is_first = self.0 & bit == 0;
        self.0 |= bit;
        is_first
    }
}

/// Whether a name that starts like this can be one that is read or reserved: a cheap answer that errs towards yes.
pub(super) fn may_matter(name: &[u8], reads: Reads) -> bool {
    // Any character can be escaped, and the long s starts with 0xC5.
    matches!(
        name,
        [b'\\' | 0xC5, ..]
            | [b'i' | b'e' | b'o' | b'p' | b's' | b'S', b'\\', ..]
            | [b'i', b'd', ..]
            | [b'e', b'x', ..]
            | [b'o', b'r', ..]
            | [b'p', b'r', ..]
            | [b's' | b'S', b'e' | b'E', ..]
    ) || (reads == Reads::IdsAndToken && matches!(name, [b'a', b'u' | b'\\', ..]))
}

/// Whether a name equals an ASCII name in lower case under Unicode simple case folding. Beside the capitals only the
/// long s and the Kelvin sign fold to ASCII.
fn folds_to(name: &str, lower: &str) -> bool {
    if name.is_ascii() {
        return name.eq_ignore_ascii_case(lower);
    }
    let folded = name.chars().map(|c| match c {
        'ſ' => 's',
        '\u{212A}' => 'k',
        other => other.to_ascii_lowercase(),
    });
    folded.eq(lower.chars())
}

/// The text that an escaped string stands for; `None` with a lone surrogate, which is no text.
fn unescape(raw: &str) -> Option<String> {
    let mut quoted = String::with_capacity(raw.len() + 2);
    quoted.push('"');
    quoted.push_str(raw);
    quoted.push('"');
    serde_json::from_str(&quoted).ok()
}
