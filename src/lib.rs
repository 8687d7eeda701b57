//! Kiket sidecar.

pub mod clock;
pub mod config;
pub mod crypto;
pub mod delivery;
pub mod domain;
pub mod egress;
pub mod guard;
pub mod registry;
pub mod server;
pub mod shutdown;
pub mod store;
pub mod telemetry;
