//! How notices are posted: the way that deliveries take, guard, identity and signature included, on a thread of its own.
//!
//! Connections live on the thread that made them, and those of deliveries on the workers. A slow webhook must not wait
//! there, so notices have a thread, a deliverer and connections of their own.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, CONTENT_TYPE};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use tokio::sync::{mpsc, oneshot};
use tokio::task::LocalSet;
use tokio::time::{Instant, interval};

use crate::delivery::{Deliverer, DeliveryCounts, DeliveryLimits, FailureKind, Outbound, Route};
use crate::domain::payload::splice;
use crate::egress::Egress;

/// The longest that one post may take.
const POST_WAIT: Duration = Duration::from_secs(10);

/// How often connections that nobody uses are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// Posts that may wait for the thread.
const QUEUE_MAX: usize = 64;

/// Signs a request's headers, fresh at every attempt.
pub type Sign = Box<dyn Fn(&mut HeaderMap) + Send>;

/// What to post, and where.
pub struct Notification {
    /// The way.
    pub route: Arc<Route>,
    /// What comes after the destination's path prefix: empty, or `/…`.
    pub path: &'static str,
    /// The event's version, for those who listen for several.
    pub version: Option<&'static str>,
    /// JSON, in no case a value.
    pub body: Bytes,
    /// What signs it; `None` where the receiver has no signing secret.
    pub sign: Option<Sign>,
}

/// Why a post was not taken. All of them may be tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PostError {
    /// The endpoint could not be reached, or its address is refused.
    #[error("the endpoint was not reached: {}", .0.name())]
    Endpoint(FailureKind),
    /// It answered, with something else than success.
    #[error("the endpoint answered {0}")]
    Status(u16),
    /// The path does not fit into a request.
    #[error("the destination's path cannot be asked for")]
    Path,
    /// The thread has ended.
    #[error("posts are not taken any more")]
    Stopped,
}

struct Order {
    notification: Notification,
    done: oneshot::Sender<Result<(), PostError>>,
}

/// The way out for notices. Ends when the last one is dropped.
#[derive(Clone)]
pub struct Post(mpsc::Sender<Order>);

impl Post {
    /// Starts the thread.
    ///
    /// # Errors
    /// Where there is none to be had.
    pub fn start(egress: Arc<Egress>, counts: Arc<DeliveryCounts>) -> io::Result<Self> {
        let (orders, waiting) = mpsc::channel(QUEUE_MAX);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().name("kiket-notify".into()).spawn(move || {
            let local = LocalSet::new();
            local.block_on(&runtime, serve(egress, counts, waiting));
        })?;
        Ok(Self(orders))
    }

    /// Posts a notification once; within, it is tried again only where nothing of it can have been processed.
    /// Anything between 200 and 299 is success.
    ///
    /// # Errors
    /// [`PostError`].
    pub async fn send(&self, notification: Notification) -> Result<(), PostError> {
        let (done, answer) = oneshot::channel();
        let order = Order { notification, done };
        self.0.send(order).await.map_err(|_| PostError::Stopped)?;
        answer.await.unwrap_or(Err(PostError::Stopped))
    }
}

async fn serve(egress: Arc<Egress>, counts: Arc<DeliveryCounts>, mut waiting: mpsc::Receiver<Order>) {
    let deliverer = std::rc::Rc::new(Deliverer::new(egress, DeliveryLimits::default(), counts));
    let mut sweep = interval(SWEEP_EVERY);
    loop {
        tokio::select! {
            order = waiting.recv() => {
                let Some(Order { notification, done }) = order else { return };
                let deliverer = std::rc::Rc::clone(&deliverer);
                tokio::task::spawn_local(async move {
                    let _ = done.send(post(&deliverer, notification).await); // whoever asked may be gone
                });
            }
            _ = sweep.tick() => deliverer.sweep(),
        }
    }
}

async fn post(deliverer: &Deliverer, notification: Notification) -> Result<(), PostError> {
    let Notification {
        route,
        path,
        version,
        body,
        sign,
    } = notification;
    let target = format!("{}{path}", route.destination.path_prefix);
    let target = if target.is_empty() { "/" } else { &target };
    let target = PathAndQuery::try_from(target).map_err(|_| PostError::Path)?;
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    if let Some(version) = version {
        let name = HeaderName::from_static("x-kiket-event-version");
        headers.insert(name, HeaderValue::from_static(version));
    }
    let length = body.len();
    let sign = |headers: &mut HeaderMap| {
        if let Some(sign) = &sign {
            sign(headers);
        }
        Ok(())
    };
    let outbound = Outbound {
        route: Arc::clone(&route),
        target,
        headers,
        body: splice(body, length, false, Bytes::new()),
        deadline: Instant::now() + POST_WAIT.min(route.timeout),
        sign: &sign,
    };
    match deliverer.deliver(outbound).await {
        Ok(delivered) if delivered.head.status.is_success() => Ok(()),
        Ok(delivered) => Err(PostError::Status(StatusCode::as_u16(&delivered.head.status))),
        Err(failure) => Err(PostError::Endpoint(failure.kind)),
    }
}
