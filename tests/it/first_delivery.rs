//! The main job in its simplest form.

use serde_json::json;

use super::support::endpoint::Endpoint;
use super::support::instance::Instance;

#[test]
fn an_invocation_arrives_with_its_secrets_before_the_last_brace() {
    let (instance, endpoint) = (Instance::start(), Endpoint::start());
    instance.simple(&endpoint.url());
    instance.set("organization", "org", "KEY", "wide");
    let body = b" {\"id\": \"inv_1\",  \"payload\" : {\"a\":[1, 2.50]} }\n";
    let answer = instance.deliver("ins", body);
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    assert_eq!(answer.json(), json!({"ok": true}));
    assert_eq!(answer.header("proxy-status"), Some("kiket; received-status=200"));
    let received = endpoint.last();
    let spliced = " {\"id\": \"inv_1\",  \"payload\" : {\"a\":[1, 2.50]} ,\"secrets\":{\"KEY\":\"wide\"},\"secret_status\":{\"missing\":[]}}\n";
    assert_eq!(String::from_utf8(received.body.clone()).unwrap(), spliced);
    assert_eq!(received.target, "/webhooks/issue.created");
    assert_eq!(received.header("x-kiket-installation-id"), None);
}

#[test]
fn a_narrower_value_set_later_replaces_a_wider_one_in_the_next_delivery() {
    let (instance, endpoint) = (Instance::start(), Endpoint::start());
    instance.simple(&endpoint.url());
    let places = [
        ("organization", "org"),
        ("project", "proj"),
        ("extension", "com.example.simple"),
        ("extension_installation", "ins"),
    ];
    assert_eq!(instance.deliver("ins", b"{}").status, 200);
    assert_eq!(endpoint.last().json()["secret_status"]["missing"], json!(["KEY"]));
    for (scope, id) in places {
        instance.set(scope, id, "KEY", scope);
        assert_eq!(instance.deliver("ins", b"{}").status, 200);
        assert_eq!(endpoint.last().secret("KEY").as_deref(), Some(scope));
    }
    for (n, (scope, id)) in places.iter().enumerate().rev() {
        let path = format!("/extensions/secrets/KEY?scope={scope}&id={id}&organization_id=org");
        instance.must("DELETE", &path, &serde_json::Value::Null);
        assert_eq!(instance.deliver("ins", b"{}").status, 200);
        let left = n.checked_sub(1).map(|n| places[n].0);
        assert_eq!(endpoint.last().secret("KEY").as_deref(), left);
    }
}

#[test]
fn a_delivery_is_counted_where_an_operator_looks() {
    let (instance, endpoint) = (Instance::start(), Endpoint::start());
    instance.simple(&endpoint.url());
    assert_eq!(instance.deliver("ins", b"{}").status, 200);
    assert_eq!(instance.deliver("none", b"{}").status, 404);
    let line = instance.lines().into_iter().find(|line| line["status"] == 200).unwrap();
    assert_eq!(line["outcome"], "delivered");
    let metrics = instance.metrics();
    assert!(
        metrics.contains("kiket_deliveries_total{outcome=\"delivered\"} 1\n"),
        "{metrics}"
    );
    assert!(
        metrics.contains("kiket_refusals_total{problem=\"installation-unknown\"} 1\n"),
        "{metrics}"
    );
}

#[test]
fn a_replaced_signing_secret_signs_beside_its_successor_for_a_day() {
    let (instance, endpoint) = (Instance::start(), Endpoint::start());
    let callback = json!({"url": endpoint.url(), "signing_secret_key": "SIGN"});
    instance.register("com.example.signed", callback, json!({}));
    instance.install("ins", "com.example.signed");
    instance.set("project", "proj", "SIGN", "the-first-signing-secret");
    instance.enable("ins");
    let signatures = || {
        assert_eq!(instance.deliver("ins", b"{}").status, 200);
        let header = endpoint.last().header("webhook-signature").unwrap().to_owned();
        header.split(' ').count()
    };
    assert_eq!(signatures(), 1);
    instance.set("project", "proj", "SIGN", "the-second-signing-secret");
    assert_eq!(signatures(), 2);
    instance.clock.advance(24 * 60 * 60 * 1_000 - 1);
    assert_eq!(signatures(), 2);
    instance.clock.advance(1);
    assert_eq!(signatures(), 1);
}
