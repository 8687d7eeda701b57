//! Whether a kill in the middle of writes loses anything that was acknowledged, or leaves half of anything behind.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use kiket_sidecar::audit::Verifier;
use kiket_sidecar::crypto::keyring::Keyring;
use kiket_sidecar::domain::audit::Action;
use kiket_sidecar::domain::id::{OrganizationId, ScopeId};
use kiket_sidecar::domain::key::SecretKey;
use kiket_sidecar::domain::scope::{Owner, Scope, Slot};
use kiket_sidecar::store::{self, SharedStore};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::support::captured::PATIENCE;
use super::support::http::request;
use super::support::process::{Home, Process};

/// How often the process is killed, and where long runs are asked for.
const KILLS: u64 = 100;
const KILLS_FULL: u64 = 200;

/// Each writes two keys at a time, all or none.
const WRITERS: usize = 4;

fn keys_of(writer: usize) -> [String; 2] {
    ["A", "B"].map(|which| format!("KEY_{writer}_{which}"))
}

fn organization() -> OrganizationId {
    OrganizationId::parse("org").unwrap()
}

/// Writes on and on until the process is gone; tells the version of each write that was acknowledged.
fn write_on(process: &Process, writer: usize, acknowledged: &mpsc::Sender<(usize, u64)>, stop: &AtomicBool) {
    let authorization = format!("Bearer {}", process.token);
    let headers = [
        ("Authorization", authorization.as_str()),
        ("Content-Type", "application/json"),
    ];
    let secret = |key: &String| json!({"scope": "project", "id": "proj", "organization_id": "org", "key": key, "value": "a value"});
    let body = json!({"secrets": keys_of(writer).iter().map(secret).collect::<Vec<_>>()});
    let bytes = request(
        "POST",
        "/api/v1/extensions/secrets",
        &headers,
        body.to_string().as_bytes(),
    );
    while !stop.load(Ordering::SeqCst) {
        let Some(answer) = whole_answer(process.admin, &bytes) else {
            return;
        };
        let version = answer["data"][0]["version"].as_u64();
        let version = version.unwrap_or_else(|| panic!("refused: {answer}"));
        let _ = acknowledged.send((writer, version)); // nobody counts any more
    }
}

/// The document that a request is answered with, if all of it arrives.
fn whole_answer(admin: SocketAddr, bytes: &[u8]) -> Option<Value> {
    let mut stream = TcpStream::connect(admin).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(bytes).ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?; // a connection ends with its answer
    let body = answer.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    serde_json::from_slice(&answer[body..]).ok()
}

/// Versions of the keys as they stand, after the chains were found whole, and an entry for each version of each key.
async fn versions(store: &SharedStore, keyring: &Keyring) -> BTreeMap<String, u64> {
    let reports = Verifier::new(keyring).unwrap().verify_all(store).await.unwrap();
    assert!(reports.iter().all(|report| report.finding.is_none()), "{reports:?}");
    let slot = |key: String| Slot {
        owner: Owner::Organization(organization()),
        scope: Scope::Project,
        scope_id: ScopeId::parse("proj").unwrap(),
        key: SecretKey::parse(&key).unwrap(),
    };
    let slots: Vec<Slot> = (0..WRITERS).flat_map(keys_of).map(slot).collect();
    let rows = store.slots(&slots).await.unwrap();
    let standing: BTreeMap<String, u64> = rows
        .iter()
        .map(|row| (row.meta.slot.key.to_string(), row.meta.version))
        .collect();
    let mut recorded: BTreeMap<String, u64> = BTreeMap::new();
    let mut from = 1;
    loop {
        let page = store.chain(Some(&organization()), from, 1_000).await.unwrap();
        let Some(last) = page.last() else { break };
        from = last.sequence + 1;
        for entry in page.into_iter().map(|linked| linked.entry) {
            if matches!(entry.action, Action::SecretCreate | Action::SecretRotate) {
                let version = recorded.entry(entry.key.unwrap().to_string()).or_default();
                *version += 1;
                assert_eq!(entry.version, Some(*version), "one entry for each version, in order");
            }
        }
    }
    assert_eq!(
        recorded, standing,
        "no write without its entry, no entry without its write"
    );
    standing
}

#[test]
fn a_kill_in_the_middle_of_writes_loses_nothing_acknowledged_and_no_entry() {
    let is_full = std::env::var("KIKET_TEST_SCALE").is_ok_and(|scale| scale == "full");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let home = Arc::new(Home::new());
    let keyring = Keyring::parse(&std::fs::read_to_string(home.path().join("master.key")).unwrap()).unwrap();
    let mut acknowledged: BTreeMap<usize, u64> = BTreeMap::new();
    let (mut total, mut in_flight) = (0, 0);
    for kill in 0..if is_full { KILLS_FULL } else { KILLS } {
        let command = home.serve(&[]);
        let process = Process::spawn_in(Arc::clone(&home), command);
        let (sender, receiver) = mpsc::channel();
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            for writer in 0..WRITERS {
                let (process, sender, stop) = (&process, sender.clone(), &stop);
                scope.spawn(move || write_on(process, writer, &sender, stop));
            }
            // After so many acknowledged writes, whatever is under way is cut.
            for _ in 0..=kill % 7 {
                let (writer, version) = receiver.recv_timeout(PATIENCE).expect("a write is acknowledged");
                acknowledged.insert(writer, version);
                total += 1;
            }
            // Or a little later, so that kills fall at every point of the next one.
            let later = Duration::from_micros(kill * 97 % 2_000);
            if let Ok((writer, version)) = receiver.recv_timeout(later) {
                acknowledged.insert(writer, version);
                total += 1;
            }
            process.signal(Signal::KILL);
            stop.store(true, Ordering::SeqCst);
        });
        drop((process, sender));
        for (writer, version) in receiver {
            acknowledged.insert(writer, version);
            total += 1;
        }
        home.database.released();
        let standing = runtime.block_on(async {
            // As the next one would.
            let store = store::open(&home.database.url(), keyring.chain_key()).await.unwrap();
            versions(&store, &keyring).await
        });
        home.database.released();
        for (writer, version) in &acknowledged {
            let [a, b] = keys_of(*writer).map(|key| standing[&key]);
            assert_eq!(a, b, "both or none");
            assert!(
                a == *version || a == version + 1,
                "{a} after {version} was acknowledged"
            );
            in_flight += u64::from(a > *version);
            // What stands although nobody was told is the next acknowledged write's predecessor.
        }
        acknowledged = acknowledged
            .into_keys()
            .map(|writer| (writer, standing[&keys_of(writer)[0]]))
            .collect();
    }
    assert!(
        in_flight > 0,
        "of {total} writes none was cut before its answer: kills fall between them"
    );
}
