//! Who hears of a rotation, what of it, and that it is told at least once: signed, over the identity of deliveries.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use kiket_sidecar::store::Store;
use serde_json::{Value, json};

use super::support::endpoint::{Endpoint, Received, answer};
use super::support::gated_store::Gated;
use super::support::instance::Instance;
use super::support::pki::Authority;
use super::support::python;
use super::support::tenant::{CERTIFICATE, Tenant, mutual_callback};
use super::support::tls_endpoint::{H1, Setup};

const EXTENSION: &str = "com.example.rotating";
const CANARY: &str = "canary-of-a-rotated-value";
const SIGNING: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// The published verifier of Standard Webhooks.
const VERIFIER: &str = r#"
import json, sys
from standardwebhooks import Webhook, WebhookVerificationError
case = json.load(sys.stdin)
try:
    Webhook(case["secret"]).verify(case["body"], case["headers"])
    json.dump(True, sys.stdout)
except WebhookVerificationError:
    json.dump(False, sys.stdout)
"#;

fn verifies(received: &Received, secret: &str) -> bool {
    let headers: serde_json::Map<String, Value> = ["webhook-id", "webhook-timestamp", "webhook-signature"]
        .iter()
        .map(|name| ((*name).to_owned(), json!(received.header(name).unwrap())))
        .collect();
    let body = String::from_utf8(received.body.clone()).unwrap();
    let verdict = python::ask(VERIFIER, &json!({"secret": secret, "headers": headers, "body": body}));
    verdict.as_bool().unwrap()
}

/// An endpoint that fails so many times before it takes anything.
fn failing(times: usize) -> Endpoint {
    let left = Arc::new(AtomicUsize::new(times));
    Endpoint::scripted(Arc::new(move |_| {
        let fails = left
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1))
            .is_ok();
        Some(answer(if fails { 503 } else { 204 }, "", b""))
    }))
}

/// Registers an extension whose installations hear of rotations, or do not.
fn register(instance: &Instance, extension: &str, url: &str, subscribes: bool) {
    let callback = json!({
        "url": format!("{url}/kiket"), "signing_secret_key": "SIGN", "rotation_webhook": subscribes,
    });
    instance.register(extension, callback, json!({"KEY": {"secret": true}}));
}

/// An enabled installation `ins` that subscribes, with a value for `KEY`.
fn subscribed(instance: &Instance, endpoint: &Endpoint) {
    register(instance, EXTENSION, &endpoint.url(), true);
    instance.install("ins", EXTENSION);
    instance.set("organization", "org", "SIGN", SIGNING);
    instance.set("organization", "org", "KEY", "first");
    instance.enable("ins");
}

/// Waits until nothing waits in the outbox.
fn wait_for_empty(gated: &Gated) {
    wait_for_waiting(gated, 0);
}

fn wait_for_waiting(gated: &Gated, count: u64) {
    let begun = std::time::Instant::now();
    while gated.block_on(gated.store.outbox_depth()).unwrap().waiting != count {
        assert!(begun.elapsed().as_secs() < 30, "never: {count} in the outbox");
    }
}

#[test]
fn a_subscriber_hears_once_of_a_rotation_signed_and_without_the_value() {
    let gated = Gated::open();
    let (instance, endpoint) = (gated.start(&[]), Endpoint::start());
    subscribed(&instance, &endpoint);
    let rotated = instance.set("organization", "org", "KEY", CANARY);
    let received = endpoint.wait(1).remove(0);
    assert_eq!(received.target, "/kiket/webhooks/secret.rotated");
    assert_eq!(received.header("x-kiket-event-version"), Some("v1"));
    assert_eq!(received.header("content-type"), Some("application/json"));
    let body = received.json();
    let id = body["id"].as_str().unwrap().to_owned();
    assert_eq!(
        body,
        json!({
            "id": id, "event": "secret.rotated", "key": "KEY", "scope": "organization", "version": 2,
            "rotated_at": rotated["last_rotated_at"],
        })
    );
    assert_eq!(received.header("webhook-id"), Some(id.as_str()));
    assert!(verifies(&received, SIGNING));
    assert!(!verifies(&received, "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"));
    assert_eq!(received.header("x-kiket-signature").unwrap().len(), 64);
    wait_for_empty(&gated);
    assert_eq!(
        endpoint.received().len(),
        1,
        "a first value is no rotation, and one rotation is told once"
    );
    assert!(!String::from_utf8_lossy(&received.body).contains(CANARY) && !instance.log().contains(CANARY));
    let metrics = instance.metrics();
    assert!(
        metrics.contains("kiket_notices_total{kind=\"rotation-webhook\",outcome=\"delivered\"} 1\n"),
        "{metrics}"
    );

    // The rotate route tells as well, under an id of its own.
    let rotation = json!({"scope": "organization", "id": "org", "organization_id": "org", "value": CANARY});
    instance.must("POST", "/extensions/secrets/KEY/rotate", &rotation);
    let next = endpoint.wait(2).remove(1).json();
    assert_eq!(next["version"], 3);
    assert_ne!(next["id"], id.as_str());

    // So does a rollback: another value is in force. A deletion replaces none.
    let place = json!({"scope": "organization", "id": "org", "organization_id": "org"});
    instance.must("POST", "/extensions/secrets/KEY/rollback", &place);
    assert_eq!(endpoint.wait(3).remove(2).json()["version"], 4);
    let path = "/extensions/secrets/KEY?scope=organization&id=org&organization_id=org";
    instance.must("DELETE", path, &Value::Null);
    wait_for_empty(&gated);
    assert_eq!(endpoint.received().len(), 3);
}

#[test]
fn only_those_hear_who_subscribe_are_enabled_and_ask_at_that_place() {
    let gated = Gated::open();
    let (instance, endpoint, other) = (gated.start(&[]), Endpoint::start(), Endpoint::start());
    register(&instance, EXTENSION, &endpoint.url(), true);
    register(&instance, "com.example.deaf", &other.url(), false);
    instance.register(
        "com.example.keyless",
        json!({"url": other.url(), "rotation_webhook": true}),
        json!({"OTHER": {"secret": true}}),
    );
    for organization in ["org", "foreign"] {
        let sign = json!({"scope": "organization", "id": organization, "key": "SIGN", "value": SIGNING});
        instance.must("POST", "/extensions/secrets", &sign);
    }
    let install = |id: &str, extension: &str, organization: &str, project: &str| {
        let new = json!({"id": id, "extension_id": extension, "organization_id": organization, "project_id": project});
        instance.must("POST", "/marketplace/installations", &new);
    };
    for (id, extension, organization, project) in [
        ("one", EXTENSION, "org", "p1"),
        ("two", EXTENSION, "org", "p2"),
        ("deaf", "com.example.deaf", "org", "p1"),
        ("keyless", "com.example.keyless", "org", "p1"),
        ("foreign", EXTENSION, "foreign", "p1"),
    ] {
        install(id, extension, organization, project);
        instance.enable(id);
    }
    install("pending", EXTENSION, "org", "p1");
    // One endpoint for the subscribers of this test: each is known by how many hear.
    let heard = |scope: &str, id: &str, expected: usize| {
        let before = endpoint.received().len();
        instance.set(scope, id, "KEY", "first");
        instance.set(scope, id, "KEY", "second");
        endpoint.wait(before + expected);
        wait_for_empty(&gated);
        let received = endpoint.received();
        assert_eq!(received.len() - before, expected, "{scope} {id}");
        received[before..]
            .iter()
            .for_each(|one| assert_eq!(one.json()["scope"], scope));
    };
    heard("organization", "org", 2);
    heard("project", "p1", 1);
    heard("project", "p3", 0);
    heard("extension", EXTENSION, 2);
    heard("extension_installation", "two", 1);
    heard("extension_installation", "pending", 0);
    // A partner's default is everybody's.
    for value in ["first", "second"] {
        let partner = json!({
            "scope": "extension", "id": EXTENSION, "key": "KEY", "value": value, "partner_default": true,
        });
        instance.must("POST", "/extensions/secrets", &partner);
    }
    endpoint.wait(endpoint.received().len().max(6 + 3));
    wait_for_empty(&gated);
    assert_eq!((endpoint.received().len(), other.received().len()), (6 + 3, 0));
    let ids: std::collections::HashSet<String> = endpoint
        .received()
        .iter()
        .map(|one| one.json()["id"].to_string())
        .collect();
    assert_eq!(ids.len(), 9, "each installation's notice has an id of its own");
}

#[test]
fn what_fails_is_tried_again_ever_later_under_the_same_id() {
    let gated = Gated::open();
    let (instance, endpoint) = (gated.start(&[]), failing(3));
    subscribed(&instance, &endpoint);
    instance.set("organization", "org", "KEY", CANARY);
    for attempt in 1..=3_usize {
        endpoint.wait(attempt);
        instance.await_failed(attempt);
        let wait = 5_000 << (attempt - 1);
        instance.clock.advance(wait - 1);
        // Not a moment before its time: what was put in after it is worked off, and it is not.
        instance.set("organization", "org", "NOISE", "one");
        instance.set("organization", "org", "NOISE", "two");
        wait_for_waiting(&gated, 1);
        assert_eq!(endpoint.received().len(), attempt);
        instance.clock.advance(1 + wait / 5);
    }
    let received = endpoint.wait(4);
    wait_for_empty(&gated);
    let ids: Vec<_> = received.iter().map(|one| one.header("webhook-id").unwrap()).collect();
    assert_eq!(ids, [ids[0]; 4]);
    assert!(
        received.iter().all(|one| verifies(one, SIGNING)),
        "signed anew each time"
    );
    let metrics = instance.metrics();
    assert!(
        metrics.contains("kiket_notices_total{kind=\"rotation-webhook\",outcome=\"failed\"} 3\n"),
        "{metrics}"
    );
    assert!(metrics.contains("kiket_notices_total{kind=\"rotation-webhook\",outcome=\"delivered\"} 1\n"));
}

#[test]
fn what_nobody_takes_is_given_up_after_a_day() {
    let gated = Gated::open();
    let (instance, endpoint) = (gated.start(&[]), failing(usize::MAX));
    subscribed(&instance, &endpoint);
    instance.set("organization", "org", "KEY", CANARY);
    endpoint.wait(1);
    instance.await_failed(1);
    instance.clock.advance(24 * 60 * 60 * 1_000);
    endpoint.wait(2);
    wait_for_empty(&gated);
    let metrics = instance.metrics();
    assert!(
        metrics.contains("kiket_notices_total{kind=\"rotation-webhook\",outcome=\"given-up\"} 1\n"),
        "{metrics}"
    );
}

#[test]
fn an_instance_that_dies_over_a_notice_leaves_it_to_the_next() {
    let gated = Gated::open();
    let (first, endpoint) = (gated.start(&[]), failing(0));
    subscribed(&first, &endpoint);
    // What became of the notice is never noted: the endpoint took it, and the instance died.
    gated
        .store
        .fail("outbox_depth", kiket_sidecar::store::StoreError::Unavailable);
    first.set("organization", "org", "KEY", CANARY);
    let clock = first.clock.clone();
    first.running.stop_now();
    drop(first);
    gated.store.mend();
    assert_eq!(gated.block_on(gated.store.outbox_depth()).unwrap().waiting, 1);
    let second = gated.start(&[]);
    endpoint.wait(1);
    wait_for_empty(&gated);
    drop((second, clock));
}

#[test]
fn a_notice_that_was_taken_but_not_noted_comes_again_under_the_same_id() {
    let gated = Gated::open();
    let (first, endpoint) = (gated.start(&[]), Endpoint::start());
    subscribed(&first, &endpoint);
    let rotation = gated.store.hold("lease_outbox");
    first.set("organization", "org", "KEY", CANARY);
    rotation.wait(); // the fan-out is leased; all that follows is noted by commits
    let expanded = gated.store.hold("commit");
    rotation.release();
    expanded.wait();
    expanded.release();
    // The next commit is of the delivery: it does not happen, and the instance dies.
    gated
        .store
        .fail("commit", kiket_sidecar::store::StoreError::Unavailable);
    let taken = endpoint.wait(1).remove(0);
    let now = first.clock.clone();
    drop(first);
    gated.store.mend();
    let second = gated.start(&[]);
    assert_eq!(gated.block_on(gated.store.outbox_depth()).unwrap().waiting, 1);
    second.clock.advance(61_000); // the lease of whoever died ends
    let again = endpoint.wait(2).remove(1);
    assert_eq!(again.header("webhook-id"), taken.header("webhook-id"));
    assert_eq!(again.json(), taken.json());
    wait_for_empty(&gated);
    drop((second, now));
}

#[test]
fn who_unsubscribed_or_was_disabled_meanwhile_hears_nothing() {
    for disable in [true, false] {
        let gated = Gated::open();
        let (instance, endpoint) = (gated.start(&[]), failing(1));
        subscribed(&instance, &endpoint);
        instance.set("organization", "org", "KEY", CANARY);
        endpoint.wait(1);
        instance.await_failed(1);
        if disable {
            let state = json!({"state": "disabled"});
            instance.must("PATCH", "/marketplace/installations/ins", &state);
        } else {
            register(&instance, EXTENSION, &endpoint.url(), false);
        }
        instance.clock.advance(6_000);
        wait_for_empty(&gated);
        assert_eq!(endpoint.received().len(), 1, "disabled: {disable}");
        let metrics = instance.metrics();
        assert!(
            metrics.contains("kiket_notices_total{kind=\"rotation-webhook\",outcome=\"dropped\"} 1\n"),
            "{metrics}"
        );
    }
}

#[test]
fn a_webhook_goes_over_the_installations_own_identity_and_guard() {
    let gated = Gated::open();
    let authority = Authority::new("dev CA");
    let instance = gated.start(&[]);
    let endpoint = Setup::mutual(&authority, H1).start();
    let identity = authority.client("org");
    let mut callback = mutual_callback(&endpoint.url());
    callback["rotation_webhook"] = json!(true);
    instance.register(EXTENSION, callback, json!({"KEY": {"secret": true}}));
    let tenant = Tenant::enabled(&instance, EXTENSION, ["org", "ins"], &identity, &authority);
    // A handshake secret is demanded, too.
    let renewed = authority.renewed("org", &identity);
    tenant.set(CERTIFICATE, &renewed.certificate_pem());
    endpoint.wait("the webhook", |_, seen| seen.len() == 1);
    let seen = endpoint.last();
    assert_eq!(endpoint.session_of(&seen).certificate, Some(renewed.fingerprint()));
    assert_eq!(
        (seen.path.as_str(), &seen.json()["key"]),
        ("/webhooks/secret.rotated", &json!(CERTIFICATE))
    );
    wait_for_empty(&gated);

    // Where deliveries must not go, notices do not either.
    let closed = gated_elsewhere(&[("egress_allow_cidrs", "10.0.0.0/8")]);
    let (instance, endpoint) = (closed.1, Endpoint::start());
    let port = endpoint.url().rsplit(':').next().unwrap().to_owned();
    instance.register(
        EXTENSION,
        json!({"url": format!("http://localhost:{port}"), "rotation_webhook": true}),
        json!({"KEY": {"secret": true}}),
    );
    instance.install("ins", EXTENSION);
    instance.enable("ins");
    instance.set("organization", "org", "KEY", "first");
    instance.set("organization", "org", "KEY", "second");
    instance.await_failed(1);
    assert!(
        instance
            .metrics()
            .contains("kiket_notices_total{kind=\"rotation-webhook\",outcome=\"failed\"} 1\n")
    );
    assert_eq!(endpoint.received().len(), 0);
}

fn gated_elsewhere(settings: &[(&str, &str)]) -> (Gated, Instance) {
    let gated = Gated::open();
    let instance = gated.start(settings);
    (gated, instance)
}

#[test]
fn a_change_that_fails_is_not_told() {
    let gated = Gated::open();
    let (instance, endpoint) = (gated.start(&[]), Endpoint::start());
    subscribed(&instance, &endpoint);
    gated.store.fail("commit", kiket_sidecar::store::StoreError::Full);
    let secret = json!({"scope": "organization", "id": "org", "key": "KEY", "value": CANARY});
    assert_eq!(instance.api("POST", "/extensions/secrets", &secret).status, 507);
    gated.store.mend();
    assert_eq!(gated.block_on(gated.store.outbox_depth()).unwrap().waiting, 0);
}

#[test]
fn a_rotated_signing_secret_signs_its_own_notice_beside_its_predecessor() {
    let (instance, endpoint) = (Instance::start(), Endpoint::start());
    subscribed(&instance, &endpoint);
    let (next, last) = (
        "whsec_c2Vjb25kLXNpZ25pbmctc2VjcmV0",
        "whsec_dGhpcmQtc2lnbmluZy1zZWNyZXQ=",
    );
    instance.set("organization", "org", "SIGN", next);
    let told = endpoint.wait(1).remove(0);
    assert_eq!(told.json()["key"], "SIGN");
    assert!(
        verifies(&told, next) && verifies(&told, SIGNING),
        "receivers that have the old one accept it"
    );
    let rotation = json!({
        "scope": "organization", "id": "org", "organization_id": "org", "value": last, "revoke_now": true,
    });
    instance.must("POST", "/extensions/secrets/SIGN/rotate", &rotation);
    let told = endpoint.wait(2).remove(1);
    assert!(verifies(&told, last) && !verifies(&told, next) && !verifies(&told, SIGNING));
}

#[test]
fn what_waits_in_the_outbox_holds_no_value() {
    let gated = Gated::open();
    let (instance, endpoint) = (gated.start(&[]), Endpoint::start());
    subscribed(&instance, &endpoint);
    gated
        .store
        .fail("outbox_depth", kiket_sidecar::store::StoreError::Unavailable);
    instance.set("organization", "org", "KEY", CANARY);
    instance.set("organization", "org", "SIGN", &format!("whsec_{CANARY}"));
    let now = kiket_sidecar::clock::Clock::now(&*instance.clock);
    let rows = gated
        .block_on(gated.store.lease_outbox(now, now.plus_millis(1), 100))
        .unwrap();
    assert_eq!(rows.len(), 2);
    for row in rows {
        assert!(!format!("{row:?}").contains("canary"), "{row:?}");
    }
}
