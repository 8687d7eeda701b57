//! What is stored of key-encryption keys: which there are, who has loaded them, what puts rows under another one.

use crate::domain::scope::Slot;
use crate::domain::time::Timestamp;

/// A stored key-encryption key: all but the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KekRow {
    /// Its name.
    pub id: String,
    /// How everything begins that is sealed under it.
    pub head: Vec<u8>,
    /// Tells it from another one of this name.
    pub tag: Vec<u8>,
    /// When it was made.
    pub created_at: Timestamp,
    /// The number of its last promotion; 0 for never. The highest of all is the active one's.
    pub promotion: u64,
    /// When that was.
    pub promoted_at: Option<Timestamp>,
    /// When it was retired: from then on nothing is stored under it.
    pub retired_at: Option<Timestamp>,
    /// How many rows under it did not open when they were last to be put under another. Not authenticated.
    pub unreadable: u64,
    /// Authenticates the row (written and checked by `keys`; opaque here).
    pub mac: Vec<u8>,
}

/// An instance that serves, as it says itself. Not authenticated: one that is forged or removed lets a promotion be
/// refused or made too early, and no value out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceRow {
    /// Unique among all that ever ran.
    pub id: String,
    /// What it serves.
    pub role: String,
    /// Of which release it is.
    pub release: String,
    /// The key-encryption keys it has loaded: names and tags, as [`loaded`] writes them.
    pub keks: Vec<String>,
    /// When it started.
    pub started_at: Timestamp,
    /// When it last said that it is there.
    pub seen_at: Timestamp,
}

/// How an instance says that it has loaded a key.
#[must_use]
pub fn loaded(id: &str, tag: &[u8]) -> String {
    format!("{id}={}", data_encoding::HEXLOWER.encode(tag))
}

/// Sealed bytes, and the same value under another key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rewrap {
    /// What has to stand there still.
    pub from: Vec<u8>,
    /// What takes its place.
    pub to: Vec<u8>,
}

/// What is written of keys, instances and leases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyWrite {
    /// Note that an instance is there, and forget those not seen since `gone_before`.
    InstanceSeen {
        /// Which, and what it says of itself.
        row: InstanceRow,
        /// Older ones are gone.
        gone_before: Timestamp,
    },
    /// Forget an instance.
    InstanceGone {
        /// Which.
        id: String,
    },
    /// Make a key the active one. A conflict where the last promotion is not `after`, where it is retired, or where an
    /// instance seen since `alive_since` has not loaded it.
    Promoted {
        /// The key, with the number that follows `after`.
        row: KekRow,
        /// Keys to be known, too; one that is known stays as it is.
        others: Vec<KekRow>,
        /// The last promotion.
        after: u64,
        /// Instances seen before are gone.
        alive_since: Timestamp,
    },
    /// Let nothing be stored under a key any more. A conflict where it is the active one, or a row is under it.
    Retired {
        /// The key, with the moment.
        row: KekRow,
    },
    /// Put a row under another key, where it is as it was read; else leave it. No other version, not told to the feed.
    Rewrapped {
        /// Which row.
        slot: Slot,
        /// At which version.
        version: u64,
        /// The value or reference.
        sealed: Option<Rewrap>,
        /// What the last rotation replaced.
        predecessor: Option<Rewrap>,
    },
    /// Note how many rows under a key do not open.
    Unreadable {
        /// Which key.
        id: String,
        /// How many.
        rows: u64,
    },
    /// Take a lease, or keep it. A conflict where another one has it at `now`.
    Leased {
        /// Of what.
        name: String,
        /// By whom.
        holder: String,
        /// The moment.
        now: Timestamp,
        /// Until when.
        until: Timestamp,
    },
}
