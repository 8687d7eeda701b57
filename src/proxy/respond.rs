//! What a dispatcher is answered: the one map from what happened to status, header fields and body.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use serde::Serialize;

use super::echo::{Guarded, GuardedBody};
use super::headers;
use super::record::Record;
use crate::bundles::{BuildError, Obstacle};
use crate::delivery::{AnswerError, DeliveryFailure, FailureKind};
use crate::domain::key::SecretKey;
use crate::domain::payload::ScanError;
use crate::domain::problem::Problem;
use crate::server::BodyError;

const DELIVERY_ID: HeaderName = HeaderName::from_static("x-kiket-delivery-id");
const ATTEMPTS: HeaderName = HeaderName::from_static("x-kiket-attempts");
const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");

/// Why a delivery was not made, or its answer not passed on.
#[derive(Debug)]
pub(super) struct Refusal {
    problem: Problem,
    missing: Vec<SecretKey>,
}

impl Refusal {
    /// Whether the invocation contradicts the registry (409), which comes before most else.
    pub(super) const fn is_conflict(&self) -> bool {
        self.problem.status() == 409
    }
}

/// The body of an answer: a problem's, or the endpoint's as it arrives.
pub struct ProxyBody(Inner);

#[expect(
    clippy::large_enum_variant,
    reason = "moved once; a box would cost every delivery an allocation"
)]
enum Inner {
    Problem(Option<Bytes>),
    Endpoint { body: GuardedBody, record: Record },
}

/// Passes the endpoint's answer on. The record ends with the body's last byte.
pub(super) fn pass_on(guarded: Guarded, mut record: Record) -> Response<ProxyBody> {
    let Guarded { head, body } = guarded;
    let status = head.status;
    record.answered(status.as_u16());
    let mut headers = headers::answered(head.headers);
    sign_off(&mut headers, &record);
    headers.insert(PROXY_STATUS, received_status(status));
    if body.is_end_stream() {
        record.delivered(); // an empty body is never polled
    }
    let mut response = Response::new(ProxyBody(Inner::Endpoint { body, record }));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// Answers with a problem document (RFC 9457).
pub(super) fn refuse(refusal: Refusal, mut record: Record) -> Response<ProxyBody> {
    let Refusal { problem, missing } = refusal;
    record.refused(problem);
    let body = Bytes::from(document(problem, &missing, record.id.as_str()));
    let mut response = Response::new(ProxyBody(Inner::Problem(Some(body))));
    *response.status_mut() = StatusCode::from_u16(problem.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    sign_off(headers, &record);
    if let Ok(value) = HeaderValue::try_from(format!("kiket; error={}", problem.proxy_status())) {
        headers.insert(PROXY_STATUS, value);
    }
    if let Some(secs) = problem.retry_after_secs() {
        headers.insert(RETRY_AFTER, HeaderValue::from(secs));
    }
    match problem {
        Problem::MethodNotAllowed => {
            headers.insert(ALLOW, HeaderValue::from_static("POST"));
        }
        Problem::DispatcherUnauthenticated => {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        _ => {}
    }
    response
}

fn sign_off(headers: &mut http::HeaderMap, record: &Record) {
    if let Ok(id) = HeaderValue::from_str(record.id.as_str()) {
        headers.insert(DELIVERY_ID, id);
    }
    headers.insert(ATTEMPTS, HeaderValue::from(record.attempts));
}

fn received_status(status: StatusCode) -> HeaderValue {
    if status == StatusCode::OK {
        return HeaderValue::from_static("kiket; received-status=200");
    }
    HeaderValue::try_from(format!("kiket; received-status={}", status.as_u16()))
        .unwrap_or(HeaderValue::from_static("kiket"))
}

fn document(problem: Problem, missing: &[SecretKey], delivery_id: &str) -> Vec<u8> {
    #[derive(Serialize)]
    struct Document<'a> {
        r#type: String,
        title: &'a str,
        status: u16,
        detail: &'a str,
        retryable: bool,
        delivery_id: &'a str,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        missing: Vec<&'a str>,
    }
    let document = Document {
        r#type: format!("urn:kiket:problem:{}", problem.name()),
        title: problem.title(),
        status: problem.status(),
        detail: problem.detail(),
        retryable: problem.retryable(),
        delivery_id,
        missing: missing.iter().map(SecretKey::as_str).collect(),
    };
    serde_json::to_vec(&document).unwrap_or_default() // strings and numbers always serialize
}

impl Body for ProxyBody {
    type Data = Bytes;
    type Error = AnswerError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, AnswerError>>> {
        match &mut self.get_mut().0 {
            Inner::Problem(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Inner::Endpoint { body, record } => {
                let frame = ready!(Pin::new(&mut *body).poll_frame(cx));
                match &frame {
                    Some(Ok(frame)) => {
                        let data = frame.data_ref().map_or(0, Bytes::len);
                        record.bytes_out = record.bytes_out.saturating_add(data as u64);
                        if body.is_end_stream() {
                            record.delivered();
                        }
                    }
                    Some(Err(error)) => record.interrupted(error.0.into()),
                    None => record.delivered(),
                }
                Poll::Ready(frame)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Inner::Problem(bytes) => bytes.is_none(),
            Inner::Endpoint { body, .. } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Inner::Problem(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Inner::Endpoint { body, .. } => body.size_hint(),
        }
    }
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self {
            problem,
            missing: Vec::new(),
        }
    }
}

impl From<BodyError> for Refusal {
    fn from(error: BodyError) -> Self {
        Self::from(match error {
            BodyError::TooLarge => Problem::PayloadTooLarge,
            BodyError::Overloaded => Problem::Overloaded,
            BodyError::Incomplete => Problem::MalformedInvocation,
        })
    }
}

impl From<ScanError> for Refusal {
    fn from(error: ScanError) -> Self {
        Self::from(match error {
            ScanError::Reserved => Problem::ReservedMember,
            ScanError::Malformed | ScanError::TooDeep | ScanError::Duplicate | ScanError::WrongType => {
                Problem::MalformedInvocation
            }
        })
    }
}

impl From<BuildError> for Refusal {
    fn from(error: BuildError) -> Self {
        Self::from(match error {
            BuildError::Store | BuildError::Overtaken => Problem::StoreUnavailable,
            BuildError::Source => Problem::SecretSourceUnavailable,
            BuildError::Internal => Problem::Internal,
        })
    }
}

impl From<&Obstacle> for Refusal {
    fn from(obstacle: &Obstacle) -> Self {
        match obstacle {
            Obstacle::NotEnabled => Self::from(Problem::InstallationNotEnabled),
            Obstacle::DestinationUnconfirmed => Self::from(Problem::DestinationUnconfirmed),
            Obstacle::NoDestination | Obstacle::PlainDestination => Self::from(Problem::DestinationRefused),
            Obstacle::RequiredMissing(keys) => Self {
                problem: Problem::RequiredSecretsMissing,
                missing: keys.clone(),
            },
            Obstacle::SigningKeyMissing => Self::from(Problem::SigningKeyMissing),
            Obstacle::IdentityMissing => Self::from(Problem::MtlsIdentityMissing),
            Obstacle::IdentityInvalid => Self::from(Problem::MtlsIdentityInvalid),
        }
    }
}

impl From<&DeliveryFailure> for Refusal {
    fn from(failure: &DeliveryFailure) -> Self {
        Self::from(Problem::from(failure.kind))
    }
}

impl From<FailureKind> for Problem {
    fn from(kind: FailureKind) -> Self {
        match kind {
            FailureKind::Unreachable | FailureKind::Broken => Self::EndpointUnreachable,
            FailureKind::TlsFailed => Self::EndpointTlsFailed,
            FailureKind::Protocol => Self::EndpointProtocolError,
            FailureKind::Redirected => Self::EndpointRedirected,
            FailureKind::Refused => Self::DestinationRefused,
            FailureKind::Timeout => Self::EndpointTimeout,
            FailureKind::ResponseTooLarge => Self::ResponseTooLarge,
            FailureKind::Withheld => Self::Internal,
        }
    }
}
