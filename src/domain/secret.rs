//! What stands in a slot, apart from the value itself.

use super::scope::Slot;
use super::time::Timestamp;

/// Longest accepted value, in bytes (contract, section 3).
pub const VALUE_BYTES_MAX: usize = 64 * 1024;

/// The highest version or count: what a stored row can hold.
pub const COUNT_MAX: u64 = i64::MAX as u64;

/// The version or count after this one; `None` at the limit. Nothing wraps, and nothing stands still unnoticed.
#[must_use]
pub const fn successor(count: u64) -> Option<u64> {
    if count < COUNT_MAX { Some(count + 1) } else { None }
}

/// What a slot holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SecretKind {
    /// A sealed value.
    Value,
    /// A sealed reference to an external secret.
    Reference,
    /// Scaffolded by an install; resolves as absent and shows in checklists.
    Placeholder,
    /// Deleted: keeps version and counters, so that they never restart; resolves as absent.
    Tombstone,
}

impl SecretKind {
    /// The stored name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Value => "value",
            Self::Reference => "reference",
            Self::Placeholder => "placeholder",
            Self::Tombstone => "tombstone",
        }
    }

    /// Parses a stored name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "value" => Self::Value,
            "reference" => Self::Reference,
            "placeholder" => Self::Placeholder,
            "tombstone" => Self::Tombstone,
            _ => return None,
        })
    }
}

/// A secret without its value: all that a list, a report or a checklist may show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretMeta {
    /// Where it stands.
    pub slot: Slot,
    /// What the slot holds.
    pub kind: SecretKind,
    /// Starts at 1 and never restarts; every write bumps it.
    pub version: u64,
    /// How often a value was replaced. A first value, and a placeholder's, do not count.
    pub rotation_count: u64,
    /// When a value was last replaced.
    pub last_rotated_at: Option<Timestamp>,
    /// When the slot was first written.
    pub created_at: Timestamp,
    /// When the slot was last written.
    pub updated_at: Timestamp,
    /// When the value ends, where its author said so.
    pub expires_at: Option<Timestamp>,
    /// Who wrote the current version: a token's name.
    pub written_by: String,
    /// Whom to ask about it (`owner` in the API).
    pub contact: Option<String>,
    /// When its value was last used, to the minute.
    pub last_used_at: Option<Timestamp>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_go_up_to_their_limit_and_never_past_it() {
        assert_eq!(successor(0), Some(1));
        assert_eq!(successor(COUNT_MAX - 1), Some(COUNT_MAX));
        assert_eq!(successor(COUNT_MAX), None);
        assert_eq!(successor(u64::MAX), None);
    }
}
