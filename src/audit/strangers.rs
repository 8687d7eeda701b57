//! How callers without a valid token get into the log without filling the disk: counted, told by the minute.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::domain::audit::{Action, Actor, AuditEntry, Delivered, Outcome, Source};
use crate::domain::time::Timestamp;

/// Why a caller was turned away before it was anybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stranger {
    /// It showed no token, or not as `Authorization: Bearer`.
    NoToken,
    /// It showed a token that is not stored.
    UnknownToken,
    /// Its token's time is over.
    ExpiredToken,
    /// Its token's row is not as it was stored: somebody edited the database.
    ForgedToken,
    /// It is a page in a browser, or calls this host by another name.
    Browser,
    /// It wanted to deliver and is no dispatcher.
    Dispatcher,
}

impl Stranger {
    /// Every reason.
    pub const ALL: [Self; 6] = [
        Self::NoToken,
        Self::UnknownToken,
        Self::ExpiredToken,
        Self::ForgedToken,
        Self::Browser,
        Self::Dispatcher,
    ];

    /// The reason's word: the name of the entry's actor.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoToken => "no-token",
            Self::UnknownToken => "unknown-token",
            Self::ExpiredToken => "expired-token",
            Self::ForgedToken => "forged-token",
            Self::Browser => "browser",
            Self::Dispatcher => "no-dispatcher",
        }
    }

    /// Which plane turned it away.
    const fn plane(self) -> (&'static str, Source) {
        match self {
            Self::NoToken | Self::UnknownToken | Self::ExpiredToken | Self::ForgedToken | Self::Browser => {
                ("control-plane", Source::Api)
            }
            Self::Dispatcher => ("data-plane", Source::Delivery),
        }
    }
}

/// Counts by reason.
#[derive(Debug, Default)]
pub(super) struct Strangers([AtomicU64; Stranger::ALL.len()]);

impl Strangers {
    pub(super) fn count(&self, reason: Stranger) {
        for (counter, candidate) in self.0.iter().zip(Stranger::ALL) {
            if candidate == reason {
                counter.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Adds what was counted since the last time, in the order of [`Stranger::ALL`].
    pub(super) fn collect(&self, into: &mut [u64; Stranger::ALL.len()]) {
        for (counter, sum) in self.0.iter().zip(into) {
            *sum = sum.saturating_add(counter.swap(0, Ordering::Relaxed));
        }
    }
}

/// What the platform's chain says of them: one entry a reason.
pub(super) fn entries(counted: &[u64; Stranger::ALL.len()], now: Timestamp) -> Vec<AuditEntry> {
    let counted = counted.iter().zip(Stranger::ALL).filter(|(count, _)| **count > 0);
    let entry = |(count, reason): (&u64, Stranger)| {
        let (plane, source) = reason.plane();
        let actor = Actor {
            id: "unauthenticated".into(),
            name: reason.name().into(),
        };
        AuditEntry {
            outcome: Outcome::Refused,
            delivered: Some(Delivered {
                destination: plane.into(),
                count: *count,
            }),
            ..AuditEntry::of(None, now, actor, Action::AuthRefuse, source)
        }
    };
    counted.map(entry).collect()
}
