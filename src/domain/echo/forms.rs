//! In which forms a value comes back: as it is, and as encoders for JSON, URLs, hexadecimal and base64 write it.

use data_encoding::{BASE64_NOPAD, BASE64URL_NOPAD};
use zeroize::Zeroizing;

/// One way to write a value.
pub(super) type Form = Zeroizing<Vec<u8>>;

const LOWER: &[u8; 16] = b"0123456789abcdef";
const UPPER: &[u8; 16] = b"0123456789ABCDEF";

/// What percent-encoders leave as it is, beside letters and digits: RFC 3986, Python's `quote`, JavaScript's
/// `encodeURIComponent`.
const UNRESERVED: [&[u8]; 3] = [b"-._~", b"-._~/", b"-_.!~*'()"];

/// What form encoders leave as it is, beside letters and digits; a space becomes a plus.
const FORM_UNRESERVED: [&[u8]; 2] = [b"-._*", b"-._~"];

/// Every form of a value, each once. For most values many of them are the same.
pub(super) fn forms(value: &str) -> Vec<Form> {
    let mut all: Vec<Form> = vec![Zeroizing::new(value.as_bytes().to_vec())];
    let mut add = |form: Form| {
        if !all.contains(&form) {
            all.push(form);
        }
    };
    for slash in [false, true] {
        for markup in [false, true] {
            add(json(
                value,
                Escapes {
                    ascii: None,
                    slash,
                    markup,
                },
            ));
            for digits in [LOWER, UPPER] {
                let ascii = Some(digits);
                add(json(value, Escapes { ascii, slash, markup }));
            }
        }
    }
    for digits in [LOWER, UPPER] {
        for kept in UNRESERVED {
            add(percent(value, kept, false, digits));
        }
        for kept in FORM_UNRESERVED {
            add(percent(value, kept, true, digits));
        }
        add(hex(value, digits));
    }
    for skipped in 0..3 {
        add(base64(value, skipped, &BASE64_NOPAD));
        add(base64(value, skipped, &BASE64URL_NOPAD));
    }
    all
}

/// What a JSON encoder escapes beside what it must (RFC 8259, section 7).
#[derive(Clone, Copy)]
struct Escapes {
    /// All that is not ASCII, with these digits.
    ascii: Option<&'static [u8; 16]>,
    /// `/`, as encoders do that write for HTML.
    slash: bool,
    /// `<`, `>` and `&`, as Go and Rails do.
    markup: bool,
}

fn json(value: &str, escapes: Escapes) -> Form {
    let mut form = room(value.len() * 6);
    let digits = escapes.ascii.unwrap_or(LOWER);
    for character in value.chars() {
        let short = match character {
            '"' => Some(b'"'),
            '\\' => Some(b'\\'),
            '\u{8}' => Some(b'b'),
            '\t' => Some(b't'),
            '\n' => Some(b'n'),
            '\u{c}' => Some(b'f'),
            '\r' => Some(b'r'),
            '/' if escapes.slash => Some(b'/'),
            _ => None,
        };
        let is_markup = matches!(character, '<' | '>' | '&' | '\u{2028}' | '\u{2029}');
        let is_escaped =
            character < ' ' || (escapes.ascii.is_some() && character > '~') || (escapes.markup && is_markup);
        if let Some(short) = short {
            form.extend_from_slice(&[b'\\', short]);
        } else if is_escaped {
            for unit in character.encode_utf16(&mut [0; 2]) {
                form.extend_from_slice(b"\\u");
                for shift in [12, 8, 4, 0] {
                    form.push(digit(digits, *unit >> shift));
                }
            }
        } else {
            form.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        }
    }
    form
}

fn percent(value: &str, kept: &[u8], plus: bool, digits: &[u8; 16]) -> Form {
    let mut form = room(value.len() * 3);
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || kept.contains(&byte) {
            form.push(byte);
        } else if byte == b' ' && plus {
            form.push(b'+');
        } else {
            form.push(b'%');
            form.extend_from_slice(&two(digits, byte));
        }
    }
    form
}

fn hex(value: &str, digits: &[u8; 16]) -> Form {
    let mut form = room(value.len() * 2);
    for byte in value.bytes() {
        form.extend_from_slice(&two(digits, byte));
    }
    form
}

/// The digits that a value alone decides where `skipped` bytes of something else stand before it in its group: the
/// first and the last digit may carry bits of a neighbour and are left out.
fn base64(value: &str, skipped: usize, encoding: &data_encoding::Encoding) -> Form {
    let mut all = room(skipped + value.len());
    all.resize(skipped, 0);
    all.extend_from_slice(value.as_bytes());
    let mut encoded = Zeroizing::new(vec![0; encoding.encode_len(all.len())]);
    encoding.encode_mut(&all, &mut encoded);
    let first = (skipped * 8).div_ceil(6);
    let last = all.len() * 8 / 6;
    Zeroizing::new(encoded.get(first..last).unwrap_or_default().to_vec())
}

/// A buffer that never grows, so that no copy is left behind.
fn room(bytes: usize) -> Form {
    Zeroizing::new(Vec::with_capacity(bytes))
}

fn two(digits: &[u8; 16], byte: u8) -> [u8; 2] {
    [digit(digits, u16::from(byte) >> 4), digit(digits, u16::from(byte))]
}

fn digit(digits: &[u8; 16], low: u16) -> u8 {
    digits.get(usize::from(low & 15)).copied().unwrap_or_default()
}
