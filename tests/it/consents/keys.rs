//! Whether a key that an update of a manifest names gets nobody its value before it is accepted, whatever it is for.

use serde_json::{Value, json};

use super::super::support::endpoint::Endpoint;
use super::super::support::gated_store::Gated;
use super::super::support::instance::Instance;
use super::super::support::pki::Authority;
use super::super::support::problem::assert_problem;
use super::super::support::tenant::{CERTIFICATE, PRIVATE_KEY, mutual_callback, trusting};
use super::super::support::tls_endpoint::{H1, Setup};
use super::{ACCEPT, CANARY, EXTENSION, INSTALLATION, awaiting, started, update, with_key};

const HARVEST: &str = "cnry-harvest-0815";

/// The same with a secret of the organization that the extension never asked for.
fn with_treasure() -> (Instance, Endpoint) {
    let (instance, endpoint) = started();
    instance.set("organization", "org", "TREASURE", HARVEST);
    (instance, endpoint)
}

fn waits(key: &str, used_for: &str) -> Value {
    json!({"destination": null, "keys": [{"key": key, "used_for": used_for}]})
}

#[test]
fn a_key_that_an_update_adds_to_the_payload_is_missing_until_it_is_accepted() {
    let table = [
        (json!({"secret_keys": ["TREASURE"]}), json!({}), 200),
        (json!({}), json!({"TREASURE": {"secret": true}}), 200),
        (json!({}), json!({"TREASURE": {"secret": true, "required": true}}), 424),
        (
            json!({"on_missing": "forward"}),
            json!({"TREASURE": {"secret": true, "required": true}}),
            200,
        ),
    ];
    for (callback, configuration, status) in table {
        let (instance, endpoint) = with_treasure();
        let (mut all, mut keys) = (callback.clone(), configuration.clone());
        all["url"] = json!(endpoint.url());
        keys["KEY"] = json!({"secret": true});
        update(&instance, all, keys);
        assert_eq!(awaiting(&instance), waits("TREASURE", "payload"));
        let answer = instance.deliver("ins", b"{}");
        assert_eq!(answer.status, status, "{callback} {configuration}");
        if status == 424 {
            assert_problem(&answer, 424, "required-secrets-missing", false, "required");
            assert_eq!(answer.json()["missing"], json!(["TREASURE"]));
            assert_eq!(endpoint.received().len(), 1);
        } else {
            let received = endpoint.last().json();
            assert_eq!(received["secrets"], json!({"KEY": CANARY}));
            assert_eq!(received["secret_status"]["missing"], json!(["TREASURE"]));
        }
        // What would have gone there without anybody's word.
        instance.must("POST", ACCEPT, &json!({"keys": ["TREASURE"]}));
        assert_eq!(instance.deliver("ins", b"{}").status, 200);
        assert_eq!(endpoint.last().secret("TREASURE").as_deref(), Some(HARVEST));
        assert_eq!(endpoint.last().json()["secret_status"]["missing"], json!([]));
    }
}

#[test]
fn an_organizations_key_that_an_update_names_for_signing_signs_nothing_until_it_is_accepted() {
    let (instance, endpoint) = with_treasure();
    let callback = json!({"url": endpoint.url(), "signing_secret_key": "TREASURE"});
    update(&instance, callback, with_key());
    assert_eq!(awaiting(&instance), waits("TREASURE", "signing"));
    let refused = instance.deliver("ins", b"{}");
    assert_problem(&refused, 424, "signing-key-missing", false, "signing");
    assert_eq!(endpoint.received().len(), 1);
    instance.must("POST", ACCEPT, &Value::Null);
    assert_eq!(instance.deliver("ins", b"{}").status, 200);
    let received = endpoint.last();
    assert!(received.headers.iter().any(|(name, _)| name == "x-kiket-signature"));
    assert_eq!(received.secret("TREASURE"), None);
}

#[test]
fn a_signing_key_that_an_update_moves_into_the_payload_stays_where_it_is_until_it_is_accepted_there() {
    let (instance, endpoint) = with_treasure();
    let signing = json!({"url": endpoint.url(), "signing_secret_key": "TREASURE"});
    update(&instance, signing.clone(), with_key());
    instance.must("POST", ACCEPT, &Value::Null);
    let payload = json!({"url": endpoint.url(), "secret_keys": ["TREASURE"]});
    update(&instance, payload, with_key());
    assert_eq!(awaiting(&instance), waits("TREASURE", "payload"));
    assert_eq!(instance.deliver("ins", b"{}").status, 200);
    assert_eq!(endpoint.last().secret("TREASURE"), None);
    // As what it was accepted for, it is still good.
    update(&instance, signing, with_key());
    assert_eq!(instance.deliver("ins", b"{}").status, 200);
    let payload = json!({"url": endpoint.url(), "secret_keys": ["TREASURE"]});
    update(&instance, payload, with_key());
    instance.must("POST", ACCEPT, &Value::Null);
    assert_eq!(instance.deliver("ins", b"{}").status, 200);
    assert_eq!(endpoint.last().secret("TREASURE").as_deref(), Some(HARVEST));
}

#[test]
fn a_certificate_that_an_update_names_is_shown_to_nobody_until_it_is_accepted() {
    let authority = Authority::new("dev CA");
    let instance = trusting(&authority, &[]);
    let endpoint = Setup::mutual(&authority, H1).start();
    // Enabled without mTLS, which this endpoint would refuse; the organization has a certificate for something else.
    instance.register(EXTENSION, json!({"url": endpoint.url()}), json!({}));
    instance.install("ins", EXTENSION);
    instance.enable("ins");
    let identity = authority.client("org");
    instance.set("organization", "org", CERTIFICATE, &identity.certificate_pem());
    instance.set("organization", "org", PRIVATE_KEY, &identity.key_pem());
    instance.set("organization", "org", "SERVER_CA", &authority.pem());
    let callback = mutual_callback(&endpoint.url());
    update(&instance, callback.clone(), json!({}));
    let refused = instance.deliver("ins", b"{}");
    assert_problem(&refused, 424, "mtls-identity-missing", false, "handshake");
    for (accepted, status) in [(CERTIFICATE, 424), ("SERVER_CA", 424), (PRIVATE_KEY, 200)] {
        assert!(endpoint.seen().is_empty());
        instance.must(
            "POST",
            ACCEPT,
            &json!({"keys": [{"key": accepted, "used_for": "handshake"}]}),
        );
        assert_eq!(instance.deliver("ins", b"{}").status, status, "{accepted}");
    }
    assert_eq!(endpoint.seen().len(), 1);
    // Moved into the payload by the next update, none of them comes along.
    let moved = json!({"url": endpoint.url(), "mtls": callback["mtls"], "secret_keys": ["KEY"]});
    update(&instance, moved, json!({}));
    assert_eq!(awaiting(&instance), waits("KEY", "payload"));
    let moved = json!({"url": endpoint.url(), "secret_keys": [PRIVATE_KEY]});
    update(&instance, moved, json!({}));
    assert_eq!(awaiting(&instance), waits(PRIVATE_KEY, "payload"));
}

#[test]
fn what_an_update_takes_away_loosens_or_renames_needs_no_word() {
    let (instance, endpoint) = started();
    let url = endpoint.url();
    for (callback, configuration) in [
        (json!({"url": url, "on_missing": "forward"}), with_key()),
        (json!({"url": url, "timeout": 500}), with_key()),
        (
            json!({"url": url}),
            json!({"KEY": {"secret": true, "required": true, "scope": "extension", "label": "x"}}),
        ),
        (json!({"url": url, "secret_keys": ["KEY"]}), json!({})),
        (json!({"url": url, "rotation_webhook": true}), json!({})),
        (json!({"url": url}), with_key()),
    ] {
        update(&instance, callback.clone(), configuration);
        assert_eq!(
            awaiting(&instance),
            json!({"destination": null, "keys": []}),
            "{callback}"
        );
        assert_eq!(instance.deliver("ins", b"{}").status, 200, "{callback}");
    }
    assert_eq!(endpoint.last().secret("KEY").as_deref(), Some(CANARY));
}

#[test]
fn accepting_drops_what_is_not_asked_for_any_more_and_enabling_anew_accepts_all() {
    let (instance, endpoint) = with_treasure();
    let url = endpoint.url();
    let treasure = json!({"url": url, "secret_keys": ["TREASURE"]});
    update(&instance, treasure.clone(), with_key());
    instance.must("PATCH", INSTALLATION, &json!({"state": "disabled"}));
    instance.enable("ins");
    assert_eq!(instance.deliver("ins", b"{}").status, 200);
    assert_eq!(endpoint.last().secret("TREASURE").as_deref(), Some(HARVEST));
    update(&instance, json!({"url": url}), with_key());
    instance.must("POST", ACCEPT, &json!({"keys": ["KEY"]}));
    update(&instance, treasure, with_key());
    assert_eq!(awaiting(&instance), waits("TREASURE", "payload"));
}

#[test]
fn a_warm_delivery_asks_nobody_whether_something_was_agreed_to() {
    let gated = Gated::open();
    let (instance, endpoint) = (gated.start(&[]), Endpoint::start());
    instance.simple(&endpoint.url());
    instance.set("organization", "org", "KEY", CANARY);
    let more = json!({"url": endpoint.url(), "secret_keys": ["TREASURE"]});
    update(&instance, more, with_key());
    assert_eq!(instance.deliver("ins", b"{}").status, 200);
    let asked = |method| gated.store.calls(method);
    let before = ["installation", "slots", "extension"].map(asked);
    for _ in 0..100 {
        assert_eq!(instance.deliver("ins", b"{}").status, 200);
    }
    assert_eq!(["installation", "slots", "extension"].map(asked), before);
}
