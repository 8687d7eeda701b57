//! The command lines for secrets: those that the product's document prints, as printed, and what each of them says.

use serde_json::{Value, json};

use super::support::command::{Shell, assert_refused};
use super::support::process::Process;

const CANARY: &str = "cnry-mailchimp-0042";

const SET_FROM_STDIN: &[&str] = &["extensions", "secrets", "set", "--key"];

fn acme(process: &Process) -> Shell<'_> {
    Shell::of(process).in_organization("acme").guarding(CANARY)
}

/// Sets a key of the organization from stdin.
fn set(shell: &Shell<'_>, key: &str, value: &str) -> String {
    let ended = shell.fed(value.as_bytes(), &[SET_FROM_STDIN, &[key]].concat());
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    ended.stdout
}

#[test]
fn every_command_line_of_the_document_works_as_printed() {
    let process = Process::start();
    let shell = acme(&process);
    process
        .home
        .write(".env.mailchimp", &format!("MAILCHIMP_API_KEY={CANARY}\n"));
    let listed = shell.line("kiket extensions secrets list --scope extension --id com.example.mailchimp");
    assert_eq!((listed.code, listed.stdout.as_str()), (Some(0), "no secrets\n"));

    let set = shell.line(
        "kiket extensions secrets set --scope extension --id com.example.mailchimp --key MAILCHIMP_API_KEY \
         --env-file .env.mailchimp",
    );
    assert_eq!(set.code, Some(0), "{}", set.stderr);
    assert_eq!(
        set.stdout,
        "created MAILCHIMP_API_KEY at extension com.example.mailchimp: version 1\n"
    );

    // Settings → Rotate: `kiket extensions secrets set --key FOO --value ...`
    let first = shell.line(&format!("kiket extensions secrets set --key FOO --value {CANARY}"));
    assert_eq!(
        (first.code, first.stdout.as_str()),
        (Some(0), "created FOO at organization acme: version 1\n")
    );
    assert!(
        first.stderr.contains("--value can be seen by others"),
        "{}",
        first.stderr
    );
    let again = shell.line(&format!("kiket extensions secrets set --key FOO --value {CANARY}2"));
    assert_eq!(
        again.stdout,
        "replaced FOO at organization acme: version 2, rotated once\n"
    );

    let listed = shell.line("kiket extensions secrets list --scope extension --id com.example.mailchimp");
    let lines: Vec<&str> = listed.stdout.lines().collect();
    assert_eq!(lines.len(), 2, "{}", listed.stdout);
    let words: Vec<&str> = lines[1].split_whitespace().collect();
    assert_eq!(
        words[..5],
        ["MAILCHIMP_API_KEY", "extension", "com.example.mailchimp", "value", "1"]
    );
}

#[test]
fn what_is_listed_is_what_the_api_has() {
    let process = Process::start();
    let shell = acme(&process);
    set(&shell, "ONE", CANARY);
    set(&shell, "TWO", CANARY);
    let at_project = ["--scope", "project", "--id", "web"];
    let ended = shell.fed(CANARY.as_bytes(), &[SET_FROM_STDIN, &["ONE"], &at_project].concat());
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);

    let served = |query: &str| process.call("GET", &format!("/extensions/secrets?{query}"), b"").json()["data"].clone();
    let list = |arguments: &[&str]| shell.json(&[&["extensions", "secrets", "list"], arguments].concat());
    let all = list(&[]);
    assert_eq!(all["data"], served("organization_id=acme"));
    assert_eq!(
        (all["data"].as_array().unwrap().len(), &all["next_cursor"]),
        (3, &Value::Null)
    );
    assert_eq!(list(&at_project)["data"], served("scope=project&id=web"));
    assert_eq!(list(&["--key", "ONE"])["data"].as_array().unwrap().len(), 2);
    assert_eq!(list(&["--scope", "organization"])["data"].as_array().unwrap().len(), 2);
    assert_eq!(list(&["--organization", "other"])["data"], json!([]));

    let table = shell.fine(&["extensions", "secrets", "list"]);
    let heads: Vec<&str> = table.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(
        heads,
        [
            "KEY",
            "SCOPE",
            "ID",
            "SOURCE",
            "VERSION",
            "ROTATIONS",
            "ROTATED",
            "UPDATED"
        ]
    );
    let second_column = |line: &str| {
        ["SCOPE", "organization", "project"]
            .iter()
            .find_map(|word| line.find(word))
    };
    let starts: Vec<_> = table.lines().map(second_column).collect();
    assert!(
        starts[0].is_some() && starts.iter().all(|at| *at == starts[0]),
        "{table}"
    );
}

#[test]
fn more_than_a_page_is_listed_whole() {
    let process = Process::start();
    let shell = acme(&process);
    let entries: String = (0..1_200).map(|n| format!("KEY_{n}={CANARY}-{n}\n")).collect();
    process.home.write("many.env", &entries);
    let ended = shell.run(&["extensions", "secrets", "set", "--env-file", "many.env"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(
        ended.stderr.contains("written in 6 parts, each of them all or none"),
        "{}",
        ended.stderr
    );
    assert_eq!(ended.stdout.lines().count(), 1_200);
    let listed = shell.json(&["extensions", "secrets", "list"]);
    assert_eq!(listed["data"].as_array().unwrap().len(), 1_200);
}

#[test]
fn a_rotation_counts_and_can_insist_on_a_version() {
    let process = Process::start();
    let shell = acme(&process);
    set(&shell, "TOKEN", CANARY);
    let rotate = |arguments: &[&str]| {
        let line = [&["extensions", "secrets", "rotate", "--key", "TOKEN"], arguments].concat();
        shell.fed(format!("{CANARY}-new").as_bytes(), &line)
    };
    let rotated = rotate(&["--revoke-now", "--expires", "30d"]);
    let expected = "rotated TOKEN at organization acme: version 2, rotated once\n";
    assert_eq!(
        (rotated.code, rotated.stdout.as_str()),
        (Some(0), expected),
        "{}",
        rotated.stderr
    );
    let listed = shell.json(&["extensions", "secrets", "list"]);
    assert!(listed["data"][0]["expires_at"].is_string(), "{listed}");
    let late = rotate(&["--if-version", "1"]);
    assert_refused(&late, 4, &["version of If-Match", "look again"], &["--if-version", "1"]);
    assert_eq!(rotate(&["--if-version", "2"]).code, Some(0));
}

#[test]
fn a_deleted_secret_is_gone_and_its_version_goes_on() {
    let process = Process::start();
    let shell = acme(&process);
    set(&shell, "TOKEN", CANARY);
    let delete = ["extensions", "secrets", "delete", "--key", "TOKEN"];
    assert_eq!(shell.fine(&delete), "deleted TOKEN at organization acme\n");
    shell.refused(4, &["There is no such thing", "case-sensitive"], &delete);
    assert_eq!(shell.json(&["extensions", "secrets", "list"])["data"], json!([]));
    assert!(
        set(&shell, "TOKEN", CANARY).contains("version 3"),
        "a tombstone is a version"
    );
}

#[test]
fn all_entries_of_a_file_are_written_or_none() {
    let process = Process::start();
    let shell = acme(&process);
    let at = [
        "extensions",
        "secrets",
        "set",
        "--scope",
        "project",
        "--id",
        "web",
        "--env-file",
    ];
    process.home.write(
        "good.env",
        &format!("# both\nA='{CANARY}'\nexport B=\"line 1\\n{CANARY}\"\n"),
    );
    let good = shell.run(&[&at[..], &["good.env"]].concat());
    assert_eq!(
        good.stdout, "set A at project web: version 1\nset B at project web: version 1\n",
        "{}",
        good.stderr
    );

    process.home.write("bad.env", &format!("C={CANARY}\nlower={CANARY}\n"));
    let lower = shell.run(&[&at[..], &["bad.env"]].concat());
    assert_refused(&lower, 2, &["bad.env, line 2", "A-Z"], &at);
    process.home.write("empty.env", &format!("D={CANARY}\nE=\n"));
    let empty = shell.run(&[&at[..], &["empty.env"]].concat());
    assert_refused(&empty, 2, &["empty.env, line 2", "the value is empty"], &at);
    let keys: Vec<Value> = shell.json(&["extensions", "secrets", "list"])["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["key"].clone())
        .collect();
    assert_eq!(keys, [json!("A"), json!("B")]);
}

#[test]
fn a_partners_default_belongs_to_no_organization() {
    let process = Process::start();
    let shell = acme(&process);
    let at = [
        "--scope",
        "extension",
        "--id",
        "com.example.mailchimp",
        "--partner-default",
    ];
    let ended = shell.fed(CANARY.as_bytes(), &[SET_FROM_STDIN, &["KEY"], &at].concat());
    let expected = "created KEY at extension com.example.mailchimp (partner's default): version 1\n";
    assert_eq!(
        (ended.code, ended.stdout.as_str()),
        (Some(0), expected),
        "{}",
        ended.stderr
    );
    let wrong = ["--scope", "project", "--id", "web", "--partner-default"];
    let ended = shell.fed(CANARY.as_bytes(), &[SET_FROM_STDIN, &["KEY"], &wrong].concat());
    assert_refused(&ended, 2, &["partner_default"], &wrong);
}

#[test]
fn an_id_that_nobody_named_before_is_pointed_out() {
    let process = Process::start();
    let shell = acme(&process);
    let at = |id| [SET_FROM_STDIN, &["KEY", "--scope", "project", "--id", id]].concat();
    let first = shell.fed(CANARY.as_bytes(), &at("web"));
    assert!(
        first.stderr.contains("nothing named project web before"),
        "{}",
        first.stderr
    );
    let second = shell.fed(CANARY.as_bytes(), &at("web"));
    assert_eq!(second.stderr, "");
    let typo = shell.fed(CANARY.as_bytes(), &at("wbe"));
    assert!(
        typo.stderr.contains("nothing named project wbe before"),
        "{}",
        typo.stderr
    );
}

#[test]
fn no_output_tells_a_short_value_from_a_long_one() {
    let process = Process::start();
    let shell = acme(&process);
    let shown = |key: &str, value: &str| {
        let mut shown = set(&shell, key, value);
        let rotate = ["extensions", "secrets", "rotate", "--key", key];
        shown.push_str(&shell.fed(value.as_bytes(), &rotate).stdout);
        shown.push_str(&shell.fine(&["extensions", "secrets", "list", "--key", key]));
        let mut listed = shell.json(&["extensions", "secrets", "list", "--key", key]);
        for moment in ["created_at", "updated_at", "last_rotated_at"] {
            assert!(listed["data"][0][moment].take().is_string(), "{listed}");
        }
        format!("{shown}{listed}").replace(key, "KEY")
    };
    let (short, long) = (shown("AAA", "x"), shown("BBB", &CANARY.repeat(3_000)));
    assert_eq!(short, long);
}
