//! How an endpoint's answer comes back: streamed, bounded in size and time; its connection goes back to the pool.

use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep, sleep_until};

use super::FailureKind;
use super::attempt::{h1_failure, h2_failure};
use super::connection::H1;
use super::pool::{H2, Pools};
use super::route::PoolKey;

/// Why an answer broke off after its head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the endpoint's answer broke off: {}", .0.name())]
pub struct AnswerError(pub FailureKind);

/// An endpoint's answer. Dropped before its end, it closes an HTTP/1.1 connection, or resets an HTTP/2 stream.
pub struct AnswerBody {
    incoming: Incoming,
    carrier: Option<Carrier>,
    bytes_left: usize,
    deadline: Instant,
    timer: Option<Pin<Box<Sleep>>>,
}

/// What brings the answer.
pub(super) enum Carrier {
    H1 {
        connection: H1,
        pools: Rc<Pools>,
        key: Arc<PoolKey>,
        life: Option<Duration>,
    },
    H2(Rc<H2>),
}

impl AnswerBody {
    pub(super) fn new(incoming: Incoming, carrier: Carrier, bytes_max: usize, deadline: Instant) -> Self {
        let mut body = Self {
            incoming,
            carrier: Some(carrier),
            bytes_left: bytes_max,
            deadline,
            timer: None,
        };
        if body.incoming.is_end_stream() {
            // Nobody polls an empty body, so its end is here.
            body.finish(&mut Context::from_waker(Waker::noop()));
        }
        body
    }

    /// The connection's part first, then the body's. Without a waker of its own: whenever the connection brings
    /// something, this task is woken by the connection.
    fn poll_incoming(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(Carrier::H1 { connection, .. }) = &mut self.carrier else {
            return Pin::new(&mut self.incoming).poll_frame(cx);
        };
        let mut unheard = Context::from_waker(Waker::noop());
        match Pin::new(&mut self.incoming).poll_frame(&mut unheard) {
            Poll::Pending => {
                connection.drive(cx);
                Pin::new(&mut self.incoming).poll_frame(&mut unheard)
            }
            ready => ready,
        }
    }

    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(self.deadline)));
        timer.as_mut().poll(cx)
    }

    /// The answer is whole: whoever brought it is free.
    fn finish(&mut self, cx: &mut Context<'_>) {
        match self.carrier.take() {
            Some(Carrier::H1 {
                mut connection,
                pools,
                key,
                life,
            }) => {
                let is_reusable = connection.is_reusable(cx);
                if is_reusable {
                    pools.put(&key, connection, life);
                }
            }
            Some(Carrier::H2(shared)) => shared.used(),
            None => {}
        }
    }

    fn fail(&mut self, kind: FailureKind) -> Poll<Option<Result<Frame<Bytes>, AnswerError>>> {
        self.carrier = None;
        Poll::Ready(Some(Err(AnswerError(kind))))
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = AnswerError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, AnswerError>>> {
        let this = self.get_mut();
        if this.carrier.is_none() {
            return Poll::Ready(None);
        }
        match this.poll_incoming(cx) {
            Poll::Pending => match this.poll_deadline(cx) {
                Poll::Ready(()) => this.fail(FailureKind::Timeout),
                Poll::Pending => Poll::Pending,
            },
            Poll::Ready(None) => {
                this.finish(cx);
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(error))) => {
                let kind = match &this.carrier {
                    Some(Carrier::H2(_)) => h2_failure(&error),
                    Some(Carrier::H1 { .. }) | None => h1_failure(&error),
                };
                this.fail(kind)
            }
            Poll::Ready(Some(Ok(frame))) => {
                let bytes = frame.data_ref().map_or(0, Bytes::len);
                let Some(left) = this.bytes_left.checked_sub(bytes) else {
                    return this.fail(FailureKind::ResponseTooLarge);
                };
                this.bytes_left = left;
                if this.incoming.is_end_stream() {
                    this.finish(cx);
                }
                Poll::Ready(Some(Ok(frame)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

/// How long an endpoint says it keeps an idle connection (`Keep-Alive: timeout=…`), less a second for the way.
pub(super) fn advertised_life(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get("keep-alive")?.to_str().ok()?;
    let seconds = value
        .split(',')
        .filter_map(|parameter| parameter.split_once('='))
        .find(|(name, _)| name.trim().eq_ignore_ascii_case("timeout"))
        .and_then(|(_, seconds)| seconds.trim().parse::<u64>().ok())?;
    Some(Duration::from_secs(seconds.saturating_sub(1)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn an_advertised_life_is_believed_less_a_second() {
        for (value, seconds) in [
            ("timeout=5", Some(4)),
            ("max=100, Timeout=3", Some(2)),
            ("timeout=0", Some(0)),
            ("max=3", None),
            ("x", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("keep-alive", value.parse().unwrap());
            assert_eq!(advertised_life(&headers), seconds.map(Duration::from_secs), "{value}");
        }
    }
}
