//! Of the way out, what asks nobody.

#[path = "../../../src/egress/classify.rs"]
mod classify;
#[path = "../../../src/egress/registered.rs"]
mod registered;

pub use classify::{AllowList, Refusal, classify};
pub use registered::{DestinationPolicy, DestinationRefused};
