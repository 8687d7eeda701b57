//! What the command line says of alerts, health and policies, and that automation can act on its exit codes.

use std::process::Stdio;

use serde_json::{Value, json};

use super::support::captured::Captured;
use super::support::command::{Shell, assert_refused};
use super::support::process::Process;

const CANARY: &str = "cnry-watched-77";

fn acme(process: &Process) -> Shell<'_> {
    Shell::of(process).in_organization("acme").guarding(CANARY)
}

fn set(shell: &Shell<'_>, key: &str) {
    let ended = shell.fed(CANARY.as_bytes(), &["extensions", "secrets", "set", "--key", key]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
}

/// Reads a key more often than the policy expects.
fn raise(process: &Process, key: &str) {
    for _ in 0..=25 {
        let path = format!("/extensions/secrets/{key}?scope=organization&id=acme");
        assert_eq!(process.call("GET", &path, b"").status, 200);
    }
}

#[test]
fn an_open_alert_ends_with_1_until_it_is_acknowledged() {
    let process = Process::start();
    let shell = acme(&process);
    assert_eq!(shell.fine(&["secrets", "alerts"]), "no alert is open\n");
    set(&shell, "READ_OFTEN");
    raise(&process, "READ_OFTEN");
    let open = shell.line("kiket secrets alerts --wait --timeout 60s");
    assert_eq!(open.code, Some(1), "{}{}", open.stdout, open.stderr);
    assert!(
        open.stdout.contains("read-anomaly") && open.stdout.contains("organization acme READ_OFTEN"),
        "{}",
        open.stdout
    );
    let served = process.call("GET", "/secrets/alerts?organization_id=acme", b"").json();
    let listed = shell.json(&["secrets", "alerts"]);
    assert_eq!(listed["data"], served["data"]);
    let audit = shell.run(&["secrets", "audit"]);
    assert!(
        audit.stderr.contains("1 open alerts; see `kiket secrets alerts`"),
        "{}",
        audit.stderr
    );

    let id = listed["data"][0]["id"].as_str().unwrap();
    assert_eq!(
        shell.fine(&["secrets", "alerts", "--acknowledge", id]),
        format!("acknowledged {id}\n")
    );
    assert_eq!(shell.fine(&["secrets", "alerts"]), "no alert is open\n");
    let all = shell.fine(&["secrets", "alerts", "--all"]);
    assert!(all.contains("ACKNOWLEDGED BY") && all.contains("bootstrap"), "{all}");
    shell.refused(
        4,
        &["There is no such thing"],
        &["secrets", "alerts", "--acknowledge", "none"],
    );
}

#[test]
fn who_waits_hears_of_an_alert_that_is_raised_meanwhile() {
    let process = Process::start();
    let shell = acme(&process);
    set(&shell, "READ_OFTEN");
    let mut command = shell.command(&["secrets", "alerts", "--wait", "--output", "json"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let stdout = Captured::start(child.stdout.take().unwrap());
    raise(&process, "READ_OFTEN");
    stdout.wait_for("read-anomaly", 1);
    assert_eq!(child.wait().unwrap().code(), Some(1));
    // Who does not want to wait for ever is told that there was nothing.
    let none = shell.line("kiket secrets alerts --organization other --wait --timeout 0s");
    assert_eq!((none.code, none.stdout.as_str()), (Some(0), "no alert is open\n"));
}

#[test]
fn health_counts_and_finds() {
    let process = Process::start();
    let shell = acme(&process);
    set(&shell, "FINE");
    let soon = ["extensions", "secrets", "set", "--key", "SOON", "--expires", "10d"];
    assert_eq!(shell.fed(CANARY.as_bytes(), &soon).code, Some(0));
    let expected = "Secrets:        2\nExpiring soon:  1\nOverdue:        0\nInvalid:        0\n";
    assert_eq!(shell.fine(&["secrets", "health"]), expected);
    let served = process.call("GET", "/secrets/health?organization_id=acme", b"").json();
    assert_eq!(shell.json(&["secrets", "health"]), served);
}

#[test]
fn a_policy_changes_rule_by_rule() {
    let process = Process::start();
    let shell = Shell::of(&process);
    let before = shell.fine(&["organizations", "policy", "get", "acme"]);
    assert!(before.contains("A value is overdue after:      90 days\n"), "{before}");
    assert!(before.contains("more than 25 within 15 minutes"), "{before}");
    let set = |rules: &[&str]| shell.json(&[&["organizations", "policy", "set", "acme"], rules].concat());
    set(&["--rotation-max-age-days", "30"]);
    set(&["--email", "ops@acme.example", "--email", "security@acme.example"]);
    let policy = set(&["--retention-days", "400"]);
    let rule = |name: &str| policy[name].clone();
    assert_eq!(
        (rule("rotation_max_age_days"), rule("retention_days")),
        (json!(30), json!(400))
    );
    assert_eq!(rule("emails"), json!(["ops@acme.example", "security@acme.example"]));
    let policy = set(&["--retention-days", "off", "--unused-days", "off", "--email", "off"]);
    assert_eq!(
        (&policy["retention_days"], &policy["unused_days"]),
        (&Value::Null, &Value::Null)
    );
    assert_eq!(
        (&policy["emails"], &policy["rotation_max_age_days"]),
        (&json!([]), &json!(30))
    );
    let served = process.call("GET", "/organizations/acme/policy", b"").json();
    assert_eq!(acme(&process).json(&["organizations", "policy", "get"]), served);
    let wrong = shell.line("kiket organizations policy set acme --rotation-max-age-days 0");
    assert_refused(&wrong, 2, &["rotation_max_age_days"], &[]);
    shell.refused(
        2,
        &["name a rule to change"],
        &["organizations", "policy", "set", "acme"],
    );
    shell.refused(2, &["name the organization"], &["organizations", "policy", "get"]);
}
