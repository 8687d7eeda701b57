//! What the scheduled look at all secrets finds, when, and how often it says so.

use std::sync::Arc;

use kiket_sidecar::clock::Clock;
use kiket_sidecar::domain::audit::{Action, Actor};
use kiket_sidecar::domain::id::{InstallationId, OrganizationId, ScopeId};
use kiket_sidecar::domain::key::SecretKey;
use kiket_sidecar::domain::policy::DAY_MILLIS;
use kiket_sidecar::domain::scope::{Owner, Scope, Slot};
use kiket_sidecar::notify::Sources;
use kiket_sidecar::notify::secret_audit::SecretAudit;
use kiket_sidecar::secrets::resolve::SecretResolver;
use kiket_sidecar::store::{Change, SharedStore, Store, Write};
use serde_json::{Value, json};

use super::support::endpoint::Endpoint;
use super::support::gated_store::Gated;
use super::support::instance::{HandClock, Instance, invocation};
use super::support::pki::{Authority, Validity};
use super::support::tenant::{CERTIFICATE, Tenant, mutual_callback};
use super::support::tls_endpoint::{H1, Setup};

/// The job over a store, by a clock of its own that begins where the instance's stands.
struct Job {
    audit: SecretAudit,
    clock: Arc<HandClock>,
}

impl Job {
    fn over(gated: &Gated, instance: &Instance) -> Self {
        let clock = Arc::new(HandClock::at(instance.clock.now().0));
        let sources = Sources {
            store: Arc::clone(&gated.store) as SharedStore,
            keyring: Arc::clone(&gated.keyring),
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            actor: Actor {
                id: "sidecar:job".into(),
                name: "job".into(),
            },
        };
        let Sources {
            store,
            keyring,
            clock: at,
            actor,
        } = sources.clone();
        let resolver = SecretResolver::new(store, keyring, at, actor);
        Self {
            audit: SecretAudit::new(sources, resolver),
            clock,
        }
    }

    fn run(&self, gated: &Gated) {
        gated.block_on(self.audit.run()).unwrap();
    }
}

/// The details of all alerts of a kind, oldest first.
fn found(instance: &Instance, kind: &str) -> Vec<String> {
    let alerts = instance.must("GET", "/secrets/alerts?status=all", &Value::Null);
    let of_kind = alerts["data"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|alert| alert["kind"] == kind);
    let mut details: Vec<_> = of_kind
        .map(|alert| alert["detail"].as_str().unwrap().to_owned())
        .collect();
    details.reverse();
    details
}

fn starts(details: &[String]) -> Vec<String> {
    details
        .iter()
        .map(|detail| detail.split(':').next().unwrap().to_owned())
        .collect()
}

#[test]
fn a_value_older_than_the_policy_is_told_once_for_each_version() {
    let gated = Gated::open();
    let instance = gated.start(&[]);
    instance.set("organization", "org", "KEY", "value");
    instance.must(
        "PUT",
        "/organizations/org/policy",
        &json!({"rotation_max_age_days": 30, "unused_days": null}),
    );
    let job = Job::over(&gated, &instance);
    job.clock.advance(30 * DAY_MILLIS);
    job.run(&gated);
    assert_eq!(
        found(&instance, "rotation-overdue"),
        Vec::<String>::new(),
        "as old as allowed"
    );
    job.clock.advance(1);
    for _ in 0..3 {
        job.run(&gated);
        job.clock.advance(DAY_MILLIS);
    }
    let once = ["the value is 30 days old; the policy allows 30"];
    assert_eq!(found(&instance, "rotation-overdue"), once);
    // The next version is told anew when its time has come, also by another instance's job.
    instance.clock.advance(job.clock.now().0 - instance.clock.now().0);
    instance.set("organization", "org", "KEY", "next");
    let other = Job::over(&gated, &instance);
    other.run(&gated);
    assert_eq!(found(&instance, "rotation-overdue"), once);
    other.clock.advance(30 * DAY_MILLIS + 1);
    other.run(&gated);
    job.clock.advance(30 * DAY_MILLIS + 1);
    job.run(&gated);
    assert_eq!(found(&instance, "rotation-overdue").len(), 2);
}

#[test]
fn a_values_end_is_told_thirty_fourteen_and_seven_days_before_and_when_it_is_past() {
    let gated = Gated::open();
    let instance = gated.start(&[]);
    instance.must(
        "PUT",
        "/organizations/org/policy",
        &json!({"rotation_max_age_days": 3650, "unused_days": null}),
    );
    let end = kiket_sidecar::domain::time::Timestamp(instance.clock.now().0 / 1_000 * 1_000 + 60 * DAY_MILLIS);
    let secret = json!({
        "scope": "organization", "id": "org", "key": "KEY", "value": "value", "expires_at": end.to_rfc3339(),
    });
    instance.must("POST", "/extensions/secrets", &secret);
    let job = Job::over(&gated, &instance);
    let mut expected: Vec<String> = Vec::new();
    for (days, stage) in [
        (30, "ends within 30 days"),
        (14, "ends within 14 days"),
        (7, "ends within 7 days"),
        (0, "has ended"),
    ] {
        let reached = end.0 - days * DAY_MILLIS;
        job.clock.advance(reached - 1 - job.clock.now().0);
        job.run(&gated);
        assert_eq!(
            starts(&found(&instance, "expiring")),
            expected,
            "a moment before {days} days"
        );
        job.clock.advance(1);
        job.run(&gated);
        job.run(&gated);
        expected.push(format!("the value {stage}"));
        assert_eq!(starts(&found(&instance, "expiring")), expected, "{days} days");
    }
    // Found late, only the nearest stage is told.
    instance.set("organization", "org", "KEY", "value");
    let late = json!({
        "scope": "organization", "id": "org", "key": "LATE", "value": "value",
        "expires_at": kiket_sidecar::domain::time::Timestamp(instance.clock.now().0 + 5 * DAY_MILLIS).to_rfc3339(),
    });
    instance.must("POST", "/extensions/secrets", &late);
    Job::over(&gated, &instance).run(&gated);
    expected.push("the value ends within 7 days".into());
    assert_eq!(starts(&found(&instance, "expiring")), expected);
}

#[test]
fn a_client_certificates_end_is_told_and_its_value_opened_once() {
    let gated = Gated::open();
    let (instance, authority) = (gated.start(&[]), Authority::new("dev CA"));
    let policy = json!({"rotation_max_age_days": 3650, "unused_days": null});
    instance.must("PUT", "/organizations/org/policy", &policy);
    instance.register("com.example.mtls", mutual_callback("https://127.0.0.1:1"), json!({}));
    let sixty_days = Validity {
        from: -24,
        until: 24 * 60,
    };
    let identity = authority.client_valid("org", sixty_days);
    let tenant = Tenant::enabled(&instance, "com.example.mtls", ["org", "ins"], &identity, &authority);
    let job = Job::over(&gated, &instance);
    let mut seen = 0;
    for (day, count) in [(0, 0), (29, 0), (31, 1), (45, 1), (47, 2), (54, 3), (61, 4), (90, 4)] {
        job.clock
            .advance(day * DAY_MILLIS + instance.clock.now().0 - job.clock.now().0);
        job.run(&gated);
        seen = found(&instance, "certificate-expiring").len();
        assert_eq!(seen, count, "day {day}");
    }
    assert_eq!(seen, 4);
    let stages = [
        "ends within 30 days",
        "ends within 14 days",
        "ends within 7 days",
        "has ended",
    ];
    let stages = stages.map(|stage| format!("the client certificate {stage}"));
    assert_eq!(starts(&found(&instance, "certificate-expiring")), stages);
    let org = OrganizationId::parse("org").unwrap();
    let chain = gated.block_on(gated.store.chain(Some(&org), 1, 10_000)).unwrap();
    let opened = chain.iter().filter(|linked| linked.entry.action == Action::SecretLoad);
    let by_job = opened.filter(|linked| linked.entry.actor.name == "job");
    assert_eq!(
        by_job.map(|linked| linked.entry.source.name()).collect::<Vec<_>>(),
        ["refresh"]
    );
    // A disabled installation's certificate is nobody's business.
    let renewed = authority.client_valid("org", Validity { from: -24, until: 24 });
    tenant.set(CERTIFICATE, &renewed.certificate_pem());
    instance.must("PATCH", "/marketplace/installations/ins", &json!({"state": "disabled"}));
    Job::over(&gated, &instance).run(&gated);
    assert_eq!(found(&instance, "certificate-expiring").len(), 4);
}

#[test]
fn a_value_that_nobody_uses_is_told_once_for_each_last_use() {
    let gated = Gated::open();
    let instance = gated.start(&[]);
    instance.set("organization", "org", "KEY", "value");
    instance.must(
        "PUT",
        "/organizations/org/policy",
        &json!({"unused_days": 10, "rotation_max_age_days": 3650}),
    );
    let job = Job::over(&gated, &instance);
    job.clock.advance(10 * DAY_MILLIS - 1);
    job.run(&gated);
    assert_eq!(found(&instance, "unused"), Vec::<String>::new());
    job.clock.advance(2);
    job.run(&gated);
    job.clock.advance(DAY_MILLIS);
    job.run(&gated);
    let never = "the value was never used for 10 days; the policy asks after 10";
    assert_eq!(found(&instance, "unused"), [never]);
    let slot = Slot {
        owner: Owner::Organization(OrganizationId::parse("org").unwrap()),
        scope: Scope::Organization,
        scope_id: ScopeId::parse("org").unwrap(),
        key: SecretKey::parse("KEY").unwrap(),
    };
    let used = Write::SecretsUsed {
        slots: vec![slot],
        at: job.clock.now(),
    };
    let change = Change {
        writes: vec![used],
        entries: Vec::new(),
    };
    gated.block_on(gated.store.commit(change)).unwrap();
    job.run(&gated);
    assert_eq!(found(&instance, "unused").len(), 1);
    job.clock.advance(11 * DAY_MILLIS);
    job.run(&gated);
    let not_since = "the value was not used for 11 days; the policy asks after 10";
    assert_eq!(found(&instance, "unused"), [never, not_since]);
    // Off is off.
    instance.must(
        "PUT",
        "/organizations/org/policy",
        &json!({"unused_days": null, "rotation_max_age_days": 3650}),
    );
    instance.set("organization", "org", "OTHER", "value");
    job.clock.advance(1_000 * DAY_MILLIS);
    job.run(&gated);
    assert_eq!(found(&instance, "unused").len(), 2);
}

#[test]
fn placeholders_and_deleted_secrets_are_no_findings() {
    let gated = Gated::open();
    let instance = gated.start(&[]);
    instance.register(
        "com.example.a",
        json!({"url": "https://example.com"}),
        json!({"NEED": {"secret": true}}),
    );
    let install = json!({
        "id": "ins", "extension_id": "com.example.a", "organization_id": "org", "project_id": "proj", "scaffold": true,
    });
    instance.must("POST", "/marketplace/installations", &install);
    instance.set("organization", "org", "KEY", "value");
    instance.must(
        "DELETE",
        "/extensions/secrets/KEY?scope=organization&id=org",
        &Value::Null,
    );
    let job = Job::over(&gated, &instance);
    job.clock.advance(1_000 * DAY_MILLIS);
    job.run(&gated);
    assert_eq!(instance.must("GET", "/secrets/alerts", &Value::Null)["data"], json!([]));
    let health = json!({"secret_count": 0, "expiring_soon": 0, "overdue": 0, "invalid": 0});
    assert_eq!(instance.must("GET", "/secrets/health", &Value::Null), health);
}

#[test]
fn the_running_instance_looks_at_the_start_and_every_hour_by_its_clock() {
    let gated = Gated::open();
    let instance = gated.start(&[]);
    instance.set("organization", "org", "KEY", "value");
    let wait_for = |count: usize| {
        let begun = std::time::Instant::now();
        while found(&instance, "rotation-overdue").len() < count {
            assert!(begun.elapsed().as_secs() < 30, "never: {count}");
        }
    };
    instance.clock.advance(90 * DAY_MILLIS + 1);
    wait_for(1);
    instance.set("organization", "org", "KEY", "next");
    instance.clock.advance(90 * DAY_MILLIS + 1);
    wait_for(2);
    let health = instance.must("GET", "/secrets/health?organization_id=org", &Value::Null);
    assert_eq!(
        health,
        json!({"secret_count": 1, "expiring_soon": 0, "overdue": 1, "invalid": 0})
    );
}

#[test]
fn health_counts_what_is_there_what_ends_what_is_old_and_what_has_ended() {
    let gated = Gated::open();
    let instance = gated.start(&[]);
    let ending = |key: &str, days: u64| {
        let end = kiket_sidecar::domain::time::Timestamp(instance.clock.now().0 + days * DAY_MILLIS);
        let secret = json!({
            "scope": "project", "id": "p", "organization_id": "org", "key": key, "value": "value",
            "expires_at": end.to_rfc3339(),
        });
        instance.must("POST", "/extensions/secrets", &secret);
    };
    instance.must("PUT", "/organizations/org/policy", &json!({"rotation_max_age_days": 1}));
    instance.set("organization", "org", "OLD", "value");
    ending("PAST", 2);
    instance.clock.advance(2 * DAY_MILLIS);
    ending("SOON", 29);
    ending("LATER", 31);
    let foreign = json!({"scope": "organization", "id": "other", "key": "KEY", "value": "value"});
    instance.must("POST", "/extensions/secrets", &foreign);
    let of = |organization: &str| instance.must("GET", &format!("/secrets/health{organization}"), &Value::Null);
    let own = json!({"secret_count": 4, "expiring_soon": 1, "overdue": 2, "invalid": 1});
    assert_eq!(of("?organization_id=org"), own);
    assert_eq!(
        of(""),
        json!({"secret_count": 5, "expiring_soon": 1, "overdue": 2, "invalid": 1})
    );
}

/// Waits for an alert of a kind.
fn wait_for(instance: &Instance, kind: &str) -> Value {
    let begun = std::time::Instant::now();
    loop {
        let alerts = instance.must("GET", "/secrets/alerts", &Value::Null);
        if let Some(alert) = alerts["data"]
            .as_array()
            .unwrap()
            .iter()
            .find(|alert| alert["kind"] == kind)
        {
            return alert.clone();
        }
        assert!(begun.elapsed().as_secs() < 30, "never: {kind}");
    }
}

#[test]
fn a_pair_that_does_not_match_is_told_while_the_last_one_bridges_it() {
    let (instance, authority) = (Instance::start(), Authority::new("dev CA"));
    let endpoint = Setup::mutual(&authority, H1).start();
    instance.register("com.example.mtls", mutual_callback(&endpoint.url()), json!({}));
    let (old, new) = (authority.client("old"), authority.client("new"));
    let tenant = Tenant::enabled(&instance, "com.example.mtls", ["org", "ins"], &old, &authority);
    assert_eq!(instance.deliver("ins", b"{}").status, 200);
    tenant.set(CERTIFICATE, &new.certificate_pem());
    assert_eq!(instance.deliver("ins", b"{}").status, 200);
    let alert = wait_for(&instance, "identity-mismatched");
    assert_eq!(
        (&alert["severity"], &alert["organization_id"]),
        (&json!("high"), &json!("org"))
    );
    assert_eq!(
        (&alert["scope_id"], &alert["key"]),
        (&json!("ins"), &json!(CERTIFICATE))
    );
}

#[test]
fn what_is_not_as_it_was_written_is_told_and_not_used() {
    let gated = Gated::open();
    let (instance, endpoint) = (gated.start(&[]), Endpoint::start());
    instance.simple(&endpoint.url());
    instance.set("organization", "org", "KEY", "value");
    let slot = Slot {
        owner: Owner::Organization(OrganizationId::parse("org").unwrap()),
        scope: Scope::Organization,
        scope_id: ScopeId::parse("org").unwrap(),
        key: SecretKey::parse("KEY").unwrap(),
    };
    let mut row = gated.block_on(gated.store.slots(&[slot])).unwrap().remove(0);
    let expected = Some(row.meta.version);
    row.meta.version += 1; // another version's sealed bytes
    let damage = |write| {
        let change = Change {
            writes: vec![write],
            entries: Vec::new(),
        };
        gated.block_on(gated.store.commit(change)).unwrap();
    };
    damage(Write::Secret { row, expected });
    assert_eq!(instance.deliver("ins", b"{}").status, 503);
    let alert = wait_for(&instance, "integrity-failure");
    assert_eq!((&alert["severity"], &alert["key"]), (&json!("high"), &json!("KEY")));
    let health = instance.must("GET", "/secrets/health?organization_id=org", &Value::Null);
    assert_eq!(health["invalid"], 1);

    // A record whose organization cannot be trusted is for the platform's operators.
    let id = InstallationId::parse("ins").unwrap();
    let mut row = gated
        .block_on(gated.store.installation(&id))
        .unwrap()
        .unwrap()
        .installation;
    let expected = Some(row.installation.version);
    row.installation.version += 1;
    row.installation.callback_url = Some("https://attacker.example.com".into());
    damage(Write::Installation { row, expected });
    Job::over(&gated, &instance).run(&gated);
    let alerts = instance.must("GET", "/secrets/alerts", &Value::Null);
    let of_record = alerts["data"]
        .as_array()
        .unwrap()
        .iter()
        .find(|alert| alert["scope_id"] == "ins");
    let alert = of_record.unwrap();
    assert_eq!(
        (&alert["kind"], &alert["organization_id"]),
        (&json!("integrity-failure"), &Value::Null)
    );
    assert_eq!(instance.connect().exchange(&invocation("ins", b"{}")).status, 500);
    assert_eq!(endpoint.received().len(), 0);
}
