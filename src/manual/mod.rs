//! Pages for those who run it, who keep secrets in it, who write extensions and who review it: what to do, and what
//! happens meanwhile.

#[doc = include_str!("administrators.md")]
pub mod administrators {}

#[doc = include_str!("consents.md")]
pub mod consents {}

#[doc = include_str!("extension_developers.md")]
pub mod extension_developers {}

#[doc = include_str!("incidents.md")]
pub mod incidents {}

#[doc = include_str!("key_rotation.md")]
pub mod key_rotation {}

#[doc = include_str!("metrics.md")]
pub mod metrics {}

#[doc = include_str!("operators.md")]
pub mod operators {}

/// Every setting, with its default: what `kiket config print --manual` prints.
///
#[doc = concat!("```toml\n", include_str!("../config/default.toml"), "\n```")]
pub mod settings {}

#[doc = include_str!("threat_model.md")]
pub mod threat_model {}
