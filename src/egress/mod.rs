//! The only way out to any host that a tenant can name: resolve, vet every address, dial a vetted one.

mod classify;
mod dial;
mod https;
mod registered;
mod resolve;
pub mod roots;
mod trust;

pub use classify::{AllowList, Refusal, classify};
pub use dial::{DialError, Egress};
pub use https::{Answer, ExchangeError, Exchanger, ExchangerError, SecretBytes};
pub use registered::{DestinationPolicy, DestinationRefused};
pub use resolve::{Resolver, SharedLookups, SystemResolver};
pub use roots::RootsError;
pub use trust::{BadAuthority, Trust, certificates};
