//! Certificates made for a test: authorities, and what they sign for servers and clients with a chosen validity.

use aws_lc_rs::digest::{SHA256, digest};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tempfile::NamedTempFile;
use time::{Duration, OffsetDateTime};

/// A certificate authority.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: rcgen::Certificate,
}

/// A certificate and its key.
pub struct Identity {
    certificate: rcgen::Certificate,
    key: KeyPair,
}

/// When a certificate begins and ends, in hours from now.
#[derive(Debug, Clone, Copy)]
pub struct Validity {
    pub from: i64,
    pub until: i64,
}

/// Valid now, and longer than any test moves its clock.
pub const CURRENT: Validity = Validity {
    from: -24,
    until: 24 * 30,
};

/// Ended yesterday.
pub const EXPIRED: Validity = Validity { from: -48, until: -24 };

/// Begins tomorrow.
pub const NOT_YET: Validity = Validity { from: 24, until: 48 };

impl Authority {
    pub fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = parameters(&[], name, CURRENT);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).unwrap();
        Self {
            issuer: Issuer::new(params, key),
            certificate,
        }
    }

    /// A server's identity, valid now.
    pub fn server(&self, names: &[&str]) -> Identity {
        self.server_valid(names, CURRENT)
    }

    pub fn server_valid(&self, names: &[&str], validity: Validity) -> Identity {
        let mut params = parameters(names, "dev server", validity);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign(&params, KeyPair::generate().unwrap())
    }

    /// A client's identity, valid now.
    pub fn client(&self, name: &str) -> Identity {
        self.client_valid(name, CURRENT)
    }

    pub fn client_valid(&self, name: &str, validity: Validity) -> Identity {
        self.client_with_key(name, validity, KeyPair::generate().unwrap())
    }

    /// The same client's next certificate, for the key it has.
    pub fn renewed(&self, name: &str, identity: &Identity) -> Identity {
        let key = KeyPair::from_pem(&identity.key_pem()).unwrap();
        self.client_with_key(name, CURRENT, key)
    }

    fn client_with_key(&self, name: &str, validity: Validity, key: KeyPair) -> Identity {
        let mut params = parameters(&[], name, validity);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(&params, key)
    }

    fn sign(&self, params: &CertificateParams, key: KeyPair) -> Identity {
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Identity { certificate, key }
    }

    pub fn pem(&self) -> String {
        self.certificate.pem()
    }

    pub fn der(&self) -> CertificateDer<'static> {
        self.certificate.der().clone()
    }

    /// A file for `egress_ca_file`.
    pub fn file(&self) -> NamedTempFile {
        let file = NamedTempFile::new().unwrap();
        std::fs::write(file.path(), self.pem()).unwrap();
        file
    }
}

impl Identity {
    /// Signed by nobody but itself.
    pub fn self_signed(names: &[&str]) -> Self {
        let key = KeyPair::generate().unwrap();
        let certificate = parameters(names, "dev self-signed", CURRENT).self_signed(&key).unwrap();
        Self { certificate, key }
    }

    pub fn certificate_pem(&self) -> String {
        self.certificate.pem()
    }

    pub fn key_pem(&self) -> String {
        self.key.serialize_pem()
    }

    pub fn chain(&self) -> Vec<CertificateDer<'static>> {
        vec![self.certificate.der().clone()]
    }

    pub fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key.serialize_der()).into()
    }

    pub fn fingerprint(&self) -> [u8; 32] {
        fingerprint(self.certificate.der())
    }
}

/// SHA-256 of a certificate.
pub fn fingerprint(certificate: &CertificateDer<'_>) -> [u8; 32] {
    digest(&SHA256, certificate).as_ref().try_into().unwrap()
}

fn parameters(names: &[&str], common_name: &str, validity: Validity) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name.push(DnType::CommonName, common_name);
    let now = OffsetDateTime::now_utc();
    params.not_before = now + Duration::hours(validity.from);
    params.not_after = now + Duration::hours(validity.until);
    params
}
