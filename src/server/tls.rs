//! What the control plane shows over TLS: a certificate chain and its key, read once at the start.

use std::path::Path;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use secrecy::ExposeSecret;

use crate::config::{SecretFileError, secret_file};

/// Why a certificate and key cannot be used. An operator has to change a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TlsFileError {
    /// The certificate's file cannot be read, or holds none.
    #[error("admin_tls_cert_file: no PEM certificate can be read from it")]
    Certificate,
    /// The key's file cannot be read.
    #[error("admin_tls_key_file: {0}")]
    KeyFile(SecretFileError),
    /// The key's file holds none.
    #[error("admin_tls_key_file: no PEM private key can be read from it")]
    Key,
    /// They are not each other's.
    #[error("admin_tls_cert_file: the certificate and the key of admin_tls_key_file do not go together")]
    Mismatch,
}

/// The server's side of TLS 1.2 and 1.3 with this identity.
///
/// # Errors
/// [`TlsFileError`].
pub fn server_tls(certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>, TlsFileError> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(certificate)
        .map_err(|_| TlsFileError::Certificate)?
        .collect();
    let chain = chain.map_err(|_| TlsFileError::Certificate)?;
    if chain.is_empty() {
        return Err(TlsFileError::Certificate);
    }
    let key = secret_file(key).map_err(TlsFileError::KeyFile)?;
    let key = PrivateKeyDer::from_pem_slice(key.expose_secret().as_bytes()).map_err(|_| TlsFileError::Key)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|_| TlsFileError::Mismatch)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|_| TlsFileError::Mismatch)?;
    Ok(Arc::new(config))
}
