//! Why nothing was read of a backend, and what a question comes to within the time that its caller has.

use tokio::time::timeout_at;

use super::tries::Tries;
use super::{Checked, Fetched};
use crate::domain::provider::Unavailable;

/// Why nothing was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failed {
    /// The backend does not take the credential or token.
    Denied,
    /// It cannot be told at the moment.
    Unavailable(Unavailable),
}

impl From<Unavailable> for Failed {
    fn from(why: Unavailable) -> Self {
        Self::Unavailable(why)
    }
}

/// What a read comes to.
pub(super) async fn fetched(tries: Tries, read: impl Future<Output = Result<Fetched, Failed>>) -> Fetched {
    match in_time(tries, read).await {
        Ok(fetched) => fetched,
        Err(Failed::Denied) => Fetched::Denied,
        Err(Failed::Unavailable(why)) => Fetched::Unavailable(why),
    }
}

/// What a look at the backend comes to.
pub(super) async fn checked(tries: Tries, look: impl Future<Output = Result<(), Failed>>) -> Checked {
    match in_time(tries, look).await {
        Ok(()) => Checked::Usable,
        Err(Failed::Denied) => Checked::Denied,
        Err(Failed::Unavailable(why)) => Checked::Unavailable(why),
    }
}

async fn in_time<T>(tries: Tries, asked: impl Future<Output = Result<T, Failed>>) -> Result<T, Failed> {
    timeout_at(tries.deadline(), asked)
        .await
        .unwrap_or(Err(Unavailable::Timeout.into()))
}
