//! How a name becomes addresses: a port, and the system's way.

use std::io;
use std::net::IpAddr;

use async_trait::async_trait;
use tokio::runtime::Handle;

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
