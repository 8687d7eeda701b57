//! Whether what the fuzzers ever found, and all that they learnt, still holds: without a fuzzer, in every run.
//!
//! The targets are those of the fuzzers' own crate (`tests/fuzz/src/targets`), over the library instead of mounted
//! rooms. Three files that the library keeps to itself are mounted here too, with the tests that stand in them.
#![allow(clippy::indexing_slicing, clippy::expect_used, clippy::panic, reason = "tests")]
#![allow(unreachable_pub, reason = "the same files are a library elsewhere")]

use std::collections::BTreeSet;
use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use kiket_sidecar::{crypto, domain, egress};

#[path = "src/targets/mod.rs"]
mod targets;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz").join(name)
}

/// The inputs in a file: a line each, a JSON string in which every character is a byte.
fn inputs(kind: &str, target: &str) -> Vec<Vec<u8>> {
    let packed = fs::read_to_string(folder(kind).join(format!("{target}.txt"))).unwrap_or_default();
    let byte = |character| u8::try_from(u32::from(character)).expect("every character is a byte");
    let input = |line| serde_json::from_str::<String>(line).expect("every line is a JSON string");
    packed
        .lines()
        .map(|line| input(line).chars().map(byte).collect())
        .collect()
}

#[test]
fn every_input_that_was_kept_holds() {
    for (target, holds) in targets::ALL {
        let corpus = inputs("corpora", target);
        assert!(corpus.len() >= 10, "{target} keeps {} inputs", corpus.len());
        for (kind, inputs) in [("corpora", corpus), ("findings", inputs("findings", target))] {
            for (line, input) in (1..).zip(inputs) {
                let held = catch_unwind(|| holds(&input));
                assert!(held.is_ok(), "{kind}/{target}.txt, line {line}: see above");
            }
        }
    }
}

/// Every input cut short, and with one byte changed: a little of what a fuzzer does, in every run.
#[test]
fn what_stands_beside_the_kept_inputs_holds_as_well() {
    let step = if std::env::var("KIKET_TEST_SCALE").as_deref() == Ok("short") {
        16
    } else {
        1
    };
    for (target, holds) in targets::ALL {
        for (line, mut input) in (1..).zip(inputs("corpora", target)).step_by(step) {
            for at in 0..input.len().min(32) {
                let tried = catch_unwind(|| holds(&input[..at]));
                input[at] ^= 0x04;
                let held = tried.and_then(|()| catch_unwind(|| holds(&input)));
                assert!(held.is_ok(), "corpora/{target}.txt, line {line}, byte {at}: see above");
                input[at] ^= 0x04;
            }
        }
    }
}

#[test]
fn every_target_has_a_fuzzer_and_a_corpus_and_nothing_else_has() {
    let targets: BTreeSet<String> = targets::ALL.iter().map(|(name, _)| (*name).to_owned()).collect();
    let stems = |name: &str| -> BTreeSet<String> {
        let entries = fs::read_dir(folder(name)).expect("the folder is there");
        let paths = entries.map(|entry| entry.expect("an entry is readable").path());
        paths
            .filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()))
            .collect()
    };
    assert_eq!(stems("fuzz_targets"), targets);
    assert_eq!(stems("corpora"), targets);
    assert!(stems("dictionaries").is_subset(&targets) && stems("findings").is_subset(&targets));
    let manifest = fs::read_to_string(folder("Cargo.toml")).expect("the crate has a manifest");
    for target in &targets {
        assert!(
            manifest.contains(&format!("\n[[bin]]\nname = \"{target}\"\n")),
            "{target} is not built"
        );
    }
}
