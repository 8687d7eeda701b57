//! Whether receivers accept what they get: the official Standard Webhooks verifier and one written as the SDKs do it.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use data_encoding::{BASE64, HEXLOWER};
use serde_json::{Value, json};

use super::support::endpoint::{Endpoint, Received};
use super::support::http::{once, request};
use super::support::instance::{Instance, Options};
use super::support::python;

/// The published verifier. A secret without `whsec_` is given as the bytes it is.
const STANDARD_WEBHOOKS: &str = r#"
import json, sys
from standardwebhooks import Webhook, WebhookVerificationError
def accepts(case):
    secret = case["secret"]
    try:
        Webhook(secret if secret.startswith("whsec_") else secret.encode()).verify(case["body"], case["headers"])
        return True
    except WebhookVerificationError:
        return False
json.dump([accepts(case) for case in json.load(sys.stdin)], sys.stdout)
"#;

/// What the receivers of the Kiket SDKs do: bare hex, compared as text, within 300 seconds.
const KIKET_SDK: &str = r#"
import hashlib, hmac, json, sys, time
def accepts(case):
    headers, secret = case["headers"], case["secret"]
    signature, timestamp = headers["x-kiket-signature"], headers["x-kiket-timestamp"]
    if abs(time.time() - int(timestamp)) > 300:
        return False
    payload = f"{timestamp}.{case['body']}".encode()
    return hmac.compare_digest(hmac.new(secret.encode(), payload, hashlib.sha256).hexdigest(), signature)
json.dump([accepts(case) for case in json.load(sys.stdin)], sys.stdout)
"#;

const WHSEC: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const TEXT: &str = "a signing secret that is not base64: \u{fc}!";
const NAMES: [&str; 5] = [
    "x-kiket-timestamp",
    "x-kiket-signature",
    "webhook-id",
    "webhook-timestamp",
    "webhook-signature",
];

/// An instance with an enabled installation `ins` that signs with `SIGN`.
fn signing(secret: &str, settings: &[(&str, &str)]) -> (Instance, Endpoint) {
    let options = Options {
        settings,
        ..Options::default()
    };
    let (instance, endpoint) = (Instance::with(options), Endpoint::start());
    instance.register(
        "com.example.signed",
        json!({"url": endpoint.url(), "signing_secret_key": "SIGN"}),
        json!({"KEY": {"secret": true}}),
    );
    instance.install("ins", "com.example.signed");
    instance.set("organization", "org", "SIGN", secret);
    instance.set("organization", "org", "KEY", "value with \"quotes\" and \u{1f511}");
    instance.enable("ins");
    (instance, endpoint)
}

fn rotate(instance: &Instance, to: &str, revoke_now: bool) {
    let rotation = json!({
        "scope": "organization", "id": "org", "organization_id": "org", "value": to, "revoke_now": revoke_now,
    });
    instance.must("POST", "/extensions/secrets/SIGN/rotate", &rotation);
}

fn deliver(instance: &Instance, endpoint: &Endpoint, body: &str) -> Received {
    let answer = instance.deliver("ins", body.as_bytes());
    assert_eq!(answer.status, 200, "{answer:?}");
    endpoint.last()
}

/// A received request as a receiver with this secret sees it.
fn seen(received: &Received, secret: &str) -> Value {
    let headers: serde_json::Map<String, Value> = NAMES
        .iter()
        .map(|name| ((*name).to_owned(), json!(received.header(name).unwrap())))
        .collect();
    let body = String::from_utf8(received.body.clone()).unwrap();
    json!({"secret": secret, "headers": headers, "body": body})
}

fn verdicts(verifier: &str, cases: Vec<Value>) -> Vec<bool> {
    let verdicts = python::ask(verifier, &Value::from(cases));
    verdicts
        .as_array()
        .unwrap()
        .iter()
        .map(|verdict| verdict.as_bool().unwrap())
        .collect()
}

/// The case with one thing changed.
fn with(case: &Value, pointer: &str, value: &str) -> Value {
    let mut changed = case.clone();
    *changed.pointer_mut(pointer).unwrap() = json!(value);
    changed
}

#[test]
fn both_verifiers_accept_what_arrived_and_nothing_that_was_changed() {
    for secret in [WHSEC, TEXT] {
        let (instance, endpoint) = signing(secret, &[]);
        let received = deliver(
            &instance,
            &endpoint,
            " {\"id\":\"inv_1\",\n\"n\":1.50,\"text\":\"\u{fc}\\u00fc\"}\n",
        );
        let case = seen(&received, secret);
        let body = case["body"].as_str().unwrap();
        assert!(body.contains("\"secrets\":{\"KEY\":\"value with"), "{body}");
        let spaced = with(&case, "/body", &body.replace("1.50", "1.5"));
        let injected = with(&case, "/body", &body.replace("value with", "value With"));
        let foreign = with(&case, "/secret", "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA");
        let common = [case.clone(), spaced, injected, foreign];

        let now: u64 = received.header("webhook-timestamp").unwrap().parse().unwrap();
        let later = |header: &str| with(&case, &format!("/headers/{header}"), &(now - 1).to_string());
        let mut standard = common.to_vec();
        standard.extend([later("webhook-timestamp"), with(&case, "/headers/webhook-id", "inv_2")]);
        assert_eq!(
            verdicts(STANDARD_WEBHOOKS, standard),
            [true, false, false, false, false, false],
            "{secret}"
        );
        let mut kiket = common.to_vec();
        kiket.push(later("x-kiket-timestamp"));
        assert_eq!(
            verdicts(KIKET_SDK, kiket),
            [true, false, false, false, false],
            "{secret}"
        );
    }
}

#[test]
fn during_a_rotation_old_and_new_receivers_accept_until_the_old_secret_is_revoked() {
    let secrets = ["first-signing-secret", "whsec_c2Vjb25kLXNpZ25pbmctc2VjcmV0", "third"];
    let (instance, endpoint) = signing(secrets[0], &[]);
    let mut rows = Vec::new();
    let mut look = |step: &'static str| {
        let received = deliver(&instance, &endpoint, "{\"id\":\"inv_1\"}");
        let all = |verifier| verdicts(verifier, secrets.map(|secret| seen(&received, secret)).to_vec());
        rows.push((step, all(STANDARD_WEBHOOKS), all(KIKET_SDK)));
    };
    look("first");
    rotate(&instance, secrets[1], false);
    look("rotated");
    rotate(&instance, secrets[2], true);
    look("revoked");
    let (only_first, both, only_second, only_third) = (
        vec![true, false, false],
        vec![true, true, false],
        vec![false, true, false],
        vec![false, false, true],
    );
    let expected = [
        ("first", only_first.clone(), only_first),
        ("rotated", both, only_second),
        ("revoked", only_third.clone(), only_third),
    ];
    assert_eq!(rows, expected);
}

#[test]
fn an_ed25519_key_signs_what_its_public_key_verifies() {
    let seed = [7; 32];
    let pair = Ed25519KeyPair::from_seed_unchecked(&seed).unwrap();
    let (instance, endpoint) = signing(&format!("whsk_{}", BASE64.encode(&seed)), &[]);
    let received = deliver(&instance, &endpoint, "{\"id\":\"inv_1\"}");
    let signature = received
        .header("webhook-signature")
        .unwrap()
        .strip_prefix("v1a,")
        .unwrap();
    let signature = BASE64.decode(signature.as_bytes()).unwrap();
    let mut message = format!("inv_1.{}.", received.header("webhook-timestamp").unwrap()).into_bytes();
    message.extend_from_slice(&received.body);
    let public = UnparsedPublicKey::new(&ED25519, pair.public_key());
    public.verify(&message, &signature).unwrap();
    *message.last_mut().unwrap() = b' ';
    assert!(public.verify(&message, &signature).is_err());
}

#[test]
fn the_kiket_signature_has_a_prefix_where_it_is_set() {
    let (instance, endpoint) = signing(TEXT, &[]);
    let received = deliver(&instance, &endpoint, "{}");
    assert_eq!(received.header("x-kiket-signature").unwrap().len(), 64);
    let (instance, endpoint) = signing(TEXT, &[("signature_prefix", "sha256")]);
    let received = deliver(&instance, &endpoint, "{}");
    let signature = received
        .header("x-kiket-signature")
        .unwrap()
        .strip_prefix("sha256=")
        .unwrap();
    let case = with(&seen(&received, TEXT), "/headers/x-kiket-signature", signature);
    assert_eq!(verdicts(KIKET_SDK, vec![case]), [true]);
}

#[test]
fn the_message_id_is_the_invocations_or_comes_from_its_bytes() {
    let (instance, endpoint) = signing(TEXT, &[]);
    let hashed = |body: &str| {
        let hash = HEXLOWER.encode(digest(&SHA256, body.as_bytes()).as_ref());
        format!("inv_{}", &hash[..32])
    };
    let (longest, too_long) = ("i".repeat(128), "i".repeat(129));
    let stated = |id: &str| format!("{{\"id\":{id}}}");
    let cases = [
        (stated("\"inv_1\""), Some("inv_1")),
        (stated("\"Ab9_:-\""), Some("Ab9_:-")),
        (stated("\"\\u0061\""), Some("a")),
        (stated(&format!("\"{longest}\"")), Some(longest.as_str())),
        (stated("42"), Some("42")),
        (stated(&format!("\"{too_long}\"")), None),
        (stated("\"\""), None),
        (stated("\"in v\""), None),
        (stated("\"in.v\""), None),
        (stated("\"\u{fc}\""), None),
        (String::from(" {} "), None),
        (String::from("{\"other\":1}"), None),
    ];
    for (body, expected) in cases {
        let expected = expected.map_or_else(|| hashed(&body), str::to_owned);
        let first = deliver(&instance, &endpoint, &body);
        assert_eq!(first.header("webhook-id"), Some(expected.as_str()), "{body}");
        // The dispatcher's next attempt is the same message, signed anew.
        instance.clock.advance(2_000);
        let again = deliver(&instance, &endpoint, &body);
        assert_eq!(again.header("webhook-id"), Some(expected.as_str()), "{body}");
        for name in [
            "webhook-timestamp",
            "webhook-signature",
            "x-kiket-timestamp",
            "x-kiket-signature",
        ] {
            assert_ne!(first.header(name), again.header(name), "{name}");
        }
    }
}

#[test]
fn what_comes_in_under_the_names_of_a_signature_never_passes() {
    let (instance, endpoint) = signing(TEXT, &[]);
    instance.register("com.example.plain", json!({"url": endpoint.url()}), json!({}));
    instance.install("plain", "com.example.plain");
    instance.enable("plain");
    for (installation, expected) in [("plain", 0), ("ins", 1)] {
        let mut headers = vec![
            ("Content-Type", "application/json"),
            ("X-Kiket-Installation-Id", installation),
        ];
        headers.extend(NAMES.iter().flat_map(|name| [(*name, "forged"), (*name, "forged")]));
        headers.push(("X-Passes", "yes"));
        let answer = once(instance.proxy(), &request("POST", "/webhooks/x", &headers, b"{}"));
        assert_eq!(answer.status, 200, "{installation}");
        let received = endpoint.last();
        assert_eq!(received.header("x-passes"), Some("yes"));
        for name in NAMES {
            let values: Vec<_> = received.headers.iter().filter(|(n, _)| n == name).collect();
            assert_eq!(values.len(), expected, "{installation}: {values:?}");
            assert!(values.iter().all(|(_, value)| value != "forged"), "{values:?}");
        }
    }
}
