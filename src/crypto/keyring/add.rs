//! How a key-encryption key is added to a keyring's file: in place, and all of the new file or none of it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{Gid, Mode, Uid, fchmod, fchown};
use zeroize::Zeroizing;

use super::file::{FILE_BYTES_MAX, append, text_of};
use super::wrapped::{Wrapping, wrap_one};
use super::{Key, KeyId, Keyring, KeyringError, Purpose};
use crate::domain::time::Timestamp;

/// Why no key was added. The file is as it was; an operator has to change something.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddError {
    /// The file is no keyring that could be served with, or would be none with one key more.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    /// Somebody is adding a key at this moment, or was cut off while doing so.
    #[error("{0} is there: another `keys add` is under way; if one was cut off, remove that file")]
    UnderWay(PathBuf),
    /// The new file cannot be the same user's.
    #[error("the file is another user's, and this one may not give files to them: run this as that user or as root")]
    Owner,
    /// The folder does not take the new file.
    #[error("the new file cannot be written beside the old one: {0}")]
    Write(io::ErrorKind),
}

impl Keyring {
    /// Adds a fresh key-encryption key to a keyring file, inactive, and says its name. What the file says otherwise,
    /// comments included, stays. The new file is written beside the old one, with its mode and owner, made durable and
    /// put in its place: whoever reads meanwhile reads the old one. With `id` the key gets this name: a stand-in for a
    /// key that is lost, which opens nothing of what that one sealed.
    ///
    /// # Errors
    /// [`AddError`]; then the file is as it was.
    pub fn add_kek(path: &Path, id: Option<KeyId>, now: Timestamp) -> Result<KeyId, AddError> {
        Self::add(path, id, now, None)
    }

    /// The same for a file whose keys are wrapped: so is the new one, which nothing but `wrapping` is shown. The new
    /// file was opened before it takes the old one's place.
    ///
    /// # Errors
    /// As [`Self::add_kek`], and whatever keeps a key from being wrapped or opened.
    pub fn add_wrapped_kek(
        path: &Path,
        id: Option<KeyId>,
        now: Timestamp,
        wrapping: &dyn Wrapping,
    ) -> Result<KeyId, AddError> {
        Self::add(path, id, now, Some(wrapping))
    }

    fn add(path: &Path, id: Option<KeyId>, now: Timestamp, wrapping: Option<&dyn Wrapping>) -> Result<KeyId, AddError> {
        let unreadable = |error: io::Error| KeyringError::Unreadable(error.kind());
        let path = fs::canonicalize(path).map_err(unreadable)?; // what is replaced is the file, not a link to it
        let (old, metadata) = text_of(&path)?;
        Self::parse_with(&old, wrapping)?;
        let mut key = Key::generate(Purpose::Kek, now)?;
        if let Some(id) = id {
            key.id = id;
        }
        let wrapped = wrapping
            .map(|wrapping| wrap_one(wrapping, Purpose::Kek, &key))
            .transpose()?;
        // Never grows, so that no copy is left behind.
        let mut text = Zeroizing::new(String::with_capacity(2 * FILE_BYTES_MAX));
        text.push_str(&old);
        if !text.ends_with('\n') {
            text.push('\n');
        }
        append(&mut text, Purpose::Kek, &key, false, wrapped.as_deref());
        if text.len() > FILE_BYTES_MAX {
            return Err(KeyringError::TooLong.into());
        }
        Self::parse_with(&text, wrapping)?;
        let new = beside(&path);
        let mut options = OpenOptions::new();
        let opened = options.write(true).create_new(true).mode(0o600).open(&new);
        let file = opened.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => AddError::UnderWay(new.clone()),
            kind => AddError::Write(kind),
        })?;
        // Somebody else may have added a key between the two looks.
        let written = match text_of(&path) {
            Ok((again, _)) if *again == *old => write(file, &metadata, text.as_bytes()).and_then(|()| {
                let replaced = fs::rename(&new, &path);
                replaced.map_err(|error| AddError::Write(error.kind()))
            }),
            Ok(_) => Err(AddError::UnderWay(path.clone())),
            Err(error) => Err(error.into()),
        };
        if let Err(error) = written {
            let _ = fs::remove_file(&new); // nothing of it is in use
            return Err(error);
        }
        // The name is safe once the folder is.
        let folder = path.parent().map(File::open).and_then(Result::ok);
        if let Some(folder) = folder {
            folder.sync_all().map_err(|error| AddError::Write(error.kind()))?;
        }
        Ok(key.id)
    }
}

/// Where the new file grows.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".adding");
    PathBuf::from(name)
}

fn write(mut file: File, like: &fs::Metadata, bytes: &[u8]) -> Result<(), AddError> {
    let failed = |error: io::Error| AddError::Write(error.kind());
    let own = file.metadata().map_err(failed)?;
    if (own.uid(), own.gid()) != (like.uid(), like.gid()) {
        let (owner, group) = (Uid::from_raw(like.uid()), Gid::from_raw(like.gid()));
        fchown(&file, Some(owner), Some(group)).map_err(|_| AddError::Owner)?;
    }
    fchmod(&file, Mode::from_raw_mode(like.mode() & 0o777)).map_err(|error| failed(error.into()))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(failed)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;

    use tempfile::TempDir;

    use super::*;

    const NOW: Timestamp = Timestamp(1_700_000_000_000);

    fn kept(mode: u32) -> (TempDir, PathBuf, Zeroizing<String>) {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("master.key");
        let text = Keyring::generate(Timestamp(1)).unwrap().to_toml();
        fs::write(&path, &*text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        (folder, path, text)
    }

    fn names(folder: &TempDir) -> Vec<String> {
        let files = fs::read_dir(folder.path()).unwrap();
        files
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    #[test]
    fn a_key_is_added_inactive_and_all_else_of_the_file_stays() {
        for mode in [0o600, 0o640, 0o400] {
            let (folder, path, old) = kept(mode);
            let id = Keyring::add_kek(&path, None, NOW).unwrap();
            let text = fs::read_to_string(&path).unwrap();
            assert!(text.starts_with(old.as_str()), "{mode:o}");
            assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, mode);
            assert_eq!(names(&folder), ["master.key"]);
            let infos = Keyring::read(&path).unwrap().kek_infos();
            let added = infos.iter().find(|info| info.id == id).unwrap();
            assert_eq!((infos.len(), added.is_active, added.created_at), (2, false, NOW));
            assert_ne!(infos.first().unwrap().tag, added.tag);
        }
    }

    #[test]
    fn keys_are_added_one_after_another_each_with_a_name_of_its_own() {
        let (_folder, path, _) = kept(0o600);
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.trim_end()).unwrap(); // no newline at its end
        let ids = [(); 3].map(|()| Keyring::add_kek(&path, None, NOW).unwrap());
        let keys = Keyring::read(&path).unwrap();
        assert_eq!(keys.kek_infos().len(), 4);
        assert!(ids.iter().all(|id| keys.kek(id.as_str().as_bytes()).is_some()));
        let lost = KeyId::parse("kek-lost").unwrap();
        assert_eq!(Keyring::add_kek(&path, Some(lost.clone()), NOW), Ok(lost.clone()));
        let taken = KeyringError::Duplicate { id: lost.clone() };
        assert_eq!(Keyring::add_kek(&path, Some(lost), NOW), Err(taken.into()));
    }

    #[test]
    fn a_file_that_is_refused_stays_as_it_is_with_nothing_beside_it() {
        let (folder, path, old) = kept(0o644);
        assert_eq!(
            Keyring::add_kek(&path, None, NOW),
            Err(KeyringError::OpenToOthers.into())
        );
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        fs::write(beside(&path), "").unwrap();
        assert_eq!(
            Keyring::add_kek(&path, None, NOW),
            Err(AddError::UnderWay(beside(&fs::canonicalize(&path).unwrap())))
        );
        fs::remove_file(beside(&path)).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), *old);
        assert_eq!(names(&folder), ["master.key"]);
        fs::write(&path, "format = 1").unwrap();
        assert!(matches!(
            Keyring::add_kek(&path, None, NOW),
            Err(AddError::Keyring(KeyringError::Missing(_)))
        ));
    }

    #[test]
    fn a_link_goes_on_pointing_to_the_file_that_was_replaced() {
        let (folder, path, _) = kept(0o600);
        let link = folder.path().join("link");
        std::os::unix::fs::symlink("master.key", &link).unwrap();
        let id = Keyring::add_kek(&link, None, NOW).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        let keys = Keyring::read(&path).unwrap();
        assert!(keys.kek(id.as_str().as_bytes()).is_some());
    }
}
