//! What keeps the audit log whole: deliveries counted by the minute, chains signed every five, old entries removed by
//! policy, and the proof that nobody touched the rest.
//!
//! What is recorded one by one (writes, loads, reads) is recorded by whoever does it, in the same transaction or before
//! anything leaves. Here is the rest:
//!
//! * [`Recorder::flush`]: `secret.delivered` and `auth.refuse`, one entry per key, version, destination and minute, one
//!   per reason and minute. A minute is one of the process's own, counted from its start.
//! * [`Recorder::checkpoint`]: the head of each chain that grew, signed with Ed25519 after the entries since the last
//!   one were verified, kept and logged.
//! * [`Recorder::prune`]: entries older than the organization's policy keeps, up to a checkpoint that is as old.
//! * [`Verifier`]: a chain held against its MACs, its head and its checkpoints; [`export`] does the same for an export,
//!   with a public key and nothing else.

mod deliveries;
pub mod export;
mod recorder;
mod sightings;
mod strangers;
mod verify;

pub use deliveries::{Deliveries, Use, UseCounter};
pub use recorder::{LogDuty, PolicyIsAuthentic, Recorder};
pub use sightings::{Sight, SightingLog, Sightings};
pub use strangers::Stranger;
pub use verify::{ChainReport, Finding, Verifier};
