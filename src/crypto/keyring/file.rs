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

fn zeroizing<'de, D: Deserializer<'de>>(from: D) -> Result<Zeroizing<String>, D::Error> {
    String::deserialize(from).map(Zeroizing::new)
}

impl Keyring {
    /// Reads a keyring from its text.
    ///
    /// # Errors
    /// [`KeyringError`], naming the line or the key at fault.
    pub fn parse(text: &str) -> Result<Self, KeyringError> {
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
        let read = |entries: Vec<Spanned<Entry>>| -> Result<Vec<(Key, bool)>, KeyringError> {
            entries
                .into_iter()
                .map(|entry| key(line(entry.span()), entry.into_inner()))
                .collect()
        };
        let keks = read(document.kek)?;
        let audit_mac = only(Purpose::AuditMac, read(document.audit_mac)?)?;
        let audit_sign = only(Purpose::AuditSign, read(document.audit_sign)?)?;
        let fingerprint = only(Purpose::Fingerprint, read(document.fingerprint)?)?;
        let is_alone = keks.len() == 1; // what is left of a rotation seals, whatever the file says
        let (active, others): (Vec<_>, Vec<_>) = keks.into_iter().partition(|(_, active)| *active || is_alone);
        let active = single(Purpose::Kek, active.into_iter().map(|(key, _)| key).collect())?;
        let others = others.into_iter().map(|(key, _)| key).collect();
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
        // Writing to a String cannot fail.
        let _ = writeln!(text, "format = {FORMAT}");
        for (purpose, key) in self.keys() {
            append(&mut text, purpose, key, key.id == self.active_kek().key.id);
        }
        text
    }
}

/// Appends a key as the file has it.
pub(super) fn append(text: &mut String, purpose: Purpose, key: &Key, is_active: bool) {
    let (id, created_at) = (&key.id, key.created_at.to_rfc3339());
    let _ = write!(text, "\n[[{purpose}]]\nid = \"{id}\"\ncreated_at = \"{created_at}\"\n");
    if purpose == Purpose::Kek {
        let _ = writeln!(text, "active = {is_active}");
    }
    text.push_str("key = \"");
    BASE64.encode_append(key.material.expose_secret(), text);
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

/// One key of the file, and whether it is marked active.
fn key(line: usize, entry: Entry) -> Result<(Key, bool), KeyringError> {
    let id = KeyId::parse(&entry.id).ok_or(KeyringError::Id { line })?;
    let created_at = moment(&entry.created_at).ok_or_else(|| KeyringError::CreatedAt { id: id.clone() })?;
    let material = material(&entry.key).ok_or_else(|| KeyringError::Material { id: id.clone() })?;
    Ok((
        Key {
            id,
            created_at,
            material,
        },
        entry.active,
    ))
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
fn only(purpose: Purpose, keys: Vec<(Key, bool)>) -> Result<Key, KeyringError> {
    if let Some((key, _)) = keys.iter().find(|(_, active)| *active) {
        return Err(KeyringError::NotActivatable { id: key.id.clone() });
    }
    single(purpose, keys.into_iter().map(|(key, _)| key).collect())
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
mod tests {
    use std::fs::{self, Permissions};

    use super::*;

    const MATERIAL: &str = "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3I=";

    fn entry(purpose: &str, id: &str, more: &str) -> String {
        format!("[[{purpose}]]\nid = \"{id}\"\ncreated_at = \"2026-01-01T00:00:00Z\"\nkey = \"{MATERIAL}\"\n{more}\n")
    }

    fn document(keks: &[(&str, bool)]) -> String {
        let mut text = String::from("format = 1\n");
        for (id, active) in keks {
            text += &entry("kek", id, &format!("active = {active}"));
        }
        text + &entry("audit-mac", "m", "") + &entry("audit-sign", "s", "") + &entry("fingerprint", "f", "")
    }

    #[test]
    fn a_generated_keyring_reads_back_as_itself() {
        let made = Keyring::generate(Timestamp(1_700_000_000_123)).unwrap();
        let text = made.to_toml();
        let read = Keyring::parse(&text).unwrap();
        assert_eq!(*read.to_toml(), *text);
        assert!(text.contains("created_at = \"2023-11-14T22:13:20.123Z\""));
        assert_eq!(made.row_mac("t", &[b"x"]), read.row_mac("t", &[b"x"]));
        assert_ne!(*Keyring::generate(Timestamp(0)).unwrap().to_toml(), *text);
    }

    #[test]
    fn several_keks_are_read_with_one_active() {
        let keys = Keyring::parse(&document(&[("old", false), ("new", true), ("older", false)])).unwrap();
        assert_eq!(keys.active_kek().id(), "new");
        assert!(keys.kek(b"old").is_some() && keys.kek(b"older").is_some() && keys.kek(b"other").is_none());
        assert_eq!(format!("{keys:?}"), "[new, old, older, m, s, f]");
        let alone = Keyring::parse(&document(&[("only", false)])).unwrap();
        assert_eq!(alone.active_kek().id(), "only");
    }

    #[test]
    fn derived_keys_are_the_ones_that_stored_rows_depend_on() {
        let keys = Keyring::parse(&document(&[("k", true)])).unwrap();
        let hex = |mac: [u8; 32]| data_encoding::HEXLOWER.encode(&mac);
        let row = "7f899c67cc12a80fd89355b4fde340d202b28224252fb6d65cdefbdba74acb98";
        assert_eq!(hex(keys.row_mac("t", &[b"x"])), row);
        let token = "fa91076cc58f27c3bf41de9d8dc9cfb2ccd1c66d10387a92895ff55bdff25a3c";
        assert_eq!(hex(keys.token_hash(&"kst_abc".into())), token);
    }

    #[test]
    fn every_fault_is_named_by_line_or_id() {
        let good = document(&[("k", true)]);
        let id = |text: &str| KeyId::parse(text).unwrap();
        let table = [
            ("".into(), KeyringError::Syntax { line: 1 }),
            (good.replace("format = 1", "format = 2"), KeyringError::Format),
            (
                good.replace("format = 1", "formt = 1"),
                KeyringError::Syntax { line: 1 },
            ),
            (
                good.replace("active = true", "activ = true"),
                KeyringError::Syntax { line: 6 },
            ),
            (
                good.replace("active = true", "active = \"yes\""),
                KeyringError::Syntax { line: 6 },
            ),
            (good.replace("[[kek]]", "[[keks]]"), KeyringError::Syntax { line: 2 }),
            (good.replace("id = \"k\"", "id = \"k k\""), KeyringError::Id { line: 2 }),
            (good.replace("id = \"k\"", "id = \"\""), KeyringError::Id { line: 2 }),
            (
                good.replacen("2026-01-01", "2026-13-01", 1),
                KeyringError::CreatedAt { id: id("k") },
            ),
            (
                good.replacen(MATERIAL, "c2hvcnQ=", 1),
                KeyringError::Material { id: id("k") },
            ),
            (
                good.replacen(MATERIAL, "not base64", 1),
                KeyringError::Material { id: id("k") },
            ),
            (
                good.replace("id = \"f\"", "id = \"k\""),
                KeyringError::Duplicate { id: id("k") },
            ),
            (
                document(&[("k", true), ("k", false)]),
                KeyringError::Duplicate { id: id("k") },
            ),
            (document(&[]), KeyringError::Missing(Purpose::Kek)),
            (
                document(&[("a", false), ("b", false)]),
                KeyringError::Missing(Purpose::Kek),
            ),
            (
                document(&[("a", true), ("b", true)]),
                KeyringError::Several(Purpose::Kek),
            ),
            (
                good.replace("audit-sign", "audit-mac"),
                KeyringError::Several(Purpose::AuditMac),
            ),
            (
                good.clone() + "active = true",
                KeyringError::NotActivatable { id: id("f") },
            ),
            (
                entry("kek", "k", "active = true").replacen("[[", "format = 1\n[[", 1),
                { KeyringError::Missing(Purpose::AuditMac) },
            ),
        ];
        assert!(Keyring::parse(&good).is_ok());
        for (text, expected) in table {
            let error = Keyring::parse(&text).err();
            assert_eq!(error, Some(expected), "{text}");
        }
    }

    #[test]
    fn no_error_holds_key_material() {
        let good = document(&[("k", true)]);
        let misplaced = [
            good.replacen("key = ", "active = ", 1),
            good.replacen("key = \"", "key = [\"", 1),
            good.replacen("key = ", "kex = ", 1),
            good.replace("id = \"k\"", &format!("id = \"{MATERIAL}\"")),
            good.replace("format = 1", &format!("format = \"{MATERIAL}\"")),
            good.replacen(MATERIAL, &format!("{MATERIAL}{MATERIAL}"), 1),
        ];
        for text in misplaced {
            let error = Keyring::parse(&text).err().unwrap();
            assert!(!format!("{error} {error:?}").contains("c2Vjc"), "{error:?}");
        }
    }

    #[test]
    fn a_file_is_refused_as_soon_as_others_have_any_right_to_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keyring.toml");
        fs::write(&path, document(&[("k", true)])).unwrap();
        for mode in [0o400, 0o600, 0o640, 0o660] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            assert!(Keyring::read(&path).is_ok(), "{mode:o}");
        }
        for mode in [0o644, 0o604, 0o602, 0o601, 0o666] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            assert_eq!(Keyring::read(&path).err(), Some(KeyringError::OpenToOthers), "{mode:o}");
        }
    }

    #[test]
    fn a_file_that_is_no_keyring_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keyring.toml");
        assert_eq!(
            Keyring::read(&path).err(),
            Some(KeyringError::Unreadable(io::ErrorKind::NotFound))
        );
        let table = [
            (vec![0xff], KeyringError::NotText),
            (vec![b'#'; FILE_BYTES_MAX + 1], KeyringError::TooLong),
            (vec![b'#'; FILE_BYTES_MAX], KeyringError::Syntax { line: 1 }),
        ];
        for (bytes, expected) in table {
            fs::write(&path, bytes).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
            assert_eq!(Keyring::read(&path).err(), Some(expected));
        }
    }
}
