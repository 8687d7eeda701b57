//! Does the page of threats name tests that exist, and for each row a way to see one of them fail?
//!
//! Whether the named tests ran is looked at by `tests/run`, whether they fail without their guards by
//! `tests/controls/run`.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

const PAGE: &str = include_str!("../src/manual/threat_model.md");
const GUARDS: &str = include_str!("controls/guards.toml");
const LOCK: &str = include_str!("../Cargo.lock");

/// Every threat that was thought of.
const THREATS: &[&str] = &[
    "L1", "L2", "L3", "L4", "L5", "L6", "L7", "L8", "L9", "X1", "X2", "X3", "X4", "X5", "X6", "X7", "E1", "E2", "E3",
    "E4", "E5", "P1", "P2", "P3", "S1", "S2", "S3", "S4", "A1", "A2", "A3",
];

/// A row of the page's tables.
struct Row {
    threat: &'static str,
    shown_by: Vec<&'static str>,
    seen_to_fail: Vec<&'static str>,
}

#[derive(serde::Deserialize)]
struct Guards {
    guard: Vec<Guard>,
}

/// How a guard is taken out, and which test then fails.
#[derive(serde::Deserialize)]
struct Guard {
    name: String,
    file: String,
    here: String,
    off: String,
    test: String,
    suite: Option<String>,
}

fn guards() -> Vec<Guard> {
    let guards: Guards = toml::from_str(GUARDS).expect("the table of guards is TOML");
    guards.guard
}

/// What stands between backticks.
fn quoted(cell: &'static str) -> Vec<&'static str> {
    cell.split('`').skip(1).step_by(2).collect()
}

fn rows() -> Vec<Row> {
    let cells = PAGE.lines().filter_map(|line| line.strip_prefix("| "));
    let rows = cells.map(|line| line.trim_end_matches(" |").split(" | ").collect::<Vec<_>>());
    let rows = rows.filter(|cells| THREATS.contains(&cells[0]));
    rows.map(|cells| {
        let [threat, _, _, shown_by, seen_to_fail] = cells[..] else {
            panic!("{} has {} cells", cells[0], cells.len());
        };
        Row {
            threat,
            shown_by: quoted(shown_by),
            seen_to_fail: quoted(seen_to_fail),
        }
    })
    .collect()
}

/// All Rust of the library and of its tests.
fn source() -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec![root.join("src"), root.join("tests")];
    let mut text = String::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder is readable") {
            let path = entry.expect("an entry is readable").path();
            if path.is_dir() && !path.ends_with("target") {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                text += &fs::read_to_string(path).expect("a source file is text");
            }
        }
    }
    text
}

#[test]
fn every_threat_has_a_row_with_tests_that_exist_and_a_way_to_see_one_fail() {
    let (rows, guards, source) = (rows(), guards(), source());
    let threats: Vec<&str> = rows.iter().map(|row| row.threat).collect();
    assert_eq!(threats, THREATS);
    let exists = |test: &str| {
        let name = test.rsplit("::").next().unwrap_or_default();
        assert!(
            test.contains("::") && source.contains(&format!("fn {name}(")),
            "there is no test {test}"
        );
    };
    for row in &rows {
        assert!(!row.shown_by.is_empty(), "{}: no test shows it", row.threat);
        assert!(!row.seen_to_fail.is_empty(), "{}: nothing was seen to fail", row.threat);
        row.shown_by.iter().for_each(|test| exists(test));
        for control in &row.seen_to_fail {
            match guards.iter().find(|guard| guard.name == **control) {
                None => exists(control),
                Some(guard) => assert!(
                    row.shown_by.contains(&&*guard.test),
                    "{}: {control} makes {} fail, which the row does not name",
                    row.threat,
                    guard.test
                ),
            }
        }
    }
    let used: BTreeSet<&str> = rows.iter().flat_map(|row| row.seen_to_fail.iter().copied()).collect();
    for guard in &guards {
        assert!(used.contains(&*guard.name), "no row names the guard {}", guard.name);
    }
}

#[test]
fn every_guard_can_be_taken_out_where_the_table_says() {
    for guard in guards() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(&guard.file);
        let text = fs::read_to_string(path).unwrap_or_else(|_| panic!("{}: there is no {}", guard.name, guard.file));
        assert_eq!(text.matches(&guard.here).count(), 1, "{}: {}", guard.name, guard.file);
        assert_ne!(guard.here, guard.off, "{}", guard.name);
        let suite = guard.suite.as_deref();
        assert!(matches!(suite, None | Some("lib")), "{}: suite", guard.name);
    }
}

/// The packages of a lock file that do not come from a registry with the hash of what they are.
fn from_elsewhere(lock: &str) -> Vec<String> {
    let packages = lock.split("[[package]]").skip(1);
    let is_registered =
        |package: &&str| package.contains("\nsource = \"registry+") && package.contains("\nchecksum = \"");
    let others = packages.filter(|package| !is_registered(package));
    others
        .map(|package| package.lines().nth(1).unwrap_or_default().to_owned())
        .collect()
}

#[test]
fn every_dependency_comes_from_the_registry_by_its_hash() {
    assert_eq!(from_elsewhere(LOCK), ["name = \"kiket-sidecar\""]);
}

#[test]
fn a_dependency_from_elsewhere_is_seen() {
    let of_git = "[[package]]\nname = \"x\"\nversion = \"1.0.0\"\nsource = \"git+file:///x\"\n";
    let without_hash = "[[package]]\nname = \"y\"\nversion = \"1.0.0\"\nsource = \"registry+x\"\n";
    let registered = "[[package]]\nname = \"z\"\nversion = \"1.0.0\"\nsource = \"registry+x\"\nchecksum = \"ab\"\n";
    assert_eq!(
        from_elsewhere(&[of_git, without_hash, registered].concat()),
        ["name = \"x\"", "name = \"y\""]
    );
}
