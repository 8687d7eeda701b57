//! Whether a start that does not get its keys says why, and one that has to wait for Vault waits.

use std::path::Path;

use super::super::support::instance::set_mode;
use super::super::support::process::{kiket, run};
use super::super::support::vault::{Fault, Grant};
use super::{Stage, TOKEN};

/// A state of things in which no start succeeds.
struct Refused {
    what: &'static str,
    settings: Vec<(&'static str, String)>,
    /// What happens to the question for the keys.
    faults: Vec<Fault>,
    code: i32,
    said: &'static str,
}

fn refused(what: &'static str, setting: (&'static str, &str), code: i32, said: &'static str) -> Refused {
    Refused {
        what,
        settings: vec![(setting.0, setting.1.to_owned())],
        faults: Vec::new(),
        code,
        said,
    }
}

fn failing(what: &'static str, faults: &[Fault], code: i32, said: &'static str) -> Refused {
    Refused {
        what,
        settings: vec![("master_key_transit_wait", String::from("3s"))],
        faults: faults.to_vec(),
        code,
        said,
    }
}

#[test]
fn a_start_without_its_keys_names_the_setting_and_why_and_quotes_nothing() {
    let stage = Stage::wrapped();
    stage.vault.root(|root| {
        root.make_key("other");
        root.token("cnry-all", 0, Grant::default());
        root.token(
            "cnry-stranger",
            0,
            Grant {
                paths: Vec::new(),
                ..Grant::default()
            },
        );
    });
    let file = |name: &str, text: &str| stage.home.write(name, text).display().to_string();
    let (all, stranger) = (file("all", "cnry-all"), file("stranger", "cnry-stranger"));
    let (unknown, open) = (file("unknown", "cnry-unknown"), file("open", TOKEN));
    set_mode(Path::new(&open), 0o644);
    let plain = file("plain.key", &run(kiket(&["keys", "generate"])).stdout);
    let edited = file("edited.key", &stage.file().replacen("id = \"kek-", "id = \"kek-0", 1));
    let nobody = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        format!("https://{}", listener.local_addr().unwrap())
    };
    let credential = "master_key_transit_credential_file";
    let as_all = |key: &str, said: &'static str| Refused {
        settings: vec![(credential, all.clone()), ("master_key_transit_key", key.to_owned())],
        ..refused("key", ("", ""), 2, said)
    };
    let short = |bytes: &str| Fault::Bytes(200, bytes.as_bytes().to_vec());
    let sealed = Fault::Bytes(503, br#"{"errors":["Vault is sealed"]}"#.to_vec());
    let table = [
        as_all(
            "other",
            "master_key_transit_key: Vault has no Transit key of this name there, or another one wrapped",
        ),
        as_all("none", "master_key_transit_key: Vault has no"),
        refused(
            "policy",
            ("master_key_transit_key", "other"),
            2,
            "master_key_transit_credential_file: Vault refuses",
        ),
        refused(
            "mount",
            ("master_key_transit_mount", "elsewhere"),
            2,
            "master_key_transit_credential_file: Vault ref",
        ),
        refused(
            "stranger",
            (credential, &stranger),
            2,
            "master_key_transit_credential_file: Vault refuses",
        ),
        refused(
            "unknown token",
            (credential, &unknown),
            2,
            "master_key_transit_credential_file: Vault refuses",
        ),
        refused(
            "open to others",
            (credential, &open),
            2,
            "master_key_transit_credential_file: others may",
        ),
        refused(
            "no file",
            (credential, "/nonexistent/t"),
            2,
            "master_key_transit_credential_file: the file cannot",
        ),
        refused("plain", ("master_key_file", &plain), 2, "`kiket keys wrap`"),
        refused(
            "edited",
            ("master_key_file", &edited),
            2,
            "what is wrapped there is another key",
        ),
        refused(
            "no authority",
            ("egress_ca_file", ""),
            2,
            "master_key_transit_url: no TLS session",
        ),
        refused(
            "no role",
            ("master_key_transit_auth", "approle"),
            2,
            "master_key_transit_role: ",
        ),
        refused(
            "clear",
            ("master_key_transit_url", "http://vault.example.com"),
            2,
            "would cross the network readable",
        ),
        Refused {
            settings: vec![
                ("master_key_transit_url", nobody),
                ("master_key_transit_wait", "700ms".into()),
            ],
            ..refused(
                "nobody",
                ("", ""),
                3,
                "master_key_transit_url: Vault was not reached within",
            )
        },
        failing("sealed", &vec![sealed; 9], 3, "master_key_transit_url: Vault is sealed"),
        failing(
            "failing",
            &vec![Fault::Status(500); 99],
            3,
            "master_key_transit_url: Vault failed",
        ),
        failing(
            "busy",
            &vec![Fault::Status(429); 99],
            3,
            "master_key_transit_url: Vault wanted fewer",
        ),
        failing(
            "silent",
            &vec![Fault::Stall; 9],
            3,
            "master_key_transit_url: Vault did not answer",
        ),
        failing(
            "elsewhere",
            &[Fault::Redirect("https://127.0.0.1:1/".into())],
            2,
            "which is not followed",
        ),
        failing(
            "a page",
            &[short("<html>cnry-page")],
            2,
            "does not answer as Vault does",
        ),
        failing(
            "too few",
            &[short(r#"{"data":{"batch_results":[{"plaintext":"Y25yeS1wYWdl"}]}}"#)],
            2,
            "as Vault does",
        ),
    ];
    for row in table {
        stage.vault.fail("transit/", &row.faults);
        let settings: Vec<_> = row.settings.iter().filter(|(name, _)| !name.is_empty()).collect();
        let settings: Vec<_> = settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let mut others = settings.clone();
        let database = format!("sqlite:{}", stage.home.path().join("untouched.db").display());
        others.push(("database_url", &database));
        let ended = run(stage.serve(&others));
        stage.vault.forget_faults();
        assert_eq!(ended.code, Some(row.code), "{}: {}", row.what, ended.stderr);
        assert!(ended.stderr.contains(row.said), "{}: {}", row.what, ended.stderr);
        assert_eq!(ended.stderr.lines().count(), 1, "{}: {}", row.what, ended.stderr);
        for quoted in ["cnry", "vault:v1:", "Y25ye"] {
            assert!(!ended.stderr.contains(quoted), "{}: {}", row.what, ended.stderr);
        }
        assert!(!stage.home.path().join("untouched.db").exists(), "{}", row.what);
    }
    let without_vault = run(stage.home.serve(&[]));
    assert_eq!(without_vault.code, Some(2));
    assert!(
        without_vault.stderr.contains("master_key_transit_url"),
        "{}",
        without_vault.stderr
    );
    let checked = stage.run(&["config", "check"], &[("master_key_file", "master.key")]);
    assert_eq!((checked.code, checked.stderr.as_str()), (Some(0), ""));
    stage.vault.seal(true);
    let wait = [("master_key_file", "master.key"), ("master_key_transit_wait", "1ms")];
    assert_eq!(stage.run(&["config", "check"], &wait).code, Some(3));
}

#[test]
fn a_start_waits_for_a_vault_that_is_sealed_or_fails_and_goes_on_by_itself() {
    let stage = Stage::wrapped();
    let sealed = Fault::Bytes(503, br#"{"errors":["Vault is sealed"]}"#.to_vec());
    let busy = vec![Fault::Status(503); 5];
    let faults = [vec![sealed], busy].concat();
    stage.vault.fail("transit/", &faults);
    let served = stage.start(&[("master_key_transit_wait", "60s")]);
    let asked = stage.vault.take();
    let decrypts = asked.iter().filter(|asked| *asked == "POST transit/decrypt/kiket");
    assert_eq!(decrypts.count(), faults.len() + 1);
    assert_eq!(served.stop().code, Some(0));
}
