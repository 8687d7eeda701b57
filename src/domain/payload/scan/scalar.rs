//! How a payload is read byte by byte: the twin that decides, and that names the fault.

use std::borrow::Cow;

use super::member::{Member, RawString, ReadMembers};
use super::{DEPTH_MAX, Reads, Scan, ScanError};
use crate::domain::runtime_token::PresentedToken;

/// Reads a whole payload.
pub(super) fn scan(body: &[u8], reads: Reads) -> Result<Scan<'_>, ScanError> {
    let text = simdutf8::basic::from_utf8(body).map_err(|_| ScanError::Malformed)?;
    let mut scanner = Scanner::new(text);
    let scan = scanner.document(reads)?;
    scanner.skip_space();
    if scanner.at == body.len() {
        Ok(scan)
    } else {
        Err(ScanError::Malformed)
    }
}

/// A place in a payload.
pub(super) struct Scanner<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Scanner<'a> {
    /// The start of a payload.
    pub(super) fn new(text: &'a str) -> Self {
        Self {
            text,
            bytes: text.as_bytes(),
            at: 0,
        }
    }

    fn document(&mut self, reads: Reads) -> Result<Scan<'a>, ScanError> {
        let mut read = ReadMembers::none(reads);
        if self.is_empty_object()? {
            let insert_at = self.at;
            self.at += 1;
            return Ok(Scan {
                insert_at,
                is_empty: true,
                stated: read.stated,
            });
        }
        loop {
            if !self.member(&mut read)? {
                self.value(1)?;
            }
            self.skip_space();
            let end = self.at;
            match self.next()? {
                b',' => self.skip_space(),
                b'}' => {
                    return Ok(Scan {
                        insert_at: end,
                        is_empty: false,
                        stated: read.stated,
                    });
                }
                _ => return Err(ScanError::Malformed),
            }
        }
    }

    /// Takes an object's brace and goes to what follows: whether that is the closing one.
    pub(super) fn is_empty_object(&mut self) -> Result<bool, ScanError> {
        self.skip_space();
        self.expect(b'{')?;
        self.skip_space();
        Ok(self.peek() == Some(b'}'))
    }

    /// A top-level member, which starts at an offset.
    pub(super) fn member_at(&mut self, at: usize, read: &mut ReadMembers<'a>) -> Result<bool, ScanError> {
        self.at = at;
        self.member(read)
    }

    /// A top-level member's name and colon, and its value if the sidecar reads it; whether it did.
    fn member(&mut self, read: &mut ReadMembers<'a>) -> Result<bool, ScanError> {
        let name = self.name()?;
        match Member::named(&name, read.reads)? {
            Member::Data => Ok(false),
            Member::Read(member) => {
                if !read.seen.first(member) {
                    return Err(ScanError::Duplicate);
                }
                *member.of(&mut read.stated) = self.stated_value()?;
                Ok(true)
            }
            Member::Authentication => {
                if !read.seen.first_authentication() {
                    return Err(ScanError::Duplicate);
                }
                read.stated.runtime_token = self.authentication()?;
                Ok(true)
            }
        }
    }

    /// A value in a container of this depth, with everything in it. The stack of open containers is one bit each: 1 for
    /// an object.
    fn value(&mut self, within: u32) -> Result<(), ScanError> {
        let mut open: u128 = 0;
        let mut depth = within;
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
                if depth == within {
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
    fn name(&mut self) -> Result<RawString<'a>, ScanError> {
        let name = self.string()?;
        self.skip_space();
        self.expect(b':')?;
        self.skip_space();
        Ok(name)
    }

    /// The value of a member that is read.
    fn stated_value(&mut self) -> Result<Option<Cow<'a, str>>, ScanError> {
        let start = self.at;
        match self.next()? {
            b'"' => self.string_tail()?.text().map(Some).ok_or(ScanError::WrongType),
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
                self.value(1)?; // malformed beats wrong
                Err(ScanError::WrongType)
            }
            _ => Err(ScanError::Malformed),
        }
    }

    /// The object that holds the runtime token: goes through its members, and reads that one.
    fn authentication(&mut self) -> Result<Option<PresentedToken<'a>>, ScanError> {
        if self.peek() != Some(b'{') {
            return self.null_or_wrong(1).map(|()| None);
        }
        let depth = deeper(1)?;
        if self.is_empty_object()? {
            self.at += 1;
            return Ok(None);
        }
        let mut token = None;
        let mut is_read = false;
        loop {
            let name = self.name()?.text();
            if name.as_deref() == Some("runtime_token") {
                if std::mem::replace(&mut is_read, true) {
                    return Err(ScanError::Duplicate);
                }
                token = self.token(depth)?;
            } else {
                self.value(depth)?;
            }
            self.skip_space();
            match self.next()? {
                b',' => self.skip_space(),
                b'}' => return Ok(token),
                _ => return Err(ScanError::Malformed),
            }
        }
    }

    fn token(&mut self, depth: u32) -> Result<Option<PresentedToken<'a>>, ScanError> {
        if self.peek() != Some(b'"') {
            return self.null_or_wrong(depth).map(|()| None);
        }
        let text = self.string()?.text().ok_or(ScanError::WrongType)?;
        Ok(Some(PresentedToken::new(text)))
    }

    /// A value that is of the wrong type unless it is null. Malformed beats wrong.
    fn null_or_wrong(&mut self, within: u32) -> Result<(), ScanError> {
        let is_null = self.peek() == Some(b'n');
        self.value(within)?;
        if is_null { Ok(()) } else { Err(ScanError::WrongType) }
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
