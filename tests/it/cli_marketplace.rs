//! Installing, checking, enabling from a command line that nobody sits at.

use serde_json::{Value, json};

use super::support::command::{Shell, assert_refused};
use super::support::endpoint::Endpoint;
use super::support::process::Process;

const CANARY: &str = "cnry-zoom-0815";

/// The product's own example, with a secret where it has a channel.
const MANIFEST: &str = "\
extension:
  id: com.example.zoom
  delivery: { type: http, callback: { url: URL } }
  configuration:
    ZOOM_CLIENT_ID: { type: string, secret: true, required: true, scope: extension, label: Zoom Client ID }
    CHANNEL_TOKEN: { type: string, secret: true, required: true, label: Default Channel }
    SMTP_HOST: { type: string, secret: true }
";

fn acme(process: &Process) -> Shell<'_> {
    Shell::of(process).in_organization("acme").guarding(CANARY)
}

/// A server with the extension registered from a file and installed in project `web`.
fn installed(process: &Process, endpoint: &Endpoint) -> String {
    process
        .home
        .write("manifest.yaml", &MANIFEST.replace("URL", &endpoint.url()));
    let install = [
        "marketplace",
        "install",
        "manifest.yaml",
        "--project",
        "web",
        "--id",
        "ins_1",
    ];
    let ended = acme(process).run(&install);
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(1), ""), "{}", ended.stdout);
    ended.stdout
}

#[test]
fn an_install_shows_what_is_missing_and_ends_with_1() {
    let (process, endpoint) = (Process::start(), Endpoint::start());
    let shown = installed(&process, &endpoint);
    let expected = "\
ins_1: com.example.zoom in project web of acme, pending

KEY             NEEDED    SET FOR       VALUE    LABEL
CHANNEL_TOKEN   required  project       MISSING  Default Channel
SMTP_HOST       optional  project       none
ZOOM_CLIENT_ID  required  organization  MISSING  Zoom Client ID

missing: CHANNEL_TOKEN, ZOOM_CLIENT_ID
  kiket extensions secrets set --organization acme --scope extension_installation --id ins_1 --key CHANNEL_TOKEN
";
    assert_eq!(shown, expected);
    let status = acme(&process).line("kiket marketplace status ins_1");
    assert_eq!((status.code, status.stdout.as_str()), (Some(1), expected));
    let all = acme(&process).line("kiket marketplace status");
    assert_eq!(all.code, Some(1));
    let words: Vec<&str> = all.stdout.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(
        words,
        [
            "ins_1",
            "com.example.zoom",
            "acme",
            "web",
            "pending",
            "CHANNEL_TOKEN,",
            "ZOOM_CLIENT_ID",
            "-",
            "-"
        ]
    );
    let enabled = acme(&process).line("kiket marketplace enable ins_1");
    assert_refused(
        &enabled,
        1,
        &["Required keys have no value: CHANNEL_TOKEN, ZOOM_CLIENT_ID"],
        &[],
    );
}

#[test]
fn the_command_that_status_proposes_sets_the_key() {
    let (process, endpoint) = (Process::start(), Endpoint::start());
    let mut shown = installed(&process, &endpoint);
    for _ in 0..2 {
        let proposed = shown.lines().last().unwrap().trim().to_owned();
        let words: Vec<&str> = proposed.split(' ').skip(1).collect();
        let set = acme(&process).fed(CANARY.as_bytes(), &words);
        assert_eq!(set.code, Some(0), "{proposed}: {}", set.stderr);
        shown = acme(&process).line("kiket marketplace status ins_1").stdout;
    }
    let last = shown.lines().last().unwrap();
    assert_eq!(last, "nothing is missing: kiket marketplace enable ins_1");
    assert_eq!(
        acme(&process).fine(&["marketplace", "enable", "ins_1"]),
        "enabled ins_1\n"
    );
    assert_eq!(acme(&process).line("kiket marketplace status").code, Some(0));
    assert_eq!(process.deliver("ins_1", b"{}").status, 200);
    assert_eq!(endpoint.last().secret("ZOOM_CLIENT_ID").as_deref(), Some(CANARY));
    assert_eq!(
        acme(&process).fine(&["marketplace", "disable", "ins_1"]),
        "disabled ins_1\n"
    );
    assert_eq!(process.deliver("ins_1", b"{}").status, 409);
}

#[test]
fn an_env_file_fills_the_checklist_and_a_second_project_uses_what_is_shared() {
    let (process, endpoint) = (Process::start(), Endpoint::start());
    installed(&process, &endpoint);
    let env = format!("ZOOM_CLIENT_ID={CANARY}-org\nCHANNEL_TOKEN='{CANARY}-project'\nUNRELATED={CANARY}\n");
    process.home.write(".env", &env);
    let shell = acme(&process);
    let install = |project: &str, id: &str| {
        let line =
            format!("kiket marketplace install com.example.zoom --project {project} --id {id} --env-file .env --yes");
        shell.line(&line)
    };
    let first = install("first", "ins_2");
    assert_eq!(first.code, Some(0), "{}", first.stderr);
    assert!(
        first.stdout.contains("in project first of acme, enabled"),
        "{}",
        first.stdout
    );
    assert!(
        first.stderr.contains("does not ask for UNRELATED; not stored"),
        "{}",
        first.stderr
    );
    let listed = shell.json(&["extensions", "secrets", "list"]);
    let places = |listed: &Value| {
        let rows = listed["data"].as_array().unwrap().iter();
        rows.map(|row| format!("{} {} {}", row["key"], row["scope"], row["version"]).replace('"', ""))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        places(&listed),
        ["ZOOM_CLIENT_ID extension 1", "CHANNEL_TOKEN extension_installation 1"]
    );

    process.home.write(".env", &env.replace("-org", "-other"));
    let second = install("second", "ins_3");
    assert_eq!(second.code, Some(0), "{}", second.stderr);
    assert!(
        second
            .stdout
            .contains("using organization-wide credentials (extension)"),
        "{}",
        second.stdout
    );
    let kept = "ZOOM_CLIENT_ID: using organization-wide credentials (extension); not taken from .env";
    assert!(second.stderr.contains(kept), "{}", second.stderr);
    assert_eq!(process.deliver("ins_3", b"{}").status, 200);
    assert_eq!(endpoint.last().secret("ZOOM_CLIENT_ID"), Some(format!("{CANARY}-org")));
    assert_eq!(
        endpoint.last().secret("CHANNEL_TOKEN"),
        Some(format!("{CANARY}-project"))
    );
}

#[test]
fn a_broken_env_file_leaves_nothing_installed() {
    let (process, endpoint) = (Process::start(), Endpoint::start());
    installed(&process, &endpoint);
    process.home.write(".env", &format!("ZOOM_CLIENT_ID=\"{CANARY}\n"));
    let install = [
        "marketplace",
        "install",
        "com.example.zoom",
        "--project",
        "x",
        "--env-file",
        ".env",
    ];
    acme(&process).refused(2, &[".env, line 1: the quote that opens here is not closed"], &install);
    let listed = acme(&process).json(&["marketplace", "status"]);
    assert_eq!(listed["data"].as_array().unwrap().len(), 1);
    // An entry that cannot be written is found out later: the installation is there, its values are not.
    process
        .home
        .write(".env", &format!("CHANNEL_TOKEN={CANARY}\nSMTP_HOST=\n"));
    let said = [".env, line 2: the value is empty", "the extension is installed"];
    acme(&process).refused(2, &said, &install);
    assert_eq!(
        acme(&process).json(&["extensions", "secrets", "list"])["data"],
        json!([])
    );
}

#[test]
fn placeholders_are_called_out_until_they_have_values() {
    let (process, endpoint) = (Process::start(), Endpoint::start());
    installed(&process, &endpoint);
    let shell = acme(&process);
    let install = [
        "marketplace",
        "install",
        "com.example.zoom",
        "--project",
        "x",
        "--id",
        "ins_2",
        "--scaffold",
    ];
    let shown = shell.run(&install);
    assert_eq!(shown.code, Some(1));
    let called_out = "placeholder, no value yet: CHANNEL_TOKEN, SMTP_HOST, ZOOM_CLIENT_ID";
    assert!(shown.stdout.contains(called_out), "{}", shown.stdout);
    process
        .home
        .write(".env", &format!("CHANNEL_TOKEN={CANARY}\nSMTP_HOST={CANARY}\n"));
    let set = "kiket extensions secrets set --scope installation --id ins_2 --env-file .env";
    assert_eq!(shell.line(set).code, Some(0));
    let status = shell.line("kiket marketplace status ins_2");
    assert_eq!(status.code, Some(1));
    assert!(status.stdout.contains("missing: ZOOM_CLIENT_ID\n"), "{}", status.stdout);
    // One that the extension could do without is called out as well: somebody left it to be filled in.
    let zoom = [
        "extensions",
        "secrets",
        "set",
        "--scope",
        "extension",
        "--id",
        "com.example.zoom",
        "--key",
        "ZOOM_CLIENT_ID",
    ];
    assert_eq!(shell.fed(CANARY.as_bytes(), &zoom).code, Some(0));
    let delete = "kiket extensions secrets delete --scope installation --id ins_2 --key SMTP_HOST";
    assert_eq!(shell.line(delete).code, Some(0));
    assert_eq!(shell.line("kiket marketplace status ins_2").code, Some(0));
    let third = "kiket marketplace install com.example.zoom --project y --id ins_3 --scaffold";
    assert_eq!(shell.line(third).code, Some(1));
    let token = [
        "extensions",
        "secrets",
        "set",
        "--scope",
        "installation",
        "--id",
        "ins_3",
        "--key",
        "CHANNEL_TOKEN",
    ];
    assert_eq!(shell.fed(CANARY.as_bytes(), &token).code, Some(0));
    let status = shell.line("kiket marketplace status ins_3");
    assert_eq!(status.code, Some(1), "{}", status.stdout);
    assert!(!status.stdout.contains("missing: "), "{}", status.stdout);
    assert!(
        status.stdout.contains("placeholder, no value yet: SMTP_HOST\n"),
        "{}",
        status.stdout
    );
}

#[test]
fn json_is_the_apis_own_object() {
    let (process, endpoint) = (Process::start(), Endpoint::start());
    installed(&process, &endpoint);
    let served = |path: &str| process.call("GET", path, b"").json();
    let shell = acme(&process);
    let one = shell.json(&["marketplace", "status", "ins_1"]);
    assert_eq!(one, served("/marketplace/installations/ins_1"));
    let all = shell.json(&["marketplace", "status"]);
    assert_eq!(all, json!({"data": [one], "next_cursor": null}));
    let install = [
        "marketplace",
        "install",
        "com.example.zoom",
        "--project",
        "y",
        "--id",
        "ins_2",
    ];
    assert_eq!(shell.json(&install), served("/marketplace/installations/ins_2"));
}

#[test]
fn what_cannot_be_installed_is_told_with_the_reason() {
    let process = Process::start();
    let shell = acme(&process);
    let install = |what: &'static str| ["marketplace", "install", what, "--project", "web"];
    shell.refused(
        2,
        &["com.example.none", "no such extension"][1..],
        &install("com.example.none"),
    );
    shell.refused(
        2,
        &["none: neither an extension's id", "nor a readable file"],
        &install("none"),
    );
    shell.refused(2, &["./com.example.yaml: neither"], &install("./com.example.yaml"));
    process.home.write("bad.yaml", "extension:\n  id: [\n");
    shell.refused(2, &["bad.yaml: ", "line"], &install("bad.yaml"));
    process
        .home
        .write("manifest.yaml", &MANIFEST.replace("URL", "http://10.0.0.1/x"));
    let admin = process.token_of("org_admin", "acme");
    let shell = acme(&process).with("KIKET_TOKEN", &admin);
    shell.refused(4, &["role does not allow"], &install("manifest.yaml"));
}
