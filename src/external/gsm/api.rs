//! How one question is put to Google: its headers, what is asked again, and what an answer's status means.

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use super::super::tries::Tries;
use crate::domain::provider::Unavailable;
use crate::egress::{Answer, ExchangeError, Exchanger, SecretBytes};

/// The most bytes of an answer: the largest value in base64 (four for three), and as much as that leaves for the names
/// and times around it, or for a page of a list.
const ANSWER_BYTES_MAX: usize = 128 * 1024;

/// Secret Manager's API.
pub(super) struct Api {
    exchanger: Exchanger,
    path_prefix: String,
}

/// What is asked, below `/v1/`.
pub(super) struct Question {
    method: Method,
    path: String,
    body: &'static [u8],
}

impl Question {
    pub(super) const fn get(path: String) -> Self {
        Self {
            method: Method::GET,
            path,
            body: &[],
        }
    }

    /// Posts JSON.
    pub(super) const fn post(path: String, body: &'static [u8]) -> Self {
        Self {
            method: Method::POST,
            path,
            body,
        }
    }
}

impl Api {
    pub(super) fn new(exchanger: Exchanger, path_prefix: &str) -> Self {
        Self {
            exchanger,
            path_prefix: path_prefix.to_owned(),
        }
    }

    /// Asks until there is an answer that would be the same the next time.
    pub(super) async fn ask(
        &self,
        question: &Question,
        token: &SecretString,
        tries: Tries,
    ) -> Result<Answer, Unavailable> {
        let request = || self.request(question, token);
        ask(&self.exchanger, request, ANSWER_BYTES_MAX, tries).await
    }

    fn request(&self, question: &Question, token: &SecretString) -> Result<Request<SecretBytes>, Unavailable> {
        let mut request = Request::builder()
            .method(&question.method)
            .uri(format!("{}/v1/{}", self.path_prefix, question.path))
            .header(AUTHORIZATION, bearer(token).ok_or(Unavailable::LoginFailed)?);
        if !question.body.is_empty() {
            request = request.header(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        let body = Zeroizing::new(question.body.to_vec());
        request.body(body).map_err(|_| Unavailable::Protocol) // paths and headers are canonical
    }
}

/// Puts a question to a host until there is an answer that would be the same the next time.
pub(super) async fn ask(
    exchanger: &Exchanger,
    request: impl Fn() -> Result<Request<SecretBytes>, Unavailable>,
    answer_bytes_max: usize,
    tries: Tries,
) -> Result<Answer, Unavailable> {
    let mut tried = 0;
    loop {
        tried += 1;
        let answer = exchanger.exchange(request()?, answer_bytes_max, tries.deadline());
        let (why, named_wait) = match answer.await {
            Ok(answer) => match passing(answer.status) {
                None => return Ok(answer),
                Some(why) => (why, answer.retry_after()),
            },
            Err(ExchangeError::Unreachable) => (Unavailable::Unreachable, None),
            Err(other) => return Err(other.into()),
        };
        if !tries.again(tried, named_wait).await {
            return Err(why);
        }
    }
}

/// A header's value that is wiped on drop; `None` for what is no token.
fn bearer(token: &SecretString) -> Option<HeaderValue> {
    let bytes = Zeroizing::new(format!("Bearer {}", token.expose_secret()).into_bytes());
    let mut value = HeaderValue::from_maybe_shared(Bytes::from_owner(bytes)).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Why an answer of this status may be another one the next time; `None` where it is final.
fn passing(status: StatusCode) -> Option<Unavailable> {
    match status {
        StatusCode::TOO_MANY_REQUESTS => Some(Unavailable::RateLimited),
        status if status.is_server_error() => Some(Unavailable::ServerError),
        _ => None,
    }
}
