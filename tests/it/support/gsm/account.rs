//! A Google service account: its JSON, as the console hands it out, and what Google checks of a token that it signs.

use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use rcgen::{KeyPair, PKCS_RSA_SHA256, RsaKeySize};
use serde::Deserialize;
use serde_json::{Value, json};

/// Whom a token for Secret Manager is meant for.
const AUDIENCE: &str = "https://secretmanager.googleapis.com/";

/// The longest that a token may be good for, in seconds.
const LIFE_SECS_MAX: u64 = 3_600;

/// How far clocks may be apart, in seconds.
const SKEW_SECS: u64 = 60;

/// A service account with one key.
pub struct Account {
    email: String,
    key_id: String,
    key: KeyPair,
}

/// What Google knows of an account: no private key.
#[derive(Clone)]
pub struct Known {
    pub email: String,
    key_id: String,
    public_pem: String,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    aud: String,
    iat: u64,
    exp: u64,
}

impl Account {
    pub fn new(name: &str) -> Self {
        Self {
            email: format!("{name}@acme-prod.iam.gserviceaccount.com"),
            key_id: format!("{name:0<40}"),
            key: KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap(),
        }
    }

    pub fn email(&self) -> &str {
        &self.email
    }

    /// The file that the console hands out. Nobody listens where it says that tokens come from.
    pub fn json(&self) -> Value {
        json!({
            "type": "service_account",
            "project_id": "acme-prod",
            "private_key_id": self.key_id,
            "private_key": self.key.serialize_pem(),
            "client_email": self.email,
            "client_id": "100000000000000000001",
            "auth_uri": "http://127.0.0.1:9/auth",
            "token_uri": "http://127.0.0.1:9/token",
            "universe_domain": "googleapis.com",
        })
    }

    pub fn known(&self) -> Known {
        Known {
            email: self.email.clone(),
            key_id: self.key_id.clone(),
            public_pem: self.key.public_key_pem(),
        }
    }
}

impl Known {
    /// Whether a token was signed by this account for Secret Manager, and is good at a moment in seconds.
    pub fn signed(&self, token: &str, now: u64) -> Result<(), &'static str> {
        let header = decode_header(token).map_err(|_| "no token")?;
        if header.alg != Algorithm::RS256 || header.typ.as_deref() != Some("JWT") {
            return Err("algorithm");
        }
        if header.kid.as_deref() != Some(self.key_id.as_str()) {
            return Err("kid");
        }
        let mut validation = Validation::new(Algorithm::RS256);
        validation.validate_exp = false; // the moment is an argument: below
        validation.validate_aud = false; // one text, below
        let key = DecodingKey::from_rsa_pem(self.public_pem.as_bytes()).unwrap();
        let claims = decode::<Claims>(token, &key, &validation)
            .map_err(|_| "signature")?
            .claims;
        let rules = [
            (claims.iss == self.email, "iss"),
            (claims.sub == self.email, "sub"),
            (claims.aud == AUDIENCE, "aud"),
            (claims.iat <= now + SKEW_SECS, "iat"),
            (claims.exp + SKEW_SECS > now, "exp"),
            (claims.exp.saturating_sub(claims.iat) <= LIFE_SECS_MAX, "too long"),
        ];
        rules
            .iter()
            .find(|(holds, _)| !holds)
            .map_or(Ok(()), |(_, what)| Err(what))
    }
}
