//! How an answer is kept from carrying an injected value back: dispatchers store answers.
//!
//! Short answers are looked through before their head is sent, longer ones as they pass. An answer without a value is
//! passed on as it came.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::response::Parts;
use http::{HeaderMap, HeaderValue};
use http_body::{Body, Frame, SizeHint};

use super::Shared;
use super::record::Record;
use crate::audit::Sight;
use crate::bundles::Echo;
use crate::delivery::{AnswerBody, AnswerError, Delivered};
use crate::domain::echo::Redactor;
use crate::domain::problem::Problem;

/// Answers up to so many bytes are looked through as a whole and keep a length.
const WHOLE_BYTES_MAX: usize = 64 * 1024;

/// What a body's hash or validator says does not hold for another body.
const OF_THE_BODY: [&str; 5] = ["content-digest", "content-md5", "digest", "etag", "repr-digest"];

/// What becomes of an answer that gives a value back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EchoPolicy {
    /// The value is replaced.
    Redact,
    /// Nothing of the answer is passed on. Every answer is held until it is whole.
    Block,
    /// It is passed on as it is.
    Off,
}

/// An answer that may be passed on.
pub(super) struct Guarded {
    pub(super) head: Parts,
    pub(super) body: GuardedBody,
}

/// A body that may be passed on.
pub(super) enum GuardedBody {
    /// As it comes.
    Passed(AnswerBody),
    /// Looked through already.
    Whole(Option<Bytes>),
    /// Looked through as it comes.
    Watched(Watched),
}

/// A long answer under way.
pub(super) struct Watched {
    body: AnswerBody,
    /// `None` once the end was passed on.
    redactor: Option<Redactor>,
    /// What was read before the head was sent.
    begun: Option<Vec<u8>>,
    echo: Arc<Echo>,
    shared: Arc<Shared>,
}

/// What was read of an answer at first.
enum Begun {
    Whole(Bytes),
    Longer(Vec<u8>),
}

/// Looks through an answer, as far as it has to be before its head is sent.
///
/// # Errors
/// [`Problem`] where the answer broke off before that, or is not to be passed on.
pub(super) async fn guard(
    delivered: Delivered,
    echo: Option<&Arc<Echo>>,
    shared: &Arc<Shared>,
    record: &mut Record,
) -> Result<Guarded, Problem> {
    let Delivered { mut head, mut body, .. } = delivered;
    let Some(echo) = echo.filter(|_| shared.echo_policy != EchoPolicy::Off) else {
        let body = GuardedBody::Passed(body);
        return Ok(Guarded { head, body });
    };
    let mut found = redact_headers(&mut head.headers, echo);
    if body.is_end_stream() {
        return tell(&found, echo, shared).map(|()| Guarded {
            head,
            body: GuardedBody::Passed(body),
        });
    }
    let (bytes_max, record) = match shared.echo_policy {
        EchoPolicy::Block => (usize::MAX, Some(record)), // the delivery's own bound holds
        EchoPolicy::Redact | EchoPolicy::Off => (WHOLE_BYTES_MAX, None),
    };
    let body = match begin(&mut body, bytes_max, record).await? {
        Begun::Whole(whole) => match echo.patterns.redact(&whole) {
            None => GuardedBody::Whole(Some(whole)),
            Some((redacted, keys)) => {
                found.extend(keys);
                changed(&mut head.headers, Some(redacted.len()));
                GuardedBody::Whole(Some(Bytes::from(redacted)))
            }
        },
        Begun::Longer(begun) => {
            changed(&mut head.headers, None);
            GuardedBody::Watched(Watched {
                body,
                redactor: Some(Redactor::new(Arc::clone(&echo.patterns))),
                begun: Some(begun),
                echo: Arc::clone(echo),
                shared: Arc::clone(shared),
            })
        }
    };
    tell(&found, echo, shared).map(|()| Guarded { head, body })
}

/// Counts what was found, and refuses the answer where that is the policy.
fn tell(found: &[usize], echo: &Echo, shared: &Shared) -> Result<(), Problem> {
    if found.is_empty() {
        return Ok(());
    }
    shared.metrics.echoes.inc_by(found.len() as u64);
    for key in found.iter().filter_map(|place| echo.patterns.keys().get(*place)) {
        shared.sightings.tell(&echo.uses, key, Sight::Echoed);
    }
    match shared.echo_policy {
        EchoPolicy::Block => Err(Problem::SecretEchoed),
        EchoPolicy::Redact | EchoPolicy::Off => Ok(()),
    }
}

fn redact_headers(headers: &mut HeaderMap, echo: &Echo) -> Vec<usize> {
    let mut found = Vec::new();
    for value in headers.values_mut() {
        if let Some((redacted, keys)) = echo.patterns.redact(value.as_bytes()) {
            // What is put in is ASCII that may stand in a header.
            *value = HeaderValue::from_bytes(&redacted).unwrap_or(HeaderValue::from_static(""));
            found.extend(keys);
        }
    }
    found
}

/// The body is not the endpoint's any more.
fn changed(headers: &mut HeaderMap, bytes: Option<usize>) {
    for name in OF_THE_BODY {
        headers.remove(name);
    }
    match bytes {
        Some(bytes) => drop(headers.insert(CONTENT_LENGTH, HeaderValue::from(bytes))),
        None => drop(headers.remove(CONTENT_LENGTH)),
    }
}

/// Reads an answer until it is whole or longer than `bytes_max`. What is held for long counts as buffered until the
/// delivery's end: the record keeps the room for it.
async fn begin(body: &mut AnswerBody, bytes_max: usize, mut record: Option<&mut Record>) -> Result<Begun, Problem> {
    let mut first: Option<Bytes> = None;
    let mut all = Vec::new();
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await {
        let Ok(data) = frame.map_err(|error| Problem::from(error.0))?.into_data() else {
            continue; // trailers do not pass
        };
        if let Some(record) = &mut record {
            record.hold(data.len())?;
        }
        match first.take() {
            None if all.is_empty() => first = Some(data),
            Some(before) => {
                all.reserve_exact(room(body, before.len() + data.len(), bytes_max));
                all.extend_from_slice(&before);
                all.extend_from_slice(&data);
            }
            None => all.extend_from_slice(&data),
        }
        let read = first.as_ref().map_or(all.len(), Bytes::len);
        if body.is_end_stream() {
            break;
        }
        if read > bytes_max {
            return Ok(Begun::Longer(first.map_or(all, |only| only.to_vec())));
        }
    }
    Ok(Begun::Whole(first.unwrap_or_else(|| Bytes::from(all))))
}

/// How much an answer will take: what it says, within reason.
fn room(body: &AnswerBody, read: usize, bytes_max: usize) -> usize {
    let rest = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    read.saturating_add(rest).min(bytes_max.min(1 << 20)).max(read)
}

impl GuardedBody {
    /// Whether the endpoint's whole answer was passed on.
    pub(super) fn is_over(&self) -> bool {
        match self {
            Self::Passed(body) => body.is_end_stream(),
            Self::Whole(bytes) => bytes.as_ref().is_none_or(Bytes::is_empty),
            Self::Watched(watched) => watched.redactor.is_none(),
        }
    }
}

impl Watched {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, AnswerError>>> {
        loop {
            let Some(redactor) = &mut self.redactor else {
                return Poll::Ready(None);
            };
            let before = redactor.found().len();
            let (mut out, mut is_over) = match self.begun.take() {
                Some(begun) => (redactor.push(&begun), false),
                None => match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                    Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                    // Trailers do not pass.
                    Some(Ok(frame)) => (
                        frame
                            .into_data()
                            .map_or_else(|_| Vec::new(), |data| redactor.push(&data)),
                        false,
                    ),
                    None => (Vec::new(), true),
                },
            };
            is_over |= self.body.is_end_stream();
            if is_over {
                out.extend(redactor.end());
            }
            let found = redactor.found().get(before..).unwrap_or_default();
            // Redacted: there is nothing to refuse any more.
            let _ = tell(found, &self.echo, &self.shared);
            if is_over {
                self.redactor = None;
            }
            if !out.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(Bytes::from(out)))));
            }
        }
    }
}

impl Body for GuardedBody {
    type Data = Bytes;
    type Error = AnswerError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, AnswerError>>> {
        match self.get_mut() {
            Self::Passed(body) => Pin::new(body).poll_frame(cx),
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Watched(watched) => watched.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.is_over()
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Passed(body) => body.size_hint(),
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Self::Watched(_) => SizeHint::default(),
        }
    }
}
