//! What happens at limits: too many requests, too many wrong tokens, counters at their end, writers that race.

use std::thread;

use kiket_sidecar::domain::id::{OrganizationId, ScopeId};
use kiket_sidecar::domain::key::SecretKey;
use kiket_sidecar::domain::scope::{Owner, Scope, Slot};
use kiket_sidecar::domain::secret::{COUNT_MAX, SecretKind};
use kiket_sidecar::store::{Change, Role, SecretRow, Store, Write};
use serde_json::{Value, json};

use super::super::support::api::Api;
use super::super::support::gated_store::Gated;
use super::super::support::instance::{Instance, Options};
use super::super::support::problem::CANARY;
use super::secrets::{at, secret};
use super::{refusal, refused};

const SECRETS: &str = "/extensions/secrets";

#[test]
fn one_token_too_many_requests_says_when_to_come_again_and_no_other_is_held_up() {
    let gated = Gated::open();
    let instance = gated.start(&[("api_rate_per_second", "2"), ("api_burst", "3")]);
    let first = Api::with(&instance, &gated, Role::Auditor, Some("org"));
    let second = Api::with(&instance, &gated, Role::Auditor, Some("org2"));
    for n in 0..3 {
        assert_eq!(first.get("/extensions").status, 200, "{n}");
    }
    let over = first.get("/extensions");
    assert_eq!(refusal(&over), refused(429, "rate-limited", ""));
    assert_eq!(over.header("retry-after"), Some("1"));
    assert_eq!(second.get("/extensions").status, 200);
    instance.clock.advance(499);
    assert_eq!(first.get("/extensions").status, 429);
    instance.clock.advance(1);
    assert_eq!(first.get("/extensions").status, 200);
    assert_eq!(first.get("/extensions").status, 429);
}

#[test]
fn whoever_shows_wrong_tokens_waits_and_a_token_seen_to_be_right_does_not() {
    let gated = Gated::open();
    let (instance, _feed) = gated.start_without_feed(&[]);
    let right = Api::with(&instance, &gated, Role::Auditor, Some("org"));
    let late = Api::with(&instance, &gated, Role::Auditor, Some("org2"));
    let wrong = Api {
        instance: &instance,
        token: CANARY.into(),
    };
    assert_eq!(right.get("/extensions").status, 200);
    for n in 0..20 {
        assert_eq!(wrong.get("/extensions").status, 401, "{n}");
    }
    let lookups = gated.store.calls("token");
    for _ in 0..5 {
        let answer = wrong.get("/extensions");
        assert_eq!(refusal(&answer), refused(429, "rate-limited", ""));
        assert_eq!(answer.header("retry-after"), Some("1"));
    }
    assert_eq!(right.get("/extensions").status, 200);
    assert_eq!(gated.store.calls("token"), lookups, "waiting costs the store nothing");
    assert_eq!(late.get("/extensions").status, 429);
    instance.clock.advance(1_000);
    assert_eq!(late.get("/extensions").status, 200);
    assert_eq!(wrong.get("/extensions").status, 401);
    assert_eq!(wrong.get("/extensions").header("retry-after"), Some("2"));
}

/// Puts a slot's version and count where they would never get.
fn put(gated: &Gated, version: u64, rotation_count: u64) {
    let slot = Slot {
        owner: Owner::Organization(OrganizationId::parse("org").unwrap()),
        scope: Scope::Project,
        scope_id: ScopeId::parse("proj").unwrap(),
        key: SecretKey::parse("KEY").unwrap(),
    };
    let standing = gated.block_on(gated.store.slots(std::slice::from_ref(&slot))).unwrap();
    let row = standing.into_iter().next().unwrap();
    let replaced = row.meta.version;
    let mut meta = row.meta;
    meta.version = version;
    meta.rotation_count = rotation_count;
    let sealed = gated.keyring.seal(&slot, SecretKind::Value, version, b"v").unwrap();
    let row = SecretRow {
        meta,
        sealed,
        predecessor: None,
    };
    let change = Change {
        writes: vec![Write::Secret {
            row,
            expected: Some(replaced),
        }],
        entries: Vec::new(),
    };
    gated.block_on(gated.store.commit(change)).unwrap();
}

#[test]
fn a_counter_at_its_limit_is_told_and_nothing_wraps() {
    let gated = Gated::open();
    let instance = gated.start(&[]);
    let api = Api::bootstrap(&instance);
    api.json("POST", SECRETS, &secret("KEY", "v"));
    let exhausted = refused(409, "counter-exhausted", "");
    let rotation = json!({"scope": "project", "id": "proj", "organization_id": "org", "value": CANARY});
    let rotate = || api.json("POST", &format!("{SECRETS}/KEY/rotate"), &rotation);
    put(&gated, COUNT_MAX - 1, 7);
    assert_eq!(rotate().json()["version"], COUNT_MAX);
    assert_eq!(refusal(&rotate()), exhausted);
    assert_eq!(refusal(&api.json("POST", SECRETS, &secret("KEY", CANARY))), exhausted);
    assert_eq!(refusal(&api.delete(&at("KEY"))), exhausted);
    let place = json!({"scope": "project", "id": "proj", "organization_id": "org"});
    let rollback = || api.json("POST", &format!("{SECRETS}/KEY/rollback"), &place);
    assert_eq!(refusal(&rollback()), exhausted);
    let many = json!({"secrets": [secret("NEW", CANARY), secret("KEY", CANARY)]});
    assert_eq!(refusal(&api.json("POST", SECRETS, &many)), exhausted);
    assert_eq!(
        refusal(&api.get(&at("NEW"))),
        refused(404, "not-found", ""),
        "nothing half-written"
    );
    put(&gated, 9, COUNT_MAX - 1);
    assert_eq!(rotate().json()["rotation_count"], COUNT_MAX);
    assert_eq!(refusal(&rotate()), exhausted);
    assert_eq!(api.get(&at("KEY")).json()["version"], 10);
}

#[test]
fn rotations_that_race_all_count_and_with_if_match_one_wins() {
    const WRITERS: u64 = 4;
    let instance = Instance::with(Options::default());
    let api = Api::bootstrap(&instance);
    api.json("POST", SECRETS, &secret("KEY", "v"));
    let rotation = json!({"scope": "project", "id": "proj", "organization_id": "org", "value": "v"});
    let race = |insisting: Option<&str>| {
        let together = std::sync::Barrier::new(usize::try_from(WRITERS).unwrap());
        thread::scope(|scope| {
            let writers: Vec<_> = (0..WRITERS)
                .map(|_| {
                    scope.spawn(|| {
                        together.wait();
                        let path = format!("{SECRETS}/KEY/rotate");
                        let answer = match insisting {
                            None => api.json("POST", &path, &rotation),
                            Some(version) => api.json_at(version, "POST", &path, &rotation),
                        };
                        (answer.status, answer.json()["version"].clone())
                    })
                })
                .collect();
            writers
                .into_iter()
                .map(|writer| writer.join().unwrap())
                .collect::<Vec<_>>()
        })
    };
    let mut won: Vec<Value> = race(None)
        .into_iter()
        .map(|(status, version)| {
            assert_eq!(status, 200);
            version
        })
        .collect();
    won.sort_by_key(Value::as_u64);
    assert_eq!(json!(won), json!([2, 3, 4, 5]), "each is a version of its own");
    let insisted = race(Some("\"5\""));
    assert_eq!(
        insisted.iter().filter(|(status, _)| *status == 200).count(),
        1,
        "{insisted:?}"
    );
    assert_eq!(
        insisted.iter().filter(|(status, _)| *status == 412).count(),
        3,
        "{insisted:?}"
    );
    let now = api.get(&at("KEY")).json();
    assert_eq!(json!([now["version"], now["rotation_count"]]), json!([6, 5]));
}

#[test]
fn a_text_that_not_every_store_can_hold_is_refused_over_every_store() {
    let instance = Instance::start();
    let api = Api::bootstrap(&instance);
    for path in [
        "/secrets/audit?actor=a%00",
        "/secrets/audit?actor=%00&organization_id=org",
        "/marketplace/installations/ins%00",
        "/extensions/secrets/KEY%00?scope=project&id=p1&organization_id=org",
    ] {
        assert_eq!(refusal(&api.get(path)), refused(400, "malformed-request", ""), "{path}");
    }
    let ended = |path: &str| instance.api("DELETE", path, &Value::Null).status;
    assert_eq!(ended("/tokens/tok%00"), 400);
    instance.register("com.example.a", json!({"url": "https://ext.example.com"}), json!({}));
    let body = json!({
        "id": "ins", "extension_id": "com.example.a", "organization_id": "org", "project_id": "p1",
        "callback_url": "https://ext.example.com/\u{0}",
    });
    assert_eq!(instance.api("POST", "/marketplace/installations", &body).status, 422);
    for field in [
        json!({"webhook_url": "https://ext.example.com/\u{0}", "webhook_signing_key": "KEY"}),
        json!({"emails": ["ops\u{0}@example.com"]}),
    ] {
        assert_eq!(
            instance.api("PUT", "/organizations/org/policy", &field).status,
            422,
            "{field}"
        );
    }
}
