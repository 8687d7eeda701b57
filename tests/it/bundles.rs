//! What a delivery costs in store calls, and that no cached answer is ever older than a change.

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use kiket_sidecar::domain::audit::{Actor, Source};
use kiket_sidecar::domain::id::ScopeId;
use kiket_sidecar::domain::key::SecretKey;
use kiket_sidecar::domain::scope::{Owner, Scope, Slot};
use kiket_sidecar::secrets::manage::{Asker, Content, NewSecret, SecretManager};
use kiket_sidecar::store::{SharedStore, StoreError};
use serde_json::{Value, json};

use super::support::endpoint::Endpoint;
use super::support::gated_store::{Gated, Held};
use super::support::http::{Answer, Client, once};
use super::support::instance::{Instance, invocation};
use super::support::problem::assert_problem;

const EXTENSION: &str = "com.example.simple";

/// An enabled installation with one value, nothing built yet; the feed stands still.
fn cold(gated: &Gated) -> (Instance, Endpoint, Held) {
    let ((instance, feed), endpoint) = (gated.start_without_feed(&[]), Endpoint::start());
    instance.simple(&endpoint.url());
    instance.set("organization", "org", "KEY", "the old value");
    (instance, endpoint, feed)
}

fn in_background(instance: &Instance, installation: &'static str) -> JoinHandle<Answer> {
    let to = instance.proxy();
    thread::spawn(move || once(to, &invocation(installation, b"{}")))
}

/// Asks the metrics until one of them has this value.
fn wait_for(instance: &Instance, sample: &str) {
    let begun = Instant::now();
    while !instance.metrics().lines().any(|line| line == sample) {
        assert!(begun.elapsed() < Duration::from_secs(30), "never: {sample}");
    }
}

fn delete(instance: &Instance, scope: &str, id: &str) {
    let path = format!("/extensions/secrets/KEY?scope={scope}&id={id}&organization_id=org");
    instance.must("DELETE", &path, &Value::Null);
}

#[test]
fn a_thousand_warm_deliveries_ask_the_store_nothing() {
    let gated = Gated::open();
    let (instance, endpoint, _feed) = cold(&gated);
    let mut client = instance.connect();
    let mut deliver = || assert_eq!(client.exchange(&invocation("ins", b"{}")).status, 200);
    let before = gated.store.all_calls();
    deliver();
    let warm = gated.store.all_calls();
    assert_eq!(warm - before, 3, "cold: the installation, its slots, the audit entry");
    for _ in 0..1_000 {
        deliver();
    }
    assert_eq!(gated.store.all_calls(), warm);
    assert_eq!(endpoint.received().len(), 1_001);
    assert_eq!(endpoint.last().secret("KEY").as_deref(), Some("the old value"));
}

/// A change that comes while a build holds an answer from before it, and what the next delivery has to be.
type Meanwhile = (
    &'static str,
    &'static str,
    fn(&Instance, &Endpoint),
    u16,
    Option<&'static str>,
);

const MEANWHILE: [Meanwhile; 8] = [
    (
        "a value replaced",
        "slots",
        |i, _| drop(i.set("organization", "org", "KEY", "new")),
        200,
        Some("new"),
    ),
    (
        "a slot that was absent",
        "slots",
        |i, _| drop(i.set("project", "proj", "KEY", "new")),
        200,
        Some("new"),
    ),
    (
        "a value deleted",
        "slots",
        |i, _| delete(i, "organization", "org"),
        200,
        None,
    ),
    (
        "a value replaced while loads are recorded",
        "record",
        |i, _| drop(i.set("project", "proj", "KEY", "new")),
        200,
        Some("new"),
    ),
    (
        "the installation, before its slots are read",
        "installation",
        |i, _| disable(i),
        409,
        None,
    ),
    ("the installation, after", "slots", |i, _| disable(i), 409, None),
    (
        "the manifest, before its slots are read",
        "installation",
        require_another,
        424,
        None,
    ),
    ("the manifest, after", "slots", require_another, 424, None),
];

fn disable(instance: &Instance) {
    instance.must("PATCH", "/marketplace/installations/ins", &json!({"state": "disabled"}));
}

fn require_another(instance: &Instance, endpoint: &Endpoint) {
    let configuration = json!({"OTHER": {"secret": true, "required": true}});
    instance.register(EXTENSION, json!({"url": endpoint.url()}), configuration);
}

#[test]
fn a_change_made_while_a_bundle_is_built_is_never_hidden_by_the_stale_result() {
    for (what, method, change, status, value) in MEANWHILE {
        let gated = Gated::open();
        let (instance, endpoint, _feed) = cold(&gated);
        let held = gated.store.hold(method);
        let first = in_background(&instance, "ins");
        held.wait();
        if method == "record" {
            // A load waits for its entry 250 ms at most, so nobody is waited for here.
            change(&instance, &endpoint);
            held.release();
            first.join().unwrap();
        } else {
            change(&instance, &endpoint);
            let second = in_background(&instance, "ins"); // joins the build, after the change
            wait_for(&instance, "kiket_in_flight 2");
            held.release();
            assert_eq!(
                second.join().unwrap().status,
                status,
                "{what}: who asked after the change"
            );
            first.join().unwrap();
        }
        assert_eq!(instance.deliver("ins", b"{}").status, status, "{what}");
        if status == 200 {
            assert_eq!(endpoint.last().secret("KEY").as_deref(), value, "{what}");
        }
    }
}

#[test]
fn a_build_that_fails_while_something_changes_is_made_again() {
    let gated = Gated::open();
    let (instance, endpoint, _feed) = cold(&gated);
    let held = gated.store.hold("slots");
    let first = in_background(&instance, "ins");
    held.wait();
    instance.set("project", "proj", "KEY", "new");
    held.fail(StoreError::Unavailable);
    assert_eq!(first.join().unwrap().status, 200);
    assert_eq!(endpoint.last().secret("KEY").as_deref(), Some("new"));
    assert_eq!(instance.deliver("ins", b"{}").status, 200);
}

#[test]
fn two_hundred_cold_deliveries_of_one_installation_share_one_build() {
    let gated = Gated::open();
    let (instance, endpoint, _feed) = cold(&gated);
    let before = ["installation", "slots", "record"].map(|method| gated.store.calls(method));
    let held = gated.store.hold("installation");
    let mut clients: Vec<Client> = (0..200).map(|_| instance.connect()).collect();
    for client in &mut clients {
        client.send(&invocation("ins", b"{}"));
    }
    held.wait();
    wait_for(&instance, "kiket_in_flight 200");
    held.release();
    for client in &mut clients {
        assert_eq!(client.answer().status, 200);
    }
    let after = ["installation", "slots", "record"].map(|method| gated.store.calls(method));
    assert_eq!(after, before.map(|n| n + 1));
    assert_eq!(endpoint.received().len(), 200);
}

#[test]
fn an_unknown_installation_costs_one_read_until_it_is_installed() {
    let gated = Gated::open();
    let (instance, endpoint, _feed) = cold(&gated);
    let before = gated.store.calls("installation");
    for _ in 0..100 {
        assert_problem(
            &instance.deliver("later", b"{}"),
            404,
            "installation-unknown",
            false,
            "unknown",
        );
    }
    assert_eq!(gated.store.calls("installation"), before + 1);
    instance.install("later", EXTENSION);
    assert_problem(
        &instance.deliver("later", b"{}"),
        409,
        "installation-not-enabled",
        false,
        "pending",
    );
    instance.enable("later");
    assert_eq!(instance.deliver("later", b"{}").status, 200);
    assert_eq!(endpoint.last().secret("KEY").as_deref(), Some("the old value"));
}

#[test]
fn a_bundle_is_built_again_for_what_it_depends_on_and_for_nothing_else() {
    let gated = Gated::open();
    let (instance, endpoint, _feed) = cold(&gated);
    instance.install("other", EXTENSION);
    let set = |organization: &str, scope: &str, id: &str, key: &str| {
        let secret = json!({"scope": scope, "id": id, "key": key, "value": id, "organization_id": organization});
        instance.must("POST", "/extensions/secrets", &secret);
    };
    let partner = json!({"scope": "extension", "id": EXTENSION, "key": "KEY", "value": "x", "partner_default": true});
    let elsewhere = json!({"scope": "extension", "id": "com.x", "key": "KEY", "value": "x", "partner_default": true});
    let post = |secret: &Value| drop(instance.must("POST", "/extensions/secrets", secret));
    let changes: [(&str, &dyn Fn(), bool); 13] = [
        (
            "another key of the organization",
            &|| set("org", "organization", "org", "OTHER"),
            false,
        ),
        ("another project", &|| set("org", "project", "proj2", "KEY"), false),
        (
            "another installation's value",
            &|| set("org", "extension_installation", "other", "KEY"),
            false,
        ),
        (
            "another extension's value",
            &|| set("org", "extension", "com.example.other", "KEY"),
            false,
        ),
        (
            "another organization at the same ids",
            &|| set("org2", "project", "proj", "KEY"),
            false,
        ),
        ("another extension's partner default", &|| post(&elsewhere), false),
        ("another installation", &|| instance.enable("other"), false),
        (
            "another extension",
            &|| instance.register("com.example.other", json!({"url": endpoint.url()}), json!({})),
            false,
        ),
        ("a slot that was absent", &|| set("org", "project", "proj", "KEY"), true),
        ("the slot that won", &|| set("org", "project", "proj", "KEY"), true),
        ("a slot that lost", &|| set("org", "organization", "org", "KEY"), true),
        ("the partner's layer", &|| post(&partner), true),
        ("the installation itself", &|| instance.enable("ins"), true),
    ];
    assert_eq!(instance.deliver("ins", b"{}").status, 200);
    for (what, change, rebuilds) in changes {
        change();
        let before = gated.store.calls("slots");
        assert_eq!(instance.deliver("ins", b"{}").status, 200);
        assert_eq!(instance.deliver("ins", b"{}").status, 200);
        assert_eq!(gated.store.calls("slots") - before, u64::from(rebuilds), "{what}");
    }
}

#[test]
fn what_another_instance_wrote_comes_with_the_feed() {
    let gated = Gated::open();
    let (instance, endpoint, feed) = cold(&gated);
    assert_eq!(instance.deliver("ins", b"{}").status, 200);
    let store = Arc::clone(&gated.store) as SharedStore;
    let elsewhere = SecretManager::new(store, Arc::clone(&gated.keyring), Arc::clone(&instance.clock) as _);
    let asker = Asker {
        actor: Actor {
            id: "tok".into(),
            name: "tok".into(),
        },
        source: Source::Api,
    };
    let slot = Slot {
        owner: Owner::Organization(kiket_sidecar::domain::id::OrganizationId::parse("org").unwrap()),
        scope: Scope::Project,
        scope_id: ScopeId::parse("proj").unwrap(),
        key: SecretKey::parse("KEY").unwrap(),
    };
    let value = NewSecret {
        slot,
        content: Content::Value("written elsewhere".into()),
        expires_at: None,
        contact: None,
    };
    gated.block_on(elsewhere.set(&asker, vec![value], None)).unwrap();
    assert_eq!(instance.deliver("ins", b"{}").status, 200);
    assert_eq!(
        endpoint.last().secret("KEY").as_deref(),
        Some("the old value"),
        "the feed stands still"
    );
    feed.release();
    let begun = Instant::now();
    loop {
        assert_eq!(instance.deliver("ins", b"{}").status, 200);
        if endpoint.last().secret("KEY").as_deref() == Some("written elsewhere") {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "the feed is not followed");
    }
}

#[test]
fn a_dispatcher_that_hangs_up_cancels_nothing_that_others_wait_for() {
    let gated = Gated::open();
    let (instance, endpoint, _feed) = cold(&gated);
    let before = gated.store.calls("installation");
    let held = gated.store.hold("installation");
    let mut first = instance.connect();
    first.send(&invocation("ins", b"{}"));
    held.wait();
    let second = in_background(&instance, "ins");
    wait_for(&instance, "kiket_in_flight 2");
    drop(first);
    wait_for(&instance, "kiket_in_flight 1");
    held.release();
    assert_eq!(second.join().unwrap().status, 200);
    assert_eq!(
        gated.store.calls("installation"),
        before + 1,
        "built once, by who is gone"
    );
    assert_eq!(endpoint.received().len(), 1);
    let gone = |line: &&Value| line["outcome"] == "dispatcher-gone";
    assert_eq!(instance.lines().iter().filter(gone).count(), 1);
}

#[test]
fn a_store_that_is_away_stops_cold_deliveries_only() {
    let gated = Gated::open();
    let (instance, endpoint, _feed) = cold(&gated);
    instance.install("cold", EXTENSION);
    instance.enable("cold");
    assert_eq!(instance.deliver("ins", b"{}").status, 200);
    for (method, error) in [
        ("installation", StoreError::Unavailable),
        ("slots", StoreError::Unavailable),
        ("record", StoreError::Unavailable),
        ("record", StoreError::Full),
    ] {
        gated.store.fail(method, error);
        for _ in 0..2 {
            assert_problem(&instance.deliver("cold", b"{}"), 503, "store-unavailable", true, method);
        }
        assert_eq!(instance.deliver("ins", b"{}").status, 200, "{method}: warm");
        gated.store.mend();
    }
    assert_eq!(endpoint.received().len(), 5, "nothing was sent without the store");
    assert_eq!(instance.deliver("cold", b"{}").status, 200, "a failure is not kept");
}

#[test]
fn no_plaintext_is_released_whose_load_was_not_recorded_in_time() {
    let gated = Gated::open();
    let (instance, endpoint, _feed) = cold(&gated);
    let held = gated.store.hold("record"); // far longer than 250 ms: until released
    assert_problem(
        &instance.deliver("ins", b"{}"),
        503,
        "store-unavailable",
        true,
        "too late",
    );
    held.wait();
    assert!(endpoint.received().is_empty());
    // The build that waited in vain is over although its entry still hangs.
    assert_eq!(instance.deliver("ins", b"{}").status, 200);
    held.release();
    assert_eq!(endpoint.received().len(), 1);
}

#[test]
fn bundles_that_nobody_uses_leave_memory() {
    let gated = Gated::open();
    let (instance, _endpoint, _feed) = cold(&gated);
    assert_eq!(instance.deliver("ins", b"{}").status, 200);
    assert_eq!(instance.deliver("unknown", b"{}").status, 404);
    wait_for(&instance, "kiket_bundles 2");
    instance.clock.advance(60_001); // an unknown id is remembered for a minute
    wait_for(&instance, "kiket_bundles 1");
    let before = gated.store.calls("installation");
    instance.clock.advance(600_000 - 60_001);
    assert_eq!(instance.deliver("ins", b"{}").status, 200);
    assert_eq!(
        gated.store.calls("installation"),
        before,
        "ten minutes unused are not too long"
    );
    instance.clock.advance(600_001);
    wait_for(&instance, "kiket_bundles 0");
}
