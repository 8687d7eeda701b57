//! How values are read from a dotenv file: what it means exactly, and where it is wrong.
//!
//! `KEY=value`, `export KEY=value`, `# comment`; `'…'` is literal, `"…"` knows `\n \r \t \\ \" \' \$`, and both may go
//! over several lines. Nothing is expanded. An error names the file and the line and never quotes what stands there.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use secrecy::SecretString;
use zeroize::Zeroizing;

/// The longest file that is read: hundreds of certificates.
const FILE_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// One line `KEY=value`.
#[derive(Debug)]
pub(super) struct Entry {
    /// The line that it begins on, from 1.
    pub(super) line: usize,
    pub(super) key: String,
    pub(super) value: SecretString,
}

/// Why a file gives no values. Names the file and the line, never a value.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct EnvFileError {
    line: Option<usize>,
    reason: &'static str,
}

impl EnvFileError {
    const fn at(line: usize, reason: &'static str) -> Self {
        Self {
            line: Some(line),
            reason,
        }
    }

    const fn whole(reason: &'static str) -> Self {
        Self { line: None, reason }
    }

    /// The sentence for people.
    pub(super) fn in_file(&self, path: &Path) -> String {
        match self.line {
            Some(line) => format!("{}, line {line}: {}", path.display(), self.reason),
            None => format!("{}: {}", path.display(), self.reason),
        }
    }
}

/// Reads a file that only its owner may read.
pub(super) fn read(path: &Path) -> Result<Vec<Entry>, EnvFileError> {
    let file = File::open(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => EnvFileError::whole("there is no such file"),
        std::io::ErrorKind::PermissionDenied => EnvFileError::whole("you may not read the file"),
        _ => EnvFileError::whole("the file cannot be opened"),
    })?;
    let unreadable = |_| EnvFileError::whole("the file cannot be read");
    let status = file.metadata().map_err(unreadable)?;
    if status.is_dir() {
        return Err(EnvFileError::whole("this is a directory"));
    }
    if status.mode() & 0o066 != 0 {
        return Err(EnvFileError::whole(
            "others may read or write the file: `chmod go-rw` it first",
        ));
    }
    if status.len() > FILE_BYTES_MAX {
        return Err(EnvFileError::whole("the file holds more than 8 MiB"));
    }
    let size = usize::try_from(status.len()).unwrap_or_default();
    let mut bytes = Zeroizing::new(Vec::with_capacity(size.saturating_add(1)));
    file.take(FILE_BYTES_MAX).read_to_end(&mut bytes).map_err(unreadable)?;
    parse(&bytes)
}

/// Reads the text of a file.
pub(super) fn parse(bytes: &[u8]) -> Result<Vec<Entry>, EnvFileError> {
    if bytes.starts_with(&[0xef, 0xbb, 0xbf]) {
        return Err(EnvFileError::at(
            1,
            "the file begins with a byte order mark: save it as plain UTF-8",
        ));
    }
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err(EnvFileError::at(1, "the file is UTF-16: save it as plain UTF-8"));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let before = bytes.get(..error.valid_up_to()).unwrap_or_default();
        EnvFileError::at(lines(before), "this is not UTF-8 text")
    })?;
    if let Some(at) = text.find('\0') {
        let before = text.as_bytes().get(..at).unwrap_or_default();
        return Err(EnvFileError::at(lines(before), "there is a NUL byte"));
    }
    let mut reader = Reader { rest: text, line: 1 };
    let mut entries: Vec<Entry> = Vec::new();
    while let Some(entry) = reader.entry()? {
        if entries.iter().any(|other| other.key == entry.key) {
            return Err(EnvFileError::at(entry.line, "this key has a value above already"));
        }
        entries.push(entry);
    }
    Ok(entries)
}

/// The line that follows these bytes.
fn lines(before: &[u8]) -> usize {
    before.iter().filter(|byte| **byte == b'\n').count().saturating_add(1)
}

/// What is left to read.
struct Reader<'a> {
    rest: &'a str,
    line: usize,
}

impl<'a> Reader<'a> {
    fn entry(&mut self) -> Result<Option<Entry>, EnvFileError> {
        loop {
            let (line, rest) = self.rest.split_once('\n').unwrap_or((self.rest, ""));
            let content = line.trim();
            if !content.is_empty() && !content.starts_with('#') {
                return self.assignment().map(Some);
            }
            if self.rest.is_empty() {
                return Ok(None);
            }
            self.rest = rest;
            self.line = self.line.saturating_add(1);
        }
    }

    fn assignment(&mut self) -> Result<Entry, EnvFileError> {
        let line = self.line;
        let first = self.rest.split('\n').next().unwrap_or_default();
        let no_pair = EnvFileError::at(line, "this is neither KEY=value nor a comment");
        let Some((name, _)) = first.split_once('=') else {
            return Err(no_pair);
        };
        self.rest = self.rest.get(name.len().saturating_add(1)..).unwrap_or_default();
        let name = name.trim();
        let exported = name.strip_prefix("export").filter(|rest| rest.starts_with([' ', '\t']));
        let key = exported.unwrap_or(name).trim();
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        if key.is_empty() || !key.chars().all(is_name) {
            return Err(no_pair);
        }
        self.rest = self.rest.trim_start_matches([' ', '\t']);
        let value = match self.rest.chars().next() {
            Some('\'') => self.quoted('\'')?,
            Some('"') => self.quoted('"')?,
            _ => self.bare(),
        };
        Ok(Entry {
            line,
            key: key.to_owned(),
            value: SecretString::from(value.as_str()),
        })
    }

    /// Up to the end of the line, or to a comment.
    fn bare(&mut self) -> Zeroizing<String> {
        let line = self.take_line();
        let comment = line.match_indices('#').find(|(at, _)| {
            let before = line.get(..*at).unwrap_or_default();
            before.is_empty() || before.ends_with([' ', '\t'])
        });
        let value = comment.map_or(line, |(at, _)| line.get(..at).unwrap_or_default());
        Zeroizing::new(value.trim().to_owned())
    }

    /// Between quotes, perhaps over several lines.
    fn quoted(&mut self, quote: char) -> Result<Zeroizing<String>, EnvFileError> {
        let opened = self.line;
        let mut value = Zeroizing::new(String::with_capacity(self.rest.len()));
        let mut characters = self.rest.char_indices();
        characters.next(); // the quote
        let end = loop {
            let Some((at, c)) = characters.next() else {
                return Err(EnvFileError::at(opened, "the quote that opens here is not closed"));
            };
            match c {
                c if c == quote => break at.saturating_add(1),
                '\\' if quote == '"' => {
                    let escaped = characters.next().and_then(|(_, c)| unescaped(c));
                    value.push(escaped.ok_or(EnvFileError::at(
                        self.line,
                        "a backslash in double quotes is followed by n, r, t, \\, \", ' or $; use single quotes for \
                         text as it is",
                    ))?);
                }
                '\n' => {
                    self.line = self.line.saturating_add(1);
                    value.push(c);
                }
                c => value.push(c),
            }
        };
        self.rest = self.rest.get(end..).unwrap_or_default();
        let closed = self.line;
        let behind = self.take_line().trim();
        if behind.is_empty() || behind.starts_with('#') {
            Ok(value)
        } else {
            Err(EnvFileError::at(closed, "there is more behind the closing quote"))
        }
    }

    /// What is left of the line.
    fn take_line(&mut self) -> &'a str {
        let (line, rest) = self.rest.split_once('\n').unwrap_or((self.rest, ""));
        self.rest = rest;
        self.line = self.line.saturating_add(1);
        line
    }
}

const fn unescaped(c: char) -> Option<char> {
    Some(match c {
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        '\\' | '"' | '\'' | '$' => c,
        _ => return None,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use secrecy::ExposeSecret;

    use super::*;

    fn pairs(text: &str) -> Vec<(usize, String, String)> {
        let entries = parse(text.as_bytes()).unwrap();
        let shown = |entry: Entry| (entry.line, entry.key, entry.value.expose_secret().to_owned());
        entries.into_iter().map(shown).collect()
    }

    /// The one value that a file holds.
    fn value(text: &str) -> String {
        let mut pairs = pairs(text);
        assert_eq!(pairs.len(), 1, "{text:?}");
        pairs.remove(0).2
    }

    #[test]
    fn a_value_is_what_dotenv_says_it_is() {
        for (text, expected) in [
            ("A=b", "b"),
            ("A=b\r\n", "b"),
            ("export A=b\n", "b"),
            ("  export\tA = b  \n", "b"),
            ("A=", ""),
            ("A=\n", ""),
            ("A=b # comment", "b"),
            ("A=b#c", "b#c"),
            ("A=#c", ""),
            ("A=b c", "b c"),
            ("A=b=c==", "b=c=="),
            ("A=it's", "it's"),
            ("A=$HOME/${X}", "$HOME/${X}"),
            ("A=\\n", "\\n"),
            ("A=' b # c '", " b # c "),
            ("A='\\n$X\"'", "\\n$X\""),
            ("A='b' # comment", "b"),
            ("A=\" b # c \"", " b # c "),
            ("A=\"\\n\\r\\t\\\\\\\"\\'\\$\"", "\n\r\t\\\"'$"),
            ("A=\"line 1\nline 2\n\"\n", "line 1\nline 2\n"),
            ("A='line 1\nline 2'", "line 1\nline 2"),
            ("A=\"ü🔑\"", "ü🔑"),
            ("# only\n\n \t\nA=b", "b"),
        ] {
            assert_eq!(value(text), expected, "{text:?}");
        }
    }

    #[test]
    fn entries_know_the_lines_that_they_begin_on() {
        let text = "# one\nA=1\n\nB=\"x\ny\"\nexport C='z'\n#D=no\nE=5";
        let lines: Vec<_> = pairs(text).into_iter().map(|(line, key, _)| (line, key)).collect();
        let expected = [(2, "A"), (4, "B"), (6, "C"), (8, "E")];
        assert_eq!(lines, expected.map(|(line, key)| (line, key.to_owned())));
        assert!(pairs("").is_empty() && pairs("\n# nothing\n").is_empty());
    }

    #[test]
    fn what_is_wrong_is_told_by_its_line_and_never_quoted() {
        for (text, line, reason) in [
            (&b"A=1\nB=\"cnry\nmore\n"[..], 2, "not closed"),
            (b"A='cnry", 1, "not closed"),
            (b"A=\"cnry\\\"", 1, "not closed"),
            (b"\n\ncnry\n", 3, "neither"),
            (b"=cnry", 1, "neither"),
            (b"A B=cnry", 1, "neither"),
            (b"exportA B=cnry", 1, "neither"),
            (b"A\"=cnry", 1, "neither"),
            (b"A=\"cnry\" cnry", 1, "behind the closing quote"),
            (b"A=\"x\ny\"cnry", 2, "behind the closing quote"),
            (b"A=\"x\n\\d\"", 2, "backslash"),
            (b"\xef\xbb\xbfA=cnry", 1, "byte order mark"),
            (b"\xff\xfeA\0", 1, "UTF-16"),
            (b"A=1\nB=cnry\xff\n", 2, "not UTF-8"),
            (b"A=1\n\nB=cn\0ry\n", 3, "NUL"),
            (b"A=1\nB=2\nA=cnry\n", 3, "above already"),
        ] {
            let error = parse(text).unwrap_err();
            let said = error.in_file(Path::new(".env"));
            assert!(said.starts_with(&format!(".env, line {line}: ")), "{said}");
            assert!(said.contains(reason) && !said.contains("cnry"), "{said}");
        }
    }

    #[test]
    fn a_file_that_others_may_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(".env");
        fs::write(&path, "A=b").unwrap();
        for (mode, is_fine) in [
            (0o600, true),
            (0o400, true),
            (0o640, false),
            (0o604, false),
            (0o620, false),
            (0o644, false),
        ] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            let read = read(&path);
            assert_eq!(read.is_ok(), is_fine, "{mode:o}");
            if let Err(error) = read {
                assert!(error.in_file(&path).contains("chmod go-rw"), "{error:?}");
            }
        }
        assert!(read(dir.path()).unwrap_err().in_file(&path).contains("directory"));
        assert!(
            read(&dir.path().join("none"))
                .unwrap_err()
                .in_file(&path)
                .contains("no such file")
        );
    }
}
