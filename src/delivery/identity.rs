//! Who the sidecar is to an endpoint, and whom it takes an endpoint for: TLS clients with and without a certificate.
//!
//! The only place where handshake secrets are used.

use std::sync::Arc;

use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, InconsistentKeys, RootCertStore};
use secrecy::{ExposeSecret, SecretString};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use crate::crypto::sha256::sha256;
use crate::domain::resolution::HandshakeSecret;
use crate::domain::time::Timestamp;
use crate::egress::{BadAuthority, Trust, certificates};

/// TLS sessions kept per identity.
const SESSIONS_MAX: usize = 32;

/// Makes TLS clients over the roots that endpoints are checked against.
pub struct TlsClients(Trust);

/// One identity with its own sessions: nothing is shared with another.
#[derive(Debug, Clone)]
pub struct TlsClient {
    /// The handshake's configuration. Offers HTTP/2 and HTTP/1.1.
    pub config: Arc<ClientConfig>,
    /// SHA-256 of the client certificate, where one is presented.
    pub certificate: Option<[u8; 32]>,
    /// SHA-256 of the CA that the endpoint is checked against, where it is not the system's roots.
    pub ca: Option<[u8; 32]>,
    /// When the client certificate ends.
    pub not_after: Option<Timestamp>,
}

/// Why handshake secrets make no identity. An admin has to replace one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// Certificate or key cannot be read as PEM, or not as what they should be.
    #[error("the client certificate or its key is not PEM")]
    NotPem,
    /// The key is another certificate's.
    #[error("the client certificate and its key do not match")]
    Mismatched,
    /// The certificate has ended.
    #[error("the client certificate has expired")]
    Expired,
    /// The certificate has not begun.
    #[error("the client certificate is not valid yet")]
    NotYetValid,
    /// The CA cannot be read.
    #[error("the certificate authority is not PEM")]
    BadCa,
}

impl TlsClients {
    /// Clients that trust these roots, unless an identity names a CA of its own.
    #[must_use]
    pub fn new(roots: Arc<RootCertStore>) -> Self {
        Self(Trust::new(roots))
    }

    /// A client without a certificate.
    ///
    /// # Errors
    /// [`IdentityError::BadCa`].
    pub fn plain(&self, ca: Option<&SecretString>) -> Result<TlsClient, IdentityError> {
        let config = self.0.client(ca)?.with_no_client_auth();
        Ok(TlsClient {
            config: finish(config),
            certificate: None,
            ca: ca.map(hash),
            not_after: None,
        })
    }

    /// A client with a certificate: PEM chain, leaf first, and PEM key (PKCS#8, PKCS#1 or SEC1).
    ///
    /// # Errors
    /// [`IdentityError`].
    pub fn mutual(
        &self,
        certificate: &SecretString,
        key: &SecretString,
        ca: Option<&SecretString>,
        now: Timestamp,
    ) -> Result<TlsClient, IdentityError> {
        let builder = self.0.client(ca)?;
        let chain = certificates(certificate).ok_or(IdentityError::NotPem)?;
        let key = PrivateKeyDer::from_pem_slice(key.expose_secret().as_bytes()).map_err(|_| IdentityError::NotPem)?;
        let leaf = chain.first().ok_or(IdentityError::NotPem)?;
        let fingerprint = sha256(leaf);
        let (not_before, not_after) = validity(leaf)?;
        let config = builder.with_client_auth_cert(chain, key).map_err(|error| match error {
            rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => IdentityError::Mismatched,
            _ => IdentityError::NotPem,
        })?;
        if now < not_before {
            return Err(IdentityError::NotYetValid);
        }
        if now >= not_after {
            return Err(IdentityError::Expired);
        }
        Ok(TlsClient {
            config: finish(config),
            certificate: Some(fingerprint),
            ca: ca.map(hash),
            not_after: Some(not_after),
        })
    }
}

impl From<BadAuthority> for IdentityError {
    fn from(_: BadAuthority) -> Self {
        Self::BadCa
    }
}

fn hash(pem: &SecretString) -> [u8; 32] {
    sha256(pem.expose_secret().as_bytes())
}

fn finish(mut config: ClientConfig) -> Arc<ClientConfig> {
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.resumption = Resumption::in_memory_sessions(SESSIONS_MAX);
    Arc::new(config)
}

/// When a client certificate ends: the first of a PEM chain. `None` where it is none.
#[must_use]
pub fn certificate_end(pem: &HandshakeSecret) -> Option<Timestamp> {
    chain_end(&certificates(&pem.0)?)
}

/// When a certificate chain ends: its first one. `None` where that is none.
#[must_use]
pub fn chain_end(chain: &[CertificateDer<'_>]) -> Option<Timestamp> {
    chain.first().and_then(|leaf| validity(leaf).ok()).map(|(_, end)| end)
}

fn validity(leaf: &CertificateDer<'_>) -> Result<(Timestamp, Timestamp), IdentityError> {
    let (_, parsed) = X509Certificate::from_der(leaf).map_err(|_| IdentityError::NotPem)?;
    let millis = |seconds: i64| Timestamp(u64::try_from(seconds).unwrap_or(0).saturating_mul(1_000));
    let validity = parsed.validity();
    // The last second belongs to the certificate (RFC 5280, section 4.1.2.5).
    let end = validity.not_after.timestamp().saturating_add(1);
    Ok((millis(validity.not_before.timestamp()), millis(end)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    /// A self-signed certificate for the year 2026, and its key.
    fn pair() -> (SecretString, SecretString) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["dev.example.com".into()]).unwrap();
        params.not_before = date_time_ymd(2026, 1, 1);
        params.not_after = date_time_ymd(2027, 1, 1);
        let certificate = params.self_signed(&key).unwrap();
        (certificate.pem().into(), key.serialize_pem().into())
    }

    fn clients() -> TlsClients {
        TlsClients::new(Arc::new(RootCertStore::empty()))
    }

    const IN_2026: Timestamp = Timestamp(1_795_000_000_000);

    #[test]
    fn a_matching_pair_within_its_validity_is_an_identity() {
        let (certificate, key) = pair();
        let client = clients()
            .mutual(&certificate, &key, Some(&certificate), IN_2026)
            .unwrap();
        assert!(client.certificate.is_some() && client.ca.is_some());
        assert_eq!(client.not_after, Some(Timestamp(1_798_761_601_000)));
    }

    #[test]
    fn what_makes_no_identity_is_told_apart() {
        let (certificate, key) = pair();
        let (_, other_key) = pair();
        let junk = SecretString::from("junk");
        let of = |certificate, key, ca, now| clients().mutual(certificate, key, ca, now).map(drop).unwrap_err();
        assert_eq!(of(&certificate, &other_key, None, IN_2026), IdentityError::Mismatched);
        assert_eq!(of(&junk, &key, None, IN_2026), IdentityError::NotPem);
        assert_eq!(of(&certificate, &junk, None, IN_2026), IdentityError::NotPem);
        assert_eq!(of(&key, &certificate, None, IN_2026), IdentityError::NotPem);
        assert_eq!(of(&certificate, &key, Some(&junk), IN_2026), IdentityError::BadCa);
        assert_eq!(
            of(&certificate, &key, None, Timestamp(1_798_761_601_000)),
            IdentityError::Expired
        );
        assert_eq!(
            of(&certificate, &key, None, Timestamp(1_700_000_000_000)),
            IdentityError::NotYetValid
        );
        assert!(
            clients()
                .mutual(&certificate, &key, None, Timestamp(1_798_761_600_999))
                .is_ok()
        );
    }
}
