//! Whether deliveries from memory are counted right, told once a minute, and lost by nothing but a crash.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use kiket_sidecar::clock::Clock;
use kiket_sidecar::domain::audit::{Action, AuditEntry, Source};
use kiket_sidecar::domain::id::ScopeId;
use kiket_sidecar::domain::key::SecretKey;
use kiket_sidecar::domain::scope::{Owner, Scope, Slot};
use kiket_sidecar::domain::time::Timestamp;
use kiket_sidecar::store::{Store, StoreError, UseQuery};
use serde_json::json;

use super::super::support::api::audit;
use super::super::support::endpoint::Endpoint;
use super::super::support::gated_store::Gated;
use super::super::support::instance::{Instance, invocation};
use super::{organization, verified};

const MINUTE: u64 = 60_000;

/// Longer than anything takes; a test that hangs fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// Deliveries of the long run.
const DELIVERIES: u64 = 10_000;

fn told(gated: &Gated) -> Vec<AuditEntry> {
    let entries = audit(gated, Some("org")).into_iter();
    entries
        .filter(|entry| entry.action == Action::SecretDelivered)
        .collect()
}

/// Lets a minute pass and waits until so many entries of deliveries are there.
fn after_a_minute(gated: &Gated, instance: &Instance, entries: usize) -> Vec<AuditEntry> {
    instance.clock.advance(MINUTE);
    let asked = Instant::now();
    loop {
        let told = told(gated);
        if told.len() >= entries {
            return told;
        }
        assert!(asked.elapsed() < PATIENCE, "{} entries of {entries}", told.len());
        instance.metrics(); // takes its time, and lets others have theirs
    }
}

/// Key, version, source and destination to count.
fn counts<'a>(entries: impl IntoIterator<Item = &'a AuditEntry>) -> BTreeMap<(String, u64, &'a str, String), u64> {
    let mut counts = BTreeMap::new();
    for entry in entries {
        let delivered = entry.delivered.as_ref().unwrap();
        let key = entry.key.as_ref().unwrap().to_string();
        let row = (
            key,
            entry.version.unwrap(),
            entry.source.name(),
            delivered.destination.clone(),
        );
        assert_eq!(counts.insert(row, delivered.count), None, "one entry each");
    }
    counts
}

/// Two installations of one project that share a key; the second one signs, too, and delivers elsewhere.
fn two_destinations(gated: &Gated) -> (Instance, Endpoint, Endpoint) {
    let (instance, near, far) = (gated.start(&[]), Endpoint::start(), Endpoint::start());
    let keys = json!({"SHARED": {"secret": true}, "OWN": {"secret": true}});
    instance.register("com.example.near", json!({"url": near.url()}), keys);
    let signing = json!({"url": far.url(), "signing_secret_key": "SIGN"});
    instance.register("com.example.far", signing, json!({"SHARED": {"secret": true}}));
    instance.set("organization", "org", "SHARED", "a shared value");
    instance.set("organization", "org", "SIGN", "a signing secret");
    for (id, extension) in [
        ("near", "com.example.near"),
        ("near2", "com.example.near"),
        ("far", "com.example.far"),
    ] {
        instance.install(id, extension);
        instance.enable(id);
    }
    instance.set("extension_installation", "near", "OWN", "an own value");
    (instance, near, far)
}

fn deliver(instance: &Instance, installation: &str, times: u64) {
    let mut dispatcher = instance.connect();
    let request = invocation(installation, b"{\"id\":\"inv_1\"}");
    for _ in 0..times {
        assert_eq!(dispatcher.exchange(&request).status, 200);
    }
}

#[test]
fn ten_thousand_warm_deliveries_are_one_entry_per_key_destination_and_minute() {
    let gated = Gated::open();
    let (instance, near, far) = two_destinations(&gated);
    for id in ["near", "near2", "far"] {
        deliver(&instance, id, 1); // from here on warm
    }
    let commits = gated.store.calls("commit");
    let records = gated.store.calls("record");
    deliver(&instance, "near", DELIVERIES - 1);
    deliver(&instance, "near2", 4);
    deliver(&instance, "far", 2);
    assert_eq!(
        gated.store.calls("commit"),
        commits,
        "a warm delivery asks nothing of the store"
    );
    assert_eq!(gated.store.calls("record"), records);
    assert_eq!(told(&gated), []);

    let first = after_a_minute(&gated, &instance, 4);
    let origin = |endpoint: &Endpoint| endpoint.url();
    let row = |key: &str, source, to: &Endpoint| (key.to_owned(), 1, source, origin(to));
    let expected = BTreeMap::from([
        (row("SHARED", "delivery", &near), DELIVERIES + 5),
        (row("OWN", "delivery", &near), DELIVERIES),
        (row("SHARED", "delivery", &far), 3),
        (row("SIGN", "signing", &far), 3),
    ]);
    assert_eq!(counts(&first), expected);
    assert!(gated.store.calls("commit") < commits + 4, "all in one transaction");
    for entry in &first {
        assert_eq!((entry.at, entry.external), (instance.clock.now(), false));
        assert!(entry.actor.id.starts_with("sidecar:"));
    }
    let own = first
        .iter()
        .find(|entry| entry.key.as_ref().unwrap().as_str() == "OWN")
        .unwrap();
    let place = (own.scope, own.subject.as_ref().map(ToString::to_string));
    assert_eq!(place, (Some(Scope::ExtensionInstallation), Some("near".into())));

    // The next minute has entries of its own; one without a delivery has none.
    deliver(&instance, "far", 5);
    let second = after_a_minute(&gated, &instance, 6).split_off(4);
    let expected = BTreeMap::from([(row("SHARED", "delivery", &far), 5), (row("SIGN", "signing", &far), 5)]);
    assert_eq!(counts(&second), expected);
    assert_eq!(verified(&gated, Some("org")).finding, None);

    // What was used is known to the minute, and the anomaly's query sees the deliveries.
    let slot = Slot {
        owner: Owner::Organization(organization("org")),
        scope: Scope::Organization,
        scope_id: ScopeId::parse("org").unwrap(),
        key: SecretKey::parse("SHARED").unwrap(),
    };
    let rows = gated.block_on(gated.store.slots(std::slice::from_ref(&slot))).unwrap();
    assert_eq!(rows[0].meta.last_used_at, Some(instance.clock.now()));
    let query = UseQuery {
        organization: organization("org"),
        scope: slot.scope,
        subject: slot.scope_id,
        key: slot.key,
        after: Timestamp(0),
        up_to: instance.clock.now(),
    };
    let delivered = |query: &UseQuery| gated.block_on(gated.store.uses(query)).unwrap().deliveries;
    assert_eq!(delivered(&query), DELIVERIES + 13);
    // What comes after a moment is not counted for it.
    let up_to = Timestamp(query.up_to.0 - 1);
    assert!(delivered(&UseQuery { up_to, ..query }) < DELIVERIES + 13);
}

#[test]
fn a_bundle_that_was_dropped_within_the_minute_loses_no_delivery() {
    let gated = Gated::open();
    let (instance, near, _far) = two_destinations(&gated);
    deliver(&instance, "near", 3);
    instance.set("organization", "org", "SHARED", "another value"); // drops the bundle
    deliver(&instance, "near", 4);
    let told = after_a_minute(&gated, &instance, 3);
    let to = near.url();
    let expected = BTreeMap::from([
        (("SHARED".into(), 1, "delivery", to.clone()), 3),
        (("SHARED".into(), 2, "delivery", to.clone()), 4),
        (("OWN".into(), 1, "delivery", to), 7),
    ]);
    assert_eq!(counts(&told), expected, "each with the version that was delivered");
}

#[test]
fn what_could_not_be_written_is_kept_and_written_once() {
    let gated = Gated::open();
    let (instance, near, _far) = two_destinations(&gated);
    deliver(&instance, "near", 3);
    gated.store.fail("commit", StoreError::Unavailable);
    let before = gated.store.calls("commit");
    instance.clock.advance(MINUTE);
    let asked = Instant::now();
    while gated.store.calls("commit") == before {
        assert!(asked.elapsed() < PATIENCE, "nobody tried");
        instance.metrics();
    }
    assert_eq!(told(&gated), []);
    deliver(&instance, "near", 2);
    gated.store.mend();
    let told = after_a_minute(&gated, &instance, 2);
    let row = |key: &str| (key.to_owned(), 1, "delivery", near.url());
    assert_eq!(counts(&told), BTreeMap::from([(row("SHARED"), 5), (row("OWN"), 5)]));
}

#[test]
fn a_drain_tells_what_was_counted_before_the_stop_and_signs_it_all() {
    let gated = Gated::open();
    let (instance, near, _far) = two_destinations(&gated);
    deliver(&instance, "near", 3);
    instance.running.drain();
    instance.running.wait();
    let row = |key: &str| (key.to_owned(), 1, "delivery", near.url());
    assert_eq!(
        counts(&told(&gated)),
        BTreeMap::from([(row("SHARED"), 3), (row("OWN"), 3)])
    );
    let platform = audit(&gated, None);
    assert_eq!(platform.last().unwrap().action, Action::InstanceStop);
    for of in [None, Some("org")] {
        let report = verified(&gated, of);
        assert_eq!((report.finding, report.signed_up_to), (None, report.last), "{of:?}");
    }
}

#[test]
fn a_delivery_that_found_no_connection_is_not_counted_and_one_that_broke_off_is() {
    let gated = Gated::open();
    let instance = gated.start(&[]);
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", nobody.local_addr().unwrap());
    drop(nobody);
    let hangs_up = Endpoint::scripted(std::sync::Arc::new(|_| None));
    for (id, extension, url) in [
        ("away", "com.example.away", url),
        ("rude", "com.example.rude", hangs_up.url()),
    ] {
        instance.register(extension, json!({"url": url}), json!({"KEY": {"secret": true}}));
        instance.install(id, extension);
        instance.enable(id);
    }
    instance.set("project", "proj", "KEY", "a value");
    for _ in 0..2 {
        for id in ["away", "rude"] {
            assert_eq!(instance.deliver(id, b"{}").status, 502, "{id}");
        }
    }
    let told = after_a_minute(&gated, &instance, 1);
    let expected = BTreeMap::from([(("KEY".into(), 1, "delivery", hangs_up.url()), 2)]);
    assert_eq!(counts(&told), expected);
    assert_eq!(told[0].source, Source::Delivery);
}
