//! How an organization's providers are configured, looked at and checked from a command line.

use serde_json::json;

use super::support::command::Shell;
use super::support::pki::Authority;
use super::support::process::Process;
use super::support::vault::{FakeVault, Grant};

const PROVIDERS: [&str; 2] = ["organizations", "providers"];

/// The arguments of a subcommand.
fn of<'a>(command: &'a str, rest: &[&'a str]) -> Vec<&'a str> {
    [&PROVIDERS[..], &[command], rest].concat()
}

#[test]
fn a_vault_is_configured_checked_repaired_and_removed() {
    let process = Process::start();
    let authority = Authority::new("dev CA");
    let vault = FakeVault::start(&authority);
    let secret_id = "cnry-secret-id";
    vault.root(|root| root.entry("approle", "role-1", secret_id, Grant::default()));
    let shell = Shell::of(&process).guarding(secret_id);
    let set_secret = |key: &str, value: &str| {
        let arguments = ["extensions", "secrets", "set", "--organization", "acme", "--key", key];
        let ended = Shell::of(&process).fed(value.as_bytes(), &arguments);
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    };
    assert_eq!(shell.fine(&of("list", &["acme"])), "no providers\n");
    shell.refused(4, &["There is no such thing"], &of("show", &["acme", "main"]));

    let url = vault.url();
    let settings = [
        "acme",
        "main",
        "--kind",
        "vault",
        "--address",
        &url,
        "--mount",
        "secret",
        "--mount",
        "kv=1",
        "--path-prefix",
        "kiket/acme",
        "--auth",
        "approle",
        "--role",
        "role-1",
        "--credential-key",
        "VAULT_SECRET_ID",
        "--ca-key",
        "VAULT_CA",
        "--default",
    ];
    let told = shell.fine(&of("set", &settings));
    for fact in [
        "Provider:",
        "main",
        "kv=1, secret=2",
        "VAULT_SECRET_ID",
        "60 s",
        "kiket/acme",
    ] {
        assert!(told.contains(fact), "{fact}: {told}");
    }
    assert!(!told.contains("Namespace"), "what is not said is left out: {told}");
    assert_eq!(shell.fine(&of("show", &["acme", "main"])), told);
    let table = shell.fine(&of("list", &["acme"]));
    let row = table.lines().nth(1).unwrap();
    for cell in ["main", "vault", &url, "kiket/acme", "kv=1, secret=2", "approle", "yes"] {
        assert!(row.contains(cell), "{cell}: {table}");
    }
    let served = process.call("GET", "/organizations/acme/providers/main", b"").json();
    assert_eq!(shell.json(&of("show", &["acme", "main"])), served);

    // What is in the way, one thing after the other.
    let check = || {
        let ended = shell.run(&of("check", &["acme", "main"]));
        let outcome = ended.stdout.split(':').next().unwrap().to_owned();
        assert!(ended.stdout.ends_with(".\n") && ended.stderr.is_empty(), "{ended:?}");
        (ended.code, outcome)
    };
    let told = |code, word: &str| (Some(code), word.to_owned());
    assert_eq!(check(), told(1, "credential-missing"));
    set_secret("VAULT_SECRET_ID", "another one");
    set_secret("VAULT_CA", &authority.pem());
    assert_eq!(check(), told(1, "denied"));
    set_secret("VAULT_SECRET_ID", secret_id);
    assert_eq!(check(), told(0, "usable"));
    assert_eq!(shell.json(&of("check", &["acme", "main"]))["outcome"], "usable");

    let ended = shell.run(&of("delete", &["acme", "main", "--if-version", "7", "--yes"]));
    assert_eq!(ended.code, Some(4), "{}", ended.stderr);
    assert_eq!(
        shell.fine(&of("delete", &["acme", "main", "--yes"])),
        "removed provider main of acme\n"
    );
    assert_eq!(shell.fine(&of("list", &["acme"])), "no providers\n");
    shell.refused(4, &["There is no such thing"], &of("check", &["acme", "main"]));
}

#[test]
fn of_a_provider_that_is_there_what_is_not_named_stays() {
    let process = Process::start();
    // The organization comes from the environment; the name alone is enough.
    let shell = Shell::of(&process).in_organization("acme");
    let set = |settings: &[&str]| shell.json(&of("set", &[&["main"], settings].concat()));
    let first = set(&[
        "--kind",
        "vault",
        "--address",
        "https://vault.example.com",
        "--namespace",
        "team",
        "--mount",
        "a=1",
        "--auth",
        "approle",
        "--auth-mount",
        "sso",
        "--role",
        "r",
        "--credential-key",
        "KEY",
    ]);
    let changed = set(&["--ttl", "300", "--default"]);
    let mut expected = first;
    for (name, value) in [
        ("ttl", json!(300)),
        ("default", json!(true)),
        ("version", json!(2)),
        ("updated_at", changed["updated_at"].clone()),
    ] {
        expected[name] = value;
    }
    assert_eq!(changed, expected);
    let changed = set(&["--namespace", "", "--default=false", "--mount", "b", "--role", "s"]);
    assert_eq!(
        (&changed["namespace"], &changed["default"], &changed["mounts"]),
        (&json!(null), &json!(false), &json!({"b": 2}))
    );
    let auth = json!({"method": "approle", "mount": "sso", "role": "s", "credential_key": "KEY"});
    assert_eq!(changed["auth"], auth);
    // Another method begins anew, and so does another kind.
    let token = ["--auth", "token"];
    shell.refused(
        2,
        &["auth.credential_key"],
        &of("set", &[&["main"], &token[..]].concat()),
    );
    let changed = set(&["--auth", "token", "--credential-key", "TOKEN"]);
    let auth = json!({"method": "token", "mount": null, "role": null, "credential_key": "TOKEN"});
    assert_eq!((&changed["auth"], &changed["mounts"]), (&auth, &json!({"b": 2})));
    let changed = set(&[
        "--kind",
        "gsm",
        "--path-prefix",
        "projects/p",
        "--auth",
        "service_account",
        "--credential-key",
        "ACCOUNT",
    ]);
    assert_eq!((&changed["kind"], &changed["mounts"]), (&json!("gsm"), &json!(null)));
    assert_eq!(changed["version"], 5);
}

#[test]
fn what_cannot_stand_is_refused_with_the_field() {
    let process = Process::start();
    let shell = Shell::of(&process);
    let set = |settings: &[&'static str]| of("set", &[&["acme", "main"], settings].concat());
    let vault = [
        "--kind",
        "vault",
        "--auth",
        "token",
        "--credential-key",
        "KEY",
        "--address",
    ];
    let at = |address: &'static str| set(&[&vault[..], &[address]].concat());
    shell.refused(2, &["name a setting"], &set(&[]));
    shell.refused(
        2,
        &["auth.method"],
        &set(&["--kind", "vault", "--address", "https://a.example"]),
    );
    shell.refused(2, &["kind"], &set(&["--kind", "aws"]));
    shell.refused(2, &["address"], &at("vault.example.com"));
    shell.refused(4, &["destination is refused"], &at("https://10.0.0.1"));
    shell.refused(2, &["MOUNT=2"], &set(&["--mount", "a=x"]));
    shell.refused(2, &["a-z"], &of("show", &["acme", "Main"]));
    shell.refused(2, &["name the organization"], &of("show", &["main"]));
    shell.refused(
        4,
        &["not at the version"],
        &[at("https://a.example"), vec!["--if-version", "3"]].concat(),
    );
    let admin = process.token_of("org_admin", "acme");
    let machine = set(&["--kind", "gsm", "--path-prefix", "projects/p", "--auth", "metadata"]);
    let refused = Shell::of(&process).with("KIKET_TOKEN", &admin);
    refused.refused(4, &["role does not allow"], &machine);
    assert_eq!(shell.run(&machine).code, Some(0));
    let auditor = process.token_of("auditor", "acme");
    let auditor = Shell::of(&process).with("KIKET_TOKEN", &auditor);
    assert!(auditor.fine(&of("list", &["acme"])).contains("metadata"));
    auditor.refused(4, &["role does not allow"], &of("check", &["acme", "main"]));
    auditor.refused(4, &["There is no such thing"], &of("list", &["other"]));
    for line in ["organizations providers check ", "organizations providers show acme "] {
        let words: Vec<&str> = line.split(' ').collect();
        let told = shell.run(&[&["__complete", "--"], words.as_slice()].concat()).stdout;
        let is_name = line.contains("acme");
        assert_eq!(told.lines().any(|word| word == "main"), is_name, "{line}: {told}");
    }
}
