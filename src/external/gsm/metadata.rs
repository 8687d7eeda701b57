//! As which machine the sidecar runs in Google's cloud: the metadata server's tokens, and the one address they go to.
//!
//! All tenants share the machine. So where the server is and where its tokens go is the operator's to say: an address
//! that a provider's settings name is never looked at here, nor is an authority of a tenant's.

use std::sync::Arc;
use std::time::Duration;

use http::header::HeaderName;
use http::{HeaderValue, Request, StatusCode};
use secrecy::SecretString;
use serde::Deserialize;

use super::super::failed::Failed;
use super::super::tries::Tries;
use super::api::ask;
use super::tokens::{Token, Tokens};
use crate::clock::Clock;
use crate::domain::destination::Destination;
use crate::domain::provider::Unavailable;
use crate::domain::time::Timestamp;
use crate::egress::{Egress, Exchanger, ExchangerError, Resolver, SecretBytes, Trust};

/// Where the token of the machine's default service account is.
const TOKEN: &str = "/computeMetadata/v1/instance/service-accounts/default/token";

const FLAVOR: HeaderName = HeaderName::from_static("metadata-flavor");

const GOOGLE: HeaderValue = HeaderValue::from_static("Google");

/// The most bytes of an answer.
const ANSWER_BYTES_MAX: usize = 16 * 1024;

/// The identity of the machine, for [`External::with_machine`](crate::external::External::with_machine).
pub struct Machine {
    tokens: Arc<Tokens>,
    address: Destination,
}

impl Machine {
    /// A machine that asks `metadata` for its tokens and shows them to `address` alone. Asks nobody yet. The metadata
    /// server is link-local and speaks in the clear, so it is not reached through the guard that tenants' hosts are.
    ///
    /// # Errors
    /// [`ExchangerError`].
    pub fn new(
        metadata: &Destination,
        address: Destination,
        resolver: Arc<dyn Resolver>,
        trust: &Trust,
        clock: Arc<dyn Clock>,
        connect_timeout: Duration,
    ) -> Result<Self, ExchangerError> {
        let egress = Arc::new(Egress::unguarded(resolver, connect_timeout));
        let server = MetadataServer {
            exchanger: Exchanger::new(egress, trust, metadata.origin(), None, true)?,
            path: format!("{}{TOKEN}", metadata.path_prefix),
        };
        Ok(Self {
            tokens: Arc::new(Tokens::of_machine(server, clock)),
            address,
        })
    }

    /// The one address that its tokens are shown to.
    #[must_use]
    pub const fn address(&self) -> &Destination {
        &self.address
    }

    pub(super) fn tokens(&self) -> Arc<Tokens> {
        Arc::clone(&self.tokens)
    }
}

/// A metadata server.
pub(super) struct MetadataServer {
    exchanger: Exchanger,
    path: String,
}

/// What the server hands out; freed into a wiping allocator.
#[derive(Deserialize)]
struct Issued {
    access_token: String,
    expires_in: u64,
    token_type: String,
}

impl MetadataServer {
    pub(super) async fn token(&self, now: Timestamp, tries: Tries) -> Result<Token, Failed> {
        let answer = ask(&self.exchanger, || self.request(), ANSWER_BYTES_MAX, tries).await?;
        // Whatever else answers at that address is not to be believed.
        let is_google = answer.headers.get(FLAVOR) == Some(&GOOGLE);
        if answer.status != StatusCode::OK || !is_google {
            return Err(Unavailable::LoginFailed.into());
        }
        let issued: Issued = serde_json::from_slice(&answer.body).map_err(|_| Unavailable::LoginFailed)?;
        if !issued.token_type.eq_ignore_ascii_case("bearer") {
            return Err(Unavailable::LoginFailed.into());
        }
        let ends_at = now.plus_millis(issued.expires_in.saturating_mul(1_000));
        Ok(Token::new(SecretString::from(issued.access_token), ends_at))
    }

    fn request(&self) -> Result<Request<SecretBytes>, Unavailable> {
        let request = Request::get(&self.path).header(FLAVOR, GOOGLE);
        let empty = SecretBytes::default();
        request.body(empty).map_err(|_| Unavailable::Protocol) // the path is canonical
    }
}
