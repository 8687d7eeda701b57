//! What could stand at the end of a command line: scopes, and the keys and ids that the server knows.
//!
//! Completions ask while somebody types: whatever goes wrong, the answer is nothing, and soon.

use std::collections::BTreeSet;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use clap::Parser;
use serde_json::Value;

use super::client::{Call, Client};
use super::remote::Remote;
use super::{Exit, say};
use crate::domain::scope::Scope;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The command line behind `kiket`, up to the word that is typed
    #[arg(last = true, allow_hyphen_values = true)]
    words: Vec<String>,
}

/// How long somebody who types waits.
const PATIENCE: Duration = Duration::from_secs(2);

/// What a word can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Scope,
    Key,
    ScopeId,
    Installation,
    Extension,
    Organization,
    Provider,
    Token,
    Alert,
}

/// The words of which a client can be made.
#[derive(Debug, Parser)]
struct Asked {
    #[command(flatten)]
    remote: Remote,
}

pub(super) fn run(args: Args) -> Exit {
    let (answer, answered) = mpsc::channel();
    thread::spawn(move || {
        let _ = answer.send(candidates(&args.words));
    });
    let found = answered.recv_timeout(PATIENCE).ok().flatten().unwrap_or_default();
    say(&found.iter().map(|word| format!("{word}\n")).collect::<String>())
}

fn candidates(words: &[String]) -> Option<BTreeSet<String>> {
    let wanted = wanted(words)?;
    if wanted == Wanted::Scope {
        return Some(Scope::ALL.map(|scope| scope.name().to_owned()).into());
    }
    let (_, words) = words.split_last()?; // what is typed has no value yet
    let mut flags = vec![String::from("kiket")];
    for flag in ["--url", "--token-file", "--ca-file", "--organization"] {
        flags.extend(value_of(words, flag).map(|value| format!("{flag}={value}")));
    }
    let remote = Asked::try_parse_from(flags).ok()?.remote;
    let source = Server {
        client: remote.client().ok()?,
        organization: remote.organization,
    };
    source.find(wanted, words)
}

/// What the last word can be, as far as the server knows it.
fn wanted(words: &[String]) -> Option<Wanted> {
    let (last, before) = words.split_last()?;
    match before.last().map(String::as_str) {
        Some("--scope") => return Some(Wanted::Scope),
        Some("--key" | "--credential-key" | "--ca-key") => return Some(Wanted::Key),
        Some("--id") => return Some(Wanted::ScopeId),
        Some("--installation") => return Some(Wanted::Installation),
        Some("--organization") => return Some(Wanted::Organization),
        Some("--acknowledge") => return Some(Wanted::Alert),
        _ => {}
    }
    if last.starts_with('-') {
        return None;
    }
    let before: Vec<&str> = before.iter().map(String::as_str).collect();
    match before.as_slice() {
        ["marketplace", "install"] => Some(Wanted::Extension),
        [
            "marketplace",
            "status" | "enable" | "disable" | "uninstall" | "confirm" | "accept-keys",
        ] => Some(Wanted::Installation),
        ["tokens", "delete"] => Some(Wanted::Token),
        ["organizations", "policy", "get" | "set"]
        | [
            "organizations",
            "providers",
            "list" | "show" | "set" | "delete" | "check",
        ] => Some(Wanted::Organization),
        [
            "organizations",
            "providers",
            "show" | "set" | "delete" | "check",
            organization,
        ] if !organization.starts_with('-') => Some(Wanted::Provider),
        _ => None,
    }
}

/// What stands behind a flag.
fn value_of<'a>(words: &'a [String], flag: &str) -> Option<&'a str> {
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if word == flag {
            return words.next().map(String::as_str);
        }
        if let Some(value) = word.strip_prefix(flag).and_then(|rest| rest.strip_prefix('=')) {
            return Some(value);
        }
    }
    None
}

/// The server that is asked.
struct Server {
    client: Client,
    organization: Option<String>,
}

impl Server {
    fn find(&self, wanted: Wanted, words: &[String]) -> Option<BTreeSet<String>> {
        let installed = |name| self.members(&["marketplace", "installations"], name);
        match wanted {
            Wanted::Scope => None,
            Wanted::Key => self.keys(words),
            Wanted::Installation => installed("id"),
            Wanted::Organization => installed("organization_id"),
            Wanted::Extension => self.members(&["extensions"], "id"),
            Wanted::Provider => {
                let organization = words.get(3)?;
                let path = ["organizations", organization.as_str(), "providers"];
                let page = self.client.call(Call::get(&path)).ok()?;
                Some(members(page.body.get("data")?.as_array()?, "name"))
            }
            Wanted::Token => self.members(&["tokens"], "id"),
            Wanted::Alert => self.members(&["secrets", "alerts"], "id"),
            Wanted::ScopeId => match Scope::parse(value_of(words, "--scope")?)? {
                Scope::ExtensionInstallation => installed("id"),
                Scope::ProductInstallation => installed("product_installation_id"),
                Scope::Extension => self
                    .members(&["extensions"], "id")
                    .or_else(|| installed("extension_id")),
                Scope::Project => installed("project_id"),
                Scope::Organization => installed("organization_id"),
            },
        }
    }

    fn rows(&self, path: &[&'static str]) -> Option<Vec<Value>> {
        let organization = self.organization.as_ref();
        // The list of extensions is everybody's.
        let organization = organization.filter(|_| path != ["extensions"]);
        let page = self
            .client
            .call(Call::get(path).with("organization_id", organization))
            .ok()?;
        page.body.get("data")?.as_array().cloned()
    }

    /// A member of every row of a list.
    fn members(&self, path: &[&'static str], name: &str) -> Option<BTreeSet<String>> {
        Some(members(&self.rows(path)?, name))
    }

    /// Keys that have a value there, and those that a manifest asks for.
    fn keys(&self, words: &[String]) -> Option<BTreeSet<String>> {
        let scope = value_of(words, "--scope").and_then(Scope::parse);
        let id = value_of(words, "--id");
        let call = Call::get(&["extensions", "secrets"])
            .with("scope", scope)
            .with("id", id)
            .with("organization_id", self.organization.as_ref());
        let page = self.client.call(call).ok();
        let rows = page.as_ref().and_then(|page| page.body.get("data")?.as_array());
        let mut keys = rows.map(|rows| members(rows, "key")).unwrap_or_default();
        let is_meant = |row: &Value| {
            let says = |name: &str, expected: Option<&str>| row.get(name).and_then(Value::as_str) == expected;
            match value_of(words, "--installation") {
                Some(installation) => says("id", Some(installation)),
                None => match scope {
                    Some(Scope::ExtensionInstallation) => says("id", id),
                    Some(Scope::Extension) => says("extension_id", id),
                    _ => false,
                },
            }
        };
        let installed = self.rows(&["marketplace", "installations"]).unwrap_or_default();
        let id = installed
            .iter()
            .find(|row| is_meant(row))
            .and_then(|row| row.get("id")?.as_str());
        if let Some(id) = id {
            let installation = self
                .client
                .call(Call::get(&["marketplace", "installations", id]))
                .ok()?;
            let checklist = installation.body.get("checklist").and_then(Value::as_array);
            keys.extend(checklist.map(|lines| members(lines, "key")).unwrap_or_default());
        }
        Some(keys)
    }
}

/// What goes to a shell is a word.
fn members(rows: &[Value], name: &str) -> BTreeSet<String> {
    let is_word = |text: &&str| {
        text.bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b':' | b'-'))
    };
    let words = rows.iter().filter_map(|row| row.get(name)?.as_str()).filter(is_word);
    words.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_what_its_place_says() {
        for (line, expected) in [
            ("extensions secrets set --scope |", Some(Wanted::Scope)),
            ("extensions secrets set --scope project --id |", Some(Wanted::ScopeId)),
            ("extensions secrets set --key M|", Some(Wanted::Key)),
            (
                "extensions secrets explain --installation |",
                Some(Wanted::Installation),
            ),
            ("marketplace status |", Some(Wanted::Installation)),
            ("marketplace install com|", Some(Wanted::Extension)),
            ("marketplace status --o|", None),
            ("marketplace |", None),
            ("tokens delete |", Some(Wanted::Token)),
            ("secrets alerts --acknowledge |", Some(Wanted::Alert)),
            ("organizations policy set |", Some(Wanted::Organization)),
            ("organizations providers check |", Some(Wanted::Organization)),
            ("organizations providers check acme |", Some(Wanted::Provider)),
            ("organizations providers list acme |", None),
            ("organizations providers set acme main --ca-key |", Some(Wanted::Key)),
            ("serve |", None),
            ("|", None),
        ] {
            let words: Vec<String> = line.trim_end_matches('|').split(' ').map(str::to_owned).collect();
            assert_eq!(wanted(&words), expected, "{line}");
        }
        assert_eq!(wanted(&[]), None);
    }

    #[test]
    fn a_flags_value_stands_behind_it_or_an_equals_sign() {
        let words = ["a", "--url", "x", "--id=y", "--scope"].map(String::from);
        assert_eq!(value_of(&words, "--url"), Some("x"));
        assert_eq!(value_of(&words, "--id"), Some("y"));
        assert_eq!(value_of(&words, "--scope"), None);
        assert_eq!(value_of(&words, "--key"), None);
    }
}
