//! What is made of Google's answers: one row per outcome, over TLS, pinned and not.

mod versions;

use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::StatusCode;
use kiket_sidecar::domain::provider::{ProviderFields, TargetError};
use kiket_sidecar::domain::reference::Reference;
use serde_json::{Value, json};

use crate::support::external::{Asking, PATIENCE, value, version};
use crate::support::gsm::account::Account;
use crate::support::gsm::{ACCESSOR, FakeGsm, Fault, State, VIEWER};
use crate::support::pki::Authority;

const LIMIT: usize = 64 * 1024;
const PROJECT: &str = "acme-prod";
const LATEST: &str = "gsm:projects/acme-prod/secrets/kiket-crm";
const FIRST: &str = "gsm:projects/acme-prod/secrets/kiket-crm/versions/1";

/// Settings of a provider at this address, asked with a service account.
fn fields(address: String) -> ProviderFields {
    ProviderFields {
        kind: "gsm".into(),
        address,
        path_prefix: "projects/acme-prod/secrets/kiket-".into(),
        auth_method: "service_account".into(),
        credential_key: "GOOGLE_ACCOUNT".into(),
        ca_key: "GOOGLE_CA".into(),
        ..ProviderFields::default()
    }
}

/// A Secret Manager with two versions of `kiket-crm`, and an account that may access them.
fn furnished(authority: &Authority, account: &Account) -> (FakeGsm, Asking) {
    let asking = Asking::new(fields(String::new()), &account.json().to_string(), &authority.pem());
    let google = FakeGsm::start(Some(&authority.server(&["127.0.0.1"])), asking.clock.clone());
    google.admit(account, PROJECT, &[ACCESSOR, VIEWER]);
    google.add(PROJECT, "kiket-crm", b"first");
    google.add(PROJECT, "kiket-crm", b"second");
    let fields = fields(google.url());
    (google, Asking { fields, ..asking })
}

/// A change of the Secret Manager or the asking before one fetch.
type Arrange = Box<dyn Fn(&FakeGsm, &mut Asking, &Account) + Send + Sync>;

/// What is so, and how it comes about.
type Case = (&'static str, fn() -> Arrange);

fn arrange(change: impl Fn(&FakeGsm) + Send + Sync + 'static) -> Arrange {
    Box::new(move |google, _, _| change(google))
}

/// The next requests come to this.
fn failing(faults: Vec<Fault>) -> Arrange {
    arrange(move |google| google.next(faults.clone()))
}

fn always(code: u16, status: &str) -> Arrange {
    failing(vec![Fault::google(code, status); 10])
}

fn saying(code: u16, body: &'static [u8]) -> Arrange {
    let status = StatusCode::from_u16(code).unwrap();
    failing(vec![Fault::Answer(status, &[], Bytes::from_static(body)); 10])
}

/// There is another secret.
fn holding(secret: &'static str, value: Vec<u8>) -> Arrange {
    arrange(move |google| {
        google.add(PROJECT, secret, &value);
    })
}

/// The right answer, changed.
fn changed(change: fn(&mut Value)) -> Arrange {
    failing(vec![Fault::Changed(change); 10])
}

/// Versions are in these states, and the account has these rights.
fn turned(states: &'static [(usize, State)], rights: &'static [&'static [&'static str]]) -> Arrange {
    Box::new(move |google, _, account| {
        for (version, state) in states {
            google.turn(PROJECT, "kiket-crm", *version, *state);
        }
        google.admit(account, PROJECT, rights);
    })
}

/// Every row: what is so, where it is read, what comes of it, and how many requests that takes.
struct Row {
    what: &'static str,
    arrange: Arrange,
    reference: &'static str,
    outcome: &'static str,
    requests: usize,
}

/// Fetches every row's reference from a Secret Manager of its own, all at once: some rows wait.
fn hold(rows: Vec<Row>) {
    let (authority, account) = (&Authority::new("dev CA"), &Account::new("reader"));
    thread::scope(|scope| {
        let running: Vec<_> = rows
            .into_iter()
            .map(|row| {
                (
                    row.what,
                    row.reference,
                    scope.spawn(move || fetch(authority, account, &row)),
                )
            })
            .collect();
        for (what, reference, row) in running {
            assert!(row.join().is_ok(), "{what}: {reference}");
        }
    });
}

fn fetch(authority: &Authority, account: &Account, row: &Row) {
    let (google, mut asking) = furnished(authority, account);
    (row.arrange)(&google, &mut asking, account);
    let came = (asking.open().outcome(row.reference), google.paths().len());
    assert_eq!(came, (row.outcome, row.requests), "{} {}", row.what, row.reference);
}

/// A row that is so whether a version is pinned or not.
fn both(what: &'static str, arrange: fn() -> Arrange, outcome: &'static str, requests: usize) -> [Row; 2] {
    [LATEST, FIRST].map(|reference| one(what, arrange(), reference, outcome, requests))
}

fn one(what: &'static str, arrange: Arrange, reference: &'static str, outcome: &'static str, requests: usize) -> Row {
    Row {
        what,
        arrange,
        reference,
        outcome,
        requests,
    }
}

#[test]
fn a_value_is_found_where_it_stands() {
    let (google, asking) = furnished(&Authority::new("dev CA"), &Account::new("reader"));
    google.add(PROJECT, "kiket-pem", "a\nb\u{e4}\u{1f600}\"\\\0".as_bytes());
    let asker = asking.open();
    for (reference, expected, number) in [
        (LATEST, "second", "2"),
        (
            "gsm:projects/acme-prod/secrets/kiket-crm/versions/latest-enabled",
            "second",
            "2",
        ),
        (FIRST, "first", "1"),
        ("projects/acme-prod/secrets/kiket-crm/versions/2", "second", "2"),
        (
            "gsm:projects/acme-prod/secrets/kiket-pem",
            "a\nb\u{e4}\u{1f600}\"\\\0",
            "1",
        ),
    ] {
        let fetched = asker.fetch(reference);
        assert_eq!(value(&fetched), expected, "{reference}");
        assert_eq!(version(fetched).name(), Some(number), "{reference}");
    }
    assert_eq!(
        google.paths().first().unwrap(),
        "GET /v1/projects/acme-prod/secrets/kiket-crm/versions/latest:access"
    );
    assert_eq!(google.paths().len(), 5);
}

#[test]
fn what_does_not_exist_is_dangling() {
    let at = |reference| one("nothing there", arrange(|_| {}), reference, "dangling", 1);
    hold(vec![
        at("gsm:projects/acme-prod/secrets/kiket-none"),
        at("gsm:projects/acme-prod/secrets/kiket-none/versions/1"),
        at("gsm:projects/acme-prod/secrets/kiket-crm/versions/3"),
        at("gsm:projects/acme-prod/secrets/kiket-crm/versions/18446744073709551615"),
    ]);
}

#[test]
fn what_may_not_be_read_is_denied_and_not_asked_again() {
    let mut rows = Vec::new();
    rows.extend(both("no rights", || turned(&[], &[VIEWER]), "denied", 1));
    rows.extend(both("403 that is not Google's", || saying(403, b"<html>"), "denied", 1));
    rows.extend(both("401 twice", || always(401, "UNAUTHENTICATED"), "denied", 2));
    rows.extend(both(
        "401 once",
        || failing(vec![Fault::google(401, "UNAUTHENTICATED")]),
        "found",
        2,
    ));
    hold(rows);
}

#[test]
fn what_may_pass_is_asked_four_times_and_what_does_not_pass_once() {
    let mut rows = Vec::new();
    rows.extend(both("429", || always(429, "RESOURCE_EXHAUSTED"), "rate-limited", 4));
    rows.extend(both("500", || always(500, "INTERNAL"), "server-error", 4));
    rows.extend(both("502", || saying(502, b"<html>"), "server-error", 4));
    rows.extend(both("503", || always(503, "UNAVAILABLE"), "server-error", 4));
    rows.extend(both("504", || always(504, "DEADLINE_EXCEEDED"), "server-error", 4));
    rows.extend(both("broken off", || failing(vec![Fault::Break; 10]), "unreachable", 4));
    rows.push(one(
        "429 once",
        failing(vec![Fault::google(429, "RESOURCE_EXHAUSTED")]),
        LATEST,
        "found",
        2,
    ));
    rows.push(one(
        "5xx thrice",
        failing(vec![Fault::google(500, "INTERNAL"); 3]),
        LATEST,
        "found",
        4,
    ));
    rows.push(one("broken off once", failing(vec![Fault::Break]), LATEST, "found", 2));
    let far = Fault::google_with(429, "RESOURCE_EXHAUSTED", &[("retry-after", "3600")]);
    rows.push(one(
        "a wait past the time",
        failing(vec![far]),
        LATEST,
        "rate-limited",
        1,
    ));
    rows.extend(both("400", || always(400, "INVALID_ARGUMENT"), "wrong-shape", 1));
    rows.extend(both(
        "400 that is not Google's",
        || saying(400, b"<html>"),
        "wrong-shape",
        1,
    ));
    rows.extend(both("405", || saying(405, b""), "wrong-shape", 1));
    hold(rows);
}

#[test]
fn what_is_no_value_is_neither_found_nor_missing() {
    let mut rows = Vec::new();
    let cases: &[Case] = &[
        ("empty", || changed(|a| a["payload"] = json!({"dataCrc32c": "0"}))),
        ("no payload", || changed(|a| a["payload"] = Value::Null)),
        ("no name", || changed(|a| a["name"] = Value::Null)),
        ("a checksum that is missing", || {
            changed(|a| drop(a["payload"].as_object_mut().unwrap().remove("dataCrc32c")))
        }),
        ("a checksum that is a number", || {
            changed(|a| a["payload"]["dataCrc32c"] = json!(1))
        }),
        ("a checksum of 33 bits", || {
            changed(|a| a["payload"]["dataCrc32c"] = json!("4294967296"))
        }),
        ("a negative checksum", || {
            changed(|a| a["payload"]["dataCrc32c"] = json!("-1"))
        }),
        ("no base64", || changed(|a| a["payload"]["data"] = json!("a"))),
        ("base64 for URLs", || changed(|a| a["payload"]["data"] = json!("_-8="))),
        ("another secret", || {
            changed(|a| a["name"] = json!("projects/7/secrets/kiket-crm2/versions/1"))
        }),
        ("no version", || {
            changed(|a| a["name"] = json!("projects/7/secrets/kiket-crm/versions/latest"))
        }),
        ("no JSON", || saying(200, b"<html>")),
        ("nothing", || saying(200, b"")),
        ("another document", || saying(200, b"[]")),
        ("a success of another kind", || saying(204, b"")),
        ("404 that is not Google's", || saying(404, b"<html>not found")),
        ("404 without a word", || saying(404, b"{}")),
    ];
    for (what, arrange) in cases {
        rows.extend(both(what, *arrange, "wrong-shape", 1));
    }
    let no_text = || holding("kiket-bytes", vec![0xff, 0xfe]);
    rows.push(one(
        "no UTF-8",
        no_text(),
        "gsm:projects/acme-prod/secrets/kiket-bytes",
        "wrong-shape",
        1,
    ));
    let other = changed(|a| a["name"] = json!("projects/7/secrets/kiket-crm/versions/2"));
    rows.push(one("another version than the pinned", other, FIRST, "wrong-shape", 1));
    hold(rows);
}

#[test]
fn a_value_that_came_damaged_is_asked_for_again_and_never_used() {
    let mut rows = Vec::new();
    rows.extend(both(
        "another value",
        || changed(|a| a["payload"]["data"] = json!("eA==")),
        "corrupted",
        4,
    ));
    rows.extend(both(
        "another checksum",
        || changed(|a| a["payload"]["dataCrc32c"] = json!("1")),
        "corrupted",
        4,
    ));
    let once = || failing(vec![Fault::Changed(|a| a["payload"]["data"] = json!("eA=="))]);
    rows.extend(both("once", once, "found", 2));
    hold(rows);
}

#[test]
fn a_value_of_64_kib_is_found_and_a_larger_one_is_too_large() {
    let sized = |length: usize| holding("kiket-large", vec![b'x'; length]);
    let at = |what, length, outcome| {
        one(
            what,
            sized(length),
            "gsm:projects/acme-prod/secrets/kiket-large",
            outcome,
            1,
        )
    };
    hold(vec![
        at("one byte", 1, "found"),
        at("at the limit", LIMIT, "found"),
        at("over it", LIMIT + 1, "too-large"),
        at("over what is read", 2 * LIMIT, "too-large"),
    ]);
}

#[test]
fn what_is_outside_the_prefix_is_never_asked_for() {
    let account = Account::new("reader");
    let (google, asking) = furnished(&Authority::new("dev CA"), &account);
    google.admit(&account, "other", &[ACCESSOR]);
    google.add("other", "kiket-crm", b"other's");
    google.add(PROJECT, "crm", b"not kiket's");
    let asker = asking.open();
    let gsm = |project: &str, secret: &str, version| Reference::Gsm {
        project: project.into(),
        secret: secret.into(),
        version,
    };
    for (reference, refused) in [
        (gsm("other", "kiket-crm", None), TargetError::OutsidePrefix),
        (gsm(PROJECT, "crm", None), TargetError::OutsidePrefix),
        (gsm(PROJECT, "Kiket-crm", Some(1)), TargetError::OutsidePrefix),
        (
            gsm("acme-prod/secrets/kiket-crm/../../other", "kiket-crm", None),
            TargetError::Malformed,
        ),
        (gsm("..", "kiket-crm", None), TargetError::Malformed),
        (gsm(PROJECT, "kiket-/../crm", None), TargetError::Malformed),
        (gsm(PROJECT, "kiket-%2e%2e", None), TargetError::Malformed),
        (gsm(PROJECT, "kiket-crm:destroy", None), TargetError::Malformed),
        (gsm(PROJECT, "kiket-crm?x", None), TargetError::Malformed),
        (gsm(PROJECT, "kiket-crm", Some(0)), TargetError::Malformed),
        (
            Reference::Path("projects/other/secrets/kiket-crm".into()),
            TargetError::OutsidePrefix,
        ),
        (Reference::Path("secrets/kiket/crm".into()), TargetError::Malformed),
    ] {
        let fetched = asker.try_fetch(&reference, PATIENCE).map(|fetched| fetched.name());
        assert_eq!(fetched, Err(refused), "{reference:?}");
    }
    assert_eq!(google.connections(), 0);
    assert_eq!(asker.outcome(LATEST), "found");
}

#[test]
fn a_google_that_cannot_be_reached_or_trusted_gets_no_question() {
    let authority = Authority::new("dev CA");
    let (google, asking) = furnished(&authority, &Account::new("reader"));
    let (own, stranger) = (Some(authority.pem()), Some(Authority::new("unknown CA").pem()));
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr();
    let nobody = format!("https://{}", nobody.unwrap());
    let open = "127.0.0.0/8";
    for (what, authority, address, allow, outcome) in [
        ("another CA", stranger, google.url(), open, "tls-failed"),
        ("the system's roots", None, google.url(), open, "tls-failed"),
        ("a closed network", own.clone(), google.url(), "10.0.0.0/8", "refused"),
        ("nobody", own, nobody, open, "unreachable"),
    ] {
        let asking = Asking {
            fields: fields(address),
            credential: asking.credential.clone(),
            authority,
            allow,
            allow_http: true,
            clock: asking.clock.clone(),
        };
        assert_eq!(asking.open().outcome(LATEST), outcome, "{what}");
    }
    assert_eq!(google.paths().len(), 0);
    assert_eq!(asking.open().outcome(LATEST), "found");
}

#[test]
fn a_google_that_does_not_answer_in_time_is_left() {
    let (google, asking) = furnished(&Authority::new("dev CA"), &Account::new("reader"));
    google.next([Fault::Stall]);
    let asker = asking.open();
    assert_eq!(asker.fetch_within(LATEST, Duration::from_millis(200)).name(), "timeout");
    assert_eq!(asker.outcome(LATEST), "found");
}

#[test]
fn a_redirect_is_not_followed() {
    let (authority, account) = (Authority::new("dev CA"), Account::new("reader"));
    let (google, asking) = furnished(&authority, &account);
    let (elsewhere, _) = furnished(&authority, &account);
    let location = format!(
        "{}/v1/projects/acme-prod/secrets/kiket-crm/versions/latest:access",
        elsewhere.url()
    );
    let headers: &'static [_] = vec![("location", &*location.leak())].leak();
    google.next([Fault::Answer(StatusCode::TEMPORARY_REDIRECT, headers, Bytes::new())]);
    assert_eq!(asking.open().outcome(LATEST), "redirected");
    assert_eq!(elsewhere.connections(), 0);
}

#[test]
fn a_wait_that_google_names_is_kept() {
    let (google, asking) = furnished(&Authority::new("dev CA"), &Account::new("reader"));
    google.next([Fault::google_with(429, "RESOURCE_EXHAUSTED", &[("retry-after", "1")])]);
    let before = Instant::now();
    assert_eq!(asking.open().outcome(LATEST), "found");
    assert!(before.elapsed() >= Duration::from_secs(1));
}
