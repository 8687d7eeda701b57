//! How a tenant's service account speaks for itself: its JSON, and the tokens that its key signs.
//!
//! Such a token is good at Google as it is: no token endpoint is asked, so `token_uri`, which whoever wrote the JSON
//! could point anywhere, is not looked at.

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use super::super::OpenError;
use super::tokens::Token;
use crate::domain::provider::Unavailable;
use crate::domain::time::Timestamp;

/// Whom a token is meant for. The same at every address of Secret Manager.
const AUDIENCE: &str = "https://secretmanager.googleapis.com/";

/// The cloud that the audience is in.
const UNIVERSE: &str = "googleapis.com";

/// How long a token is good for, in seconds: the longest that Google takes.
const LIFE_SECS: u64 = 3_600;

/// Longest accepted address or key id, in bytes.
const NAME_BYTES_MAX: usize = 320;

/// What the console writes, as far as it is looked at.
#[derive(Deserialize)]
struct Document {
    #[serde(rename = "type")]
    kind: String,
    client_email: String,
    private_key_id: String,
    /// Freed into a wiping allocator.
    private_key: String,
    universe_domain: Option<String>,
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    sub: &'a str,
    aud: &'a str,
    iat: u64,
    exp: u64,
}

/// A service account that can sign.
pub(super) struct ServiceAccount {
    email: String,
    header: Header,
    key: EncodingKey,
}

impl ServiceAccount {
    /// Reads the JSON of an account, and signs once to see that its key can.
    pub(super) fn parse(credential: &SecretString, now: Timestamp) -> Result<Self, OpenError> {
        let document: Document =
            serde_json::from_str(credential.expose_secret()).map_err(|_| OpenError::CredentialMalformed)?;
        let is_name = |text: &str| {
            let is_text = text.bytes().all(|b| b.is_ascii_graphic());
            (1..=NAME_BYTES_MAX).contains(&text.len()) && is_text
        };
        let is_usable = document.kind == "service_account"
            && is_name(&document.client_email)
            && is_name(&document.private_key_id)
            && document.universe_domain.is_none_or(|universe| universe == UNIVERSE);
        if !is_usable {
            return Err(OpenError::CredentialMalformed);
        }
        let key = EncodingKey::from_rsa_pem(document.private_key.as_bytes());
        let mut header = Header::new(Algorithm::RS256);
        header.kid = Some(document.private_key_id);
        let account = Self {
            email: document.client_email,
            header,
            key: key.map_err(|_| OpenError::CredentialMalformed)?,
        };
        account.sign(now).map_err(|_| OpenError::CredentialMalformed)?;
        Ok(account)
    }

    /// A token that is good from now on. Takes about a millisecond.
    pub(super) fn sign(&self, now: Timestamp) -> Result<Token, Unavailable> {
        let issued_at = now.as_secs();
        let claims = Claims {
            iss: &self.email,
            sub: &self.email,
            aud: AUDIENCE,
            iat: issued_at,
            exp: issued_at.saturating_add(LIFE_SECS),
        };
        let text = encode(&self.header, &claims, &self.key).map_err(|_| Unavailable::LoginFailed)?;
        Ok(Token::new(SecretString::from(text), now.plus_millis(LIFE_SECS * 1_000)))
    }
}
