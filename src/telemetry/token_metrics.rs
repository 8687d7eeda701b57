//! What is counted of runtime tokens: how checks ended, how fetches of the issuer's keys ended, and what is held of them.

use prometheus::{IntCounter, IntGauge, Registry};

use super::labels::KeyFetch;
use super::metrics::{ByLabel, counters, gauge};
use crate::domain::runtime_token::TokenVerdict;

/// The metrics of runtime tokens. All stay at zero where none is asked for.
#[derive(Debug)]
pub struct TokenMetrics {
    /// `kiket_runtime_token_checks_total{verdict}`
    pub checks: ByLabel<TokenVerdict, IntCounter>,
    /// `kiket_runtime_token_key_fetches_total{outcome}`
    pub fetches: ByLabel<KeyFetch, IntCounter>,
    /// `kiket_runtime_token_keys`
    pub keys: IntGauge,
    /// `kiket_runtime_token_keys_age_seconds`
    pub keys_age_seconds: IntGauge,
}

impl TokenMetrics {
    pub(super) fn register(registry: &Registry) -> prometheus::Result<Self> {
        Ok(Self {
            checks: counters(
                registry,
                "kiket_runtime_token_checks_total",
                "Checks of runtime tokens, by how they ended.",
                "verdict",
            )?,
            fetches: counters(
                registry,
                "kiket_runtime_token_key_fetches_total",
                "Fetches of the keys of runtime tokens, by how they ended.",
                "outcome",
            )?,
            keys: gauge(
                registry,
                "kiket_runtime_token_keys",
                "Keys of runtime tokens that may be used; 0 where none is, and no token is asked for or all are refused.",
            )?,
            keys_age_seconds: gauge(
                registry,
                "kiket_runtime_token_keys_age_seconds",
                "How long ago the keys of runtime tokens were fetched; they are used until max_stale.",
            )?,
        })
    }
}
