//! How a secret is read from a file: refused when others may read it, wiped when dropped.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use secrecy::SecretString;
use zeroize::Zeroizing;

/// The longest secret that a file may hold.
const SECRET_BYTES_MAX: usize = 64 * 1024;

/// Why a file gives no secret. Carries neither its path nor anything of it; an operator has to change something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SecretFileError {
    /// It cannot be read.
    #[error("the file cannot be read: {0}")]
    Unreadable(io::ErrorKind),
    /// Its mode lets everyone on the host read or write it.
    #[error("others may read or write the file: `chmod o-rw` it (its group may read it)")]
    OthersMayAccess,
    /// Nothing in it.
    #[error("the file is empty")]
    Empty,
    /// More in it than a secret.
    #[error("the file holds more than 64 KiB")]
    TooLarge,
    /// Not text.
    #[error("the file is not UTF-8 text")]
    NotText,
}

/// The file's text less one trailing newline.
///
/// # Errors
/// [`SecretFileError`]; the caller names the setting.
pub fn secret_file(path: &Path) -> Result<SecretString, SecretFileError> {
    let unreadable = |error: io::Error| SecretFileError::Unreadable(error.kind());
    let file = File::open(path).map_err(unreadable)?;
    let status = file.metadata().map_err(unreadable)?;
    if status.mode() & 0o006 != 0 {
        return Err(SecretFileError::OthersMayAccess);
    }
    // One allocation that never grows: nothing is left behind by a move.
    let mut bytes = Zeroizing::new(Vec::with_capacity(SECRET_BYTES_MAX + 1));
    let mut bounded = file.take(SECRET_BYTES_MAX as u64 + 1);
    while bytes.len() <= SECRET_BYTES_MAX {
        let mut chunk = Zeroizing::new([0_u8; 1024]);
        let read = bounded.read(chunk.as_mut_slice()).map_err(unreadable)?;
        if read == 0 {
            break;
        }
        bytes.extend_from_slice(chunk.get(..read).unwrap_or_default());
    }
    if bytes.len() > SECRET_BYTES_MAX {
        return Err(SecretFileError::TooLarge);
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| SecretFileError::NotText)?;
    let text = text.strip_suffix('\n').unwrap_or(text);
    if text.is_empty() {
        Err(SecretFileError::Empty)
    } else {
        Ok(SecretString::from(text))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use secrecy::ExposeSecret;

    use super::*;

    fn read(content: &[u8], mode: u32) -> Result<String, SecretFileError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        secret_file(&path).map(|secret| secret.expose_secret().to_owned())
    }

    #[test]
    fn one_trailing_newline_goes_and_nothing_else() {
        assert_eq!(read(b"s3cret\n", 0o600).unwrap(), "s3cret");
        assert_eq!(read(b" s3cret \n\n", 0o640).unwrap(), " s3cret \n");
        assert_eq!(read(b"\n", 0o600), Err(SecretFileError::Empty));
        assert_eq!(read(b"\xff", 0o600), Err(SecretFileError::NotText));
    }

    #[test]
    fn the_group_may_read_and_others_may_not() {
        assert!(read(b"x", 0o660).is_ok());
        for mode in [0o604, 0o602, 0o644, 0o666] {
            assert_eq!(read(b"x", mode), Err(SecretFileError::OthersMayAccess), "{mode:o}");
        }
    }

    #[test]
    fn the_size_is_bounded_on_both_sides_of_the_limit() {
        assert_eq!(read(&[b'x'; SECRET_BYTES_MAX], 0o600).unwrap().len(), SECRET_BYTES_MAX);
        assert_eq!(
            read(&[b'x'; SECRET_BYTES_MAX + 1], 0o600),
            Err(SecretFileError::TooLarge)
        );
        assert_eq!(
            secret_file(Path::new("/nonexistent/kiket")).unwrap_err(),
            SecretFileError::Unreadable(io::ErrorKind::NotFound)
        );
    }
}
