//! The suite over SQLite with the store around it that tells of uses and notices: it must change nothing.

use kiket_sidecar::crypto::chain::ChainKey;
use kiket_sidecar::domain::audit::{Action, AuditEntry};
use kiket_sidecar::domain::scope::Scope;
use kiket_sidecar::domain::time::Timestamp;
use kiket_sidecar::store::{Change, Notice, SharedStore, Sightings, StoreError, Watched, Write};

use super::rows::{bare_entry, slot};
use super::sqlite::Sqlite;
use super::{Harness, chain_key, store_contract};

store_contract!(WatchedSqlite);

struct WatchedSqlite(Sqlite);

impl Harness for WatchedSqlite {
    fn fresh() -> Self {
        Self(Sqlite::fresh())
    }

    async fn open(&self, chain: ChainKey) -> SharedStore {
        Watched::around(self.0.open(chain).await).0
    }

    async fn damage(&self, sql: &'static str) {
        self.0.damage(sql).await;
    }
}

/// That a key of `acme` was read.
fn read(key: &str, at: u64) -> AuditEntry {
    let entry = AuditEntry {
        action: Action::SecretGet,
        ..bare_entry(Some("acme"), at)
    };
    entry.about(&slot("acme", Scope::Project, "p1", key), 1, false)
}

/// Whether nothing is there to be told.
async fn is_silent(sightings: &Sightings) -> bool {
    tokio::select! {
        biased;
        _ = sightings.next_use() => false,
        () = sightings.next_notice() => false,
        () = std::future::ready(()) => true,
    }
}

#[tokio::test]
async fn a_use_is_told_once_for_each_key_and_a_notice_when_it_is_stored() {
    let harness = Sqlite::fresh();
    let (store, sightings) = Watched::around(harness.open(chain_key()).await);
    store
        .record(vec![read("A", 1), read("B", 2), read("A", 3)])
        .await
        .unwrap();
    let mut told = Vec::new();
    for _ in 0..2 {
        let (key, at) = sightings.next_use().await;
        told.push((key.key.to_string(), at.0));
    }
    assert_eq!(told, [("A".into(), 3), ("B".into(), 2)], "in order, with the last use");
    assert!(is_silent(&sightings).await);
    let notice = Notice::Alert { alert: "alr_1".into() }.row(None, Timestamp(1));
    let conflicting = Change {
        writes: vec![
            Write::Outbox(notice.clone()),
            Write::AlertAcknowledged {
                id: "none".into(),
                by: "x".into(),
                at: Timestamp(1),
            },
        ],
        entries: vec![read("C", 4)],
    };
    assert_eq!(store.commit(conflicting).await, Err(StoreError::Conflict));
    assert!(is_silent(&sightings).await);
    let change = Change {
        writes: vec![Write::Outbox(notice)],
        entries: vec![read("C", 4)],
    };
    store.commit(change).await.unwrap();
    sightings.next_notice().await;
    assert_eq!(sightings.next_use().await.0.key.as_str(), "C");
}
