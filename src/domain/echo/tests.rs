//! Whether every form of a value is found, and nothing else, wherever a text is cut.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::sync::Arc;

use proptest::prelude::*;
use secrecy::SecretString;

use super::forms::forms;
use super::*;
use crate::domain::key::SecretKey;
use crate::domain::resolution::{PayloadSecret, PayloadSecrets};

fn patterns(values: &[&str]) -> EchoPatterns {
    let mut secrets = PayloadSecrets::default();
    for (n, value) in values.iter().enumerate() {
        secrets.insert(PayloadSecret {
            key: SecretKey::parse(&format!("K{n}")).unwrap(),
            value: SecretString::from(*value),
        });
    }
    EchoPatterns::new(&secrets).unwrap()
}

/// What the guard has to do, written down as plainly as it can be.
fn naive(values: &[&str], text: &[u8]) -> Vec<u8> {
    let mut all: Vec<(usize, Vec<u8>)> = Vec::new();
    for (n, value) in values.iter().enumerate().filter(|(_, value)| value.len() >= 8) {
        all.extend(forms(value).iter().map(|form| (n, form.to_vec())));
    }
    all.sort_by_key(|(_, form)| std::cmp::Reverse(form.len())); // stable: the first key wins
    let (mut out, mut at) = (Vec::new(), 0);
    while at < text.len() {
        match all.iter().find(|(_, form)| text[at..].starts_with(form)) {
            Some((n, form)) => {
                out.extend_from_slice(format!("[redacted:K{n}]").as_bytes());
                at += form.len();
            }
            None => {
                out.push(text[at]);
                at += 1;
            }
        }
    }
    out
}

fn whole(patterns: &EchoPatterns, text: &[u8]) -> Vec<u8> {
    patterns.redact(text).map_or_else(|| text.to_vec(), |(out, _)| out)
}

fn in_pieces(patterns: &Arc<EchoPatterns>, pieces: &[&[u8]]) -> Vec<u8> {
    let mut redactor = Redactor::new(Arc::clone(patterns));
    let mut out: Vec<u8> = pieces.iter().flat_map(|piece| redactor.push(piece)).collect();
    out.extend(redactor.end());
    out
}

const VALUE: &str = "s3cr\u{e9}t/\"v\u{1f511} & <more>";

#[test]
fn every_form_is_redacted_wherever_it_stands_and_wherever_the_text_is_cut() {
    let patterns = Arc::new(patterns(&[VALUE]));
    for form in forms(VALUE) {
        let text = [b"before ".as_slice(), &form, b" after"].concat();
        let expected = b"before [redacted:K0] after";
        assert_eq!(whole(&patterns, &text), expected);
        for cut in 0..=text.len() {
            let (one, other) = text.split_at(cut);
            assert_eq!(in_pieces(&patterns, &[one, other]), expected, "cut at {cut}");
        }
        let bytes: Vec<&[u8]> = text.chunks(1).collect();
        assert_eq!(in_pieces(&patterns, &bytes), expected, "byte by byte");
    }
}

#[test]
fn the_forms_are_those_that_encoders_write() {
    let written = forms("a/b c\u{e9}d\"efg");
    for expected in [
        "a/b c\u{e9}d\"efg",
        r#"a/b c\u00e9d\"efg"#,
        r#"a/b c\u00E9d\"efg"#,
        r#"a\/b c\u00e9d\"efg"#,
        "a\\/b c\u{e9}d\\\"efg",
        "a%2Fb%20c%C3%A9d%22efg",
        "a%2fb%20c%c3%a9d%22efg",
        "a/b%20c%C3%A9d%22efg",
        "a%2Fb+c%C3%A9d%22efg",
        "612f622063c3a96422656667",
        "612F622063C3A96422656667",
        "YS9iIGPDqWQiZWZn",
    ] {
        let is_there = written.iter().any(|form| form.as_slice() == expected.as_bytes());
        assert!(is_there, "{expected}");
    }
}

#[test]
fn base64_is_known_again_in_all_three_alignments() {
    let patterns = patterns(&["a-value-of-some-length?>~"]);
    for before in ["", "x", "xy", "xyz", "xyzw"] {
        for after in ["", "1", "12", "123"] {
            let text = format!("{before}a-value-of-some-length?>~{after}");
            for encoding in [data_encoding::BASE64, data_encoding::BASE64URL] {
                let encoded = encoding.encode(text.as_bytes());
                let out = whole(&patterns, encoded.as_bytes());
                let out = String::from_utf8(out).unwrap();
                assert!(
                    out.contains("[redacted:K0]") && out.len() < encoded.len(),
                    "{encoded}: {out}"
                );
            }
        }
    }
}

#[test]
fn values_under_eight_bytes_are_not_looked_for() {
    assert!(EchoPatterns::new(&PayloadSecrets::default()).is_none());
    let both = patterns(&["1234567", "12345678"]);
    assert_eq!(both.keys().len(), 1);
    assert_eq!(whole(&both, b"1234567 12345678"), b"1234567 [redacted:K1]");
}

#[test]
fn of_values_that_start_together_the_longer_is_taken() {
    let patterns = Arc::new(patterns(&["abcdefgh", "abcdefghijklmnop"]));
    assert_eq!(whole(&patterns, b"abcdefghijklmnop"), b"[redacted:K1]");
    assert_eq!(whole(&patterns, b"abcdefghijklmno"), b"[redacted:K0]ijklmno");
    assert_eq!(
        in_pieces(&patterns, &[b"abcdefghij", b"klmno"]),
        b"[redacted:K0]ijklmno"
    );
}

#[test]
fn no_more_is_held_back_than_what_may_begin_a_value() {
    let patterns = Arc::new(patterns(&["a-value-of-twenty-two-b"]));
    let mut redactor = Redactor::new(Arc::clone(&patterns));
    let passed = redactor.push(&[b'.'; 1_000]).len();
    assert!(passed > 1_000 - 64, "{passed}");
    let mut redactor = Redactor::new(patterns);
    assert_eq!(redactor.push(b"a-value-of-twenty"), b"");
    assert_eq!(
        redactor
            .push(b" and something else, for quite a while, that is none")
            .get(..12),
        Some(&b"a-value-of-t"[..])
    );
}

/// Texts made of what could be mistaken: values, pieces of values, and other things.
fn texts() -> impl Strategy<Value = (Vec<String>, Vec<u8>, Vec<usize>)> {
    let value = prop_oneof!["[ab]{8,24}", "[a-z\"/ <%+=é\u{1f511}]{8,40}", "[A-Za-z0-9_-]{20,60}",];
    prop::collection::vec(value, 1..4).prop_flat_map(|values| {
        let mut parts: Vec<Vec<u8>> = values.iter().flat_map(|v| forms(v)).map(|form| form.to_vec()).collect();
        let halves: Vec<Vec<u8>> = parts.iter().map(|part| part[..part.len() / 2].to_vec()).collect();
        let ends: Vec<Vec<u8>> = parts.iter().map(|part| part[part.len() / 2..].to_vec()).collect();
        parts.extend(halves);
        parts.extend(ends);
        parts.extend([b" ".to_vec(), b"ab".to_vec(), b"%".to_vec(), b"\\".to_vec(), vec![0xff]]);
        let text = prop::collection::vec(prop::sample::select(parts), 0..12).prop_map(|parts| parts.concat());
        (Just(values), text, prop::collection::vec(1_usize..40, 1..6))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whole_or_in_pieces_it_does_what_a_naive_search_does((values, text, sizes) in texts()) {
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        let expected = naive(&values, &text);
        let patterns = Arc::new(patterns(&values));
        prop_assert_eq!(whole(&patterns, &text), expected.clone());
        let (mut pieces, mut rest): (Vec<&[u8]>, &[u8]) = (Vec::new(), &text);
        for size in sizes.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, after) = rest.split_at((*size).min(rest.len()));
            pieces.push(piece);
            rest = after;
        }
        prop_assert_eq!(in_pieces(&patterns, &pieces), expected);
    }
}
