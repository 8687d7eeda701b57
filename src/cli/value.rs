//! Where a value comes from: prompt, stdin or file; never from the command line without a warning.

use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use super::env_file::{self, Entry};
use super::{Failure, prompt, warn};
use crate::domain::key::SecretKey;
use crate::domain::secret::VALUE_BYTES_MAX;

/// The ways to give one value.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Value (asked for, or read from stdin, where none is given)")]
pub(super) struct Given {
    /// The value itself; others on this machine can see it
    #[arg(long, value_name = "VALUE", value_parser = concealed, allow_hyphen_values = true, group = "source")]
    value: Option<SecretString>,
    /// A file with the value, less one trailing newline; `-` is stdin
    #[arg(long, value_name = "FILE", group = "source")]
    value_file: Option<PathBuf>,
    /// A dotenv file: with --key that entry alone, without it all of them
    #[arg(long, value_name = "FILE", group = "source")]
    pub(super) env_file: Option<PathBuf>,
}

fn concealed(text: &str) -> Result<SecretString, std::convert::Infallible> {
    Ok(SecretString::from(text))
}

impl Given {
    /// The value for this key.
    pub(super) fn one(self, key: &SecretKey) -> Result<SecretString, Failure> {
        let (value, place) = if let Some(value) = self.value {
            warn("--value can be seen by others on this machine and stays in the shell's history; use stdin or a file");
            (value, String::from("--value"))
        } else if let Some(path) = &self.env_file {
            let entry = entry(path, key)?;
            return Ok(checked_entry(path, entry)?.value);
        } else {
            match self.value_file.as_deref() {
                Some(path) if path.as_os_str() != "-" => (from_file(path)?, format!("--value-file {}", path.display())),
                None if prompt::is_possible() => {
                    (prompt::value(&format!("value of {key}"))?, String::from("the prompt"))
                }
                _ => (from_stdin(key)?, String::from("stdin")),
            }
        };
        fits(&value).map_err(|reason| Failure::usage(format!("{place}: {reason}")))?;
        Ok(value)
    }
}

/// All entries of a dotenv file, each one fit to be written.
pub(super) fn all(path: &Path) -> Result<Vec<(SecretKey, SecretString)>, Failure> {
    let entries = read(path)?;
    if entries.is_empty() {
        return Err(Failure::usage(format!(
            "{}: there is no KEY=value in the file",
            path.display()
        )));
    }
    let parsed = entries.into_iter().map(|entry| {
        let key = SecretKey::parse(&entry.key)
            .map_err(|error| Failure::usage(format!("{}, line {}: {error}", path.display(), entry.line)))?;
        Ok((key, checked_entry(path, entry)?.value))
    });
    parsed.collect()
}

/// All entries of a dotenv file, to choose from.
pub(super) fn read(path: &Path) -> Result<Vec<Entry>, Failure> {
    env_file::read(path).map_err(|error| Failure::usage(error.in_file(path)))
}

/// An entry whose value can be written.
pub(super) fn checked_entry(path: &Path, entry: Entry) -> Result<Entry, Failure> {
    match fits(&entry.value) {
        Ok(()) => Ok(entry),
        Err(reason) => Err(Failure::usage(format!(
            "{}, line {}: {reason}",
            path.display(),
            entry.line
        ))),
    }
}

fn entry(path: &Path, key: &SecretKey) -> Result<Entry, Failure> {
    let found = read(path)?.into_iter().find(|entry| entry.key == key.as_str());
    found.ok_or_else(|| Failure::usage(format!("{}: there is no line {key}=…", path.display())))
}

fn fits(value: &SecretString) -> Result<(), &'static str> {
    let text = value.expose_secret();
    if text.is_empty() {
        Err("the value is empty; `kiket extensions secrets delete` removes a secret")
    } else if text.len() > VALUE_BYTES_MAX {
        Err("the value is longer than 64 KiB")
    } else if text.contains('\0') {
        Err("the value holds a NUL byte")
    } else {
        Ok(())
    }
}

fn from_stdin(key: &SecretKey) -> Result<SecretString, Failure> {
    let stdin = io::stdin();
    if stdin.is_terminal() {
        prompt::say(&format!("value of {key}, then Ctrl-D:\n"));
    }
    text(stdin.lock()).map_err(|reason| Failure::usage(format!("stdin: {reason}")))
}

fn from_file(path: &Path) -> Result<SecretString, Failure> {
    let named = |reason: &str| Failure::usage(format!("--value-file {}: {reason}", path.display()));
    let unreadable = |error: io::Error| named(&format!("the file cannot be read: {}", error.kind()));
    let file = File::open(path).map_err(unreadable)?;
    if file.metadata().map_err(unreadable)?.mode() & 0o006 != 0 {
        return Err(named("others may read or write the file: `chmod o-rw` it first"));
    }
    text(file).map_err(|reason| named(&reason))
}

/// All of it less one trailing newline. A value that is too long is cut a byte behind the limit.
fn text(source: impl Read) -> Result<SecretString, String> {
    let room = VALUE_BYTES_MAX.saturating_add(2); // one byte too many, and the newline
    let mut bytes = Zeroizing::new(Vec::with_capacity(room.saturating_add(32))); // never grows: `read_to_end` probes
    let read = source.take(room as u64).read_to_end(&mut bytes);
    read.map_err(|error| format!("it cannot be read: {}", error.kind()))?;
    if bytes.len() == room {
        return Err(String::from("the value is longer than 64 KiB"));
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| String::from("it is not UTF-8 text"))?;
    Ok(SecretString::from(text.strip_suffix('\n').unwrap_or(text)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn read_of(bytes: &[u8]) -> Result<usize, String> {
        text(bytes).and_then(|value| {
            fits(&value)
                .map(|()| value.expose_secret().len())
                .map_err(str::to_owned)
        })
    }

    #[test]
    fn one_trailing_newline_is_dropped_and_the_limit_is_the_stores() {
        assert_eq!(text(&b"a\n\n"[..]).unwrap().expose_secret(), "a\n");
        assert_eq!(text(&b" a "[..]).unwrap().expose_secret(), " a ");
        assert_eq!(read_of(&[b'x'; VALUE_BYTES_MAX]), Ok(VALUE_BYTES_MAX));
        assert_eq!(
            read_of(&[vec![b'x'; VALUE_BYTES_MAX], b"\n".to_vec()].concat()),
            Ok(VALUE_BYTES_MAX)
        );
        for bad in [
            &[b'x'; VALUE_BYTES_MAX + 1][..],
            &[b'x'; VALUE_BYTES_MAX + 2],
            &[b'x'; VALUE_BYTES_MAX * 2],
            b"",
            b"\n",
            b"\xff",
            b"a\0b",
        ] {
            assert!(read_of(bad).is_err(), "{}", bad.len());
        }
    }
}
