//! Where a delivery goes: scheme, host, port and path prefix of a registered callback.

use std::fmt;

use url::{Host, Url};

/// How an endpoint is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scheme {
    /// Readable on the wire: only where the operator allows it.
    Http,
    /// Over TLS.
    Https,
}

impl Scheme {
    /// The scheme as in a URL.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// The port of a URL that names none.
    const fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// Scheme, host and port: what a connection is made to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin {
    /// How.
    pub scheme: Scheme,
    /// To whom. Odd spellings of an address (`0x7f.1`) were read as that address.
    pub host: Host<String>,
    /// At which port.
    pub port: u16,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}:{}", self.scheme.name(), self.host, self.port)
    }
}

/// A callback's destination. Two are equal exactly if secrets sent to one go where those sent to the other go.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Destination {
    /// How.
    pub scheme: Scheme,
    /// To whom.
    pub host: Host<String>,
    /// At which port.
    pub port: u16,
    /// What comes before a delivery's own path: empty, or `/…` without a slash at the end.
    pub path_prefix: String,
}

/// Why a text is no destination. Carries nothing of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DestinationError {
    /// Not an absolute URL with a host.
    #[error("a callback is an absolute URL")]
    NotAUrl,
    /// Neither http nor https.
    #[error("a callback's scheme is https")]
    Scheme,
    /// User name, query or fragment, which a callback cannot have.
    #[error("a callback has no user name, query or fragment")]
    Excess,
    /// A path with empty segments, encoded slashes or the like, which two parsers may read differently.
    #[error("a callback's path has no empty, dot or encoded-slash segments")]
    Path,
}

impl fmt::Display for Destination {
    /// As a URL, without the port that its scheme implies. Parses back to an equal destination.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme.name(), self.host)?;
        if self.port != self.scheme.default_port() {
            write!(f, ":{}", self.port)?;
        }
        f.write_str(&self.path_prefix)
    }
}

impl Destination {
    /// Parses a callback URL. A slash at the end of its path makes no difference.
    ///
    /// # Errors
    /// [`DestinationError`].
    pub fn parse(url: &str) -> Result<Self, DestinationError> {
        // The parser would take some of them away, and what is stored is the text.
        if url.contains(char::is_control) {
            return Err(DestinationError::NotAUrl);
        }
        let parsed = Url::parse(url).map_err(|_| DestinationError::NotAUrl)?;
        let scheme = match parsed.scheme() {
            "https" => Scheme::Https,
            "http" => Scheme::Http,
            _ => return Err(DestinationError::Scheme),
        };
        let has_user = !parsed.username().is_empty() || parsed.password().is_some();
        if has_user || parsed.query().is_some() || parsed.fragment().is_some() {
            return Err(DestinationError::Excess);
        }
        let host = parsed.host().ok_or(DestinationError::NotAUrl)?.to_owned();
        let port = parsed.port_or_known_default().ok_or(DestinationError::NotAUrl)?;
        let path_prefix = parsed.path().trim_end_matches('/').to_owned();
        let lower = path_prefix.to_ascii_lowercase();
        if ["//", "%2f", "%5c"].iter().any(|unclear| lower.contains(unclear)) {
            return Err(DestinationError::Path);
        }
        Ok(Self {
            scheme,
            host,
            port,
            path_prefix,
        })
    }

    /// What a connection is made to.
    #[must_use]
    pub fn origin(&self) -> Origin {
        Origin {
            scheme: self.scheme,
            host: self.host.clone(),
            port: self.port,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn equal_destinations_are_those_that_secrets_reach_alike() {
        let base = Destination::parse("https://ext.example.com/kiket").unwrap();
        for same in [
            "https://EXT.example.com:443/kiket/",
            "https://ext.example.com/a/../kiket",
        ] {
            assert_eq!(Destination::parse(same).unwrap(), base, "{same}");
        }
        for other in [
            "http://ext.example.com/kiket",
            "https://ext.example.com:8443/kiket",
            "https://ext.example.com/other",
            "https://ext.example.com",
            "https://example.com/kiket",
        ] {
            assert_ne!(Destination::parse(other).unwrap(), base, "{other}");
        }
        assert_eq!(base.origin().to_string(), "https://ext.example.com:443");
    }

    #[test]
    fn a_destination_is_written_as_it_parses_back() {
        for (text, written) in [
            ("https://EXT.example.com:443/kiket/", "https://ext.example.com/kiket"),
            ("http://ext.example.com:80", "http://ext.example.com"),
            ("https://ext.example.com:80/a", "https://ext.example.com:80/a"),
            ("http://[::1]:8443/a b", "http://[::1]:8443/a%20b"),
            (
                "https://b\u{fc}cher.example/\u{e4}",
                "https://xn--bcher-kva.example/%C3%A4",
            ),
        ] {
            let destination = Destination::parse(text).unwrap();
            assert_eq!(destination.to_string(), written);
            assert_eq!(Destination::parse(written).unwrap(), destination);
        }
    }

    #[test]
    fn odd_spellings_of_an_address_are_that_address() {
        for odd in [
            "https://2130706433",
            "https://0x7f.1",
            "https://0177.0.0.1",
            "https://127.1",
        ] {
            assert_eq!(
                Destination::parse(odd).unwrap().host,
                Host::<String>::Ipv4("127.0.0.1".parse().unwrap()),
                "{odd}"
            );
        }
    }

    #[test]
    fn what_is_no_destination_is_refused() {
        for (text, error) in [
            ("", DestinationError::NotAUrl),
            ("ext.example.com", DestinationError::NotAUrl),
            ("https://", DestinationError::NotAUrl),
            ("https://ext.example.com/\u{0}", DestinationError::NotAUrl),
            ("https://ext.exa\tmple.com", DestinationError::NotAUrl),
            ("ftp://ext.example.com", DestinationError::Scheme),
            ("file:///etc/passwd", DestinationError::Scheme),
            ("https://user@ext.example.com", DestinationError::Excess),
            ("https://ext.example.com/?a=b", DestinationError::Excess),
            ("https://ext.example.com/#a", DestinationError::Excess),
            ("https://ext.example.com/a//b", DestinationError::Path),
            ("https://ext.example.com/a%2Fb", DestinationError::Path),
        ] {
            assert_eq!(Destination::parse(text), Err(error), "{text}");
        }
    }
}
