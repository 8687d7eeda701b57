//! How a delivery is signed: Kiket's own header and Standard Webhooks beside it, over the very bytes that are sent.
//!
//! - `X-Kiket-Signature`: hex of HMAC-SHA-256 under the secret's text over `<timestamp>.<body>`.
//! - `webhook-signature` (Standard Webhooks 1.0): `v1,` and base64 of HMAC-SHA-256, or `v1a,` and base64 of Ed25519,
//!   over `<id>.<timestamp>.<body>`; one entry per secret that is still valid.

use std::fmt;

use aws_lc_rs::signature::Ed25519KeyPair;
use aws_lc_rs::{digest, hmac};
use data_encoding::{BASE64, BASE64_NOPAD, HEXLOWER};
use http::{HeaderMap, HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use crate::domain::time::Timestamp;

/// The names of the headers that a signature consists of. What comes in under them never passes.
pub static HEADER_NAMES: [HeaderName; 5] = [
    HeaderName::from_static("x-kiket-timestamp"),
    HeaderName::from_static("x-kiket-signature"),
    HeaderName::from_static("webhook-id"),
    HeaderName::from_static("webhook-timestamp"),
    HeaderName::from_static("webhook-signature"),
];

/// Longest message id, in bytes.
const MESSAGE_ID_BYTES_MAX: usize = 128;
const SYMMETRIC_PREFIX: &str = "whsec_";
const ASYMMETRIC_PREFIX: &str = "whsk_";
const ED25519_SEED_BYTES: usize = 32;
/// `v1a,`, 88 characters of base64 and a space.
const ENTRY_BYTES_MAX: usize = 93;

/// How `X-Kiket-Signature` starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SignaturePrefix {
    /// Bare hex, as the SDKs' verifiers compare it.
    Bare,
    /// `sha256=`, as the public documentation shows it.
    Sha256,
}

impl SignaturePrefix {
    const fn text(self) -> &'static str {
        match self {
            Self::Bare => "",
            Self::Sha256 => "sha256=",
        }
    }
}

/// A secret to sign with.
#[derive(Debug)]
pub struct SigningSecret {
    /// Its text, as the receiver has it: `whsec_` and base64 of the key, `whsk_` and base64 of an Ed25519 key (the
    /// seed, or seed and public key), or any other text, whose bytes are the key.
    pub text: SecretString,
    /// When it stops signing; `None` for a current secret.
    pub valid_until: Option<Timestamp>,
}

/// Why deliveries cannot be signed with these secrets. The fault of whoever wrote the secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// No current secret among them.
    #[error("there is no current signing secret")]
    NoneCurrent,
    /// A secret without any key in it.
    #[error("a signing secret is empty")]
    Empty,
    /// Marked as an Ed25519 key, but none.
    #[error("a whsk_ secret is not base64 of an Ed25519 seed, alone or followed by its public key")]
    NotEd25519,
}

/// Signs deliveries. `Debug` prints counts only.
pub struct Signers {
    prefix: SignaturePrefix,
    kiket: hmac::Key,
    webhooks: Vec<WebhookSigner>,
}

struct WebhookSigner {
    key: WebhookKey,
    valid_until: Option<Timestamp>,
}

enum WebhookKey {
    /// `v1`.
    Symmetric(Box<hmac::Key>),
    /// `v1a`.
    Asymmetric(Ed25519KeyPair),
}

impl Signers {
    /// Prepares the keys, so that signing does not. The first secret without an end is the current one, which makes
    /// `X-Kiket-Signature`; `webhook-signature` has one entry per secret, in the given order.
    ///
    /// # Errors
    /// [`SignatureError`] where a secret is unusable or none is current: then nothing is to be sent.
    pub fn new(secrets: Vec<SigningSecret>, prefix: SignaturePrefix) -> Result<Self, SignatureError> {
        let current = secrets
            .iter()
            .find(|secret| secret.valid_until.is_none())
            .ok_or(SignatureError::NoneCurrent)?;
        let kiket = hmac_key(current.text.expose_secret().as_bytes())?;
        let webhooks = secrets
            .iter()
            .map(|SigningSecret { text, valid_until }| {
                Ok(WebhookSigner {
                    key: webhook_key(text.expose_secret())?,
                    valid_until: *valid_until,
                })
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            prefix,
            kiket,
            webhooks,
        })
    }

    /// Signs a body, given in pieces, as sent at `now` under `message_id` (see [`message_id`]; any other text that
    /// cannot stand in a header is replaced by its own `inv_` form).
    #[must_use]
    pub fn sign(&self, now: Timestamp, message_id: &str, body: [&[u8]; 3]) -> SignatureHeaders {
        let id = HeaderValue::from_str(message_id).unwrap_or_else(|_| visible(hashed_id(message_id.as_bytes())));
        let timestamp = HeaderValue::from(now.as_secs());
        let kiket = self.sign_kiket(timestamp.as_bytes(), body);
        let webhooks = self.sign_webhooks(now, id.as_bytes(), timestamp.as_bytes(), body);
        SignatureHeaders {
            timestamp,
            kiket,
            id,
            webhooks,
        }
    }

    fn sign_kiket(&self, timestamp: &[u8], body: [&[u8]; 3]) -> HeaderValue {
        let [head, fragment, tail] = body;
        let tag = mac(&self.kiket, &[timestamp, b".", head, fragment, tail]);
        let prefix = self.prefix.text();
        let mut text = String::with_capacity(prefix.len() + 2 * tag.as_ref().len());
        text.push_str(prefix);
        HEXLOWER.encode_append(tag.as_ref(), &mut text);
        changing(text)
    }

    fn sign_webhooks(&self, now: Timestamp, id: &[u8], timestamp: &[u8], body: [&[u8]; 3]) -> HeaderValue {
        let [head, fragment, tail] = body;
        let pieces = [id, b".", timestamp, b".", head, fragment, tail];
        let mut text = String::with_capacity(self.webhooks.len() * ENTRY_BYTES_MAX);
        for signer in self
            .webhooks
            .iter()
            .filter(|signer| signer.valid_until.is_none_or(|end| now < end))
        {
            if !text.is_empty() {
                text.push(' ');
            }
            match &signer.key {
                WebhookKey::Symmetric(key) => {
                    text.push_str("v1,");
                    BASE64.encode_append(mac(key, &pieces).as_ref(), &mut text);
                }
                WebhookKey::Asymmetric(pair) => {
                    text.push_str("v1a,");
                    // Ed25519 hashes the message twice and so needs it in one piece; it holds the injected values.
                    let length = pieces.iter().map(|piece| piece.len()).sum();
                    let mut message = Zeroizing::new(Vec::with_capacity(length));
                    pieces.iter().for_each(|piece| message.extend_from_slice(piece));
                    BASE64.encode_append(pair.sign(&message).as_ref(), &mut text);
                }
            }
        }
        changing(text)
    }
}

impl fmt::Debug for Signers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let current = self
            .webhooks
            .iter()
            .filter(|signer| signer.valid_until.is_none())
            .count();
        let ending = self.webhooks.len().saturating_sub(current);
        f.debug_struct("Signers")
            .field("current", &current)
            .field("ending", &ending)
            .finish_non_exhaustive()
    }
}

/// A delivery's signature, ready to be sent.
#[derive(Debug, Clone)]
pub struct SignatureHeaders {
    timestamp: HeaderValue,
    kiket: HeaderValue,
    id: HeaderValue,
    webhooks: HeaderValue,
}

impl SignatureHeaders {
    /// Puts the signature into a request's headers, in place of whatever stood under its names ([`HEADER_NAMES`]).
    pub fn apply(self, headers: &mut HeaderMap) {
        let values = [
            self.timestamp.clone(),
            self.kiket,
            self.id,
            self.timestamp,
            self.webhooks,
        ];
        for (name, value) in HEADER_NAMES.iter().zip(values) {
            headers.insert(name, value);
        }
    }
}

/// What a delivery is known by to its receiver, stable over attempts: the id that the invocation states if it matches
/// `[A-Za-z0-9_:-]{1,128}`, else `inv_` and 128 bits of SHA-256 over the body as it came in, in hex.
#[must_use]
pub fn message_id(stated_id: Option<&str>, original_body: &[u8]) -> String {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b':' | b'-');
    match stated_id {
        Some(id) if (1..=MESSAGE_ID_BYTES_MAX).contains(&id.len()) && id.bytes().all(allowed) => id.to_owned(),
        _ => hashed_id(original_body),
    }
}

fn hashed_id(bytes: &[u8]) -> String {
    let hash = digest::digest(&digest::SHA256, bytes);
    let (half, _) = hash.as_ref().split_at(hash.as_ref().len() / 2);
    let mut id = String::from("inv_");
    HEXLOWER.encode_append(half, &mut id);
    id
}

fn hmac_key(bytes: &[u8]) -> Result<hmac::Key, SignatureError> {
    if bytes.is_empty() {
        return Err(SignatureError::Empty);
    }
    Ok(hmac::Key::new(hmac::HMAC_SHA256, bytes))
}

fn webhook_key(text: &str) -> Result<WebhookKey, SignatureError> {
    if let Some(encoded) = text.strip_prefix(ASYMMETRIC_PREFIX) {
        let key = base64(encoded).ok_or(SignatureError::NotEd25519)?;
        return ed25519(&key)
            .map(WebhookKey::Asymmetric)
            .ok_or(SignatureError::NotEd25519);
    }
    if let Some(encoded) = text.strip_prefix(SYMMETRIC_PREFIX) {
        // Other products give out `whsec_` texts that are no base64: those are keys as they stand.
        if let Some(key) = base64(encoded) {
            return hmac_key(&key).map(Box::new).map(WebhookKey::Symmetric);
        }
    }
    hmac_key(text.as_bytes()).map(Box::new).map(WebhookKey::Symmetric)
}

fn base64(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let text = text.as_bytes();
    BASE64
        .decode(text)
        .or_else(|_| BASE64_NOPAD.decode(text))
        .ok()
        .map(Zeroizing::new)
}

fn ed25519(key: &[u8]) -> Option<Ed25519KeyPair> {
    let (seed, public) = key.split_at_checked(ED25519_SEED_BYTES)?;
    if public.is_empty() {
        Ed25519KeyPair::from_seed_unchecked(seed).ok()
    } else {
        Ed25519KeyPair::from_seed_and_public_key(seed, public).ok()
    }
}

/// HMAC over the pieces as if they were one.
fn mac(key: &hmac::Key, pieces: &[&[u8]]) -> hmac::Tag {
    let mut context = hmac::Context::with_key(key);
    pieces.iter().for_each(|piece| context.update(piece));
    context.sign()
}

/// A header value that no compression table should remember: the next one differs.
fn changing(text: String) -> HeaderValue {
    let mut value = visible(text);
    value.set_sensitive(true);
    value
}

#[expect(
    clippy::expect_used,
    reason = "the text was put together here, of hex, base64 and ASCII punctuation only"
)]
fn visible(text: String) -> HeaderValue {
    HeaderValue::try_from(text).expect("visible ASCII")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_614_265_330_999);
    const BODY: [&[u8]; 3] = [br#"{"id":1"#, br#","secrets":{"K":"v"}"#, b"}"];
    /// Computed by other implementations (Python's hmac and hashlib, OpenSSL) over the message id `msg_1`.
    const KIKET: &str = "d6c75da7c50ce205a88fa83ee321f9bb21dad49f849504e25395e90d24656ced";
    const V1: &str = "v1,a8MpwTc9HsCvgATUqTlv6WH2IVWyJF+Kcibf52GtB/0=";
    const V1A: &str = "v1a,TxVtTijHu/ONKHMfnpmF0mqttX6G43HVFVpoA5MUL7s4y4wX1OumwD7mTb/agHQXoD4gpKyQ+RX6kOXTcV2gCA==";
    const SEED: &str = "whsk_CQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQk=";
    const SEED_AND_PUBLIC: &str =
        "whsk_CQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQn9FyQ4WqDHW2T7eM1gL6HZkf3r92sTxY7XAurINen2GA==";

    fn secret(text: &str, valid_until: Option<Timestamp>) -> SigningSecret {
        SigningSecret {
            text: text.into(),
            valid_until,
        }
    }

    fn signers(secrets: &[(&str, Option<Timestamp>)]) -> Result<Signers, SignatureError> {
        let secrets = secrets.iter().map(|(text, end)| secret(text, *end)).collect();
        Signers::new(secrets, SignaturePrefix::Bare)
    }

    fn applied(signers: &Signers, id: &str, body: [&[u8]; 3]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        signers.sign(NOW, id, body).apply(&mut headers);
        headers
    }

    #[test]
    fn both_formats_are_what_other_implementations_compute() {
        let headers = applied(&signers(&[("topsecret", None)]).unwrap(), "msg_1", BODY);
        assert_eq!(headers["x-kiket-timestamp"], "1614265330");
        assert_eq!(headers["x-kiket-signature"], KIKET);
        assert_eq!(headers["webhook-id"], "msg_1");
        assert_eq!(headers["webhook-timestamp"], "1614265330");
        assert_eq!(headers["webhook-signature"], V1);
    }

    #[test]
    fn the_vector_of_the_standard_webhooks_libraries_holds() {
        let text = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        let body: [&[u8]; 3] = [br#"{"test": 2432232314}"#, b"", b""];
        let headers = applied(&signers(&[(text, None)]).unwrap(), "msg_p5jXN8AQM9LWM0D4loKWxJek", body);
        assert_eq!(
            headers["webhook-signature"],
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
        let of_the_whole_text = "2e37df5d4a028c51a7f3133d64ae1e300d2c2c900f1b1d49d4369ad2530f8964";
        assert_eq!(headers["x-kiket-signature"], of_the_whole_text);
    }

    #[test]
    fn an_ed25519_key_signs_v1a_with_or_without_its_public_half() {
        for text in [SEED, SEED_AND_PUBLIC, SEED.trim_end_matches('=')] {
            let headers = applied(&signers(&[(text, None)]).unwrap(), "msg_1", BODY);
            assert_eq!(headers["webhook-signature"], V1A, "{text}");
        }
    }

    #[test]
    fn how_the_body_is_cut_into_pieces_makes_no_difference() {
        let signers = signers(&[("topsecret", None), (SEED, None)]).unwrap();
        let whole = BODY.concat();
        for cut in 0..=whole.len() {
            let (head, tail) = whole.split_at(cut);
            assert_eq!(
                applied(&signers, "msg_1", [head, b"", tail]),
                applied(&signers, "msg_1", BODY)
            );
        }
    }

    #[test]
    fn a_replaced_secret_signs_beside_the_current_one_until_its_end() {
        let before = Some(NOW.plus_millis(1));
        let both = signers(&[("older", before), ("topsecret", None), (SEED, before)]).unwrap();
        let headers = applied(&both, "msg_1", BODY);
        assert_eq!(
            headers["x-kiket-signature"], KIKET,
            "by the current secret, not the first"
        );
        let entries: Vec<_> = headers["webhook-signature"].to_str().unwrap().split(' ').collect();
        assert_eq!(entries.len(), 3);
        assert!(entries[0].starts_with("v1,") && entries[0] != V1);
        assert_eq!(entries[1..], [V1, V1A]);

        let ended = signers(&[("older", Some(NOW)), ("topsecret", None)]).unwrap();
        assert_eq!(applied(&ended, "msg_1", BODY)["webhook-signature"], V1);
    }

    #[test]
    fn the_prefix_of_the_documentation_can_be_chosen() {
        let signers = Signers::new(vec![secret("topsecret", None)], SignaturePrefix::Sha256).unwrap();
        assert_eq!(
            applied(&signers, "msg_1", BODY)["x-kiket-signature"],
            format!("sha256={KIKET}")
        );
    }

    #[test]
    fn unusable_secrets_are_refused() {
        let short = "whsk_CQkJ";
        let long = format!("whsk_{}", BASE64.encode(&[9; 96]));
        let wrong_public = format!("whsk_{}", BASE64.encode(&[9; 64]));
        let refused = |text: &str| signers(&[(text, None)]).err();
        for text in ["whsk_", "whsk_***", short, &long, &wrong_public] {
            assert_eq!(refused(text), Some(SignatureError::NotEd25519), "{text}");
        }
        for text in ["", "whsec_"] {
            assert_eq!(refused(text), Some(SignatureError::Empty), "{text:?}");
        }
        assert_eq!(signers(&[]).err(), Some(SignatureError::NoneCurrent));
        assert_eq!(signers(&[("s", Some(NOW))]).err(), Some(SignatureError::NoneCurrent));
    }

    #[test]
    fn a_whsec_text_that_is_no_base64_is_a_key_as_it_stands() {
        let text = "whsec_not-base64!";
        let headers = applied(&signers(&[(text, None)]).unwrap(), "m", [b"b", b"", b""]);
        let key = hmac::Key::new(hmac::HMAC_SHA256, text.as_bytes());
        let expected = BASE64.encode(hmac::sign(&key, b"m.1614265330.b").as_ref());
        assert_eq!(headers["webhook-signature"], format!("v1,{expected}"));
    }

    #[test]
    fn headers_of_these_names_that_came_in_are_replaced() {
        let mut headers = HeaderMap::new();
        for name in &HEADER_NAMES {
            headers.append(name, HeaderValue::from_static("forged"));
            headers.append(name, HeaderValue::from_static("forged again"));
        }
        signers(&[("topsecret", None)])
            .unwrap()
            .sign(NOW, "msg_1", BODY)
            .apply(&mut headers);
        assert_eq!(headers.len(), HEADER_NAMES.len());
        assert!(headers.values().all(|value| !value.as_bytes().starts_with(b"forged")));
    }

    #[test]
    fn a_message_id_is_the_stated_one_where_that_is_well_formed() {
        let longest = "x".repeat(128);
        for id in ["msg_1", "42", "-7", "a:b-c_D", &longest] {
            assert_eq!(message_id(Some(id), b""), id);
        }
        let body = BODY.concat();
        let hashed = "inv_e4616543bdddafa7127c9986c00a682c";
        let too_long = "x".repeat(129);
        for id in ["", "a b", "a.b", "ä", "a\r\nb", &too_long] {
            assert_eq!(message_id(Some(id), &body), hashed, "{id:?}");
        }
        assert_eq!(message_id(None, &body), hashed);
    }

    #[test]
    fn an_id_that_no_header_can_carry_is_hashed_before_it_is_signed() {
        let signers = signers(&[("topsecret", None)]).unwrap();
        let headers = applied(&signers, "a\r\nb", BODY);
        let id = message_id(None, b"a\r\nb");
        assert_eq!(headers["webhook-id"], id.as_str());
        assert_eq!(
            headers["webhook-signature"],
            applied(&signers, &id, BODY)["webhook-signature"]
        );
    }

    #[test]
    fn debug_prints_counts_only() {
        let signers = signers(&[("topsecret", None), ("older", Some(NOW))]).unwrap();
        assert_eq!(format!("{signers:?}"), "Signers { current: 1, ending: 1, .. }");
        assert!(format!("{:?}", signers.sign(NOW, "m", BODY)).contains("Sensitive"));
    }
}
