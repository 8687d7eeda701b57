//! What the commands say that need no server: help, keys, configuration, the API's description, completions.

use std::fs;
use std::path::Path;

use kiket_sidecar::crypto::keyring::Keyring;
use serde_json::Value;

use super::support::instance::set_mode;
use super::support::process::{Ended, Home, Process, kiket, run};
use super::support::python;

fn said(arguments: &[&str]) -> Ended {
    run(kiket(arguments))
}

/// What a command that went well prints; nothing on stderr.
fn fine(arguments: &[&str]) -> String {
    let ended = said(arguments);
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{arguments:?}");
    assert!(!ended.stdout.trim().is_empty(), "{arguments:?}");
    ended.stdout
}

/// A command with the settings of a home in its environment.
fn in_home(home: &Home, arguments: &[&str]) -> Ended {
    let mut command = kiket(arguments);
    command
        .env("KIKET_MASTER_KEY_FILE", home.path().join("master.key"))
        .env("KIKET_BOOTSTRAP_TOKEN_FILE", home.path().join("operator.token"))
        .env("KIKET_DATABASE_URL", "postgres://kiket:canary-password@127.0.0.1/kiket");
    run(command)
}

/// The commands that a help text lists.
fn listed(help: &str) -> Vec<String> {
    let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let names = lines.take_while(|line| !line.is_empty()).filter_map(|line| {
        let name = line.strip_prefix("  ")?.split(' ').next()?;
        (!name.is_empty() && name != "help").then(|| name.to_owned())
    });
    names.collect()
}

/// Looks at the help of a command and of all below it; gives how many there are.
fn help_of(path: &[&str]) -> usize {
    let text = fine(&[path, &["--help"]].concat());
    assert!(text.contains("Usage: kiket"), "{path:?}: {text}");
    let below = listed(&text);
    assert!(
        text.lines().all(|line| line.chars().count() <= 120),
        "{path:?} fits a screen"
    );
    let is_example = |line: &str| line.starts_with("  ") && line.contains("kiket ") && !line.contains("<");
    assert!(text.lines().any(is_example), "{path:?} has an example: {text}");
    1 + below
        .iter()
        .map(|name| help_of(&[path, &[name.as_str()]].concat()))
        .sum::<usize>()
}

#[test]
fn every_command_explains_itself() {
    let top = listed(&fine(&["--help"]));
    for command in [
        "serve",
        "demo",
        "extensions",
        "marketplace",
        "secrets",
        "tokens",
        "organizations",
        "store",
        "keys",
        "config",
        "doctor",
        "deliver",
        "openapi",
        "completions",
    ] {
        assert!(top.iter().any(|name| name == command), "{command}: {top:?}");
    }
    assert!(help_of(&[]) > top.len() + 1, "there are commands below commands");
    assert_eq!(fine(&["--version"]), format!("kiket {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn what_is_no_command_ends_with_2() {
    for wrong in [
        &["frobnicate"][..],
        &[],
        &["serve", "--frobnicate"],
        &["serve", "--set"],
        &["keys"],
        &["keys", "frobnicate"],
        &["completions"],
        &["completions", "frobnicate"],
        &["openapi", "frobnicate"],
    ] {
        let ended = said(wrong);
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(2), ""), "{wrong:?}");
        let points_to_help = ended.stderr.contains("--help") || ended.stderr.contains("Usage: kiket");
        assert!(points_to_help, "{wrong:?}: {}", ended.stderr);
    }
}

#[test]
fn keys_go_into_a_file_that_loads_and_are_new_each_time() {
    let home = Home::new();
    let path = home.path().join("new.key");
    let mut texts = Vec::new();
    for (mode, warned) in [(0o600, false), (0o640, false), (0o604, true)] {
        let _ = fs::remove_file(&path);
        let file = fs::File::create(&path).unwrap();
        set_mode(&path, mode);
        let mut command = kiket(&["keys", "generate"]);
        let child = command
            .stdout(file)
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let output = child.wait_with_output().unwrap();
        let warning = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(0), "{warning}");
        assert_eq!(
            warning.contains("others may read the file"),
            warned,
            "{mode:o}: {warning}"
        );
        assert_eq!(Keyring::read(&path).is_ok(), !warned, "{mode:o}");
        texts.push(fs::read_to_string(&path).unwrap());
    }
    let keys: Vec<&str> = texts.iter().flat_map(|text| material(text)).collect();
    let distinct: std::collections::HashSet<_> = keys.iter().collect();
    assert!(keys.len() >= 12 && distinct.len() == keys.len(), "{}", keys.len());
}

/// The keys in a keyring's file, as they are written.
fn material(keyring: &str) -> Vec<&str> {
    let lines = keyring.lines().filter_map(|line| line.strip_prefix("key = \""));
    lines.map(|rest| rest.trim_end_matches('"')).collect()
}

#[test]
fn a_configuration_is_checked_with_the_files_that_it_names() {
    let home = Home::new();
    let good = in_home(&home, &["config", "check"]);
    assert_eq!((good.code, good.stderr.as_str()), (Some(0), ""), "{}", good.stdout);
    let bad = |arguments: &[&str], named: &str| {
        let ended = in_home(&home, &[&["config", "check"], arguments].concat());
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(2), ""), "{named}");
        assert!(ended.stderr.contains(named), "{named}: {}", ended.stderr);
    };
    bad(&["--set", "workers=none"], "workers");
    bad(&["--set", "nonesuch=1"], "--set names no setting");
    bad(&["--set", "master_key_file="], "master_key_file");
    bad(&["--set", "master_key_file=operator.token"], "master_key_file");
    bad(&["--set", "dispatcher_token_file=none"], "dispatcher_token_file");
    let identity = ["admin_tls_cert_file=none", "admin_tls_key_file=none"];
    bad(&["--set", identity[0], "--set", identity[1]], "admin_tls_cert_file");
    bad(&["--config", "none.toml"], "--config");
    let file = home.write("kiket.toml", "workers = 2\nworkers = 3\n");
    bad(&["--config", file.to_str().unwrap()], "line 2");
    set_mode(&home.path().join("operator.token"), 0o644);
    bad(&[], "bootstrap_token_file");
}

/// The settings that a printed configuration holds, without where they came from.
fn settings(printed: &str) -> Vec<&str> {
    let lines = printed.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| line.rsplit_once(" # ").map_or(line, |(setting, _)| setting))
        .collect()
}

#[test]
fn a_printed_configuration_loads_again_and_shows_no_password() {
    let home = Home::new();
    let arguments = [
        "config",
        "print",
        "--set",
        "drain_grace=7s",
        "--set",
        "log=info,kiket_sidecar=debug",
    ];
    let printed = in_home(&home, &arguments);
    assert_eq!((printed.code, printed.stderr.as_str()), (Some(0), ""));
    assert!(
        printed.stdout.contains("drain_grace = \"7s\" # flag\n"),
        "{}",
        printed.stdout
    );
    assert!(
        printed.stdout.contains("/master.key\" # environment\n"),
        "{}",
        printed.stdout
    );
    assert!(printed.stdout.contains("workers = 1 # default\n"), "{}", printed.stdout);
    assert!(
        printed
            .stdout
            .contains("# database_url is set, and not shown # environment\n")
    );
    assert!(!printed.stdout.contains("canary"), "{}", printed.stdout);
    let file = home.write("kiket.toml", &printed.stdout);
    let again = fine(&["config", "print", "--config", file.to_str().unwrap()]);
    let shown = |text: &str| settings(text).into_iter().map(str::to_owned).collect::<Vec<_>>();
    let loaded: Vec<String> = shown(&again)
        .into_iter()
        .filter(|line| !line.starts_with("database_url"))
        .collect();
    assert_eq!(loaded, shown(&printed.stdout));

    let manual = home.write("manual.toml", &fine(&["config", "print", "--manual"]));
    let from_manual = fine(&["config", "print", "--config", manual.to_str().unwrap()]);
    assert_eq!(settings(&from_manual), settings(&fine(&["config", "print"])));
}

#[test]
fn the_openapi_document_is_valid_and_the_one_that_is_served() {
    const VALIDATE: &str = "import json, sys\nfrom openapi_spec_validator import OpenAPIV31SpecValidator\n\
        errors = [str(e.message) for e in OpenAPIV31SpecValidator(json.load(sys.stdin)).iter_errors()]\n\
        json.dump(errors, sys.stdout)";
    let mut document: Value = serde_json::from_str(&fine(&["openapi"])).unwrap();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    assert_eq!(python::ask(VALIDATE, &document), Value::Array(Vec::new()));
    let process = Process::start();
    let served = process.call("GET", "/openapi.json", b"");
    assert_eq!((served.status, served.json()), (200, document.clone()));
    // The validator sees a fault where there is one.
    let responses = document
        .pointer_mut("/paths/~1api~1v1~1extensions~1secrets/get/responses/200")
        .unwrap();
    responses.as_object_mut().unwrap().remove("description");
    assert_ne!(python::ask(VALIDATE, &document), Value::Array(Vec::new()));
}

#[test]
fn completions_are_scripts_that_shells_read() {
    let home = Home::new();
    for shell in ["bash", "zsh", "fish"] {
        let script = fine(&["completions", shell]);
        assert!(script.contains("kiket") && script.contains("serve"), "{shell}");
        let path = home.write(shell, &script);
        if shell == "bash" {
            let parse = |path: &Path| {
                let mut bash = std::process::Command::new("bash");
                run({
                    bash.arg("-n").arg(path);
                    bash
                })
            };
            let parsed = parse(&path);
            assert_eq!((parsed.code, parsed.stderr.as_str()), (Some(0), ""));
            let broken = home.write("broken", &script.replacen("esac", "", 1));
            assert_ne!(parse(&broken).code, Some(0));
        }
    }
}

#[test]
fn no_command_prints_a_key_a_token_or_a_password() {
    let home = Home::new();
    let keyring = fs::read_to_string(home.path().join("master.key")).unwrap();
    let mut secrets = material(&keyring);
    assert!(secrets.len() >= 4);
    secrets.extend([home.token.as_str(), "canary-password"]);
    let database = "database_url=postgres://kiket:canary-password@127.0.0.1/kiket";
    for arguments in [
        &["--help"][..],
        &["serve", "--help"],
        &["serve", "--set", "workers=canary-password"],
        &["serve", "--set", "canary-password"],
        &["serve", "--set", database],
        &["config", "print"],
        &["config", "print", "--set", database],
        &["config", "print", "--manual"],
        &["config", "check"],
        &["config", "check", "--set", database, "--set", "workers=0"],
        &["openapi"],
        &["completions", "bash"],
        &["keys", "generate"],
    ] {
        let ended = in_home(&home, arguments);
        let output = ended.stdout + &ended.stderr;
        for secret in &secrets {
            assert!(!output.contains(secret), "{arguments:?}: {output}");
        }
    }
}
