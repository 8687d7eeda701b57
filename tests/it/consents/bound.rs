//! Whether a consent is for what was seen and nothing that came in its place, and whose word it is.

use kiket_sidecar::store::Role;
use serde_json::{Value, json};

use super::super::support::api::Api;
use super::super::support::endpoint::Endpoint;
use super::super::support::gated_store::Gated;
use super::{ACCEPT, CANARY, CONFIRM, INSTALLATION, awaiting, started, update, with_key};

#[test]
fn a_destination_that_came_in_place_of_the_one_that_was_seen_is_not_confirmed() {
    let (instance, _old) = started();
    let (seen, hostile) = (Endpoint::start(), Endpoint::start());
    update(&instance, json!({"url": seen.url()}), with_key());
    let shown = awaiting(&instance)["destination"].clone();
    update(&instance, json!({"url": hostile.url()}), with_key());
    let refused = instance.api("POST", CONFIRM, &json!({"destination": shown}));
    assert_eq!((refused.status, refused.problem().as_str()), (409, "conflict"));
    assert_eq!(instance.deliver("ins", b"{}").problem(), "destination-unconfirmed");
    // Nor is one that comes behind the word.
    instance.must("POST", CONFIRM, &json!({"destination": hostile.url()}));
    update(&instance, json!({"url": format!("{}/x", hostile.url())}), with_key());
    assert_eq!(instance.deliver("ins", b"{}").problem(), "destination-unconfirmed");
    assert!(hostile.received().is_empty() && seen.received().is_empty());
}

#[test]
fn a_consent_for_another_version_of_the_installation_is_none() {
    let (instance, _old) = started();
    let hostile = Endpoint::start();
    let api = Api::bootstrap(&instance);
    let version = api.get(INSTALLATION).header("etag").unwrap().to_owned();
    instance.must("PATCH", INSTALLATION, &json!({"callback_url": hostile.url()}));
    for path in [CONFIRM, ACCEPT] {
        let stale = api.json_at(&version, "POST", path, &json!({}));
        assert_eq!(
            (stale.status, stale.problem().as_str()),
            (412, "version-mismatch"),
            "{path}"
        );
    }
    assert_eq!(instance.deliver("ins", b"{}").problem(), "destination-unconfirmed");
    let version = api.get(INSTALLATION).header("etag").unwrap().to_owned();
    let confirmed = api.json_at(&version, "POST", CONFIRM, &json!({}));
    assert_eq!(confirmed.status, 200);
    assert_ne!(
        confirmed.header("etag"),
        Some(version.as_str()),
        "a consent is a change"
    );
    assert_eq!(instance.deliver("ins", b"{}").status, 200);
}

#[test]
fn only_keys_that_were_seen_are_accepted_and_only_for_the_use_that_was_seen() {
    let (instance, endpoint) = started();
    for key in ["SEEN", "LATER", "SIGN"] {
        instance.set("organization", "org", key, CANARY);
    }
    let url = endpoint.url();
    let seen = json!({"url": url, "secret_keys": ["SEEN"], "signing_secret_key": "SIGN"});
    update(&instance, seen, with_key());
    let shown = awaiting(&instance)["keys"].clone();
    assert_eq!(shown.as_array().unwrap().len(), 2);
    // Meanwhile another key is added, and the one for signatures goes into the payload.
    let hostile = json!({"url": url, "secret_keys": ["SEEN", "LATER", "SIGN"]});
    update(&instance, hostile, with_key());
    for (keys, what) in [
        (shown, "one of them is used otherwise"),
        (json!(["OTHER"]), "never asked for"),
        (json!(["SEEN", "OTHER"]), "one of two"),
    ] {
        let refused = instance.api("POST", ACCEPT, &json!({"keys": keys}));
        assert_eq!(
            (refused.status, refused.problem().as_str()),
            (409, "conflict"),
            "{what}"
        );
    }
    instance.must(
        "POST",
        ACCEPT,
        &json!({"keys": [{"key": "SEEN", "used_for": "payload"}]}),
    );
    assert_eq!(instance.deliver("ins", b"{}").status, 200);
    let received = endpoint.last().json();
    assert_eq!(received["secrets"], json!({"KEY": CANARY, "SEEN": CANARY}));
    assert_eq!(received["secret_status"]["missing"], json!(["LATER", "SIGN"]));
}

#[test]
fn what_is_no_consent_is_refused_by_its_field() {
    let (instance, _endpoint) = started();
    for (path, body, status) in [
        (CONFIRM, json!({"destination": "not a url"}), 422),
        (CONFIRM, json!({"destination": 7}), 422),
        (CONFIRM, json!({"url": "https://example.com"}), 422),
        (ACCEPT, json!({"keys": ["lower"]}), 422),
        (ACCEPT, json!({"keys": [{"key": "KEY", "used_for": "fun"}]}), 422),
        (ACCEPT, json!({"keys": [{"key": "KEY"}]}), 422),
        (ACCEPT, json!({"keys": "KEY"}), 422),
        (ACCEPT, json!([]), 422),
    ] {
        let refused = instance.api("POST", path, &body);
        assert_eq!(refused.status, status, "{path} {body}");
        assert!(!String::from_utf8_lossy(&refused.body).contains("not a url"));
    }
    let unknown = instance.api("POST", "/marketplace/installations/none/accept-keys", &json!({}));
    assert_eq!((unknown.status, unknown.problem().as_str()), (404, "not-found"));
    // Where there is no destination, there is nothing to confirm.
    instance.register("com.example.nowhere", json!({"url": "https://${HOST}/x"}), json!({}));
    instance.install("nowhere", "com.example.nowhere");
    let path = "/marketplace/installations/nowhere/confirm-destination";
    assert_eq!(instance.api("POST", path, &Value::Null).problem(), "conflict");
}

#[test]
fn it_is_the_word_of_the_organizations_own_admin_and_the_log_says_what_it_was() {
    let gated = Gated::open();
    let (instance, endpoint, other) = (gated.start(&[]), Endpoint::start(), Endpoint::start());
    instance.simple(&endpoint.url());
    let callback = json!({"url": other.url(), "secret_keys": ["MORE"]});
    update(&instance, callback, with_key());
    for (role, organization, status) in [
        (Role::Auditor, Some("org"), 403),
        (Role::Dispatcher, Some("org"), 403),
        (Role::OrgAdmin, Some("thief"), 404),
    ] {
        let api = Api::with(&instance, &gated, role, organization);
        for path in [CONFIRM, ACCEPT] {
            assert_eq!(api.json("POST", path, &json!({})).status, status, "{role:?} {path}");
        }
    }
    let admin = Api::with(&instance, &gated, Role::OrgAdmin, Some("org"));
    for path in [CONFIRM, ACCEPT] {
        assert_eq!(admin.json("POST", path, &json!({})).status, 200);
    }
    assert_eq!(instance.deliver("ins", b"{}").status, 200);
    let audit = |action: &str| {
        let path = format!("/secrets/audit?organization_id=org&action={action}");
        let data = instance.must("GET", &path, &Value::Null)["data"].clone();
        let done = data
            .as_array()
            .unwrap()
            .iter()
            .filter(|entry| entry["outcome"] == "ok")
            .cloned();
        done.collect::<Vec<Value>>()
    };
    let confirmed = audit("destination.confirm");
    assert_eq!(confirmed.len(), 1);
    assert_eq!(confirmed[0]["destination"], json!(other.url()));
    assert_eq!(confirmed[0]["actor_name"], json!("name of org_admin-org"));
    let accepted: Vec<Value> = audit("key.accept").iter().map(|entry| entry["key"].clone()).collect();
    assert_eq!(accepted, [json!("MORE"), json!("KEY")]);
}
