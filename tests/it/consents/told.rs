//! Whether the admins hear of what waits for them, once, where they look, and not any more when it is done.

use serde_json::{Value, json};

use super::super::support::endpoint::Endpoint;
use super::super::support::instance::Instance;
use super::{ACCEPT, CANARY, CONFIRM, EXTENSION, INSTALLATION, started, update, with_key};

/// Kind and sentence of each open alert of `org`, sorted.
fn open(instance: &Instance) -> Vec<(String, String)> {
    let listed = instance.must("GET", "/secrets/alerts?organization_id=org", &Value::Null);
    let text = |alert: &Value, name: &str| alert[name].as_str().unwrap().to_owned();
    let alerts = listed["data"].as_array().unwrap().iter();
    let mut alerts: Vec<_> = alerts
        .map(|alert| (text(alert, "kind"), text(alert, "detail")))
        .collect();
    alerts.sort();
    alerts
}

fn kinds(instance: &Instance) -> Vec<String> {
    open(instance).into_iter().map(|(kind, _)| kind).collect()
}

fn all_ever(instance: &Instance) -> usize {
    let listed = instance.must("GET", "/secrets/alerts?organization_id=org&status=all", &Value::Null);
    listed["data"].as_array().unwrap().len()
}

#[test]
fn an_update_alerts_each_organization_once_before_any_delivery_and_consents_close_the_alerts() {
    let (instance, _old) = started();
    let other = Endpoint::start();
    let theirs = json!({"id": "theirs", "extension_id": EXTENSION, "organization_id": "acme", "project_id": "web"});
    instance.must("POST", "/marketplace/installations", &theirs);
    instance.enable("theirs");
    instance.install("pending", EXTENSION);
    let callback = json!({"url": other.url(), "secret_keys": ["MORE"], "signing_secret_key": "SIGN"});
    update(&instance, callback.clone(), with_key());
    let expected = [
        (
            "destination-unconfirmed",
            format!(
                "its destination is {} now, which gets nothing until an admin confirms it",
                other.url()
            ),
        ),
        (
            "keys-not-accepted",
            String::from(
                "its manifest asks for keys that are withheld until an admin accepts them: MORE (payload), SIGN (signing)",
            ),
        ),
    ];
    assert_eq!(
        open(&instance),
        expected.clone().map(|(kind, detail)| (kind.to_owned(), detail))
    );
    let of_acme = instance.must("GET", "/secrets/alerts?organization_id=acme", &Value::Null);
    assert_eq!(of_acme["data"].as_array().unwrap().len(), 2);
    // Deliveries, and the same manifest again, raise none again.
    for _ in 0..3 {
        assert_eq!(instance.deliver("ins", b"{}").status, 409);
        update(&instance, callback.clone(), with_key());
    }
    assert_eq!(all_ever(&instance), 2);
    instance.must("POST", CONFIRM, &Value::Null);
    assert_eq!(kinds(&instance), ["keys-not-accepted"]);
    instance.must("POST", ACCEPT, &json!({"keys": ["SIGN"]}));
    assert_eq!(
        instance.deliver("ins", b"{}").problem(),
        "signing-key-missing",
        "it has no value"
    );
    let left = instance.must("POST", ACCEPT, &json!({"keys": ["MORE"]}));
    assert_eq!(left["awaiting_consent"], json!({"destination": null, "keys": []}));
    assert!(kinds(&instance).is_empty());
}

#[test]
fn an_override_alerts_and_what_takes_it_back_closes_the_alert() {
    let (instance, endpoint) = started();
    let other = Endpoint::start();
    for round in 1..=2 {
        instance.must("PATCH", INSTALLATION, &json!({"callback_url": other.url()}));
        let expected: &[&str] = if round == 1 { &["destination-unconfirmed"] } else { &[] };
        assert_eq!(kinds(&instance), expected, "the same is not said twice");
        instance.must("PATCH", INSTALLATION, &json!({"callback_url": null}));
        assert!(kinds(&instance).is_empty());
    }
    // After another word was given, the same destination is news again.
    instance.must("POST", CONFIRM, &Value::Null);
    instance.must("PATCH", INSTALLATION, &json!({"callback_url": other.url()}));
    assert_eq!(kinds(&instance), ["destination-unconfirmed"]);
    // An update of the manifest that takes back what it asked for closes what it had opened.
    instance.must("POST", CONFIRM, &Value::Null);
    let more = json!({"url": endpoint.url(), "secret_keys": ["MORE"]});
    update(&instance, more, with_key());
    assert_eq!(kinds(&instance), ["keys-not-accepted"]);
    update(&instance, json!({"url": endpoint.url()}), with_key());
    assert!(kinds(&instance).is_empty());
}

#[test]
fn an_alert_that_waits_for_a_consent_can_be_acknowledged_without_giving_it() {
    let (instance, _old) = started();
    let other = Endpoint::start();
    update(&instance, json!({"url": other.url()}), with_key());
    let listed = instance.must("GET", "/secrets/alerts?organization_id=org", &Value::Null);
    let alert = &listed["data"][0];
    assert_eq!(alert["severity"], "high");
    let path = format!("/secrets/alerts/{}/acknowledge", alert["id"].as_str().unwrap());
    instance.must("POST", &path, &Value::Null);
    assert!(kinds(&instance).is_empty());
    assert_eq!(instance.deliver("ins", b"{}").problem(), "destination-unconfirmed");
    assert_eq!(all_ever(&instance), 1);
    instance.must("POST", CONFIRM, &Value::Null);
    assert_eq!(instance.deliver("ins", b"{}").status, 200);
}

#[test]
fn explain_the_list_and_the_installation_show_what_waits_and_never_ask_for_it() {
    let (instance, endpoint) = started();
    let other = Endpoint::start();
    instance.set("organization", "org", "MORE", CANARY);
    let callback = json!({"url": other.url(), "secret_keys": ["MORE"]});
    update(&instance, callback, with_key());
    let waits = json!({"destination": other.url(), "keys": [{"key": "MORE", "used_for": "payload"}]});
    let one = instance.must("GET", INSTALLATION, &Value::Null);
    assert_eq!(
        (&one["awaiting_consent"], &one["destination"]),
        (&waits, &json!(other.url()))
    );
    let all = instance.must("GET", "/marketplace/installations", &Value::Null);
    assert_eq!(all["data"][0]["awaiting_consent"], waits);
    let explain = || instance.must("GET", "/extensions/secrets/explain?installation=ins", &Value::Null);
    let explained = explain();
    assert_eq!(explained["awaiting_consent"], waits);
    let key = |explained: &Value, n: usize| {
        let key = explained["data"][n].clone();
        json!([key["key"], key["outcome"], key["winner"]["scope"]])
    };
    assert_eq!(key(&explained, 0), json!(["KEY", "found", "organization"]));
    assert_eq!(key(&explained, 1), json!(["MORE", "not-consented", null]));
    assert_eq!(
        explained["data"][1]["says"],
        "withheld: an update of the manifest asks for it, and no admin of the organization has accepted that"
    );
    instance.must("POST", ACCEPT, &Value::Null);
    assert_eq!(key(&explain(), 1), json!(["MORE", "found", "organization"]));
    assert_eq!(explain()["awaiting_consent"]["destination"], json!(other.url()));
    assert_eq!(endpoint.received().len(), 1);
}
