//! How a keyring is written down: a TOML file that its operator keeps, and that only it and its group may read.
//!
//! ```toml
//! format = 1
//!
//! [[kek]]
//! id = "kek-1a2b3c4d"
//! created_at = "2026-01-01T00:00:00Z"
//! active = true
//! key = "<base64 of 32 bytes>"
//! ```
//! Of several `[[kek]]` one is `active`; one alone is, whatever it says. Once a key was promoted in the store, that
//! counts instead. And likewise, without `active`, `[[audit-mac]]`, `[[audit-sign]]` and `[[fingerprint]]`, one each.

use std::fmt::Write as _;
use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use aws_lc_rs::signature::Ed25519KeyPair;
use data_encoding::BASE64;
use serde::{Deserialize, Deserializer};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use toml::Spanned;
use zeroize::{Zeroize as _, Zeroizing};

use super::super::locked::Locked;
use super::wrapped::{self, Wrapping, WrappingError};
use super::{KEY_BYTES, Key, KeyId, Keyring, Purpose};
use crate::domain::time::Timestamp;

/// The one format there is.
const FORMAT: u32 = 1;

/// Longest accepted file, in bytes: hundreds of keys.
pub(super) const FILE_BYTES_MAX: usize = 64 * 1024;

/// Mode bits that others have no business with.
const OTHERS: u32 = 0o007;

/// Why there is no keyring. No variant carries anything of the file but ids and line numbers. The operator's to
/// mend; retrying does not help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyringError {
    /// The file cannot be read.
    #[error("the keyring file cannot be read: {0}")]
    Unreadable(io::ErrorKind),
    /// The file's mode lets others at it.
    #[error("the keyring file is open to others: remove their permissions (chmod o-rwx)")]
    OpenToOthers,
    /// The file is longer than any keyring.
    #[error("the keyring file is longer than 64 KiB")]
    TooLong,
    /// Not UTF-8.
    #[error("the keyring file is not UTF-8 text")]
    NotText,
    /// Not TOML, or not the tables and fields of a keyring.
    #[error("line {line} of the keyring: not a keyring's field, or not its type")]
    Syntax {
        /// Where.
        line: usize,
    },
    /// A format of another release.
    #[error("the keyring is of a format that this release does not know")]
    Format,
    /// A key's id breaks the rule.
    #[error("line {line} of the keyring: an id is 1 to 64 of A-Z, a-z, 0-9 and . _ -")]
    Id {
        /// Where the key's table stands.
        line: usize,
    },
    /// A key's date is none.
    #[error("key {id}: created_at is no RFC 3339 date")]
    CreatedAt {
        /// The key.
        id: KeyId,
    },
    /// A key's material is none.
    #[error("key {id}: the key is not base64 of 32 bytes")]
    Material {
        /// The key.
        id: KeyId,
    },
    /// A key is wrapped, and nothing is said of who opens it.
    #[error("key {id}: it is wrapped; set master_key_transit_url and what belongs to it")]
    Wrapped {
        /// The key.
        id: KeyId,
    },
    /// A key stands in the file itself, where all should be wrapped.
    #[error("key {id}: it stands in the file unwrapped, and master_key_transit_url is set; `kiket keys wrap` wraps it")]
    NotWrapped {
        /// The key.
        id: KeyId,
    },
    /// What was opened is not this key: somebody edited the file.
    #[error("key {id}: what is wrapped there is another key, or none")]
    Another {
        /// The key.
        id: KeyId,
    },
    /// The keys cannot be wrapped, or opened.
    #[error(transparent)]
    Wrapping(#[from] WrappingError),
    /// Two keys of one id.
    #[error("key {id}: the id is there twice")]
    Duplicate {
        /// The key.
        id: KeyId,
    },
    /// Only KEKs rotate.
    #[error("key {id}: only a kek can be active")]
    NotActivatable {
        /// The key.
        id: KeyId,
    },
    /// A purpose has no key (for KEKs: no active one).
    #[error("the keyring has no {0} key (or no active one)")]
    Missing(Purpose),
    /// A purpose has several keys (for KEKs: several active ones).
    #[error("the keyring has more than one {0} key (or more than one active)")]
    Several(Purpose),
    /// The cryptographic library failed: no randomness, or no memory.
    #[error("the cryptographic library failed")]
    Library,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Document {
    format: u32,
    #[serde(default)]
    kek: Vec<Spanned<Entry>>,
    #[serde(default)]
    audit_mac: Vec<Spanned<Entry>>,
    #[serde(default)]
    audit_sign: Vec<Spanned<Entry>>,
    #[serde(default)]
    fingerprint: Vec<Spanned<Entry>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    id: String,
    created_at: String,
    #[serde(default)]
    active: bool,
    #[serde(deserialize_with = "zeroizing")]
    key: Zeroizing<String>,
}

impl Document {
    /// Every key, in an order of its own.
    fn entries(self) -> impl Iterator<Item = (Purpose, Spanned<Entry>)> {
        let of = |purpose, entries: Vec<Spanned<Entry>>| entries.into_iter().map(move |entry| (purpose, entry));
        of(Purpose::Kek, self.kek)
            .chain(of(Purpose::AuditMac, self.audit_mac))
            .chain(of(Purpose::AuditSign, self.audit_sign))
            .chain(of(Purpose::Fingerprint, self.fingerprint))
    }
}

fn zeroizing<'de, D: Deserializer<'de>>(from: D) -> Result<Zeroizing<String>, D::Error> {
    String::deserialize(from).map(Zeroizing::new)
}

impl Keyring {
    /// Reads a keyring from its text.
    ///
    /// # Errors
    /// [`KeyringError`], naming the line or the key at fault.
    pub fn parse(text: &str) -> Result<Self, KeyringError> {
        Self::parse_with(text, None)
    }

    /// The same; where there is something that wraps keys, it has wrapped all of them.
    pub(super) fn parse_with(text: &str, wrapping: Option<&dyn Wrapping>) -> Result<Self, KeyringError> {
        let line = |span: std::ops::Range<usize>| {
            let before = text.as_bytes().get(..span.start).unwrap_or_default();
            before.iter().filter(|b| **b == b'\n').count() + 1
        };
        // The parser's own text can quote the file: only its position is kept.
        let document: Document = toml::from_str(text).map_err(|error| KeyringError::Syntax {
            line: error.span().map_or(1, line),
        })?;
        if document.format != FORMAT {
            return Err(KeyringError::Format);
        }
        let entries = document.entries().map(|(purpose, entry)| {
            let line = line(entry.span());
            head(purpose, line, entry.into_inner())
        });
        let heads: Vec<Head> = entries.collect::<Result<_, _>>()?;
        let keys = with_material(heads, wrapping)?;
        let of = |purpose: Purpose, keys: Vec<(Head, Key)>| -> (Vec<_>, Vec<_>) {
            keys.into_iter().partition(|(head, _)| head.purpose == purpose)
        };
        let (audit_mac, keys) = of(Purpose::AuditMac, keys);
        let (audit_sign, keys) = of(Purpose::AuditSign, keys);
        let (fingerprint, keks) = of(Purpose::Fingerprint, keys);
        let audit_mac = only(Purpose::AuditMac, audit_mac)?;
        let audit_sign = only(Purpose::AuditSign, audit_sign)?;
        let fingerprint = only(Purpose::Fingerprint, fingerprint)?;
        let is_alone = keks.len() == 1; // what is left of a rotation seals, whatever the file says
        let (active, others): (Vec<_>, Vec<_>) = keks.into_iter().partition(|(head, _)| head.active || is_alone);
        let active = single(Purpose::Kek, active.into_iter().map(|(_, key)| key).collect())?;
        let others = others.into_iter().map(|(_, key)| key).collect();
        if Ed25519KeyPair::from_seed_unchecked(audit_sign.material.expose_secret()).is_err() {
            return Err(KeyringError::Material { id: audit_sign.id });
        }
        let keyring = Self::assemble(active, others, audit_mac, audit_sign, fingerprint)?;
        keyring.without_duplicates()
    }

    fn without_duplicates(self) -> Result<Self, KeyringError> {
        let duplicate = self.keys().enumerate().find_map(|(n, (_, key))| {
            let again = self.keys().skip(n + 1).any(|(_, other)| other.id == key.id);
            again.then(|| key.id.clone())
        });
        match duplicate {
            Some(id) => Err(KeyringError::Duplicate { id }),
            None => Ok(self),
        }
    }

    /// Reads a keyring from its file.
    ///
    /// # Errors
    /// [`KeyringError::OpenToOthers`] where the file's mode gives others any right (its group may read), or what
    /// [`Self::parse`] finds.
    pub fn read(path: &Path) -> Result<Self, KeyringError> {
        Self::parse(&text_of(path)?.0)
    }

    /// The keyring as its file's text: the one way that keys leave the process.
    #[must_use]
    pub fn to_toml(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(FILE_BYTES_MAX));
        text.push_str("# Kiket keyring. Whoever has this file and the database can read every secret: keep it apart\n");
        text.push_str("# from the database and its backups, and keep a copy, for without it no secret can be read.\n");
        begin(&mut text);
        for (purpose, key) in self.keys() {
            append(&mut text, purpose, key, self.is_active(key), None);
        }
        text
    }
}

/// What stands before the first key.
pub(super) fn begin(text: &mut String) {
    let _ = writeln!(text, "format = {FORMAT}"); // writing to a String cannot fail
}

/// Appends a key as the file has it: itself, or what it was wrapped to.
pub(super) fn append(text: &mut String, purpose: Purpose, key: &Key, is_active: bool, wrapped: Option<&str>) {
    let (id, created_at) = (&key.id, key.created_at.to_rfc3339());
    let _ = write!(text, "\n[[{purpose}]]\nid = \"{id}\"\ncreated_at = \"{created_at}\"\n");
    if purpose == Purpose::Kek {
        let _ = writeln!(text, "active = {is_active}");
    }
    text.push_str("key = \"");
    match wrapped {
        Some(wrapped) => text.push_str(wrapped),
        None => BASE64.encode_append(key.material.expose_secret(), text),
    }
    text.push_str("\"\n");
}

/// A keyring file's text, and what the system says of the file.
pub(super) fn text_of(path: &Path) -> Result<(Zeroizing<String>, Metadata), KeyringError> {
    let unreadable = |error: io::Error| KeyringError::Unreadable(error.kind());
    let file = File::open(path).map_err(unreadable)?;
    // Of the opened file, not of the path: what is checked is what is read.
    let metadata = file.metadata().map_err(unreadable)?;
    if metadata.permissions().mode() & OTHERS != 0 {
        return Err(KeyringError::OpenToOthers);
    }
    // Never grows, so that no copy is left behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(FILE_BYTES_MAX + 2));
    file.take(FILE_BYTES_MAX as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    if bytes.len() > FILE_BYTES_MAX {
        return Err(KeyringError::TooLong);
    }
    match String::from_utf8(std::mem::take(&mut *bytes)) {
        Ok(text) => Ok((Zeroizing::new(text), metadata)),
        Err(not_text) => {
            not_text.into_bytes().zeroize();
            Err(KeyringError::NotText)
        }
    }
}

/// One key of the file, as it is written there.
struct Head {
    purpose: Purpose,
    id: KeyId,
    created_at: Timestamp,
    active: bool,
    /// The key, or what it was wrapped to.
    text: Zeroizing<String>,
}

fn head(purpose: Purpose, line: usize, entry: Entry) -> Result<Head, KeyringError> {
    let id = KeyId::parse(&entry.id).ok_or(KeyringError::Id { line })?;
    Ok(Head {
        purpose,
        created_at: moment(&entry.created_at).ok_or_else(|| KeyringError::CreatedAt { id: id.clone() })?,
        id,
        active: entry.active,
        text: entry.key,
    })
}

/// The keys themselves, each behind what the file says of it.
fn with_material(heads: Vec<Head>, wrapping: Option<&dyn Wrapping>) -> Result<Vec<(Head, Key)>, KeyringError> {
    let materials = match wrapping {
        None => heads.iter().map(own_material).collect::<Result<Vec<_>, _>>()?,
        Some(wrapping) => {
            let keys: Vec<_> = heads
                .iter()
                .map(|head| (head.purpose, &head.id, head.text.as_str()))
                .collect();
            wrapped::open(wrapping, &keys)?
        }
    };
    let key = |(head, material): (Head, Locked)| {
        let key = Key {
            id: head.id.clone(),
            created_at: head.created_at,
            material,
        };
        (head, key)
    };
    Ok(heads.into_iter().zip(materials).map(key).collect())
}

fn own_material(head: &Head) -> Result<Locked, KeyringError> {
    let id = || head.id.clone();
    if wrapped::is_wrapped(&head.text) {
        return Err(KeyringError::Wrapped { id: id() });
    }
    material(&head.text).ok_or_else(|| KeyringError::Material { id: id() })
}

fn moment(text: &str) -> Option<Timestamp> {
    let nanos = OffsetDateTime::parse(text, &Rfc3339).ok()?.unix_timestamp_nanos();
    u64::try_from(nanos / 1_000_000).ok().map(Timestamp)
}

fn material(base64: &str) -> Option<Locked> {
    let mut decoded = BASE64.decode(base64.as_bytes()).ok()?;
    let mut material = Locked::zeroed(KEY_BYTES).ok()?;
    let fits = decoded.len() == KEY_BYTES;
    if fits {
        material.expose_secret_mut().copy_from_slice(&decoded);
    }
    decoded.zeroize();
    fits.then_some(material)
}

/// The one key of a purpose that does not rotate.
fn only(purpose: Purpose, keys: Vec<(Head, Key)>) -> Result<Key, KeyringError> {
    if let Some((head, _)) = keys.iter().find(|(head, _)| head.active) {
        return Err(KeyringError::NotActivatable { id: head.id.clone() });
    }
    single(purpose, keys.into_iter().map(|(_, key)| key).collect())
}

fn single(purpose: Purpose, keys: Vec<Key>) -> Result<Key, KeyringError> {
    let mut keys = keys.into_iter();
    match (keys.next(), keys.next()) {
        (Some(key), None) => Ok(key),
        (None, _) => Err(KeyringError::Missing(purpose)),
        (Some(_), Some(_)) => Err(KeyringError::Several(purpose)),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests;
