//! What becomes of a provider that somebody edited in the database: it is not used, and an alert says so.

use std::time::{Duration, Instant};

use kiket_sidecar::domain::id::OrganizationId;
use kiket_sidecar::domain::provider::Provider;
use kiket_sidecar::secrets::providers::{ProvidersError, load};
use kiket_sidecar::store::{Role, SharedStore};
use serde_json::{Value, json};

use super::super::support::api::Api;
use super::super::support::gated_store::Gated;
use super::{MAIN, PROVIDERS, bare, vault, with};

/// Longer than anything takes; a test that hangs fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a delivery's resolution finds.
fn loaded(gated: &Gated, organization: &str) -> Result<Vec<Provider>, ProvidersError> {
    let store = std::sync::Arc::clone(&gated.store) as SharedStore;
    let organization = OrganizationId::parse(organization).unwrap();
    gated.block_on(load(&store, &gated.keyring, &organization))
}

/// The alerts, once there are any: they are raised beside the answers.
fn raised(operator: &Api<'_>) -> Value {
    let begun = Instant::now();
    loop {
        let alerts = operator.get("/secrets/alerts").json()["data"].clone();
        if alerts.as_array().is_some_and(|alerts| !alerts.is_empty()) {
            return alerts;
        }
        assert!(begun.elapsed() < PATIENCE, "nobody was alerted");
    }
}

/// Each column, edited.
const EDITS: [&str; 11] = [
    "UPDATE providers SET document = replace(document, 'vault.example.com', 'evil.example.com') WHERE name = 'main'",
    "UPDATE providers SET document = replace(document, 'kiket/org', 'kiket') WHERE name = 'main'",
    "UPDATE providers SET document = replace(document, 'VAULT_SECRET_ID', 'OTHER_KEY') WHERE name = 'main'",
    "UPDATE providers SET is_default = 0 WHERE name = 'main'",
    "UPDATE providers SET name = 'other' WHERE name = 'main'",
    "UPDATE providers SET version = version + 1 WHERE name = 'main'",
    "UPDATE providers SET created_at = created_at + 1 WHERE name = 'main'",
    "UPDATE providers SET updated_at = updated_at + 1 WHERE name = 'main'",
    "UPDATE providers SET mac = zeroblob(32) WHERE name = 'main'",
    "UPDATE providers SET document = (SELECT document FROM providers WHERE name = 'second') WHERE name = 'main'",
    "UPDATE providers SET version = -1 WHERE name = 'main'",
];

#[test]
fn a_provider_with_any_column_edited_is_not_used_and_the_operators_hear_of_it() {
    for edit in EDITS {
        let gated = Gated::open();
        let instance = gated.start(&[]);
        let admin = Api::with(&instance, &gated, Role::OrgAdmin, Some("org"));
        admin.json("PUT", MAIN, &vault());
        admin.json("PUT", "/organizations/org/providers/second", &bare());
        assert_eq!(loaded(&gated, "org").map(|all| all.len()), Ok(2));
        assert_eq!(gated.damage(edit), 1, "{edit}");
        assert_eq!(loaded(&gated, "org"), Err(ProvidersError::Tampered), "{edit}");
        let name = if edit.contains("'other'") { "other" } else { "main" };
        let path = format!("{PROVIDERS}/{name}");
        for (method, path) in [
            ("GET", path.clone()),
            ("GET", PROVIDERS.to_owned()),
            ("POST", format!("{path}/check")),
        ] {
            assert_eq!(
                admin.json(method, &path, &Value::Null).status,
                500,
                "{method} {path} {edit}"
            );
        }
        let operator = Api::with(&instance, &gated, Role::PlatformOperator, None);
        let alerts = raised(&operator);
        assert_eq!(alerts[0]["kind"], "integrity-failure", "{edit}");
        assert_eq!(alerts[0]["organization_id"], Value::Null);
        assert_eq!(alerts[1], Value::Null, "once, however often it is looked at");
    }
}

#[test]
fn a_row_moved_to_another_organization_is_not_used_there() {
    let gated = Gated::open();
    let instance = gated.start(&[]);
    let admin = Api::with(&instance, &gated, Role::OrgAdmin, Some("org"));
    let attacker = Api::with(&instance, &gated, Role::OrgAdmin, Some("evil"));
    attacker.json("PUT", "/organizations/evil/providers/main", &vault());
    assert_eq!(gated.damage("UPDATE providers SET organization = 'org'"), 1);
    assert_eq!(loaded(&gated, "org"), Err(ProvidersError::Tampered));
    assert_eq!(loaded(&gated, "evil"), Ok(vec![]));
    assert_eq!(admin.get(MAIN).status, 500);
}

#[test]
fn an_edited_provider_is_replaced_or_removed_and_never_sealed_anew() {
    let gated = Gated::open();
    let instance = gated.start(&[]);
    let admin = Api::with(&instance, &gated, Role::OrgAdmin, Some("org"));
    admin.json("PUT", MAIN, &vault());
    let edit = "UPDATE providers SET document = replace(document, 'vault.example.com', 'evil.example.com')";
    assert_eq!(gated.damage(edit), 1);
    // Another default would end this one, and give what was edited a MAC.
    let default = with(bare(), "/default", json!(true));
    let second = "/organizations/org/providers/second";
    assert_eq!(admin.json("PUT", second, &default).status, 500);
    assert_eq!(admin.json("PUT", second, &bare()).status, 201);
    assert_eq!(loaded(&gated, "org"), Err(ProvidersError::Tampered), "one is enough");
    // Whoever may says what it is to be, or that it is to be no more.
    assert_eq!(admin.json("PUT", MAIN, &vault()).status, 200);
    assert_eq!(loaded(&gated, "org").map(|all| all.len()), Ok(2));
    assert_eq!(gated.damage(edit), 2);
    assert_eq!(admin.delete(MAIN).status, 204);
    assert_eq!(admin.delete(second).status, 204);
    assert_eq!(loaded(&gated, "org"), Ok(vec![]));
}
