//! How a value comes under another key-encryption key without being opened.

use zeroize::Zeroizing;

use super::{DATA_KEY_BYTES, Envelope, OpenError, Place, append_sealed};
use crate::crypto::keyring::Keyring;
use crate::domain::scope::Slot;
use crate::domain::secret::SecretKind;

impl Keyring {
    /// The same value under the active KEK; `None` where it is under it already. Its data key is unwrapped and wrapped
    /// anew, the ciphertext of the value stays as it is, unopened.
    ///
    /// # Errors
    /// [`OpenError`] where the data key does not unwrap in this place, or cannot be wrapped.
    pub fn rewrap(
        &self,
        slot: &Slot,
        kind: SecretKind,
        version: u64,
        sealed: &[u8],
    ) -> Result<Option<Vec<u8>>, OpenError> {
        let place = Place { slot, kind, version };
        let envelope = Envelope::parse(sealed).ok_or(OpenError::Damaged)?;
        let (old, new) = (self.kek(envelope.kek).ok_or(OpenError::UnknownKey)?, self.active_kek());
        if old.id() == new.id() {
            return Ok(None);
        }
        let mut data_key = Zeroizing::new([0; DATA_KEY_BYTES]);
        let unwrapping = old.aead().map_err(|_| OpenError::NotAuthentic)?;
        envelope
            .wrapped
            .open(&unwrapping, place.of_wrap(old.id()), data_key.as_mut_slice())?;
        let mut rewrapped = new.head();
        rewrapped.reserve_exact(sealed.len());
        let wrapping = new.aead().map_err(|_| OpenError::NotAuthentic)?;
        append_sealed(&mut rewrapped, &wrapping, &place.of_wrap(new.id()), data_key.as_slice())
            .map_err(|_| OpenError::NotAuthentic)?;
        rewrapped.extend_from_slice(&envelope.value.nonce);
        rewrapped.extend_from_slice(envelope.value.ciphertext);
        rewrapped.extend_from_slice(envelope.value.tag);
        Ok(Some(rewrapped))
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

    /// Both KEKs, the new one made active by a promotion.
    fn rotated(old: &Keyring, new: &Keyring) -> Keyring {
        let inactive = new.to_toml().replace("active = true", "active = false");
        let (_, kek) = inactive.split_once("[[kek]]").unwrap();
        let (kek, _) = kek.split_once("[[audit-mac]]").unwrap();
        let both = Keyring::parse(&format!("{}\n[[kek]]{kek}", *old.to_toml())).unwrap();
        both.activate(new.active_kek().id(), 1).unwrap();
        both
    }

    #[test]
    fn a_rewrapped_value_keeps_its_ciphertext_and_opens_under_the_new_kek_only() {
        let [old, new] = [keyring(), keyring()];
        let both = rotated(&old, &new);
        for text in ["", "value", &"ü".repeat(32 * 1024)] {
            let sealed = old.seal(&slot(), KIND, 3, text.as_bytes()).unwrap();
            let rewrapped = both.rewrap(&slot(), KIND, 3, &sealed).unwrap().unwrap();
            let [before, after] = [&sealed, &rewrapped].map(|bytes| Envelope::parse(bytes).unwrap());
            assert_eq!(after.kek, new.active_kek().id().as_bytes());
            assert_eq!(
                (before.value.nonce, before.value.ciphertext, before.value.tag),
                (after.value.nonce, after.value.ciphertext, after.value.tag)
            );
            assert_ne!(before.wrapped.ciphertext, after.wrapped.ciphertext);
            assert_eq!(opened(&new, &rewrapped).unwrap(), text);
            assert_eq!(opened(&both, &rewrapped).unwrap(), text);
            assert_eq!(opened(&old, &rewrapped), Err(OpenError::UnknownKey));
            assert_eq!(opened(&both, &sealed).unwrap(), text, "the old bytes still open");
            assert_eq!(both.rewrap(&slot(), KIND, 3, &rewrapped), Ok(None));
        }
    }

    #[test]
    fn a_value_is_rewrapped_in_its_place_only_and_opens_in_no_other() {
        let [old, new] = [keyring(), keyring()];
        let both = rotated(&old, &new);
        let sealed = old.seal(&slot(), KIND, 3, b"value").unwrap();
        let elsewhere = Slot {
            scope_id: ScopeId::parse("com.other").unwrap(),
            ..slot()
        };
        for (slot, kind, version) in [
            (&elsewhere, KIND, 3),
            (&slot(), SecretKind::Reference, 3),
            (&slot(), KIND, 4),
        ] {
            let refused = both.rewrap(slot, kind, version, &sealed);
            assert_eq!(refused, Err(OpenError::NotAuthentic));
        }
        let rewrapped = both.rewrap(&slot(), KIND, 3, &sealed).unwrap().unwrap();
        let moved = both.open(&elsewhere, KIND, 3, &rewrapped).err();
        assert_eq!(moved, Some(OpenError::NotAuthentic));
        let mut damaged = sealed.clone();
        damaged[20] ^= 1;
        assert_eq!(both.rewrap(&slot(), KIND, 3, &damaged), Err(OpenError::NotAuthentic));
        assert_eq!(new.rewrap(&slot(), KIND, 3, &sealed), Err(OpenError::UnknownKey));
        assert_eq!(both.rewrap(&slot(), KIND, 3, b""), Err(OpenError::Damaged));
    }

    #[test]
    fn a_later_promotion_is_not_undone_by_an_earlier_one() {
        let [old, new] = [keyring(), keyring()];
        let both = rotated(&old, &new);
        assert_eq!((both.active_kek().id(), both.promotion()), (new.active_kek().id(), 1));
        both.activate(old.active_kek().id(), 3).unwrap();
        both.activate(new.active_kek().id(), 2).unwrap();
        assert_eq!((both.active_kek().id(), both.promotion()), (old.active_kek().id(), 3));
        assert!(both.activate("kek-other", 4).is_err());
        assert_eq!(both.promotion(), 3);
        assert!(both.kek_infos().first().unwrap().is_active);
    }
}
