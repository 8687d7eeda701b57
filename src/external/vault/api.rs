//! How one question is put to Vault's API: its headers, what is asked again, and what an answer's status means.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderName, HeaderValue, Method, Request, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use zeroize::Zeroizing;

use super::super::tries::Tries;
use crate::domain::provider::{Unavailable, VaultSettings};
use crate::egress::{Answer, ExchangeError, Exchanger, SecretBytes};

const TOKEN: HeaderName = HeaderName::from_static("x-vault-token");
const NAMESPACE: HeaderName = HeaderName::from_static("x-vault-namespace");
const REQUEST: HeaderName = HeaderName::from_static("x-vault-request");

/// The most bytes of an answer: the largest value with every byte of it escaped (six for one), and as much as that
/// leaves of its siblings in the same secret.
const ANSWER_BYTES_MAX: usize = 512 * 1024;

/// A Vault's API, for one namespace.
pub(super) struct Api {
    exchanger: Exchanger,
    path_prefix: String,
    namespace: Option<HeaderValue>,
}

impl Api {
    /// `None` where the namespace cannot stand in a header.
    pub(super) fn new(settings: &VaultSettings, exchanger: Exchanger) -> Option<Self> {
        let namespace = settings.namespace.as_deref().map(HeaderValue::from_str);
        Some(Self {
            exchanger,
            path_prefix: settings.address.path_prefix.clone(),
            namespace: namespace.transpose().ok()?,
        })
    }

    /// Reads at a path below `/v1/`.
    pub(super) async fn get(&self, path: &str, token: &SecretString, tries: Tries) -> Result<Answer, Unavailable> {
        self.ask(&Method::GET, path, Some(token), &[], tries).await
    }

    /// Posts JSON to a path below `/v1/`.
    pub(super) async fn post(
        &self,
        path: &str,
        token: Option<&SecretString>,
        body: &[u8],
        tries: Tries,
    ) -> Result<Answer, Unavailable> {
        self.ask(&Method::POST, path, token, body, tries).await
    }

    /// Asks until there is an answer that would be the same the next time.
    async fn ask(
        &self,
        method: &Method,
        path: &str,
        token: Option<&SecretString>,
        body: &[u8],
        tries: Tries,
    ) -> Result<Answer, Unavailable> {
        let mut tried = 0;
        loop {
            tried += 1;
            let request = self.request(method, path, token, body)?;
            let answer = self.exchanger.exchange(request, ANSWER_BYTES_MAX, tries.deadline());
            let (why, named_wait) = match answer.await {
                Ok(answer) => match passing(&answer) {
                    None => return Ok(answer),
                    Some(why) => (why, answer.retry_after()),
                },
                Err(ExchangeError::Unreachable) => (Unavailable::Unreachable, None),
                Err(other) => return Err(other.into()),
            };
            // Unsealing takes people.
            if why == Unavailable::Sealed || !tries.again(tried, named_wait).await {
                return Err(why);
            }
        }
    }

    fn request(
        &self,
        method: &Method,
        path: &str,
        token: Option<&SecretString>,
        body: &[u8],
    ) -> Result<Request<SecretBytes>, Unavailable> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}/v1/{path}", self.path_prefix))
            .header(REQUEST, HeaderValue::from_static("true"));
        if let Some(namespace) = &self.namespace {
            request = request.header(NAMESPACE, namespace);
        }
        if let Some(token) = token {
            // What is no header value is no token.
            let token = sensitive(token).ok_or(Unavailable::LoginFailed)?;
            request = request.header(TOKEN, token);
        }
        if !body.is_empty() {
            request = request.header(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        let body = Zeroizing::new(body.to_vec());
        request.body(body).map_err(|_| Unavailable::Protocol) // paths and headers are canonical
    }
}

/// A header's value that is wiped on drop.
fn sensitive(token: &SecretString) -> Option<HeaderValue> {
    let bytes = Zeroizing::new(token.expose_secret().as_bytes().to_vec());
    let mut value = HeaderValue::from_maybe_shared(Bytes::from_owner(bytes)).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Why an answer may be another one the next time; `None` where it is final.
fn passing(answer: &Answer) -> Option<Unavailable> {
    match answer.status {
        StatusCode::PRECONDITION_FAILED => Some(Unavailable::NotCaughtUp),
        StatusCode::TOO_MANY_REQUESTS => Some(Unavailable::RateLimited),
        StatusCode::SERVICE_UNAVAILABLE if is_sealed(answer) => Some(Unavailable::Sealed),
        status if status.is_server_error() => Some(Unavailable::ServerError),
        _ => None,
    }
}

/// What Vault says of a failure.
#[derive(Deserialize)]
struct Errors {
    errors: Vec<String>,
}

fn is_sealed(answer: &Answer) -> bool {
    let says = |text: &String| text.ends_with(" is sealed");
    serde_json::from_slice(&answer.body).is_ok_and(|Errors { errors }| errors.iter().any(says))
}
