//! What the command line says of the audit log: read, followed, exported, and verified without the server.

use std::process::Stdio;
use std::sync::Arc;

use serde_json::{Value, json};

use super::support::captured::Captured;
use super::support::command::{Shell, assert_refused};
use super::support::endpoint::{Endpoint, answer};
use super::support::process::Process;

const CANARY: &str = "cnry-audited-31";
const AUDIT: &[&str] = &["secrets", "audit"];

fn acme(process: &Process) -> Shell<'_> {
    Shell::of(process).in_organization("acme").guarding(CANARY)
}

fn set(shell: &Shell<'_>, key: &str) {
    let ended = shell.fed(CANARY.as_bytes(), &["extensions", "secrets", "set", "--key", key]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
}

fn audit<'a>(arguments: &[&'a str]) -> Vec<&'a str> {
    [AUDIT, arguments].concat()
}

#[test]
fn entries_are_shown_and_the_command_line_is_their_source() {
    let process = Process::start();
    let shell = acme(&process);
    set(&shell, "ONE");
    set(&shell, "ONE");
    set(&shell, "TWO");
    let over_the_api = json!({"scope": "organization", "id": "acme", "key": "API", "value": CANARY});
    process.must("POST", "/extensions/secrets", &over_the_api);
    let table = shell.fine(AUDIT);
    let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(
        lines[0],
        [
            "TIME", "WHO", "ACTION", "KEY", "AT", "VERSION", "BY", "WAY", "OF", "OUTCOME"
        ]
    );
    assert_eq!(
        lines[1][2..],
        [
            "bootstrap",
            "secret.create",
            "API",
            "organization",
            "acme",
            "1",
            "api",
            "ok"
        ]
    );
    assert_eq!(
        lines[3][2..],
        [
            "bootstrap",
            "secret.rotate",
            "ONE",
            "organization",
            "acme",
            "2",
            "cli",
            "ok"
        ]
    );

    let keys = |arguments: &[&str]| {
        let listed = shell.json(&audit(arguments));
        let rows = listed["data"].as_array().unwrap().iter();
        rows.map(|row| row["key"].as_str().unwrap_or("-").to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(keys(&["--key", "ONE"]), ["ONE", "ONE"]);
    assert_eq!(keys(&["--action", "secret.rotate"]), ["ONE"]);
    assert_eq!(keys(&["--action", "secret.create", "--source", "api"]), ["API"]);
    assert_eq!(
        keys(&["--action", "secret.create", "--actor", "bootstrap", "--since", "1h"]).len(),
        3
    );
    assert!(keys(&["--until", "2020-01-01"]).is_empty());
    assert!(keys(&["--actor", "nobody"]).is_empty());
    shell.refused(2, &["(field `action`)"], &audit(&["--action", "secret.eat"]));
}

#[test]
fn every_form_is_the_apis_own() {
    let process = Process::start();
    let shell = acme(&process);
    set(&shell, "ONE");
    let filter = ["--action", "secret.create"];
    let served = |format: &str| {
        let path = format!("/secrets/audit?organization_id=acme&action=secret.create&format={format}");
        process.call("GET", &path, b"")
    };
    assert_eq!(shell.json(&audit(&filter)), served("json").json());
    for format in ["csv", "ndjson"] {
        let exported = shell.fine(&audit(&[&filter[..], &["--format", format]].concat()));
        assert!(exported.contains("secret.create"), "{exported}");
        assert_eq!(exported.as_bytes(), served(format).body, "{format}");
    }
}

#[test]
fn who_follows_sees_what_happens_and_not_their_own_looking() {
    let process = Process::start();
    let shell = acme(&process);
    set(&shell, "BEFORE");
    let mut command = shell.command(&audit(&["--follow"]));
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let shown = Captured::start(child.stdout.take().unwrap());
    shown.wait_for("BEFORE", 1);
    set(&shell, "MEANWHILE");
    shown.wait_for("MEANWHILE", 1);
    set(&shell, "LATER");
    shown.wait_for("LATER", 1);
    child.kill().unwrap();
    child.wait().unwrap();
    shown.wait_for_end();
    let text = shown.text();
    let keys = ["BEFORE", "MEANWHILE", "LATER"];
    assert!(keys.map(|key| text.find(key).unwrap()).is_sorted(), "{text}");
    assert!(
        keys.iter().all(|key| text.matches(key).count() == 1),
        "each once: {text}"
    );
    assert!(!text.contains("audit.export") && !text.contains(CANARY), "{text}");
}

/// An export of a log with a few entries, and the key to verify it with.
fn exported(process: &Process) -> (String, String) {
    let shell = acme(process);
    for key in ["ONE", "TWO", "THREE"] {
        set(&shell, key);
    }
    let export = shell.fine(&audit(&["--format", "ndjson"]));
    let verified = shell.json(&audit(&["verify"]));
    assert_eq!(verified["status"], json!("intact"));
    (export, verified["public_key"].as_str().unwrap().to_owned())
}

#[test]
fn an_export_is_verified_without_a_server() {
    let process = Process::start();
    let (export, key) = exported(&process);
    let home = Arc::clone(&process.home);
    home.write("audit.ndjson", &export);
    home.write("public.key", &format!("{key}\n"));
    let elsewhere = Process::start();
    let alone = || {
        Shell::of(&elsewhere)
            .with("KIKET_URL", "http://127.0.0.1:1")
            .with("KIKET_TOKEN", "")
    };
    let path = |name: &str| home.path().join(name).display().to_string();
    assert_eq!(process.stop().code, Some(0));
    let verify = |name: &str, key: &str| {
        alone().run(&[
            "secrets",
            "audit",
            "verify",
            "--export",
            &path(name),
            "--public-key",
            key,
        ])
    };
    for key in [key.as_str(), &path("public.key")] {
        let good = verify("audit.ndjson", key);
        assert_eq!(good.code, Some(0), "{}{}", good.stdout, good.stderr);
        let words: Vec<&str> = good.stdout.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(words[..3], ["acme", "intact", "1"], "{}", good.stdout);
    }
    let lines: Vec<&str> = export.lines().collect();
    let entry = lines.iter().position(|line| line.contains("\"TWO\"")).unwrap();
    let without = |n: usize| [&lines[..n], &lines[n + 1..]].concat().join("\n");
    let newest = lines
        .iter()
        .position(|line| line.contains("\"type\":\"entry\""))
        .unwrap();
    for (what, text, finding) in [
        ("altered", export.replacen("\"TWO\"", "\"TWX\"", 1), "was altered"),
        ("removed", without(entry), "does not stand where it belongs"),
        ("cut", without(newest), "was there"),
        (
            "unreadable",
            export.replacen("secret.create", "secret.eat", 1),
            "is no line of an export",
        ),
    ] {
        home.write("bad.ndjson", &text);
        let bad = verify("bad.ndjson", &key);
        assert_eq!(bad.code, Some(1), "{what}: {}{}", bad.stdout, bad.stderr);
        assert!(
            format!("{}{}", bad.stdout, bad.stderr).contains(finding),
            "{what}: {}{}",
            bad.stdout,
            bad.stderr
        );
    }
    let other = data_encoding::BASE64.encode(&[7; 32]);
    assert_eq!(verify("audit.ndjson", &other).code, Some(1), "another key");
    assert_refused(
        &verify("audit.ndjson", "nonsense"),
        2,
        &["--public-key: a public key is 32 bytes"],
        &[],
    );
    assert_refused(&verify("none", &key), 2, &["the export cannot be read"], &[]);
    let keyless = alone().run(&["secrets", "audit", "verify", "--export", &path("audit.ndjson")]);
    assert_refused(&keyless, 2, &["--public-key"], &[]);
}

#[test]
fn a_broken_log_is_a_finding() {
    let process = Process::start();
    let chain = json!({"organization_id": "acme", "status": "broken", "detail": "entry 3 was altered"});
    let report = json!({"status": "broken", "public_key": "k", "chains": [chain]}).to_string();
    let server = Endpoint::scripted(Arc::new(move |_| Some(answer(200, "", report.as_bytes()))));
    let shell = Shell::of(&process).with("KIKET_URL", &server.url());
    let broken = shell.run(&audit(&["verify"]));
    assert_eq!(broken.code, Some(1));
    assert!(broken.stdout.contains("entry 3 was altered"), "{}", broken.stdout);
    let document: Value = shell.json(&audit(&["verify"]));
    assert_eq!(document["status"], json!("broken"));
}
