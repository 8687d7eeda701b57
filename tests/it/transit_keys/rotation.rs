//! Whether a keyring that is wrapped is made, served with, rotated and given up without a key in any file or output.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use data_encoding::{BASE64, BASE64URL_NOPAD, HEXLOWER, HEXUPPER};
use serde_json::Value;

use super::super::key_rotation::without;
use super::super::support::command::Shell;
use super::super::support::endpoint::Endpoint;
use super::super::support::process::Process;
use super::{Stage, TOKEN};

/// Longer than anything takes; a test that hangs fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// Whether a key stands in these bytes, plain or as somebody might have written it.
fn holds(bytes: &[u8], key: &[u8]) -> bool {
    let forms = [
        key.to_vec(),
        key[..16].to_vec(),
        // Without its last characters, which depend on what follows.
        BASE64.encode(key).as_bytes()[..40].to_vec(),
        BASE64URL_NOPAD.encode(key).as_bytes()[..40].to_vec(),
        HEXLOWER.encode(key).into_bytes(),
        HEXUPPER.encode(key).into_bytes(),
        format!("{key:?}").into_bytes(),
    ];
    forms
        .iter()
        .any(|form| bytes.windows(form.len()).any(|window| window == form))
}

/// The files below a folder that hold a key.
fn files_with(folder: &Path, keys: &[Vec<u8>]) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut found = Vec::new();
    for path in entries.filter(|path| path.is_file()) {
        let bytes = fs::read(&path).unwrap();
        if keys.iter().any(|key| holds(&bytes, key)) {
            found.push(path.file_name().unwrap().display().to_string());
        }
    }
    found
}

fn until(what: &str, is_so: impl Fn() -> bool) {
    let asked = Instant::now();
    while !is_so() {
        assert!(asked.elapsed() < PATIENCE, "never: {what}");
    }
}

fn rows(process: &Process, id: &str) -> Value {
    let keys = process.must("GET", "/keys", &Value::Null).json();
    let mut all = keys["data"].as_array().unwrap().iter();
    all.find(|key| key["id"] == id).unwrap()["rows_wrapped"].clone()
}

#[test]
fn a_rotation_over_wrapped_files_runs_from_generate_to_retire_and_no_key_is_in_a_file_or_an_output() {
    let (stage, endpoint) = (Stage::wrapped(), Endpoint::start());
    let trace = [("log", "trace"), ("master_key_transit_auth", "token")];
    let first = stage.start(&trace);
    assert_eq!(
        stage.vault.take(),
        ["GET auth/token/lookup-self", "POST transit/decrypt/kiket"],
        "one question opens all keys"
    );
    first.simple(&endpoint.url(), "the value");
    assert_eq!(first.deliver("ins", b"{}").status, 200);
    let keys = first.must("GET", "/keys", &Value::Null).json();
    let old = keys["data"][0]["id"].as_str().unwrap().to_owned();

    let added = stage.run(&["keys", "add", "master.key"], &[]);
    assert_eq!(added.code, Some(0), "{}", added.stderr);
    let both = stage.file();
    let ids = both.lines().filter_map(|line| line.strip_prefix("id = \"kek-"));
    let ids: Vec<_> = ids.map(|rest| format!("kek-{}", rest.trim_end_matches('"'))).collect();
    let [_, new] = &ids[..] else { panic!("{both}") };
    assert!(added.stdout.contains(&format!("kiket keys promote {new}")));
    let mut outputs = vec![first.stop()];

    let second = stage.start(&trace);
    let shell = Shell::of(&second).guarding(TOKEN);
    let promoted = shell.line(&format!("kiket keys promote {new}"));
    assert_eq!(promoted.code, Some(0), "{}", promoted.stderr);
    until("no row is under the old key", || rows(&second, &old) == 0);
    let retired = shell.line(&format!("kiket keys retire {old} --yes"));
    assert_eq!(retired.code, Some(0), "{}", retired.stderr);
    outputs.push(second.stop());

    stage.home.write("master.key", &without(&both, &old));
    let third = stage.start(&trace);
    assert_eq!(third.deliver("ins", b"{}").status, 200);
    assert_eq!(endpoint.last().secret("KEY").as_deref(), Some("the value"));
    outputs.push(third.stop());
    outputs.extend([added, promoted, retired]);

    let keys = stage.keys();
    assert_eq!(keys.len(), 5, "four were made, one was added");
    assert_eq!(files_with(stage.home.path(), &keys), [""; 0]);
    for ended in outputs {
        for text in [&ended.stdout, &ended.stderr] {
            assert!(!keys.iter().any(|key| holds(text.as_bytes(), key)), "{text}");
            assert!(!text.contains(TOKEN) && !text.contains("vault:v1:"), "{text}");
        }
    }
}

#[test]
fn a_plain_keyring_is_wrapped_stays_the_same_and_needs_no_vault_once_it_is_served_with() {
    let (stage, endpoint) = (Stage::new(), Endpoint::start());
    let plain = Process::spawn_in(Arc::clone(&stage.home), stage.home.serve(&[]));
    plain.simple(&endpoint.url(), "the value");
    let guards = |process: &Process| process.health("/readyz").json()["guards"].clone();
    let guarded = guards(&plain);
    assert!(guarded.is_object(), "{guarded}");
    assert_eq!(plain.stop().code, Some(0));
    let wrapped = stage.run(&["keys", "wrap", "master.key"], &[]);
    assert_eq!((wrapped.code, wrapped.stderr.as_str()), (Some(0), ""));
    stage.home.write("wrapped.key", &wrapped.stdout);
    // What is looked for is found where it is.
    let keys = stage.keys();
    assert_eq!(files_with(stage.home.path(), &keys), ["master.key"]);
    assert!(keys.iter().all(|key| holds(stage.file().as_bytes(), key)));

    let unwrapped = stage.run(&["keys", "unwrap", "wrapped.key"], &[]);
    assert_eq!((unwrapped.code, unwrapped.stdout), (Some(0), stage.file()));
    let refused = stage.run(&["keys", "unwrap", "master.key"], &[]);
    assert_eq!(
        (refused.code, refused.stdout.as_str()),
        (Some(2), ""),
        "it is plain already"
    );

    // Transit's own key gets another version; what the former one wrapped opens still, and can be wrapped anew.
    stage.vault.root(|root| root.make_key("kiket"));
    let again = stage.run(&["keys", "wrap", "wrapped.key"], &[]);
    assert!(wrapped.stdout.contains("\"vault:v1:") && again.stdout.contains("\"vault:v2:"));
    assert!(!again.stdout.contains("\"vault:v1:"));
    for (name, text) in [("wrapped.key", &wrapped.stdout), ("again.key", &again.stdout)] {
        let file = stage.home.write(name, text).display().to_string();
        let served = stage.start(&[("master_key_file", &file)]);
        assert_eq!(guards(&served), guarded, "the guards hold as they do with a plain file");
        assert_eq!(served.deliver("ins", b"{}").status, 200, "{name}");
        assert_eq!(served.stop().code, Some(0));
    }
    let file = stage.home.path().join("again.key").display().to_string();
    let served = stage.start(&[("master_key_file", &file)]);
    let Stage { vault, home: _home, .. } = stage;
    drop(vault);
    served.set("OTHER", "another value");
    assert_eq!(served.deliver("ins", b"{}").status, 200);
    assert_eq!(endpoint.last().secret("KEY").as_deref(), Some("the value"));
}
