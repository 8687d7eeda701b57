//! What is made of a Vault's answers: one row per outcome, over TLS, for both versions of KV.

use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::support::external::{Asking, value, version};
use super::support::pki::Authority;
use super::support::vault::{FakeVault, Fault, furnished, put};

const LIMIT: usize = 64 * 1024;

/// A change of the Vault or the asking before one fetch.
type Arrange = Box<dyn Fn(&FakeVault, &mut Asking) + Send + Sync>;

fn arrange(change: impl Fn(&FakeVault, &mut Asking) + Send + Sync + 'static) -> Arrange {
    Box::new(change)
}

/// Nothing of note.
fn as_it_is() -> Arrange {
    arrange(|_, _| {})
}

/// The secret's data is this.
fn holding(data: Value) -> Arrange {
    arrange(move |vault, _| vault.root(|root| put(root, data.clone())))
}

/// The next reads fail so.
fn failing(faults: impl Fn() -> Vec<Fault> + Send + Sync + 'static) -> Arrange {
    arrange(move |vault, _| {
        vault.fail("secret/", &faults());
        vault.fail("kv/", &faults());
    })
}

fn always(status: u16) -> Arrange {
    failing(move || vec![Fault::Status(status); 10])
}

fn saying(status: u16, body: &'static [u8]) -> Arrange {
    failing(move || vec![Fault::Bytes(status, body.to_vec()); 10])
}

/// Every row: what is so, where it is read, what comes of it, and how many reads that takes.
struct Row {
    what: &'static str,
    arrange: Arrange,
    reference: &'static str,
    outcome: &'static str,
    reads: usize,
}

/// Fetches every row's reference from a Vault of its own, all at once: some rows wait.
fn hold(rows: Vec<Row>) {
    let authority = &Authority::new("dev CA");
    thread::scope(|scope| {
        let running: Vec<_> = rows
            .into_iter()
            .map(|row| (row.what, row.reference, scope.spawn(move || fetch(authority, &row))))
            .collect();
        for (what, reference, row) in running {
            assert!(row.join().is_ok(), "{what}: {reference}");
        }
    });
}

fn fetch(authority: &Authority, row: &Row) {
    let (vault, mut asking) = furnished(authority);
    (row.arrange)(&vault, &mut asking);
    let outcome = asking.open().outcome(row.reference);
    let reads = vault
        .asked()
        .iter()
        .filter(|asked| !asked.path.starts_with("auth/"))
        .count();
    assert_eq!(
        (outcome, reads),
        (row.outcome, row.reads),
        "{} {}",
        row.what,
        row.reference
    );
}

/// A row that is so in both versions of KV.
fn both(what: &'static str, arrange: fn() -> Arrange, outcome: &'static str, reads: usize) -> [Row; 2] {
    ["vault:secret/a/b#f", "vault:kv/a/b#f"].map(|reference| Row {
        what,
        arrange: arrange(),
        reference,
        outcome,
        reads,
    })
}

fn one(what: &'static str, arrange: Arrange, reference: &'static str, outcome: &'static str) -> [Row; 1] {
    [Row {
        what,
        arrange,
        reference,
        outcome,
        reads: 1,
    }]
}

#[test]
fn a_value_is_found_where_it_stands() {
    let authority = Authority::new("dev CA");
    let (vault, asking) = furnished(&authority);
    vault.root(|root| {
        put(
            root,
            json!({"value": "bare", "f": "value", "pem": "a\nb\u{e4}\u{1f600}\"\\"}),
        );
    });
    let asker = asking.open();
    for (reference, expected) in [
        ("vault:secret/a/b#f", "value"),
        ("vault:secret/a/b#f@1", "first"),
        ("vault:secret/a/b#g@2", "other"),
        ("vault:secret/a/b#pem@3", "a\nb\u{e4}\u{1f600}\"\\"),
        ("secret/a/b", "bare"),
        ("vault:kv/a/b#f", "value"),
        ("vault:kv/a/b#pem", "a\nb\u{e4}\u{1f600}\"\\"),
        ("kv/a/b", "bare"),
    ] {
        assert_eq!(value(&asker.fetch(reference)), expected, "{reference}");
    }
    let asked = vault.asked();
    assert!(asked.iter().all(|asked| asked.is_marked && asked.namespace.is_empty()));
    assert!(asked.iter().all(|asked| asked.token.as_deref() == Some("reader")));
    // A connection that carried a value does not outlive it.
    vault.tls().wait("the end of the connections", |sessions, seen| {
        sessions.len() == seen.len() && sessions.iter().all(|session| session.closed)
    });
}

#[test]
fn what_does_not_exist_is_dangling() {
    let removed = |version, destroy| {
        arrange(move |vault: &FakeVault, _: &mut Asking| {
            vault.root(|root| root.remove("a/b", version, destroy));
        })
    };
    let mut rows = Vec::new();
    rows.extend(one("no path", as_it_is(), "vault:secret/a/c#f", "dangling"));
    rows.extend(one("no path", as_it_is(), "vault:kv/a/c#f", "dangling"));
    rows.extend(one("no field", as_it_is(), "vault:secret/a/b#none", "dangling"));
    rows.extend(one("no field", as_it_is(), "vault:kv/a/b#none", "dangling"));
    rows.extend(one("no mount", as_it_is(), "vault:none/a/b#f", "dangling"));
    rows.extend(one("deleted", removed(2, false), "vault:secret/a/b#f", "dangling"));
    rows.extend(one("destroyed", removed(2, true), "vault:secret/a/b#f", "dangling"));
    rows.extend(one(
        "pinned, deleted",
        removed(1, false),
        "vault:secret/a/b#f@1",
        "dangling",
    ));
    rows.extend(one(
        "pinned, destroyed",
        removed(1, true),
        "vault:secret/a/b#f@1",
        "dangling",
    ));
    rows.extend(one("pinned, none", as_it_is(), "vault:secret/a/b#f@3", "dangling"));
    rows.extend(one(
        "another one deleted",
        removed(1, false),
        "vault:secret/a/b#f",
        "found",
    ));
    let null = br#"{"data":{"data":null,"metadata":{"version":2,"created_time":""}}}"#;
    rows.extend(one(
        "deleted, said with 200",
        saying(200, null),
        "vault:secret/a/b#f",
        "dangling",
    ));
    hold(rows);
}

#[test]
fn what_may_not_be_read_is_denied_and_not_asked_again() {
    let with =
        |token: &'static str| move || arrange(move |_, asking: &mut Asking| asking.credential = Some(token.into()));
    let mut rows = Vec::new();
    rows.extend(both(
        "no policy",
        || arrange(|_, asking| asking.credential = Some("stranger".into())),
        "denied",
        1,
    ));
    rows.extend(both("401", || always(401), "denied", 1));
    rows.extend(both("403 that is not Vault's", || saying(403, b"<html>"), "denied", 1));
    for reference in ["vault:secret/a/b#f", "vault:kv/a/b#f"] {
        rows.push(Row {
            what: "an unknown token",
            arrange: with("nobody")(),
            reference,
            outcome: "denied",
            reads: 1,
        });
    }
    hold(rows);
}

#[test]
fn what_may_pass_is_asked_four_times_and_what_does_not_pass_once() {
    let mut rows = Vec::new();
    rows.extend(both("412", || always(412), "not-caught-up", 4));
    rows.extend(both("429", || always(429), "rate-limited", 4));
    rows.extend(both("500", || always(500), "server-error", 4));
    rows.extend(both("502", || always(502), "server-error", 4));
    rows.extend(both("503", || always(503), "server-error", 4));
    rows.extend(both("504", || always(504), "server-error", 4));
    rows.extend(both("412 once", || failing(|| vec![Fault::Status(412)]), "found", 2));
    rows.extend(both("429 once", || failing(|| vec![Fault::Wait(429, 0)]), "found", 2));
    rows.extend(both(
        "5xx thrice",
        || failing(|| vec![Fault::Status(502); 3]),
        "found",
        4,
    ));
    rows.extend(both(
        "a wait past the time",
        || failing(|| vec![Fault::Wait(429, 3_600)]),
        "rate-limited",
        1,
    ));
    rows.extend(both(
        "sealed",
        || saying(503, br#"{"errors":["Vault is sealed"]}"#),
        "sealed",
        1,
    ));
    rows.extend(both("400", || always(400), "wrong-shape", 1));
    rows.extend(both("405", || always(405), "wrong-shape", 1));
    hold(rows);
}

#[test]
fn what_is_no_value_is_neither_found_nor_missing() {
    let mut rows = Vec::new();
    rows.extend(both("a number", || holding(json!({"f": 1})), "wrong-shape", 1));
    rows.extend(both("null", || holding(json!({"f": null})), "wrong-shape", 1));
    rows.extend(both(
        "an object",
        || holding(json!({"f": {"a": "b"}})),
        "wrong-shape",
        1,
    ));
    rows.extend(both("a list", || holding(json!({"f": ["a"]})), "wrong-shape", 1));
    rows.extend(both("empty", || holding(json!({"f": ""})), "wrong-shape", 1));
    rows.extend(both("one byte", || holding(json!({"f": "x"})), "found", 1));
    rows.extend(both("no JSON", || saying(200, b"<html>"), "wrong-shape", 1));
    rows.extend(both("nothing", || saying(200, b""), "wrong-shape", 1));
    rows.extend(both(
        "another document",
        || saying(200, b"{\"data\":[]}"),
        "wrong-shape",
        1,
    ));
    rows.extend(both("a success of another kind", || saying(204, b""), "wrong-shape", 1));
    rows.extend(both(
        "404 that is not Vault's",
        || saying(404, b"<html>not found"),
        "wrong-shape",
        1,
    ));
    rows.extend(both("404 without a word", || saying(404, b"{}"), "wrong-shape", 1));
    let v2 = "vault:secret/a/b#f";
    let v2_of = |field: &[u8]| {
        let rest = br#"},"metadata":{"version":2}}}"#;
        [br#"{"data":{"data":{"f":"#, field, rest].concat().leak() as &[u8]
    };
    rows.extend(one("text", saying(200, v2_of(b"\"x\"")), v2, "found"));
    rows.extend(one("no UTF-8", saying(200, v2_of(b"\"\xff\"")), v2, "wrong-shape"));
    rows.extend(one(
        "half a character",
        saying(200, v2_of(b"\"\\ud800\"")),
        v2,
        "wrong-shape",
    ));
    let pinned = "vault:secret/a/b#f@1";
    rows.extend(one(
        "another version than the pinned",
        saying(200, v2_of(b"\"x\"")),
        pinned,
        "wrong-shape",
    ));
    hold(rows);
}

#[test]
fn a_value_of_64_kib_is_found_and_a_larger_one_is_too_large() {
    let mut rows = Vec::new();
    rows.extend(both(
        "at the limit",
        || holding(json!({"f": "x".repeat(LIMIT)})),
        "found",
        1,
    ));
    rows.extend(both(
        "over it",
        || holding(json!({"f": "x".repeat(LIMIT + 1)})),
        "too-large",
        1,
    ));
    rows.extend(both(
        "at the limit, escaped",
        || holding(json!({"f": "\u{1}".repeat(LIMIT)})),
        "found",
        1,
    ));
    let siblings = || holding(json!({"f": "x", "g": "y".repeat(512 * 1024)}));
    rows.extend(both("beside too much", siblings, "too-large", 1));
    hold(rows);
}

#[test]
fn a_vault_that_does_not_answer_in_time_is_left() {
    let (vault, asking) = furnished(&Authority::new("dev CA"));
    vault.fail("secret/", &[Fault::Stall]);
    let asker = asking.open();
    let fetched = asker.fetch_within("vault:secret/a/b#f", Duration::from_millis(200));
    assert_eq!(fetched.name(), "timeout");
    assert_eq!(asker.outcome("vault:secret/a/b#f"), "found");
}

#[test]
fn a_wait_that_vault_names_is_kept() {
    let (vault, asking) = furnished(&Authority::new("dev CA"));
    vault.fail("secret/", &[Fault::Wait(429, 1)]);
    let before = std::time::Instant::now();
    assert_eq!(asking.open().outcome("vault:secret/a/b#f"), "found");
    assert!(before.elapsed() >= Duration::from_secs(1));
}

#[test]
fn a_value_that_was_replaced_is_another_version() {
    let (vault, asking) = furnished(&Authority::new("dev CA"));
    let asker = asking.open();
    let both = || ["secret", "kv"].map(|mount| version(asker.fetch(&format!("vault:{mount}/a/b#f"))));
    let (first, again) = (both(), both());
    assert_eq!(first, again);
    vault.root(|root| put(root, json!({"f": "third"})));
    let third = both();
    assert!(third[0] != first[0] && third[1] != first[1]);
    assert!(third[0].name().unwrap().starts_with("3@") && third[1].name().is_none());
    // A secret that was removed with its history starts at 1 again.
    vault.root(|root| {
        root.forget("a/b");
        root.put("secret", "a/b", json!({"f": "anew"}));
    });
    let anew = both();
    vault.root(|root| {
        root.forget("a/b");
        root.put("secret", "a/b", json!({"f": "once more"}));
    });
    let once_more = both();
    assert!(
        [&anew, &once_more]
            .iter()
            .all(|versions| versions[0].name().unwrap().starts_with("1@"))
    );
    assert!(anew[0] != once_more[0] && anew[1] == third[1]);
}
