//! What a payload's bytes are: one well-formed JSON object or not, where its last brace is, which ids it states.

use std::borrow::Cow;

/// The deepest nesting accepted; the outermost object is depth 1.
pub const DEPTH_MAX: u32 = 128;

/// What one pass over a payload found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scan<'a> {
    /// The offset of the object's closing brace.
    pub insert_at: usize,
    /// Whether the object has no members.
    pub is_empty: bool,
    /// The members that the sidecar reads.
    pub stated: Stated<'a>,
}

/// The top-level members that the sidecar reads. Integers are taken as text, null as not stated.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stated<'a> {
    /// The invocation's id.
    pub id: Option<Cow<'a, str>>,
    /// The installation it is addressed to.
    pub extension_installation_id: Option<Cow<'a, str>>,
    /// Ids that must agree with the registry's record.
    pub organization_id: Option<Cow<'a, str>>,
    /// As above.
    pub project_id: Option<Cow<'a, str>>,
    /// As above.
    pub extension_id: Option<Cow<'a, str>>,
    /// As above.
    pub product_installation_id: Option<Cow<'a, str>>,
}

/// Why a payload is refused. Carries nothing of it; sending it again does not help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum ScanError {
    /// Not one JSON object in UTF-8 without a byte order mark.
    #[error("the payload is not one well-formed JSON object")]
    Malformed,
    /// Nested deeper than [`DEPTH_MAX`].
    #[error("the payload is nested too deeply")]
    TooDeep,
    /// A member that the sidecar reads stands twice: readers disagree about which one counts.
    #[error("a member that is read stands twice")]
    Duplicate,
    /// A top-level member that a receiver could take for an inserted one.
    #[error("the payload has a reserved member")]
    Reserved,
    /// A member that the sidecar reads is neither text, integer nor null.
    #[error("a member that is read is neither text nor integer")]
    WrongType,
}

impl ScanError {
    /// The word for logs and metrics.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::TooDeep => "too-deep",
            Self::Duplicate => "duplicate",
            Self::Reserved => "reserved",
            Self::WrongType => "wrong-type",
        }
    }
}

/// Reads a payload in one pass: strict grammar (RFC 8259), UTF-8, bounded depth.
///
/// Lone surrogates in escapes are accepted, as the RFC does. Only exact names are read; a name that merely folds to one
/// of them is data, because the sidecar decides by the exact one alone.
///
/// # Errors
/// [`ScanError`].
pub fn scan(body: &[u8]) -> Result<Scan<'_>, ScanError> {
    let text = std::str::from_utf8(body).map_err(|_| ScanError::Malformed)?;
    let mut scanner = Scanner {
        text,
        bytes: body,
        at: 0,
    };
    let scan = scanner.document()?;
    scanner.skip_space();
    if scanner.at == body.len() {
        Ok(scan)
    } else {
        Err(ScanError::Malformed)
    }
}

struct Scanner<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
}

/// A string as it stands between its quotes.
struct RawString<'a> {
    raw: &'a str,
    is_escaped: bool,
}

impl<'a> Scanner<'a> {
    fn document(&mut self) -> Result<Scan<'a>, ScanError> {
        self.skip_space();
        self.expect(b'{')?;
        let mut seen = Seen::default();
        let mut stated = Stated::default();
        self.skip_space();
        if self.peek() == Some(b'}') {
            let insert_at = self.at;
            self.at += 1;
            return Ok(Scan {
                insert_at,
                is_empty: true,
                stated,
            });
        }
        loop {
            let name = self.string()?;
            self.skip_space();
            self.expect(b':')?;
            self.skip_space();
            match Member::named(&name)? {
                Member::Data => self.value()?,
                Member::Read(read) => {
                    if !seen.first(read) {
                        return Err(ScanError::Duplicate);
                    }
                    *read.of(&mut stated) = self.stated_value()?;
                }
            }
            self.skip_space();
            let end = self.at;
            match self.next()? {
                b',' => self.skip_space(),
                b'}' => {
                    return Ok(Scan {
                        insert_at: end,
                        is_empty: false,
                        stated,
                    });
                }
                _ => return Err(ScanError::Malformed),
            }
        }
    }

    /// A member's value, with everything in it. The stack of open containers is one bit each: 1 for an object.
    fn value(&mut self) -> Result<(), ScanError> {
        let mut open: u128 = 0;
        let mut depth: u32 = 1;
        loop {
            // A value starts here.
            match self.next()? {
                b'"' => self.string_tail().map(drop)?,
                b'{' => {
                    self.skip_space();
                    if self.peek() == Some(b'}') {
                        self.at += 1;
                        deeper(depth)?;
                    } else {
                        depth = deeper(depth)?;
                        open = (open << 1) | 1;
                        self.name()?;
                        continue;
                    }
                }
                b'[' => {
                    self.skip_space();
                    if self.peek() == Some(b']') {
                        self.at += 1;
                        deeper(depth)?;
                    } else {
                        depth = deeper(depth)?;
                        open <<= 1;
                        continue;
                    }
                }
                b't' => self.literal(b"rue")?,
                b'f' => self.literal(b"alse")?,
                b'n' => self.literal(b"ull")?,
                first => self.number_tail(first)?,
            }
            // A value ended here.
            loop {
                if depth == 1 {
                    return Ok(());
                }
                self.skip_space();
                let in_object = open & 1 == 1;
                match self.next()? {
                    b',' => {
                        self.skip_space();
                        if in_object {
                            self.name()?;
                        }
                        break;
                    }
                    b'}' if in_object => {}
                    b']' if !in_object => {}
                    _ => return Err(ScanError::Malformed),
                }
                open >>= 1;
                depth -= 1;
            }
        }
    }

    /// A member's name, its colon and the space around it.
    fn name(&mut self) -> Result<(), ScanError> {
        self.string()?;
        self.skip_space();
        self.expect(b':')?;
        self.skip_space();
        Ok(())
    }

    /// The value of a member that is read.
    fn stated_value(&mut self) -> Result<Option<Cow<'a, str>>, ScanError> {
        let start = self.at;
        match self.next()? {
            b'"' => {
                let string = self.string_tail()?;
                if string.is_escaped {
                    unescape(string.raw)
                        .map(|text| Some(Cow::Owned(text)))
                        .ok_or(ScanError::WrongType)
                } else {
                    Ok(Some(Cow::Borrowed(string.raw)))
                }
            }
            b'n' => self.literal(b"ull").map(|()| None),
            first @ (b'-' | b'0'..=b'9') => {
                self.number_tail(first)?;
                let number = self.text.get(start..self.at).unwrap_or_default();
                let is_integer = number.bytes().all(|byte| byte == b'-' || byte.is_ascii_digit());
                if is_integer {
                    Ok(Some(Cow::Borrowed(number)))
                } else {
                    Err(ScanError::WrongType)
                }
            }
            b't' | b'f' | b'{' | b'[' => {
                self.at = start;
                self.value()?; // malformed beats wrong
                Err(ScanError::WrongType)
            }
            _ => Err(ScanError::Malformed),
        }
    }

    fn string(&mut self) -> Result<RawString<'a>, ScanError> {
        self.expect(b'"')?;
        self.string_tail()
    }

    /// The rest of a string whose opening quote was taken.
    fn string_tail(&mut self) -> Result<RawString<'a>, ScanError> {
        let start = self.at;
        let mut is_escaped = false;
        loop {
            self.skip_plain();
            match self.next()? {
                b'"' => {
                    let raw = self.text.get(start..self.at - 1).ok_or(ScanError::Malformed)?;
                    return Ok(RawString { raw, is_escaped });
                }
                b'\\' => {
                    is_escaped = true;
                    self.escape()?;
                }
                _ => return Err(ScanError::Malformed), // a control character
            }
        }
    }

    /// Skips to the next quote, backslash or control character: a block at a time where a string is long.
    fn skip_plain(&mut self) {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let is_plain = |byte: &u8| *byte >= 0x20 && *byte != b'"' && *byte != b'\\';
        let mut skipped = rest.iter().take(16).take_while(|byte| is_plain(byte)).count();
        if skipped == 16 {
            let blocks = rest.get(16..).unwrap_or_default().chunks_exact(32);
            // Without a branch in it, a block is checked with vector instructions.
            let plain = blocks
                .take_while(|block| block.iter().fold(true, |all, byte| all & is_plain(byte)))
                .count();
            skipped += plain * 32;
            let tail = rest.get(skipped..).unwrap_or_default();
            skipped += tail.iter().take_while(|byte| is_plain(byte)).count();
        }
        self.at += skipped;
    }

    /// The rest of an escape whose backslash was taken.
    fn escape(&mut self) -> Result<(), ScanError> {
        match self.next()? {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Ok(()),
            b'u' => {
                let digits = self.bytes.get(self.at..self.at + 4).ok_or(ScanError::Malformed)?;
                self.at += 4;
                if digits.iter().all(u8::is_ascii_hexdigit) {
                    Ok(())
                } else {
                    Err(ScanError::Malformed)
                }
            }
            _ => Err(ScanError::Malformed),
        }
    }

    /// The rest of a number whose first byte was taken.
    fn number_tail(&mut self, first: u8) -> Result<(), ScanError> {
        let digit = if first == b'-' { self.next()? } else { first };
        match digit {
            b'0' => {}
            b'1'..=b'9' => self.skip_digits(),
            _ => return Err(ScanError::Malformed),
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    /// At least one digit.
    fn digits(&mut self) -> Result<(), ScanError> {
        if !self.next()?.is_ascii_digit() {
            return Err(ScanError::Malformed);
        }
        self.skip_digits();
        Ok(())
    }

    fn skip_digits(&mut self) {
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
    }

    fn skip_space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    fn literal(&mut self, rest: &[u8]) -> Result<(), ScanError> {
        let end = self.at + rest.len();
        if self.bytes.get(self.at..end) == Some(rest) {
            self.at = end;
            return Ok(());
        }
        Err(ScanError::Malformed)
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn next(&mut self) -> Result<u8, ScanError> {
        let byte = self.peek().ok_or(ScanError::Malformed)?;
        self.at += 1;
        Ok(byte)
    }

    fn expect(&mut self, byte: u8) -> Result<(), ScanError> {
        if self.next()? == byte {
            Ok(())
        } else {
            Err(ScanError::Malformed)
        }
    }
}

fn deeper(depth: u32) -> Result<u32, ScanError> {
    if depth < DEPTH_MAX {
        Ok(depth + 1)
    } else {
        Err(ScanError::TooDeep)
    }
}

/// What a top-level member is to the sidecar.
enum Member {
    /// Nothing.
    Data,
    /// One that it reads.
    Read(Read),
}

/// The members that the sidecar reads.
#[derive(Clone, Copy)]
enum Read {
    Id,
    Installation,
    Organization,
    Project,
    Extension,
    Product,
}

impl Member {
    fn named(name: &RawString<'_>) -> Result<Self, ScanError> {
        let unescaped;
        let name = if name.is_escaped {
            // A name with a lone surrogate equals no name that matters.
            let Some(text) = unescape(name.raw) else {
                return Ok(Self::Data);
            };
            unescaped = text;
            unescaped.as_str()
        } else {
            name.raw
        };
        if folds_to(name, "secrets") || folds_to(name, "secret_status") {
            return Err(ScanError::Reserved);
        }
        Ok(match name {
            "id" => Self::Read(Read::Id),
            "extension_installation_id" => Self::Read(Read::Installation),
            "organization_id" => Self::Read(Read::Organization),
            "project_id" => Self::Read(Read::Project),
            "extension_id" => Self::Read(Read::Extension),
            "product_installation_id" => Self::Read(Read::Product),
            _ => Self::Data,
        })
    }
}

impl Read {
    fn of<'s, 'a>(self, stated: &'s mut Stated<'a>) -> &'s mut Option<Cow<'a, str>> {
        match self {
            Self::Id => &mut stated.id,
            Self::Installation => &mut stated.extension_installation_id,
            Self::Organization => &mut stated.organization_id,
            Self::Project => &mut stated.project_id,
            Self::Extension => &mut stated.extension_id,
            Self::Product => &mut stated.product_installation_id,
        }
    }
}

/// Which members were read already, also those that were null.
#[derive(Default)]
struct Seen(u8);

impl Seen {
    fn first(&mut self, read: Read) -> bool {
        let bit = 1 << read as u8;
        let is_first = self.0 & bit == 0;
        self.0 |= bit;
        is_first
    }
}

/// Whether a name equals an ASCII name in lower case under Unicode simple case folding. Beside the capitals only the
/// long s and the Kelvin sign fold to ASCII.
fn folds_to(name: &str, lower: &str) -> bool {
    if name.is_ascii() {
        return name.eq_ignore_ascii_case(lower);
    }
    let folded = name.chars().map(|c| match c {
        'ſ' => 's',
        '\u{212A}' => 'k',
        other => other.to_ascii_lowercase(),
    });
    folded.eq(lower.chars())
}

/// The text that an escaped string stands for; `None` with a lone surrogate, which is no text.
fn unescape(raw: &str) -> Option<String> {
    let mut quoted = String::with_capacity(raw.len() + 2);
    quoted.push('"');
    quoted.push_str(raw);
    quoted.push('"');
    serde_json::from_str(&quoted).ok()
}

#[cfg(test)]
mod tests;
