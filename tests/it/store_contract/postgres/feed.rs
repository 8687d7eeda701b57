//! Whether the feed misses nothing where commits overtake each other, and repeats nothing where it need not.

use kiket_sidecar::domain::change::Changed;
use kiket_sidecar::domain::scope::{Scope, Slot};
use kiket_sidecar::store::{FeedPosition, SharedStore};
use sqlx::postgres::{PgConnection, PgListener, PgPoolOptions};
use sqlx::{Connection, Executor};

use super::super::rows::{change, entry, put_secret, slot};
use super::super::{Harness, PATIENCE, chain_key};
use super::Postgres;
use crate::support::postgres::{Cluster, ClusterOptions};

fn place(n: usize) -> Slot {
    slot("org", Scope::Project, "proj", &format!("K{n}"))
}

async fn put(store: &SharedStore, n: usize) {
    store.commit(change([put_secret(place(n))])).await.unwrap();
}

/// A transaction of somebody else that tells of a key, and has not ended.
async fn under_way(harness: &Postgres, n: usize) -> PgConnection {
    let mut connection = harness.0.raw().await;
    connection.execute("BEGIN").await.unwrap();
    sqlx::query(
        "INSERT INTO changes (kind, owner, scope, scope_id, key) VALUES ('secret', 'org', 'project', 'proj', $1)",
    )
    .bind(format!("K{n}"))
    .execute(&mut connection)
    .await
    .unwrap();
    connection
}

async fn end(mut connection: PgConnection, how: &'static str) {
    connection.execute(how).await.unwrap();
    connection.close().await.unwrap();
}

/// What comes behind a position, which goes on.
async fn read(store: &SharedStore, position: &mut FeedPosition) -> Vec<Changed> {
    let (changes, reached) = store.changes(position.clone()).await.unwrap();
    *position = reached;
    changes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_transactions_that_commit_in_the_reverse_order_of_their_ids_none_is_missed() {
    let harness = Postgres::fresh();
    let store = harness.open(chain_key()).await;
    let mut position = FeedPosition::default();
    let first = under_way(&harness, 1).await;
    let second = under_way(&harness, 2).await;
    put(&store, 3).await;
    assert_eq!(read(&store, &mut position).await, [Changed::Secret(place(3))]);
    end(second, "COMMIT").await;
    assert_eq!(read(&store, &mut position).await, [Changed::Secret(place(2))]);
    assert_eq!(read(&store, &mut position).await, []);
    end(first, "COMMIT").await;
    assert_eq!(read(&store, &mut position).await, [Changed::Secret(place(1))]);
    assert_eq!(read(&store, &mut position).await, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_a_transaction_stays_under_way_nothing_is_told_twice_and_all_that_is_new_is_told() {
    let harness = Postgres::fresh();
    let store = harness.open(chain_key()).await;
    let mut position = FeedPosition::default();
    let dump = under_way(&harness, 0).await;
    for n in 1..=30 {
        // Rolled back: a gap that nobody ever fills.
        end(under_way(&harness, 1_000 + n).await, "ROLLBACK").await;
        put(&store, n).await;
        assert_eq!(read(&store, &mut position).await, [Changed::Secret(place(n))]);
        assert_eq!(read(&store, &mut position).await, []);
    }
    end(dump, "COMMIT").await;
    assert_eq!(read(&store, &mut position).await, [Changed::Secret(place(0))]);
    assert_eq!(read(&store, &mut position).await, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_is_far_behind_reads_page_by_page_to_the_end() {
    let harness = Postgres::fresh();
    let store = harness.open(chain_key()).await;
    let dump = under_way(&harness, 99_999).await;
    let tell = "INSERT INTO changes (kind, owner, scope, scope_id, key) \
                SELECT 'secret', 'org', 'project', 'proj', 'K' || n FROM generate_series";
    harness.0.run(&format!("{tell}(1, 12000) AS n"));
    harness.0.run(&format!("{tell}(12001, 25000) AS n"));
    let (mut position, mut pages) = (FeedPosition::default(), Vec::new());
    loop {
        let page = read(&store, &mut position).await;
        if page.is_empty() {
            break;
        }
        pages.push(page);
    }
    assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), [10_000, 10_000, 5_000]);
    let told: Vec<Changed> = pages.concat();
    let expected = (1..=25_000).map(|n| Changed::Secret(place(n)));
    assert!(told.into_iter().eq(expected), "each once, in order");
    end(dump, "COMMIT").await;
    assert_eq!(read(&store, &mut position).await, [Changed::Secret(place(99_999))]);
}

/// All that comes behind a position, which goes on.
async fn read_on(store: &SharedStore, position: &mut FeedPosition) -> Vec<Changed> {
    let mut told = Vec::new();
    loop {
        let page = read(store, position).await;
        if page.is_empty() {
            return told;
        }
        told.extend(page);
    }
}

/// A server of its own: what others have under way there keeps rows, too.
async fn alone() -> (Postgres, SharedStore) {
    let harness = Postgres(Cluster::start(ClusterOptions::default()).database());
    let store = harness.open(chain_key()).await;
    (harness, store)
}

/// So many changes that the feed is looked at.
async fn put_many(store: &SharedStore, from: usize) {
    for from in [from, from + 600] {
        let many = (from..from + 600).map(|n| put_secret(place(n)));
        store.commit(change(many)).await.unwrap();
    }
}

async fn count(harness: &Postgres) -> i64 {
    let mut connection = harness.0.raw().await;
    let count = sqlx::query_scalar("SELECT COUNT(*) FROM changes");
    count.fetch_one(&mut connection).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_rows_go_and_only_readers_who_have_not_read_them_drop_everything() {
    let (harness, store) = alone().await;
    put(&store, 0).await;
    let mut early = FeedPosition::default();
    read_on(&store, &mut early).await;
    harness
        .0
        .run("INSERT INTO changes (kind) SELECT 'tokens' FROM generate_series(1, 30000)");
    let mut late = early.clone();
    read_on(&store, &mut late).await;
    put_many(&store, 1).await;
    let trimmed = async { while count(&harness).await > 21_000 {} };
    tokio::time::timeout(PATIENCE, trimmed).await.expect("never trimmed");
    assert!(count(&harness).await > 19_000, "{}", count(&harness).await);
    for from in [early, FeedPosition::default()] {
        let told = read_on(&store, &mut from.clone()).await;
        assert!(told.contains(&Changed::Everything));
    }
    let told = read_on(&store, &mut late).await;
    assert!(told.into_iter().eq((1..=1_200).map(|n| Changed::Secret(place(n)))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_transaction_under_way_may_still_hide_is_not_removed() {
    let (harness, store) = alone().await;
    let mut position = FeedPosition::default();
    let slow = under_way(&harness, 0).await;
    harness
        .0
        .run("INSERT INTO changes (kind) SELECT 'tokens' FROM generate_series(1, 30000)");
    read_on(&store, &mut position).await;
    put_many(&store, 1).await;
    let told = read_on(&store, &mut position).await;
    assert!(told.into_iter().eq((1..=1_200).map(|n| Changed::Secret(place(n)))));
    end(slow, "COMMIT").await;
    assert_eq!(read(&store, &mut position).await, [Changed::Secret(place(0))]);
    // Then they go.
    put_many(&store, 2_000).await;
    let trimmed = async { while count(&harness).await > 21_000 {} };
    tokio::time::timeout(PATIENCE, trimmed).await.expect("never trimmed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_position_of_another_server_drops_everything() {
    let (harness, other) = (Postgres::fresh(), Cluster::start(ClusterOptions::default()));
    let store = harness.open(chain_key()).await;
    let elsewhere = other.database();
    let elsewhere = kiket_sidecar::store::open(&elsewhere.url(), chain_key()).await.unwrap();
    let (_, of_another) = elsewhere.changes(FeedPosition::default()).await.unwrap();
    let (told, own) = store.changes(of_another).await.unwrap();
    assert_eq!(told, [Changed::Everything]);
    put(&store, 1).await;
    assert_eq!(store.changes(own).await.unwrap().0, [Changed::Secret(place(1))]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hint_goes_to_every_instance_and_out_only_for_what_the_feed_tells() {
    let harness = Postgres::fresh();
    let key = chain_key();
    let (here, there) = (harness.open(key.clone()).await, harness.open(key).await);
    let pool = PgPoolOptions::new().connect_lazy(&harness.0.url()).unwrap();
    let mut listener = PgListener::connect_with(&pool).await.unwrap();
    listener.listen("kiket_changes").await.unwrap();
    let mut wake = there.wake();
    for n in 1..=3 {
        here.record(vec![entry(Some("org"), 1), entry(None, 1)]).await.unwrap();
        wake.borrow_and_update();
        put(&here, n).await;
        tokio::time::timeout(PATIENCE, wake.changed())
            .await
            .expect("no hint")
            .unwrap();
    }
    pool.execute("SELECT pg_notify('kiket_changes', 'the end')")
        .await
        .unwrap();
    let mut heard = Vec::new();
    while heard.last().is_none_or(|payload| payload != "the end") {
        heard.push(listener.recv().await.unwrap().payload().to_owned());
    }
    assert_eq!(heard, ["", "", "", "the end"]);
}
