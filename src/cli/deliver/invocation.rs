//! What an invocation's file holds, and what may stand on the command line beside it.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use bytes::Bytes;

use crate::cli::Failure;
use crate::domain::id::InstallationId;

/// More than any sidecar takes.
const BYTES_MAX: u64 = 64 * 1024 * 1024;

/// An invocation as it was recorded.
pub(super) struct Invocation {
    pub(super) body: Bytes,
}

impl Invocation {
    pub(super) fn read(file: &Path) -> Result<Self, Failure> {
        let unreadable =
            |error: io::Error| Failure::usage(format!("{}: cannot be read: {}", file.display(), error.kind()));
        let source: Box<dyn Read> = match file.to_str() {
            Some("-") => Box::new(io::stdin().lock()),
            _ => Box::new(File::open(file).map_err(unreadable)?),
        };
        let mut body = Vec::new();
        let read = source.take(BYTES_MAX.saturating_add(1)).read_to_end(&mut body);
        let read = read.map_err(unreadable)?;
        if u64::try_from(read).map_or(true, |read| read > BYTES_MAX) {
            return Err(Failure::usage(format!(
                "{}: longer than any invocation",
                file.display()
            )));
        }
        Ok(Self { body: body.into() })
    }
}

pub(super) fn installation(text: &str) -> Result<String, String> {
    let parsed = InstallationId::parse(text).map_err(|error| error.to_string())?;
    Ok(parsed.to_string())
}

/// The name of an event: one plain segment of a path.
pub(super) fn event(text: &str) -> Result<String, String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b':' | b'-');
    if text.is_empty() || text.len() > 128 || !text.bytes().all(plain) || matches!(text, "." | "..") {
        return Err(String::from(
            "an event is 1 to 128 of A-Z, a-z, 0-9 and . _ : -, for example issue.created",
        ));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_segment_of_a_path() {
        for good in ["issue.created", "a", &"x".repeat(128)] {
            assert!(event(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "a?b", "a%2fb", "a b", &"x".repeat(129)] {
            assert!(event(bad).is_err(), "{bad}");
        }
    }
}
