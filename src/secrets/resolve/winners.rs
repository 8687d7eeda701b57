//! Which rows are opened for which use, or what stands in the way of the delivery.

use super::{Blocked, References, ResolveError};
use crate::audit::Use;
use crate::domain::audit::Source;
use crate::domain::consent::KeyUse;
use crate::domain::key::SecretKey;
use crate::domain::manifest::{Demand, OnMissing};
use crate::domain::secret::SecretKind;
use crate::store::SecretRow;

/// The rows that won, by use, before anything is opened.
pub(super) struct Winners<'a> {
    pub(super) payload: Vec<&'a SecretRow>,
    pub(super) certificate: Option<&'a SecretRow>,
    pub(super) private_key: Option<&'a SecretRow>,
    pub(super) ca: Option<&'a SecretRow>,
    pub(super) signing: Vec<&'a SecretRow>,
}

impl Winners<'_> {
    pub(super) fn uses(&self, references: &References) -> Vec<Use> {
        let used = |row: &SecretRow, source| Use {
            slot: row.meta.slot.clone(),
            version: references.version(row),
            external: row.meta.kind == SecretKind::Reference,
            source,
        };
        let handshake = [self.certificate, self.private_key, self.ca];
        let payload = self.payload.iter().map(|row| used(row, Source::Delivery));
        payload
            .chain(handshake.into_iter().flatten().map(|row| used(row, Source::Handshake)))
            .chain(self.signing.iter().map(|row| used(row, Source::Signing)))
            .collect()
    }
}

/// Picks the rows to open, or says what blocks the delivery. Every missing payload key goes into `missing`, sorted.
pub(super) fn choose<'a>(
    demand: &Demand,
    winner: impl Fn(&SecretKey, KeyUse) -> Result<Option<&'a SecretRow>, ResolveError>,
    missing: &mut Vec<SecretKey>,
) -> Result<Result<Winners<'a>, Blocked>, ResolveError> {
    let mut winners = Winners {
        payload: Vec::new(),
        certificate: None,
        private_key: None,
        ca: None,
        signing: Vec::new(),
    };
    let mut required_missing = Vec::new();
    for wanted in &demand.payload {
        match winner(&wanted.key, KeyUse::Payload)? {
            Some(row) => winners.payload.push(row),
            None => {
                missing.push(wanted.key.clone());
                if wanted.required {
                    required_missing.push(wanted.key.clone());
                }
            }
        }
    }
    missing.sort_unstable();
    let mut signing_missing = Vec::new();
    for key in &demand.signing {
        match winner(key, KeyUse::Signing)? {
            Some(row) => winners.signing.push(row),
            None => signing_missing.push(key.clone()),
        }
    }
    let mut handshake_missing = Vec::new();
    if let Some(keys) = &demand.handshake {
        let mut want = |key: &SecretKey| -> Result<Option<&'a SecretRow>, ResolveError> {
            let row = winner(key, KeyUse::Handshake)?;
            if row.is_none() {
                handshake_missing.push(key.clone());
            }
            Ok(row)
        };
        winners.certificate = want(&keys.certificate_key)?;
        winners.private_key = want(&keys.private_key_key)?;
        winners.ca = keys.ca_key.as_ref().map(&mut want).transpose()?.flatten();
    }
    if !required_missing.is_empty() && demand.on_missing == OnMissing::FailFast {
        return Ok(Err(Blocked::RequiredMissing(required_missing)));
    }
    if !signing_missing.is_empty() {
        return Ok(Err(Blocked::SigningMissing(signing_missing)));
    }
    if !handshake_missing.is_empty() {
        return Ok(Err(Blocked::HandshakeMissing(handshake_missing)));
    }
    Ok(Ok(winners))
}
