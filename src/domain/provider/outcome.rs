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
        /// It failed again and again, and is left alone for a while.
        CircuitOpen = "circuit-open",
        /// No provider is configured that could be asked.
        ProviderMissing = "provider-missing",
        /// The secret that the provider is asked with is missing, or cannot be used.
        CredentialUnusable = "credential-unusable",
    }
);

impl Unavailable {
    /// Whether a reason may be gone a moment later though nobody changes anything here.
    #[must_use]
    pub const fn may_pass(self) -> bool {
        matches!(
            self,
            Self::Sealed
                | Self::RateLimited
                | Self::NotCaughtUp
                | Self::ServerError
                | Self::Unreachable
                | Self::Timeout
        )
    }
}

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
    /// Every way.
    #[expect(clippy::indexing_slicing, reason = "an index out of bounds does not compile")]
    pub const ALL: [Self; Unavailable::ALL.len() + 3] = {
        let mut all = [Self::Found; Unavailable::ALL.len() + 3];
        all[1] = Self::Dangling;
        all[2] = Self::Denied;
        let mut at = 0;
        while at < Unavailable::ALL.len() {
            all[at + 3] = Self::Unavailable(Unavailable::ALL[at]);
            at += 1;
        }
        all
    };

    /// Where it stands in [`Self::ALL`].
    #[must_use]
    pub const fn position(self) -> usize {
        match self {
            Self::Found => 0,
            Self::Dangling => 1,
            Self::Denied => 2,
            Self::Unavailable(why) => why as usize + 3,
        }
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outcome_stands_where_it_says() {
        for (at, outcome) in FetchOutcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome.position(), at, "{}", outcome.name());
        }
    }
}
