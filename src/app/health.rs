//! What the metrics listener answers: `/metrics`, `/livez`, `/readyz`. Unauthenticated, and nothing of any tenant.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use serde::Serialize;

use crate::bundles::{Bundles, StoreContact};
use crate::config::Role;
use crate::delivery::DeliveryCounts;
use crate::guard;
use crate::issuer::{Issuer, KeysHeld};
use crate::server::Load;
use crate::telemetry::metrics::UpstreamTotals;
use crate::telemetry::{Listener, Metrics};

/// Where the process stands in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Phase {
    Starting = 0,
    Serving = 1,
    Draining = 2,
}

/// What is looked at to answer.
pub(super) struct Health {
    pub(super) phase: AtomicU8,
    pub(super) role: Role,
    pub(super) metrics: Arc<Metrics>,
    pub(super) load: Load,
    pub(super) bundles: Bundles,
    pub(super) upstream: Arc<DeliveryCounts>,
    pub(super) contact: Arc<StoreContact>,
    pub(super) issuer: Option<Arc<Issuer>>,
}

#[derive(Serialize)]
struct Readiness {
    status: &'static str,
    role: &'static str,
    store: &'static str,
    /// For how long the store did not tell of changes; there only while it is away.
    #[serde(skip_serializing_if = "Option::is_none")]
    store_silent_seconds: Option<u64>,
    /// What is done meanwhile; there only while the store is away.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'static str>,
    /// What is held of the keys of runtime tokens; there only where tokens are asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    runtime_token_keys: Option<TokenKeys>,
    guards: serde_json::Map<String, serde_json::Value>,
    /// Whether memory can reach a disk by way of swap.
    swap: &'static str,
}

#[derive(Serialize)]
struct TokenKeys {
    /// `fresh`; `stale` while the issuer does not answer and the last ones are used; `unavailable` while none may be used
    /// and every delivery is answered 503.
    state: &'static str,
    count: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    age_seconds: Option<u64>,
}

impl From<KeysHeld> for TokenKeys {
    fn from(held: KeysHeld) -> Self {
        Self {
            state: match (held.are_usable, held.is_failing) {
                (true, false) => "fresh",
                (true, true) => "stale",
                (false, _) => "unavailable",
            },
            count: held.count,
            age_seconds: held.age.map(|age| age.as_secs()),
        }
    }
}

impl Health {
    pub(super) fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
    }

    /// What `/readyz` says, in one word.
    pub(super) fn status(&self) -> &'static str {
        let phase = self.phase.load(Ordering::Relaxed);
        if phase == Phase::Draining as u8 {
            "draining"
        } else if phase != Phase::Serving as u8 {
            "starting"
        } else if self.is_store_up() && self.token_keys().is_none_or(|keys| keys.state == "fresh") {
            "ready"
        } else {
            "degraded"
        }
    }

    /// How the keys of runtime tokens are, where those are looked at.
    fn token_keys(&self) -> Option<TokenKeys> {
        self.issuer.as_ref().map(|issuer| TokenKeys::from(issuer.keys()))
    }

    fn is_store_up(&self) -> bool {
        self.metrics.store_up.get() == 1
    }

    /// Brings the gauges up to date.
    fn observe(&self) {
        let to_gauge = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        self.metrics.in_flight.set(to_gauge(self.load.in_flight()));
        self.metrics.buffered_bytes.set(to_gauge(self.load.buffered_bytes()));
        self.metrics.bundles.set(to_gauge(self.bundles.len()));
        if let Some(gauge) = self.metrics.connections.get(Listener::Proxy) {
            gauge.set(to_gauge(self.load.connections()));
        }
        self.metrics
            .store_silent_seconds
            .set(i64::try_from(self.contact.silence().as_secs()).unwrap_or(i64::MAX));
        if let Some(keys) = self.issuer.as_ref().map(|issuer| issuer.keys()) {
            let (gauges, age) = (&self.metrics.runtime_tokens, keys.age.unwrap_or_default());
            gauges.keys.set(to_gauge(if keys.are_usable { keys.count } else { 0 }));
            gauges
                .keys_age_seconds
                .set(i64::try_from(age.as_secs()).unwrap_or(i64::MAX));
        }
        let counts = self.upstream.totals();
        self.metrics.set_upstream(UpstreamTotals {
            connections: counts.connections,
            handshakes_full: counts.handshakes_full,
            handshakes_resumed: counts.handshakes_resumed,
            reused: counts.reused,
        });
    }
}

/// The listener's routes.
pub(super) fn router(health: Arc<Health>) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .with_state(health)
}

async fn metrics(State(health): State<Arc<Health>>) -> impl IntoResponse {
    health.observe();
    (
        [(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")],
        health.metrics.render(),
    )
}

async fn readyz(State(health): State<Arc<Health>>) -> impl IntoResponse {
    let store_up = health.is_store_up();
    let token_keys = health.token_keys();
    let status = health.status();
    let code = match status {
        "draining" | "starting" => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::OK,
    };
    let guards = guard::report()
        .into_iter()
        .map(|(guard, state)| (guard.name().to_owned(), state.name().into()))
        .collect();
    let body = Readiness {
        status,
        role: health.role.name(),
        store: if store_up { "up" } else { "down" },
        store_silent_seconds: (!store_up).then(|| health.contact.silence().as_secs()),
        detail: (!store_up).then(|| {
            if health.contact.is_lost() {
                "the store was silent for longer than max_stale: nothing is delivered until it answers"
            } else {
                "what is in memory is delivered until max_stale; the rest is answered 503 store-unavailable"
            }
        }),
        runtime_token_keys: token_keys,
        guards,
        swap: guard::swap().name(),
    };
    (
        code,
        [(CONTENT_TYPE, "application/json")],
        serde_json::to_string(&body).unwrap_or_default(),
    )
}
