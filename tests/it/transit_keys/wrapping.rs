//! As whom Vault is asked to wrap keys, and what becomes of keys that it does not wrap.

use std::fs;

use super::super::support::process::{kiket, run};
use super::super::support::vault::{Fault, Grant};
use super::{Stage, user};

#[test]
fn one_logs_in_as_an_approle_or_a_service_account_in_a_namespace() {
    let stage = Stage::new();
    for (method, mount) in [("approle", "approle"), ("kubernetes", "kubernetes"), ("jwt", "jwt")] {
        stage.vault.within("team/a", |inner| {
            inner.make_key("kiket");
            inner.entry(method, "the-role", "cnry-credential", Grant { ttl: 60, ..user() });
        });
        stage.home.write("vault.token", "cnry-credential\n");
        let settings = [
            ("master_key_transit_namespace", "team/a"),
            ("master_key_transit_auth", method),
            ("master_key_transit_auth_mount", mount),
            ("master_key_transit_role", "the-role"),
        ];
        let made = stage.run(&["keys", "generate", "--transit"], &settings);
        assert_eq!(made.code, Some(0), "{method}: {}", made.stderr);
        let file = stage.home.write("in-namespace.key", &made.stdout).display().to_string();
        stage.vault.take();
        let served = stage.start(&[&settings[..], &[("master_key_file", file.as_str())]].concat());
        let login = format!("POST auth/{mount}/login");
        assert_eq!(stage.vault.take(), [login.as_str(), "POST transit/decrypt/kiket"]);
        assert_eq!(served.stop().code, Some(0));
        stage.home.write("vault.token", "cnry-other");
        let refused = stage.run(&["keys", "generate", "--transit"], &settings);
        assert_eq!((refused.code, refused.stdout.as_str()), (Some(2), ""), "{method}");
        assert!(
            refused
                .stderr
                .contains("master_key_transit_credential_file: Vault refuses")
        );
        assert!(!refused.stderr.contains("cnry"), "{}", refused.stderr);
    }
}

#[test]
fn what_vault_does_not_wrap_is_neither_printed_nor_added() {
    let stage = Stage::wrapped();
    let before = stage.file();
    let generate = ["keys", "generate", "--transit"];
    let commands: [&[&str]; 3] = [
        &generate,
        &["keys", "wrap", "master.key"],
        &["keys", "add", "master.key"],
    ];
    let short = [("master_key_transit_wait", "700ms")];
    for (what, fault, code) in [
        ("refuses", Fault::Status(403), 2),
        ("fails", Fault::Status(500), 3),
        ("knows no key", Fault::Status(400), 2),
        ("answers otherwise", Fault::Bytes(200, b"{}".to_vec()), 2),
    ] {
        for command in commands {
            stage.vault.fail("transit/encrypt", &vec![fault.clone(); 99]);
            let ended = stage.run(command, &short);
            stage.vault.forget_faults();
            assert_eq!(
                (ended.code, ended.stdout.as_str()),
                (Some(code), ""),
                "{what} {command:?}"
            );
            assert!(ended.stderr.contains("master_key_transit_"), "{what}: {}", ended.stderr);
        }
    }
    // What was wrapped is opened again before anybody relies on it.
    let wrapped = |texts: [&str; 4]| {
        let results: Vec<_> = texts.map(|text| serde_json::json!({"ciphertext": text})).into();
        let body = serde_json::json!({"data": {"batch_results": results}}).to_string();
        Fault::Bytes(200, body.into_bytes())
    };
    for texts in [["vault:v1:AAAA"; 4], ["plain"; 4], ["vault:v1:\"\ninjected = 1"; 4]] {
        stage.vault.fail("transit/encrypt", &[wrapped(texts)]);
        let ended = stage.run(&generate, &short);
        stage.vault.forget_faults();
        assert_eq!(
            (ended.code, ended.stdout.as_str()),
            (Some(2), ""),
            "{texts:?}: {}",
            ended.stderr
        );
    }
    assert_eq!(stage.file(), before);
    let beside = fs::read_dir(stage.home.path()).unwrap();
    let beside = beside.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert!(!beside.into_iter().any(|name| name.contains("adding")));
    // Without the settings it is said what is missing.
    let bare = run({
        let mut command = kiket(&["keys", "add", "master.key"]);
        command.current_dir(stage.home.path());
        command
    });
    assert_eq!(bare.code, Some(2));
    assert!(bare.stderr.contains("master_key_transit_url"), "{}", bare.stderr);
}
