//! How extensions and installations become rows that nobody else can write, and are read back from them.

use serde::{Deserialize, Serialize};

use super::RegistryError;
use crate::crypto::encoding::Encoder;
use crate::crypto::keyring::Keyring;
use crate::domain::consent::{Consent, KeyUse, UsedKey};
use crate::domain::destination::Destination;
use crate::domain::installation::Installation;
use crate::domain::key::SecretKey;
use crate::domain::manifest::Manifest;
use crate::store::{ExtensionRow, InstallationRow};

const EXTENSIONS: &str = "extensions";
const INSTALLATIONS: &str = "installations";

/// A consent as its column keeps it. A field that this version does not know may narrow what the others say, so a
/// document with one is not read.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    destination: Option<String>,
    confirmed_in: u64,
    payload: Vec<String>,
    handshake: Vec<String>,
    signing: Vec<String>,
    accepted_in: u64,
}

fn document(consent: &Consent) -> String {
    let keys = |used_for: KeyUse| {
        let used = consent.keys.iter().filter(|used| used.used_for == used_for);
        used.map(|used| used.key.to_string()).collect()
    };
    let document = Document {
        destination: consent.destination.as_ref().map(ToString::to_string),
        confirmed_in: consent.confirmed_in,
        payload: keys(KeyUse::Payload),
        handshake: keys(KeyUse::Handshake),
        signing: keys(KeyUse::Signing),
        accepted_in: consent.accepted_in,
    };
    serde_json::to_string(&document).unwrap_or_default() // texts and numbers always serialize
}

fn consent(text: &str) -> Option<Consent> {
    let document: Document = serde_json::from_str(text).ok()?;
    let destination = document.destination.map(|url| Destination::parse(&url));
    let lists = [
        (KeyUse::Payload, document.payload),
        (KeyUse::Handshake, document.handshake),
        (KeyUse::Signing, document.signing),
    ];
    let keys = lists.into_iter().flat_map(|(used_for, keys)| {
        let used = move |key: String| {
            let key = SecretKey::parse(&key).ok()?;
            Some(UsedKey { key, used_for })
        };
        keys.into_iter().map(used)
    });
    Some(Consent {
        destination: destination.transpose().ok()?,
        confirmed_in: document.confirmed_in,
        keys: keys.collect::<Option<_>>()?,
        accepted_in: document.accepted_in,
    })
}

fn extension_fields(row: &ExtensionRow) -> [Vec<u8>; 3] {
    [
        row.id.as_str().into(),
        row.document.as_bytes().into(),
        row.version.to_be_bytes().into(),
    ]
}

/// A row without a consent was written before there were any, by fields of the first version. It cannot be made of a
/// later one: that one's MAC is over other fields.
fn installation_fields(row: &InstallationRow) -> [Vec<u8>; 1] {
    let installation = &row.installation;
    let domain = match row.consent {
        None => "kiket.installation-row.v1",
        Some(_) => "kiket.installation-row.v2",
    };
    let fields = Encoder::new(domain)
        .text(installation.id.as_str())
        .text(installation.extension.as_str())
        .text(installation.organization.as_str())
        .text(installation.project.as_str())
        .optional(installation.product_installation.as_ref(), |encoder, id| {
            encoder.text(id.as_str())
        })
        .text(installation.state.name())
        .optional(installation.callback_url.as_deref(), Encoder::text)
        .number(installation.version);
    let fields = match &row.consent {
        None => fields,
        Some(consent) => fields.text(consent),
    };
    [fields.finish()]
}

pub(super) fn slices<const N: usize>(fields: &[Vec<u8>; N]) -> [&[u8]; N] {
    fields.each_ref().map(Vec::as_slice)
}

pub(super) fn sealed_extension(keyring: &Keyring, mut row: ExtensionRow) -> ExtensionRow {
    row.mac = keyring.row_mac(EXTENSIONS, &slices(&extension_fields(&row))).to_vec();
    row
}

pub(super) fn sealed_installation(keyring: &Keyring, installation: Installation, consent: &Consent) -> InstallationRow {
    let mut row = InstallationRow {
        installation,
        consent: Some(document(consent)),
        mac: Vec::new(),
    };
    row.mac = keyring
        .row_mac(INSTALLATIONS, &slices(&installation_fields(&row)))
        .to_vec();
    row
}

pub(super) fn verified_manifest(keyring: &Keyring, row: &ExtensionRow) -> Result<Manifest, RegistryError> {
    if !keyring.row_mac_holds(EXTENSIONS, &slices(&extension_fields(row)), &row.mac) {
        return Err(RegistryError::Tampered);
    }
    Manifest::parse(&row.document).map_err(|_| RegistryError::Tampered)
}

/// The installation, and what was agreed to: nothing yet where the row is older than consents.
pub(super) fn verified_installation(
    keyring: &Keyring,
    row: InstallationRow,
) -> Result<(Installation, Consent), RegistryError> {
    let fields = installation_fields(&row);
    if !keyring.row_mac_holds(INSTALLATIONS, &slices(&fields), &row.mac) {
        return Err(RegistryError::Tampered);
    }
    let consent = match &row.consent {
        None => Consent::default(),
        Some(text) => consent(text).ok_or(RegistryError::Tampered)?,
    };
    Ok((row.installation, consent))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_consent_is_read_back_as_it_was_written_and_nothing_else_is_one() {
        let used = |key: &str, used_for| UsedKey {
            key: SecretKey::parse(key).unwrap(),
            used_for,
        };
        let agreed = Consent {
            destination: Some(Destination::parse("https://[::1]:8443/a b").unwrap()),
            confirmed_in: 3,
            keys: [
                used("A", KeyUse::Payload),
                used("B", KeyUse::Handshake),
                used("B", KeyUse::Signing),
            ]
            .into(),
            accepted_in: u64::MAX,
        };
        for whole in [agreed, Consent::default()] {
            assert_eq!(consent(&document(&whole)), Some(whole));
        }
        let written = document(&Consent::default());
        for (part, other) in [
            ("{", "{\"more\":1,"),
            ("null", "\"no url\""),
            ("\"payload\":[]", "\"payload\":[\"lower\"]"),
            ("\"signing\":[],", ""),
        ] {
            let damaged = written.replacen(part, other, 1);
            assert_ne!(damaged, written);
            assert_eq!(consent(&damaged), None, "{damaged}");
        }
    }
}
