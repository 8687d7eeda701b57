//! Whether every command that help lists has a page of the manual, and programs that show pages can read them.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use super::support::process::{kiket, run};

/// The commands that a help text lists.
fn listed(help: &str) -> Vec<String> {
    let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let names = lines.take_while(|line| !line.is_empty()).filter_map(|line| {
        let name = line.strip_prefix("  ")?.split(' ').next()?;
        (!name.is_empty() && name != "help").then(|| name.to_owned())
    });
    names.collect()
}

/// The pages that there should be, each with the help text of its command.
fn expected(path: &[String], pages: &mut Vec<(String, String)>) {
    let arguments: Vec<&str> = path.iter().map(String::as_str).chain(["--help"]).collect();
    let help = run(kiket(&arguments)).stdout;
    let name = std::iter::once("kiket").chain(path.iter().map(String::as_str));
    pages.push((format!("{}.1", name.collect::<Vec<_>>().join("-")), help.clone()));
    for below in listed(&help) {
        expected(&[path, &[below]].concat(), pages);
    }
}

#[test]
fn every_listed_command_has_a_page_with_its_options_and_examples_and_no_other_has_one() {
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().to_str().unwrap();
    let written = run(kiket(&["man", "--dir", to]));
    assert_eq!((written.code, written.stderr.as_str()), (Some(0), ""));
    let mut pages = Vec::new();
    expected(&[], &mut pages);
    assert!(pages.len() > 30, "{}", pages.len());
    let there: BTreeSet<String> = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(
        there,
        pages.iter().map(|(name, _)| name.clone()).collect::<BTreeSet<_>>()
    );
    for (name, help) in &pages {
        let page = fs::read_to_string(folder.path().join(name)).unwrap();
        for section in [".SH NAME", ".SH SYNOPSIS", ".SH OPTIONS", ".SH EXAMPLES"] {
            assert!(page.contains(section), "{name}: no {section}");
        }
        let options = help
            .split_whitespace()
            .filter(|word| word.starts_with("--") && word.len() > 2);
        for option in options.filter(|word| word.chars().all(|c| c == '-' || c.is_ascii_lowercase())) {
            assert!(page.contains(&option.replace('-', "\\-")), "{name}: {option}");
        }
    }
    if let Ok(found) = Command::new("groff").arg("--version").output()
        && found.status.success()
    {
        for (name, _) in &pages {
            let mut groff = Command::new("groff");
            groff
                .args(["-man", "-Kutf8", "-Tutf8", "-ww", "-z"])
                .arg(folder.path().join(name));
            let read = run(groff);
            assert_eq!((read.code, read.stderr.as_str()), (Some(0), ""), "{name}");
        }
    }
}

#[test]
fn a_folder_that_is_not_there_is_told() {
    let refused = run(kiket(&["man", "--dir", "/nowhere/at/all"]));
    assert_eq!((refused.code, refused.stdout.as_str()), (Some(2), ""));
    assert!(refused.stderr.contains("--dir"), "{}", refused.stderr);
}
