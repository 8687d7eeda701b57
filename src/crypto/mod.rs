//! Every key and what is done with it: values sealed and opened, rows and audit entries authenticated, deliveries signed.
//!
//! Pure but for randomness and the keyring's file: no store, no clock. The primitives are aws-lc-rs's alone.

pub mod chain;
pub mod checkpoint;
pub mod encoding;
pub mod envelope;
pub mod keyring;
mod locked;
pub mod sha256;
pub mod signature;
pub mod token;
