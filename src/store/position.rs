//! Where a reader stands in the change feed, and what it was told beyond that.

use std::sync::Arc;

/// A position in the change feed, as [`Store::changes`](super::Store::changes) gave it; the default stands before
/// everything. Opaque: an adapter reads it, a caller keeps it. Cheap to clone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FeedPosition {
    /// Everything before this was told: a row's position, or a transaction's id.
    pub(super) reached: u64,
    /// The server that gave it; `None` where there is no server.
    pub(super) server: Option<i64>,
    /// What was told beyond `reached`: in a database with many writers, rows become visible out of order.
    pub(super) told: Arc<[Told]>,
}

impl FeedPosition {
    /// Where everything before was told, and nothing beyond.
    pub(super) fn at(reached: u64) -> Self {
        Self {
            reached,
            ..Self::default()
        }
    }
}

/// Rows of the feed without a gap between them, all of which were told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Told {
    /// The first row's position.
    pub(super) first: i64,
    /// The last row's.
    pub(super) last: i64,
    /// The newest transaction that wrote one of them.
    pub(super) newest: u64,
}

impl Told {
    /// With rows, by position and transaction, that were told as well: in order, joined where no gap is left.
    pub(super) fn with(told: &[Self], rows: impl IntoIterator<Item = (i64, u64)>) -> Vec<Self> {
        let rows = rows.into_iter().map(|(position, newest)| Self {
            first: position,
            last: position,
            newest,
        });
        let mut all: Vec<Self> = told.iter().copied().chain(rows).collect();
        all.sort_unstable_by_key(|told| told.first);
        let mut joined: Vec<Self> = Vec::new();
        for next in all {
            match joined.last_mut() {
                Some(before) if next.first <= before.last.saturating_add(1) => {
                    before.last = before.last.max(next.last);
                    before.newest = before.newest.max(next.newest);
                }
                _ => joined.push(next),
            }
        }
        joined
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(first: i64, last: i64, newest: u64) -> Told {
        Told { first, last, newest }
    }

    #[test]
    fn what_was_told_is_joined_where_no_gap_is_left() {
        assert_eq!(Told::with(&[], []), []);
        assert_eq!(Told::with(&[], [(3, 7), (1, 9)]), [told(1, 1, 9), told(3, 3, 7)]);
        assert_eq!(Told::with(&[told(1, 1, 9), told(3, 3, 7)], [(2, 8)]), [told(1, 3, 9)]);
        assert_eq!(
            Told::with(&[told(1, 4, 5)], [(2, 6), (6, 1)]),
            [told(1, 4, 6), told(6, 6, 1)]
        );
    }
}
