//! How a keyring's file is kept where each of its keys is wrapped by a service that has a key of its own.
//!
//! The file is a keyring like any other, but that under `key` stands what the service made of the key:
//! `key = "vault:v1:…"`. Whoever has the file and not the service has no key. All keys of a file are wrapped, or none.
//! What is wrapped says which key it is and for what, so that somebody who may write the file cannot let one key pass
//! for another.

use std::path::Path;

use zeroize::Zeroizing;

use super::super::locked::Locked;
use super::file::{FILE_BYTES_MAX, append, begin, text_of};
use super::{KEY_BYTES, Key, KeyId, Keyring, KeyringError, Purpose};
use crate::domain::provider::Unavailable;

/// What everything begins with that a service wrapped.
const MARK: &str = "vault:";

/// Longest accepted text of a wrapped key, in bytes: some times what any of Vault's ciphers make of a key.
const WRAPPED_BYTES_MAX: usize = 4 * 1024;

/// What wraps keys: the port. Both ways keep order and count.
pub trait Wrapping {
    /// Wraps texts.
    ///
    /// # Errors
    /// [`WrappingError`].
    fn wrap(&self, plain: &[Zeroizing<Vec<u8>>]) -> Result<Vec<String>, WrappingError>;

    /// Gives back what was wrapped.
    ///
    /// # Errors
    /// [`WrappingError`].
    fn open(&self, wrapped: &[&str]) -> Result<Vec<Zeroizing<Vec<u8>>>, WrappingError>;
}

/// Why keys were not wrapped or opened. Carries nothing of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WrappingError {
    /// It cannot be told at the moment. Retry later.
    #[error("the service that wraps the keys cannot be asked ({})", .0.name())]
    Unavailable(Unavailable),
    /// The service does not let this process use its key. Somebody has to change its policy, or the credential.
    #[error("the service that wraps the keys refuses")]
    Denied,
    /// The service has no such key, or that key did not wrap this. Somebody has to name another one.
    #[error("the service does not open the keys: another key wrapped them, or there is no such key")]
    NotOpened,
}

impl Keyring {
    /// Reads a keyring whose keys are wrapped from its file. Asks `wrapping` once.
    ///
    /// # Errors
    /// As [`Self::read`]; [`KeyringError::NotWrapped`] where a key stands in the file itself; whatever keeps them from
    /// being opened.
    pub fn read_wrapped(path: &Path, wrapping: &dyn Wrapping) -> Result<Self, KeyringError> {
        Self::parse_wrapped(&text_of(path)?.0, wrapping)
    }

    /// Reads a keyring whose keys are wrapped from its text.
    ///
    /// # Errors
    /// As [`Self::read_wrapped`].
    pub fn parse_wrapped(text: &str, wrapping: &dyn Wrapping) -> Result<Self, KeyringError> {
        Self::parse_with(text, Some(wrapping))
    }

    /// The keyring as a file's text with every key wrapped. The text was read back and is this keyring.
    ///
    /// # Errors
    /// Whatever keeps the keys from being wrapped, or opened again.
    pub fn to_wrapped_toml(&self, wrapping: &dyn Wrapping) -> Result<String, KeyringError> {
        let labelled: Vec<_> = self.keys().map(|(purpose, key)| labelled(purpose, key)).collect();
        let wrapped = wrap(wrapping, &labelled)?;
        let mut text = Zeroizing::new(String::new());
        text.push_str(
            "# Kiket keyring, every key wrapped by Vault Transit. Without that Transit key it opens nothing;\n",
        );
        text.push_str("# without this file no secret can be read: keep a copy, and keep the Transit key.\n");
        begin(&mut text);
        for ((purpose, key), wrapped) in self.keys().zip(&wrapped) {
            append(&mut text, purpose, key, self.is_active(key), Some(wrapped));
        }
        if text.len() > FILE_BYTES_MAX {
            return Err(KeyringError::TooLong);
        }
        let again = Self::parse_wrapped(&text, wrapping)?;
        if *again.to_toml() == *self.to_toml() {
            Ok(std::mem::take(&mut text))
        } else {
            Err(WrappingError::Unavailable(Unavailable::WrongShape).into())
        }
    }
}

/// Wraps one key.
pub(super) fn wrap_one(wrapping: &dyn Wrapping, purpose: Purpose, key: &Key) -> Result<String, KeyringError> {
    let mut wrapped = wrap(wrapping, &[labelled(purpose, key)])?;
    wrapped
        .pop()
        .ok_or(WrappingError::Unavailable(Unavailable::WrongShape).into())
}

fn wrap(wrapping: &dyn Wrapping, plain: &[Zeroizing<Vec<u8>>]) -> Result<Vec<String>, KeyringError> {
    let wrapped = wrapping.wrap(plain)?;
    if wrapped.len() == plain.len() && wrapped.iter().all(|text| is_wrapped(text)) {
        Ok(wrapped)
    } else {
        Err(WrappingError::Unavailable(Unavailable::WrongShape).into())
    }
}

/// Whether a key's text is one that a service wrapped. It can stand between quotes.
pub(super) fn is_wrapped(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b':' | b'+' | b'/' | b'=' | b'-' | b'_' | b'.');
    text.starts_with(MARK) && text.len() <= WRAPPED_BYTES_MAX && text.bytes().all(allowed)
}

/// Opens the keys of a file, each of which says that it is this one.
pub(super) fn open(wrapping: &dyn Wrapping, keys: &[(Purpose, &KeyId, &str)]) -> Result<Vec<Locked>, KeyringError> {
    for (_, id, text) in keys {
        if !is_wrapped(text) {
            return Err(KeyringError::NotWrapped { id: (*id).clone() });
        }
    }
    let texts: Vec<&str> = keys.iter().map(|(.., text)| *text).collect();
    let opened = wrapping.open(&texts)?;
    if opened.len() != keys.len() {
        return Err(WrappingError::Unavailable(Unavailable::WrongShape).into());
    }
    let material = |((purpose, id, _), opened): (&(Purpose, &KeyId, &str), Zeroizing<Vec<u8>>)| {
        let bytes = opened.strip_prefix(label(*purpose, id).as_bytes());
        let bytes = bytes.filter(|bytes| bytes.len() == KEY_BYTES);
        let bytes = bytes.ok_or_else(|| KeyringError::Another { id: (*id).clone() })?;
        let mut material = Locked::zeroed(KEY_BYTES).map_err(|_| KeyringError::Library)?;
        material.expose_secret_mut().copy_from_slice(bytes);
        Ok(material)
    };
    keys.iter().zip(opened).map(material).collect()
}

/// What is wrapped: which key this is, and the key.
fn labelled(purpose: Purpose, key: &Key) -> Zeroizing<Vec<u8>> {
    let label = label(purpose, &key.id);
    // Never grows, so that no copy is left behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(label.len() + KEY_BYTES));
    bytes.extend_from_slice(label.as_bytes());
    bytes.extend_from_slice(key.material.expose_secret());
    bytes
}

fn label(purpose: Purpose, id: &KeyId) -> String {
    format!("kiket.wrapped-key.v1 {purpose} {id}\n")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::cell::{Cell, RefCell};

    use data_encoding::BASE64;
    use tempfile::TempDir;

    use super::*;
    use crate::domain::time::Timestamp;

    /// Keeps what it is given, and hands out a number for it.
    #[derive(Default)]
    struct Cloakroom {
        kept: RefCell<Vec<Vec<u8>>>,
        opened: Cell<usize>,
    }

    impl Wrapping for Cloakroom {
        fn wrap(&self, plain: &[Zeroizing<Vec<u8>>]) -> Result<Vec<String>, WrappingError> {
            let mut kept = self.kept.borrow_mut();
            let number = |plain: &Zeroizing<Vec<u8>>| {
                kept.push(plain.to_vec());
                format!("vault:v1:{}", kept.len())
            };
            Ok(plain.iter().map(number).collect())
        }

        fn open(&self, wrapped: &[&str]) -> Result<Vec<Zeroizing<Vec<u8>>>, WrappingError> {
            self.opened.set(self.opened.get() + 1);
            let kept = self.kept.borrow();
            let one = |text: &&str| {
                let number: usize = text.strip_prefix("vault:v1:")?.parse().ok()?;
                kept.get(number.checked_sub(1)?).cloned().map(Zeroizing::new)
            };
            let opened: Option<Vec<_>> = wrapped.iter().map(one).collect();
            opened.ok_or(WrappingError::NotOpened)
        }
    }

    fn made() -> Keyring {
        Keyring::generate(Timestamp(1_700_000_000_000)).unwrap()
    }

    #[test]
    fn a_wrapped_keyring_reads_back_as_itself_and_holds_no_key() {
        let (keys, cloakroom) = (made(), Cloakroom::default());
        let text = keys.to_wrapped_toml(&cloakroom).unwrap();
        let read = Keyring::parse_wrapped(&text, &cloakroom).unwrap();
        assert_eq!(*read.to_toml(), *keys.to_toml());
        for (_, key) in keys.keys() {
            assert!(!text.contains(&BASE64.encode(key.material.expose_secret())));
            assert!(text.contains(key.id.as_str()));
        }
    }

    #[test]
    fn all_keys_of_a_file_are_opened_with_one_question() {
        let cloakroom = Cloakroom::default();
        let text = made().to_wrapped_toml(&cloakroom).unwrap();
        let before = cloakroom.opened.get();
        Keyring::parse_wrapped(&text, &cloakroom).unwrap();
        assert_eq!(cloakroom.opened.get(), before + 1);
    }

    #[test]
    fn a_file_is_wrapped_throughout_or_not_at_all() {
        let (keys, cloakroom) = (made(), Cloakroom::default());
        let (plain, wrapped) = (keys.to_toml(), keys.to_wrapped_toml(&cloakroom).unwrap());
        let kek = keys.first.key.id.clone();
        assert_eq!(
            Keyring::parse(&wrapped).unwrap_err(),
            KeyringError::Wrapped { id: kek.clone() }
        );
        assert_eq!(
            Keyring::parse_wrapped(&plain, &cloakroom).unwrap_err(),
            KeyringError::NotWrapped { id: kek }
        );
        let line = |text: &str| {
            text.lines()
                .rfind(|line| line.starts_with("key = "))
                .unwrap()
                .to_owned()
        };
        let mixed = wrapped.replace(&line(&wrapped), &line(&plain));
        let id = keys.fingerprint.id.clone();
        assert_eq!(
            Keyring::parse_wrapped(&mixed, &cloakroom).unwrap_err(),
            KeyringError::NotWrapped { id }
        );
        let odd = wrapped.replace("vault:v1:1\"", "vault:v1:\\u0022\"");
        assert!(matches!(
            Keyring::parse_wrapped(&odd, &cloakroom).unwrap_err(),
            KeyringError::NotWrapped { .. }
        ));
    }

    #[test]
    fn no_key_passes_for_another_whoever_edits_the_file() {
        let (keys, cloakroom) = (made(), Cloakroom::default());
        let text = keys.to_wrapped_toml(&cloakroom).unwrap();
        let (kek, mac) = (keys.first.key.id.clone(), keys.audit_mac.id.clone());
        let changed = text
            .replace("vault:v1:1\"", "vault:v1:x\"")
            .replace("vault:v1:2\"", "vault:v1:1\"")
            .replace("vault:v1:x\"", "vault:v1:2\"");
        for (edited, id) in [
            (changed, kek.as_str()),
            (text.replace(kek.as_str(), "kek-other"), "kek-other"),
            (text.replace("vault:v1:2\"", "vault:v1:1\""), mac.as_str()),
        ] {
            let id = KeyId::parse(id).unwrap();
            let error = Keyring::parse_wrapped(&edited, &cloakroom).unwrap_err();
            assert_eq!(error, KeyringError::Another { id });
        }
        cloakroom.kept.borrow_mut().first_mut().unwrap().truncate(40);
        assert_eq!(
            Keyring::parse_wrapped(&text, &cloakroom).unwrap_err(),
            KeyringError::Another { id: kek }
        );
        cloakroom.kept.borrow_mut().clear();
        assert_eq!(
            Keyring::parse_wrapped(&text, &cloakroom).unwrap_err(),
            WrappingError::NotOpened.into()
        );
    }

    #[test]
    fn a_key_is_added_wrapped_to_a_file_whose_keys_are() {
        let (keys, cloakroom) = (made(), Cloakroom::default());
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("master.key");
        let text = keys.to_wrapped_toml(&cloakroom).unwrap();
        std::fs::write(&path, &text).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let refused = Keyring::add_kek(&path, None, Timestamp(2)).unwrap_err();
        let first = keys.first.key.id.clone();
        assert_eq!(refused, KeyringError::Wrapped { id: first }.into());
        let id = Keyring::add_wrapped_kek(&path, None, Timestamp(2), &cloakroom).unwrap();
        let now = std::fs::read_to_string(&path).unwrap();
        assert!(now.starts_with(&text));
        let read = Keyring::read_wrapped(&path, &cloakroom).unwrap();
        let added = read.kek(id.as_str().as_bytes()).unwrap();
        assert!(!now.contains(&BASE64.encode(added.key.material.expose_secret())));
        assert_eq!(
            (read.kek_infos().len(), read.active_kek().id()),
            (2, keys.active_kek().id())
        );
    }
}
