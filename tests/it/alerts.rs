//! Whether an alert reaches the admins: listed, acknowledged, posted and mailed, each once, signed, without a value.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use kiket_sidecar::clock::Clock;
use kiket_sidecar::domain::alert::AlertKind;
use kiket_sidecar::domain::audit::Actor;
use kiket_sidecar::domain::id::OrganizationId;
use kiket_sidecar::domain::time::Timestamp;
use kiket_sidecar::store::{Change, Finding, Role, Store};
use serde_json::{Value, json};

use super::support::api::{Api, audit};
use super::support::endpoint::{Endpoint, Received, answer};
use super::support::gated_store::Gated;
use super::support::instance::{Instance, set_mode};
use super::support::mailbox::Mailbox;
use super::support::pki::Authority;
use super::support::python;
use super::support::tls_endpoint::{H1, Setup};

const SIGNING: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const CANARY: &str = "canary-of-an-alert";

/// The published verifier of Standard Webhooks, and what the receivers of the Kiket SDKs do.
const VERIFIER: &str = r#"
import hashlib, hmac, json, sys
from standardwebhooks import Webhook
case = json.load(sys.stdin)
headers, secret = case["headers"], case["secret"]
Webhook(secret).verify(case["body"], headers)
payload = f"{headers['x-kiket-timestamp']}.{case['body']}".encode()
kiket = hmac.new(secret.encode(), payload, hashlib.sha256).hexdigest()
json.dump(kiket == headers["x-kiket-signature"], sys.stdout)
"#;

fn assert_signed(received: &Received) {
    let names = [
        "webhook-id",
        "webhook-timestamp",
        "webhook-signature",
        "x-kiket-timestamp",
        "x-kiket-signature",
    ];
    let headers: serde_json::Map<String, Value> = names
        .iter()
        .map(|name| ((*name).to_owned(), json!(received.header(name).unwrap())))
        .collect();
    let body = String::from_utf8(received.body.clone()).unwrap();
    let verdict = python::ask(VERIFIER, &json!({"secret": SIGNING, "headers": headers, "body": body}));
    assert_eq!(verdict, json!(true));
}

/// Reads a key so often that an alert is raised.
fn read_too_often(instance: &Instance, key: &str) {
    instance.set("organization", "org", key, CANARY);
    for _ in 0..26 {
        let path = format!("/extensions/secrets/{key}?scope=organization&id=org");
        instance.must("GET", &path, &Value::Null);
    }
}

fn put_policy(instance: &Instance, policy: &Value) {
    instance.must("PUT", "/organizations/org/policy", policy);
}

/// Raises an alert as another instance would: this one finds it within ten seconds.
fn raise(gated: &Gated, instance: &Instance, organization: Option<&str>, occasion: &str) {
    let actor = Actor {
        id: "sidecar:test".into(),
        name: "test".into(),
    };
    let finding = Finding {
        kind: AlertKind::Unused,
        organization: organization.map(|id| OrganizationId::parse(id).unwrap()),
        scope: None,
        subject: None,
        key: None,
        detail: format!("found {occasion}"),
        occasion: occasion.into(),
    };
    let change = Change {
        writes: vec![finding.raise(Timestamp(0), &actor, instance.clock.now())],
        entries: Vec::new(),
    };
    gated.block_on(gated.store.commit(change)).unwrap();
    instance.clock.advance(10_000);
}

fn wait_for_empty(gated: &Gated) {
    let begun = std::time::Instant::now();
    while gated.block_on(gated.store.outbox_depth()).unwrap().waiting > 0 {
        assert!(begun.elapsed().as_secs() < 30, "the outbox stays full");
    }
}

#[test]
fn twenty_six_reads_reach_the_webhook_and_every_mailbox_of_the_admins() {
    let gated = Gated::open();
    let (mailbox, endpoint) = (Mailbox::start(0), Endpoint::start());
    let instance = gated.start(&[("smtp_url", &mailbox.url()), ("smtp_from", "Kiket <kiket@example.com>")]);
    instance.set("organization", "org", "ALERTS", SIGNING);
    put_policy(
        &instance,
        &json!({
            "webhook_url": format!("{}/hooks/kiket", endpoint.url()), "webhook_signing_key": "ALERTS",
            "emails": ["ops@example.com", "sec@example.com"],
        }),
    );
    read_too_often(&instance, "KEY");
    let received = endpoint.wait(1).remove(0);
    let mut mails = mailbox.wait(2);
    wait_for_empty(&gated);
    assert_eq!((endpoint.received().len(), mailbox.mails().len()), (1, 2), "each once");

    let alert = &instance.must("GET", "/secrets/alerts", &Value::Null)["data"][0];
    assert_eq!(received.target, "/hooks/kiket");
    assert_signed(&received);
    let body = received.json();
    assert_eq!(
        body,
        json!({
            "id": received.header("webhook-id").unwrap(), "event": "secret.alert", "alert_id": alert["id"],
            "organization_id": "org", "kind": "read-anomaly", "severity": "high", "scope": "organization",
            "scope_id": "org", "key": "KEY", "detail": alert["detail"], "raised_at": alert["raised_at"],
        })
    );
    mails.sort_by(|one, other| one.to.cmp(&other.to));
    let to: Vec<_> = mails.iter().map(|mail| mail.to.clone()).collect();
    assert_eq!(to, [["ops@example.com"], ["sec@example.com"]], "nobody sees the others");
    for mail in &mails {
        assert_eq!(mail.from, "kiket@example.com");
        assert_eq!(mail.header("From"), Some("Kiket <kiket@example.com>"));
        assert_eq!(mail.header("Subject"), Some("[Kiket] high read-anomaly: KEY"));
        assert!(
            mail.header("Message-ID").unwrap().ends_with("@example.com>"),
            "{}",
            mail.data
        );
        for line in [
            "Organization: org",
            "Key: KEY",
            "Scope: organization org",
            alert["detail"].as_str().unwrap(),
        ] {
            assert!(mail.data.contains(line), "{line}: {}", mail.data);
        }
    }
    let everything = format!(
        "{received:?}{}{mails:?}{alert}",
        String::from_utf8_lossy(&received.body)
    );
    assert!(!everything.contains(CANARY) && !everything.contains(SIGNING));
    let metrics = instance.metrics();
    for sample in [
        "kiket_notices_total{kind=\"alert-webhook\",outcome=\"delivered\"} 1\n",
        "kiket_notices_total{kind=\"alert-mail\",outcome=\"delivered\"} 2\n",
        "kiket_alerts_total{kind=\"read-anomaly\"} 1\n",
    ] {
        assert!(metrics.contains(sample), "{sample}");
    }
    let raised = audit(&gated, Some("org"))
        .into_iter()
        .filter(|entry| entry.action.name() == "alert.raise");
    assert_eq!(raised.count(), 1);
}

#[test]
fn a_failing_webhook_and_mail_server_are_tried_again_and_neither_holds_the_other_up() {
    let gated = Gated::open();
    let left = Arc::new(AtomicUsize::new(2));
    let counting = Arc::clone(&left);
    let endpoint = Endpoint::scripted(Arc::new(move |_| {
        let fails = counting
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1))
            .is_ok();
        Some(answer(if fails { 500 } else { 200 }, "", b""))
    }));
    let mailbox = Mailbox::start(1);
    let instance = gated.start(&[("smtp_url", &mailbox.url()), ("smtp_from", "kiket@example.com")]);
    instance.set("organization", "org", "ALERTS", SIGNING);
    let policy = json!({
        "webhook_url": endpoint.url(), "webhook_signing_key": "ALERTS", "emails": ["ops@example.com"],
    });
    put_policy(&instance, &policy);
    raise(&gated, &instance, Some("org"), "once");
    instance.await_failed(2);
    instance.clock.advance(6_000);
    let mail = mailbox.wait(1).remove(0);
    assert_eq!(mail.header("Subject"), Some("[Kiket] low unused"));
    instance.await_failed(3);
    instance.clock.advance(12_000);
    let received = endpoint.wait(3);
    wait_for_empty(&gated);
    let ids: Vec<_> = received.iter().map(|one| one.header("webhook-id").unwrap()).collect();
    assert_eq!(ids, [ids[0]; 3]);
    received.iter().for_each(assert_signed);
}

#[test]
fn what_cannot_be_signed_is_not_posted_and_waits_for_its_secret() {
    let gated = Gated::open();
    let (instance, endpoint) = (gated.start(&[]), Endpoint::start());
    put_policy(
        &instance,
        &json!({"webhook_url": endpoint.url(), "webhook_signing_key": "ALERTS"}),
    );
    raise(&gated, &instance, Some("org"), "once");
    instance.await_failed(1);
    assert_eq!(endpoint.received().len(), 0);
    instance.set("organization", "org", "ALERTS", SIGNING);
    instance.clock.advance(6_000);
    assert_signed(&endpoint.wait(1).remove(0));
}

#[test]
fn a_target_that_was_changed_or_removed_meanwhile_hears_nothing() {
    let gated = Gated::open();
    let (endpoint, mailbox) = (Endpoint::start(), Mailbox::start(0));
    let instance = gated.start(&[("smtp_url", &mailbox.url()), ("smtp_from", "kiket@example.com")]);
    let policy = json!({
        "webhook_url": endpoint.url(), "webhook_signing_key": "ALERTS", "emails": ["ops@example.com"],
    });
    put_policy(&instance, &policy);
    // Without its secret the post fails at first; by the next attempt the policy names another target.
    raise(&gated, &instance, Some("org"), "once");
    mailbox.wait(1);
    instance.await_failed(1);
    instance.set("organization", "org", "ALERTS", SIGNING);
    let elsewhere = json!({"webhook_url": format!("{}/moved", endpoint.url()), "webhook_signing_key": "ALERTS"});
    put_policy(&instance, &elsewhere);
    instance.clock.advance(6_000);
    wait_for_empty(&gated);
    assert_eq!(endpoint.received().len(), 0);
    let metrics = instance.metrics();
    assert!(
        metrics.contains("kiket_notices_total{kind=\"alert-webhook\",outcome=\"dropped\"} 1\n"),
        "{metrics}"
    );
    // The next alert goes where the policy says now, and to no mailbox.
    raise(&gated, &instance, Some("org"), "twice");
    assert_eq!(endpoint.wait(1)[0].target, "/moved");
    wait_for_empty(&gated);
    assert_eq!(mailbox.mails().len(), 1);
}

#[test]
fn without_a_target_or_a_mail_server_an_alert_is_listed_and_nothing_waits() {
    let gated = Gated::open();
    let instance = gated.start(&[]);
    put_policy(&instance, &json!({"emails": ["ops@example.com"]}));
    for organization in [Some("org"), Some("without-policy"), None] {
        raise(&gated, &instance, organization, "once");
    }
    wait_for_empty(&gated);
    let listed = instance.must("GET", "/secrets/alerts", &Value::Null);
    assert_eq!(listed["data"].as_array().unwrap().len(), 3);
}

#[test]
fn the_webhook_is_guarded_as_deliveries_are_and_https_is_checked() {
    let gated = Gated::open();
    let authority = Authority::new("dev CA");
    let file = authority.file();
    let trusting = [
        ("egress_ca_file", file.path().to_str().unwrap()),
        ("dangerous_allow_http", "false"),
    ];
    let instance = gated.start(&trusting);
    instance.set("organization", "org", "ALERTS", SIGNING);
    let trusted = Setup::new(&authority, H1).start();
    let foreign = Setup::new(&Authority::new("other CA"), H1).start();
    let hook = |url: String| json!({"webhook_url": url, "webhook_signing_key": "ALERTS"});
    put_policy(&instance, &hook(foreign.url()));
    raise(&gated, &instance, Some("org"), "once");
    instance.await_failed(1);
    put_policy(&instance, &hook(trusted.url()));
    raise(&gated, &instance, Some("org"), "twice");
    trusted.wait("the alert", |_, seen| seen.len() == 1);
    assert_eq!(foreign.seen().len(), 0);

    // A webhook that was plain HTTP when that was allowed is not posted to any more.
    let (gated, endpoint) = (Gated::open(), Endpoint::start());
    let before = gated.start(&[]);
    before.set("organization", "org", "ALERTS", SIGNING);
    put_policy(&before, &hook(endpoint.url()));
    drop(before);
    let instance = gated.start(&trusting);
    raise(&gated, &instance, Some("org"), "once");
    instance.await_failed(1);
    assert_eq!(endpoint.received().len(), 0);
}

#[test]
fn mail_goes_over_tls_with_the_operators_credentials() {
    let gated = Gated::open();
    let authority = Authority::new("dev CA");
    let (file, folder) = (authority.file(), tempfile::tempdir().unwrap());
    let credentials = folder.path().join("smtp.credentials");
    std::fs::write(&credentials, "mailer:canary-password\n").unwrap();
    set_mode(&credentials, 0o600);
    let mailbox = Mailbox::start_tls(&authority.server(&["127.0.0.1"]));
    let settings = [
        ("smtp_url", mailbox.url()),
        ("smtp_from", "kiket@example.com".into()),
        ("smtp_credentials_file", credentials.display().to_string()),
        ("egress_ca_file", file.path().display().to_string()),
    ];
    let settings: Vec<(&str, &str)> = settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let instance = gated.start(&settings);
    put_policy(&instance, &json!({"emails": ["ops@example.com"]}));
    read_too_often(&instance, "KEY");
    let mail = mailbox.wait(1).remove(0);
    let credentials = data_encoding::BASE64.encode(b"\0mailer\0canary-password");
    assert_eq!(mail.credentials.as_deref(), Some(credentials.as_str()));
    assert!(!instance.log().contains("canary-password") && !mail.data.contains("canary-password"));

    // A mail server whose certificate nobody vouches for gets nothing.
    let untrusted = Mailbox::start_tls(&Authority::new("other CA").server(&["127.0.0.1"]));
    let gated = Gated::open();
    let mut settings = settings;
    let url = untrusted.url();
    settings[0] = ("smtp_url", &url);
    let instance = gated.start(&settings);
    put_policy(&instance, &json!({"emails": ["ops@example.com"]}));
    read_too_often(&instance, "KEY");
    instance.await_failed(1);
    assert_eq!(untrusted.mails().len(), 0);
}

#[test]
fn alerts_are_listed_page_by_page_by_status_and_acknowledged_once() {
    let gated = Gated::open();
    let instance = gated.start(&[]);
    let admin = Api::with(&instance, &gated, Role::OrgAdmin, Some("org"));
    for n in 0..5 {
        raise(&gated, &instance, Some("org"), &n.to_string());
    }
    let details = |path: &str| -> Vec<String> {
        let data = admin.get(path).json()["data"].clone();
        data.as_array()
            .unwrap()
            .iter()
            .map(|alert| alert["detail"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(
        details("/secrets/alerts"),
        ["found 4", "found 3", "found 2", "found 1", "found 0"],
        "newest first"
    );
    let first = admin.get("/secrets/alerts?limit=2").json();
    assert_eq!(first["data"].as_array().unwrap().len(), 2);
    let cursor = first["next_cursor"].as_str().unwrap();
    assert_eq!(
        details(&format!("/secrets/alerts?limit=2&cursor={cursor}")),
        ["found 2", "found 1"]
    );
    let tampered = cursor.replacen('.', ".0", 1);
    assert_eq!(admin.get(&format!("/secrets/alerts?cursor={tampered}")).status, 422);

    let id = first["data"][1]["id"].as_str().unwrap().to_owned();
    let acknowledge = |api: &Api<'_>| api.json("POST", &format!("/secrets/alerts/{id}/acknowledge"), &Value::Null);
    let once = acknowledge(&admin);
    assert_eq!(
        (once.status, &once.json()["acknowledged_by"]),
        (200, &json!("name of org_admin-org"))
    );
    instance.clock.advance(1_000);
    let operator = Api::with(&instance, &gated, Role::PlatformOperator, None);
    assert_eq!(acknowledge(&operator).json(), once.json(), "whoever was first stays");
    assert_eq!(
        details("/secrets/alerts?status=open"),
        ["found 4", "found 2", "found 1", "found 0"]
    );
    assert_eq!(details("/secrets/alerts?status=acknowledged"), ["found 3"]);
    assert_eq!(details("/secrets/alerts?status=all").len(), 5);
    assert_eq!(admin.get("/secrets/alerts?status=closed").status, 422);
    let entries = audit(&gated, Some("org"));
    let acknowledged = entries
        .iter()
        .filter(|entry| entry.action.name() == "alert.acknowledge");
    assert_eq!(acknowledged.count(), 1);
}

#[test]
fn an_organization_sees_its_own_alerts_only() {
    let gated = Gated::open();
    let instance = gated.start(&[]);
    for organization in [Some("org"), Some("other"), None] {
        raise(&gated, &instance, organization, "once");
    }
    let operator = Api::with(&instance, &gated, Role::PlatformOperator, None);
    let all = operator.get("/secrets/alerts").json();
    let id_of = |organization: Value| {
        let data = all["data"].as_array().unwrap();
        let alert = data.iter().find(|alert| alert["organization_id"] == organization);
        alert.unwrap()["id"].as_str().unwrap().to_owned()
    };
    assert_eq!(all["data"].as_array().unwrap().len(), 3);
    let roles = [
        (Role::OrgAdmin, Some("org"), 200, 200),
        (Role::Auditor, Some("org"), 200, 403),
        (Role::Dispatcher, Some("org"), 403, 403),
    ];
    for (role, organization, read, write) in roles {
        let api = Api::with(&instance, &gated, role, organization);
        let listed = api.get("/secrets/alerts?status=all");
        assert_eq!(listed.status, read, "{role:?}");
        if read == 200 {
            assert_eq!(listed.json()["data"].as_array().unwrap().len(), 1, "{role:?}");
        }
        assert_eq!(api.get("/secrets/health").status, read, "{role:?}");
        assert_eq!(
            api.get("/secrets/alerts?organization_id=other").status,
            if read == 200 { 404 } else { 403 }
        );
        let own = format!("/secrets/alerts/{}/acknowledge", id_of(json!("org")));
        assert_eq!(api.json("POST", &own, &Value::Null).status, write, "{role:?}");
        for foreign in [id_of(json!("other")), id_of(Value::Null), "alr_none".into()] {
            let path = format!("/secrets/alerts/{foreign}/acknowledge");
            let expected = if write == 200 { 404 } else { 403 };
            assert_eq!(api.json("POST", &path, &Value::Null).status, expected, "{role:?}");
        }
    }
}
