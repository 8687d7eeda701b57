//! Who may send deliveries: a dispatcher with the token, or, where none is set, any local process but a browser.

use http::HeaderMap;
use http::header::{AUTHORIZATION, ORIGIN};

use crate::crypto::token::TokenDigest;
use crate::domain::problem::Problem;

/// What a dispatcher has to show.
#[derive(Debug)]
pub enum DispatcherAuth {
    /// This token, as `Authorization: Bearer`.
    Token(TokenDigest),
    /// Nothing: `config` allows this on loopback and Unix sockets only.
    Local,
}

impl DispatcherAuth {
    /// Checks a request's head.
    ///
    /// # Errors
    /// [`Problem::DispatcherUnauthenticated`].
    pub fn check(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let admitted = match self {
            Self::Token(expected) => bearer(headers).is_some_and(|token| expected.matches(token)),
            // A page in a browser on this host can post here too; a browser always says where the page came from.
            Self::Local => !headers.contains_key(ORIGIN),
        };
        if admitted {
            Ok(())
        } else {
            Err(Problem::DispatcherUnauthenticated)
        }
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
        let auth = DispatcherAuth::Token(TokenDigest::of(b"right"));
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
            let checked = auth.check(&headers(&[("authorization", value)]));
            assert_eq!(checked.is_ok(), admitted, "{value}");
        }
        assert!(auth.check(&HeaderMap::new()).is_err());
        let twice = headers(&[("authorization", "Bearer right"), ("authorization", "Bearer right")]);
        assert!(auth.check(&twice).is_err());
    }

    #[test]
    fn without_a_token_everyone_local_is_let_in_but_a_page_in_a_browser() {
        assert!(DispatcherAuth::Local.check(&HeaderMap::new()).is_ok());
        assert!(DispatcherAuth::Local.check(&headers(&[("origin", "null")])).is_err());
    }
}
