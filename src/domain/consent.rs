//! What an organization's admin agreed to for one installation: where its secrets go, and which keys are used for what.
//!
//! Enabling an installation agrees to the destination and to all keys that stand then. What changes later, by an update
//! of the manifest or by the installation's own callback, waits for a word of its own. What is agreed to, and why:
//!
//! - A key is accepted **for one use**, so another use is another consent, in every direction. A key that signs never
//!   leaves; moved into the payload by an update it would. An organization's key that an update names for signing lets
//!   the endpoint guess it from signatures at leisure, and hand them on to whoever trusts that key. Within a handshake
//!   the roles make no difference: of none of its keys anything but certificates is ever sent.
//! - A signing or handshake key without consent is missing, and stops the delivery (424): unsigned, or without the
//!   certificate that is declared, nothing is sent.
//! - What an update **takes away** needs no consent (also `ca_key`: the destination is the same, and checked against the
//!   system's roots), nor does `on_missing`, `required`, a timeout or where a wizard stores a value: none of them sends a
//!   value to anybody who did not get it before. `forward` sends the withheld key's *name* in `missing`.
//! - A key that was accepted stays so while an update leaves it out: whoever gets it back had it before, at a
//!   destination that is confirmed. Accepting keys, or enabling anew, drops what is not asked for any more.

use std::collections::BTreeSet;

use super::destination::Destination;
use super::key::SecretKey;
use super::manifest::Demand;
use super::vocabulary::vocabulary;

vocabulary!(
    /// What a key is used for.
    KeyUse {
        /// Its value is in the payload.
        Payload = "payload",
        /// It is a certificate, key or CA of the outbound handshake.
        Handshake = "handshake",
        /// It signs.
        Signing = "signing",
    }
);

/// A key, and one use of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UsedKey {
    /// Which.
    pub key: SecretKey,
    /// What for.
    pub used_for: KeyUse,
}

/// What was agreed to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Consent {
    /// Where secrets may go.
    pub destination: Option<Destination>,
    /// The version of the installation in which that was last confirmed; 0 where it never was.
    pub confirmed_in: u64,
    /// Which keys may be used, and what for.
    pub keys: BTreeSet<UsedKey>,
    /// The version of the installation in which they were last accepted; 0 where they never were.
    pub accepted_in: u64,
}

/// What stands and was not agreed to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Awaiting {
    /// The destination that gets no secrets yet.
    pub destination: Option<Destination>,
    /// The keys that are withheld.
    pub keys: BTreeSet<UsedKey>,
}

impl Consent {
    /// Consent to all that stands, as enabling an installation gives it, in this version of it.
    #[must_use]
    pub fn to_all(destination: Option<&Destination>, demand: &Demand, version: u64) -> Self {
        Self {
            destination: destination.cloned(),
            confirmed_in: version,
            keys: demand.used_keys().collect(),
            accepted_in: version,
        }
    }

    /// What is left to agree to.
    #[must_use]
    pub fn awaiting(&self, destination: Option<&Destination>, demand: &Demand) -> Awaiting {
        Awaiting {
            destination: destination
                .filter(|destination| self.destination.as_ref() != Some(destination))
                .cloned(),
            keys: demand.used_keys().filter(|used| !self.keys.contains(used)).collect(),
        }
    }
}

impl Awaiting {
    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.destination.is_none() && self.keys.is_empty()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::super::manifest::Manifest;
    use super::*;

    fn manifest(callback: &str, configuration: &str) -> Manifest {
        let delivery = format!("{{\"type\": \"http\", \"callback\": {callback}}}");
        let text = format!("{{\"id\": \"com.example\", \"delivery\": {delivery}, \"configuration\": {configuration}}}");
        Manifest::parse(&text).unwrap()
    }

    fn url(manifest: &Manifest) -> Option<&Destination> {
        manifest.callback.as_ref().unwrap().url.as_ref()
    }

    /// Each key that waits with its use, under `after`, where `before` was agreed to.
    fn waits(before: &Manifest, after: &Manifest) -> Vec<String> {
        let consent = Consent::to_all(url(before), &before.demand(), 1);
        let awaiting = consent.awaiting(url(after), &after.demand());
        let keys = awaiting.keys.iter();
        let keys = keys.map(|used| format!("{} {}", used.key, used.used_for.name()));
        let destination = awaiting.destination.iter().map(ToString::to_string);
        destination.chain(keys).collect()
    }

    const URL: &str = "\"url\": \"https://a.example/x\"";
    const MTLS: &str = "\"mtls\": {\"certificate_key\": \"C\", \"private_key_key\": \"P\", \"ca_key\": \"R\"}";

    #[test]
    fn every_part_of_a_destination_every_added_key_and_every_new_use_waits_and_nothing_else_does() {
        let all = format!("{{{URL}, {MTLS}, \"signing_secret_key\": \"S\", \"secret_keys\": [\"A\", \"B\"]}}");
        let before = manifest(&all, "{}");
        let table: &[(&str, &str, &str, &[&str])] = &[
            (URL, URL, "{}", &[]),
            ("https://a.example/x", "https://A.example:443/x/", "{}", &[]),
            (
                "https://a.example/x",
                "http://a.example/x",
                "{}",
                &["http://a.example/x"],
            ),
            (
                "https://a.example/x",
                "https://b.example/x",
                "{}",
                &["https://b.example/x"],
            ),
            (
                "https://a.example/x",
                "https://a.example:444/x",
                "{}",
                &["https://a.example:444/x"],
            ),
            (
                "https://a.example/x",
                "https://a.example/y",
                "{}",
                &["https://a.example/y"],
            ),
            ("https://a.example/x", "https://a.example", "{}", &["https://a.example"]),
            ("\"A\", \"B\"", "\"A\"", "{}", &[]),
            ("\"A\", \"B\"", "\"A\", \"N\"", "{}", &["N payload"]),
            (URL, URL, "{\"N\": {\"secret\": true}}", &["N payload"]),
            (URL, URL, "{\"A\": {\"secret\": true, \"required\": true}}", &[]),
            (URL, URL, "{\"S\": {\"secret\": true}, \"C\": {\"secret\": true}}", &[]),
            ("\"S\"", "[\"S\", \"N\"]", "{}", &["N signing"]),
            ("\"S\"", "\"P\"", "{}", &["P signing"]),
            (
                "\"signing_secret_key\": \"S\", ",
                "",
                "{\"S\": {\"secret\": true}}",
                &["S payload"],
            ),
            ("\"S\", \"secret_keys\": [\"A\", \"B\"]", "\"A\"", "{}", &["A signing"]),
            ("\"C\"", "\"N\"", "{}", &["N handshake"]),
            ("\"ca_key\": \"R\"", "\"ca_key\": \"N\"", "{}", &["N handshake"]),
            ("\"C\"", "\"P\"", "{}", &[]),
            (MTLS, "\"timeout\": 500", "{\"C\": {\"secret\": true}}", &["C payload"]),
            (MTLS, "\"on_missing\": \"forward\"", "{}", &[]),
        ];
        for (part, other, configuration, expected) in table {
            let text = all.replacen(part, other, 1);
            assert!(part == other || text != all, "{part}");
            assert_eq!(
                waits(&before, &manifest(&text, configuration)),
                *expected,
                "{part} -> {other}"
            );
        }
    }

    #[test]
    fn nothing_was_agreed_to_before_somebody_did() {
        let manifest = manifest(&format!("{{{URL}, \"secret_keys\": [\"A\"]}}"), "{}");
        let awaiting = Consent::default().awaiting(url(&manifest), &manifest.demand());
        assert_eq!(
            (awaiting.destination.as_ref(), awaiting.keys.len()),
            (url(&manifest), 1)
        );
        assert!(!awaiting.is_empty() && Awaiting::default().is_empty());
        assert!(
            Consent::default()
                .awaiting(
                    None,
                    &super::super::manifest::Manifest {
                        callback: None,
                        configuration: Vec::new(),
                        ..manifest
                    }
                    .demand()
                )
                .is_empty()
        );
    }
}
