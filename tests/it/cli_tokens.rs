//! How tokens are made, used and removed from a command line.

use super::support::command::Shell;
use super::support::process::Process;

const LIST: &[&str] = &["extensions", "secrets", "list"];

#[test]
fn a_token_is_printed_once_alone_and_works_until_it_is_removed() {
    let process = Process::start();
    let operator = || Shell::of(&process);
    let made = operator().line("kiket tokens create --name ci --role org_admin --organization acme --expires 90d");
    assert_eq!(made.code, Some(0), "{}", made.stderr);
    assert_eq!(made.stdout.lines().count(), 1, "nothing but the token: {}", made.stdout);
    assert!(
        made.stderr.contains("ci, org_admin") && !made.stderr.contains(made.stdout.trim()),
        "{}",
        made.stderr
    );
    let token = process.home.write("ci.token", &made.stdout);
    let admin = || {
        Shell::of(&process)
            .with("KIKET_TOKEN", "")
            .with("KIKET_TOKEN_FILE", token.to_str().unwrap())
    };
    assert_eq!(admin().fine(LIST), "no secrets\n");

    let listed = operator().json(&["tokens", "list"]);
    let row = &listed["data"][0];
    assert_eq!(
        (row["name"].as_str(), row["role"].as_str()),
        (Some("ci"), Some("org_admin"))
    );
    assert!(row["expires_at"].is_string() && row.get("token").is_none(), "{listed}");
    let table = operator().fine(&["tokens", "list"]);
    assert!(table.contains("ci") && !table.contains(made.stdout.trim()), "{table}");

    let id = row["id"].as_str().unwrap();
    assert_eq!(operator().fine(&["tokens", "delete", id]), format!("removed {id}\n"));
    admin().refused(4, &["A valid token is needed"], LIST);
    operator().refused(4, &["There is no such thing"], &["tokens", "delete", id]);
}

#[test]
fn what_a_role_may_not_do_is_refused_with_a_way_on() {
    let process = Process::start();
    let admin = process.token_of("org_admin", "acme");
    let auditor = process.token_of("auditor", "acme");
    let with = |token: &str| Shell::of(&process).with("KIKET_TOKEN", token);
    let create = |role: &'static str| ["tokens", "create", "--name", "x", "--role", role];
    with(&admin).refused(
        4,
        &["role does not allow", "another role"],
        &create("platform_operator"),
    );
    with(&auditor).refused(4, &["role does not allow"], &create("auditor"));
    assert_eq!(with(&admin).run(&create("auditor")).code, Some(0));
    Shell::of(&process).refused(2, &["organization_id"], &create("org_admin"));
}
