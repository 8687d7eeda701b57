//! An issuer of runtime tokens: keys that it signs with, a key set that it publishes, and how it fails to.

use std::sync::{Arc, Mutex};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use data_encoding::BASE64URL_NOPAD;
use kiket_sidecar::clock::Clock;
use serde_json::{Value, json};

use super::endpoint::{Endpoint, answer};
use super::instance::{Instance, Options};

/// Where the key set is.
pub const PATH: &str = "/.well-known/jwks.json";

/// A key that tokens are signed with.
pub struct SigningKey {
    pub id: String,
    pair: EcdsaKeyPair,
}

/// Bytes in base64url, as JWTs are made of.
pub fn encoded(bytes: impl AsRef<[u8]>) -> String {
    BASE64URL_NOPAD.encode(bytes.as_ref())
}

impl SigningKey {
    pub fn new(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            pair: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap(),
        }
    }

    /// The point, uncompressed.
    pub fn public(&self) -> &[u8] {
        self.pair.public_key().as_ref()
    }

    /// As it is published.
    pub fn jwk(&self) -> Value {
        let (x, y) = self.public()[1..].split_at(32);
        json!({
            "kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": self.id,
            "x": encoded(x), "y": encoded(y),
        })
    }

    /// `r` and `s` over the bytes.
    pub fn signature(&self, bytes: &[u8]) -> Vec<u8> {
        self.pair.sign(&SystemRandom::new(), bytes).unwrap().as_ref().to_vec()
    }

    /// A token of these texts, whatever they are.
    pub fn sign(&self, header: &str, claims: &str) -> String {
        let message = format!("{}.{}", encoded(header), encoded(claims));
        let signature = encoded(self.signature(message.as_bytes()));
        format!("{message}.{signature}")
    }
}

/// A token before it is signed.
#[derive(Clone)]
pub struct Draft {
    pub header: Value,
    pub claims: Value,
}

impl Draft {
    /// One that vouches for the installation `ins` of `Instance::simple`, for five minutes.
    pub fn of(key: &SigningKey, instance: &Instance) -> Self {
        let now = instance.clock.now().as_secs();
        Self {
            header: json!({"alg": "ES256", "typ": "JWT", "kid": key.id}),
            claims: json!({
                "iss": "kiket.dev", "iat": now, "nbf": now, "exp": now + 300, "aud": "extension", "jti": "1",
                "org_id": "org", "ext_id": "com.example.simple", "proj_id": "proj", "pi_id": null,
            }),
        }
    }

    pub fn claim(mut self, name: &str, value: Value) -> Self {
        self.claims[name] = value;
        self
    }

    pub fn without(mut self, name: &str) -> Self {
        self.claims.as_object_mut().unwrap().remove(name);
        self
    }

    pub fn head(mut self, name: &str, value: Value) -> Self {
        self.header[name] = value;
        self
    }

    pub fn sign(&self, key: &SigningKey) -> String {
        key.sign(&self.header.to_string(), &self.claims.to_string())
    }
}

/// An invocation that carries a token.
pub fn carrying(token: &str) -> Vec<u8> {
    json!({"id": "inv_1", "authentication": {"scheme": "jwt", "runtime_token": token}})
        .to_string()
        .into_bytes()
}

/// What the issuer's server does with whoever asks.
#[derive(Clone)]
pub enum Publishes {
    /// Answers so.
    Answer(Vec<u8>),
    /// Closes the connection.
    Nothing,
}

/// A server that publishes keys.
pub struct Issuer {
    pub server: Endpoint,
    publishes: Arc<Mutex<Publishes>>,
}

impl Issuer {
    pub fn publishing(keys: &[&SigningKey]) -> Self {
        let publishes = Arc::new(Mutex::new(Publishes::Nothing));
        let told = Arc::clone(&publishes);
        let server = Endpoint::scripted(Arc::new(move |_| match told.lock().unwrap().clone() {
            Publishes::Answer(bytes) => Some(bytes),
            Publishes::Nothing => None,
        }));
        let issuer = Self { server, publishes };
        issuer.publish(keys);
        issuer
    }

    pub fn publish(&self, keys: &[&SigningKey]) {
        let keys: Vec<Value> = keys.iter().map(|key| key.jwk()).collect();
        self.answer(&json!({ "keys": keys }));
    }

    pub fn answer(&self, document: &Value) {
        self.does(Publishes::Answer(answer(200, "", document.to_string().as_bytes())));
    }

    pub fn does(&self, what: Publishes) {
        *self.publishes.lock().unwrap() = what;
    }

    pub fn url(&self) -> String {
        format!("{}{PATH}", self.server.url())
    }

    /// How often it was asked.
    pub fn asked(&self) -> usize {
        self.server.received().len()
    }

    /// An instance that asks for this issuer's tokens.
    pub fn instance(&self, settings: &[(&str, &str)]) -> Instance {
        let url = self.url();
        let mut all = vec![("runtime_token_jwks_url", url.as_str())];
        all.extend_from_slice(settings);
        Instance::with(Options {
            settings: &all,
            ..Options::default()
        })
    }
}
