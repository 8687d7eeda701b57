//! How an issuer's key set is fetched: one bounded question through the guarded way out.

use std::time::Duration;

use http::header::ACCEPT;
use http::{HeaderValue, Request, StatusCode};
use tokio::time::Instant;

use super::key_set::KeySet;
use crate::egress::{ExchangeError, Exchanger, SecretBytes};
use crate::telemetry::KeyFetch;

/// For one fetch, from the dial to the last byte: less than a delivery waits for it.
const FETCH_WITHIN: Duration = Duration::from_secs(4);

/// The largest key set, in bytes: some hundred keys.
const SET_BYTES_MAX: usize = 64 * 1024;

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Where an issuer publishes its keys.
pub(super) struct Publisher {
    exchanger: Exchanger,
    path: String,
}

impl Publisher {
    pub(super) fn new(exchanger: Exchanger, path: &str) -> Self {
        let path = if path.is_empty() { "/" } else { path };
        Self {
            exchanger,
            path: path.to_owned(),
        }
    }

    /// Fetches the set, or says in a word why there is none.
    pub(super) async fn fetch(&self) -> Result<KeySet, KeyFetch> {
        let request = Request::get(&self.path).header(ACCEPT, JSON);
        let request = request.body(SecretBytes::default()).map_err(|_| KeyFetch::Protocol)?; // the path is canonical
        let deadline = Instant::now() + FETCH_WITHIN;
        let answer = self.exchanger.exchange(request, SET_BYTES_MAX, deadline).await?;
        if answer.status != StatusCode::OK {
            return Err(KeyFetch::Status);
        }
        KeySet::parse(&answer.body).map_err(|_| KeyFetch::NoKeySet)
    }
}

impl From<ExchangeError> for KeyFetch {
    fn from(error: ExchangeError) -> Self {
        match error {
            ExchangeError::Refused => Self::Refused,
            ExchangeError::Unreachable => Self::Unreachable,
            ExchangeError::Tls => Self::TlsFailed,
            ExchangeError::Timeout => Self::Timeout,
            ExchangeError::Redirected => Self::Redirected,
            ExchangeError::Protocol => Self::Protocol,
            ExchangeError::TooLarge => Self::TooLarge,
        }
    }
}
