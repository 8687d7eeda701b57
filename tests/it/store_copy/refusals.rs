//! What is not copied, and that a refusal changes nothing and tells nobody a password.

use std::os::unix::fs::symlink;

use super::super::support::canary::Canary;
use super::super::support::instance::Instance;
use super::super::support::postgres::Database;
use super::super::support::process::{Home, kiket, run};
use super::rows::{block_on, dump_file, dump_server, run_on_file, tables_of_server};
use super::{Desk, assert_ended, stop};

const NEWER: &str = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
                     VALUES (9999, 'later', TRUE, 'x', 1)";

/// A file and a server with a few rows each.
fn served(desk: &Desk) -> (String, Database) {
    let (file, server) = (desk.file("kiket.db"), Database::fresh());
    for url in [&file, &server.url()] {
        let instance: Instance = desk.serve(url);
        instance.set("organization", "org", "KEY", "value");
        stop(instance);
    }
    (file, server)
}

#[test]
fn a_target_with_rows_is_refused_and_stays_as_it_is() {
    let desk = Desk::new();
    let (file, server) = served(&desk);
    let (of_file, of_server) = (dump_file(&file), dump_server(&server));
    let second = desk.file("second.db");
    desk.must_copy(&server.url(), &second);
    desk.refused(4, &["to: this database has rows"], &file, &server.url());
    desk.refused(4, &["to: this database has rows"], &server.url(), &file);
    desk.refused(4, &["to: this database has rows"], &file, &second);
    assert_eq!(dump_file(&file), of_file);
    assert_eq!(dump_server(&server), of_server);
    assert_eq!(
        dump_file(&second),
        of_server,
        "an earlier copy is a target with rows, too"
    );
}

#[test]
fn rows_that_this_version_knows_nothing_of_are_rows() {
    let desk = Desk::new();
    let (file, _) = served(&desk);
    let target = Database::fresh();
    target.run("CREATE TABLE _sqlx_migrations (version BIGINT, checksum BYTEA, success BOOLEAN)");
    target.run("CREATE TABLE elsewhere (word TEXT); INSERT INTO elsewhere VALUES ('kept')");
    desk.refused(4, &["to: this database has rows"], &file, &target.url());
    let tables = block_on(async { tables_of_server(&mut target.raw().await).await });
    assert_eq!(tables.len(), 2, "nothing was migrated: {tables:?}");
}

#[test]
fn a_database_that_is_served_is_neither_end_and_is_served_on() {
    let desk = Desk::new();
    let (file, server) = served(&desk);
    for url in [&file, &server.url()] {
        let instance = desk.serve(url);
        desk.refused(
            4,
            &["from: another kiket serves from this database"],
            url,
            &desk.file("out.db"),
        );
        let other = if *url == file { server.url() } else { file.clone() };
        desk.refused(4, &["to: another kiket serves from this database"], &other, url);
        instance.set("organization", "org", "KEY", "value while refused");
        stop(instance);
    }
    desk.must_copy(&server.url(), &desk.file("out.db"));
}

#[test]
fn both_ends_are_never_the_same_whatever_leads_there() {
    let desk = Desk::new();
    let (file, server) = served(&desk);
    symlink(desk.home.path().join("kiket.db"), desk.home.path().join("link.db")).unwrap();
    std::fs::hard_link(desk.home.path().join("kiket.db"), desk.home.path().join("hard.db")).unwrap();
    let long = file.replace("sqlite:", "sqlite://");
    for other in [&file, &long, "sqlite:kiket.db", "sqlite:link.db", "sqlite:hard.db"] {
        desk.refused(2, &["both ends are the same database"], &file, other);
    }
    let named = format!(
        "{}&application_name=other",
        server.url().replace("postgres:", "postgresql:")
    );
    desk.refused(2, &["both ends are the same database"], &server.url(), &named);
    stop(desk.serve(&file));
}

#[test]
fn other_keys_are_refused_before_a_row_is_copied() {
    let desk = Desk::new();
    let (file, server) = served(&desk);
    let other = Home::new();
    for (from, to) in [(file, Database::fresh()), (server.url(), Database::fresh())] {
        let mut command = desk.copy_command(&from, &to.url());
        command.env("KIKET_MASTER_KEY_FILE", other.path().join("master.key"));
        assert_ended(&run(command), 2, &["master_key_file: these are not the keys"]);
        let tables = block_on(async { tables_of_server(&mut to.raw().await).await });
        assert_eq!(tables, Vec::<String>::new());
    }
    let mut command = desk.copy_command("sqlite:kiket.db", "sqlite:out.db");
    command.env_remove("KIKET_MASTER_KEY_FILE");
    assert_ended(&run(command), 2, &["master_key_file"]);
}

#[test]
fn another_versions_database_is_refused_at_either_end() {
    let desk = Desk::new();
    let (file, server) = served(&desk);
    let foreign = "this is no database of this version of kiket";
    let newer = desk.file("newer.db");
    desk.must_copy(&file, &newer);
    run_on_file(&newer, NEWER);
    desk.refused(2, &["from: ", foreign], &newer, &desk.file("out.db"));
    desk.refused(2, &["to: ", foreign], &file, &newer);
    let older = desk.file("older.db");
    desk.must_copy(&file, &older);
    run_on_file(
        &older,
        "DELETE FROM _sqlx_migrations WHERE version = (SELECT MAX(version) FROM _sqlx_migrations)",
    );
    let before = dump_file(&older);
    desk.refused(
        2,
        &["from: an older version of kiket wrote this database"],
        &older,
        &desk.file("out.db"),
    );
    assert_eq!(dump_file(&older), before);
    server.run(NEWER);
    desk.refused(2, &["from: ", foreign], &server.url(), &desk.file("out.db"));
    desk.refused(2, &["to: ", foreign], &file, &server.url());
    let other_columns = Database::fresh();
    stop(desk.serve(&other_columns.url()));
    other_columns.run("ALTER TABLE policies ADD COLUMN extra BIGINT");
    let said = "table policies: its columns are not those of this version";
    desk.refused(2, &[said], &other_columns.url(), &desk.file("columns.db"));
}

#[test]
fn a_source_that_is_not_there_is_not_made() {
    let desk = Desk::new();
    desk.refused(
        2,
        &["from: the database file cannot be opened"],
        "sqlite:none.db",
        "sqlite:out.db",
    );
    std::fs::write(desk.home.path().join("empty.db"), b"").unwrap();
    desk.refused(2, &["from: this is no database"], "sqlite:empty.db", "sqlite:out.db");
    for name in ["none.db", "none.db.lock", "out.db"] {
        assert!(!desk.home.path().join(name).exists(), "{name}");
    }
    desk.refused(
        2,
        &["from: this is no database"],
        &Database::fresh().url(),
        "sqlite:out.db",
    );
}

#[test]
fn nothing_that_is_said_holds_a_password() {
    let desk = Desk::new();
    let (file, server) = served(&desk);
    let secret = "cnry-of-a-url-71";
    let away = format!("postgres://kiket:{secret}@127.0.0.1:1/kiket");
    let parameter = format!("postgres://kiket@127.0.0.1:1/kiket?passwrd={secret}");
    let canary = Canary::new(secret);
    let fine = format!("{}&password={secret}", server.url());
    for (arguments, code) in [
        (vec!["--from", &file, "--to", &away], 3),
        (vec!["--from", &away, "--to", &file], 3),
        (vec!["--from", &parameter, "--to", &file], 2),
        (vec!["--from", &file, "--to", &parameter], 2),
        (vec!["--from", &file, &away], 2),
        (vec!["--from", &file, "--to", &file, &away], 2),
        (vec!["--from", &fine, "--to", "sqlite:out.db"], 0),
    ] {
        let mut command = kiket(&[&["store", "copy"], &arguments[..]].concat());
        command.current_dir(desk.home.path());
        command.env("KIKET_MASTER_KEY_FILE", desk.home.path().join("master.key"));
        let ended = run(command);
        assert_eq!(ended.code, Some(code), "{arguments:?}: {}", ended.stderr);
        for text in [&ended.stdout, &ended.stderr] {
            assert_eq!(canary.found_in(text.as_bytes()), None, "{text}");
        }
    }
}
