//! Is the store there, this version's, whole, and its user's to use?

use rustix::process::geteuid;

use super::check::{Check, named};
use crate::config::{Config, Role};
use crate::store::{FileFacts, Holder, Look, OpenError, Schema, ServerFacts};

const NAME: &str = "store";

/// What an instance that only delivers adds rows to (`deploy/postgres/proxy_rights.sql`).
const WRITTEN_BY_PROXIES: [&str; 5] = ["alerts", "audit", "chain_heads", "instances", "outbox"];

/// What keeps a start from going well, and what to do.
type Finding = (String, &'static str);

pub(super) async fn look(config: &Config, looked: &Result<Look, OpenError>) -> Check {
    let look = match looked {
        Ok(look) => look,
        Err(error) => return Check::failed(NAME, format!("database_url: {error}"), advice(*error)),
    };
    if let Some(rows) = &look.rows
        && let Err(error) = rows.health().await
    {
        return Check::failed(NAME, error.to_string(), "look at the database's own log");
    }
    match &look.holder {
        Holder::File(facts) => file(facts, look.schema),
        Holder::Server(facts) => server(config.role, facts, look.schema),
    }
}

const fn advice(error: OpenError) -> &'static str {
    match error {
        OpenError::Scheme | OpenError::Address => "correct database_url",
        OpenError::Unreachable => "start the database server, or correct host and port in database_url",
        OpenError::Tls => "set sslrootcert in database_url, or correct the server's certificate",
        OpenError::Refused => "correct user, password (PGPASSWORD, ~/.pgpass) and database, or grant the rights",
        OpenError::Unsuited => "name a primary of PostgreSQL 13 or later, in UTF8",
        OpenError::File(_) => "make the file and its folder readable and writable for the user that serves",
        OpenError::InUse => "wait for the other process, or stop it",
        OpenError::Unfinished => "run the copy again, or serve from its source",
        OpenError::Foreign => "name another database, or restore this one from its backup",
        OpenError::Behind => "start an instance with role `admin` or `all` first",
        OpenError::NotDurable => "put the file on a local file system",
    }
}

fn file(facts: &FileFacts, schema: Schema) -> Check {
    let path = facts.path.display();
    let Some(mode) = facts.mode else {
        return match facts.is_writable {
            true => Check::ok(NAME, format!("no file at {path} yet; a start makes it")),
            false => Check::failed(
                NAME,
                format!("no file at {path}, and none can be made there"),
                "make its folder, for the user that serves alone: `install -d -m 700 -o USER FOLDER`",
            ),
        };
    };
    match of_version(schema).or_else(|| of_file(facts, mode)) {
        Some((seen, advice)) => Check::failed(NAME, format!("{path}: {seen}"), advice),
        None if mode & 0o007 != 0 => Check::warning(
            NAME,
            format!("{path}: others of this host may read or write it, mode {mode:04o}"),
            "chmod o-rwx the file; values in it are sealed, who has which is not",
        ),
        None => {
            let whole = if facts.is_whole == Some(true) { ", whole" } else { "" };
            let used = match facts.is_in_use {
                true => "; a running kiket has it",
                false => "",
            };
            Check::ok(
                NAME,
                format!("{path}, mode {mode:04o}, {}{whole}{used}", version(schema)),
            )
        }
    }
}

fn of_file(facts: &FileFacts, mode: u32) -> Option<Finding> {
    if facts.is_whole == Some(false) {
        let advice = "stop what serves from it, keep a copy, restore it from its backup";
        return Some((String::from("SQLite finds it damaged"), advice));
    }
    if !facts.is_writable {
        let user = geteuid().as_raw();
        let seen = format!("user {user} may not write it and beside it, mode {mode:04o}");
        return Some((
            seen,
            "run this as the user that serves; else give file and folder to that user",
        ));
    }
    None
}

fn server(role: Role, facts: &ServerFacts, schema: Schema) -> Check {
    let name = format!("{}, PostgreSQL {}", facts.name, facts.version);
    let of_version = match (role.administers(), schema) {
        (false, Schema::None | Schema::Older) => Some((
            OpenError::Behind.to_string(),
            "start an instance with role `admin` or `all` first",
        )),
        (false, Schema::Newer) => None, // a later version only adds
        _ => of_version(schema),
    };
    match of_version.or_else(|| of_rights(role, facts, schema)) {
        Some((seen, advice)) => Check::failed(NAME, format!("{name}: {seen}"), advice),
        None if facts.is_encrypted == Some(false) => Check::warning(
            NAME,
            format!("{name}: the connection is not encrypted"),
            "leave sslmode out of database_url, and name the server's authority with sslrootcert",
        ),
        None => {
            let encrypted = match facts.is_encrypted {
                Some(_) => "over TLS",
                None => "on this host",
            };
            Check::ok(NAME, format!("{name}, {encrypted}, {}", version(schema)))
        }
    }
}

fn of_rights(role: Role, facts: &ServerFacts, schema: Schema) -> Option<Finding> {
    const GRANT: &str = "run deploy/postgres/proxy_rights.sql as the owner of the tables, or serve as that owner";
    if !facts.unreadable.is_empty() {
        return Some((format!("this user may not read {}", named(&facts.unreadable)), GRANT));
    }
    let written = |table: &&String| role.administers() || WRITTEN_BY_PROXIES.contains(&table.as_str());
    let unwritable: Vec<&String> = facts.unwritable.iter().filter(written).collect();
    if !unwritable.is_empty() {
        return Some((format!("this user may not write to {}", named(&unwritable)), GRANT));
    }
    if !facts.may_create && matches!(schema, Schema::None | Schema::Older) {
        let seen = String::from("this user may make no tables, and some are to be made");
        return Some((
            seen,
            "GRANT CREATE ON SCHEMA to it, or let the owner of the database serve",
        ));
    }
    None
}

fn of_version(schema: Schema) -> Option<Finding> {
    (schema == Schema::Newer).then(|| {
        (
            String::from("a later version of kiket wrote it"),
            "start that version, or restore the backup that was made before the upgrade",
        )
    })
}

const fn version(schema: Schema) -> &'static str {
    match schema {
        Schema::None => "no tables yet; a start makes them",
        Schema::Older => "an older version's; a start brings it up, so back it up first",
        Schema::Current => "this version's",
        Schema::Newer => "a later version's, which this one serves from",
    }
}
