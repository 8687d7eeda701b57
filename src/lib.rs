//! Kiket sidecar.

pub mod clock;
pub mod crypto;
pub mod domain;
pub mod egress;
pub mod delivery;
pub mod store;
