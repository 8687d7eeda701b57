//! How a new version of a value that stands elsewhere is noted: once, told to whoever wants to hear it, never again.

use serde_json::{Value, json};

use super::super::support::endpoint::Endpoint;
use super::super::support::gated_store::Gated;
use super::super::support::referred::{Backend, Condition, PATH, VaultBackend};
use super::{Stage, TTL, vault, vault_with};

/// A reference to KV version 1, which keeps no versions.
const NAMELESS: &str = "vault:kv/kiket/org/crm#value";

fn put_nameless(backend: &VaultBackend, value: &str) {
    backend
        .vault
        .root(|root| root.put("kv", PATH, json!({ "value": value })));
}

/// Two instances of a fleet over one store and one Vault; the second delivers what the first was furnished with.
fn fleet(gated: &Gated) -> [Stage<VaultBackend>; 2] {
    let backend = VaultBackend::start();
    backend.put("the first value");
    put_nameless(&backend, "the first value");
    let first = Stage::furnish(gated.start(&[]), Box::new(backend));
    let second = Stage {
        instance: gated.start(&[]),
        endpoint: Endpoint::start(),
        backend: Box::new(VaultBackend::start()), // nobody asks it
        _still: None,
    };
    [first, second]
}

impl Stage<VaultBackend> {
    /// What an installation gets from this instance of a fleet, whose endpoint is the first one's.
    fn status(&self, installation: &str) -> u16 {
        self.deliver(installation).status
    }
}

#[test]
fn a_rotation_in_the_backend_is_a_rotation_here_and_told() {
    let stage = vault_with(&[]);
    let told = Endpoint::start();
    let callback = json!({"url": told.url(), "rotation_webhook": true, "signing_secret_key": "SIGN"});
    stage.instance.set("organization", "org", "SIGN", "a signing secret");
    stage
        .instance
        .register("com.example.told", callback, json!({"KEY": {"secret": true}}));
    stage.instance.install("told", "com.example.told");
    stage.instance.enable("told");
    assert_eq!(stage.outcome("required"), "the first value");
    assert_eq!(
        (&stage.secret()["version"], &stage.secret()["rotation_count"]),
        (&json!(1), &json!(0))
    );
    stage.backend.put("the second value");
    stage.outcome("required");
    stage.instance.clock.advance(TTL);
    stage.until("the new value is delivered", || {
        stage.outcome("required") == "the second value"
    });
    let secret = stage.secret();
    assert_eq!((&secret["version"], &secret["rotation_count"]), (&json!(2), &json!(1)));
    assert!(secret["last_rotated_at"].is_string());
    assert_eq!(secret["external_secret_name"], stage.backend.reference());
    let entries = stage.entries("secret.rotate");
    assert_eq!(entries.len(), 1);
    assert_eq!(
        (&entries[0]["source"], &entries[0]["external"], &entries[0]["version"]),
        (&json!("refresh"), &json!(true), &json!(2))
    );
    let actor = entries[0]["actor_id"].as_str().unwrap();
    assert!(actor.starts_with("sidecar:"), "{actor}");
    // Looked at again, it is the same version.
    for _ in 0..3 {
        stage.instance.clock.advance(TTL);
        let reads = stage.backend.reads().len();
        stage.until("it is looked at again", || {
            stage.outcome("required");
            stage.backend.reads().len() > reads
        });
    }
    assert_eq!(stage.secret()["version"], 2);
    let loads = stage.entries("secret.load");
    let last = &loads[0];
    assert_eq!((&last["external"], &last["source"]), (&json!(true), &json!("refresh")));
}

#[test]
fn a_fleet_notes_each_rotation_once_and_nobody_takes_it_for_unusual_reading() {
    for nameless in [false, true] {
        let gated = Gated::open();
        let [first, second] = fleet(&gated);
        if nameless {
            first.link(NAMELESS);
        }
        let linked = first.secret()["version"].as_u64().unwrap();
        let counted = first.secret()["rotation_count"].as_u64().unwrap();
        let rotations = 30;
        assert_eq!((first.status("required"), second.status("required")), (200, 200));
        for n in 1..=rotations {
            let value = format!("value {n}");
            if nameless {
                put_nameless(&first.backend, &value);
            } else {
                first.backend.put(&value);
            }
            for stage in [&first, &second] {
                stage.status("required");
                stage.instance.clock.advance(TTL);
            }
            for stage in [&first, &second] {
                first.until("both deliver the new value", || {
                    assert_eq!(stage.status("required"), 200);
                    first.endpoint.last().secret("KEY").as_deref() == Some(value.as_str())
                });
            }
            assert_eq!(first.secret()["version"], linked + n, "nameless: {nameless}");
        }
        let secret = first.secret();
        assert_eq!(secret["rotation_count"], counted + rotations, "nameless: {nameless}");
        assert_eq!(first.alerts("read-anomaly"), [Value::Null; 0]);
    }
}

#[test]
fn a_rotation_while_nobody_ran_is_noted_by_the_next_who_looks_if_one_was_noted_before() {
    let gated = Gated::open();
    let [first, second] = fleet(&gated);
    assert_eq!(first.status("required"), 200);
    first.backend.put("the second value");
    assert_eq!(first.refresh().status, 200);
    assert_eq!(first.secret()["version"], 2);
    first.backend.put("the third value");
    assert_eq!(second.status("required"), 200, "it has never seen any of them");
    assert_eq!(first.endpoint.last().secret("KEY").as_deref(), Some("the third value"));
    assert_eq!(first.secret()["version"], 3);
}

#[test]
fn a_reference_is_fetched_now_for_whoever_asks_and_the_next_delivery_has_it() {
    let stage = vault();
    assert_eq!(stage.outcome("required"), "the first value");
    stage.backend.put("the second value");
    assert_eq!(stage.outcome("required"), "the first value", "it is fresh");
    let answer = stage.refresh();
    assert_eq!(answer.status, 200);
    assert_eq!(
        (&answer.json()["version"], &answer.json()["external"]),
        (&json!(2), &json!(true))
    );
    let reads = stage.backend.reads().len();
    assert_eq!(stage.outcome("required"), "the second value");
    assert_eq!(stage.backend.reads().len(), reads, "what was fetched is delivered");
    assert_eq!(stage.refresh().json()["version"], 2, "nothing new");
    let recorded: Vec<Value> = stage
        .entries("secret.refresh")
        .iter()
        .map(|entry| entry["outcome"].clone())
        .collect();
    assert_eq!(recorded, [json!("ok"), json!("ok")]);
    for (condition, status, problem, delivered) in [
        (
            Condition::Dangling,
            409,
            "dangling-reference",
            "424 required-secrets-missing",
        ),
        (
            Condition::Denied,
            409,
            "reference-denied",
            "503 secret-source-unavailable",
        ),
    ] {
        let stage = vault();
        assert_eq!(stage.outcome("required"), "the first value");
        stage.backend.arrange(condition);
        let answer = stage.refresh();
        assert_eq!((answer.status, answer.problem().as_str()), (status, problem));
        assert_eq!(stage.outcome("required"), delivered, "its use ends with that");
        assert_eq!(stage.entries("secret.refresh")[0]["outcome"], "failed");
    }
    stage.backend.arrange(Condition::Sealed);
    let answer = stage.refresh();
    assert_eq!(
        (answer.status, answer.problem().as_str()),
        (503, "secret-source-unavailable")
    );
    assert!(answer.header("retry-after").is_some() && answer.json()["detail"].as_str().unwrap().ends_with("sealed"));
    assert_eq!(stage.outcome("required"), "the second value", "it stands in");
}

#[test]
fn what_was_noted_of_a_value_does_not_come_back_with_a_rollback() {
    let stage = vault();
    assert_eq!(stage.outcome("required"), "the first value");
    stage.backend.put("the second value");
    assert_eq!(stage.refresh().status, 200);
    stage.instance.set("project", "proj", "KEY", "a stored value");
    assert_eq!(stage.outcome("required"), "a stored value");
    stage.backend.put("the third value");
    stage
        .instance
        .must("POST", "/extensions/secrets/KEY/rollback", &super::place());
    let version = stage.secret()["version"].clone();
    assert_eq!(stage.outcome("required"), "the third value");
    assert_eq!(stage.secret()["version"], version, "bringing it back was the rotation");
}
