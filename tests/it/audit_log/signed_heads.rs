//! Whether chains are signed when they grew, by the clock, into the table and into the log.

use std::io::Cursor;
use std::time::{Duration, Instant};

use kiket_sidecar::audit::{Finding, Verifier};
use kiket_sidecar::cli::audit_export;
use kiket_sidecar::crypto::keyring::Keyring;
use kiket_sidecar::domain::time::Timestamp;
use kiket_sidecar::store::{Store, StoreError};
use rustix::process::Signal;

use super::super::support::gated_store::Gated;
use super::super::support::process::{Home, Process};
use super::{organization, record, recorder};

/// Longer than anything takes; a test that hangs fails.
const PATIENCE: Duration = Duration::from_secs(30);

fn signed(gated: &Gated, of: Option<&str>) -> Vec<(u64, u64)> {
    let of = of.map(organization);
    let rows = gated.block_on(gated.store.checkpoints(of.as_ref(), 0, 100)).unwrap();
    rows.iter()
        .map(|row| (row.checkpoint.sequence, row.checkpoint.at.0))
        .collect()
}

#[test]
fn a_chain_is_signed_when_it_grew_and_only_then() {
    let gated = Gated::open();
    let recorder_one = recorder(&gated);
    let sign = |at| gated.block_on(recorder_one.checkpoint(Timestamp(at))).unwrap();
    sign(1);
    assert_eq!(signed(&gated, Some("org")), [], "there is no chain yet");
    record(&gated, 1..=3);
    sign(2);
    sign(3);
    assert_eq!(signed(&gated, Some("org")), [(3, 2)]);
    record(&gated, [4]);
    sign(4);
    assert_eq!(signed(&gated, Some("org")), [(3, 2), (4, 4)]);
    // Another process goes on where this one was.
    let another = recorder(&gated);
    let before = gated.store.calls("commit");
    gated.block_on(another.checkpoint(Timestamp(5))).unwrap();
    assert_eq!(gated.store.calls("commit"), before);
    record(&gated, [5]);
    gated
        .block_on(another.checkpoint_one(Some(&organization("org")), Timestamp(6)))
        .unwrap();
    assert_eq!(signed(&gated, Some("org")), [(3, 2), (4, 4), (5, 6)]);
    gated
        .block_on(another.checkpoint_one(Some(&organization("none")), Timestamp(7)))
        .unwrap();
    assert_eq!(signed(&gated, Some("none")), []);
}

#[test]
fn a_long_chain_is_signed_whole() {
    let gated = Gated::open();
    record(&gated, 1..=1_201); // more than two pages
    gated.block_on(recorder(&gated).checkpoint(Timestamp(9))).unwrap();
    assert_eq!(signed(&gated, Some("org")), [(1_201, 9)]);
    let report = super::verified(&gated, Some("org"));
    assert_eq!((report.finding, report.entries), (None, 1_201));
    // Beyond the first page, too, an edit is found, and where it is.
    gated.damage("UPDATE audit SET version = 0 WHERE chain = 'org' AND sequence = 1100");
    assert_eq!(
        super::verified(&gated, Some("org")).finding,
        Some(Finding::Altered { sequence: 1_100 })
    );
    gated.damage("UPDATE audit SET action = 'nothing' WHERE chain = 'org' AND sequence = 777");
    let report = super::verified(&gated, Some("org"));
    assert_eq!(
        (report.finding, report.last),
        (Some(Finding::Unreadable { sequence: 777 }), Some(776))
    );
}

#[test]
fn an_instance_signs_every_five_minutes_of_its_clock() {
    let gated = Gated::open();
    let instance = gated.start(&[]);
    record(&gated, 1..=2);
    let started = kiket_sidecar::clock::Clock::now(&*instance.clock).0;
    // The counts of a minute are due before: when they are told, checkpoints were looked at, too.
    instance.api_as("nobody", "GET", "/extensions/secrets", &serde_json::Value::Null);
    instance.clock.advance(5 * 60_000 - 1);
    let asked = Instant::now();
    let strangers = || gated.block_on(gated.store.chain(None, 0, 100)).unwrap().len() > 1;
    while !strangers() {
        instance.metrics();
        assert!(asked.elapsed() < PATIENCE, "nobody looked at the clock");
    }
    assert_eq!(signed(&gated, Some("org")), []);
    instance.clock.advance(1);
    while signed(&gated, Some("org")).is_empty() {
        instance.metrics();
        assert!(asked.elapsed() < PATIENCE, "nothing was signed");
    }
    assert_eq!(signed(&gated, Some("org")), [(2, started + 5 * 60_000)]);
}

#[test]
fn the_log_remembers_heads_that_were_cut_out_of_the_table_with_their_chain() {
    let home = Home::new();
    let command = home.serve(&[]);
    let process = Process::spawn(home, command);
    for value in ["one", "two", "three"] {
        process.set("KEY", value);
    }
    let kept = std::sync::Arc::clone(&process.home);
    process.signal(Signal::TERM);
    let ended = process.wait();
    let keyring = Keyring::parse(&std::fs::read_to_string(kept.path().join("master.key")).unwrap()).unwrap();
    let public_key = Verifier::new(&keyring).unwrap().public_key().to_vec();
    let remembered = audit_export::checkpoints(Cursor::new(&ended.stderr)).unwrap();
    let org: Vec<_> = remembered
        .iter()
        .filter(|row| row.checkpoint.organization.is_some())
        .collect();
    assert_eq!(org.len(), 1, "{}", ended.stderr);
    assert_eq!(org[0].checkpoint.sequence, 3);
    assert!(org[0].checkpoint.is_signed(&public_key, &org[0].signature));
    // An export of the chain as somebody left it: without anything of `org`.
    let reports = audit_export::verify(Cursor::new(&b""[..]), &public_key, remembered.clone()).unwrap();
    let found = reports
        .iter()
        .find(|report| report.organization.is_some())
        .unwrap()
        .finding;
    assert_eq!(found, Some(Finding::Cut { last: 0, expected: 3 }));
}

#[test]
fn what_keeps_the_log_from_being_kept_up_is_counted_for_alerts() {
    let gated = Gated::open();
    let instance = gated.start(&[]);
    let count = |work: &str| {
        let (text, series) = (
            instance.metrics(),
            format!("kiket_audit_failures_total{{work=\"{work}\"}} "),
        );
        let line = text.lines().find_map(|line| line.strip_prefix(&series)).unwrap();
        line.parse::<u64>().unwrap()
    };
    let wait_for = |work: &str| {
        let asked = Instant::now();
        while count(work) == 0 {
            assert!(asked.elapsed() < PATIENCE, "never counted: {work}");
        }
    };
    record(&gated, 1..=2);
    for work in ["counts", "checkpoints", "retention", "altered"] {
        assert_eq!(count(work), 0, "{work}");
    }
    // A stranger is there to be told of, and the store takes nothing.
    gated.store.fail("record", StoreError::Unavailable);
    gated.store.fail("chain_heads", StoreError::Unavailable);
    gated.store.fail("organizations", StoreError::Unavailable);
    instance.api_as("nobody", "GET", "/extensions/secrets", &serde_json::Value::Null);
    instance.clock.advance(60 * 60_000);
    for work in ["counts", "checkpoints", "retention"] {
        wait_for(work);
    }
    assert_eq!(count("altered"), 0);
    gated.store.mend();
    // A chain that somebody edited is not signed, which is another matter than a store that is away.
    gated.damage("UPDATE audit SET actor_name = 'Eve' WHERE chain = 'org' AND sequence = 1");
    instance.clock.advance(5 * 60_000);
    wait_for("altered");
}
