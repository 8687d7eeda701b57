//! What becomes of bundles whose time is over: in use they are built anew, unused they leave memory.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::support::endpoint::Endpoint;
use super::support::gated_store::Gated;
use super::support::instance::Instance;

/// Asks the metrics until one of them has this value.
fn wait_for(instance: &Instance, sample: &str) {
    let begun = Instant::now();
    while !instance.metrics().lines().any(|line| line == sample) {
        assert!(begun.elapsed() < Duration::from_secs(30), "never: {sample}");
    }
}

#[test]
fn a_replaced_signing_secret_leaves_memory_when_its_overlap_ends() {
    let gated = Gated::open();
    let ((instance, _feed), endpoint) = (gated.start_without_feed(&[("bundle_idle", "48h")]), Endpoint::start());
    let callback = json!({"url": endpoint.url(), "signing_secret_key": ["SIGN_A", "SIGN_B"]});
    instance.register("com.example.signed", callback, json!({}));
    instance.install("ins", "com.example.signed");
    for key in ["SIGN_A", "SIGN_B"] {
        instance.set("project", "proj", key, "the-first-signing-secret");
    }
    instance.enable("ins");
    instance.set("project", "proj", "SIGN_B", "the-second-signing-secret");
    instance.clock.advance(3_600_000);
    instance.set("project", "proj", "SIGN_A", "the-second-signing-secret"); // its overlap ends an hour later
    let deliver = || {
        assert_eq!(instance.deliver("ins", b"{}").status, 200);
        endpoint.last().header("webhook-signature").unwrap().split(' ').count()
    };
    assert_eq!(deliver(), 4);
    let built = gated.store.calls("slots");
    instance.clock.advance(23 * 3_600_000 - 1);
    assert_eq!(
        (deliver(), gated.store.calls("slots")),
        (4, built),
        "the same bundle up to the last millisecond"
    );
    let await_rebuilt = || {
        let begun = Instant::now();
        let explain = "/extensions/secrets/explain?installation=ins";
        while instance.must("GET", explain, &Value::Null)["cache_age_ms"] != 0 {
            assert!(begun.elapsed() < Duration::from_secs(30), "not built anew by itself");
        }
    };
    instance.clock.advance(1);
    await_rebuilt(); // although nobody delivers
    instance.clock.advance(1);
    assert_eq!(deliver(), 3);
    instance.clock.advance(3_600_000);
    await_rebuilt();
    assert_eq!(deliver(), 2);
}

#[test]
fn a_bundle_that_nobody_used_since_it_was_built_is_not_refreshed_but_dropped() {
    let gated = Gated::open();
    let ((instance, _feed), endpoint) = (gated.start_without_feed(&[("bundle_idle", "48h")]), Endpoint::start());
    let callback = json!({"url": endpoint.url(), "signing_secret_key": "SIGN"});
    instance.register("com.example.signed", callback, json!({}));
    instance.install("ins", "com.example.signed");
    instance.set("project", "proj", "SIGN", "the-first-signing-secret");
    instance.enable("ins");
    instance.set("project", "proj", "SIGN", "the-second-signing-secret");
    assert_eq!(instance.deliver("ins", b"{}").status, 200);
    let built = gated.store.calls("slots");
    instance.clock.advance(24 * 3_600_000);
    wait_for(&instance, "kiket_bundles 0");
    assert_eq!(gated.store.calls("slots"), built);
}

#[test]
fn the_end_of_an_overlap_does_not_take_the_last_matching_certificate_along() {
    let gated = Gated::open();
    let (instance, _feed) = gated.start_without_feed(&[("bundle_idle", "48h")]);
    let nobody = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let callback = json!({
        "url": format!("https://{nobody}"), "signing_secret_key": "SIGN",
        "mtls": {"certificate_key": "CERT", "private_key_key": "CERT_KEY"},
    });
    instance.register("com.example.mutual", callback, json!({}));
    instance.install("ins", "com.example.mutual");
    let pair = || rcgen::generate_simple_self_signed(["client".to_owned()]).unwrap();
    let (first, second) = (pair(), pair());
    instance.set("project", "proj", "CERT", &first.cert.pem());
    instance.set("project", "proj", "CERT_KEY", &first.signing_key.serialize_pem());
    instance.set("project", "proj", "SIGN", "the-first-signing-secret");
    instance.enable("ins");
    instance.set("project", "proj", "SIGN", "the-second-signing-secret");
    let deliver = || instance.deliver("ins", b"{}").problem();
    assert_eq!(
        deliver(),
        "endpoint-unreachable",
        "all that a delivery needs but the endpoint is there"
    );
    instance.clock.advance(24 * 3_600_000 - 300_000);
    instance.set("project", "proj", "CERT", &second.cert.pem()); // five minutes before the overlap ends
    assert_eq!(deliver(), "endpoint-unreachable", "the last matching pair is used");
    let before = gated.store.calls("slots");
    instance.clock.advance(300_000);
    let begun = Instant::now();
    while gated.store.calls("slots") == before {
        wait_for(&instance, "kiket_bundles 1");
        assert!(begun.elapsed() < Duration::from_secs(30), "not built anew");
    }
    assert_eq!(deliver(), "endpoint-unreachable", "ten minutes are not over");
    instance.clock.advance(300_000);
    assert_eq!(deliver(), "mtls-identity-invalid");
    instance.clock.advance(48 * 3_600_000 + 1);
    wait_for(&instance, "kiket_bundles 0");
}
