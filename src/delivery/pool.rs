//! Which connection a request gets: one worker's pools, one per origin, certificate and trust.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::client::conn::http2;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::DeliveryCounts;
use super::connection::{ConnectError, Connected, H1, RequestBody, connect};
use super::route::{PoolKey, Route};
use crate::egress::Egress;

/// The longest that a connection stays idle (contract, section 5): endpoints commonly close after five seconds.
const IDLE_MAX: Duration = Duration::from_secs(4);

/// A worker's pools. Nothing here is borrowed over an await.
pub(super) struct Pools {
    pools: RefCell<HashMap<PoolKey, Pool>>,
    idle_connections_max: usize,
}

struct Pool {
    idle: Vec<Idle>,
    shared: Option<Rc<H2>>,
    protocol: Option<Protocol>,
    /// Held while the protocol is being found out, so that an HTTP/2 endpoint sees one handshake.
    finding_out: Rc<Semaphore>,
    /// The way that was last taken. A connection holds the key that its handshake was made with: once nobody can take
    /// this way any more, it must not keep the key in memory.
    taken_by: Weak<PoolKey>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Protocol {
    H1,
    H2,
}

struct Idle {
    connection: H1,
    until: Instant,
}

/// An HTTP/2 connection that requests share. Whoever uses it holds it.
pub(super) struct H2 {
    pub(super) sender: http2::SendRequest<RequestBody>,
    used_at: Cell<Instant>,
}

/// A connection for one request.
pub(super) enum Lent {
    H1(H1),
    H2(Rc<H2>),
}

impl Pools {
    pub(super) fn new(idle_connections_max: usize) -> Self {
        Self {
            pools: RefCell::new(HashMap::new()),
            idle_connections_max,
        }
    }

    /// A connection that is there, or a new one. An idle one whose peer has closed it is passed over.
    pub(super) async fn connection(
        &self,
        route: &Route,
        egress: &Egress,
        counts: &DeliveryCounts,
    ) -> Result<Lent, ConnectError> {
        if let Some(lent) = self.lend(&route.pool, counts).await {
            return Ok(lent);
        }
        let finding_out = self.finding_out(route);
        let _found_out = match &finding_out {
            None => None,
            Some(gate) => {
                let permit = gate.acquire().await; // never closed
                if let Some(lent) = self.lend(&route.pool, counts).await {
                    return Ok(lent);
                }
                permit.ok()
            }
        };
        // In a box of its own: what a handshake keeps would be part of every delivery's state, idle connections' too.
        match Box::pin(connect(egress, route, counts)).await? {
            Connected::H1(connection) => {
                self.with(&route.pool, |pool| pool.protocol = Some(Protocol::H1));
                Ok(Lent::H1(connection))
            }
            Connected::H2(sender) => {
                let shared = Rc::new(H2 {
                    sender,
                    used_at: Cell::new(Instant::now()),
                });
                self.with(&route.pool, |pool| {
                    pool.protocol = Some(Protocol::H2);
                    pool.shared = Some(Rc::clone(&shared));
                });
                Ok(Lent::H2(shared))
            }
        }
    }

    async fn lend(&self, key: &Arc<PoolKey>, counts: &DeliveryCounts) -> Option<Lent> {
        let lent = poll_fn(|cx| Poll::Ready(self.take(key, cx))).await?;
        counts.reused.fetch_add(1, Ordering::Relaxed);
        Some(lent)
    }

    fn take(&self, key: &Arc<PoolKey>, cx: &mut Context<'_>) -> Option<Lent> {
        let mut pools = self.pools.borrow_mut();
        let pool = pools.get_mut(&**key)?;
        if pool.taken_by.as_ptr() != Arc::as_ptr(key) {
            pool.taken_by = Arc::downgrade(key);
        }
        if let Some(shared) = &pool.shared {
            if !shared.sender.is_closed() {
                shared.used_at.set(Instant::now());
                return Some(Lent::H2(Rc::clone(shared)));
            }
            pool.shared = None;
        }
        let now = Instant::now();
        while let Some(Idle { mut connection, until }) = pool.idle.pop() {
            if now < until && connection.is_reusable(cx) {
                return Some(Lent::H1(connection));
            }
        }
        None
    }

    /// The gate to pass before connecting, where the endpoint may speak HTTP/2.
    fn finding_out(&self, route: &Route) -> Option<Rc<Semaphore>> {
        route.tls.as_ref()?;
        self.with(&route.pool, |pool| {
            (pool.protocol != Some(Protocol::H1)).then(|| Rc::clone(&pool.finding_out))
        })
    }

    /// Takes a connection back whose last answer was read whole. `life` is what the endpoint advertised.
    pub(super) fn put(&self, key: &Arc<PoolKey>, connection: H1, life: Option<Duration>) {
        let life = life.map_or(IDLE_MAX, |life| life.min(IDLE_MAX));
        if life.is_zero() {
            return;
        }
        let idle = Idle {
            connection,
            until: Instant::now() + life,
        };
        self.with(key, |pool| {
            if pool.idle.len() < self.idle_connections_max {
                pool.idle.push(idle);
            }
        });
    }

    /// Closes what was idle for too long, and what was made with a client's key that nothing uses any more.
    pub(super) fn sweep(&self) {
        let now = Instant::now();
        self.pools.borrow_mut().retain(|key, pool| {
            if key.certificate.is_some() && pool.taken_by.strong_count() == 0 {
                pool.idle.clear();
                pool.shared = None;
            }
            pool.idle.retain(|idle| now < idle.until);
            let is_unused =
                |shared: &Rc<H2>| Rc::strong_count(shared) == 1 && now.duration_since(shared.used_at.get()) >= IDLE_MAX;
            if pool
                .shared
                .as_ref()
                .is_some_and(|shared| is_unused(shared) || shared.sender.is_closed())
            {
                pool.shared = None;
            }
            let is_found_out = Rc::strong_count(&pool.finding_out) == 1;
            !(pool.idle.is_empty() && pool.shared.is_none() && is_found_out)
        });
    }

    fn with<T>(&self, key: &Arc<PoolKey>, f: impl FnOnce(&mut Pool) -> T) -> T {
        let mut pools = self.pools.borrow_mut();
        match pools.get_mut(&**key) {
            Some(pool) => f(pool),
            None => f(pools.entry(PoolKey::clone(key)).or_insert_with(|| Pool {
                idle: Vec::new(),
                shared: None,
                protocol: None,
                finding_out: Rc::new(Semaphore::new(1)),
                taken_by: Arc::downgrade(key),
            })),
        }
    }
}

impl H2 {
    /// Notes that an answer was read to its end.
    pub(super) fn used(&self) {
        self.used_at.set(Instant::now());
    }
}
