//! What is inserted: the two members as one line, rendered once per change.

use secrecy::ExposeSecret;
use zeroize::Zeroizing;

use crate::domain::key::SecretKey;
use crate::domain::resolution::PayloadSecrets;

/// Renders `,"secrets":{…},"secret_status":{"missing":[…]}`. `missing` is given sorted. The buffer never grows, so that
/// no copy of a value is left behind, and is wiped when dropped.
#[must_use]
pub fn fragment(secrets: &PayloadSecrets, missing: &[SecretKey]) -> Zeroizing<Vec<u8>> {
    let mut measure = Measure(0);
    render(secrets, missing, &mut measure);
    let mut rendered = Zeroizing::new(Vec::with_capacity(measure.0));
    render(secrets, missing, &mut *rendered);
    rendered
}

/// Up to where the rendered `secrets` member goes, which is where values belong.
#[must_use]
pub fn slot_end(fragment: &[u8]) -> usize {
    // No value can look like it: its quotes are escaped.
    let found = fragment.windows(STATUS.len()).rposition(|window| window == STATUS);
    found.map_or(0, |at| at + 1)
}

/// What stands between the values and the missing keys.
const STATUS: &[u8] = b"},\"secret_status\":{\"missing\":[";

/// Where rendered bytes go.
trait Sink {
    fn put(&mut self, bytes: &[u8]);
}

struct Measure(usize);

impl Sink for Measure {
    fn put(&mut self, bytes: &[u8]) {
        self.0 += bytes.len();
    }
}

impl Sink for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

fn render(secrets: &PayloadSecrets, missing: &[SecretKey], to: &mut impl Sink) {
    to.put(b",\"secrets\":{");
    for (n, (key, value)) in secrets.iter().enumerate() {
        to.put(if n == 0 { b"\"" } else { b",\"" });
        to.put(key.as_str().as_bytes()); // a key needs no escapes
        to.put(b"\":\"");
        escape(value.expose_secret(), to);
        to.put(b"\"");
    }
    to.put(STATUS);
    for (n, key) in missing.iter().enumerate() {
        to.put(if n == 0 { b"\"" } else { b",\"" });
        to.put(key.as_str().as_bytes());
        to.put(b"\"");
    }
    to.put(b"]}");
}

/// Escapes what a JSON string cannot hold (RFC 8259, section 7) and nothing else.
fn escape(text: &str, to: &mut impl Sink) {
    let mut rest = text.as_bytes();
    while let Some(at) = rest
        .iter()
        .position(|byte| *byte < 0x20 || matches!(byte, b'"' | b'\\'))
    {
        let (plain, special) = rest.split_at(at);
        to.put(plain);
        let Some((byte, after)) = special.split_first() else {
            return;
        };
        match byte {
            b'"' => to.put(b"\\\""),
            b'\\' => to.put(b"\\\\"),
            b'\n' => to.put(b"\\n"),
            b'\r' => to.put(b"\\r"),
            b'\t' => to.put(b"\\t"),
            other => {
                let hex = |nibble: u8| if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 };
                to.put(&[b'\\', b'u', b'0', b'0', hex(other >> 4), hex(other & 0xf)]);
            }
        }
        rest = after;
    }
    to.put(rest);
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use proptest::prelude::*;
    use secrecy::SecretString;

    use super::*;
    use crate::domain::resolution::PayloadSecret;

    fn secrets(pairs: &[(&str, &str)]) -> PayloadSecrets {
        let mut all = PayloadSecrets::default();
        for (key, value) in pairs {
            all.insert(PayloadSecret {
                key: SecretKey::parse(key).unwrap(),
                value: SecretString::from(*value),
            });
        }
        all
    }

    #[test]
    fn both_members_are_always_there_in_one_line() {
        let none = fragment(&PayloadSecrets::default(), &[]);
        assert_eq!(none.as_slice(), br#","secrets":{},"secret_status":{"missing":[]}"#);
        let missing = ["M", "N"].map(|key| SecretKey::parse(key).unwrap());
        let some = fragment(&secrets(&[("B", "2"), ("A", "a\"\\\n\u{1}é")]), &missing);
        let expected =
            ",\"secrets\":{\"A\":\"a\\\"\\\\\\n\\u0001é\",\"B\":\"2\"},\"secret_status\":{\"missing\":[\"M\",\"N\"]}";
        assert_eq!(std::str::from_utf8(&some).unwrap(), expected);
    }

    proptest! {
        #[test]
        fn any_value_comes_out_as_it_went_in_and_the_buffer_never_grew(value in any::<String>()) {
            let rendered = fragment(&secrets(&[("KEY", &value)]), &[]);
            prop_assert_eq!(rendered.capacity(), rendered.len());
            let object = format!("{{\"a\":1{}}}", std::str::from_utf8(&rendered).unwrap());
            let parsed: serde_json::Value = serde_json::from_str(&object).unwrap();
            prop_assert_eq!(parsed["secrets"]["KEY"].as_str(), Some(value.as_str()));
        }
    }
}
