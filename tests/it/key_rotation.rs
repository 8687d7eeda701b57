//! Whether key-encryption keys rotate under a running fleet: promoted by rule, followed at once, re-wrapped, retired.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use kiket_sidecar::clock::Clock;
use kiket_sidecar::config::Role;
use kiket_sidecar::crypto::envelope;
use kiket_sidecar::crypto::keyring::{KeyId, Keyring};
use kiket_sidecar::domain::audit::{Actor, Asker, Source};
use kiket_sidecar::domain::id::{OrganizationId, ScopeId};
use kiket_sidecar::domain::key::SecretKey;
use kiket_sidecar::domain::scope::{Owner, Scope, Slot};
use kiket_sidecar::domain::time::Timestamp;
use kiket_sidecar::keys::{Keks, LOOK_AGAIN_MILLIS};
use kiket_sidecar::secrets::manage::{Content, NewSecret, SecretManager};
use kiket_sidecar::store::{self, SharedStore};
use secrecy::SecretString;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::support::endpoint::Endpoint;
use super::support::gated_store::Gated;
use super::support::http::Answer;
use super::support::instance::{HandClock, Instance, Options, set_mode};
use super::support::postgres::Database;

/// Longer than anything takes; a test that hangs fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// Secrets that are put under another key while deliveries run: some pages.
const SECRETS: usize = 300;

/// Keyring files of a rotation: with the old key, with both, with the new one. The others are the same throughout.
struct Files {
    old: String,
    both: String,
    new: String,
    old_id: String,
    new_id: String,
}

impl Files {
    fn make() -> Self {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("master.key");
        let old = Keyring::generate(Timestamp(1_700_000_000_000)).unwrap();
        let old_id = old.kek_infos()[0].id.to_string();
        std::fs::write(&path, &*old.to_toml()).unwrap();
        set_mode(&path, 0o600);
        let new_id = Keyring::add_kek(&path, None, Timestamp(1_700_000_001_000))
            .unwrap()
            .to_string();
        let both = std::fs::read_to_string(&path).unwrap();
        Self {
            new: without(&both, &old_id),
            old: old.to_toml().to_string(),
            both,
            old_id,
            new_id,
        }
    }
}

/// A keyring file less one of its keys.
pub fn without(file: &str, id: &str) -> String {
    let named = format!("id = \"{id}\"");
    let tables: Vec<&str> = file.split("\n[[").filter(|table| !table.contains(&named)).collect();
    tables.join("\n[[")
}

fn join(database: &Database, keyring: &str, role: &str) -> Instance {
    try_join(database, keyring, role).unwrap()
}

fn try_join(database: &Database, keyring: &str, role: &str) -> Result<Instance, String> {
    let started = Instance::try_with(Options {
        settings: &[("database_url", &database.url()), ("role", role)],
        keyring: Some(Keyring::parse(keyring).unwrap()),
        ..Options::default()
    });
    started.map_err(|error| error.to_string())
}

fn promote(instance: &Instance, id: &str) -> Answer {
    instance.api("POST", &format!("/keys/{id}/promote"), &Value::Null)
}

fn retire(instance: &Instance, id: &str) -> Answer {
    instance.api("DELETE", &format!("/keys/{id}"), &Value::Null)
}

/// How a key stands.
fn key(instance: &Instance, id: &str) -> Value {
    let keys = instance.must("GET", "/keys", &Value::Null);
    let mut all = keys["data"].as_array().unwrap().iter();
    all.find(|key| key["id"] == id).cloned().unwrap_or(Value::Null)
}

fn until(what: &str, is_so: impl Fn() -> bool) {
    let asked = Instant::now();
    while !is_so() {
        assert!(asked.elapsed() < PATIENCE, "never: {what}");
    }
}

fn detail(answer: &Answer) -> (u16, String, String) {
    let detail = answer.json()["detail"].as_str().unwrap_or_default().to_owned();
    (answer.status, answer.problem(), detail)
}

#[test]
fn a_rotation_under_running_deliveries_fails_none_and_the_old_key_is_not_needed_afterwards() {
    let (files, database, endpoint) = (Files::make(), Database::fresh(), Endpoint::start());
    let admin = join(&database, &files.both, "admin");
    admin.simple(&endpoint.url());
    admin.set("organization", "org", "KEY", "the value");
    for n in 0..SECRETS / 100 {
        let secret = |k: usize| json!({"scope": "project", "id": "proj", "organization_id": "org", "key": format!("K{n}_{k}"), "value": "v"});
        let many = json!({"secrets": (0..100).map(secret).collect::<Vec<_>>()});
        admin.must("POST", "/extensions/secrets", &many);
    }
    let proxies = [(); 2].map(|()| join(&database, &files.both, "proxy"));
    let is_over = AtomicBool::new(false);
    let delivered = thread::scope(|scope| {
        let counts = proxies.each_ref().map(|proxy| {
            let is_over = &is_over;
            scope.spawn(move || {
                let mut count = 0;
                while !is_over.load(Ordering::SeqCst) {
                    assert_eq!(proxy.deliver("ins", b"{}").status, 200);
                    count += 1;
                }
                count
            })
        });
        let promoted = promote(&admin, &files.new_id);
        assert_eq!(promoted.status, 200, "{}", promoted.json());
        until("no row is under the old key", || {
            key(&admin, &files.old_id)["rows_wrapped"] == 0
        });
        // Every delivery is a cold one for a while: another value, sealed under the new key.
        for n in 0..10 {
            admin.set("organization", "org", "KEY", &format!("value {n}"));
        }
        let retired = retire(&admin, &files.old_id);
        assert_eq!(retired.status, 200, "{}", retired.json());
        is_over.store(true, Ordering::SeqCst);
        counts.map(|count| count.join().unwrap())
    });
    assert!(delivered.iter().all(|count| *count > 10), "{delivered:?}");
    assert_eq!(key(&admin, &files.new_id)["rows_wrapped"], SECRETS + 1);
    assert_eq!(key(&admin, &files.old_id)["state"], "retired");

    let later = join(&database, &files.new, "proxy");
    let before = endpoint.received().len();
    assert_eq!(later.deliver("ins", b"{}").status, 200);
    assert_eq!(
        endpoint.received()[before..].last().unwrap().secret("KEY").as_deref(),
        Some("value 9")
    );
    let log = admin.must("GET", "/secrets/audit?action=key.promote", &Value::Null);
    assert_eq!(log["data"][0]["scope_id"], files.new_id.as_str(), "{log}");
}

#[test]
fn a_promotion_is_refused_while_a_live_instance_lacks_the_key_and_then_followed_by_all_at_once() {
    let (files, database) = (Files::make(), Database::fresh());
    let first = join(&database, &files.both, "all");
    let second = join(&database, &files.old, "all");
    let (status, problem, said) = detail(&promote(&first, &files.new_id));
    assert_eq!((status, problem.as_str()), (409, "key-not-loaded"));
    let lacking = key(&first, &files.new_id)["missing_on"].clone();
    assert_eq!(lacking.as_array().unwrap().len(), 1);
    assert!(said.contains(lacking[0].as_str().unwrap()), "{said}");
    let (_, problem, said) = detail(&promote(&second, &files.new_id));
    assert_eq!(problem, "key-not-loaded", "nor by the one that lacks it: {said}");
    assert_eq!(key(&second, &files.old_id)["active"], true, "nothing happened");
    second.running.drain();
    second.running.wait();

    let third = join(&database, &files.both, "all");
    assert_eq!(promote(&first, &files.new_id).status, 200);
    let promoted = Instant::now();
    // What it seals is under the new key as soon as it has learnt.
    until("the other instance seals under the new key", || {
        third.set("project", "proj", "KEY", "v");
        key(&third, &files.old_id)["rows_wrapped"] == 0
    });
    assert!(promoted.elapsed() < Duration::from_secs(5), "hangs");
    let refused = try_join(&database, &files.old, "proxy").err().unwrap();
    assert!(
        refused.contains(&files.new_id) && refused.contains("master_key_file"),
        "{refused}"
    );
    assert_eq!(promote(&first, &files.new_id).status, 200, "it is active already");
    assert_eq!(promote(&first, "kek-unknown").status, 404);
    assert_eq!(retire(&first, "kek-unknown").status, 404);
}

#[test]
fn an_instance_that_was_not_seen_for_a_minute_holds_no_promotion_up() {
    let (files, database) = (Files::make(), Database::fresh());
    let first = join(&database, &files.both, "all");
    let second = join(&database, &files.old, "all");
    first.clock.advance(59_000);
    assert_eq!(promote(&first, &files.new_id).problem(), "key-not-loaded");
    second.clock.advance(59_000);
    until("the second was seen", || {
        first.clock.advance(10_000);
        second.clock.advance(10_000);
        key(&first, &files.new_id)["missing_on"].as_array().unwrap().len() == 1
    });
    second.running.stop_now(); // as if it was killed: it does not say that it goes
    first.clock.advance(61_000);
    assert_eq!(key(&first, &files.new_id)["missing_on"], json!([]));
    assert_eq!(promote(&first, &files.new_id).status, 200);
}

#[test]
fn two_files_that_each_got_a_key_of_one_name_do_not_go_together() {
    let (files, database) = (Files::make(), Database::fresh());
    let other = Keyring::generate(Timestamp(1)).unwrap().to_toml().to_string();
    let material = |text: &str, id: &str| {
        let (_, table) = text.split_once(&format!("id = \"{id}\"")).unwrap();
        table
            .lines()
            .find(|line| line.starts_with("key = "))
            .unwrap()
            .to_owned()
    };
    let other_id = Keyring::parse(&other).unwrap().kek_infos()[0].id.to_string();
    let impostor = files
        .both
        .replace(&material(&files.both, &files.new_id), &material(&other, &other_id));
    let first = join(&database, &files.both, "all");
    let second = join(&database, &impostor, "all");
    assert_eq!(promote(&first, &files.new_id).problem(), "key-not-loaded");
    drop(second);
    first.clock.advance(61_000);
    assert_eq!(promote(&first, &files.new_id).status, 200);
    let refused = try_join(&database, &impostor, "all").err().unwrap();
    assert!(refused.contains("another one of this name"), "{refused}");
}

#[test]
fn a_row_that_does_not_open_is_left_shown_and_alerted_to_and_keeps_its_key_from_being_retired() {
    let files = Files::make();
    let gated = Gated::over(Keyring::parse(&files.both).unwrap());
    let instance = gated.start(&[]);
    for key in ["GOOD", "BAD", "ALSO_GOOD"] {
        instance.set("project", "proj", key, "value");
    }
    instance.set("project", "proj", "GOOD", "a second value"); // with a predecessor
    assert_eq!(retire(&instance, &files.old_id).problem(), "key-active");
    assert_eq!(
        retire(&instance, &files.new_id).problem(),
        "key-active",
        "none was promoted"
    );
    let damaged = gated
        .damage("UPDATE secrets SET sealed = CAST(substr(sealed, 1, 30) || x'00' || substr(sealed, 32) AS BLOB) WHERE key = 'BAD'");
    assert_eq!(damaged, 1);
    assert_eq!(promote(&instance, &files.new_id).status, 200);
    until("one row is left", || {
        let old = key(&instance, &files.old_id);
        old["rows_wrapped"] == 1 && old["unreadable"] == 1
    });
    assert_eq!(key(&instance, &files.old_id)["state"], "re-wrapping");
    let (status, problem, said) = detail(&retire(&instance, &files.old_id));
    assert_eq!((status, problem.as_str()), (409, "key-in-use"));
    assert!(
        said.contains("1 rows") && said.contains("1 of them do not open"),
        "{said}"
    );
    let alerts = instance.must("GET", "/secrets/alerts", &Value::Null);
    let of_row = alerts["data"].as_array().unwrap().iter();
    let of_row: Vec<_> = of_row.filter(|alert| alert["key"] == "BAD").collect();
    assert_eq!(of_row.len(), 1, "{alerts}");
    instance.must(
        "POST",
        "/extensions/secrets/BAD/rotate",
        &json!({"scope": "project", "id": "proj", "organization_id": "org", "value": "v", "revoke_now": true}),
    );
    let retired = retire(&instance, &files.old_id);
    assert_eq!(retired.status, 200, "{}", retired.json());
    assert_eq!(retired.json()["retired"], true);
    assert!(retired.json()["next_step"].as_str().unwrap().contains("keyring file"));
    assert_eq!(retire(&instance, &files.old_id).status, 200, "it is retired already");
    assert_eq!(promote(&instance, &files.old_id).problem(), "key-retired");
}

#[test]
fn what_somebody_writes_to_the_table_of_keys_is_not_followed_and_raised() {
    let files = Files::make();
    let gated = Gated::over(Keyring::parse(&files.both).unwrap());
    let instance = gated.start(&[]);
    assert_eq!(promote(&instance, &files.new_id).status, 200);
    let forged = format!(
        "UPDATE keks SET promotion = 2, promoted_at = 5 WHERE id = '{}'; INSERT INTO changes (kind) VALUES ('keys')",
        files.old_id
    );
    gated.damage(&forged);
    let is_alerted = |what: &str| {
        let alerts = instance.must("GET", "/secrets/alerts", &Value::Null)["data"].clone();
        let mut rows = alerts.as_array().unwrap().iter();
        rows.any(|alert| {
            let says = alert["detail"].as_str().is_some_and(|detail| detail.contains(what));
            says && alert["kind"] == "integrity-failure" && alert["scope_id"] == "keks"
        })
    };
    until("the forgery is alerted to", || is_alerted("does not authenticate"));
    instance.set("project", "proj", "KEY", "value");
    let under = |id: &str| {
        gated.block_on(async {
            let store = &gated.store;
            store::Store::wrapped_count(&**store, &envelope::head(&id_of(id)))
                .await
                .unwrap()
        })
    };
    assert_eq!(
        (under(&files.old_id), under(&files.new_id)),
        (0, 1),
        "the key seals that did"
    );
    assert_eq!(instance.api("GET", "/keys", &Value::Null).status, 500);
    let refused = Instance::try_with(Options {
        store: Some(Arc::clone(&gated.store) as SharedStore),
        keyring: Some(Keyring::parse(&files.both).unwrap()),
        ..Options::default()
    });
    let refused = refused.err().unwrap().to_string();
    assert!(refused.contains("does not authenticate"), "{refused}");
    // Nor is an older table, every row of which was authentic once.
    gated.damage("DELETE FROM keks; INSERT INTO changes (kind) VALUES ('keys')");
    until("the table that was set back is alerted to", || {
        is_alerted("was set back")
    });
    instance.set("project", "proj", "KEY", "another value");
    assert_eq!(under(&files.new_id), 1);
}

fn id_of(id: &str) -> KeyId {
    KeyId::parse(id).unwrap()
}

/// One instance's use cases over a store, without anything that runs beside them.
struct Quiet {
    keks: Keks,
    secrets: SecretManager,
}

impl Quiet {
    fn over(store: &SharedStore, keyring: &str, clock: &Arc<HandClock>) -> Self {
        let keyring = Arc::new(Keyring::parse(keyring).unwrap());
        let clock = Arc::clone(clock) as Arc<dyn Clock>;
        let actor = asker().actor;
        Self {
            secrets: SecretManager::new(Arc::clone(store), Arc::clone(&keyring), Arc::clone(&clock)),
            keks: Keks::new(Arc::clone(store), keyring, clock, actor, Role::All, [0; 4]),
        }
    }

    async fn set(&self, key: &str, expected: Option<u64>) {
        let new = NewSecret {
            slot: slot(key),
            content: Content::Value(SecretString::from("value")),
            expires_at: None,
            contact: None,
        };
        self.secrets.set(&asker(), vec![new], expected).await.unwrap();
    }
}

fn asker() -> Asker {
    Asker {
        actor: Actor {
            id: "tok".into(),
            name: "tok".into(),
        },
        source: Source::Api,
    }
}

fn slot(key: &str) -> Slot {
    Slot {
        owner: Owner::Organization(OrganizationId::parse("org").unwrap()),
        scope: Scope::Project,
        scope_id: ScopeId::parse("proj").unwrap(),
        key: SecretKey::parse(key).unwrap(),
    }
}

#[tokio::test]
async fn whoever_has_not_heard_of_a_retirement_seals_again_under_the_key_that_is_active() {
    let (files, dir) = (Files::make(), TempDir::new().unwrap());
    let url = format!("sqlite:{}/kiket.db", dir.path().display());
    let chain = Keyring::parse(&files.both).unwrap().chain_key();
    let store = store::open(&url, chain).await.unwrap();
    let clock = Arc::new(HandClock::at(1_700_000_100_000));
    let [first, behind] = [(); 2].map(|()| Quiet::over(&store, &files.both, &clock));
    behind.set("REPLACED", None).await;
    first.keks.promote(&asker(), &files.new_id).await.unwrap();
    behind.set("BETWEEN", None).await;
    let head = |id: &str| envelope::head(&id_of(id));
    let (old, new) = (head(&files.old_id), head(&files.new_id));
    assert_eq!(
        store.wrapped_count(&old).await,
        Ok(2),
        "it has not heard of the promotion"
    );
    let stop = tokio_util::sync::CancellationToken::new();
    let rewrapping = first.keks.rewrap(stop.clone());
    let done = async {
        while store.wrapped_count(&old).await.unwrap() > 0 {
            clock.advance(LOOK_AGAIN_MILLIS);
            tokio::task::yield_now().await;
        }
        stop.cancel();
    };
    tokio::join!(rewrapping, done);
    first.keks.retire(&asker(), &files.old_id).await.unwrap();
    behind.set("AFTER", None).await;
    behind.set("REPLACED", Some(1)).await;
    assert_eq!(store.wrapped_count(&old).await, Ok(0));
    assert_eq!(store.wrapped_count(&new).await, Ok(3));
}

#[test]
fn a_key_that_is_lost_with_rows_under_it_is_stood_in_for_until_they_are_written_anew() {
    let files = Files::make();
    let gated = Gated::over(Keyring::parse(&files.both).unwrap());
    let store = Arc::clone(&gated.store) as SharedStore;
    let clock = Arc::new(HandClock::at(1_700_000_100_000));
    // Nobody puts rows under the new key meanwhile.
    gated.block_on(async {
        let quiet = Quiet::over(&store, &files.both, &clock);
        quiet.set("LOST", None).await;
        quiet.keks.promote(&asker(), &files.new_id).await.unwrap();
        quiet.set("KEPT", None).await;
    });
    let start = |keyring: &str| {
        Instance::try_with(Options {
            store: Some(Arc::clone(&store)),
            keyring: Some(Keyring::parse(keyring).unwrap()),
            ..Options::default()
        })
    };
    let refused = start(&files.new).err().unwrap().to_string();
    assert!(
        refused.contains(&files.old_id) && refused.contains("1 rows"),
        "{refused}"
    );

    let dir = TempDir::new().unwrap();
    let path = dir.path().join("master.key");
    std::fs::write(&path, files.new.replace("active = false", "active = true")).unwrap();
    set_mode(&path, 0o600);
    Keyring::add_kek(&path, Some(id_of(&files.old_id)), Timestamp(1_700_000_200_000)).unwrap();
    let stood_in = start(&std::fs::read_to_string(&path).unwrap()).unwrap();
    until("the row that does not open is shown", || {
        key(&stood_in, &files.old_id)["unreadable"] == 1
    });
    assert_eq!(
        promote(&stood_in, &files.old_id).problem(),
        "key-not-loaded",
        "not the one that it was"
    );
    stood_in.must(
        "POST",
        "/extensions/secrets/LOST/rotate",
        &json!({"scope": "project", "id": "proj", "organization_id": "org", "value": "v", "revoke_now": true}),
    );
    assert_eq!(retire(&stood_in, &files.old_id).status, 200);
    drop(stood_in);
    assert!(start(&files.new).is_ok());
}
