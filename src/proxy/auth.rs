//! Who may send deliveries: a dispatcher with a token, or, where none is set, any local process but a browser.

use std::sync::Arc;

use http::HeaderMap;
use http::header::{AUTHORIZATION, ORIGIN};
use secrecy::SecretString;
use tokio::runtime::Handle;

use crate::crypto::keyring::Keyring;
use crate::crypto::token::TokenDigest;
use crate::domain::id::OrganizationId;
use crate::domain::problem::Problem;
use crate::domain::time::Timestamp;
use crate::registry::{KnownToken, TokenError, Tokens};
use crate::store::Role;

/// What a dispatcher has to show.
pub enum DispatcherAuth {
    /// A token, as `Authorization: Bearer`.
    Token {
        /// This one,
        file: TokenDigest,
        /// or one that the REST API made.
        stored: StoredTokens,
    },
    /// Nothing: `config` allows this on loopback and Unix sockets only.
    Local,
}

/// Dispatcher tokens that the REST API made. One that was seen before costs no store call.
pub struct StoredTokens {
    tokens: Arc<Tokens>,
    keyring: Arc<Keyring>,
    control: Handle,
}

/// Whose deliveries a dispatcher may send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Admitted {
    /// Everybody's.
    Anyones,
    /// One organization's.
    Only(OrganizationId),
}

impl DispatcherAuth {
    /// Checks a request's head.
    ///
    /// # Errors
    /// [`Problem::DispatcherUnauthenticated`], or what is wrong where stored tokens cannot be looked at.
    pub(super) async fn check(&self, headers: &HeaderMap, now: Timestamp) -> Result<Admitted, Problem> {
        match self {
            Self::Local => local(headers),
            Self::Token { file, stored } => {
                let token = bearer(headers).ok_or(Problem::DispatcherUnauthenticated)?;
                if file.matches(token) {
                    Ok(Admitted::Anyones)
                } else {
                    stored.check(token, now).await
                }
            }
        }
    }
}

impl StoredTokens {
    /// Tokens of a store that works on `control`.
    #[must_use]
    pub fn new(tokens: Arc<Tokens>, keyring: Arc<Keyring>, control: Handle) -> Self {
        Self {
            tokens,
            keyring,
            control,
        }
    }

    async fn check(&self, token: &[u8], now: Timestamp) -> Result<Admitted, Problem> {
        let unauthenticated = Problem::DispatcherUnauthenticated;
        let text = std::str::from_utf8(token).map_err(|_| unauthenticated)?;
        let hash = self.keyring.token_hash(&SecretString::from(text));
        let known = match self.tokens.known(&hash) {
            Some(known) => Some(known),
            None => self.look_up(hash).await?,
        };
        let known = known
            .filter(|known| known.row.role == Role::Dispatcher && known.is_valid(now))
            .ok_or(unauthenticated)?;
        known.used(now);
        Ok(match &known.row.organization {
            None => Admitted::Anyones,
            Some(organization) => Admitted::Only(organization.clone()),
        })
    }

    async fn look_up(&self, hash: [u8; 32]) -> Result<Option<Arc<KnownToken>>, Problem> {
        let tokens = Arc::clone(&self.tokens);
        let found = self.control.spawn(async move { tokens.find(&hash).await });
        match found.await {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(TokenError::Forged)) => Ok(None),
            Ok(Err(TokenError::TooMany)) => Err(Problem::Overloaded),
            Ok(Err(_)) => Err(Problem::StoreUnavailable),
            Err(_) => Err(Problem::Internal),
        }
    }
}

impl Admitted {
    /// Holds an installation against what the dispatcher's token is bound to.
    ///
    /// # Errors
    /// [`Problem::ScopeMismatch`].
    pub(super) fn covers(&self, organization: &OrganizationId) -> Result<(), Problem> {
        match self {
            Self::Only(own) if own != organization => Err(Problem::ScopeMismatch),
            Self::Anyones | Self::Only(_) => Ok(()),
        }
    }
}

/// A page in a browser on this host can post here too; a browser always says where the page came from.
fn local(headers: &HeaderMap) -> Result<Admitted, Problem> {
    if headers.contains_key(ORIGIN) {
        Err(Problem::DispatcherUnauthenticated)
    } else {
        Ok(Admitted::Anyones)
    }
}

/// The token of an `Authorization: Bearer` header (RFC 6750, section 2.1). Two headers are none.
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let mut all = headers.get_all(AUTHORIZATION).iter();
    let only = all.next()?;
    if all.next().is_some() {
        return None;
    }
    let (scheme, token) = only.as_bytes().split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then_some(token)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn only_the_very_token_is_let_in() {
        let file = TokenDigest::of(b"right");
        let admits = |headers: &HeaderMap| bearer(headers).is_some_and(|token| file.matches(token));
        for (value, admitted) in [
            ("Bearer right", true),
            ("bearer right", true),
            ("Bearer wrong", false),
            ("Bearer right ", false),
            ("Bearer ", false),
            ("Bearer", false),
            ("Basic right", false),
            ("right", false),
        ] {
            assert_eq!(admits(&headers(&[("authorization", value)])), admitted, "{value}");
        }
        assert!(!admits(&HeaderMap::new()));
        let twice = headers(&[("authorization", "Bearer right"), ("authorization", "Bearer right")]);
        assert!(!admits(&twice));
    }

    #[test]
    fn without_a_token_everyone_local_is_let_in_but_a_page_in_a_browser() {
        assert!(local(&HeaderMap::new()).is_ok());
        assert!(local(&headers(&[("origin", "null")])).is_err());
    }
}
