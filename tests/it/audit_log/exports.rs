//! Whether the log can be read as it is: in pages, by filter, as three formats that others parse, without holding it.

use std::collections::BTreeSet;
use std::fs;

use kiket_sidecar::crypto::keyring::Keyring;
use kiket_sidecar::domain::alert::{Alert, AlertKind};
use kiket_sidecar::domain::audit::{Action, Actor, AuditEntry, Delivered, Outcome, Source};
use kiket_sidecar::domain::key::SecretKey;
use kiket_sidecar::domain::time::Timestamp;
use kiket_sidecar::store::{self, Change, Role, Store, Write};
use serde_json::{Value, json};

use super::super::support::api::{Api, audit};
use super::super::support::gated_store::Gated;
use super::super::support::http::request;
use super::super::support::process::{Home, Process};
use super::super::support::python;
use super::super::support::reading::{Piece, Reading};
use super::{entry, organization, proven, record};

const AUDIT: &str = "/secrets/audit";

/// Eight entries of `org` that every filter tells apart, one of another organization.
fn mixed(gated: &Gated) {
    let actor = |id: &str, name: &str| Actor {
        id: id.into(),
        name: name.into(),
    };
    let bare = |at, action, source| AuditEntry {
        scope: None,
        subject: None,
        key: None,
        version: None,
        delivered: None,
        action,
        source,
        ..entry(at)
    };
    let entries = vec![
        entry(1_000),
        AuditEntry {
            key: Some(SecretKey::parse("OTHER").unwrap()),
            ..entry(2_000)
        },
        bare(3_000, Action::SecretList, Source::Cli),
        AuditEntry {
            actor: actor("tok_2", "=cmd|' /C calc'!A0"),
            ..bare(4_000, Action::AuditVerify, Source::Api)
        },
        AuditEntry {
            actor: actor("-tok", "+1\t\"two\"\r\nlines, @\u{e4}\u{1f511}"),
            outcome: Outcome::Refused,
            ..entry(5_000)
        },
        AuditEntry {
            external: true,
            delivered: Some(Delivered {
                destination: "@elsewhere".into(),
                count: 9,
            }),
            ..entry(6_000)
        },
        bare(7_000, Action::InstanceStop, Source::Refresh),
        entry(8_000),
        AuditEntry {
            organization: Some(organization("other")),
            ..entry(9_000)
        },
    ];
    gated.block_on(gated.store.record(entries)).unwrap();
}

fn moments(listed: &Value) -> Vec<u64> {
    let rows = listed["data"].as_array().unwrap().iter();
    rows.map(|row| row["sequence"].as_u64().unwrap()).collect()
}

#[test]
fn a_page_has_the_last_200_by_default_and_pages_meet() {
    let gated = Gated::open();
    let instance = gated.start(&[]);
    record(&gated, 1..=450);
    let auditor = Api::with(&instance, &gated, Role::Auditor, Some("org"));
    let first = auditor.get(AUDIT).json();
    assert_eq!(moments(&first), (251..=450).rev().collect::<Vec<_>>());
    // Looking at the log is in it: each look from here on is a row before the others.
    let mut seen = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = auditor
            .get(&format!("{AUDIT}?action=secret.rotate&limit=100{cursor}"))
            .json();
        seen.extend(moments(&page));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(seen, (1..=450).rev().collect::<Vec<_>>());
    for (query, field) in [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("cursor=1.00", "cursor"),
        ("format=xml", "format"),
        ("format=csv&limit=5", "limit"),
        ("format=ndjson&cursor=1", "cursor"),
        ("key=lower", "key"),
        ("action=nothing", "action"),
        ("source=nothing", "source"),
        ("since=yesterday", "since"),
        ("until=2026-13-01T00:00:00Z", "until"),
        ("nothing=1", "query"),
    ] {
        let answer = auditor.get(&format!("{AUDIT}?{query}"));
        assert_eq!(
            (answer.status, answer.json()["field"].as_str()),
            (422, Some(field)),
            "{query}"
        );
    }
    let looks = audit(&gated, Some("org"))
        .into_iter()
        .filter(|entry| entry.action == Action::AuditExport);
    let by: BTreeSet<String> = looks.map(|entry| entry.actor.id).collect();
    assert_eq!(by, BTreeSet::from([format!("tok-{}", auditor.token)]));
}

#[test]
fn each_filter_narrows_to_its_entries_and_together_they_narrow_further() {
    let gated = Gated::open();
    let instance = gated.start(&[]);
    mixed(&gated);
    let auditor = Api::with(&instance, &gated, Role::Auditor, Some("org"));
    for (query, expected) in [
        ("key=OTHER", vec![2]),
        ("key=NOBODYS", vec![]),
        ("action=secret.list", vec![3]),
        ("source=cli", vec![3]),
        ("actor=tok_2", vec![4]),
        ("actor=%3Dcmd%7C%27%20/C%20calc%27!A0", vec![4]),
        ("until=1970-01-01T00:00:03Z", vec![2, 1]),
        ("since=1970-01-01T00:00:07Z&until=1970-01-01T00:00:08Z", vec![7]),
        (
            "since=1970-01-01T01:00:08%2B01:00&until=1970-01-01T00:00:08.001Z",
            vec![8],
        ),
        ("key=KEY&actor=-tok", vec![5]),
        ("key=OTHER&actor=-tok", vec![]),
    ] {
        assert_eq!(
            moments(&auditor.get(&format!("{AUDIT}?{query}")).json()),
            expected,
            "{query}"
        );
        let lines = auditor.get(&format!("{AUDIT}?{query}&format=ndjson")).body;
        let text = String::from_utf8(lines).unwrap();
        assert!(!text.contains("checkpoint"), "what has gaps is not signed: {query}");
        assert_eq!(text.lines().count(), expected.len(), "{query}");
    }
    // One's own chain only; an operator sees all, or one.
    let all = auditor.get(&format!("{AUDIT}?limit=1000")).json();
    assert!(
        all["data"]
            .as_array()
            .unwrap()
            .iter()
            .all(|row| row["organization_id"] == "org")
    );
    assert_eq!(auditor.get(&format!("{AUDIT}?organization_id=other")).status, 404);
    let operator = Api::with(&instance, &gated, Role::PlatformOperator, None);
    let other = operator.get(&format!("{AUDIT}?organization_id=other")).json();
    assert_eq!(moments(&other), [1]);
    let everyones = operator.get(&format!("{AUDIT}?action=secret.rotate")).json();
    let owners: BTreeSet<String> = everyones["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["organization_id"].to_string())
        .collect();
    assert_eq!(owners.len(), 2);
}

#[test]
fn a_page_brings_the_open_alerts_of_the_caller() {
    let gated = Gated::open();
    let instance = gated.start(&[]);
    record(&gated, [1]);
    let raise = |id: &str, of: &str, acknowledged: bool| {
        let alert = Alert {
            id: id.into(),
            organization: Some(organization(of)),
            kind: AlertKind::ReadAnomaly,
            scope: entry(1).scope,
            subject: entry(1).subject,
            key: entry(1).key,
            detail: "26 reads in 15 minutes".into(),
            dedup: id.into(),
            raised_at: Timestamp(1_000),
            acknowledged_at: None,
            acknowledged_by: None,
        };
        let write = Write::Alert {
            alert,
            quiet_since: Timestamp(0),
            notices: Vec::new(),
            entry: entry(2),
        };
        let seen = Write::AlertAcknowledged {
            id: id.into(),
            by: "Ada".into(),
            at: Timestamp(2_000),
        };
        let change = Change {
            writes: std::iter::once(write).chain(acknowledged.then_some(seen)).collect(),
            entries: Vec::new(),
        };
        gated.block_on(gated.store.commit(change)).unwrap();
    };
    raise("open", "org", false);
    raise("theirs", "other", false);
    raise("seen", "org", true);
    let auditor = Api::with(&instance, &gated, Role::Auditor, Some("org"));
    assert_eq!(
        auditor.get(AUDIT).json()["alerts"],
        json!([{
            "id": "open", "organization_id": "org", "kind": "read-anomaly", "severity": "high", "scope": "project",
            "scope_id": "proj", "key": "KEY", "detail": "26 reads in 15 minutes", "raised_at": "1970-01-01T00:00:01Z",
            "acknowledged_at": null, "acknowledged_by": null,
        }])
    );
    let operator = Api::with(&instance, &gated, Role::PlatformOperator, None);
    assert_eq!(operator.get(AUDIT).json()["alerts"].as_array().unwrap().len(), 2);
}

#[test]
fn the_three_formats_say_the_same_and_others_parse_them() {
    const PARSE: &str = "import csv, io, json, sys\n\
        q = json.load(sys.stdin)\n\
        rows = list(csv.reader(io.StringIO(q['csv'], newline=''), strict=True))\n\
        lines = [json.loads(line) for line in q['ndjson'].splitlines()]\n\
        print(json.dumps({'head': rows[0], 'rows': rows[1:], 'lines': lines}))";
    let gated = Gated::open();
    let instance = gated.start(&[]);
    mixed(&gated);
    let auditor = Api::with(&instance, &gated, Role::Auditor, Some("org"));
    let rotations = format!("{AUDIT}?until=1971-01-01T00:00:00Z");
    let page = auditor.get(&rotations).json();
    let csv = auditor.get(&format!("{rotations}&format=csv"));
    assert!(csv.header("content-type").unwrap().starts_with("text/csv"));
    assert_eq!(
        csv.header("content-disposition"),
        Some("attachment; filename=\"audit.csv\"")
    );
    let ndjson = auditor.get(&format!("{rotations}&format=ndjson"));
    assert_eq!(ndjson.header("content-type"), Some("application/x-ndjson"));
    let text = |body: Vec<u8>| String::from_utf8(body).unwrap();
    let parsed = python::ask(PARSE, &json!({"csv": text(csv.body), "ndjson": text(ndjson.body)}));

    let objects = page["data"].as_array().unwrap();
    assert_eq!(objects.len(), 8);
    let head: Vec<&str> = parsed["head"]
        .as_array()
        .unwrap()
        .iter()
        .map(|name| name.as_str().unwrap())
        .collect();
    let names: BTreeSet<&str> = objects[0].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(head.iter().copied().collect::<BTreeSet<_>>(), names);
    for ((object, row), line) in objects
        .iter()
        .zip(parsed["rows"].as_array().unwrap())
        .zip(parsed["lines"].as_array().unwrap())
    {
        let mut expected = object.clone();
        expected["type"] = "entry".into();
        assert_eq!(line, &expected);
        for (name, cell) in head.iter().zip(row.as_array().unwrap()) {
            let plain = match &object[name] {
                Value::Null => String::new(),
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            let is_formula = plain.starts_with(['=', '+', '-', '@']);
            let safe = if is_formula { format!("'{plain}") } else { plain };
            assert_eq!(cell.as_str(), Some(safe.as_str()), "{name}");
        }
    }
    let cells = parsed["rows"].to_string();
    assert!(
        cells.contains("'=cmd") && cells.contains("'-tok") && cells.contains("'+1") && cells.contains("'@elsewhere")
    );
}

#[test]
fn an_unfiltered_ndjson_export_proves_itself_to_whoever_has_the_public_key() {
    let gated = Gated::open();
    let instance = gated.start(&[]);
    mixed(&gated);
    let auditor = Api::with(&instance, &gated, Role::Auditor, Some("org"));
    let export = auditor.get(&format!("{AUDIT}?format=ndjson")).body;
    let reports = proven(&gated, &export);
    assert_eq!(reports.len(), 1, "its own chain only");
    let report = &reports[0];
    assert_eq!(
        (report.finding, report.entries, report.signed_up_to),
        (None, 9, Some(9))
    );
    let operator = Api::with(&instance, &gated, Role::PlatformOperator, None);
    let reports = proven(&gated, &operator.get(&format!("{AUDIT}?format=ndjson")).body);
    assert_eq!(reports.len(), 3);
    assert!(
        reports
            .iter()
            .all(|report| report.finding.is_none() && report.signed_up_to == report.last)
    );
}

#[test]
fn a_file_is_sent_page_by_page_and_breaks_off_where_the_store_fails() {
    let gated = Gated::open();
    let instance = gated.start(&[]);
    record(&gated, 1..=1_300);
    for (format, before_entries) in [("csv", 1), ("ndjson", 1)] {
        let held = gated.store.hold("audit");
        let authorization = format!("Bearer {}", instance.bootstrap_token());
        let path = format!("/api/v1{AUDIT}?organization_id=org&format={format}");
        let bytes = request("GET", &path, &[("Authorization", &authorization)], b"");
        let mut reading = Reading::begin(instance.running.admin().unwrap(), &bytes);
        assert_eq!(reading.status, 200);
        // What comes before the entries is there while the first page is still at the store.
        held.wait();
        let mut pieces = 0;
        while pieces < before_entries {
            assert!(matches!(reading.next(), Piece::Data(_)), "{format}");
            pieces += 1;
        }
        let second = gated.store.hold("audit");
        held.release();
        second.wait();
        let mut read = String::new();
        while !read.contains("KEY") {
            let Piece::Data(data) = reading.next() else {
                panic!("{format}: cut")
            };
            read.push_str(&data);
        }
        second.fail(kiket_sidecar::store::StoreError::Unavailable);
        let (_, end) = reading.rest();
        assert_eq!(end, Piece::Cut, "{format}: nobody takes a part for the whole");
    }
    gated
        .store
        .fail("record", kiket_sidecar::store::StoreError::Unavailable);
    let api = Api::bootstrap(&instance);
    for format in ["json", "csv", "ndjson"] {
        let answer = api.get(&format!("{AUDIT}?format={format}"));
        assert_eq!(answer.status, 503, "what cannot be recorded is not shown: {format}");
    }
    assert_eq!(api.get(&format!("{AUDIT}/verify")).status, 503);
}

/// A process's number of this name, in KiB.
fn memory(process: &Process, name: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", process.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn an_export_of_fifty_thousand_entries_holds_a_page_of_them() {
    const ENTRIES: u64 = 50_000;
    const HELD_KIB_MAX: u64 = 8 * 1_024;
    let home = Home::new();
    let keyring = Keyring::parse(&fs::read_to_string(home.path().join("master.key")).unwrap()).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let store = store::open(&home.database.url(), keyring.chain_key()).await.unwrap();
        store.record((1..=ENTRIES).map(entry).collect()).await.unwrap();
    });
    drop(runtime);
    let command = home.serve(&[]);
    let process = Process::spawn(home, command);
    let get = |path: &str| {
        let authorization = format!("Bearer {}", process.token);
        request("GET", path, &[("Authorization", &authorization)], b"")
    };
    let verify = get("/api/v1/secrets/audit/verify");
    let verified = super::super::support::http::once(process.admin, &verify).json();
    assert_eq!(verified["status"], "intact", "{verified}");
    let before = memory(&process, "VmHWM");
    let export = get("/api/v1/secrets/audit?organization_id=org&format=csv");
    let mut reading = Reading::begin(process.admin, &export);
    let (bytes, end) = reading.rest();
    assert_eq!(end, Piece::End);
    let held = memory(&process, "VmHWM") - before;
    assert!(bytes as u64 > 2 * HELD_KIB_MAX * 1_024 / 2, "{bytes}");
    assert!(held < HELD_KIB_MAX, "{held} KiB for {bytes} bytes");
    // The same for one who reads nothing for as long as the server can write into his socket.
    let mut slow = Reading::begin(process.admin, &export);
    process.must("GET", "/secrets/audit?organization_id=org&limit=1", &Value::Null);
    let (again, end) = slow.rest();
    assert_eq!((again > bytes, end), (true, Piece::End));
    assert!(memory(&process, "VmHWM") - before < HELD_KIB_MAX);
}
