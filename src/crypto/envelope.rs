//! How a value is sealed to its place, and opened there and nowhere else.
//!
//! Every value has a fresh 256-bit data key; the active key-encryption key wraps it. Both seals are AES-256-GCM-SIV
//! (RFC 8452) under a random nonce. Value and wrap are bound to format, owner, scope, scope id, key, version and kind,
//! the wrap to the id of its KEK besides: moved to another row, rolled back to another version or handed to
//! another KEK, an envelope does not open. Under another KEK only the wrap is made anew ([`Keyring::rewrap`]): the
//! ciphertext of the value stays, byte for byte.
//!
//! ```text
//! format (1) | length of id (1) | KEK id | nonce (12) | wrapped data key (32 + 16) | nonce (12) | ciphertext (n + 16)
//! ```

mod rewrap;

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::rand;
use secrecy::SecretString;
use zeroize::{Zeroize as _, Zeroizing};

use super::encoding::Encoder;
use super::keyring::{KeyId, Keyring};
use crate::domain::scope::Slot;
use crate::domain::secret::SecretKind;

/// The one format there is.
const FORMAT: u8 = 1;
const DATA_KEY_BYTES: usize = 32;
const TAG_BYTES: usize = 16;
const WRAPPED_BYTES: usize = DATA_KEY_BYTES + TAG_BYTES;

/// A value was not sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The plaintext is not UTF-8: the caller's fault, it could never be opened as text.
    #[error("a value is UTF-8 text")]
    NotText,
    /// The cryptographic library failed: no randomness, or no memory. May pass.
    #[error("the cryptographic library failed")]
    Library,
}

/// Sealed bytes were not opened. Retrying does not help; what could be wrong with the plaintext is never said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Sealed under a key-encryption key that the keyring lacks: the operator's to add.
    #[error("the value is sealed under a key that the keyring does not have")]
    UnknownKey,
    /// Altered, or sealed for another place, version, kind or keyring.
    #[error("the sealed value is not authentic in this place")]
    NotAuthentic,
    /// No envelope, or not of a known format.
    #[error("the sealed value is damaged")]
    Damaged,
}

/// How everything begins that is sealed under the key-encryption key of this name, and nothing else: the length of the
/// name stands before it, so that no head is another one's beginning.
#[must_use]
pub fn head(kek: &KeyId) -> Vec<u8> {
    let id = kek.as_str().as_bytes();
    let length = u8::try_from(id.len()).unwrap_or(u8::MAX); // ids have at most 64 bytes
    [&[FORMAT, length], id].concat()
}

/// The place an envelope belongs to.
#[derive(Clone, Copy)]
struct Place<'a> {
    slot: &'a Slot,
    kind: SecretKind,
    version: u64,
}

impl Place<'_> {
    fn encode(self, domain: &'static str) -> Encoder {
        let Slot {
            owner,
            scope,
            scope_id,
            key,
        } = self.slot;
        Encoder::new(domain)
            .number(FORMAT.into())
            .text(owner.as_str())
            .scope(*scope)
            .text(scope_id.as_str())
            .text(key.as_str())
            .number(self.version)
            .text(self.kind.name())
    }

    fn of_value(self) -> Aad<Vec<u8>> {
        Aad::from(self.encode("kiket.envelope-value.v1").finish())
    }

    fn of_wrap(self, kek: &str) -> Aad<Vec<u8>> {
        Aad::from(self.encode("kiket.envelope-wrap.v1").text(kek).finish())
    }
}

impl Keyring {
    /// Seals a plaintext under a fresh data key and the active KEK, to its slot, kind and version.
    ///
    /// # Errors
    /// [`SealError`].
    pub fn seal(&self, slot: &Slot, kind: SecretKind, version: u64, plaintext: &[u8]) -> Result<Vec<u8>, SealError> {
        std::str::from_utf8(plaintext).map_err(|_| SealError::NotText)?;
        let place = Place { slot, kind, version };
        let kek = self.active_kek();

        let mut data_key = Zeroizing::new([0; DATA_KEY_BYTES]);
        rand::fill(data_key.as_mut_slice()).map_err(|_| SealError::Library)?;

        let overhead = 2 + kek.id().len() + 2 * NONCE_LEN + WRAPPED_BYTES + TAG_BYTES;
        let mut sealed = Vec::with_capacity(overhead + plaintext.len());
        sealed.extend_from_slice(&kek.head());
        let wrapping = kek.aead().map_err(|_| SealError::Library)?;
        append_sealed(&mut sealed, &wrapping, &place.of_wrap(kek.id()), data_key.as_slice())?;
        append_sealed(
            &mut sealed,
            &data_aead(&data_key).ok_or(SealError::Library)?,
            &place.of_value(),
            plaintext,
        )?;
        Ok(sealed)
    }

    /// Opens what [`Self::seal`] sealed to the same slot, kind and version.
    ///
    /// # Errors
    /// [`OpenError`]; nothing of the plaintext is left behind.
    pub fn open(&self, slot: &Slot, kind: SecretKind, version: u64, sealed: &[u8]) -> Result<SecretString, OpenError> {
        let place = Place { slot, kind, version };
        let envelope = Envelope::parse(sealed).ok_or(OpenError::Damaged)?;
        let kek = self.kek(envelope.kek).ok_or(OpenError::UnknownKey)?;
        let mut data_key = Zeroizing::new([0; DATA_KEY_BYTES]);
        let wrapping = kek.aead().map_err(|_| OpenError::NotAuthentic)?;
        envelope
            .wrapped
            .open(&wrapping, place.of_wrap(kek.id()), data_key.as_mut_slice())?;

        let aead = data_aead(&data_key).ok_or(OpenError::NotAuthentic)?;
        let mut plaintext = Zeroizing::new(vec![0; envelope.value.ciphertext.len()]);
        envelope.value.open(&aead, place.of_value(), plaintext.as_mut_slice())?;
        // The buffer becomes the string's own, at its exact size: no copy is made.
        match String::from_utf8(std::mem::take(&mut *plaintext)) {
            Ok(text) => Ok(SecretString::from(text)),
            Err(not_text) => {
                not_text.into_bytes().zeroize();
                Err(OpenError::Damaged)
            }
        }
    }
}

fn data_aead(key: &[u8; DATA_KEY_BYTES]) -> Option<LessSafeKey> {
    UnboundKey::new(&AES_256_GCM_SIV, key).ok().map(LessSafeKey::new)
}

/// Appends a fresh nonce, the ciphertext and its tag. The plaintext is encrypted from where it is, never copied.
fn append_sealed(
    to: &mut Vec<u8>,
    aead: &LessSafeKey,
    place: &Aad<Vec<u8>>,
    plaintext: &[u8],
) -> Result<(), SealError> {
    let mut nonce = [0; NONCE_LEN];
    rand::fill(&mut nonce).map_err(|_| SealError::Library)?;
    to.extend_from_slice(&nonce);
    let start = to.len();
    to.resize(start + plaintext.len() + TAG_BYTES, 0);
    let (_, room) = to.split_at_mut(start);
    let (ciphertext, tag) = room.split_at_mut(plaintext.len());
    let nonce = Nonce::assume_unique_for_key(nonce);
    aead.seal_out_of_place_scatter(nonce, Aad::from(place.as_ref()), plaintext, ciphertext, &[], tag)
        .map_err(|_| SealError::Library)
}

/// Sealed bytes, taken apart.
struct Envelope<'a> {
    kek: &'a [u8],
    wrapped: Sealed<'a>,
    value: Sealed<'a>,
}

impl<'a> Envelope<'a> {
    fn parse(bytes: &'a [u8]) -> Option<Self> {
        let ([format, id_bytes], rest) = bytes.split_first_chunk()?;
        if *format != FORMAT {
            return None;
        }
        let (kek, rest) = rest.split_at_checked(usize::from(*id_bytes))?;
        let (wrapped, value) = rest.split_at_checked(NONCE_LEN + WRAPPED_BYTES)?;
        Some(Self {
            kek,
            wrapped: Sealed::parse(wrapped)?,
            value: Sealed::parse(value)?,
        })
    }
}

/// One seal: nonce, ciphertext, tag.
struct Sealed<'a> {
    nonce: [u8; NONCE_LEN],
    ciphertext: &'a [u8],
    tag: &'a [u8; TAG_BYTES],
}

impl<'a> Sealed<'a> {
    fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (nonce, rest) = bytes.split_first_chunk()?;
        let (ciphertext, tag) = rest.split_last_chunk()?;
        Some(Self {
            nonce: *nonce,
            ciphertext,
            tag,
        })
    }

    /// Decrypts into `plaintext`, which is of the ciphertext's length.
    fn open(&self, aead: &LessSafeKey, place: Aad<Vec<u8>>, plaintext: &mut [u8]) -> Result<(), OpenError> {
        let nonce = Nonce::assume_unique_for_key(self.nonce);
        aead.open_separate_gather(nonce, place, self.ciphertext, self.tag, plaintext)
            .map_err(|_| OpenError::NotAuthentic)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;
    use crate::domain::id::{OrganizationId, ScopeId};
    use crate::domain::key::SecretKey;
    use crate::domain::scope::{Owner, Scope};
    use crate::domain::time::Timestamp;

    const KIND: SecretKind = SecretKind::Value;

    fn keyring() -> Keyring {
        Keyring::generate(Timestamp(0)).unwrap()
    }

    fn slot() -> Slot {
        Slot {
            owner: Owner::Organization(OrganizationId::parse("acme").unwrap()),
            scope: Scope::Extension,
            scope_id: ScopeId::parse("com.example").unwrap(),
            key: SecretKey::parse("TOKEN").unwrap(),
        }
    }

    fn opened(keys: &Keyring, sealed: &[u8]) -> Result<String, OpenError> {
        keys.open(&slot(), KIND, 3, sealed)
            .map(|text| text.expose_secret().to_owned())
    }

    #[test]
    fn what_is_sealed_opens_in_its_place() {
        let keys = keyring();
        let longest = "ü".repeat(32 * 1024);
        for text in ["", "x", "s3cr3t \u{1F511}", &longest] {
            let sealed = keys.seal(&slot(), KIND, 3, text.as_bytes()).unwrap();
            assert_eq!(opened(&keys, &sealed).unwrap(), text);
            assert_eq!(sealed.len(), sealed.capacity());
            assert!(text.len() < 2 || !sealed.windows(text.len()).any(|window| window == text.as_bytes()));
        }
        assert_eq!(keys.seal(&slot(), KIND, 3, &[0xff]), Err(SealError::NotText));
    }

    #[test]
    fn an_envelope_of_an_earlier_release_opens() {
        let file = ["kek", "audit-mac", "audit-sign", "fingerprint"].map(|purpose| {
            let active = if purpose == "kek" { "active = true\n" } else { "" };
            let key = "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3I=";
            format!(
                "[[{purpose}]]\nid = \"{purpose}-1\"\ncreated_at = \"2026-01-01T00:00:00Z\"\n{active}key = \"{key}\"\n"
            )
        });
        let keys = Keyring::parse(&format!("format = 1\n{}", file.concat())).unwrap();
        let golden = concat!(
            "01056b656b2d31d8f9d2cf0369db5da21e46611c044db73d23c77258099ae2b76b227e189935ec55c930fb683b3ca5e4",
            "3e74eb6decbe5b68cfd43e0ef92a754aec3e6a967e0de9aba8d8ba89bc7a8d1b2228d365733690e394ffa20b33addd50",
            "862f027b",
        );
        let sealed = data_encoding::HEXLOWER.decode(golden.as_bytes()).unwrap();
        assert_eq!(opened(&keys, &sealed).unwrap(), "value");
    }

    #[test]
    fn the_same_value_never_seals_to_the_same_bytes() {
        let keys = keyring();
        let [one, two] = [(); 2].map(|()| keys.seal(&slot(), KIND, 3, b"value").unwrap());
        let parts = |sealed: &[u8]| {
            let envelope = Envelope::parse(sealed).unwrap();
            [envelope.wrapped.ciphertext, envelope.value.ciphertext].map(<[u8]>::to_vec)
        };
        assert!(parts(&one).iter().zip(parts(&two)).all(|(a, b)| *a != b));
    }

    #[test]
    fn sealed_bytes_open_in_no_other_place() {
        let keys = keyring();
        let sealed = keys.seal(&slot(), KIND, 3, b"value").unwrap();
        let mut places = Vec::new();
        let mut elsewhere = |alter: fn(&mut Slot)| {
            let mut slot = slot();
            alter(&mut slot);
            places.push((slot, KIND, 3));
        };
        elsewhere(|s| s.owner = Owner::Partner);
        elsewhere(|s| s.owner = Owner::Organization(OrganizationId::parse("acmee").unwrap()));
        elsewhere(|s| s.scope_id = ScopeId::parse("com.examplf").unwrap());
        elsewhere(|s| s.key = SecretKey::parse("TOKENS").unwrap());
        for scope in Scope::ALL.into_iter().filter(|scope| *scope != Scope::Extension) {
            places.push((Slot { scope, ..slot() }, KIND, 3));
        }
        for version in [0, 2, 4, u64::MAX] {
            places.push((slot(), KIND, version));
        }
        for kind in [SecretKind::Reference, SecretKind::Placeholder, SecretKind::Tombstone] {
            places.push((slot(), kind, 3));
        }
        for (slot, kind, version) in places {
            let error = keys.open(&slot, kind, version, &sealed).err();
            assert_eq!(error, Some(OpenError::NotAuthentic), "{slot:?} {kind:?} {version}");
        }
    }

    #[test]
    fn no_bit_of_the_sealed_bytes_can_change() {
        let keys = keyring();
        let sealed = keys.seal(&slot(), KIND, 3, b"value").unwrap();
        for at in 0..sealed.len() {
            for bit in 0..8 {
                let mut altered = sealed.clone();
                altered[at] ^= 1 << bit;
                assert!(opened(&keys, &altered).is_err(), "byte {at}, bit {bit}");
            }
        }
    }

    #[test]
    fn truncated_or_prolonged_bytes_are_refused_at_every_length() {
        let keys = keyring();
        let sealed = keys.seal(&slot(), KIND, 3, b"value").unwrap();
        for length in 0..sealed.len() {
            let error = opened(&keys, &sealed[..length]).unwrap_err();
            assert!(
                matches!(error, OpenError::Damaged | OpenError::NotAuthentic),
                "{length}: {error:?}"
            );
        }
        let mut longer = sealed;
        longer.push(0);
        assert_eq!(opened(&keys, &longer), Err(OpenError::NotAuthentic));
        assert_eq!(opened(&keys, &[FORMAT; 400]), Err(OpenError::UnknownKey));
        assert_eq!(opened(&keys, &[FORMAT + 1; 400]), Err(OpenError::Damaged));
    }

    #[test]
    fn parts_of_two_envelopes_do_not_combine() {
        let keys = keyring();
        let [one, two] = [b"value", b"other"].map(|text| keys.seal(&slot(), KIND, 3, text).unwrap());
        let value_at = one.len() - (NONCE_LEN + TAG_BYTES + b"value".len());
        let mixed = [&one[..value_at], &two[value_at..]].concat();
        assert_eq!(opened(&keys, &mixed), Err(OpenError::NotAuthentic));
    }

    #[test]
    fn a_retired_kek_is_unknown_and_an_inactive_one_still_opens() {
        let [old, new] = [keyring(), keyring()];
        let sealed = old.seal(&slot(), KIND, 3, b"value").unwrap();
        assert_eq!(opened(&new, &sealed), Err(OpenError::UnknownKey));

        let inactive = old.to_toml().replace("active = true", "active = false");
        let (_, kek) = inactive.split_once("[[kek]]").unwrap();
        let (kek, _) = kek.split_once("[[audit-mac]]").unwrap();
        let both = Keyring::parse(&format!("{}\n[[kek]]{kek}", *new.to_toml())).unwrap();
        assert_eq!(opened(&both, &sealed).unwrap(), "value");
        let sealed_by_new = both.seal(&slot(), KIND, 3, b"value").unwrap();
        assert_eq!(opened(&new, &sealed_by_new).unwrap(), "value");
    }

    #[test]
    fn a_head_is_how_everything_under_its_kek_begins_and_no_beginning_of_another() {
        let keys = keyring();
        let own = KeyId::parse(keys.active_kek().id()).unwrap();
        assert!(keys.seal(&slot(), KIND, 3, b"x").unwrap().starts_with(&head(&own)));
        let [short, long] = ["kek-1", "kek-12"].map(|id| head(&KeyId::parse(id).unwrap()));
        assert!(!long.starts_with(&short) && !short.starts_with(&long));
    }

    #[test]
    fn a_kek_of_the_same_id_and_other_material_opens_nothing() {
        let [one, two] = [keyring(), keyring()];
        let sealed = one.seal(&slot(), KIND, 3, b"value").unwrap();
        let renamed = two.to_toml().replace(two.active_kek().id(), one.active_kek().id());
        let impostor = Keyring::parse(&renamed).unwrap();
        assert_eq!(opened(&impostor, &sealed), Err(OpenError::NotAuthentic));
        let tag = |keys: &Keyring| keys.kek_infos().first().unwrap().tag;
        assert_ne!(tag(&impostor), tag(&one), "and says so");
        assert_eq!(tag(&impostor), tag(&two));
    }
}
