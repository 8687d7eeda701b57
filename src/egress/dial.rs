//! How an endpoint is connected to: the vetted address is the one that is dialled.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use url::Host;

use super::{AllowList, Refusal, Resolver};

/// The guarded way out.
pub struct Egress {
    /// `None` where nothing is vetted.
    allow: Option<AllowList>,
    resolver: Arc<dyn Resolver>,
    connect_timeout: Duration,
}

/// Why there is no connection. Nothing was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DialError {
    /// The address, or one of the name's addresses, must not be reached.
    #[error("the destination is refused: {}", .0.name())]
    Refused(Refusal),
    /// The name has no address.
    #[error("the host has no address")]
    Unresolvable,
    /// Nobody accepts there.
    #[error("the host does not accept the connection")]
    Unreachable,
    /// It took too long.
    #[error("the connection took too long")]
    Timeout,
}

impl Egress {
    /// A way out that vets with `allow`, asks `resolver`, and waits `connect_timeout` for everything together.
    #[must_use]
    pub fn new(allow: AllowList, resolver: Arc<dyn Resolver>, connect_timeout: Duration) -> Self {
        Self {
            allow: Some(allow),
            resolver,
            connect_timeout,
        }
    }

    /// A way out that vets nothing: for a host that the operator names and no tenant can, as the metadata server is.
    #[must_use]
    pub fn unguarded(resolver: Arc<dyn Resolver>, connect_timeout: Duration) -> Self {
        Self {
            allow: None,
            resolver,
            connect_timeout,
        }
    }

    /// Connects. If any address of a name is refused, the name is: a mixed answer is an attack. Where one vetted
    /// address does not accept, the next is tried. Cancel safe.
    ///
    /// # Errors
    /// [`DialError`].
    pub async fn dial(&self, host: &Host<String>, port: u16) -> Result<TcpStream, DialError> {
        tokio::time::timeout(self.connect_timeout, self.dial_vetted(host, port))
            .await
            .unwrap_or(Err(DialError::Timeout))
    }

    async fn dial_vetted(&self, host: &Host<String>, port: u16) -> Result<TcpStream, DialError> {
        let addresses = match host {
            Host::Ipv4(address) => vec![IpAddr::V4(*address)],
            Host::Ipv6(address) => vec![IpAddr::V6(*address)],
            Host::Domain(name) => self.resolver.lookup(name).await.map_err(|_| DialError::Unresolvable)?,
        };
        for address in &addresses {
            let vetted = self.allow.as_ref().map_or(Ok(()), |allow| allow.permits(*address));
            vetted.map_err(DialError::Refused)?;
        }
        let mut last = DialError::Unresolvable;
        for address in addresses {
            match TcpStream::connect(SocketAddr::new(address, port)).await {
                Ok(stream) => {
                    stream.set_nodelay(true).map_err(|_| DialError::Unreachable)?;
                    return Ok(stream);
                }
                Err(_) => last = DialError::Unreachable,
            }
        }
        Err(last)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::io;
    use std::sync::Mutex;

    use async_trait::async_trait;
    use tokio::net::TcpListener;

    use super::*;

    /// Answers each lookup with the next of its answers.
    struct Scripted(Mutex<Vec<Vec<&'static str>>>);

    #[async_trait]
    impl Resolver for Scripted {
        async fn lookup(&self, _: &str) -> io::Result<Vec<IpAddr>> {
            let mut answers = self.0.lock().unwrap();
            if answers.is_empty() {
                return Err(io::ErrorKind::NotFound.into());
            }
            Ok(answers
                .remove(0)
                .iter()
                .map(|address| address.parse().unwrap())
                .collect())
        }
    }

    fn egress(open: &[&str], answers: &[&[&'static str]]) -> Egress {
        let allow = AllowList::new(open.iter().map(|network| network.parse().unwrap()).collect());
        let answers = answers.iter().map(|answer| answer.to_vec()).collect();
        Egress::new(allow, Arc::new(Scripted(Mutex::new(answers))), Duration::from_secs(5))
    }

    fn name() -> Host<String> {
        Host::Domain("ext.example.com".into())
    }

    #[tokio::test]
    async fn a_name_with_one_refused_address_is_refused_whole_and_nothing_is_dialled() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mixed = egress(&["127.0.0.1/32"], &[&["127.0.0.1", "10.0.0.1"]]);
        assert_eq!(
            mixed.dial(&name(), port).await.unwrap_err(),
            DialError::Refused(Refusal::Private)
        );
        let pending = std::future::poll_fn(|cx| std::task::Poll::Ready(listener.poll_accept(cx).is_pending()));
        assert!(pending.await);
    }

    #[tokio::test]
    async fn the_answer_that_was_vetted_is_the_one_that_is_dialled() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        // A second lookup would say something else: there is none.
        let flipping = egress(&["127.0.0.1/32"], &[&["127.0.0.1"], &["10.0.0.1"]]);
        let stream = flipping.dial(&name(), port).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap().ip(), IpAddr::from([127, 0, 0, 1]));
        assert!(stream.nodelay().unwrap());
        assert_eq!(
            flipping.dial(&name(), port).await.unwrap_err(),
            DialError::Refused(Refusal::Private)
        );
    }

    #[tokio::test]
    async fn the_next_vetted_address_is_tried_where_one_does_not_accept() {
        let listener = TcpListener::bind("127.0.0.2:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let two = egress(&["127.0.0.0/8"], &[&["127.0.0.3", "127.0.0.2"]]);
        assert!(two.dial(&name(), port).await.is_ok());
    }

    #[tokio::test]
    async fn literals_are_vetted_too_and_a_name_without_address_is_no_destination() {
        let closed = egress(&[], &[]);
        let literal = Host::Ipv4([127, 0, 0, 1].into());
        assert_eq!(
            closed.dial(&literal, 1).await.unwrap_err(),
            DialError::Refused(Refusal::Loopback)
        );
        let mapped = Host::Ipv6("::ffff:169.254.169.254".parse().unwrap());
        assert_eq!(
            closed.dial(&mapped, 1).await.unwrap_err(),
            DialError::Refused(Refusal::Metadata)
        );
        assert_eq!(closed.dial(&name(), 1).await.unwrap_err(), DialError::Unresolvable);
        let empty = egress(&[], &[&[]]);
        assert_eq!(empty.dial(&name(), 1).await.unwrap_err(), DialError::Unresolvable);
    }

    #[tokio::test]
    async fn nobody_listening_is_unreachable() {
        let port = TcpListener::bind("127.0.0.1:0")
            .await
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let open = egress(&["127.0.0.0/8"], &[]);
        let literal = Host::Ipv4([127, 0, 0, 1].into());
        assert_eq!(open.dial(&literal, port).await.unwrap_err(), DialError::Unreachable);
    }
}
