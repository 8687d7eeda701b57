//! What a stored row answers when a key is asked for.

use crate::domain::provider::FetchOutcome;
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
    /// It refers to a value elsewhere, which nobody was asked for.
    NotAsked,
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
            Self::NotAsked => "not-asked",
            Self::Unavailable => "unavailable",
            Self::Denied => "denied",
            Self::Dangling => "dangling",
            Self::Withheld => "withheld",
        }
    }
}

/// What a stored row answers, and what its reference came to, where it is one that was asked for.
pub(super) fn looked(row: Option<&SecretRow>, outcome: Option<FetchOutcome>) -> Looked {
    match (row.map(|row| row.meta.kind), outcome) {
        (None, _) => Looked::Absent,
        (Some(SecretKind::Value), _) => Looked::Found,
        (Some(SecretKind::Placeholder), _) => Looked::Placeholder,
        (Some(SecretKind::Tombstone), _) => Looked::Deleted,
        (Some(SecretKind::Reference), None) => Looked::NotAsked,
        (Some(SecretKind::Reference), Some(outcome)) => match outcome {
            FetchOutcome::Found => Looked::Found,
            FetchOutcome::Dangling => Looked::Dangling,
            FetchOutcome::Denied => Looked::Denied,
            FetchOutcome::Unavailable(_) => Looked::Unavailable,
        },
    }
}

/// The same for the resolution: only what is absent falls through. A reference that nobody was asked for decides, so
/// that it is asked for and no wider one.
pub(super) fn lookup(row: Option<&SecretRow>, outcome: Option<FetchOutcome>) -> Lookup<&SecretRow> {
    match (looked(row, outcome), row) {
        (Looked::Found | Looked::NotAsked, Some(row)) => Lookup::Found(row),
        (Looked::Absent | Looked::Placeholder | Looked::Deleted, _) => Lookup::Absent,
        (Looked::Dangling, _) => Lookup::Dangling,
        (Looked::Denied | Looked::Withheld, _) => Lookup::Denied,
        (Looked::Found | Looked::NotAsked | Looked::Unavailable, _) => Lookup::Unavailable,
    }
}
