//! Whom a TLS client takes a host for: the roots of this process, or an authority that was named for that host alone.

use std::sync::Arc;

use rustls::client::WantsClientCert;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, ConfigBuilder, RootCertStore};
use secrecy::{ExposeSecret, SecretString};

/// The authorities that hosts are checked against where nobody names another, and the one way to begin a TLS client.
#[derive(Clone)]
pub struct Trust {
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
}

/// The text holds something else than PEM certificates, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the certificate authority is not PEM")]
pub struct BadAuthority;

impl Trust {
    /// Trusts these roots.
    #[must_use]
    pub fn new(roots: Arc<RootCertStore>) -> Self {
        Self {
            roots,
            provider: Arc::new(rustls::crypto::aws_lc_rs::default_provider()),
        }
    }

    /// Begins a TLS 1.2 and 1.3 client. An authority of its own replaces the roots, it does not join them.
    ///
    /// # Errors
    /// [`BadAuthority`].
    pub fn client(
        &self,
        authority: Option<&SecretString>,
    ) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, BadAuthority> {
        let roots = match authority {
            None => Arc::clone(&self.roots),
            Some(pem) => Arc::new(only(pem)?),
        };
        ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map(|builder| builder.with_root_certificates(roots))
            .map_err(|_| BadAuthority) // the provider supports both versions
    }
}

fn only(pem: &SecretString) -> Result<RootCertStore, BadAuthority> {
    let mut roots = RootCertStore::empty();
    for authority in certificates(pem).ok_or(BadAuthority)? {
        roots.add(authority).map_err(|_| BadAuthority)?;
    }
    Ok(roots)
}

/// The certificates of a PEM text, in order: at least one, or `None`.
#[must_use]
pub fn certificates(pem: &SecretString) -> Option<Vec<CertificateDer<'static>>> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.expose_secret().as_bytes()).collect();
    all.ok().filter(|chain| !chain.is_empty())
}
