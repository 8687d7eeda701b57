//! What the process listens on: sockets that it inherited, and for what it inherited none, those that it binds.

use std::io;
use std::net::SocketAddr;

use super::StartError;
use crate::config::{Config, ConfigError, Listen};
use crate::server::{Inherited, Listener, Listeners};

/// What the role listens on, bound and not yet served.
#[derive(Debug)]
pub struct Sockets {
    pub(super) proxy: Option<Listeners>,
    pub(super) admin: Option<(Listener, SocketAddr)>,
    pub(super) metrics: (Listener, SocketAddr),
}

impl Sockets {
    /// Binds all that the settings name. Needs no runtime and starts no thread.
    ///
    /// # Errors
    /// [`StartError`] for the first address that cannot be bound.
    pub fn bind(config: &Config) -> Result<Self, StartError> {
        Self::bind_beside(Inherited::default(), config)
    }

    /// The same beside sockets that were inherited: each takes the place of the setting of its name. Those that the
    /// role has no use for are let go of. The settings must be those that [`adopt`] gave.
    ///
    /// # Errors
    /// [`StartError`] for the first address that cannot be bound.
    pub fn bind_beside(inherited: Inherited, config: &Config) -> Result<Self, StartError> {
        let role = config.role;
        let proxy = match (role.delivers(), inherited.proxy.is_empty()) {
            (false, _) => None,
            (true, false) => Some(inherited.proxy),
            (true, true) => Some(Listeners::bind(&config.proxy_listen)?),
        };
        let admin = match role.administers() {
            true => Some(one(inherited.admin, "admin_listen", config.admin_listen)?),
            false => None,
        };
        let metrics = one(inherited.metrics, "metrics_listen", config.metrics_listen)?;
        Ok(Self { proxy, admin, metrics })
    }

    /// Where, with the ports that were taken.
    pub(super) fn bound(&self) -> (Vec<Listen>, Option<SocketAddr>, SocketAddr) {
        let proxy = self.proxy.as_ref().map(Listeners::bound).unwrap_or_default();
        let admin = self.admin.as_ref().map(|(_, address)| *address);
        (proxy, admin, self.metrics.1)
    }
}

/// The settings with the addresses of inherited sockets in the place of their own: what holds for an address that is
/// bound here, a token or TLS off loopback, holds for one that is not.
///
/// # Errors
/// [`ConfigError`] where an address is not allowed.
pub fn adopt(inherited: &Inherited, mut config: Config) -> Result<Config, ConfigError> {
    if !inherited.proxy.is_empty() {
        config.proxy_listen = inherited.proxy.bound();
    }
    if let Some(address) = inherited.admin.as_ref().and_then(Listener::address) {
        config.admin_listen = address;
    }
    if let Some(address) = inherited.metrics.as_ref().and_then(Listener::address) {
        config.metrics_listen = address;
    }
    config.check()?;
    Ok(config)
}

fn one(
    inherited: Option<Listener>,
    setting: &'static str,
    address: SocketAddr,
) -> Result<(Listener, SocketAddr), StartError> {
    let failed = |error: io::Error| StartError::Listen {
        setting,
        address,
        kind: error.kind(),
    };
    let listener = match inherited {
        Some(listener) => listener,
        None => Listener::tcp(address).map_err(failed)?,
    };
    let bound = listener
        .address()
        .ok_or_else(|| failed(io::ErrorKind::Unsupported.into()))?;
    Ok((listener, bound))
}
