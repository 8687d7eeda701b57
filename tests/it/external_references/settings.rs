//! What a change of a provider, of its credential or of a reference does to the next delivery.

use aws_lc_rs::hmac;
use data_encoding::HEXLOWER;
use serde_json::{Value, json};

use super::super::support::referred::{Backend, VaultBackend};
use super::super::support::vault::Grant;
use super::{MAIN, SECRETS, vault};

const UNAVAILABLE: &str = "503 secret-source-unavailable";

#[test]
fn a_provider_that_changed_is_what_the_next_delivery_asks_and_one_that_is_gone_nobody() {
    let stage = vault();
    assert_eq!(stage.outcome("required"), "the first value");
    let other = VaultBackend::start();
    other.put("the other vault's value");
    stage
        .instance
        .set("organization", "org", "OTHER_CA", &other.credentials()[1].1);
    let mut document = other.document();
    document["ca_key"] = json!("OTHER_CA");
    stage.instance.must("PUT", MAIN, &document);
    assert_eq!(stage.outcome("required"), "the other vault's value");
    stage.instance.must("DELETE", MAIN, &Value::Null);
    assert_eq!(stage.outcome("required"), UNAVAILABLE);
    assert_eq!(stage.outcome("optional"), UNAVAILABLE, "and never missing");
    let refreshed = stage.refresh();
    assert_eq!(
        (refreshed.status, refreshed.problem().as_str()),
        (409, "provider-missing")
    );
    stage.instance.must("PUT", MAIN, &stage.backend.document());
    assert_eq!(stage.outcome("required"), "the first value");
}

#[test]
fn a_credential_that_changed_logs_in_again_and_one_that_is_missing_or_elsewhere_is_never_asked_for() {
    let stage = vault();
    let vault = &stage.backend.vault;
    let grant = || Grant {
        paths: vec!["secret/".into()],
        ttl: 3_600,
        ..Grant::default()
    };
    vault.root(|root| root.entry("approle", "the role", "the first secret id", grant()));
    let mut document = stage.backend.document();
    document["auth"] = json!({"method": "approle", "role": "the role", "credential_key": "SECRET_ID"});
    stage.instance.must("PUT", MAIN, &document);
    let logins = || {
        let asked = vault.asked().into_iter();
        asked.filter(|asked| asked.path == "auth/approle/login").count()
    };
    assert_eq!(stage.outcome("required"), UNAVAILABLE, "there is no credential");
    assert_eq!((logins(), vault.asked().len()), (0, 0));
    stage
        .instance
        .set("organization", "org", "SECRET_ID", "the first secret id");
    assert_eq!(stage.outcome("required"), "the first value");
    assert_eq!(logins(), 1);
    vault.root(|root| {
        root.bar();
        root.entry("approle", "the role", "the second secret id", grant());
    });
    stage.backend.put("the second value");
    stage
        .instance
        .set("organization", "org", "SECRET_ID", "the second secret id");
    assert_eq!(
        stage.outcome("required"),
        "the second value",
        "asked with the new credential"
    );
    assert_eq!(logins(), 2);
    let asked = vault.asked().len();
    let mut link = super::link("vault:secret/kiket/org/crm#value");
    link["scope"] = json!("organization");
    link["id"] = json!("org");
    stage.instance.must("POST", "/extensions/secrets/SECRET_ID/link", &link);
    assert_eq!(
        stage.outcome("required"),
        UNAVAILABLE,
        "a credential is never a reference"
    );
    stage.instance.must(
        "DELETE",
        &format!("{SECRETS}/SECRET_ID?scope=organization&organization_id=org"),
        &Value::Null,
    );
    assert_eq!(stage.outcome("required"), UNAVAILABLE);
    assert_eq!(vault.asked().len(), asked);
    let listed = stage.instance.must(
        "GET",
        "/secrets/audit?organization_id=org&key=SECRET_ID&action=secret.load",
        &Value::Null,
    );
    let loads = listed["data"].as_array().unwrap();
    assert_eq!(
        loads.len(),
        2,
        "each credential was loaded once, and that is recorded: {listed}"
    );
    assert!(loads.iter().all(|load| load["source"] == "refresh"));
}

#[test]
fn a_partners_default_cannot_be_a_reference() {
    let stage = vault();
    let link = json!({
        "scope": "extension", "id": "com.example.required", "partner_default": true, "external_secret_name": "a/b",
    });
    let answer = stage.instance.api("POST", "/extensions/secrets/KEY/link", &link);
    assert_eq!((answer.status, answer.problem().as_str()), (422, "invalid-field"));
    assert_eq!(answer.json()["field"], "external_secret_name");
    let mut new = link.clone();
    new["key"] = json!("KEY");
    let answer = stage.instance.api("POST", SECRETS, &new);
    assert_eq!((answer.status, answer.problem().as_str()), (422, "invalid-field"));
}

#[test]
fn a_reference_signs_and_only_with_the_value_that_is_there_now() {
    let stage = vault();
    let callback = json!({"url": stage.endpoint.url(), "signing_secret_key": "KEY"});
    stage.instance.register("com.example.signed", callback, json!({}));
    stage.instance.install("signed", "com.example.signed");
    stage.instance.enable("signed");
    let signed_with = |value: &str| {
        assert_eq!(stage.deliver("signed").status, 200);
        let received = stage.endpoint.last();
        let timestamp = received.header("x-kiket-timestamp").unwrap();
        let message = [timestamp.as_bytes(), b".", &received.body].concat();
        let key = hmac::Key::new(hmac::HMAC_SHA256, value.as_bytes());
        let expected = HEXLOWER.encode(hmac::sign(&key, &message).as_ref());
        assert_eq!(
            received.json()["secrets"],
            json!({}),
            "what signs is not in the payload"
        );
        received.header("x-kiket-signature") == Some(&expected)
    };
    assert!(signed_with("the first value"));
    stage.backend.put("the second value");
    assert_eq!(stage.refresh().status, 200);
    assert!(signed_with("the second value"));
    stage.backend.vault.seal(true);
    stage.instance.must("DELETE", MAIN, &Value::Null);
    assert_eq!(
        stage.deliver("signed").problem(),
        "secret-source-unavailable",
        "never unsigned"
    );
}
