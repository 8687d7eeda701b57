//! Whether a changed destination gets nothing before it is confirmed, whoever changed it and whichever part.

use serde_json::{Value, json};

use super::super::support::endpoint::Endpoint;
use super::super::support::instance::Instance;
use super::super::support::pki::Authority;
use super::super::support::problem::assert_problem;
use super::super::support::tenant::trusting;
use super::super::support::tls_endpoint::{H1, Setup};
use super::{CANARY, CONFIRM, EXTENSION, INSTALLATION, awaiting, started, update, with_key};

/// How a destination comes to be another one.
#[derive(Debug, Clone, Copy)]
enum By {
    Manifest,
    Override,
}

fn change(instance: &Instance, by: By, url: &str) {
    match by {
        By::Manifest => update(instance, json!({"url": url}), with_key()),
        By::Override => drop(instance.must("PATCH", INSTALLATION, &json!({"callback_url": url}))),
    }
}

#[test]
fn a_changed_host_port_or_path_gets_nothing_until_it_is_confirmed() {
    for by in [By::Manifest, By::Override] {
        let (instance, old) = started();
        let other = Endpoint::start();
        let port = other.url().rsplit(':').next().unwrap().to_owned();
        let (prefixed, host) = (format!("{}/tenants", other.url()), format!("http://localhost:{port}"));
        for url in [other.url(), prefixed, host] {
            change(&instance, by, &url);
            for _ in 0..2 {
                let refused = instance.deliver("ins", b"{}");
                assert_problem(&refused, 409, "destination-unconfirmed", false, &url);
            }
            assert_eq!(awaiting(&instance)["destination"], json!(url), "{by:?}");
            let so_far = other.received().len();
            instance.must("POST", CONFIRM, &json!({"destination": url}));
            // What would have gone there without anybody's word.
            assert_eq!(instance.deliver("ins", b"{}").status, 200, "{by:?} {url}");
            assert_eq!(other.received().len(), so_far + 1);
            assert_eq!(other.last().secret("KEY").as_deref(), Some(CANARY));
            assert_eq!(awaiting(&instance), json!({"destination": null, "keys": []}));
        }
        assert_eq!(old.received().len(), 1, "{by:?}");
    }
}

#[test]
fn a_changed_scheme_gets_nothing_until_it_is_confirmed() {
    let authority = Authority::new("dev CA");
    let instance = trusting(&authority, &[]);
    let tls = Setup::new(&authority, H1).start();
    instance.simple(&tls.url());
    instance.set("organization", "org", "KEY", CANARY);
    assert_eq!(instance.deliver("ins", b"{}").status, 200);
    let plain = Endpoint::start();
    update(&instance, json!({"url": plain.url()}), with_key());
    assert_eq!(instance.deliver("ins", b"{}").problem(), "destination-unconfirmed");
    assert!(plain.received().is_empty());
    instance.must("POST", CONFIRM, &Value::Null);
    assert_eq!(instance.deliver("ins", b"{}").status, 200);
    assert_eq!(plain.last().secret("KEY").as_deref(), Some(CANARY));
}

#[test]
fn the_same_destination_spelled_otherwise_or_come_back_needs_no_word() {
    let (instance, endpoint) = started();
    let other = Endpoint::start();
    for url in [
        format!("{}/", endpoint.url()),
        endpoint.url().replace("127.0.0.1", "127.1"),
    ] {
        change(&instance, By::Manifest, &url);
        assert_eq!(instance.deliver("ins", b"{}").status, 200, "{url}");
        change(&instance, By::Override, &url);
        assert_eq!(instance.deliver("ins", b"{}").status, 200, "{url}");
    }
    change(&instance, By::Override, &other.url());
    assert_eq!(instance.deliver("ins", b"{}").problem(), "destination-unconfirmed");
    instance.must("PATCH", INSTALLATION, &json!({"callback_url": null}));
    assert_eq!(instance.deliver("ins", b"{}").status, 200);
    assert!(other.received().is_empty());
    // Once another one is confirmed, the first is as foreign as any.
    change(&instance, By::Override, &other.url());
    instance.must("POST", CONFIRM, &Value::Null);
    instance.must("PATCH", INSTALLATION, &json!({"callback_url": null}));
    assert_eq!(instance.deliver("ins", b"{}").problem(), "destination-unconfirmed");
}

#[test]
fn enabling_confirms_what_stands_and_saying_it_again_confirms_nothing() {
    let (instance, endpoint) = started();
    let other = Endpoint::start();
    update(&instance, json!({"url": other.url()}), with_key());
    instance.enable("ins");
    let both = json!({"state": "enabled", "callback_url": other.url()});
    instance.must("PATCH", INSTALLATION, &both);
    assert_eq!(instance.deliver("ins", b"{}").problem(), "destination-unconfirmed");
    instance.must("PATCH", INSTALLATION, &json!({"state": "disabled"}));
    assert_eq!(awaiting(&instance)["destination"], Value::Null, "enabling is the word");
    assert_eq!(instance.deliver("ins", b"{}").problem(), "installation-not-enabled");
    instance.enable("ins");
    assert_eq!(instance.deliver("ins", b"{}").status, 200);
    assert_eq!((endpoint.received().len(), other.received().len()), (1, 1));
}

#[test]
fn an_extension_hears_of_rotations_at_a_confirmed_destination_only() {
    let (instance, _endpoint) = started();
    let other = Endpoint::start();
    let callback = json!({"url": other.url(), "rotation_webhook": true});
    update(&instance, callback, with_key());
    instance.set("organization", "org", "KEY", "rotated");
    instance.await_failed(1);
    assert!(other.received().is_empty());
    instance.must("POST", CONFIRM, &Value::Null);
    instance.clock.advance(60_000);
    let told = other.wait(1);
    assert_eq!(told[0].json()["event"], "secret.rotated");
}

#[test]
fn an_overridden_callback_gets_no_partner_defaults_confirmed_or_not_and_wherever_the_manifest_moves() {
    let (instance, partner) = started();
    let elsewhere = Endpoint::start();
    let default = json!({"scope": "extension", "id": EXTENSION, "key": "PARTNER", "value": CANARY,
                         "partner_default": true});
    instance.must("POST", "/extensions/secrets", &default);
    let keys = json!({"KEY": {"secret": true}, "PARTNER": {"secret": true}});
    update(&instance, json!({"url": partner.url()}), keys.clone());
    instance.must("POST", "/marketplace/installations/ins/accept-keys", &Value::Null);
    assert_eq!(instance.deliver("ins", b"{}").status, 200);
    assert_eq!(partner.last().secret("PARTNER").as_deref(), Some(CANARY));

    // The tenant takes its callback elsewhere; then the manifest moves, first away and then to that very place.
    let [away, there] = [format!("{}/v2", partner.url()), elsewhere.url()];
    change(&instance, By::Override, &elsewhere.url());
    for (moved, expected) in [(None, None), (Some(away), None), (Some(there), Some(CANARY))] {
        if let Some(url) = moved {
            update(&instance, json!({"url": url}), keys.clone());
        }
        instance.must("POST", CONFIRM, &Value::Null);
        assert_eq!(instance.deliver("ins", b"{}").status, 200);
        assert_eq!(elsewhere.last().secret("PARTNER").as_deref(), expected);
    }
}
