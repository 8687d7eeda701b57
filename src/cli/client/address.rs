//! Where the REST API is, and how it is reached: plainly on this host, over TLS anywhere else.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use http::StatusCode;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use url::{Host, Url};

use super::ClientError;
use crate::egress::roots;

/// A server.
pub(super) struct Address {
    base: Url,
    pub(super) origin: String,
    pub(super) authority: String,
    host: String,
    port: u16,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

/// A connection to it.
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Address {
    pub(super) fn parse(url: &str, ca_file: Option<&Path>) -> Result<Self, ClientError> {
        let setting = |reason: &str| ClientError::Setting(format!("--url or KIKET_URL {reason}"));
        let base = Url::parse(url).map_err(|_| setting("is no URL, for example https://kiket.example:8081"))?;
        if !base.username().is_empty() || base.password().is_some() || base.query().is_some() {
            return Err(setting("holds more than scheme, host, port and path"));
        }
        let host = base.host().ok_or_else(|| setting("names no host"))?;
        let is_local = match &host {
            Host::Domain(name) => *name == "localhost",
            Host::Ipv4(ip) => ip.is_loopback(),
            Host::Ipv6(ip) => ip.is_loopback(),
        };
        let bare = match &host {
            Host::Domain(name) => (*name).to_owned(),
            Host::Ipv4(ip) => ip.to_string(),
            Host::Ipv6(ip) => ip.to_string(),
        };
        let tls = match base.scheme() {
            "https" => Some(connector(&bare, ca_file)?),
            "http" if is_local => None,
            "http" => {
                return Err(setting(
                    "is http to another host: the token would travel readable; use https",
                ));
            }
            _ => return Err(setting("starts with http:// or https://")),
        };
        let port = base.port_or_known_default().ok_or_else(|| setting("names no port"))?;
        let authority = base
            .port()
            .map_or_else(|| host.to_string(), |port| format!("{host}:{port}"));
        Ok(Self {
            origin: format!("{}://{authority}", base.scheme()),
            authority,
            host: bare,
            port,
            tls,
            base,
        })
    }

    /// A request's target: path and query, escaped.
    pub(super) fn target(&self, path: &[&str], query: &[(&'static str, String)]) -> String {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(["api", "v1"]).extend(path);
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        match url.query() {
            Some(query) => format!("{}?{query}", url.path()),
            None => url.path().to_owned(),
        }
    }

    /// # Errors
    /// A sentence that says why not.
    pub(super) async fn connect(&self) -> Result<Stream, String> {
        let connected = TcpStream::connect((self.host.as_str(), self.port)).await;
        let stream = connected.map_err(|error| format!("cannot be reached: {}", error.kind()))?;
        let _ = stream.set_nodelay(true);
        let Some((connector, name)) = &self.tls else {
            return Ok(Stream::Plain(stream));
        };
        match connector.connect(name.clone(), stream).await {
            Ok(stream) => Ok(Stream::Tls(Box::new(stream))),
            Err(error) => Err(format!("TLS failed: {error}")),
        }
    }

    /// What answered is something else.
    pub(super) fn not_kiket(&self, status: StatusCode) -> ClientError {
        super::problem::not_kiket(status, &self.origin)
    }
}

fn connector(host: &str, ca_file: Option<&Path>) -> Result<(TlsConnector, ServerName<'static>), ClientError> {
    let setting = |reason: &str| ClientError::Setting(reason.to_owned());
    let roots = roots::load(ca_file).map_err(|error| match error {
        roots::RootsError::File => setting("--ca-file cannot be read, or holds something else than PEM certificates"),
        roots::RootsError::Empty => setting("--ca-file holds no certificate"),
    })?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let versions = versions.map_err(|_| setting("this build has no TLS"))?;
    let config = versions.with_root_certificates(roots).with_no_client_auth();
    let name = match host.parse::<IpAddr>() {
        Ok(ip) => ServerName::IpAddress(ip.into()),
        Err(_) => ServerName::try_from(host.to_owned()).map_err(|_| setting("--url or KIKET_URL names no host"))?,
    };
    Ok((TlsConnector::from(Arc::new(config)), name))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn only_this_host_is_called_without_tls() {
        for good in [
            "http://127.0.0.1:8081",
            "http://localhost",
            "http://[::1]:8081/",
            "https://kiket.example",
            "https://10.0.0.1:8443/behind/a/path",
        ] {
            assert!(Address::parse(good, None).is_ok(), "{good}");
        }
        for bad in [
            "127.0.0.1:8081",
            "http://kiket.example",
            "http://10.0.0.1:8081",
            "http://localhost.example",
            "ftp://localhost",
            "http://user:password@localhost",
            "http://localhost?token=x",
            "",
        ] {
            assert!(Address::parse(bad, None).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_in_a_path_or_query_stays_there() {
        let address = Address::parse("http://localhost:1/kiket/", None).unwrap();
        let target = address.target(&["extensions", "a/b?c"], &[("id", "x&y=z ü".into())]);
        assert_eq!(target, "/kiket/api/v1/extensions/a%2Fb%3Fc?id=x%26y%3Dz+%C3%BC");
        let ipv6 = Address::parse("http://[::1]:8081", None).unwrap();
        assert_eq!((ipv6.host.as_str(), ipv6.authority.as_str()), ("::1", "[::1]:8081"));
    }
}
