//! What a command line is refused for, with which exit code, and what its author is told to do next.

use serde_json::json;

use super::support::command::Shell;
use super::support::instance::set_mode;
use super::support::process::{Process, kiket, run};

const SET: &[&str] = &["extensions", "secrets", "set", "--value", "x"];
const LIST: &[&str] = &["extensions", "secrets", "list"];

fn set<'a>(arguments: &[&'a str]) -> Vec<&'a str> {
    [SET, arguments].concat()
}

#[test]
fn wrong_arguments_are_told_before_anybody_is_asked() {
    // There is no server.
    for (arguments, said) in [
        (set(&["--key", "lower"]), "A-Z, 0-9 and _"),
        (set(&["--key", &"K".repeat(129)]), "1 to 128"),
        (set(&["--key", "1KEY"]), "starts with a letter"),
        (
            set(&["--key", "K", "--scope", "planet", "--id", "x"]),
            "the scopes are extension_installation",
        ),
        (set(&["--key", "K", "--id", "x"]), "--scope"),
        (set(&[]), "--key"),
        (set(&["--key", "K", "--expires", "soon"]), "2027-01-01T00:00:00Z"),
        (set(&["--key", "K", "--organization", "a b"]), "an id is 1 to 128"),
        (vec!["extensions", "secrets", "link", "--key", "K"], "--external"),
        (vec!["extensions", "secrets", "explain"], "--installation"),
        (vec!["marketplace", "install", "com.example.x"], "--project"),
        (vec!["marketplace", "enable"], "<ID>"),
        (vec!["secrets", "audit", "--since", "yesterday"], "a span before now"),
        (vec!["secrets", "alerts", "--timeout", "5s"], "--wait"),
        (
            vec!["tokens", "create", "--name", "x", "--role", "king"],
            "the roles are platform_operator",
        ),
        (
            vec!["organizations", "policy", "set", "acme", "--retention-days", "some"],
            "a count, or off",
        ),
        (vec!["extensions", "secrets", "list", "--output", "xml"], "table, json"),
    ] {
        let ended = run(kiket(&arguments));
        assert_eq!(
            (ended.code, ended.stdout.as_str()),
            (Some(2), ""),
            "{arguments:?}: {}",
            ended.stderr
        );
        assert!(
            ended.stderr.contains(said),
            "{arguments:?}: no `{said}` in {}",
            ended.stderr
        );
    }
}

#[test]
fn without_a_usable_token_or_address_nothing_is_asked() {
    let process = Process::start();
    let shell = || Shell::of(&process).in_organization("acme");
    let file = process.home.write("token", &process.token);
    let file_name = file.to_str().unwrap();
    shell()
        .with("KIKET_TOKEN", "")
        .refused(2, &["no token", "--token-file", "KIKET_TOKEN"], LIST);
    shell().with("KIKET_TOKEN", " \n").refused(2, &["no token"], LIST);
    let with_file = [LIST, &["--token-file", file_name]].concat();
    assert_eq!(shell().with("KIKET_TOKEN", "").run(&with_file).code, Some(0));
    assert_eq!(
        shell()
            .with("KIKET_TOKEN", "")
            .with("KIKET_TOKEN_FILE", file_name)
            .run(LIST)
            .code,
        Some(0)
    );
    assert_eq!(
        shell().with("KIKET_TOKEN", "wrong").run(&with_file).code,
        Some(0),
        "the file is nearer"
    );
    set_mode(&file, 0o644);
    shell().refused(2, &["--token-file", file_name, "others may read"], &with_file);
    shell().refused(
        2,
        &["--token-file none", "entity not found"],
        &[LIST, &["--token-file", "none"]].concat(),
    );
    for (url, said) in [
        ("127.0.0.1:8081", "--url or KIKET_URL"),
        (
            "http://kiket.example:8081",
            "the token would travel readable; use https",
        ),
        ("ftp://127.0.0.1", "starts with http:// or https://"),
    ] {
        shell().refused(2, &[said], &[LIST, &["--url", url]].concat());
    }
    process.home.write("ca.pem", "no certificate");
    let ca = [LIST, &["--url", "https://127.0.0.1:1", "--ca-file", "ca.pem"]].concat();
    shell().refused(2, &["--ca-file"], &ca);
}

#[test]
fn a_server_that_refuses_is_told_from_one_that_is_away() {
    let process = Process::start();
    let shell = || Shell::of(&process);
    let key = set(&["--key", "KEY"]);
    shell()
        .with("KIKET_TOKEN", "wrong-token")
        .refused(4, &["A valid token is needed", "KIKET_TOKEN"], LIST);
    shell().refused(
        2,
        &["organization_id is missing", "--organization or KIKET_ORGANIZATION"],
        &key,
    );
    let elsewhere = set(&[
        "--key",
        "KEY",
        "--scope",
        "project",
        "--id",
        "a b",
        "--organization",
        "acme",
    ]);
    shell().refused(2, &["(field `id`)"], &elsewhere);
    let nothing = ["marketplace", "status", "none"];
    shell().refused(4, &["There is no such thing"], &nothing);
    let url = format!("http://{}", process.admin);
    assert_eq!(process.stop().code, Some(0));
    let away = Process::start();
    let shell = Shell::of(&away).with("KIKET_URL", &url);
    shell.refused(
        3,
        &[&url, "cannot be reached: connection refused", "is it running?"],
        LIST,
    );
}

#[test]
fn an_admin_of_another_organization_sees_nothing() {
    let process = Process::start();
    let token = |role: &str, organization: &str| process.token_of(role, organization);
    let acme = token("org_admin", "acme");
    let auditor = token("auditor", "acme");
    let shell = |token: &str| Shell::of(&process).with("KIKET_TOKEN", token);
    assert_eq!(
        shell(&acme).run(&set(&["--key", "KEY"])).code,
        Some(0),
        "the token's own organization is the current one"
    );
    let listed = shell(&acme).json(LIST);
    assert_eq!(listed["data"][0]["organization_id"], json!("acme"));
    let foreign = set(&["--key", "KEY", "--organization", "other"]);
    shell(&acme).refused(
        4,
        &["There is no such thing", "another organization looks absent"],
        &foreign,
    );
    shell(&auditor).refused(4, &["role does not allow", "another role"], &set(&["--key", "KEY"]));
    assert_eq!(shell(&auditor).run(LIST).code, Some(0));
    let partner = set(&[
        "--key",
        "K",
        "--scope",
        "extension",
        "--id",
        "com.example.x",
        "--partner-default",
    ]);
    shell(&acme).refused(4, &["role does not allow"], &partner);
}
