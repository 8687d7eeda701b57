//! Whether unusual reading raises one alert, and usual reading none, however much of it there is.

use kiket_sidecar::clock::Clock;
use kiket_sidecar::domain::audit::{Action, Actor, AuditEntry, Delivered, Outcome, Source};
use kiket_sidecar::domain::id::{OrganizationId, ScopeId};
use kiket_sidecar::domain::key::SecretKey;
use kiket_sidecar::domain::scope::Scope;
use kiket_sidecar::domain::time::Timestamp;
use kiket_sidecar::store::{CountedKey, Store, UseQuery};
use serde_json::{Value, json};

use super::support::endpoint::Endpoint;
use super::support::gated_store::Gated;
use super::support::instance::{Instance, invocation};

/// The policy's window where it says nothing.
const WINDOW_MILLIS: u64 = 15 * 60 * 1_000;

fn read(instance: &Instance, key: &str, times: usize) {
    let path = format!("/extensions/secrets/{key}?scope=organization&id=org");
    for _ in 0..times {
        instance.must("GET", &path, &Value::Null);
    }
}

/// Waits for so many alerts, of all there are.
fn wait_for_alerts(instance: &Instance, count: usize) -> Vec<Value> {
    let begun = std::time::Instant::now();
    loop {
        let alerts = instance.must("GET", "/secrets/alerts?status=all&limit=1000", &Value::Null);
        let alerts = alerts["data"].as_array().unwrap().clone();
        if alerts.len() >= count {
            return alerts;
        }
        assert!(begun.elapsed().as_secs() < 30, "never: {count} alerts, {alerts:?}");
    }
}

/// Everything that was stored so far has been looked at once this returns: uses are looked at in order, and this one
/// raises an alert. Returns the alerts of other keys.
fn settled(instance: &Instance, sentinel: &str) -> Vec<Value> {
    instance.set("organization", "org", sentinel, "value");
    read(instance, sentinel, 26);
    loop {
        let alerts = wait_for_alerts(instance, 1);
        let (own, others): (Vec<Value>, Vec<Value>) = alerts.into_iter().partition(|alert| alert["key"] == sentinel);
        if !own.is_empty() {
            return others
                .into_iter()
                .filter(|alert| !alert["key"].as_str().unwrap().starts_with("SENTINEL"))
                .collect();
        }
    }
}

#[test]
fn twenty_five_reads_are_silent_and_the_next_raises_one_alert() {
    let instance = Instance::start();
    instance.set("organization", "org", "KEY", "canary-of-monitoring");
    read(&instance, "KEY", 25);
    assert_eq!(settled(&instance, "SENTINEL_A"), Vec::<Value>::new());
    read(&instance, "KEY", 1);
    let alerts = settled(&instance, "SENTINEL_B");
    assert_eq!(alerts.len(), 1, "{alerts:?}");
    let alert = &alerts[0];
    for (field, value) in [
        ("organization_id", json!("org")),
        ("kind", json!("read-anomaly")),
        ("severity", json!("high")),
        ("scope", json!("organization")),
        ("scope_id", json!("org")),
        ("key", json!("KEY")),
        ("acknowledged_at", Value::Null),
        (
            "detail",
            json!("26 reads within 900 seconds, more than the 25 of the policy"),
        ),
    ] {
        assert_eq!(alert[field], value, "{field}");
    }
    // The next hundred say nothing new.
    read(&instance, "KEY", 100);
    assert_eq!(settled(&instance, "SENTINEL_C"), alerts);
    assert!(instance.metrics().contains("kiket_alerts_total{kind=\"read-anomaly\"}"));
}

#[test]
fn the_window_moves_with_the_clock_to_the_millisecond() {
    // The first of the reads is within the window of the last one, or just not any more.
    for (moved, raised) in [(WINDOW_MILLIS - 1, 1), (WINDOW_MILLIS, 0)] {
        let instance = Instance::start();
        instance.set("organization", "org", "KEY", "value");
        read(&instance, "KEY", 1);
        instance.clock.advance(moved);
        read(&instance, "KEY", 25);
        assert_eq!(settled(&instance, "SENTINEL").len(), raised, "{moved}");
    }
}

#[test]
fn each_window_has_an_alert_of_its_own() {
    let instance = Instance::start();
    instance.set("organization", "org", "KEY", "value");
    read(&instance, "KEY", 26);
    assert_eq!(settled(&instance, "SENTINEL_A").len(), 1);
    instance.clock.advance(WINDOW_MILLIS - 1);
    read(&instance, "KEY", 26);
    assert_eq!(settled(&instance, "SENTINEL_B").len(), 1, "told within this window");
    instance.clock.advance(1);
    read(&instance, "KEY", 1);
    assert_eq!(settled(&instance, "SENTINEL_C").len(), 2);
}

#[test]
fn a_policys_own_threshold_and_window_hold_for_its_organization() {
    let instance = Instance::start();
    instance.set("organization", "org", "KEY", "value");
    let policy = json!({"read_threshold": 3, "read_window_secs": 60});
    instance.must("PUT", "/organizations/org/policy", &policy);
    read(&instance, "KEY", 3);
    instance.clock.advance(60_000);
    read(&instance, "KEY", 3);
    assert_eq!(settled(&instance, "SENTINEL_A"), Vec::<Value>::new());
    read(&instance, "KEY", 1);
    assert_eq!(settled(&instance, "SENTINEL_B").len(), 1);
}

#[test]
fn keys_of_the_same_name_elsewhere_are_counted_apart() {
    let instance = Instance::start();
    instance.set("organization", "org", "KEY", "value");
    for n in 0..4 {
        instance.set("project", &format!("p{n}"), "KEY", "value");
        for _ in 0..10 {
            let path = format!("/extensions/secrets/KEY?scope=project&id=p{n}&organization_id=org");
            instance.must("GET", &path, &Value::Null);
        }
    }
    read(&instance, "KEY", 25);
    assert_eq!(settled(&instance, "SENTINEL"), Vec::<Value>::new());
}

/// An entry as another instance of the fleet would record it.
fn entry(instance: &Instance, action: Action, source: Source) -> AuditEntry {
    let actor = Actor {
        id: "sidecar:other".into(),
        name: "other".into(),
    };
    AuditEntry {
        scope: Some(Scope::Organization),
        subject: Some(ScopeId::parse("org").unwrap()),
        key: Some(SecretKey::parse("KEY").unwrap()),
        ..AuditEntry::of(
            Some(OrganizationId::parse("org").unwrap()),
            instance.clock.now(),
            actor,
            action,
            source,
        )
    }
}

#[test]
fn the_window_is_shared_by_the_fleet_and_survives_restarts() {
    let gated = Gated::open();
    let first = gated.start(&[]);
    first.set("organization", "org", "KEY", "value");
    read(&first, "KEY", 10);
    first.running.drain();
    let clock = first.clock.now();
    first.running.wait();
    let second = gated.start(&[]);
    second.clock.advance(clock.0.saturating_sub(second.clock.now().0));
    let others = (0..15)
        .map(|_| entry(&second, Action::SecretGet, Source::Cli))
        .collect();
    gated.block_on(gated.store.record(others)).unwrap();
    assert_eq!(settled(&second, "SENTINEL_A"), Vec::<Value>::new());
    read(&second, "KEY", 1);
    assert_eq!(settled(&second, "SENTINEL_B").len(), 1);
}

#[test]
fn a_use_that_is_stored_after_a_later_one_of_another_instance_is_counted_with_it() {
    let gated = Gated::open();
    let instance = gated.start(&[]);
    instance.set("organization", "org", "KEY", "value");
    let later = AuditEntry {
        at: Timestamp(instance.clock.now().0 + 1),
        ..entry(&instance, Action::SecretGet, Source::Cli)
    };
    let others = vec![later; 25];
    gated.block_on(gated.store.record(others)).unwrap();
    assert_eq!(settled(&instance, "SENTINEL_A"), Vec::<Value>::new());
    read(&instance, "KEY", 1);
    assert_eq!(settled(&instance, "SENTINEL_B").len(), 1);
}

#[test]
fn refused_reads_count_and_deliveries_do_where_the_policy_says_so() {
    let gated = Gated::open();
    let instance = gated.start(&[]);
    instance.set("organization", "org", "KEY", "value");
    let record = |entries| gated.block_on(gated.store.record(entries)).unwrap();
    let delivered = |count| AuditEntry {
        delivered: Some(Delivered {
            destination: "https://ext.example.com:443".into(),
            count,
        }),
        ..entry(&instance, Action::SecretDelivered, Source::Delivery)
    };
    record(vec![delivered(10_000)]);
    read(&instance, "KEY", 1);
    assert_eq!(
        settled(&instance, "SENTINEL_A"),
        Vec::<Value>::new(),
        "off where the policy says nothing"
    );
    instance.must(
        "PUT",
        "/organizations/org/policy",
        &json!({"delivery_read_threshold": 10_000}),
    );
    read(&instance, "KEY", 1);
    assert_eq!(settled(&instance, "SENTINEL_B"), Vec::<Value>::new());
    record(vec![delivered(1)]);
    read(&instance, "KEY", 1);
    let alerts = settled(&instance, "SENTINEL_C");
    assert_eq!(alerts.len(), 1);
    assert_eq!(
        alerts[0]["detail"],
        "10001 deliveries within 900 seconds, more than the 10000 of the policy"
    );

    instance.clock.advance(WINDOW_MILLIS);
    let refused = AuditEntry {
        outcome: Outcome::Refused,
        ..entry(&instance, Action::SecretGet, Source::Sdk)
    };
    record(vec![refused; 25]);
    read(&instance, "KEY", 1);
    assert_eq!(settled(&instance, "SENTINEL_D").len(), 2);
}

/// Sources of a key's loads that the audit log has, oldest first.
fn loads(gated: &Gated) -> Vec<&'static str> {
    let org = OrganizationId::parse("org").unwrap();
    let chain = gated.block_on(gated.store.chain(Some(&org), 1, 100_000)).unwrap();
    let loads = chain.iter().filter(|linked| linked.entry.action == Action::SecretLoad);
    loads.map(|linked| linked.entry.source.name()).collect()
}

#[test]
fn ten_thousand_warm_deliveries_raise_no_alert() {
    let (instance, endpoint) = (Instance::start(), Endpoint::start());
    instance.simple(&endpoint.url());
    instance.set("organization", "org", "KEY", "value");
    let mut client = instance.connect();
    let request = invocation("ins", b"{}");
    for _ in 0..10_000 {
        assert_eq!(client.exchange(&request).status, 200);
    }
    assert_eq!(settled(&instance, "SENTINEL"), Vec::<Value>::new());
}

#[test]
fn a_rotation_that_thirty_installations_follow_raises_no_alert_warm_or_idle() {
    let gated = Gated::open();
    let (instance, endpoint) = (gated.start(&[("bundle_idle", "1m")]), Endpoint::start());
    instance.register(
        "com.example.many",
        json!({"url": endpoint.url()}),
        json!({"KEY": {"secret": true}}),
    );
    instance.set("organization", "org", "KEY", "value");
    let ids: Vec<String> = (0..30).map(|n| format!("ins{n}")).collect();
    for id in &ids {
        instance.install(id, "com.example.many");
        instance.enable(id);
    }
    let deliver_to_all = || {
        ids.iter()
            .for_each(|id| assert_eq!(instance.deliver(id, b"{}").status, 200))
    };
    deliver_to_all(); // at the start
    for n in 0..3 {
        instance.set("organization", "org", "KEY", &format!("value {n}"));
        deliver_to_all(); // after a change
    }
    // All have left memory when the next change comes.
    instance.clock.advance(60_001);
    let begun = std::time::Instant::now();
    while !instance.metrics().contains("kiket_bundles 0\n") {
        assert!(begun.elapsed().as_secs() < 30, "the bundles stay");
    }
    instance.set("organization", "org", "KEY", "last value");
    // The feed tells it once more: who is delivered to before that is loaded once more, too.
    let asked = gated.store.calls("changes");
    while gated.store.calls("changes") < asked + 2 {
        assert!(begun.elapsed().as_secs() < 60, "nobody reads the feed");
        instance.metrics();
    }
    deliver_to_all();
    let usual = loads(&gated);
    assert!(usual.len() >= 30 * 5, "{}", usual.len()); // the feed repeats what an instance did itself
    assert_eq!(usual.iter().find(|source| **source != "refresh"), None);
    assert_eq!(settled(&instance, "SENTINEL_A"), Vec::<Value>::new());

    // The same loads without a change are unusual.
    instance.clock.advance(60_001);
    let begun = std::time::Instant::now();
    while !instance.metrics().contains("kiket_bundles 0\n") {
        assert!(begun.elapsed().as_secs() < 30, "the bundles stay");
    }
    deliver_to_all();
    assert_eq!(loads(&gated)[usual.len()..], vec!["delivery"; 30]);
    let alerts = settled(&instance, "SENTINEL_B");
    assert_eq!(alerts.len(), 1, "{alerts:?}");
    assert_eq!(
        (&alerts[0]["kind"], &alerts[0]["key"]),
        (&json!("read-anomaly"), &json!("KEY"))
    );
}

#[test]
fn a_delivery_does_not_wait_for_its_uses_to_be_counted() {
    let gated = Gated::open();
    let (instance, endpoint) = (gated.start(&[]), Endpoint::start());
    instance.simple(&endpoint.url());
    instance.set("organization", "org", "KEY", "value");
    let counting = gated.store.hold("uses");
    read(&instance, "KEY", 1);
    counting.wait();
    assert_eq!(instance.deliver("ins", b"{}").status, 200);
    read(&instance, "KEY", 25);
    counting.release();
    assert_eq!(
        settled(&instance, "SENTINEL").len(),
        1,
        "and none is forgotten meanwhile"
    );
}

#[test]
fn the_watch_and_the_log_count_the_same_entries() {
    let gated = Gated::open();
    let instance = gated.start(&[]);
    let after = kiket_sidecar::domain::time::Timestamp(0);
    let query = UseQuery {
        organization: OrganizationId::parse("org").unwrap(),
        scope: Scope::Organization,
        subject: ScopeId::parse("org").unwrap(),
        key: SecretKey::parse("KEY").unwrap(),
        after,
        up_to: kiket_sidecar::domain::time::Timestamp(u64::MAX),
    };
    let counted = || {
        let count = gated.block_on(gated.store.uses(&query)).unwrap();
        count.reads + count.deliveries
    };
    let mut all = 0;
    for action in Action::ALL {
        for source in Source::ALL {
            for outcome in Outcome::ALL {
                let entry = AuditEntry {
                    outcome: *outcome,
                    delivered: (*action == Action::SecretDelivered).then(|| Delivered {
                        destination: "https://ext.example.com:443".into(),
                        count: 1,
                    }),
                    ..entry(&instance, *action, *source)
                };
                let counts = CountedKey::of(&entry).is_some();
                gated.block_on(gated.store.record(vec![entry])).unwrap();
                let now = counted();
                assert_eq!(now - all, u64::from(counts), "{action:?} {source:?} {outcome:?}");
                all = now;
            }
        }
    }
    assert!(all > 0);
}
