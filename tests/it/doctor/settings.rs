//! What is said of settings, keys, limits and guards.

use std::fs;

use super::super::support::instance::set_mode;
use super::super::support::process::{kiket, run};
use super::Patient;

#[test]
fn settings_that_give_no_configuration_end_with_2_and_nothing_else_is_looked_at() {
    let patient = Patient::new();
    let report = patient.look(&[("workers", "none")]);
    report.only("configuration", "failed", "workers").ends(2);
    assert_eq!(report.checks.len(), 1);
}

#[test]
fn a_file_that_a_setting_names_has_to_be_there() {
    let patient = Patient::new();
    let report = patient.look(&[("dispatcher_token_file", "none")]);
    report.only("configuration", "failed", "dispatcher_token_file").ends(2);
    set_mode(&patient.home.path().join("operator.token"), 0o644);
    let report = patient.look(&[]);
    report.only("configuration", "failed", "bootstrap_token_file").ends(2);
}

#[test]
fn keys_that_are_missing_open_to_others_or_none_are_told_with_what_to_do() {
    let patient = Patient::new();
    let file = patient.home.path().join("master.key");
    let advice = |report: &super::Report| report.checks["keys"][2].clone();

    let report = patient.look(&[("master_key_file", "")]);
    report.only("keys", "failed", "no key, no start").ends(1);
    assert!(advice(&report).contains("kiket keys generate"));

    set_mode(&file, 0o644);
    let report = patient.look(&[]);
    report.only("keys", "failed", "open to others").ends(1);
    assert!(advice(&report).contains("chmod o-rwx"));
    set_mode(&file, 0o640);
    patient.look(&[]).only("keys", "ok", "file mode 0640").ends(0);

    let whole = fs::read_to_string(&file).unwrap();
    patient
        .home
        .write("master.key", &whole.replace("[[fingerprint]]", "[[print]]"));
    patient
        .look(&[])
        .only("keys", "failed", "not a keyring's field")
        .ends(1);
    fs::remove_file(&file).unwrap();
    patient.look(&[]).only("keys", "failed", "cannot be read").ends(1);
}

#[test]
fn without_keys_nothing_is_said_of_what_they_open() {
    let patient = Patient::furnished();
    let report = patient.look(&[("master_key_file", "none")]);
    report.only("keys", "failed", "cannot be read").ends(1);
    for check in ["sealed values", "destinations", "certificates"] {
        report.has(check, "not applicable", "needs both keys and a store");
    }
    report.has("store", "ok", "this version's");
}

#[test]
fn another_stores_keys_are_told_before_anything_fails_to_open() {
    let patient = Patient::furnished();
    let keys = run(kiket(&["keys", "generate"]));
    patient.home.write("master.key", &keys.stdout);
    let report = patient.look(&[]);
    report.has("keys", "ok", "1 key-encryption key");
    report.has("sealed values", "failed", "does not authenticate").ends(1);
    // Of a store that lost what authenticates, the values still tell.
    let patient = Patient::new();
    let process = patient.serve(&[]);
    process.set("KEY", super::CANARY);
    assert_eq!(process.stop().code, Some(0));
    patient.home.write("master.key", &keys.stdout);
    let report = patient.look(&[]);
    report
        .only("sealed values", "failed", "1 of 1 rows do not open")
        .ends(1);
}

#[test]
fn a_limit_on_open_files_below_what_the_settings_allow_is_a_warning() {
    let patient = Patient::new();
    let report = patient.look(&[("connections_max", "1000000"), ("in_flight_max", "1000000")]);
    report.only("file descriptors", "warning", "2000128").ends(1);
}
