//! Whether a change happens whole or not at all, and only over the versions that it expects.

use kiket_sidecar::domain::scope::{Scope, Slot};
use kiket_sidecar::domain::secret::SecretKind;
use kiket_sidecar::store::{Change, FeedPosition, Role, SharedStore, StoreError, Write};

use super::rows::{
    bare, change, entry, extension, installation, organization, put_extension, put_installation, put_secret, secret,
    slot, token,
};
use super::{Harness, chain_key};

fn place(key: &str) -> Slot {
    slot("org", Scope::Project, "proj", key)
}

pub async fn a_row_that_was_written_is_read_back_as_it_was(harness: &impl Harness) {
    let store = harness.open(chain_key()).await;
    let rows = [
        secret(place("FULL"), 7),
        bare(place("BARE"), SecretKind::Placeholder, 1),
        secret(slot("", Scope::Extension, "com.example.a", "PARTNER"), 1),
    ];
    let mut writes = vec![put_extension("com.example.a"), put_installation("ins", "org")];
    writes.extend(rows.iter().map(|row| Write::Secret {
        row: row.clone(),
        expected: None,
    }));
    let stored = token("tok", 1, Role::Auditor, Some("org"));
    writes.push(Write::Token(stored.clone()));
    store.commit(change(writes)).await.unwrap();

    for row in &rows {
        let found = store.slots(std::slice::from_ref(&row.meta.slot)).await.unwrap();
        assert_eq!(found, std::slice::from_ref(row));
    }
    let snapshot = store
        .installation(&installation("ins", "org", 1).installation.id)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(snapshot.installation, installation("ins", "org", 1));
    assert_eq!(snapshot.extension, extension("com.example.a", 1));
    assert_eq!(
        store.extension(&snapshot.extension.id).await,
        Ok(Some(snapshot.extension))
    );
    assert_eq!(store.token(&[1; 32]).await, Ok(Some(stored)));
}

pub async fn rows_outlive_the_store_that_wrote_them(harness: &impl Harness) {
    let key = chain_key();
    let store = harness.open(key.clone()).await;
    store.commit(change([put_secret(place("KEY"))])).await.unwrap();
    drop(store);
    let store = harness.open(key).await;
    assert_eq!(store.slots(&[place("KEY")]).await.unwrap(), [secret(place("KEY"), 1)]);
}

pub async fn a_change_with_one_conflict_writes_nothing_at_all(harness: &impl Harness) {
    let store = harness.open(chain_key()).await;
    store.commit(change([put_secret(place("TAKEN"))])).await.unwrap();
    let (_, position) = store.changes(FeedPosition::default()).await.unwrap();
    let good = [
        put_extension("com.example.a"),
        put_installation("ins", "org"),
        put_secret(place("NEW")),
        Write::Token(token("tok", 1, Role::PlatformOperator, None)),
    ];
    for at in 0..=good.len() {
        let mut writes = good.to_vec();
        writes.insert(at, put_secret(place("TAKEN")));
        let conflicting = Change {
            writes,
            entries: vec![entry(Some("org"), 1), entry(None, 2)],
        };
        assert_eq!(store.commit(conflicting).await, Err(StoreError::Conflict), "at {at}");
        assert_eq!(store.extension(&extension("com.example.a", 1).id).await, Ok(None));
        assert_eq!(
            store.installation(&installation("ins", "org", 1).installation.id).await,
            Ok(None)
        );
        assert_eq!(store.slots(&[place("NEW")]).await, Ok(vec![]));
        assert_eq!(store.token(&[1; 32]).await, Ok(None));
        assert_eq!(store.chain(Some(&organization("org")), 1, 10).await, Ok(vec![]));
        assert_eq!(store.chain(None, 1, 10).await, Ok(vec![]));
        assert_eq!(store.changes(position.clone()).await.unwrap().0, []);
    }
    store.commit(change(good)).await.unwrap(); // none of it had stayed in the way
}

pub async fn an_insert_conflicts_with_what_is_there_and_a_replacement_with_any_other_version(harness: &impl Harness) {
    let store = harness.open(chain_key()).await;
    let write = |kind: &str, version: u64, expected: Option<u64>| match kind {
        "extension" => Write::Extension {
            row: extension("com.example.a", version),
            expected,
        },
        "installation" => Write::Installation {
            row: installation("ins", "org", version),
            expected,
        },
        _ => Write::Secret {
            row: secret(place("KEY"), version),
            expected,
        },
    };
    for kind in ["extension", "installation", "secret"] {
        let commit = |version, expected| store.commit(change([write(kind, version, expected)]));
        assert_eq!(
            commit(2, Some(1)).await,
            Err(StoreError::Conflict),
            "{kind}: nothing there"
        );
        assert_eq!(commit(1, None).await, Ok(()), "{kind}");
        assert_eq!(
            commit(1, None).await,
            Err(StoreError::Conflict),
            "{kind}: there already"
        );
        for wrong in [0, 2, u64::MAX >> 1] {
            assert_eq!(
                commit(2, Some(wrong)).await,
                Err(StoreError::Conflict),
                "{kind}: {wrong}"
            );
        }
        assert_eq!(commit(2, Some(1)).await, Ok(()), "{kind}");
        assert_eq!(commit(3, Some(1)).await, Err(StoreError::Conflict), "{kind}: overtaken");
        assert_eq!(commit(3, Some(2)).await, Ok(()), "{kind}");
    }
    // A tombstone is a row: it is replaced, not inserted over.
    let tombstone = Write::Secret {
        row: bare(place("KEY"), SecretKind::Tombstone, 4),
        expected: Some(3),
    };
    store.commit(change([tombstone])).await.unwrap();
    assert_eq!(
        store.commit(change([write("secret", 1, None)])).await,
        Err(StoreError::Conflict)
    );
    assert_eq!(store.commit(change([write("secret", 5, Some(4))])).await, Ok(()));
}

pub async fn of_writers_that_read_the_same_version_one_wins(harness: &impl Harness) {
    let store = harness.open(chain_key()).await;
    store.commit(change([put_secret(place("KEY"))])).await.unwrap();
    for version in 1..6 {
        let mut writers = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let store = SharedStore::clone(&store);
            let write = Write::Secret {
                row: secret(place("KEY"), version + 1),
                expected: Some(version),
            };
            writers.spawn(async move { store.commit(change([write])).await });
        }
        let results = writers.join_all().await;
        let won = results.iter().filter(|result| result.is_ok()).count();
        let lost = results
            .iter()
            .filter(|result| **result == Err(StoreError::Conflict))
            .count();
        assert_eq!((won, lost), (1, 7), "{results:?}");
    }
}

pub async fn a_commit_that_is_dropped_has_happened_entirely_or_not_at_all(harness: &impl Harness) {
    let store = harness.open(chain_key()).await;
    let mut happened = 0;
    for n in 0..60_u64 {
        let key = format!("K{n}");
        let cut = Change {
            writes: vec![put_secret(place(&key)), put_extension(&format!("com.example.n{n}"))],
            entries: vec![entry(Some("org"), n)],
        };
        tokio::select! {
            biased;
            () = given_up_after(if n == 0 { 0 } else { 1 << (n / 4) }) => {}
            _ = store.commit(cut) => {}
        }
        // The same row once more: whichever of the two comes first, the other is a conflict. Then both are decided.
        let decided = store.commit(change([put_secret(place(&key))])).await;
        let has_secret = decided == Err(StoreError::Conflict);
        assert!(has_secret || decided.is_ok(), "{decided:?}");
        let id = extension(&format!("com.example.n{n}"), 1).id;
        let has_extension = store.extension(&id).await.unwrap().is_some();
        let entries = store.chain(Some(&organization("org")), 1, 1_000).await.unwrap();
        let has_entry = entries.iter().any(|linked| linked.entry.at.0 == n);
        let (changes, _) = store.changes(FeedPosition::default()).await.unwrap();
        let told = changes
            .iter()
            .filter(|changed| format!("{changed:?}").contains(&format!("n{n})")))
            .count();
        assert_eq!(
            (has_secret, has_secret, told > 0),
            (has_extension, has_entry, has_secret),
            "cut {n}"
        );
        happened += u32::from(has_secret);
    }
    assert!((1..60).contains(&happened), "{happened} of 60: cut on one side only");
}

/// Lets others run so many times.
async fn given_up_after(turns: u64) {
    for _ in 0..turns {
        tokio::task::yield_now().await;
    }
}

pub async fn an_answering_store_is_healthy(harness: &impl Harness) {
    let store = harness.open(chain_key()).await;
    assert_eq!(store.health().await, Ok(()));
}
