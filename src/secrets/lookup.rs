//! What a stored row answers when a key is asked for.

use crate::domain::resolution::Lookup;
use crate::domain::secret::SecretKind;
use crate::store::SecretRow;

/// A slot's answer, in words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Looked {
    /// It holds a value.
    Found,
    /// It was never written.
    Absent,
    /// It waits for its value.
    Placeholder,
    /// Its secret was deleted.
    Deleted,
    /// Whether it holds a value cannot be told at the moment.
    Unavailable,
    /// Its value may not be used.
    Denied,
    /// Its reference points to nothing.
    Dangling,
    /// A partner's default that this installation does not get.
    Withheld,
}

impl Looked {
    /// The word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Found => "found",
            Self::Absent => "absent",
            Self::Placeholder => "placeholder",
            Self::Deleted => "deleted",
            Self::Unavailable => "unavailable",
            Self::Denied => "denied",
            Self::Dangling => "dangling",
            Self::Withheld => "withheld",
        }
    }
}

/// What a stored row answers. A reference has no provider to ask in this build, so whether its target has a value
/// cannot be told.
pub(super) fn looked(row: Option<&SecretRow>) -> Looked {
    match row.map(|row| row.meta.kind) {
        None => Looked::Absent,
        Some(SecretKind::Value) => Looked::Found,
        Some(SecretKind::Placeholder) => Looked::Placeholder,
        Some(SecretKind::Tombstone) => Looked::Deleted,
        Some(SecretKind::Reference) => Looked::Unavailable,
    }
}

/// The same for the resolution: only what is absent falls through.
pub(super) fn lookup(row: Option<&SecretRow>) -> Lookup<&SecretRow> {
    match (looked(row), row) {
        (Looked::Found, Some(row)) => Lookup::Found(row),
        (Looked::Absent | Looked::Placeholder | Looked::Deleted, _) => Lookup::Absent,
        (Looked::Dangling, _) => Lookup::Dangling,
        (Looked::Denied | Looked::Withheld, _) => Lookup::Denied,
        (Looked::Found | Looked::Unavailable, _) => Lookup::Unavailable,
    }
}
