//! A copy that does not come to its end: what is left is never served, and the next copy starts over.

use kiket_sidecar::store::{self, OpenError};
use rustix::process::{Pid, Signal, kill_process};
use sqlx::Executor;

use super::super::support::captured::Captured;
use super::super::support::endpoint::Endpoint;
use super::super::support::postgres::Database;
use super::super::support::process::Process;
use super::rows::{block_on, dump_file, dump_server, run_on_file};
use super::{Desk, UNFINISHED, populate, started, stop};

/// A file with rows of every kind.
fn source(desk: &Desk) -> String {
    let (file, endpoint) = (desk.file("source.db"), Endpoint::start());
    let instance = desk.serve(&file);
    populate(&instance, &endpoint);
    stop(instance);
    file
}

/// An empty database of this version, as a start that nothing came of would leave it.
fn migrated(desk: &Desk, url: &str) {
    opened(desk, url).unwrap();
}

/// Whether a database is opened as `serve` opens it.
fn opened(desk: &Desk, url: &str) -> Result<(), OpenError> {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let opened = runtime.block_on(store::open(url, desk.keyring().chain_key()));
    opened.map(drop) // and free again once the runtime is gone
}

fn kill(child: &mut std::process::Child) {
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    kill_process(pid, Signal::KILL).unwrap();
    child.wait().unwrap();
}

/// Runs while a copy to PostgreSQL stands in its middle: behind `requests`, before `audit`.
fn in_the_middle(desk: &Desk, from: &str, to: &Database, then: impl FnOnce(&mut std::process::Child, &Captured)) {
    migrated(desk, &to.url());
    block_on(async {
        let mut other = to.raw().await;
        other.execute("BEGIN; LOCK TABLE audit IN SHARE MODE").await.unwrap();
        let (mut child, said) = started(desk.copy_command(from, &to.url()));
        assert!(said.line_with("copying    requests").is_some(), "{}", said.text());
        then(&mut child, &said);
        other.execute("ROLLBACK").await.unwrap();
        let _ = child.wait();
    });
}

#[test]
fn a_copy_that_is_killed_is_not_served_and_can_be_made_again() {
    let (desk, server) = (Desk::new(), Database::fresh());
    let from = source(&desk);
    in_the_middle(&desk, &from, &server, |child, _| {
        desk.not_served(&server.url(), "another kiket serves from this database, or copies it");
        desk.refused(4, &["from: another kiket serves"], &from, &desk.file("out.db"));
        desk.not_served(&from, "another kiket serves from this database, or copies it");
        kill(child);
    });
    desk.not_served(&server.url(), UNFINISHED);
    desk.refused(4, &["from: ", UNFINISHED], &server.url(), &desk.file("out.db"));
    desk.must_copy(&from, &server.url());
    assert_eq!(dump_server(&server), dump_file(&from));
    let url = server.url();
    let served = Process::spawn_in(desk.home.clone(), desk.home.serve(&[("database_url", &url)]));
    assert_eq!(served.stop().code, Some(0));
}

#[test]
fn a_copy_whose_connection_is_lost_says_so_and_can_be_made_again() {
    let (desk, server) = (Desk::new(), Database::fresh());
    let from = source(&desk);
    in_the_middle(&desk, &from, &server, |child, said| {
        let name = server.name();
        let lost = format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}' AND query LIKE 'COPY%'"
        );
        server.run(&lost);
        assert_eq!(child.wait().unwrap().code(), Some(3), "{}", said.text());
        said.wait_for("to: the store is unavailable", 1);
    });
    desk.not_served(&server.url(), UNFINISHED);
    desk.must_copy(&from, &server.url());
    assert_eq!(dump_server(&server), dump_file(&from));
}

#[test]
fn wherever_a_copy_is_killed_its_target_is_whole_or_refused() {
    let desk = Desk::new();
    let from = source(&desk);
    let (to, whole) = (desk.file("target.db"), dump_file(&from));
    let mut cut = 0;
    for line in [
        "copying    extensions",
        "copying    secrets",
        "copying    checkpoints",
        "comparing  secrets",
    ] {
        for _ in 0..3 {
            let (mut child, said) = started(desk.copy_command(&from, &to));
            assert!(said.line_with(line).is_some(), "{}", said.text());
            kill(&mut child);
            match (opened(&desk, &to), desk.copy(&from, &to).code) {
                (Err(OpenError::Unfinished), Some(0)) => cut += 1,
                // It was through before the kill came: then there are rows, and no copy is made into them.
                (Ok(()), Some(4)) => {}
                other => panic!("{line}: {other:?}"),
            }
            assert_eq!(dump_file(&to), whole);
            for suffix in ["", "-wal", "-shm", ".lock"] {
                let _ = std::fs::remove_file(desk.home.path().join(format!("target.db{suffix}")));
            }
        }
    }
    assert!(cut > 0, "no kill came before the end");
}

#[test]
fn a_full_target_says_so_and_is_not_served() {
    let (desk, server) = (Desk::new(), Database::fresh());
    let from = source(&desk);
    migrated(&desk, &server.url());
    server.run(
        "CREATE FUNCTION no_space() RETURNS trigger LANGUAGE plpgsql AS \
         $$ BEGIN RAISE EXCEPTION 'no space left' USING ERRCODE = '53100'; END $$; \
         CREATE TRIGGER no_space BEFORE INSERT ON audit FOR EACH ROW EXECUTE FUNCTION no_space()",
    );
    desk.refused(3, &["to: the store is full"], &from, &server.url());
    desk.not_served(&server.url(), UNFINISHED);
    server.run("DROP TRIGGER no_space ON audit");
    desk.must_copy(&from, &server.url());
    assert_eq!(dump_server(&server), dump_file(&from));
}

#[test]
fn a_row_that_arrives_altered_or_not_at_all_is_found_and_its_table_named() {
    let desk = Desk::new();
    let from = source(&desk);
    // An edit of one cell, by the database that takes it; a row that it swallows.
    for (n, (table, edit)) in [
        ("secrets", "UPDATE secrets SET version = version + 1 WHERE position = 1"),
        ("audit", "UPDATE audit SET actor_name = 'nobody' WHERE position = 3"),
        ("policies", "UPDATE policies SET unused_days = 0"),
        ("checkpoints", "DELETE FROM checkpoints WHERE chain = ''"),
    ]
    .into_iter()
    .enumerate()
    {
        let (file, server) = (desk.file(&format!("target-{n}.db")), Database::fresh());
        migrated(&desk, &file);
        migrated(&desk, &server.url());
        let trigger = format!("CREATE TRIGGER edit AFTER INSERT ON {table} BEGIN {edit}; END");
        run_on_file(&file, &trigger);
        server.run(&format!(
            "CREATE FUNCTION edit() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {edit}; RETURN NULL; END $$; \
             CREATE TRIGGER edit AFTER INSERT ON {table} FOR EACH STATEMENT EXECUTE FUNCTION edit()"
        ));
        for url in [file.clone(), server.url()] {
            let said = format!("table {table}: what arrived is not what was sent");
            desk.refused(1, &[&said], &from, &url);
            desk.not_served(&url, UNFINISHED);
        }
        run_on_file(&file, "DROP TRIGGER edit");
        server.run(&format!("DROP TRIGGER edit ON {table}"));
        for url in [file, server.url()] {
            desk.must_copy(&from, &url);
        }
    }
}
