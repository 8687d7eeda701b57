//! Which value a delivery gets: every pair of scopes, both layers of the extension scope, two tenants of one extension.

use serde_json::{Value, json};

use super::support::endpoint::Endpoint;
use super::support::instance::Instance;

const EXTENSION: &str = "com.example.shared";

/// The places of a value in precedence order. The partner's default stands between the organization's own value for
/// the extension and the project's.
const PLACES: [(&str, &str); 6] = [
    ("extension_installation", "ins_a"),
    ("product_installation", "prod_a"),
    ("extension", EXTENSION),
    ("partner_default", EXTENSION),
    ("project", "proj_a"),
    ("organization", "org_a"),
];

fn secret(place: (&str, &str), key: &str, value: &str) -> Value {
    let (scope, id) = place;
    if scope == "partner_default" {
        return json!({"scope": "extension", "id": id, "key": key, "value": value, "partner_default": true});
    }
    json!({"scope": scope, "id": id, "key": key, "value": value, "organization_id": "org_a"})
}

fn installed(instance: &Instance, tenant: &str, url: Value) {
    let mut body = json!({
        "id": format!("ins_{tenant}"), "extension_id": EXTENSION, "organization_id": format!("org_{tenant}"),
        "project_id": format!("proj_{tenant}"), "product_installation_id": format!("prod_{tenant}"),
    });
    if !url.is_null() {
        body["callback_url"] = url;
    }
    instance.must("POST", "/marketplace/installations", &body);
    instance.enable(&format!("ins_{tenant}"));
}

#[test]
fn of_any_two_places_the_narrower_one_wins_whichever_was_written_first() {
    let (instance, endpoint) = (Instance::start(), Endpoint::start());
    let mut configuration = json!({});
    for narrow in 0..PLACES.len() {
        for wide in narrow + 1..PLACES.len() {
            for order in ["NARROW_FIRST", "WIDE_FIRST"] {
                configuration[format!("K{narrow}_{wide}_{order}")] = json!({"secret": true});
            }
        }
    }
    instance.register(EXTENSION, json!({"url": endpoint.url()}), configuration.clone());
    installed(&instance, "a", Value::Null);
    for narrow in 0..PLACES.len() {
        for wide in narrow + 1..PLACES.len() {
            let mut writes = [narrow, wide];
            for order in ["NARROW_FIRST", "WIDE_FIRST"] {
                let key = format!("K{narrow}_{wide}_{order}");
                for n in writes {
                    instance.must("POST", "/extensions/secrets", &secret(PLACES[n], &key, PLACES[n].0));
                }
                writes.reverse();
            }
        }
    }
    assert_eq!(instance.deliver("ins_a", b"{}").status, 200);
    let received = endpoint.last();
    for key in configuration.as_object().unwrap().keys() {
        let narrow: usize = key[1..2].parse().unwrap();
        assert_eq!(received.secret(key).as_deref(), Some(PLACES[narrow].0), "{key}");
    }
    let hits = &instance.lines()[0]["scope_hits"];
    assert_eq!(hits["extension"], json!(10), "{hits}"); // own values and the partner's
}

#[test]
fn two_organizations_that_share_an_extension_never_see_each_others_values() {
    let (instance, endpoint) = (Instance::start(), Endpoint::start());
    instance.register(
        EXTENSION,
        json!({"url": endpoint.url()}),
        json!({"OWN": {"secret": true}, "ONLY_A": {"secret": true}, "PARTNER": {"secret": true}}),
    );
    installed(&instance, "a", Value::Null);
    installed(&instance, "b", Value::Null);
    for tenant in ["a", "b"] {
        instance.must(
            "POST",
            "/extensions/secrets",
            &json!({
                "scope": "extension", "id": EXTENSION, "organization_id": format!("org_{tenant}"), "key": "OWN",
                "value": format!("value-of-{tenant}"),
            }),
        );
    }
    // Bound to ids that B's installation has, but owned by A: nothing that B could ever get.
    for (scope, id) in [
        ("extension", EXTENSION),
        ("project", "proj_b"),
        ("product_installation", "prod_b"),
    ] {
        instance.must(
            "POST",
            "/extensions/secrets",
            &json!({
                "scope": scope, "id": id, "organization_id": "org_a", "key": "ONLY_A", "value": "value-of-a",
            }),
        );
    }
    instance.must(
        "POST",
        "/extensions/secrets",
        &secret(("partner_default", EXTENSION), "PARTNER", "partners"),
    );
    for (tenant, only_a) in [("a", Some("value-of-a")), ("b", None)] {
        assert_eq!(instance.deliver(&format!("ins_{tenant}"), b"{}").status, 200);
        let received = endpoint.last();
        assert_eq!(received.secret("OWN"), Some(format!("value-of-{tenant}")));
        assert_eq!(received.secret("ONLY_A").as_deref(), only_a);
        assert_eq!(received.secret("PARTNER").as_deref(), Some("partners"));
    }
}

#[test]
fn an_installation_overridden_to_another_destination_gets_no_partner_defaults() {
    let (instance, partner, elsewhere) = (Instance::start(), Endpoint::start(), Endpoint::start());
    instance.register(
        EXTENSION,
        json!({"url": partner.url()}),
        json!({"PARTNER": {"secret": true}}),
    );
    installed(&instance, "a", json!(elsewhere.url()));
    installed(&instance, "b", json!(partner.url()));
    instance.must(
        "POST",
        "/extensions/secrets",
        &secret(("partner_default", EXTENSION), "PARTNER", "partners"),
    );
    assert_eq!(instance.deliver("ins_a", b"{}").status, 200);
    assert_eq!(elsewhere.last().json()["secret_status"]["missing"], json!(["PARTNER"]));
    assert_eq!(instance.deliver("ins_b", b"{}").status, 200);
    assert_eq!(partner.last().secret("PARTNER").as_deref(), Some("partners"));
}

#[test]
fn a_value_that_cannot_be_opened_ends_the_delivery_instead_of_handing_out_a_wider_one() {
    let (instance, endpoint) = (Instance::start(), Endpoint::start());
    instance.simple(&endpoint.url());
    instance.set("organization", "org", "KEY", "wide");
    instance.set("project", "proj", "KEY", "narrow");
    damage(
        &instance,
        "UPDATE secrets SET sealed = zeroblob(length(sealed)) WHERE scope = 'project'",
    );
    let answer = instance.deliver("ins", b"{}");
    assert_eq!(
        (answer.status, answer.problem().as_str()),
        (503, "secret-source-unavailable")
    );
    assert!(answer.header("retry-after").is_some());
    assert!(endpoint.received().is_empty());
}

/// Runs SQL on an instance's database as somebody who has got at it.
fn damage(instance: &Instance, sql: &'static str) {
    assert!(instance.database.damage(sql) > 0);
}

#[test]
fn a_row_that_was_moved_or_edited_in_the_database_is_not_used() {
    for (sql, problem) in [
        (
            "UPDATE secrets SET scope_id = 'proj' WHERE scope_id = 'other'",
            "secret-source-unavailable",
        ),
        (
            "UPDATE installations SET callback_url = 'http://127.0.0.1:1'",
            "internal",
        ),
        (
            "UPDATE extensions SET document = replace(document, 'KEY', 'YEK')",
            "internal",
        ),
        ("UPDATE installations SET organization = 'thief'", "internal"),
    ] {
        let (instance, endpoint) = (Instance::start(), Endpoint::start());
        instance.simple(&endpoint.url());
        instance.set("project", "other", "KEY", "not for proj");
        damage(&instance, sql);
        let answer = instance.deliver("ins", b"{}");
        assert_eq!(answer.problem(), problem, "{sql}");
        assert!(endpoint.received().is_empty(), "{sql}");
    }
}
