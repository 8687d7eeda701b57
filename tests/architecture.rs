//! What no lint can say about the source: who may use whom, who may expose plaintext, how a file looks.
//!
//! Every rule is a function over text, and has a test of its own that it catches what it is for.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::fs;
use std::path::{Path, PathBuf};

/// A module uses modules of lower tiers only; two of one tier never use each other.
const TIERS: &[&[&str]] = &[
    &["domain"],
    &["clock", "config", "crypto", "shutdown", "telemetry", "guard"],
    &["egress", "store", "server"],
    &["external", "delivery", "audit", "issuer", "keys", "traces"],
    &["secrets", "registry"],
    &["bundles"],
    &["proxy", "admin", "notify"],
    &["app"],
    &["demo"],
    &["cli"],
    &["manual"], // pages, no code
];

/// Where `expose_secret()` may stand: where plaintext is sealed, signed with, handed to TLS, rendered into a payload,
/// or printed because that is the command.
const MAY_EXPOSE: &[&str] = &[
    "bundles/build.rs",
    "cli/client/body.rs",
    "cli/client/mod.rs",
    "cli/deliver/proxy.rs",
    "cli/marketplace/wizard.rs",
    "cli/prompt.rs",
    "cli/value.rs",
    "crypto/",
    "delivery/identity.rs",
    "demo/",
    "domain/echo/search.rs",
    "domain/payload/fragment.rs",
    "egress/trust.rs",
    "external/",
    "notify/mail.rs",
    "secrets/",
    "server/tls.rs",
];

const LINES_MAX: usize = 500;

const VAGUE_NAMES: &[&str] = &["common", "helper", "helpers", "manager", "misc", "util", "utils"];

/// A source file: its path below `src` or `tests`, and its text.
struct Source {
    path: String,
    text: String,
}

fn sources(folder: &str) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut found = Vec::new();
    collect(&root, &root, &mut found);
    assert!(!found.is_empty(), "nothing found below {folder}");
    found
}

fn collect(root: &Path, folder: &Path, found: &mut Vec<Source>) {
    let entries = fs::read_dir(folder).expect("a source folder is readable");
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.expect("an entry is readable").path())
        .collect();
    paths.sort();
    for path in paths {
        if path.is_dir() && !path.ends_with("target") {
            collect(root, &path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("a source file is text");
            let relative = path.strip_prefix(root).expect("found below the root");
            found.push(Source {
                path: relative.display().to_string(),
                text,
            });
        }
    }
}

fn assert_none(violations: Vec<String>) {
    assert!(violations.is_empty(), "\n{}\n", violations.join("\n"));
}

/// Applies a rule to every file below a folder, and fails with all that it finds.
fn hold(folder: &str, rule: impl Fn(&str, &str) -> Vec<String>) {
    let found = sources(folder).into_iter().flat_map(|file| {
        let prefix = format!("{folder}/{}", file.path);
        rule(&file.path, &file.text)
            .into_iter()
            .map(move |what| format!("{prefix}: {what}"))
            .collect::<Vec<_>>()
    });
    assert_none(found.collect());
}

/// The text without comment lines.
fn code(text: &str) -> String {
    text.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .map(|line| format!("{line}\n"))
        .collect()
}

/// The part of a file before its tests, without comment lines.
fn production(text: &str) -> String {
    code(text.split("#[cfg(test)]").next().unwrap_or_default())
}

/// The part of a file from its tests on, without comment lines.
fn tests_of(text: &str) -> String {
    code(text.find("#[cfg(test)]").map_or("", |start| &text[start..]))
}

fn tier(module: &str) -> Option<usize> {
    TIERS.iter().position(|tier| tier.contains(&module))
}

/// The top module that a path below `src` belongs to; `None` for the crate's roots.
fn module_of(path: &str) -> Option<&str> {
    let first = path.split('/').next().unwrap_or_default();
    let module = first.strip_suffix(".rs").unwrap_or(first);
    (!matches!(module, "lib" | "main")).then_some(module)
}

/// The names that directly follow `prefix`.
fn names_after<'a>(text: &'a str, prefix: &'a str) -> impl Iterator<Item = &'a str> {
    text.match_indices(prefix).map(move |(at, _)| {
        let rest = &text[at + prefix.len()..];
        let end = rest
            .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .unwrap_or(rest.len());
        &rest[..end]
    })
}

fn tier_violations(path: &str, text: &str) -> Vec<String> {
    let Some(module) = module_of(path) else {
        return Vec::new();
    };
    let Some(own) = tier(module) else {
        return vec![format!("module `{module}` has no tier")];
    };
    let text = code(text);
    let mut found = Vec::new();
    for used in names_after(&text, "crate::").filter(|used| *used != module) {
        match tier(used) {
            Some(other) if other < own => {}
            Some(_) => found.push(format!("`{module}` uses `{used}`, which is not of a lower tier")),
            None => found.push(format!(
                "`crate::{used}` names no module: write one full path per `use`"
            )),
        }
    }
    let at_root = !path.contains('/') || path.ends_with(&format!("{module}/mod.rs"));
    if at_root && production(&text).contains("super::") {
        found.push(String::from("`super::` is the crate's root here: write `crate::`"));
    }
    found
}

fn exposure_violations(path: &str, text: &str) -> Vec<String> {
    let allowed = MAY_EXPOSE.iter().any(|place| path.starts_with(place));
    let exposes = production(text).contains(concat!("expose_", "secret"));
    if exposes && !allowed {
        vec![String::from("exposes plaintext and is not listed")]
    } else {
        Vec::new()
    }
}

/// Types of the control plane that go outward hold no plaintext type.
fn wire_violations(path: &str, text: &str) -> Vec<String> {
    if !path.starts_with("admin/") {
        return Vec::new();
    }
    let text = production(text);
    let mut found = Vec::new();
    for (at, _) in text.match_indices("#[derive(") {
        let item = &text[at..];
        let item = &item[..item.find("\n}").or_else(|| item.find(";\n")).unwrap_or(item.len())];
        let derives = &item[..item.find(")]").unwrap_or(item.len())];
        let outward = derives
            .split([',', '(', ' ', '\n', ':'])
            .any(|word| word == "Serialize");
        if outward
            && ["SecretString", "SecretSlice", "SecretBox", "Zeroizing"]
                .iter()
                .any(|word| item.contains(word))
        {
            let name = names_after(item, "struct ")
                .chain(names_after(item, "enum "))
                .next()
                .unwrap_or("a type");
            found.push(format!("`{name}` is serialized and holds a plaintext type"));
        }
    }
    found
}

fn shape_violations(path: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let lines = text.lines().count();
    if lines > LINES_MAX {
        found.push(format!("{lines} lines, more than {LINES_MAX}"));
    }
    let first = text.lines().next().unwrap_or_default();
    let sentence = first
        .strip_prefix("//! ")
        .is_some_and(|words| words.split(' ').count() >= 3);
    if !sentence {
        found.push(String::from(
            "the first line does not say which question the file answers",
        ));
    }
    if path.split(['/', '.']).any(|part| VAGUE_NAMES.contains(&part)) {
        found.push(String::from("the name says nothing of what the file holds"));
    }
    found
}

/// What only some places may do: the words, and where they may stand.
const RESERVED: &[(&[&str], &[&str])] = &[
    (&[concat!("env::", "var")], &["config/", "cli/", "main.rs"]),
    (
        &[
            concat!("SystemTime::", "now"),
            concat!("Utc::", "now"),
            concat!("OffsetDateTime::", "now_utc"),
        ],
        &["clock.rs"],
    ),
    (&[concat!("print", "ln!("), concat!("print", "!(")], &["cli/", "demo/"]),
    (
        &[concat!("Egress::", "unguarded")],
        &[
            "egress/",
            "external/gsm/metadata.rs",
            "external/vault/transit.rs",
            "traces/collector.rs",
        ],
    ),
    (&[concat!("uns", "afe ")], &["domain/payload/scan/lanes/x86.rs"]),
];

fn reserved_violations(path: &str, text: &str) -> Vec<String> {
    let text = production(text);
    let mut found = Vec::new();
    for (words, places) in RESERVED {
        let allowed = places.iter().any(|place| path.starts_with(place));
        for word in words.iter().filter(|word| !allowed && text.contains(**word)) {
            found.push(format!("`{word}` belongs in {}", places.join(", ")));
        }
    }
    for (at, word) in text.match_indices(concat!("#[instru", "ment(")) {
        if !text[at + word.len()..].starts_with("skip_all") {
            found.push(String::from("an instrumented function skips all its arguments"));
        }
    }
    found
}

/// Tests wait on conditions, and all of them run.
fn patience_violations(text: &str) -> Vec<String> {
    let banned = [
        concat!("time::", "sleep"),
        concat!("thread::", "sleep"),
        concat!("#[ig", "nore"),
    ];
    banned
        .iter()
        .filter(|word| text.contains(**word))
        .map(|word| format!("`{word}` in a test"))
        .collect()
}

#[test]
fn modules_use_lower_tiers_only() {
    hold("src", tier_violations);
}

#[test]
fn plaintext_is_exposed_in_listed_places_only() {
    hold("src", exposure_violations);
}

#[test]
fn no_type_of_the_control_plane_carries_a_value_out() {
    hold("src", wire_violations);
}

#[test]
fn every_file_says_what_it_answers_and_stays_short() {
    hold("src", shape_violations);
    hold("tests", shape_violations);
}

#[test]
fn environment_clock_and_output_are_used_in_their_places_only() {
    hold("src", reserved_violations);
}

#[test]
fn tests_wait_on_conditions_and_none_is_skipped() {
    hold("src", |_, text| patience_violations(&tests_of(text)));
    hold("tests", |path, text| {
        let load_tools = path.starts_with("bench/") || path.starts_with("fuzz/");
        if load_tools {
            Vec::new()
        } else {
            patience_violations(&code(text))
        }
    });
}

#[test]
fn every_module_of_the_library_has_a_tier() {
    let library = sources("src")
        .into_iter()
        .find(|file| file.path == "lib.rs")
        .expect("there is a library");
    let untiered: Vec<_> = names_after(&library.text, "\npub mod ")
        .filter(|module| tier(module).is_none())
        .map(String::from)
        .collect();
    assert_none(untiered);
}

// --- Each rule catches what it is for ---

#[test]
fn a_use_of_a_higher_or_equal_tier_is_caught() {
    assert_eq!(tier_violations("domain/key.rs", "use crate::store::Row;").len(), 1);
    assert_eq!(
        tier_violations("config/mod.rs", "fn f() { crate::telemetry::init() }").len(),
        1
    );
    assert_eq!(tier_violations("proxy/mod.rs", "use crate::{admin, domain};").len(), 1);
    assert_eq!(tier_violations("proxy/mod.rs", "use super::admin;").len(), 1);
    assert_eq!(tier_violations("novelty/mod.rs", "").len(), 1);
    assert!(tier_violations("proxy/mod.rs", "// crate::admin\nuse crate::domain::key;").is_empty());
    assert!(tier_violations("proxy/auth.rs", "use super::Shared;\nuse crate::proxy::X;").is_empty());
    assert!(tier_violations("lib.rs", "use crate::anything;").is_empty());
}

#[test]
fn exposed_plaintext_is_caught_outside_the_list() {
    let text = concat!("let x = secret.expose_", "secret();");
    assert_eq!(exposure_violations("proxy/mod.rs", text).len(), 1);
    assert!(exposure_violations("crypto/keyring.rs", text).is_empty());
    assert!(exposure_violations("proxy/mod.rs", &format!("#[cfg(test)]\nmod tests {{ {text} }}")).is_empty());
}

#[test]
fn a_serialized_plaintext_field_is_caught() {
    let body = "struct Answer {\n    value: SecretString,\n}\n";
    let outward = format!("#[derive(Debug, serde::Serialize)]\n{body}");
    let inward = format!("#[derive(Deserialize)]\n{body}#[derive(Serialize)]\nstruct Clean {{\n    key: String,\n}}\n");
    assert_eq!(
        wire_violations("admin/wire.rs", &outward),
        ["`Answer` is serialized and holds a plaintext type"]
    );
    assert!(wire_violations("admin/wire.rs", &inward).is_empty());
    assert_eq!(
        wire_violations("admin/wire.rs", "#[derive(Serialize)]\nstruct Bare(SecretString);\n").len(),
        1
    );
}

#[test]
fn a_long_silent_or_vaguely_named_file_is_caught() {
    let doc = "//! Says what it answers.\n";
    assert!(shape_violations("a.rs", &format!("{doc}{}", "x\n".repeat(LINES_MAX - 1))).is_empty());
    assert_eq!(
        shape_violations("a.rs", &format!("{doc}{}", "x\n".repeat(LINES_MAX))).len(),
        1
    );
    assert_eq!(shape_violations("a.rs", "use x;\n").len(), 1);
    assert_eq!(shape_violations("a.rs", "//! word\n").len(), 1);
    assert_eq!(shape_violations("a/utils.rs", doc).len(), 1);
    assert_eq!(shape_violations("helpers/a.rs", doc).len(), 1);
}

#[test]
fn a_reserved_word_is_caught_outside_its_place() {
    for (words, places) in RESERVED {
        for word in *words {
            assert!(!reserved_violations("proxy/mod.rs", word).is_empty(), "{word}");
            assert!(reserved_violations(places[0], word).is_empty(), "{word}");
        }
    }
    let bare = concat!("#[instru", "ment(level = 1)]");
    assert_eq!(reserved_violations("proxy/mod.rs", bare).len(), 1);
    assert!(reserved_violations("proxy/mod.rs", &bare.replace("(level", "(skip_all, level")).is_empty());
}

#[test]
fn a_sleeping_or_skipped_test_is_caught() {
    assert_eq!(patience_violations(concat!("tokio::time::", "sleep(x).await")).len(), 1);
    assert_eq!(patience_violations(concat!("#[ig", "nore]")).len(), 1);
    let file = concat!("fn f() { thread::", "sleep(x) }\n#[cfg(test)]\nmod tests {}\n");
    assert!(patience_violations(&tests_of(file)).is_empty());
}
