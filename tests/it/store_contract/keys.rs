//! Whether keys are promoted and retired by the rules whoever else writes, and rows put under another key as they were.

use kiket_sidecar::crypto::envelope;
use kiket_sidecar::crypto::keyring::KeyId;
use kiket_sidecar::domain::change::Changed;
use kiket_sidecar::domain::scope::{Scope, Slot};
use kiket_sidecar::domain::time::Timestamp;
use kiket_sidecar::store::{
    FeedPosition, InstanceRow, KekRow, KeyWrite, Page, Predecessor, Rewrap, SecretRow, SharedStore, StoreError, Write,
    loaded,
};

use super::rows::{change, secret, slot};
use super::{Harness, chain_key};

/// Rounds in which one writes and another one retires.
const ROUNDS: u64 = 20;

fn head(id: &str) -> Vec<u8> {
    envelope::head(&KeyId::parse(id).unwrap())
}

fn under(id: &str, rest: &[u8]) -> Vec<u8> {
    [&head(id), rest].concat()
}

fn kek(id: &str, promotion: u64) -> KekRow {
    KekRow {
        id: id.into(),
        head: head(id),
        tag: id.bytes().take(8).collect(),
        created_at: Timestamp(1),
        promotion,
        promoted_at: (promotion > 0).then_some(Timestamp(promotion)),
        retired_at: None,
        unreadable: 0,
        mac: vec![promotion.to_le_bytes()[0], 0, 255],
    }
}

fn instance(id: &str, keks: &[&str], seen_at: u64) -> InstanceRow {
    let word = |id: &&str| loaded(id, &kek(id, 0).tag);
    InstanceRow {
        id: id.into(),
        role: "all".into(),
        release: "1.2.3".into(),
        keks: keks.iter().map(word).collect(),
        started_at: Timestamp(1),
        seen_at: Timestamp(seen_at),
    }
}

async fn write(store: &SharedStore, write: KeyWrite) -> Result<(), StoreError> {
    store.commit(change([Write::Keys(Box::new(write))])).await
}

async fn see(store: &SharedStore, row: InstanceRow) {
    let gone_before = Timestamp(0);
    write(store, KeyWrite::InstanceSeen { row, gone_before }).await.unwrap();
}

async fn promote(store: &SharedStore, row: KekRow, others: &[&str], after: u64) -> Result<(), StoreError> {
    let promoted = KeyWrite::Promoted {
        row,
        others: others.iter().map(|id| kek(id, 0)).collect(),
        after,
        alive_since: Timestamp(100),
    };
    write(store, promoted).await
}

async fn retire(store: &SharedStore, row: KekRow) -> Result<(), StoreError> {
    let retired_at = Some(Timestamp(50));
    let row = KekRow { retired_at, ..row };
    write(store, KeyWrite::Retired { row }).await
}

fn place(n: u64) -> Slot {
    slot("org", Scope::Project, "proj", &format!("K{n}"))
}

fn sealed(n: u64, version: u64, sealed: Vec<u8>, old: Option<Vec<u8>>) -> SecretRow {
    SecretRow {
        sealed,
        predecessor: old.map(|sealed| Predecessor {
            version: version - 1,
            sealed,
            valid_until: Timestamp(9),
        }),
        ..secret(place(n), version)
    }
}

async fn put(store: &SharedStore, row: SecretRow, expected: Option<u64>) -> Result<(), StoreError> {
    store.commit(change([Write::Secret { row, expected }])).await
}

async fn standing(store: &SharedStore, n: u64) -> SecretRow {
    store.slots(&[place(n)]).await.unwrap().remove(0)
}

async fn positions(store: &SharedStore, id: &str, limit: u32) -> Vec<String> {
    let mut page = Page { after: None, limit };
    let mut keys = Vec::new();
    loop {
        let listed = store.wrapped(&head(id), &page).await.unwrap();
        keys.extend(listed.rows.iter().map(|row| row.meta.slot.key.to_string()));
        match listed.next {
            Some(next) => page.after = Some(next),
            None => return keys,
        }
    }
}

pub async fn a_key_is_promoted_after_the_last_one_and_only_where_every_live_instance_has_it(harness: &impl Harness) {
    let store = harness.open(chain_key()).await;
    see(&store, instance("a", &["one", "two"], 100)).await;
    see(&store, instance("b", &["one"], 100)).await;
    see(&store, instance("gone", &[], 99)).await;
    let conflict = Err(StoreError::Conflict);
    assert_eq!(promote(&store, kek("two", 1), &[], 0).await, conflict, "b lacks it");
    let another = KekRow {
        tag: vec![7; 8],
        ..kek("one", 1)
    };
    assert_eq!(promote(&store, another, &[], 0).await, conflict, "of other material");
    assert_eq!(promote(&store, kek("one", 1), &["two"], 0).await, Ok(()));
    assert_eq!(store.keks().await.unwrap(), [kek("one", 1), kek("two", 0)]);
    assert_eq!(promote(&store, kek("one", 1), &[], 0).await, conflict, "was overtaken");
    see(&store, instance("b", &["one", "two"], 101)).await;
    assert_eq!(promote(&store, kek("two", 2), &["one"], 1).await, Ok(()));
    assert_eq!(
        store.keks().await.unwrap(),
        [kek("one", 1), kek("two", 2)],
        "one stays as it was"
    );
    assert_eq!(
        promote(&store, kek("one", 3), &[], 2).await,
        Ok(()),
        "one may become active again"
    );
}

pub async fn a_key_is_retired_once_where_another_one_is_active_and_nothing_is_under_it(harness: &impl Harness) {
    let store = harness.open(chain_key()).await;
    let conflict = Err(StoreError::Conflict);
    assert_eq!(retire(&store, kek("one", 0)).await, conflict, "nothing was promoted");
    promote(&store, kek("one", 1), &["two"], 0).await.unwrap();
    assert_eq!(retire(&store, kek("one", 1)).await, conflict, "it is active");
    promote(&store, kek("two", 2), &[], 1).await.unwrap();
    put(&store, sealed(1, 1, under("one", b"x"), None), None).await.unwrap();
    assert_eq!(retire(&store, kek("one", 1)).await, conflict, "a value is under it");
    let replaced = sealed(1, 2, under("two", b"y"), Some(under("one", b"x")));
    put(&store, replaced, Some(1)).await.unwrap();
    assert_eq!(
        retire(&store, kek("one", 1)).await,
        conflict,
        "a predecessor is under it"
    );
    put(&store, sealed(1, 3, under("two", b"z"), None), Some(2))
        .await
        .unwrap();
    assert_eq!(
        retire(&store, kek("one", 0)).await,
        conflict,
        "it was promoted meanwhile"
    );
    assert_eq!(retire(&store, kek("one", 1)).await, Ok(()));
    assert_eq!(retire(&store, kek("one", 1)).await, conflict, "it is retired");
    assert_eq!(promote(&store, kek("one", 3), &[], 2).await, conflict, "nor comes back");
    assert_eq!(retire(&store, kek("unheard-of", 0)).await, Ok(()), "nobody stored it");
    let rows = store.keks().await.unwrap();
    let retired: Vec<_> = rows.iter().map(|row| row.retired_at.is_some()).collect();
    assert_eq!(retired, [true, false, true]);
}

pub async fn nothing_is_stored_under_a_retired_key(harness: &impl Harness) {
    let store = harness.open(chain_key()).await;
    promote(&store, kek("one", 1), &[], 0).await.unwrap();
    promote(&store, kek("two", 2), &[], 1).await.unwrap();
    put(&store, sealed(1, 1, under("two", b"x"), None), None).await.unwrap();
    retire(&store, kek("one", 1)).await.unwrap();
    let conflict = Err(StoreError::Conflict);
    let fresh = sealed(2, 1, under("one", b"x"), None);
    assert_eq!(put(&store, fresh, None).await, conflict);
    let kept = sealed(1, 2, under("two", b"y"), Some(under("one", b"x")));
    assert_eq!(put(&store, kept, Some(1)).await, conflict);
    let back = KeyWrite::Rewrapped {
        slot: place(1),
        version: 1,
        sealed: Some(Rewrap {
            from: under("two", b"x"),
            to: under("one", b"x"),
        }),
        predecessor: None,
    };
    assert_eq!(write(&store, back).await, conflict);
    assert_eq!(standing(&store, 1).await, sealed(1, 1, under("two", b"x"), None));
    let other = sealed(2, 1, under("two", b"x"), Some(under("one-and-more", b"x")));
    assert_eq!(put(&store, other, None).await, Ok(()), "only its own head counts");
}

pub async fn of_one_who_seals_and_one_who_retires_at_once_the_second_sees_the_first(harness: &impl Harness) {
    let store = harness.open(chain_key()).await;
    promote(&store, kek("active", 1), &[], 0).await.unwrap();
    let (mut stored, mut retired) = (0, 0);
    for n in 0..ROUNDS {
        let id = format!("kek-{n}");
        let writer = put(&store, sealed(n, 1, under(&id, b"x"), None), None);
        let retirer = async {
            // Some rounds begin here, some there.
            if n % 2 == 0 {
                tokio::task::yield_now().await;
            }
            retire(&store, kek(&id, 0)).await
        };
        match tokio::join!(writer, retirer) {
            (Ok(()), Err(StoreError::Conflict)) => stored += 1,
            (Err(StoreError::Conflict), Ok(())) => retired += 1,
            both => panic!("{both:?}"),
        }
        let is_retired = store.keks().await.unwrap().iter().any(|row| row.id == id);
        let rows = store.wrapped_count(&head(&id)).await.unwrap();
        assert_eq!((is_retired, rows), if is_retired { (true, 0) } else { (false, 1) });
    }
    assert_eq!(stored + retired, ROUNDS);
}

pub async fn rows_under_a_key_are_found_page_by_page_and_counted(harness: &impl Harness) {
    let store = harness.open(chain_key()).await;
    for n in 1..=7 {
        let row = match n % 3 {
            0 => sealed(n, 2, under("two", b"x"), Some(under("one", b"x"))),
            1 => sealed(n, 1, under("one", b"x"), None),
            _ => sealed(n, 1, under("one-and-more", b"x"), None),
        };
        put(&store, row, None).await.unwrap();
    }
    for limit in 1..=6 {
        assert_eq!(positions(&store, "one", limit).await, ["K1", "K3", "K4", "K6", "K7"]);
    }
    assert_eq!(positions(&store, "one-and-more", 10).await, ["K2", "K5"]);
    let counts = ["one", "two", "one-and-more", "on"];
    for (id, count) in counts.into_iter().zip([5, 2, 2, 0]) {
        assert_eq!(store.wrapped_count(&head(id)).await, Ok(count), "{id}");
    }
}

pub async fn a_row_comes_under_another_key_as_it_was_read_or_stays(harness: &impl Harness) {
    let store = harness.open(chain_key()).await;
    let row = sealed(1, 2, under("one", b"x"), Some(under("one", b"y")));
    put(&store, row.clone(), None).await.unwrap();
    let mut position = FeedPosition::default();
    (_, position) = store.changes(position).await.unwrap();
    let rewrap = |version, from: &[u8], old: &[u8]| KeyWrite::Rewrapped {
        slot: place(1),
        version,
        sealed: Some(Rewrap {
            from: under("one", from),
            to: under("two", b"x"),
        }),
        predecessor: Some(Rewrap {
            from: under("one", old),
            to: under("two", b"y"),
        }),
    };
    for stale in [rewrap(1, b"x", b"y"), rewrap(2, b"z", b"y"), rewrap(2, b"x", b"z")] {
        assert_eq!(
            write(&store, stale).await,
            Ok(()),
            "left, and no conflict for the rest of a page"
        );
        assert_eq!(standing(&store, 1).await, row);
    }
    write(&store, rewrap(2, b"x", b"y")).await.unwrap();
    let done = sealed(1, 2, under("two", b"x"), Some(under("two", b"y")));
    assert_eq!(standing(&store, 1).await, done, "version and all else stay");
    let half = KeyWrite::Rewrapped {
        slot: place(1),
        version: 2,
        sealed: None,
        predecessor: Some(Rewrap {
            from: under("two", b"y"),
            to: under("three", b"y"),
        }),
    };
    write(&store, half).await.unwrap();
    let done = sealed(1, 2, under("two", b"x"), Some(under("three", b"y")));
    assert_eq!(standing(&store, 1).await, done);
    let (told, _) = store.changes(position).await.unwrap();
    assert!(
        !told.iter().any(|changed| matches!(changed, Changed::Everything)),
        "{told:?}"
    );
    let fresh: Vec<_> = told.iter().filter(|told| **told != Changed::Secret(place(1))).collect();
    assert_eq!(fresh, [&Changed::Keys; 0]);
}

pub async fn a_promotion_and_a_retirement_are_told_and_nothing_else_of_keys(harness: &impl Harness) {
    let store = harness.open(chain_key()).await;
    let position = store.changes(FeedPosition::default()).await.unwrap().1;
    see(&store, instance("a", &["one", "two"], 100)).await;
    let unreadable = KeyWrite::Unreadable {
        id: "one".into(),
        rows: 3,
    };
    assert!(store.lease("l", "a", Timestamp(1), Timestamp(2)).await.unwrap());
    write(&store, unreadable.clone()).await.unwrap();
    let (told, position) = store.changes(position).await.unwrap();
    assert_eq!(told, []);
    promote(&store, kek("one", 1), &[], 0).await.unwrap();
    promote(&store, kek("two", 2), &[], 1).await.unwrap();
    write(&store, unreadable).await.unwrap();
    assert_eq!(store.keks().await.unwrap()[0].unreadable, 3);
    retire(&store, kek("one", 1)).await.unwrap();
    let (told, _) = store.changes(position).await.unwrap();
    assert_eq!(told, vec![Changed::Keys; 3]);
}

pub async fn an_instance_is_there_until_it_leaves_or_is_not_seen_for_long(harness: &impl Harness) {
    let store = harness.open(chain_key()).await;
    let row = instance("b", &["one", "two"], 100);
    see(&store, row.clone()).await;
    see(&store, instance("a", &[], 10)).await;
    see(&store, instance("c", &["one"], 20)).await;
    assert_eq!(
        store.instances().await.unwrap(),
        [instance("a", &[], 10), row, instance("c", &["one"], 20)]
    );
    let seen = KeyWrite::InstanceSeen {
        row: instance("a", &["one"], 15),
        gone_before: Timestamp(20),
    };
    write(&store, seen).await.unwrap();
    let left = || async {
        let rows = store.instances().await.unwrap();
        rows.into_iter().map(|row| (row.id, row.seen_at.0)).collect::<Vec<_>>()
    };
    assert_eq!(left().await.len(), 3, "neither itself nor one seen at that very moment");
    let seen = KeyWrite::InstanceSeen {
        row: instance("a", &["one"], 15),
        gone_before: Timestamp(21),
    };
    write(&store, seen).await.unwrap();
    assert_eq!(left().await, [("a".to_owned(), 15), ("b".to_owned(), 100)]);
    write(&store, KeyWrite::InstanceGone { id: "b".into() }).await.unwrap();
    assert_eq!(left().await, [("a".to_owned(), 15)]);
}

pub async fn a_lease_is_one_holders_until_it_ends(harness: &impl Harness) {
    let store = harness.open(chain_key()).await;
    let lease = |holder: &'static str, now, until| store.lease("rewrap", holder, Timestamp(now), Timestamp(until));
    assert_eq!(lease("a", 10, 20).await, Ok(true));
    assert_eq!(lease("b", 19, 29).await, Ok(false));
    assert_eq!(lease("a", 19, 30).await, Ok(true), "kept");
    assert_eq!(lease("b", 29, 39).await, Ok(false));
    assert_eq!(lease("b", 30, 40).await, Ok(true), "it has ended");
    assert_eq!(lease("a", 39, 49).await, Ok(false));
    let other = store.lease("other", "a", Timestamp(39), Timestamp(49)).await;
    assert_eq!(other, Ok(true));
}
