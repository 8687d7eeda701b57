//! Pages for operators, one screen each: what to do, in which order, and what happens meanwhile.

#[doc = include_str!("consents.md")]
pub mod consents {}

#[doc = include_str!("incidents.md")]
pub mod incidents {}

#[doc = include_str!("key_rotation.md")]
pub mod key_rotation {}

#[doc = include_str!("metrics.md")]
pub mod metrics {}

#[doc = include_str!("threat_model.md")]
pub mod threat_model {}
