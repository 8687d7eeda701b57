//! Whether the change feed tells everything, in order, from wherever a reader stands.

use kiket_sidecar::domain::change::Changed;
use kiket_sidecar::domain::scope::{Scope, Slot};
use kiket_sidecar::store::{Change, FeedPosition, Role, SharedStore, StoreError, Write};

use super::rows::{change, entry, extension, installation, put_extension, put_installation, put_secret, slot, token};
use super::{Harness, chain_key};

fn place(n: u32) -> Slot {
    slot("org", Scope::Project, "proj", &format!("K{n}"))
}

async fn put(store: &SharedStore, n: u32) {
    store.commit(change([put_secret(place(n))])).await.unwrap();
}

/// Reads on until nothing comes any more. Changes may repeat: each is kept where it came first.
async fn read_on(store: &SharedStore, position: &mut FeedPosition) -> Vec<Changed> {
    let mut told = Vec::new();
    loop {
        let (changes, reached) = store.changes(position.clone()).await.unwrap();
        *position = reached;
        if changes.is_empty() {
            return told;
        }
        for changed in changes {
            if !told.contains(&changed) {
                told.push(changed);
            }
        }
    }
}

pub async fn every_change_is_told_in_commit_order(harness: &impl Harness) {
    let store = harness.open(chain_key()).await;
    let mut position = FeedPosition::default();
    assert_eq!(read_on(&store, &mut position).await, []);
    let partner = slot("", Scope::Extension, "com.example.a", "KEY");
    put(&store, 1).await;
    let writes = [
        put_extension("com.example.a"),
        put_installation("ins", "org"),
        put_secret(partner.clone()),
        Write::Token(token("tok", 1, Role::Auditor, Some("org"))),
    ];
    store.commit(change(writes)).await.unwrap();
    put(&store, 2).await;
    let expected = [
        Changed::Secret(place(1)),
        Changed::Extension(extension("com.example.a", 1).id),
        Changed::Installation(installation("ins", "org", 1).installation.id),
        Changed::Secret(partner),
        Changed::Tokens,
        Changed::Secret(place(2)),
    ];
    assert_eq!(read_on(&store, &mut position).await, expected);
    assert_eq!(read_on(&store, &mut FeedPosition::default()).await, expected);
}

pub async fn a_position_outlives_a_restart_and_misses_nothing(harness: &impl Harness) {
    let key = chain_key();
    let store = harness.open(key.clone()).await;
    put(&store, 1).await;
    let mut position = FeedPosition::default();
    read_on(&store, &mut position).await;
    put(&store, 2).await;
    drop(store);
    let store = harness.open(key).await;
    put(&store, 3).await;
    let told = read_on(&store, &mut position).await;
    let behind = told
        .iter()
        .position(|changed| *changed == Changed::Secret(place(2)))
        .unwrap();
    assert_eq!(told[behind..], [Changed::Secret(place(2)), Changed::Secret(place(3))]);
}

pub async fn a_reader_that_reads_on_is_told_nothing_twice_and_nothing_of_a_failed_change(harness: &impl Harness) {
    let store = harness.open(chain_key()).await;
    let mut position = FeedPosition::default();
    put(&store, 1).await;
    assert_eq!(read_on(&store, &mut position).await, [Changed::Secret(place(1))]);
    let failing = change([put_secret(place(2)), put_secret(place(1))]);
    assert_eq!(store.commit(failing).await, Err(StoreError::Conflict));
    store.record(vec![entry(None, 1)]).await.unwrap();
    assert_eq!(read_on(&store, &mut position).await, []);
    put(&store, 3).await;
    assert_eq!(read_on(&store, &mut position).await, [Changed::Secret(place(3))]);
}

pub async fn concurrent_changes_are_all_told_to_a_reader_that_reads_along(harness: &impl Harness) {
    let store = harness.open(chain_key()).await;
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..4 {
        let store = SharedStore::clone(&store);
        writers.spawn(async move {
            for n in 0..50 {
                put(&store, writer * 100 + n).await;
            }
        });
    }
    let (mut position, mut told) = (FeedPosition::default(), Vec::new());
    let mut wake = store.wake();
    while told.len() < 200 {
        wake.borrow_and_update();
        for changed in read_on(&store, &mut position).await {
            if !told.contains(&changed) {
                told.push(changed);
            }
        }
        if told.len() < 200 {
            wake.changed().await.unwrap();
        }
    }
    writers.join_all().await;
    for writer in 0..4 {
        let own: Vec<usize> = (0..50)
            .map(|n| {
                let changed = Changed::Secret(place(writer * 100 + n));
                told.iter().position(|candidate| *candidate == changed).unwrap()
            })
            .collect();
        assert!(own.is_sorted(), "each writer's commits come in their order");
    }
}

pub async fn a_commit_wakes_whoever_waits(harness: &impl Harness) {
    let store = harness.open(chain_key()).await;
    let mut wakes = [store.wake(), store.wake()];
    put(&store, 1).await;
    for wake in &mut wakes {
        wake.changed().await.unwrap();
        let (told, _) = store.changes(FeedPosition::default()).await.unwrap();
        assert_eq!(told, [Changed::Secret(place(1))], "what wakes can be read");
    }
    let with_entries = Change {
        entries: vec![entry(None, 1)],
        ..change([put_secret(place(2))])
    };
    store.commit(with_entries).await.unwrap();
    wakes[0].changed().await.unwrap();
}
