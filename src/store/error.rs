//! Why a store call failed, in the words that every adapter uses.

use crate::domain::id::IdError;
use crate::domain::key::KeyError;
use crate::domain::provider::ProviderError;

/// Why a store call failed. No variant carries a row, a parameter or the driver's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// A precondition did not hold: read again, then retry.
    #[error("the row was changed by someone else")]
    Conflict,
    /// The database is away, locked or too slow. Retry later.
    #[error("the store is unavailable")]
    Unavailable,
    /// No space left. Retrying does not help before an operator does.
    #[error("the store is full")]
    Full,
    /// A stored row cannot be read back. Retrying does not help.
    #[error("a stored row is damaged")]
    Damaged,
}

impl From<IdError> for StoreError {
    fn from(_: IdError) -> Self {
        Self::Damaged
    }
}

impl From<KeyError> for StoreError {
    fn from(_: KeyError) -> Self {
        Self::Damaged
    }
}

impl From<ProviderError> for StoreError {
    fn from(_: ProviderError) -> Self {
        Self::Damaged
    }
}
