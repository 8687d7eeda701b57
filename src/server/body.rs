//! How a request's body is read: bounded in size and time, with at most one copy.

use std::future::poll_fn;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use http_body::Body;
use hyper::body::Incoming;
use zeroize::Zeroizing;

use super::{Buffered, Load};

/// How long the rest of a refused body is read and thrown away, so that the peer sees the answer before the close.
const DISCARD_MAX: Duration = Duration::from_secs(1);

/// The first buffer for a body of unknown length, in bytes.
const CHUNKED_BYTES_FIRST: usize = 16 * 1024;

/// Why a body was not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// It is larger than allowed. Do not send it again.
    #[error("the body is too large")]
    TooLarge,
    /// There is no room for it now. Retry later.
    #[error("too many bytes are being held")]
    Overloaded,
    /// It did not arrive in time, or its framing is broken. The connection is of no use any more.
    #[error("the body did not arrive")]
    Incomplete,
}

/// The length that a request declares for its body.
#[must_use]
pub fn declared_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Reads a body whole. A body that arrived in one piece is not copied; another is copied once, into a buffer of its
/// declared length. Cancel safe in the sense that nothing is kept.
///
/// # Errors
/// [`BodyError`], each of which leaves the rest of the body unread: see [`discard`].
pub async fn read_body(
    body: &mut Incoming,
    declared: Option<u64>,
    load: &Load,
) -> Result<(Bytes, Buffered), BodyError> {
    let limit = load.limits().body_bytes_max;
    let declared = match declared {
        Some(length) => {
            let length = usize::try_from(length).map_err(|_| BodyError::TooLarge)?;
            if length > limit {
                return Err(BodyError::TooLarge);
            }
            Some(length)
        }
        None => None,
    };
    // A body of unknown length is charged at its bound: it may come to that.
    let mut held = load.buffer(declared.unwrap_or(limit)).ok_or(BodyError::Overloaded)?;
    let whole = tokio::time::timeout(load.limits().body_read_timeout, collect(body, declared, limit));
    let bytes = whole.await.map_err(|_| BodyError::Incomplete)??;
    held.shrink(bytes.len());
    Ok((bytes, held))
}

async fn collect(body: &mut Incoming, declared: Option<usize>, limit: usize) -> Result<Bytes, BodyError> {
    let Some(first) = next_data(body).await? else {
        return Ok(Bytes::new());
    };
    if declared == Some(first.len()) {
        return Ok(first);
    }
    let mut whole = Zeroizing::new(Vec::with_capacity(declared.unwrap_or(CHUNKED_BYTES_FIRST)));
    let mut next = Some(first);
    while let Some(data) = next {
        if whole.len().saturating_add(data.len()) > limit {
            return Err(BodyError::TooLarge);
        }
        whole.extend_from_slice(&data);
        next = next_data(body).await?;
    }
    Ok(Bytes::from_owner(whole))
}

/// The next piece of data; trailers are passed over.
async fn next_data(body: &mut Incoming) -> Result<Option<Bytes>, BodyError> {
    loop {
        match poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await {
            None => return Ok(None),
            Some(Err(_)) => return Err(BodyError::Incomplete),
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}

/// Reads what is left of a body that was refused and throws it away, for at most a second: a peer that is still
/// sending would otherwise see a reset instead of the answer. To be run beside the answer.
pub async fn discard(mut body: Incoming) {
    let rest = async { while let Ok(Some(_)) = next_data(&mut body).await {} };
    let _ = tokio::time::timeout(DISCARD_MAX, rest).await;
}
