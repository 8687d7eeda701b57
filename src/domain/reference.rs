//! What names a secret that stands in an external backend: three forms, parsed strictly, written in one way.
//!
//! A reference decides which secret of a backend a tenant's deliveries get, so nothing of it is guessed: no white
//! space, no empty or dot segments, no escapes, and every text has one canonical form.

use std::fmt;

/// Longest accepted reference, in bytes.
pub const REFERENCE_BYTES_MAX: usize = 512;

/// The field that a bare path means in Vault (contract, section 3).
pub const BARE_PATH_FIELD: &str = "value";

/// An external secret's name (`external_secret_name`).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Reference {
    /// `vault:<mount>/<path>#<field>[@version]`
    Vault {
        /// Where the secrets engine is mounted.
        mount: String,
        /// The secret's path below it.
        path: String,
        /// Which of its fields.
        field: String,
        /// Which version; the current one where `None`.
        version: Option<u64>,
    },
    /// `gsm:projects/<p>/secrets/<s>[/versions/<v>|/versions/latest-enabled]`
    Gsm {
        /// The project's id or number.
        project: String,
        /// The secret.
        secret: String,
        /// Which version; the latest that is enabled where `None`.
        version: Option<u64>,
    },
    /// A path that the organization's default provider looks up: `<segment>/<segment>[/…]`.
    Path(String),
}

/// The text is no reference. Carries nothing of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// Empty, or longer than accepted.
    #[error("a reference has 1 to 512 bytes")]
    Length,
    /// A part of a path that is none.
    #[error(
        "a reference's path has at least two parts of A-Z, a-z, 0-9 and . _ - between single slashes, none . or .."
    )]
    Segment,
    /// Not as a Vault reference is written.
    #[error("a Vault reference is vault:<mount>/<path>#<field>, and may end with @<version>")]
    Vault,
    /// Not as a Google Secret Manager reference is written.
    #[error(
        "a GSM reference is gsm:projects/<project>/secrets/<secret>, and may end with /versions/<number> or /versions/latest-enabled"
    )]
    Gsm,
}

impl Reference {
    /// Parses a reference.
    ///
    /// # Errors
    /// [`ReferenceError`].
    pub fn parse(text: &str) -> Result<Self, ReferenceError> {
        if text.is_empty() || text.len() > REFERENCE_BYTES_MAX {
            return Err(ReferenceError::Length);
        }
        if let Some(rest) = text.strip_prefix("vault:") {
            return vault(rest);
        }
        if let Some(rest) = text.strip_prefix("gsm:") {
            return gsm(rest).ok_or(ReferenceError::Gsm);
        }
        is_path(text)
            .then(|| Self::Path(text.to_owned()))
            .ok_or(ReferenceError::Segment)
    }
}

impl fmt::Display for Reference {
    /// The canonical form: parsing it gives the same reference.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vault {
                mount,
                path,
                field,
                version,
            } => {
                write!(f, "vault:{mount}/{path}#{field}")?;
                version.map_or(Ok(()), |version| write!(f, "@{version}"))
            }
            Self::Gsm {
                project,
                secret,
                version,
            } => {
                write!(f, "gsm:projects/{project}/secrets/{secret}")?;
                version.map_or(Ok(()), |version| write!(f, "/versions/{version}"))
            }
            Self::Path(path) => f.write_str(path),
        }
    }
}

fn vault(text: &str) -> Result<Reference, ReferenceError> {
    let (whole_path, rest) = text.split_once('#').ok_or(ReferenceError::Vault)?;
    if !is_path(whole_path) {
        return Err(ReferenceError::Segment);
    }
    let (mount, path) = whole_path.split_once('/').ok_or(ReferenceError::Segment)?;
    let (field, version) = match rest.split_once('@') {
        None => (rest, None),
        Some((field, version)) => (field, Some(number(version).ok_or(ReferenceError::Vault)?)),
    };
    if !is_segment(field) || field.len() > 128 {
        return Err(ReferenceError::Vault);
    }
    Ok(Reference::Vault {
        mount: mount.to_owned(),
        path: path.to_owned(),
        field: field.to_owned(),
        version,
    })
}

fn gsm(text: &str) -> Option<Reference> {
    let (project, rest) = text.strip_prefix("projects/")?.split_once('/')?;
    let rest = rest.strip_prefix("secrets/")?;
    let (secret, version) = match rest.split_once('/') {
        None => (rest, None),
        Some((secret, version)) => match version.strip_prefix("versions/")? {
            "latest-enabled" => (secret, None),
            version => (secret, Some(number(version)?)),
        },
    };
    (is_gsm_project(project) && is_gsm_secret(secret)).then(|| Reference::Gsm {
        project: project.to_owned(),
        secret: secret.to_owned(),
        version,
    })
}

/// Whether a text is a Google project's id or number. A project can belong to a domain: `example.com:project`.
pub(super) fn is_gsm_project(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.' | b':');
    let starts = text.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric);
    (1..=63).contains(&text.len()) && starts && text.bytes().all(allowed)
}

/// Whether a text names a secret of Google Secret Manager.
pub(super) fn is_gsm_secret(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    (1..=255).contains(&text.len()) && text.bytes().all(allowed)
}

/// At least two segments.
fn is_path(text: &str) -> bool {
    text.contains('/') && text.split('/').all(is_segment)
}

/// Whether a text is one part of a path that every reader takes for the same.
#[must_use]
pub fn is_segment(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    !text.is_empty() && text != "." && text != ".." && text.bytes().all(allowed)
}

/// A version from 1, written in one way.
fn number(text: &str) -> Option<u64> {
    let is_canonical = !text.starts_with('0') && !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    is_canonical.then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_accepted_has_one_form_that_reads_back_the_same() {
        let longest = format!("a/{}", "x".repeat(REFERENCE_BYTES_MAX - 2));
        for (text, canonical) in [
            ("secrets/kiket/projects/project_key/crm_webhook", ""),
            ("a/b", ""),
            ("A-1/b.c/_", ""),
            ("a/.../..b", ""),
            (longest.as_str(), ""),
            ("vault:secret/app#token", ""),
            ("vault:kv/team/app/db#pass.word-1_x@7", ""),
            ("vault:a/b#c@18446744073709551615", ""),
            ("gsm:projects/p/secrets/s", ""),
            ("gsm:projects/123456/secrets/CRM_token-1/versions/12", ""),
            ("gsm:projects/example.com:proj/secrets/s", ""),
            (
                "gsm:projects/p/secrets/s/versions/latest-enabled",
                "gsm:projects/p/secrets/s",
            ),
        ] {
            let canonical = if canonical.is_empty() { text } else { canonical };
            let parsed = Reference::parse(text);
            assert_eq!(parsed.as_ref().map(ToString::to_string).as_deref(), Ok(canonical));
            assert_eq!(Reference::parse(canonical), parsed, "{text}");
        }
    }

    #[test]
    fn what_is_not_written_exactly_so_is_refused() {
        use ReferenceError::{Gsm, Length, Segment, Vault};
        let too_long = format!("a/{}", "x".repeat(REFERENCE_BYTES_MAX - 1));
        let long_field = format!("vault:a/b#{}", "f".repeat(129));
        let long_secret = format!("gsm:projects/p/secrets/{}", "s".repeat(256));
        let long_project = format!("gsm:projects/{}/secrets/s", "p".repeat(64));
        for (text, error) in [
            ("", Length),
            (too_long.as_str(), Length),
            ("one", Segment),
            ("/a/b", Segment),
            ("a/b/", Segment),
            ("a//b", Segment),
            ("a/../b", Segment),
            ("./a", Segment),
            ("a/b c", Segment),
            (" a/b", Segment),
            ("a/b\n", Segment),
            ("a/b\0", Segment),
            ("a/%2e%2e", Segment),
            ("a/b#c", Segment),
            ("a/b@1", Segment),
            ("a/\u{e4}", Segment),
            ("Vault:a/b#c", Segment),
            ("aws:a/b", Segment),
            ("https://vault/a", Segment),
            ("vault:", Vault),
            ("vault:a/b", Vault),
            ("vault:a/b#", Vault),
            ("vault:a/b#c@", Vault),
            ("vault:a/b#c@0", Vault),
            ("vault:a/b#c@01", Vault),
            ("vault:a/b#c@-1", Vault),
            ("vault:a/b#c@18446744073709551616", Vault),
            ("vault:a/b#c@1@2", Vault),
            ("vault:a/b#c#d", Vault),
            ("vault:a/b#c d", Vault),
            (long_field.as_str(), Vault),
            ("vault:a#c", Segment),
            ("vault:/a/b#c", Segment),
            ("vault:a/../b#c", Segment),
            ("vault:a/b?x#c", Segment),
            ("gsm:", Gsm),
            ("gsm:a/b", Gsm),
            ("gsm:projects/p", Gsm),
            ("gsm:projects//secrets/s", Gsm),
            ("gsm:projects/p/secrets/", Gsm),
            ("gsm:projects/P/secrets/s", Gsm),
            ("gsm:projects/./secrets/s", Gsm),
            ("gsm:projects/../secrets/s", Gsm),
            ("gsm:projects/-p/secrets/s", Gsm),
            ("gsm:projects/p/secrets/s.t", Gsm),
            ("gsm:projects/p/secrets/s/", Gsm),
            ("gsm:projects/p/secrets/s/versions", Gsm),
            ("gsm:projects/p/secrets/s/versions/", Gsm),
            ("gsm:projects/p/secrets/s/versions/0", Gsm),
            ("gsm:projects/p/secrets/s/versions/latest", Gsm),
            ("gsm:projects/p/secrets/s/versions/1/2", Gsm),
            ("gsm:projects/p/secrets/../versions/1", Gsm),
            (long_secret.as_str(), Gsm),
            (long_project.as_str(), Gsm),
        ] {
            assert_eq!(Reference::parse(text), Err(error), "{text:?}");
        }
    }
}
