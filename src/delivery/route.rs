//! What a delivery's way is made of: destination, identity, and which connections may be shared.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use http::uri::{Authority, PathAndQuery, Scheme as UriScheme, Uri};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use url::Host;

use super::identity::TlsClient;
use crate::domain::destination::{Destination, Origin, Scheme};

/// Which connections may be shared: same origin, same client certificate, same trust. By content, so that a bundle
/// that is built anew keeps its connections.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PoolKey {
    /// Where to.
    pub origin: Origin,
    /// SHA-256 of the client certificate.
    pub certificate: Option<[u8; 32]>,
    /// SHA-256 of the CA.
    pub ca: Option<[u8; 32]>,
}

/// A way to an endpoint, prepared once.
#[derive(Debug)]
pub struct Route {
    /// Where to.
    pub destination: Destination,
    /// The whole delivery.
    pub timeout: Duration,
    /// Which connections it may use.
    pub pool: Arc<PoolKey>,
    /// The handshake; `None` for plain HTTP.
    pub tls: Option<TlsRoute>,
    host: String,
    authority: Option<Authority>,
    host_header: Option<HeaderValue>,
}

/// How an endpoint is greeted over TLS.
#[derive(Debug)]
pub struct TlsRoute {
    /// The identity's configuration.
    pub config: Arc<ClientConfig>,
    /// The name its certificate must have.
    pub server_name: Option<ServerName<'static>>,
}

impl Route {
    /// A way to `destination`, over TLS where a client is given.
    #[must_use]
    pub fn new(destination: Destination, timeout: Duration, client: Option<TlsClient>) -> Self {
        let origin = destination.origin();
        let (certificate, ca) = client
            .as_ref()
            .map_or((None, None), |client| (client.certificate, client.ca));
        let default_port = match destination.scheme {
            Scheme::Http => 80,
            Scheme::Https => 443,
        };
        let host = destination.host.to_string();
        let authority = if destination.port == default_port {
            host.clone()
        } else {
            format!("{host}:{}", destination.port)
        };
        let server_name = match &destination.host {
            Host::Domain(name) => ServerName::try_from(name.clone()).ok(),
            Host::Ipv4(address) => Some(ServerName::IpAddress(std::net::IpAddr::V4(*address).into())),
            Host::Ipv6(address) => Some(ServerName::IpAddress(std::net::IpAddr::V6(*address).into())),
        };
        Self {
            timeout,
            pool: Arc::new(PoolKey {
                origin,
                certificate,
                ca,
            }),
            tls: client.map(|client| TlsRoute {
                config: client.config,
                server_name,
            }),
            host_header: HeaderValue::try_from(&authority).ok(),
            authority: Authority::try_from(authority).ok(),
            host,
            destination,
        }
    }

    /// The endpoint's host, for the log.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// What `Host` says over HTTP/1.1.
    pub(super) fn host_header(&self) -> Option<HeaderValue> {
        self.host_header.clone()
    }

    /// The target as HTTP/2 wants it: with scheme and authority.
    pub(super) fn absolute(&self, target: PathAndQuery) -> Uri {
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(UriScheme::HTTPS);
        parts.authority.clone_from(&self.authority);
        parts.path_and_query = Some(target);
        Uri::from_parts(parts).unwrap_or_default()
    }
}
