//! Whether all goes on as before: rows, values, versions, positions, chains, cursors, there and back again.

use std::collections::BTreeSet;

use kiket_sidecar::store::copy::{COPIED, LEFT_BEHIND};
use serde_json::{Value, json};

use super::super::support::endpoint::Endpoint;
use super::super::support::instance::Instance;
use super::super::support::postgres::Database;
use super::super::support::terminal::Terminal;
use super::rows::{block_on, dump_file, dump_server, open_file, run_on_file, tables_of_file, tables_of_server};
use super::{Desk, named_request_as, operator, populate, stop};

/// What is delivered now. Notices of rotations come to the same endpoint, at any time.
fn delivered(instance: &Instance, endpoint: &Endpoint, key: &str) -> Option<String> {
    assert_eq!(instance.deliver("ins", b"{}").status, 200);
    let received = endpoint.received();
    let last = received.iter().rev().find(|one| one.target.ends_with("/issue.created"));
    last.unwrap().secret(key)
}

fn get(instance: &Instance, token: &str, path: &str) -> Value {
    let answer = instance.api_as(token, "GET", path, &Value::Null);
    assert_eq!(answer.status, 200, "{path}: {}", String::from_utf8_lossy(&answer.body));
    answer.json()
}

/// All that has to go on after a copy does, with the same keys and token; tells the version that it ends with.
fn goes_on(instance: &Instance, token: &str, endpoint: &Endpoint, version: u64) -> u64 {
    assert_eq!(delivered(instance, endpoint, "SHARED").as_deref(), Some("for all"));
    let value = format!("value after {version}");
    let place = json!({"scope": "extension_installation", "id": "ins", "organization_id": "org", "value": value});
    let rotated = instance.api_as(token, "POST", "/extensions/secrets/KEY/rotate", &place);
    assert_eq!(rotated.json()["version"], version + 1);
    assert_eq!(delivered(instance, endpoint, "KEY"), Some(value));
    assert_eq!(get(instance, token, "/secrets/audit/verify")["status"], "intact");
    version + 1
}

#[test]
fn every_row_goes_to_postgresql_and_back_and_everything_goes_on() {
    let (desk, endpoint, server) = (Desk::new(), Endpoint::start(), Database::fresh());
    let (first, last) = (desk.file("first.db"), desk.file("last.db"));
    let instance = desk.serve(&first);
    populate(&instance, &endpoint);
    let token = operator(&instance);
    // Named after the bootstrap token ended, by one that goes along.
    let named = named_request_as(&instance, &format!("Bearer {token}"));
    let page = get(&instance, &token, "/secrets/audit?limit=5");
    let cursor = format!(
        "/secrets/audit?limit=5&cursor={}",
        page["next_cursor"].as_str().unwrap()
    );
    let behind = get(&instance, &token, &cursor)["data"].clone();
    let key = "/extensions/secrets/KEY?scope=extension_installation&id=ins&organization_id=org";
    let version = get(&instance, &token, key)["version"].as_u64().unwrap();
    stop(instance);

    let said = desk.must_copy(&first, &server.url());
    let sent = dump_file(&first);
    for table in COPIED {
        assert!(!sent[table.name].is_empty(), "no row of {}", table.name);
        let line = said.lines().find(|line| line.starts_with(table.name)).unwrap();
        let rows = line.split_whitespace().nth(1).unwrap();
        assert_eq!(rows, sent[table.name].len().to_string(), "{said}");
    }
    assert_eq!(dump_server(&server), sent);

    let instance = desk.serve(&server.url());
    assert_eq!(get(&instance, &token, &cursor)["data"], behind, "a cursor from before");
    let again = named_request_as(&instance, &format!("Bearer {token}"));
    assert_eq!(again, named, "what was done for a client is not done again");
    let version = goes_on(&instance, &token, &endpoint, version);
    let reborn =
        json!({"scope": "organization", "id": "org", "key": "GONE", "value": "again", "organization_id": "org"});
    let reborn = instance.api_as(&token, "POST", "/extensions/secrets", &reborn).json();
    assert_eq!(reborn["version"], 3, "a tombstone keeps its versions: {reborn}");
    stop(instance);

    desk.must_copy(&server.url(), &last);
    assert_eq!(dump_file(&last), dump_server(&server));
    let instance = desk.serve(&last);
    assert_eq!(get(&instance, &token, &cursor)["data"], behind, "a cursor from before");
    goes_on(&instance, &token, &endpoint, version);
    stop(instance);
}

/// The highest position among tokens.
fn last_token(url: &str) -> i64 {
    block_on(async {
        let mut connection = open_file(url).await;
        let query = sqlx::query_scalar("SELECT MAX(position) FROM tokens");
        query.fetch_one(&mut connection).await.unwrap()
    })
}

#[test]
fn positions_go_on_behind_those_that_are_gone() {
    let (desk, server) = (Desk::new(), Database::fresh());
    let (first, last) = (desk.file("first.db"), desk.file("last.db"));
    let instance = desk.serve(&first);
    let token = operator(&instance);
    for n in 0..3 {
        let new = json!({"name": format!("n{n}"), "role": "auditor", "organization_id": "org"});
        let made = instance.api_as(&token, "POST", "/tokens", &new).json();
        let path = format!("/tokens/{}", made["id"].as_str().unwrap());
        assert_eq!(instance.api_as(&token, "DELETE", &path, &Value::Null).status, 204);
    }
    stop(instance);
    assert_eq!(last_token(&first), 1);
    desk.must_copy(&first, &server.url());
    desk.must_copy(&server.url(), &last);
    let instance = desk.serve(&last);
    let new = json!({"name": "new", "role": "auditor", "organization_id": "org"});
    assert_eq!(instance.api_as(&token, "POST", "/tokens", &new).status, 201);
    stop(instance);
    assert_eq!(last_token(&last), 5, "1 is there, 2 to 4 were");
}

#[test]
fn every_table_is_copied_or_left_behind_for_a_reason() {
    let listed = COPIED.iter().map(|table| table.name);
    let left = LEFT_BEHIND.iter().map(|(name, _)| *name);
    let listed: BTreeSet<String> = listed.chain(left).map(str::to_owned).collect();
    let (desk, server) = (Desk::new(), Database::fresh());
    let file = desk.file("kiket.db");
    stop(desk.serve(&file));
    stop(desk.serve(&server.url()));
    let (of_file, of_server) = block_on(async {
        let of_file = tables_of_file(&mut open_file(&file).await).await;
        (of_file, tables_of_server(&mut server.raw().await).await)
    });
    for (what, tables) in [("SQLite", of_file), ("PostgreSQL", of_server)] {
        let tables: BTreeSet<String> = tables.into_iter().collect();
        assert_eq!(tables, listed, "{what}: a line in src/store/copy/tables.rs");
    }
    assert!(LEFT_BEHIND.iter().all(|(_, why)| why.split(' ').count() > 5));
}

#[test]
fn a_broken_chain_is_copied_as_it_is_and_told() {
    let desk = Desk::new();
    let (first, last) = (desk.file("first.db"), desk.file("last.db"));
    let instance = desk.serve(&first);
    instance.set("organization", "org", "KEY", "value");
    instance.set("organization", "org", "KEY", "other value");
    stop(instance);
    run_on_file(
        &first,
        "UPDATE audit SET actor_name = 'nobody' WHERE chain = 'org' AND sequence = 2",
    );
    let ended = desk.refused(
        1,
        &[
            "the audit chain of org is broken: entry 2 was altered",
            "in the source, too",
        ],
        &first,
        &last,
    );
    assert!(ended.stdout.contains("every row was compared"), "{}", ended.stdout);
    assert_eq!(dump_file(&last), dump_file(&first));
    stop(desk.serve(&last));
}

#[test]
fn at_a_terminal_a_bar_says_how_far_it_is_and_elsewhere_lines_do() {
    let desk = Desk::new();
    let first = desk.file("first.db");
    stop(desk.serve(&first));
    let (code, screen, stdout) = Terminal::start(desk.copy_command(&first, &desk.file("seen.db"))).end();
    assert_eq!(code, Some(0), "{screen}");
    let total: usize = dump_file(&first).values().map(Vec::len).sum();
    for word in ["copying", "comparing"] {
        let full = format!("{word:<10}[{}] {total} of {total}", "#".repeat(30));
        assert!(screen.contains(&full), "no `{full}` in {screen}");
    }
    assert!(!screen.contains("rows"), "lines are for logs: {screen}");
    assert!(stdout.starts_with("TABLE"), "{stdout}");
    let lines = desk.copy(&first, &desk.file("logged.db")).stderr;
    assert!(lines.contains("copying    chain_heads: 1 rows\n"), "{lines}");
    assert!(!lines.contains('\r') && !lines.contains('#'), "{lines}");
    assert_eq!(lines.lines().count(), COPIED.len() * 2, "{lines}");
}
