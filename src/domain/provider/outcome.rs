//! How asking a backend for a secret can end, in words.

use crate::domain::vocabulary::vocabulary;

vocabulary!(
    /// Why a backend cannot say at the moment whether a secret is there.
    Unavailable {
        /// It is sealed, and says so.
        Sealed = "sealed",
        /// It wants fewer requests.
        RateLimited = "rate-limited",
        /// It has not caught up with itself.
        NotCaughtUp = "not-caught-up",
        /// It failed.
        ServerError = "server-error",
        /// No connection, or it broke.
        Unreachable = "unreachable",
        /// Its address must not be reached.
        Refused = "refused",
        /// No TLS session with it.
        TlsFailed = "tls-failed",
        /// No answer within the time.
        Timeout = "timeout",
        /// It points elsewhere, which is never followed.
        Redirected = "redirected",
        /// What it says is not HTTP, or not as it was asked for.
        Protocol = "protocol",
        /// What stands there is no value, or the answer is not the backend's.
        WrongShape = "wrong-shape",
        /// What came does not match the checksum that came with it.
        Corrupted = "corrupted",
        /// The value or the answer is larger than accepted.
        TooLarge = "too-large",
        /// There is no way to log in where the provider says.
        LoginFailed = "login-failed",
    }
);

/// How a fetch ended, without what it brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FetchOutcome {
    /// With a value.
    Found,
    /// The reference's target does not exist.
    Dangling,
    /// The provider's credential may not read it.
    Denied,
    /// It cannot be told.
    Unavailable(Unavailable),
}

impl FetchOutcome {
    /// The word in logs, on metrics and in tests.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Found => "found",
            Self::Dangling => "dangling",
            Self::Denied => "denied",
            Self::Unavailable(why) => why.name(),
        }
    }
}
