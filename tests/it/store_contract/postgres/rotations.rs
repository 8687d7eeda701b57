//! What becomes of one key that everybody rotates at once, through the use case and from two instances.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use kiket_sidecar::audit::Verifier;
use kiket_sidecar::crypto::keyring::Keyring;
use kiket_sidecar::domain::audit::{Action, Actor, Source};
use kiket_sidecar::domain::scope::Scope;
use kiket_sidecar::domain::time::Timestamp;
use kiket_sidecar::secrets::manage::{Asker, Content, ManageError, NewSecret, Overlap, SecretManager};
use kiket_sidecar::store::{SharedStore, StoreError};
use secrecy::SecretString;

use super::super::Harness;
use super::super::rows::{organization, slot};
use super::Postgres;
use crate::support::instance::HandClock;

const WRITERS: u64 = 64;
const ROTATIONS: u64 = 1_000;

/// Longer than it takes; a test that hangs fails.
const PATIENCE: Duration = Duration::from_secs(240);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_thousand_rotations_by_sixty_four_writers_none_is_lost() {
    let harness = Postgres::fresh();
    let keyring = Arc::new(Keyring::generate(Timestamp(1)).unwrap());
    let stores = [
        harness.open(keyring.chain_key()).await,
        harness.open(keyring.chain_key()).await,
    ];
    let clock = Arc::new(HandClock::at(1_700_000_000_000));
    let managers = stores.each_ref().map(|store| {
        let (store, keyring, clock) = (SharedStore::clone(store), Arc::clone(&keyring), Arc::clone(&clock));
        Arc::new(SecretManager::new(store, keyring, clock))
    });
    let asker = Asker {
        actor: Actor {
            id: "tok".into(),
            name: "tok".into(),
        },
        source: Source::Api,
    };
    let place = slot("org", Scope::Project, "proj", "KEY");
    let value = |text: String| NewSecret {
        slot: place.clone(),
        content: Content::Value(SecretString::from(text)),
        expires_at: None,
        contact: None,
    };
    managers[0]
        .set(&asker, vec![value("first".into())], None)
        .await
        .unwrap();
    let (left, overtaken) = (Arc::new(AtomicI64::new(ROTATIONS as i64)), Arc::new(AtomicU64::new(0)));
    let began = Instant::now();
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let manager = Arc::clone(&managers[(writer % 2) as usize]);
        let (left, overtaken) = (Arc::clone(&left), Arc::clone(&overtaken));
        let (asker, new) = (asker.clone(), value(format!("of {writer}")));
        writers.spawn(async move {
            let mut acknowledged = 0_u64;
            while left.fetch_sub(1, Ordering::Relaxed) > 0 {
                loop {
                    let again = NewSecret {
                        slot: new.slot.clone(),
                        content: Content::Value(SecretString::from(format!("of {writer}: {acknowledged}"))),
                        expires_at: None,
                        contact: None,
                    };
                    match manager.rotate(&asker, again, Overlap::Keep, None).await {
                        Ok(_) => break acknowledged += 1,
                        // What the API says with 409 and 503: nothing happened, ask again.
                        Err(ManageError::Conflict | ManageError::Store(StoreError::Unavailable)) => {
                            overtaken.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(error) => panic!("{error}"),
                    }
                }
            }
            acknowledged
        });
    }
    let all = tokio::time::timeout(PATIENCE, writers.join_all()).await.expect("hangs");
    let acknowledged: u64 = all.iter().sum();
    let took = began.elapsed();
    let figure = format!("rotations: {acknowledged} of one key in {took:?}; {overtaken:?} times asked again\n");
    std::io::stdout().write_all(figure.as_bytes()).unwrap();
    assert_eq!(acknowledged, ROTATIONS);
    let row = stores[0].slots(std::slice::from_ref(&place)).await.unwrap().remove(0);
    assert_eq!((row.meta.version, row.meta.rotation_count), (1 + ROTATIONS, ROTATIONS));
    let reports = Verifier::new(&keyring).unwrap().verify_all(&stores[1]).await.unwrap();
    assert!(reports.iter().all(|report| report.finding.is_none()), "{reports:?}");
    let chain = stores[0].chain(Some(&organization("org")), 1, 2_000).await.unwrap();
    let rotated = chain
        .iter()
        .filter(|linked| linked.entry.action == Action::SecretRotate);
    let versions: Vec<u64> = rotated.filter_map(|linked| linked.entry.version).collect();
    assert!(
        versions.into_iter().eq(2..=1 + ROTATIONS),
        "one entry for each, in order"
    );
    assert_eq!(
        stores[0].outbox_depth().await.unwrap().waiting,
        ROTATIONS,
        "one notice for each"
    );
}
