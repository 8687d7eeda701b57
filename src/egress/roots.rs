//! Which certificate authorities endpoints are checked against.

use std::path::Path;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

/// Why the roots cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RootsError {
    /// The operator's file cannot be read or is not PEM.
    #[error("egress_ca_file cannot be read, or holds something else than PEM certificates")]
    File,
    /// The operator's file holds no certificate.
    #[error("egress_ca_file holds no certificate")]
    Empty,
}

/// The system's roots, and the operator's beside them. A system without roots trusts the operator's alone.
///
/// # Errors
/// [`RootsError`] for the operator's file; a broken certificate of the system is passed over.
pub fn load(extra: Option<&Path>) -> Result<Arc<RootCertStore>, RootsError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = extra {
        let certificates = CertificateDer::pem_file_iter(path).map_err(|_| RootsError::File)?;
        let before = roots.len();
        for certificate in certificates {
            roots
                .add(certificate.map_err(|_| RootsError::File)?)
                .map_err(|_| RootsError::File)?;
        }
        if roots.len() == before {
            return Err(RootsError::Empty);
        }
    }
    Ok(Arc::new(roots))
}
