//! How long writers wait for each other: not for ever, and never for another organization's.

use std::time::Instant;

use kiket_sidecar::domain::time::Timestamp;
use kiket_sidecar::store::{Role, SharedStore, StoreError, Write};
use sqlx::{Connection, Executor};

use super::super::rows::{change, entry, organization, token};
use super::super::{Harness, chain_key};
use super::Postgres;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chain_that_somebody_holds_is_unavailable_after_a_while_and_no_other_waits_for_it() {
    let harness = Postgres::fresh();
    let store = harness.open(chain_key()).await;
    store.record(vec![entry(Some("held"), 1)]).await.unwrap();
    let mut holder = harness.0.raw().await;
    let hold = "BEGIN; SELECT 1 FROM chain_heads WHERE chain = 'held' FOR UPDATE";
    holder.execute(hold).await.unwrap();
    let waiting: Vec<_> = (2..40)
        .map(|at| {
            let store = SharedStore::clone(&store);
            tokio::spawn(async move { store.record(vec![entry(Some("held"), at)]).await })
        })
        .collect();
    let began = Instant::now();
    for at in 1..=50 {
        store.record(vec![entry(Some("other"), at)]).await.unwrap();
        store
            .record(vec![entry(None, at), entry(Some("third"), at)])
            .await
            .unwrap();
    }
    assert!(
        waiting.iter().any(|waiting| !waiting.is_finished()),
        "{:?}",
        began.elapsed()
    );
    let mut refused = 0;
    for waiting in waiting {
        refused += u32::from(waiting.await.unwrap() == Err(StoreError::Unavailable));
    }
    assert!(refused > 0, "whoever waits too long is told so");
    holder.execute("ROLLBACK").await.unwrap();
    holder.close().await.unwrap();
    store.record(vec![entry(Some("held"), 99)]).await.unwrap();
    let linked = store.chain(Some(&organization("held")), 1, 999).await.unwrap();
    let moments: Vec<u64> = linked.iter().map(|linked| linked.entry.at.0).collect();
    assert_eq!(moments.len() as u32, 1 + (38 - refused) + 1, "{moments:?}");
    assert_eq!((moments[0], moments[moments.len() - 1]), (1, 99));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_that_the_server_ended_for_anothers_sake_tries_again() {
    let harness = Postgres::fresh();
    let store = harness.open(chain_key()).await;
    let rows = [1, 2].map(|n| Write::Token(token(&format!("tok_{n}"), n, Role::Auditor, Some("org"))));
    store.commit(change(rows)).await.unwrap();
    // Holds the second, while the store holds the first and waits for the second: then asks for the first.
    let mut other = harness.0.raw().await;
    other.execute("SET deadlock_timeout = '20s'").await.unwrap(); // so it is the store that is ended, after its second
    other
        .execute("BEGIN; UPDATE tokens SET last_used_at = 1 WHERE id = 'tok_2'")
        .await
        .unwrap();
    let used = [1, 2].map(|n| Write::TokenUsed {
        id: format!("tok_{n}"),
        at: Timestamp(7),
    });
    let committing = {
        let store = SharedStore::clone(&store);
        tokio::spawn(async move { store.commit(change(used)).await })
    };
    let mut watching = harness.0.raw().await;
    let is_waiting = "SELECT EXISTS (SELECT 1 FROM pg_stat_activity WHERE datname = current_database() \
                      AND wait_event_type = 'Lock')";
    while !sqlx::query_scalar::<_, bool>(is_waiting)
        .fetch_one(&mut watching)
        .await
        .unwrap()
    {}
    other
        .execute("UPDATE tokens SET last_used_at = 2 WHERE id = 'tok_1'; COMMIT")
        .await
        .unwrap();
    assert_eq!(committing.await.unwrap(), Ok(()));
    let deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
    let counted = async {
        // Counted a moment after it happened.
        while sqlx::query_scalar::<_, i64>(deadlocks)
            .fetch_one(&mut watching)
            .await
            .unwrap()
            == 0
        {
            watching.execute("SELECT pg_stat_clear_snapshot()").await.unwrap();
        }
    };
    let counted = tokio::time::timeout(super::super::PATIENCE, counted).await;
    counted.expect("nobody was ended: nothing was shown");
    for n in [1, 2] {
        let row = store.token_by_id(&format!("tok_{n}")).await.unwrap().unwrap();
        assert_eq!(row.last_used_at, Some(Timestamp(7)));
    }
}
