//! The only way out to any host that a tenant can name: resolve, vet every address, dial a vetted one.

mod classify;
mod dial;
mod resolve;
pub mod roots;

pub use classify::{AllowList, Refusal, classify};
pub use dial::{DialError, Egress};
pub use resolve::{Resolver, SystemResolver};
pub use roots::RootsError;
