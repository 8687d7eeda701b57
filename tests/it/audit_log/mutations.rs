//! Whether anything that somebody with the database does to a chain is found, by the server and from an export alone.

use std::fmt::Write;
use std::io::Cursor;

use data_encoding::{BASE64, HEXUPPER};
use kiket_sidecar::audit::{ChainReport, Finding};
use kiket_sidecar::cli::audit_export;
use kiket_sidecar::crypto::chain::{GENESIS, entry_hash};
use kiket_sidecar::domain::time::Timestamp;
use kiket_sidecar::store::Store;
use serde_json::Value;

use super::super::support::api::Api;
use super::super::support::gated_store::Gated;
use super::{organization, proven, public_key, record, recorder, verified};

/// Entries of the chain that is mutated. It is signed at 5 and at the end.
const ENTRIES: u64 = 8;

/// How a mutation shows in an export.
#[derive(Clone, Copy, PartialEq)]
enum Offline {
    /// It shows.
    Found,
    /// An export does not have what was altered.
    Unseen,
}
use Offline::{Found, Unseen};

/// A chain of eight entries with two checkpoints, and another organization's.
fn chained() -> Gated {
    let gated = Gated::open();
    let recorder = recorder(&gated);
    record(&gated, 1..=5);
    gated.block_on(recorder.checkpoint(Timestamp(100))).unwrap();
    record(&gated, 6..=ENTRIES);
    gated.block_on(recorder.checkpoint(Timestamp(200))).unwrap();
    gated
}

/// What an operator who exports everything can prove; `None` where the export cannot be made or read.
fn offline(gated: &Gated) -> Option<Vec<ChainReport>> {
    let instance = gated.start(&[]);
    let api = Api::bootstrap(&instance);
    let request = super::super::support::http::request(
        "GET",
        "/api/v1/secrets/audit?format=ndjson",
        &[("Authorization", &format!("Bearer {}", api.token))],
        b"",
    );
    let mut client = super::super::support::http::Client::connect(instance.running.admin().unwrap());
    client.send(&request);
    let answer = client.try_answer().filter(|answer| answer.status == 200)?;
    audit_export::verify(Cursor::new(answer.body), &public_key(gated), Vec::new()).ok()
}

fn is_found(reports: Option<Vec<ChainReport>>) -> bool {
    reports.is_none_or(|reports| reports.iter().any(|report| report.finding.is_some()))
}

/// Mutates a chain of its own and says whether that is found, online and offline.
fn mutate(what: &str, sql: &str, expected: Option<Finding>, in_export: Offline) {
    let gated = chained();
    assert!(gated.damage(sql) > 0, "{what} touched nothing");
    let report = verified(&gated, Some("org"));
    assert!(report.finding.is_some(), "{what}: not found online: {report:?}");
    if expected.is_some() {
        assert_eq!(report.finding, expected, "{what}");
    }
    let reports = offline(&gated);
    assert_eq!(
        is_found(reports.clone()),
        in_export == Found,
        "{what}: offline: {reports:?}"
    );
}

#[test]
fn an_unharmed_chain_is_intact_online_and_offline() {
    let gated = chained();
    let report = verified(&gated, Some("org"));
    assert_eq!(report.finding, None);
    assert_eq!(
        (
            report.first,
            report.last,
            report.entries,
            report.checkpoints,
            report.signed_up_to
        ),
        (Some(1), Some(ENTRIES), ENTRIES, 2, Some(ENTRIES))
    );
    let reports = offline(&gated).unwrap();
    assert!(reports.iter().all(|report| report.finding.is_none()), "{reports:?}");
    let of = |id: Option<&str>| {
        let id = id.map(organization);
        reports.iter().find(|report| report.organization == id).unwrap()
    };
    assert_eq!(
        (of(Some("org")).entries, of(Some("org")).signed_up_to),
        (ENTRIES, Some(ENTRIES))
    );
    assert_eq!(
        of(None).signed_up_to,
        of(None).last,
        "what is exported was signed before"
    );
    let answer = Api::bootstrap(&gated.start(&[])).get("/secrets/audit/verify").json();
    assert_eq!(
        (answer["status"].as_str(), answer["chains"].as_array().unwrap().len()),
        (Some("intact"), 2)
    );
    assert_eq!(answer["public_key"], BASE64.encode(&public_key(&gated)));
}

#[test]
fn an_edit_of_any_column_of_an_entry_is_found() {
    let altered = Some(Finding::Altered { sequence: 3 });
    let unreadable = Some(Finding::Unreadable { sequence: 3 });
    let missing = Some(Finding::Missing { expected: 3 });
    for (edit, expected, in_export) in [
        (
            "position = position + 1000",
            Some(Finding::Missing { expected: 4 }),
            Found,
        ),
        ("chain = 'other'", missing, Found),
        ("chain = ''", missing, Found),
        ("chain = 'no organization'", missing, Found),
        ("sequence = 30", missing, Found),
        ("at = at + 1", altered, Found),
        ("at = -1", unreadable, Found),
        ("actor_id = 'tok_2'", altered, Found),
        ("actor_name = 'Eve'", altered, Found),
        (
            "actor_id = actor_id || substr(actor_name, 1, 1), actor_name = substr(actor_name, 2)",
            altered,
            Found,
        ),
        ("action = 'secret.create'", altered, Found),
        ("action = 'nothing'", unreadable, Found),
        ("source = 'cli'", altered, Found),
        ("outcome = 'refused'", altered, Found),
        ("scope = NULL", altered, Found),
        ("scope = 'organization'", altered, Found),
        ("subject = NULL", altered, Found),
        ("subject = 'proj2'", altered, Found),
        ("key = NULL", altered, Found),
        ("key = 'OTHER'", altered, Found),
        ("version = NULL", altered, Found),
        ("version = version + 1", altered, Found),
        ("external = 1", altered, Found),
        ("external = 2", unreadable, Found),
        ("destination = 'https://elsewhere.example:443'", altered, Found),
        ("destination = NULL", unreadable, Found),
        ("count = count - 1", altered, Found),
        ("destination = NULL, count = NULL", altered, Found),
        ("hash = zeroblob(32)", altered, Found),
        ("hash = x'00'", unreadable, Found),
        ("mac = zeroblob(32)", altered, Unseen), // only who has the key can make or check it
    ] {
        let sql = format!("UPDATE audit SET {edit} WHERE chain = 'org' AND sequence = 3");
        mutate(edit, &sql, expected, in_export);
    }
}

#[test]
fn removed_swapped_and_cut_entries_are_found() {
    let delete = |which: &str| format!("DELETE FROM audit WHERE chain = 'org' AND {which}");
    let head_to = |sequence: u64| {
        format!(
            "UPDATE chain_heads SET sequence = {sequence}, hash = (SELECT hash FROM audit WHERE chain = 'org' \
             AND sequence = {sequence}) WHERE chain = 'org';"
        )
    };
    let cut = |last| {
        Some(Finding::Cut {
            last,
            expected: ENTRIES,
        })
    };
    let swap = |columns: &str| {
        format!(
            "UPDATE audit SET ({columns}) = (SELECT {columns} FROM audit AS other WHERE other.chain = 'org' \
             AND other.sequence = 7 - audit.sequence) WHERE chain = 'org' AND sequence IN (3, 4)"
        )
    };
    let place = "UPDATE audit SET sequence = -sequence WHERE chain = 'org' AND sequence IN (3, 4); \
                 UPDATE audit SET sequence = 7 + sequence WHERE chain = 'org' AND sequence < 0";
    for (what, sql, expected) in [
        (
            "one from the middle",
            delete("sequence = 4"),
            Some(Finding::Missing { expected: 4 }),
        ),
        (
            "the first",
            delete("sequence = 1"),
            Some(Finding::StartRemoved { first: 2 }),
        ),
        (
            "all up to a checkpoint",
            delete("sequence <= 5"),
            Some(Finding::StartRemoved { first: 6 }),
        ),
        ("the last", delete("sequence = 8"), cut(7)),
        ("the last, with the head", head_to(7) + &delete("sequence = 8"), cut(7)),
        (
            "all behind a checkpoint, with the head",
            head_to(5) + &delete("sequence > 5"),
            cut(5),
        ),
        ("everything", delete("1 = 1"), cut(0)),
        (
            "everything, with the head",
            delete("1 = 1") + "; DELETE FROM chain_heads WHERE chain = 'org'",
            Some(Finding::Cut { last: 0, expected: 5 }),
        ),
        (
            "two rows, contents swapped",
            swap("at, version"),
            Some(Finding::Altered { sequence: 3 }),
        ),
        (
            "two rows, swapped with their links",
            swap("at, version, hash, mac"),
            Some(Finding::Altered { sequence: 3 }),
        ),
        ("two rows, places swapped", place.to_owned(), None),
    ] {
        mutate(what, &sql, expected, Found);
    }
}

#[test]
fn an_edit_of_a_head_or_a_checkpoint_is_found() {
    let head = |edit: &str| format!("UPDATE chain_heads SET {edit} WHERE chain = 'org'");
    let checkpoint = |edit: &str| format!("UPDATE checkpoints SET {edit} WHERE chain = 'org' AND sequence = 5");
    let forged = |sequence| Some(Finding::CheckpointForged { sequence });
    for (what, sql, expected, in_export) in [
        ("head back", head("sequence = 7"), Some(Finding::Head), Unseen),
        (
            "head forth",
            head("sequence = 9"),
            Some(Finding::Cut { last: 8, expected: 9 }),
            Unseen,
        ),
        ("head's hash", head("hash = zeroblob(32)"), Some(Finding::Head), Unseen),
        ("head unreadable", head("hash = x'00'"), Some(Finding::Head), Found),
        ("head's chain", head("chain = 'other'"), Some(Finding::Head), Unseen),
        (
            "head gone",
            "DELETE FROM chain_heads WHERE chain = 'org'".into(),
            Some(Finding::Head),
            Unseen,
        ),
        ("checkpoint's place", checkpoint("sequence = 4"), forged(4), Found),
        ("checkpoint's hash", checkpoint("hash = zeroblob(32)"), forged(5), Found),
        ("checkpoint's moment", checkpoint("at = at + 1"), forged(5), Found),
        (
            "checkpoint's signature",
            checkpoint("signature = zeroblob(64)"),
            forged(5),
            Found,
        ),
        ("no signature", checkpoint("signature = x''"), forged(5), Found),
        ("unreadable checkpoint", checkpoint("at = -1"), None, Found),
    ] {
        mutate(what, &sql, expected, in_export);
    }
    // A checkpoint in another chain is none of that one.
    let gated = chained();
    gated.damage(&checkpoint("chain = 'other'"));
    assert_eq!(verified(&gated, Some("other")).finding, forged(5));
    assert!(is_found(offline(&gated)));
}

#[test]
fn an_edit_with_all_hashes_made_anew_is_found() {
    let gated = chained();
    let chain = gated
        .block_on(gated.store.chain(Some(&organization("org")), 1, 100))
        .unwrap();
    let (mut previous, mut sql) = (GENESIS, String::new());
    for mut linked in chain {
        if linked.sequence == 3 {
            linked.entry.actor.name = "Eve".into();
            sql.push_str("UPDATE audit SET actor_name = 'Eve' WHERE chain = 'org' AND sequence = 3;");
        }
        previous = entry_hash(&previous, linked.sequence, &linked.entry);
        let (hash, sequence) = (HEXUPPER.encode(&previous), linked.sequence);
        write!(
            sql,
            "UPDATE audit SET hash = x'{hash}' WHERE chain = 'org' AND sequence = {sequence};"
        )
        .unwrap();
    }
    let hash = HEXUPPER.encode(&previous);
    write!(sql, "UPDATE chain_heads SET hash = x'{hash}' WHERE chain = 'org';").unwrap();
    gated.damage(&sql);
    // The server has the key of the MACs, the auditor has what was signed.
    assert_eq!(
        verified(&gated, Some("org")).finding,
        Some(Finding::Altered { sequence: 3 })
    );
    let reports = offline(&gated).unwrap();
    let contradicted = reports.iter().filter_map(|report| report.finding).collect::<Vec<_>>();
    assert_eq!(contradicted, [Finding::CheckpointContradicted { sequence: 8 }]);
}

#[test]
fn what_somebody_put_in_since_the_last_checkpoint_is_never_signed() {
    let gated = chained();
    record(&gated, 9..=10);
    let chain = gated
        .block_on(gated.store.chain(Some(&organization("org")), 8, 3))
        .unwrap();
    let mut forged = chain[1].entry.clone();
    forged.actor.name = "Eve".into();
    let nine = entry_hash(&chain[0].link.hash, 9, &forged);
    let ten = entry_hash(&nine, 10, &chain[2].entry);
    let (nine, ten) = (HEXUPPER.encode(&nine), HEXUPPER.encode(&ten));
    gated.damage(&format!(
        "UPDATE audit SET actor_name = 'Eve', hash = x'{nine}' WHERE chain = 'org' AND sequence = 9; \
         UPDATE audit SET hash = x'{ten}' WHERE chain = 'org' AND sequence = 10; \
         UPDATE chain_heads SET hash = x'{ten}' WHERE chain = 'org'"
    ));
    gated.block_on(recorder(&gated).checkpoint(Timestamp(300))).unwrap();
    let signed = gated
        .block_on(
            gated
                .store
                .last_checkpoint(Some(&organization("org")), Timestamp(u64::MAX)),
        )
        .unwrap();
    assert_eq!(signed.unwrap().checkpoint.sequence, 8);
    assert_eq!(
        verified(&gated, Some("org")).finding,
        Some(Finding::Altered { sequence: 9 })
    );
}

#[test]
fn the_api_says_what_is_broken_and_the_log_says_that_it_was_looked() {
    let gated = chained();
    gated.damage("UPDATE audit SET actor_name = 'Eve' WHERE chain = 'org' AND sequence = 3");
    let instance = gated.start(&[]);
    let answer = Api::bootstrap(&instance).get("/secrets/audit/verify").json();
    assert_eq!(answer["status"], "broken");
    let chains = answer["chains"].as_array().unwrap();
    let of = |id: Value| chains.iter().find(|chain| chain["organization_id"] == id).unwrap();
    assert_eq!(of(Value::Null)["status"], "intact");
    let org = of("org".into());
    assert_eq!(
        (&org["status"], &org["finding"], &org["sequence"], &org["last"]),
        (&"broken".into(), &"altered-entry".into(), &3.into(), &2.into())
    );
    let listed = Api::bootstrap(&instance)
        .get("/secrets/audit?action=audit.verify")
        .json();
    assert_eq!(listed["data"][0]["outcome"], "failed");
    // A chain's name that is none is told, and the rest is verified still.
    gated.damage("UPDATE audit SET chain = 'no organization' WHERE chain = 'org' AND sequence = 8");
    let answer = Api::bootstrap(&instance).get("/secrets/audit/verify").json();
    assert_eq!(answer["chains"][0]["finding"], "nameless-chain");
}

#[test]
fn an_export_that_was_tampered_with_is_found() {
    let gated = chained();
    let instance = gated.start(&[]);
    let text = String::from_utf8(
        Api::bootstrap(&instance)
            .get("/secrets/audit?format=ndjson&organization_id=org")
            .body,
    );
    let text = text.unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let checkpoints = lines.iter().filter(|line| line.contains("\"checkpoint\"")).count();
    assert_eq!(
        (checkpoints, lines.len()),
        (3, 3 + 9),
        "the export itself was recorded and signed"
    );
    assert_eq!(proven(&gated, text.as_bytes())[0].finding, None);
    let without = |n: usize| {
        let kept = lines.iter().enumerate().filter(|(at, _)| *at != n);
        kept.map(|(_, line)| format!("{line}\n")).collect::<String>()
    };
    let found = |export: &str| proven(&gated, export.as_bytes())[0].finding;
    // Entries are newest first: 9 to 1, behind three checkpoints.
    assert_eq!(found(&without(3)), Some(Finding::Cut { last: 8, expected: 9 }));
    assert_eq!(found(&without(6)), Some(Finding::Missing { expected: 6 }));
    assert_eq!(found(&without(11)), Some(Finding::StartRemoved { first: 2 }));
    let swapped: String = [0, 1, 2, 3, 4, 6, 5, 7, 8, 9, 10, 11]
        .map(|n| format!("{}\n", lines[n]))
        .concat();
    assert!(found(&swapped).is_some());
    let unsigned: String = lines[3..].iter().map(|line| format!("{line}\n")).collect();
    assert_eq!(found(&unsigned), Some(Finding::Unsigned));
    // Every character of an entry counts.
    for (from, to) in [
        ("Ada", "Eve"),
        ("\"version\":3", "\"version\":4"),
        ("\"external\":false", "\"external\":true"),
        ("\"key\":\"KEY\"", "\"key\":null"),
        ("\"scope\":\"project\"", "\"scope\":\"organization\""),
        ("\"count\":7", "\"count\":6"),
    ] {
        let line = lines[9].replacen(from, to, 1);
        assert_ne!(line, lines[9], "{from}");
        let edited: String = text.replace(lines[9], &line);
        assert_eq!(found(&edited), Some(Finding::Altered { sequence: 3 }), "{from}");
    }
    // Another store's key did not sign it.
    let other = public_key(&Gated::open());
    let reports = audit_export::verify(Cursor::new(text.as_bytes()), &other, Vec::new()).unwrap();
    assert!(matches!(reports[0].finding, Some(Finding::CheckpointForged { .. })));
    // What is no line of an export is told by its number.
    let refused = audit_export::verify(Cursor::new(format!("{text}{{}}\n")), &public_key(&gated), Vec::new());
    assert_eq!(refused.unwrap_err().to_string(), "line 13 is no line of an export");
}
