//! How spans are handed to a collector: one request of OTLP/HTTP, and what its answer means.
//!
//! The operator names the collector, no tenant can; so it is reached whatever networks deliveries may reach, and opening
//! them to it would open them to callbacks. What it answers is read within bounds, and its texts are not looked at.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::header::{CONTENT_TYPE, USER_AGENT};
use http::{HeaderValue, Request, StatusCode};
use prost::Message;
use tokio::time::Instant;

use super::messages::ExportResponse;
use crate::domain::destination::Destination;
use crate::egress::{Egress, ExchangeError, Exchanger, ExchangerError, Resolver, SecretBytes, Trust};

/// For one request, from the dial to the answer's last byte.
const TRY_WITHIN: Duration = Duration::from_secs(5);

/// The most bytes of an answer: it counts what was not taken, and may say why.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

const PROTOBUF: HeaderValue = HeaderValue::from_static("application/x-protobuf");

const AGENT: HeaderValue = HeaderValue::from_static(concat!("kiket-sidecar/", env!("CARGO_PKG_VERSION")));

/// Where spans go.
pub(super) struct Collector {
    exchanger: Exchanger,
    path: String,
}

/// Spans were taken, all or in part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Taken {
    /// How many of them were not.
    pub(super) rejected: u64,
}

/// Why spans were not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotTaken {
    /// There was no answer.
    Exchange(ExchangeError),
    /// The answer says so, and for some statuses when to come again.
    Status(StatusCode, Option<Duration>),
}

impl Collector {
    /// A collector at this URL. Asks nobody yet. Plain HTTP is fine: there is no secret in a span.
    ///
    /// # Errors
    /// [`ExchangerError`].
    pub(super) fn new(
        url: &Destination,
        resolver: Arc<dyn Resolver>,
        trust: &Trust,
        connect_timeout: Duration,
    ) -> Result<Self, ExchangerError> {
        let egress = Arc::new(Egress::unguarded(resolver, connect_timeout));
        let path = if url.path_prefix.is_empty() {
            "/"
        } else {
            &url.path_prefix
        };
        Ok(Self {
            exchanger: Exchanger::new(egress, trust, url.origin(), None, true)?,
            path: path.to_owned(),
        })
    }

    /// Sends an encoded request once.
    ///
    /// # Errors
    /// [`NotTaken`].
    pub(super) async fn send(&self, request: &[u8]) -> Result<Taken, NotTaken> {
        let post = Request::post(&self.path)
            .header(CONTENT_TYPE, PROTOBUF)
            .header(USER_AGENT, AGENT);
        let post = post.body(SecretBytes::new(request.to_vec()));
        let post = post.map_err(|_| NotTaken::Exchange(ExchangeError::Protocol))?; // the path is canonical
        let deadline = Instant::now() + TRY_WITHIN;
        let answer = self.exchanger.exchange(post, ANSWER_BYTES_MAX, deadline).await?;
        if !answer.status.is_success() {
            return Err(NotTaken::Status(answer.status, answer.retry_after()));
        }
        // Whatever else was answered with success was taken.
        let answered = ExportResponse::decode(answer.body.as_slice()).unwrap_or_default();
        let rejected = answered.partial_success.map_or(0, |partial| partial.rejected_spans);
        Ok(Taken {
            rejected: u64::try_from(rejected).unwrap_or(0),
        })
    }
}

impl NotTaken {
    /// Whether the same spans may be taken later: the statuses that OTLP names, and where nobody answered.
    pub(super) const fn may_pass(self) -> bool {
        match self {
            Self::Exchange(error) => matches!(error, ExchangeError::Unreachable | ExchangeError::Timeout),
            Self::Status(status, _) => matches!(status.as_u16(), 429 | 502 | 503 | 504),
        }
    }

    /// Whether somebody answered, and will not take them.
    pub(super) const fn is_final(self) -> bool {
        match self {
            Self::Exchange(error) => matches!(
                error,
                ExchangeError::Redirected | ExchangeError::Protocol | ExchangeError::TooLarge
            ),
            Self::Status(..) => !self.may_pass(),
        }
    }

    /// The wait that the collector names.
    pub(super) const fn named_wait(self) -> Option<Duration> {
        match self {
            Self::Exchange(_) => None,
            Self::Status(_, wait) => wait,
        }
    }
}

impl fmt::Display for NotTaken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exchange(error) => write!(f, "{error}"),
            Self::Status(status, _) => write!(f, "the host answered {}", status.as_u16()),
        }
    }
}

impl From<ExchangeError> for NotTaken {
    fn from(error: ExchangeError) -> Self {
        Self::Exchange(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_what_may_pass_is_tried_again_and_the_rest_is_told_apart() {
        for status in 300..600 {
            let status = StatusCode::from_u16(status).unwrap_or_default();
            let not_taken = NotTaken::Status(status, None);
            let may_pass = [429, 502, 503, 504].contains(&status.as_u16());
            assert_eq!(not_taken.may_pass(), may_pass, "{status}");
            assert_eq!(not_taken.is_final(), !may_pass, "{status}");
        }
        for (error, may_pass, is_final) in [
            (ExchangeError::Unreachable, true, false),
            (ExchangeError::Timeout, true, false),
            (ExchangeError::Tls, false, false),
            (ExchangeError::Refused, false, false),
            (ExchangeError::Redirected, false, true),
            (ExchangeError::Protocol, false, true),
            (ExchangeError::TooLarge, false, true),
        ] {
            let not_taken = NotTaken::from(error);
            assert_eq!(
                (not_taken.may_pass(), not_taken.is_final()),
                (may_pass, is_final),
                "{error}"
            );
        }
    }
}
