//! What becomes of deliveries while the store is away: what is in memory goes out for a bounded time, the rest waits.

use std::time::{Duration, Instant};

use kiket_sidecar::store::StoreError;
use serde_json::{Value, json};

use super::support::endpoint::Endpoint;
use super::support::gated_store::Gated;
use super::support::http::{once, request};
use super::support::instance::Instance;
use super::support::problem::assert_problem;

/// Longer than anything takes; a test that hangs fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// All that deliveries and the feed ask of a store.
const METHODS: [&str; 6] = ["health", "installation", "slots", "record", "commit", "changes"];

fn away(gated: &Gated) {
    for method in METHODS {
        gated.store.fail(method, StoreError::Unavailable);
    }
}

fn readiness(instance: &Instance) -> Value {
    let answer = once(instance.running.metrics(), &request("GET", "/readyz", &[], b""));
    assert_eq!(answer.status, 200, "a sidecar that can deliver is ready");
    answer.json()
}

/// Asks until it is so.
fn until(what: &str, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "never: {what}");
    }
}

/// Two installations; `ins` has been delivered to.
fn warm_and_cold(gated: &Gated, settings: &[(&str, &str)]) -> (Instance, Endpoint) {
    let (instance, endpoint) = (gated.start(settings), Endpoint::start());
    instance.simple(&endpoint.url());
    instance.install("cold", "com.example.simple");
    instance.enable("cold");
    instance.set("organization", "org", "KEY", "the old value");
    assert_eq!(instance.deliver("ins", b"{}").status, 200);
    (instance, endpoint)
}

#[test]
fn what_is_warm_is_delivered_through_an_outage_and_what_is_cold_is_told_to_come_back() {
    let gated = Gated::open();
    let (instance, endpoint) = warm_and_cold(&gated, &[("bundle_idle", "1s")]);
    assert_eq!(readiness(&instance)["status"], "ready");
    away(&gated);
    until("the outage is seen", || readiness(&instance)["store"] == "down");
    let said = readiness(&instance);
    assert_eq!(said["status"], "degraded");
    assert!(said["detail"].as_str().unwrap().contains("max_stale") && said["store_silent_seconds"].is_u64());
    instance.clock.advance(5_000); // nothing could take its place: it is not idle
    for _ in 0..100 {
        assert_eq!(instance.deliver("ins", b"{}").status, 200);
    }
    let refused = instance.deliver("cold", b"{}");
    assert_problem(&refused, 503, "store-unavailable", true, "cold");
    let metrics = instance.metrics();
    assert!(metrics.contains("\nkiket_store_up 0\n") && metrics.contains("\nkiket_store_silent_seconds "));
    gated.store.mend();
    until("the store is back", || readiness(&instance)["store"] == "up");
    assert_eq!(readiness(&instance).get("detail"), None);
    assert_eq!(instance.deliver("cold", b"{}").status, 200);
    assert_eq!(endpoint.received().len(), 102);
}

#[test]
fn a_store_that_was_silent_for_too_long_ends_what_is_in_memory_and_its_return_brings_what_changed() {
    let gated = Gated::open();
    let (instance, endpoint) = warm_and_cold(&gated, &[("max_stale", "1s")]);
    away(&gated);
    until("the silence is too long", || {
        instance.deliver("ins", b"{}").status == 503
    });
    let refused = instance.deliver("ins", b"{}");
    assert_problem(&refused, 503, "store-unavailable", true, "silent");
    until("nothing is kept", || instance.metrics().contains("\nkiket_bundles 0\n"));
    assert!(
        readiness(&instance)["detail"]
            .as_str()
            .unwrap()
            .contains("nothing is delivered")
    );
    gated.store.mend();
    instance.set("organization", "org", "KEY", "the new value");
    until("it delivers again", || instance.deliver("ins", b"{}").status == 200);
    assert_eq!(endpoint.last().secret("KEY").as_deref(), Some("the new value"));
}

#[test]
fn a_bundle_past_its_time_is_used_on_while_the_store_cannot_say_what_comes_after() {
    let gated = Gated::open();
    let (instance, endpoint) = (gated.start(&[("bundle_idle", "48h")]), Endpoint::start());
    let callback = json!({"url": endpoint.url(), "signing_secret_key": "SIGN"});
    instance.register("com.example.signed", callback, json!({}));
    instance.install("ins", "com.example.signed");
    instance.set("project", "proj", "SIGN", "the-first-signing-secret");
    instance.enable("ins");
    instance.set("project", "proj", "SIGN", "the-second-signing-secret");
    let signatures = || {
        assert_eq!(instance.deliver("ins", b"{}").status, 200);
        endpoint.last().header("webhook-signature").unwrap().split(' ').count()
    };
    assert_eq!(signatures(), 2);
    away(&gated);
    until("the outage is seen", || readiness(&instance)["store"] == "down");
    instance.clock.advance(24 * 3_600_000);
    let asked = gated.store.calls("installation");
    assert_eq!(signatures(), 1, "what is over signs no more, whoever holds it");
    until("it is tried to be refreshed", || {
        gated.store.calls("installation") > asked
    });
    assert_eq!(signatures(), 1);
}
