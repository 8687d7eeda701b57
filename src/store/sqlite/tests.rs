//! What a connection that is made otherwise would do: be refused, or find no space.
#![allow(clippy::unwrap_used, reason = "tests")]

use tempfile::TempDir;

use super::*;
use crate::crypto::chain::GENESIS;
use crate::crypto::keyring::Keyring;
use crate::domain::audit::{Action, Actor, Source};

fn entry(at: u64) -> AuditEntry {
    let actor = Actor {
        id: "x".repeat(1_000),
        name: String::new(),
    };
    AuditEntry::of(None, Timestamp(at), actor, Action::InstanceStart, Source::Api)
}

#[tokio::test]
async fn a_connection_of_the_store_is_durable_and_any_weaker_one_is_refused() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("kiket.db");
    create(&path).unwrap();
    let base = options(&path);
    for (options, expected) in [
        (base.clone(), Ok(())),
        (
            base.clone().synchronous(SqliteSynchronous::Normal),
            Err(OpenError::NotDurable),
        ),
        (
            base.clone().synchronous(SqliteSynchronous::Off),
            Err(OpenError::NotDurable),
        ),
        (base.journal_mode(SqliteJournalMode::Delete), Err(OpenError::NotDurable)),
    ] {
        let mut connection = options.connect().await.unwrap();
        assert_eq!(assert_durable(&mut connection).await, expected);
        connection.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_full_database_says_so_keeps_what_it_has_and_goes_on_when_there_is_space() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("kiket.db");
    let chain = Keyring::generate(Timestamp(1)).unwrap().chain_key();
    let store = SqliteStore::open(&path, chain.clone()).await.unwrap();
    let used: i64 = sqlx::query_scalar("PRAGMA page_count")
        .fetch_one(&store.readers)
        .await
        .unwrap();
    drop(store.writer);
    let narrow = options(&path).pragma("max_page_count", (used + 8).to_string());
    let small = Writer::start(
        narrow.connect().await.unwrap(),
        chain.clone(),
        store.wake.clone(),
        Some(Arc::new(File::open(&path).unwrap())),
    );
    let mut recorded = 0;
    let full = loop {
        match small.record(vec![entry(recorded + 1)]).await {
            Ok(()) => recorded += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(full, StoreError::Full);
    assert!((1..100).contains(&recorded), "{recorded}");
    assert_eq!(small.record((1..50).map(entry).collect()).await, Err(StoreError::Full));
    drop(small);
    let wide = Writer::start(
        options(&path).connect().await.unwrap(),
        chain.clone(),
        store.wake.clone(),
        Some(Arc::new(File::open(&path).unwrap())),
    );
    wide.record(vec![entry(recorded + 1)]).await.unwrap();
    let linked = audit::chain(&store.readers, None, 1, 1_000).await.unwrap();
    let part: Vec<_> = linked
        .iter()
        .map(|link| (link.sequence, &link.entry, link.link))
        .collect();
    chain.verify(&GENESIS, 0, &part).unwrap();
    let moments: Vec<u64> = linked.iter().map(|link| link.entry.at.0).collect();
    assert_eq!(moments, (1..=recorded + 1).collect::<Vec<_>>());
}
