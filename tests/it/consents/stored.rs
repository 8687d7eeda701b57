//! Whether a consent is kept so that nobody can forge one, is there for a whole fleet, and stands for what is older.

use std::time::{Duration, Instant};

use kiket_sidecar::crypto::encoding::Encoder;
use kiket_sidecar::crypto::keyring::Keyring;
use kiket_sidecar::domain::id::InstallationId;
use kiket_sidecar::domain::time::Timestamp;
use kiket_sidecar::store::{Change, Store, Write};
use serde_json::{Value, json};

use super::super::support::endpoint::Endpoint;
use super::super::support::gated_store::Gated;
use super::super::support::instance::{Instance, Options};
use super::super::support::postgres;
use super::{ACCEPT, CANARY, CONFIRM, EXTENSION, awaiting, update, with_key};

/// Longer than anything takes; a test that hangs fails.
const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn whoever_writes_to_the_database_forges_no_consent() {
    let moved = "UPDATE installations SET consent = (SELECT consent FROM installations WHERE id = 'other') \
                 WHERE id = 'ins'";
    let moved_with_its_mac = "UPDATE installations SET \
                 mac = (SELECT mac FROM installations WHERE id = 'other'), \
                 consent = (SELECT consent FROM installations WHERE id = 'other') WHERE id = 'ins'";
    let named = "UPDATE installations SET consent = replace(consent, 'OLD', 'NEW') WHERE id = 'ins'";
    let more = "UPDATE installations SET consent = replace(consent, '\"payload\":[', '\"payload\":[\"TREASURE\",') \
                WHERE id = 'ins'";
    let none = "UPDATE installations SET consent = NULL WHERE id = 'ins'";
    for sql in [moved, moved_with_its_mac, named, more, none] {
        let gated = Gated::open();
        let (instance, old, new) = (gated.start(&[]), Endpoint::start(), Endpoint::start());
        instance.simple(&old.url());
        instance.set("organization", "org", "KEY", CANARY);
        instance.set("organization", "org", "TREASURE", CANARY);
        let callback = json!({"url": new.url(), "secret_keys": ["TREASURE"]});
        update(&instance, callback, with_key());
        // One that agreed to all that stands.
        instance.install("other", EXTENSION);
        instance.enable("other");
        let sql = sql.replace("OLD", &old.url()).replace("NEW", &new.url());
        assert_eq!(gated.damage(&sql), 1, "{sql}");
        for restart in [false, true] {
            let again = restart.then(|| gated.start(&[]));
            let by = again.as_ref().unwrap_or(&instance);
            let refused = by.deliver("ins", b"{}");
            assert_eq!((refused.status, refused.problem().as_str()), (500, "internal"), "{sql}");
        }
        assert!(new.received().is_empty(), "{sql}");
        assert_eq!(instance.deliver("other", b"{}").status, 200, "what was agreed to");
    }
}

/// Brings an installation's row back to the form that it had before there were consents.
fn aged(gated: &Gated, id: &str) {
    let id = InstallationId::parse(id).unwrap();
    let mut row = gated
        .block_on(gated.store.installation(&id))
        .unwrap()
        .unwrap()
        .installation;
    let replaced = row.installation.version;
    row.installation.version += 1;
    let fields = Encoder::new("kiket.installation-row.v1")
        .text(row.installation.id.as_str())
        .text(row.installation.extension.as_str())
        .text(row.installation.organization.as_str())
        .text(row.installation.project.as_str())
        .absent()
        .text(row.installation.state.name())
        .optional(row.installation.callback_url.as_deref(), Encoder::text)
        .number(row.installation.version)
        .finish();
    row.mac = gated.keyring.row_mac("installations", &[&fields]).to_vec();
    row.consent = None;
    let write = Write::Installation {
        row,
        expected: Some(replaced),
    };
    let change = Change {
        writes: vec![write],
        entries: Vec::new(),
    };
    gated.block_on(gated.store.commit(change)).unwrap();
}

#[test]
fn an_installation_older_than_consents_has_agreed_to_what_stands_at_the_first_start_and_to_nothing_later() {
    let gated = Gated::open();
    let (before, endpoint, other) = (gated.start(&[]), Endpoint::start(), Endpoint::start());
    before.simple(&endpoint.url());
    before.install("pending", EXTENSION);
    before.set("organization", "org", "KEY", CANARY);
    before.set("organization", "org", "TREASURE", CANARY);
    drop(before);
    aged(&gated, "ins");
    aged(&gated, "pending");

    let instance = gated.start(&[]);
    assert_eq!(instance.deliver("ins", b"{}").status, 200);
    assert_eq!(endpoint.last().secret("KEY").as_deref(), Some(CANARY));
    let adopted = instance.must(
        "GET",
        "/secrets/audit?organization_id=org&action=consent.adopt",
        &Value::Null,
    );
    let adopted = adopted["data"].as_array().unwrap().clone();
    assert_eq!(adopted.len(), 1, "of the enabled one");
    assert_eq!(adopted[0]["destination"], json!(endpoint.url()));
    let more = json!({"url": endpoint.url(), "secret_keys": ["TREASURE"]});
    update(&instance, more, with_key());
    assert_eq!(instance.deliver("ins", b"{}").status, 200);
    assert_eq!(endpoint.last().secret("TREASURE"), None);
    update(&instance, json!({"url": other.url()}), with_key());
    assert_eq!(instance.deliver("ins", b"{}").problem(), "destination-unconfirmed");
    drop(instance);
    // A later start takes nothing for agreed to that came since.
    let again = gated.start(&[]);
    assert_eq!(again.deliver("ins", b"{}").problem(), "destination-unconfirmed");
    again.enable("pending");
    assert_eq!(again.deliver("pending", b"{}").status, 200);
}

#[test]
fn a_consent_is_in_the_next_delivery_of_the_instance_that_took_it_and_reaches_the_fleet() {
    let database = postgres::Database::fresh();
    let keyring = Keyring::generate(Timestamp(1_700_000_000_000))
        .unwrap()
        .to_toml()
        .to_string();
    let join = |role| {
        Instance::with(Options {
            settings: &[("database_url", &database.url()), ("role", role)],
            keyring: Some(Keyring::parse(&keyring).unwrap()),
            ..Options::default()
        })
    };
    let (all, endpoint, other) = (join("all"), Endpoint::start(), Endpoint::start());
    all.simple(&endpoint.url());
    all.set("organization", "org", "KEY", CANARY);
    all.set("organization", "org", "MORE", CANARY);
    let proxy = join("proxy");
    assert_eq!(proxy.deliver("ins", b"{}").status, 200);

    // Until the fleet has heard of the change itself, the old destination gets what it got before.
    let follows = |what: &str, is_there: &dyn Fn() -> bool| {
        let since = Instant::now();
        while !is_there() {
            assert!(since.elapsed() < PATIENCE, "never: {what}");
        }
    };
    let callback = json!({"url": other.url(), "secret_keys": ["MORE"]});
    update(&all, callback, with_key());
    assert_eq!(all.deliver("ins", b"{}").problem(), "destination-unconfirmed");
    follows("the change", &|| proxy.deliver("ins", b"{}").status == 409);
    assert!(other.received().is_empty());

    all.must("POST", CONFIRM, &json!({"destination": other.url()}));
    assert_eq!(all.deliver("ins", b"{}").status, 200);
    follows("the confirmation", &|| proxy.deliver("ins", b"{}").status == 200);
    assert_eq!(other.last().secret("MORE"), None);
    all.must("POST", ACCEPT, &Value::Null);
    assert_eq!(all.deliver("ins", b"{}").status, 200);
    assert_eq!(other.last().secret("MORE").as_deref(), Some(CANARY));
    follows("the acceptance", &|| {
        assert_eq!(proxy.deliver("ins", b"{}").status, 200);
        other.last().secret("MORE").is_some()
    });
    assert_eq!(awaiting(&all), json!({"destination": null, "keys": []}));
}
