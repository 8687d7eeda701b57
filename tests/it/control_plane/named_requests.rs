//! Whether a write that its client named happens once, however often it is sent.

use kiket_sidecar::store::{Role, StoreError};
use serde_json::{Value, json};

use super::super::support::api::{Api, audit};
use super::super::support::gated_store::Gated;
use super::super::support::http::Answer;
use super::super::support::problem::CANARY;
use super::super::support::reading;
use super::secrets::{at, secret};
use super::{refusal, refused};

const SECRETS: &str = "/extensions/secrets";
const DAY: u64 = 24 * 60 * 60 * 1_000;

fn named(api: &Api<'_>, name: &str, path: &str, body: &Value) -> Answer {
    let headers = [("Content-Type", "application/json"), ("Idempotency-Key", name)];
    api.send("POST", path, &headers, body.to_string().as_bytes())
}

fn is_replayed(answer: &Answer) -> bool {
    answer.header("idempotent-replayed") == Some("true")
}

#[test]
fn a_write_sent_again_is_answered_again_and_happens_once() {
    let gated = Gated::open();
    let instance = gated.start(&[]);
    let api = Api::bootstrap(&instance);
    let rotation = json!({"scope": "project", "id": "proj", "organization_id": "org", "value": CANARY});
    let first = named(&api, "one", SECRETS, &secret("KEY", CANARY));
    assert!(first.status == 201 && !is_replayed(&first));
    for _ in 0..2 {
        let again = named(&api, "one", SECRETS, &secret("KEY", CANARY));
        assert!(is_replayed(&again));
        assert_eq!((again.status, again.json()), (first.status, first.json()));
        for header in ["etag", "content-type"] {
            assert_eq!(again.header(header), first.header(header), "{header}");
        }
    }
    // A refusal stands as well.
    let lower = named(&api, "two", SECRETS, &secret("lower", CANARY));
    let again = named(&api, "two", SECRETS, &secret("lower", CANARY));
    assert_eq!((refusal(&again), is_replayed(&again)), (refusal(&lower), true));
    // The same name for anything else is none.
    let other = refused(422, "invalid-field", "Idempotency-Key");
    assert_eq!(
        refusal(&named(&api, "one", SECRETS, &secret("KEY", "another value"))),
        other
    );
    assert_eq!(
        refusal(&named(&api, "one", &format!("{SECRETS}/KEY/rotate"), &rotation)),
        other
    );
    let headers = [
        ("Content-Type", "application/json"),
        ("Idempotency-Key", "one"),
        ("If-Match", "\"1\""),
    ];
    let insisting = api.send("POST", SECRETS, &headers, secret("KEY", CANARY).to_string().as_bytes());
    assert_eq!(refusal(&insisting), other);
    // Another token's name is another name.
    let admin = Api::with(&instance, &gated, Role::OrgAdmin, Some("org"));
    let own = named(&admin, "one", SECRETS, &secret("KEY", CANARY));
    assert!(own.status == 200 && !is_replayed(&own));
    assert_eq!(api.get(&at("KEY")).json()["version"], 2);
    let writes = audit(&gated, Some("org"));
    assert_eq!(
        writes
            .iter()
            .filter(|entry| entry.action.name().starts_with("secret.r"))
            .count(),
        1
    );
    // After a day it is forgotten.
    instance.clock.advance(DAY - 1);
    assert!(is_replayed(&named(&api, "one", SECRETS, &secret("KEY", CANARY))));
    instance.clock.advance(1);
    assert!(!is_replayed(&named(&api, "one", SECRETS, &secret("KEY", CANARY))));
}

#[test]
fn a_name_is_of_visible_ascii_and_means_nothing_to_a_read() {
    let gated = Gated::open();
    let instance = gated.start(&[]);
    let api = Api::bootstrap(&instance);
    for bad in ["", "a b", "\u{e4}", &"n".repeat(256)] {
        let answer = named(&api, bad, SECRETS, &secret("KEY", CANARY));
        assert_eq!(
            refusal(&answer),
            refused(422, "invalid-field", "Idempotency-Key"),
            "{bad:?}"
        );
    }
    assert_eq!(
        named(&api, &"n".repeat(255), SECRETS, &secret("KEY", CANARY)).status,
        201
    );
    let twice = [
        ("Content-Type", "application/json"),
        ("Idempotency-Key", "a"),
        ("Idempotency-Key", "b"),
    ];
    let answer = api.send("POST", SECRETS, &twice, secret("KEY", CANARY).to_string().as_bytes());
    assert_eq!(refusal(&answer), refused(422, "invalid-field", "Idempotency-Key"));
    for _ in 0..2 {
        let read = api.send("GET", SECRETS, &[("Idempotency-Key", "r")], b"");
        assert!(read.status == 200 && !is_replayed(&read));
    }
}

#[test]
fn a_request_under_way_is_told_and_goes_on_although_its_client_hung_up() {
    let gated = Gated::open();
    let instance = gated.start(&[]);
    let api = Api::bootstrap(&instance);
    let held = gated.store.hold("scope_known");
    let authorization = format!("Bearer {}", api.token);
    let headers = [
        ("Authorization", authorization.as_str()),
        ("Content-Type", "application/json"),
        ("Idempotency-Key", "slow"),
    ];
    let body = secret("KEY", CANARY).to_string();
    let path = format!("/api/v1{SECRETS}");
    let request = super::super::support::http::request("POST", &path, &headers, body.as_bytes());
    let client = reading::send(instance.running.admin().unwrap(), &request);
    held.wait();
    let meanwhile = named(&api, "slow", SECRETS, &secret("KEY", CANARY));
    assert_eq!(refusal(&meanwhile), refused(409, "request-under-way", ""));
    drop(client); // hangs up
    held.release();
    let asked = std::time::Instant::now();
    let answer = loop {
        let answer = named(&api, "slow", SECRETS, &secret("KEY", CANARY));
        if answer.status != 409 {
            break answer;
        }
        assert!(asked.elapsed().as_secs() < 30, "never done");
    };
    assert!(answer.status == 201 && is_replayed(&answer));
    assert_eq!(api.get(&at("KEY")).json()["version"], 1);
}

#[test]
fn what_failed_for_a_while_may_be_tried_again_under_its_name() {
    let gated = Gated::open();
    let instance = gated.start(&[]);
    let api = Api::bootstrap(&instance);
    gated.store.fail("slots", StoreError::Unavailable);
    let failed = named(&api, "n", SECRETS, &secret("KEY", CANARY));
    assert_eq!(refusal(&failed), refused(503, "store-unavailable", ""));
    gated.store.mend();
    let done = named(&api, "n", SECRETS, &secret("KEY", CANARY));
    assert!(done.status == 201 && !is_replayed(&done));
}

#[test]
fn a_repeated_answer_has_no_tokens_text() {
    let gated = Gated::open();
    let instance = gated.start(&[]);
    let api = Api::bootstrap(&instance);
    let body = json!({"name": "n", "role": "auditor", "organization_id": "org"});
    let first = named(&api, "t", "/tokens", &body).json();
    let again = named(&api, "t", "/tokens", &body);
    let mut expected = first.clone();
    expected["token"] = Value::Null;
    assert!(first["token"].as_str().unwrap().starts_with("kst_"));
    assert_eq!((again.status, again.json()), (201, expected));
    assert_eq!(api.get("/tokens").json()["data"].as_array().unwrap().len(), 1);
}
