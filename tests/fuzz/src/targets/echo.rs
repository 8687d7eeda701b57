//! Whether the guard on answers takes out what a plain search takes out, wherever the answer is cut.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use secrecy::SecretString;

use super::input::Input;
use crate::domain::echo::{EchoPatterns, Redactor, VALUE_BYTES_MIN};
use crate::domain::key::SecretKey;
use crate::domain::resolution::{PayloadSecret, PayloadSecrets};

/// The longest value.
const VALUE_BYTES_MAX: usize = 40;

/// The longest answer.
const TEXT_BYTES_MAX: usize = 512;

/// From here on a byte of an answer's script is a command: a whole form, its beginning, or its end.
const COMMANDS: u8 = 0xf8;

/// What is looked for in the answers of one set of values. Making it costs more than a search: it is kept.
struct Known {
    patterns: Option<Arc<EchoPatterns>>,
    /// Key and form, by the forms' first bytes, the longest first.
    forms: Vec<(usize, Vec<u8>)>,
}

/// So many sets are kept at most.
const KNOWN_MAX: usize = 2_000;

thread_local! {
    static KNOWN: RefCell<HashMap<Vec<String>, Rc<Known>>> = RefCell::default();
}

/// Reads: how many values; each value and the sizes of the pieces in a line of its own; what the answer is made of.
pub fn hold(data: &[u8]) {
    let mut input = Input::new(data);
    let count = 1 + input.below(3);
    let lines: Vec<_> = (0..count).map(|_| std::str::from_utf8(input.line())).collect();
    let Ok(lines) = lines.into_iter().collect::<Result<Vec<_>, _>>() else {
        return;
    };
    let values: Vec<String> = lines.into_iter().map(|line| line.replace('\u{b}', "\n")).collect();
    if values.iter().any(|value| value.len() > VALUE_BYTES_MAX) {
        return;
    }
    let sizes = input.line();
    let known = known(values);
    let text = text(&mut input, &known.forms);
    let (expected, keys) = naive(&text, &known.forms);
    let Some(patterns) = &known.patterns else {
        assert!(keys.is_empty());
        return;
    };
    let named = |found: &[usize]| {
        found
            .iter()
            .map(|key| patterns.keys()[*key].to_string())
            .collect::<Vec<_>>()
    };
    let (whole, found) = patterns.redact(&text).unwrap_or_else(|| (text.clone(), Vec::new()));
    assert_eq!(whole, expected);
    assert_eq!(named(&found), keys);

    let mut redactor = Redactor::new(Arc::clone(patterns));
    let mut streamed: Vec<u8> = pieces(&text, sizes).flat_map(|piece| redactor.push(piece)).collect();
    streamed.extend(redactor.end());
    assert_eq!(streamed, expected, "in pieces it is another answer");
    assert_eq!(named(redactor.found()), keys);
}

fn known(values: Vec<String>) -> Rc<Known> {
    KNOWN.with_borrow_mut(|all| {
        if all.len() >= KNOWN_MAX {
            all.clear();
        }
        let made = all.entry(values).or_insert_with_key(|values| {
            let long = values
                .iter()
                .enumerate()
                .filter(|(_, value)| value.len() >= VALUE_BYTES_MIN);
            let each = long.flat_map(|(key, value)| forms(value).into_iter().map(move |form| (key, form)));
            let mut forms: Vec<_> = each.collect();
            forms.sort_by_key(|(_, form)| (form[0], std::cmp::Reverse(form.len())));
            Rc::new(Known {
                patterns: patterns(values).map(Arc::new),
                forms,
            })
        });
        Rc::clone(made)
    })
}

fn patterns(values: &[String]) -> Option<EchoPatterns> {
    let mut secrets = PayloadSecrets::default();
    for (n, value) in values.iter().enumerate() {
        secrets.insert(PayloadSecret {
            key: SecretKey::parse(&format!("K{n}")).expect("a key"),
            value: SecretString::from(value.as_str()),
        });
    }
    EchoPatterns::new(&secrets)
}

/// An answer: bytes as they are, and forms or parts of them where the script says so.
fn text(input: &mut Input<'_>, forms: &[(usize, Vec<u8>)]) -> Vec<u8> {
    let mut text = Vec::new();
    while !input.is_empty() && text.len() < TEXT_BYTES_MAX {
        let byte = input.byte();
        if byte < COMMANDS || forms.is_empty() {
            text.push(byte);
            continue;
        }
        let (_, form) = &forms[input.below(forms.len())];
        match byte % 3 {
            0 => text.extend_from_slice(form),
            1 => text.extend_from_slice(&form[..input.below(form.len())]),
            _ => text.extend_from_slice(&form[input.below(form.len())..]),
        }
    }
    text
}

/// A text in pieces of these sizes, over and over; in one piece without sizes.
fn pieces<'a>(text: &'a [u8], sizes: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    let mut rest = text;
    let mut sizes = sizes.iter().cycle();
    std::iter::from_fn(move || {
        let size = sizes.next().map_or(rest.len(), |size| 1 + usize::from(*size));
        let (piece, after) = rest.split_at(size.min(rest.len()));
        rest = after;
        (!piece.is_empty()).then_some(piece)
    })
}

/// At every place the longest form that stands there, the first key's of equal ones.
fn naive(text: &[u8], forms: &[(usize, Vec<u8>)]) -> (Vec<u8>, Vec<String>) {
    let (mut out, mut keys, mut at) = (Vec::new(), Vec::new(), 0);
    while let Some(byte) = text.get(at) {
        let first = forms.partition_point(|(_, form)| form[0] < *byte);
        let mut same = forms[first..].iter().take_while(|(_, form)| form[0] == *byte);
        match same.find(|(_, form)| text[at..].starts_with(form)) {
            Some((key, form)) => {
                keys.push(format!("K{key}"));
                out.extend_from_slice(format!("[redacted:K{key}]").as_bytes());
                at += form.len();
            }
            None => {
                out.push(*byte);
                at += 1;
            }
        }
    }
    (out, keys)
}

/// The forms of the contract (section 5), each by a rule of its own.
fn forms(value: &str) -> Vec<Vec<u8>> {
    let mut all = vec![value.as_bytes().to_vec()];
    for slash in [false, true] {
        for markup in [false, true] {
            all.push(json(value, false, false, slash, markup));
            all.push(json(value, true, false, slash, markup));
            all.push(json(value, true, true, slash, markup));
        }
    }
    for is_upper in [false, true] {
        // RFC 3986; Python's `quote`; JavaScript's `encodeURIComponent`.
        for kept in ["-._~", "-._~/", "-_.!~*'()"] {
            all.push(percent(value, kept, is_upper));
        }
        // The URL standard's form encoding; Python's `quote_plus`.
        for kept in ["*-._ ", "-._~ "] {
            all.push(
                percent(value, kept, is_upper)
                    .iter()
                    .map(|b| if *b == b' ' { b'+' } else { *b })
                    .collect(),
            );
        }
        all.push(
            value
                .bytes()
                .flat_map(|byte| hex(byte, is_upper).into_bytes())
                .collect(),
        );
    }
    for skipped in 0..3 {
        all.push(base64(value, skipped, b"+/"));
        all.push(base64(value, skipped, b"-_"));
    }
    all.sort();
    all.dedup();
    all
}

fn hex(byte: u8, is_upper: bool) -> String {
    if is_upper {
        format!("{byte:02X}")
    } else {
        format!("{byte:02x}")
    }
}

fn json(value: &str, ascii: bool, is_upper: bool, slash: bool, markup: bool) -> Vec<u8> {
    let mut out = String::new();
    for character in value.chars() {
        let is_markup = markup && "<>&\u{2028}\u{2029}".contains(character);
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\u{c}' => out.push_str("\\f"),
            '\r' => out.push_str("\\r"),
            '/' if slash => out.push_str("\\/"),
            plain if plain >= ' ' && !is_markup && (!ascii || plain <= '~') => out.push(plain),
            escaped => {
                for unit in escaped.encode_utf16(&mut [0; 2]) {
                    let [high, low] = unit.to_be_bytes();
                    out.push_str(&format!("\\u{}{}", hex(high, is_upper), hex(low, is_upper)));
                }
            }
        }
    }
    out.into_bytes()
}

fn percent(value: &str, kept: &str, is_upper: bool) -> Vec<u8> {
    let mut out = String::new();
    for byte in value.bytes() {
        let character = char::from(byte);
        if byte.is_ascii_alphanumeric() || kept.contains(character) {
            out.push(character);
        } else {
            out.push_str(&format!("%{}", hex(byte, is_upper)));
        }
    }
    out.into_bytes()
}

/// Those digits of which every bit is the value's, where `skipped` bytes stand before it in its group.
fn base64(value: &str, skipped: usize, last_two: &[u8; 2]) -> Vec<u8> {
    let bit = |at: usize| {
        let byte = value.as_bytes().get((at / 8).checked_sub(skipped)?)?;
        Some(byte >> (7 - at % 8) & 1)
    };
    let digit = |place: usize| {
        let number = (place * 6..place * 6 + 6).try_fold(0, |number, at| Some(number << 1 | bit(at)?))?;
        Some(match number {
            0..26 => b'A' + number,
            26..52 => b'a' + number - 26,
            52..62 => b'0' + number - 52,
            _ => last_two[usize::from(number - 62)],
        })
    };
    (0..(value.len() + skipped) * 8 / 6).filter_map(digit).collect()
}
