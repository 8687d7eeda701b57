//! Whether a destination may be registered at all, as far as its URL alone tells. Names are vetted when they are dialled.

use url::Host;

use super::AllowList;
use crate::domain::destination::{Destination, Scheme};

/// Which destinations may be registered.
#[derive(Debug, Clone, Default)]
pub struct DestinationPolicy {
    /// Whether plain HTTP is allowed.
    pub allow_http: bool,
    /// The internal networks that are open.
    pub allow: AllowList,
}

/// A destination that nothing may be sent to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the destination is refused: an https URL to a public host is expected")]
pub struct DestinationRefused;

impl DestinationPolicy {
    /// Whether anything may be sent there at all.
    ///
    /// # Errors
    /// [`DestinationRefused`]: plain HTTP where that is not allowed, or an address that must not be reached.
    pub fn check(&self, destination: &Destination) -> Result<(), DestinationRefused> {
        if destination.scheme == Scheme::Http && !self.allow_http {
            return Err(DestinationRefused);
        }
        let literal = match destination.host {
            Host::Domain(_) => return Ok(()),
            Host::Ipv4(address) => address.into(),
            Host::Ipv6(address) => address.into(),
        };
        self.allow.permits(literal).map_err(|_| DestinationRefused)
    }
}
