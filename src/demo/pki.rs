//! The demo's certificates: a dev CA, the endpoint's certificate and the sidecar's, in memory and valid for a day.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use time::{Duration, OffsetDateTime};

use super::DemoError;
use crate::clock::{Clock, SystemClock};

/// A CA and what it issued, as PEM.
pub(super) struct Pki {
    pub(super) ca: String,
    pub(super) server: Pair,
    pub(super) client: Pair,
}

/// A certificate and its key, as PEM.
pub(super) struct Pair {
    pub(super) certificate: String,
    pub(super) key: String,
}

impl Pki {
    /// A CA, a certificate for an endpoint of this name, and one for a client.
    pub(super) fn new(server_name: &str) -> Result<Self, DemoError> {
        make(server_name).map_err(|_| DemoError::Certificates)
    }
}

fn make(server_name: &str) -> Result<Pki, rcgen::Error> {
    let mut params = named("Kiket dev CA", Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    let server = named("dev endpoint", vec![server_name.to_owned()])?;
    let client = named("dev sidecar of acme", Vec::new())?;
    Ok(Pki {
        server: issue(&ca, server, ExtendedKeyUsagePurpose::ServerAuth)?,
        client: issue(&ca, client, ExtendedKeyUsagePurpose::ClientAuth)?,
        ca: ca.pem(),
    })
}

fn named(common_name: &str, alt_names: Vec<String>) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(alt_names)?;
    params.distinguished_name.push(DnType::CommonName, common_name);
    let seconds = i64::try_from(SystemClock.now().as_secs()).unwrap_or(0);
    let now = OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    params.not_before = now.saturating_sub(Duration::minutes(5));
    params.not_after = now.saturating_add(Duration::days(1));
    Ok(params)
}

fn issue(
    ca: &CertifiedIssuer<'_, KeyPair>,
    mut params: CertificateParams,
    usage: ExtendedKeyUsagePurpose,
) -> Result<Pair, rcgen::Error> {
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![usage];
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, ca)?;
    Ok(Pair {
        certificate: certificate.pem(),
        key: key.serialize_pem(),
    })
}
