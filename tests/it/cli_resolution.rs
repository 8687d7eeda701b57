//! What the command line says of where values come from: links, versions, explanations, the rotation report.

use serde_json::{Value, json};

use super::support::command::{Shell, assert_refused};
use super::support::process::Process;

const CANARY: &str = "cnry-crm-9000";

fn acme(process: &Process) -> Shell<'_> {
    Shell::of(process).in_organization("acme").guarding(CANARY)
}

fn set(shell: &Shell<'_>, arguments: &[&str]) {
    let ended = shell.fed(
        CANARY.as_bytes(),
        &[&["extensions", "secrets", "set", "--key"], arguments].concat(),
    );
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
}

/// An installation `ins_1` of project `web` that needs `CRM_TOKEN`, and would take `SMTP_HOST`.
fn install(process: &Process) {
    let configuration = json!({"CRM_TOKEN": {"secret": true, "required": true}, "SMTP_HOST": {"secret": true}});
    let delivery = json!({"type": "http", "callback": {"url": "http://127.0.0.1:9/"}});
    let manifest =
        json!({"extension": {"id": "com.example.crm", "delivery": delivery, "configuration": configuration}});
    process.home.write("manifest.json", &manifest.to_string());
    let line = "kiket marketplace install manifest.json --project web --id ins_1";
    assert_eq!(acme(process).line(line).code, Some(1));
}

#[test]
fn a_link_is_made_as_the_document_prints_it() {
    let process = Process::start();
    let shell = acme(&process);
    let line = "kiket extensions secrets link --scope project --id PROJECT_KEY --key CRM_WEBHOOK_SECRET \
                --external secrets/kiket/projects/project_key/crm_webhook";
    let linked = shell.line(line);
    assert_eq!(linked.code, Some(0), "{}", linked.stderr);
    assert_eq!(
        linked.stdout,
        "linked CRM_WEBHOOK_SECRET at project PROJECT_KEY: version 1\n"
    );
    let listed = shell.json(&["extensions", "secrets", "list"]);
    let row = &listed["data"][0];
    assert_eq!(
        (&row["external"], &row["masked_value_present"]),
        (&json!(true), &json!(true))
    );
    assert_eq!(
        row["external_secret_name"],
        json!("secrets/kiket/projects/project_key/crm_webhook")
    );
    let table = shell.fine(&["extensions", "secrets", "list"]);
    assert!(
        table.contains("secrets/kiket/projects/project_key/crm_webhook"),
        "{table}"
    );
    let bad = shell.line("kiket extensions secrets link --key K --external vault:nowhere");
    assert_refused(&bad, 2, &["external_secret_name"], &[]);
}

#[test]
fn a_rollback_brings_the_previous_value_back_as_a_new_version() {
    let process = Process::start();
    let shell = acme(&process);
    set(&shell, &["KEY", "--owner", "ops@acme.example"]);
    let rollback = ["extensions", "secrets", "rollback", "--key", "KEY"];
    shell.refused(4, &[], &rollback);
    set(&shell, &["KEY"]);
    assert_eq!(
        shell.fine(&rollback),
        "rolled back KEY at organization acme: version 3, rotated 2 times\n"
    );
    let listed = shell.json(&["extensions", "secrets", "list"]);
    assert_eq!(listed["data"][0]["owner"], json!("ops@acme.example"));
}

#[test]
fn an_explanation_tells_a_hidden_value_from_a_missing_one() {
    let process = Process::start();
    install(&process);
    let shell = acme(&process);
    let explain = ["extensions", "secrets", "explain", "--installation", "ins_1"];
    let missing = shell.run(&explain);
    assert_eq!(missing.code, Some(1), "a required key has no value");
    assert!(
        missing.stdout.contains("CRM_TOKEN (payload, required): missing\n"),
        "{}",
        missing.stdout
    );
    set(&shell, &["CRM_TOKEN"]);
    set(&shell, &["CRM_TOKEN", "--scope", "project", "--id", "web"]);
    let shown = shell.fine(&explain);
    assert!(shown.contains("it hides organization acme version 1"), "{shown}");
    let winner: Vec<&str> = shown
        .lines()
        .find(|line| line.trim_start().starts_with('>'))
        .unwrap()
        .split_whitespace()
        .collect();
    assert_eq!(winner[1..6], ["project", "web", "found", "1", "value"]);
    let served = process
        .call(
            "GET",
            "/extensions/secrets/explain?installation=ins_1&key=SMTP_HOST",
            b"",
        )
        .json();
    let one = [&explain[..], &["--key", "SMTP_HOST"]].concat();
    let json = shell.json(&one);
    assert_eq!(json["data"], served["data"]);
    assert_eq!(shell.run(&one).code, Some(0), "an optional key may be missing");
    shell.refused(
        4,
        &["There is no such thing"],
        &["extensions", "secrets", "explain", "--installation", "none"],
    );
}

#[test]
fn a_report_has_a_line_for_every_secret_in_all_its_forms() {
    let process = Process::start();
    let shell = acme(&process);
    set(&shell, &["ONE", "--owner", "=cmd|calc"]);
    set(&shell, &["TWO"]);
    set(&shell, &["TWO"]);
    let report = ["extensions", "secrets", "report"];
    let table = shell.fine(&report);
    assert!(
        table.contains("2 secrets, 0 overdue, 0 external, 0 placeholders, 1 never rotated"),
        "{table}"
    );
    let two: Vec<&str> = table
        .lines()
        .find(|line| line.starts_with("TWO"))
        .unwrap()
        .split_whitespace()
        .collect();
    assert_eq!(two[..6], ["TWO", "organization", "acme", "value", "2", "1"]);
    let served = process
        .call("GET", "/extensions/secrets/report?organization_id=acme", b"")
        .json();
    for arguments in [&["--format", "json"][..], &["-o", "json"]] {
        let text = shell.fine(&[&report, arguments].concat());
        let document: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (&document["data"], &document["totals"]),
            (&served["data"], &served["totals"]),
            "{arguments:?}"
        );
    }
    let csv = shell.fine(&[&report[..], &["--format", "csv"]].concat());
    let served = process.call("GET", "/extensions/secrets/report?organization_id=acme&format=csv", b"");
    assert_eq!(csv.as_bytes(), served.body);
    assert_eq!(csv.lines().count(), 3);
}
