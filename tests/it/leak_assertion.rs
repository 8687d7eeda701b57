//! What becomes of a request that carries a secret where none belongs, with the assertion on and off.

use std::time::{Duration, Instant};

use data_encoding::BASE64;
use serde_json::{Value, json};

use super::support::endpoint::Endpoint;
use super::support::http::{Answer, once, request};
use super::support::instance::{Instance, Options};
use super::support::pki::Authority;
use super::support::problem::assert_problem;
use super::support::tenant::{Tenant, mutual_callback};
use super::support::tls_endpoint::{H1, Setup};

const INJECTED: &str = "secret-value-injected";
const SIGNING: &str = "secret-value-that-signs";

/// Longer than anything takes; a test that hangs fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// An installation that gets `KEY` and is signed with `SIGN`.
fn signed(settings: &[(&str, &str)]) -> (Instance, Endpoint) {
    let options = Options {
        settings,
        ..Options::default()
    };
    let (instance, endpoint) = (Instance::with(options), Endpoint::start().unwatched());
    let callback = json!({"url": endpoint.url(), "signing_secret_key": "SIGN"});
    instance.register("com.example.signed", callback, json!({"KEY": {"secret": true}}));
    instance.install("ins", "com.example.signed");
    instance.set("project", "proj", "KEY", INJECTED);
    instance.set("project", "proj", "SIGN", SIGNING);
    instance.enable("ins");
    (instance, endpoint)
}

fn deliver(instance: &Instance, path: &str, header: &str, body: &str) -> Answer {
    let headers = [
        ("Content-Type", "application/json"),
        ("X-Kiket-Installation-Id", "ins"),
        ("X-Own", header),
    ];
    once(instance.proxy(), &request("POST", path, &headers, body.as_bytes()))
}

/// Requests with a secret where none belongs: path, header, body.
fn leaking() -> Vec<(String, String, String)> {
    let mut all = Vec::new();
    for secret in [INJECTED, SIGNING] {
        let encoded = BASE64.encode(format!("user:{secret}").as_bytes());
        let quoted = |text: &str| format!("{{\"a\":[\"{text}\"]}}");
        for text in [secret, encoded.as_str()] {
            all.push((format!("/x?token={text}"), "y".to_owned(), "{}".to_owned()));
            all.push(("/x".to_owned(), format!("Basic {text}"), "{}".to_owned()));
            all.push(("/x".to_owned(), "y".to_owned(), quoted(text)));
        }
    }
    all
}

#[test]
fn with_the_assertion_on_a_secret_outside_of_its_slot_stops_the_delivery() {
    let (instance, endpoint) = signed(&[("leak_assertion", "true")]);
    let cases = leaking();
    for (path, header, body) in &cases {
        let what = format!("{path} {header} {body}");
        assert_problem(&deliver(&instance, path, header, body), 500, "internal", true, &what);
    }
    assert!(endpoint.received().is_empty(), "nothing is sent");
    let own = deliver(&instance, "/x?y=z", "y", "{\"a\":\"secret\"}");
    assert_eq!(own.status, 200);
    assert_eq!(endpoint.last().secret("KEY").as_deref(), Some(INJECTED));
    assert!(endpoint.last().header("webhook-signature").is_some());
    let counted = format!("\nkiket_leaks_stopped_total {}\n", cases.len());
    assert!(instance.metrics().contains(&counted));
    assert!(!instance.log().contains("secret-value"));
}

#[test]
fn a_stopped_delivery_is_audited_and_alerted_by_key_and_use() {
    let (instance, _endpoint) = signed(&[("leak_assertion", "true")]);
    for (path, header, body) in leaking() {
        deliver(&instance, &path, &header, &body);
    }
    let ask = |path: &str| {
        let listed = instance.must("GET", path, &Value::Null);
        listed["data"].as_array().unwrap().clone()
    };
    let misplaced = || ask("/secrets/audit?action=secret.misplaced&organization_id=org");
    let count = |key: &str, source: &str| {
        let entries = misplaced();
        let of_key = entries.iter().filter(|entry| entry["key"] == key);
        let counts = of_key.map(|entry| {
            assert_eq!(
                (&entry["source"], &entry["outcome"]),
                (&json!(source), &json!("refused"))
            );
            entry["count"].as_u64().unwrap()
        });
        counts.sum::<u64>()
    };
    let begun = Instant::now();
    while (count("KEY", "delivery"), count("SIGN", "signing")) != (6, 6) {
        assert!(begun.elapsed() < PATIENCE, "never in the log: {:?}", misplaced());
    }
    let alerts = ask("/secrets/alerts?organization_id=org");
    let mut keys: Vec<_> = alerts
        .iter()
        .map(|alert| {
            assert_eq!(
                (&alert["kind"], &alert["severity"]),
                (&json!("secret-misplaced"), &json!("high"))
            );
            alert["key"].as_str().unwrap()
        })
        .collect();
    keys.sort_unstable();
    assert_eq!(keys, ["KEY", "SIGN"], "once each");
    let everything = format!("{:?}{alerts:?}", misplaced());
    assert!(!everything.contains("secret-value"), "{everything}");
}

#[test]
fn with_the_assertion_off_the_same_requests_pass() {
    let (instance, endpoint) = signed(&[]);
    let cases = leaking();
    for (path, header, body) in &cases {
        assert_eq!(
            deliver(&instance, path, header, body).status,
            200,
            "{path} {header} {body}"
        );
    }
    assert_eq!(endpoint.received().len(), cases.len());
}

#[test]
fn a_signing_secret_that_is_injected_under_another_key_too_stops_the_delivery_until_it_is_replaced() {
    let (instance, endpoint) = signed(&[("leak_assertion", "true")]);
    assert_eq!(deliver(&instance, "/x", "y", "{}").status, 200);
    instance.set("project", "proj", "KEY", SIGNING);
    let stopped = deliver(&instance, "/x", "y", "{}");
    assert_problem(&stopped, 500, "internal", true, "in the slot");
    // What a rotation replaced signs on for a while.
    instance.set("project", "proj", "SIGN", "secret-value-that-signs-next");
    assert_problem(&deliver(&instance, "/x", "y", "{}"), 500, "internal", true, "overlap");
    instance.clock.advance(25 * 3_600_000);
    let begun = Instant::now();
    while deliver(&instance, "/x", "y", "{}").status != 200 {
        assert!(begun.elapsed() < PATIENCE, "the overlap never ends");
    }
    assert_eq!(endpoint.received().len(), 2);
}

#[test]
fn a_client_certificate_or_its_key_in_a_payload_stops_the_delivery() {
    let authority = Authority::new("dev CA");
    let options = Options {
        settings: &[("leak_assertion", "true")],
        ..Options::default()
    };
    let (instance, endpoint) = (Instance::with(options), Setup::mutual(&authority, H1).start());
    let callback = mutual_callback(&endpoint.url());
    instance.register("com.example.mutual", callback, json!({"KEY": {"secret": true}}));
    let identity = authority.client("org");
    Tenant::enabled(&instance, "com.example.mutual", ["org", "ins"], &identity, &authority);
    for pem in [identity.certificate_pem(), identity.key_pem()] {
        let body = json!({"attached": pem.trim()}).to_string();
        assert_problem(&instance.deliver("ins", body.as_bytes()), 500, "internal", true, &body);
    }
    assert!(endpoint.sessions().is_empty(), "nothing is dialled");
    assert_eq!(instance.deliver("ins", b"{}").status, 200);
    assert_eq!(endpoint.seen().len(), 1);
}
