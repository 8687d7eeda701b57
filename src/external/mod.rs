//! How a secret that stands in another company's backend is fetched: the port, and the way to open one.
//!
//! An adapter asks; it keeps no value and remembers no outcome (its own login apart), so caching, single flight and
//! breakers can stand around it. To add one: a [`Backend`](crate::domain::provider::Backend), a private
//! module here, an arm in [`External::open`], and the outcome table in `tests/it` over it.

mod failed;
mod gsm;
mod open;
mod tries;
mod value;
mod vault;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;

use crate::domain::provider::{FetchOutcome, Target, Unavailable};
use crate::egress::ExchangeError;

pub use gsm::Machine;
pub use open::{Credentials, External, NoRandomness, OpenError};
pub use value::ExternalValue;
pub use vault::{Transit, TransitError};

/// A backend as one organization may see it, with the organization's credential. A new credential or setting is a new
/// source.
#[async_trait]
pub trait ExternalSource: Send + Sync + 'static {
    /// Fetches what a target names, within a time that includes logging in, back-off and every try. What the backend
    /// may answer at another time is tried again within it. Cancel safe: nothing is written anywhere.
    async fn fetch(&self, target: &Target, within: Duration) -> Fetched;

    /// Whether the backend can be reached and takes the credential. Reads no secret.
    async fn check(&self, within: Duration) -> Checked;
}

/// How a fetch ended. None of these falls through to a wider scope.
#[derive(Debug)]
pub enum Fetched {
    /// There is a value.
    Found(ExternalValue),
    /// What the target names does not exist: no such secret, field or version, or one that was deleted.
    Dangling,
    /// The credential may not read it. Retrying does not help.
    Denied,
    /// It cannot be told at the moment. A value that was fetched before may be used while it is fresh enough.
    Unavailable(Unavailable),
}

impl Fetched {
    /// The outcome without the value: for the log, the metric and the test.
    #[must_use]
    pub const fn outcome(&self) -> FetchOutcome {
        match self {
            Self::Found(_) => FetchOutcome::Found,
            Self::Dangling => FetchOutcome::Dangling,
            Self::Denied => FetchOutcome::Denied,
            Self::Unavailable(why) => FetchOutcome::Unavailable(*why),
        }
    }

    /// The outcome's word.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.outcome().name()
    }
}

impl From<Unavailable> for Fetched {
    fn from(why: Unavailable) -> Self {
        Self::Unavailable(why)
    }
}

impl From<ExchangeError> for Unavailable {
    fn from(error: ExchangeError) -> Self {
        match error {
            ExchangeError::Refused => Self::Refused,
            ExchangeError::Unreachable => Self::Unreachable,
            ExchangeError::Tls => Self::TlsFailed,
            ExchangeError::Timeout => Self::Timeout,
            ExchangeError::Redirected => Self::Redirected,
            ExchangeError::Protocol => Self::Protocol,
            ExchangeError::TooLarge => Self::TooLarge,
        }
    }
}

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checked {
    /// The backend takes the credential.
    Usable,
    /// It does not. Somebody has to replace the credential.
    Denied,
    /// It cannot be told at the moment.
    Unavailable(Unavailable),
}

impl Checked {
    /// The word in the API and in logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Usable => "usable",
            Self::Denied => "denied",
            Self::Unavailable(why) => why.name(),
        }
    }
}

/// Which version of a value a backend handed out. Two are equal where the value was not replaced between them.
#[derive(Clone, PartialEq, Eq)]
pub enum ExternalVersion {
    /// As the backend names it: says nothing of the value, and may be stored and shown.
    Named(String),
    /// Of a backend without versions: a MAC of the value under a key that this process drew when it started. Compared
    /// in memory, never stored or shown: it tells whether two values are the same.
    Unnamed([u8; 32]),
}

impl ExternalVersion {
    /// The backend's name of it, where there is one.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Named(name) => Some(name),
            Self::Unnamed(_) => None,
        }
    }
}

impl fmt::Debug for ExternalVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name().unwrap_or("unnamed"))
    }
}
