//! What an organization's policy may say, who writes it, and that nobody else can have written it.

use kiket_sidecar::domain::id::OrganizationId;
use kiket_sidecar::store::{Change, Role, Store, StoreError, Write};
use serde_json::{Value, json};

use super::support::api::{Api, audit};
use super::support::gated_store::Gated;
use super::support::instance::{Instance, Options};

const POLICY: &str = "/organizations/org/policy";

fn defaults() -> Value {
    json!({
        "organization_id": "org", "rotation_max_age_days": 90, "read_threshold": 25, "read_window_secs": 900,
        "delivery_read_threshold": null, "unused_days": 90, "retention_days": null, "webhook_url": null,
        "webhook_signing_key": null, "emails": [], "version": 0, "updated_at": null,
    })
}

#[test]
fn an_organization_has_the_defaults_until_it_writes_a_policy_of_its_own() {
    let gated = Gated::open();
    let instance = gated.start(&[]);
    let admin = Api::with(&instance, &gated, Role::OrgAdmin, Some("org"));
    let before = admin.get(POLICY);
    assert_eq!((before.status, before.json()), (200, defaults()));
    assert_eq!(before.header("etag"), Some("\"0\""));

    let all = json!({
        "rotation_max_age_days": 30, "read_threshold": 5, "read_window_secs": 60, "delivery_read_threshold": 1000,
        "unused_days": null, "retention_days": 365, "webhook_url": "https://hooks.example.com/kiket",
        "webhook_signing_key": "ALERTS", "emails": ["ops@example.com", "sec@example.com"],
    });
    let written = admin.json("PUT", POLICY, &all);
    assert_eq!((written.status, written.header("etag")), (201, Some("\"1\"")));
    let read = admin.get(POLICY).json();
    for (field, value) in all.as_object().unwrap() {
        assert_eq!(read[field], *value, "{field}");
    }
    // What is left out has its default again.
    let again = admin.json("PUT", POLICY, &json!({"read_threshold": 7}));
    assert_eq!(again.status, 200);
    let mut expected = defaults();
    (expected["read_threshold"], expected["version"]) = (json!(7), json!(2));
    expected["updated_at"] = again.json()["updated_at"].clone();
    assert_eq!(again.json(), expected);

    let entries = audit(&gated, Some("org"));
    let put: Vec<_> = entries
        .iter()
        .filter(|entry| entry.action.name() == "policy.put")
        .collect();
    assert_eq!(
        put.iter().map(|entry| entry.version).collect::<Vec<_>>(),
        [Some(1), Some(2)]
    );
    assert_eq!(put[0].actor.name, "name of org_admin-org");
}

#[test]
fn a_policy_is_replaced_only_at_the_version_that_its_writer_read() {
    let instance = Instance::start();
    let api = Api::bootstrap(&instance);
    let put = |version: &str| api.json_at(version, "PUT", POLICY, &json!({})).status;
    assert_eq!(
        (put("\"1\""), put("\"0\""), put("\"0\""), put("\"1\""), put("x")),
        (412, 201, 412, 200, 422)
    );
}

#[test]
fn each_rule_is_held_against_its_limits_and_named_where_it_is_none() {
    let instance = Instance::with(Options {
        settings: &[("dangerous_allow_http", "false"), ("egress_allow_cidrs", "")],
        ..Options::default()
    });
    let api = Api::bootstrap(&instance);
    let hook = |url: &str| json!({"webhook_url": url, "webhook_signing_key": "ALERTS"});
    let many: Vec<String> = (0..21).map(|n| format!("a{n}@example.com")).collect();
    let refused = [
        ("rotation_max_age_days", json!({"rotation_max_age_days": 0})),
        ("rotation_max_age_days", json!({"rotation_max_age_days": 3651})),
        ("read_threshold", json!({"read_threshold": 0})),
        ("read_window_secs", json!({"read_window_secs": 59})),
        ("read_window_secs", json!({"read_window_secs": 86_401})),
        ("delivery_read_threshold", json!({"delivery_read_threshold": 0})),
        ("unused_days", json!({"unused_days": 0})),
        ("retention_days", json!({"retention_days": 0})),
        (
            "webhook_signing_key",
            json!({"webhook_url": "https://hooks.example.com"}),
        ),
        ("webhook_signing_key", json!({"webhook_signing_key": "lower"})),
        ("webhook_url", hook("http://hooks.example.com")),
        ("webhook_url", hook("https://127.0.0.1/")),
        ("webhook_url", hook("https://10.0.0.1/")),
        ("webhook_url", hook("https://[::1]/")),
        ("webhook_url", hook("https://169.254.169.254/latest")),
        ("webhook_url", hook("https://0x7f.1/")),
        ("webhook_url", hook("https://user@hooks.example.com")),
        ("webhook_url", hook("hooks.example.com")),
        ("emails", json!({"emails": ["not an address"]})),
        ("emails", json!({"emails": ["a@example.com\r\nBcc: b@example.com"]})),
        ("emails", json!({"emails": many})),
    ];
    for (field, policy) in refused {
        let answer = api.json("PUT", POLICY, &policy);
        assert_eq!(
            (answer.status, answer.json()["field"].as_str()),
            (422, Some(field)),
            "{policy}"
        );
    }
    for shapeless in [
        json!({"unknown": 1}),
        json!({"read_threshold": "25"}),
        json!({"read_threshold": -1}),
        json!([]),
    ] {
        assert_eq!(api.json("PUT", POLICY, &shapeless).status, 422, "{shapeless}");
    }
    assert_eq!(api.get(POLICY).json(), defaults(), "nothing of it was written");
    let accepted = [
        json!({"rotation_max_age_days": 3650, "read_threshold": 1_000_000, "read_window_secs": 86_400}),
        json!({"rotation_max_age_days": 1, "read_threshold": 1, "read_window_secs": 60}),
        hook("https://hooks.example.com/path"),
        json!({"emails": many[..20]}),
    ];
    for policy in accepted {
        assert!(api.json("PUT", POLICY, &policy).status < 300, "{policy}");
    }
}

#[test]
fn a_policy_is_its_organizations_alone() {
    let gated = Gated::open();
    let instance = gated.start(&[]);
    let roles = [
        (Role::PlatformOperator, None, 200, 200),
        (Role::OrgAdmin, Some("org"), 200, 200),
        (Role::Auditor, Some("org"), 200, 403),
        (Role::Dispatcher, Some("org"), 403, 403),
        (Role::OrgAdmin, Some("other"), 404, 404),
        (Role::Auditor, Some("other"), 404, 403),
    ];
    Api::bootstrap(&instance).json("PUT", POLICY, &json!({}));
    for (role, organization, read, write) in roles {
        let api = Api::with(&instance, &gated, role, organization);
        let statuses = (api.get(POLICY).status, api.json("PUT", POLICY, &json!({})).status);
        assert_eq!(statuses, (read, write), "{role:?} {organization:?}");
    }
    let operator = Api {
        instance: &instance,
        token: "platform_operator-none".into(),
    };
    assert_eq!(operator.get("/organizations/no%20id/policy").status, 404);
}

#[test]
fn a_policy_that_somebody_wrote_into_the_database_is_not_followed() {
    let gated = Gated::open();
    let instance = gated.start(&[]);
    let api = Api::bootstrap(&instance);
    assert_eq!(api.json("PUT", POLICY, &json!({})).status, 201);
    let org = OrganizationId::parse("org").unwrap();
    let mut row = gated.block_on(gated.store.policy(&org)).unwrap().unwrap();
    row.policy.emails.push("attacker@example.com".into());
    row.version += 1;
    let change = Change {
        writes: vec![Write::Policy { row, expected: Some(1) }],
        entries: Vec::new(),
    };
    gated.block_on(gated.store.commit(change)).unwrap();
    assert_eq!(api.get(POLICY).status, 500);
    // It is replaced as a whole by whoever may.
    assert_eq!(api.json("PUT", POLICY, &json!({})).status, 200);
    assert_eq!(api.get(POLICY).json()["emails"], json!([]));
}

#[test]
fn a_policy_whose_entry_cannot_be_stored_is_not_written() {
    let gated = Gated::open();
    let instance = gated.start(&[]);
    let api = Api::bootstrap(&instance);
    gated.store.fail("commit", StoreError::Full);
    assert_eq!(api.json("PUT", POLICY, &json!({"read_threshold": 3})).status, 507);
    gated.store.mend();
    assert_eq!(api.get(POLICY).json(), defaults());
}
