//! What many writers decide at the same moment: one of them, and the same for all.

use std::collections::BTreeSet;

use kiket_sidecar::domain::alert::AlertKind;
use kiket_sidecar::domain::audit::Actor;
use kiket_sidecar::domain::scope::Scope;
use kiket_sidecar::domain::time::Timestamp;
use kiket_sidecar::store::{
    Change, Finding, Notice, Page, ProviderRow, RequestRow, Role, SharedStore, StoreError, Tenancy, Write,
};
use tokio::sync::Barrier;

use super::providers::provider;
use super::rows::{change, entry, organization, slot, token};
use super::{Harness, chain_key};

/// How many write at the same moment, and how often it is tried.
const WRITERS: u64 = 8;
const ROUNDS: u64 = 10;

/// Commits that begin at the same moment; each with what became of it.
async fn together(store: &SharedStore, changes: Vec<Change>) -> Vec<Result<(), StoreError>> {
    let barrier = std::sync::Arc::new(Barrier::new(changes.len()));
    let mut writers = tokio::task::JoinSet::new();
    for change in changes {
        let (store, barrier) = (SharedStore::clone(store), std::sync::Arc::clone(&barrier));
        writers.spawn(async move {
            barrier.wait().await;
            store.commit(change).await
        });
    }
    writers.join_all().await
}

pub async fn of_alerts_that_say_the_same_at_once_one_is_raised(harness: &impl Harness) {
    let store = harness.open(chain_key()).await;
    let actor = Actor {
        id: "sidecar:a".into(),
        name: "a".into(),
    };
    for round in 1..=ROUNDS {
        let raise = |n: u64| {
            let place = slot("org", Scope::Project, "proj", "KEY");
            let finding = Finding::about(AlertKind::ReadAnomaly, &place, "many reads".into(), round.to_string());
            change([finding.raise(Timestamp(0), &actor, Timestamp(round * 1_000 + n))])
        };
        let results = together(&store, (0..WRITERS).map(raise).collect()).await;
        assert_eq!(results, [Ok(()); WRITERS as usize]);
        let page = Page { after: None, limit: 99 };
        let alerts = store.alerts(&Tenancy::Platform, false, &page).await.unwrap();
        let entries = store.chain(Some(&organization("org")), 1, 999).await.unwrap();
        let waiting = store.outbox_depth().await.unwrap().waiting;
        let raised = alerts.rows.len() as u64;
        assert_eq!((raised, entries.len() as u64, waiting), (round, round, round));
    }
}

pub async fn of_providers_that_become_the_default_at_once_one_does(harness: &impl Harness) {
    let store = harness.open(chain_key()).await;
    for round in 1..=ROUNDS {
        let of = round.to_string();
        let put = |n: u64| {
            let row = ProviderRow {
                is_default: true,
                ..provider(&of, &format!("p{n}"), 1)
            };
            change([Write::Provider { row, expected: None }])
        };
        let results = together(&store, (0..WRITERS).map(put).collect()).await;
        let refused = results.iter().filter(|result| **result == Err(StoreError::Conflict));
        assert_eq!(refused.count() as u64, WRITERS - 1, "{results:?}");
        assert_eq!(store.providers(&organization(&of)).await.unwrap().len(), 1);
    }
}

pub async fn of_the_last_operator_tokens_one_stays_however_many_are_removed_at_once(harness: &impl Harness) {
    let store = harness.open(chain_key()).await;
    for round in 1..=ROUNDS {
        let ids: Vec<String> = (0..WRITERS).map(|n| format!("tok_{round}_{n}")).collect();
        let rows = ids.iter().enumerate().map(|(n, id)| {
            let hash = u8::try_from(round * WRITERS).unwrap() + u8::try_from(n).unwrap();
            Write::Token(token(id, hash, Role::PlatformOperator, None))
        });
        let before: Vec<String> = operators(&store).await;
        store.commit(change(rows)).await.unwrap();
        let all = before.into_iter().chain(ids);
        let removals = all.map(|id| change([Write::TokenGone { id }])).collect();
        let results = together(&store, removals).await;
        let refused = results.iter().filter(|result| **result == Err(StoreError::Conflict));
        assert_eq!(refused.count(), 1, "{results:?}");
        assert_eq!(operators(&store).await.len(), 1);
    }
}

async fn operators(store: &SharedStore) -> Vec<String> {
    let page = Page { after: None, limit: 99 };
    let listed = store.tokens(&Tenancy::Platform, &page).await.unwrap();
    listed.rows.into_iter().map(|row| row.id).collect()
}

pub async fn a_notice_is_leased_to_one_of_those_who_ask_at_once(harness: &impl Harness) {
    let store = harness.open(chain_key()).await;
    for round in 1..=ROUNDS {
        let notices = (0..20).map(|n| {
            let alert = format!("alr_{round}_{n}");
            Write::Outbox(Notice::Alert { alert }.row(None, Timestamp(round)))
        });
        store.commit(change(notices)).await.unwrap();
        let barrier = std::sync::Arc::new(Barrier::new(4));
        let mut askers = tokio::task::JoinSet::new();
        for _ in 0..4 {
            let (store, barrier) = (SharedStore::clone(&store), std::sync::Arc::clone(&barrier));
            askers.spawn(async move {
                barrier.wait().await;
                store.lease_outbox(Timestamp(round), Timestamp(u64::MAX >> 1), 10).await
            });
        }
        let leased: Vec<_> = askers.join_all().await.into_iter().flat_map(Result::unwrap).collect();
        let ids: BTreeSet<_> = leased.iter().map(|row| row.id.clone()).collect();
        assert_eq!((leased.len(), ids.len()), (20, 20), "each once, and all of them");
        assert!(leased.iter().all(|row| row.attempts == 1));
    }
}

pub async fn a_named_request_is_one_of_those_that_come_at_once(harness: &impl Harness) {
    let store = harness.open(chain_key()).await;
    for round in 1..=ROUNDS {
        let begin = |_| {
            let row = RequestRow {
                id: [7; 32],
                asked: [1; 32],
                answer: None,
                created_at: Timestamp(round * 10), // those of the rounds before have ended
                expires_at: Timestamp(round * 10 + 5),
            };
            change([Write::Request(row)])
        };
        let results = together(&store, (0..WRITERS).map(begin).collect()).await;
        let begun = results.iter().filter(|result| result.is_ok()).count();
        let known = results.iter().filter(|result| **result == Err(StoreError::Conflict));
        assert_eq!((begun, known.count() as u64), (1, WRITERS - 1), "{results:?}");
    }
}

pub async fn a_chain_that_many_begin_at_once_has_one_beginning(harness: &impl Harness) {
    let store = harness.open(chain_key()).await;
    for round in 1..=ROUNDS {
        let chain = format!("org_{round}");
        // Two chains, so that the entries of a writer wait for nobody else's.
        let begin = |n| {
            let mut begun = change([Write::Outbox(
                Notice::Alert {
                    alert: format!("{chain}-{n}"),
                }
                .row(None, Timestamp(1)),
            )]);
            begun.entries = vec![entry(Some(&chain), n), entry(None, n)];
            begun
        };
        let results = together(&store, (0..WRITERS).map(begin).collect()).await;
        assert_eq!(results, [Ok(()); WRITERS as usize]);
        let linked = store.chain(Some(&organization(&chain)), 1, 99).await.unwrap();
        let sequences: Vec<u64> = linked.iter().map(|linked| linked.sequence).collect();
        assert_eq!(sequences, (1..=WRITERS).collect::<Vec<_>>());
    }
}

pub async fn writers_that_hold_what_the_other_waits_for_both_get_through(harness: &impl Harness) {
    let store = harness.open(chain_key()).await;
    let ids = ["one", "two"];
    let rows = ids
        .iter()
        .zip(1..)
        .map(|(id, hash)| Write::Token(token(id, hash, Role::Auditor, Some("org"))));
    store.commit(change(rows)).await.unwrap();
    for round in 1..=ROUNDS {
        let use_all = |ids: [&str; 2]| {
            change(ids.map(|id| Write::TokenUsed {
                id: id.into(),
                at: Timestamp(round),
            }))
        };
        let crosswise = (0..WRITERS).map(|n| use_all(if n % 2 == 0 { ids } else { [ids[1], ids[0]] }));
        let results = together(&store, crosswise.collect()).await;
        assert_eq!(results, [Ok(()); WRITERS as usize]);
    }
}
