//! Which keys there are, and what each may be used for.
//!
//! A key serves one purpose only. Key-encryption keys (`kek`) rotate: several may be there, one of them active; which
//! one can change while the process runs ([`Keyring::activate`]). The others are one each and outlive every KEK, so that
//! rotating KEKs breaks no audit chain, token or row:
//! `audit-mac` links audit entries, `audit-sign` is kept for signed checkpoints, `fingerprint` authenticates
//! rows and hashes tokens (by two keys derived from it). All of them, and what is derived from them, lie in locked
//! pages (`crypto::locked`). No key leaves this folder but through
//! [`Keyring::to_toml`], or to what wraps it ([`Keyring::to_wrapped_toml`]).

mod add;
mod file;
mod wrapped;

use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use aws_lc_rs::aead::{AES_256_GCM_SIV, LessSafeKey, UnboundKey};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::{hkdf, hmac, rand};
use data_encoding::HEXLOWER;
use secrecy::{ExposeSecret, SecretString};

use super::chain::ChainKey;
use super::checkpoint::CheckpointKey;
use super::encoding::Encoder;
use super::envelope;
use super::locked::Locked;
use crate::domain::time::Timestamp;

pub use self::add::AddError;
pub use self::file::KeyringError;
pub use self::wrapped::{Wrapping, WrappingError};

/// Length of every key, in bytes.
const KEY_BYTES: usize = 32;

/// Bits of the active key's word that hold its position; the file's size keeps positions far below.
const POSITION_BITS: u32 = 16;

/// Separates what this product derives from anything else that could be derived from the same bytes.
const DERIVATION_SALT: &[u8] = b"kiket.keyring.v1";

/// What a key is for. The names are the table names of the keyring file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// Wraps the data keys of values.
    Kek,
    /// Links audit entries.
    AuditMac,
    /// Signs checkpoints of the audit chains (Ed25519 seed).
    AuditSign,
    /// Authenticates rows and hashes tokens.
    Fingerprint,
}

impl Purpose {
    /// The purpose's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kek => "kek",
            Self::AuditMac => "audit-mac",
            Self::AuditSign => "audit-sign",
            Self::Fingerprint => "fingerprint",
        }
    }
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A key's public name: `[A-Za-z0-9._-]{1,64}`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct KeyId(String);

impl KeyId {
    /// Parses an id.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        ((1..=64).contains(&text.len()) && text.bytes().all(allowed)).then(|| Self(text.to_owned()))
    }

    /// The id's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A key as the file holds it.
struct Key {
    id: KeyId,
    created_at: Timestamp,
    material: Locked,
}

impl Key {
    fn generate(purpose: Purpose, now: Timestamp) -> Result<Self, KeyringError> {
        let mut suffix = [0; 4];
        rand::fill(&mut suffix).map_err(|_| KeyringError::Library)?;
        let mut material = Locked::zeroed(KEY_BYTES).map_err(|_| KeyringError::Library)?;
        rand::fill(material.expose_secret_mut()).map_err(|_| KeyringError::Library)?;
        let id = KeyId(format!("{purpose}-{}", HEXLOWER.encode(&suffix)));
        Ok(Self {
            id,
            created_at: now,
            material,
        })
    }

    /// An HMAC-SHA-256 key derived from this one for one use.
    fn derive(&self, info: &'static str) -> Result<Locked, KeyringError> {
        let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, DERIVATION_SALT);
        let extracted = salt.extract(self.material.expose_secret());
        let info = [info.as_bytes()];
        let expanded = extracted
            .expand(&info, hmac::HMAC_SHA256)
            .map_err(|_| KeyringError::Library)?;
        let mut derived = Locked::zeroed(KEY_BYTES).map_err(|_| KeyringError::Library)?;
        expanded
            .fill(derived.expose_secret_mut())
            .map_err(|_| KeyringError::Library)?;
        Ok(derived)
    }
}

/// A key-encryption key, ready for use.
pub(super) struct Kek {
    key: Key,
    tag: KekTag,
}

/// What tells two keys of one id and different material apart, and nothing else of them: 64 bits of a keyed hash. Two
/// files that were each given a key of their own differ here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct KekTag(pub [u8; 8]);

impl fmt::Display for KekTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

/// A key-encryption key as it may be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KekInfo {
    /// Its name.
    pub id: KeyId,
    /// When it was made.
    pub created_at: Timestamp,
    /// Whether it seals.
    pub is_active: bool,
    /// Tells it from another one of this name.
    pub tag: KekTag,
}

/// The keyring has no key-encryption key of this name: the operator's to add to its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the keyring has no such key-encryption key")]
pub struct UnknownKek;

impl Kek {
    fn new(key: Key) -> Result<Self, KeyringError> {
        let digest = digest(&key.derive("kiket.kek-tag.v1")?, b"");
        let mut tag = KekTag([0; 8]);
        for (to, from) in tag.0.iter_mut().zip(digest) {
            *to = from;
        }
        let kek = Self { key, tag };
        kek.aead().map_err(|_| KeyringError::Library)?;
        Ok(kek)
    }

    /// Its name in envelopes.
    pub(super) fn id(&self) -> &str {
        self.key.id.as_str()
    }

    /// How everything begins that is sealed under it.
    pub(super) fn head(&self) -> Vec<u8> {
        envelope::head(&self.key.id)
    }

    /// What wraps and unwraps data keys. Made anew for every use, which costs less than a microsecond: the library keeps
    /// what it expands a key to in memory that is not locked, and wipes it when this is dropped.
    ///
    /// # Errors
    /// Where the library has no memory.
    pub(super) fn aead(&self) -> Result<LessSafeKey, Unspecified> {
        UnboundKey::new(&AES_256_GCM_SIV, self.key.material.expose_secret()).map(LessSafeKey::new)
    }
}

/// The process's keys. `Debug` prints their ids only.
pub struct Keyring {
    /// The one that the file says is active.
    first: Kek,
    others: Vec<Kek>,
    /// Which one seals: the number of its promotion, and below [`POSITION_BITS`] its position, 0 for `first`. Only ever
    /// grows, so that two who learn of two promotions cannot undo the later one.
    active: AtomicU64,
    audit_mac: Key,
    audit_sign: Key,
    fingerprint: Key,
    chain: ChainKey,
    rows: Locked,
    tokens: Locked,
}

impl Keyring {
    /// Makes a new keyring: one fresh key per purpose.
    ///
    /// # Errors
    /// [`KeyringError::Library`] where the system gives no randomness.
    pub fn generate(now: Timestamp) -> Result<Self, KeyringError> {
        Self::assemble(
            Key::generate(Purpose::Kek, now)?,
            Vec::new(),
            Key::generate(Purpose::AuditMac, now)?,
            Key::generate(Purpose::AuditSign, now)?,
            Key::generate(Purpose::Fingerprint, now)?,
        )
    }

    fn assemble(
        active: Key,
        others: Vec<Key>,
        audit_mac: Key,
        audit_sign: Key,
        fingerprint: Key,
    ) -> Result<Self, KeyringError> {
        Ok(Self {
            first: Kek::new(active)?,
            active: AtomicU64::new(0),
            others: others.into_iter().map(Kek::new).collect::<Result<_, _>>()?,
            chain: ChainKey::new(audit_mac.derive("kiket.audit-chain.v1")?),
            rows: fingerprint.derive("kiket.row-mac.v1")?,
            tokens: fingerprint.derive("kiket.token-hash.v1")?,
            audit_mac,
            audit_sign,
            fingerprint,
        })
    }

    /// The key-encryption key that seals.
    pub(super) fn active_kek(&self) -> &Kek {
        let position = self.active.load(Ordering::Acquire) & ((1 << POSITION_BITS) - 1);
        let other = usize::try_from(position).ok().and_then(|n| n.checked_sub(1));
        other.and_then(|n| self.others.get(n)).unwrap_or(&self.first)
    }

    /// From now on the key-encryption key of this name seals, unless one of a later promotion does already. All of them
    /// go on opening what they sealed. Promotions are numbered from 1; until the first, the file's word counts.
    ///
    /// # Errors
    /// [`UnknownKek`]; then nothing changed.
    pub fn activate(&self, id: &str, promotion: u64) -> Result<(), UnknownKek> {
        let position = self.keks().position(|kek| kek.id() == id).ok_or(UnknownKek)?;
        let position = u64::try_from(position).map_err(|_| UnknownKek)?;
        self.active
            .fetch_max((promotion << POSITION_BITS) | position, Ordering::AcqRel);
        Ok(())
    }

    /// The promotion by which the active key became so; 0 where the file says so.
    #[must_use]
    pub fn promotion(&self) -> u64 {
        self.active.load(Ordering::Acquire) >> POSITION_BITS
    }

    /// The key-encryption key of this name.
    pub(super) fn kek(&self, id: &[u8]) -> Option<&Kek> {
        self.keks().find(|kek| kek.id().as_bytes() == id)
    }

    /// Whether a key is the one that seals.
    fn is_active(&self, key: &Key) -> bool {
        key.id == self.active_kek().key.id
    }

    fn keks(&self) -> impl Iterator<Item = &Kek> {
        std::iter::once(&self.first).chain(&self.others)
    }

    /// The key-encryption keys, the active one first.
    #[must_use]
    pub fn kek_infos(&self) -> Vec<KekInfo> {
        let active = self.active_kek();
        let others = self.keks().filter(|kek| kek.id() != active.id());
        let info = |kek: &Kek| KekInfo {
            id: kek.key.id.clone(),
            created_at: kek.key.created_at,
            is_active: kek.id() == active.id(),
            tag: kek.tag,
        };
        std::iter::once(active).chain(others).map(info).collect()
    }

    /// Every key with its purpose, in the order of the file.
    fn keys(&self) -> impl Iterator<Item = (Purpose, &Key)> {
        self.keks().map(|kek| (Purpose::Kek, &kek.key)).chain([
            (Purpose::AuditMac, &self.audit_mac),
            (Purpose::AuditSign, &self.audit_sign),
            (Purpose::Fingerprint, &self.fingerprint),
        ])
    }

    /// Authenticates the columns of a row that decide where secrets go. The table's name and the fields' order are
    /// part of what is authenticated; the caller names every column that matters, and the row's version.
    #[must_use]
    pub fn row_mac(&self, table: &'static str, fields: &[&[u8]]) -> [u8; 32] {
        let head = Encoder::new("kiket.row.v1").text(table);
        let encoded = fields.iter().fold(head, |encoder, field| encoder.bytes(field)).finish();
        digest(&self.rows, &encoded)
    }

    /// Whether a row is as [`Self::row_mac`] authenticated it. Takes the same time wherever the MACs differ.
    #[must_use]
    pub fn row_mac_holds(&self, table: &'static str, fields: &[&[u8]], mac: &[u8]) -> bool {
        let expected = self.row_mac(table, fields);
        aws_lc_rs::constant_time::verify_slices_are_equal(&expected, mac).is_ok()
    }

    /// What a token is found by: a keyed hash, so that the table of hashes cannot be searched without this keyring.
    #[must_use]
    pub fn token_hash(&self, text: &SecretString) -> [u8; 32] {
        digest(&self.tokens, text.expose_secret().as_bytes())
    }

    /// The key that signs checkpoints of the audit chains.
    ///
    /// # Errors
    /// [`KeyringError::Library`] where the library does not take it, which [`Self::read`] has ruled out.
    pub fn checkpoint_key(&self) -> Result<CheckpointKey, KeyringError> {
        CheckpointKey::new(self.audit_sign.material.expose_secret()).ok_or(KeyringError::Library)
    }

    /// Where keys lie in memory, those that were derived included.
    #[must_use]
    pub fn addresses(&self) -> Vec<Range<usize>> {
        let derived = [&self.rows, &self.tokens, self.chain.key()];
        let keys = self.keys().map(|(_, key)| &key.material);
        keys.chain(derived).map(Locked::addresses).collect()
    }

    /// The key of the audit chains.
    #[must_use]
    pub fn chain_key(&self) -> ChainKey {
        self.chain.clone()
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.keys().map(|(_, key)| &key.id)).finish()
    }
}

/// HMAC-SHA-256 as an array. The library's form of the key lives for the call alone, like [`Kek::aead`].
pub(super) fn digest(key: &Locked, message: &[u8]) -> [u8; 32] {
    let mut array = [0; 32];
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key.expose_secret()), message);
    for (to, from) in array.iter_mut().zip(tag.as_ref()) {
        *to = *from;
    }
    array
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn keyring() -> Keyring {
        Keyring::generate(Timestamp(1_700_000_000_000)).unwrap()
    }

    #[test]
    fn a_row_mac_holds_for_the_same_table_and_fields_only() {
        let keys = keyring();
        let mac = keys.row_mac("tokens", &[b"a", b"bc"]);
        assert!(keys.row_mac_holds("tokens", &[b"a", b"bc"], &mac));
        assert!(!keys.row_mac_holds("tokens", &[b"ab", b"c"], &mac));
        assert!(!keys.row_mac_holds("tokens", &[b"bc", b"a"], &mac));
        assert!(!keys.row_mac_holds("tokens", &[b"a", b"bc", b""], &mac));
        assert!(!keys.row_mac_holds("installations", &[b"a", b"bc"], &mac));
        assert!(!keys.row_mac_holds("tokens", &[b"a", b"bc"], mac.get(..31).unwrap()));
        assert!(!keys.row_mac_holds("tokens", &[b"a", b"bc"], &[]));
        assert!(!keyring().row_mac_holds("tokens", &[b"a", b"bc"], &mac));
    }

    #[test]
    fn a_token_hash_depends_on_the_token_and_on_the_keyring() {
        let keys = keyring();
        let token = SecretString::from("kst_abc");
        assert_eq!(keys.token_hash(&token), keys.token_hash(&token));
        assert_ne!(keys.token_hash(&token), keys.token_hash(&SecretString::from("kst_abd")));
        assert_ne!(keys.token_hash(&token), keyring().token_hash(&token));
        assert_ne!(keys.token_hash(&token), digest(&keys.rows, b"kst_abc"));
    }

    #[test]
    fn debug_prints_ids_and_nothing_else() {
        let keys = keyring();
        let ids: Vec<String> = keys.keys().map(|(_, key)| key.id.to_string()).collect();
        assert_eq!(format!("{keys:?}"), format!("[{}]", ids.join(", ")));
    }
}
