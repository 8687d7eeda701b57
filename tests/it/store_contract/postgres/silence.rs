//! Whether a value is anywhere that the server writes: its tables, its journal, its log with every parameter.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kiket_sidecar::crypto::keyring::Keyring;
use kiket_sidecar::domain::audit::{Actor, Source};
use kiket_sidecar::domain::scope::Scope;
use kiket_sidecar::domain::time::Timestamp;
use kiket_sidecar::secrets::manage::{Asker, Content, NewSecret, Overlap, SecretManager};
use kiket_sidecar::store::{self, SharedStore};
use secrecy::SecretString;
use tempfile::TempDir;

use super::super::rows::slot;
use super::super::sqlite::{CANARY, found};
use crate::support::instance::HandClock;
use crate::support::postgres::{Cluster, ClusterOptions, Database};

/// Every file below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.is_file() {
            found.push(path);
        }
    }
    found
}

/// All that the server has written so far.
fn written(database: &Database, folder: &Path) -> Vec<PathBuf> {
    database.run("CHECKPOINT");
    let log = folder.join("server.log");
    fs::write(&log, database.cluster().log.text()).unwrap();
    let mut all = files(&database.cluster().data());
    all.push(log);
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_is_nowhere_that_the_server_writes_in_no_readable_form() {
    let cluster = Cluster::start(ClusterOptions::default());
    let (database, folder) = (cluster.database(), TempDir::new().unwrap());
    let name = database.name();
    database.run(&format!(
        "ALTER DATABASE {name} SET log_statement = 'all'; ALTER DATABASE {name} SET log_parameter_max_length = -1"
    ));
    let keyring = Arc::new(Keyring::generate(Timestamp(1)).unwrap());
    let store = store::open(&database.url(), keyring.chain_key()).await.unwrap();
    let clock = Arc::new(HandClock::at(1_700_000_000_000));
    let manager = SecretManager::new(SharedStore::clone(&store), keyring, clock);
    let asker = Asker {
        actor: Actor {
            id: "tok".into(),
            name: "tok".into(),
        },
        source: Source::Api,
    };
    let scope_id = "the-plain-scope-id";
    let place = slot("org", Scope::Project, scope_id, "KEY");
    let value = |text: &str| NewSecret {
        slot: place.clone(),
        content: Content::Value(SecretString::from(text)),
        expires_at: None,
        contact: None,
    };
    manager.set(&asker, vec![value(CANARY)], None).await.unwrap();
    let rotated = manager
        .rotate(&asker, value("another value"), Overlap::Keep, None)
        .await;
    rotated.unwrap();
    let sealed = store.slots(std::slice::from_ref(&place)).await.unwrap()[0]
        .sealed
        .clone();
    let all = written(&database, folder.path());
    assert_eq!(found(&all, CANARY), [""; 0]);
    let plain = found(&all, scope_id);
    for of in ["raw in server.log", "raw in 00000001"] {
        let is_reached = plain.iter().any(|hit| hit.starts_with(of));
        assert!(
            is_reached,
            "the search does not reach what was just written: {of} in {plain:?}"
        );
    }
    let table = plain.iter().any(|hit| {
        hit.rsplit(' ')
            .next()
            .unwrap()
            .bytes()
            .all(|byte| byte.is_ascii_digit())
    });
    assert!(table, "the search does not reach the tables: {plain:?}");
    let parameters = cluster.log.text().contains(&data_encoding::HEXLOWER.encode(&sealed));
    assert!(parameters, "the log does not hold what was sealed");
    manager.delete(&asker, &place, None).await.unwrap();
    drop((manager, store));
    assert_eq!(found(&written(&database, folder.path()), CANARY), [""; 0]);
}
