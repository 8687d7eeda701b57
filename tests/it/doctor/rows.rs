//! What is said of a store that is not as a start needs it, of its clock, and of certificates in it.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;

use kiket_sidecar::crypto::keyring::Keyring;
use kiket_sidecar::domain::time::Timestamp;
use kiket_sidecar::store::{self, Change, Look, Schema, StoreError};
use serde_json::json;

use super::super::store_contract::rows::entry;
use super::super::support::database::Database;
use super::super::support::instance::set_mode;
use super::super::support::pki::{Authority, Identity, Validity};
use super::super::support::postgres;
use super::super::support::tenant::{CA, CERTIFICATE, PRIVATE_KEY, mutual_callback};
use super::{CANARY, Patient, files};

#[test]
fn a_store_of_another_version_is_told_and_not_brought_to_this_one() {
    let patient = Patient::furnished();
    patient
        .database
        .damage("DELETE FROM _sqlx_migrations WHERE version = (SELECT MAX(version) FROM _sqlx_migrations)");
    let before = files(&patient.home);
    let report = patient.look(&[]);
    report.only("store", "ok", "an older version's").ends(0);
    report.has("sealed values", "not applicable", "");
    assert!(files(&patient.home) == before, "the doctor changed a file");

    let patient = Patient::furnished();
    patient.database.damage(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
         VALUES (9999, 'later', TRUE, x'00', 1)",
    );
    patient
        .look(&[])
        .only("store", "failed", "a later version of kiket")
        .ends(1);
}

#[test]
fn what_is_no_store_is_told_and_left_alone() {
    for sql in [
        "CREATE TABLE contacts (name TEXT)",
        "CREATE TABLE _sqlx_migrations (version BIGINT PRIMARY KEY, checksum BLOB, success BOOLEAN); \
         INSERT INTO _sqlx_migrations VALUES (1, x'00', TRUE)",
    ] {
        let patient = Patient::new();
        let path = patient.home.path().join("kiket.db");
        fs::write(&path, "").unwrap();
        patient.database.damage(sql);
        patient
            .look(&[])
            .only("store", "failed", "no database of this version")
            .ends(1);
    }
    let patient = Patient::new();
    patient
        .home
        .write("kiket.db", "no database at all, but quite some text");
    patient
        .look(&[])
        .only("store", "failed", "no database of this version")
        .ends(1);
    let patient = Patient::new();
    let elsewhere = format!("sqlite:{}/none/kiket.db", patient.home.path().display());
    let report = patient.look(&[("database_url", &elsewhere)]);
    report.only("store", "failed", "none can be made there").ends(1);
}

#[test]
fn a_file_that_is_open_to_others_or_damaged_is_told() {
    let patient = Patient::furnished();
    let path = patient.home.path().join("kiket.db");
    set_mode(&path, 0o644);
    patient.look(&[]).only("store", "warning", "mode 0644").ends(1);
    set_mode(&path, 0o600);
    patient
        .look(&[])
        .only("store", "ok", "mode 0600, this version's, whole")
        .ends(0);
    // The end of the file is a page of some table or index.
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    let length = file.metadata().unwrap().len();
    file.write_all_at(&[0xff; 2048], length - 4096).unwrap();
    patient.look(&[]).has("store", "failed", "damaged").ends(1);
}

#[test]
fn a_clock_behind_the_audit_log_is_a_finding() {
    let patient = Patient::furnished();
    let hour = "UPDATE audit SET at = at + 3600000";
    assert!(patient.database.damage(hour) > 0);
    patient
        .look(&[])
        .only("clock", "failed", "minutes behind the newest entry")
        .ends(1);
}

#[test]
fn certificates_that_end_soon_are_told_of_with_whose_they_are() {
    let patient = Patient::new();
    let authority = Authority::new("dev CA");
    let days = |days: i64| Validity {
        from: -24,
        until: days * 24 + 1,
    };
    let process = patient.serve(&[]);
    let url = "https://127.0.0.1:9/";
    process.install("ins_1", "com.example.mutual", &mutual_callback(url), &json!({}));
    let set_client = |identity: &Identity| {
        process.set(CERTIFICATE, &identity.certificate_pem());
        process.set(PRIVATE_KEY, &identity.key_pem());
    };
    process.set(CA, &authority.pem());
    set_client(&authority.client_valid("ins_1", days(40)));
    patient
        .look(&[])
        .only("certificates", "ok", "ins_1, 40 days left")
        .ends(0);
    set_client(&authority.client_valid("ins_1", days(20)));
    patient
        .look(&[])
        .only("certificates", "warning", "ins_1, 20 days left")
        .ends(1);
    set_client(&authority.client_valid("ins_1", days(-1)));
    patient
        .look(&[])
        .only("certificates", "failed", "ins_1, which ended")
        .ends(1);
    assert_eq!(process.stop().code, Some(0));

    let server = authority.server_valid(&["admin.example"], days(5));
    let certificate = patient.home.write("admin.pem", &server.certificate_pem());
    let key = patient.home.write("admin.key", &server.key_pem());
    let settings = [
        ("admin_tls_cert_file", certificate.to_str().unwrap()),
        ("admin_tls_key_file", key.to_str().unwrap()),
    ];
    let report = patient.look(&settings);
    report
        .only("certificates", "failed", "admin_tls_cert_file, 5 days left")
        .ends(1);
}

#[test]
fn a_database_server_is_told_of_by_what_a_role_needs_there() {
    let patient = Patient::new();
    let away = format!("postgres://kiket:{CANARY}@127.0.0.1:1/kiket?sslmode=disable");
    let report = patient.look(&[("database_url", &away)]);
    report.only("store", "failed", "cannot be reached").ends(3);

    let database = postgres::Database::fresh();
    let url = database.url();
    let settings = |role| [("database_url", url.as_str()), ("role", role)];
    patient
        .look(&settings("admin"))
        .only("store", "ok", "no tables yet")
        .ends(0);
    let report = patient.look(&settings("proxy"));
    report.only("store", "failed", "not of this version yet").ends(1);
    assert_eq!(tables(&database), 0, "none was made");

    let server = Patient::new();
    let process = server.serve(&[("database_url", &url)]);
    process.simple("http://127.0.0.1:9/", CANARY);
    let report = server.look(&[("database_url", &url)]);
    report.only("store", "ok", "on this host, this version's").ends(0);
    report.has("clock", "ok", "as the database server's");
    report.has("sealed values", "ok", "1 row tried, all open");
    assert_eq!(process.stop().code, Some(0));
    assert!(tables(&database) > 0);

    let later = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
                 VALUES (9999, 'later', TRUE, '\\x00', 1)";
    database.run(later);
    let report = server.look(&settings("admin"));
    report.only("store", "failed", "a later version of kiket").ends(1);
    server
        .look(&settings("proxy"))
        .only("store", "ok", "a later version's")
        .ends(0);

    database.run("CREATE ROLE looker LOGIN; GRANT SELECT ON _sqlx_migrations, secrets TO looker");
    let looker = url.replace("user=kiket", "user=looker");
    let report = server.look(&[("database_url", &looker), ("role", "proxy")]);
    report.only("store", "failed", "may not read alerts, audit").ends(1);
    database
        .run("GRANT SELECT ON ALL TABLES IN SCHEMA public TO looker; GRANT INSERT ON audit, alerts, outbox TO looker");
    let report = server.look(&[("database_url", &looker), ("role", "proxy")]);
    report
        .only("store", "failed", "may not write to chain_heads, instances")
        .ends(1);
    database.run("DROP OWNED BY looker; DROP ROLE looker");
}

/// How many tables a database has.
fn tables(database: &postgres::Database) -> u64 {
    database.run("CREATE TEMPORARY TABLE seen AS SELECT 1 FROM pg_class WHERE relnamespace = 'public'::regnamespace")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_are_looked_at_are_read_and_every_write_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let chain = || Keyring::generate(Timestamp(1)).unwrap().chain_key();
    let file = Database::File(folder.path().join("kiket.db"));
    let server = Database::Server(postgres::Database::fresh());
    for database in [file, server] {
        let url = database.url();
        assert_eq!(store::look(&url, chain()).await.unwrap().schema, Schema::None);
        let serving = store::open(&url, chain()).await.unwrap();
        assert_reads_alone(&store::look(&url, chain()).await.unwrap()).await;
        drop(serving);
        let released = tokio::task::spawn_blocking(move || {
            database.released();
            database
        });
        let _kept = released.await.unwrap();
        assert_reads_alone(&store::look(&url, chain()).await.unwrap()).await;
    }
}

async fn assert_reads_alone(look: &Look) {
    assert_eq!(look.schema, Schema::Current);
    let rows = look.rows.as_ref().unwrap();
    rows.health().await.unwrap();
    let entry = entry(None, 1);
    assert_eq!(rows.record(vec![entry.clone()]).await, Err(StoreError::Unavailable));
    let change = Change {
        writes: Vec::new(),
        entries: vec![entry],
    };
    assert_eq!(rows.commit(change).await, Err(StoreError::Unavailable));
    let leased = rows.lease_outbox(Timestamp(1), Timestamp(2), 1).await;
    assert_eq!(leased, Err(StoreError::Unavailable));
    assert!(rows.chain(None, 1, 1).await.unwrap().is_empty(), "nothing was written");
}
