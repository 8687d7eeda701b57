//! What a check found, and how all of them are shown.

use serde_json::{Value, json};

use crate::cli::remote::{self, Form};
use crate::cli::table::{aligned, printable};

/// Of what stands in rows that nobody could read.
pub(super) const UNREAD: &str = "needs both keys and a store of this version";

/// How something stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// As a start needs it.
    Ok,
    /// A start goes well, and somebody should know.
    Warning,
    /// A start fails, or what it serves does.
    Failed,
    /// There is nothing to look at.
    NotApplicable,
}

impl State {
    const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Failed => "failed",
            Self::NotApplicable => "not applicable",
        }
    }
}

/// One question's answer: what was seen, in one line, and what to do, in another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Check {
    name: &'static str,
    state: State,
    seen: String,
    advice: Option<String>,
}

impl Check {
    pub(super) fn ok(name: &'static str, seen: impl Into<String>) -> Self {
        Self::of(name, State::Ok, seen.into(), None)
    }

    pub(super) fn not_applicable(name: &'static str, seen: impl Into<String>) -> Self {
        Self::of(name, State::NotApplicable, seen.into(), None)
    }

    pub(super) fn warning(name: &'static str, seen: impl Into<String>, advice: impl Into<String>) -> Self {
        Self::of(name, State::Warning, seen.into(), Some(advice.into()))
    }

    pub(super) fn failed(name: &'static str, seen: impl Into<String>, advice: impl Into<String>) -> Self {
        Self::of(name, State::Failed, seen.into(), Some(advice.into()))
    }

    fn of(name: &'static str, state: State, seen: String, advice: Option<String>) -> Self {
        Self {
            name,
            state,
            seen: printable(&seen),
            advice,
        }
    }

    /// Whether it is the same, whatever there is to do.
    #[cfg(test)]
    pub(super) fn says_as(&self, other: &Self) -> bool {
        (self.name, self.state, &self.seen) == (other.name, other.state, &other.seen)
    }

    /// Whether somebody has something to do.
    pub(super) const fn is_finding(&self) -> bool {
        matches!(self.state, State::Warning | State::Failed)
    }
}

/// All checks, each with what to do below it.
pub(super) fn shown(form: Form, checks: &[Check]) -> String {
    let findings = checks.iter().filter(|check| check.is_finding()).count();
    if form == Form::Json {
        let object = |check: &Check| {
            json!({
                "check": check.name,
                "state": check.state.name(),
                "seen": check.seen,
                "advice": check.advice,
            })
        };
        let objects: Vec<Value> = checks.iter().map(object).collect();
        return remote::json(&json!({ "checks": objects, "findings": findings }));
    }
    let cells = |check: &Check| {
        [check.state.name(), check.name, &check.seen]
            .map(str::to_owned)
            .to_vec()
    };
    let table = aligned(&checks.iter().map(cells).collect::<Vec<_>>());
    let mut shown = String::new();
    for (line, check) in table.lines().zip(checks) {
        shown.push_str(&format!("{line}\n"));
        if let Some(advice) = &check.advice {
            shown.push_str(&format!("    do: {}\n", printable(advice)));
        }
    }
    let sum = match findings {
        0 => String::from("nothing to do"),
        1 => String::from("1 finding"),
        more => format!("{more} findings"),
    };
    format!("{shown}\n{sum}\n")
}

/// Names for a line: the first few, and how many more there are.
pub(super) fn named<T: ToString>(names: &[T]) -> String {
    const SHOWN: usize = 5;
    let first: Vec<String> = names.iter().take(SHOWN).map(ToString::to_string).collect();
    match names.len().saturating_sub(SHOWN) {
        0 => first.join(", "),
        more => format!("{} and {more} more", first.join(", ")),
    }
}

/// A count with its unit.
pub(super) fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_to_do_stands_below_what_was_seen() {
        let checks = [
            Check::ok("clock", "fine"),
            Check::failed("keys", "a\u{1b}[2J", "b"),
            Check::not_applicable("store", "c"),
        ];
        let expected = "ok              clock  fine\nfailed          keys   a\u{fffd}[2J\n    do: b\n\
                        not applicable  store  c\n\n1 finding\n";
        assert_eq!(shown(Form::Table, &checks), expected);
        let document: Value = serde_json::from_str(&shown(Form::Json, &checks)).unwrap_or_default();
        assert_eq!(document.pointer("/findings"), Some(&json!(1)));
        assert_eq!(document.pointer("/checks/1/state"), Some(&json!("failed")));
        assert_eq!(document.pointer("/checks/2/advice"), Some(&Value::Null));
    }

    #[test]
    fn a_line_names_five_and_counts_the_rest() {
        assert_eq!(named(&[1, 2, 3, 4, 5]), "1, 2, 3, 4, 5");
        assert_eq!(named(&[1, 2, 3, 4, 5, 6, 7]), "1, 2, 3, 4, 5 and 2 more");
        assert_eq!(counted(1, "file", "files"), "1 file");
        assert_eq!(counted(0, "file", "files"), "0 files");
    }
}
