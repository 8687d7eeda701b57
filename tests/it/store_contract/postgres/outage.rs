//! What a store does while its server is away, and how it comes back.

use std::time::Duration;

use futures_util::future::{join, join_all};
use kiket_sidecar::domain::change::Changed;
use kiket_sidecar::domain::scope::Scope;
use kiket_sidecar::store::{self, FeedPosition, StoreError};
use sqlx::Connection;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::super::rows::{change, entry, put_secret, slot};
use super::super::{Harness, PATIENCE, chain_key};
use super::Postgres;
use crate::support::postgres::{Cluster, ClusterOptions};

/// Once the server is back, everything has to be within this.
const BACK_WITHIN: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_the_server_was_killed_and_is_back_readers_writers_and_hints_come_back_by_themselves() {
    let cluster = Cluster::start(ClusterOptions::default());
    let database = cluster.database();
    let key = chain_key();
    let here = store::open(&database.url(), key.clone()).await.unwrap();
    let there = store::open(&database.url(), key.clone()).await.unwrap();
    let place = |n: u32| slot("org", Scope::Project, "proj", &format!("K{n}"));
    here.commit(change([put_secret(place(1))])).await.unwrap();
    let (_, before) = there.changes(FeedPosition::default()).await.unwrap();
    let mut wake = there.wake();
    cluster.kill();
    assert_eq!(there.health().await, Err(StoreError::Unavailable));
    let away = here.commit(change([put_secret(place(2))])).await;
    assert_eq!(away, Err(StoreError::Unavailable));
    assert_eq!(here.record(vec![entry(None, 1)]).await, Err(StoreError::Unavailable));
    assert_eq!(there.changes(before.clone()).await, Err(StoreError::Unavailable));
    cluster.start_again();
    wake.borrow_and_update();
    let back = async {
        assert_eq!(
            there.slots(&[place(1)]).await.unwrap().len(),
            1,
            "what was acknowledged is there"
        );
        here.record(vec![entry(None, 2)]).await.unwrap();
        here.commit(change([put_secret(place(3))])).await.unwrap();
        wake.changed().await.unwrap();
    };
    tokio::time::timeout(BACK_WITHIN, back).await.expect("not back in time");
    // A server that was started anew may be one that does not know all that this reader was told.
    let (told, after) = there.changes(before).await.unwrap();
    assert_eq!(told, [Changed::Everything]);
    here.commit(change([put_secret(place(4))])).await.unwrap();
    assert!(
        there
            .changes(after)
            .await
            .unwrap()
            .0
            .contains(&Changed::Secret(place(4)))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_whose_connections_were_all_ended_goes_on_with_others() {
    let harness = Postgres::fresh();
    let (here, there) = (harness.open(chain_key()).await, harness.open(chain_key()).await);
    let place = |n: u32| slot("org", Scope::Project, "proj", &format!("K{n}"));
    let (_, mut position) = there.changes(FeedPosition::default()).await.unwrap();
    let mut connection = harness.0.raw().await;
    for n in 1..=5 {
        let mut wake = there.wake();
        let ended = sqlx::query_scalar::<_, i64>(
            "SELECT COUNT(*) FILTER (WHERE pg_terminate_backend(pid)) FROM pg_stat_activity \
             WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'",
        );
        assert!(ended.fetch_one(&mut connection).await.unwrap() > 0);
        let back = async {
            // The listener stands again: what comes now is heard. Whatever is told, it is told from the position on.
            wake.changed().await.unwrap();
            here.commit(change([put_secret(place(n))])).await.unwrap();
            loop {
                // A connection that was just ended may be met once.
                if let Ok((told, reached)) = there.changes(position.clone()).await {
                    position = reached;
                    if !told.is_empty() {
                        return told;
                    }
                }
                wake.changed().await.unwrap();
            }
        };
        let told = tokio::time::timeout(BACK_WITHIN, back).await.expect("not back in time");
        assert_eq!(told, [Changed::Secret(place(n))]);
    }
    connection.close().await.unwrap();
}

/// Passes bytes between a store and its server. While it is silent connections stand, and nothing comes through; those
/// from then stay silent for ever.
struct Path {
    port: u16,
    silence: watch::Sender<bool>,
}

impl Path {
    async fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let path = Self {
            port: listener.local_addr().unwrap().port(),
            silence: watch::channel(false).0,
        };
        let silence = path.silence.clone();
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let mut silenced = silence.subscribe();
                tokio::spawn(async move {
                    let mut far = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                    let passed = tokio::io::copy_bidirectional(&mut near, &mut far);
                    tokio::select! {
                        _ = passed => return,
                        () = async { drop(silenced.wait_for(|is_silent| *is_silent).await) } => {}
                    }
                    std::future::pending().await // both ends stay open
                });
            }
        });
        path
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_falls_silent_is_unavailable_and_then_found_over_new_connections() {
    let cluster = Cluster::start(ClusterOptions {
        listens: true,
        ..ClusterOptions::default()
    });
    let database = cluster.database();
    let path = Path::to(cluster.port()).await;
    let url = format!(
        "postgres://kiket@127.0.0.1:{}/{}?sslmode=disable",
        path.port,
        database.name()
    );
    let store = store::open(&url, chain_key()).await.unwrap();
    let place = slot("org", Scope::Project, "proj", "KEY");
    store.commit(change([put_secret(place.clone())])).await.unwrap();
    let (_, position) = store.changes(FeedPosition::default()).await.unwrap();
    // As many at once as there are connections, and more: all of them stand then, and all of them fall silent.
    let ask_all = || join_all((0..16).map(|_| store.slots(std::slice::from_ref(&place))));
    let write_all = || join_all((0..16).map(|n| store.record(vec![entry(Some(&format!("org_{n}")), 1)])));
    let standing = join(ask_all(), write_all()).await;
    assert!(standing.0.iter().all(Result::is_ok) && standing.1.iter().all(Result::is_ok));
    path.silence.send_replace(true);
    let silent = join(join(ask_all(), write_all()), store.changes(position.clone()));
    let ((read, written), told) = tokio::time::timeout(PATIENCE, silent).await.expect("waits for ever");
    assert!(read.into_iter().all(|read| read == Err(StoreError::Unavailable)));
    assert!(
        written
            .into_iter()
            .all(|written| written == Err(StoreError::Unavailable))
    );
    assert_eq!(told, Err(StoreError::Unavailable));
    path.silence.send_replace(false);
    let back = async {
        while store.record(vec![entry(Some("org"), 2)]).await.is_err() {}
        while store.slots(std::slice::from_ref(&place)).await.is_err() {}
        assert_eq!(store.changes(position).await.unwrap().0, []);
    };
    tokio::time::timeout(PATIENCE, back).await.expect("never back");
}
