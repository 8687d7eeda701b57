//! Whether the audit chains count, link and survive.

use kiket_sidecar::crypto::chain::{ChainBreak, ChainKey, GENESIS, Link};
use kiket_sidecar::domain::audit::AuditEntry;
use kiket_sidecar::domain::scope::Scope;
use kiket_sidecar::store::{Change, LinkedEntry, SharedStore, StoreError};

use super::rows::{bare_entry, entry, organization, put_secret, slot};
use super::{Harness, chain_key};

async fn chain(store: &SharedStore, of: Option<&str>) -> Vec<LinkedEntry> {
    store.chain(of.map(organization).as_ref(), 1, 10_000).await.unwrap()
}

fn verify(key: &ChainKey, chain: &[LinkedEntry]) -> Result<[u8; 32], ChainBreak> {
    let part: Vec<(u64, &AuditEntry, Link)> = chain
        .iter()
        .map(|linked| (linked.sequence, &linked.entry, linked.link))
        .collect();
    key.verify(&GENESIS, 0, &part)
}

/// The entries in order, after the chain was found whole.
fn entries(key: &ChainKey, chain: &[LinkedEntry]) -> Vec<AuditEntry> {
    verify(key, chain).unwrap();
    chain.iter().map(|linked| linked.entry.clone()).collect()
}

pub async fn every_chain_counts_from_one_without_gaps_and_holds(harness: &impl Harness) {
    let key = chain_key();
    let store = harness.open(key.clone()).await;
    let mixed = vec![
        entry(Some("org_a"), 1),
        bare_entry(None, 2),
        bare_entry(Some("org_b"), 3),
        entry(Some("org_a"), 4),
    ];
    store.record(mixed).await.unwrap();
    let with_a_change = Change {
        writes: vec![put_secret(slot("org_a", Scope::Project, "proj", "KEY"))],
        entries: vec![entry(None, 5), entry(Some("org_a"), 6)],
    };
    store.commit(with_a_change).await.unwrap();
    store.record(vec![]).await.unwrap();
    let a = chain(&store, Some("org_a")).await;
    assert_eq!(a.iter().map(|linked| linked.sequence).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(entries(&key, &a), [1, 4, 6].map(|at| entry(Some("org_a"), at)));
    assert_eq!(
        entries(&key, &chain(&store, Some("org_b")).await),
        [bare_entry(Some("org_b"), 3)]
    );
    assert_eq!(
        entries(&key, &chain(&store, None).await),
        [bare_entry(None, 2), entry(None, 5)]
    );
    assert_eq!(chain(&store, Some("org")).await, []);
}

pub async fn entries_of_concurrent_writers_stand_in_one_unbroken_chain(harness: &impl Harness) {
    let key = chain_key();
    let store = harness.open(key.clone()).await;
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..8_u64 {
        let store = SharedStore::clone(&store);
        writers.spawn(async move {
            for n in 0..25 {
                let at = writer * 100 + n;
                let entries = vec![entry(Some("org"), at), entry(None, at)];
                if n % 2 == 0 {
                    store.record(entries).await.unwrap();
                } else {
                    let writes = vec![put_secret(slot("org", Scope::Project, "proj", &format!("K{at}")))];
                    store.commit(Change { writes, entries }).await.unwrap();
                }
            }
        });
    }
    writers.join_all().await;
    for of in [Some("org"), None] {
        let chain = chain(&store, of).await;
        assert_eq!(chain.len(), 200);
        let moments: Vec<u64> = entries(&key, &chain).iter().map(|entry| entry.at.0).collect();
        for writer in 0..8 {
            let own: Vec<u64> = moments.iter().copied().filter(|at| at / 100 == writer).collect();
            assert_eq!(
                own,
                (writer * 100..writer * 100 + 25).collect::<Vec<_>>(),
                "in each writer's order"
            );
        }
    }
}

pub async fn a_change_that_fails_leaves_no_entry(harness: &impl Harness) {
    let key = chain_key();
    let store = harness.open(key.clone()).await;
    let change = |at| Change {
        writes: vec![put_secret(slot("org", Scope::Project, "proj", "KEY"))],
        entries: vec![entry(Some("org"), at)],
    };
    store.commit(change(1)).await.unwrap();
    assert_eq!(store.commit(change(2)).await, Err(StoreError::Conflict));
    store.record(vec![entry(Some("org"), 3)]).await.unwrap();
    let kept = entries(&key, &chain(&store, Some("org")).await);
    assert_eq!(kept, [entry(Some("org"), 1), entry(Some("org"), 3)]);
}

pub async fn a_chain_goes_on_after_a_restart_and_is_read_from_any_position(harness: &impl Harness) {
    let key = chain_key();
    let store = harness.open(key.clone()).await;
    store
        .record((1..=3).map(|at| entry(Some("org"), at)).collect())
        .await
        .unwrap();
    drop(store);
    let store = harness.open(key.clone()).await;
    store
        .record((4..=5).map(|at| entry(Some("org"), at)).collect())
        .await
        .unwrap();
    let all = chain(&store, Some("org")).await;
    verify(&key, &all).unwrap();
    let part = async |from, limit| store.chain(Some(&organization("org")), from, limit).await.unwrap();
    assert_eq!(part(0, 10).await, all);
    assert_eq!(part(2, 3).await, all[1..4]);
    assert_eq!(part(5, 1).await, all[4..]);
    assert_eq!(part(6, 1).await, []);
    assert_eq!(part(1, 0).await, []);
}

pub async fn a_chain_does_not_hold_under_another_key_or_after_an_edit(harness: &impl Harness) {
    let key = chain_key();
    let store = harness.open(key.clone()).await;
    store
        .record((1..=4).map(|at| entry(Some("org"), at)).collect())
        .await
        .unwrap();
    assert_eq!(
        verify(&chain_key(), &chain(&store, Some("org")).await),
        Err(ChainBreak::Altered { sequence: 1 })
    );
    harness
        .damage("UPDATE audit SET actor_name = 'Eve' WHERE sequence = 3")
        .await;
    assert_eq!(
        verify(&key, &chain(&store, Some("org")).await),
        Err(ChainBreak::Altered { sequence: 3 })
    );
    harness.damage("DELETE FROM audit WHERE sequence = 2").await;
    assert_eq!(
        verify(&key, &chain(&store, Some("org")).await),
        Err(ChainBreak::Sequence { expected: 2 })
    );
}
