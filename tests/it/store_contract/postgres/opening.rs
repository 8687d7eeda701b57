//! Who may open a database: many at once, this version's own, over verified TLS.

use kiket_sidecar::store::{self, OpenError};
use sqlx::Connection;
use tempfile::TempDir;

use super::super::{Harness, chain_key};
use super::Postgres;
use crate::support::pki::Authority;
use crate::support::postgres::{Cluster, ClusterOptions, Database};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_instances_may_open_a_database_that_nobody_has_used_yet_at_once() {
    let harness = Postgres::fresh();
    let openings = (0..10).map(|_| harness.try_open(chain_key()));
    for opened in futures_util::future::join_all(openings).await {
        opened.unwrap().health().await.unwrap();
    }
    let mut connection = harness.0.raw().await;
    let count = "SELECT COUNT(*) FROM _sqlx_migrations WHERE version = 1";
    let migrated: i64 = sqlx::query_scalar(count).fetch_one(&mut connection).await.unwrap();
    assert_eq!(migrated, 1);
}

/// All tables and views of the schema, with what stands in one of them.
async fn standing(database: &Database) -> (Vec<String>, Vec<String>) {
    let mut connection = database.raw().await;
    let names = "SELECT relname::text FROM pg_class WHERE relnamespace = 'public'::regnamespace ORDER BY 1";
    let names = sqlx::query_scalar(names).fetch_all(&mut connection).await.unwrap();
    let rows = sqlx::query_scalar("SELECT name FROM contacts")
        .fetch_all(&mut connection)
        .await;
    connection.close().await.unwrap();
    (names, rows.unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_programs_database_is_refused_and_stays_as_it_is() {
    let of_others = "CREATE TABLE contacts (name TEXT); INSERT INTO contacts VALUES ('Ada')";
    let of_others_with_migrations = "CREATE TABLE _sqlx_migrations (version BIGINT PRIMARY KEY, description TEXT NOT NULL, \
         installed_on TIMESTAMPTZ NOT NULL DEFAULT now(), success BOOLEAN NOT NULL, checksum BYTEA NOT NULL, \
         execution_time BIGINT NOT NULL); INSERT INTO _sqlx_migrations VALUES (7, 'x', now(), TRUE, '\\x00', 1)";
    for sql in [of_others, of_others_with_migrations] {
        let harness = Postgres::fresh();
        harness.0.run(sql);
        let before = standing(&harness.0).await;
        assert_eq!(harness.try_open(chain_key()).await.err(), Some(OpenError::Foreign));
        assert_eq!(standing(&harness.0).await, before);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_extension_of_the_server_brought_is_nobodys() {
    let harness = Postgres::fresh();
    harness.0.run(
        "CREATE VIEW watched AS SELECT 1 AS one; \
         INSERT INTO pg_depend SELECT 'pg_class'::regclass, 'watched'::regclass, 0, 'pg_extension'::regclass, \
         (SELECT oid FROM pg_extension WHERE extname = 'plpgsql'), 0, 'e'",
    );
    harness.open(chain_key()).await.health().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_versions_database_and_one_whose_history_was_changed_are_refused() {
    let newer = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
                 VALUES (9999, 'later', TRUE, '\\x00', 1)";
    let changed = "UPDATE _sqlx_migrations SET checksum = '\\x00'";
    for sql in [newer, changed] {
        let harness = Postgres::fresh();
        drop(harness.open(chain_key()).await);
        harness.damage(sql).await;
        let refused = harness.try_open(chain_key()).await.err();
        assert_eq!(refused, Some(OpenError::Foreign), "{sql}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_cannot_be_used_is_refused_with_what_to_change() {
    let harness = Postgres::fresh();
    let url = harness.0.url();
    harness
        .0
        .run("CREATE ROLE stranger LOGIN; REVOKE ALL ON SCHEMA public FROM PUBLIC");
    let latin = format!("{}_latin", harness.0.name());
    harness.0.run(&format!(
        "CREATE DATABASE {latin} TEMPLATE template0 ENCODING LATIN1 LC_COLLATE 'C' LC_CTYPE 'C'"
    ));
    for (url, expected) in [
        (url.replace("user=kiket", "user=canary"), OpenError::Refused),
        (url.replace("user=kiket", "user=stranger"), OpenError::Foreign), // sees no schema to stand in
        (url.replace(harness.0.name(), "canary"), OpenError::Refused),
        (url.replace(harness.0.name(), &latin), OpenError::Unsuited),
        (url.replace("host=/", "host=/nowhere/"), OpenError::Unreachable),
        (format!("{url}&canary=1"), OpenError::Address),
        (String::from("postgres://canary"), OpenError::Address),
        (String::from("postgres:canary"), OpenError::Scheme),
    ] {
        let refused = store::open(&url, chain_key()).await.err().expect("opened");
        assert_eq!(refused, expected, "{url}");
        let told = refused.to_string();
        assert!(!told.is_empty() && !told.contains("canary"), "{told}");
    }
    harness.0.run(&format!("DROP DATABASE {latin}"));
    harness.0.run("DROP OWNED BY stranger; DROP ROLE stranger");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_servers_certificate_and_name_are_verified_unless_the_url_says_otherwise() {
    let authority = Authority::new("the database's authority");
    let identity = authority.server(&["localhost"]);
    let cluster = Cluster::start(ClusterOptions {
        tls: Some((identity.certificate_pem(), identity.key_pem())),
        ..ClusterOptions::default()
    });
    let database = cluster.database();
    let folder = TempDir::new().unwrap();
    let trusted = |name: &str, authority: &Authority| {
        let file = folder.path().join(name);
        std::fs::write(&file, authority.pem()).unwrap();
        file.display().to_string()
    };
    let known = trusted("known.pem", &authority);
    let other = trusted("other.pem", &Authority::new("another authority"));
    let url = |host: &str, rest: &str| {
        let (port, name) = (cluster.port(), database.name());
        format!("postgres://kiket@{host}:{port}/{name}?{rest}")
    };
    for (url, expected) in [
        (url("localhost", &format!("sslrootcert={known}")), None),
        (url("localhost", ""), Some(OpenError::Tls)),
        (url("localhost", &format!("sslrootcert={other}")), Some(OpenError::Tls)),
        (url("127.0.0.1", &format!("sslrootcert={known}")), Some(OpenError::Tls)),
        (
            url("127.0.0.1", &format!("sslrootcert={known}&sslmode=verify-ca")),
            None,
        ),
        (
            url("127.0.0.1", &format!("sslrootcert={other}&sslmode=require")),
            Some(OpenError::Tls),
        ),
        (url("127.0.0.1", "sslmode=require"), None),
        (url("127.0.0.1", "sslmode=disable"), None),
    ] {
        assert_eq!(store::open(&url, chain_key()).await.err(), expected, "{url}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_tls_is_refused_over_the_network_unless_the_url_says_otherwise() {
    let cluster = Cluster::start(ClusterOptions {
        listens: true,
        ..ClusterOptions::default()
    });
    let (port, database) = (cluster.port(), cluster.database());
    let url = format!("postgres://kiket@127.0.0.1:{port}/{}", database.name());
    assert_eq!(store::open(&url, chain_key()).await.err(), Some(OpenError::Tls));
    let plain = store::open(&format!("{url}?sslmode=disable"), chain_key()).await;
    plain.unwrap().health().await.unwrap();
}
