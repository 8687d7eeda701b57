//! How a payload is read and enriched without being parsed into a tree: one strict pass, one splice.
//!
//! The pass refuses what two JSON parsers may read differently; the splice keeps every original byte in its place and
//! puts two members before the final brace (contract, section 5).

mod fragment;
mod scan;
mod splice;

pub use fragment::{fragment, slot_end};
pub use scan::{DEPTH_MAX, Scan, ScanError, Stated, scan, scan_with_token};
pub use splice::{Enriched, splice};
