//! How a text is found again wherever it may have got to, in whatever form it was written down there.

use data_encoding::{BASE64_NOPAD, BASE64URL_NOPAD, HEXLOWER, HEXUPPER};

/// A text that must not come out, and what to look for.
pub struct Canary {
    pub text: String,
    needles: Vec<(&'static str, String)>,
}

impl Canary {
    /// Any text with a word in it that begins with `cnry-`. The word is looked for by itself as well: a text that was
    /// cut or escaped in a way that nobody thought of still has it.
    pub fn new(text: &str) -> Self {
        let word = &text[text.find("cnry-").expect("a canary")..];
        let end = word.find(|c: char| !c.is_ascii_alphanumeric() && c != '-');
        let mut needles = forms(&word[..end.unwrap_or(word.len())]);
        needles.extend(forms(text));
        Self {
            text: text.to_owned(),
            needles,
        }
    }

    /// The form in which it stands in these bytes, if it does.
    pub fn found_in(&self, bytes: &[u8]) -> Option<&'static str> {
        let text = String::from_utf8_lossy(bytes);
        let found = self.needles.iter().find(|(_, needle)| text.contains(needle.as_str()));
        found.map(|(form, _)| *form)
    }
}

/// A text as it is, and as logs, answers and files may have it.
fn forms(text: &str) -> Vec<(&'static str, String)> {
    let json = serde_json::to_string(text).unwrap();
    let json = json[1..json.len() - 1].to_owned();
    let ascii = |unit: fn(u16) -> String| {
        let escaped = json.chars().map(|c| {
            let mut units = [0; 2];
            let units = c.encode_utf16(&mut units).iter();
            if c.is_ascii() {
                c.to_string()
            } else {
                units.map(|u| unit(*u)).collect()
            }
        });
        escaped.collect::<String>()
    };
    let percent = |byte: fn(u8) -> String| {
        let bytes = text.bytes().map(|b| match b {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(b).to_string(),
            other => byte(other),
        });
        bytes.collect::<String>()
    };
    let mut forms = vec![
        ("raw", text.to_owned()),
        ("debug", text.escape_debug().to_string()),
        ("json", json.clone()),
        ("json, slashes", json.replace('/', "\\/")),
        ("json, ascii", ascii(|unit| format!("\\u{unit:04x}"))),
        ("json, ascii", ascii(|unit| format!("\\u{unit:04X}"))),
        ("percent", percent(|byte| format!("%{byte:02x}"))),
        ("percent", percent(|byte| format!("%{byte:02X}"))),
        ("form", percent(|byte| format!("%{byte:02X}")).replace("%20", "+")),
        ("hex", HEXLOWER.encode(text.as_bytes())),
        ("hex", HEXUPPER.encode(text.as_bytes())),
    ];
    for (before, first) in [(0, 0), (1, 2), (2, 3)] {
        let mut bytes = vec![0; before];
        bytes.extend_from_slice(text.as_bytes());
        let whole = bytes.len() * 8 / 6; // characters that hold nothing of what may follow
        forms.push(("base64", BASE64_NOPAD.encode(&bytes)[first..whole].to_owned()));
        forms.push(("base64url", BASE64URL_NOPAD.encode(&bytes)[first..whole].to_owned()));
    }
    forms
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_canary_is_found_in_every_form_and_at_every_alignment() {
        let text = "cnry-x1/\u{fc} \"\u{1f511}\\";
        let canary = Canary::new(text);
        let around = |inner: &str| format!("<{inner}>").into_bytes();
        let written_by_hand = [
            "cnry-x1/\u{fc} \"\u{1f511}\\",
            "cnry-x1/\u{fc} \\\"\u{1f511}\\\\",
            "cnry-x1\\/\\u00fc \\\"\\ud83d\\udd11\\\\",
            "636E72792D78312F",
            "636e72792d78312f",
            "cnry-x1%2f%c3%bc%20%22",
            "cnry-x1%2F%C3%BC+%22",
        ];
        for form in written_by_hand {
            assert!(canary.found_in(&around(form)).is_some(), "{form}");
        }
        for before in ["", "a", "ab", "abc"] {
            for after in ["", "z", "yz"] {
                let bytes = format!("{before}{text}{after}").into_bytes();
                assert!(
                    canary.found_in(&around(&BASE64_NOPAD.encode(&bytes))).is_some(),
                    "{before} {after}"
                );
                assert!(canary.found_in(&around(&BASE64URL_NOPAD.encode(&bytes))).is_some());
            }
        }
        for other in ["cnry-x", "nry-x1", "Y25yeS14", ""] {
            assert_eq!(canary.found_in(&around(other)), None, "{other}");
        }
    }
}
