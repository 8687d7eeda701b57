//! What of a backend's bytes is a value: text of 1 byte to 64 KiB, and nothing else.

use std::sync::Arc;

use aws_lc_rs::{hmac, rand};
use secrecy::SecretString;
use zeroize::Zeroizing;

use super::{ExternalVersion, NoRandomness};
use crate::domain::provider::Unavailable;
use crate::domain::secret::VALUE_BYTES_MAX;

/// A fetched value, and which of its versions it is.
#[derive(Debug)]
pub struct ExternalValue {
    /// The value.
    pub value: SecretString,
    /// Compared with the last one's to notice a rotation.
    pub version: ExternalVersion,
}

impl ExternalValue {
    /// Takes bytes for a value. Those that are none are wiped.
    ///
    /// # Errors
    /// [`Unavailable::TooLarge`], or [`Unavailable::WrongShape`] where they are empty or no UTF-8: never found, and
    /// never missing either, because something stands there.
    pub fn accept(bytes: Zeroizing<Vec<u8>>, version: ExternalVersion) -> Result<Self, Unavailable> {
        if bytes.len() > VALUE_BYTES_MAX {
            return Err(Unavailable::TooLarge);
        }
        match std::str::from_utf8(&bytes) {
            Ok(text) if !text.is_empty() => Ok(Self {
                value: SecretString::from(text),
                version,
            }),
            _ => Err(Unavailable::WrongShape),
        }
    }
}

/// What tells values of a backend without versions apart: MACs under a key that is drawn at the start and never leaves
/// the process, because a plain hash of a value can be looked up.
#[derive(Clone)]
pub(super) struct Marks(Arc<hmac::Key>);

impl Marks {
    pub(super) fn draw() -> Result<Self, NoRandomness> {
        let mut key = Zeroizing::new([0; 32]);
        rand::fill(key.as_mut_slice()).map_err(|_| NoRandomness)?;
        Ok(Self(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, key.as_slice()))))
    }

    /// The version that a value is.
    pub(super) fn version_of(&self, value: &[u8]) -> ExternalVersion {
        let mut mark = [0; 32];
        mark.copy_from_slice(hmac::sign(&self.0, value).as_ref());
        ExternalVersion::Unnamed(mark)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn a_value_is_text_of_1_byte_to_64_kib() {
        let outcome = |bytes: &[u8]| {
            let version = ExternalVersion::Named("1".into());
            let accepted = ExternalValue::accept(Zeroizing::new(bytes.to_vec()), version);
            accepted.map(|found| found.value.expose_secret().len())
        };
        assert_eq!(outcome(b""), Err(Unavailable::WrongShape));
        assert_eq!(outcome(b"x"), Ok(1));
        assert_eq!(outcome(&[b'x'; VALUE_BYTES_MAX]), Ok(VALUE_BYTES_MAX));
        assert_eq!(outcome(&[b'x'; VALUE_BYTES_MAX + 1]), Err(Unavailable::TooLarge));
        assert_eq!(outcome("\u{e4}\0".as_bytes()), Ok(3));
        assert_eq!(outcome(&[0xff, 0xfe]), Err(Unavailable::WrongShape));
        assert_eq!(outcome(&[0xff; VALUE_BYTES_MAX + 1]), Err(Unavailable::TooLarge));
    }

    #[test]
    fn a_mark_tells_values_apart_and_is_of_this_process_alone() {
        let (here, elsewhere) = (Marks::draw().unwrap(), Marks::draw().unwrap());
        let mark = here.version_of(b"value");
        assert!(mark == here.clone().version_of(b"value"));
        assert!(mark != here.version_of(b"value2") && mark != elsewhere.version_of(b"value"));
        assert_eq!((mark.name(), format!("{mark:?}").as_str()), (None, "unnamed"));
    }
}
