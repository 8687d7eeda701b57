//! Whether a rotation of keys that is killed in the middle goes on, and which keyring files a process starts with.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kiket_sidecar::crypto::keyring::Keyring;
use kiket_sidecar::domain::audit::{Actor, Asker, Source};
use kiket_sidecar::domain::id::{OrganizationId, ScopeId};
use kiket_sidecar::domain::key::SecretKey;
use kiket_sidecar::domain::scope::{Owner, Scope, Slot};
use kiket_sidecar::secrets::manage::{Content, NewSecret, SECRETS_PER_WRITE_MAX, SecretManager};
use kiket_sidecar::store;
use rustix::process::Signal;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use super::key_rotation::without;
use super::support::command::Shell;
use super::support::endpoint::Endpoint;
use super::support::instance::HandClock;
use super::support::process::{Home, Process, run};

/// Longer than anything takes; a test that hangs fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// Secrets that are put under the new key: more than is done between two looks.
const SECRETS: usize = 6_000;

/// How often the process is killed meanwhile.
const KILLS: usize = 3;

fn slot(n: usize) -> Slot {
    Slot {
        owner: Owner::Organization(OrganizationId::parse("org").unwrap()),
        scope: Scope::Project,
        scope_id: ScopeId::parse("proj").unwrap(),
        key: SecretKey::parse(&format!("KEY_{n}")).unwrap(),
    }
}

/// Writes the secrets, as a process would whose keyring this is.
async fn fill(url: &str, keyring: Keyring) {
    let keyring = Arc::new(keyring);
    let store = store::open(url, keyring.chain_key()).await.unwrap();
    let manager = SecretManager::new(store, keyring, Arc::new(HandClock::at(1_700_000_000_000)));
    let actor = Actor {
        id: "tok".into(),
        name: "tok".into(),
    };
    let asker = Asker {
        actor,
        source: Source::Api,
    };
    let secret = |n| NewSecret {
        slot: slot(n),
        content: Content::Value(SecretString::from(format!("value {n}"))),
        expires_at: None,
        contact: None,
    };
    for from in (0..SECRETS).step_by(SECRETS_PER_WRITE_MAX) {
        let some = (from..from + SECRETS_PER_WRITE_MAX).map(secret).collect();
        manager.set(&asker, some, None).await.unwrap();
    }
}

/// How many rows are under a key.
fn rows(process: &Process, id: &str) -> u64 {
    let keys = process.must("GET", "/keys", &Value::Null).json();
    let mut all = keys["data"].as_array().unwrap().iter();
    all.find(|key| key["id"] == id).unwrap()["rows_wrapped"]
        .as_u64()
        .unwrap()
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let asked = Instant::now();
    while !is_so() {
        assert!(asked.elapsed() < PATIENCE, "never: {what}");
    }
}

#[test]
fn a_rotation_that_is_killed_again_and_again_finishes_and_the_old_key_is_needed_until_then() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (home, endpoint) = (Arc::new(Home::new()), Endpoint::start());
    let file = home.path().join("master.key");
    let old = Keyring::read(&file).unwrap();
    let old_id = old.kek_infos()[0].id.to_string();
    let url = home.database.url();
    runtime.block_on(fill(&url, old));

    // Two phases: the key is added and everybody restarted, then it is promoted.
    let process = Process::spawn_in(Arc::clone(&home), home.serve(&[]));
    process.simple(&endpoint.url(), "the value");
    let added = Shell::of(&process).line("kiket keys add master.key");
    assert_eq!(added.code, Some(0), "{}", added.stderr);
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let both = fs::read_to_string(&file).unwrap();
    let infos = Keyring::parse(&both).unwrap().kek_infos();
    let new_id = infos.iter().find(|info| !info.is_active).unwrap().id.to_string();
    assert!(
        added.stdout.contains(&format!("kiket keys promote {new_id}")),
        "{}",
        added.stdout
    );
    let early = Shell::of(&process).line(&format!("kiket keys promote {new_id}"));
    assert_eq!(early.code, Some(4), "not loaded yet: {}", early.stdout);
    assert_eq!(process.stop().code, Some(0));

    let process = Process::spawn_in(Arc::clone(&home), home.serve(&[]));
    let promoted = Shell::of(&process).line(&format!("kiket keys promote {new_id}"));
    assert_eq!(promoted.code, Some(0), "{}", promoted.stderr);
    let total = u64::try_from(SECRETS).unwrap() + 1;
    let (mut left, mut running) = (total, process);
    for _ in 0..KILLS {
        until("some rows are under the new key", || rows(&running, &old_id) < left);
        running.signal(Signal::KILL);
        drop(running);
        let refused = home.write("without-old.key", &without(&both, &old_id));
        let refused = run(home.serve(&[("master_key_file", refused.to_str().unwrap())]));
        assert_eq!(refused.code, Some(2), "{}", refused.stderr);
        assert!(
            refused.stderr.contains(&old_id) && refused.stderr.contains("without-old.key"),
            "{}",
            refused.stderr
        );
        running = Process::spawn_in(Arc::clone(&home), home.serve(&[]));
        assert_eq!(running.deliver("ins", b"{}").status, 200, "in the middle, cold");
        let stayed = rows(&running, &old_id);
        assert!(stayed <= left, "nothing goes back");
        left = stayed;
    }
    until("all rows are under the new key", || rows(&running, &old_id) == 0);
    let shown = Shell::of(&running).line("kiket keys status");
    assert_eq!(shown.code, Some(0), "{}", shown.stderr);
    let of_new = shown.stdout.lines().find(|line| line.starts_with(&new_id)).unwrap();
    assert!(
        of_new.contains("active") && of_new.contains(&total.to_string()),
        "{of_new}"
    );

    let retired = Shell::of(&running).line(&format!("kiket keys retire {old_id} --yes"));
    assert_eq!(retired.code, Some(0), "{}", retired.stderr);
    assert!(
        retired
            .stdout
            .contains("remove its [[kek]] table from every keyring file"),
        "{}",
        retired.stdout
    );
    assert_eq!(running.stop().code, Some(0));
    home.write("master.key", &without(&both, &old_id));
    let last = Process::spawn_in(Arc::clone(&home), home.serve(&[]));
    assert_eq!(last.deliver("ins", b"{}").status, 200);
    let received = endpoint.received();
    assert!(
        received
            .iter()
            .all(|one| one.secret("KEY").as_deref() == Some("the value"))
    );
    assert_eq!(last.stop().code, Some(0));
    runtime.block_on(all_open(&url, &Keyring::read(&file).unwrap()));
}

/// Opens every secret with this keyring.
async fn all_open(url: &str, keyring: &Keyring) {
    let store = store::open(url, keyring.chain_key()).await.unwrap();
    let slots: Vec<Slot> = (0..SECRETS).map(slot).collect();
    let mut opened = 0;
    for some in slots.chunks(1_000) {
        for row in store.slots(some).await.unwrap() {
            let meta = &row.meta;
            let value = keyring.open(&meta.slot, meta.kind, meta.version, &row.sealed).unwrap();
            let number = meta.slot.key.as_str().strip_prefix("KEY_").unwrap();
            assert_eq!(value.expose_secret(), format!("value {number}"));
            assert_eq!(meta.version, 1, "no rotation");
            opened += 1;
        }
    }
    assert_eq!(opened, SECRETS);
}
