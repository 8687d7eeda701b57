//! Whether a request carries a secret where none belongs: a value outside of the inserted member, or one of those that
//! no request may carry.
//!
//! An injected value belongs in the `secrets` member, which is its slot as a whole: two keys may well have one value. It
//! belongs nowhere else, also not where the dispatcher put it: then the dispatcher, and whoever stores what it sends,
//! has a secret that only endpoints should see. What signs or is shown in handshakes belongs nowhere at all: not in the
//! inserted member, although another key may have the same value, and not in the dispatcher's own part of the payload,
//! since whoever can put it there can sign.

use std::sync::Arc;

use super::echo::EchoPatterns;
use super::key::SecretKey;
use super::payload::{Enriched, slot_end};

/// All that is looked for in the requests to one installation.
pub struct LeakPatterns {
    /// What belongs in the inserted member.
    injected: Option<Arc<EchoPatterns>>,
    /// What belongs nowhere.
    withheld: Option<EchoPatterns>,
}

impl LeakPatterns {
    /// `None` where there is nothing to look for.
    #[must_use]
    pub fn new(injected: Option<Arc<EchoPatterns>>, withheld: Option<EchoPatterns>) -> Option<Self> {
        (injected.is_some() || withheld.is_some()).then_some(Self { injected, withheld })
    }

    /// The key of a value that stands in this body where it does not belong.
    #[must_use]
    pub fn in_body(&self, body: &Enriched) -> Option<&SecretKey> {
        let [before, inserted, after] = body.pieces();
        let (slot, status) = inserted.split_at(slot_end(inserted));
        [before, status, after]
            .into_iter()
            .find_map(|piece| self.in_text(piece))
            .or_else(|| first(self.withheld.as_ref(), slot))
    }

    /// The key of a value that stands in this text, which is no part of an inserted member.
    #[must_use]
    pub fn in_text(&self, text: &[u8]) -> Option<&SecretKey> {
        first(self.injected.as_deref(), text).or_else(|| first(self.withheld.as_ref(), text))
    }
}

impl std::fmt::Debug for LeakPatterns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let keys = self.injected.iter().flat_map(|patterns| patterns.keys());
        let withheld = self.withheld.iter().flat_map(EchoPatterns::keys);
        f.debug_list().entries(keys.chain(withheld)).finish()
    }
}

fn first<'a>(patterns: Option<&'a EchoPatterns>, text: &[u8]) -> Option<&'a SecretKey> {
    let patterns = patterns?;
    let found = patterns.find(text);
    patterns.keys().get(found.first()?.key)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use bytes::Bytes;
    use secrecy::SecretString;

    use super::super::payload::{fragment, scan, splice};
    use super::super::resolution::{PayloadSecret, PayloadSecrets};
    use super::*;

    const INJECTED: &str = "inj\"ected },\"secret_status\":{\"missing\":[ value";
    const SIGNING: &str = "a-signing/secret";
    const PEM: &str = "-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqG\n-----END PRIVATE KEY-----\n";

    /// What is found in a body, where `KEY` and `OTHER` are injected with these values.
    fn found(body: &str, values: [&str; 2]) -> Option<String> {
        let key = |name: &str| SecretKey::parse(name).unwrap();
        let mut secrets = PayloadSecrets::default();
        for (name, value) in ["KEY", "OTHER"].into_iter().zip(values) {
            secrets.insert(PayloadSecret {
                key: key(name),
                value: value.into(),
            });
        }
        let withheld: Vec<(SecretKey, SecretString)> = [("SIGN", SIGNING), ("PRIVATE", PEM)]
            .map(|(name, value)| (key(name), value.into()))
            .into();
        let withheld = EchoPatterns::of(withheld.iter().map(|(key, value)| (key, value)));
        let patterns = LeakPatterns::new(EchoPatterns::new(&secrets).map(Arc::new), withheld).unwrap();
        let scanned = scan(body.as_bytes()).unwrap();
        let (at, is_empty) = (scanned.insert_at, scanned.is_empty);
        let rendered = fragment(&secrets, &[key("A_MISSING_KEY")]);
        let body = splice(Bytes::from(body.to_owned()), at, is_empty, Bytes::from_owner(rendered));
        patterns.in_body(&body).map(ToString::to_string)
    }

    #[test]
    fn a_value_in_its_slot_and_nowhere_else_is_no_leak() {
        for body in ["{}", r#"{"a":"injected"}"#, " {\"a\":[1,2]} \n"] {
            assert_eq!(found(body, [INJECTED, "another-value"]), None, "{body}");
        }
        assert_eq!(found("{}", ["the-same-value", "the-same-value"]), None);
        assert_eq!(
            found("{\"a\":\"short\"}", ["short", "1234567"]),
            None,
            "under eight bytes"
        );
    }

    #[test]
    fn a_value_outside_of_its_slot_is_a_leak_in_every_form() {
        let raw = serde_json::to_string(INJECTED).unwrap();
        for form in [
            raw,
            format!("\"x{}\"", data_encoding::BASE64.encode(INJECTED.as_bytes())),
        ] {
            let body = format!("{{\"a\":{{\"b\":{form}}}}}");
            assert_eq!(
                found(&body, [INJECTED, "another-value"]).as_deref(),
                Some("KEY"),
                "{body}"
            );
        }
        let missing = found("{}", ["A_MISSING_KEY", "another-value"]);
        assert_eq!(missing.as_deref(), Some("KEY"), "the missing keys are no slot");
    }

    #[test]
    fn what_signs_or_greets_is_a_leak_anywhere_also_in_the_slot_and_without_its_last_line_break() {
        let pem = serde_json::to_string(PEM.trim()).unwrap();
        for (body, key) in [
            (format!("{{\"a\":\"{SIGNING}\"}}"), "SIGN"),
            (format!("{{\"a\":{pem}}}"), "PRIVATE"),
        ] {
            assert_eq!(found(&body, [INJECTED, "another-value"]).as_deref(), Some(key));
        }
        assert_eq!(found("{}", [SIGNING, "another-value"]).as_deref(), Some("SIGN"));
        assert_eq!(found("{}", ["another-value", PEM.trim()]).as_deref(), Some("PRIVATE"));
    }
}
