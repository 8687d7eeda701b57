//! Whether a keyring's file is read as it was written, and what is wrong with one is named without quoting it.

use std::fs::{self, Permissions};

use super::*;

const MATERIAL: &str = "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3I=";

fn entry(purpose: &str, id: &str, more: &str) -> String {
    format!("[[{purpose}]]\nid = \"{id}\"\ncreated_at = \"2026-01-01T00:00:00Z\"\nkey = \"{MATERIAL}\"\n{more}\n")
}

fn document(keks: &[(&str, bool)]) -> String {
    let mut text = String::from("format = 1\n");
    for (id, active) in keks {
        text += &entry("kek", id, &format!("active = {active}"));
    }
    text + &entry("audit-mac", "m", "") + &entry("audit-sign", "s", "") + &entry("fingerprint", "f", "")
}

#[test]
fn a_generated_keyring_reads_back_as_itself() {
    let made = Keyring::generate(Timestamp(1_700_000_000_123)).unwrap();
    let text = made.to_toml();
    let read = Keyring::parse(&text).unwrap();
    assert_eq!(*read.to_toml(), *text);
    assert!(text.contains("created_at = \"2023-11-14T22:13:20.123Z\""));
    assert_eq!(made.row_mac("t", &[b"x"]), read.row_mac("t", &[b"x"]));
    assert_ne!(*Keyring::generate(Timestamp(0)).unwrap().to_toml(), *text);
}

#[test]
fn several_keks_are_read_with_one_active() {
    let keys = Keyring::parse(&document(&[("old", false), ("new", true), ("older", false)])).unwrap();
    assert_eq!(keys.active_kek().id(), "new");
    assert!(keys.kek(b"old").is_some() && keys.kek(b"older").is_some() && keys.kek(b"other").is_none());
    assert_eq!(format!("{keys:?}"), "[new, old, older, m, s, f]");
    let alone = Keyring::parse(&document(&[("only", false)])).unwrap();
    assert_eq!(alone.active_kek().id(), "only");
}

#[test]
fn derived_keys_are_the_ones_that_stored_rows_depend_on() {
    let keys = Keyring::parse(&document(&[("k", true)])).unwrap();
    let hex = |mac: [u8; 32]| data_encoding::HEXLOWER.encode(&mac);
    let row = "7f899c67cc12a80fd89355b4fde340d202b28224252fb6d65cdefbdba74acb98";
    assert_eq!(hex(keys.row_mac("t", &[b"x"])), row);
    let token = "fa91076cc58f27c3bf41de9d8dc9cfb2ccd1c66d10387a92895ff55bdff25a3c";
    assert_eq!(hex(keys.token_hash(&"kst_abc".into())), token);
}

#[test]
fn every_fault_is_named_by_line_or_id() {
    let good = document(&[("k", true)]);
    let id = |text: &str| KeyId::parse(text).unwrap();
    let table = [
        ("".into(), KeyringError::Syntax { line: 1 }),
        (good.replace("format = 1", "format = 2"), KeyringError::Format),
        (
            good.replace("format = 1", "formt = 1"),
            KeyringError::Syntax { line: 1 },
        ),
        (
            good.replace("active = true", "activ = true"),
            KeyringError::Syntax { line: 6 },
        ),
        (
            good.replace("active = true", "active = \"yes\""),
            KeyringError::Syntax { line: 6 },
        ),
        (good.replace("[[kek]]", "[[keks]]"), KeyringError::Syntax { line: 2 }),
        (good.replace("id = \"k\"", "id = \"k k\""), KeyringError::Id { line: 2 }),
        (good.replace("id = \"k\"", "id = \"\""), KeyringError::Id { line: 2 }),
        (
            good.replacen("2026-01-01", "2026-13-01", 1),
            KeyringError::CreatedAt { id: id("k") },
        ),
        (
            good.replacen(MATERIAL, "c2hvcnQ=", 1),
            KeyringError::Material { id: id("k") },
        ),
        (
            good.replacen(MATERIAL, "not base64", 1),
            KeyringError::Material { id: id("k") },
        ),
        (
            good.replace("id = \"f\"", "id = \"k\""),
            KeyringError::Duplicate { id: id("k") },
        ),
        (
            document(&[("k", true), ("k", false)]),
            KeyringError::Duplicate { id: id("k") },
        ),
        (document(&[]), KeyringError::Missing(Purpose::Kek)),
        (
            document(&[("a", false), ("b", false)]),
            KeyringError::Missing(Purpose::Kek),
        ),
        (
            document(&[("a", true), ("b", true)]),
            KeyringError::Several(Purpose::Kek),
        ),
        (
            good.replace("audit-sign", "audit-mac"),
            KeyringError::Several(Purpose::AuditMac),
        ),
        (
            good.clone() + "active = true",
            KeyringError::NotActivatable { id: id("f") },
        ),
        (
            entry("kek", "k", "active = true").replacen("[[", "format = 1\n[[", 1),
            { KeyringError::Missing(Purpose::AuditMac) },
        ),
    ];
    assert!(Keyring::parse(&good).is_ok());
    for (text, expected) in table {
        let error = Keyring::parse(&text).err();
        assert_eq!(error, Some(expected), "{text}");
    }
}

#[test]
fn no_error_holds_key_material() {
    let good = document(&[("k", true)]);
    let misplaced = [
        good.replacen("key = ", "active = ", 1),
        good.replacen("key = \"", "key = [\"", 1),
        good.replacen("key = ", "kex = ", 1),
        good.replace("id = \"k\"", &format!("id = \"{MATERIAL}\"")),
        good.replace("format = 1", &format!("format = \"{MATERIAL}\"")),
        good.replacen(MATERIAL, &format!("{MATERIAL}{MATERIAL}"), 1),
    ];
    for text in misplaced {
        let error = Keyring::parse(&text).err().unwrap();
        assert!(!format!("{error} {error:?}").contains("c2Vjc"), "{error:?}");
    }
}

#[test]
fn a_file_is_refused_as_soon_as_others_have_any_right_to_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keyring.toml");
    fs::write(&path, document(&[("k", true)])).unwrap();
    for mode in [0o400, 0o600, 0o640, 0o660] {
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        assert!(Keyring::read(&path).is_ok(), "{mode:o}");
    }
    for mode in [0o644, 0o604, 0o602, 0o601, 0o666] {
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        assert_eq!(Keyring::read(&path).err(), Some(KeyringError::OpenToOthers), "{mode:o}");
    }
}

#[test]
fn a_file_that_is_no_keyring_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keyring.toml");
    assert_eq!(
        Keyring::read(&path).err(),
        Some(KeyringError::Unreadable(io::ErrorKind::NotFound))
    );
    let table = [
        (vec![0xff], KeyringError::NotText),
        (vec![b'#'; FILE_BYTES_MAX + 1], KeyringError::TooLong),
        (vec![b'#'; FILE_BYTES_MAX], KeyringError::Syntax { line: 1 }),
    ];
    for (bytes, expected) in table {
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        assert_eq!(Keyring::read(&path).err(), Some(expected));
    }
}
