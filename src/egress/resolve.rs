//! How a name becomes addresses: a port, the system's way, and one lookup for all who ask for the same name.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tokio::runtime::Handle;
use tokio::sync::watch;

/// Names to addresses. A resolver judges nothing: every answer is vetted where it is dialled.
#[async_trait]
pub trait Resolver: Send + Sync + 'static {
    /// All addresses of a name, in the order to try them.
    ///
    /// # Errors
    /// Where the name has none or nobody answers.
    async fn lookup(&self, host: &str) -> io::Result<Vec<IpAddr>>;
}

/// What the system's resolver says. Blocks threads of the control runtime, never a worker.
#[derive(Debug, Clone)]
pub struct SystemResolver(Handle);

impl SystemResolver {
    /// Looks names up on this runtime's blocking threads.
    #[must_use]
    pub const fn new(control: Handle) -> Self {
        Self(control)
    }
}

#[async_trait]
impl Resolver for SystemResolver {
    async fn lookup(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        use std::net::ToSocketAddrs;

        let name = (host.to_owned(), 0);
        let looked_up = self
            .0
            .spawn_blocking(move || name.to_socket_addrs().map(Vec::from_iter));
        let addresses = looked_up
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::Interrupted))??;
        Ok(addresses.into_iter().map(|address| address.ip()).collect())
    }
}

/// One lookup of a name at a time, for all who ask meanwhile. A lookup can hold a thread for as long as the name's servers
/// do not answer, and goes on when nobody waits for it any more: without this, a few deliveries to such a name would keep
/// everybody's waiting. Nothing is kept once it is answered.
pub struct SharedLookups {
    resolver: Arc<dyn Resolver>,
    control: Handle,
    under_way: UnderWay,
}

type LookedUp = Result<Vec<IpAddr>, io::ErrorKind>;
type UnderWay = Arc<Mutex<HashMap<String, watch::Receiver<Option<LookedUp>>>>>;

impl SharedLookups {
    /// Shares what `resolver` looks up, on the runtime `control`.
    #[must_use]
    pub fn new(resolver: Arc<dyn Resolver>, control: Handle) -> Self {
        Self {
            resolver,
            control,
            under_way: UnderWay::default(),
        }
    }

    fn join(&self, host: &str) -> watch::Receiver<Option<LookedUp>> {
        let (sender, done) = match lock(&self.under_way).entry(host.to_owned()) {
            Entry::Occupied(under_way) => return under_way.get().clone(),
            Entry::Vacant(place) => {
                let (sender, done) = watch::channel(None);
                place.insert(done.clone());
                (sender, done)
            }
        };
        let (resolver, place) = (
            Arc::clone(&self.resolver),
            Place {
                under_way: Arc::clone(&self.under_way),
                host: host.to_owned(),
            },
        );
        self.control.spawn(async move {
            let looked_up = resolver.lookup(&place.host).await.map_err(|error| error.kind());
            drop(place); // whoever comes from here on has it looked up anew
            sender.send_replace(Some(looked_up));
        });
        done
    }
}

#[async_trait]
impl Resolver for SharedLookups {
    async fn lookup(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        let mut done = self.join(host);
        let looked_up = match done.wait_for(Option::is_some).await {
            Ok(looked_up) => looked_up.clone(),
            Err(_) => None, // it died
        };
        looked_up
            .unwrap_or(Err(io::ErrorKind::Interrupted))
            .map_err(io::Error::from)
    }
}

/// A lookup under way; dropped, however it ends, the next one may begin.
struct Place {
    under_way: UnderWay,
    host: String,
}

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.under_way).remove(&self.host);
    }
}

fn lock(under_way: &UnderWay) -> MutexGuard<'_, HashMap<String, watch::Receiver<Option<LookedUp>>>> {
    // Each step leaves the map whole, so a poisoned lock is still sound.
    under_way.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::FutureExt;
    use tokio::sync::Semaphore;

    use super::*;

    /// Answers once it is let, and counts who asks.
    struct Slow {
        asked: AtomicUsize,
        let_go: Semaphore,
    }

    #[async_trait]
    impl Resolver for Slow {
        async fn lookup(&self, host: &str) -> io::Result<Vec<IpAddr>> {
            self.asked.fetch_add(1, Ordering::SeqCst);
            self.let_go.acquire().await.unwrap().forget();
            match host {
                "none.example.com" => Err(io::ErrorKind::NotFound.into()),
                "dies.example.com" => panic!("a lookup that dies"),
                _ => Ok(vec![[192, 0, 2, 1].into()]),
            }
        }
    }

    fn slow() -> (Arc<Slow>, SharedLookups) {
        let slow = Arc::new(Slow {
            asked: AtomicUsize::new(0),
            let_go: Semaphore::new(0),
        });
        let resolver = Arc::clone(&slow) as Arc<dyn Resolver>;
        (slow, SharedLookups::new(resolver, Handle::current()))
    }

    #[tokio::test]
    async fn whoever_asks_for_a_name_that_is_being_looked_up_waits_for_the_same_answer() {
        let (slow, shared) = slow();
        let waiting = futures_util::future::join_all((0..100).map(|_| shared.lookup("slow.example.com")));
        let (answers, ()) = tokio::join!(waiting, async { slow.let_go.add_permits(1) });
        assert!(answers.iter().all(|answer| answer.as_ref().unwrap().len() == 1));
        assert_eq!(slow.asked.load(Ordering::SeqCst), 1);
        slow.let_go.add_permits(1);
        assert!(shared.lookup("slow.example.com").await.is_ok());
        assert_eq!(slow.asked.load(Ordering::SeqCst), 2, "nothing is kept");
    }

    #[tokio::test]
    async fn a_lookup_that_nobody_waits_for_any_more_is_joined_and_not_begun_again() {
        let (slow, shared) = slow();
        for _ in 0..100 {
            assert!(shared.lookup("slow.example.com").now_or_never().is_none());
            tokio::task::yield_now().await;
        }
        assert_eq!(slow.asked.load(Ordering::SeqCst), 1);
        slow.let_go.add_permits(1);
        assert!(shared.lookup("slow.example.com").await.is_ok());
        assert_eq!(slow.asked.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn another_name_and_one_whose_lookup_failed_or_died_is_looked_up_by_itself() {
        let (slow, shared) = slow();
        slow.let_go.add_permits(6);
        for (host, kind) in [
            ("none.example.com", io::ErrorKind::NotFound),
            ("dies.example.com", io::ErrorKind::Interrupted),
        ] {
            for _ in 0..2 {
                assert_eq!(shared.lookup(host).await.unwrap_err().kind(), kind, "{host}");
            }
        }
        assert!(shared.lookup("a.example.com").await.is_ok() && shared.lookup("b.example.com").await.is_ok());
        assert_eq!(slow.asked.load(Ordering::SeqCst), 6);
    }
}
