//! Who vouches for an invocation: the issuer of runtime tokens, by the keys that it publishes.
//!
//! An invocation carries `authentication.runtime_token`, a JWT that its issuer signed with ES256. Where the operator
//! names the issuer's key set (`runtime_token_jwks_url`), no invocation is delivered whose token does not verify and fit
//! the registry's record of the installation.
//!
//! - The key comes from the published set, by the `kid` that the token's header names. What a header brings along or
//!   points to (`jwk`, `jku`, `x5c`, `x5u`) is never looked at: a token with it is refused.
//! - A signature costs more than all the rest of a warm delivery. A dispatcher that tries again sends the same token, and
//!   an issuer may make one for many invocations, so the last verified ones are remembered, by hash; time and record are
//!   looked at every time.
//! - Whatever is wrong with a token is for the log line and the metric (`TokenVerdict`); a dispatcher learns that it is
//!   invalid, or that the keys cannot be had, and nothing is ever delivered on a doubt.

mod key_set;
mod keys;
mod publisher;
mod schedule;
mod verified;
mod verify;

use std::sync::Arc;
use std::time::Duration;

use jsonwebtoken::DecodingKey;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::domain::destination::Destination;
use crate::domain::installation::Installation;
use crate::domain::runtime_token::{PresentedToken, TokenVerdict};
use crate::egress::{Egress, Exchanger, ExchangerError, Trust};
use crate::telemetry::Metrics;

use keys::Keys;
pub use keys::KeysHeld;
use publisher::Publisher;
use schedule::Times;
use verified::Verified;
use verify::{Rules, Signed, Unverified};

/// Who issues runtime tokens, and where its keys are published.
#[derive(Debug, Clone)]
pub struct IssuerSettings {
    /// What `iss` has to say.
    pub name: String,
    /// Where the JWK set is.
    pub jwks_url: Destination,
    /// How long keys are used that cannot be fetched anew.
    pub max_stale: Duration,
    /// Whether that may be plain HTTP.
    pub allow_http: bool,
}

/// Holds runtime tokens against their issuer's keys and against the registry's record.
pub struct Issuer {
    keys: Keys,
    rules: Rules,
    verified: Verified,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
}

impl Issuer {
    /// One whose keys are fetched through `egress`. Fetches nothing before [`Self::run`].
    ///
    /// # Errors
    /// [`ExchangerError`] where the address of the keys cannot be spoken to.
    pub fn new(
        settings: &IssuerSettings,
        egress: Arc<Egress>,
        trust: &Trust,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, ExchangerError> {
        let url = &settings.jwks_url;
        let exchanger = Exchanger::new(egress, trust, url.origin(), None, settings.allow_http)?;
        let publisher = Publisher::new(exchanger, &url.path_prefix);
        let times = Times::new(settings.max_stale);
        Ok(Self {
            keys: Keys::new(publisher, times, Arc::clone(&clock), Arc::clone(&metrics)),
            rules: Rules::of_issuer(&settings.name),
            verified: Verified::default(),
            clock,
            metrics,
        })
    }

    /// Has the keys at hand until `stop`: fetches them, and fetches them anew before they are old.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        self.keys.run(stop).await;
    }

    /// Whether a token vouches for an installation. Waits for keys, for a bounded time, where they are being fetched or
    /// may be fetched once more. Cancel safe.
    pub async fn check(&self, token: Option<&PresentedToken<'_>>, installation: &Installation) -> TokenVerdict {
        let verdict = match self.judge(token, installation).await {
            Ok(()) => TokenVerdict::Valid,
            Err(verdict) => verdict,
        };
        self.metrics.runtime_tokens.checks.inc(verdict);
        verdict
    }

    async fn judge(&self, token: Option<&PresentedToken<'_>>, installation: &Installation) -> Result<(), TokenVerdict> {
        let token = Unverified::read(token.ok_or(TokenVerdict::Absent)?)?;
        let key = self.keys.find(token.key_id()).await?;
        let signed = self.signed(&token, key)?;
        if signed.at(self.clock.now())?.fits(installation) {
            Ok(())
        } else {
            Err(TokenVerdict::Mismatch)
        }
    }

    /// What the issuer signed, as far as this very key says.
    fn signed(&self, token: &Unverified<'_>, key: Arc<DecodingKey>) -> Result<Arc<Signed>, TokenVerdict> {
        let hash = token.hash();
        if let Some(signed) = self.verified.get(&hash, &key) {
            return Ok(signed);
        }
        let signed = Arc::new(self.rules.verify(token, &key)?);
        self.verified.put(hash, key, Arc::clone(&signed));
        Ok(signed)
    }

    /// What is held of the keys at the moment.
    #[must_use]
    pub fn keys(&self) -> KeysHeld {
        self.keys.held()
    }
}
